//! The breaker, and what people do: pause, resume.

use super::players::*;
use crate::databases::TestStore;
use botticelli_database::Resumed;
use botticelli_server::ledger::{Ledger as _, Trigger};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::task::{Backoff, Breaker, CatchUp, Overlap, PauseReason, Task, TaskState};
use std::num::NonZeroU32;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const COOLDOWN: Duration = Duration::from_secs(600);

fn fragile(name: &str) -> Task {
    with(each_minute(name), |policy| {
        policy.max_consecutive_failures = NonZeroU32::new(3).expect("not 0");
        policy.backoff = Backoff { initial: SECOND, max: SECOND };
        policy.cooldown = Some(COOLDOWN);
    })
}

async fn fail_until_open(db: &TestStore, player: &Player, task: &Task) {
    for failure in 1..=task.policy.max_consecutive_failures.get() {
        let attempt = player.claim(task).await;
        let change = player.end(task, &attempt, failed_for_good("broken"), Made::default()).await;
        assert_eq!(change.consecutive_failures, failure);
        assert_eq!(change.breaker_opened, failure == task.policy.max_consecutive_failures.get());
        db.advance(MINUTE).await;
    }
}

/// And lets one occurrence probe after the cooldown; a success closes it.
pub async fn the_breaker_opens_at_its_limit_and_a_good_probe_closes_it(db: &TestStore) {
    let task = fragile("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let first = db.time();
    fail_until_open(db, &player, &task).await;
    let opened_at = first + 2 * MINUTE;
    let open = state(db, &task).await;
    assert_eq!((open.is_paused, open.pause_reason), (true, Some(PauseReason::Breaker)));
    assert_eq!((open.probe_at, open.breaker()), (Some(opened_at + COOLDOWN), Breaker::HalfOpen));
    assert_eq!(player.try_claim(&task).await, None);
    assert_eq!(db.agenda(db.time(), None, 10).await.expect("an agenda").tasks, []);

    // A probe that fails, one that is cancelled, one that succeeds.
    for (end, still_open) in [
        (failed_for_good("still broken"), true),
        (AttemptEnd::Cancelled, true),
        (AttemptEnd::Succeeded, false),
    ] {
        let probe_at = state(db, &task).await.probe_at.expect("there will be a probe");
        db.set(probe_at + SECOND).await;
        assert_eq!(db.agenda(probe_at, None, 10).await.expect("an agenda").tasks.len(), 1);
        let probe = player.claim(&task).await;
        assert_eq!(probe.trigger, Trigger::Probe);
        assert_eq!(player.try_claim(&task).await, None, "one at a time");
        let change = player.end(&task, &probe, end, Made::default()).await;
        assert!(!change.breaker_opened, "it was open before");
        let now = state(db, &task).await;
        assert_eq!(now.is_paused, still_open);
        assert_eq!(now.probe_at, still_open.then(|| db.time() + COOLDOWN));
    }
    let closed = state(db, &task).await;
    assert_eq!((closed.pause_reason, closed.consecutive_failures), (None, 0));
    let history = db.history(&task.id, 100).await.expect("history");
    let paused: Vec<_> = history.iter().filter(|row| row.skip_reason.as_deref() == Some("paused")).collect();
    assert_eq!(paused.len(), 3, "what fell between the probes, in one row each");
    db.advance(MINUTE).await;
    assert_eq!(player.claim(&task).await.trigger, Trigger::Schedule);
}

/// Also of a node that has not heard of it, and has made up its mind before.
pub async fn a_breaker_that_opens_on_one_node_is_open_on_all(db: &TestStore) {
    let task = fragile("task");
    register(db, &[&task]).await;
    let (here, there) = (Player::enter(db, "here").await, Player::enter(db, "there").await);
    fail_until_open(db, &here, &task).await;
    let probe_at = state(db, &task).await.probe_at.expect("there will be a probe");
    db.set(probe_at + SECOND).await;
    let late = there.request(&task, Duration::ZERO).await.expect("the probe is due");
    let probe = here.claim(&task).await;
    here.end(&task, &probe, failed_for_good("still broken"), Made::default()).await;
    let won = there.store.claim(&there.id, &[late], Duration::ZERO).await.expect("an answer");
    assert_eq!(won, [], "one probe for all nodes");
    assert_eq!(there.try_claim(&task).await, None);
}

/// Neither by a probe that was under way nor by its own end.
pub async fn an_operators_pause_is_not_undone_by_a_probe(db: &TestStore) {
    let (under_way, early) = (fragile("under way"), fragile("early"));
    register(db, &[&under_way, &early]).await;
    let player = Player::enter(db, "node").await;
    fail_until_open(db, &player, &under_way).await;
    fail_until_open(db, &player, &early).await;
    db.advance(COOLDOWN).await;
    let probe = player.claim(&under_way).await;
    db.pause(&under_way.id).await.expect("an answer");
    player.end(&under_way, &probe, AttemptEnd::Succeeded, Made::default()).await;
    let paused = state(db, &under_way).await;
    assert_eq!((paused.is_paused, paused.pause_reason), (true, Some(PauseReason::Operator)));
    db.advance(10 * COOLDOWN).await;
    assert_eq!(player.try_claim(&under_way).await, None);

    // The probe of `early` is claimed ahead of its time, or given back, when the pause comes.
    register(db, &[&under_way, &early]).await;
    let probe = player.claim(&early).await;
    player.end(&early, &probe, AttemptEnd::Cancelled, Made::default()).await;
    let next = state(db, &early).await.next_run.expect("it recurs");
    db.set(next.max(db.time() + COOLDOWN + MINUTE) - SECOND).await;
    let probe = player.claim_ahead(&early, Duration::ZERO).await.expect("a probe");
    player.store.release(&player.id, std::slice::from_ref(&probe)).await.expect("an answer");
    db.pause(&early.id).await.expect("an answer");
    let waiting = [probe.execution_id];
    assert_eq!(player.take(&[&early], &waiting).await, []);
}

/// Without a cooldown a person resumes the task.
pub async fn an_open_breaker_without_cooldown_waits_for_a_person(db: &TestStore) {
    let task = with(fragile("task"), |policy| policy.cooldown = None);
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    fail_until_open(db, &player, &task).await;
    assert_eq!(state(db, &task).await.breaker(), Breaker::Open);
    db.advance(1000 * MINUTE).await;
    assert_eq!(player.try_claim(&task).await, None);
    assert_eq!(db.resume(&task.id).await.expect("an answer"), Resumed::Resumed);
    assert_eq!(state(db, &task).await.consecutive_failures, 0);
    player.try_claim(&task).await;
    db.advance(MINUTE).await;
    let attempt = player.claim(&task).await;
    assert_eq!(attempt.consecutive_failures, 0);
    let change = player.end(&task, &attempt, failed_for_good("broken"), Made::default()).await;
    assert_eq!((change.consecutive_failures, change.breaker_opened), (1, false));
}

/// As if they had not been made.
pub async fn a_pause_takes_back_claims_whose_time_has_not_come(db: &TestStore) {
    let (paused, once) = (each_minute("paused"), each_minute("not paused"));
    register(db, &[&paused, &once]).await;
    let player = Player::enter(db, "node").await;
    player.run(&paused, Vec::new()).await;
    player.run(&once, Vec::new()).await;
    db.advance(MINUTE - SECOND).await;
    let before = state(db, &paused).await;
    let early = player.claim_ahead(&paused, SECOND).await.expect("claimed ahead");
    player.claim_ahead(&once, SECOND).await.expect("claimed ahead");
    assert!(db.pause(&paused.id).await.expect("an answer"));
    let after = state(db, &paused).await;
    assert_eq!((after.next_run, after.wake_at), (before.next_run, before.wake_at));
    assert_eq!(db.execution(early.execution_id).await.expect("an answer"), None);
    assert_eq!(player.store.withdraw_paused(&player.id).await.expect("an answer"), [], "already done");

    // By SQL, a person only says so; the node takes its claims back when it notices.
    let claimed = state(db, &once).await.next_run;
    db.sql("UPDATE actor_server_state SET is_paused = (1 = 1) WHERE task_id = 'not paused'").await;
    let withdrawn = player.store.withdraw_paused(&player.id).await.expect("an answer");
    assert_eq!(withdrawn.len(), 1);
    assert_eq!(state(db, &once).await.next_run, claimed.map(|at| at - MINUTE));
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_open_executions").await, "0");
}

/// It goes back to where it waited, and may be made when the pause is over.
pub async fn a_pause_takes_back_a_retry_whose_time_has_not_come(db: &TestStore) {
    let (paused, by_hand) = (task("paused", every(86_400)), task("by hand", every(86_400)));
    register(db, &[&paused, &by_hand]).await;
    let player = Player::enter(db, "node").await;
    let tasks = [&paused, &by_hand];
    let mut waiting = Vec::new();
    for task in tasks {
        let attempt = player.claim(task).await;
        player.end(task, &attempt, failed("no answer"), Made::default()).await;
        waiting.push(attempt.execution_id);
    }
    let before = db.agenda(db.time() + MINUTE, None, 10).await.expect("an agenda").waiting;
    let taken = player.take_ahead(&tasks, &waiting, MINUTE).await;
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().all(|attempt| attempt.attempt == 2 && attempt.due_at > db.time()));
    db.pause(&paused.id).await.expect("an answer");
    db.sql("UPDATE actor_server_state SET is_paused = (1 = 1) WHERE task_id = 'by hand'").await;
    let withdrawn = player.store.withdraw_paused(&player.id).await.expect("an answer");
    assert_eq!(withdrawn, waiting[1..], "the first one was taken back by the pause");
    assert_eq!(db.agenda(db.time() + MINUTE, None, 10).await.expect("an agenda").waiting, before);
    db.advance(MINUTE).await;
    assert_eq!(player.take(&tasks, &waiting).await, []);
    for task in tasks {
        db.resume(&task.id).await.expect("an answer");
    }
    let again = player.take(&tasks, &waiting).await;
    assert_eq!(again.iter().map(|attempt| attempt.attempt).collect::<Vec<_>>(), [2, 2]);
}

/// By SQL, a person need not say why. That is no breaker's pause, and a probe does not run in it.
pub async fn a_pause_without_a_reason_takes_back_a_probe_whose_time_has_not_come(db: &TestStore) {
    let task = with(task("task", every(86_400)), |policy| {
        policy.max_consecutive_failures = NonZeroU32::MIN;
        policy.cooldown = Some(COOLDOWN);
    });
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    fail_until_open(db, &player, &task).await;
    let nominal = state(db, &task).await.next_run;
    db.set(nominal.expect("it recurs") - SECOND).await;
    let probe = player.claim_ahead(&task, SECOND).await.expect("claimed ahead");
    assert_eq!(probe.trigger, Trigger::Probe);
    assert_eq!(player.store.withdraw_paused(&player.id).await.expect("an answer"), [], "the breaker's pause");
    db.sql("UPDATE actor_server_state SET pause_reason = NULL").await;
    let withdrawn = player.store.withdraw_paused(&player.id).await.expect("an answer");
    assert_eq!(withdrawn, [probe.execution_id]);
    assert_eq!(state(db, &task).await.next_run, nominal);
}

/// Until it is taken up again; what it has done so far is kept.
pub async fn a_task_that_is_let_go_is_claimed_by_no_node(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    player.run(&task, Vec::new()).await;
    db.advance(MINUTE - SECOND).await;
    player.claim_ahead(&task, SECOND).await.expect("claimed ahead");
    assert!(player.store.retire(&task.id).await.expect("an answer"));
    assert!(!player.store.retire(&task.id).await.expect("an answer"), "it is retired already");
    assert!(!player.store.retire(&each_minute("unknown").id).await.expect("an answer"));
    assert_eq!(player.store.owned(&player.id).await.expect("an answer"), []);
    let retired = state(db, &task).await;
    assert_eq!((retired.is_paused, retired.pause_reason), (true, Some(PauseReason::Definition)));
    db.advance(10 * MINUTE).await;
    assert_eq!(player.try_claim(&task).await, None);
    register(db, &[&task]).await;
    resumed_and_looked_at(db, &player, &task).await;
    db.advance(MINUTE).await;
    player.claim(&task).await;
}

/// What has begun goes on and is recorded.
pub async fn a_pause_leaves_what_has_begun_alone(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let attempt = player.claim(&task).await;
    db.pause(&task.id).await.expect("an answer");
    assert_eq!(player.store.withdraw_paused(&player.id).await.expect("an answer"), []);
    player.end(&task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
    let state = state(db, &task).await;
    assert_eq!((state.is_paused, state.pause_reason), (true, Some(PauseReason::Operator)));
}

/// Two claims of one task ahead of their time: the task goes back to the first. What the ledger has already is not
/// met a second time.
pub async fn a_pause_does_not_go_back_over_what_the_ledger_has(db: &TestStore) {
    let all = CatchUp::All { limit: NonZeroU32::MAX };
    let task = with(each_minute("task"), |policy| (policy.overlap, policy.catch_up) = (Overlap::Allow, all));
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let first = db.time();
    let running = player.claim(&task).await;
    db.advance(SECOND).await;
    player.claim_ahead(&task, 5 * MINUTE).await.expect("claimed ahead");
    player.claim_ahead(&task, 5 * MINUTE).await.expect("claimed ahead");
    db.pause(&task.id).await.expect("an answer");
    assert_eq!(state(db, &task).await.next_run, Some(first + MINUTE));
    db.resume(&task.id).await.expect("an answer");

    player.claim_ahead(&task, MINUTE).await.expect("claimed ahead");
    let wait = Backoff { initial: 10 * MINUTE, max: 10 * MINUTE };
    let slow = with(task.clone(), |policy| policy.backoff = wait);
    player.end(&slow, &running, failed_for_good("broken"), Made::default()).await;
    let next_run = state(db, &task).await.next_run;
    assert!(next_run > Some(first + 5 * MINUTE), "skipped as backoff until there");
    db.pause(&task.id).await.expect("an answer");
    assert_eq!(state(db, &task).await.next_run, next_run);
    let history = db.history(&task.id, 10).await.expect("history");
    let paused =
        history.iter().find(|row| row.skip_reason.as_deref() == Some("paused")).expect("it is accounted for");
    assert_eq!((paused.scheduled_for, paused.occurrences), (Some(first + MINUTE), 1));
}

pub(super) async fn resumed_and_looked_at(db: &TestStore, player: &Player, task: &Task) -> TaskState {
    assert_eq!(player.try_claim(task).await, None, "what it missed is not made up for");
    let state = state(db, task).await;
    assert_eq!((state.pause_reason, state.consecutive_failures), (None, 0));
    state
}

/// In one row, whatever `catch_up` says; then the task goes on from now.
pub async fn what_was_missed_in_a_pause_is_skipped_at_the_resume(db: &TestStore) {
    let all = CatchUp::All { limit: NonZeroU32::MAX };
    let task = with(each_minute("task"), |policy| policy.catch_up = all);
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let first = db.time();
    player.run(&task, Vec::new()).await;
    let attempt_failed = async || {
        db.sql("UPDATE actor_server_state SET consecutive_failures = 2").await;
    };
    attempt_failed().await;
    db.pause(&task.id).await.expect("an answer");
    assert_eq!(db.resume(&each_minute("unknown").id).await.expect("an answer"), Resumed::UnknownTask);
    db.advance(10 * MINUTE + SECOND).await;
    assert_eq!(db.resume(&task.id).await.expect("an answer"), Resumed::Resumed);
    assert_eq!(db.resume(&task.id).await.expect("an answer"), Resumed::WasNotPaused);
    assert_eq!(
        db.agenda(db.time(), None, 10).await.expect("an agenda").tasks.len(),
        1,
        "it is looked at, at once"
    );
    resumed_and_looked_at(db, &player, &task).await;
    let history = db.history(&task.id, 10).await.expect("history");
    assert_eq!(history[0].skip_reason.as_deref(), Some("paused"));
    assert_eq!(history[0].scheduled_for, Some(first + MINUTE));
    assert_eq!((history[0].scheduled_until, history[0].occurrences), (Some(first + 10 * MINUTE), 10));
    db.set(first + 11 * MINUTE).await;
    assert_eq!(player.claim(&task).await.scheduled_for, Some(first + 11 * MINUTE));
}

/// It was not in the pause.
pub async fn the_first_occurrence_after_a_resume_runs_even_if_nobody_looked_before(db: &TestStore) {
    let (command, by_hand) = (task("by command", every(3_600)), task("by hand", every(3_600)));
    register(db, &[&command, &by_hand]).await;
    let player = Player::enter(db, "node").await;
    for task in [&command, &by_hand] {
        player.run(task, Vec::new()).await;
        db.pause(&task.id).await.expect("an answer");
    }
    db.advance(MINUTE).await;
    db.resume(&command.id).await.expect("an answer");
    assert_eq!(state(db, &command).await.pause_reason, None, "it missed nothing");
    db.sql("UPDATE actor_server_state SET is_paused = (1 = 0) WHERE task_id = 'by hand'").await;
    let agenda = db.agenda(db.time() + MINUTE, None, 10).await.expect("an agenda");
    assert_eq!(agenda.tasks.iter().map(|state| &state.task_id).collect::<Vec<_>>(), [&by_hand.id]);
    resumed_and_looked_at(db, &player, &by_hand).await;
    assert_eq!(db.agenda(db.time() + MINUTE, None, 10).await.expect("an agenda").tasks, []);
    db.advance(60 * MINUTE).await;
    player.claim(&command).await;
    player.claim(&by_hand).await;
    assert_eq!(db.history(&by_hand.id, 10).await.expect("history").len(), 2);
}

/// A person with a database client.
pub async fn setting_is_paused_to_false_by_sql_resumes_a_task(db: &TestStore) {
    let task = with(fragile("task"), |policy| policy.cooldown = None);
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    fail_until_open(db, &player, &task).await;
    db.advance(100 * MINUTE).await;
    db.sql("UPDATE actor_server_state SET is_paused = (1 = 0)").await;
    resumed_and_looked_at(db, &player, &task).await;
    db.advance(MINUTE).await;
    player.claim(&task).await;
}

//! Claiming: every occurrence once.

use super::players::*;
use crate::databases::TestStore;
use botticelli_server::ids::DefinitionHash;
use botticelli_server::ledger::{Ledger as _, Trigger};
use botticelli_server::outbox::{Outbox as _, PostEnd, SettledPost};
use botticelli_server::outcome::{AttemptEnd, SkipReason};
use botticelli_server::server::{Event, EventServer as _};
use botticelli_server::task::{CatchUp, Overlap};
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::Duration;

/// Eight nodes, twenty tasks, six occurrences of each to catch up.
pub async fn an_occurrence_is_claimed_once_however_many_claim_at_once(db: &TestStore) {
    const OCCURRENCES: u32 = 6;
    let all = CatchUp::All { limit: NonZeroU32::MAX };
    let tasks: Vec<_> = (0..20)
        .map(|n| with(each_minute(&format!("task {n}")), |policy| policy.catch_up = all))
        .map(|task| with(task, |policy| policy.overlap = Overlap::Allow))
        .collect();
    register(db, &tasks.iter().collect::<Vec<_>>()).await;
    let first = db.time();
    db.advance((OCCURRENCES - 1) * MINUTE).await;

    let mut claimers = Vec::new();
    for n in 0..8 {
        let (player, tasks) = (Player::enter(db, &format!("node {n}")).await, tasks.clone());
        claimers.push(tokio::spawn(async move {
            let mut won = Vec::new();
            loop {
                let mut requests = Vec::new();
                for task in &tasks {
                    requests.extend(player.request(task, Duration::ZERO).await);
                }
                if requests.is_empty() {
                    return won;
                }
                let claimed = player.store.claim(&player.id, &requests, Duration::ZERO).await;
                won.extend(claimed.expect("an answer"));
            }
        }));
    }
    let mut seen: HashSet<(String, DateTime<Utc>)> = HashSet::new();
    let mut fences = HashSet::new();
    for claimer in claimers {
        for attempt in claimer.await.expect("the claimer did not panic") {
            let nominal = attempt.scheduled_for.expect("a nominal time");
            assert!(seen.insert((attempt.task_id.to_string(), nominal)), "claimed twice: {attempt:?}");
            assert!(fences.insert(attempt.fence), "a fence was given twice");
        }
    }
    let expected: HashSet<_> = tasks
        .iter()
        .flat_map(|task| (0..OCCURRENCES).map(|n| (task.id.to_string(), first + n * MINUTE)))
        .collect();
    assert_eq!(seen, expected);
    for task in &tasks {
        assert_eq!(state(db, task).await.next_run, Some(first + OCCURRENCES * MINUTE));
    }
}

/// `next_run`, definition, pause.
pub async fn a_claim_is_refused_when_the_task_is_not_as_the_plan_saw_it(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let request = player.request(&task, Duration::ZERO).await.expect("it is due");
    let won =
        async |request| player.store.claim(&player.id, &[request], Duration::ZERO).await.expect("an answer");

    let mut moved = request.clone();
    moved.plan.expected -= MINUTE;
    assert_eq!(won(moved).await, []);

    let mut changed = request.clone();
    changed.definition = DefinitionHash::new("second").expect("a hash");
    assert_eq!(won(changed).await, []);

    let mut resumed = request.clone();
    resumed.plan.resumed = true;
    assert_eq!(won(resumed).await, []);

    let mut unknown = request.clone();
    unknown.task_id = each_minute("unknown").id;
    assert_eq!(won(unknown).await, []);

    assert!(db.pause(&task.id).await.expect("an answer"));
    assert_eq!(won(request.clone()).await, []);
    assert_eq!(db.history(&task.id, 10).await.expect("history"), []);
    assert_eq!(state(db, &task).await.next_run, Some(request.plan.expected));
}

/// The database's time decides, not the plan's.
pub async fn a_claim_too_far_ahead_is_refused(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    player.run(&task, Vec::new()).await;
    let second = Duration::from_secs(1);
    db.advance(MINUTE - 2 * second).await;
    let request = player.request(&task, 5 * second).await.expect("a plan that looks far ahead");
    let won =
        player.store.claim(&player.id, std::slice::from_ref(&request), second).await.expect("an answer");
    assert_eq!(won, []);
    db.advance(second).await;
    let won = player.store.claim(&player.id, &[request], second).await.expect("an answer");
    assert_eq!(won.len(), 1);
    assert_eq!(won[0].due_at, db.time() + second);
}

/// From, to, how many, and why.
pub async fn occurrences_skipped_together_are_one_row_of_history(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let first = db.time();
    db.advance(1000 * MINUTE).await;
    let attempt = player.claim(&task).await;
    assert_eq!(attempt.scheduled_for, Some(first + 1000 * MINUTE));
    assert_eq!((attempt.attempt, attempt.trigger), (1, Trigger::Schedule));

    let history = db.history(&task.id, 10).await.expect("history");
    let [running, skipped] = &history[..] else { panic!("{history:?}") };
    assert_eq!(running.id, attempt.execution_id);
    assert_eq!(running.outcome, None);
    assert_eq!(skipped.scheduled_for, Some(first));
    assert_eq!(skipped.scheduled_until, Some(first + 999 * MINUTE));
    assert_eq!(skipped.occurrences, 1000);
    assert_eq!(skipped.outcome.as_deref(), Some("skipped"));
    assert_eq!(skipped.skip_reason.as_deref(), Some("missed"));
    assert_eq!(skipped.success, None);
    assert_eq!(state(db, &task).await.next_run, Some(first + 1001 * MINUTE));
}

/// Somebody has set `next_run` by hand: what the history has stays as it is, and what it has not is left out.
pub async fn occurrences_skipped_with_some_that_are_known_are_all_accounted_for(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let first = db.time();
    let set = async |next_run: DateTime<Utc>| {
        let at = sql_time(next_run);
        db.sql(&format!("UPDATE actor_server_state SET next_run = '{at}', wake_at = '{at}'")).await;
    };
    let skipped = async || {
        let history = db.history(&task.id, 100).await.expect("history");
        let ranges = history.into_iter().filter(|row| row.skip_reason.is_some());
        ranges.map(|row| (row.scheduled_for, row.scheduled_until, row.occurrences)).collect::<Vec<_>>()
    };
    player.run(&task, Vec::new()).await;
    db.advance(5 * MINUTE).await;
    set(first).await;
    let run = player.run(&task, Vec::new()).await;
    assert_eq!(run.scheduled_for, Some(first + 5 * MINUTE));
    let just_after = first + Duration::from_micros(1);
    let after_the_known = (Some(just_after), Some(first + 4 * MINUTE), 4);
    assert_eq!(skipped().await, [after_the_known]);

    // Forward over four of them, and back again.
    db.advance(5 * MINUTE).await;
    set(first + 10 * MINUTE).await;
    player.run(&task, Vec::new()).await;
    set(first + 6 * MINUTE).await;
    assert_eq!(player.try_claim(&task).await, None, "it ran");
    assert_eq!(state(db, &task).await.next_run, Some(first + 11 * MINUTE));
    let stepped_over = (Some(first + 6 * MINUTE), Some(first + 9 * MINUTE), 4);
    assert_eq!(skipped().await, [stepped_over, after_the_known]);

    // Nothing is left of a range that is known.
    set(first + 6 * MINUTE).await;
    db.advance(MINUTE).await;
    player.run(&task, Vec::new()).await;
    assert_eq!(skipped().await, [stepped_over, after_the_known]);
}

/// The unique key of the history is the second lock.
pub async fn an_occurrence_is_not_run_twice_even_if_next_run_is_set_back_by_hand(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let first = db.time();
    let done = player.run(&task, Vec::new()).await;
    db.sql(&format!("UPDATE actor_server_state SET next_run = '{0}', wake_at = '{0}'", sql_time(first)))
        .await;
    assert_eq!(player.try_claim(&task).await, None);
    assert_eq!(state(db, &task).await.next_run, Some(first + MINUTE), "the task goes on after it");
    let history = db.history(&task.id, 10).await.expect("history");
    assert_eq!(history.iter().map(|row| row.id).collect::<Vec<_>>(), [done.execution_id]);

    // The same while it is still running.
    db.advance(MINUTE).await;
    let attempt = player.claim(&task).await;
    db.sql(&format!("UPDATE actor_server_state SET next_run = '{0}'", sql_time(first + MINUTE))).await;
    let overlapping = with(task.clone(), |policy| policy.overlap = Overlap::Allow);
    assert_eq!(player.try_claim(&overlapping).await, None);
    player.end(&task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
    assert_eq!(db.history(&task.id, 10).await.expect("history").len(), 2);
}

/// A time as both databases store it.
fn sql_time(at: DateTime<Utc>) -> String {
    at.format("%F %T%.f%:z").to_string()
}

/// The slot.
pub async fn a_task_that_runs_is_not_claimed_unless_it_may_overlap(db: &TestStore) {
    let alone = each_minute("alone");
    let beside = with(each_minute("beside"), |policy| policy.overlap = Overlap::Allow);
    register(db, &[&alone, &beside]).await;
    let player = Player::enter(db, "node").await;
    let running = player.claim(&alone).await;
    player.claim(&beside).await;
    db.advance(MINUTE).await;
    assert_eq!(player.try_claim(&alone).await, None);
    player.claim(&beside).await;
    // What came due meanwhile is left out when the run ends.
    player.end(&alone, &running, AttemptEnd::Succeeded, Made::default()).await;
    let history = db.history(&alone.id, 10).await.expect("history");
    assert_eq!(history[0].skip_reason.as_deref(), Some("overlap"));
    assert_eq!(history[0].scheduled_for, Some(db.time()));
    db.advance(MINUTE).await;
    player.claim(&alone).await;
}

/// Whoever asks twice gets it once, and the rest of the batch is not harmed.
pub async fn two_requests_for_one_task_in_one_batch_are_one_claim(db: &TestStore) {
    let (twice, once) = (each_minute("twice"), each_minute("once"));
    register(db, &[&twice, &once]).await;
    let player = Player::enter(db, "node").await;
    let request = player.request(&twice, Duration::ZERO).await.expect("due");
    let other = player.request(&once, Duration::ZERO).await.expect("due");
    let requests = [request.clone(), other, request];
    let won = player.store.claim(&player.id, &requests, Duration::ZERO).await.expect("an answer");
    assert_eq!(won.len(), 2);
}

/// One claim, one record.
pub async fn five_thousand_tasks_are_one_batch(db: &TestStore) {
    let tasks: Vec<_> = (0..5000).map(|n| each_minute(&format!("task {n}"))).collect();
    let registered = register(db, &tasks.iter().collect::<Vec<_>>()).await;
    assert_eq!(registered.added.len(), 5000);
    db.advance(2 * MINUTE).await;
    let player = Player::enter(db, "node").await;
    let agenda = db.agenda(db.time(), None, 10_000).await.expect("an agenda");
    assert_eq!(agenda.tasks.len(), 5000);
    let sample = player.request(&tasks[0], Duration::ZERO).await.expect("due");
    let requests: Vec<_> = tasks
        .iter()
        .map(|task| botticelli_server::ledger::ClaimRequest { task_id: task.id.clone(), ..sample.clone() })
        .collect();
    let won = player.store.claim(&player.id, &requests, Duration::ZERO).await.expect("an answer");
    assert_eq!(won.len(), 5000);
    let sample = player.ended(&tasks[0], &won[0], AttemptEnd::Succeeded, Made::default()).await;
    let ended: Vec<_> = won
        .into_iter()
        .map(|attempt| botticelli_server::ledger::EndedAttempt {
            posts: vec![message(attempt.task_id.as_str(), "text")],
            attempt,
            ..sample.clone()
        })
        .collect();
    let recorded = player.store.record(&player.id, &ended).await.expect("an answer");
    assert_eq!(recorded.len(), 5000);
    let count = "SELECT count(*) AS value FROM actor_server_executions WHERE outcome = 'succeeded'";
    assert_eq!(db.value(count).await, "5000");
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_posts").await, "5000");
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_open_executions").await, "0");
}

/// Whatever the parts are cut into: all that is due, each once, soonest first.
pub async fn an_agenda_comes_in_parts(db: &TestStore) {
    let tasks: Vec<_> = (0..7).map(|n| each_minute(&format!("task {n}"))).collect();
    register(db, &tasks.iter().collect::<Vec<_>>()).await;
    for task in &tasks[..5] {
        let event = Event { task: task.id.clone(), trigger: Trigger::Manual, parameters: Value::Null };
        db.publish(event).await.expect("an answer");
    }
    for limit in [1, 3, 7, 10] {
        let (mut due, mut waiting, mut parts, mut mark) = (Vec::new(), Vec::new(), 0, None);
        loop {
            let part = db.agenda(db.time(), mark, limit).await.expect("an agenda");
            assert!(part.tasks.len() <= limit && part.waiting.len() <= limit);
            due.extend(part.tasks.into_iter().map(|state| state.task_id));
            waiting.extend(part.waiting.into_iter().map(|waiting| waiting.execution_id));
            parts += 1;
            mark = part.more;
            if mark.is_none() {
                break;
            }
        }
        assert_eq!(due, tasks.iter().map(|task| task.id.clone()).collect::<Vec<_>>());
        assert_eq!(waiting.len(), 5);
        assert!(waiting.is_sorted() && parts == 7 / limit + 1);
    }
}

/// Migrations expand first: a program that runs has its statements prepared while a newer one adds columns.
pub async fn columns_that_are_added_meanwhile_harm_nobody(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let round = async || {
        db.advance(MINUTE).await;
        db.agenda(db.time(), None, 10).await.expect("an agenda");
        let attempt = player.claim(&task).await;
        let made = Made { posts: vec![message("channel", "text")], ..Made::default() };
        player.end(&task, &attempt, AttemptEnd::Succeeded, made).await;
        let claimed = db.claim_posts(&player.id, 10, MINUTE, &[]).await.expect("an answer");
        let [post] = claimed.as_slice() else { panic!("one post, not {claimed:?}") };
        let end = PostEnd::Skipped { reason: SkipReason::RateLimited };
        let ended = [SettledPost { id: post.id, fence: post.fence, end, exchanges: Vec::new() }];
        assert_eq!(db.settle_posts(&player.id, &ended).await.expect("an answer").lost, []);
    };
    round().await;
    for table in ["state", "open_executions", "executions", "posts", "nodes"] {
        db.sql(&format!("ALTER TABLE actor_server_{table} ADD COLUMN newer text")).await;
    }
    round().await;
}

//! Taking up a configuration.

use super::players::*;
use crate::databases::TestStore;
use botticelli_database::Resumed;
use botticelli_server::ids::{ActorName, DefinitionHash};
use botticelli_server::ledger::{Ledger as _, Registered, Registration};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::schedule::{CronSchedule, ImmediateSchedule, OnceSchedule, ScheduleType};
use botticelli_server::task::{PauseReason, Task};
use std::num::NonZeroU32;
use std::time::Duration;

fn immediate(every_start: bool) -> ScheduleType {
    ScheduleType::Immediate(ImmediateSchedule { every_start })
}

fn cron(expression: &str) -> ScheduleType {
    ScheduleType::Cron(CronSchedule::new(expression, "Europe/Berlin").expect("a cron expression"))
}

fn changed(mut task: Task, definition: &str, schedule: ScheduleType) -> Task {
    task.definition = DefinitionHash::new(definition).expect("a hash");
    task.schedule = schedule;
    task
}

async fn reload(db: &TestStore, tasks: &[&Task]) -> Registered {
    let tasks = tasks.iter().map(|task| (*task).clone()).collect();
    db.register(Registration { tasks, start: false, complete: true }).await.expect("the tasks are registered")
}

/// All kinds of schedules: what comes back from the database is what went in.
pub async fn a_registration_that_changes_nothing_writes_nothing(db: &TestStore) {
    let once = OnceSchedule::new(db.time() + Duration::from_nanos(1_234_567_890));
    let tasks = [
        task("cron", cron("0 30 9 ? * MON-FRI *")),
        task("every", every(90)),
        task("once", ScheduleType::Once(once)),
        task("immediate", immediate(false)),
    ];
    let all: Vec<_> = tasks.iter().collect();
    let first = reload(db, &all).await;
    assert_eq!((first.added.len(), first.unchanged), (4, 0));
    let before = db.values("SELECT updated_at AS value FROM actor_server_state ORDER BY task_id").await;
    db.advance(MINUTE).await;
    let again = reload(db, &all).await;
    assert_eq!(again, Registered { unchanged: 4, ..Registered::default() });
    assert_eq!(
        db.values("SELECT updated_at AS value FROM actor_server_state ORDER BY task_id").await,
        before
    );
    for task in &tasks {
        assert_eq!(state(db, task).await.schedule, task.schedule);
    }
    assert_eq!(
        state(db, &tasks[2]).await.next_run,
        Some(db.time() - MINUTE + Duration::from_micros(1_234_567))
    );
}

/// It begins anew from now.
pub async fn a_changed_schedule_causes_no_catch_up(db: &TestStore) {
    let before = each_minute("task");
    register(db, &[&before]).await;
    let player = Player::enter(db, "node").await;
    player.run(&before, Vec::new()).await;
    let ran_at = db.time();
    db.advance(100 * MINUTE + Duration::from_secs(1)).await;
    let after = changed(before.clone(), "second", every(120));
    assert_eq!(reload(db, &[&after]).await.changed, std::slice::from_ref(&after.id));
    let now = state(db, &after).await;
    assert!(now.next_run > Some(db.time()), "{now:?}");
    assert_eq!((now.wake_at, now.last_run), (now.next_run, Some(ran_at)));
    assert_eq!(player.try_claim(&after).await, None);
    assert_eq!(player.try_claim(&before).await, None, "nobody runs the old definition");
    db.set(now.next_run.expect("it recurs")).await;
    player.claim(&after).await;

    // The policy alone: the schedule goes on.
    let next_run = state(db, &after).await.next_run;
    let mut stricter = changed(after.clone(), "third", every(120));
    stricter.policy.max_consecutive_failures = NonZeroU32::MIN;
    stricter.actor_name = ActorName::new("another actor").expect("a name");
    assert_eq!(reload(db, &[&stricter]).await.changed, std::slice::from_ref(&after.id));
    assert_eq!(state(db, &stricter).await.next_run, next_run);
    db.set(next_run.expect("it recurs")).await;
    assert_eq!(player.try_claim(&stricter).await, None, "it is running");
    assert_eq!(db.tasks().await.expect("tasks")[0].actor_name, stricter.actor_name);
}

/// Kept, paused by its definition; what it missed while it was gone was missed on purpose.
pub async fn a_task_that_is_gone_is_retired_and_can_come_back(db: &TestStore) {
    let (stays, goes, paused) = (each_minute("stays"), each_minute("goes"), each_minute("paused"));
    register(db, &[&stays, &goes, &paused]).await;
    let player = Player::enter(db, "node").await;
    db.pause(&paused.id).await.expect("an answer");
    let first = player.run(&goes, Vec::new()).await;
    let retired = reload(db, &[&stays]).await;
    assert_eq!((retired.retired.as_slice(), retired.unchanged), (&[goes.id.clone()][..], 1));
    assert_eq!(reload(db, &[&stays]).await.retired, []);
    let gone = state(db, &goes).await;
    assert_eq!((gone.is_paused, gone.pause_reason), (true, Some(PauseReason::Definition)));
    assert_eq!(db.resume(&goes.id).await.expect("an answer"), Resumed::NotInConfiguration);
    db.advance(10 * MINUTE).await;
    assert_eq!(player.try_claim(&goes).await, None);

    let back = reload(db, &[&stays, &goes, &paused]).await;
    assert_eq!(back.changed, std::slice::from_ref(&goes.id));
    assert_eq!(player.try_claim(&goes).await, None);
    let history = db.history(&goes.id, 10).await.expect("history");
    assert_eq!((history[0].skip_reason.as_deref(), history[0].occurrences), (Some("paused"), 10));
    assert_eq!(history[1].id, first.execution_id);
    db.advance(MINUTE).await;
    player.claim(&goes).await;
    let still = state(db, &paused).await;
    assert_eq!((still.is_paused, still.pause_reason), (true, Some(PauseReason::Operator)));

    // Only some of the tasks: nobody is retired.
    let some = Registration { tasks: vec![stays.clone()], start: false, complete: false };
    assert_eq!(db.register(some).await.expect("an answer").retired, []);
}

/// Known, and paused until its definition enables it. A person's pause is not undone by that.
pub async fn a_disabled_task_is_known_and_does_not_run(db: &TestStore) {
    let mut disabled = each_minute("disabled");
    disabled.enabled = false;
    reload(db, &[&disabled]).await;
    let player = Player::enter(db, "node").await;
    assert_eq!(player.try_claim(&disabled).await, None);
    assert_eq!(db.tasks().await.expect("tasks")[0].pause_reason, Some(PauseReason::Definition));
    db.pause(&disabled.id).await.expect("an answer");
    db.resume(&disabled.id).await.expect("an answer");
    assert_eq!(
        player.try_claim(&disabled).await,
        None,
        "a person does not enable what the definition disables"
    );
    let mut enabled = changed(disabled.clone(), "second", every(60));
    enabled.enabled = true;
    reload(db, &[&disabled]).await;
    db.advance(MINUTE).await;
    reload(db, &[&enabled]).await;
    player.try_claim(&enabled).await;
    db.advance(MINUTE).await;
    player.claim(&enabled).await;
}

/// Once, ever; or once at each start.
pub async fn an_immediate_task_runs_once_or_at_every_start(db: &TestStore) {
    let (once, starts) = (task("once", immediate(false)), task("starts", immediate(true)));
    let player = Player::enter(db, "node").await;
    for start in 1..=3 {
        register(db, &[&once, &starts]).await;
        reload(db, &[&once, &starts]).await;
        assert_eq!(player.try_claim(&once).await.is_some(), start == 1);
        let attempt = player.claim(&starts).await;
        player.end(&starts, &attempt, AttemptEnd::Succeeded, Made::default()).await;
        assert_eq!(player.try_claim(&starts).await, None);
        assert_eq!(state(db, &starts).await.next_run, None);
        db.advance(MINUTE).await;
    }
    // Taken out and put back, it is not new.
    reload(db, &[&starts]).await;
    register(db, &[&once, &starts]).await;
    assert_eq!(player.try_claim(&once).await, None);
}

/// Eight nodes start at the same moment, and the first work is claimed while others still register.
pub async fn registrations_at_once_agree_on_the_first_occurrence(db: &TestStore) {
    let tasks: Vec<_> = (0..10)
        .flat_map(|n| [task(&format!("now {n}"), immediate(false)), each_minute(&format!("minutes {n}"))])
        .collect();
    let mut nodes = Vec::new();
    for n in 0..8 {
        let (player, tasks) = (Player::enter(db, &format!("node {n}")).await, tasks.clone());
        nodes.push(tokio::spawn(async move {
            let registration = Registration { tasks: tasks.clone(), start: true, complete: true };
            player.store.register(registration).await.expect("an answer");
            let mut won = Vec::new();
            for task in &tasks {
                won.extend(player.try_claim(task).await.map(|attempt| attempt.task_id));
            }
            won
        }));
    }
    // Time goes on meanwhile, so that a second registration would find another time.
    for _ in 0..20 {
        db.advance(Duration::from_millis(10)).await;
    }
    let mut won = Vec::new();
    for node in nodes {
        won.extend(node.await.expect("no panic"));
    }
    won.sort();
    let mut expected: Vec<_> = tasks.iter().map(|task| task.id.clone()).collect();
    expected.sort();
    // A claim may lose against a registration that holds the task's row: what is left is claimed now.
    let player = Player::enter(db, "late").await;
    for task in &tasks {
        won.extend(player.try_claim(task).await.map(|attempt| attempt.task_id));
    }
    won.sort();
    assert_eq!(won, expected);
}

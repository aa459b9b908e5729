//! Starts, stops, reloads, and what becomes of old history.

use crate::support::*;
use botticelli_actor::engine::EngineSettings;
use botticelli_server::ids::DefinitionHash;
use botticelli_server::ledger::{Ledger as _, Registration};
use botticelli_server::schedule::ScheduleType;
use botticelli_server::server::TaskScheduler as _;
use botticelli_testkit::databases::TestStore;
use chrono::TimeDelta;
use std::num::NonZeroUsize;
use std::time::Duration;

crate::promises! {
    a_stop_waits_for_what_runs_and_records_it,
    what_still_runs_at_the_end_of_the_grace_period_is_handed_on,
    what_was_claimed_and_not_started_goes_back_at_a_stop,
    what_could_not_be_given_back_is_given_back_a_moment_later,
    a_changed_task_finishes_its_run_and_goes_on_as_it_is_now,
    an_immediate_task_runs_once_and_with_every_start_once_for_each_start,
    old_history_and_nodes_are_deleted_and_what_was_posted_is_remembered,
    a_clock_that_jumps_neither_loses_nor_doubles,
    more_tasks_than_an_agenda_holds_all_have_their_turn,
}

async fn a_stop_waits_for_what_runs_and_records_it(database: TestStore) {
    let mut server = TestServer::start(database).await;
    let task = task("task", every(MINUTE));
    let probe = server.add(&task, &[Does::WaitAndPost("the last one")]).await;
    server.tell_to_stop(0);
    server.advance(20 * SECOND).await;
    probe.release().await;
    server.has_stopped(0).await;
    assert_eq!(server.ledger(&task).await, ["00:00:00 succeeded"]);
    server.start_node("next", settings()).await;
    server.rest().await;
    assert_eq!(server.posted(), ["the last one"]);
    server.end().await;
}

async fn what_still_runs_at_the_end_of_the_grace_period_is_handed_on(database: TestStore) {
    let mut server = TestServer::start(database).await;
    let task = task("task", every(HOUR));
    let probe = server.add(&task, &[Does::WaitAndPost("never"), Does::Post("by the next")]).await;
    server.tell_to_stop(0);
    server.advance(29 * SECOND).await;
    assert_eq!(server.activity(0).running, 1);
    // The engine may have heard of the stop only after the clock had moved: its grace period is over by then, too.
    server.advance(30 * SECOND).await;
    server.has_stopped(0).await;
    server.start_node("next", settings()).await;
    server.hold(std::slice::from_ref(&task)).await;
    server.rest().await;
    assert_eq!((probe.runs(), server.posted()), (2, vec!["by the next".to_owned()]));
    assert_eq!(server.ledger(&task).await, ["00:00:00 succeeded, 2 attempts"]);
    assert_eq!(server.state(&task).await.consecutive_failures, 0, "nobody failed");
    server.end().await;
}

async fn what_was_claimed_and_not_started_goes_back_at_a_stop(database: TestStore) {
    let mut server = TestServer::start(database).await;
    let task = task("task", every(MINUTE));
    let probe = server.add(&task, &[]).await;
    server.advance(MINUTE - Duration::from_millis(100)).await;
    assert_eq!(server.claimed(), 1);
    server.stop(0).await;
    server.start_node("next", settings()).await;
    server.hold(std::slice::from_ref(&task)).await;
    server.advance(SECOND).await;
    assert_eq!(probe.runs(), 2);
    assert_eq!(server.ledger(&task).await, ["00:00:00 succeeded", "00:01:00 succeeded"]);
    server.end().await;
}

/// A task that is let go after its claim.
async fn what_could_not_be_given_back_is_given_back_a_moment_later(database: TestStore) {
    let (refuse, allow) = match database.is_postgres() {
        true => (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not now''; END'; \
             CREATE TRIGGER refuse BEFORE UPDATE ON actor_server_open_executions FOR EACH ROW \
             WHEN (NEW.node IS NULL) EXECUTE FUNCTION refuse()",
            "DROP TRIGGER refuse ON actor_server_open_executions",
        ),
        false => (
            "CREATE TRIGGER refuse BEFORE UPDATE ON actor_server_open_executions WHEN NEW.node IS NULL \
             BEGIN SELECT RAISE(ABORT, 'not now'); END",
            "DROP TRIGGER refuse",
        ),
    };
    let server = TestServer::start_with(
        database,
        EngineSettings { max_concurrent_executions: NonZeroUsize::MIN, ..settings() },
    )
    .await;
    let busy = with(task("busy", once(server.now())), |policy| policy.timeout = HOUR);
    let probe = server.add(&busy, &[Does::Wait]).await;
    let task = task("task", once(server.now() + 100 * HOUR));
    server.add(&task, &[]).await;
    server.trigger(&task).await;
    server.until("it waits for a slot", |server| server.claimed() == 1).await;

    server.database.sql(refuse).await;
    assert!(server.nodes[0].engine.cancel(&task.id).await.expect("an answer"));
    let again = server.now() + Duration::from_millis(500);
    probe.release().await;
    let waits = |server: &TestServer| server.database.clock().wake_times().contains(&again);
    server.until("it waits to try again", waits).await;
    server.database.sql(allow).await;
    server.database.set(again).await;
    let owned = "SELECT count(*) AS value FROM actor_server_open_executions WHERE node IS NOT NULL";
    server.comes_to(owned, "0").await;
    assert_eq!(server.ledger(&task).await, ["manual open"]);
    server.end().await;
}

async fn a_changed_task_finishes_its_run_and_goes_on_as_it_is_now(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = with(task("task", every(HOUR)), |policy| policy.timeout = HOUR);
    let probe = server.add(&task, &[Does::Wait]).await;
    let mut changed = with(self::task("task", every(MINUTE)), |policy| policy.timeout = HOUR);
    changed.definition = DefinitionHash::new("another").expect("a hash");
    server.advance(30 * SECOND).await;
    server.hold(std::slice::from_ref(&changed)).await;
    server.advance(150 * SECOND).await;
    assert_eq!(probe.runs(), 1);
    probe.release().await;
    server.rest().await;
    server.advance(MINUTE).await;
    assert_eq!(
        server.ledger(&changed).await,
        ["00:00:00 succeeded", "00:00:30 to 00:02:30 skipped 3: overlap", "00:03:30 succeeded"]
    );
    server.end().await;
}

fn immediate(every_start: bool) -> ScheduleType {
    schedule(serde_json::json!({ "type": "Immediate", "every_start": every_start }))
}

async fn an_immediate_task_runs_once_and_with_every_start_once_for_each_start(database: TestStore) {
    let mut server = TestServer::without_nodes(database);
    let tasks = [task("once", immediate(false)), task("each time", immediate(true))];
    let probes = tasks.each_ref().map(|task| {
        let probe = Probe::new(&[]);
        server.register(task.actor_name.clone(), probe.clone());
        probe
    });
    for start in 1..=3 {
        let registration = Registration { tasks: tasks.to_vec(), complete: true, start: true };
        server.database.register(registration).await.expect("registered");
        server.start_node(&format!("start {start}"), settings()).await;
        let node = server.nodes.len() - 1;
        server.nodes[node].engine.hold(tasks.to_vec());
        server.advance(MINUTE).await;
        // A reload is no start.
        server.hold(&tasks).await;
        server.advance(MINUTE).await;
        assert_eq!(probes.each_ref().map(|probe| probe.runs()), [1, start]);
        server.stop(node).await;
    }
    server.end().await;
}

async fn old_history_and_nodes_are_deleted_and_what_was_posted_is_remembered(database: TestStore) {
    let settings = EngineSettings {
        history_retention: Some(24 * HOUR),
        check_interval: HOUR,
        heartbeat: 24 * HOUR,
        ..settings()
    };
    let server = TestServer::start_with(database, settings).await;
    let gone = botticelli_server::ids::NodeId::new("gone").expect("a name");
    server.database.renew(&gone, HOUR).await.expect("a heartbeat");
    server.database.leave(&gone).await.expect("an answer");
    let task = task("task", every(10 * HOUR));
    server.add(&task, &[Does::Post("old")]).await;
    server.advance(30 * HOUR + MINUTE).await;
    assert_eq!(
        server.ledger(&task).await,
        ["10:00:00 succeeded", "20:00:00 succeeded", "06:00:00 succeeded"]
    );
    let posts =
        server.database.posts(botticelli_database::PostFilter { limit: 10, ..Default::default() }).await;
    assert_eq!(posts.expect("posts").len(), 1);
    assert_eq!(server.database.value("SELECT count(*) AS value FROM actor_server_nodes").await, "1");
    server.end().await;
}

async fn a_clock_that_jumps_neither_loses_nor_doubles(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = task("task", every(MINUTE));
    let probe = server.add(&task, &[]).await;
    server.advance(90 * SECOND).await;
    let before = server.now();
    server.jump(before + TimeDelta::hours(1)).await;
    assert_eq!(
        server.ledger(&task).await,
        [
            "00:00:00 succeeded",
            "00:01:00 succeeded",
            "00:02:00 to 01:00:00 skipped 59: missed",
            "01:01:00 succeeded"
        ]
    );
    server.jump(before).await;
    server.advance(30 * MINUTE).await;
    assert_eq!(probe.runs(), 3, "those times have been");
    server.advance(31 * MINUTE).await;
    assert_eq!(server.ledger(&task).await[4..], ["01:02:00 succeeded"]);
    server.end().await;
}

/// Only the first of them can be claimed at first, and some never can: they are somebody else's.
async fn more_tasks_than_an_agenda_holds_all_have_their_turn(database: TestStore) {
    let server = TestServer::start(database).await;
    let strange: Vec<_> =
        (0..20_500).map(|number| task(&format!("not ours {number:05}"), every(24 * HOUR))).collect();
    let registration = Registration { tasks: strange, complete: false, start: false };
    server.database.register(registration).await.expect("registered");
    server.jump(server.now() + MINUTE).await;
    let ours = task("ours", every(24 * HOUR));
    let probe = server.add(&ours, &[]).await;
    server.advance(10 * SECOND).await;
    assert_eq!(probe.runs(), 1);
    server.end().await;
}

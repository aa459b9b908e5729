//! What people do takes effect, at once and in good order.

use crate::support::*;
use botticelli_database::{Cancelled, Decided, PostDecision, PostFilter};
use botticelli_server::outbox::PostState;
use botticelli_server::post::Destination;
use botticelli_testkit::databases::TestStore;
use std::time::Duration;

crate::promises! {
    a_manual_trigger_runs_at_once,
    a_paused_task_runs_when_a_person_triggers_it,
    a_trigger_waits_for_the_run_before_it,
    a_run_that_a_person_cancels_ends_and_is_not_tried_again,
    what_a_dead_node_had_and_shall_end_is_not_run_again,
    a_pause_between_claim_and_start_wins,
    a_task_resumed_by_sql_goes_on_from_now,
    a_task_that_is_resumed_is_not_flooded_by_what_fell_into_its_pause,
    a_post_that_a_person_retries_goes_out_at_once,
    what_a_task_waits_for_is_not_forgotten_when_the_agenda_is_read_again_and_again,
}

/// From another process: on SQLite the server sees that its file has changed, on PostgreSQL it is notified.
async fn a_manual_trigger_runs_at_once(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = task("task", once(server.now() + 100 * HOUR));
    let probe = server.add(&task, &[Does::Post("by hand")]).await;
    server.trigger(&task).await;
    probe.has_started(1).await;
    server.rest().await;
    assert_eq!(server.ledger(&task).await, ["manual succeeded"]);
    assert_eq!(server.posted(), ["by hand"]);
    server.end().await;
}

async fn a_paused_task_runs_when_a_person_triggers_it(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = task("task", every(MINUTE));
    let probe = server.add(&task, &[]).await;
    assert!(server.database.pause(&task.id).await.expect("paused"));
    server.trigger(&task).await;
    probe.has_started(2).await;
    server.advance(10 * MINUTE).await;
    assert_eq!(server.ledger(&task).await, ["00:00:00 succeeded", "manual succeeded"]);
    server.end().await;
}

async fn a_trigger_waits_for_the_run_before_it(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = with(task("task", every(24 * HOUR)), |policy| policy.timeout = 2 * HOUR);
    let probe = server.add(&task, &[Does::Wait]).await;
    server.trigger(&task).await;
    server.trigger(&task).await;
    server.advance(HOUR).await;
    assert_eq!(probe.runs(), 1);
    probe.release().await;
    probe.has_started(3).await;
    server.rest().await;
    assert_eq!(server.ledger(&task).await, ["00:00:00 succeeded", "manual succeeded", "manual succeeded"]);
    server.end().await;
}

/// Work is claimed a moment ahead. Paused in that moment, it does not start, and is not lost either.
async fn a_pause_between_claim_and_start_wins(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = task("task", every(MINUTE));
    let probe = server.add(&task, &[]).await;
    server.advance(MINUTE - Duration::from_millis(100)).await;
    assert_eq!(server.ledger(&task).await, ["00:00:00 succeeded", "00:01:00 open"], "it is claimed");
    assert!(server.database.pause(&task.id).await.expect("paused"));
    server.until("the claim is given up", |server| server.claimed() == 0).await;
    server.advance(MINUTE).await;
    assert_eq!(probe.runs(), 1);
    server.resume(&task).await;
    server.advance(30 * SECOND).await;
    assert_eq!(
        server.ledger(&task).await,
        ["00:00:00 succeeded", "00:01:00 skipped: paused", "00:02:00 succeeded"]
    );
    server.end().await;
}

async fn a_task_resumed_by_sql_goes_on_from_now(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = task("task", every(MINUTE));
    let probe = server.add(&task, &[]).await;
    assert!(server.database.pause(&task.id).await.expect("paused"));
    server.advance(10 * MINUTE + 30 * SECOND).await;
    assert_eq!(probe.runs(), 1);
    server.database.sql("UPDATE actor_server_state SET is_paused = false").await;
    // Nobody tells the server: its poll finds it.
    server.nudge().await;
    server.advance(2 * MINUTE).await;
    assert_eq!(
        server.ledger(&task).await,
        [
            "00:00:00 succeeded",
            "00:01:00 to 00:10:00 skipped 10: paused",
            "00:11:00 succeeded",
            "00:12:00 succeeded"
        ]
    );
    server.end().await;
}

async fn a_task_that_is_resumed_is_not_flooded_by_what_fell_into_its_pause(database: TestStore) {
    let server = TestServer::start(database).await;
    let catch_up = botticelli_server::task::CatchUp::All { limit: std::num::NonZeroU32::MAX };
    let task = with(task("task", every(SECOND)), |policy| policy.catch_up = catch_up);
    let probe = server.add(&task, &[]).await;
    assert!(server.database.pause(&task.id).await.expect("paused"));
    server.jump(server.now() + HOUR + Duration::from_millis(500)).await;
    server.resume(&task).await;
    server.advance(SECOND).await;
    assert_eq!(probe.runs(), 2);
    assert_eq!(
        server.ledger(&task).await,
        ["00:00:00 succeeded", "00:00:01 to 01:00:00 skipped 3600: paused", "01:00:01 succeeded"]
    );
    server.end().await;
}

async fn what_a_task_waits_for_is_not_forgotten_when_the_agenda_is_read_again_and_again(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = with(task("task", every(24 * HOUR)), |policy| policy.timeout = 2 * HOUR);
    let probe = server.add(&task, &[Does::Wait]).await;
    for _ in 0..3 {
        server.trigger(&task).await;
        server.advance(10 * MINUTE).await;
    }
    probe.release().await;
    probe.has_started(4).await;
    server.rest().await;
    assert_eq!(server.ledger(&task).await.len(), 4);
    server.end().await;
}

async fn a_post_that_a_person_retries_goes_out_at_once(database: TestStore) {
    let server = TestServer::start(database).await;
    let mut task = task("task", once(server.now()));
    task.destinations = vec![Destination { platform: "unknown".into(), target: "here".into() }];
    server.add(&task, &[Does::Post("lost")]).await;
    let all = || PostFilter { limit: 10, ..PostFilter::default() };
    let post = server.database.posts(all()).await.expect("posts").remove(0);
    assert_eq!((post.state, post.attempts), (PostState::Deferred, 1));
    let decided = server.database.decide(post.id, PostDecision::Retry).await.expect("an answer");
    assert_eq!(decided, Decided::Done);
    server.attempted(post.id, 2).await;
    server.end().await;
}

async fn a_run_that_a_person_cancels_ends_and_is_not_tried_again(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = task("task", every(24 * HOUR));
    let probe = server.add(&task, &[Does::WaitAndPost("never")]).await;
    probe.has_started(1).await;
    let execution = server.history(&task).await[0].id;
    assert_eq!(server.database.cancel(execution).await.expect("an answer"), Cancelled::Requested);
    server.look_over();
    server.until("it is over", |server| server.activity(0).running == 0).await;
    server.rest().await;
    assert_eq!(server.ledger(&task).await, ["00:00:00 cancelled"]);
    assert_eq!((server.state(&task).await.consecutive_failures, server.posted().len()), (0, 0));
    assert_eq!(server.database.cancel(execution).await.expect("an answer"), Cancelled::AlreadyOver);
    server.advance(HOUR).await;
    assert_eq!(probe.runs(), 1);
    server.end().await;
}

async fn what_a_dead_node_had_and_shall_end_is_not_run_again(database: TestStore) {
    let mut server = TestServer::start(database).await;
    let task = task("task", every(24 * HOUR));
    let probe = server.add(&task, &[Does::Wait, Does::Post("never")]).await;
    probe.has_started(1).await;
    server.kill(0).await;
    let execution = server.history(&task).await[0].id;
    assert_eq!(server.database.cancel(execution).await.expect("an answer"), Cancelled::Requested);
    server.database.set(server.now() + 2 * HOUR).await;
    server.start_node("next", settings()).await;
    server.hold(std::slice::from_ref(&task)).await;
    server.nudge().await;
    assert_eq!(server.ledger(&task).await, ["00:00:00 cancelled"]);
    assert_eq!(probe.runs(), 1);
    server.end().await;
}

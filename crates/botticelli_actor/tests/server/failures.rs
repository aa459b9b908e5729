//! What becomes of work that is late, in the way of itself, or fails.

use crate::support::*;
use botticelli_server::task::{Breaker, CatchUp, Overlap, Task};
use botticelli_testkit::databases::TestStore;
use std::num::NonZeroU32;
use std::time::Duration;

crate::promises! {
    occurrences_during_a_run_are_left_out_with_overlap_skip,
    one_occurrence_runs_after_the_run_with_overlap_queue_one,
    a_task_runs_beside_itself_with_overlap_allow,
    after_downtime_one_run_stands_for_all_that_was_missed,
    after_downtime_all_that_was_missed_runs_in_order_if_the_task_wants_it,
    after_downtime_nothing_that_was_missed_runs_if_the_task_wants_that,
    a_retry_is_another_attempt_of_the_same_execution,
    after_the_last_attempt_the_execution_has_failed,
    occurrences_in_the_wait_after_a_failure_are_left_out,
    the_breaker_opens_after_so_many_failures_and_a_probe_closes_it,
    a_run_past_its_timeout_has_failed,
    a_panic_is_a_failed_attempt,
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not zero")
}

fn overlapping(overlap: Overlap) -> Task {
    with(task("slow", every(MINUTE)), |policy| {
        policy.overlap = overlap;
        policy.timeout = HOUR;
    })
}

async fn occurrences_during_a_run_are_left_out_with_overlap_skip(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = overlapping(Overlap::Skip);
    let probe = server.add(&task, &[Does::Wait]).await;
    server.advance(150 * SECOND).await;
    probe.release().await;
    server.advance(60 * SECOND).await;
    assert_eq!(
        server.ledger(&task).await,
        ["00:00:00 succeeded", "00:01:00 to 00:02:00 skipped 2: overlap", "00:03:00 succeeded"]
    );
    server.end().await;
}

async fn one_occurrence_runs_after_the_run_with_overlap_queue_one(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = overlapping(Overlap::QueueOne);
    let probe = server.add(&task, &[Does::Wait]).await;
    server.advance(150 * SECOND).await;
    probe.release().await;
    server.rest().await;
    assert_eq!(probe.runs(), 2, "at once");
    server.advance(30 * SECOND).await;
    assert_eq!(
        server.ledger(&task).await,
        ["00:00:00 succeeded", "00:01:00 skipped: overlap", "00:02:00 succeeded", "00:03:00 succeeded"]
    );
    server.end().await;
}

async fn a_task_runs_beside_itself_with_overlap_allow(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = overlapping(Overlap::Allow);
    let probe = server.add(&task, &[Does::Wait, Does::Wait, Does::Wait]).await;
    server.advance(2 * MINUTE).await;
    assert_eq!(probe.runs(), 3);
    for _ in 0..3 {
        probe.release().await;
    }
    server.rest().await;
    let all = ["00:00:00 succeeded", "00:01:00 succeeded", "00:02:00 succeeded"];
    assert_eq!(server.ledger(&task).await, all);
    server.end().await;
}

/// A run at midnight, ten minutes and a half without a server, and half a minute with one.
async fn after_downtime(database: TestStore, catch_up: CatchUp) -> Vec<String> {
    let mut server = TestServer::start(database).await;
    let task = with(task("task", every(MINUTE)), |policy| policy.catch_up = catch_up);
    let probe = server.add(&task, &[]).await;
    server.stop(0).await;
    server.jump(server.now() + 10 * MINUTE + MINUTE / 2).await;
    server.start_node("second", settings()).await;
    server.hold(std::slice::from_ref(&task)).await;
    server.advance(30 * SECOND).await;
    let starts = probe.starts();
    assert!(starts.is_sorted_by_key(|start| start.scheduled_for), "in order: {starts:?}");
    let ledger = server.ledger(&task).await;
    server.end().await;
    ledger
}

async fn after_downtime_one_run_stands_for_all_that_was_missed(database: TestStore) {
    assert_eq!(
        after_downtime(database, CatchUp::Latest).await,
        [
            "00:00:00 succeeded",
            "00:01:00 to 00:09:00 skipped 9: missed",
            "00:10:00 succeeded",
            "00:11:00 succeeded"
        ]
    );
}

async fn after_downtime_all_that_was_missed_runs_in_order_if_the_task_wants_it(database: TestStore) {
    assert_eq!(
        after_downtime(database, CatchUp::All { limit: number(3) }).await,
        [
            "00:00:00 succeeded",
            "00:01:00 to 00:07:00 skipped 7: missed",
            "00:08:00 succeeded",
            "00:09:00 succeeded",
            "00:10:00 succeeded",
            "00:11:00 succeeded"
        ]
    );
}

/// What is less than a minute late was not missed.
async fn after_downtime_nothing_that_was_missed_runs_if_the_task_wants_that(database: TestStore) {
    assert_eq!(
        after_downtime(database, CatchUp::Skip).await,
        [
            "00:00:00 succeeded",
            "00:01:00 to 00:09:00 skipped 9: missed",
            "00:10:00 succeeded",
            "00:11:00 succeeded"
        ]
    );
}

async fn a_retry_is_another_attempt_of_the_same_execution(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = task("task", every(HOUR));
    let probe = server.add(&task, &[Does::Fail, Does::Fail, Does::Post("at last")]).await;
    assert_eq!(server.ledger(&task).await, ["00:00:00 open"]);
    server.advance(MINUTE).await;
    assert_eq!(probe.runs(), 3);
    assert!(probe.starts().iter().all(|start| start.scheduled_for == probe.starts()[0].scheduled_for));
    assert_eq!(server.ledger(&task).await, ["00:00:00 succeeded, 3 attempts"]);
    assert_eq!(server.posted(), ["at last"]);
    let execution = server.history(&task).await.remove(0);
    let earlier = server.database.earlier_attempts(execution.id).await.expect("attempts");
    assert_eq!(earlier.iter().map(|attempt| attempt.attempt).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(server.state(&task).await.consecutive_failures, 0);
    server.end().await;
}

async fn after_the_last_attempt_the_execution_has_failed(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = with(task("task", every(HOUR)), |policy| policy.max_attempts = number(2));
    let probe = server.add(&task, &[Does::Fail, Does::Fail]).await;
    server.advance(30 * MINUTE).await;
    assert_eq!((probe.runs(), server.ledger(&task).await), (2, vec!["00:00:00 failed, 2 attempts".into()]));
    assert_eq!(server.state(&task).await.consecutive_failures, 1);
    let hopeless = self::task("hopeless", every(HOUR));
    let probe = server.add(&hopeless, &[Does::FailForGood]).await;
    server.advance(5 * MINUTE).await;
    assert_eq!(probe.runs(), 1, "another attempt would fail the same");
    assert_eq!(server.ledger(&hopeless).await, ["00:30:00 failed"]);
    server.end().await;
}

async fn occurrences_in_the_wait_after_a_failure_are_left_out(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = with(task("task", every(SECOND)), |policy| {
        policy.backoff.initial = Duration::from_secs(10);
    });
    server.add(&task, &[Does::Fail]).await;
    server.advance(12 * SECOND).await;
    let ledger = server.ledger(&task).await;
    assert_eq!(ledger[0], "00:00:00 failed", "the next occurrence is nearer than another attempt");
    assert!(ledger[1].starts_with("00:00:01 to 00:00:") && ledger[1].ends_with(": backoff"), "{ledger:?}");
    assert!(ledger[2..].iter().all(|line| line.ends_with(" succeeded")), "{ledger:?}");
    let accounted: u64 = server.history(&task).await.iter().map(|execution| execution.occurrences).sum();
    assert_eq!(accounted, 13);
    server.end().await;
}

async fn the_breaker_opens_after_so_many_failures_and_a_probe_closes_it(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = with(task("task", every(MINUTE)), |policy| {
        policy.max_attempts = NonZeroU32::MIN;
        policy.max_consecutive_failures = number(2);
        policy.cooldown = Some(10 * MINUTE);
    });
    let probe = server.add(&task, &[Does::Fail, Does::Fail, Does::Fail]).await;
    server.advance(MINUTE).await;
    assert_eq!(server.state(&task).await.breaker(), Breaker::HalfOpen);
    server.advance(9 * MINUTE).await;
    assert_eq!(probe.runs(), 2, "it is paused");
    server.advance(MINUTE).await;
    assert_eq!(
        (probe.runs(), server.state(&task).await.breaker()),
        (3, Breaker::HalfOpen),
        "the probe failed"
    );
    server.advance(9 * MINUTE).await;
    assert_eq!(probe.runs(), 3);
    server.advance(2 * MINUTE).await;
    assert_eq!(server.state(&task).await.breaker(), Breaker::Closed);
    assert_eq!(server.state(&task).await.consecutive_failures, 0);
    let accounted: u64 = server.history(&task).await.iter().map(|execution| execution.occurrences).sum();
    assert_eq!(accounted, 23, "{:?}", server.ledger(&task).await);
    server.end().await;
}

async fn a_run_past_its_timeout_has_failed(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = with(task("task", every(HOUR)), |policy| policy.timeout = MINUTE);
    let probe = server.add(&task, &[Does::Wait]).await;
    server.advance(MINUTE - SECOND).await;
    assert_eq!(server.ledger(&task).await, ["00:00:00 open"]);
    server.advance(MINUTE).await;
    assert_eq!(
        (probe.runs(), server.ledger(&task).await),
        (2, vec!["00:00:00 succeeded, 2 attempts".into()])
    );
    let execution = server.history(&task).await.remove(0);
    let earlier = server.database.earlier_attempts(execution.id).await.expect("attempts");
    assert_eq!(earlier[0].error_message.as_deref(), Some("timed out after 60 s"));
    server.end().await;
}

async fn a_panic_is_a_failed_attempt(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = with(task("task", every(HOUR)), |policy| policy.max_attempts = NonZeroU32::MIN);
    let probe = server.add(&task, &[Does::Panic]).await;
    let execution = server.history(&task).await.remove(0);
    assert_eq!(execution.outcome.as_deref(), Some("failed"));
    assert_eq!(execution.error_message.as_deref(), Some("panicked: it panicked as it was told"));
    server.advance(HOUR).await;
    assert_eq!(probe.runs(), 2, "the task goes on");
    server.end().await;
}

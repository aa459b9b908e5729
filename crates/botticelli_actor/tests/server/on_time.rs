//! Work starts at its time, and nobody waits for anybody else.

use crate::support::*;
use botticelli_actor::engine::EngineSettings;
use botticelli_testkit::databases::TestStore;
use std::num::NonZeroUsize;
use std::time::Duration;

crate::promises! {
    due_work_starts_at_its_time_and_not_at_the_next_poll,
    a_task_goes_on_from_one_occurrence_to_the_next,
    a_slow_actor_delays_nobody_else,
    no_more_actors_run_at_a_time_than_there_are_slots,
}

async fn due_work_starts_at_its_time_and_not_at_the_next_poll(database: TestStore) {
    let server = TestServer::start(database).await;
    let at = server.now() + Duration::from_millis(12_345);
    let task = task("once", once(at));
    let probe = server.add(&task, &[]).await;
    server.advance(Duration::from_millis(12_344)).await;
    assert_eq!(probe.runs(), 0);
    server.advance(HOUR).await;
    assert_eq!(probe.starts().iter().map(|start| start.at).collect::<Vec<_>>(), [at]);
    assert_eq!(server.ledger(&task).await, ["00:00:12 succeeded"]);
    server.end().await;
}

/// Beyond what the timer held at first, too.
async fn a_task_goes_on_from_one_occurrence_to_the_next(database: TestStore) {
    let server = TestServer::start(database).await;
    let (minutely, hourly) = (task("minutely", every(MINUTE)), task("hourly", every(HOUR)));
    let (often, seldom) = (server.add(&minutely, &[]).await, server.add(&hourly, &[]).await);
    server.advance(2 * HOUR).await;
    assert_eq!((often.runs(), seldom.runs()), (121, 3));
    for start in often.starts().iter().chain(&seldom.starts()) {
        assert_eq!(start.at, start.scheduled_for);
    }
    server.end().await;
}

async fn a_slow_actor_delays_nobody_else(database: TestStore) {
    let server = TestServer::start(database).await;
    let slow = with(task("slow", every(MINUTE)), |policy| policy.timeout = HOUR);
    let slow_probe = server.add(&slow, &[Does::Wait]).await;
    let quick_probe = server.add(&task("quick", every(MINUTE)), &[]).await;
    server.advance(5 * MINUTE).await;
    assert_eq!((slow_probe.runs(), quick_probe.runs()), (1, 6));
    slow_probe.release().await;
    server.rest().await;
    assert_eq!(server.ledger(&slow).await, ["00:00:00 succeeded", "00:01:00 to 00:05:00 skipped 5: overlap"]);
    server.end().await;
}

async fn no_more_actors_run_at_a_time_than_there_are_slots(database: TestStore) {
    let slots = NonZeroUsize::new(2).expect("not zero");
    let settings = EngineSettings { max_concurrent_executions: slots, ..settings() };
    let server = TestServer::start_with(database, settings).await;
    let at = server.now() + MINUTE;
    let mut probes = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        probes.push(server.add(&task(name, once(at)), &[Does::Wait]).await);
    }
    server.advance(MINUTE).await;
    for at_a_time in [2, 2, 1] {
        let (started, waiting) = probes.into_iter().partition::<Vec<_>, _>(|probe| probe.runs() == 1);
        assert_eq!(started.len(), at_a_time);
        for probe in started {
            probe.release().await;
        }
        server.rest().await;
        probes = waiting;
    }
    server.end().await;
}

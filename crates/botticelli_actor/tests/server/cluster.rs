//! Several nodes on one database, of which some are slow, wrong, or gone; and a database that goes away.

use crate::support::*;
use async_trait::async_trait;
use botticelli_actor::engine::EngineSettings;
use botticelli_server::clock::Clock;
use botticelli_testkit::clock::ManualClock;
use botticelli_testkit::databases::TestStore;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeSet;
use std::sync::Arc;

crate::promises! {
    postgres only:
    two_nodes_share_the_work_and_do_nothing_twice,
    the_work_of_a_node_that_dies_is_done_by_another,
    a_node_that_was_taken_for_dead_is_refused_its_results_and_goes_on_under_another_name,
    what_a_node_claims_after_it_was_taken_for_dead_is_not_lost,
    a_node_whose_clock_is_wrong_starts_work_at_the_databases_time,
    a_node_whose_clock_is_set_back_goes_on_at_the_databases_time,
    what_ends_while_the_database_is_away_is_recorded_when_it_is_back,
    a_stop_while_the_database_is_away_comes_to_an_end,
}

/// One that others notice soon when it is silent, and that notices others.
fn alert() -> EngineSettings {
    EngineSettings { heartbeat: 10 * SECOND, lease: MINUTE, ..settings() }
}

/// One that is taken for dead a minute after each of its heartbeats.
fn drowsy() -> EngineSettings {
    EngineSettings { heartbeat: 10 * MINUTE, lease: MINUTE, ..settings() }
}

async fn two_nodes_share_the_work_and_do_nothing_twice(database: TestStore) {
    let mut server = TestServer::without_nodes(database);
    server.start_node("one", settings()).await;
    server.start_node("two", settings()).await;
    let mut tasks = Vec::new();
    for number in 0..40 {
        let task = task(&format!("task {number}"), every(10 * SECOND));
        server.register(task.actor_name.clone(), Probe::new(&[]));
        tasks.push(task);
    }
    server.hold(&tasks).await;
    server.advance(2 * MINUTE).await;
    let mut nodes = BTreeSet::new();
    for task in &tasks {
        let history = server.history(task).await;
        assert_eq!(history.len(), 13, "{:?}", server.ledger(task).await);
        let times: BTreeSet<_> = history.iter().map(|execution| execution.scheduled_for).collect();
        assert_eq!(times.len(), 13);
        assert!(history.iter().all(|execution| execution.success == Some(true)));
        nodes.extend(history.into_iter().filter_map(|execution| execution.node));
    }
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), ["one", "two"]);
    server.end().await;
}

async fn the_work_of_a_node_that_dies_is_done_by_another(database: TestStore) {
    let mut server = TestServer::without_nodes(database);
    server.start_node("one", alert()).await;
    let task = task("task", every(HOUR));
    let probe = server.add(&task, &[Does::WaitAndPost("first"), Does::Post("second")]).await;
    server.kill(0).await;
    server.start_node("two", alert()).await;
    server.hold(std::slice::from_ref(&task)).await;
    server.advance(30 * SECOND).await;
    assert_eq!(probe.runs(), 1, "it may live");
    server.advance(MINUTE).await;
    assert_eq!(server.ledger(&task).await, ["00:00:00 succeeded, 2 attempts"]);
    assert_eq!(server.posted(), ["second"]);
    assert_eq!(server.state(&task).await.consecutive_failures, 0);
    server.end().await;
}

async fn a_node_that_was_taken_for_dead_is_refused_its_results_and_goes_on_under_another_name(
    database: TestStore,
) {
    let mut server = TestServer::without_nodes(database);
    server.start_node("drowsy", drowsy()).await;
    server.start_node("alert", alert()).await;
    let slow = with(task("slow", every(HOUR)), |policy| policy.timeout = HOUR);
    let probe = Probe::new(&[Does::WaitAndPost("first"), Does::Post("second")]);
    server.register(slow.actor_name.clone(), probe.clone());
    server.hold_on(0, std::slice::from_ref(&slow)).await;
    assert_eq!(probe.runs(), 1);
    server.nodes[1].engine.hold(vec![slow.clone()]);
    server.advance(5 * MINUTE).await;
    assert_eq!(server.ledger(&slow).await, ["00:00:00 succeeded, 2 attempts"]);
    server.advance(10 * MINUTE).await;
    probe.release();
    server.rest().await;
    assert_eq!(server.ledger(&slow).await, ["00:00:00 succeeded, 2 attempts"]);
    assert_eq!(server.posted(), ["second"]);
    // Right after its heartbeat it is believed again.
    server.jump(server.now() + 5 * MINUTE).await;
    let later = task("later", once(server.now()));
    server.register(later.actor_name.clone(), Probe::new(&[]));
    server.hold_on(0, std::slice::from_ref(&later)).await;
    server.advance(MINUTE).await;
    let nodes: Vec<_> = server.history(&later).await.into_iter().filter_map(|later| later.node).collect();
    assert!(nodes.len() == 1 && nodes[0].starts_with("drowsy+"), "{nodes:?}");
    server.end().await;
}

async fn what_a_node_claims_after_it_was_taken_for_dead_is_not_lost(database: TestStore) {
    let mut server = TestServer::without_nodes(database);
    server.start_node("drowsy", drowsy()).await;
    server.start_node("alert", alert()).await;
    let task = with(task("task", once(server.now() + 9 * MINUTE)), |policy| policy.timeout = HOUR);
    let probe = Probe::new(&[Does::WaitAndPost("first"), Does::Post("second")]);
    server.register(task.actor_name.clone(), probe.clone());
    server.hold_on(0, std::slice::from_ref(&task)).await;
    server.advance(9 * MINUTE).await;
    assert_eq!(probe.runs(), 1);
    server.advance(3 * MINUTE).await;
    probe.release();
    server.advance(2 * MINUTE).await;
    assert_eq!(server.ledger(&task).await, ["00:09:00 succeeded, 2 attempts"]);
    assert_eq!(server.posted(), ["second"]);
    server.end().await;
}

/// A clock that is off, by an amount that can be changed.
#[derive(Debug)]
struct Wrong {
    right: Arc<ManualClock>,
    by: std::sync::Mutex<TimeDelta>,
}

impl Wrong {
    fn by(&self) -> TimeDelta {
        *self.by.lock().expect("not poisoned")
    }
}

#[async_trait]
impl Clock for Wrong {
    fn now(&self) -> DateTime<Utc> {
        self.right.now() + self.by()
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        self.right.sleep_until(at - self.by()).await;
    }
}

async fn a_node_whose_clock_is_wrong_starts_work_at_the_databases_time(database: TestStore) {
    for by in [TimeDelta::hours(1), TimeDelta::hours(-1)] {
        let database = match database.is_postgres() {
            true => TestStore::postgres().await.expect("it is there"),
            false => unreachable!("this is about PostgreSQL"),
        };
        let mut server = TestServer::without_nodes(database);
        let clock = Arc::new(Wrong { right: server.database.clock(), by: by.into() });
        server.start_node_by(clock, "wrong", settings()).await;
        let task = task("task", once(server.now() + 10 * MINUTE));
        let probe = server.add(&task, &[]).await;
        server.advance(10 * MINUTE - SECOND).await;
        assert_eq!(probe.runs(), 0);
        server.advance(SECOND).await;
        assert_eq!(probe.runs(), 1);
        let history = server.history(&task).await;
        assert_eq!(history[0].started_at, history[0].scheduled_for);
        server.end().await;
    }
}

async fn a_node_whose_clock_is_set_back_goes_on_at_the_databases_time(database: TestStore) {
    let mut server = TestServer::without_nodes(database);
    let clock = Arc::new(Wrong { right: server.database.clock(), by: TimeDelta::zero().into() });
    server.start_node_by(clock.clone(), "node", alert()).await;
    let task = task("task", every(MINUTE));
    let probe = server.add(&task, &[]).await;
    server.advance(90 * SECOND).await;
    *clock.by.lock().expect("not poisoned") = TimeDelta::hours(-1);
    server.database.set(server.now() + 10 * SECOND).await;
    server.until("the next heartbeat puts the clock right", |server| server.is_right(0)).await;
    server.advance(80 * SECOND).await;
    assert_eq!(probe.runs(), 4);
    for execution in server.history(&task).await {
        assert_eq!(execution.started_at, execution.scheduled_for);
    }
    server.end().await;
}

async fn what_ends_while_the_database_is_away_is_recorded_when_it_is_back(database: TestStore) {
    let server = TestServer::start(database).await;
    let task = with(task("task", every(MINUTE)), |policy| policy.timeout = HOUR);
    let probe = server.add(&task, &[Does::WaitAndPost("kept")]).await;
    server.advance(30 * SECOND).await;
    server.database.cut_off().await;
    probe.release();
    server.until("the result waits", |server| server.activity(0).recording == 1).await;
    server.look_over();
    server.until("the database is missed", |server| !server.activity(0).reachable).await;
    server.database.let_in().await;
    server.recovered().await;
    server.advance(MINUTE).await;
    assert_eq!(server.ledger(&task).await, ["00:00:00 succeeded", "00:01:00 succeeded"]);
    assert_eq!(server.posted(), ["kept"]);
    server.end().await;
}

async fn a_stop_while_the_database_is_away_comes_to_an_end(database: TestStore) {
    let mut server = TestServer::start(database).await;
    let task = with(task("task", every(MINUTE)), |policy| policy.timeout = HOUR);
    let probe = server.add(&task, &[Does::Wait, Does::Succeed]).await;
    server.database.cut_off().await;
    probe.release();
    server.until("the result waits", |server| server.activity(0).recording == 1).await;
    server.stop(0).await;
    server.database.let_in().await;
    // Not even that the node has gone could be said: another one finds out.
    let database = server.database.another().await;
    let open = database.history(&task.id, 10).await;
    assert!(open.is_ok(), "{open:?}");
    server.end().await;
}

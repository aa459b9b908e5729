//! How many executions that do nothing go through the engine, each with its full history.

use crate::harness::{Database, Noop, open, register, serve, task};
use botticelli_actor::clock::SystemClock;
use botticelli_server::clock::Clock as _;
use botticelli_server::schedule::{OnceSchedule, ScheduleType};
use chrono::TimeDelta;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

const EXECUTIONS: usize = 100_000;

/// Overdue tasks, each once; the clock runs from the start of the engine until the last result is stored.
pub(crate) async fn runs_per_second(database: &Database) -> Vec<(&'static str, f64)> {
    let fresh = database.fresh().await;
    let store = open(&fresh).await;
    let overdue = ScheduleType::Once(OnceSchedule::new(SystemClock.now() - TimeDelta::hours(1)));
    let tasks: Vec<_> = (0..EXECUTIONS).map(|number| task(number, overdue.clone())).collect();
    register(&store, tasks.clone()).await;
    let actor = Arc::new(Noop::default());
    actor.until.store(EXECUTIONS, Ordering::Relaxed);
    let started = Instant::now();
    let serving = serve(&store, tasks, actor.clone()).await;
    actor.done.notified().await;
    serving.stop().await;
    let elapsed = started.elapsed().as_secs_f64();
    let recorded = store.executions().await.expect("a count");
    assert_eq!(recorded, EXECUTIONS, "every execution is in the history");
    drop(store);
    fresh.end().await;
    vec![("rate", EXECUTIONS as f64 / elapsed)]
}

//! The floor: the rows of an execution written by plain SQL, with nothing around it: the task advanced and the execution
//! opened in one transaction, closed and entered into the history in a second one.

use crate::harness::{Database, Fresh, open, postgres, register, task};
use botticelli_actor::clock::SystemClock;
use botticelli_server::clock::Clock as _;
use botticelli_server::schedule::{IntervalSchedule, ScheduleType};
use std::time::Instant;

const EXECUTIONS: i64 = 100_000;
/// One by one takes long: a part of them shows the rate.
const ONE_BY_ONE: i64 = 4_000;

pub(crate) async fn runs_per_second(database: &Database, batch: i64) -> Vec<(&'static str, f64)> {
    let fresh = database.fresh().await;
    let store = open(&fresh).await;
    let every_minute = || ScheduleType::Interval(IntervalSchedule::new(60).expect("a minute"));
    let tasks = (0..usize::try_from(EXECUTIONS).expect("small")).map(|number| task(number, every_minute()));
    register(&store, tasks.collect()).await;
    drop(store);
    let executions = if batch == 1 { ONE_BY_ONE } else { EXECUTIONS };
    let started = Instant::now();
    match database {
        Database::Sqlite => sqlite(&fresh, executions, batch),
        Database::Postgres { .. } => in_postgres(&fresh, executions, batch).await,
    }
    let elapsed = started.elapsed().as_secs_f64();
    fresh.end().await;
    vec![("rate", executions as f64 / elapsed)]
}

async fn in_postgres(fresh: &Fresh, executions: i64, batch: i64) {
    let mut client = postgres(&fresh.url).await;
    let now = SystemClock.now().to_rfc3339();
    let prepare = async |sql: &str| client.prepare(&sql.replace("NOW", &now)).await.expect(sql);
    let advance = prepare(
        "UPDATE actor_server_state SET next_run = next_run + interval '1 minute', \
         wake_at = wake_at + interval '1 minute' WHERE task_id = ANY($1)",
    )
    .await;
    let open = prepare(
        "INSERT INTO actor_server_open_executions (id, task_id, actor_name, trigger, scheduled_for, due_at, node, \
         fence, attempt, opened_at) SELECT id, task, 'noop', 'schedule', 'NOW', 'NOW', 'node', id, 1, 'NOW' \
         FROM unnest($1::bigint[], $2::text[]) AS r(id, task)",
    )
    .await;
    let close = prepare("DELETE FROM actor_server_open_executions WHERE id = ANY($1)").await;
    let enter = prepare(
        "INSERT INTO actor_server_executions (id, task_id, actor_name, trigger, scheduled_for, started_at, \
         completed_at, outcome, success, attempt, node, fence, metadata) SELECT id, task, 'noop', 'schedule', 'NOW', \
         'NOW', 'NOW', 'succeeded', true, 1, 'node', id, '{}' FROM unnest($1::bigint[], $2::text[]) AS r(id, task)",
    )
    .await;
    let settle = prepare("UPDATE actor_server_state SET last_run = 'NOW' WHERE task_id = ANY($1)").await;
    for first in (0..executions).step_by(usize::try_from(batch).expect("small")) {
        let ids: Vec<i64> = (first..(first + batch).min(executions)).collect();
        let tasks: Vec<String> = ids.iter().map(|id| format!("task-{id:06}")).collect();
        let claim = client.transaction().await.expect("a transaction");
        claim.execute(&advance, &[&tasks]).await.expect("advanced");
        claim.execute(&open, &[&ids, &tasks]).await.expect("opened");
        claim.commit().await.expect("committed");
        let record = client.transaction().await.expect("a transaction");
        record.execute(&close, &[&ids]).await.expect("closed");
        record.execute(&enter, &[&ids, &tasks]).await.expect("entered");
        record.execute(&settle, &[&tasks]).await.expect("settled");
        record.commit().await.expect("committed");
    }
}

fn sqlite(fresh: &Fresh, executions: i64, batch: i64) {
    let path = fresh.url.strip_prefix("sqlite://").expect("a path");
    let mut connection = rusqlite::Connection::open(path).expect("a database");
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16000;")
        .expect("settings");
    let now = SystemClock.now().format("%F %T%.f%:z").to_string();
    for first in (0..executions).step_by(usize::try_from(batch).expect("small")) {
        let ids = first..(first + batch).min(executions);
        let claim = connection.transaction().expect("a transaction");
        {
            let mut advance = claim
                .prepare_cached(
                    "UPDATE actor_server_state SET next_run = ?2, wake_at = ?2 WHERE task_id = ?1",
                )
                .expect("advance");
            let mut open = claim
                .prepare_cached(
                    "INSERT INTO actor_server_open_executions (id, task_id, actor_name, trigger, scheduled_for, \
                     due_at, node, fence, attempt, opened_at) \
                     VALUES (?1, ?2, 'noop', 'schedule', ?3, ?3, 'node', ?1, 1, ?3)",
                )
                .expect("open");
            for id in ids.clone() {
                let task = format!("task-{id:06}");
                advance.execute((&task, &now)).expect("advanced");
                open.execute((id, &task, &now)).expect("opened");
            }
        }
        claim.commit().expect("committed");
        let record = connection.transaction().expect("a transaction");
        {
            let mut close = record
                .prepare_cached("DELETE FROM actor_server_open_executions WHERE id = ?1")
                .expect("close");
            let mut enter = record
                .prepare_cached(
                    "INSERT INTO actor_server_executions (id, task_id, actor_name, trigger, scheduled_for, \
                     started_at, completed_at, outcome, success, attempt, node, fence, metadata) \
                     VALUES (?1, ?2, 'noop', 'schedule', ?3, ?3, ?3, 'succeeded', 1, 1, 'node', ?1, '{}')",
                )
                .expect("enter");
            let mut settle = record
                .prepare_cached("UPDATE actor_server_state SET last_run = ?2 WHERE task_id = ?1")
                .expect("settle");
            for id in ids {
                let task = format!("task-{id:06}");
                close.execute([id]).expect("closed");
                enter.execute((id, &task, &now)).expect("entered");
                settle.execute((&task, &now)).expect("settled");
            }
        }
        record.commit().expect("committed");
    }
}

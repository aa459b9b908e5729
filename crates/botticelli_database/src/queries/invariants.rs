//! What the server asks about itself: how many tasks there are in which state, and whether all is as it has to be.

use super::rows::{actor_name, json, task_id};
use super::*;
use crate::invariants::{CensusView, HeldTasks, InvariantsView, Progress, Standing};
use botticelli_server::ids::{DefinitionHash, ExecutionId, PostId, TaskId};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use serde_json::Value;
use std::sync::Arc;

#[derive(QueryableByName)]
struct TaskRow {
    #[diesel(sql_type = Text)]
    task_id: String,
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// Only indexes are read, however many tasks there are, but for those that are paused.
pub(crate) async fn census(conn: &mut Connection) -> Work<CensusView> {
    #[derive(QueryableByName)]
    struct Held {
        #[diesel(sql_type = Text)]
        actor_name: String,
        #[diesel(sql_type = Bool)]
        by_breaker: bool,
        #[diesel(sql_type = BigInt)]
        probing: i64,
        #[diesel(sql_type = BigInt)]
        tasks: i64,
    }
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    // What has a next time has a time to wake.
    let sql = "SELECT count(*) AS count FROM actor_server_state WHERE NOT is_paused AND wake_at IS NOT NULL";
    let scheduled: Count = sql_query(sql).get_result(conn).await?;
    let sql = "SELECT s.actor_name, COALESCE(s.pause_reason, '') = 'breaker' AS by_breaker, count(*) AS tasks, \
             count((SELECT min(o.id) FROM actor_server_open_executions AS o \
                 WHERE o.task_id = s.task_id AND o.trigger = 'probe')) AS probing \
         FROM actor_server_state AS s WHERE s.is_paused AND COALESCE(s.pause_reason, '') <> 'definition' \
         GROUP BY 1, 2 ORDER BY 1, 2";
    let held: Vec<Held> = sql_query(sql).load(conn).await?;
    let held = held.into_iter().map(|row| {
        Ok(HeldTasks {
            actor: actor_name(row.actor_name)?,
            by_breaker: row.by_breaker,
            tasks: row.tasks.unsigned_abs(),
            probing: row.probing.unsigned_abs(),
        })
    });
    Ok(CensusView { scheduled_tasks: scheduled.count.unsigned_abs(), held: held.collect::<Work<_>>()? })
}

pub(crate) async fn invariants(conn: &mut Connection, grace: i64, most: i64) -> Work<InvariantsView> {
    Ok(InvariantsView {
        overdue_tasks: overdue(conn, grace, most).await?,
        orphaned_executions: orphaned(conn, grace, most).await?,
        stuck_posts: stuck(conn, grace, most).await?,
    })
}

/// A task that has an execution open is looked at when that is over.
async fn overdue(conn: &mut Connection, grace: i64, most: i64) -> Work<Vec<TaskId>> {
    let idle = "NOT EXISTS (SELECT 1 FROM actor_server_open_executions AS o WHERE o.task_id = s.task_id)";
    let due = "NOT s.is_paused AND s.wake_at < actor_server_now_plus($1)";
    let probes = "s.is_paused AND s.pause_reason = 'breaker' AND s.probe_at < actor_server_now_plus($1)";
    let mut overdue = Vec::new();
    for (which, order) in [(due, "wake_at"), (probes, "probe_at")] {
        let sql = format!(
            "SELECT s.task_id FROM actor_server_state AS s WHERE {which} AND {idle} ORDER BY s.{order} LIMIT $2"
        );
        let rows: Vec<TaskRow> =
            sql_query(sql).bind::<BigInt, _>(-grace).bind::<BigInt, _>(most).load(conn).await?;
        for row in rows {
            overdue.push(task_id(row.task_id)?);
        }
    }
    Ok(overdue)
}

/// Of the open executions, which are few: those of a node that is gone, and those that could start and do not. One that
/// waits for another one of its task has time: the task's row was written when that one ended.
async fn orphaned(conn: &mut Connection, grace: i64, most: i64) -> Work<Vec<ExecutionId>> {
    let sql = "SELECT o.id FROM actor_server_open_executions AS o \
             LEFT JOIN actor_server_nodes AS n ON n.node = o.node \
             LEFT JOIN actor_server_state AS s ON s.task_id = o.task_id \
         WHERE (o.node IS NOT NULL AND (n.node IS NULL OR n.lease_until < actor_server_now_plus($1) \
                 OR n.left_at < actor_server_now_plus($1))) \
             OR (o.node IS NULL AND o.ready_at < actor_server_now_plus($1) AND NOT s.is_paused \
                 AND s.updated_at < actor_server_now_plus($1) AND NOT EXISTS ( \
                     SELECT 1 FROM actor_server_open_executions AS r \
                     WHERE r.task_id = o.task_id AND r.node IS NOT NULL)) \
         ORDER BY o.id LIMIT $2";
    let rows: Vec<IdRow> =
        sql_query(sql).bind::<BigInt, _>(-grace).bind::<BigInt, _>(most).load(conn).await?;
    Ok(rows.into_iter().map(|row| ExecutionId(row.id)).collect())
}

async fn stuck(conn: &mut Connection, grace: i64, most: i64) -> Work<Vec<PostId>> {
    let sql = "SELECT p.id FROM actor_server_posts AS p \
         WHERE p.state = 'sending' AND p.lease_until < actor_server_now_plus($1) ORDER BY p.lease_until LIMIT $2";
    let rows: Vec<IdRow> =
        sql_query(sql).bind::<BigInt, _>(-grace).bind::<BigInt, _>(most).load(conn).await?;
    Ok(rows.into_iter().map(|row| PostId(row.id)).collect())
}

/// Tasks after `after`, by name, of those that go their way along their schedule.
pub(crate) async fn standings(conn: &mut Connection, after: String, limit: i64) -> Work<Vec<Standing>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        task_id: String,
        #[diesel(sql_type = Text)]
        definition: String,
        #[diesel(sql_type = Instant)]
        next_run: DateTime<Utc>,
    }
    let sql = "SELECT s.task_id, s.definition, s.next_run FROM actor_server_state AS s \
         WHERE s.task_id > $1 AND NOT s.is_paused AND s.pause_reason IS NULL AND s.next_run IS NOT NULL \
         ORDER BY s.task_id LIMIT $2";
    let rows: Vec<Row> = sql_query(sql).bind::<Text, _>(after).bind::<BigInt, _>(limit).load(conn).await?;
    rows.into_iter()
        .map(|row| {
            let definition = DefinitionHash::new(row.definition);
            Ok(Standing {
                task_id: task_id(row.task_id)?,
                definition: definition.map_err(|error| WorkError::corrupt("definition", error))?,
                next_run: row.next_run,
            })
        })
        .collect()
}

batch_row! {
    struct Since<'a> {
        task_id: &'a str,
        definition: &'a str,
        since: DateTime<Utc>,
    }
}

/// How far these tasks have come since, and how many occurrences the ledger has of that: one statement, so that it is
/// one moment that is looked at. What has another definition by now, or is paused, is left out.
pub(crate) async fn progress(conn: &mut Connection, before: Arc<[Standing]>) -> Work<Vec<Progress>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        task_id: String,
        #[diesel(sql_type = Json)]
        schedule: Value,
        #[diesel(sql_type = Nullable<Instant>)]
        next_run: Option<DateTime<Utc>>,
        #[diesel(sql_type = BigInt)]
        accounted: i64,
    }
    let since: Vec<Since<'_>> = before
        .iter()
        .map(|task| Since {
            task_id: task.task_id.as_str(),
            definition: task.definition.as_str(),
            since: task.next_run,
        })
        .collect();
    let passed = "task_id = s.task_id AND scheduled_for >= r.since AND (s.next_run IS NULL OR scheduled_for < s.next_run)";
    let sql = format!(
        "SELECT s.task_id, s.schedule, s.next_run, CAST( \
             (SELECT COALESCE(sum(occurrences), 0) FROM actor_server_executions WHERE {passed}) + \
             (SELECT count(*) FROM actor_server_open_executions WHERE {passed}) AS bigint) AS accounted \
         FROM {{r}} JOIN actor_server_state AS s ON s.task_id = r.task_id AND s.definition = r.definition \
         WHERE NOT s.is_paused AND s.pause_reason IS NULL AND (s.next_run IS NULL OR s.next_run > r.since)"
    );
    let rows: Vec<Row> = sql_query(sql).rows(&since)?.load(conn).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Progress {
                task_id: task_id(row.task_id)?,
                schedule: json("schedule", row.schedule)?,
                next_run: row.next_run,
                accounted: row.accounted.unsigned_abs(),
            })
        })
        .collect()
}

//! What people do: pause, resume, trigger.

use super::access::write_down;
use super::agenda::{lock_state, lock_states, withdraw};
use super::claim::{NewOpenExecution, insert_open};
use super::ends::Followers;
use super::rows::{LockedState, NewActorServerExecution, OpenExecutionRow, insert_executions, task_id};
use super::*;
use crate::access::NewAudit;
use crate::store::{Cancelled, Published, RequestKey, Resumed};
use botticelli_server::ids::{ExecutionId, NodeId, TaskId};
use botticelli_server::server::Event;
use botticelli_server::task::PauseReason;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde_json::Value;

/// Pauses a task; claims whose time has not come are taken back. Says whether there is such a task.
pub(crate) async fn pause(conn: &mut Connection, task: TaskId, audit: Option<NewAudit>) -> Work<bool> {
    let Some(state) = lock_state(conn, &task).await? else { return Ok(false) };
    stop(conn, &state, PauseReason::Operator).await?;
    let note = audit.as_ref().and_then(|audit| audit.by.note.clone());
    sql_query("UPDATE actor_server_state SET pause_note = $1 WHERE task_id = $2")
        .bind::<Nullable<Text>, _>(note)
        .bind::<Text, _>(task.as_str())
        .execute(conn)
        .await?;
    write_down(conn, audit).await?;
    Ok(true)
}

/// The same for a task that is gone from the configuration. A person's pause stays a person's.
pub(crate) async fn retire(conn: &mut Connection, task: TaskId) -> Work<bool> {
    match lock_state(conn, &task).await? {
        Some(state) if !state.is_paused => stop(conn, &state, PauseReason::Definition).await.map(|()| true),
        Some(_) | None => Ok(false),
    }
}

pub(super) async fn stop(conn: &mut Connection, state: &LockedState, reason: PauseReason) -> Work<()> {
    withdraw(conn, state, true).await?;
    let sql = "UPDATE actor_server_state SET is_paused = $1, pause_reason = $2, probe_at = NULL, \
         updated_at = actor_server_now() WHERE task_id = $3";
    sql_query(sql)
        .bind::<diesel::sql_types::Bool, _>(true)
        .bind::<Text, _>(reason.as_str())
        .bind::<Text, _>(&state.task_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Resumes a task and forgets its failures. If it missed something, `pause_reason` stays until a server looks at the
/// task: it tells that what was missed was missed on purpose.
pub(crate) async fn resume(conn: &mut Connection, task: TaskId, audit: Option<NewAudit>) -> Work<Resumed> {
    let Some(row) = lock_state(conn, &task).await? else { return Ok(Resumed::UnknownTask) };
    if row.is_paused && row.pause_reason.as_deref() == Some("definition") {
        return Ok(Resumed::NotInConfiguration);
    }
    if !row.is_paused {
        return Ok(Resumed::WasNotPaused);
    }
    let sql = "UPDATE actor_server_state SET is_paused = $1, consecutive_failures = 0, probe_at = NULL, \
         pause_note = NULL, pause_reason = CASE WHEN next_run <= actor_server_now() THEN COALESCE(pause_reason, 'operator') END, \
         updated_at = actor_server_now() WHERE task_id = $2";
    sql_query(sql)
        .bind::<diesel::sql_types::Bool, _>(false)
        .bind::<Text, _>(task.as_str())
        .execute(conn)
        .await?;
    write_down(conn, audit).await?;
    Ok(Resumed::Resumed)
}

/// Stores an event as an execution that waits for a node. One that comes again with its key is stored once.
pub(crate) async fn publish(
    conn: &mut Connection,
    event: Event,
    key: Option<RequestKey>,
    audit: Option<NewAudit>,
) -> Work<Published> {
    // Whoever else brings the same key waits here.
    let Some(row) = lock_state(conn, &event.task).await? else { return Ok(Published::UnknownTask) };
    if let Some(key) = &key
        && let Some(known) = known_request(conn, &event.task, key).await?
    {
        return Ok(known);
    }
    let now = super::now(conn).await?;
    let id = batch::take_number(conn).await?;
    let parameters = if event.parameters.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        event.parameters.clone()
    };
    let open = NewOpenExecution {
        id,
        task_id: event.task.as_str(),
        actor_name: &row.actor_name,
        trigger: event.trigger.as_str(),
        scheduled_for: None,
        due_at: now,
        node: None,
        fence: None,
        attempt: 0,
        ready_at: Some(now),
        parameters,
        opened_at: now,
    };
    insert_open(conn, &[open]).await?;
    if let Some(key) = key {
        remember_request(conn, &event.task, key, id, now).await?;
    }
    let told = |audit: NewAudit| NewAudit { detail: serde_json::json!({ "execution": id }), ..audit };
    write_down(conn, audit.map(told)).await?;
    Ok(Published::Execution(ExecutionId(id)))
}

/// What became of the request that brought this key first.
pub(super) async fn known_request(
    conn: &mut Connection,
    task: &TaskId,
    key: &RequestKey,
) -> Work<Option<Published>> {
    #[derive(QueryableByName)]
    struct Known {
        #[diesel(sql_type = Text)]
        request: String,
        #[diesel(sql_type = BigInt)]
        execution_id: i64,
    }
    let sql = "SELECT request, execution_id FROM actor_server_request_keys WHERE task_id = $1 AND key = $2";
    let known: Vec<Known> =
        sql_query(sql).bind::<Text, _>(task.as_str()).bind::<Text, _>(&key.key).load(conn).await?;
    let same = |known: Known| {
        if known.request == key.request {
            Published::Again(ExecutionId(known.execution_id))
        } else {
            Published::OtherRequest
        }
    };
    Ok(known.into_iter().next().map(same))
}

/// From now on the request is known by its key.
pub(super) async fn remember_request(
    conn: &mut Connection,
    task: &TaskId,
    key: RequestKey,
    execution: i64,
    now: DateTime<Utc>,
) -> Work<()> {
    let sql = "INSERT INTO actor_server_request_keys (task_id, key, request, execution_id, at) \
         VALUES ($1, $2, $3, $4, $5)";
    sql_query(sql)
        .bind::<Text, _>(task.as_str())
        .bind::<Text, _>(key.key)
        .bind::<Text, _>(key.request)
        .bind::<BigInt, _>(execution)
        .bind::<Instant, _>(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets the keys of requests that came so long ago. Returns how many.
pub(crate) async fn prune_request_keys(conn: &mut Connection, age: i64) -> Work<usize> {
    let sql = "DELETE FROM actor_server_request_keys WHERE at <= actor_server_now_plus($1)";
    Ok(sql_query(sql).bind::<BigInt, _>(-age).execute(conn).await?)
}

/// Ends an execution that waits; one that a node has is marked, and that node ends it.
pub(crate) async fn cancel(
    conn: &mut Connection,
    id: ExecutionId,
    audit: Option<NewAudit>,
) -> Work<Cancelled> {
    let Some(row) = open_execution(conn, id).await? else {
        let known = super::read::execution(conn, id).await?;
        return Ok(if known.is_some() { Cancelled::AlreadyOver } else { Cancelled::UnknownExecution });
    };
    lock_state(conn, &task_id(row.task_id)?).await?;
    if open_execution(conn, id).await?.is_none() {
        return Ok(Cancelled::AlreadyOver);
    }
    let sql = "UPDATE actor_server_open_executions SET cancel_requested_at = COALESCE(cancel_requested_at, \
         actor_server_now()) WHERE id = $1";
    sql_query(sql).bind::<BigInt, _>(id.0).execute(conn).await?;
    write_down(conn, audit).await?;
    end_cancelled(conn).await?;
    let over = open_execution(conn, id).await?.is_none();
    Ok(if over { Cancelled::Done } else { Cancelled::Requested })
}

/// Ends whatever is open of a task that is locked: what waits at once, what runs by its node.
pub(super) async fn cancel_all(conn: &mut Connection, task: &TaskId) -> Work<()> {
    let sql = "UPDATE actor_server_open_executions SET cancel_requested_at = actor_server_now() \
         WHERE task_id = $1 AND cancel_requested_at IS NULL";
    sql_query(sql).bind::<Text, _>(task.as_str()).execute(conn).await?;
    end_cancelled(conn).await
}

async fn open_execution(conn: &mut Connection, id: ExecutionId) -> Work<Option<OpenExecutionRow>> {
    let sql = format!(
        "SELECT {} FROM actor_server_open_executions AS o WHERE o.id = $1",
        OpenExecutionRow::COLUMNS
    );
    Ok(sql_query(sql).bind::<BigInt, _>(id.0).load(conn).await?.into_iter().next())
}

/// Of what `node` has: what shall end. What nobody has, and shall end, ends here.
pub(crate) async fn cancelled(conn: &mut Connection, node: NodeId) -> Work<Vec<ExecutionId>> {
    #[derive(QueryableByName)]
    struct Wanted {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    end_cancelled(conn).await?;
    let sql = "SELECT id FROM actor_server_open_executions \
         WHERE node = $1 AND cancel_requested_at IS NOT NULL ORDER BY id";
    let wanted: Vec<Wanted> = sql_query(sql).bind::<Text, _>(node.as_str()).load(conn).await?;
    Ok(wanted.into_iter().map(|row| ExecutionId(row.id)).collect())
}

/// Ends what shall end and waits for a node.
pub(super) async fn end_cancelled(conn: &mut Connection) -> Work<()> {
    let sql = format!(
        "SELECT {} FROM actor_server_open_executions AS o \
         WHERE o.cancel_requested_at IS NOT NULL AND o.node IS NULL ORDER BY o.id",
        OpenExecutionRow::COLUMNS
    );
    let find = async |conn: &mut Connection| -> Work<Vec<OpenExecutionRow>> {
        Ok(sql_query(&sql).load(conn).await?)
    };
    let tasks = find(conn).await?.into_iter().map(|row| task_id(row.task_id)).collect::<Work<Vec<_>>>()?;
    if tasks.is_empty() {
        return Ok(());
    }
    let followers = Followers::of(&lock_states(conn, &tasks).await?);
    let now = super::now(conn).await?;
    let locked =
        find(conn).await?.into_iter().filter(|row| tasks.iter().any(|task| task.as_str() == row.task_id));
    let mut history = Vec::new();
    for row in locked {
        let close = "DELETE FROM actor_server_open_executions WHERE id = $1";
        sql_query(close).bind::<BigInt, _>(row.id).execute(conn).await?;
        history.push(NewActorServerExecution {
            id: row.id,
            trigger: row.trigger()?.as_str(),
            task_id: row.task_id,
            actor_name: row.actor_name,
            scheduled_for: row.scheduled_for,
            scheduled_until: None,
            occurrences: 1,
            started_at: None,
            completed_at: now,
            outcome: "cancelled",
            skip_reason: None,
            success: None,
            error_message: None,
            attempt: row.attempt.unsigned_abs(),
            node: None,
            fence: None,
            skills_succeeded: 0,
            skills_failed: 0,
            skills_skipped: 0,
            metadata: Value::Object(serde_json::Map::new()),
        });
    }
    insert_executions(conn, &history).await?;
    followers.note(conn, &history).await
}

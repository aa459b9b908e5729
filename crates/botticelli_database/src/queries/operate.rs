//! What people do: pause, resume, trigger.

use super::access::write_down;
use super::agenda::{lock_state, withdraw};
use super::claim::{NewOpenExecution, insert_open};
use super::rows::LockedState;
use super::*;
use crate::access::NewAudit;
use crate::store::Resumed;
use botticelli_server::ids::{ExecutionId, TaskId};
use botticelli_server::server::{Accepted, Event};
use botticelli_server::task::PauseReason;
use diesel::sql_types::{Nullable, Text};
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

async fn stop(conn: &mut Connection, state: &LockedState, reason: PauseReason) -> Work<()> {
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

/// Stores an event as an execution that waits for a node.
pub(crate) async fn publish(conn: &mut Connection, event: Event) -> Work<Accepted> {
    let Some(row) = lock_state(conn, &event.task).await? else { return Ok(Accepted::UnknownTask) };
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
    Ok(Accepted::Execution(ExecutionId(id)))
}

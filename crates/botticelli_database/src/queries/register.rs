//! Taking up a configuration.

use super::rows::ActorServerStateRow;
use super::*;
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::{Registered, Registration};
use botticelli_server::register::register as registered_state;
use botticelli_server::task::{PauseReason, Task, TaskState};
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// So many rows travel in one statement.
const CHUNK: usize = 2000;

pub(crate) async fn register(conn: &mut Connection, registration: Arc<Registration>) -> Work<Registered> {
    // Two nodes that start at once: the second sees what the first has registered, and that may have run by then.
    if let Some(serialize) = dialect::SERIALIZE_REGISTRATIONS {
        sql_query(serialize).execute(conn).await?;
    }
    let sql = format!(
        "SELECT {} FROM actor_server_state AS s ORDER BY s.task_id {}",
        ActorServerStateRow::COLUMNS,
        dialect::LOCK_STATE
    );
    let rows: Vec<ActorServerStateRow> = sql_query(sql).load(conn).await?;
    let now = super::now(conn).await?;
    let mut known = HashMap::with_capacity(rows.len());
    for row in rows {
        let state = TaskState::try_from(row)?;
        known.insert(state.task_id.clone(), state);
    }
    let mut result = Registered::default();
    let mut writes = Vec::new();
    for task in &registration.tasks {
        let before = known.remove(&task.id);
        match registered_state(task, before.as_ref(), now, registration.start) {
            None => result.unchanged += 1,
            Some(state) => {
                let list = match before {
                    None => &mut result.added,
                    Some(_) => &mut result.changed,
                };
                list.push(task.id.clone());
                writes.push(RegisteredRow::new(task, &state, now));
            }
        }
    }
    for chunk in writes.chunks(CHUNK) {
        batch::insert(conn, "actor_server_state", chunk, ON_CONFLICT).await?;
    }
    if registration.complete {
        result.retired = retire(conn, known).await?;
    }
    Ok(result)
}

/// Tasks that are gone from the configuration are kept, paused by their definition. A person's pause stays a person's.
async fn retire(conn: &mut Connection, gone: HashMap<TaskId, TaskState>) -> Work<Vec<TaskId>> {
    batch_row! {
        struct Retired<'a> {
            task_id: &'a str,
            is_paused: bool,
            pause_reason: &'static str,
        }
    }
    let mut retired: Vec<TaskId> =
        gone.into_values().filter(|state| !state.is_paused).map(|state| state.task_id).collect();
    retired.sort();
    let rows: Vec<Retired<'_>> = retired
        .iter()
        .map(|task| Retired {
            task_id: task.as_str(),
            is_paused: true,
            pause_reason: PauseReason::Definition.as_str(),
        })
        .collect();
    let sql = "UPDATE actor_server_state AS s SET is_paused = r.is_paused, pause_reason = r.pause_reason, \
         updated_at = actor_server_now() FROM {r} WHERE s.task_id = r.task_id";
    batch::update(conn, sql, &rows).await?;
    Ok(retired)
}

batch_row! {
    struct RegisteredRow<'a> {
        task_id: &'a str,
        actor_name: &'a str,
        definition: &'a str,
        schedule: Value,
        next_run: Option<DateTime<Utc>>,
        wake_at: Option<DateTime<Utc>>,
        max_consecutive_failures: u32,
        cooldown_seconds: Option<u64>,
        is_paused: bool,
        pause_reason: Option<&'static str>,
        updated_at: DateTime<Utc>,
    }
}

impl<'a> RegisteredRow<'a> {
    fn new(task: &'a Task, state: &TaskState, now: DateTime<Utc>) -> Self {
        Self {
            task_id: task.id.as_str(),
            actor_name: task.actor_name.as_str(),
            definition: task.definition.as_str(),
            schedule: serde_json::json!(task.schedule),
            next_run: state.next_run,
            wake_at: state.wake_at,
            max_consecutive_failures: task.policy.max_consecutive_failures.get(),
            cooldown_seconds: task.policy.cooldown.map(|cooldown| cooldown.as_secs()),
            is_paused: state.is_paused,
            pause_reason: state.pause_reason.map(PauseReason::as_str),
            updated_at: now,
        }
    }
}

const ON_CONFLICT: &str = "ON CONFLICT (task_id) DO UPDATE SET actor_name = excluded.actor_name, \
     definition = excluded.definition, schedule = excluded.schedule, next_run = excluded.next_run, \
     wake_at = excluded.wake_at, max_consecutive_failures = excluded.max_consecutive_failures, \
     cooldown_seconds = excluded.cooldown_seconds, is_paused = excluded.is_paused, \
     pause_reason = excluded.pause_reason, updated_at = excluded.updated_at";

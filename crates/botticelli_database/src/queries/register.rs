//! Taking up a configuration.

use super::api_tasks::{self, serialize};
use super::ends::register_followers;
use super::rows::ActorServerStateRow;
use super::*;
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::{Registered, Registration};
use botticelli_server::register::register as registered_state;
use botticelli_server::task::{PauseReason, Task, TaskState};
use chrono::{DateTime, Utc};
use diesel::sql_types::Text;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// So many rows travel in one statement: a server of many tasks does not hold all their states at once.
const CHUNK: usize = 1000;

/// Registers tasks of the file, and of those that were made over the API what is of the revision that it was made from.
pub(crate) async fn register(
    conn: &mut Connection,
    registration: Arc<Registration>,
    made: Arc<[(Task, i64)]>,
) -> Work<Registered> {
    // Two nodes that start at once: the second sees what the first has registered, and that may have run by then.
    serialize(conn).await?;
    let api = api_tasks::standing(conn).await?;
    let mut result = Registered::default();
    let taken = registration.tasks.iter().filter(|task| api.there.contains_key(task.id.as_str()));
    result.taken = taken.map(|task| task.id.clone()).collect();
    if !result.taken.is_empty() {
        return Ok(result);
    }
    api.hand_over(conn, registration.tasks.iter().map(|task| &task.id)).await?;
    let now = super::now(conn).await?;
    let made = made.iter().filter(|(task, revision)| api.there.get(task.id.as_str()) == Some(revision));
    let wanted: Vec<&Task> = registration.tasks.iter().chain(made.map(|(task, _)| task)).collect();
    let mut tasks: HashMap<&TaskId, &Task> = wanted.iter().map(|task| (&task.id, *task)).collect();
    let mut gone = Vec::new();
    let mut after = String::new();
    loop {
        let states = states_after(conn, &after).await?;
        let Some(last) = states.last() else { break };
        after = last.task_id.to_string();
        let mut changed = Vec::new();
        for state in states {
            let Some(task) = tasks.remove(&state.task_id) else {
                if !api.there.contains_key(state.task_id.as_str()) {
                    gone.push(state);
                }
                continue;
            };
            match registered_state(task, Some(&state), now, registration.start) {
                Some(state) => changed.push((task, state)),
                None => result.unchanged += 1,
            }
        }
        result.changed.extend(changed.iter().map(|(task, _)| task.id.clone()));
        write(conn, &changed, now).await?;
    }
    let new: Vec<&Task> = wanted.into_iter().filter(|task| tasks.contains_key(&task.id)).collect();
    for chunk in new.chunks(CHUNK) {
        let states: Vec<(&Task, TaskState)> = chunk
            .iter()
            .filter_map(|task| Some((*task, registered_state(task, None, now, registration.start)?)))
            .collect();
        result.added.extend(states.iter().map(|(task, _)| task.id.clone()));
        write(conn, &states, now).await?;
    }
    register_followers(conn, &registration).await?;
    if registration.complete {
        result.retired = retire(conn, gone).await?;
    }
    Ok(result)
}

/// The next states in the order of their ids, locked.
async fn states_after(conn: &mut Connection, after: &str) -> Work<Vec<TaskState>> {
    let sql = format!(
        "SELECT {} FROM actor_server_state AS s WHERE s.task_id > $1 ORDER BY s.task_id LIMIT {CHUNK} {}",
        ActorServerStateRow::COLUMNS,
        dialect::LOCK_STATE
    );
    let rows: Vec<ActorServerStateRow> = sql_query(sql).bind::<Text, _>(after.to_owned()).load(conn).await?;
    rows.into_iter().map(TaskState::try_from).collect()
}

/// Writes one task's state.
pub(super) async fn write_one(
    conn: &mut Connection,
    task: &Task,
    state: TaskState,
    now: DateTime<Utc>,
) -> Work<()> {
    write(conn, &[(task, state)], now).await
}

async fn write(conn: &mut Connection, states: &[(&Task, TaskState)], now: DateTime<Utc>) -> Work<()> {
    let rows: Vec<NewActorServerState<'_>> =
        states.iter().map(|(task, state)| NewActorServerState::new(task, state, now)).collect();
    batch::insert(conn, "actor_server_state", &rows, ON_CONFLICT).await?;
    Ok(())
}

/// Tasks that are gone from the configuration are kept, paused by their definition. A person's pause stays a person's.
async fn retire(conn: &mut Connection, gone: Vec<TaskState>) -> Work<Vec<TaskId>> {
    batch_row! {
        struct Retired<'a> {
            task_id: &'a str,
            is_paused: bool,
            pause_reason: &'static str,
        }
    }
    let retired: Vec<TaskId> =
        gone.into_iter().filter(|state| !state.is_paused).map(|state| state.task_id).collect();
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
    struct NewActorServerState<'a> {
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

impl<'a> NewActorServerState<'a> {
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

//! Ends that other tasks run after: stored with what ended, and made executions a moment later.
//!
//! In two steps, because whoever records an end holds the locks of the tasks that ended, and would wait for those that run
//! after them in whatever order they come.

use super::agenda::lock_states;
use super::events::keep;
use super::rows::{LockedState, NewActorServerExecution, json, task_id};
use super::*;
use botticelli_server::after::After;
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::Registration;
use botticelli_server::server::{Arrival, EventItem, WhenFull};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// So many ends are passed on in one transaction.
const AT_ONCE: i64 = 200;

/// A task that runs after the one in whose row this stands.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Follower {
    task_id: TaskId,
    after: After,
}

/// The tasks that run after these, by the task that they run after.
#[derive(Default)]
pub(super) struct Followers(HashMap<String, Value>);

impl Followers {
    pub(super) fn of<'a>(states: impl IntoIterator<Item = &'a LockedState>) -> Self {
        let followed = |state: &LockedState| Some((state.task_id.clone(), state.followers.clone()?));
        Self(states.into_iter().filter_map(followed).collect())
    }

    /// Stores the ends that somebody runs after, of what was written into the history just now.
    pub(super) async fn note(&self, conn: &mut Connection, history: &[NewActorServerExecution]) -> Work<()> {
        let mut ends = Vec::new();
        for row in history.iter().filter(|row| is_end(row)) {
            let Some(followers) = self.0.get(&row.task_id) else { continue };
            let event = event(row);
            for follower in json::<Vec<Follower>>("followers", followers.clone())? {
                if follower.after.wants(row.outcome, &event) {
                    ends.push(NewEnd::new(row, follower, &event));
                }
            }
        }
        // What the history did not take is no end: it had this one already.
        let insert = "INSERT INTO actor_server_ends (execution_id, task_id, arrival, ended_at) \
             SELECT r.execution_id, r.task_id, r.arrival, r.ended_at FROM {r} \
             WHERE EXISTS (SELECT 1 FROM actor_server_executions AS e WHERE e.id = r.execution_id)";
        batch::update(conn, insert, &ends).await.map(drop)
    }
}

/// Occurrences and events that were left out have not run.
fn is_end(row: &NewActorServerExecution) -> bool {
    row.attempt > 0 || row.outcome != "skipped"
}

/// What the runs after it get to know.
fn event(row: &NewActorServerExecution) -> Value {
    serde_json::json!({
        "task_id": row.task_id,
        "actor_name": row.actor_name,
        "execution_id": row.id,
        "trigger": row.trigger,
        "scheduled_for": row.scheduled_for,
        "started_at": row.started_at,
        "completed_at": row.completed_at,
        "outcome": row.outcome,
        "skip_reason": row.skip_reason,
        "error_message": row.error_message,
        "attempt": row.attempt,
        "skills_succeeded": row.skills_succeeded,
        "skills_failed": row.skills_failed,
        "skills_skipped": row.skills_skipped,
    })
}

batch_row! {
    struct NewEnd {
        execution_id: i64,
        task_id: String,
        arrival: Value,
        ended_at: DateTime<Utc>,
    }
}

impl NewEnd {
    fn new(row: &NewActorServerExecution, follower: Follower, event: &Value) -> Self {
        let Follower { task_id, after } = follower;
        let arrival = Arrival {
            source: after.source(),
            task: task_id,
            // There is one row of an execution for a task, and it goes with the transaction that opens the run.
            id: None,
            request: None,
            item: EventItem { key: format!("execution {}", row.id), body: event.clone() },
            gathering: after.gathering,
            max_waiting: after.max_waiting,
            when_full: WhenFull::LeaveOut,
        };
        Self {
            execution_id: row.id,
            task_id: arrival.task.to_string(),
            arrival: serde_json::json!(arrival),
            ended_at: row.completed_at,
        }
    }
}

/// Makes executions of ends, in the order in which they came. Returns how many ends.
pub(crate) async fn pass_on_ends(conn: &mut Connection) -> Work<usize> {
    #[derive(QueryableByName)]
    struct Waits {
        #[diesel(sql_type = Text)]
        task_id: String,
    }
    let waits: Vec<Waits> = sql_query("SELECT DISTINCT task_id FROM actor_server_ends").load(conn).await?;
    if waits.is_empty() {
        return Ok(0);
    }
    let tasks = waits.into_iter().map(|row| task_id(row.task_id)).collect::<Work<Vec<_>>>()?;
    // Whoever else passes on waits here, and then finds nothing.
    let states: HashMap<String, LockedState> =
        lock_states(conn, &tasks).await?.into_iter().map(|row| (row.task_id.clone(), row)).collect();
    let now = super::now(conn).await?;
    let ends = first_ends(conn, &tasks).await?;
    for end in &ends {
        let arrival: Arrival = json("arrival", end.arrival.clone())?;
        // Nobody runs what is disabled, or gone from the configuration.
        let by_definition =
            |state: &LockedState| state.is_paused && state.pause_reason.as_deref() == Some("definition");
        let state = states.get(&end.task_id).filter(|state| !by_definition(state));
        if let Some(state) = state {
            keep(conn, &state.actor_name, &arrival, now).await?;
        }
    }
    let passed_on = "DELETE FROM actor_server_ends WHERE EXISTS (SELECT 1 FROM {r} \
         WHERE r.execution_id = actor_server_ends.execution_id AND r.task_id = actor_server_ends.task_id)";
    batch::update(conn, passed_on, &ends).await
}

batch_row! {
    #[derive(QueryableByName)]
    struct EndRow {
        #[diesel(sql_type = BigInt)]
        execution_id: i64,
        #[diesel(sql_type = Text)]
        task_id: String,
        #[diesel(sql_type = Json)]
        arrival: Value,
    }
}

async fn first_ends(conn: &mut Connection, tasks: &[TaskId]) -> Work<Vec<EndRow>> {
    batch_row! {
        struct TaskRef<'a> {
            task_id: &'a str,
        }
    }
    let tasks: Vec<TaskRef<'_>> = tasks.iter().map(|task| TaskRef { task_id: task.as_str() }).collect();
    let sql = "SELECT e.execution_id, e.task_id, e.arrival FROM actor_server_ends AS e \
         WHERE e.task_id IN (SELECT r.task_id FROM {r}) ORDER BY e.ended_at, e.execution_id, e.task_id LIMIT $1";
    Ok(sql_query(sql).bind::<BigInt, _>(AT_ONCE).rows(&tasks)?.load(conn).await?)
}

/// After a backup was restored: what it has not passed on has been.
pub(super) async fn forget_ends(conn: &mut Connection) -> Work<()> {
    sql_query("DELETE FROM actor_server_ends").execute(conn).await?;
    Ok(())
}

/// Writes down which tasks run after which, where that has changed. All tasks are locked.
pub(super) async fn register_followers(conn: &mut Connection, registration: &Registration) -> Work<()> {
    batch_row! {
        #[derive(QueryableByName)]
        struct Followed {
            #[diesel(sql_type = Text)]
            task_id: String,
            #[diesel(sql_type = diesel::sql_types::Nullable<Json>)]
            followers: Option<Value>,
        }
    }
    let sql = "SELECT task_id, followers FROM actor_server_state WHERE followers IS NOT NULL";
    let mut known: BTreeMap<String, Vec<Follower>> = BTreeMap::new();
    for row in sql_query(sql).load::<Followed>(conn).await? {
        known.insert(row.task_id, json("followers", row.followers.unwrap_or_default())?);
    }
    let registered: HashSet<&TaskId> = registration.tasks.iter().map(|task| &task.id).collect();
    let mut wanted = known.clone();
    for followers in wanted.values_mut() {
        followers.retain(|follower| !registration.complete && !registered.contains(&follower.task_id));
    }
    for task in registration.tasks.iter().filter(|task| task.enabled) {
        for after in &task.after {
            let follower = Follower { task_id: task.id.clone(), after: after.clone() };
            wanted.entry(after.task.to_string()).or_default().push(follower);
        }
    }
    let changed = wanted.into_iter().filter(|(task, followers)| known.get(task) != Some(followers));
    let changed: Vec<Followed> = changed
        .map(|(task_id, followers)| {
            let followers = (!followers.is_empty()).then(|| serde_json::json!(followers));
            Followed { task_id, followers }
        })
        .collect();
    let sql = "UPDATE actor_server_state AS s SET followers = r.followers, updated_at = actor_server_now() \
         FROM {r} WHERE s.task_id = r.task_id";
    batch::update(conn, sql, &changed).await.map(drop)
}

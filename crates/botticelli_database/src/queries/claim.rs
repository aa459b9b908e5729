//! Taking work: occurrences that are due, and executions that wait for a node.

use super::agenda::{lock_free_states, running};
use super::rows::{LockedState, NewActorServerExecution, OpenExecutionRow, insert_executions, task_id};
use super::*;
use crate::fail_points::{Point, pass};
use botticelli_server::ids::{ExecutionId, Fence, NodeId, TaskId};
use botticelli_server::ledger::{
    Attempt, ClaimRequest, POISON_INTERRUPTIONS, SkippedRange, TakeRequest, Trigger,
};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Text};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Carries out plans whose task is still as the plan saw it.
pub(crate) async fn claim(
    conn: &mut Connection,
    node: NodeId,
    requests: Arc<[ClaimRequest]>,
    latest_due: i64,
) -> Work<Vec<Attempt>> {
    let tasks: Vec<TaskId> = requests.iter().map(|request| request.task_id.clone()).collect();
    let states: HashMap<String, LockedState> =
        lock_free_states(conn, &tasks).await?.into_iter().map(|row| (row.task_id.clone(), row)).collect();
    let Horizon { now, until } = horizon(conn, latest_due).await?;
    let mut seen = HashSet::new();
    let wanted: Vec<(&ClaimRequest, &LockedState)> = requests
        .iter()
        // A second step of a task would start from where the first one has not been yet.
        .filter(|request| seen.insert(request.task_id.as_str()))
        .filter_map(|request| Some((request, states.get(request.task_id.as_str())?)))
        .filter(|(request, state)| still_as_planned(request, state) && is_due(request, until))
        .collect();
    let Standing { occupied, known } = standing(conn, &wanted).await?;
    let (stepped, granted): (Vec<_>, Vec<_>) = wanted
        .into_iter()
        .filter(|(request, _)| {
            // A step that runs nothing needs no slot.
            request.overlap_allowed
                || request.plan.run.is_none()
                || !occupied.contains(request.task_id.as_str())
        })
        .partition(|(request, _)| known.contains(request.task_id.as_str()));
    step_over(conn, &stepped).await?;
    let skipped: Vec<_> =
        stepped.iter().chain(&granted).filter_map(|(request, _)| skipped_by(request)).collect();
    let accounted = super::known::known(conn, &skipped).await?;
    let skipped = skipped.len();
    let running = granted.iter().filter(|granted| granted.0.plan.run.is_some()).count();
    let mut numbers = batch::take_numbers(conn, skipped + running).await?.into_iter();
    let mut number =
        || numbers.next().ok_or_else(|| WorkError::Corrupt("the ledger's counter ran short".into()));

    let (mut open, mut attempts, mut history, mut steps) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (request, _) in stepped.iter().chain(&granted) {
        if let Some((task, range)) = skipped_by(request)
            && let Some(range) = accounted.leaves(task, range)
        {
            history.push(NewActorServerExecution::skipped(number()?, task, &request.actor_name, &range, now));
        }
    }
    for (request, state) in granted {
        if let Some(run) = request.plan.run {
            let id = number()?;
            let failures = if request.plan.resumed { 0 } else { state.consecutive_failures.unsigned_abs() };
            let due_at = run.due_at.max(now);
            open.push(NewOpenExecution {
                id,
                task_id: request.task_id.as_str(),
                actor_name: request.actor_name.as_str(),
                trigger: run.trigger.as_str(),
                scheduled_for: Some(run.scheduled_for),
                due_at,
                node: Some(node.as_str()),
                fence: Some(id),
                attempt: 1,
                ready_at: None,
                parameters: Value::Object(serde_json::Map::new()),
                opened_at: now,
            });
            attempts.push(Attempt {
                execution_id: ExecutionId(id),
                task_id: request.task_id.clone(),
                trigger: run.trigger,
                scheduled_for: Some(run.scheduled_for),
                due_at,
                opened_at: now,
                attempt: 1,
                fence: Fence(id),
                consecutive_failures: failures,
                failures: 0,
                interruptions: 0,
                parameters: Value::Null,
            });
        }
        steps.push(StateStep {
            task_id: request.task_id.as_str(),
            next_run: request.plan.next_run,
            wake_at: request.plan.wake_at,
            resumed: request.plan.resumed,
        });
    }
    insert_executions(conn, &history).await?;
    insert_open(conn, &open).await?;
    let step = "UPDATE actor_server_state AS s SET next_run = r.next_run, wake_at = r.wake_at, probe_at = NULL, \
             consecutive_failures = CASE WHEN r.resumed THEN 0 ELSE s.consecutive_failures END, \
             pause_reason = CASE WHEN r.resumed THEN NULL ELSE s.pause_reason END, \
             updated_at = actor_server_now() \
         FROM {r} WHERE s.task_id = r.task_id";
    batch::update(conn, step, &steps).await?;
    if !attempts.is_empty() {
        pass(Point::ClaimWritten);
    }
    Ok(attempts)
}

fn skipped_by(request: &ClaimRequest) -> Option<(&TaskId, &SkippedRange)> {
    request.plan.skipped.as_ref().map(|range| (&request.task_id, range))
}

fn still_as_planned(request: &ClaimRequest, state: &LockedState) -> bool {
    let probing = request.plan.run.is_some_and(|run| run.trigger == Trigger::Probe);
    let standing = if probing {
        state.is_paused && state.pause_reason.as_deref() == Some("breaker") && state.probe_at.is_some()
    } else {
        !state.is_paused && state.pause_reason.is_some() == request.plan.resumed
    };
    standing
        && state.next_run == Some(request.plan.expected)
        && state.definition == request.definition.as_str()
}

fn is_due(request: &ClaimRequest, until: DateTime<Utc>) -> bool {
    request.plan.run.is_none_or(|run| run.due_at <= until)
}

struct Horizon {
    now: DateTime<Utc>,
    until: DateTime<Utc>,
}

async fn horizon(conn: &mut Connection, ahead: i64) -> Work<Horizon> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Instant)]
        now: DateTime<Utc>,
        #[diesel(sql_type = Instant)]
        until: DateTime<Utc>,
    }
    let sql = "SELECT actor_server_now() AS now, actor_server_now_plus($1) AS until";
    let row: Row = sql_query(sql).bind::<BigInt, _>(ahead).get_result(conn).await?;
    Ok(Horizon { now: botticelli_server::clock::to_microseconds(row.now), until: row.until })
}

/// What the ledger holds of tasks that are to run.
#[derive(Default)]
struct Standing {
    /// They have an execution that keeps the next occurrence from being claimed.
    occupied: HashSet<String>,
    /// The history, or an open execution, accounts for the occurrence already.
    known: HashSet<String>,
}

/// Asked under the locks of the tasks: whoever opens, takes or closes an execution holds them.
async fn standing(conn: &mut Connection, wanted: &[(&ClaimRequest, &LockedState)]) -> Work<Standing> {
    batch_row! {
        struct Occurrence<'a> {
            task_id: &'a str,
            scheduled_for: DateTime<Utc>,
        }
    }
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = Text)]
        task_id: String,
        #[diesel(sql_type = Bool)]
        occupies: bool,
        #[diesel(sql_type = Bool)]
        known: bool,
    }
    let occurrences: Vec<Occurrence<'_>> = wanted
        .iter()
        .filter_map(|(request, _)| {
            let run = request.plan.run?;
            Some(Occurrence { task_id: request.task_id.as_str(), scheduled_for: run.scheduled_for })
        })
        .collect();
    if occurrences.is_empty() {
        return Ok(Standing::default());
    }
    // Questions row by row: each is answered by an index, whatever the planner knows of the tables.
    let sql = format!(
        "SELECT * FROM (SELECT r.task_id, \
             (SELECT 1 FROM actor_server_open_executions AS o \
                 WHERE o.task_id = r.task_id AND {OCCUPIES} LIMIT 1) IS NOT NULL AS occupies, \
             (SELECT 1 FROM actor_server_open_executions AS o \
                 WHERE o.task_id = r.task_id AND o.scheduled_for = r.scheduled_for) IS NOT NULL \
             OR (SELECT 1 FROM actor_server_executions AS e \
                 WHERE e.task_id = r.task_id AND e.scheduled_for = r.scheduled_for) IS NOT NULL AS known \
         FROM {{r}}) AS standing WHERE occupies OR known"
    );
    let found: Vec<Found> = sql_query(sql).rows(&occurrences)?.load(conn).await?;
    let mut standing = Standing::default();
    for found in found {
        if found.known {
            standing.known.insert(found.task_id.clone());
        }
        if found.occupies {
            standing.occupied.insert(found.task_id);
        }
    }
    Ok(standing)
}

/// An open execution that runs, one that has begun, or an earlier occurrence that a node gave back before it began.
const OCCUPIES: &str = "(o.node IS NOT NULL OR o.attempt > 0 OR o.scheduled_for IS NOT NULL)";

/// Moves tasks past an occurrence that is accounted for. `next_run` can only point at one if somebody set it back by
/// hand.
async fn step_over(conn: &mut Connection, known: &[(&ClaimRequest, &LockedState)]) -> Work<usize> {
    let steps: Vec<StateStep<'_>> = known
        .iter()
        .map(|(request, _)| StateStep {
            task_id: request.task_id.as_str(),
            next_run: request.plan.next_run,
            wake_at: request.plan.wake_at,
            resumed: false,
        })
        .collect();
    let sql = "UPDATE actor_server_state AS s SET next_run = r.next_run, wake_at = r.wake_at \
         FROM {r} WHERE s.task_id = r.task_id";
    batch::update(conn, sql, &steps).await
}

batch_row! {
    struct StateStep<'a> {
        task_id: &'a str,
        next_run: Option<DateTime<Utc>>,
        wake_at: Option<DateTime<Utc>>,
        resumed: bool,
    }
}

batch_row! {
    pub(super) struct NewOpenExecution<'a> {
        pub(super) id: i64,
        pub(super) task_id: &'a str,
        pub(super) actor_name: &'a str,
        pub(super) trigger: &'a str,
        pub(super) scheduled_for: Option<DateTime<Utc>>,
        pub(super) due_at: DateTime<Utc>,
        pub(super) node: Option<&'a str>,
        pub(super) fence: Option<i64>,
        pub(super) attempt: u32,
        pub(super) ready_at: Option<DateTime<Utc>>,
        pub(super) parameters: Value,
        pub(super) opened_at: DateTime<Utc>,
    }
}

pub(super) async fn insert_open(conn: &mut Connection, rows: &[NewOpenExecution<'_>]) -> Work<usize> {
    batch::insert(conn, "actor_server_open_executions", rows, "").await
}

batch_row! {
    struct ExecutionRef {
        id: i64,
    }
}

/// Takes waiting executions. A task that may not overlap runs one at a time, the oldest first; a paused task runs only
/// what a person asks for.
pub(crate) async fn take(
    conn: &mut Connection,
    node: NodeId,
    wanted: Arc<[TakeRequest]>,
    ahead: i64,
) -> Work<Vec<Attempt>> {
    let requests: HashMap<i64, &TakeRequest> =
        wanted.iter().map(|request| (request.execution_id.0, request)).collect();
    let refs: Vec<ExecutionRef> =
        wanted.iter().map(|request| ExecutionRef { id: request.execution_id.0 }).collect();
    let columns = OpenExecutionRow::COLUMNS;
    let sql = format!(
        "SELECT {columns} FROM actor_server_open_executions AS o WHERE o.id IN (SELECT r.id FROM {{r}}) \
             AND o.ready_at <= actor_server_now_plus($1) AND o.cancel_requested_at IS NULL ORDER BY o.id"
    );
    let candidates = async |conn: &mut Connection| -> Work<Vec<OpenExecutionRow>> {
        Ok(sql_query(&sql).bind::<BigInt, _>(ahead).rows(&refs)?.load(conn).await?)
    };
    let tasks =
        candidates(conn).await?.into_iter().map(|row| task_id(row.task_id)).collect::<Work<Vec<_>>>()?;
    let states: HashMap<String, LockedState> =
        lock_free_states(conn, &tasks).await?.into_iter().map(|row| (row.task_id.clone(), row)).collect();
    // Read again under the locks: another node may have been quicker.
    let candidates = candidates(conn).await?;
    let mut busy: HashSet<String> = running(conn, &tasks).await?.into_iter().map(|row| row.task_id).collect();
    let now = horizon(conn, ahead).await?.now;
    let mut has_last_chance = candidates.iter().any(is_last_chance) && owns_last_chance(conn, &node).await?;
    let mut taken = Vec::new();
    for row in candidates {
        let (Some(state), Some(request)) = (states.get(&row.task_id), requests.get(&row.id)) else {
            continue;
        };
        let wanted = match row.trigger()? {
            Trigger::Manual => true,
            Trigger::Schedule | Trigger::Event => !state.is_paused,
            Trigger::Probe => !state.is_paused || state.pause_reason.as_deref() == Some("breaker"),
        };
        if wanted
            && state.definition == request.definition.as_str()
            && (request.overlap_allowed || !busy.contains(&row.task_id))
            && !(has_last_chance && is_last_chance(&row))
        {
            has_last_chance |= is_last_chance(&row);
            busy.insert(row.task_id.clone());
            taken.push((row, state.consecutive_failures.unsigned_abs()));
        }
    }
    let fences = batch::take_numbers(conn, taken.len()).await?;
    let mut attempts = Vec::new();
    for ((row, consecutive_failures), fence) in taken.into_iter().zip(fences) {
        attempts.push(Attempt {
            execution_id: ExecutionId(row.id),
            trigger: row.trigger()?,
            task_id: task_id(row.task_id)?,
            scheduled_for: row.scheduled_for,
            due_at: row.ready_at.unwrap_or(now).max(now),
            opened_at: row.opened_at,
            attempt: row.attempt.unsigned_abs() + 1,
            fence: Fence(fence),
            consecutive_failures,
            failures: row.failures.unsigned_abs(),
            interruptions: row.interruptions.unsigned_abs(),
            parameters: row.parameters,
        });
    }
    own(conn, &node, &attempts).await?;
    Ok(attempts)
}

/// One more interruption makes it poison.
fn is_last_chance(row: &OpenExecutionRow) -> bool {
    row.interruptions.unsigned_abs() + 1 >= POISON_INTERRUPTIONS
}

/// Whether the node has such an execution. It may have one at a time: whatever else dies with it must not become poison
/// by its fault.
async fn owns_last_chance(conn: &mut Connection, node: &NodeId) -> Work<bool> {
    let sql = format!(
        "SELECT {} FROM actor_server_open_executions AS o WHERE o.node = $1 AND o.interruptions > 0",
        OpenExecutionRow::COLUMNS
    );
    let rows: Vec<OpenExecutionRow> = sql_query(sql).bind::<Text, _>(node.as_str()).load(conn).await?;
    Ok(rows.iter().any(is_last_chance))
}

async fn own(conn: &mut Connection, node: &NodeId, attempts: &[Attempt]) -> Work<usize> {
    batch_row! {
        struct Owned<'a> {
            id: i64,
            node: &'a str,
            fence: i64,
            attempt: u32,
            due_at: DateTime<Utc>,
        }
    }
    let owned: Vec<Owned<'_>> = attempts
        .iter()
        .map(|attempt| Owned {
            id: attempt.execution_id.0,
            node: node.as_str(),
            fence: attempt.fence.0,
            attempt: attempt.attempt,
            due_at: attempt.due_at,
        })
        .collect();
    let sql = "UPDATE actor_server_open_executions AS o SET node = r.node, fence = r.fence, attempt = r.attempt, \
             due_at = r.due_at, ready_at = NULL, begun_at = NULL \
         FROM {r} WHERE o.id = r.id";
    batch::update(conn, sql, &owned).await
}

/// Gives back attempts that have not started: they do not count.
pub(crate) async fn release(conn: &mut Connection, attempts: Arc<[Attempt]>) -> Work<usize> {
    batch_row! {
        struct Given {
            id: i64,
            fence: i64,
            attempt: u32,
            ready_at: DateTime<Utc>,
        }
    }
    let given: Vec<Given> = attempts
        .iter()
        .map(|attempt| Given {
            id: attempt.execution_id.0,
            fence: attempt.fence.0,
            attempt: attempt.attempt - 1,
            ready_at: attempt.due_at,
        })
        .collect();
    let sql = "UPDATE actor_server_open_executions AS o SET node = NULL, fence = NULL, attempt = r.attempt, \
             ready_at = r.ready_at \
         FROM {r} WHERE o.id = r.id AND o.fence = r.fence";
    batch::update(conn, sql, &given).await
}

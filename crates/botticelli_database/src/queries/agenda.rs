//! What to look at next.

use super::rows::{
    ActorServerStateRow, LockedState, NewActorServerExecution, OpenExecutionRow, actor_name,
    insert_executions, task_id,
};
use super::*;
use crate::sql::Sql;
use botticelli_server::clock::to_microseconds;
use botticelli_server::ids::{ExecutionId, NodeId, TaskId};
use botticelli_server::ledger::{Agenda, AgendaMark, SkippedRange, Waiting};
use botticelli_server::outcome::SkipReason;
use botticelli_server::task::TaskState;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};

/// The database's time.
pub(crate) async fn now(conn: &mut Connection) -> Work<DateTime<Utc>> {
    #[derive(QueryableByName)]
    struct Now {
        #[diesel(sql_type = Instant)]
        now: DateTime<Utc>,
    }
    let now: Now = sql_query("SELECT actor_server_now() AS now").get_result(conn).await?;
    Ok(to_microseconds(now.now))
}

pub(crate) async fn agenda(
    conn: &mut Connection,
    horizon: DateTime<Utc>,
    mark: Option<AgendaMark>,
    limit: usize,
) -> Work<Agenda> {
    let mut agenda = Agenda::default();
    let next = match mark {
        None => {
            agenda.tasks = probing_and_resumed(conn, horizon).await?;
            AgendaMark {
                task: due_tasks(conn, &mut agenda, horizon, None, limit).await?,
                execution: waiting_executions(conn, &mut agenda, horizon, None, limit).await?,
            }
        }
        Some(AgendaMark { task, execution }) => AgendaMark {
            task: match task {
                Some(after) => due_tasks(conn, &mut agenda, horizon, Some(after), limit).await?,
                None => None,
            },
            execution: match execution {
                Some(after) => waiting_executions(conn, &mut agenda, horizon, Some(after), limit).await?,
                None => None,
            },
        },
    };
    agenda.more = (next.task.is_some() || next.execution.is_some()).then_some(next);
    Ok(agenda)
}

async fn probing_and_resumed(conn: &mut Connection, horizon: DateTime<Utc>) -> Work<Vec<TaskState>> {
    let columns = ActorServerStateRow::COLUMNS;
    let probing = "s.probe_at <= $1 AND s.is_paused ORDER BY s.probe_at";
    let resumed = "s.pause_reason IS NOT NULL AND NOT s.is_paused AND s.next_run IS NOT NULL AND s.wake_at > $1 \
         ORDER BY s.task_id";
    let mut tasks = Vec::new();
    for which in [probing, resumed] {
        let sql = format!("SELECT {columns} FROM actor_server_state AS s WHERE {which}");
        let rows: Vec<ActorServerStateRow> = sql_query(sql).bind::<Instant, _>(horizon).load(conn).await?;
        for row in rows {
            tasks.push(TaskState::try_from(row)?);
        }
    }
    Ok(tasks)
}

/// Adds a part of the tasks that are due. Returns where the next begins.
async fn due_tasks(
    conn: &mut Connection,
    agenda: &mut Agenda,
    horizon: DateTime<Utc>,
    after: Option<(DateTime<Utc>, TaskId)>,
    limit: usize,
) -> Work<Option<(DateTime<Utc>, TaskId)>> {
    let columns = ActorServerStateRow::COLUMNS;
    let part = |after: &str| {
        format!(
            "SELECT {columns} FROM actor_server_state AS s WHERE NOT s.is_paused AND s.wake_at <= $1 {after} \
             ORDER BY s.wake_at, s.task_id LIMIT $2"
        )
    };
    let query = match &after {
        None => part_of(part(""), horizon, limit),
        Some((at, task)) => {
            let after = "AND s.wake_at >= $3 AND (s.wake_at, s.task_id) > ($3, $4)";
            part_of(part(after), horizon, limit).bind::<Instant, _>(*at).bind::<Text, _>(task.as_str())
        }
    };
    let rows: Vec<ActorServerStateRow> = query.load(conn).await?;
    let cut_off = rows.len() >= limit;
    for row in rows {
        agenda.tasks.push(TaskState::try_from(row)?);
    }
    let last = agenda.tasks.last().filter(|_| cut_off);
    Ok(last.and_then(|last| Some((last.wake_at?, last.task_id.clone()))))
}

/// The same for executions that wait.
async fn waiting_executions(
    conn: &mut Connection,
    agenda: &mut Agenda,
    horizon: DateTime<Utc>,
    after: Option<(DateTime<Utc>, ExecutionId)>,
    limit: usize,
) -> Work<Option<(DateTime<Utc>, ExecutionId)>> {
    let columns = OpenExecutionRow::COLUMNS;
    let part = |after: &str| {
        format!(
            "SELECT {columns} FROM actor_server_open_executions AS o WHERE o.ready_at <= $1 {after} \
             ORDER BY o.ready_at, o.id LIMIT $2"
        )
    };
    let query = match after {
        None => part_of(part(""), horizon, limit),
        Some((at, id)) => {
            let after = "AND o.ready_at >= $3 AND (o.ready_at, o.id) > ($3, $4)";
            part_of(part(after), horizon, limit).bind::<Instant, _>(at).bind::<BigInt, _>(id.0)
        }
    };
    let rows: Vec<OpenExecutionRow> = query.load(conn).await?;
    let cut_off = rows.len() >= limit;
    for row in rows {
        agenda.waiting.push(Waiting {
            execution_id: ExecutionId(row.id),
            task_id: task_id(row.task_id)?,
            ready_at: row.ready_at.unwrap_or(row.due_at),
        });
    }
    Ok(agenda.waiting.last().filter(|_| cut_off).map(|last| (last.ready_at, last.execution_id)))
}

fn part_of<'f>(sql: String, horizon: DateTime<Utc>, limit: usize) -> Sql<'f, Backend> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    sql_query(sql).bind::<Instant, _>(horizon).bind::<BigInt, _>(limit)
}

batch_row! {
    struct TaskRef<'a> {
        task_id: &'a str,
    }
}

fn refs(tasks: &[TaskId]) -> Vec<TaskRef<'_>> {
    tasks.iter().map(|task| TaskRef { task_id: task.as_str() }).collect()
}

/// The whole rows of these tasks, without a lock.
pub(crate) async fn states(conn: &mut Connection, tasks: std::sync::Arc<[TaskId]>) -> Work<Vec<TaskState>> {
    let rows: Vec<ActorServerStateRow> =
        select_states(conn, &tasks, ActorServerStateRow::COLUMNS, "").await?;
    rows.into_iter().map(TaskState::try_from).collect()
}

/// Locks the rows of `tasks` in the order of their names, so that no two units wait for each other.
pub(super) async fn lock_states(conn: &mut Connection, tasks: &[TaskId]) -> Work<Vec<LockedState>> {
    select_states(conn, tasks, LockedState::COLUMNS, dialect::LOCK_STATE).await
}

/// The whole row of one task, locked, if there is one.
pub(super) async fn lock_full_state(conn: &mut Connection, task: &TaskId) -> Work<Option<TaskState>> {
    let task = std::slice::from_ref(task);
    let rows: Vec<ActorServerStateRow> =
        select_states(conn, task, ActorServerStateRow::COLUMNS, dialect::LOCK_STATE).await?;
    rows.into_iter().next().map(TaskState::try_from).transpose()
}

/// Locks one task's row, if there is one.
pub(super) async fn lock_state(conn: &mut Connection, task: &TaskId) -> Work<Option<LockedState>> {
    Ok(lock_states(conn, std::slice::from_ref(task)).await?.pop())
}

/// The same as [`lock_states`], but leaves out rows that another unit has locked.
pub(super) async fn lock_free_states(conn: &mut Connection, tasks: &[TaskId]) -> Work<Vec<LockedState>> {
    select_states(conn, tasks, LockedState::COLUMNS, dialect::LOCK_STATE_SKIPPING).await
}

async fn select_states<Row>(
    conn: &mut Connection,
    tasks: &[TaskId],
    columns: &str,
    lock: &str,
) -> Work<Vec<Row>>
where
    Row: QueryableByName<Backend> + Send + 'static,
{
    let sql = format!(
        "SELECT {columns} FROM actor_server_state AS s \
         WHERE s.task_id IN (SELECT r.task_id FROM {{r}}) ORDER BY s.task_id {lock}"
    );
    Ok(sql_query(sql).rows(&refs(tasks))?.load(conn).await?)
}

/// The executions of `tasks` that a node owns.
pub(super) async fn running(conn: &mut Connection, tasks: &[TaskId]) -> Work<Vec<OccupiedRow>> {
    let sql = "SELECT o.task_id FROM actor_server_open_executions AS o \
         WHERE o.task_id IN (SELECT r.task_id FROM {r}) AND o.node IS NOT NULL";
    Ok(sql_query(sql).rows(&refs(tasks))?.load(conn).await?)
}

#[derive(QueryableByName)]
pub(super) struct OccupiedRow {
    #[diesel(sql_type = Text)]
    pub(super) task_id: String,
}

/// Takes back claims of `node` whose time has not come and whose task has been paused since.
pub(crate) async fn withdraw_paused(conn: &mut Connection, node: NodeId) -> Work<Vec<ExecutionId>> {
    #[derive(QueryableByName)]
    struct Paused {
        #[diesel(sql_type = Text)]
        task_id: String,
    }
    let sql = "SELECT DISTINCT s.task_id FROM actor_server_open_executions AS o \
         JOIN actor_server_state AS s ON s.task_id = o.task_id \
         WHERE o.node = $1 AND s.is_paused AND o.due_at > actor_server_now() \
             AND (o.trigger = 'schedule' OR (o.trigger = 'probe' AND COALESCE(s.pause_reason, 'operator') <> 'breaker')) \
         ORDER BY s.task_id";
    let paused: Vec<Paused> = sql_query(sql).bind::<Text, _>(node.as_str()).load(conn).await?;
    let paused = paused.into_iter().map(|row| task_id(row.task_id)).collect::<Work<Vec<_>>>()?;
    let states = lock_states(conn, &paused).await?;
    let mut withdrawn = Vec::new();
    for state in states.iter().filter(|state| state.is_paused) {
        let by_breaker = state.pause_reason.as_deref() == Some("breaker");
        withdrawn.extend(withdraw(conn, state, !by_breaker).await?);
    }
    Ok(withdrawn)
}

/// Takes back the claims of a locked task whose time has not come, as if they had not been made.
pub(super) async fn withdraw(
    conn: &mut Connection,
    state: &LockedState,
    probes_too: bool,
) -> Work<Vec<ExecutionId>> {
    let early = format!(
        "SELECT {} FROM actor_server_open_executions AS o \
         WHERE o.task_id = $1 AND o.node IS NOT NULL AND o.due_at > actor_server_now() \
             AND o.trigger IN ('schedule', $2) ORDER BY o.scheduled_for",
        OpenExecutionRow::COLUMNS
    );
    let rows: Vec<OpenExecutionRow> = sql_query(early)
        .bind::<Text, _>(&state.task_id)
        .bind::<Text, _>(if probes_too { "probe" } else { "schedule" })
        .load(conn)
        .await?;
    let withdrawn = rows.iter().map(|row| ExecutionId(row.id)).collect();
    let (claims, retries): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.attempt == 1);
    for retry in retries {
        let wait = "UPDATE actor_server_open_executions SET node = NULL, fence = NULL, attempt = attempt - 1, \
             ready_at = due_at WHERE id = $1";
        sql_query(wait).bind::<BigInt, _>(retry.id).execute(conn).await?;
    }
    unclaim(conn, state, &claims).await?;
    Ok(withdrawn)
}

/// First attempts have no past that would have to be kept: the task goes back to where it was.
async fn unclaim(conn: &mut Connection, state: &LockedState, rows: &[OpenExecutionRow]) -> Work<()> {
    let Some((nominal, due_at)) = rows.iter().find_map(|row| Some((row.scheduled_for?, row.due_at))) else {
        return Ok(());
    };
    for row in rows {
        let sql = "DELETE FROM actor_server_open_executions WHERE id = $1";
        sql_query(sql).bind::<BigInt, _>(row.id).execute(conn).await?;
    }
    if !came_back_to(conn, state, nominal).await? {
        return leave_out(conn, rows).await;
    }
    let sql = "UPDATE actor_server_state SET next_run = $1, wake_at = $2, updated_at = actor_server_now() \
         WHERE task_id = $3";
    sql_query(sql)
        .bind::<Instant, _>(nominal)
        .bind::<Instant, _>(due_at)
        .bind::<Text, _>(&state.task_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether the task can go back to `nominal` without meeting again what is accounted for already: nothing later is in
/// the ledger, and its schedule has not changed to one that is not as far.
async fn came_back_to(conn: &mut Connection, state: &LockedState, nominal: DateTime<Utc>) -> Work<bool> {
    #[derive(QueryableByName)]
    struct Later {
        #[diesel(sql_type = BigInt)]
        later: i64,
    }
    if state.next_run.is_some_and(|next_run| next_run <= nominal) {
        return Ok(false);
    }
    let sql = "SELECT count(*) AS later FROM ( \
             SELECT 1 FROM actor_server_executions WHERE task_id = $1 AND scheduled_for >= $2 UNION ALL \
             SELECT 1 FROM actor_server_open_executions WHERE task_id = $1 AND scheduled_for >= $2) AS later";
    let later: Later =
        sql_query(sql).bind::<Text, _>(&state.task_id).bind::<Instant, _>(nominal).get_result(conn).await?;
    Ok(later.later == 0)
}

/// Writes occurrences into the history that a pause leaves no other place for.
async fn leave_out(conn: &mut Connection, rows: &[OpenExecutionRow]) -> Work<()> {
    let now = now(conn).await?;
    let mut history = Vec::new();
    for row in rows {
        let Some(nominal) = row.scheduled_for else { continue };
        let range = SkippedRange { from: nominal, to: nominal, count: 1, reason: SkipReason::Paused };
        let (task, actor) = (task_id(row.task_id.clone())?, actor_name(row.actor_name.clone())?);
        history.push(NewActorServerExecution::skipped(row.id, &task, &actor, &range, now));
    }
    insert_executions(conn, &history).await
}

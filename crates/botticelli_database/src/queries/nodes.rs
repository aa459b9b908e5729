//! Nodes: their heartbeats, and handing on what a dead one leaves.

use super::agenda::{lock_state, lock_states};
use super::conditions::Conditions;
use super::ends::Followers;
use super::record::{NewAttempt, StateAfter, insert_attempts, write_states};
use super::rows::{NewActorServerExecution, OpenExecutionRow, insert_executions, task_id};
use super::*;
use crate::fail_points::{Point, pass};
use crate::views::NodeView;
use botticelli_server::ids::{ExecutionId, Fence, NodeId};
use botticelli_server::ledger::{Attempt, Lease, POISON_INTERRUPTIONS, Rescued};
use botticelli_server::plan::BreakerEffect;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde_json::Value;
use std::collections::HashMap;

/// Extends the node's lease. A node that was given up does not come back: its process takes another name.
pub(crate) async fn renew(conn: &mut Connection, node: NodeId, lease: i64) -> Work<Lease> {
    let sql = "INSERT INTO actor_server_nodes (node, version, started_at, heartbeat_at, lease_until) \
         VALUES ($1, $2, actor_server_now(), actor_server_now(), actor_server_now_plus($3)) \
         ON CONFLICT (node) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, lease_until = excluded.lease_until \
         WHERE actor_server_nodes.left_at IS NULL";
    let renewed = sql_query(sql)
        .bind::<Text, _>(node.as_str())
        .bind::<Text, _>(crate::VERSION)
        .bind::<BigInt, _>(lease)
        .execute(conn)
        .await?;
    Ok(if renewed == 0 { Lease::Lost } else { Lease::Held })
}

/// The nodes whose lease is not over, by name.
pub(crate) async fn living(conn: &mut Connection) -> Work<Vec<NodeId>> {
    let sql = "SELECT node FROM actor_server_nodes \
         WHERE left_at IS NULL AND lease_until >= actor_server_now() ORDER BY node";
    let rows: Vec<NodeRow> = sql_query(sql).load(conn).await?;
    rows.into_iter()
        .map(|row| NodeId::new(row.node).map_err(|error| WorkError::corrupt("node", error)))
        .collect()
}

/// Nodes by name, from the one after `after`.
pub(crate) async fn node_views(
    conn: &mut Connection,
    after: Option<String>,
    limit: usize,
) -> Work<Vec<NodeView>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        node: String,
        #[diesel(sql_type = Text)]
        version: String,
        #[diesel(sql_type = Instant)]
        started_at: DateTime<Utc>,
        #[diesel(sql_type = Instant)]
        heartbeat_at: DateTime<Utc>,
        #[diesel(sql_type = Instant)]
        lease_until: DateTime<Utc>,
        #[diesel(sql_type = Nullable<Instant>)]
        left_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = BigInt)]
        open_executions: i64,
    }
    let mut wanted = Conditions::default();
    wanted.add("n.node > ", after);
    let limit = wanted.limit(Some(limit));
    let sql = format!(
        "SELECT n.node, n.version, n.started_at, n.heartbeat_at, n.lease_until, n.left_at, \
             (SELECT count(*) FROM actor_server_open_executions AS o WHERE o.node = n.node) AS open_executions \
         FROM actor_server_nodes AS n {} ORDER BY n.node {limit}",
        wanted.text()
    );
    let rows: Vec<Row> = wanted.bind(sql_query(sql)).load(conn).await?;
    let now = super::now(conn).await?;
    let view = |row: Row| NodeView {
        lives: row.left_at.is_none() && row.lease_until >= now,
        node: row.node,
        version: row.version,
        started_at: row.started_at,
        heartbeat_at: row.heartbeat_at,
        lease_until: row.lease_until,
        left_at: row.left_at,
        open_executions: row.open_executions.unsigned_abs(),
    };
    Ok(rows.into_iter().map(view).collect())
}

/// Hands on what other, silent nodes have. With `sole_server` they all count as silent: this process has the
/// database's lock. A node that was given up may have claimed once more before it knew: that is handed on too.
pub(crate) async fn rescue(conn: &mut Connection, myself: NodeId, sole_server: bool) -> Work<Rescued> {
    let silent = if sole_server { "" } else { "AND lease_until < actor_server_now()" };
    let sql = format!(
        "SELECT node FROM actor_server_nodes WHERE node <> $1 AND ((left_at IS NULL {silent}) OR (left_at IS NOT NULL \
             AND node IN (SELECT o.node FROM actor_server_open_executions AS o WHERE o.node IS NOT NULL))) \
         ORDER BY node {}",
        dialect::LOCK_ROWS_SKIPPING
    );
    let silent: Vec<NodeRow> = sql_query(sql).bind::<Text, _>(myself.as_str()).load(conn).await?;
    let mut rescued = hand_on(conn, &silent, Counting::Interruption).await?;
    if !silent.is_empty() {
        pass(Point::RescueWritten);
    }
    super::operate::end_cancelled(conn).await?;
    for silent in silent {
        rescued.nodes.push(NodeId::new(silent.node).map_err(|error| WorkError::corrupt("node", error))?);
    }
    Ok(rescued)
}

/// Notes that an attempt begins, if it is still the node's.
pub(crate) async fn begin(conn: &mut Connection, node: NodeId, attempt: Attempt) -> Work<bool> {
    // Whoever takes an attempt from its node holds its task's row.
    lock_state(conn, &attempt.task_id).await?;
    let sql = "UPDATE actor_server_open_executions SET begun_at = actor_server_now() \
         WHERE id = $1 AND fence = $2 AND node = $3";
    let begun = sql_query(sql)
        .bind::<BigInt, _>(attempt.execution_id.0)
        .bind::<BigInt, _>(attempt.fence.0)
        .bind::<Text, _>(node.as_str())
        .execute(conn)
        .await?;
    Ok(begun > 0)
}

/// What the node owns, in the order of their numbers.
pub(crate) async fn owned(conn: &mut Connection, node: NodeId) -> Work<Vec<Attempt>> {
    let columns = OpenExecutionRow::COLUMNS;
    let sql =
        format!("SELECT {columns} FROM actor_server_open_executions AS o WHERE o.node = $1 ORDER BY o.id");
    let rows: Vec<OpenExecutionRow> = sql_query(sql).bind::<Text, _>(node.as_str()).load(conn).await?;
    let tasks = rows.iter().map(|row| task_id(row.task_id.clone())).collect::<Work<Vec<_>>>()?;
    let states = super::agenda::states(conn, tasks.into()).await?;
    let failures: HashMap<&str, u32> =
        states.iter().map(|state| (state.task_id.as_str(), state.consecutive_failures)).collect();
    let mut attempts = Vec::with_capacity(rows.len());
    for row in rows {
        // A row with an owner has a fence.
        let Some(fence) = row.fence else { continue };
        attempts.push(Attempt {
            execution_id: ExecutionId(row.id),
            trigger: row.trigger()?,
            scheduled_for: row.scheduled_for,
            due_at: row.due_at,
            opened_at: row.opened_at,
            attempt: row.attempt.unsigned_abs(),
            fence: Fence(fence),
            consecutive_failures: failures.get(row.task_id.as_str()).copied().unwrap_or(0),
            failures: row.failures.unsigned_abs(),
            interruptions: row.interruptions.unsigned_abs(),
            task_id: task_id(row.task_id)?,
            parameters: row.parameters,
        });
    }
    Ok(attempts)
}

/// The node goes in good order: what it could not finish does not count against anybody.
pub(crate) async fn leave(conn: &mut Connection, node: NodeId) -> Work<Rescued> {
    // First the node, then its tasks, as in a rescue, which may come at the same time.
    let sql = format!("SELECT node FROM actor_server_nodes WHERE node = $1 {}", dialect::LOCK_ROWS);
    let leaving: Vec<NodeRow> = sql_query(sql).bind::<Text, _>(node.as_str()).load(conn).await?;
    let left = hand_on(conn, &leaving, Counting::Nothing).await;
    pass(Point::LeaveWritten);
    left
}

/// Deletes the rows of nodes that went so long ago, and of which nothing is left to hand on; and of tokens that nobody
/// has sent for since then.
pub(crate) async fn prune_nodes(conn: &mut Connection, gone_for: i64) -> Work<usize> {
    let tokens = "DELETE FROM actor_server_egress_leases WHERE lease_until <= actor_server_now_plus($1)";
    sql_query(tokens).bind::<BigInt, _>(-gone_for).execute(conn).await?;
    let sql = "DELETE FROM actor_server_nodes WHERE left_at <= actor_server_now_plus($1) \
         AND node NOT IN (SELECT o.node FROM actor_server_open_executions AS o WHERE o.node IS NOT NULL)";
    Ok(sql_query(sql).bind::<BigInt, _>(-gone_for).execute(conn).await?)
}

batch_row! {
    #[derive(QueryableByName)]
    struct NodeRow {
        #[diesel(sql_type = Text)]
        node: String,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Counting {
    Interruption,
    Nothing,
}

/// All nodes in one go, because the locks of their tasks are taken in the tasks' order.
async fn hand_on(conn: &mut Connection, nodes: &[NodeRow], counting: Counting) -> Work<Rescued> {
    let mut rescued = Rescued::default();
    if nodes.is_empty() {
        return Ok(rescued);
    }
    let owned = format!(
        "SELECT {} FROM actor_server_open_executions AS o WHERE o.node IN (SELECT r.node FROM {{r}}) ORDER BY o.id",
        OpenExecutionRow::COLUMNS
    );
    let owned = async |conn: &mut Connection| -> Work<Vec<OpenExecutionRow>> {
        Ok(sql_query(&owned).rows(nodes)?.load(conn).await?)
    };
    let tasks = owned(conn).await?.into_iter().map(|row| task_id(row.task_id)).collect::<Work<Vec<_>>>()?;
    let states = lock_states(conn, &tasks).await?;
    let now = super::now(conn).await?;
    let (mut handed_on, mut interrupted, mut poisoned) = (Vec::new(), Vec::new(), Vec::new());
    for row in owned(conn).await? {
        let begun = has_begun(&row, now);
        let interruptions = row.interruptions + i32::from(begun && counting == Counting::Interruption);
        if begun {
            interrupted.push(interrupted_attempt(&row, now));
        }
        if interruptions.unsigned_abs() >= POISON_INTERRUPTIONS && begun {
            rescued.poisoned.push(ExecutionId(row.id));
            poisoned.push(row);
        } else {
            rescued.handed_on.push(ExecutionId(row.id));
            handed_on.push(HandedOn {
                id: row.id,
                // An attempt that had not begun did not take place.
                attempt: row.attempt - i32::from(!begun),
                interruptions,
                ready_at: row.due_at.max(now),
            });
        }
    }
    insert_attempts(conn, &interrupted).await?;
    let sql = "UPDATE actor_server_open_executions AS o SET node = NULL, fence = NULL, attempt = r.attempt, \
             interruptions = r.interruptions, ready_at = r.ready_at \
         FROM {r} WHERE o.id = r.id";
    batch::update(conn, sql, &handed_on).await?;
    fail_poison(conn, poisoned, states, now).await?;
    for node in nodes {
        super::outbox::hand_on_posts(conn, &node.node).await?;
    }
    let left =
        "UPDATE actor_server_nodes AS n SET left_at = actor_server_now() FROM {r} WHERE n.node = r.node";
    batch::update(conn, left, nodes).await?;
    Ok(rescued)
}

/// Whether the attempt was under way. The first one may have waited for a worker: nobody knows, as its start costs no
/// write. The start of those that follow an interruption is written down.
fn has_begun(row: &OpenExecutionRow, now: DateTime<Utc>) -> bool {
    if row.interruptions > 0 { row.begun_at.is_some() } else { row.due_at <= now }
}

batch_row! {
    struct HandedOn {
        id: i64,
        attempt: i32,
        interruptions: i32,
        ready_at: DateTime<Utc>,
    }
}

fn interrupted_attempt(row: &OpenExecutionRow, now: DateTime<Utc>) -> NewAttempt {
    NewAttempt {
        execution_id: row.id,
        attempt: row.attempt.unsigned_abs(),
        node: row.node.clone().unwrap_or_default(),
        started_at: row.begun_at,
        ended_at: now,
        ended: "interrupted",
        error_message: None,
    }
}

/// Whatever takes its server down with it three times is not tried a fourth time.
async fn fail_poison(
    conn: &mut Connection,
    poisoned: Vec<OpenExecutionRow>,
    states: Vec<super::rows::LockedState>,
    now: DateTime<Utc>,
) -> Work<()> {
    let mut history = Vec::new();
    let followers = Followers::of(&states);
    let mut failing = std::collections::HashMap::new();
    for state in states {
        failing.insert(state.task_id.clone(), StateAfter::new(state));
    }
    for row in &poisoned {
        if let Some(state) = failing.get_mut(&row.task_id) {
            state.breaker(BreakerEffect::Failure, false, now)?;
        }
        history.push(NewActorServerExecution {
            id: row.id,
            task_id: row.task_id.clone(),
            actor_name: row.actor_name.clone(),
            trigger: row.trigger()?.as_str(),
            scheduled_for: row.scheduled_for,
            scheduled_until: None,
            occurrences: 1,
            started_at: row.begun_at,
            completed_at: now,
            outcome: "failed",
            skip_reason: None,
            success: Some(false),
            error_message: Some(format!(
                "the server running it died {POISON_INTERRUPTIONS} times; it is not tried again"
            )),
            attempt: row.attempt.unsigned_abs(),
            node: row.node.clone(),
            // No attempt recorded this.
            fence: None,
            skills_succeeded: 0,
            skills_failed: 0,
            skills_skipped: 0,
            metadata: Value::Object(serde_json::Map::new()),
        });
        let close = "DELETE FROM actor_server_open_executions WHERE id = $1";
        sql_query(close).bind::<BigInt, _>(row.id).execute(conn).await?;
    }
    insert_executions(conn, &history).await?;
    followers.note(conn, &history).await?;
    let states: Vec<_> = failing
        .into_iter()
        .filter(|(task, _)| poisoned.iter().any(|row| row.task_id == *task))
        .map(|(_, state)| state.into_update())
        .collect();
    write_states(conn, &states).await
}

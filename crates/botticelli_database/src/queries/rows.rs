//! Rows as they are read, and what they mean.

use super::schema::*;
use super::*;
use crate::views;
use botticelli_server::ids::{ActorName, DefinitionHash, ExecutionId, PostId, TaskId};
use botticelli_server::ledger::Trigger;
use botticelli_server::post::{PostContent, Receipt};
use botticelli_server::task::{PauseReason, TaskState};
use chrono::{DateTime, Utc};
use diesel::prelude::{Queryable, QueryableByName, Selectable};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A word of one of our enums, as its column holds it.
pub(super) fn word<T: DeserializeOwned>(column: &str, word: &str) -> Work<T> {
    serde_json::from_value(Value::String(word.to_owned())).map_err(|error| WorkError::corrupt(column, error))
}

pub(super) fn task_id(name: String) -> Work<TaskId> {
    TaskId::new(name).map_err(|error| WorkError::corrupt("task_id", error))
}

pub(super) fn actor_name(name: String) -> Work<ActorName> {
    ActorName::new(name).map_err(|error| WorkError::corrupt("actor_name", error))
}

#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = actor_server_state)]
pub(super) struct ActorServerStateRow {
    pub(super) task_id: String,
    pub(super) actor_name: String,
    pub(super) definition: String,
    pub(super) schedule: Value,
    pub(super) last_run: Option<DateTime<Utc>>,
    pub(super) next_run: Option<DateTime<Utc>>,
    pub(super) wake_at: Option<DateTime<Utc>>,
    pub(super) probe_at: Option<DateTime<Utc>>,
    pub(super) consecutive_failures: i32,
    pub(super) is_paused: bool,
    pub(super) pause_reason: Option<String>,
    pub(super) metadata: Value,
    pub(super) updated_at: DateTime<Utc>,
}

impl ActorServerStateRow {
    /// Named, never `*`: a newer program may add a column while this one has its statements prepared.
    pub(super) const COLUMNS: &str = "s.task_id, s.actor_name, s.definition, s.schedule, s.last_run, s.next_run, s.wake_at, s.probe_at, \
         s.consecutive_failures, s.is_paused, s.pause_reason, s.metadata, s.updated_at";
}

impl TryFrom<ActorServerStateRow> for TaskState {
    type Error = WorkError;

    fn try_from(row: ActorServerStateRow) -> Work<Self> {
        Ok(Self {
            task_id: task_id(row.task_id)?,
            actor_name: actor_name(row.actor_name)?,
            definition: DefinitionHash::new(row.definition)
                .map_err(|error| WorkError::corrupt("definition", error))?,
            schedule: serde_json::from_value(row.schedule)
                .map_err(|error| WorkError::corrupt("schedule", error))?,
            last_run: row.last_run,
            next_run: row.next_run,
            wake_at: row.wake_at,
            probe_at: row.probe_at,
            consecutive_failures: row.consecutive_failures.unsigned_abs(),
            is_paused: row.is_paused,
            pause_reason: row
                .pause_reason
                .as_deref()
                .map(|text| word::<PauseReason>("pause_reason", text))
                .transpose()?,
            metadata: row.metadata,
            updated_at: row.updated_at,
        })
    }
}

/// The part of a task's row that decides what may be done with it.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(table_name = actor_server_state)]
pub(super) struct LockedState {
    pub(super) task_id: String,
    pub(super) actor_name: String,
    pub(super) definition: String,
    pub(super) last_run: Option<DateTime<Utc>>,
    pub(super) next_run: Option<DateTime<Utc>>,
    pub(super) wake_at: Option<DateTime<Utc>>,
    pub(super) probe_at: Option<DateTime<Utc>>,
    pub(super) consecutive_failures: i32,
    pub(super) max_consecutive_failures: i32,
    pub(super) cooldown_seconds: Option<i64>,
    pub(super) is_paused: bool,
    pub(super) pause_reason: Option<String>,
    pub(super) followers: Option<Value>,
}

impl LockedState {
    pub(super) const COLUMNS: &str = "s.task_id, s.actor_name, s.definition, s.last_run, s.next_run, s.wake_at, \
         s.probe_at, s.consecutive_failures, s.max_consecutive_failures, s.cooldown_seconds, s.is_paused, \
         s.pause_reason, s.followers";
}

#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = actor_server_open_executions)]
pub(super) struct OpenExecutionRow {
    pub(super) id: i64,
    pub(super) task_id: String,
    pub(super) actor_name: String,
    pub(super) trigger: String,
    pub(super) scheduled_for: Option<DateTime<Utc>>,
    pub(super) due_at: DateTime<Utc>,
    pub(super) node: Option<String>,
    pub(super) fence: Option<i64>,
    pub(super) attempt: i32,
    pub(super) failures: i32,
    pub(super) interruptions: i32,
    pub(super) begun_at: Option<DateTime<Utc>>,
    pub(super) ready_at: Option<DateTime<Utc>>,
    pub(super) parameters: Value,
    pub(super) opened_at: DateTime<Utc>,
}

impl OpenExecutionRow {
    pub(super) const COLUMNS: &str = "o.id, o.task_id, o.actor_name, o.trigger, o.scheduled_for, o.due_at, o.node, o.fence, o.attempt, \
         o.failures, o.interruptions, o.begun_at, o.ready_at, o.parameters, o.opened_at";

    pub(super) fn trigger(&self) -> Work<Trigger> {
        word("trigger", &self.trigger)
    }
}

impl TryFrom<OpenExecutionRow> for views::ExecutionView {
    type Error = WorkError;

    fn try_from(row: OpenExecutionRow) -> Work<Self> {
        Ok(Self {
            id: ExecutionId(row.id),
            trigger: row.trigger()?,
            task_id: task_id(row.task_id)?,
            actor_name: actor_name(row.actor_name)?,
            scheduled_for: row.scheduled_for,
            scheduled_until: None,
            occurrences: 1,
            started_at: row.node.is_some().then_some(row.due_at),
            completed_at: None,
            outcome: None,
            skip_reason: None,
            success: None,
            error_message: None,
            attempt: row.attempt.unsigned_abs(),
            node: row.node,
            waiting_until: row.ready_at,
            skills_succeeded: 0,
            skills_failed: 0,
            skills_skipped: 0,
            metadata: Value::Null,
        })
    }
}

#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = actor_server_executions)]
pub(super) struct ActorServerExecutionRow {
    id: i64,
    task_id: String,
    actor_name: String,
    trigger: String,
    scheduled_for: Option<DateTime<Utc>>,
    scheduled_until: Option<DateTime<Utc>>,
    occurrences: i64,
    started_at: Option<DateTime<Utc>>,
    completed_at: DateTime<Utc>,
    outcome: String,
    skip_reason: Option<String>,
    success: Option<bool>,
    error_message: Option<String>,
    attempt: i32,
    node: Option<String>,
    skills_succeeded: i32,
    skills_failed: i32,
    skills_skipped: i32,
    metadata: Value,
}

impl ActorServerExecutionRow {
    pub(super) const COLUMNS: &str = "e.id, e.task_id, e.actor_name, e.trigger, e.scheduled_for, e.scheduled_until, e.occurrences, e.started_at, \
         e.completed_at, e.outcome, e.skip_reason, e.success, e.error_message, e.attempt, e.node, e.skills_succeeded, \
         e.skills_failed, e.skills_skipped, e.metadata";
}

impl TryFrom<ActorServerExecutionRow> for views::ExecutionView {
    type Error = WorkError;

    fn try_from(row: ActorServerExecutionRow) -> Work<Self> {
        Ok(Self {
            id: ExecutionId(row.id),
            task_id: task_id(row.task_id)?,
            actor_name: actor_name(row.actor_name)?,
            trigger: word("trigger", &row.trigger)?,
            scheduled_for: row.scheduled_for,
            scheduled_until: row.scheduled_until,
            occurrences: row.occurrences.unsigned_abs(),
            started_at: row.started_at,
            completed_at: Some(row.completed_at),
            outcome: Some(row.outcome),
            skip_reason: row.skip_reason,
            success: row.success,
            error_message: row.error_message,
            attempt: row.attempt.unsigned_abs(),
            node: row.node,
            waiting_until: None,
            skills_succeeded: row.skills_succeeded.unsigned_abs(),
            skills_failed: row.skills_failed.unsigned_abs(),
            skills_skipped: row.skills_skipped.unsigned_abs(),
            metadata: row.metadata,
        })
    }
}

batch_row! {
    /// A row of the history to be written.
    #[derive(Debug, Clone)]
    pub(super) struct NewActorServerExecution {
        pub(super) id: i64,
        pub(super) task_id: String,
        pub(super) actor_name: String,
        pub(super) trigger: &'static str,
        pub(super) scheduled_for: Option<DateTime<Utc>>,
        pub(super) scheduled_until: Option<DateTime<Utc>>,
        pub(super) occurrences: u64,
        pub(super) started_at: Option<DateTime<Utc>>,
        pub(super) completed_at: DateTime<Utc>,
        pub(super) outcome: &'static str,
        pub(super) skip_reason: Option<&'static str>,
        pub(super) success: Option<bool>,
        pub(super) error_message: Option<String>,
        pub(super) attempt: u32,
        pub(super) node: Option<String>,
        pub(super) fence: Option<i64>,
        pub(super) skills_succeeded: u32,
        pub(super) skills_failed: u32,
        pub(super) skills_skipped: u32,
        pub(super) metadata: Value,
    }
}

/// Writes history, and tells those who follow what happens. An occurrence that is in it already stays as it is: the unique
/// key is the second lock.
pub(super) async fn insert_executions(conn: &mut Connection, rows: &[NewActorServerExecution]) -> Work<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut told: Vec<i64> = rows.iter().map(|row| row.id).collect();
    // The rows are in the order in which the database came upon what ended, which its planner chooses.
    told.sort_unstable();
    let told = Value::from(told);
    let insert = batch::inserting::<NewActorServerExecution>(
        "actor_server_executions",
        "ON CONFLICT (task_id, scheduled_for) DO NOTHING",
    );
    let tell =
        "INSERT INTO actor_server_stream (kind, about, at) VALUES ('execution', $1, actor_server_now())";
    if dialect::WRITES_WITHIN_WITH {
        // Every run comes through here: both go in one round trip.
        let both = format!("WITH told AS ({tell}) {insert}");
        sql_query(both).bind::<Json, _>(told).rows(rows)?.execute(conn).await?;
    } else {
        sql_query(tell).bind::<Json, _>(told).execute(conn).await?;
        batch::update(conn, &insert, rows).await?;
    }
    Ok(())
}

impl NewActorServerExecution {
    /// The row for occurrences that were left out.
    pub(super) fn skipped(
        id: i64,
        task_id: &TaskId,
        actor_name: &ActorName,
        range: &botticelli_server::ledger::SkippedRange,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            id,
            task_id: task_id.to_string(),
            actor_name: actor_name.to_string(),
            trigger: Trigger::Schedule.as_str(),
            scheduled_for: Some(range.from),
            scheduled_until: (range.count > 1).then_some(range.to),
            occurrences: range.count,
            started_at: None,
            completed_at: now,
            outcome: "skipped",
            skip_reason: Some(range.reason.as_str()),
            success: None,
            error_message: None,
            attempt: 0,
            node: None,
            fence: None,
            skills_succeeded: 0,
            skills_failed: 0,
            skills_skipped: 0,
            metadata: Value::Object(serde_json::Map::new()),
        }
    }
}

#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = actor_server_posts)]
pub(super) struct PostRow {
    pub(super) id: i64,
    pub(super) execution_id: i64,
    pub(super) task_id: String,
    pub(super) platform: String,
    pub(super) destination: String,
    pub(super) part: i32,
    pub(super) first_part: i32,
    pub(super) key: String,
    pub(super) content: Value,
    pub(super) limits: Value,
    pub(super) on_unknown: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) not_before: Option<DateTime<Utc>>,
    pub(super) deliver_at: Option<DateTime<Utc>>,
    pub(super) follow_up_at: Option<DateTime<Utc>>,
    pub(super) attempts: i32,
    pub(super) waits: i32,
    pub(super) uncertain_since: Option<DateTime<Utc>>,
    pub(super) node: Option<String>,
    pub(super) fence: Option<i64>,
    pub(super) receipt: Option<Value>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) posted_at: Option<DateTime<Utc>>,
}

impl PostRow {
    pub(super) const COLUMNS: &str = "p.id, p.execution_id, p.task_id, p.platform, p.destination, p.part, p.first_part, p.key, p.content, \
         p.limits, p.on_unknown, p.state, p.reason, p.not_before, p.deliver_at, p.follow_up_at, p.attempts, p.waits, p.uncertain_since, \
         p.node, \
         p.fence, p.receipt, p.created_at, p.posted_at";
}

/// JSON of ours, read back.
pub(super) fn json<T: DeserializeOwned>(column: &str, value: Value) -> Work<T> {
    serde_json::from_value(value).map_err(|error| WorkError::corrupt(column, error))
}

impl TryFrom<PostRow> for views::PostView {
    type Error = WorkError;

    fn try_from(row: PostRow) -> Work<Self> {
        let content: PostContent = json("content", row.content)?;
        Ok(Self {
            id: PostId(row.id),
            execution_id: ExecutionId(row.execution_id),
            task_id: task_id(row.task_id)?,
            platform: row.platform,
            destination: row.destination,
            part: row.part.unsigned_abs(),
            first_part: row.first_part.unsigned_abs(),
            key: row.key,
            content: content.text,
            extras: content.extras,
            marked_posted: row.state == "posted" && row.reason.as_deref() == Some(views::MARKED_POSTED),
            state: word("state", &row.state)?,
            reason: row.reason,
            deliver_at: row.deliver_at,
            follow_up_at: row.follow_up_at,
            waits_for: None,
            uncertain_since: row.uncertain_since,
            attempts: row.attempts.unsigned_abs(),
            node: row.node,
            receipt: row.receipt.map(|receipt| json::<Receipt>("receipt", receipt)).transpose()?,
            created_at: row.created_at,
            posted_at: row.posted_at,
        })
    }
}

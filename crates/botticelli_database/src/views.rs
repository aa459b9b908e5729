//! What people see of the ledger: the rows behind every listing. The field names are those of the JSON that the command
//! line prints.

use crate::api_tasks::Origin;
use botticelli_server::ids::{ActorName, ExecutionId, PostId, TaskId};
use botticelli_server::ledger::Trigger;
use botticelli_server::outbox::{Exchange, PostState};
use botticelli_server::post::{Extras, Receipt};
use botticelli_server::schedule::ScheduleType;
use botticelli_server::task::{Breaker, PauseReason, TaskState};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A task in a listing.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TaskView {
    /// The task.
    pub task_id: TaskId,
    /// Its actor.
    pub actor_name: ActorName,
    /// Whose it is: the server's file's, or the API's.
    pub origin: Origin,
    /// Its schedule.
    pub schedule: ScheduleType,
    /// Its schedule in words.
    pub schedule_text: String,
    /// When the last attempt started.
    pub last_run: Option<DateTime<Utc>>,
    /// The execution or the skipped occurrences that came to their end last: how.
    pub last_outcome: Option<String>,
    /// When that was.
    pub last_completed_at: Option<DateTime<Utc>>,
    /// The next nominal time; `None`: never again.
    pub next_run: Option<DateTime<Utc>>,
    /// Failed executions in a row.
    pub consecutive_failures: u32,
    /// Whether occurrences are left alone.
    pub is_paused: bool,
    /// Why.
    pub pause_reason: Option<PauseReason>,
    /// What the person said who paused it.
    pub pause_note: Option<String>,
    /// What its breaker does.
    pub breaker: Breaker,
    /// How many executions of it are not over.
    pub open_executions: u32,
    /// How many of its posts wait because their destination did not take one.
    pub waiting_posts: u64,
    /// When the first of them was made.
    pub waiting_since: Option<DateTime<Utc>>,
    /// What such a destination said last.
    pub waiting_reason: Option<String>,
    /// The row's last change.
    pub updated_at: DateTime<Utc>,
}

/// The posts of a task that wait because their destination did not take one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting {
    pub(crate) posts: u64,
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) reason: Option<String>,
}

impl TaskView {
    pub(crate) fn with_waiting(self, waiting: Waiting) -> Self {
        Self {
            waiting_posts: waiting.posts,
            waiting_since: waiting.since,
            waiting_reason: waiting.reason,
            ..self
        }
    }

    pub(crate) fn new(state: TaskState) -> Self {
        Self {
            origin: Origin::File,
            waiting_posts: 0,
            waiting_since: None,
            waiting_reason: None,
            breaker: state.breaker(),
            schedule_text: state.schedule.describe(),
            updated_at: state.updated_at,
            task_id: state.task_id,
            actor_name: state.actor_name,
            schedule: state.schedule,
            last_run: state.last_run,
            last_outcome: None,
            last_completed_at: None,
            next_run: state.next_run,
            consecutive_failures: state.consecutive_failures,
            is_paused: state.is_paused,
            pause_reason: if state.is_paused {
                state.pause_reason.or(Some(PauseReason::Operator))
            } else {
                None
            },
            pause_note: None,
            open_executions: 0,
        }
    }
}

/// An execution in a listing: over, under way, or waiting for a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExecutionView {
    /// Its number.
    pub id: ExecutionId,
    /// Its task.
    pub task_id: TaskId,
    /// Its actor.
    pub actor_name: ActorName,
    /// What started it.
    pub trigger: Trigger,
    /// The nominal time.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// Of occurrences that were left out together: the last nominal time.
    pub scheduled_until: Option<DateTime<Utc>>,
    /// How many occurrences this row accounts for.
    pub occurrences: u64,
    /// When the last attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub completed_at: Option<DateTime<Utc>>,
    /// How it ended; `None` while it is open.
    pub outcome: Option<String>,
    /// Why it was skipped.
    pub skip_reason: Option<String>,
    /// Whether it succeeded; `None` when nothing was tried to the end.
    pub success: Option<bool>,
    /// What went wrong.
    pub error_message: Option<String>,
    /// Attempts so far.
    pub attempt: u32,
    /// The node of the last attempt.
    pub node: Option<String>,
    /// While it waits for a node: until when.
    pub waiting_until: Option<DateTime<Utc>>,
    /// Skills that ended well.
    pub skills_succeeded: u32,
    /// Skills that failed.
    pub skills_failed: u32,
    /// Skills disabled or not reached.
    pub skills_skipped: u32,
    /// What each skill said.
    pub metadata: Value,
}

/// An attempt that did not end its execution.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AttemptView {
    /// From 1.
    pub attempt: u32,
    /// Whose it was.
    pub node: String,
    /// When it started; of an attempt whose node died: when it was to start.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended, or was found interrupted.
    pub ended_at: DateTime<Utc>,
    /// `failed` or `interrupted`.
    pub ended: String,
    /// What went wrong.
    pub error_message: Option<String>,
}

/// Why a post is `posted` whose receipt a person gave.
pub(crate) const MARKED_POSTED: &str = "marked as posted by an operator";

/// A post in a listing.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PostView {
    /// Its number.
    pub id: PostId,
    /// The task that made it.
    pub task_id: TaskId,
    /// The execution that made it.
    pub execution_id: ExecutionId,
    /// Where it goes.
    pub platform: String,
    /// Where on that platform.
    pub destination: String,
    /// Its place in what the execution posts there, from 0.
    pub part: u32,
    /// The first part of the same message.
    pub first_part: u32,
    /// By which the platform recognises it.
    pub key: String,
    /// The text.
    pub content: String,
    /// What comes with it, by the platforms that know it.
    #[serde(skip_serializing_if = "Extras::is_empty")]
    pub extras: Extras,
    /// Where it stands.
    pub state: PostState,
    /// Why it stands there.
    pub reason: Option<String>,
    /// When it goes out next.
    pub deliver_at: Option<DateTime<Utc>>,
    /// It is there, and what is to follow it (`to_follow` of its receipt) is done, or tried again, then.
    pub follow_up_at: Option<DateTime<Utc>>,
    /// While it waits: the other post that goes first. An earlier part of its message that is not settled, or a post that
    /// their destination did not take.
    pub waits_for: Option<PostId>,
    /// Since when it may be there although nobody knows.
    pub uncertain_since: Option<DateTime<Utc>>,
    /// Attempts so far.
    pub attempts: u32,
    /// The node that is sending it.
    pub node: Option<String>,
    /// What the platform answered; or, where `marked_posted`, what a person said in its place.
    pub receipt: Option<Receipt>,
    /// A person said that it is there; the platform never did.
    pub marked_posted: bool,
    /// When the run that made it ended.
    pub created_at: DateTime<Utc>,
    /// When the platform took it.
    pub posted_at: Option<DateTime<Utc>>,
}

/// One attempt to send a post.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PostAttemptView {
    /// From 1.
    pub attempt: u32,
    /// Whose it was.
    pub node: String,
    /// When it was about to be sent.
    pub sent_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How.
    pub ended: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What the platform was asked, and what it answered. `None`: nobody knows; the node was lost.
    pub exchanges: Option<Vec<Exchange>>,
}

/// How things stand, for a health check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthView {
    /// Tasks that are due some time and not paused.
    pub scheduled_tasks: u64,
    /// Tasks whose breaker is open, by name: the first [`HealthView::MOST_NAMES`].
    pub failed_tasks: Vec<TaskId>,
    /// When the last execution came to its end.
    pub last_execution: Option<DateTime<Utc>>,
}

impl HealthView {
    /// So many names are told.
    pub const MOST_NAMES: usize = 100;
}

/// Which tasks to list: by name, those after `after`.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Only this one.
    pub task: Option<TaskId>,
    /// That run this actor.
    pub actor: Option<ActorName>,
    /// Whose they are.
    pub origin: Option<Origin>,
    /// That are paused, or are not.
    pub is_paused: Option<bool>,
    /// Paused for this reason.
    pub pause_reason: Option<PauseReason>,
    /// Whose name comes after this one.
    pub after: Option<TaskId>,
    /// At most so many; `None`: all.
    pub limit: Option<usize>,
}

/// A node in a listing.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct NodeView {
    /// Its name: one process.
    pub node: String,
    /// Of its program.
    pub version: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it last said that it lives.
    pub heartbeat_at: DateTime<Utc>,
    /// So long it counts as alive after that.
    pub lease_until: DateTime<Utc>,
    /// When it went, or was given up.
    pub left_at: Option<DateTime<Utc>>,
    /// Whether it counts as alive.
    pub lives: bool,
    /// Executions that it has.
    pub open_executions: u64,
}

/// Which executions, by how they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeFilter {
    /// They have not: they run, or wait for a node.
    Open,
    /// Well.
    Succeeded,
    /// Not well.
    Failed,
    /// They were left out.
    Skipped,
    /// A person ended them.
    Cancelled,
}

impl OutcomeFilter {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Which executions to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    /// Of this task.
    pub task: Option<TaskId>,
    /// That ended like this.
    pub outcome: Option<OutcomeFilter>,
    /// Started by this.
    pub trigger: Option<Trigger>,
    /// That started then or later; what is open counts by when it was due. What was left out never started.
    pub since: Option<DateTime<Utc>>,
    /// The same, before then.
    pub until: Option<DateTime<Utc>>,
    /// Older than this one.
    pub before: Option<ExecutionId>,
    /// At most so many.
    pub limit: usize,
}

/// Which posts to list.
#[derive(Debug, Clone, Default)]
pub struct PostFilter {
    /// Of this task.
    pub task: Option<TaskId>,
    /// Made by this execution.
    pub execution_id: Option<ExecutionId>,
    /// In this state.
    pub state: Option<PostState>,
    /// Older than this one.
    pub before: Option<PostId>,
    /// At most so many, newest first.
    pub limit: usize,
}

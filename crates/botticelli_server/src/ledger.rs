//! The ledger: what a fenced store can do and a snapshot can't.
//!
//! Every occurrence passes through here. [`Ledger::claim`] advances a task's `next_run` from exactly the nominal time
//! that is claimed and opens the execution, in one transaction; [`Ledger::record`] closes it with everything the run
//! made, conditional on the attempt's fence. Time is the store's: the database's clock on PostgreSQL.

use crate::ids::{ActorName, DefinitionHash, ExecutionId, Fence, NodeId, TaskId};
use crate::outbox::{NewPost, UsedItem};
use crate::outcome::{AttemptEnd, SkillCounts, SkipReason};
use crate::plan::{ClaimPlan, Settlement};
use crate::post::Origin;
use crate::task::{Task, TaskState};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What can go wrong in the store, by what the caller does about it.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database can't be reached, or was lost on the way; what was sent may or may not have been committed.
    #[error("the database can't be reached: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database refused what was asked. Asking again will not help.
    #[error("the database refused: {0}")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The disk is full, or the file can't be written.
    #[error("the database can't be written: {0}")]
    NotWritable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row holds something this program can't read.
    #[error("unexpected data in the database: {0}")]
    Corrupt(String),
}

/// What started an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The task's schedule.
    Schedule,
    /// The task's schedule, as a probe of an open breaker.
    Probe,
    /// A person.
    Manual,
    /// An event.
    Event,
}

impl Trigger {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Probe => "probe",
            Self::Manual => "manual",
            Self::Event => "event",
        }
    }
}

/// Occurrences that were left out together: one row of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedRange {
    /// The first nominal time.
    pub from: DateTime<Utc>,
    /// The last nominal time.
    pub to: DateTime<Utc>,
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: SkipReason,
}

/// A wish to claim what a plan says.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRequest {
    /// The task.
    pub task_id: TaskId,
    /// Its actor.
    pub actor_name: ActorName,
    /// The definition that this node holds: another registered one refuses the claim.
    pub definition: DefinitionHash,
    /// What to claim.
    pub plan: ClaimPlan,
    /// Whether the task may run beside itself.
    pub overlap_allowed: bool,
}

/// A wish to take an execution that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeRequest {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its task.
    pub task_id: TaskId,
    /// The definition that this node holds: another registered one refuses the wish.
    pub definition: DefinitionHash,
    /// Whether the task may run beside itself.
    pub overlap_allowed: bool,
}

/// An attempt that this node owns until it records it, or its lease is lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The task.
    pub task_id: TaskId,
    /// What started it.
    pub trigger: Trigger,
    /// The nominal time, if the schedule started it.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// When to start: the nominal time and its jitter, or the end of a wait.
    pub due_at: DateTime<Utc>,
    /// When the execution began to exist: the same in every attempt.
    pub opened_at: DateTime<Utc>,
    /// This attempt, from 1.
    pub attempt: u32,
    /// Its token.
    pub fence: Fence,
    /// Failures in a row before this attempt.
    pub consecutive_failures: u32,
    /// Earlier attempts of this execution that failed.
    pub failures: u32,
    /// Earlier attempts of this execution whose server died. With one or more of them, it may be what kills servers:
    /// see [`Ledger::begin`].
    pub interruptions: u32,
    /// Parameters of a manual trigger, or the event.
    pub parameters: serde_json::Value,
}

impl Attempt {
    /// What tells its execution from all others.
    pub fn origin(&self) -> Origin<'_> {
        match self.scheduled_for {
            Some(scheduled_for) => Origin::Occurrence { task: &self.task_id, scheduled_for },
            None => Origin::Asked { execution: self.execution_id, opened_at: self.opened_at },
        }
    }
}

/// An execution that waits for a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its task.
    pub task_id: TaskId,
    /// When it may start.
    pub ready_at: DateTime<Utc>,
}

/// What to look at next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agenda {
    /// Tasks to look at, by `wake_at` or `probe_at`; and those that were resumed, to end their resume.
    pub tasks: Vec<TaskState>,
    /// Executions that wait for a node, by `ready_at`.
    pub waiting: Vec<Waiting>,
    /// Where the next part begins, if this is not all.
    pub more: Option<AgendaMark>,
}

/// Where the next part of an agenda begins: behind the last of each list that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgendaMark {
    /// The last task, and its `wake_at`.
    pub task: Option<(DateTime<Utc>, TaskId)>,
    /// The last execution, and its `ready_at`.
    pub execution: Option<(DateTime<Utc>, ExecutionId)>,
}

/// The end of an attempt with all that it made. It is stored whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedAttempt {
    /// The attempt.
    pub attempt: Attempt,
    /// The task's actor.
    pub actor_name: ActorName,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// How.
    pub end: AttemptEnd,
    /// How its skills fared.
    pub skills: SkillCounts,
    /// What the task becomes.
    pub settlement: Settlement,
    /// The posts it made.
    pub posts: Vec<NewPost>,
    /// The items they used up.
    pub used_items: Vec<UsedItem>,
    /// What else the history shows (each skill's word).
    pub metadata: serde_json::Value,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// It is stored. Holds what else the caller must know.
    Stored {
        /// The task's row after it.
        state: Option<Box<TaskChange>>,
    },
    /// The attempt has a successor: nothing was stored.
    Stale,
    /// Another run of the task has used up an item that this one took for unused (`overlap = "allow"`): nothing that it
    /// made was stored, and the execution waits for its next attempt.
    Overtaken {
        /// When that may be made.
        ready_at: DateTime<Utc>,
    },
    /// The database refuses what this attempt made: nothing was stored, and asking again will not help. The attempt
    /// is still this node's, and must be recorded in another way.
    Refused {
        /// Why, for a person.
        reason: String,
    },
}

/// What a record made of its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskChange {
    /// The next nominal time.
    pub next_run: Option<DateTime<Utc>>,
    /// When to look at the task next.
    pub wake_at: Option<DateTime<Utc>>,
    /// Whether this record opened the breaker.
    pub breaker_opened: bool,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Whether other tasks run after it: see [`Ledger::pass_on_ends`].
    pub followed: bool,
}

/// Whether a node still counts as alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It does.
    Held,
    /// It was silent too long: its attempts were handed on.
    Lost,
}

/// What a rescue did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Nodes that were found dead.
    pub nodes: Vec<NodeId>,
    /// Executions that wait for a new attempt.
    pub handed_on: Vec<ExecutionId>,
    /// Executions that killed their server too often, and are now failed.
    pub poisoned: Vec<ExecutionId>,
}

/// So many interruptions of one execution make it poison: it fails. The first is counted for whatever was due; from then
/// on only attempts count that had begun ([`Ledger::begin`]).
pub const POISON_INTERRUPTIONS: u32 = 3;

/// Definitions to be registered.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// Whether these are all: others are retired, which keeps them, paused.
    pub complete: bool,
    /// Whether a server starts: what runs at every start runs again.
    pub start: bool,
}

/// What a registration changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    /// Seen for the first time.
    pub added: Vec<TaskId>,
    /// With another definition than before.
    pub changed: Vec<TaskId>,
    /// Gone from the configuration.
    pub retired: Vec<TaskId>,
    /// The same as before.
    pub unchanged: usize,
    /// Names of tasks that were made over the API: nothing was registered.
    pub taken: Vec<TaskId>,
}

/// The store as the engine uses it.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// The store's time.
    async fn now(&self) -> Result<DateTime<Utc>, LedgerError>;

    /// What is to be looked at until `horizon`, soonest first, in parts of `limit`: the first, or the one after `mark`.
    async fn agenda(
        &self,
        horizon: DateTime<Utc>,
        mark: Option<AgendaMark>,
        limit: usize,
    ) -> Result<Agenda, LedgerError>;

    /// The states of these tasks.
    async fn states(&self, tasks: &[TaskId]) -> Result<Vec<TaskState>, LedgerError>;

    /// Carries out plans, each if the task is still as the plan saw it: `next_run`, definition, not paused, not
    /// running. Claims of work that is due later than `ahead` from now are refused. Returns the attempts won, in no
    /// order; a plan that only skips wins none.
    async fn claim(
        &self,
        node: &NodeId,
        requests: &[ClaimRequest],
        ahead: Duration,
    ) -> Result<Vec<Attempt>, LedgerError>;

    /// Takes waiting executions whose task is registered as the node holds it, and whose slot is free; and no more of a
    /// task than one, unless it may overlap itself. Of those that one more interruption makes poison, a node has one at a time:
    /// its death is then the fault of none but that one.
    async fn take(
        &self,
        node: &NodeId,
        wanted: &[TakeRequest],
        ahead: Duration,
    ) -> Result<Vec<Attempt>, LedgerError>;

    /// Stores the ends of attempts, each whole or not at all; the answers are in the order of `ended`. One that was
    /// stored before is `Stored` again: after an error whose effect is unknown, ask again with the same.
    async fn record(&self, node: &NodeId, ended: &[EndedAttempt]) -> Result<Vec<Recorded>, LedgerError>;

    /// Writes down that an attempt begins, whose execution was interrupted before: its next interruption is then known
    /// to be one, and not a wait for a worker that was cut short. Says whether the attempt is still this node's;
    /// otherwise it must not begin.
    async fn begin(&self, node: &NodeId, attempt: &Attempt) -> Result<bool, LedgerError>;

    /// Gives back attempts that have not started.
    async fn release(&self, node: &NodeId, attempts: &[Attempt]) -> Result<(), LedgerError>;

    /// Says that the node lives. A node's first call enters it.
    async fn renew(&self, node: &NodeId, lease: Duration) -> Result<Lease, LedgerError>;

    /// The node goes; what it still has is handed on at once.
    async fn leave(&self, node: &NodeId) -> Result<Rescued, LedgerError>;

    /// Hands on what other nodes have that were silent longer than their lease.
    async fn rescue(&self, node: &NodeId) -> Result<Rescued, LedgerError>;

    /// Makes executions of the ends that other tasks run after, which were stored with what ended. Whoever records an end
    /// does this at once; whoever looks after the nodes, again and again, in case one died in between. Returns how many ends.
    async fn pass_on_ends(&self) -> Result<usize, LedgerError>;

    /// Takes up definitions, all in one transaction.
    async fn register(&self, registration: Registration) -> Result<Registered, LedgerError>;

    /// Lets go of a task as if it were gone from the configuration: it is paused and kept, and claims whose time has not
    /// come are taken back. Says whether that was anything new.
    async fn retire(&self, task: &TaskId) -> Result<bool, LedgerError>;

    /// Deletes executions that were over before `before`, and what people changed before: at most `limit` of each.
    /// Returns how many.
    async fn prune(&self, before: DateTime<Utc>, limit: usize) -> Result<usize, LedgerError>;

    /// Deletes at most `limit` entries older than `before` of what is told to those who follow the changes. Returns how
    /// many.
    async fn prune_changes(&self, before: DateTime<Utc>, limit: usize) -> Result<usize, LedgerError>;

    /// Forgets nodes that have been gone for so long, and what else nobody asks for any more. Returns how many nodes.
    async fn prune_nodes(&self, gone_for: Duration) -> Result<usize, LedgerError>;

    /// The attempts that `node` owns, as the store knows it: for a node that did not hear an answer, or whose claims
    /// somebody may have taken back.
    async fn owned(&self, node: &NodeId) -> Result<Vec<Attempt>, LedgerError>;

    /// What `node` owns and a person wants to end. What nobody owns ends in the store.
    async fn cancelled(&self, node: &NodeId) -> Result<Vec<ExecutionId>, LedgerError>;

    /// Takes back claims of `node` whose time has not come and whose task was paused since.
    async fn withdraw_paused(&self, node: &NodeId) -> Result<Vec<ExecutionId>, LedgerError>;
}

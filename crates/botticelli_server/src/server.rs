//! The seams that the server is assembled from: scheduling, running actors, keeping state, starting and stopping, and
//! events. They carry data, not closures, because a task outlives the process.

use crate::ids::{ExecutionId, TaskId};
use crate::ledger::{LedgerError, Trigger};
use crate::outbox::{NewPost, UsedItem};
use crate::outcome::{AttemptEnd, SkillCounts};
use crate::task::Task;
use async_trait::async_trait;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Runs tasks when they are due.
#[async_trait]
pub trait TaskScheduler: Send + Sync {
    /// Takes up `task`, or its new definition. What it has done so far is kept.
    async fn schedule(&self, task: Task) -> Result<(), LedgerError>;

    /// Stops scheduling the task, wherever it is scheduled, until it is scheduled again; an attempt that runs is finished.
    /// Says whether the task was known here.
    async fn cancel(&self, task: &TaskId) -> Result<bool, LedgerError>;

    /// The tasks that are scheduled, by name.
    async fn scheduled(&self) -> Result<Vec<TaskId>, LedgerError>;

    /// Runs what is due until `stop`; then starts nothing more, and returns when what was running is recorded.
    async fn run(&self, stop: CancellationToken);
}

/// What one attempt produced.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// How it ended.
    pub end: AttemptEnd,
    /// How its skills fared.
    pub skills: SkillCounts,
    /// The posts to put into the outbox.
    pub posts: Vec<NewPost>,
    /// The items they use up.
    pub used_items: Vec<UsedItem>,
    /// What the history shows of it.
    pub metadata: serde_json::Value,
}

impl Run {
    /// A run that ended like this and made nothing.
    pub fn ended(end: AttemptEnd) -> Self {
        Self {
            end,
            skills: SkillCounts::default(),
            posts: Vec::new(),
            used_items: Vec::new(),
            metadata: serde_json::Value::Null,
        }
    }
}

/// Something that can be run again and again.
#[async_trait]
pub trait Actor<Context>: Send + Sync {
    /// Runs once. Has no effect outside: what it wants done is in the [`Run`].
    async fn run(&self, context: Context) -> Run;
}

/// Nobody by that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown actor {0:?}")]
pub struct UnknownActor(pub String);

/// The registry of actors, and the place where they run.
#[async_trait]
pub trait ActorManager<ActorId, Context>: Send + Sync {
    /// Enters `actor`; returns the one that had the name before.
    fn register(&self, id: ActorId, actor: Arc<dyn Actor<Context>>) -> Option<Arc<dyn Actor<Context>>>;

    /// Takes the actor out; runs under way go on. Says whether it was known.
    fn deregister(&self, id: &ActorId) -> bool;

    /// Who is registered, in order.
    fn ids(&self) -> Vec<ActorId>;

    /// Runs one actor once. A panic in it is a failed attempt, not the end of the server.
    async fn run(&self, id: &ActorId, context: Context) -> Result<Run, UnknownActor>;
}

/// Keeps a snapshot, for recovery after a restart.
#[async_trait]
pub trait StatePersistence: Send + Sync {
    /// What is kept.
    type State;

    /// The snapshot saved last.
    async fn load(&self) -> Result<Option<Self::State>, LedgerError>;

    /// Replaces the snapshot, whole or not at all.
    async fn save(&self, state: &Self::State) -> Result<(), LedgerError>;

    /// Forgets it.
    async fn clear(&self) -> Result<(), LedgerError>;
}

/// A server as a whole.
#[async_trait]
pub trait ActorServer: Send + Sync {
    /// Why it could not do as told.
    type Error;

    /// Recovers its state and starts working; returns when it does.
    async fn start(&self) -> Result<(), Self::Error>;

    /// Takes on no more work, finishes and records what runs, and returns when that is done.
    async fn stop(&self) -> Result<(), Self::Error>;

    /// Takes up a changed configuration; a bad one changes nothing.
    async fn reload(&self) -> Result<(), Self::Error>;
}

/// Something happened that a task reacts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The task that reacts.
    pub task: TaskId,
    /// A person, or something outside.
    pub trigger: Trigger,
    /// What the run gets to know about it.
    pub parameters: serde_json::Value,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is stored: this execution will run, whatever happens to the server.
    Execution(ExecutionId),
    /// There is no such task.
    UnknownTask,
}

/// Takes events. The answer comes when the event is durable.
#[async_trait]
pub trait EventServer: Send + Sync {
    /// Stores `event` as an execution that waits for a node.
    async fn publish(&self, event: Event) -> Result<Accepted, LedgerError>;
}

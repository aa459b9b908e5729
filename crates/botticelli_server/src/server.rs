//! The seams that the server is assembled from: scheduling, running actors, keeping state, starting and stopping, and
//! events. They carry data, not closures, because a task outlives the process.

use crate::ids::{ExecutionId, TaskId};
use crate::ledger::{LedgerError, Trigger};
use crate::outbox::{NewPost, UsedItem};
use crate::outcome::{AttemptEnd, SkillCounts};
use crate::task::Task;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
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

/// Something that arrived, for one of the tasks that react to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// The task that reacts. It is the ordering key, too: what arrives for a task that does not overlap is run one at a
    /// time, in the order in which it was taken; what arrives for different tasks has no order.
    pub task: TaskId,
    /// Where it arrived: the name of the trigger. Ids are told apart within it.
    pub source: String,
    /// What it is known by, where it comes from; `None`: nothing tells whether it was here before.
    pub id: Option<String>,
    /// What must be the same when the id comes again, such as a hash of what was asked; `None`: the id alone decides.
    pub request: Option<String>,
    /// What a run gets as its knowledge.
    pub item: EventItem,
    /// Whether it shares a run with others.
    pub gathering: Gathering,
    /// With so many runs of the task waiting for events, no other is begun.
    pub max_waiting: NonZeroU32,
    /// What becomes of it then.
    pub when_full: WhenFull,
}

/// What becomes of an arrival when too many runs wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Back-pressure: whoever brought it brings it again later.
    Refuse,
    /// Nobody would bring it again: the history says that it was left out.
    LeaveOut,
}

/// An event as a run gets to know it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventItem {
    /// Unlike any other event's.
    pub key: String,
    /// What was sent.
    pub body: serde_json::Value,
}

/// The events of one run, as they stand in the parameters of its execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatheredEvents {
    /// The name of the trigger.
    pub source: String,
    /// What was sent, in the order in which it was taken.
    pub events: Vec<EventItem>,
}

/// Which events become one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gathering {
    /// Each has its own, at once.
    Each,
    /// The last one, when none has come for so long; at the latest after [`LONGEST_DEBOUNCE`] times that.
    Last {
        /// The silence that is waited for.
        quiet: Duration,
    },
    /// All that come within so long after the first one, up to a number.
    All {
        /// How long.
        within: Duration,
        /// How many at most: then the run starts at once.
        most: NonZeroU32,
    },
}

/// A steady stream of events holds a run up for no longer than so many times the silence that it waits for.
pub const LONGEST_DEBOUNCE: u32 = 10;

/// What became of an arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It is stored: this execution will run, whatever happens to the server.
    Stored(ExecutionId),
    /// It was stored before, for this execution.
    Again(ExecutionId),
    /// Its id was used by another request.
    OtherRequest,
    /// Too many runs wait already: this row of the history says that it was left out.
    LeftOut(ExecutionId),
    /// Too many runs wait already: it is not stored. Whoever sent it tries again later.
    Full {
        /// How many wait.
        waiting: u32,
    },
    /// There is no such task.
    UnknownTask,
}

/// Takes events. The answer is the acknowledgement, and comes when the event is durable: a gateway or a broker confirms
/// what it has taken from outside only then, and brings what was not confirmed again under the same id. Whoever is told
/// [`Received::Full`] takes nothing more from outside for a while.
#[async_trait]
pub trait EventServer: Send + Sync {
    /// Stores what arrived as an execution that waits for a node, or with one that waits already. With an id once,
    /// however often it comes.
    async fn receive(&self, arrival: Arrival) -> Result<Received, LedgerError>;

    /// Stores `event` as an execution that waits for a node.
    async fn publish(&self, event: Event) -> Result<Accepted, LedgerError>;
}

//! What the server can ask about itself: how things stand, and whether all is as it has to be.

use botticelli_server::ids::{ActorName, DefinitionHash, ExecutionId, PostId, TaskId};
use botticelli_server::schedule::ScheduleType;
use chrono::{DateTime, Utc};

/// How many tasks are in which state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CensusView {
    /// Tasks that are due some time and not paused.
    pub scheduled_tasks: u64,
    /// Those that a person or the breaker has paused, by actor.
    pub held: Vec<HeldTasks>,
}

/// Paused tasks of one actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldTasks {
    /// Their actor.
    pub actor: ActorName,
    /// Whether the breaker paused them, or a person.
    pub by_breaker: bool,
    /// How many.
    pub tasks: u64,
    /// How many of them are being probed.
    pub probing: u64,
}

/// What must not be. Of each kind at most as many as were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvariantsView {
    /// Tasks whose time is over, and nothing of them is open.
    pub overdue_tasks: Vec<TaskId>,
    /// Executions of nodes that do not live, and executions that nobody takes.
    pub orphaned_executions: Vec<ExecutionId>,
    /// Posts that are being sent although the lease for that is over.
    pub stuck_posts: Vec<PostId>,
}

/// Where a task stands on its schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The task.
    pub task_id: TaskId,
    /// Its definition.
    pub definition: DefinitionHash,
    /// Its next nominal time.
    pub next_run: DateTime<Utc>,
}

/// How far a task has come since.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The task.
    pub task_id: TaskId,
    /// Its schedule.
    pub schedule: ScheduleType,
    /// Its next nominal time now.
    pub next_run: Option<DateTime<Utc>>,
    /// So many nominal times from where it stood to there are in the ledger.
    pub accounted: u64,
}

/// The connections to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolView {
    /// At most so many.
    pub max: usize,
    /// Open ones.
    pub open: usize,
    /// Those of them that nobody uses.
    pub idle: usize,
    /// Units of work that wait for one. `None`: nobody counts them (SQLite).
    pub waiting: Option<usize>,
}

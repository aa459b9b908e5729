//! The engine: starts due work at its time, runs it in a bounded pool, records it in batches.
//!
//! ```text
//! Ledger::agenda ─► Timetable ─► plan ─► Ledger::claim ─► ready, until due ─► a slot ─► ActorManager::run
//!                        ▲                                                              │
//!                        └────────────── Ledger::record ◄── Recorder ◄── settle ◄───────┘
//! ```
//! One task, the `dispatcher`, owns all of that state; it never waits for the database: it has at most one question
//! there, and goes on starting what is due until the answer comes.

mod activity;
mod clock;
mod dispatcher;
mod node;
mod recorder;
mod retention;
mod shutdown;
mod timetable;
mod window;

pub use activity::Activity;
pub use clock::DatabaseClock;
pub use node::{CurrentNode, is_on, node_name};
pub use shutdown::{LAST_MOMENTS, Shutdown};

use crate::actor::RunContext;
use crate::metrics::ExecutionMetrics;
use crate::traces::Traces;
use async_trait::async_trait;
use botticelli_database::Wakeups;
use botticelli_server::clock::Clock as _;
use botticelli_server::ids::{ActorName, NodeId, TaskId};
use botticelli_server::ledger::{Attempt, Ledger, LedgerError, Registration};
use botticelli_server::outbox::Outbox;
use botticelli_server::server::{ActorManager, TaskScheduler};
use botticelli_server::task::Task;
use chrono::TimeDelta;
use dispatcher::Dispatcher;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How the engine behaves.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// How often everything is looked over, in case a hint was lost.
    pub check_interval: Duration,
    /// How many runs go on at a time.
    pub max_concurrent_executions: NonZeroUsize,
    /// How long a stop waits for runs to end.
    pub shutdown_grace: Duration,
    /// How often the node says that it lives.
    pub heartbeat: Duration,
    /// How long it counts as alive after that.
    pub lease: Duration,
    /// History older than this is deleted; `None`: never.
    pub history_retention: Option<Duration>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            check_interval: Duration::from_secs(60),
            max_concurrent_executions: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
            shutdown_grace: Duration::from_secs(30),
            heartbeat: Duration::from_secs(2),
            lease: Duration::from_secs(8),
            history_retention: None,
        }
    }
}

/// Makes the context of an attempt.
pub type Contexts = dyn Fn(&Task, &Attempt, CancellationToken) -> RunContext + Send + Sync;

/// What the engine is made of.
pub struct EngineParts {
    /// The store.
    pub ledger: Arc<dyn Ledger>,
    /// The store's outbox, for handing on what dead nodes were sending.
    pub outbox: Arc<dyn Outbox>,
    /// The actors.
    pub actors: Arc<dyn ActorManager<ActorName, RunContext>>,
    /// Makes contexts.
    pub contexts: Arc<Contexts>,
    /// The database's time.
    pub clock: Arc<DatabaseClock>,
    /// Called when somebody else has changed something in the store.
    pub wakeups: Wakeups,
    /// Woken when there are new posts.
    pub posts_waiting: Arc<Notify>,
    /// This process.
    pub node: Arc<CurrentNode>,
    /// How it behaves.
    pub settings: EngineSettings,
    /// Where spans of attempts are made.
    pub traces: Traces,
}

/// The durable scheduler.
pub struct Engine {
    parts: Arc<Parts>,
    commands: mpsc::UnboundedSender<Command>,
    /// Taken by the first run.
    inbox: Mutex<Option<mpsc::UnboundedReceiver<Command>>>,
}

/// What the engine's tasks share.
struct Parts {
    ledger: Arc<dyn Ledger>,
    outbox: Arc<dyn Outbox>,
    actors: Arc<dyn ActorManager<ActorName, RunContext>>,
    contexts: Arc<Contexts>,
    clock: Arc<DatabaseClock>,
    wakeups: Wakeups,
    posts_waiting: Arc<Notify>,
    current_node: Arc<CurrentNode>,
    settings: EngineSettings,
    activity: watch::Sender<Activity>,
    shutdown: Arc<Shutdown>,
    metrics: Arc<ExecutionMetrics>,
    traces: Traces,
}

impl Parts {
    fn node(&self) -> NodeId {
        self.current_node.name()
    }
}

/// What the dispatcher is told.
enum Command {
    Hold(Vec<Arc<Task>>),
    Drop(TaskId, oneshot::Sender<bool>),
    Held(oneshot::Sender<Vec<TaskId>>),
    LeaseLost,
}

impl Engine {
    /// An engine that does nothing until it is run.
    pub fn new(parts: EngineParts) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let parts = Parts {
            ledger: parts.ledger,
            outbox: parts.outbox,
            actors: parts.actors,
            contexts: parts.contexts,
            clock: parts.clock,
            wakeups: parts.wakeups,
            posts_waiting: parts.posts_waiting,
            current_node: parts.node,
            shutdown: Arc::new(Shutdown::new(parts.settings.shutdown_grace)),
            settings: parts.settings,
            activity: watch::Sender::new(Activity::NEW),
            metrics: Arc::default(),
            traces: parts.traces,
        };
        Self { parts: Arc::new(parts), commands, inbox: Mutex::new(Some(inbox)) }
    }

    /// Takes up definitions that are registered.
    pub fn hold(&self, tasks: impl IntoIterator<Item = impl Into<Arc<Task>>>) {
        self.tell(Command::Hold(tasks.into_iter().map(Into::into).collect()));
    }

    /// Lets go of a task that others may hold; its registration stays as it is.
    pub fn let_go(&self, task: &TaskId) {
        let (answer, _) = oneshot::channel();
        self.tell(Command::Drop(task.clone(), answer));
    }

    /// The last word of a node that has run: what it still has is handed on at once. Who sends posts in the node's name
    /// has ended before. Says whether the store heard it.
    pub async fn leave(&self) -> bool {
        let node = self.parts.node();
        let until = self.parts.shutdown.until();
        let told = match tokio::time::timeout_at(until, self.parts.ledger.leave(&node)).await {
            Ok(Ok(_)) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the database does not answer".to_owned(),
        };
        warn!(error = told, "the other nodes will find out by themselves that this one has gone");
        false
    }

    /// How it stops, to be shared by all that stops with it.
    pub fn shutdown(&self) -> Arc<Shutdown> {
        self.parts.shutdown.clone()
    }

    /// For how long it should have looked at its work again, and has not. Waiting for the database is looking.
    pub fn lag(&self) -> TimeDelta {
        let activity = *self.parts.activity.borrow();
        let late = self.parts.clock.now() - activity.next_look;
        if activity.asking { TimeDelta::zero() } else { late.max(TimeDelta::zero()) }
    }

    /// What it is doing, as that changes.
    pub fn activity(&self) -> watch::Receiver<Activity> {
        self.parts.activity.subscribe()
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<ExecutionMetrics> {
        self.parts.metrics.clone()
    }

    fn tell(&self, command: Command) {
        // An engine that has stopped has nothing to take up.
        drop(self.commands.send(command));
    }

    /// The first beat: the node is known, the clock is right, and what dead nodes left is handed on.
    ///
    /// # Errors
    /// When the database fails: nothing must be claimed in the name of a node that nobody knows.
    pub async fn enter(&self) -> Result<(), LedgerError> {
        node::beat(&self.parts, &self.commands).await
    }
}

#[async_trait]
impl TaskScheduler for Engine {
    async fn schedule(&self, task: Task) -> Result<(), LedgerError> {
        let registration = Registration { tasks: vec![task.clone()], complete: false, start: false };
        let registered = self.parts.ledger.register(registration).await?;
        if !registered.taken.is_empty() {
            return Err(LedgerError::Refused(format!("task {:?} was made over the API", task.id).into()));
        }
        self.hold(vec![task]);
        Ok(())
    }

    async fn cancel(&self, task: &TaskId) -> Result<bool, LedgerError> {
        self.parts.ledger.retire(task).await?;
        let (answer, known) = oneshot::channel();
        self.tell(Command::Drop(task.clone(), answer));
        Ok(known.await.unwrap_or(false))
    }

    async fn scheduled(&self) -> Result<Vec<TaskId>, LedgerError> {
        let (answer, held) = oneshot::channel();
        self.tell(Command::Held(answer));
        Ok(held.await.unwrap_or_default())
    }

    async fn run(&self, stop: CancellationToken) {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(inbox) = inbox else {
            warn!("the engine runs, or has run, already");
            return;
        };
        let helpers = CancellationToken::new();
        // Even if the dispatcher panics: a node that does nothing must not say that it lives.
        let _end_of_helpers = helpers.clone().drop_guard();
        let heartbeat = node::heartbeat(self.parts.clone(), self.commands.clone(), helpers.clone());
        let heartbeat = tokio::spawn(heartbeat);
        let keep = self.parts.settings.history_retention;
        let retention = tokio::spawn(retention::run(self.parts.clone(), keep, helpers.clone()));
        Dispatcher::new(self.parts.clone(), inbox).run(stop).await;
        helpers.cancel();
        for mut helper in [heartbeat, retention] {
            match tokio::time::timeout_at(self.parts.shutdown.until(), &mut helper).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(error = %error, "a helper of the engine did not end well"),
                // It waits for a database that does not answer.
                Err(_) => helper.abort(),
            }
        }
    }
}

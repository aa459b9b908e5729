//! One store over both databases.

use crate::access::{AuditFilter, AuditView, NewAudit, Requester, TokenView, ValidToken};
use crate::alerts::{AlertFilter, AlertView, AlertsSeen};
use crate::api_tasks::{ApiTask, Expected, PutTask, TaskChange};
use crate::error::{OpenError, Schema};
use crate::fail_points::{Point, pass};
use crate::invariants::{CensusView, InvariantsView, PoolView, Progress, Standing};
use crate::notifications::Heard;
use crate::postgres::{self, Postgres};
use crate::reader::{ReadError, Reader};
use crate::sqlite::{self, ServerLock, Sqlite};
use crate::statement::Statement;
use crate::stream::{Position, StreamFilter, StreamPage};
use crate::target::DatabaseUrl;
use crate::views::{
    AttemptView, ExecutionView, HealthView, HistoryFilter, NodeView, PostAttemptView, PostFilter, PostView,
    TaskFilter, TaskView,
};
use crate::wakeups::{self, Told, Wakeups};
use async_trait::async_trait;
use botticelli_server::alert::AlertWatch;
use botticelli_server::clock::Clock;
use botticelli_server::ids::{ExecutionId, NodeId, PostId, TaskId};
use botticelli_server::ledger::{
    Agenda, AgendaMark, Attempt, ClaimRequest, EndedAttempt, Lease, Ledger, LedgerError, Recorded,
    Registered, Registration, Rescued, TakeRequest,
};
use botticelli_server::outbox::{
    ClaimedPost, EarlierItem, EgressScope, Outbox, PostEnd, PostHistory, PostState, PostsSettled, SettledPost,
};
use botticelli_server::post::Destination;
use botticelli_server::server::{Accepted, Arrival, Event, EventServer, Received};
use botticelli_server::task::{Task, TaskState};
use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

/// Who opens a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A server: it makes and migrates the database; on SQLite there is one at a time.
    Server,
    /// A command beside it: it takes the database as it is.
    Command,
}

/// What a person decides about a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostDecision {
    /// Try again now. What may be there stays in doubt: it is sent under its key, or looked for. Of a post that is there:
    /// what was to follow it and did not.
    Retry,
    /// Send it again although it may be there.
    Resend,
    /// It is there: the person has seen it, where the platform did not say so.
    MarkPosted {
        /// The platform's id of the message.
        message_id: String,
        /// Where a person can see it.
        link: Option<String>,
    },
    /// Leave it out for good. Of a post that is there: what is still to follow it.
    Dismiss,
}

impl PostDecision {
    /// What is written down of it.
    fn audited(&self) -> (&'static str, Value) {
        match self {
            Self::Retry => ("post.retry", Value::Null),
            Self::Resend => ("post.resend", Value::Null),
            Self::MarkPosted { message_id, link } => {
                ("post.mark_posted", serde_json::json!({ "message_id": message_id, "link": link }))
            }
            Self::Dismiss => ("post.dismiss", Value::Null),
        }
    }

    /// Why it can't be decided about a post in this state.
    pub fn why_not(&self, state: PostState) -> &'static str {
        match self {
            Self::Retry if state == PostState::NeedsReview => "it may be there already",
            Self::Retry => "there is nothing to retry",
            Self::Resend | Self::MarkPosted { .. } if state == PostState::Posted => {
                "there is nothing to settle"
            }
            Self::Resend | Self::MarkPosted { .. } => "nothing says that it may be there",
            Self::Dismiss => "it can't be dismissed",
        }
    }

    /// Whether it can be decided about a post in this state. `in_doubt`: the post may be there. What follows a post that
    /// is there is another matter.
    pub(crate) fn applies_to(&self, state: PostState, in_doubt: bool) -> bool {
        use PostState::{Deferred, Failed, NeedsReview, Pending, Posted, Sending, Skipped};
        match (self, state) {
            (_, Sending | Posted) => false,
            (Self::Retry, Deferred | Failed | Skipped) => true,
            // Nobody can tell whether it is there: the person has to say which.
            (Self::Retry, Pending | NeedsReview) => false,
            (Self::Resend, NeedsReview) | (Self::MarkPosted { .. }, NeedsReview | Failed) => true,
            (Self::Resend | Self::MarkPosted { .. }, Pending | Deferred) => in_doubt,
            (Self::Resend, Failed | Skipped) | (Self::MarkPosted { .. }, Skipped) => false,
            (Self::Dismiss, Pending | Deferred | Failed | NeedsReview) => true,
            (Self::Dismiss, Skipped) => false,
        }
    }
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// It is carried out.
    Done,
    /// There is no such post.
    UnknownPost,
    /// It does not apply to a post in this state.
    NotNow(PostState),
}

/// What became of a wish to resume a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// It is resumed.
    Resumed,
    /// It was not paused.
    WasNotPaused,
    /// It is disabled in, or gone from, the configuration: that is where it is resumed.
    NotInConfiguration,
    /// There is no such task.
    UnknownTask,
}

/// What a request brings so that it is carried out once, however often it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Whoever asks has chosen it; it is unlike all others for this task.
    pub key: String,
    /// A hash of what is asked.
    pub request: String,
}

/// What became of an event that may have a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is stored: this execution will run.
    Execution(ExecutionId),
    /// It was stored before, as this execution.
    Again(ExecutionId),
    /// Another request has brought this key before.
    OtherRequest,
    /// There is no such task.
    UnknownTask,
}

/// What became of a wish to end an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It waited for a node, and is over.
    Done,
    /// The node that has it is told.
    Requested,
    /// It was over.
    AlreadyOver,
    /// There is no such execution.
    UnknownExecution,
}

/// What was done after a backup was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// Nothing: this server runs.
    ServerRuns(NodeId),
    /// So many tasks leave out what they missed, executions are cancelled, and posts are in doubt.
    Done {
        /// Tasks that were due.
        tasks: usize,
        /// Executions that were not over.
        executions: usize,
        /// Posts that were to be sent.
        posts: usize,
    },
}

/// How a database stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It has its tables.
    Ready,
    /// The first one to open it makes them.
    New,
}

/// The store. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// In whose name changes are written down; see [`Store::by`].
    pub(crate) requester: Option<Arc<Requester>>,
}

struct Inner {
    backend: Backend,
    ledger_id: Arc<str>,
    /// By which it knows what it has told itself.
    name: u64,
    _lock: Option<ServerLock>,
    /// The destination that was looked at last when posts were claimed: the next one's turn comes first. A hint.
    turn: Mutex<Destination>,
}

impl Inner {
    fn new(backend: Backend, ledger_id: Arc<str>, name: u64, lock: Option<ServerLock>) -> Self {
        let nowhere = Destination { platform: String::new(), target: String::new() };
        Self { backend, ledger_id, name, _lock: lock, turn: Mutex::new(nowhere) }
    }

    fn turn(&self) -> MutexGuard<'_, Destination> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Backend {
    Postgres(Postgres),
    Sqlite(Sqlite),
}

/// Calls the unit of work of that name with these arguments, which are moved into it.
macro_rules! unit {
    ($store:expr, $how_sqlite:ident, $unit:ident($($argument:expr),*)) => {{
        let result = match &$store.inner.backend {
            Backend::Postgres(database) => {
                database.transaction(move |conn| postgres::queries::$unit(conn, $($argument),*).boxed()).await
            }
            Backend::Sqlite(database) => {
                database.$how_sqlite(move |conn| sqlite::queries::$unit(conn, $($argument),*).boxed()).await
            }
        };
        result.map_err(LedgerError::from)
    }};
}

macro_rules! write {
    ($store:expr, $($unit:tt)*) => { unit!($store, transaction, $($unit)*) };
}

macro_rules! read {
    ($store:expr, $($unit:tt)*) => { unit!($store, read, $($unit)*) };
}

/// Connections to PostgreSQL: claims, records and deliveries go on at the same time.
const POSTGRES_CONNECTIONS: usize = 8;

impl Store {
    /// Opens the database. `clock` decides about time on SQLite; on PostgreSQL the database does.
    ///
    /// # Errors
    /// See [`OpenError`]; each names the database, never its password.
    pub async fn open(url: &str, mode: Mode, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let target = DatabaseUrl::parse(url)?;
        let opener = match mode {
            Mode::Server => Opener::Server,
            Mode::Command => Opener::Command,
        };
        let (backend, lock) = connect(&target, opener, clock)?;
        match opener {
            Opener::Server | Opener::Migrator => drop(backend.migrate(&target).await?),
            Opener::Command => backend.is_migrated(&target).await?,
        }
        Self::checked(backend, lock, &target).await
    }

    /// Whether the database can be opened, as far as that shows without making, migrating or writing anything.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn look(url: &str) -> Result<Condition, OpenError> {
        let target = DatabaseUrl::parse(url)?;
        let failed = |reason: String| OpenError::Connect { target: target.clone(), reason };
        if let DatabaseUrl::Sqlite(path) = &target {
            check_names(path)?;
            sqlite::may_write(path).map_err(|error| failed(error.to_string()))?;
            if !path.exists() {
                return Ok(Condition::New);
            }
        }
        let meta =
            Statement::table("actor_server_meta", None, None).map_err(|error| failed(error.to_string()))?;
        match Reader::open(url)?.read(&meta, &[], LOOK_PATIENCE).await {
            Ok(rows) => {
                let needed = rows.first().and_then(|row| row.get("min_binary")?.as_str()).unwrap_or_default();
                check_version(&target, needed)?;
                Ok(Condition::Ready)
            }
            Err(ReadError::NoSuchTable { .. } | ReadError::NoDatabase { .. }) => Ok(Condition::New),
            Err(ReadError::Unavailable { reason, .. } | ReadError::Refused { reason, .. }) => {
                Err(failed(reason))
            }
            Err(error @ (ReadError::TimedOut { .. } | ReadError::TooMuch { .. })) => {
                Err(failed(error.to_string()))
            }
        }
    }

    /// Migrates the database and does nothing else. Returns the migrations that were carried out.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn migrate(url: &str, clock: Arc<dyn Clock>) -> Result<Vec<String>, OpenError> {
        let target = DatabaseUrl::parse(url)?;
        let (backend, lock) = connect(&target, Opener::Migrator, clock)?;
        let done = backend.migrate(&target).await?;
        Self::checked(backend, lock, &target).await?;
        Ok(done)
    }

    async fn checked(
        backend: Backend,
        lock: Option<ServerLock>,
        target: &DatabaseUrl,
    ) -> Result<Self, OpenError> {
        let unnamed = Self { inner: Arc::new(Inner::new(backend, "".into(), 0, None)), requester: None };
        let (ledger_id, min_binary) = unnamed.meta().await?;
        check_version(target, &min_binary)?;
        let Some(inner) = Arc::into_inner(unnamed.inner) else {
            return Err(OpenError::Ledger(LedgerError::Corrupt("the store is shared while it opens".into())));
        };
        let inner = Inner::new(inner.backend, ledger_id.into(), wakeups::new_name(), lock);
        Ok(Self { inner: Arc::new(inner), requester: None })
    }

    /// Tells this database from all others.
    pub fn ledger_id(&self) -> &str {
        &self.inner.ledger_id
    }

    async fn meta(&self) -> Result<(String, String), LedgerError> {
        match &self.inner.backend {
            Backend::Postgres(database) => {
                let meta = database.transaction(|conn| postgres::queries::meta(conn).boxed()).await?;
                Ok((meta.ledger_id, meta.min_binary))
            }
            Backend::Sqlite(database) => {
                let meta = database.read(|conn| sqlite::queries::meta(conn).boxed()).await?;
                Ok((meta.ledger_id, meta.min_binary))
            }
        }
    }

    /// Pauses a task: nothing of it starts from now on, whatever was claimed. Says whether there is such a task.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pause(&self, task: &TaskId) -> Result<bool, LedgerError> {
        let (id, audit) = (task.clone(), self.audit("task.pause", task, Value::Null));
        let known = write!(self, pause(id, audit))?;
        self.notify(task.as_str()).await;
        Ok(known)
    }

    /// Resumes a task and forgets its failures. What it missed meanwhile is left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn resume(&self, task: &TaskId) -> Result<Resumed, LedgerError> {
        let (id, audit) = (task.clone(), self.audit("task.resume", task, Value::Null));
        let resumed = write!(self, resume(id, audit))?;
        self.notify(task.as_str()).await;
        Ok(resumed)
    }

    /// To be called once after a backup was restored, before a server starts: what the backup believes to be due has
    /// been done since.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn restored(&self) -> Result<Restored, LedgerError> {
        let audit = self.audit("database.restored", "database", Value::Null);
        write!(self, restored(audit))
    }

    /// Carries out a person's decision about a post.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn decide(&self, post: PostId, decision: PostDecision) -> Result<Decided, LedgerError> {
        let (action, detail) = decision.audited();
        let audit = self.audit(action, post, detail);
        let decided = write!(self, decide(post, decision, audit))?;
        self.notify("posts").await;
        Ok(decided)
    }

    /// All tasks, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tasks(&self) -> Result<Vec<TaskView>, LedgerError> {
        self.tasks_where(TaskFilter::default()).await
    }

    /// Tasks, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tasks_where(&self, filter: TaskFilter) -> Result<Vec<TaskView>, LedgerError> {
        read!(self, task_views(filter))
    }

    /// One task.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn task(&self, id: &TaskId) -> Result<Option<TaskView>, LedgerError> {
        let only = TaskFilter { task: Some(id.clone()), ..TaskFilter::default() };
        Ok(self.tasks_where(only).await?.pop())
    }

    /// How things stand, for a health check.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn health(&self) -> Result<HealthView, LedgerError> {
        read!(self, health())
    }

    /// How many tasks are in which state.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn census(&self) -> Result<CensusView, LedgerError> {
        read!(self, census())
    }

    /// What must not be, and has been for longer than `grace`; at most `most` of each kind.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn invariants(&self, grace: Duration, most: usize) -> Result<InvariantsView, LedgerError> {
        let (grace, most) = (microseconds(grace), limit_of(most));
        read!(self, invariants(grace, most))
    }

    /// Where tasks stand, by name: at most `limit` after `after`. Those that are paused, or never due again, are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn standings(
        &self,
        after: Option<&TaskId>,
        limit: usize,
    ) -> Result<Vec<Standing>, LedgerError> {
        let after = after.map_or_else(String::new, TaskId::to_string);
        let limit = limit_of(limit);
        read!(self, standings(after, limit))
    }

    /// How far tasks have come since they stood there. Left out are those that have not moved, are paused, or have another
    /// definition by now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn progress(&self, since: &[Standing]) -> Result<Vec<Progress>, LedgerError> {
        let since = Arc::from(since);
        read!(self, progress(since))
    }

    /// The connections to the database, as they are used now.
    pub fn pool(&self) -> PoolView {
        match &self.inner.backend {
            Backend::Postgres(database) => database.pool(),
            Backend::Sqlite(database) => database.pool(),
        }
    }

    /// The nodes that live: their lease is not over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn living_nodes(&self) -> Result<Vec<NodeId>, LedgerError> {
        read!(self, living())
    }

    /// Executions of a task, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn history(&self, task: &TaskId, limit: usize) -> Result<Vec<ExecutionView>, LedgerError> {
        let task = Some(task.clone());
        self.history_where(HistoryFilter { task, limit, ..HistoryFilter::default() }).await
    }

    /// Executions, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn history_where(&self, filter: HistoryFilter) -> Result<Vec<ExecutionView>, LedgerError> {
        read!(self, history(filter))
    }

    /// Nodes by name, those after `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn nodes(&self, after: Option<String>, limit: usize) -> Result<Vec<NodeView>, LedgerError> {
        read!(self, node_views(after, limit))
    }

    /// Ends an execution that is not over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cancel(&self, execution: ExecutionId) -> Result<Cancelled, LedgerError> {
        let audit = self.audit("execution.cancel", execution, Value::Null);
        let cancelled = write!(self, cancel(execution, audit))?;
        self.notify("executions").await;
        Ok(cancelled)
    }

    /// Stores an event as an execution that waits for a node; with a key once, however often it comes. `first`: whoever
    /// runs tasks in this process, and hears of it before all others do.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn publish_once(
        &self,
        event: Event,
        key: Option<RequestKey>,
        first: Option<&Wakeups>,
    ) -> Result<Published, LedgerError> {
        let task = event.task.clone();
        let audit = self.audit("task.trigger", &task, Value::Null);
        let published = write!(self, publish(event, key, audit))?;
        if let Published::Execution(execution) = published {
            if let Some(wakeups) = first {
                wakeups.waits(execution, task.clone());
            }
            let by = if first.is_some() { self.inner.name } else { 0 };
            self.notify(&Told { by, execution, task }.text()).await;
        }
        Ok(published)
    }

    /// Takes a channel of notifications for the node to listen to, or keeps it, for `lease`. `None`: another node that lives
    /// has it. `heard`: what was notified longer ago than this is stored. `database` says whose channel it is, without secrets.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_channel(
        &self,
        node: &NodeId,
        database: &str,
        channel: &str,
        lease: Duration,
        heard: Option<Duration>,
    ) -> Result<Option<Heard>, LedgerError> {
        let (node, database, channel) = (node.clone(), database.to_owned(), channel.to_owned());
        let (lease, heard) = (microseconds(lease), heard.map(microseconds));
        write!(self, take_channel(node, database, channel, lease, heard))
    }

    /// The node listens to the channel no more: another one may at once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leave_channel(
        &self,
        node: &NodeId,
        database: &str,
        channel: &str,
    ) -> Result<(), LedgerError> {
        let (node, database, channel) = (node.clone(), database.to_owned(), channel.to_owned());
        write!(self, leave_channel(node, database, channel)).map(drop)
    }

    /// How many executions the history holds.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn executions(&self) -> Result<usize, LedgerError> {
        read!(self, executions())
    }

    /// One execution.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn execution(&self, id: ExecutionId) -> Result<Option<ExecutionView>, LedgerError> {
        read!(self, execution(id))
    }

    /// The attempts of an execution before its last.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn earlier_attempts(&self, id: ExecutionId) -> Result<Vec<AttemptView>, LedgerError> {
        read!(self, attempts(id))
    }

    /// Posts, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn posts(&self, filter: PostFilter) -> Result<Vec<PostView>, LedgerError> {
        read!(self, posts(filter))
    }

    /// How many posts of a task there are in each state that any is in.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn post_counts(&self, task: &TaskId) -> Result<BTreeMap<String, u64>, LedgerError> {
        let task = task.clone();
        read!(self, post_counts(task))
    }

    /// One post.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn post(&self, id: PostId) -> Result<Option<PostView>, LedgerError> {
        read!(self, post(id))
    }

    /// Every attempt to send a post.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn post_attempts(&self, id: PostId) -> Result<Vec<PostAttemptView>, LedgerError> {
        read!(self, post_attempts(id))
    }

    /// The tokens that are valid.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn valid_tokens(&self) -> Result<Vec<ValidToken>, LedgerError> {
        read!(self, valid_tokens())
    }

    /// All tokens, oldest first, those that are revoked too.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, LedgerError> {
        read!(self, tokens())
    }

    /// What was changed, by whom, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audits(&self, filter: AuditFilter) -> Result<Vec<AuditView>, LedgerError> {
        read!(self, audits(filter))
    }

    /// Looks for what is wrong, and puts what has begun and what has ended since into the outbox. One node at a time
    /// does that; the others are answered that they don't.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn watch_alerts(&self, watch: AlertWatch) -> Result<AlertsSeen, LedgerError> {
        let (ledger_id, watch) = (self.inner.ledger_id.clone(), Arc::new(watch));
        write!(self, watch_alerts(ledger_id, watch))
    }

    /// Alerts, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn alerts(&self, filter: AlertFilter) -> Result<Vec<AlertView>, LedgerError> {
        read!(self, alerts(filter))
    }

    /// Behind the newest change. `None`: that can't be said at this moment.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stream_head(&self) -> Result<Option<Position>, LedgerError> {
        read!(self, stream_head())
    }

    /// What has changed since, oldest first: a bounded part of it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stream(&self, after: Position, filter: StreamFilter) -> Result<StreamPage, LedgerError> {
        read!(self, stream(after, filter))
    }

    /// Deletes what is told of alerts that ended before. Returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_alerts(&self, before: DateTime<Utc>) -> Result<usize, LedgerError> {
        write!(self, prune_alerts(before))
    }

    /// The tasks made over the API that have changed since that revision, in order; those that were removed, too.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_tasks(&self, since: i64) -> Result<Vec<ApiTask>, LedgerError> {
        read!(self, api_tasks(since))
    }

    /// The task, if it was made over the API and not removed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_task(&self, task: &TaskId) -> Result<Option<ApiTask>, LedgerError> {
        let task = task.clone();
        read!(self, api_task(task))
    }

    /// [`Ledger::register`], together with tasks made over the API, each with the revision of the entry that it was made
    /// of: one that has been changed since is left as it is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn register_all(
        &self,
        registration: Registration,
        made: Vec<(Task, i64)>,
    ) -> Result<Registered, LedgerError> {
        let (registration, made) = (Arc::new(registration), Arc::from(made));
        write!(self, register(registration, made))
    }

    pub(crate) async fn put_task_by(
        &self,
        wanted: PutTask,
        audit: Option<NewAudit>,
    ) -> Result<TaskChange, LedgerError> {
        let task = wanted.task.id.clone();
        let change = write!(self, put_task(wanted, audit))?;
        self.notify(task.as_str()).await;
        Ok(change)
    }

    pub(crate) async fn remove_task_by(
        &self,
        task: TaskId,
        expected: Expected,
        audit: Option<NewAudit>,
    ) -> Result<TaskChange, LedgerError> {
        let id = task.clone();
        let change = write!(self, remove_task(id, expected, audit))?;
        self.notify(task.as_str()).await;
        Ok(change)
    }

    pub(crate) async fn token_add(
        &self,
        token: ValidToken,
        audit: Option<NewAudit>,
    ) -> Result<bool, LedgerError> {
        write!(self, token_add(token, audit))
    }

    pub(crate) async fn token_revoke(
        &self,
        name: String,
        audit: Option<NewAudit>,
    ) -> Result<bool, LedgerError> {
        write!(self, token_revoke(name, audit))
    }

    pub(crate) async fn audit_add(&self, audit: NewAudit) -> Result<(), LedgerError> {
        write!(self, audit_add(audit))
    }

    pub(crate) async fn snapshot_load(&self, name: &str) -> Result<Option<Value>, LedgerError> {
        let name = name.to_owned();
        read!(self, snapshot_load(name))
    }

    pub(crate) async fn snapshot_save(&self, name: &str, snapshot: Value) -> Result<(), LedgerError> {
        let name = name.to_owned();
        write!(self, snapshot_save(name, snapshot))
    }

    pub(crate) async fn snapshot_clear(&self, name: &str) -> Result<(), LedgerError> {
        let name = name.to_owned();
        write!(self, snapshot_clear(name))
    }

    /// A hint to the servers of this database that something has changed. SQLite's notices by itself.
    async fn notify(&self, what: &str) {
        let Backend::Postgres(database) = &self.inner.backend else { return };
        if let Err(error) = database.notify(what).await {
            // The poll is the guarantee.
            warn!(error = %error, "other nodes were not notified; they will find out by polling");
        }
    }

    /// Calls [`Wakeups::changed`] when somebody else has changed something, until `stop`; or until the database is not
    /// what was opened any more, which it logs. Then nothing can be stored.
    pub async fn watch(self, wakeups: Wakeups, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = async {
                match &self.inner.backend {
                    Backend::Postgres(database) => listen(database, &wakeups, self.inner.name).await,
                    Backend::Sqlite(database) => watch_file(database, &wakeups).await,
                }
            } => {}
        }
    }
}

/// Between two attempts to listen.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

async fn listen(database: &Postgres, wakeups: &Wakeups, myself: u64) {
    let heard = |told: Option<&str>| match told {
        Some(told) => wakeups.hear(told, myself),
        None => wakeups.changed(),
    };
    loop {
        if let Err(error) = database.listen(heard).await {
            debug!(error, "not listening for notifications; trying again");
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

/// How soon a server notices that a command has written to its file.
const WATCH_FILE: Duration = Duration::from_millis(200);

async fn watch_file(database: &Sqlite, wakeups: &Wakeups) {
    let mut seen = None;
    loop {
        if let Err(error) = database.check_place() {
            let hint = "stop the server before you move or restore a database, with its -wal and -shm files";
            return error!("{error}: nothing can be stored any more; {hint}");
        }
        if let Ok(version) = database.data_version().await {
            if seen.is_some_and(|seen| seen != version) {
                wakeups.changed();
            }
            seen = Some(version);
        }
        tokio::time::sleep(WATCH_FILE).await;
    }
}

/// For what a database is opened.
#[derive(Clone, Copy, PartialEq)]
enum Opener {
    Server,
    Command,
    Migrator,
}

fn connect(
    target: &DatabaseUrl,
    opener: Opener,
    clock: Arc<dyn Clock>,
) -> Result<(Backend, Option<ServerLock>), OpenError> {
    let failed = |reason: String| OpenError::Connect { target: target.clone(), reason };
    match target {
        DatabaseUrl::Postgres(url) => {
            let database = Postgres::new(url, POSTGRES_CONNECTIONS).map_err(failed)?;
            Ok((Backend::Postgres(database), None))
        }
        DatabaseUrl::Sqlite(path) => {
            let may_make = opener != Opener::Command;
            if !may_make && !path.exists() {
                return Err(OpenError::NotMade { target: target.clone(), is_there: false });
            }
            sqlite::may_be_database(path).map_err(|error| failed(error.to_string()))?;
            check_names(path)?;
            // First, so that a server and a command say the same of a file that can't be.
            let database = Sqlite::open(path, may_make, &clock).map_err(failed)?;
            let lock = match opener {
                Opener::Command | Opener::Migrator => None,
                Opener::Server => {
                    // By its own name, whatever link it was reached by: it is one file.
                    let own = path.canonicalize().map_err(|error| failed(error.to_string()))?;
                    let taken = ServerLock::take(&own).map_err(|error| failed(error.to_string()))?;
                    let in_use = || OpenError::InUse { path: path.clone(), lock: sqlite::lock_path(&own) };
                    Some(taken.ok_or_else(in_use)?)
                }
            };
            Ok((Backend::Sqlite(database), lock))
        }
    }
}

fn check_names(path: &Path) -> Result<(), OpenError> {
    match sqlite::names(path) {
        0 | 1 => Ok(()),
        names => Err(OpenError::ManyNames { path: path.to_owned(), names }),
    }
}

impl Backend {
    async fn migrate(&self, target: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
        let done = match self {
            Self::Postgres(database) => database.migrate().await,
            Self::Sqlite(database) => database.migrate().await,
        };
        done.map_err(|error| error.of(target))
    }

    /// Only reads.
    async fn is_migrated(&self, target: &DatabaseUrl) -> Result<(), OpenError> {
        let schema = match self {
            Self::Postgres(database) => database.schema().await,
            Self::Sqlite(database) => database.schema().await,
        };
        let target = target.clone();
        match schema {
            Ok(Schema::Current) => Ok(()),
            Ok(Schema::Missing) => Err(OpenError::NotMade { target, is_there: true }),
            Ok(Schema::Behind(pending)) => Err(OpenError::Behind { target, pending }),
            Err(error) => Err(error.of(&target)),
        }
    }
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Later than any clock will show, and still a time that both databases can write.
const FOR_EVER: Duration = Duration::from_secs(1000 * 366 * 86_400);

fn microseconds(duration: Duration) -> i64 {
    i64::try_from(duration.min(FOR_EVER).as_micros()).unwrap_or(i64::MAX)
}

/// A request that comes again so much later counts as another one.
const REQUESTS_ARE_KNOWN_FOR: Duration = Duration::from_secs(7 * 86_400);

/// A database that does not answer for so long is not there.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);

fn check_version(target: &DatabaseUrl, needed: &str) -> Result<(), OpenError> {
    if newer_than_this(needed) {
        let (target, needed) = (target.clone(), needed.to_owned());
        return Err(OpenError::TooNew { target, needed, have: crate::VERSION });
    }
    Ok(())
}

/// Versions are compared part by part; a part that is no number counts as 0.
fn newer_than_this(version: &str) -> bool {
    let parts = |version: &str| -> Vec<u64> {
        version.split(['.', '-']).take(3).map(|part| part.parse().unwrap_or(0)).collect()
    };
    parts(version) > parts(crate::VERSION)
}

#[async_trait]
impl Ledger for Store {
    async fn now(&self) -> Result<DateTime<Utc>, LedgerError> {
        read!(self, now())
    }

    async fn agenda(
        &self,
        horizon: DateTime<Utc>,
        mark: Option<AgendaMark>,
        limit: usize,
    ) -> Result<Agenda, LedgerError> {
        read!(self, agenda(horizon, mark, limit))
    }

    async fn states(&self, tasks: &[TaskId]) -> Result<Vec<TaskState>, LedgerError> {
        let tasks: Arc<[TaskId]> = tasks.into();
        read!(self, states(tasks))
    }

    async fn claim(
        &self,
        node: &NodeId,
        requests: &[ClaimRequest],
        ahead: Duration,
    ) -> Result<Vec<Attempt>, LedgerError> {
        let (node, requests, ahead) = (node.clone(), Arc::from(requests), microseconds(ahead));
        let claimed = write!(self, claim(node, requests, ahead))?;
        if !claimed.is_empty() {
            pass(Point::Claimed);
        }
        Ok(claimed)
    }

    async fn take(
        &self,
        node: &NodeId,
        wanted: &[TakeRequest],
        ahead: Duration,
    ) -> Result<Vec<Attempt>, LedgerError> {
        let (node, wanted, ahead) = (node.clone(), Arc::from(wanted), microseconds(ahead));
        write!(self, take(node, wanted, ahead))
    }

    async fn record(&self, node: &NodeId, ended: &[EndedAttempt]) -> Result<Vec<Recorded>, LedgerError> {
        let mut recorded = Vec::with_capacity(ended.len());
        let followed = |recorded: &Recorded| matches!(recorded, Recorded::Stored { state: Some(state) } if state.followed);
        // A batch that is refused is halved until it is known which attempt it is that the database does not take.
        let mut batches = vec![ended];
        while let Some(batch) = batches.pop() {
            let (node, ended, ledger_id) = (node.clone(), Arc::from(batch), self.inner.ledger_id.clone());
            match write!(self, record(node, ended, ledger_id)) {
                Ok(answers) => {
                    pass(Point::RunRecorded);
                    recorded.extend(answers);
                }
                Err(LedgerError::Refused(error)) if batch.len() == 1 => {
                    recorded.push(Recorded::Refused { reason: error.to_string() });
                }
                Err(LedgerError::Refused(_)) => {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    batches.extend([second, first]);
                }
                Err(error) => return Err(error),
            }
        }
        if recorded.iter().any(followed)
            && let Err(error) = self.pass_on_ends().await
        {
            // The next heartbeat of any node does it.
            warn!(error = %error, "what runs after these tasks waits");
        }
        Ok(recorded)
    }

    async fn begin(&self, node: &NodeId, attempt: &Attempt) -> Result<bool, LedgerError> {
        let (node, attempt) = (node.clone(), attempt.clone());
        write!(self, begin(node, attempt))
    }

    async fn release(&self, _node: &NodeId, attempts: &[Attempt]) -> Result<(), LedgerError> {
        let attempts = Arc::from(attempts);
        write!(self, release(attempts)).map(drop)
    }

    async fn renew(&self, node: &NodeId, lease: Duration) -> Result<Lease, LedgerError> {
        let (node, lease) = (node.clone(), microseconds(lease));
        write!(self, renew(node, lease))
    }

    async fn leave(&self, node: &NodeId) -> Result<Rescued, LedgerError> {
        let id = node.clone();
        let left = write!(self, leave(id))?;
        pass(Point::Left);
        self.notify(node.as_str()).await;
        Ok(left)
    }

    async fn rescue(&self, node: &NodeId) -> Result<Rescued, LedgerError> {
        // A server on SQLite holds the file's lock: whoever else has a row there is gone.
        let (node, sole_server) = (node.clone(), self.inner._lock.is_some());
        let rescued = write!(self, rescue(node, sole_server))?;
        if !rescued.nodes.is_empty() {
            pass(Point::Rescued);
        }
        Ok(rescued)
    }

    async fn pass_on_ends(&self) -> Result<usize, LedgerError> {
        let mut all = 0;
        loop {
            match write!(self, pass_on_ends())? {
                0 => break,
                passed_on => all += passed_on,
            }
        }
        if all > 0 {
            self.notify("executions").await;
        }
        Ok(all)
    }

    async fn register(&self, registration: Registration) -> Result<Registered, LedgerError> {
        self.register_all(registration, Vec::new()).await
    }

    async fn prune(&self, before: DateTime<Utc>, limit: usize) -> Result<usize, LedgerError> {
        let limit = limit_of(limit);
        write!(self, prune(before, limit))
    }

    async fn prune_changes(&self, before: DateTime<Utc>, limit: usize) -> Result<usize, LedgerError> {
        let limit = limit_of(limit);
        write!(self, prune_stream(before, limit))
    }

    async fn retire(&self, task: &TaskId) -> Result<bool, LedgerError> {
        let id = task.clone();
        let retired = write!(self, retire(id))?;
        if retired {
            self.notify(task.as_str()).await;
        }
        Ok(retired)
    }

    async fn prune_nodes(&self, gone_for: Duration) -> Result<usize, LedgerError> {
        write!(self, prune_request_keys(microseconds(REQUESTS_ARE_KNOWN_FOR)))?;
        let gone_for = microseconds(gone_for);
        write!(self, prune_nodes(gone_for))
    }

    async fn owned(&self, node: &NodeId) -> Result<Vec<Attempt>, LedgerError> {
        let node = node.clone();
        read!(self, owned(node))
    }

    async fn cancelled(&self, node: &NodeId) -> Result<Vec<ExecutionId>, LedgerError> {
        let node = node.clone();
        write!(self, cancelled(node))
    }

    async fn withdraw_paused(&self, node: &NodeId) -> Result<Vec<ExecutionId>, LedgerError> {
        let node = node.clone();
        write!(self, withdraw_paused(node))
    }
}

/// The point that is passed when such an end is stored.
fn stored(end: &PostEnd) -> Option<Point> {
    match end {
        PostEnd::Posted(_) | PostEnd::Followed { .. } => Some(Point::ReceiptStored),
        PostEnd::Deferred { uncertain: true, .. } => Some(Point::DoubtStored),
        PostEnd::Deferred { uncertain: false, .. } => Some(Point::RetryStored),
        PostEnd::NeedsReview { .. } => Some(Point::ReviewStored),
        PostEnd::Failed { .. } | PostEnd::Skipped { .. } => None,
    }
}

#[async_trait]
impl Outbox for Store {
    async fn take_egress(
        &self,
        node: &NodeId,
        scopes: &[EgressScope],
        lease: Duration,
    ) -> Result<Vec<String>, LedgerError> {
        let (node, scopes, lease) = (node.clone(), Arc::from(scopes), microseconds(lease));
        let of_others = write!(self, take_egress(node, scopes, lease))?;
        if of_others.is_empty() {
            pass(Point::EgressTaken);
        }
        Ok(of_others)
    }

    async fn claim_posts(
        &self,
        node: &NodeId,
        limit: usize,
        lease: Duration,
        without: &[String],
    ) -> Result<Vec<ClaimedPost>, LedgerError> {
        let (node, limit, lease) = (node.clone(), limit_of(limit), microseconds(lease));
        let (without, after) = (Arc::from(without), self.inner.turn().clone());
        let (claimed, last) = write!(self, claim_posts(node, limit, lease, without, after))?;
        *self.inner.turn() = last;
        if !claimed.is_empty() {
            pass(Point::PostsLeased);
        }
        Ok(claimed)
    }

    async fn settle_posts(&self, node: &NodeId, ended: &[SettledPost]) -> Result<PostsSettled, LedgerError> {
        let (node, settled) = (node.clone(), Arc::from(ended));
        let settled = write!(self, settle_posts(node, settled))?;
        ended.iter().filter_map(|ended| stored(&ended.end)).for_each(pass);
        Ok(settled)
    }

    async fn rescue_posts(&self) -> Result<usize, LedgerError> {
        write!(self, rescue_posts())
    }

    async fn next_post_due(&self, without: &[String]) -> Result<Option<DateTime<Utc>>, LedgerError> {
        let without = Arc::from(without);
        read!(self, next_post_due(without))
    }
}

#[async_trait]
impl PostHistory for Store {
    async fn used_keys(&self, task: &TaskId, source: &str) -> Result<Vec<String>, LedgerError> {
        let (task, source) = (task.clone(), source.to_owned());
        read!(self, used_keys(task, source))
    }

    async fn earlier_items(
        &self,
        destination: &Destination,
        since: DateTime<Utc>,
    ) -> Result<Vec<EarlierItem>, LedgerError> {
        let destination = destination.clone();
        read!(self, earlier_items(destination, since))
    }

    async fn post_times(
        &self,
        task: &TaskId,
        destination: &Destination,
        since: DateTime<Utc>,
    ) -> Result<Vec<DateTime<Utc>>, LedgerError> {
        let (task, destination) = (task.clone(), destination.clone());
        read!(self, post_times(task, destination, since))
    }
}

#[async_trait]
impl EventServer for Store {
    async fn receive(&self, arrival: Arrival) -> Result<Received, LedgerError> {
        let task = arrival.task.clone();
        let received = write!(self, receive(arrival))?;
        if matches!(received, Received::Stored(_)) {
            self.notify(task.as_str()).await;
        }
        Ok(received)
    }

    async fn publish(&self, event: Event) -> Result<Accepted, LedgerError> {
        Ok(match self.publish_once(event, None, None).await? {
            Published::Execution(id) | Published::Again(id) => Accepted::Execution(id),
            Published::OtherRequest | Published::UnknownTask => Accepted::UnknownTask,
        })
    }
}

//! Tasks that are made over the API, as this node has them: in the configuration that it runs, beside those of its file.

use super::{App, AppError, Running, left_out, look_ahead};
use crate::config::{Fault, FromApi, LoadedConfig, Makings, Problem, Problems, shortened, table_of};
use crate::platforms::Intended;
use botticelli_database::{ApiTask, Expected, PutTask, Store, TaskChange};
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::{LedgerError, Registered, Registration};
use botticelli_server::server::TaskScheduler as _;
use botticelli_server::task::Task;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use toml::Table;
use tracing::warn;

/// Those of the running configuration.
#[derive(Debug, Default)]
pub(super) struct ApiTasks {
    /// What this node runs, or would if it had what is lacking.
    pub(super) here: BTreeSet<TaskId>,
    /// What it leaves to others, and why.
    pub(super) left_alone: BTreeMap<TaskId, String>,
}

/// What tasks of the API come to on this node.
#[derive(Default)]
pub(super) struct Gathered {
    made: Vec<(FromApi, i64)>,
    left_alone: BTreeMap<TaskId, String>,
    revision: i64,
}

impl Gathered {
    pub(super) fn of(makings: &Makings, changes: Vec<ApiTask>) -> Self {
        let mut gathered = Self::default();
        for ApiTask { task_id, entry, revision } in changes {
            gathered.revision = gathered.revision.max(revision);
            let Some(entry) = entry else { continue };
            match table_of(&entry).and_then(|table| makings.make(&table)) {
                Ok(made) => gathered.made.push((made, revision)),
                Err(faults) => {
                    let why = faults.into_iter().next().map_or_else(String::new, |fault| fault.message);
                    gathered.left_alone.insert(task_id, shortened(why));
                }
            }
        }
        gathered
    }

    fn tell_what_is_left_alone(&self) {
        for (task, why) in &self.left_alone {
            warn!(task.id = %task, "made over the API, and left to other nodes: {why}");
        }
    }
}

/// Registers all tasks of the file, and those of the API that this node can make.
pub(super) async fn register(
    store: &Store,
    config: &LoadedConfig,
    api: &Gathered,
    start: bool,
) -> Result<Registered, AppError> {
    let tasks = config.tasks.iter().map(|task| Task::clone(task)).collect();
    let made = api.made.iter().map(|(made, revision)| (made.task.clone(), *revision)).collect();
    let registered = store.register_all(Registration { tasks, complete: true, start }, made).await?;
    if registered.taken.is_empty() { Ok(registered) } else { Err(taken(config, &registered.taken).into()) }
}

/// Both mean it: only a person can tell which of the two shall have the name.
fn taken(config: &LoadedConfig, names: &[TaskId]) -> Problems {
    let problem = |name: &TaskId| Problem {
        subject: Some(format!("task {name:?}")),
        ..Problem::with(
            config.makings.file().display().to_string(),
            "a task of this name was made over the API",
        )
        .hint(format!("give one of them another name: DELETE /tasks/{name} removes the other one"))
    };
    Problems(names.iter().map(problem).collect())
}

/// What became of a task that was to be made or replaced.
pub(crate) enum Put {
    /// The entry is wrong.
    Wrong(Vec<Fault>),
    /// The store has answered.
    Answered(TaskChange),
}

impl App {
    fn api_tasks(&self) -> MutexGuard<'_, ApiTasks> {
        self.api_tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far this node has taken up what was changed over the API: the revision of the last change, as that moves on.
    pub fn api_revision(&self) -> watch::Receiver<i64> {
        self.api_revision.subscribe()
    }

    /// Those that this node leaves to others, and why.
    pub(super) fn left_alone(&self) -> BTreeMap<TaskId, String> {
        self.api_tasks().left_alone.clone()
    }

    /// Puts all of the API's tasks into a configuration that has none. Returns which the last one had.
    pub(super) fn enter_api_tasks(&self, config: &mut LoadedConfig, api: Gathered) -> BTreeSet<TaskId> {
        api.tell_what_is_left_alone();
        let here = api.made.iter().map(|(made, _)| made.task.id.clone()).collect();
        let before = std::mem::replace(&mut *self.api_tasks(), ApiTasks { here, left_alone: api.left_alone });
        extend(config, api.made);
        self.api_revision.send_replace(api.revision);
        before.here
    }

    /// Takes them out again.
    pub(super) fn take_out_api_tasks(&self, config: &mut LoadedConfig) {
        let before = std::mem::take(&mut *self.api_tasks());
        take_out(config, &before.here);
    }

    /// Makes a task of `entry`, or puts it in the place of one. When this returns, this node has taken it up.
    pub(crate) async fn put_task(
        &self,
        store: &Store,
        entry: &Table,
        expected: Expected,
    ) -> Result<Put, AppError> {
        let running = self.running.lock().await;
        let running = running.as_ref().ok_or(AppError::NotRunning)?;
        // Held to the end: what is registered must be what this node then holds.
        let mut config = self.config.lock().await;
        let made = match config.makings.make(entry) {
            Ok(made) => made,
            Err(faults) => return Ok(Put::Wrong(faults)),
        };
        if let (None, Some(post)) = (&config.discord_token, made.bot_posts.first()) {
            let problem = post.without_token();
            let key = made.first_bot_post.unwrap_or_default();
            let fault = Fault { hint: problem.hint, ..Fault::new(key, problem.message) };
            return Ok(Put::Wrong(vec![fault]));
        }
        let json = serde_json::to_value(entry).map_err(|error| LedgerError::Corrupt(error.to_string()))?;
        let change = store.put_task(PutTask { task: made.task, entry: json, expected }).await?;
        if let TaskChange::Done(_) = change {
            let since = *self.api_revision.borrow();
            let changes = store.api_tasks(since).await?;
            self.apply(running, &mut config, changes).await?;
        }
        Ok(Put::Answered(change))
    }

    /// Removes a task. When this returns, this node has let go of it.
    pub(crate) async fn remove_task(
        &self,
        store: &Store,
        task: &TaskId,
        expected: Expected,
    ) -> Result<TaskChange, AppError> {
        let change = store.remove_task(task, expected).await?;
        self.take_up(store).await?;
        Ok(change)
    }

    /// Takes up what was changed over the API, on whichever node. Nothing is registered: that is done by the node that was
    /// asked, at starts, and at reloads; a node whose actor is another one holds a definition that nobody registered, and
    /// claims nothing.
    async fn take_up(&self, store: &Store) -> Result<(), AppError> {
        let since = *self.api_revision.borrow();
        let changes = store.api_tasks(since).await?;
        if changes.is_empty() {
            return Ok(());
        }
        let running = self.running.lock().await;
        let Some(running) = running.as_ref() else { return Ok(()) };
        let mut config = self.config.lock().await;
        self.apply(running, &mut config, changes).await
    }

    async fn apply(
        &self,
        running: &Running,
        config: &mut LoadedConfig,
        mut changes: Vec<ApiTask>,
    ) -> Result<(), AppError> {
        let since = *self.api_revision.borrow();
        // Somebody else may have been quicker.
        changes.retain(|change| change.revision > since);
        let names: BTreeSet<TaskId> = changes.iter().map(|change| change.task_id.clone()).collect();
        let gathered = Gathered::of(&config.makings, changes);
        let Gathered { made, left_alone, revision } = gathered;
        if names.is_empty() {
            return Ok(());
        }
        Gathered { left_alone: left_alone.clone(), ..Gathered::default() }.tell_what_is_left_alone();
        let before = Intended::all(config, &self.parts.skills);
        let were_here: BTreeSet<TaskId> = {
            let mut known = self.api_tasks();
            known.left_alone.retain(|task, _| !names.contains(task));
            known.left_alone.extend(left_alone);
            let were_here = known.here.intersection(&names).cloned().collect();
            known.here.retain(|task| !names.contains(task));
            known.here.extend(made.iter().map(|(made, _)| made.task.id.clone()));
            were_here
        };
        take_out(config, &were_here);
        let (first, first_post) = (config.tasks.len(), config.bot_posts.len());
        extend(config, made);
        let left_out = left_out(config);
        let held: Vec<Arc<Task>> =
            config.tasks[first..].iter().filter(|task| !left_out.contains_key(&task.id)).cloned().collect();
        for task in were_here.iter().filter(|task| held.iter().all(|held| held.id != **task)) {
            running.engine.let_go(task);
        }
        for task in config.tasks[first..].iter() {
            if let Some(why) = left_out.get(&task.id) {
                warn!(task.id = %task.id, "left out on this node: {why}");
            }
        }
        running.engine.hold(held);
        let mut intended = Intended::of(config, &self.parts.skills, &config.bot_posts[first_post..]);
        intended.retain(|one| before.iter().all(|before| !before.is_like(one)));
        look_ahead(&self.parts, intended, &running.signals, &running.stop);
        // The answer comes when the engine has heard all of that.
        running.engine.scheduled().await?;
        self.api_revision.send_replace(revision);
        Ok(())
    }
}

fn extend(config: &mut LoadedConfig, made: Vec<(FromApi, i64)>) {
    for (FromApi { task, bot_posts, .. }, _) in made {
        config.tasks.push(Arc::new(task));
        config.bot_posts.extend(bot_posts);
    }
}

fn take_out(config: &mut LoadedConfig, tasks: &BTreeSet<TaskId>) {
    if !tasks.is_empty() {
        config.tasks.retain(|task| !tasks.contains(&task.id));
        config.bot_posts.retain(|post| !tasks.contains(&post.task));
    }
}

/// Whether or not notifications arrive, changes are looked for this often …
const LOOK: Duration = Duration::from_millis(800);
/// … and, however many arrive, not more often than this.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes up what other nodes have changed, until `stop`.
pub(super) async fn follow(
    app: Weak<App>,
    store: Store,
    mut news: watch::Receiver<()>,
    stop: CancellationToken,
) {
    let follow = async {
        let mut failed = false;
        loop {
            tokio::time::sleep(PAUSE).await;
            // Who changes something is heard at once; the time is the guarantee.
            if let Ok(Err(_)) = tokio::time::timeout(LOOK, news.changed()).await {
                return;
            }
            let Some(app) = app.upgrade() else { return };
            match app.take_up(&store).await {
                Ok(()) => failed = false,
                // The engine says that the database is away.
                Err(AppError::Ledger(LedgerError::Unavailable(_))) => {}
                Err(error) if !failed => {
                    failed = true;
                    warn!(error = %error, "what was changed over the API can't be taken up");
                }
                Err(_) => {}
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow => {}
    }
}

//! The server as a whole: made of a configuration, started, reloaded, stopped.
//!
//! [`App::build`] makes everything and starts nothing. [`ActorServer::start`] opens the store, registers the tasks and
//! runs the engine and the deliverer until [`ActorServer::stop`].

mod api_tasks;

pub(crate) use api_tasks::Put;

use self::api_tasks::{ApiTasks, Gathered};
use crate::actor::{PipelineActor, RegisteredActors, RunContext};
use crate::alerts::{self, Watcher, WatcherParts};
use crate::api::{self, ApiError, ApiParts};
use crate::config::server_file::PlatformName;
use crate::config::{ActorFile, Channel, LoadedConfig, Problems, ServerSettings, Webhook};
use crate::deliverer::{Deliverer, DeliverySettings, DeliverySignals};
use crate::engine::{CurrentNode, DatabaseClock, Engine, EngineParts, EngineSettings, Shutdown};
use crate::metrics::{DatabaseMetrics, Metrics, NodeMetrics, NotificationMetrics, Source};
use crate::notifications::{self, ListenerParts};
use crate::platforms::{Finding, Intended, Platforms, SetupError};
use crate::self_audit::{SelfAudit, SelfAuditReport};
use crate::skills::SkillRegistry;
use crate::traces::{Exporter, Traces};
use async_trait::async_trait;
use botticelli_database::{DatabaseStatePersistence, Mode, OpenError, Origin, Store, Wakeups};
use botticelli_server::clock::Clock;
use botticelli_server::ids::{ActorName, DefinitionHash, ExecutionId, Fence, NodeId, TaskId};
use botticelli_server::ledger::{Attempt, Ledger as _, LedgerError, Registered, Trigger};
use botticelli_server::outbox::PostHistory;
use botticelli_server::post::Destination;
use botticelli_server::server::{ActorManager, ActorServer, Run, StatePersistence as _, TaskScheduler as _};
use botticelli_server::task::Task;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Why the server could not do as told.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The database can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The configuration can't be used; nothing was changed.
    #[error(transparent)]
    Config(#[from] Problems),
    /// There is no API where one is wanted.
    #[error(transparent)]
    Api(ApiError),
    /// It runs already.
    #[error("the server is running already")]
    AlreadyStarted,
    /// It does not run.
    #[error("the server is not running")]
    NotRunning,
    /// It has stopped, and the database did not take the last results of these tasks.
    #[error("it has stopped, but the database did not take the last results of {}", names(.0))]
    ResultsLost(BTreeSet<TaskId>),
    /// It has stopped, and the database does not know.
    #[error("it has stopped, but the database did not take its last word")]
    NotSaid,
}

fn names(tasks: &BTreeSet<TaskId>) -> String {
    tasks.iter().map(TaskId::as_str).collect::<Vec<_>>().join(", ")
}

impl From<ApiError> for AppError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Ledger(error) => Self::Ledger(error),
            other @ ApiError::Listen(_) => Self::Api(other),
        }
    }
}

/// What a server is made of, besides its configuration.
pub struct AppParts {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where posts can go.
    pub platforms: Platforms,
    /// What pipelines can be made of.
    pub skills: Arc<SkillRegistry>,
    /// This process.
    pub node: NodeId,
    /// How posts are delivered.
    pub delivery: DeliverySettings,
}

impl AppParts {
    /// Those of the production server.
    ///
    /// # Errors
    /// When a platform can't be set up.
    pub fn new(config: &LoadedConfig, clock: Arc<dyn Clock>, node: NodeId) -> Result<Self, SetupError> {
        Ok(Self {
            platforms: Platforms::configured(config, clock.clone())?,
            skills: Arc::new(SkillRegistry::standard()),
            clock,
            node,
            delivery: delivery_settings(config),
        })
    }
}

/// Until a request ends, it may have waited for its turn and then for its answer.
pub(crate) fn delivery_settings(config: &LoadedConfig) -> DeliverySettings {
    const TURN: Duration = Duration::from_secs(10);
    let default = DeliverySettings::default();
    let request_timeout = default.request_timeout.max(config.discord.request_timeout + TURN);
    DeliverySettings {
        lease: default.lease.max(2 * request_timeout),
        request_timeout,
        safe_window: default.safe_window.max(config.discord.nonce_window),
        ..default
    }
}

/// Loads the configuration anew.
pub type Reload = dyn Fn() -> Result<LoadedConfig, Problems> + Send + Sync;

/// The server.
pub struct App {
    parts: AppParts,
    config: Mutex<LoadedConfig>,
    reload: Box<Reload>,
    /// Where events come in, for the API.
    webhooks: watch::Sender<Arc<[Webhook]>>,
    /// Whose notifications run tasks.
    channels: watch::Sender<Arc<[Channel]>>,
    running: Mutex<Option<Running>>,
    api_tasks: std::sync::Mutex<ApiTasks>,
    api_revision: watch::Sender<i64>,
    /// Cancelled when the server begins to stop; each start has its own.
    stopping: std::sync::Mutex<CancellationToken>,
    /// For the API, which reloads.
    myself: Weak<Self>,
}

struct Running {
    signals: DeliverySignals,
    /// Cancelled when one of the loops has ended, be it by a panic.
    broken_down: CancellationToken,
    engine: Arc<Engine>,
    actors: Arc<RegisteredActors>,
    snapshot: DatabaseStatePersistence<ServerState>,
    store: Store,
    self_audits: watch::Receiver<Option<SelfAuditReport>>,
    stop: CancellationToken,
    loops: Vec<JoinHandle<()>>,
    deliverer: JoinHandle<()>,
    stop_delivering: CancellationToken,
    api: Option<RunningApi>,
    export: Option<Export>,
}

/// What sends spans.
struct Export {
    running: JoinHandle<()>,
    stop: CancellationToken,
}

struct RunningApi {
    address: SocketAddr,
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

/// What the last server of this database left behind: what was recovered is told from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// Its node.
    pub node: NodeId,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it stopped; `None` while it runs, or when it had no time to say so.
    pub stopped_at: Option<DateTime<Utc>>,
    /// What it ran.
    pub definitions: BTreeMap<TaskId, DefinitionHash>,
    /// What of that it could not run, and why.
    #[serde(default)]
    pub left_out: BTreeMap<TaskId, String>,
}

fn snapshot(store: &Store) -> DatabaseStatePersistence<ServerState> {
    DatabaseStatePersistence::new(store.clone(), "server")
}

/// What the server that started or reloaded last runs, or ran; `None`: there was none yet.
///
/// # Errors
/// When the database fails.
pub async fn last_server(store: &Store) -> Result<Option<ServerState>, LedgerError> {
    snapshot(store).load().await
}

/// Whether a server would run the task: it is in the configuration, or was made over the API.
///
/// # Errors
/// When the database fails.
pub async fn is_configured(store: &Store, task: &TaskId, origin: Origin) -> Result<bool, LedgerError> {
    Ok(match origin {
        Origin::Api => store.api_task(task).await?.is_some(),
        Origin::File => last_server(store).await?.is_none_or(|last| last.definitions.contains_key(task)),
    })
}

impl App {
    /// A server that does nothing until it is started. `reload` loads the configuration again.
    pub fn build(config: LoadedConfig, parts: AppParts, reload: Box<Reload>) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            parts,
            webhooks: watch::Sender::new(config.webhooks.clone()),
            channels: watch::Sender::new(config.channels.clone()),
            config: Mutex::new(config),
            reload,
            running: Mutex::new(None),
            api_tasks: std::sync::Mutex::default(),
            api_revision: watch::Sender::new(0),
            stopping: std::sync::Mutex::default(),
            myself: myself.clone(),
        })
    }

    /// Where the API listens; `None` while the server does not run, or without an API.
    pub async fn api_address(&self) -> Option<SocketAddr> {
        Some(self.running.lock().await.as_ref()?.api.as_ref()?.address)
    }

    fn stopping(&self) -> std::sync::MutexGuard<'_, CancellationToken> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this configuration has: its tasks and actors. While it is being changed, this waits.
    pub async fn with_config<T>(&self, look: impl FnOnce(&LoadedConfig) -> T) -> T {
        look(&*self.config.lock().await)
    }

    /// Runs a task's pipeline as it would run now; nothing of it is sent or recorded. `None`: the configuration of this
    /// server has no such task.
    ///
    /// # Errors
    /// When the server does not run, or the database fails.
    pub async fn rehearse(&self, task: &TaskId, stop: CancellationToken) -> Result<Option<Run>, AppError> {
        let (store, actors) = {
            let running = self.running.lock().await;
            let running = running.as_ref().ok_or(AppError::NotRunning)?;
            (running.store.clone(), running.actors.clone())
        };
        let task = self.config.lock().await.tasks.iter().find(|known| known.id == *task).cloned();
        let Some(task) = task else { return Ok(None) };
        let now = store.now().await?;
        let clock = Arc::new(DatabaseClock::new(self.parts.clock.clone()));
        let context = contexts(Arc::new(store), clock, self.parts.platforms.clone());
        let context = context(&task, &rehearsal(&task, now), stop);
        // The actor is gone: the task is about to be, too.
        Ok(actors.run(&task.actor_name, context).await.ok())
    }

    /// Its engine; `None` while the server does not run.
    pub async fn engine(&self) -> Option<Arc<Engine>> {
        Some(self.running.lock().await.as_ref()?.engine.clone())
    }

    /// What it finds when it looks at itself, each minute; `None` while the server does not run.
    pub async fn self_audits(&self) -> Option<watch::Receiver<Option<SelfAuditReport>>> {
        Some(self.running.lock().await.as_ref()?.self_audits.clone())
    }

    /// Returns when a part of the running server has come to an end that nobody asked for. A server that goes on without
    /// it would look alive and do nothing.
    pub async fn breaks_down(&self) {
        let broken_down = self.running.lock().await.as_ref().map(|running| running.broken_down.clone());
        match broken_down {
            Some(broken_down) => broken_down.cancelled().await,
            None => std::future::pending().await,
        }
    }

    async fn running_parts(&self, config: &mut LoadedConfig) -> Result<Running, AppError> {
        let parts = &self.parts;
        let listener = api::bind(&config.api).await.map_err(ApiError::Listen)?;
        let url = config.database_url.expose_secret();
        let store = Store::open(url, Mode::Server, parts.clock.clone()).await?;
        let store_arc = Arc::new(store.clone());
        let (traces, exporter) = traces(config, &store, &parts.node);
        let actors = Arc::new(RegisteredActors::default());
        enter_actors(&actors, build_actors(&config.actors, &parts.skills, url)?);
        let clock = Arc::new(DatabaseClock::new(parts.clock.clone()));
        let wakeups = Wakeups::default();
        let signals = DeliverySignals { changed: wakeups.clone(), ..DeliverySignals::default() };
        let node = Arc::new(CurrentNode::new(parts.node.clone()));
        let engine = Arc::new(Engine::new(EngineParts {
            ledger: store_arc.clone(),
            outbox: store_arc.clone(),
            actors: actors.clone(),
            contexts: Arc::new(contexts(store_arc.clone(), clock.clone(), parts.platforms.clone())),
            clock: clock.clone(),
            wakeups: wakeups.clone(),
            posts_waiting: signals.posts_waiting.clone(),
            node: node.clone(),
            settings: engine_settings(&config.settings),
            traces: traces.clone(),
        }));
        let deliverer = Deliverer::new(
            store_arc,
            parts.platforms.clone(),
            clock.clone(),
            node.clone(),
            parts.delivery.clone(),
            signals.clone(),
        )
        .traced(traces);
        let self_audit = SelfAudit::new(store.clone(), clock.clone());
        let self_audits = self_audit.reports();
        let watcher = Watcher::new(WatcherParts {
            store: store.clone(),
            platforms: parts.platforms.clone(),
            node: node.clone(),
            clock: clock.clone(),
            policies: config.alerts.iter().map(|alert| alert.policy.clone()).collect(),
            self_audits: self_audits.clone(),
            activity: engine.activity(),
            posts_waiting: signals.posts_waiting.clone(),
            keep: config.settings.history_retention,
        });
        let heard = Arc::new(NotificationMetrics::default());
        let mut sources: Vec<Arc<dyn Source>> = vec![
            Arc::new(NodeMetrics { activity: engine.activity() }),
            engine.metrics(),
            deliverer.metrics(),
            watcher.metrics(),
            heard.clone(),
            Arc::new(DatabaseMetrics::new(store.clone(), actors.clone(), self_audits.clone())),
        ];
        sources.extend(parts.platforms.metrics());
        let metrics = Metrics::new(sources);
        let listeners = ListenerParts {
            store: store.clone(),
            database_url: config.database_url.clone(),
            node: node.clone(),
            wakeups: wakeups.clone(),
            metrics: heard,
        };
        let heart_clock = clock.clone();
        let (stop, stop_delivering) = (CancellationToken::new(), CancellationToken::new());
        let snapshot = snapshot(&store);
        let broken_down = CancellationToken::new();
        let api = match listener {
            None => None,
            Some(listener) => {
                let (address, stop) = (listener.address, CancellationToken::new());
                let parts = ApiParts {
                    settings: config.api.clone(),
                    store: store.clone(),
                    clock,
                    node,
                    activity: engine.activity(),
                    metrics,
                    wakeups: wakeups.clone(),
                    webhooks: self.webhooks.subscribe(),
                    server: self.myself.clone(),
                    stopping: self.stopping().clone(),
                    broken_down: broken_down.clone(),
                };
                Some((address, api::start(listener, parts, stop.clone()).await?, stop))
            }
        };
        // The node is known before anything is claimed in its name.
        engine.enter().await?;
        let api_tasks = Gathered::of(&config.makings, store.api_tasks(0).await?);
        let registered = api_tasks::register(&store, config, &api_tasks, true).await?;
        self.enter_api_tasks(config, api_tasks);
        tell_what_was_recovered(&snapshot, &registered).await?;
        engine.hold(runnable(config));
        look_ahead(parts, Intended::all(config, &parts.skills), &signals, &stop);
        let guard = || broken_down.clone().drop_guard();
        let api_tasks = api_tasks::follow(self.myself.clone(), store.clone(), wakeups.follow(), stop.clone());
        let mut loops = vec![
            tokio::spawn({
                let guard = guard();
                async move {
                    let _until_the_end = guard;
                    api_tasks.await;
                }
            }),
            tokio::spawn({
                let (engine, stop, guard) = (engine.clone(), stop.clone(), guard());
                async move {
                    let _until_the_end = guard;
                    engine.run(stop).await;
                }
            }),
            tokio::spawn({
                let (watch, guard) = (store.clone().watch(wakeups, stop.clone()), guard());
                async move {
                    let _until_the_end = guard;
                    watch.await;
                }
            }),
            tokio::spawn({
                let (self_audit, guard) = (self_audit.run(stop.clone()), guard());
                async move {
                    let _until_the_end = guard;
                    self_audit.await;
                }
            }),
        ];
        loops.push(tokio::spawn({
            let channels = self.channels.subscribe();
            let (listen, guard) = (notifications::run(listeners, channels, stop.clone()), guard());
            async move {
                let _until_the_end = guard;
                listen.await;
            }
        }));
        loops.push(tokio::spawn({
            let (watch, guard) = (watcher.run(stop.clone()), guard());
            async move {
                let _until_the_end = guard;
                watch.await;
            }
        }));
        if let Some(settings) = config.heartbeat.clone() {
            let (store, activity, clock) = (store.clone(), engine.activity(), heart_clock);
            let beats = alerts::heartbeat::run(settings, store, activity, move || clock.now(), stop.clone());
            loops.push(tokio::spawn(beats));
        }
        let deliverer = tokio::spawn({
            let (run, guard) = (deliverer.run(stop_delivering.clone(), engine.shutdown()), guard());
            async move {
                let _until_the_end = guard;
                run.await;
            }
        });
        let api = api.map(|(address, serve, stop)| {
            let guard = guard();
            let serving = tokio::spawn(async move {
                let _until_the_end = guard;
                serve.await;
            });
            RunningApi { address, serving, stop }
        });
        let export = exporter.map(|exporter| {
            let stop = CancellationToken::new();
            Export { running: tokio::spawn(exporter.run(stop.clone())), stop }
        });
        Ok(Running {
            signals,
            broken_down,
            engine,
            actors,
            snapshot,
            store,
            self_audits,
            stop,
            loops,
            deliverer,
            stop_delivering,
            api,
            export,
        })
    }

    fn state(&self, config: &LoadedConfig, stopped_at: Option<DateTime<Utc>>) -> ServerState {
        let definition = |task: &Task| (task.id.clone(), task.definition.clone());
        ServerState {
            node: self.parts.node.clone(),
            version: botticelli_database::VERSION.to_owned(),
            started_at: self.parts.clock.now(),
            stopped_at,
            definitions: config.tasks.iter().map(|task| definition(task)).collect(),
            left_out: left_out(config)
                .into_iter()
                .map(|(task, why)| (task.clone(), why.to_owned()))
                .chain(self.left_alone())
                .collect(),
        }
    }
}

#[async_trait]
impl ActorServer for App {
    type Error = AppError;

    async fn start(&self) -> Result<(), AppError> {
        let mut running = self.running.lock().await;
        if running.is_some() {
            return Err(AppError::AlreadyStarted);
        }
        let mut config = self.config.lock().await;
        *self.stopping() = CancellationToken::new();
        self.take_out_api_tasks(&mut config);
        let started = self.running_parts(&mut config).await?;
        started.snapshot.save(&self.state(&config, None)).await?;
        *running = Some(started);
        Ok(())
    }

    async fn stop(&self) -> Result<(), AppError> {
        // First: a reload that somebody asked for over the API must not hold up the stop.
        self.stopping().cancel();
        let mut running = self.running.lock().await.take().ok_or(AppError::NotRunning)?;
        let shutdown = running.engine.shutdown();
        // All that follows shares the one deadline that begins here.
        shutdown.running_until();
        running.stop.cancel();
        for part in running.loops.drain(..) {
            ends(part, &shutdown).await;
        }
        // Last: what the last runs made may still go out while they end.
        running.stop_delivering.cancel();
        ends(running.deliverer, &shutdown).await;
        // There will be no other spans. The last ones are sent while the rest ends.
        if let Some(export) = &running.export {
            export.stop.cancel();
        }
        // Last of all loops: until then people can see how the stop goes on.
        if let Some(RunningApi { serving, stop, .. }) = running.api.take() {
            stop.cancel();
            ends(serving, &shutdown).await;
        }
        // What is being sent until then is still this node's, and known to have arrived.
        let has_left = running.engine.leave().await;
        let state = self.state(&*self.config.lock().await, Some(self.parts.clock.now()));
        let saved = match timeout_at(shutdown.until(), running.snapshot.save(&state)).await {
            Ok(saved) => saved.map_err(|error| error.to_string()),
            Err(_) => Err("the database does not answer".to_owned()),
        };
        if let Err(error) = &saved {
            warn!(error, "the next start will not know that this stop was in good order");
        }
        if let Some(export) = running.export {
            export.ends(&shutdown).await;
        }
        let lost = shutdown.unrecorded();
        if !lost.is_empty() {
            return Err(AppError::ResultsLost(lost));
        }
        if has_left && saved.is_ok() { Ok(()) } else { Err(AppError::NotSaid) }
    }

    async fn reload(&self) -> Result<(), AppError> {
        let running = self.running.lock().await;
        let running = running.as_ref().ok_or(AppError::NotRunning)?;
        let mut new = (self.reload)()?;
        let mut config = self.config.lock().await;
        let same_url = new.database_url.expose_secret() == config.database_url.expose_secret();
        if new.settings != config.settings || !same_url {
            warn!("[server] and [database] have changed: that takes effect at the next start");
        }
        if new.api != config.api {
            warn!("[api] has changed: that takes effect at the next start");
        }
        if new.alerts != config.alerts || heartbeat_url(&new) != heartbeat_url(&config) {
            warn!("[[alerts]] or [heartbeat] has changed: that takes effect at the next start");
        }
        if is_set_up_differently(&new, &config) {
            warn!("[discord], or the token, has changed: that takes effect at the next start");
        }
        new.database_url = config.database_url.clone();
        new.settings = config.settings.clone();
        new.api = config.api.clone();
        new.alerts = config.alerts.clone();
        new.heartbeat = config.heartbeat.clone();
        new.discord = config.discord.clone();
        new.discord_token = config.discord_token.clone();
        let actors = build_actors(&new.actors, &self.parts.skills, new.database_url.expose_secret())?;
        let api_tasks = Gathered::of(&new.makings, running.store.api_tasks(0).await?);
        let registered = api_tasks::register(&running.store, &new, &api_tasks, false).await?;
        // From here on nothing can fail but the snapshot.
        enter_actors(&running.actors, actors);
        let of_the_api = self.enter_api_tasks(&mut new, api_tasks);
        for gone in config.tasks.iter().filter(|old| new.tasks.iter().all(|task| task.id != old.id)) {
            if of_the_api.contains(&gone.id) {
                // It is left to other nodes, or whoever removed it has seen to it.
                running.engine.let_go(&gone.id);
            } else {
                running.engine.cancel(&gone.id).await?;
            }
        }
        running.engine.hold(runnable(&new));
        let before = Intended::all(&config, &self.parts.skills);
        let mut intended = Intended::all(&new, &self.parts.skills);
        intended.retain(|one| before.iter().all(|before| !before.is_like(one)));
        look_ahead(&self.parts, intended, &running.signals, &running.stop);
        let tasks = running.engine.scheduled().await?.len();
        info!(
            tasks,
            added = registered.added.len(),
            changed = registered.changed.len(),
            removed = registered.retired.len(),
            "configuration reloaded"
        );
        for gone in running.actors.ids() {
            if new.actors.iter().all(|file| file.actor.name != gone) {
                running.actors.deregister(&gone);
            }
        }
        self.webhooks.send_replace(new.webhooks.clone());
        self.channels.send_replace(new.channels.clone());
        *config = new;
        running.snapshot.save(&self.state(&config, None)).await?;
        Ok(())
    }
}

/// Waits for a part of the server that was told to end, as long as the shutdown allows. Engine and deliverer keep to that
/// themselves, and say what they leave undone.
async fn ends(part: JoinHandle<()>, shutdown: &Shutdown) {
    const TO_SAY_SO: Duration = Duration::from_millis(250);
    let abort = part.abort_handle();
    match timeout_at(shutdown.until() + TO_SAY_SO, part).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(error = %error, "a part of the server did not end well"),
        // It waits for a database that does not answer.
        Err(_) => abort.abort(),
    }
}

impl Export {
    /// A collector that does not answer holds up no stop for longer than this.
    const PATIENCE: Duration = Duration::from_secs(2);

    async fn ends(self, shutdown: &Shutdown) {
        let abort = self.running.abort_handle();
        let until = shutdown.until().min(Instant::now() + Self::PATIENCE);
        match timeout_at(until, self.running).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = %error, "what sends traces did not end well"),
            Err(_) => {
                warn!("the last traces could not be sent in time");
                abort.abort();
            }
        }
    }
}

/// Off when nobody asked for traces, or they can't be sent: nothing else fails for that.
fn traces(config: &LoadedConfig, store: &Store, node: &NodeId) -> (Traces, Option<Exporter>) {
    let Some(settings) = config.traces.clone() else { return Default::default() };
    match Traces::new(settings, store.ledger_id(), node) {
        Ok((traces, exporter)) => (traces, Some(exporter)),
        Err(error) => {
            warn!(error, "no traces are sent: the HTTP client can't start");
            Default::default()
        }
    }
}

fn heartbeat_url(config: &LoadedConfig) -> Option<(&str, Duration)> {
    config.heartbeat.as_ref().map(|heartbeat| (heartbeat.url.expose_secret(), heartbeat.every))
}

fn is_set_up_differently(new: &LoadedConfig, old: &LoadedConfig) -> bool {
    let secret = |secret: Option<&SecretString>| secret.map(|secret| secret.expose_secret().to_owned());
    let webhooks = |config: &LoadedConfig| -> BTreeMap<String, Option<String>> {
        config.discord.webhooks.0.iter().map(|(name, url)| (name.clone(), secret(Some(url)))).collect()
    };
    let plain = |config: &LoadedConfig| {
        let discord = &config.discord;
        let times =
            [discord.connect_timeout, discord.request_timeout, discord.nonce_window, discord.history_grace];
        (
            discord.api_base_url.clone(),
            discord.about_url.clone(),
            times,
            secret(config.discord_token.as_ref()),
        )
    };
    plain(new) != plain(old) || webhooks(new) != webhooks(old)
}

/// So many heartbeats fit into a lease: two that are lost, or late, cost nothing.
const BEATS_PER_LEASE: u32 = 4;

fn engine_settings(settings: &ServerSettings) -> EngineSettings {
    let slots = usize::try_from(settings.max_concurrent_executions.get()).ok().and_then(NonZeroUsize::new);
    EngineSettings {
        check_interval: settings.check_interval,
        max_concurrent_executions: slots.unwrap_or(NonZeroUsize::MIN),
        shutdown_grace: settings.shutdown_grace,
        heartbeat: settings.lease / BEATS_PER_LEASE,
        lease: settings.lease,
        history_retention: settings.history_retention,
    }
}

/// All actors, before the first is entered: a bad one changes nothing.
fn build_actors(
    files: &[ActorFile],
    skills: &SkillRegistry,
    own_database_url: &str,
) -> Result<Vec<(ActorName, PipelineActor)>, Problems> {
    let build = |file: &ActorFile| match PipelineActor::build(file, skills, own_database_url) {
        Ok(actor) => Ok((file.actor.name.clone(), actor)),
        Err(faults) => Err(Problems::of(&file.actor.name, faults)),
    };
    files.iter().map(build).collect()
}

fn enter_actors(actors: &RegisteredActors, built: Vec<(ActorName, PipelineActor)>) {
    for (name, actor) in built {
        actors.register(name, Arc::new(actor));
    }
}

/// The tasks that this node can run. The others are registered too, and so they are kept: another node may have what
/// is lacking here, or this one when it is started again, and what they missed is theirs to catch up.
fn runnable(config: &LoadedConfig) -> Vec<Arc<Task>> {
    let left_out = left_out(config);
    for (task, why) in &left_out {
        warn!(task.id = %task, "left out on this node: {why}");
    }
    config.tasks.iter().filter(|task| !left_out.contains_key(&task.id)).cloned().collect()
}

/// What this node can't run, and why.
fn left_out(config: &LoadedConfig) -> BTreeMap<&TaskId, &'static str> {
    let without_token: HashSet<&TaskId> = config.without_token().into_iter().map(|(task, _)| task).collect();
    let lacking = |task: &Task| {
        if without_token.contains(&task.id) {
            Some("it posts to Discord, and there is no token")
        } else if task.destinations.iter().any(|to| is_new_webhook(to, config)) {
            Some("its webhook is known from the next start on")
        } else {
            None
        }
    };
    config.tasks.iter().filter_map(|task| Some((&task.id, lacking(task)?))).collect()
}

/// So long posts to Discord wait until the way has been looked at. Without an answer they go all the same.
const LOOK_AHEAD: Duration = Duration::from_secs(10);

/// Warns of what stands in the way of posts, before the first of them finds it out.
fn look_ahead(
    parts: &AppParts,
    intended: Vec<Intended>,
    signals: &DeliverySignals,
    stop: &CancellationToken,
) {
    if intended.is_empty() {
        return;
    }
    let hold = signals.hold(PlatformName::Discord.as_str());
    let (platforms, stop, now) = (parts.platforms.clone(), stop.clone(), parts.clock.now());
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let mut looking = std::pin::pin!(platforms.preflight(&intended, now));
        let (found, hold) = match tokio::time::timeout(LOOK_AHEAD, &mut looking).await {
            Ok(found) => (found, Some(hold)),
            Err(_) => {
                drop(hold);
                (looking.await, None)
            }
        };
        for Finding { problem, .. } in found {
            warn!("{problem}; {}", problem.hint.as_deref().unwrap_or_default());
        }
        drop(hold);
    }));
}

/// A reload may bring tasks for webhooks that this process was not started with.
fn is_new_webhook(destination: &Destination, config: &LoadedConfig) -> bool {
    destination.platform == PlatformName::DiscordWebhook.as_str()
        && !config.discord.webhooks.0.contains_key(&destination.target)
}

async fn tell_what_was_recovered(
    snapshot: &DatabaseStatePersistence<ServerState>,
    registered: &Registered,
) -> Result<(), LedgerError> {
    match snapshot.load().await? {
        None => info!("a new database"),
        Some(ServerState { node, stopped_at: Some(at), .. }) => {
            info!(%node, %at, "the last server stopped in good order")
        }
        Some(ServerState { node, stopped_at: None, .. }) => {
            info!(%node, "the last server did not say that it stopped: it runs beside this one, or it was killed");
        }
    }
    for task in &registered.retired {
        warn!(task.id = %task, "no longer in the configuration: paused, and kept");
    }
    Ok(())
}

/// Makes the context of each attempt.
pub fn contexts(
    history: Arc<dyn PostHistory>,
    clock: Arc<DatabaseClock>,
    platforms: Platforms,
) -> impl Fn(&Task, &Attempt, CancellationToken) -> RunContext + Send + Sync {
    move |task, attempt, stop| RunContext {
        task_id: task.id.clone(),
        scheduled_for: attempt.scheduled_for.unwrap_or(attempt.opened_at),
        destinations: task.destinations.clone(),
        text_limits: platforms.text_limits(&task.destinations),
        platforms: platforms.clone(),
        history: history.clone(),
        clock: clock.clone(),
        parameters: attempt.parameters.clone(),
        on_unknown: task.policy.on_unknown,
        stop,
        trace: None,
    }
}

/// An attempt that nobody will record.
pub fn rehearsal(task: &Task, now: DateTime<Utc>) -> Attempt {
    Attempt {
        execution_id: ExecutionId(0),
        task_id: task.id.clone(),
        trigger: Trigger::Manual,
        scheduled_for: None,
        due_at: now,
        opened_at: now,
        attempt: 1,
        fence: Fence(0),
        consecutive_failures: 0,
        failures: 0,
        interruptions: 0,
        parameters: serde_json::Value::Null,
    }
}

//! An engine over a real store, with actors that do nothing.

use async_trait::async_trait;
use botticelli_actor::actor::{RegisteredActors, RunContext};
use botticelli_actor::app::contexts;
use botticelli_actor::clock::SystemClock;
use botticelli_actor::engine::{CurrentNode, DatabaseClock, Engine, EngineParts, EngineSettings, node_name};
use botticelli_actor::platforms::Platforms;
use botticelli_actor::traces::Traces;
use botticelli_database::{Mode, Store, Wakeups};
use botticelli_server::clock::Clock as _;
use botticelli_server::ids::{ActorName, DefinitionHash, TaskId};
use botticelli_server::ledger::{Ledger as _, Registration};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::schedule::ScheduleType;
use botticelli_server::server::{Actor, ActorManager as _, Run, TaskScheduler as _};
use botticelli_server::task::{Task, TaskPolicy};
use chrono::{DateTime, TimeDelta, Utc};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// One of the two kinds.
pub(crate) enum Database {
    Sqlite,
    Postgres { url: String },
}

impl Database {
    /// SQLite, and PostgreSQL where `TEST_DATABASE_URL` names one.
    #[expect(clippy::disallowed_methods, reason = "the benchmark is told by its script where PostgreSQL is")]
    pub(crate) fn all() -> Vec<Self> {
        let postgres = std::env::var("TEST_DATABASE_URL").ok().map(|url| Self::Postgres { url });
        if postgres.is_none() {
            eprintln!("no TEST_DATABASE_URL: PostgreSQL is left out");
        }
        std::iter::once(Self::Sqlite).chain(postgres).collect()
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }

    /// A fresh, empty database; it goes with the answer.
    pub(crate) async fn fresh(&self) -> Fresh {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        match self {
            Self::Sqlite => {
                // Beside the build, on a real disk: a temporary folder may be in memory.
                let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
                let url = format!("sqlite://{}", folder.path().join("bench.db").display());
                Fresh { url, _folder: Some(folder), drop: None }
            }
            Self::Postgres { url } => {
                let name = format!("bench_{}_{number}", std::process::id());
                execute(url, &format!("CREATE DATABASE {name}")).await;
                let own = replace_database(url, &name);
                Fresh { url: own, _folder: None, drop: Some((url.clone(), name)) }
            }
        }
    }
}

pub(crate) struct Fresh {
    pub(crate) url: String,
    /// Goes with this.
    _folder: Option<TempDir>,
    drop: Option<(String, String)>,
}

impl Fresh {
    pub(crate) async fn end(self) {
        if let Some((url, name)) = &self.drop {
            execute(url, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

fn replace_database(url: &str, name: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (place, options) = rest.split_once('?').map_or((rest, String::new()), |(a, b)| (a, format!("?{b}")));
    let host = place.split_once('/').map_or(place, |(host, _)| host);
    format!("{scheme}://{host}/{name}{options}")
}

pub(crate) async fn postgres(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL");
    tokio::spawn(connection);
    client
}

async fn execute(url: &str, sql: &str) {
    postgres(url).await.batch_execute(sql).await.expect(sql);
}

/// Does nothing, and notes how late it was.
#[derive(Default)]
pub(crate) struct Noop {
    pub(crate) count: AtomicUsize,
    pub(crate) started: Mutex<Vec<(DateTime<Utc>, TimeDelta)>>,
    pub(crate) done: Notify,
    pub(crate) until: AtomicUsize,
}

#[async_trait]
impl Actor<RunContext> for Noop {
    async fn run(&self, context: RunContext) -> Run {
        let now = SystemClock.now();
        self.started.lock().expect("no panic").push((now, now - context.scheduled_for));
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == self.until.load(Ordering::Relaxed) {
            self.done.notify_one();
        }
        Run::ended(AttemptEnd::Succeeded)
    }
}

pub(crate) fn task(number: usize, schedule: ScheduleType) -> Task {
    Task {
        id: TaskId::new(format!("task-{number:06}")).expect("a name"),
        actor_name: ActorName::new("noop").expect("a name"),
        schedule,
        policy: TaskPolicy::default(),
        destinations: Vec::new(),
        enabled: true,
        after: Vec::new(),
        definition: DefinitionHash::new("bench").expect("a hash"),
    }
}

pub(crate) async fn open(fresh: &Fresh) -> Store {
    Store::open(&fresh.url, Mode::Server, Arc::new(SystemClock)).await.expect("a store")
}

pub(crate) async fn register(store: &Store, tasks: Vec<Task>) {
    let registration = Registration { tasks, complete: false, start: true };
    store.register(registration).await.expect("registered");
}

pub(crate) struct Serving {
    stop: CancellationToken,
    engine: JoinHandle<()>,
}

/// Runs the engine over `tasks`, which are registered.
pub(crate) async fn serve(store: &Store, tasks: Vec<Task>, actor: Arc<Noop>) -> Serving {
    let clock = Arc::new(DatabaseClock::new(Arc::new(SystemClock)));
    let store = Arc::new(store.clone());
    let actors = Arc::new(RegisteredActors::default());
    actors.register(ActorName::new("noop").expect("a name"), actor);
    let engine = Engine::new(EngineParts {
        ledger: store.clone(),
        outbox: store.clone(),
        actors,
        contexts: Arc::new(contexts(store, clock.clone(), Platforms::default())),
        clock,
        wakeups: Wakeups::default(),
        posts_waiting: Arc::new(Notify::new()),
        node: Arc::new(CurrentNode::new(node_name("bench", std::process::id(), SystemClock.now()))),
        settings: EngineSettings {
            max_concurrent_executions: NonZeroUsize::new(16).expect("16"),
            ..EngineSettings::default()
        },
        traces: Traces::default(),
    });
    engine.enter().await.expect("the node is entered");
    engine.hold(tasks);
    let stop = CancellationToken::new();
    let engine = tokio::spawn({
        let stop = stop.clone();
        async move { engine.run(stop).await }
    });
    Serving { stop, engine }
}

impl Serving {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.engine.await.expect("the engine ends well");
    }
}

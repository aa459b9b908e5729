//! The production implementations keep what the contracts promise.

use crate::support::*;
use async_trait::async_trait;
use botticelli_actor::actor::{RegisteredActors, RunContext};
use botticelli_actor::app::{App, AppError, AppParts, ServerState};
use botticelli_actor::config::{ActorFile, Given, LoadedConfig, Problems, load};
use botticelli_actor::deliverer::DeliverySettings;
use botticelli_actor::engine::DatabaseClock;
use botticelli_actor::platforms::Platforms;
use botticelli_database::{DatabaseStatePersistence, Store};
use botticelli_server::ids::{ActorName, DefinitionHash, NodeId, TaskId};
use botticelli_server::ledger::LedgerError;
use botticelli_server::outcome::Outcome;
use botticelli_server::server::{ActorManager, ActorServer, StatePersistence, TaskScheduler};
use botticelli_testkit::clock::ManualClock;
use botticelli_testkit::contract_suites::{
    ManagerUnderTest, PersistenceUnderTest, ProbeActor, SchedulerUnderTest, ServerUnderTest,
};
use botticelli_testkit::databases::TestStore;
use botticelli_testkit::{manager_suite, persistence_suite, scheduler_suite, server_suite};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

scheduler_suite!(engine_on_sqlite, if_any Some(Scheduling::on(TestStore::sqlite().await).await));
scheduler_suite!(engine_on_postgres, if_any Scheduling::on_postgres().await);

struct Scheduling(TestServer);

impl Scheduling {
    async fn on(database: TestStore) -> Self {
        let mut server = TestServer::start_elsewhere(database).await;
        server.ends_elsewhere();
        Self(server)
    }

    async fn on_postgres() -> Option<Self> {
        Some(Self::on(TestStore::postgres().await?).await)
    }

    async fn outcomes_now(&self, task: &TaskId) -> Vec<Outcome> {
        let mut history = self.0.database.history(task, 1_000).await.expect("history");
        history.reverse();
        let ran = history.into_iter().filter(|execution| execution.started_at.is_some());
        ran.filter_map(|execution| match execution.outcome.as_deref()? {
            "succeeded" => Some(Outcome::Succeeded),
            "failed" => Some(Outcome::Failed { error: execution.error_message.unwrap_or_default() }),
            other => panic!("unexpected: {other}"),
        })
        .collect()
    }
}

#[async_trait]
impl SchedulerUnderTest for Scheduling {
    fn scheduler(&self) -> Arc<dyn TaskScheduler> {
        self.0.nodes[0].engine.clone()
    }

    fn clock(&self) -> Arc<ManualClock> {
        self.0.database.clock()
    }

    fn register(&self, name: ActorName, actor: Arc<ProbeActor>) {
        self.0.register(name, actor);
    }

    async fn advance(&self, by: Duration) {
        self.0.advance(by).await;
    }

    async fn outcomes(&self, task: &TaskId, at_least: usize) -> Vec<Outcome> {
        loop {
            let mut changes = self.0.nodes[0].engine.activity();
            let outcomes = self.outcomes_now(task).await;
            if outcomes.len() >= at_least {
                return outcomes;
            }
            let changed = tokio::time::timeout(Duration::from_secs(30), changes.changed()).await;
            assert!(changed.is_ok_and(|changed| changed.is_ok()), "{at_least} should be over: {outcomes:?}");
        }
    }
}

manager_suite!(registered_actors, if_any Some(Managing(TestStore::sqlite().await)));

struct Managing(TestStore);

impl ManagerUnderTest for Managing {
    type Context = RunContext;

    fn manager(&self) -> Arc<dyn ActorManager<ActorName, RunContext>> {
        Arc::new(RegisteredActors::default())
    }

    fn context(&self) -> RunContext {
        let history: Arc<Store> = Arc::new(Store::clone(&self.0));
        RunContext {
            task_id: TaskId::new("task").expect("a name"),
            scheduled_for: self.0.time(),
            destinations: Vec::new(),
            text_limits: Default::default(),
            platforms: Platforms::default(),
            history,
            clock: Arc::new(DatabaseClock::new(self.0.clock())),
            parameters: serde_json::Value::Null,
            on_unknown: botticelli_server::outbox::OnUnknown::NeedsReview,
            stop: tokio_util::sync::CancellationToken::new(),
            trace: None,
        }
    }
}

persistence_suite!(persistence_on_sqlite, if_any Some(Snapshot(TestStore::sqlite().await)));
persistence_suite!(persistence_on_postgres, if_any TestStore::postgres().await.map(Snapshot));

struct Snapshot(TestStore);

#[async_trait]
impl PersistenceUnderTest for Snapshot {
    type State = ServerState;

    async fn open(&self) -> Arc<dyn StatePersistence<State = Self::State>> {
        Arc::new(DatabaseStatePersistence::new(self.0.another().await, "test"))
    }

    fn states(&self) -> [Self::State; 2] {
        let task = |name| (TaskId::new(name).expect("a name"), DefinitionHash::new("first").expect("a hash"));
        let smaller = ServerState {
            node: NodeId::new("node").expect("a name"),
            version: "1".into(),
            started_at: self.0.time(),
            stopped_at: None,
            left_out: Default::default(),
            definitions: [task("a")].into(),
        };
        let definitions = [task("a"), task("b")].into();
        [ServerState { stopped_at: Some(self.0.time()), definitions, ..smaller.clone() }, smaller]
    }
}

server_suite!(app_on_sqlite, if_any Some(Serving::on(TestStore::sqlite().await)));
server_suite!(app_on_postgres, if_any TestStore::postgres().await.map(Serving::on));

/// The server as the program makes it, from files.
struct Serving {
    database: TestStore,
    folder: tempfile::TempDir,
    server: Arc<FromFiles>,
}

struct FromFiles {
    read: Arc<dyn Fn() -> Result<LoadedConfig, Problems> + Send + Sync>,
    clock: Arc<ManualClock>,
    app: Mutex<Option<Arc<App>>>,
}

impl Serving {
    fn on(database: TestStore) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let given = Given {
            config: folder.path().join("actor_server.toml"),
            database_url: Some(database.url().to_owned().into()),
            discord_token: None,
        };
        let read = move || load(&given, &|_| None, &|_: &ActorFile, _: &SecretString| Vec::new());
        let server = FromFiles { read: Arc::new(read), clock: database.clock(), app: Mutex::default() };
        std::fs::write(folder.path().join("writer.toml"), WRITER).expect("written");
        Self { database, folder, server: Arc::new(server) }
    }

    fn write(&self, config: &str) {
        std::fs::write(self.folder.path().join("actor_server.toml"), config).expect("written");
    }

    async fn rest(&self) {
        let app = self.server.app.lock().await.clone();
        let Some(app) = app else { return };
        let Some(engine) = app.engine().await else { return };
        let mut activity = engine.activity();
        let mut sleepers = self.database.clock().sleepers();
        loop {
            sleepers.mark_unchanged();
            let doing = *activity.borrow_and_update();
            let idle = doing.running + doing.recording == 0 && !doing.asking;
            let now = self.database.time();
            let wake_times = self.database.clock().wake_times();
            // The dispatcher, the heartbeat, the deliverer, the retention and the self-audit.
            if idle && doing.next_look > now && wake_times.len() == 5 && wake_times[0] > now {
                return;
            }
            let changed = async {
                tokio::select! {
                    changed = activity.changed() => changed.is_ok(),
                    changed = sleepers.changed() => changed.is_ok(),
                }
            };
            let changed = tokio::time::timeout(Duration::from_secs(30), changed).await;
            assert!(changed == Ok(true), "{doing:?} {wake_times:?}");
        }
    }
}

const WRITER: &str = r#"
[actor]
name = "writer"

[[knowledge]]
name = "words"
type = "inline"
items = [{ id = "1", text = "one" }, { id = "2", text = "two" }, { id = "3", text = "three" }]

[[skills]]
name = "content_selection"
source = "words"
"#;

#[async_trait]
impl ServerUnderTest for Serving {
    type Error = AppError;

    fn server(&self) -> Arc<dyn ActorServer<Error = AppError>> {
        self.server.clone()
    }

    fn configure(&self, tasks: &[&str]) {
        let task = |name: &&str| {
            format!(
                "[[actors]]\nname = \"{name}\"\nconfig_file = \"writer.toml\"\nplatform = \"file\"\n\
                 destination = \"posts.jsonl\"\nschedule = {{ type = \"Interval\", seconds = 60 }}\n"
            )
        };
        let server = "[server]\nlease_seconds = 600\n";
        self.write(&std::iter::once(server.to_owned()).chain(tasks.iter().map(task)).collect::<String>());
    }

    fn misconfigure(&self) {
        self.write("what is this?");
    }

    async fn advance(&self, by: Duration) {
        let target = self.database.time() + by;
        self.rest().await;
        let clock = self.database.clock();
        while let Some(next) = clock.wake_times().first().copied().filter(|next| *next < target) {
            self.database.set(next).await;
            self.rest().await;
        }
        self.database.set(target).await;
        self.rest().await;
    }

    async fn runs(&self, task: &str) -> Result<usize, LedgerError> {
        let history = self.database.history(&TaskId::new(task).expect("a name"), 1_000).await?;
        Ok(history.iter().filter(|execution| execution.success == Some(true)).count())
    }
}

/// What the program does: it reads the files, and makes and starts a server of them.
#[async_trait]
impl ActorServer for FromFiles {
    type Error = AppError;

    async fn start(&self) -> Result<(), AppError> {
        let config = (self.read)()?;
        let node = NodeId::new("node").expect("a name");
        let parts = AppParts {
            delivery: DeliverySettings { poll_interval: HOUR, ..DeliverySettings::default() },
            ..AppParts::new(&config, self.clock.clone(), node).expect("platforms")
        };
        let read = self.read.clone();
        let app = App::build(config, parts, Box::new(move || read()));
        *self.app.lock().await = Some(app.clone());
        app.start().await
    }

    async fn stop(&self) -> Result<(), AppError> {
        let app = self.app.lock().await.clone();
        app.ok_or(AppError::NotRunning)?.stop().await
    }

    async fn reload(&self) -> Result<(), AppError> {
        let app = self.app.lock().await.clone();
        app.ok_or(AppError::NotRunning)?.reload().await
    }
}

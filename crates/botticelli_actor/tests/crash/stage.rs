//! A folder with a configuration, and a database of its own.

use crate::server::{Ended, PATIENCE, Server};
use botticelli_actor::clock::SystemClock;
use botticelli_database::{Mode, Store};
use botticelli_server::ids::TaskId;
use botticelli_testkit::databases::TestDatabase;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// So many items are in the content that actors made by [`Stage::actor`] draw from.
pub(crate) const ITEMS: usize = 2_000;

pub(crate) struct Stage {
    // Dropped in this order: the database before the runtime that its store lives in.
    store: OnceLock<Store>,
    pub(crate) database: TestDatabase,
    runtime: Runtime,
    folder: TempDir,
}

impl Stage {
    pub(crate) fn sqlite() -> Self {
        Self::with(runtime(), TestDatabase::sqlite_on_disk())
    }

    /// `None` where the tests are to go without PostgreSQL.
    pub(crate) fn postgres() -> Option<Self> {
        let runtime = runtime();
        let database = runtime.block_on(TestDatabase::postgres())?;
        Some(Self::with(runtime, database))
    }

    /// Both, as far as the tests are to use them.
    pub(crate) fn each() -> impl Iterator<Item = Self> {
        std::iter::once_with(|| Some(Self::sqlite())).chain(std::iter::once_with(Self::postgres)).flatten()
    }

    fn with(runtime: Runtime, database: TestDatabase) -> Self {
        let stage = Self { store: OnceLock::new(), database, runtime, folder: TempDir::new().unwrap() };
        let items: String = (1..=ITEMS).map(|n| format!("{{\"id\": \"item-{n}\"}}\n")).collect();
        stage.write("items.jsonl", &items);
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    /// An actor that takes `limit` items a run from this knowledge, and says which task had which item.
    pub(crate) fn actor(&self, name: &str, knowledge: &str, limit: usize) {
        self.write(
            &format!("{name}.toml"),
            format!(
                "[actor]\nname = \"{name}\"\n[[knowledge]]\nname = \"items\"\n{knowledge}\n\
                 [[skills]]\nname = \"content_selection\"\nstrategy = \"oldest\"\nlimit = {limit}\n\
                 [[skills]]\nname = \"content_formatter\"\ntemplate = \"{{{{ task }}}} {{{{ id }}}}\"\n"
            ),
        );
    }

    /// The one that takes an item a run from a file with plenty.
    pub(crate) fn plain_actor(&self) {
        self.actor("plain", FROM_FILE, 1);
    }

    /// Without an API, unless `tasks` begins with one: servers of other tests may have its default address.
    pub(crate) fn server_file(&self, server: &str, tasks: &str) {
        let url = self.database.url();
        let api = if tasks.contains("[api]") { "" } else { "[api]\nenabled = false\n" };
        let text = format!("[server]\n{server}\n[database]\nurl = \"{url}\"\n{api}{tasks}");
        self.write("actor_server.toml", text);
    }

    /// `actor-server` in the stage's folder, without what the environment of the tests might say.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(self.folder.path(), arguments)
    }

    pub(crate) fn start(&self) -> Server {
        Server::start(&mut self.command(&[]))
    }

    /// A server that has started.
    pub(crate) fn started(&self) -> Server {
        let server = self.start();
        server.says("running; Ctrl-C stops");
        server
    }

    /// Runs a command to its end.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Ended {
        Server::start(&mut self.command(arguments)).ended_within(PATIENCE)
    }

    /// Runs a command that must go well, and answers what it printed.
    pub(crate) fn answer(&self, arguments: &[&str]) -> String {
        let ended = self.ask(arguments);
        assert_eq!((ended.status.code(), ended.err.as_str()), (Some(0), ""), "{arguments:?}");
        ended.out
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        serde_json::from_str(&self.answer(arguments)).unwrap()
    }

    /// The database, as a command beside the server has it.
    pub(crate) fn store(&self) -> &Store {
        let open =
            || self.wait(Store::open(self.database.url(), Mode::Command, Arc::new(SystemClock))).unwrap();
        self.store.get_or_init(open)
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn sql(&self, sql: &str) {
        self.wait(self.database.sql(sql));
    }

    /// What a query answers whose only column is called `value`.
    pub(crate) fn values(&self, sql: &str) -> Vec<String> {
        self.wait(self.database.values(sql))
    }

    pub(crate) fn count(&self, from: &str) -> usize {
        self.wait(self.database.value(&format!("SELECT count(*) AS value FROM {from}"))).parse().unwrap()
    }

    /// Waits until a look at the database says so.
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        until(what, PATIENCE, || is_so(self));
    }

    /// Lets no task start anything any more, and waits until what has started is over.
    pub(crate) fn comes_to_rest(&self) {
        for task in self.values("SELECT task_id AS value FROM actor_server_state") {
            assert!(self.wait(self.store().pause(&TaskId::new(task).unwrap())).unwrap());
        }
        self.until("nothing runs any more", |stage| {
            stage.count("actor_server_open_executions WHERE node IS NOT NULL") == 0
        });
        let on_its_way = "actor_server_posts WHERE state IN ('pending', 'deferred', 'sending')";
        self.until("nothing is being sent any more", |stage| stage.count(on_its_way) == 0);
    }

    /// The lines of all files named `*.jsonl` that servers have posted to.
    pub(crate) fn posted_lines(&self) -> Vec<Value> {
        let files = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let posted = files.filter(|path| path.to_string_lossy().ends_with(".posts.jsonl"));
        posted
            .flat_map(|path| {
                let text = fs::read_to_string(&path).unwrap();
                let lines: Vec<Value> = text
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{path:?}: {line:?}")))
                    .collect();
                lines
            })
            .collect()
    }
}

/// The knowledge of an actor that reads the stage's items.
pub(crate) const FROM_FILE: &str = "type = \"file\"\npath = \"items.jsonl\"";

/// An entry of the server's file, that posts to a file of its own.
pub(crate) fn task(name: &str, schedule: &str, more: &str) -> String {
    format!(
        "[[actors]]\nname = \"{name}\"\nconfig_file = \"plain.toml\"\nplatform = \"file\"\n\
         destination = \"{name}.posts.jsonl\"\nschedule = {schedule}\n{more}\n"
    )
}

pub(crate) const EVERY_SECOND: &str = "{ type = \"Interval\", seconds = 1 }";

pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_actor-server"));
    command.current_dir(folder).args(arguments);
    for name in ["DATABASE_URL", "DISCORD_TOKEN", "OTEL_EXPORTER_OTLP_ENDPOINT", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

pub(crate) fn until(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn runtime() -> Runtime {
    // Migrations block a thread of the runtime.
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

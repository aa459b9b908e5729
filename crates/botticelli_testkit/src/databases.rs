//! A database of its own for each test, with a clock that the test moves.

use crate::clock::ManualClock;
use botticelli_database::{Mode, Store};
use botticelli_server::clock::Clock as _;
use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _};
use std::io::Write as _;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// A store on a new, migrated database, which is gone when this is dropped.
///
/// The store is opened as a command opens it, so that several handles on one SQLite file can play several nodes.
pub struct TestStore {
    store: Store,
    clock: Arc<ManualClock>,
    database: TestDatabase,
    /// For setting PostgreSQL's clock, which happens often.
    clock_setter: Mutex<Option<tokio_postgres::Client>>,
}

/// A new, empty database, which is gone when this is dropped.
pub struct TestDatabase(Database);

enum Database {
    Sqlite { url: String, _folder: TempDir },
    Postgres(PostgresDatabase),
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl TestStore {
    /// A new SQLite file in a folder of its own.
    pub async fn sqlite() -> Self {
        Self::open(TestDatabase::sqlite()).await
    }

    /// A new database on the server that `TEST_DATABASE_URL` names. `None`, said on standard error, when
    /// `BOTTICELLI_TEST_SQLITE_ONLY` asks to go without.
    ///
    /// # Panics
    /// When neither is set: a test that did not run must not look as if it had passed.
    pub async fn postgres() -> Option<Self> {
        let this = Self::open(TestDatabase::postgres().await?).await;
        // Nothing else asks for the time, so from here on the test decides it.
        this.sql(&format!(
            "CREATE TABLE test_clock (now timestamptz NOT NULL); \
             INSERT INTO test_clock VALUES ('{}'); \
             CREATE OR REPLACE FUNCTION actor_server_now() RETURNS timestamptz \
                 LANGUAGE sql STABLE AS 'SELECT now FROM test_clock';",
            this.clock.now()
        ))
        .await;
        Some(this)
    }

    async fn open(database: TestDatabase) -> Self {
        let clock = ManualClock::new();
        Store::migrate(database.url(), clock.clone()).await.expect("a new database is made");
        let store = Store::open(database.url(), Mode::Command, clock.clone()).await;
        let store = store.expect("it opens");
        Self { store, clock, database, clock_setter: Mutex::default() }
    }

    /// Another handle with connections of its own, as another process has it.
    pub async fn another(&self) -> Store {
        let store = Store::open(self.url(), Mode::Command, self.clock.clone()).await;
        store.expect("the database opens again")
    }

    /// Where the database is.
    pub fn url(&self) -> &str {
        self.database.url()
    }

    /// The clock, for whoever else needs it. Move it with [`TestStore::advance`] or [`TestStore::set`], which move the
    /// database's too.
    pub fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }

    /// The time now.
    pub fn time(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Moves time on.
    pub async fn advance(&self, by: Duration) {
        self.set_database_clock(self.clock.now() + by).await;
        self.clock.advance(by).await;
    }

    /// Sets the time, back even.
    pub async fn set(&self, now: DateTime<Utc>) {
        self.set_database_clock(now).await;
        self.clock.set(now);
    }

    async fn set_database_clock(&self, now: DateTime<Utc>) {
        if self.is_postgres() {
            let mut setter = self.clock_setter.lock().await;
            let open = match setter.take().filter(|client| !client.is_closed()) {
                Some(open) => open,
                None => client(self.url()).await,
            };
            let set = format!("UPDATE test_clock SET now = '{now}'");
            open.batch_execute(&set).await.expect(&set);
            *setter = Some(open);
        }
    }

    /// Whether this is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        self.database.is_postgres()
    }

    /// Cuts all connections to a PostgreSQL database off and lets none in, as when its server has gone, until
    /// [`TestStore::let_in`].
    pub async fn cut_off(&self) {
        let Database::Postgres(PostgresDatabase { server, name, .. }) = &self.database.0 else {
            panic!("a file does not go away");
        };
        let server = client(server).await;
        let closed = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
        server.batch_execute(&closed).await.expect(&closed);
        let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        server.batch_execute(&cut).await.expect(&cut);
    }

    /// The database is back.
    pub async fn let_in(&self) {
        let Database::Postgres(PostgresDatabase { server, name, .. }) = &self.database.0 else { return };
        let open = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
        client(server).await.batch_execute(&open).await.expect(&open);
    }

    /// As [`TestDatabase::sql`].
    pub async fn sql(&self, sql: &str) {
        self.database.sql(sql).await;
    }

    /// As [`TestDatabase::values`].
    pub async fn values(&self, sql: &str) -> Vec<String> {
        self.database.values(sql).await
    }

    /// As [`TestDatabase::value`].
    pub async fn value(&self, sql: &str) -> String {
        self.database.value(sql).await
    }
}

impl TestDatabase {
    /// A new SQLite file in a folder of its own: in memory where that is possible, because tests need not survive a
    /// power cut, and syncing is most of their time.
    pub fn sqlite() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::sqlite_in(memory) } else { Self::sqlite_on_disk() }
    }

    /// The same where a production database is: on a disk.
    pub fn sqlite_on_disk() -> Self {
        Self::sqlite_in(&std::env::temp_dir())
    }

    fn sqlite_in(folder: &Path) -> Self {
        let folder = TempDir::new_in(folder).expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        Self(Database::Sqlite { url, _folder: folder })
    }

    /// As [`TestStore::postgres`].
    pub async fn postgres() -> Option<Self> {
        let server = postgres_server()?;
        Some(Self(Database::Postgres(PostgresDatabase::create(&server).await)))
    }

    /// Where the database is.
    pub fn url(&self) -> &str {
        match &self.0 {
            Database::Sqlite { url, .. } => url,
            Database::Postgres(database) => &database.url,
        }
    }

    /// Whether this is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        matches!(self.0, Database::Postgres(_))
    }

    /// Does something to the database behind the store's back, as a person with a database client does.
    pub async fn sql(&self, sql: &str) {
        match &self.0 {
            Database::Sqlite { .. } => self.sqlite_connection().batch_execute(sql).expect(sql),
            Database::Postgres(database) => client(&database.url).await.batch_execute(sql).await.expect(sql),
        }
    }

    /// What a query answers whose only column is called `value`, as text; null as `∅`.
    pub async fn values(&self, sql: &str) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Text)]
            value: String,
        }
        let sql = format!("SELECT COALESCE(CAST(value AS text), '∅') AS value FROM ({sql}) AS answer");
        match &self.0 {
            Database::Sqlite { .. } => {
                let rows: Vec<Row> = diesel::sql_query(&sql).load(&mut self.sqlite_connection()).expect(&sql);
                rows.into_iter().map(|row| row.value).collect()
            }
            Database::Postgres(database) => {
                let rows = client(&database.url).await.query(&sql, &[]).await.expect(&sql);
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    /// The one answer of such a query.
    pub async fn value(&self, sql: &str) -> String {
        let mut values = self.values(sql).await;
        assert_eq!(values.len(), 1, "{sql}");
        values.remove(0)
    }

    /// Keeps everybody else from writing what servers write, until the answer is dropped.
    pub async fn lock(&self) -> DatabaseLock {
        match &self.0 {
            Database::Sqlite { .. } => {
                let mut connection = self.sqlite_connection();
                connection.batch_execute("BEGIN IMMEDIATE").expect("a lock");
                DatabaseLock { _held: Box::new(connection) }
            }
            Database::Postgres(database) => {
                let client = client(&database.url).await;
                let lock = "BEGIN; LOCK TABLE actor_server_state, actor_server_open_executions, actor_server_nodes, \
                            actor_server_posts, actor_server_snapshots";
                // The tables are locked one after the other: a server at work may hold a later one and wait for an
                // earlier one. Then PostgreSQL ends one of the two, and this one asks again.
                while let Err(error) = client.batch_execute(lock).await {
                    let deadlock = &tokio_postgres::error::SqlState::T_R_DEADLOCK_DETECTED;
                    assert_eq!(error.code(), Some(deadlock), "{lock}: {error}");
                    client.batch_execute("ROLLBACK").await.expect("the end of what failed");
                }
                DatabaseLock { _held: Box::new(client) }
            }
        }
    }

    fn sqlite_connection(&self) -> diesel::SqliteConnection {
        let path = self.url().trim_start_matches("sqlite://");
        let mut connection = diesel::SqliteConnection::establish(path).expect(path);
        connection.batch_execute("PRAGMA busy_timeout = 10000").expect("a setting");
        connection
    }
}

/// Nobody else writes while this lives.
pub struct DatabaseLock {
    /// The connection, with its open transaction.
    _held: Box<dyn Send>,
}

/// The server for tests, if they are to run on PostgreSQL.
#[expect(clippy::disallowed_methods, reason = "tests are told where PostgreSQL is by the environment")]
fn postgres_server() -> Option<String> {
    if let Ok(server) = std::env::var("TEST_DATABASE_URL") {
        return Some(server);
    }
    assert!(
        std::env::var_os("BOTTICELLI_TEST_SQLITE_ONLY").is_some_and(|set| set == "1"),
        "TEST_DATABASE_URL is not set: run the tests with ./scripts/test.sh, which starts a PostgreSQL server for \
         them (--sqlite-only goes without)"
    );
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        // Not `eprintln!`, whose words are shown only when a test fails.
        let _shown = writeln!(
            std::io::stderr(),
            "NOT TESTED: PostgreSQL. Its tests are left out, as BOTTICELLI_TEST_SQLITE_ONLY=1 asks."
        );
    });
    None
}

/// A database that is dropped with this.
struct PostgresDatabase {
    server: String,
    name: String,
    url: String,
}

impl PostgresDatabase {
    async fn create(server: &str) -> Self {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("botticelli_test_{}_{number}", std::process::id());
        let client = client(server).await;
        // What a process with this number left when it was killed.
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.expect("drops");
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("the test's database");
        Self { server: server.to_owned(), url: with_database(server, &name), name }
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A thread of its own: this may be dropped inside a runtime, which must not wait.
        let dropper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                client(&server).await.batch_execute(&drop).await.expect("the test's database is dropped");
            });
        });
        let dropped = dropper.join();
        assert!(dropped.is_ok() || std::thread::panicking(), "the test's database could not be dropped");
    }
}

/// `server` with another database in its path.
fn with_database(server: &str, name: &str) -> String {
    let (scheme, rest) = server.split_once("://").expect("TEST_DATABASE_URL has a scheme");
    let (place, options) = rest.split_once('?').map_or((rest, None), |(place, o)| (place, Some(o)));
    let host = place.split_once('/').map_or(place, |(host, _)| host);
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    format!("{scheme}://{host}/{name}{options}")
}

pub(crate) async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL for tests answers");
    tokio::spawn(async move {
        // Ends when the client is dropped; what went wrong before, the client has said.
        let _ended = connection.await;
    });
    client
}

//! SQLite: one writer, one reader, the server's lock on the file, and the words of its SQL that differ from PostgreSQL's.

use crate::error::{MigrateError, Schema, WorkError};
use crate::invariants::PoolView;
use crate::sql::{Sql, versions};
use botticelli_server::clock::{Clock, to_microseconds};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::Connection as _;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::sqlite::SqliteConnection;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

#[path = "../queries/mod.rs"]
pub(crate) mod queries;

// What `queries` is written in terms of.
use diesel::sql_types::{Json, TimestamptzSqlite as Instant};
use run_query_dsl::RunQueryDsl;
type Connection = SqliteConnection;
type Backend = diesel::sqlite::Sqlite;

/// To SQLite `$2` is a name, whose place is where it first stands in the text; what means the second value is `?2`.
fn sql_query<'f>(text: impl Into<String>) -> Sql<'f, Backend> {
    Sql::new(text.into().replace('$', "?"))
}

mod dialect {
    use super::queries::batch::{Column, Datum, Kind};
    use crate::error::WorkError;
    use crate::sql::Sql;
    use diesel::sql_types::Text;
    use diesel::sqlite::Sqlite;

    // A transaction that writes has the whole database to itself.
    pub(super) const LOCK_STATE: &str = "";
    pub(super) const LOCK_STATE_SKIPPING: &str = "";
    pub(super) const LOCK_POSTS: &str = "";
    pub(super) const LOCK_POSTS_SKIPPING: &str = "";
    pub(super) const LOCK_CHOSEN_POSTS: &str = "";
    pub(super) const LOCK_ROWS: &str = "";
    pub(super) const LOCK_ROWS_SKIPPING: &str = "";
    pub(super) const SERIALIZE_POST_CLAIMS: Option<&str> = None;
    pub(super) const SERIALIZE_REGISTRATIONS: Option<&str> = None;
    pub(super) const WRITES_WITHIN_WITH: bool = false;
    // One writer: rows are committed in the order of their numbers.
    pub(super) const NOTHING_COMES_BEFORE: &str = "true";
    pub(super) const HAS_MIGRATIONS: &str =
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '__diesel_schema_migrations') AS there";

    /// Takes `$1` numbers from the ledger's counter; see `numbers`.
    pub(super) const TAKE_NUMBERS: &str =
        "UPDATE actor_server_ids SET last = last + $1 RETURNING last AS number";

    /// The counter answered with the last one.
    pub(super) fn numbers(answer: &[i64], count: i64) -> Vec<i64> {
        answer.iter().flat_map(|last| last - count + 1..=*last).collect()
    }

    /// One parameter, a JSON array of the rows as arrays, as the table `r`.
    pub(super) fn rows(columns: &[Column], parameter: usize) -> String {
        let columns: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(index, Column { name, kind })| match kind {
                Kind::Json => format!("nullif(value -> '$[{index}]', 'null') AS {name}"),
                Kind::BigInt | Kind::Integer | Kind::Boolean | Kind::Text | Kind::Time => {
                    format!("value ->> '$[{index}]' AS {name}")
                }
            })
            .collect();
        format!("(SELECT {} FROM json_each(?{parameter})) AS r", columns.join(", "))
    }

    pub(super) fn bind_rows<'f>(
        sql: Sql<'f, Sqlite>,
        _: &[Column],
        cells: Vec<Vec<Datum<'f>>>,
    ) -> Result<Sql<'f, Sqlite>, WorkError> {
        let rows = serde_json::to_string(&cells).map_err(|error| WorkError::corrupt("a batch", error))?;
        Ok(sql.bind::<Text, _>(rows))
    }
}

/// The async words of `diesel_async::RunQueryDsl` over a connection that answers at once.
mod run_query_dsl {
    use diesel::QueryResult;
    use diesel::query_dsl::methods::ExecuteDsl;
    use diesel::query_dsl::{LoadQuery, RunQueryDsl as Sync};
    use diesel::sqlite::SqliteConnection;
    use std::future::{Ready, ready};

    pub(super) trait RunQueryDsl: Sized {
        fn load<'query, U>(self, connection: &mut SqliteConnection) -> Ready<QueryResult<Vec<U>>>
        where
            Self: LoadQuery<'query, SqliteConnection, U> + Sync<SqliteConnection>,
        {
            ready(Sync::load(self, connection))
        }

        fn get_result<'query, U>(self, connection: &mut SqliteConnection) -> Ready<QueryResult<U>>
        where
            Self: LoadQuery<'query, SqliteConnection, U> + Sync<SqliteConnection>,
        {
            ready(Sync::get_result(self, connection))
        }

        fn execute(self, connection: &mut SqliteConnection) -> Ready<QueryResult<usize>>
        where
            Self: ExecuteDsl<SqliteConnection> + Sync<SqliteConnection>,
        {
            ready(Sync::execute(self, connection))
        }
    }

    impl<T> RunQueryDsl for T {}
}

#[declare_sql_function]
extern "SQL" {
    fn actor_server_now() -> Text;
    fn actor_server_now_plus(microseconds: BigInt) -> Text;
}

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

#[derive(Clone)]
pub(crate) struct Sqlite {
    file: Arc<OpenFile>,
    writer: Arc<Mutex<SqliteConnection>>,
    reader: Arc<Mutex<SqliteConnection>>,
}

/// The file that is open, which is not always the one of its name: it can be moved, deleted, replaced.
struct OpenFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl OpenFile {
    fn of(path: &Path) -> Result<Self, String> {
        let found = path.metadata().map_err(|error| error.to_string())?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    fn is_in_its_place(&self) -> bool {
        self.path.metadata().is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

/// How many names the file has, if it is there. Symbolic links are none.
pub(crate) fn names(path: &Path) -> u64 {
    path.metadata().ok().filter(std::fs::Metadata::is_file).map_or(0, |found| found.nlink())
}

impl Sqlite {
    /// Who may make the database makes it one with a write-ahead log.
    pub(crate) fn open(path: &Path, may_make: bool, clock: &Arc<dyn Clock>) -> Result<Self, String> {
        let connect = || connect(path, may_make, clock);
        let writer = connect()?;
        let file = Arc::new(OpenFile::of(path)?);
        Ok(Self { file, writer: Arc::new(Mutex::new(writer)), reader: Arc::new(Mutex::new(connect()?)) })
    }

    /// # Errors
    /// What is written goes where nobody will find it.
    pub(crate) fn check_place(&self) -> Result<(), WorkError> {
        let path = || self.file.path.clone();
        if self.file.is_in_its_place() { Ok(()) } else { Err(WorkError::Misplaced(path())) }
    }

    /// Runs one unit of work that writes, in one transaction that locks at its start: it can't meet a lock half-way.
    pub(crate) async fn transaction<R, F>(&self, work: F) -> Result<R, WorkError>
    where
        R: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<R, WorkError>> + Send + 'static,
    {
        let this = self.clone();
        let unit = move |connection: &mut SqliteConnection| {
            connection.immediate_transaction(|connection| {
                let done = at_once(work(connection))?;
                this.check_place()?;
                Ok(done)
            })
        };
        blocking(self.writer.clone(), unit).await
    }

    /// Runs one unit of work that only reads, beside the writer.
    pub(crate) async fn read<R, F>(&self, work: F) -> Result<R, WorkError>
    where
        R: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<R, WorkError>> + Send + 'static,
    {
        let unit = |connection: &mut SqliteConnection| {
            connection.transaction(|connection| at_once(work(connection)))
        };
        blocking(self.reader.clone(), unit).await
    }

    /// The writer and the reader. Whether one is in use shows in its lock.
    pub(crate) fn pool(&self) -> PoolView {
        let connections = [&self.writer, &self.reader];
        let idle = connections.iter().filter(|connection| connection.try_lock().is_ok()).count();
        PoolView { max: connections.len(), open: connections.len(), idle, waiting: None }
    }

    pub(crate) async fn schema(&self) -> Result<Schema, MigrateError> {
        let versions = versions::<diesel::sqlite::Sqlite>(MIGRATIONS)?;
        Ok(self.read(move |connection| queries::schema(connection, versions).boxed()).await?)
    }

    /// Waits for the lock only when there is something to do: somebody else may be writing for long.
    pub(crate) async fn migrate(&self) -> Result<Vec<String>, MigrateError> {
        if self.schema().await? == Schema::Current {
            return Ok(Vec::new());
        }
        let writer = self.writer.clone();
        let migrate = move || {
            let mut connection = writer.lock().unwrap_or_else(PoisonError::into_inner);
            // One transaction around them all: a second program waits, and then finds nothing to do.
            connection.immediate_transaction(|connection| {
                let done = connection.run_pending_migrations(MIGRATIONS).map_err(Migrating::Migration)?;
                Ok::<_, Migrating>(done.iter().map(ToString::to_string).collect())
            })
        };
        match tokio::task::spawn_blocking(migrate).await {
            Ok(done) => done.map_err(|error| error.to_string().into()),
            Err(error) => Err(error.to_string().into()),
        }
    }

    /// A number that changes when another process has written. It is asked of the writer: our own writes don't count.
    pub(crate) async fn data_version(&self) -> Result<i64, WorkError> {
        #[derive(QueryableByName)]
        struct DataVersion {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            data_version: i64,
        }
        let ask = |connection: &mut SqliteConnection| {
            let version: DataVersion =
                diesel::RunQueryDsl::get_result(diesel::sql_query("PRAGMA data_version"), connection)?;
            Ok(version.data_version)
        };
        blocking(self.writer.clone(), ask).await
    }
}

/// The harness has its own error; the transaction around it needs Diesel's too.
#[derive(Debug, thiserror::Error)]
enum Migrating {
    #[error(transparent)]
    Diesel(#[from] diesel::result::Error),
    #[error("{0}")]
    Migration(Box<dyn std::error::Error + Send + Sync>),
}

/// The futures of this backend never wait.
fn at_once<R>(work: BoxFuture<'_, R>) -> R {
    work.now_or_never().expect("a unit of work on SQLite is ready at once")
}

async fn blocking<R, F>(connection: Arc<Mutex<SqliteConnection>>, unit: F) -> Result<R, WorkError>
where
    R: Send + 'static,
    F: FnOnce(&mut SqliteConnection) -> Result<R, WorkError> + Send + 'static,
{
    let work = move || unit(&mut connection.lock().unwrap_or_else(PoisonError::into_inner));
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(WorkError::NoConnection("the runtime is shutting down".into())),
    }
}

fn connect(path: &Path, may_make: bool, clock: &Arc<dyn Clock>) -> Result<SqliteConnection, String> {
    let mut connection =
        SqliteConnection::establish(&path.to_string_lossy()).map_err(|error| error.to_string())?;
    let settings = "PRAGMA busy_timeout = 10000; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
         PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16000;";
    let keeps_a_log = if may_make { "PRAGMA journal_mode = WAL;" } else { "" };
    connection.batch_execute(&format!("{settings} {keeps_a_log}")).map_err(|error| error.to_string())?;
    let (now, plus) = (AssertUnwindSafe(clock.clone()), AssertUnwindSafe(clock.clone()));
    actor_server_now_utils::register_nondeterministic_impl(&connection, move || text(now.now()))
        .map_err(|error| error.to_string())?;
    actor_server_now_plus_utils::register_nondeterministic_impl(&mut connection, move |microseconds: i64| {
        text(later(plus.now(), microseconds))
    })
    .map_err(|error| error.to_string())?;
    Ok(connection)
}

/// As Diesel writes times, and no finer than PostgreSQL keeps them.
fn text(at: DateTime<Utc>) -> String {
    to_microseconds(at).format("%F %T%.f%:z").to_string()
}

fn later(now: DateTime<Utc>, microseconds: i64) -> DateTime<Utc> {
    now.checked_add_signed(TimeDelta::microseconds(microseconds)).unwrap_or(now)
}

/// Held by the one server of a file for as long as it runs. The system lets go of it when the process ends, however.
pub(crate) struct ServerLock {
    _file: File,
}

impl ServerLock {
    /// `Ok(None)` when another server has it.
    pub(crate) fn take(database: &Path) -> std::io::Result<Option<Self>> {
        let file = File::options().create(true).truncate(false).write(true).open(lock_path(database))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Refuses what is there and is no file.
pub(crate) fn may_be_database(path: &Path) -> std::io::Result<()> {
    use std::io::{Error, ErrorKind};
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(Error::new(ErrorKind::IsADirectory, "it is a directory, not a file"))
        }
        Ok(found) if !found.is_file() => {
            Err(Error::new(ErrorKind::Unsupported, "it is a device or a pipe, not a file"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether the file can be written, or made. Nothing is.
pub(crate) fn may_write(database: &Path) -> std::io::Result<()> {
    use rustix::fs::{Access, access};
    let folder = match database.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    // Beside it stand its log and the server's lock.
    access(folder.join("."), Access::WRITE_OK | Access::EXEC_OK)?;
    may_be_database(database)?;
    match access(database, Access::READ_OK | Access::WRITE_OK) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        answer => Ok(answer?),
    }
}

pub(crate) fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::queries::post_turns::look_at_turns;
    use botticelli_testkit::clock::ManualClock;

    #[derive(QueryableByName)]
    struct Step {
        #[diesel(sql_type = diesel::sql_types::Text)]
        detail: String,
    }

    /// Whatever waits there: each table of posts is entered through an index, by all columns that narrow it.
    #[tokio::test(flavor = "multi_thread")]
    async fn whose_turn_it_is_is_found_without_a_look_at_all_that_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock: Arc<dyn Clock> = ManualClock::new();
        let database = Sqlite::open(&folder.path().join("test.db"), true, &clock).expect("it opens");
        database.migrate().await.expect("its tables");
        let steps = database.read(|conn| {
            async {
                let mut query = look_at_turns("discord", "42", 16, &[])?;
                query.text = format!("EXPLAIN QUERY PLAN {}", query.text);
                Ok(RunQueryDsl::load::<Step>(query, conn).await?)
            }
            .boxed()
        });
        let steps: Vec<String> = steps.await.expect("a plan").into_iter().map(|step| step.detail).collect();
        let turns: Vec<_> = steps.iter().filter(|step| step.contains("actor_server_posts_turn")).collect();
        assert_eq!(turns.len(), 5, "{steps:#?}");
        for step in &steps {
            let reads_all =
                step.starts_with("SCAN") && !step.contains("heads") && !step.contains("json_each");
            assert!(!reads_all || step == "SCAN CONSTANT ROW", "{step}: {steps:#?}");
            let narrows = ["(platform=? AND destination", "(platform>?)"];
            assert!(!step.contains("posts_turn") || narrows.iter().any(|by| step.contains(by)), "{step}");
        }
    }
}

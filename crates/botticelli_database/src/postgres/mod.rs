//! PostgreSQL: a pool, TLS, notifications, and the words of its SQL that differ from SQLite's.

use crate::error::{MigrateError, Schema, WorkError};
use crate::invariants::PoolView;
use crate::sql::{Sql, versions};
use diesel::ConnectionError;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{
    AsyncConnection as _, AsyncMigrationHarness, AsyncPgConnection, SimpleAsyncConnection as _,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::time::Duration;

#[path = "../queries/mod.rs"]
pub(crate) mod queries;

// What `queries` is written in terms of.
use diesel::sql_types::{Jsonb as Json, Timestamptz as Instant};
use diesel_async::RunQueryDsl;
type Connection = AsyncPgConnection;
type Backend = diesel::pg::Pg;

fn sql_query<'f>(text: impl Into<String>) -> Sql<'f, Backend> {
    Sql::new(text)
}

mod dialect {
    use super::queries::batch::{Column, Datum, Kind};
    use crate::error::WorkError;
    use crate::sql::Sql;
    use diesel::pg::Pg;
    use diesel::sql_types::{self, Array, Nullable};

    /// Locks the task rows of a query that selects from `actor_server_state AS s`.
    pub(super) const LOCK_STATE: &str = "FOR UPDATE OF s";
    pub(super) const LOCK_STATE_SKIPPING: &str = "FOR UPDATE OF s SKIP LOCKED";

    /// Locks the rows of a query that selects from `actor_server_posts AS p`, in the order of their ids.
    pub(super) const LOCK_POSTS: &str = "ORDER BY p.id FOR UPDATE OF p";
    pub(super) const LOCK_POSTS_SKIPPING: &str = "ORDER BY p.id FOR UPDATE OF p SKIP LOCKED";
    /// The same after an order and a limit of its own.
    pub(super) const LOCK_CHOSEN_POSTS: &str = "FOR UPDATE OF p SKIP LOCKED";
    pub(super) const LOCK_ROWS: &str = "FOR UPDATE";
    pub(super) const LOCK_ROWS_SKIPPING: &str = "FOR UPDATE SKIP LOCKED";

    /// Takes `$1` numbers from the ledger's counter; see `numbers`.
    pub(super) const TAKE_NUMBERS: &str =
        "SELECT nextval('actor_server_ids') AS number FROM generate_series(1, $1)";

    /// The sequence answered with each.
    pub(super) fn numbers(answer: &[i64], _count: i64) -> Vec<i64> {
        answer.to_vec()
    }

    /// One claimer of posts at a time: "the first due post of its destination" is a question about many rows.
    pub(super) const SERIALIZE_POST_CLAIMS: Option<&str> = Some("SELECT pg_advisory_xact_lock(7236504111)");

    pub(super) const SERIALIZE_REGISTRATIONS: Option<&str> = Some("SELECT pg_advisory_xact_lock(7236504112)");
    /// A statement can carry another one that writes.
    pub(super) const WRITES_WITHIN_WITH: bool = true;

    /// Of the stream of changes: nothing that is not committed yet can come before these rows. A statement that asks sees
    /// the database as of the snapshot that this is about.
    pub(super) const NOTHING_COMES_BEFORE: &str =
        "tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint";

    pub(super) const HAS_MIGRATIONS: &str =
        "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS there";

    /// The parameters from `first` on, an array for each column, as the table `r`.
    pub(super) fn rows(columns: &[Column], first: usize) -> String {
        let arrays: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(index, column)| format!("${}::{}[]", first + index, type_name(column.kind)))
            .collect();
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        format!("unnest({}) AS r({})", arrays.join(", "), names.join(", "))
    }

    fn type_name(kind: Kind) -> &'static str {
        match kind {
            Kind::BigInt => "bigint",
            Kind::Integer => "integer",
            Kind::Boolean => "boolean",
            Kind::Text => "text",
            Kind::Time => "timestamptz",
            Kind::Json => "jsonb",
        }
    }

    pub(super) fn bind_rows<'f>(
        mut sql: Sql<'f, Pg>,
        columns: &[Column],
        cells: Vec<Vec<Datum<'f>>>,
    ) -> Result<Sql<'f, Pg>, WorkError> {
        for (index, column) in columns.iter().enumerate() {
            let cells = cells.iter().map(|row| row[index]);
            macro_rules! array {
                ($kind:ident: $sql_type:ty) => {
                    sql.bind::<Array<Nullable<$sql_type>>, _>(
                        cells
                            .map(|cell| if let Datum::$kind(value) = cell { Some(value) } else { None })
                            .collect::<Vec<_>>(),
                    )
                };
            }
            sql = match column.kind {
                Kind::BigInt => array!(BigInt: sql_types::BigInt),
                Kind::Integer => array!(Integer: sql_types::Integer),
                Kind::Boolean => array!(Boolean: sql_types::Bool),
                Kind::Text => array!(Text: sql_types::Text),
                Kind::Time => array!(Time: sql_types::Timestamptz),
                Kind::Json => array!(Json: sql_types::Jsonb),
            };
        }
        Ok(sql)
    }
}

/// The channel on which commands wake the servers of a cluster: a hint, sent at low rate.
pub(crate) const CHANNEL: &str = "actor_server";

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const MIGRATION_LOCK: &str = "SELECT pg_advisory_lock(7236504110)";
/// Who migrates waits no longer than this for whoever has a table; the URL may say something else.
const LOCK_PATIENCE: &str =
    "SELECT set_config('lock_timeout', '60s', false) WHERE current_setting('lock_timeout') = '0'";

/// Statements stay prepared, but are planned for their values: a plan made while a table was empty would be kept.
/// None of them runs for so long that compiling it pays, whatever the planner thinks that it costs.
const SESSION: &str = "SET TIME ZONE 'UTC'; SET plan_cache_mode = force_custom_plan; SET jit = off";

/// Waiting longer for a connection than this means that the database is not there.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Postgres {
    url: String,
    pool: Pool<AsyncPgConnection>,
}

impl Postgres {
    pub(crate) fn new(url: &str, connections: usize) -> Result<Self, String> {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(|url| connect(url.to_owned()).boxed());
        let manager = AsyncDieselConnectionManager::new_with_config(url, config);
        let pool = Pool::builder(manager).max_size(connections).build().map_err(|error| error.to_string())?;
        Ok(Self { url: url.to_owned(), pool })
    }

    /// Runs one unit of work in a transaction, in a task of its own: a caller that is dropped can't cut it in half.
    pub(crate) async fn transaction<R, F>(&self, work: F) -> Result<R, WorkError>
    where
        R: Send + 'static,
        F: for<'c> FnOnce(&'c mut AsyncPgConnection) -> BoxFuture<'c, Result<R, WorkError>> + Send + 'static,
    {
        let pool = self.pool.clone();
        let unit = async move {
            let mut connection = checkout(&pool).await?;
            connection.transaction(async move |connection| work(connection).await).await
        };
        join(tokio::spawn(unit)).await
    }

    pub(crate) fn pool(&self) -> PoolView {
        let status = self.pool.status();
        PoolView {
            max: status.max_size,
            open: status.size,
            idle: status.available,
            waiting: Some(status.waiting),
        }
    }

    pub(crate) async fn schema(&self) -> Result<Schema, MigrateError> {
        self.look().await.map(|(schema, _)| schema)
    }

    /// How far it is migrated, and the connection that was asked.
    async fn look(&self) -> Result<(Schema, AsyncPgConnection), MigrateError> {
        let mut connection =
            connect(self.url.clone()).await.map_err(|error| MigrateError::Connect(chain(&error)))?;
        let schema = queries::schema(&mut connection, versions::<diesel::pg::Pg>(MIGRATIONS)?).await?;
        Ok((schema, connection))
    }

    /// Connects and, if there is something to do, waits for other programs that are migrating the same database.
    pub(crate) async fn migrate(&self) -> Result<Vec<String>, MigrateError> {
        let (schema, mut connection) = self.look().await?;
        if schema == Schema::Current {
            return Ok(Vec::new());
        }
        let failed = |error: &dyn std::fmt::Display| MigrateError::from(error.to_string());
        connection.batch_execute(LOCK_PATIENCE).await.map_err(|error| failed(&error))?;
        connection.batch_execute(MIGRATION_LOCK).await.map_err(|error| failed(&error))?;
        // The lock is the connection's: it ends with it.
        let mut harness = AsyncMigrationHarness::new(connection);
        tokio::task::block_in_place(|| {
            let done = harness.run_pending_migrations(MIGRATIONS).map_err(|error| failed(&error))?;
            Ok(done.iter().map(ToString::to_string).collect())
        })
    }

    /// Tells whoever listens.
    pub(crate) async fn notify(&self, what: &str) -> Result<(), WorkError> {
        let mut connection = checkout(&self.pool).await?;
        sql_query("SELECT pg_notify($1, $2)")
            .bind::<diesel::sql_types::Text, _>(CHANNEL)
            .bind::<diesel::sql_types::Text, _>(what)
            .execute(&mut connection)
            .await?;
        Ok(())
    }

    /// Listens until the connection breaks. `heard` is called with what each notification says, and once with nothing when
    /// it listens: what was sent before is lost, so the caller looks once.
    pub(crate) async fn listen(&self, heard: impl Fn(Option<&str>) + Send) -> Result<(), String> {
        use futures::StreamExt as _;
        let mut connection = connect(self.url.clone()).await.map_err(|error| chain(&error))?;
        connection.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(|error| error.to_string())?;
        heard(None);
        let mut notifications = std::pin::pin!(connection.notifications_stream());
        while let Some(notification) = notifications.next().await {
            let notification = notification.map_err(|error| error.to_string())?;
            heard(Some(&notification.payload));
        }
        Err("the server closed the connection".into())
    }
}

async fn checkout(pool: &Pool<AsyncPgConnection>) -> Result<PooledConnection, WorkError> {
    match tokio::time::timeout(PATIENCE, pool.get()).await {
        Ok(connection) => connection.map_err(|error| WorkError::NoConnection(chain(&error))),
        Err(_) => Err(WorkError::NoConnection(format!("none was free for {} s", PATIENCE.as_secs()))),
    }
}

type PooledConnection = diesel_async::pooled_connection::deadpool::Object<AsyncPgConnection>;

/// Connects with TLS where the URL's `sslmode` asks for it or the server offers it.
async fn connect(url: String) -> Result<AsyncPgConnection, ConnectionError> {
    let bad = |error: &dyn std::error::Error| ConnectionError::BadConnection(chain(error));
    let (client, connection) = plain_connection(&url).await.map_err(|error| bad(&error))?;
    let mut connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
    connection
        .batch_execute(SESSION)
        .await
        .map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
    Ok(connection)
}

/// A connection without Diesel, to be driven by whoever has it.
pub(crate) async fn plain_connection(
    url: &str,
) -> Result<(tokio_postgres::Client, PlainConnection), tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = url.parse()?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(PATIENCE);
    }
    if config.get_application_name().is_none() {
        config.application_name("actor-server");
    }
    config.connect(tokio_postgres_rustls::MakeRustlsConnect::new(tls_config())).await
}

pub(crate) type PlainConnection = tokio_postgres::Connection<
    tokio_postgres::Socket,
    <tokio_postgres_rustls::MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<
        tokio_postgres::Socket,
    >>::Stream,
>;

/// Certificates are checked against the system's.
pub(crate) fn tls_config() -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// An error with all its causes: "connection refused" is in the last one.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

async fn join<R>(task: tokio::task::JoinHandle<Result<R, WorkError>>) -> Result<R, WorkError> {
    match task.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(WorkError::NoConnection("the runtime is shutting down".into())),
    }
}

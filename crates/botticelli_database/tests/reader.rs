//! What actors may read from databases, on both.

use botticelli_database::reader::{MOST_ROWS, ReadError, Reader};
use botticelli_database::statement::Statement;
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A database with one table, `facts`.
struct Database {
    url: String,
    folder: tempfile::TempDir,
    /// In PostgreSQL, a schema of our own.
    schema: Option<String>,
}

fn sqlite() -> Database {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content #1 100%.db");
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    connection
        .batch_execute(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE facts (id INTEGER PRIMARY KEY, text TEXT, score REAL, image BLOB, created_at TEXT);
             INSERT INTO facts VALUES (1, 'one', 1.5, x'00ff', '2026-03-01T10:00:00Z'),
                                      (2, 'zwei ü', NULL, NULL, '2026-03-02T10:00:00Z');",
        )
        .unwrap();
    Database { url: format!("sqlite://{}", path.display()), folder, schema: None }
}

/// `None` only where PostgreSQL was left out on purpose.
#[expect(clippy::disallowed_methods, reason = "the script that runs the tests says where PostgreSQL is")]
async fn postgres(schema: &str) -> Option<Database> {
    let Ok(url) = std::env::var("TEST_DATABASE_URL") else {
        let left_out = std::env::var("BOTTICELLI_TEST_SQLITE_ONLY").is_ok_and(|only| only == "1");
        assert!(left_out, "TEST_DATABASE_URL is not set: run ./scripts/test.sh");
        return None;
    };
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let schema = format!("reader_{schema}");
    client
        .batch_execute(&format!(
            "DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema};
             CREATE TABLE {schema}.facts (id INT PRIMARY KEY, text TEXT, score FLOAT8, image BYTEA, created_at TIMESTAMPTZ);
             INSERT INTO {schema}.facts VALUES (1, 'one', 1.5, '\\x00ff', '2026-03-01T10:00:00Z'),
                                               (2, 'zwei ü', NULL, NULL, '2026-03-02T10:00:00Z');"
        ))
        .await
        .unwrap();
    Some(Database { url, folder: tempfile::tempdir().unwrap(), schema: Some(schema) })
}

impl Database {
    fn facts(&self) -> String {
        self.schema.as_ref().map_or_else(|| "facts".to_owned(), |schema| format!("{schema}.facts"))
    }

    async fn table(&self, name: &str, order: &str, limit: u32) -> Result<Value, ReadError> {
        let statement = Statement::table(name, Some(order), NonZeroU32::new(limit)).unwrap();
        self.read(&statement, &[]).await
    }

    async fn query(&self, sql: &str, values: &[Value]) -> Result<Value, ReadError> {
        let sql = sql.replace("facts", &self.facts());
        let reader = Reader::open(&self.url).unwrap();
        self.read(&Statement::query(&sql, reader.dialect()).unwrap(), values).await
    }

    async fn read(&self, statement: &Statement, values: &[Value]) -> Result<Value, ReadError> {
        let reader = Reader::open(&self.url).unwrap();
        Ok(json!(reader.read(statement, values, SECOND).await?))
    }
}

macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::sqlite()).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(database) = super::postgres(stringify!($name)).await {
                    super::$name(database).await;
                }
            })+
        }
    };
}

on_both!(
    a_table_is_read_with_all_its_columns,
    parameters_are_bound_whatever_is_in_them,
    a_query_may_be_as_it_likes_but_only_reads,
    a_table_that_is_not_there_is_named_with_those_that_are,
    what_the_database_does_not_take_is_said_in_its_own_words,
    a_query_that_takes_too_long_is_given_up,
    too_large_a_result_is_refused,
);

async fn a_table_is_read_with_all_its_columns(database: Database) {
    let rows = database.table(&database.facts(), "created_at desc, id", 9).await.unwrap();
    let time = |day: u32| match database.schema {
        Some(_) => format!("2026-03-0{day}T10:00:00+00:00"),
        None => format!("2026-03-0{day}T10:00:00Z"),
    };
    assert_eq!(
        rows,
        json!([
            {"id": 2, "text": "zwei ü", "score": null, "image": null, "created_at": time(2)},
            {"id": 1, "text": "one", "score": 1.5, "image": "\\x00ff", "created_at": time(1)},
        ])
    );
    assert_eq!(database.table(&database.facts(), "id", 1).await.unwrap()[0]["id"], 1);
}

async fn parameters_are_bound_whatever_is_in_them(database: Database) {
    let hostile = json!("'; DROP TABLE facts; --");
    let sql = "SELECT id FROM facts WHERE text = $text OR id = $id -- $comment";
    assert_eq!(database.query(sql, &[hostile, json!(2)]).await.unwrap(), json!([{"id": 2}]));
    assert_eq!(database.query(sql, &[json!("one"), Value::Null]).await.unwrap(), json!([{"id": 1}]));
    let sql = "SELECT id FROM facts WHERE created_at < $now";
    assert_eq!(database.query(sql, &[json!("2026-03-02T00:00:00Z")]).await.unwrap(), json!([{"id": 1}]));
}

async fn a_query_may_be_as_it_likes_but_only_reads(database: Database) {
    let sql = "WITH best AS (SELECT max(id) AS id FROM facts) SELECT f.text AS t FROM facts f JOIN best USING (id);";
    assert_eq!(database.query(sql, &[]).await.unwrap(), json!([{"t": "zwei ü"}]));
    let write = database.query("WITH a AS (SELECT 1) DELETE FROM facts RETURNING id", &[]).await.unwrap_err();
    assert!(matches!(write, ReadError::Refused { .. }), "{write}");
    assert_eq!(database.query("SELECT count(*) AS n FROM facts", &[]).await.unwrap(), json!([{"n": 2}]));
}

async fn a_table_that_is_not_there_is_named_with_those_that_are(database: Database) {
    let missing = database.facts().replace("facts", "fakts");
    match database.table(&missing, "id", 1).await.unwrap_err() {
        ReadError::NoSuchTable { table, known, .. } => {
            assert_eq!(table, missing);
            assert!(known.contains(&"facts".to_owned()), "{known:?}");
        }
        other => panic!("{other}"),
    }
}

async fn what_the_database_does_not_take_is_said_in_its_own_words(database: Database) {
    let error = database.query("SELECT nothing FROM facts", &[]).await.unwrap_err();
    assert!(matches!(error, ReadError::Refused { .. }) && error.to_string().contains("nothing"), "{error}");
    let error = database.query("SELECT FROM WHERE", &[]).await.unwrap_err();
    assert!(
        matches!(error, ReadError::Refused { .. }) && error.to_string().contains("syntax error"),
        "{error}"
    );
    let error = database.table(&database.facts(), "nothing", 1).await;
    assert!(matches!(error, Err(ReadError::Refused { .. })), "{error:?}");
}

async fn a_query_that_takes_too_long_is_given_up(database: Database) {
    let forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000) \
                   SELECT i FROM n WHERE i < 0";
    // If it went on in the background, the test could not end: its runtime waits for whatever it started.
    let reader = Reader::open(&database.url).unwrap();
    let statement = Statement::query(forever, reader.dialect()).unwrap();
    let started = std::time::Instant::now();
    let error = reader.read(&statement, &[], Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, ReadError::TimedOut { .. }), "{error}");
    assert!(started.elapsed() < SECOND);
}

async fn too_large_a_result_is_refused(database: Database) {
    let most = MOST_ROWS + 1;
    let many = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {most}) SELECT i FROM n"
    );
    let reader = Reader::open(&database.url).unwrap();
    let statement = Statement::query(&many, reader.dialect()).unwrap();
    let error = reader.read(&statement, &[], 60 * SECOND).await.unwrap_err();
    assert!(matches!(error, ReadError::TooMuch { .. }), "{error}");
}

#[tokio::test]
async fn a_folder_is_no_database() {
    let database = sqlite();
    let reader = Reader::open(&format!("sqlite:{}", database.folder.path().display())).unwrap();
    let statement = Statement::table("facts", None, None).unwrap();
    let error = reader.read(&statement, &[], SECOND).await.unwrap_err();
    assert!(error.to_string().contains("it is a directory, not a file"), "{error}");
}

#[tokio::test]
async fn a_sqlite_file_that_is_not_there_is_named_and_not_made() {
    let database = sqlite();
    let missing = database.folder.path().join("missing.db");
    let reader = Reader::open(&format!("sqlite:{}", missing.display())).unwrap();
    let statement = Statement::table("facts", None, None).unwrap();
    let error = reader.read(&statement, &[], SECOND).await.unwrap_err();
    assert!(matches!(&error, ReadError::NoDatabase { .. }), "{error}");
    assert!(error.to_string().contains("missing.db does not exist"), "{error}");
    assert!(!missing.exists());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let database = sqlite();
    let path = database.folder.path().join("notes.db");
    std::fs::write(&path, "no database at all, but long enough to look like one".repeat(100)).unwrap();
    let reader = Reader::open(&format!("sqlite://{}", path.display())).unwrap();
    let error = reader.read(&Statement::table("facts", None, None).unwrap(), &[], SECOND).await.unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");
}

#[tokio::test]
async fn a_locked_sqlite_database_is_worth_another_try() {
    let database = sqlite();
    let path = database.url.strip_prefix("sqlite://").unwrap();
    let mut other = SqliteConnection::establish(path).unwrap();
    other.batch_execute("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE").unwrap();
    let error = database.table("facts", "id", 1).await.unwrap_err();
    assert!(matches!(error, ReadError::Unavailable { .. } | ReadError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn a_postgres_that_does_not_answer_is_named_without_its_password() {
    let reader = Reader::open("postgres://me:geheim@127.0.0.1:1/bots").unwrap();
    let error = reader.read(&Statement::table("facts", None, None).unwrap(), &[], SECOND).await.unwrap_err();
    assert!(matches!(&error, ReadError::Unavailable { .. }), "{error}");
    assert!(error.to_string().starts_with("postgres://127.0.0.1:1/bots can't be reached: "), "{error}");
    assert!(!error.to_string().contains("geheim"));
}

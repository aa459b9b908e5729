//! Reads content from whatever database an actor names: read-only, with a time limit, and bounded in size.

mod postgres;
mod sqlite;

use crate::statement::{Dialect, Statement};
use crate::{DatabaseUrl, OpenError};
use serde_json::{Map, Value};
use std::time::Duration;

/// A row: its columns by name.
pub type Row = Map<String, Value>;

/// More rows than this are surely a mistake: a `LIMIT` is missing.
pub const MOST_ROWS: usize = 100_000;
/// So many bytes, as JSON.
pub const MOST_BYTES: usize = 64 << 20;

/// Why nothing could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The database can't be reached, is busy, or was lost on the way: worth another try.
    #[error("{database} can't be reached: {reason}")]
    Unavailable {
        /// Which one, without its password.
        database: String,
        /// What happened.
        reason: String,
    },
    /// The query took too long: worth another try, when the database has less to do.
    #[error("{database} did not answer within {} s", .limit.as_secs_f64())]
    TimedOut {
        /// Which one, without its password.
        database: String,
        /// The time it had.
        limit: Duration,
    },
    /// There is no such file.
    #[error("{database} does not exist")]
    NoDatabase {
        /// Which one.
        database: String,
    },
    /// There is no such table.
    #[error("there is no table {table:?} in {database}")]
    NoSuchTable {
        /// Which one, without its password.
        database: String,
        /// What was asked for.
        table: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The database does not take the query.
    #[error("{database}: {reason}")]
    Refused {
        /// Which one, without its password.
        database: String,
        /// What it said.
        reason: String,
    },
    /// The result is too large.
    #[error("the result from {database} has more than {MOST_ROWS} rows or {} MiB", MOST_BYTES >> 20)]
    TooMuch {
        /// Which one, without its password.
        database: String,
    },
}

/// A database to read from. It connects for each read.
#[derive(Debug, Clone)]
pub struct Reader(Backend);

#[derive(Debug, Clone)]
enum Backend {
    Postgres(Box<postgres::Database>),
    Sqlite(sqlite::Database),
}

impl Reader {
    /// Takes note of the database; does not connect.
    ///
    /// # Errors
    /// When the URL is not one of PostgreSQL or SQLite.
    pub fn open(url: &str) -> Result<Self, OpenError> {
        let shown = DatabaseUrl::parse(url)?;
        let backend = match &shown {
            DatabaseUrl::Postgres(url) => {
                Backend::Postgres(Box::new(postgres::Database::new(url, shown.to_string())?))
            }
            DatabaseUrl::Sqlite(path) => {
                Backend::Sqlite(sqlite::Database::new(path.clone(), shown.to_string()))
            }
        };
        Ok(Self(backend))
    }

    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        match &self.0 {
            Backend::Postgres(_) => Dialect::Postgres,
            Backend::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// The rows that `statement` returns; `values` belong to its [`Statement::parameters`], in order.
    ///
    /// Both databases stop a query at the time limit.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(
        &self,
        statement: &Statement,
        values: &[Value],
        limit: Duration,
    ) -> Result<Vec<Row>, ReadError> {
        match &self.0 {
            Backend::Postgres(database) => database.read(statement, values, limit).await,
            Backend::Sqlite(database) => database.read(statement, values, limit).await,
        }
    }
}

/// Rows so far, and their size.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    bytes: usize,
}

impl Rows {
    /// `false` when it is too much.
    fn push(&mut self, row: Row, bytes: usize) -> bool {
        self.bytes += bytes;
        self.rows.push(row);
        self.rows.len() <= MOST_ROWS && self.bytes <= MOST_BYTES
    }
}

//! SQLite, through `rusqlite`: unlike Diesel it lets safe code stop a query.

use super::{ReadError, Row, Rows};
use crate::sqlite::may_be_database;
use crate::statement::Statement;
use rusqlite::types::{Value as Bound, ValueRef};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, params_from_iter};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// So often, in steps of SQLite's machine, a query is asked whether its time is over: some times in a millisecond.
const STEPS: i32 = 10_000;

#[derive(Debug, Clone)]
pub(super) struct Database {
    path: PathBuf,
    shown: String,
}

impl Database {
    pub(super) fn new(path: PathBuf, shown: String) -> Self {
        Self { path, shown }
    }

    pub(super) async fn read(
        &self,
        statement: &Statement,
        values: &[Value],
        limit: Duration,
    ) -> Result<Vec<Row>, ReadError> {
        let (this, statement, values) = (self.clone(), statement.clone(), values.to_vec());
        let rows = tokio::task::spawn_blocking(move || this.read_now(&statement, &values, limit));
        match tokio::time::timeout(limit, rows).await {
            Ok(rows) => rows.unwrap_or_else(|error| Err(self.unavailable(error.to_string()))),
            Err(_) => Err(self.timed_out(limit)),
        }
    }

    fn read_now(
        &self,
        statement: &Statement,
        values: &[Value],
        limit: Duration,
    ) -> Result<Vec<Row>, ReadError> {
        if !self.path.exists() {
            return Err(ReadError::NoDatabase { database: self.shown.clone() });
        }
        may_be_database(&self.path).map_err(|error| self.refused(error.to_string()))?;
        let connection = self.connect(limit).map_err(|error| self.describe(error, limit))?;
        match (self.rows(&connection, statement, values, limit), &statement.table) {
            (Err(ReadError::Refused { reason, .. }), Some(table)) if reason.starts_with("no such table") => {
                let known = tables(&connection).unwrap_or_default();
                Err(ReadError::NoSuchTable { database: self.shown.clone(), table: table.clone(), known })
            }
            (rows, _) => rows,
        }
    }

    /// Only reading: a file that is not there is not made.
    fn connect(&self, limit: Duration) -> rusqlite::Result<Connection> {
        let deadline = Instant::now() + limit;
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(limit)?;
        connection.progress_handler(STEPS, Some(move || Instant::now() > deadline))?;
        Ok(connection)
    }

    fn rows(
        &self,
        connection: &Connection,
        statement: &Statement,
        values: &[Value],
        limit: Duration,
    ) -> Result<Vec<Row>, ReadError> {
        let mut result = Rows::default();
        let mut fill = || {
            let mut query = connection.prepare(&statement.sql)?;
            let names: Vec<String> = query.column_names().into_iter().map(str::to_owned).collect();
            let mut found = query.query(params_from_iter(values.iter().map(bound)))?;
            while let Some(row) = found.next()? {
                let (mut columns, mut bytes) = (Row::new(), 0);
                for (index, name) in names.iter().enumerate() {
                    let value = value_of(row.get_ref(index)?)?;
                    bytes += name.len() + value.as_str().map_or(8, str::len);
                    columns.insert(name.clone(), value);
                }
                if !result.push(columns, bytes) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        match fill().map_err(|error| self.describe(error, limit))? {
            true => Ok(result.rows),
            false => Err(ReadError::TooMuch { database: self.shown.clone() }),
        }
    }

    fn describe(&self, error: Error, limit: Duration) -> ReadError {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => self.timed_out(limit),
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen,
            ) => self.unavailable(error.to_string()),
            _ => self.refused(error.to_string()),
        }
    }

    fn unavailable(&self, reason: String) -> ReadError {
        ReadError::Unavailable { database: self.shown.clone(), reason }
    }

    fn refused(&self, reason: String) -> ReadError {
        ReadError::Refused { database: self.shown.clone(), reason }
    }

    fn timed_out(&self, limit: Duration) -> ReadError {
        ReadError::TimedOut { database: self.shown.clone(), limit }
    }
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY 1";
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn bound(value: &Value) -> Bound {
    match value {
        Value::Null => Bound::Null,
        Value::Bool(bool) => Bound::Integer(i64::from(*bool)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Bound::Integer(whole),
            None => Bound::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Bound::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => Bound::Text(value.to_string()),
    }
}

fn value_of(value: ValueRef<'_>) -> rusqlite::Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(whole) => whole.into(),
        ValueRef::Real(real) => real.into(),
        ValueRef::Text(_) => value.as_str()?.into(),
        // As PostgreSQL shows them.
        ValueRef::Blob(bytes) => {
            format!("\\x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).into()
        }
    })
}

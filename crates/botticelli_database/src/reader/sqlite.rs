//! SQLite.

use super::{ReadError, Row, Rows};
use crate::statement::Statement;
use diesel::connection::{DefaultLoadingMode, SimpleConnection};
use diesel::deserialize::{self, FromSql, QueryableByName};
use diesel::row::{Field, NamedRow};
use diesel::sql_types::{BigInt, Binary, Double, Nullable, Text};
use diesel::sqlite::{Sqlite, SqliteType};
use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// So many queries of one source may run, or linger after their time.
const MOST_RUNNING: usize = 4;

#[derive(Debug, Clone)]
pub(super) struct Database {
    path: PathBuf,
    shown: String,
    running: Arc<Semaphore>,
}

impl Database {
    pub(super) fn new(path: PathBuf, shown: String) -> Self {
        Self { path, shown, running: Arc::new(Semaphore::new(MOST_RUNNING)) }
    }

    pub(super) async fn read(
        &self,
        statement: &Statement,
        values: &[Value],
        limit: Duration,
    ) -> Result<Vec<Row>, ReadError> {
        let deadline = Instant::now() + limit;
        let (this, statement, values) = (self.clone(), statement.clone(), values.to_vec());
        let work = async {
            // Held until the query has really ended.
            let permit = self.running.clone().acquire_owned().await;
            let rows = tokio::task::spawn_blocking(move || {
                let rows = this.read_now(&statement, &values, limit, deadline);
                drop(permit);
                rows
            });
            rows.await.unwrap_or_else(|error| Err(self.unavailable(error.to_string())))
        };
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(self.timed_out(limit)))
    }

    fn read_now(
        &self,
        statement: &Statement,
        values: &[Value],
        limit: Duration,
        deadline: Instant,
    ) -> Result<Vec<Row>, ReadError> {
        if !self.path.exists() {
            return Err(self.refused("there is no such file".to_owned()));
        }
        let mut connection =
            SqliteConnection::establish(&self.uri()).map_err(|error| self.unavailable(error.to_string()))?;
        let busy = limit.as_millis();
        connection
            .batch_execute(&format!("PRAGMA query_only = ON; PRAGMA busy_timeout = {busy};"))
            .map_err(|error| self.describe(&error))?;
        let rows = self.rows(&mut connection, statement, values, limit, deadline);
        match (rows, &statement.table) {
            (Err(ReadError::Refused { reason, .. }), Some(table)) if reason.starts_with("no such table") => {
                let known = tables(&mut connection);
                Err(ReadError::NoSuchTable { database: self.shown.clone(), table: table.clone(), known })
            }
            (rows, _) => rows,
        }
    }

    fn rows(
        &self,
        connection: &mut SqliteConnection,
        statement: &Statement,
        values: &[Value],
        limit: Duration,
        deadline: Instant,
    ) -> Result<Vec<Row>, ReadError> {
        let mut query = sql_query(&statement.sql).into_boxed::<Sqlite>();
        for value in values {
            query = match value {
                Value::Null => query.bind::<Nullable<Text>, _>(None::<String>),
                Value::Bool(bool) => query.bind::<BigInt, _>(i64::from(*bool)),
                Value::Number(number) => match number.as_i64() {
                    Some(whole) => query.bind::<BigInt, _>(whole),
                    None => query.bind::<Double, _>(number.as_f64().unwrap_or(f64::NAN)),
                },
                Value::String(text) => query.bind::<Text, _>(text.clone()),
                Value::Array(_) | Value::Object(_) => query.bind::<Text, _>(value.to_string()),
            };
        }
        let mut rows = Rows::default();
        let found = query
            .load_iter::<AnyRow, DefaultLoadingMode>(connection)
            .map_err(|error| self.describe(&error))?;
        for row in found {
            let AnyRow { columns, bytes } = row.map_err(|error| self.describe(&error))?;
            if Instant::now() > deadline {
                return Err(self.timed_out(limit));
            }
            if !rows.push(columns, bytes) {
                return Err(ReadError::TooMuch { database: self.shown.clone() });
            }
        }
        Ok(rows.rows)
    }

    /// Only reading: a file that is not there is not made.
    fn uri(&self) -> String {
        let path = self.path.to_string_lossy();
        format!("file:{}?mode=ro", path.replace('%', "%25").replace('?', "%3f").replace('#', "%23"))
    }

    fn describe(&self, error: &diesel::result::Error) -> ReadError {
        let reason = error.to_string();
        let passing = ["database is locked", "database table is locked", "disk I/O error", "unable to open"];
        if passing.iter().any(|passing| reason.contains(passing)) {
            self.unavailable(reason)
        } else {
            self.refused(reason)
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

fn tables(connection: &mut SqliteConnection) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY 1";
    let rows = sql_query(sql).load::<AnyRow>(connection).unwrap_or_default();
    rows.into_iter().filter_map(|row| row.columns.get("name")?.as_str().map(str::to_owned)).collect()
}

/// A row with whatever columns it has.
struct AnyRow {
    columns: Row,
    bytes: usize,
}

impl QueryableByName<Sqlite> for AnyRow {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        let mut any = Self { columns: Row::new(), bytes: 0 };
        for index in 0..row.field_count() {
            let field = diesel::row::Row::get(row, index).ok_or("a column is gone")?;
            let name = field.field_name().ok_or("a column has no name")?.to_owned();
            let value = match field.value() {
                Some(value) => value_of(value)?,
                None => Value::Null,
            };
            any.bytes += name.len() + value.as_str().map_or(8, str::len);
            any.columns.insert(name, value);
        }
        Ok(any)
    }
}

fn value_of(value: diesel::sqlite::SqliteValue<'_, '_, '_>) -> deserialize::Result<Value> {
    Ok(match value.value_type() {
        None => Value::Null,
        Some(SqliteType::SmallInt | SqliteType::Integer | SqliteType::Long) => {
            <i64 as FromSql<BigInt, Sqlite>>::from_sql(value)?.into()
        }
        Some(SqliteType::Float | SqliteType::Double) => {
            <f64 as FromSql<Double, Sqlite>>::from_sql(value)?.into()
        }
        Some(SqliteType::Text) => <String as FromSql<Text, Sqlite>>::from_sql(value)?.into(),
        // As PostgreSQL shows them.
        Some(SqliteType::Binary) => {
            let bytes = <Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?;
            format!("\\x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).into()
        }
    })
}

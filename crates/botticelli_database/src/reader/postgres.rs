//! PostgreSQL.

use super::{ReadError, Row, Rows};
use crate::postgres::tls_config;
use crate::statement::Statement;
use crate::{OpenError, UrlError};
use futures::TryStreamExt;
use serde_json::Value;
use std::error::Error;
use std::fmt::Write;
use std::pin::pin;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, private::BytesMut};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

#[derive(Debug, Clone)]
pub(super) struct Database {
    config: Config,
    /// Without the password.
    shown: String,
}

impl Database {
    pub(super) fn new(url: &str, shown: String) -> Result<Self, OpenError> {
        let bad =
            |error: tokio_postgres::Error| UrlError { problem: format!("can't be read: {}", causes(&error)) };
        let mut config: Config = url.parse().map_err(bad)?;
        if config.get_application_name().is_none() {
            config.application_name("actor-server");
        }
        Ok(Self { config, shown })
    }

    pub(super) async fn read(
        &self,
        statement: &Statement,
        values: &[Value],
        limit: Duration,
    ) -> Result<Vec<Row>, ReadError> {
        // The server keeps to the limit; a second more is for a network that went silent.
        let waited =
            tokio::time::timeout(limit + Duration::from_secs(1), self.read_now(statement, values, limit));
        waited.await.unwrap_or_else(|_| Err(self.timed_out(limit)))
    }

    async fn read_now(
        &self,
        statement: &Statement,
        values: &[Value],
        limit: Duration,
    ) -> Result<Vec<Row>, ReadError> {
        let mut client = self.connect().await?;
        let rows = self.rows(&mut client, statement, values, limit).await;
        match (rows, &statement.table) {
            (Err(Failure::Database(error)), Some(table))
                if error.code() == Some(&SqlState::UNDEFINED_TABLE) =>
            {
                let known = self.tables(&client).await.unwrap_or_default();
                Err(ReadError::NoSuchTable { database: self.shown.clone(), table: table.clone(), known })
            }
            (Err(Failure::Database(error)), _) => Err(self.describe(&error, limit)),
            (Err(Failure::TooMuch), _) => Err(ReadError::TooMuch { database: self.shown.clone() }),
            (Err(Failure::NoJson(error)), _) => Err(self.refused(error)),
            (Ok(rows), _) => Ok(rows),
        }
    }

    async fn connect(&self) -> Result<Client, ReadError> {
        let unavailable = |reason| ReadError::Unavailable { database: self.shown.clone(), reason };
        let (client, connection) =
            self.config.connect(MakeRustlsConnect::new(tls_config())).await.map_err(|error| {
                match error.code() {
                    Some(_) => self.describe(&error, Duration::ZERO),
                    None => unavailable(causes(&error)),
                }
            })?;
        // Ends when the client is dropped; what goes wrong in it, the client's queries say.
        tokio::spawn(async move { connection.await.ok() });
        Ok(client)
    }

    async fn rows(
        &self,
        client: &mut Client,
        statement: &Statement,
        values: &[Value],
        limit: Duration,
    ) -> Result<Vec<Row>, Failure> {
        let transaction = client.build_transaction().read_only(true).start().await?;
        let limit = limit.as_millis().max(1);
        transaction
            .batch_execute(&format!("SET LOCAL statement_timeout = {limit}; SET LOCAL timezone = 'UTC'"))
            .await?;
        // A line break, because the query may end with a comment. As text: no feature is needed to read it.
        let sql = format!("SELECT to_jsonb(q)::text FROM (\n{}\n) AS q", statement.sql);
        let parameters = values.iter().map(AsText);
        let mut stream = pin!(transaction.query_raw(&sql, parameters).await?);
        let mut rows = Rows::default();
        while let Some(row) = stream.try_next().await? {
            let json: &str = row.try_get(0)?;
            let row = serde_json::from_str(json).map_err(|error| Failure::NoJson(error.to_string()))?;
            if !rows.push(row, json.len()) {
                return Err(Failure::TooMuch);
            }
        }
        Ok(rows.rows)
    }

    async fn tables(&self, client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
        let sql = "SELECT table_name::text FROM information_schema.tables \
                   WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1 LIMIT 1000";
        Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    fn describe(&self, error: &tokio_postgres::Error, limit: Duration) -> ReadError {
        let Some(code) = error.code() else {
            return ReadError::Unavailable { database: self.shown.clone(), reason: causes(error) };
        };
        let passing = ["08", "40", "53", "55", "57", "58"];
        match code {
            &SqlState::QUERY_CANCELED => self.timed_out(limit),
            code if passing.iter().any(|class| code.code().starts_with(class)) => {
                ReadError::Unavailable { database: self.shown.clone(), reason: causes(error) }
            }
            _ => self.refused(causes(error)),
        }
    }

    fn refused(&self, reason: String) -> ReadError {
        ReadError::Refused { database: self.shown.clone(), reason }
    }

    fn timed_out(&self, limit: Duration) -> ReadError {
        ReadError::TimedOut { database: self.shown.clone(), limit }
    }
}

enum Failure {
    Database(tokio_postgres::Error),
    TooMuch,
    NoJson(String),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// The last cause says what happened; the first says only that something did.
fn causes(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// A value in text form, which PostgreSQL reads as whatever type the query needs there.
#[derive(Debug)]
struct AsText<'a>(&'a Value);

impl ToSql for AsText<'_> {
    fn to_sql(&self, _type: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::String(text) => out.write_str(text)?,
            other => write!(out, "{other}")?,
        }
        Ok(IsNull::No)
    }

    fn accepts(_type: &Type) -> bool {
        true
    }

    fn encode_format(&self, _type: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

//! Items from databases.

use super::Fields;
use crate::config::Fault;
use crate::config::read::closest;
use crate::config::within::Within;
use crate::skill::{ActorContext, SkillError};
use botticelli_database::reader::{ReadError, Reader};
use botticelli_database::statement::Statement;
use chrono::SecondsFormat;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// The rows of a table or view.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// The column that a row is known by. Default: `id` where there is one, else a hash of the row.
    pub(super) key: Option<String>,
    /// The table, or view; its schema may stand before a dot.
    table: String,
    /// Columns, each with `asc` or `desc`: `created_at desc, id`.
    order_by: Option<String>,
    /// At most so many rows.
    limit: Option<Within<1, 100_000>>,
    /// The URL of another database than the server's own.
    database: Option<String>,
    /// The database has so many seconds to answer.
    #[serde(default = "ten")]
    timeout_seconds: Within<1, 3600>,
}

/// The rows that a query returns.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryConfig {
    /// The column that a row is known by. Default: `id` where there is one, else a hash of the row.
    pub(super) key: Option<String>,
    /// The query. `$task`, `$now`, `$scheduled_for`, and the names of a trigger's parameters, stand for values.
    query: String,
    /// What a trigger's parameters are when the trigger, or the schedule, does not give them.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, Value>")]
    parameters: toml::Table,
    /// The URL of another database than the server's own.
    database: Option<String>,
    /// The database has so many seconds to answer.
    #[serde(default = "ten")]
    timeout_seconds: Within<1, 3600>,
}

fn ten() -> Within<1, 3600> {
    Within::of::<10>()
}

/// The parameters that there are in every run.
const OWN_PARAMETERS: [&str; 3] = ["task", "now", "scheduled_for"];

pub(super) struct DatabaseSource {
    reader: Reader,
    statement: Statement,
    defaults: Fields,
    timeout: Duration,
    /// It is the server's own database that is read.
    own: bool,
}

impl DatabaseSource {
    pub(super) fn table(config: &TableConfig, own_url: &str) -> Result<Self, Fault> {
        let limit = config.limit.map(Within::count);
        let statement =
            Statement::table(&config.table, config.order_by.as_deref(), limit).map_err(|error| {
                let in_table = Statement::table(&config.table, None, None).is_err();
                fault(if in_table { "table" } else { "order_by" }, &error)
            })?;
        Ok(Self {
            reader: open(config.database.as_deref(), own_url)?,
            statement,
            defaults: Fields::new(),
            timeout: config.timeout_seconds.seconds(),
            own: config.database.is_none(),
        })
    }

    pub(super) fn query(config: &QueryConfig, own_url: &str) -> Result<Self, Fault> {
        let reader = open(config.database.as_deref(), own_url)?;
        let statement =
            Statement::query(&config.query, reader.dialect()).map_err(|error| fault("query", &error))?;
        if let Some(name) = config.parameters.keys().find(|name| !statement.parameters().contains(name)) {
            return Err(fault("parameters", &format_args!("the query has no parameter ${name}")));
        }
        Ok(Self {
            reader,
            statement,
            defaults: super::json_fields(config.parameters.clone()),
            timeout: config.timeout_seconds.seconds(),
            own: config.database.is_none(),
        })
    }

    /// Whether the database is there and understands what it will be asked.
    pub(super) async fn check(&self) -> Result<(), SkillError> {
        let values = vec![Value::Null; self.statement.parameters().len()];
        self.ask(&self.statement.without_rows(), &values).await.map(drop)
    }

    pub(super) async fn read(&self, context: &ActorContext) -> Result<Vec<Fields>, SkillError> {
        let values = self.values(context)?;
        self.ask(&self.statement, &values).await
    }

    async fn ask(&self, statement: &Statement, values: &[Value]) -> Result<Vec<Fields>, SkillError> {
        self.reader.read(statement, values, self.timeout).await.map_err(|error| match error {
            ReadError::Unavailable { .. } | ReadError::TimedOut { .. } => {
                SkillError::Recoverable(error.to_string())
            }
            ReadError::NoSuchTable { ref table, ref known, .. } => {
                let hint = match closest(table, &known.iter().map(String::as_str).collect::<Vec<_>>()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None if known.is_empty() => "there are no tables at all".to_owned(),
                    None => format!(
                        "there are: {}",
                        known.iter().take(20).cloned().collect::<Vec<_>>().join(", ")
                    ),
                };
                SkillError::Unrecoverable(format!("{error} ({hint})"))
            }
            ReadError::NoDatabase { .. } if self.own => {
                let what = match statement.whole_table() {
                    Some(table) => format!("there is no table {table:?}"),
                    None => "the query can't be asked".to_owned(),
                };
                SkillError::Unrecoverable(format!(
                    "{what}: {error} (`actor-server migrate`, or the first start, makes it, with the server's own \
                     tables only)"
                ))
            }
            ReadError::NoDatabase { .. } | ReadError::Refused { .. } | ReadError::TooMuch { .. } => {
                SkillError::Unrecoverable(error.to_string())
            }
        })
    }

    pub(super) fn depends_on(&self, context: &ActorContext) -> Result<String, SkillError> {
        self.values(context).map(|values| Value::Array(values).to_string())
    }

    /// The values of the statement's parameters, in order.
    fn values(&self, context: &ActorContext) -> Result<Vec<Value>, SkillError> {
        let time = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true).into();
        let value = |name: &String| match name.as_str() {
            "task" => Ok(context.task_id.as_str().into()),
            "now" => Ok(time(context.clock.now())),
            "scheduled_for" => Ok(time(context.scheduled_for)),
            name => {
                context.parameters.get(name).or_else(|| self.defaults.get(name)).cloned().ok_or_else(|| {
                    let given = context.parameters.as_object().into_iter().flat_map(|given| given.keys());
                    let known: Vec<&str> =
                        OWN_PARAMETERS.into_iter().chain(given.map(String::as_str)).collect();
                    let hint = "a default can be given in `parameters`";
                    SkillError::Unrecoverable(format!(
                        "the query's parameter ${name} has no value (known: {}; {hint})",
                        known.join(", ")
                    ))
                })
            }
        };
        self.statement.parameters().iter().map(value).collect()
    }
}

fn open(url: Option<&str>, own_url: &str) -> Result<Reader, Fault> {
    Reader::open(url.unwrap_or(own_url)).map_err(|error| fault("database", &error))
}

fn fault(key: &str, what: &dyn std::fmt::Display) -> Fault {
    Fault::new(key, format!("{key}: {what}"))
}

//! Batches: many rows in one statement, as one JSON parameter.

use super::*;
use botticelli_server::clock::to_microseconds;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// A column of a batch: its name and PostgreSQL's name of its type.
pub(super) type Column = (&'static str, &'static str);

/// Binds `$rows` as a statement's first parameter.
pub(super) fn parameter<T: Serialize>(rows: &[T]) -> Work<Value> {
    let rows = serde_json::to_value(rows).map_err(|error| WorkError::corrupt("a batch", error))?;
    storable(&rows).map(|()| rows)
}

/// PostgreSQL can't keep NUL in text. SQLite could, but not all of its functions see what comes after.
pub(super) fn storable(value: &Value) -> Work<()> {
    let bad = |text: &str| text.contains('\0');
    match value {
        Value::String(text) if bad(text) => Err(WorkError::Refused("a text has a NUL character".into())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        Value::Array(values) => values.iter().try_for_each(storable),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match bad(name) {
            true => Err(WorkError::Refused("the name of a JSON field has a NUL character".into())),
            false => storable(value),
        }),
    }
}

/// Inserts `rows`. Their serialized fields are the columns.
pub(super) async fn insert<T: Serialize>(
    conn: &mut Connection,
    table: &str,
    columns: &[Column],
    rows: &[T],
    on_conflict: &str,
) -> Work<usize> {
    if rows.is_empty() {
        return Ok(0);
    }
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    // `WHERE true` tells SQLite's parser that ON CONFLICT is not the ON of a join.
    let sql = format!(
        "INSERT INTO {table} ({names}) SELECT {names} FROM {} WHERE true {on_conflict}",
        dialect::rows(columns)
    );
    Ok(sql_query(sql).bind::<Json, _>(parameter(rows)?).execute(conn).await?)
}

/// Runs `sql`, which reads the table `{r}` made of `rows`.
pub(super) async fn update<T: Serialize>(
    conn: &mut Connection,
    sql: &str,
    columns: &[Column],
    rows: &[T],
) -> Work<usize> {
    if rows.is_empty() {
        return Ok(0);
    }
    let sql = sql.replace("{r}", &dialect::rows(columns));
    Ok(sql_query(sql).bind::<Json, _>(parameter(rows)?).execute(conn).await?)
}

/// Takes `count` numbers from the ledger's counter: for executions, and for fences, which only grow.
pub(super) async fn take_numbers(conn: &mut Connection, count: usize) -> Work<Vec<i64>> {
    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    let count = i64::try_from(count).map_err(|error| WorkError::corrupt("a batch", error))?;
    let taken: Vec<Number> = sql_query(dialect::TAKE_NUMBERS).bind::<BigInt, _>(count).load(conn).await?;
    let taken: Vec<i64> = taken.iter().map(|taken| taken.number).collect();
    Ok(dialect::numbers(&taken, count))
}

/// Takes one number.
pub(super) async fn take_number(conn: &mut Connection) -> Work<i64> {
    let number = take_numbers(conn, 1).await?.pop();
    number.ok_or_else(|| WorkError::Corrupt("the ledger's counter ran short".into()))
}

/// A time as both databases read it from JSON, and as SQLite stores it. Cut to microseconds here, because PostgreSQL
/// would round and SQLite would keep what is finer.
pub(super) fn time<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&to_microseconds(*at).format("%F %T%.f%:z"))
}

pub(super) fn optional_time<S: Serializer>(
    at: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => time(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// PostgreSQL can't keep NUL in text; in a message for people nothing is lost without it.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

//! Batches: many rows in one statement, as one JSON parameter.

use super::*;
use botticelli_server::clock::to_microseconds;
use chrono::{DateTime, NaiveDateTime, Timelike as _, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use serde::{Serialize, Serializer};
use std::fmt;

/// A column of a batch: its name and PostgreSQL's name of its type.
pub(super) type Column = (&'static str, &'static str);

/// What a statement's `$1` is bound to: the rows as JSON text.
pub(super) fn parameter<T: Serialize>(rows: &[T]) -> Work<String> {
    let rows = serde_json::to_string(rows).map_err(|error| WorkError::corrupt("a batch", error))?;
    if has_nul(&rows) { Err(WorkError::Refused("a text has a NUL character".into())) } else { Ok(rows) }
}

/// PostgreSQL can't keep NUL in text. SQLite could, but not all of its functions see what comes after.
pub(super) fn storable(value: &serde_json::Value) -> Work<()> {
    parameter(std::slice::from_ref(value)).map(drop)
}

/// Whether a string of this JSON has the escape of NUL: one after an even number of backslashes.
fn has_nul(json: &str) -> bool {
    json.match_indices(r"\u0000").any(|(at, _)| {
        let backslashes = json[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        backslashes % 2 == 0
    })
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
    Ok(sql_query(sql).bind::<Text, _>(parameter(rows)?).execute(conn).await?)
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
    Ok(sql_query(sql).bind::<Text, _>(parameter(rows)?).execute(conn).await?)
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
    serializer.collect_str(&TimeText(to_microseconds(*at).naive_utc()))
}

/// `2026-11-23 09:00:00.250+00:00`: as Diesel writes it into SQLite, digits of a fraction only where there is one. A
/// thousand rows hold ten thousand times, so no format is interpreted for each.
struct TimeText(NaiveDateTime);

impl fmt::Display for TimeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, time) = (self.0.date(), self.0.time());
        write!(f, "{date} {:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())?;
        match time.nanosecond() / 1_000 {
            0 => {}
            micros if micros % 1_000 == 0 => write!(f, ".{:03}", micros / 1_000)?,
            micros => write!(f, ".{micros:06}")?,
        }
        f.write_str("+00:00")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_diesel_writes_them() {
        for micros in [0, 1, 999, 1_000, 250_000, 1_700_000_000_123_456, 1_700_000_000_120_000, -1_000] {
            let at = DateTime::from_timestamp_micros(micros).unwrap();
            assert_eq!(TimeText(at.naive_utc()).to_string(), at.format("%F %T%.f%:z").to_string());
        }
    }

    #[test]
    fn nul_is_found_and_what_only_looks_like_it_is_not() {
        let refused = |text: &str| parameter(&[text]).is_err();
        assert!(refused("a\0b"));
        assert!(refused("\\\0"));
        assert!(!refused(r"\u0000"));
        assert!(!refused(r"\\u0000"));
        assert!(storable(&serde_json::json!({ "name\0": 1 })).is_err());
    }
}

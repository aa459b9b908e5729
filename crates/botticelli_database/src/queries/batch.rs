//! Batches: many rows in one statement, as the table `r`.

use super::*;
use crate::sql::Sql;
use botticelli_server::clock::to_microseconds;
use chrono::{DateTime, NaiveDateTime, Timelike as _, Utc};
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::fmt;

/// Declares a struct as the row of a batch: its fields are the columns.
macro_rules! batch_row {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident $(<$life:lifetime>)? {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $kind:ty,)*
        }
    ) => {
        $(#[$meta])*
        $vis struct $name $(<$life>)? {
            $($(#[$field_meta])* $field_vis $field: $kind,)*
        }

        impl $(<$life>)? batch::Row for $name $(<$life>)? {
            const COLUMNS: &'static [batch::Column] = &[
                $(batch::Column { name: stringify!($field), kind: <$kind as batch::Cell>::KIND },)*
            ];

            fn cells(&self) -> Vec<batch::Datum<'_>> {
                vec![$(batch::Cell::datum(&self.$field),)*]
            }
        }
    };
}

/// See `batch_row!`.
pub(crate) trait Row {
    const COLUMNS: &'static [Column];

    fn cells(&self) -> Vec<Datum<'_>>;
}

pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    BigInt,
    Integer,
    Boolean,
    Text,
    Time,
    Json,
}

/// What stands in one column of one row.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub(crate) enum Datum<'a> {
    Null,
    BigInt(i64),
    Integer(i32),
    Boolean(bool),
    Text(&'a str),
    #[serde(serialize_with = "time")]
    Time(DateTime<Utc>),
    Json(&'a Value),
}

/// A type whose values are cells.
pub(crate) trait Cell {
    const KIND: Kind;

    fn datum(&self) -> Datum<'_>;
}

macro_rules! cell {
    ($kind:ident: $($type:ty => |$value:ident| $datum:expr),* $(,)?) => {
        $(impl Cell for $type {
            const KIND: Kind = Kind::$kind;

            fn datum(&self) -> Datum<'_> {
                let $value = self;
                Datum::$kind($datum)
            }
        })*
    };
}

cell!(BigInt: i64 => |n| *n, u64 => |n| i64::try_from(*n).unwrap_or(i64::MAX));
cell!(Integer: i32 => |n| *n, u32 => |n| i32::try_from(*n).unwrap_or(i32::MAX));
cell!(Boolean: bool => |yes| *yes);
cell!(Text: String => |text| text, &str => |text| text);
// Cut here, because PostgreSQL would round and SQLite would keep what is finer.
cell!(Time: DateTime<Utc> => |at| to_microseconds(*at));

/// JSON's null is SQL's.
impl Cell for Value {
    const KIND: Kind = Kind::Json;

    fn datum(&self) -> Datum<'_> {
        if self.is_null() { Datum::Null } else { Datum::Json(self) }
    }
}

impl<T: Cell> Cell for Option<T> {
    const KIND: Kind = T::KIND;

    fn datum(&self) -> Datum<'_> {
        self.as_ref().map_or(Datum::Null, Cell::datum)
    }
}

batch_row! {
    /// A number.
    pub(super) struct Id {
        id: i64,
    }
}

impl Id {
    pub(super) fn all(ids: &[i64]) -> Vec<Self> {
        ids.iter().map(|id| Self { id: *id }).collect()
    }
}

impl<'f> Sql<'f, Backend> {
    /// Binds `rows`; `{r}` in the text becomes a table `r` of them. Parameters that the text names come first.
    pub(super) fn rows<T: Row>(mut self, rows: &'f [T]) -> Work<Self> {
        let cells: Vec<Vec<Datum<'f>>> = rows.iter().map(Row::cells).collect();
        if cells.iter().flatten().any(|datum| datum.has_nul()) {
            return Err(nul());
        }
        self.text = self.text.replace("{r}", &dialect::rows(T::COLUMNS, self.next_parameter()));
        dialect::bind_rows(self, T::COLUMNS, cells)
    }
}

/// Inserts `rows`.
pub(super) async fn insert<T: Row>(
    conn: &mut Connection,
    table: &str,
    rows: &[T],
    on_conflict: &str,
) -> Work<usize> {
    update(conn, &inserting::<T>(table, on_conflict), rows).await
}

/// The statement that inserts such rows.
pub(super) fn inserting<T: Row>(table: &str, on_conflict: &str) -> String {
    let names: Vec<&str> = T::COLUMNS.iter().map(|column| column.name).collect();
    let names = names.join(", ");
    // `WHERE true` tells SQLite's parser that ON CONFLICT is not the ON of a join.
    format!("INSERT INTO {table} ({names}) SELECT {names} FROM {{r}} WHERE true {on_conflict}")
}

/// Runs `sql`, which reads the table `{r}` made of `rows`.
pub(super) async fn update<T: Row>(conn: &mut Connection, sql: &str, rows: &[T]) -> Work<usize> {
    if rows.is_empty() {
        return Ok(0);
    }
    Ok(sql_query(sql).rows(rows)?.execute(conn).await?)
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

fn time<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&TimeText(at.naive_utc()))
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

// PostgreSQL can't keep NUL in text. SQLite could, but not all of its functions see what comes after.

/// Whether both databases can store this.
pub(super) fn storable(value: &Value) -> Work<()> {
    if has_nul(value) { Err(nul()) } else { Ok(()) }
}

/// In a message for people nothing is lost without it.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The same in JSON.
pub(super) fn json_without_nul(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_nul(&text)),
        Value::Array(items) => items.into_iter().map(json_without_nul).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (without_nul(&name), json_without_nul(value))).collect()
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}

impl Datum<'_> {
    fn has_nul(&self) -> bool {
        match self {
            Self::Text(text) => text.contains('\0'),
            Self::Json(value) => has_nul(value),
            Self::Null | Self::BigInt(_) | Self::Integer(_) | Self::Boolean(_) | Self::Time(_) => false,
        }
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn nul() -> WorkError {
    WorkError::Refused("a text has a NUL character".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_written_as_diesel_writes_them() {
        for micros in [0, 1, 999, 1_000, 250_000, 1_700_000_000_123_456, 1_700_000_000_120_000, -1_000] {
            let at = DateTime::from_timestamp_micros(micros).unwrap();
            assert_eq!(TimeText(at.naive_utc()).to_string(), at.format("%F %T%.f%:z").to_string());
        }
    }

    #[test]
    fn nul_is_found_and_what_only_looks_like_it_is_not() {
        assert!(storable(&json!(["a", { "b": "c\0" }])).is_err());
        assert!(storable(&json!({ "name\0": 1 })).is_err());
        assert!(storable(&json!([r"\u0000", 0, null])).is_ok());
        assert!(Datum::Text("\0").has_nul() && !Datum::Text(r"\0").has_nul());
    }
}

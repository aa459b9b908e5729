//! The conditions of a listing: each that is asked for is a part of the statement's text, and its value is bound.

use super::*;
use crate::sql::Sql;
use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Text};

/// What a listing is narrowed by. There are few filters, so there are few texts to keep prepared.
#[derive(Default)]
pub(super) struct Conditions {
    parts: Vec<String>,
    values: Vec<Value>,
}

pub(super) enum Value {
    Text(String),
    Number(i64),
    Time(DateTime<Utc>),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<DateTime<Utc>> for Value {
    fn from(time: DateTime<Utc>) -> Self {
        Self::Time(time)
    }
}

impl Conditions {
    /// `comparison`, such as `s.task_id >`, with the value, if there is one.
    pub(super) fn add(&mut self, comparison: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            let parameter = self.parameter(value);
            self.parts.push(format!("{comparison}{parameter}"));
        }
    }

    /// A condition without a value.
    pub(super) fn plain(&mut self, condition: impl Into<String>) {
        self.parts.push(condition.into());
    }

    /// `LIMIT` so many, or nothing.
    pub(super) fn limit(&mut self, limit: Option<usize>) -> String {
        match limit {
            Some(limit) => {
                let limit = self.parameter(i64::try_from(limit).unwrap_or(i64::MAX));
                format!("LIMIT {limit}")
            }
            None => String::new(),
        }
    }

    fn parameter(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// `WHERE …`, or nothing.
    pub(super) fn text(&self) -> String {
        if self.parts.is_empty() { String::new() } else { format!("WHERE {}", self.parts.join(" AND ")) }
    }

    /// The query with the values, in the order of their parameters.
    pub(super) fn bind<'f>(self, query: Sql<'f, Backend>) -> Sql<'f, Backend> {
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind::<Text, _>(text),
            Value::Number(number) => query.bind::<BigInt, _>(number),
            Value::Time(time) => query.bind::<Instant, _>(time),
        })
    }
}

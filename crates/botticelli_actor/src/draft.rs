//! What a pipeline works on.

use botticelli_server::limits::DeliveryLimits;
use botticelli_server::post::Destination;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A piece of content from a knowledge source.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The `name` of its source.
    pub source: String,
    /// What it is known by there: its key column, else a hash of its content.
    pub key: String,
    /// Its fields.
    pub fields: Map<String, Value>,
}

/// The fields that may hold an item's own text, the first that is there.
pub const TEXT_FIELDS: [&str; 4] = ["text", "content", "body", "title"];

impl Item {
    /// Its own text: what duplicates are compared by, and what is posted if no skill formats it. An item without any of
    /// [`TEXT_FIELDS`] is all of its fields, as JSON.
    pub fn text(&self) -> Cow<'_, str> {
        let text = |name: &&str| self.fields.get(*name)?.as_str().filter(|text| !text.trim().is_empty());
        match TEXT_FIELDS.iter().find_map(text) {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(Value::Object(self.fields.clone()).to_string()),
        }
    }

    /// The number in the field `name`, also where it is written as text.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.fields.get(name)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// The time in the field `name`; `Err` when what is there is no time.
    ///
    /// # Errors
    /// What the field holds instead.
    pub fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, String> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(value) => parse_time(value).map(Some).ok_or_else(|| value.to_string()),
        }
    }
}

/// RFC 3339; the same without a zone, or a date alone, is UTC; a number counts seconds since 1970.
fn parse_time(value: &Value) -> Option<DateTime<Utc>> {
    let text = match value {
        Value::String(text) => text.trim(),
        Value::Number(seconds) => return DateTime::from_timestamp(seconds.as_i64()?, 0),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let civil = |format| NaiveDateTime::parse_from_str(text, format).ok();
    let date = || Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN));
    let with_zone = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    with_zone.or_else(|| {
        civil("%Y-%m-%d %H:%M:%S%.f")
            .or_else(|| civil("%Y-%m-%dT%H:%M:%S%.f"))
            .or_else(|| civil("%Y-%m-%d %H:%M"))
            .or_else(date)
            .map(|at| at.and_utc())
    })
}

/// The items and texts that a pipeline is working on; each skill changes it for the next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// In the order in which they will be posted.
    pub entries: Vec<Entry>,
}

/// An item, and where it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The item.
    pub item: Item,
    /// What comes with the text on platforms that know it, by their name in
    /// [`PostContent::extras`](botticelli_server::post::PostContent::extras).
    pub extras: BTreeMap<String, Extra>,
    /// Where it goes. An entry that goes nowhere is taken out.
    pub deliveries: Vec<Delivery>,
    /// It was posted before, and is posted again on purpose. Otherwise the run is made anew if another run of the task
    /// posts the item first.
    pub again: bool,
}

/// What comes with a message on one platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Extra {
    /// With its first part.
    pub first: Value,
    /// With each part after it.
    pub others: Option<Value>,
    /// What there is to it that a message of several parts can't have.
    pub whole: Option<&'static str>,
}

/// One destination of an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Where.
    pub destination: Destination,
    /// The parts of the message there, once a skill has written them. Else the item's own text is posted.
    pub parts: Option<Vec<String>>,
    /// Not before this time.
    pub not_before: Option<DateTime<Utc>>,
    /// What is checked again when it is delivered.
    pub limits: DeliveryLimits,
}

impl Delivery {
    /// At once, without limits.
    pub fn to(destination: Destination) -> Self {
        Self { destination, parts: None, not_before: None, limits: DeliveryLimits::default() }
    }
}

//! What a pipeline works on.

use botticelli_server::limits::DeliveryLimits;
use botticelli_server::post::Destination;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

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

/// The items and texts that a pipeline is working on; each skill changes it for the next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// In the order in which they will be posted.
    pub entries: Vec<Entry>,
}

/// An item, the text made of it, and where it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The item.
    pub item: Item,
    /// The parts of the message, once a skill has written them. Else the item's own text is posted.
    pub parts: Option<Vec<String>>,
    /// Where it goes. An entry that goes nowhere is taken out.
    pub deliveries: Vec<Delivery>,
}

/// One destination of an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Where.
    pub destination: Destination,
    /// Not before this time.
    pub not_before: Option<DateTime<Utc>>,
    /// What is checked again when it is delivered.
    pub limits: DeliveryLimits,
}

//! Knowledge of what a run is about: the event, or the events, that asked for it.

use super::key_text;
use crate::draft::Item;
use crate::skill::ActorContext;
use botticelli_server::server::GatheredEvents;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What arrived at one of the task's triggers: an item for each event of the run, with the fields of its body. A run that a
/// person asked for has its parameters as the one item; a run of the schedule has none.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventConfig {
    /// The field of the body that an item is known by. Default: the event's own id, so that each event is another item.
    pub(super) key: Option<String>,
}

/// The items of a run.
pub(super) fn items(source: &str, key: Option<&str>, context: &ActorContext) -> Result<Vec<Item>, String> {
    let asked = &context.parameters;
    let bodies: Vec<(String, Value)> = match serde_json::from_value::<GatheredEvents>(asked.clone()) {
        Ok(gathered) => gathered.events.into_iter().map(|event| (event.key, event.body)).collect(),
        Err(_) if asked.as_object().is_none_or(Map::is_empty) => Vec::new(),
        Err(_) => vec![(context.scheduled_for.to_rfc3339(), asked.clone())],
    };
    let item = |(own, body): (String, Value)| {
        let fields = match body {
            Value::Object(fields) => fields,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        let item_key = match key {
            None => own,
            Some(key) => fields
                .get(key)
                .and_then(key_text)
                .ok_or_else(|| format!("the event has no {key:?}, which is its key"))?,
        };
        Ok(Item { source: source.to_owned(), key: item_key, fields })
    };
    let items: Vec<Item> = bodies.into_iter().map(item).collect::<Result<_, String>>()?;
    let mut latest: Vec<Item> = Vec::new();
    // Of several events about the same thing the last one tells how it is.
    for item in items {
        latest.retain(|other| other.key != item.key);
        latest.push(item);
    }
    Ok(latest)
}

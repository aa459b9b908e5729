//! What makes a task run besides its schedule.

mod after;
mod postgres;
mod webhook;

pub use after::AfterSection;
pub(super) use after::{Named, wrong_afters};
pub use postgres::{Channel, PostgresSection};
pub use webhook::{Condition, Sender, Webhook, WebhookSection, standard_key};

use super::read::{Fault, KeyPath};
use super::server_file::ActorInstanceConfig;
use super::within::Within;
use botticelli_database::DatabaseUrl;
use botticelli_server::after::After;
use botticelli_server::server::Gathering;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

type Seconds = Within<1, 86_400>;
type BatchSize = Within<1, 1_000>;
type MostWaiting = Within<1, 10_000>;

/// One `[[actors.triggers]]` entry.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TriggerSection {
    /// An event that is handed in over HTTP.
    Webhook(WebhookSection),
    /// The end of another task's run.
    After(AfterSection),
    /// A notification of PostgreSQL.
    Postgres(PostgresSection),
}

/// What makes a task run besides its schedule, as the rest of the program takes it.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    pub(super) webhooks: Vec<Webhook>,
    pub(super) after: Vec<After>,
    pub(super) channels: Vec<Channel>,
}

/// The triggers of a task. `known`: the webhooks of tasks before it; `own`: the server's database, as far as it is known.
pub(super) fn triggers(
    config: &ActorInstanceConfig,
    known: &[Webhook],
    own: Option<&DatabaseUrl>,
) -> Result<Triggers, Vec<Fault>> {
    let (mut found, mut faults) = (Triggers::default(), Vec::new());
    for (index, section) in config.triggers.iter().enumerate() {
        let wrong = match section {
            TriggerSection::Webhook(section) => {
                webhook::add(section, &config.name, known, &mut found.webhooks)
            }
            TriggerSection::After(section) => after::add(section, &mut found.after),
            TriggerSection::Postgres(section) => {
                postgres::add(section, &config.name, own, &mut found.channels)
            }
        };
        let entry = KeyPath::entry("triggers", index);
        faults.extend(wrong.into_iter().map(|fault| {
            let message = format!("{entry}: {}", fault.message);
            Fault { message, ..fault.within(entry.clone()) }
        }));
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

/// The keys that say which events share a run.
struct Together {
    debounce: Option<Seconds>,
    batch: Option<Seconds>,
    batch_max: Option<BatchSize>,
}

impl Together {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.debounce.is_some() && self.batch.is_some() {
            let fault = Fault::new("batch_seconds", "debounce_seconds and batch_seconds are both given");
            faults.push(fault.hint("the first runs for the last event only, the second for all of them"));
        }
        if self.batch_max.is_some() && self.batch.is_none() {
            faults.push(Fault::new("batch_max", "batch_max needs batch_seconds beside it"));
        }
        faults
    }

    fn gathering(&self) -> Gathering {
        match (self.debounce, self.batch) {
            (Some(quiet), _) => Gathering::Last { quiet: quiet.seconds() },
            (None, Some(within)) => Gathering::All {
                within: within.seconds(),
                most: self.batch_max.unwrap_or(Within::of::<100>()).count(),
            },
            (None, None) => Gathering::Each,
        }
    }
}

/// The filter of a trigger whose events have no headers: values by JSON pointer.
fn pointers(filter: &BTreeMap<String, toml::Value>, faults: &mut Vec<Fault>) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for (key, value) in filter {
        let path = || KeyPath::from("filter").key(key);
        if !key.starts_with('/') {
            let message = format!("filter: {key:?} is no JSON pointer");
            let hint = format!("it begins with a slash: filter = {{ \"/{key}\" = … }}");
            faults.push(Fault::new(path(), message).hint(hint));
            continue;
        }
        match scalar(key, value) {
            Ok(value) => drop(found.insert(key.clone(), value)),
            Err(message) => faults.push(Fault::new(path(), message)),
        }
    }
    found
}

/// What a place of a body is compared with.
fn scalar(key: &str, value: &toml::Value) -> Result<Value, String> {
    match serde_json::to_value(value) {
        Ok(value) if !matches!(value, Value::Array(_) | Value::Object(_)) => Ok(value),
        Ok(_) | Err(_) => Err(format!("filter: {key:?} is compared with a text, a number, true or false")),
    }
}

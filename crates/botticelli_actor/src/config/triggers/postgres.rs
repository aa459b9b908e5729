//! Channels of PostgreSQL whose notifications run tasks.

use super::super::read::Fault;
use super::super::within::Within;
use super::{BatchSize, MostWaiting, Seconds, Together, pointers};
use botticelli_database::{DatabaseUrl, is_own_channel};
use botticelli_server::ids::TaskId;
use botticelli_server::server::Gathering;
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// A notification of PostgreSQL (`NOTIFY`) runs the task, with the payload as knowledge of type `event`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSection {
    /// The channel: 1-63 of the characters `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`, exactly as it is notified. `NOTIFY` turns
    /// a name that is not quoted into lower case.
    pub(super) channel: String,
    /// The database. Default: the server's own, which is PostgreSQL then.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) database: Option<SecretString>,
    /// Notifications are lost while nobody listens. Whether the task runs, too, when that was so, to look for what it
    /// missed: its event has the one field `gap`, with `from` and `to`.
    #[serde(default)]
    pub(super) run_after_gap: bool,
    /// Only payloads for which all of this holds. A key is a JSON pointer into the payload; the value there is exactly
    /// this one.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Value>")]
    pub(super) filter: BTreeMap<String, toml::Value>,
    /// Notifications that follow each other within so long are one run, for the last of them. A stream that never pauses
    /// is run after ten times as long.
    #[serde(default)]
    pub(super) debounce_seconds: Option<Seconds>,
    /// Notifications that come within so long after a first one are one run, for all of them.
    #[serde(default)]
    pub(super) batch_seconds: Option<Seconds>,
    /// With `batch_seconds`: at so many notifications the run starts at once.
    #[serde(default)]
    pub(super) batch_max: Option<BatchSize>,
    /// With so many runs of the task waiting for their turn, others are left out: the history says so.
    #[serde(default = "Within::<1, 10_000>::of::<100>")]
    pub(super) max_waiting: MostWaiting,
}

/// A channel, as the rest of the program takes it.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Whose notifications; `None`: those of the server's own database.
    pub database: Option<SecretString>,
    /// Who reacts.
    pub task: TaskId,
    /// Whether it runs, too, after nobody has listened.
    pub run_after_gap: bool,
    /// Which payloads are meant: values by JSON pointer.
    pub filter: BTreeMap<String, Value>,
    /// Which of them share a run.
    pub gathering: Gathering,
    /// How many runs may wait.
    pub max_waiting: NonZeroU32,
}

impl Channel {
    /// What its events come from.
    pub fn source(&self) -> String {
        format!("channel {}", self.name)
    }

    /// Whether the payload is meant.
    pub fn wants(&self, payload: &Value) -> bool {
        self.filter.iter().all(|(pointer, wanted)| payload.pointer(pointer) == Some(wanted))
    }
}

/// Adds what the section says to those of the task; returns what is wrong with it.
pub(super) fn add(
    section: &PostgresSection,
    task: &TaskId,
    own: Option<&DatabaseUrl>,
    found: &mut Vec<Channel>,
) -> Vec<Fault> {
    let PostgresSection {
        channel,
        database,
        run_after_gap,
        filter,
        debounce_seconds,
        batch_seconds,
        batch_max,
        max_waiting,
    } = section;
    let together = Together { debounce: *debounce_seconds, batch: *batch_seconds, batch_max: *batch_max };
    let mut faults = together.faults();
    faults.extend(wrong_name(channel));
    faults.extend(wrong_database(database.as_ref(), own));
    let same = |other: &&Channel| {
        let url =
            |database: &Option<SecretString>| database.as_ref().map(|url| url.expose_secret().to_owned());
        other.name == *channel && url(&other.database) == url(database)
    };
    if found.iter().any(|other| same(&other)) {
        faults
            .push(Fault::new("channel", format!("the task has another trigger for the channel {channel:?}")));
    }
    found.push(Channel {
        name: channel.clone(),
        database: database.clone(),
        task: task.clone(),
        run_after_gap: *run_after_gap,
        filter: pointers(filter, &mut faults),
        gathering: together.gathering(),
        max_waiting: max_waiting.count(),
    });
    faults
}

fn wrong_name(name: &str) -> Option<Fault> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !(1..=63).contains(&name.len()) || !name.chars().all(allowed) {
        let message = format!("channel is {name:?} (allowed: 1-63 of a-z, A-Z, 0-9, \".\", \"_\" and \"-\")");
        return Some(Fault::new("channel", message).hint("channel = \"orders\" hears NOTIFY orders"));
    }
    is_own_channel(name).then(|| {
        let fault = Fault::new("channel", format!("channel {name:?} is the servers' own"));
        fault.hint("they wake each other on it, with every event, too: choose another name")
    })
}

fn wrong_database(named: Option<&SecretString>, own: Option<&DatabaseUrl>) -> Option<Fault> {
    let example = "database = \"postgres://user@host/database\" names one that does";
    match named.map(|url| DatabaseUrl::parse(url.expose_secret())) {
        Some(Ok(DatabaseUrl::Postgres(_))) => None,
        Some(Ok(DatabaseUrl::Sqlite(_))) => {
            Some(Fault::new("database", "database is SQLite, which sends no notifications").hint(example))
        }
        Some(Err(error)) => Some(Fault::new("database", format!("database {}", error.problem)).hint(example)),
        None => matches!(own, Some(DatabaseUrl::Sqlite(_))).then(|| {
            let message = "the server's own database is SQLite, which sends no notifications";
            Fault::new("channel", message).hint(example)
        }),
    }
}

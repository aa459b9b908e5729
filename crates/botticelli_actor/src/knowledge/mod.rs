//! Knowledge: named sources of items.

mod database;
mod event;
mod file;

use crate::config::actor_file::{CacheSection, KnowledgeSection};
use crate::config::{ActorFile, Fault, KeyPath, read};
use crate::draft::Item;
use crate::names::unknown;
use crate::skill::{ActorContext, Knowledge, SkillError};
use async_trait::async_trait;
use botticelli_database::Condition;
use chrono::{DateTime, TimeDelta, Utc};
use database::DatabaseSource;
pub use database::{QueryConfig, TableConfig};
pub use event::EventConfig;
pub use file::FileConfig;
use file::{FileSource, json_fields};
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Items written into the actor file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InlineConfig {
    /// The field that an item is known by. Default: `id` where an item has it, else a hash of its content.
    key: Option<String>,
    /// The items: tables, or texts, which are items with the one field `text`.
    items: Vec<InlineItem>,
}

/// An item of an inline source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "an item is a text or a table")]
enum InlineItem {
    /// An item with the one field `text`.
    Text(String),
    /// An item with these fields.
    Fields(#[schemars(with = "Map<String, Value>")] toml::Table),
}

/// The fields of an item, before it has a key.
type Fields = Map<String, Value>;

/// All knowledge of an actor.
#[derive(Default)]
pub struct KnowledgeSet {
    sources: BTreeMap<String, Source>,
    cache: Option<Cache>,
}

struct Source {
    key: Option<String>,
    reader: Reader,
}

enum Reader {
    Database(Box<DatabaseSource>),
    File(FileSource),
    Inline(Vec<Fields>),
    /// What the run is about.
    Event,
}

impl KnowledgeSet {
    /// Makes the sources of an actor; reads nothing. Files are looked up from the actor file's folder; a table or query
    /// that names no database reads `own_database_url`.
    ///
    /// # Errors
    /// All that can be seen to be wrong without reading.
    pub fn build(actor: &ActorFile, own_database_url: &str) -> Result<Self, Vec<Fault>> {
        let mut set = Self { sources: BTreeMap::new(), cache: Cache::new(&actor.cache) };
        let (mut faults, mut names) = (Vec::new(), HashSet::new());
        for (index, section) in actor.knowledge.iter().enumerate() {
            let mut wrong = Vec::new();
            if !names.insert(&section.name) {
                let message = format!("name: there is another knowledge source {:?}", section.name);
                wrong.push(Fault::new("name", message));
            }
            match Source::build(section, &actor.folder, own_database_url) {
                Ok(source) => drop(set.sources.insert(section.name.clone(), source)),
                Err(more) => wrong.extend(more),
            }
            faults.extend(wrong.into_iter().map(|fault| fault.within(KeyPath::entry("knowledge", index))));
        }
        if faults.is_empty() { Ok(set) } else { Err(faults) }
    }
}

/// What is wrong with what the sources of an actor read, as far as it shows without a run: files are read whole, queries
/// are only understood. Settings that are wrong are left to [`KnowledgeSet::build`]. `own` says how the server's own
/// database stands; `None`: it can't be asked, which is known already.
pub async fn check_content(actor: &ActorFile, own_database_url: &str, own: Option<Condition>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, section) in actor.knowledge.iter().enumerate() {
        let Ok(source) = Source::build(section, &actor.folder, own_database_url) else { continue };
        if matches!(source.reader, Reader::Database(_)) && !section.settings.contains_key("database") {
            let own_tables = section.settings.values().any(|text| is_servers_own(&text.to_string()));
            if own.is_none() || (own == Some(Condition::New) && own_tables) {
                continue;
            }
        }
        let key = match &source.reader {
            Reader::Database(_) => section.kind.as_str(),
            Reader::File(_) => "path",
            Reader::Inline(_) | Reader::Event => "items",
        };
        let fault = |problem| {
            let message = format!("knowledge {:?}: {problem}", section.name);
            Fault::new(key, message).within(KeyPath::entry("knowledge", index))
        };
        faults.extend(source.check(&section.name).await.into_iter().map(fault));
    }
    faults
}

/// What the actor's file comes to on a new database of the server's: its tables are there, and empty.
pub fn on_a_new_database(actor: &ActorFile) -> ActorFile {
    let mut actor = actor.clone();
    for section in &mut actor.knowledge {
        let reads_own_table = section.kind == "table"
            && !section.settings.contains_key("database")
            && section.settings.get("table").and_then(toml::Value::as_str).is_some_and(is_servers_own);
        if reads_own_table {
            section.kind = "inline".to_owned();
            section.settings = toml::Table::from_iter([("items".to_owned(), toml::Value::Array(Vec::new()))]);
        }
    }
    actor
}

/// Whether a table, or a query, is about the tables that the server makes.
fn is_servers_own(text: &str) -> bool {
    text.contains("actor_server_")
}

/// The kinds of sources, and the schemas of their settings.
pub fn schemas() -> [(&'static str, Schema); 5] {
    [
        ("table", schema_for!(TableConfig)),
        ("query", schema_for!(QueryConfig)),
        ("file", schema_for!(FileConfig)),
        ("inline", schema_for!(InlineConfig)),
        ("event", schema_for!(EventConfig)),
    ]
}

impl Source {
    fn build(section: &KnowledgeSection, folder: &Path, own_database_url: &str) -> Result<Self, Vec<Fault>> {
        let settings = &section.settings;
        let one = |fault| vec![fault];
        match section.kind.as_str() {
            "table" => {
                let config: TableConfig = read(settings)?;
                let reader = DatabaseSource::table(&config, own_database_url).map_err(one)?;
                Ok(Self { key: config.key, reader: Reader::Database(Box::new(reader)) })
            }
            "query" => {
                let config: QueryConfig = read(settings)?;
                let reader = DatabaseSource::query(&config, own_database_url).map_err(one)?;
                Ok(Self { key: config.key, reader: Reader::Database(Box::new(reader)) })
            }
            "file" => {
                let config: FileConfig = read(settings)?;
                let reader = FileSource::new(&config, folder).map_err(one)?;
                Ok(Self { key: config.key, reader: Reader::File(reader) })
            }
            "inline" => {
                let config: InlineConfig = read(settings)?;
                let items = config.items.iter().map(fields).collect();
                Ok(Self { key: config.key, reader: Reader::Inline(items) })
            }
            "event" => {
                let config: EventConfig = read(settings)?;
                Ok(Self { key: config.key, reader: Reader::Event })
            }
            kind => {
                let (message, hint) = unknown("type", kind, schemas().iter().map(|(kind, _)| *kind));
                Err(vec![Fault::new("type", format!("type: {message}")).hint(hint)])
            }
        }
    }
}

impl Source {
    /// What is wrong with what it reads.
    async fn check(self, name: &str) -> Vec<String> {
        let read = match self.reader {
            Reader::Database(source) => {
                return source.check().await.err().map(|error| error.to_string()).into_iter().collect();
            }
            Reader::File(source) => {
                let read = tokio::task::spawn_blocking(move || source.check()).await;
                read.unwrap_or_else(|error| Err(vec![format!("reading was cut short: {error}")]))
            }
            Reader::Inline(items) => Ok(items),
            Reader::Event => return Vec::new(),
        };
        match read {
            Ok(items) => keyed(name, self.key.as_deref(), items).err().into_iter().collect(),
            Err(problems) => problems,
        }
    }
}

fn fields(item: &InlineItem) -> Fields {
    match item {
        InlineItem::Text(text) => Map::from_iter([("text".to_owned(), Value::String(text.clone()))]),
        InlineItem::Fields(fields) => json_fields(fields.clone()),
    }
}

#[async_trait]
impl Knowledge for KnowledgeSet {
    fn names(&self) -> Vec<String> {
        self.sources.keys().cloned().collect()
    }

    async fn items(&self, name: &str, context: &ActorContext) -> Result<Arc<Vec<Item>>, SkillError> {
        let Some(source) = self.sources.get(name) else {
            let (message, hint) = unknown("knowledge source", name, self.sources.keys().map(String::as_str));
            return Err(SkillError::Unrecoverable(format!("{message} ({hint})")));
        };
        let about = |error: SkillError| match error {
            SkillError::Recoverable(error) => SkillError::Recoverable(format!("knowledge {name:?}: {error}")),
            SkillError::Unrecoverable(error) => {
                SkillError::Unrecoverable(format!("knowledge {name:?}: {error}"))
            }
        };
        if let Reader::Event = source.reader {
            let items = event::items(name, source.key.as_deref(), context);
            return items.map(Arc::new).map_err(SkillError::Unrecoverable).map_err(about);
        }
        let read = async {
            let fields = source.reader.read(context).await?;
            keyed(name, source.key.as_deref(), fields).map(Arc::new).map_err(SkillError::Unrecoverable)
        };
        match &self.cache {
            None => read.await.map_err(about),
            Some(cache) => {
                let now = context.clock.now();
                let key = (name.to_owned(), source.reader.depends_on(context).map_err(about)?);
                if let Some(items) = cache.get(&key, now) {
                    return Ok(items);
                }
                let items = read.await.map_err(about)?;
                cache.put(key, items.clone(), now);
                Ok(items)
            }
        }
    }
}

impl Reader {
    async fn read(&self, context: &ActorContext) -> Result<Vec<Fields>, SkillError> {
        match self {
            Self::Database(source) => source.read(context).await,
            Self::File(source) => source.read().await,
            Self::Inline(items) => Ok(items.clone()),
            Self::Event => Ok(Vec::new()),
        }
    }

    /// What of the context the result depends on.
    fn depends_on(&self, context: &ActorContext) -> Result<String, SkillError> {
        match self {
            Self::Database(source) => source.depends_on(context),
            Self::File(_) | Self::Inline(_) | Self::Event => Ok(String::new()),
        }
    }
}

/// Gives each item its key. Of items that are the same in everything one is left.
fn keyed(source: &str, key: Option<&str>, items: Vec<Fields>) -> Result<Vec<Item>, String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut keyed: Vec<Item> = Vec::new();
    for (index, fields) in items.into_iter().enumerate() {
        let own = fields.get(key.unwrap_or("id")).and_then(key_text);
        let item_key = match (own, key) {
            (Some(own), _) => own,
            (None, None) => content_hash(&fields),
            (None, Some(key)) => return Err(format!("item {} has no {key:?}, which is its key", index + 1)),
        };
        match seen.get(&item_key) {
            Some(other) if keyed[*other].fields == fields => continue,
            Some(other) => {
                let column = key.unwrap_or("id");
                let other = other + 1;
                let index = index + 1;
                return Err(format!(
                    "items {other} and {index} have the same {column}, {item_key:?}, but are not the same"
                ));
            }
            None => {}
        }
        seen.insert(item_key.clone(), keyed.len());
        keyed.push(Item { source: source.to_owned(), key: item_key, fields });
    }
    Ok(keyed)
}

fn key_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The same for the same content, in whatever order the fields stand.
fn content_hash(fields: &Fields) -> String {
    fn write(value: &Value, text: &mut String) {
        match value {
            Value::Object(fields) => {
                let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
                text.push('{');
                for (name, value) in sorted {
                    text.push_str(&Value::from(name.as_str()).to_string());
                    text.push(':');
                    write(value, text);
                    text.push(',');
                }
                text.push('}');
            }
            Value::Array(values) => {
                text.push('[');
                for value in values {
                    write(value, text);
                    text.push(',');
                }
                text.push(']');
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                text.push_str(&value.to_string())
            }
        }
    }
    let mut text = String::new();
    write(&Value::Object(fields.clone()), &mut text);
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What was read, by source and by what the result depends on.
struct Cache {
    ttl: TimeDelta,
    max_entries: usize,
    entries: Mutex<HashMap<CacheKey, Cached>>,
}

type CacheKey = (String, String);

struct Cached {
    read_at: DateTime<Utc>,
    items: Arc<Vec<Item>>,
}

impl Cache {
    fn new(config: &CacheSection) -> Option<Self> {
        let ttl = TimeDelta::from_std(config.ttl()?).unwrap_or(TimeDelta::MAX);
        let max_entries = config.max_entries.count().get() as usize;
        Some(Self { ttl, max_entries, entries: Mutex::default() })
    }

    fn get(&self, key: &CacheKey, now: DateTime<Utc>) -> Option<Arc<Vec<Item>>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not keep an entry alive.
        entries.retain(|_, entry| (now - entry.read_at).abs() < self.ttl);
        entries.get(key).map(|entry| entry.items.clone())
    }

    fn put(&self, key: CacheKey, items: Arc<Vec<Item>>, read_at: DateTime<Utc>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert(key, Cached { read_at, items });
        while entries.len() > self.max_entries {
            let oldest =
                entries.iter().min_by_key(|(key, entry)| (entry.read_at, *key)).map(|(key, _)| key.clone());
            oldest.map(|key| entries.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests;

//! Tasks that are made over the API: an entry with the keys of an `[[actors]]` entry, but for `actor` in the place of
//! `config_file`, and without triggers. What goes for the one goes for the other, in the same words.

use super::actor_file::ActorFile;
use super::discord::{BotPost, Webhooks};
use super::load::LoadedConfig;
use super::read::{Fault, KeyPath, Step};
use super::server_file::{ActorInstanceConfig, PlatformName, ServerSettings};
use super::task;
use crate::names::unknown;
use botticelli_server::ids::ActorName;
use botticelli_server::post::Destination;
use botticelli_server::task::Task;
use schemars::{JsonSchema as _, SchemaGenerator};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use toml::Table;

/// The key that names the actor.
const ACTOR: &str = "actor";
/// What an entry of the file has, and one of the API has not.
const OF_THE_FILE: [(&str, &str); 2] = [
    ("config_file", "`actor` names one of the actors that the server's file has loaded"),
    ("triggers", "a task with triggers is written in the server's file"),
];

/// What tasks can be made of while the server runs.
#[derive(Debug, Clone, Default)]
pub struct Makings {
    /// The server's file.
    file: PathBuf,
    settings: ServerSettings,
    webhooks: Webhooks,
    /// With what stands in their files.
    actors: BTreeMap<ActorName, (ActorFile, Table)>,
}

/// A task made over the API, as this node has it.
#[derive(Debug, Clone)]
pub struct FromApi {
    /// The task.
    pub task: Task,
    /// Where it posts as the bot, if it is enabled.
    pub bot_posts: Vec<BotPost>,
    /// The key that says the first of those.
    pub first_bot_post: Option<KeyPath>,
}

impl Makings {
    pub(super) fn new(
        file: PathBuf,
        config: &LoadedConfig,
        actors: impl Iterator<Item = (ActorFile, Table)>,
    ) -> Self {
        Self {
            file,
            settings: config.settings.clone(),
            webhooks: config.discord.webhooks.clone(),
            actors: actors.map(|(file, content)| (file.actor.name.clone(), (file, content))).collect(),
        }
    }

    /// The server's file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The task that `entry` comes to on this node.
    ///
    /// # Errors
    /// All that is wrong with it, each at its key.
    pub fn make(&self, entry: &Table) -> Result<FromApi, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut table = entry.clone();
        for (key, hint) in OF_THE_FILE {
            if table.remove(key).is_some() {
                faults.push(Fault::new(key, format!("{key} is not a known key here")).hint(hint));
            }
        }
        let actor = self.actor(table.remove(ACTOR)).map_err(|fault| faults.push(fault)).ok();
        let schedule = task::schedule(&table).map_err(|wrong| faults.extend(wrong)).ok();
        // Read as an entry of the file, which names its actor so.
        table.insert("config_file".to_owned(), "".into());
        let (config, wrong) = task::entry(&table);
        let is_wrong = |keys: &[&str]| keys.iter().any(|key| wrong.iter().any(|at| at.path.begins_with(key)));
        let knows_places = !is_wrong(&["platform", "destination", "channel_id", "destinations"]);
        let knows_backoff = !is_wrong(&["backoff_initial_seconds", "backoff_max_seconds"]);
        faults.extend(wrong);
        let Some(config) = config else { return Err(faults) };
        faults.extend(task::wrong_name(config.name.as_str()));
        let places = if knows_places { self.places(&config) } else { Ok(Vec::new()) };
        let places = places.map_err(|wrong| faults.extend(wrong)).unwrap_or_default();
        let execution = actor.map(|(file, _)| &file.execution);
        let policy = task::policy(&config, &self.settings, execution);
        if knows_backoff {
            faults.extend(task::wrong_backoff(&KeyPath::default(), &policy.backoff));
        }
        let (Some((file, content)), Some(schedule), true) = (actor, schedule, faults.is_empty()) else {
            return Err(faults);
        };
        let bot_posts = bot_posts(&config, &places);
        let first_bot_post =
            bot_posts.first().and_then(|_| places.iter().find(as_bot)).map(|(path, _)| path.clone());
        let destinations = places.into_iter().map(|(_, place)| place).collect();
        let found = task::Found { schedule, policy, destinations, after: Vec::new() };
        let task = task::task(config, found, &table, &file.actor.name, content, &self.settings);
        // A hash is never refused.
        task.map(|task| FromApi { task, bot_posts, first_bot_post }).ok_or_else(Vec::new)
    }

    fn actor(&self, named: Option<toml::Value>) -> Result<&(ActorFile, Table), Fault> {
        let named = named.ok_or_else(|| {
            Fault::new(ACTOR, "actor is missing").hint("GET /actors lists those that the server has loaded")
        })?;
        let Some(name) = named.as_str() else {
            return Err(Fault::new(ACTOR, "actor is no text (allowed: the name of an actor)"));
        };
        let known = self.actors.iter().find(|(known, _)| known.as_str() == name);
        known.map(|(_, actor)| actor).ok_or_else(|| {
            let (message, hint) = unknown("actor", name, self.actors.keys().map(ActorName::as_str));
            Fault::new(ACTOR, format!("actor: {message}")).hint(hint)
        })
    }

    /// Where the task posts, each place with where it is written.
    fn places(&self, config: &ActorInstanceConfig) -> Result<Vec<(KeyPath, Destination)>, Vec<Fault>> {
        let around = task::Around { beside: &|file| self.beside(file), webhooks: Some(&self.webhooks) };
        let places = task::destinations(config, &around)?;
        let faults: Vec<Fault> =
            places.iter().filter_map(|(path, place)| self.forbidden(path, place)).collect();
        if faults.is_empty() { Ok(places) } else { Err(faults) }
    }

    fn folder(&self) -> PathBuf {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
    }

    fn beside(&self, file: &str) -> PathBuf {
        let path = self.file.parent().unwrap_or(Path::new("")).join(file);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Who may make tasks need not be who may write any file of this machine.
    fn forbidden(&self, path: &KeyPath, place: &Destination) -> Option<Fault> {
        if place.platform != PlatformName::File.as_str() {
            return None;
        }
        let target = Path::new(&place.target);
        let within = target.strip_prefix(self.folder()).is_ok_and(|rest| {
            rest.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        });
        let is_lines = target.extension().is_some_and(|extension| extension == "jsonl");
        let message = format!("{path} can't be chosen over the API");
        let hint = "a name such as \"posts.jsonl\": a file that ends in .jsonl, in or below the folder of the server's file";
        (!within || !is_lines).then(|| Fault::new(path.clone(), message).hint(hint))
    }
}

fn as_bot((_, to): &&(KeyPath, Destination)) -> bool {
    to.platform == PlatformName::Discord.as_str()
}

fn bot_posts(config: &ActorInstanceConfig, places: &[(KeyPath, Destination)]) -> Vec<BotPost> {
    let post = |(_, to): &(KeyPath, Destination)| BotPost {
        task: config.name.clone(),
        channel: to.target.clone(),
        place: "made over the API".to_owned(),
        line: None,
    };
    if config.enabled { places.iter().filter(as_bot).map(post).collect() } else { Vec::new() }
}

/// The entry that `json` says, in the form that files have too: what is null is left out.
///
/// # Errors
/// What a file could not say.
pub fn table_of(json: &Value) -> Result<Table, Vec<Fault>> {
    match toml_of(json, &KeyPath::default()) {
        Ok(Some(toml::Value::Table(table))) => Ok(table),
        Ok(_) => Err(vec![Fault::new(KeyPath::default(), "is no object")]),
        Err(fault) => Err(vec![fault]),
    }
}

fn toml_of(json: &Value, path: &KeyPath) -> Result<Option<toml::Value>, Fault> {
    Ok(Some(match json {
        Value::Null => return Ok(None),
        Value::Bool(value) => (*value).into(),
        Value::String(text) => text.as_str().into(),
        // What is too large for a file is no whole number there, and is refused as such.
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::Array(items) => {
            let item = |(index, item): (usize, &Value)| {
                let path = KeyPath([path.0.as_slice(), &[Step::Index(index)]].concat());
                toml_of(item, &path)?.ok_or_else(|| Fault::new(path.clone(), format!("{path} is null")))
            };
            toml::Value::Array(items.iter().enumerate().map(item).collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => {
            let mut table = Table::new();
            for (key, value) in fields {
                if let Some(value) = toml_of(value, &path.key(key))? {
                    table.insert(key.clone(), value);
                }
            }
            table.into()
        }
    }))
}

/// What an entry looks like. `needed` are its keys that must be there.
pub fn schema_of_entry(generator: &mut SchemaGenerator, needed: &[&str]) -> Value {
    let mut schema = ActorInstanceConfig::json_schema(generator).to_value();
    if let Some(properties) = schema["properties"].as_object_mut() {
        for (key, _) in OF_THE_FILE {
            properties.remove(key);
        }
        let about =
            "The name of one of the actors that the server's file has loaded: `GET /actors` lists them.";
        let mut actor = generator.subschema_for::<ActorName>().to_value();
        actor["description"] = about.into();
        properties.insert(ACTOR.to_owned(), actor);
        if let Some(schedule) = properties.get_mut("schedule").and_then(Value::as_object_mut) {
            schedule.remove("default");
            schedule.insert("description".to_owned(), "When the task is due.".into());
        }
    }
    schema["description"] =
        "A task: what an `[[actors]]` entry says, of an actor that the server has loaded.".into();
    schema["required"] = json!(needed);
    schema
}

//! Loads all files, and turns them into tasks.

use super::actor_file::{ActorFile, ActorSection, CacheSection, ExecutionSection};
use super::alerts::{self, AlertSection};
use super::api::{self, ApiSettings};
use super::api_task::Makings;
use super::discord::{self, BotPost, DiscordSettings};
use super::document::Document;
use super::env::Environment;
use super::files::Files;
use super::problem::{Problem, Problems};
use super::read::{Fault, KeyPath, Step, read_what_is_right};
use super::server_file::{
    ActorInstanceConfig, ActorServerConfig, CatchUpMode, DEFAULT_DATABASE_URL, PlatformName, ServerSettings,
};
use super::task;
use super::traces::{self, TraceSettings};
use super::triggers::{self, Channel, Named, TriggerSection, Triggers, Webhook};
use crate::alerts::{AlertSettings, HeartbeatSettings};
use botticelli_database::DatabaseUrl;
use botticelli_server::after::After;
use botticelli_server::ids::{ActorName, TaskId};
use botticelli_server::post::Destination;
use botticelli_server::task::{Backoff, Task};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::{Table, Value};

/// The keys that say how long to wait after failures.
const BACKOFF: [&str; 2] = ["backoff_initial_seconds", "backoff_max_seconds"];

/// What the command line says. It wins over the file.
#[derive(Debug, Clone)]
pub struct Given {
    /// The server's file.
    pub config: PathBuf,
    /// Where the database is, from a flag or the environment.
    pub database_url: Option<SecretString>,
    /// The bot's token, from a flag or the environment.
    pub discord_token: Option<SecretString>,
}

/// What is checked by those who know: what actors are made of, and, where it is asked for, what they need around them.
pub trait Check {
    /// What is wrong with the knowledge and the skills of an actor's file. Paths are those of the whole file
    /// (`skills[1].limit`): see [`KeyPath::entry`] and [`Fault::within`]. Gets the server's database URL, which sources
    /// that name none read.
    fn actor(&self, file: &ActorFile, database_url: &SecretString) -> Vec<Fault>;

    /// What is wrong with the place where a task posts.
    fn destination(&self, _destination: &Destination) -> Option<String> {
        None
    }

    /// What is wrong with the database, and a hint. It is asked first, about a URL that can be read.
    fn database(&self, _url: &SecretString) -> Option<(String, Option<&'static str>)> {
        None
    }
}

impl<F: Fn(&ActorFile, &SecretString) -> Vec<Fault>> Check for F {
    fn actor(&self, file: &ActorFile, database_url: &SecretString) -> Vec<Fault> {
        self(file, database_url)
    }
}

/// A configuration without a problem.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// How the server runs.
    pub settings: ServerSettings,
    /// The HTTP interface.
    pub api: ApiSettings,
    /// Where the database is. It may hold a password.
    pub database_url: SecretString,
    /// The bot's token.
    pub discord_token: Option<SecretString>,
    /// How Discord is reached.
    pub discord: DiscordSettings,
    /// Who is told when something is not as it should be.
    pub alerts: Vec<AlertSettings>,
    /// Who is called while all is well.
    pub heartbeat: Option<HeartbeatSettings>,
    /// Where traces go.
    pub traces: Option<TraceSettings>,
    /// Where enabled tasks post as the bot.
    pub bot_posts: Vec<BotPost>,
    /// The tasks, in the order of the file.
    pub tasks: Vec<Arc<Task>>,
    /// Where events come in.
    pub webhooks: Arc<[Webhook]>,
    /// Channels of PostgreSQL whose notifications run tasks.
    pub channels: Arc<[Channel]>,
    /// The actors that they run, each once.
    pub actors: Vec<ActorFile>,
    /// What else can be made of it while the server runs.
    pub makings: Arc<Makings>,
    /// What is not wrong, but probably not meant.
    pub warnings: Vec<String>,
}

impl LoadedConfig {
    /// The tasks that can't run here because there is no token, each once, with the problem.
    pub fn without_token(&self) -> Vec<(&TaskId, Problem)> {
        if self.discord_token.is_some() {
            return Vec::new();
        }
        let mut tasks = HashSet::new();
        let problems = self.bot_posts.iter().map(|post| (&post.task, post.without_token()));
        problems.filter(|(task, _)| tasks.insert(*task)).collect()
    }
}

/// Loads the server's file and all that it names. `check` is asked about each actor's file.
///
/// # Errors
/// All that is wrong in all files.
pub fn load(given: &Given, environment: &Environment, check: &dyn Check) -> Result<LoadedConfig, Problems> {
    load_noting(given, environment, check, &mut Files::default())
}

/// The same. `files` gets to know the files that were looked for, also when something is wrong with them.
///
/// # Errors
/// All that is wrong in all files.
pub fn load_noting(
    given: &Given,
    environment: &Environment,
    check: &dyn Check,
    files: &mut Files,
) -> Result<LoadedConfig, Problems> {
    let mut loader = Loader {
        environment,
        check,
        files,
        database_url: DEFAULT_DATABASE_URL.into(),
        discord: None,
        bot_posts: Vec::new(),
        webhooks: Vec::new(),
        channels: Vec::new(),
        afters: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
        actors: BTreeMap::new(),
    };
    loader.files.note(&given.config);
    let mut server = Document::load(&given.config, environment, &mut loader.problems).map_err(|problem| {
        let hint = "--config FILE names another file; examples/actor_server.toml is one to start from";
        if matches!(given.config.try_exists(), Ok(false)) { problem.hint(hint) } else { problem }
    })?;
    let root = std::mem::take(&mut server.root);
    let loaded = loader.server(&server, root, given);
    loader.one_name_each();
    match loaded {
        Some(loaded) if loader.problems.is_empty() => Ok(LoadedConfig {
            makings: Arc::new(Makings::new(
                given.config.clone(),
                &loaded,
                loader.actors.values().filter_map(|actor| Some((actor.file.clone()?, actor.content.clone()))),
            )),
            actors: loader.actors.into_values().filter_map(|actor| actor.file).collect(),
            bot_posts: loader.bot_posts,
            webhooks: loader.webhooks.into(),
            channels: loader.channels.into(),
            warnings: loader.warnings,
            ..loaded
        }),
        _ => Err(Problems(loader.problems)),
    }
}

struct Loader<'a> {
    environment: &'a Environment,
    check: &'a dyn Check,
    files: &'a mut Files,
    database_url: SecretString,
    /// `None` when the file can't be read.
    discord: Option<DiscordSettings>,
    bot_posts: Vec<BotPost>,
    webhooks: Vec<Webhook>,
    channels: Vec<Channel>,
    /// Which tasks run after which.
    afters: Vec<Named>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// By canonical path: however a task writes it, a file is loaded once.
    actors: BTreeMap<PathBuf, LoadedActor>,
}

struct LoadedActor {
    path: PathBuf,
    /// `None` when something is wrong with it.
    file: Option<ActorFile>,
    content: Table,
    name_line: Option<usize>,
}

impl Loader<'_> {
    fn server(&mut self, document: &Document, mut root: Table, given: &Given) -> Option<LoadedConfig> {
        let entries = entries(&mut root, "actors");
        self.check_brackets(document, &mut root);
        let (config, wrong) = self.read::<ActorServerConfig>(document, None, KeyPath::default(), &root);
        let is_wrong = |path: &KeyPath| {
            wrong.iter().any(|wrong| wrong.0.starts_with(&path.0) || path.0.starts_with(&wrong.0))
        };
        let settings = config.as_ref().map(|config| ServerSettings::from(&config.server)).unwrap_or_default();
        if !BACKOFF.iter().any(|key| is_wrong(&KeyPath::from("server").key(key))) {
            self.check_backoff(document, None, "server".into(), &settings.backoff);
        }
        let known_database = config.as_ref().filter(|_| !is_wrong(&"database".into()));
        let database_url = self.database_url(document, known_database, given);
        if let Some(url) = &database_url {
            self.database_url = url.clone();
        }
        let discord_token = self.discord_token(document, config.as_ref(), given);
        let api = self.api(document, config.as_ref());
        self.refuse_discord_if_left_out(document, &root);
        let alert_sections = config.as_ref().map(|config| config.alerts.clone()).unwrap_or_default();
        let alert_sections = if is_wrong(&"alerts".into()) { Vec::new() } else { alert_sections };
        let heartbeat = config.as_ref().map(|config| alerts::heartbeat(&config.heartbeat));
        let heartbeat = heartbeat.unwrap_or(Ok(None)).unwrap_or_else(|fault| {
            self.report(document, None, fault);
            None
        });
        let discord = config.map(|config| self.discord(document, config.discord.into()));
        self.discord = discord.filter(|_| !is_wrong(&KeyPath::from("discord").key("webhooks")));
        let alerts = self.alerts(document, &alert_sections, discord_token.is_some());
        let (traces, warnings) = traces::read(self.environment);
        self.warnings.extend(warnings);

        if entries.is_empty() {
            self.warn(document, "there are no [[actors]] entries: there is nothing to run");
        }
        let mut tasks = Vec::new();
        let mut names = HashMap::new();
        for (index, table) in entries.into_iter().enumerate() {
            let entry = Entry { document, path: KeyPath::entry("actors", index), table: &table };
            self.check_name(&entry, &mut names);
            tasks.extend(self.task(&entry, &settings).map(Arc::new));
        }
        self.check_afters(document, &names);
        self.warn_of_closed_doors(document, &api);
        self.check_alerted_actors(document, &alert_sections);
        Some(LoadedConfig {
            settings,
            api,
            database_url: database_url?,
            discord_token,
            discord: self.discord.clone().unwrap_or_default(),
            alerts,
            heartbeat,
            traces,
            bot_posts: Vec::new(),
            tasks,
            webhooks: Arc::default(),
            channels: Arc::default(),
            actors: Vec::new(),
            makings: Arc::default(),
            warnings: Vec::new(),
        })
    }

    /// `[actors]` for `[[actors]]` is easily written.
    fn check_brackets(&mut self, document: &Document, root: &mut Table) {
        if root.get("actors").is_some_and(Value::is_table) {
            root.remove("actors");
            let fault = Fault::new("actors", "actors is a table (allowed: an array)");
            self.report(document, None, fault.hint("write [[actors]], with two brackets"));
        }
    }

    fn database_url(
        &mut self,
        document: &Document,
        config: Option<&ActorServerConfig>,
        given: &Given,
    ) -> Option<SecretString> {
        if let Some(url) = &given.database_url {
            if let Some((message, hint)) = self.wrong_database(url) {
                let place = "--database-url (or DATABASE_URL)";
                let hint = hint.map(str::to_owned);
                self.problems.push(Problem { hint, ..Problem::with(place, message) });
            }
            return Some(url.clone());
        }
        let url = config?.database.url.clone().unwrap_or_else(|| DEFAULT_DATABASE_URL.into());
        if let Some((message, hint)) = self.wrong_database(&url) {
            let fault = Fault::new(KeyPath::from("database").key("url"), format!("database.url {message}"));
            self.report(document, None, Fault { hint: hint.map(str::to_owned), ..fault });
        }
        Some(url)
    }

    /// What is wrong with the database, and a hint.
    fn wrong_database(&self, url: &SecretString) -> Option<(String, Option<&'static str>)> {
        match DatabaseUrl::parse(url.expose_secret()) {
            Ok(_) => self.check.database(url),
            Err(error) => Some((error.problem, Some(DatabaseUrl::EXAMPLES))),
        }
    }

    fn discord_token(
        &mut self,
        document: &Document,
        config: Option<&ActorServerConfig>,
        given: &Given,
    ) -> Option<SecretString> {
        let in_file = config.and_then(|config| config.discord_token.clone());
        if in_file.is_some() {
            self.warn(
                document,
                "discord_token is accepted, but a token does not belong into a file: set the environment variable \
                 DISCORD_TOKEN",
            );
        }
        let token = given.discord_token.clone().or(in_file);
        if let Some(wrong) = token.as_ref().and_then(discord::wrong::token) {
            let hint = "copy it from the Bot page of https://discord.com/developers/applications";
            if given.discord_token.is_some() {
                self.problems.push(Problem::with("DISCORD_TOKEN (or --discord-token)", wrong).hint(hint));
            } else {
                self.report(document, None, Fault::new("discord_token", wrong).hint(hint));
            }
        }
        token
    }

    /// A build without Discord reads none of it.
    fn refuse_discord_if_left_out(&mut self, document: &Document, root: &Table) {
        if !discord::AVAILABLE && root.contains_key("discord") {
            let fault = Fault::new("discord", format!("discord: {}", discord::LEFT_OUT));
            self.report(document, None, fault.hint(discord::LEFT_OUT_HINT));
        }
    }

    fn api(&mut self, document: &Document, config: Option<&ActorServerConfig>) -> ApiSettings {
        let Some(config) = config else { return ApiSettings::default() };
        for fault in api::faults(&config.api) {
            self.report(document, None, fault);
        }
        ApiSettings::of(&config.api, document.path.parent().unwrap_or(Path::new("")))
    }

    /// The section with what the environment says.
    fn discord(&mut self, document: &Document, mut settings: DiscordSettings) -> DiscordSettings {
        const HINT: &str = "such as https://discord.com/api/v10";
        let from_environment = (self.environment)(discord::API_BASE_URL_VARIABLE);
        if let Some(url) = from_environment.filter(|url| !url.is_empty()) {
            if let Some(wrong) = discord::wrong::api_base_url(&url) {
                let message = format!("{} {wrong}", discord::API_BASE_URL_VARIABLE);
                self.problems.push(Problem::with("environment", message).hint(HINT));
            }
            settings.api_base_url = url;
        } else if let Some(wrong) = discord::wrong::api_base_url(&settings.api_base_url) {
            let path = KeyPath::from("discord").key("api_base_url");
            let message = format!("{path} {wrong}");
            self.report(document, None, Fault::new(path, message).hint(HINT));
        }
        if let Some(wrong) = discord::wrong::about_url(&settings.about_url) {
            let path = KeyPath::from("discord").key("about_url");
            let message = format!("{path} {wrong}");
            self.report(document, None, Fault::new(path, message).hint("such as https://example.org/my-bot"));
        }
        for fault in discord::wrong_webhooks(&settings.webhooks) {
            self.report(document, None, fault);
        }
        settings
    }

    fn alerts(
        &mut self,
        document: &Document,
        sections: &[AlertSection],
        has_token: bool,
    ) -> Vec<AlertSettings> {
        let found = alerts::settings(sections, self.discord.as_ref());
        let settings = found.unwrap_or_else(|faults| {
            faults.into_iter().for_each(|fault| self.report(document, None, fault));
            Vec::new()
        });
        let bot =
            |alert: &&AlertSettings| alert.policy.destination.platform == PlatformName::Discord.as_str();
        for alert in settings.iter().filter(bot).filter(|_| !has_token) {
            let name = &alert.policy.name;
            self.warn(document, &format!("alerts {name:?}: it is told on Discord, and there is no token"));
        }
        settings
    }

    fn check_name(&mut self, entry: &Entry<'_>, names: &mut HashMap<String, KeyPath>) {
        let Some(name) = entry.table.get("name").and_then(Value::as_str) else { return };
        let path = entry.path.key("name");
        if let Some(fault) = task::wrong_name(name) {
            self.fault(entry, fault);
        }
        if let Some(first) = names.get(name) {
            let line = entry.document.line(first);
            let at = line.map(|line| format!(" in line {line}")).unwrap_or_default();
            let fault = Fault::new("name", format!("another task{at} has the same name"));
            self.fault(entry, fault.hint("the history of a task is kept under its name"));
        } else {
            names.insert(name.to_owned(), path);
        }
    }

    fn task(&mut self, entry: &Entry<'_>, server: &ServerSettings) -> Option<Task> {
        let schedule = task::schedule(entry.table);
        let (config, faults) = task::entry(entry.table);
        let is_right = faults.is_empty();
        let is_wrong =
            |keys: &[&str]| keys.iter().any(|key| faults.iter().any(|fault| fault.path.begins_with(key)));
        let knows_backoff = !is_wrong(&BACKOFF);
        let knows_places = !is_wrong(&["platform", "destination", "channel_id", "destinations"]);
        let knows_triggers = !is_wrong(&["triggers", "name"]);
        let (schedule, more) = match schedule {
            Ok(schedule) => (Some(schedule), Vec::new()),
            Err(more) => (None, more),
        };
        faults.into_iter().chain(more).for_each(|fault| self.fault(entry, fault));
        // Checked also when the entry is wrong: all problems of all files are reported in one run.
        let actor = entry.table.get("config_file").and_then(Value::as_str);
        let actor = actor.and_then(|file| self.actor(entry, file));
        let config = config?;
        self.warn_of_no_effect(entry, &config);
        let after = if knows_triggers { self.triggers(entry, &config) } else { Vec::new() };
        let destinations = if knows_places { self.destinations(entry, &config) } else { None };
        let policy = task::policy(&config, server, actor.as_ref().map(|(file, _)| &file.execution));
        if knows_backoff && policy.backoff != server.backoff {
            self.check_backoff(entry.document, Some(&entry.subject()), entry.path.clone(), &policy.backoff);
        }
        let schedule = schedule.filter(|_| is_right)?;
        let (actor, content) = actor?;
        let found = task::Found { schedule, policy, destinations: destinations?, after };
        task::task(config, found, entry.table, &actor.actor.name, &content, server)
    }

    /// Where the task posts. What is wrong is reported.
    fn destinations(&mut self, entry: &Entry<'_>, config: &ActorInstanceConfig) -> Option<Vec<Destination>> {
        let around = task::Around {
            beside: &|file| entry.beside(file),
            webhooks: self.discord.as_ref().map(|discord| &discord.webhooks),
        };
        let found = match task::destinations(config, &around) {
            Ok(found) => found,
            Err(faults) => {
                faults.into_iter().for_each(|fault| self.fault(entry, fault));
                return None;
            }
        };
        for (path, to) in &found {
            if let Some(problem) = self.check.destination(to) {
                self.fault(entry, Fault::new(path.clone(), problem));
            }
            if config.enabled && to.platform == PlatformName::Discord.as_str() {
                let path = KeyPath([entry.path.0.as_slice(), &path.0].concat());
                self.bot_posts.push(BotPost {
                    task: config.name.clone(),
                    channel: to.target.clone(),
                    place: entry.document.path.display().to_string(),
                    line: entry.document.line(&path),
                });
            }
        }
        Some(found.into_iter().map(|(_, destination)| destination).collect())
    }

    /// What makes the task run besides its schedule: the tasks that it runs after. What is wrong is reported.
    fn triggers(&mut self, entry: &Entry<'_>, config: &ActorInstanceConfig) -> Vec<After> {
        for (index, section) in config.triggers.iter().enumerate() {
            if let TriggerSection::After(section) = section {
                let trigger = KeyPath([entry.path.0.clone(), KeyPath::entry("triggers", index).0].concat());
                self.afters.push(Named {
                    task: config.name.clone(),
                    place: trigger,
                    after: section.task.clone(),
                });
            }
        }
        let own = DatabaseUrl::parse(self.database_url.expose_secret()).ok();
        match triggers::triggers(config, &self.webhooks, own.as_ref()) {
            Ok(Triggers { webhooks, after, channels }) => {
                if config.enabled {
                    self.webhooks.extend(webhooks);
                    self.channels.extend(channels);
                }
                after
            }
            Err(faults) => {
                faults.into_iter().for_each(|fault| self.fault(entry, fault));
                Vec::new()
            }
        }
    }

    /// Tasks that run after one that there is not, or after each other in a circle.
    fn check_afters(&mut self, document: &Document, names: &HashMap<String, KeyPath>) {
        let known: Vec<&str> = names.keys().map(String::as_str).collect();
        let afters = std::mem::take(&mut self.afters);
        for (named, fault) in triggers::wrong_afters(&afters, &known) {
            let subject = format!("task {:?}", named.task);
            self.report(document, Some(&subject), fault.within(named.place.clone()));
        }
    }

    fn warn_of_no_effect(&mut self, entry: &Entry<'_>, config: &ActorInstanceConfig) {
        if config.catch_up_limit.is_some() && config.catch_up != CatchUpMode::All {
            let warning =
                format!("task {:?}: catch_up_limit has no effect without catch_up = \"all\"", config.name);
            self.warn(entry.document, &warning);
        }
    }

    /// Thresholds for actors. While a file of an actor can't be read, nobody knows what it would be called.
    fn check_alerted_actors(&mut self, document: &Document, sections: &[AlertSection]) {
        let files: Option<Vec<&ActorFile>> = self.actors.values().map(|actor| actor.file.as_ref()).collect();
        let Some(files) = files else { return };
        let known: Vec<&str> = files.iter().map(|file| file.actor.name.as_str()).collect();
        for fault in alerts::unknown_actors(sections, &known) {
            self.report(document, None, fault);
        }
    }

    fn warn_of_closed_doors(&mut self, document: &Document, api: &ApiSettings) {
        if api.enabled || self.webhooks.is_empty() {
            return;
        }
        let mut names: Vec<String> =
            self.webhooks.iter().map(|webhook| format!("{:?}", webhook.name)).collect();
        names.sort();
        names.dedup();
        let names = names.join(", ");
        let warning = format!(
            "no event can come in for the webhook {names}: [api] has `enabled = false`, and webhooks are a part of the API"
        );
        self.warn(document, &warning);
    }

    fn check_backoff(
        &mut self,
        document: &Document,
        subject: Option<&str>,
        path: KeyPath,
        backoff: &Backoff,
    ) {
        if let Some(fault) = task::wrong_backoff(&path, backoff) {
            self.report(document, subject, fault);
        }
    }

    /// The actor's file and what stands in it; `None` when something is wrong with it, which is reported once.
    fn actor(&mut self, entry: &Entry<'_>, file: &str) -> Option<(ActorFile, Table)> {
        if file.is_empty() {
            let fault = Fault::new("config_file", "config_file is empty");
            self.fault(
                entry,
                fault.hint("it names the file of the actor, for example \"actors/daily_poster.toml\""),
            );
            return None;
        }
        let beside = entry.document.path.parent().unwrap_or(Path::new("")).join(file);
        let path = [beside.clone(), PathBuf::from(file)].into_iter().find(|path| self.files.note(path));
        let Some(path) = path else {
            let message = format!("config_file {file:?} is not there");
            let hint = format!("looked for {} and, from the working directory, {file}", beside.display());
            self.fault(entry, Fault::new("config_file", message).hint(hint));
            return None;
        };
        if path.is_dir() {
            self.fault(
                entry,
                Fault::new("config_file", format!("config_file {file:?} is a directory, not a file")),
            );
            return None;
        }
        let canonical = path.canonicalize().unwrap_or_else(|_| path.clone());
        if !self.actors.contains_key(&canonical) {
            let actor = self.load_actor(path);
            self.actors.insert(canonical.clone(), actor);
        }
        let actor = self.actors.get(&canonical)?;
        Some((actor.file.clone()?, actor.content.clone()))
    }

    fn load_actor(&mut self, path: PathBuf) -> LoadedActor {
        let before = self.problems.len();
        let document = match Document::load(&path, self.environment, &mut self.problems) {
            Ok(document) => document,
            Err(problem) => {
                self.problems.push(problem);
                return LoadedActor { path, file: None, content: Table::new(), name_line: None };
            }
        };
        // Checked also when another section is wrong: all problems are reported in one run.
        let (file, wrong) = self.read_actor(&document);
        if let Some(file) = &file {
            let subject = format!("actor {:?}", file.actor.name);
            let found = self.check.actor(file, &self.database_url);
            for fault in found.into_iter().filter(|fault| !follows(fault, &wrong)) {
                self.report(&document, Some(&subject), fault);
            }
        }
        let name_line = document.line(&KeyPath::from("actor").key("name"));
        LoadedActor {
            path,
            file: file.filter(|_| self.problems.len() == before),
            content: document.root,
            name_line,
        }
    }

    /// What is right in the file, and where it is wrong.
    fn read_actor(&mut self, document: &Document) -> (Option<ActorFile>, Vec<KeyPath>) {
        /// What is left when the sources and skills are taken out, which are read one by one.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Frame {
            actor: ActorSection,
            #[serde(default)]
            execution: ExecutionSection,
            #[serde(default)]
            cache: CacheSection,
            #[serde(default, rename = "knowledge")]
            _knowledge: Vec<Table>,
            #[serde(default, rename = "skills")]
            _skills: Vec<Table>,
        }
        let mut root = document.root.clone();
        let name = root.get("actor").and_then(|actor| actor.get("name")).and_then(Value::as_str);
        let name = name.map(str::to_owned);
        let subject = name.as_ref().map(|name| format!("actor {name:?}"));
        let subject = subject.as_deref();
        let knowledge = entries(&mut root, "knowledge");
        let skills = entries(&mut root, "skills");
        let (frame, mut wrong) = self.read::<Frame>(document, subject, KeyPath::default(), &root);
        let knowledge = self.read_all(document, subject, "knowledge", &knowledge, &mut wrong);
        let skills = self.read_all(document, subject, "skills", &skills, &mut wrong);
        let folder = document.path.parent().unwrap_or(Path::new("")).to_owned();
        let (actor, execution, cache) = match frame {
            Some(frame) => (frame.actor, frame.execution, frame.cache),
            // What is wrong there is reported; the rest is read on, and checked.
            None => {
                let name = name.and_then(|name| ActorName::new(name).ok());
                let name = name.or_else(|| ActorName::new("unnamed").ok());
                let Some(name) = name else { return (None, wrong) };
                (
                    ActorSection { name, description: None },
                    ExecutionSection::default(),
                    CacheSection::default(),
                )
            }
        };
        let file = knowledge.zip(skills).map(|(knowledge, skills)| ActorFile {
            actor,
            knowledge,
            skills,
            execution,
            cache,
            folder,
        });
        (file, wrong)
    }

    /// An actor's name stands in the history: two files can't share one.
    fn one_name_each(&mut self) {
        let mut names: HashMap<&str, &Path> = HashMap::new();
        for actor in self.actors.values() {
            // Also of a file in which something else is wrong.
            let name =
                actor.content.get("actor").and_then(|section| section.get("name")).and_then(Value::as_str);
            let Some(name) = name else { continue };
            if let Some(first) = names.get(name) {
                let message = format!("{} has the same name", first.display());
                self.problems.push(Problem {
                    line: actor.name_line,
                    subject: Some(format!("actor {name:?}")),
                    ..Problem::with(actor.path.display().to_string(), message)
                        .hint("several tasks may share one actor file; two files need two names")
                });
            } else {
                names.insert(name, &actor.path);
            }
        }
    }

    /// All of them, as far as they are right; the places of what is not go to `wrong`.
    fn read_all<T: DeserializeOwned>(
        &mut self,
        document: &Document,
        subject: Option<&str>,
        key: &str,
        tables: &[Table],
        wrong: &mut Vec<KeyPath>,
    ) -> Option<Vec<T>> {
        let read = |(index, table)| {
            let (read, more) = self.read(document, subject, KeyPath::entry(key, index), table);
            wrong.extend(more);
            read
        };
        let read: Vec<Option<T>> = tables.iter().enumerate().map(read).collect();
        read.into_iter().collect()
    }

    /// What is right at `path`, and the places of what is not, which is reported.
    fn read<T: DeserializeOwned>(
        &mut self,
        document: &Document,
        subject: Option<&str>,
        path: KeyPath,
        table: &Table,
    ) -> (Option<T>, Vec<KeyPath>) {
        let place = path.to_string();
        let (read, faults) = read_what_is_right(table);
        let mut wrong = Vec::new();
        for fault in faults {
            let message =
                if place.is_empty() { fault.message.clone() } else { format!("{place}: {}", fault.message) };
            let fault = Fault { message, ..fault.within(path.clone()) };
            wrong.push(fault.path.clone());
            self.report(document, subject, fault);
        }
        (read, wrong)
    }

    fn fault(&mut self, entry: &Entry<'_>, fault: Fault) {
        self.report(entry.document, Some(&entry.subject()), fault.within(entry.path.clone()));
    }

    fn report(&mut self, document: &Document, subject: Option<&str>, fault: Fault) {
        if !document.is_unresolved(&fault.path) {
            self.problems.push(Problem::at(document, subject, fault));
        }
    }

    fn warn(&mut self, document: &Document, warning: &str) {
        self.warnings.push(format!("{}: {warning}", document.path.display()));
    }
}

/// Whether a fault is seen only because something else is wrong in the file: at the same place, in a section of which is
/// not known what it is, or about sources of which not all are known.
fn follows(fault: &Fault, wrong: &[KeyPath]) -> bool {
    let key = |path: &KeyPath| match path.0.last() {
        Some(Step::Key(key)) => key.clone(),
        Some(Step::Index(_)) | None => String::new(),
    };
    wrong.iter().any(|wrong| {
        let section = &wrong.0[..wrong.0.len().min(2)];
        let hides_a_source =
            wrong.begins_with("knowledge") && ["knowledge", "name"].contains(&key(wrong).as_str());
        let hides_its_section = match key(wrong).as_str() {
            "type" => wrong.begins_with("knowledge"),
            "name" => wrong.begins_with("skills"),
            _ => false,
        };
        *wrong == fault.path
            || (hides_a_source && key(&fault.path) == "source")
            || (hides_its_section && fault.path.0.starts_with(section))
    })
}

/// One `[[actors]]` entry as it stands in the file.
struct Entry<'a> {
    document: &'a Document,
    path: KeyPath,
    table: &'a Table,
}

impl Entry<'_> {
    fn subject(&self) -> String {
        match self.table.get("name").and_then(Value::as_str) {
            Some(name) => format!("task {name:?}"),
            None => self.path.to_string(),
        }
    }

    /// A path that does not depend on the working directory of the moment: it is part of a post's identity.
    fn beside(&self, file: &str) -> PathBuf {
        let path = self.document.path.parent().unwrap_or(Path::new("")).join(file);
        std::path::absolute(&path).unwrap_or(path)
    }
}

/// Takes the array of tables `key` out. What is no such array stays, and is refused when the rest is read.
fn entries(root: &mut Table, key: &str) -> Vec<Table> {
    match root.remove(key) {
        Some(Value::Array(items)) if items.iter().all(Value::is_table) => {
            items.into_iter().filter_map(|item| item.try_into().ok()).collect()
        }
        Some(other) => {
            root.insert(key.to_owned(), other);
            Vec::new()
        }
        None => Vec::new(),
    }
}

//! What a task's entry comes to: where it posts, and what happens when things do not go to plan.

use super::actor_file::ExecutionSection;
use super::definition;
use super::discord::{self, Webhooks};
use super::read::{Fault, KeyPath, read_what_is_right};
use super::server_file::{
    ActorInstanceConfig, CatchUpMode, DestinationSection, PlatformName, ServerSettings,
};
use crate::names::unknown;
use botticelli_server::after::After;
use botticelli_server::alert::TASK_PREFIX;
use botticelli_server::ids::{ActorName, DefinitionHash};
use botticelli_server::post::Destination;
use botticelli_server::schedule::{ScheduleError, ScheduleType, WrittenSchedule};
use botticelli_server::task::{Backoff, CatchUp, Task, TaskPolicy};
use serde::Deserialize;
use std::num::NonZeroU32;
use std::path::PathBuf;
use toml::Table;

/// What a destination may refer to.
pub(super) struct Around<'a> {
    /// Finds a file beside the server's.
    pub(super) beside: &'a dyn Fn(&str) -> PathBuf,
    /// The webhooks; `None`: they can't be read, which is reported.
    pub(super) webhooks: Option<&'a Webhooks>,
}

/// Where the task posts, each place with where it is written.
pub(super) fn destinations(
    config: &ActorInstanceConfig,
    around: &Around<'_>,
) -> Result<Vec<(KeyPath, Destination)>, Vec<Fault>> {
    let only = DestinationSection {
        platform: config.platform,
        destination: config.destination.clone(),
        channel_id: config.channel_id.clone(),
    };
    let Some(sections) = &config.destinations else {
        return match destination(&only, around) {
            Ok(destination) => Ok(vec![(KeyPath::from(key_of(&only)), destination)]),
            Err(fault) => Err(vec![fault]),
        };
    };
    if let Some(key) = written(&only) {
        let message = format!("destinations and {key} are both given");
        return Err(vec![Fault::new(key, message).hint("move it into destinations")]);
    }
    if sections.is_empty() {
        let hint = "destinations = [{ platform = \"console\" }]";
        return Err(vec![Fault::new("destinations", "destinations is empty").hint(hint)]);
    }
    several(sections, around)
}

fn several(
    sections: &[DestinationSection],
    around: &Around<'_>,
) -> Result<Vec<(KeyPath, Destination)>, Vec<Fault>> {
    let (mut found, mut faults): (Vec<(KeyPath, Destination)>, Vec<Fault>) = Default::default();
    for (index, section) in sections.iter().enumerate() {
        let entry = KeyPath::entry("destinations", index);
        match destination(section, around) {
            Err(fault) => {
                let message = format!("{entry}: {}", fault.message);
                faults.push(Fault { message, ..fault.within(entry) });
            }
            Ok(destination) => match found.iter().find(|(_, other)| *other == destination) {
                Some((first, _)) => {
                    let first = KeyPath(first.0[..2].to_vec());
                    let message = format!("{entry} is the same place as {first}");
                    faults.push(Fault::new(entry, message).hint("each place gets each post once"));
                }
                None => {
                    found.push((KeyPath([entry.0, KeyPath::from(key_of(section)).0].concat()), destination))
                }
            },
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

/// The key that says most about the place.
fn key_of(section: &DestinationSection) -> &'static str {
    if section.destination.is_some() && section.channel_id.is_none() {
        "destination"
    } else if section.channel_id.is_some() {
        "channel_id"
    } else {
        "platform"
    }
}

fn written(section: &DestinationSection) -> Option<&'static str> {
    let keys = [
        ("platform", section.platform.is_some()),
        ("destination", section.destination.is_some()),
        ("channel_id", section.channel_id.is_some()),
    ];
    keys.into_iter().find(|(_, is_written)| *is_written).map(|(key, _)| key)
}

fn destination(section: &DestinationSection, around: &Around<'_>) -> Result<Destination, Fault> {
    let platform = match (section.platform, &section.channel_id) {
        (Some(platform), _) => platform,
        (None, Some(_)) => PlatformName::Discord,
        (None, None) => PlatformName::Console,
    };
    if section.channel_id.is_some() && platform != PlatformName::Discord {
        let message =
            format!("channel_id goes with platform = \"discord\", not with {:?}", platform.as_str());
        return Err(Fault::new("channel_id", message).hint("leave one of the two out"));
    }
    let place = section.destination.as_deref();
    let target = match platform {
        PlatformName::Console => console(place)?,
        PlatformName::File => file(place, around.beside)?,
        PlatformName::Discord | PlatformName::DiscordWebhook if !discord::AVAILABLE => {
            let message = format!("platform {:?}: {}", platform.as_str(), discord::LEFT_OUT);
            return Err(Fault::new(key_of(section), message).hint(discord::LEFT_OUT_HINT));
        }
        PlatformName::Discord => channel(section)?,
        PlatformName::DiscordWebhook => webhook(place, around.webhooks)?,
    };
    Ok(Destination { platform: platform.as_str().to_owned(), target })
}

const CHANNEL_HINT: &str = "channel_id = \"1234567890123456789\": in Discord switch on User Settings, Advanced, \
                            Developer Mode; then right click on the channel, Copy Channel ID";

fn channel(section: &DestinationSection) -> Result<String, Fault> {
    let (key, id) = match (&section.channel_id, &section.destination) {
        (Some(_), Some(_)) => {
            let fault = Fault::new("destination", "channel_id and destination are both given");
            return Err(fault.hint("the channel's id is all that Discord needs"));
        }
        (Some(id), None) => ("channel_id", id),
        (None, Some(id)) => ("destination", id),
        (None, None) => {
            let fault = Fault::new("platform", "platform = \"discord\" needs a channel_id");
            return Err(fault.hint(CHANNEL_HINT));
        }
    };
    discord::wrong::channel(id).map_err(|wrong| Fault::new(key, format!("{key}: {wrong}")).hint(CHANNEL_HINT))
}

const WEBHOOK_HINT: &str = "[discord.webhooks] herald = \"${HERALD_URL}\", and destination = \"herald\"";

fn webhook(place: Option<&str>, webhooks: Option<&Webhooks>) -> Result<String, Fault> {
    let Some(name) = place else {
        let message = "platform = \"discord_webhook\" needs a destination: the webhook's name";
        return Err(Fault::new("platform", message).hint(WEBHOOK_HINT));
    };
    // A webhook's URL is a secret: it is not shown.
    if name.contains('/') {
        let message = "destination is a URL, which is not shown here (allowed: the webhook's name)";
        return Err(Fault::new("destination", message).hint(WEBHOOK_HINT));
    }
    match webhooks {
        Some(Webhooks(known)) if !known.contains_key(name) => {
            let (message, hint) = unknown("webhook", name, known.keys().map(String::as_str));
            let hint = if known.is_empty() { WEBHOOK_HINT.to_owned() } else { hint };
            Err(Fault::new("destination", format!("destination: {message}")).hint(hint))
        }
        Some(_) | None => Ok(name.to_owned()),
    }
}

fn console(place: Option<&str>) -> Result<String, Fault> {
    match place {
        None | Some("stdout") => Ok("stdout".to_owned()),
        Some(place) => {
            let message =
                format!("destination is {place:?} (allowed with platform = \"console\": \"stdout\")");
            Err(Fault::new("destination", message).hint("platform = \"file\" appends posts to a file"))
        }
    }
}

fn file(place: Option<&str>, beside: &dyn Fn(&str) -> PathBuf) -> Result<String, Fault> {
    match place {
        Some(file) if !file.is_empty() => Ok(beside(file).display().to_string()),
        Some(_) | None => {
            let message = "platform = \"file\" needs a destination: the file that posts are appended to";
            Err(Fault::new("platform", message).hint("destination = \"posts.jsonl\""))
        }
    }
}

/// What an entry says besides its schedule, which is read with more to say about it: see [`schedule`].
pub(super) fn entry(entry: &Table) -> (Option<ActorInstanceConfig>, Vec<Fault>) {
    let mut table = entry.clone();
    let any = Table::from_iter([("type".to_owned(), "Immediate".into())]);
    table.insert("schedule".to_owned(), any.into());
    read_what_is_right(&table)
}

/// What is wrong with a task's name, although it is one.
pub(super) fn wrong_name(name: &str) -> Option<Fault> {
    let message = || format!("names that begin with {TASK_PREFIX:?} are those of alerts");
    name.starts_with(TASK_PREFIX).then(|| Fault::new("name", message()))
}

/// What is wrong with the waits after failures, which are written in the table at `path`.
pub(super) fn wrong_backoff(path: &KeyPath, backoff: &Backoff) -> Option<Fault> {
    if backoff.initial <= backoff.max {
        return None;
    }
    let message = format!(
        "the first wait after a failure is {} seconds, the longest {}",
        backoff.initial.as_secs(),
        backoff.max.as_secs()
    );
    let hint = "backoff_initial_seconds may not be more than backoff_max_seconds";
    Some(Fault::new(path.key("backoff_initial_seconds"), message).hint(hint))
}

/// What of an entry has been found to be right.
pub(super) struct Found {
    pub(super) schedule: ScheduleType,
    pub(super) policy: TaskPolicy,
    pub(super) destinations: Vec<Destination>,
    pub(super) after: Vec<After>,
}

/// The task of an entry, of which all is right. `content` is that of its actor's file.
pub(super) fn task(
    config: ActorInstanceConfig,
    found: Found,
    entry: &Table,
    actor: &ActorName,
    content: &Table,
    server: &ServerSettings,
) -> Option<Task> {
    let mut written = entry.clone();
    written.remove("config_file");
    // What makes it run is no part of what it does; and secrets leave in no form.
    written.remove("triggers");
    let definition = definition::hash(&written, content, server);
    Some(Task {
        id: config.name,
        actor_name: actor.clone(),
        schedule: found.schedule,
        policy: found.policy,
        destinations: found.destinations,
        enabled: config.enabled,
        after: found.after,
        definition: DefinitionHash::new(definition).ok()?,
    })
}

/// What the entry says, else the actor's file, else the server's settings.
pub(super) fn policy(
    config: &ActorInstanceConfig,
    server: &ServerSettings,
    execution: Option<&ExecutionSection>,
) -> TaskPolicy {
    let timeout = config.timeout_seconds.or(execution.map(|execution| execution.timeout_seconds));
    TaskPolicy {
        catch_up: catch_up(config),
        overlap: config.overlap,
        jitter: config.jitter_seconds.seconds(),
        misfire_grace: config.misfire_grace_seconds.map(|grace| grace.seconds()),
        timeout: timeout.map_or(TaskPolicy::default().timeout, |timeout| timeout.seconds()),
        max_attempts: config.max_attempts.count(),
        backoff: Backoff {
            initial: config.backoff_initial_seconds.map_or(server.backoff.initial, |wait| wait.seconds()),
            max: config.backoff_max_seconds.map_or(server.backoff.max, |wait| wait.seconds()),
        },
        max_consecutive_failures: config
            .max_consecutive_failures
            .map_or(server.max_consecutive_failures, |failures| failures.count()),
        cooldown: config.cooldown_seconds.map(|cooldown| cooldown.seconds()),
        on_unknown: config.on_unknown,
    }
}

fn catch_up(config: &ActorInstanceConfig) -> CatchUp {
    const LIMIT: NonZeroU32 = NonZeroU32::new(100).unwrap();
    match config.catch_up {
        CatchUpMode::Latest => CatchUp::Latest,
        CatchUpMode::All => {
            CatchUp::All { limit: config.catch_up_limit.map_or(LIMIT, |limit| limit.count()) }
        }
        CatchUpMode::Skip => CatchUp::Skip,
    }
}

/// The schedule of an entry.
///
/// # Errors
/// All that is wrong with it, in the schedule's own words, each at the key that is wrong.
pub(super) fn schedule(entry: &Table) -> Result<ScheduleType, Vec<Fault>> {
    #[derive(Deserialize)]
    struct Only {
        schedule: WrittenSchedule,
    }
    let has_triggers =
        entry.get("triggers").and_then(toml::Value::as_array).is_some_and(|all| !all.is_empty());
    if has_triggers && !entry.contains_key("schedule") {
        return Ok(ScheduleType::Event);
    }
    let only =
        entry.iter().filter(|(key, _)| *key == "schedule").map(|(key, value)| (key.clone(), value.clone()));
    let (written, mut faults) = read_what_is_right::<Only>(&only.collect());
    let Some(Only { schedule: written }) = written else { return Err(faults) };
    let problems = written.problems();
    if let (true, true, Ok(schedule)) = (faults.is_empty(), problems.is_empty(), written.try_into()) {
        return Ok(schedule);
    }
    let is_named = |key: &str| faults.iter().any(|fault| fault.path == KeyPath::from("schedule").key(key));
    let no_consequence = |(key, error): &(&str, ScheduleError)| {
        let of_the_zone = matches!(error, ScheduleError::AtWithoutOffset { .. }) && is_named("timezone");
        !is_named(key) && !of_the_zone
    };
    let wrong: Vec<_> =
        problems.into_iter().map(|error| (key_of_error(&error), error)).filter(no_consequence).collect();
    faults.extend(wrong.into_iter().map(|(key, error)| {
        let hint = error.hint();
        Fault { hint, ..Fault::new(KeyPath::from("schedule").key(key), error.to_string()) }
    }));
    Err(faults)
}

fn key_of_error(error: &ScheduleError) -> &'static str {
    match error {
        ScheduleError::Cron { .. } => "expression",
        ScheduleError::Timezone { .. } => "timezone",
        ScheduleError::FoldOfElapsed { .. } => "fold",
        ScheduleError::Interval { .. } => "seconds",
        ScheduleError::At { .. } | ScheduleError::AtWithoutOffset { .. } => "at",
        // Of a kind that is new: somewhere in it.
        _ => "type",
    }
}

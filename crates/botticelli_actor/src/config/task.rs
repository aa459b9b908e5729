//! What a task's entry comes to: where it posts, and what happens when things do not go to plan.

use super::actor_file::ExecutionSection;
use super::read::{Fault, KeyPath, read};
use super::server_file::{ActorInstanceConfig, CatchUpMode, PlatformName, ServerSettings};
use botticelli_server::post::Destination;
use botticelli_server::schedule::{ScheduleError, ScheduleType, WrittenSchedule};
use botticelli_server::task::{Backoff, CatchUp, TaskPolicy};
use std::num::NonZeroU32;
use std::path::PathBuf;
use toml::{Table, Value};

/// Where the task posts. `beside` finds a file beside the server's.
pub(super) fn destination(
    config: &ActorInstanceConfig,
    beside: &dyn Fn(&str) -> PathBuf,
) -> Result<Destination, Fault> {
    let platform = match (config.platform, &config.channel_id) {
        (Some(platform), _) => platform,
        (None, Some(_)) => PlatformName::Discord,
        (None, None) => PlatformName::Console,
    };
    let place = config.destination.as_deref();
    let target = match platform {
        PlatformName::Console => console(place)?,
        PlatformName::File => file(place, beside)?,
        PlatformName::Discord => {
            let key = if config.platform.is_some() { "platform" } else { "channel_id" };
            let message = "platform \"discord\" is not available in this release (available: console, file)";
            return Err(Fault::new(key, message).hint("platform = \"console\" prints the posts instead"));
        }
    };
    Ok(Destination { platform: platform.as_str().to_owned(), target })
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

/// Says what is wrong with a schedule in the schedule's own words, at the key that is wrong.
pub(super) fn schedule_fault(entry: &Table, fault: &Fault) -> Option<Fault> {
    if fault.path != KeyPath::from("schedule") {
        return None;
    }
    let error = schedule_error(entry.get("schedule")?)?;
    let key = match &error {
        ScheduleError::Cron { .. } => "expression",
        ScheduleError::Timezone { .. } => "timezone",
        ScheduleError::FoldOfElapsed { .. } => "fold",
        ScheduleError::Interval { .. } => "seconds",
        ScheduleError::At { .. } | ScheduleError::AtWithoutOffset { .. } => "at",
        _ => return None,
    };
    let hint = error.hint();
    Some(Fault { hint, ..Fault::new(KeyPath::from("schedule").key(key), error.to_string()) })
}

fn schedule_error(schedule: &Value) -> Option<ScheduleError> {
    let written: WrittenSchedule = read(schedule.as_table()?).ok()?;
    ScheduleType::try_from(written).err()
}

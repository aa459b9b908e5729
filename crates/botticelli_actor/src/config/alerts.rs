//! `[[alerts]]` and `[heartbeat]`: who is told when something is not as it should be.

use super::discord::{self, DiscordSettings};
use super::read::{Fault, KeyPath};
use super::server_file::PlatformName;
use super::within::Within;
use crate::alerts::signature::SigningKey;
use crate::alerts::sinks::{PAGERDUTY, PAGERDUTY_URL, WEBHOOK, wrong_url};
use crate::alerts::{AlertSettings, HeartbeatSettings, Sink};
use crate::names::unknown as unknown_name;
use botticelli_server::alert::{ActorThresholds, AlertPolicy, AlertRules, LONGEST_NAME, Severity};
use botticelli_server::ids::{ActorName, AlertName};
use botticelli_server::post::Destination;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// A year, in seconds.
const YEAR: u64 = 366 * 86_400;

/// Who is told when something is not as it should be, and of what.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertSection {
    /// Its name, unlike any other section's: it stands in what is told, and in the outbox.
    pub name: AlertName,
    /// Where it is told.
    pub sink: SinkName,
    /// With `webhook`: where to. With `pagerduty`: what stands in for PagerDuty. It is a secret: `"${OPS_URL}"`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub url: Option<SecretString>,
    /// With `webhook`: `whsec_` and base64 of 24-64 bytes, which the receiver knows too. It is a secret: `"${OPS_SECRET}"`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub secret: Option<SecretString>,
    /// With `pagerduty`: the integration key of the service. It is a secret: `"${PAGERDUTY_KEY}"`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub routing_key: Option<SecretString>,
    /// With `discord`: the channel, or the thread.
    #[serde(default)]
    pub channel_id: Option<String>,
    /// With `discord`, instead of the channel: a name from [discord.webhooks].
    #[serde(default)]
    pub webhook: Option<String>,
    /// Nothing that is less bad is told.
    #[serde(default)]
    pub min_severity: Severity,
    /// What goes on is told again after so long. Default: only when it begins and when it ends.
    #[serde(default)]
    pub repeat_after_seconds: Option<Within<60, YEAR>>,
    /// What is told.
    #[serde(default)]
    pub rules: RulesSection,
    /// Other thresholds for the tasks of an actor, by its name.
    #[serde(default)]
    pub actors: BTreeMap<ActorName, ThresholdsSection>,
}

/// Where alerts are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkName {
    /// A request, signed after the Standard Webhooks specification.
    Webhook,
    /// PagerDuty's Events API v2.
    Pagerduty,
    /// A channel or a webhook of Discord.
    Discord,
}

/// What is told.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RulesSection {
    /// A task failed so many times in a row; 0: not told.
    pub consecutive_failures: Within<0, 1_000>,
    /// A task was paused because it failed too often.
    pub breaker_opened: bool,
    /// A task is due for longer than this, and nobody runs it; 0: not told.
    pub task_overdue_seconds: Within<0, YEAR>,
    /// Posts of a task wait for a person.
    pub posts_need_review: bool,
    /// A destination takes no posts.
    pub destination_paused: bool,
    /// Discord does not take the bot's token any more.
    pub token_revoked: bool,
    /// The database does not answer.
    pub database_unreachable: bool,
    /// The server has found something in its own books that must never be so.
    pub invariant_broken: bool,
}

impl Default for RulesSection {
    fn default() -> Self {
        Self {
            consecutive_failures: Within::of::<3>(),
            breaker_opened: true,
            task_overdue_seconds: Within::of::<300>(),
            posts_need_review: true,
            destination_paused: true,
            token_revoked: true,
            database_unreachable: true,
            invariant_broken: true,
        }
    }
}

/// Other thresholds for the tasks of one actor.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ThresholdsSection {
    /// Instead of the section's.
    pub consecutive_failures: Option<Within<1, 1_000>>,
    /// Instead of the section's.
    pub task_overdue_seconds: Option<Within<1, YEAR>>,
}

/// A dead man's switch: a service that raises the alarm when it is not called any more.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeartbeatSection {
    /// Called with GET while all is well. It is a secret: `"${HEARTBEAT_URL}"`. Default: nobody is called.
    #[schemars(with = "Option<String>")]
    pub url: Option<SecretString>,
    /// How often.
    pub interval_seconds: Within<1, 86_400>,
}

impl Default for HeartbeatSection {
    fn default() -> Self {
        Self { url: None, interval_seconds: Within::of::<60>() }
    }
}

/// The sections as the rest of the program takes them. `discord`: `None` when it can't be read, which is reported.
pub(super) fn settings(
    sections: &[AlertSection],
    discord: Option<&DiscordSettings>,
) -> Result<Vec<AlertSettings>, Vec<Fault>> {
    let (mut settings, mut faults) = (Vec::new(), Vec::new());
    let mut names = HashSet::new();
    for (index, section) in sections.iter().enumerate() {
        let entry = KeyPath::entry("alerts", index);
        let mut found = Vec::new();
        if !names.insert(&section.name) {
            found.push(Fault::new("name", format!("another section is called {:?}, too", section.name)));
        }
        if section.name.as_str().len() > LONGEST_NAME {
            found.push(Fault::new("name", format!("name is longer than {LONGEST_NAME} bytes")));
        }
        match of(section, discord) {
            Ok(alert) => settings.push(alert),
            Err(more) => found.extend(more),
        }
        faults.extend(found.into_iter().map(|fault| {
            let message = format!("{entry}: {}", fault.message);
            Fault { message, ..fault.within(entry.clone()) }
        }));
    }
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

fn of(section: &AlertSection, discord: Option<&DiscordSettings>) -> Result<AlertSettings, Vec<Fault>> {
    let misplaced = misplaced(section);
    if !misplaced.is_empty() {
        return Err(misplaced);
    }
    let own = |platform: &str| Destination { platform: platform.into(), target: section.name.to_string() };
    let (destination, sink) = match section.sink {
        SinkName::Webhook => (own(WEBHOOK), Some(webhook(section)?)),
        SinkName::Pagerduty => (own(PAGERDUTY), Some(pagerduty(section)?)),
        SinkName::Discord => (on_discord(section, discord).map_err(|fault| vec![fault])?, None),
    };
    let thresholds = |(actor, own): (&ActorName, &ThresholdsSection)| {
        let own = ActorThresholds {
            consecutive_failures: own.consecutive_failures.map(Within::count),
            task_overdue: own.task_overdue_seconds.map(Within::seconds),
        };
        (actor.clone(), own)
    };
    let rules = &section.rules;
    let policy = AlertPolicy {
        name: section.name.clone(),
        destination,
        rules: AlertRules {
            consecutive_failures: u32::try_from(rules.consecutive_failures.get())
                .ok()
                .and_then(|n| n.try_into().ok()),
            breaker_opened: rules.breaker_opened,
            task_overdue: Some(rules.task_overdue_seconds.seconds()).filter(|late| !late.is_zero()),
            posts_need_review: rules.posts_need_review,
            destination_paused: rules.destination_paused,
            token_revoked: rules.token_revoked,
            database_unreachable: rules.database_unreachable,
            invariant_broken: rules.invariant_broken,
        },
        actors: section.actors.iter().map(thresholds).collect(),
        min_severity: section.min_severity,
        repeat_after: section.repeat_after_seconds.map(Within::seconds),
    };
    Ok(AlertSettings { policy, sink })
}

/// Thresholds for actors that no task runs: they would be for nothing.
pub(super) fn unknown_actors(sections: &[AlertSection], known: &[&str]) -> Vec<Fault> {
    let of = |(index, section): (usize, &AlertSection)| {
        let entry = KeyPath::entry("alerts", index);
        let unknown = section.actors.keys().filter(|actor| !known.contains(&actor.as_str()));
        let fault = |actor: &ActorName| {
            let (message, hint) = unknown_name("actor", actor.as_str(), known.iter().copied());
            let path = entry.key("actors").key(actor.as_str());
            Fault::new(path, format!("{entry}: actors: {message}")).hint(hint)
        };
        unknown.map(fault).collect::<Vec<_>>()
    };
    sections.iter().enumerate().flat_map(of).collect()
}

/// Keys that belong to another sink.
fn misplaced(section: &AlertSection) -> Vec<Fault> {
    let keys: [(&str, bool, &[SinkName], &str); 5] = [
        ("url", section.url.is_some(), &[SinkName::Webhook, SinkName::Pagerduty], "webhook or pagerduty"),
        ("secret", section.secret.is_some(), &[SinkName::Webhook], "webhook"),
        ("routing_key", section.routing_key.is_some(), &[SinkName::Pagerduty], "pagerduty"),
        ("channel_id", section.channel_id.is_some(), &[SinkName::Discord], "discord"),
        ("webhook", section.webhook.is_some(), &[SinkName::Discord], "discord"),
    ];
    let wrong =
        keys.into_iter().filter(|(_, is_there, sinks, _)| *is_there && !sinks.contains(&section.sink));
    wrong.map(|(key, _, _, sinks)| Fault::new(key, format!("{key} goes with the sink {sinks}"))).collect()
}

fn webhook(section: &AlertSection) -> Result<Sink, Vec<Fault>> {
    const SECRET_HINT: &str =
        "secret = \"${OPS_SECRET}\", and OPS_SECRET as `printf whsec_; openssl rand -base64 24` makes it";
    let mut faults = Vec::new();
    let url = needed(section.url.as_ref(), "url", "webhook", "url = \"${OPS_URL}\"", &mut faults);
    let secret = needed(section.secret.as_ref(), "secret", "webhook", SECRET_HINT, &mut faults);
    check_url(url, &mut faults);
    let key = secret.and_then(|secret| {
        let key = SigningKey::parse(secret);
        key.map_err(|wrong| faults.push(Fault::new("secret", format!("secret {wrong}")).hint(SECRET_HINT)))
            .ok()
    });
    match (url, key) {
        (Some(url), Some(key)) if faults.is_empty() => Ok(Sink::Webhook { url: url.clone(), key }),
        _ => Err(faults),
    }
}

fn pagerduty(section: &AlertSection) -> Result<Sink, Vec<Fault>> {
    let mut faults = Vec::new();
    let hint = "routing_key = \"${PAGERDUTY_KEY}\": the Integration Key of an Events API v2 integration";
    let key = needed(section.routing_key.as_ref(), "routing_key", "pagerduty", hint, &mut faults);
    check_url(section.url.as_ref(), &mut faults);
    match key {
        Some(key) if faults.is_empty() => Ok(Sink::PagerDuty {
            url: section.url.clone().unwrap_or_else(|| PAGERDUTY_URL.into()),
            routing_key: key.clone(),
        }),
        _ => Err(faults),
    }
}

fn needed<'a>(
    value: Option<&'a SecretString>,
    key: &'static str,
    sink: &str,
    hint: &str,
    faults: &mut Vec<Fault>,
) -> Option<&'a SecretString> {
    if value.is_none() {
        faults.push(Fault::new("sink", format!("the sink {sink} needs {key}")).hint(hint));
    }
    value
}

fn check_url(url: Option<&SecretString>, faults: &mut Vec<Fault>) {
    if let Some(wrong) = url.and_then(wrong_url) {
        faults.push(Fault::new("url", format!("url {wrong}")));
    }
}

fn on_discord(section: &AlertSection, discord: Option<&DiscordSettings>) -> Result<Destination, Fault> {
    const HINT: &str = "channel_id = \"1234567890123456789\" for the bot, or webhook = \"ops\" and [discord.webhooks] ops = \"${OPS_URL}\"";
    if !discord::AVAILABLE {
        return Err(Fault::new("sink", discord::LEFT_OUT).hint(discord::LEFT_OUT_HINT));
    }
    let (platform, target) = match (&section.channel_id, &section.webhook) {
        (Some(id), None) => {
            let id = discord::wrong::channel(id)
                .map_err(|wrong| Fault::new("channel_id", format!("channel_id: {wrong}")).hint(HINT))?;
            (PlatformName::Discord, id)
        }
        (None, Some(name)) => {
            let known = discord.map(|discord| &discord.webhooks.0);
            if let Some(known) = known.filter(|known| !known.contains_key(name)) {
                let (message, hint) = unknown_name("webhook", name, known.keys().map(String::as_str));
                return Err(Fault::new("webhook", format!("webhook: {message}")).hint(hint));
            }
            (PlatformName::DiscordWebhook, name.clone())
        }
        (Some(_), Some(_)) => {
            return Err(Fault::new("webhook", "channel_id and webhook are both given").hint(HINT));
        }
        (None, None) => {
            return Err(Fault::new("sink", "the sink discord needs channel_id or webhook").hint(HINT));
        }
    };
    Ok(Destination { platform: platform.as_str().to_owned(), target })
}

/// Whom to call; `None`: nobody.
pub(super) fn heartbeat(section: &HeartbeatSection) -> Result<Option<HeartbeatSettings>, Fault> {
    let Some(url) = &section.url else { return Ok(None) };
    match wrong_url(url) {
        Some(wrong) => {
            Err(Fault::new(KeyPath::from("heartbeat").key("url"), format!("heartbeat.url {wrong}")))
        }
        None => Ok(Some(HeartbeatSettings { url: url.clone(), every: section.interval_seconds.seconds() })),
    }
}

//! Ways in for events: `POST /events/NAME`.

use super::super::read::{Fault, KeyPath};
use super::super::within::Within;
use super::{BatchSize, MostWaiting, Seconds, Together, scalar};
use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use botticelli_server::ids::TaskId;
use botticelli_server::server::Gathering;
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// `POST /events/NAME` runs the task, with the body as knowledge of type `event`. Without a secret the sender shows a
/// token with the scope `events`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSection {
    /// The last part of the path: 1-100 of the characters `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`. Tasks with the same
    /// name get the same events, and have the same secret.
    pub(super) name: String,
    /// The sender signs after the Standard Webhooks specification with this secret: `whsec_` and base64.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) secret: Option<SecretString>,
    /// The sender is GitHub, which signs with this secret.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) github_secret: Option<SecretString>,
    /// Only events for which all of this holds. A key that begins with `/` is a JSON pointer into the body, any other
    /// one the name of a header; the value there is exactly this one.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Value>")]
    pub(super) filter: BTreeMap<String, toml::Value>,
    /// Events that follow each other within so long are one run, for the last of them. A stream that never pauses is
    /// run after ten times as long.
    #[serde(default)]
    pub(super) debounce_seconds: Option<Seconds>,
    /// Events that come within so long after a first one are one run, for all of them.
    #[serde(default)]
    pub(super) batch_seconds: Option<Seconds>,
    /// With `batch_seconds`: at so many events the run starts at once.
    #[serde(default)]
    pub(super) batch_max: Option<BatchSize>,
    /// With so many runs of the task waiting for their turn, other events are refused with 429.
    #[serde(default = "Within::<1, 10_000>::of::<100>")]
    pub(super) max_waiting: MostWaiting,
}

/// A way in for events, as the rest of the program takes it.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The last part of the path.
    pub name: String,
    /// Who reacts.
    pub task: TaskId,
    /// Who may send.
    pub sender: Sender,
    /// Which events are meant.
    pub filter: Vec<Condition>,
    /// Which of them share a run.
    pub gathering: Gathering,
    /// How many runs may wait.
    pub max_waiting: NonZeroU32,
}

/// Who may send events, and how they prove it.
#[derive(Debug, Clone)]
pub enum Sender {
    /// Whoever signs after the Standard Webhooks specification with this secret.
    StandardWebhooks(SecretString),
    /// GitHub, which signs with this secret.
    GitHub(SecretString),
    /// Whoever has a token with the scope `events`.
    Token,
}

impl Sender {
    fn is_the_same(&self, other: &Self) -> bool {
        let same = |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
        match (self, other) {
            (Self::StandardWebhooks(one), Self::StandardWebhooks(other)) => same(one, other),
            (Self::GitHub(one), Self::GitHub(other)) => same(one, other),
            (Self::Token, Self::Token) => true,
            (Self::StandardWebhooks(_) | Self::GitHub(_) | Self::Token, _) => false,
        }
    }
}

/// One line of a filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// This place of the body has this value.
    Body(String, Value),
    /// This header has this value.
    Header(HeaderName, String),
}

impl Webhook {
    /// Whether the event is meant.
    pub fn wants(&self, headers: &HeaderMap, body: &Value) -> bool {
        self.filter.iter().all(|condition| match condition {
            Condition::Body(pointer, wanted) => body.pointer(pointer) == Some(wanted),
            Condition::Header(name, wanted) => {
                headers.get(name).is_some_and(|value| value.as_bytes() == wanted.as_bytes())
            }
        })
    }
}

/// The key of a Standard Webhooks secret.
pub fn standard_key(secret: &SecretString) -> Option<Vec<u8>> {
    let key = BASE64_STANDARD.decode(secret.expose_secret().strip_prefix("whsec_")?).ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

/// Adds what the section says to those of the task; returns what is wrong with it. `known`: those of tasks before it.
pub(super) fn add(
    section: &WebhookSection,
    task: &TaskId,
    known: &[Webhook],
    found: &mut Vec<Webhook>,
) -> Vec<Fault> {
    match webhook(section, task) {
        Ok(webhook) => {
            let twice = found.iter().any(|other| other.name == webhook.name);
            let wrong = at_odds(&webhook, twice, known);
            found.push(webhook);
            wrong
        }
        Err(wrong) => wrong,
    }
}

fn at_odds(webhook: &Webhook, twice: bool, known: &[Webhook]) -> Vec<Fault> {
    let other =
        known.iter().find(|other| other.name == webhook.name && !other.sender.is_the_same(&webhook.sender));
    let twice = twice.then(|| format!("the task has another webhook {:?}", webhook.name));
    let other = other.map(|other| {
        format!("task {:?} has a webhook {:?}, too, but another secret for it", other.task, other.name)
    });
    twice.into_iter().chain(other).map(|message| Fault::new("name", message)).collect()
}

fn webhook(section: &WebhookSection, task: &TaskId) -> Result<Webhook, Vec<Fault>> {
    let WebhookSection {
        name,
        secret,
        github_secret,
        filter,
        debounce_seconds,
        batch_seconds,
        batch_max,
        max_waiting,
    } = section;
    let mut faults = Vec::new();
    let of_a_path = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !(1..=100).contains(&name.len()) || !name.chars().all(of_a_path) || name.starts_with('.') {
        let message = format!("name is {name:?} (allowed: 1-100 of a-z, A-Z, 0-9, \".\", \"_\" and \"-\")");
        faults.push(Fault::new("name", message).hint("it is the last part of a path: name = \"deploys\""));
    }
    let sender = match (secret, github_secret) {
        (None, None) => Sender::Token,
        (Some(secret), None) => Sender::StandardWebhooks(secret.clone()),
        (None, Some(secret)) => Sender::GitHub(secret.clone()),
        (Some(_), Some(_)) => {
            let fault = Fault::new("github_secret", "secret and github_secret are both given");
            faults.push(fault.hint("a sender signs in one way: leave one of the two out"));
            Sender::Token
        }
    };
    faults.extend(weak(&sender));
    let together = Together { debounce: *debounce_seconds, batch: *batch_seconds, batch_max: *batch_max };
    faults.extend(together.faults());
    let mut conditions = Vec::new();
    for (key, value) in filter {
        match condition(key, value) {
            Ok(condition) => conditions.push(condition),
            Err(message) => faults.push(Fault::new(KeyPath::from("filter").key(key), message)),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Webhook {
        name: name.clone(),
        task: task.clone(),
        sender,
        filter: conditions,
        gathering: together.gathering(),
        max_waiting: max_waiting.count(),
    })
}

/// What is wrong with a secret, which is not shown.
fn weak(sender: &Sender) -> Option<Fault> {
    match sender {
        Sender::StandardWebhooks(secret) if standard_key(secret).is_none() => {
            let message =
                "secret is no secret of Standard Webhooks (allowed: whsec_ and 24-64 bytes in base64)";
            Some(Fault::new("secret", message).hint("echo \"whsec_$(openssl rand -base64 32)\" makes one"))
        }
        Sender::GitHub(secret) if secret.expose_secret().len() < 16 => {
            let message = "github_secret can be guessed (allowed: 16 characters or more)";
            Some(Fault::new("github_secret", message).hint("openssl rand -hex 32 makes one"))
        }
        Sender::StandardWebhooks(_) | Sender::GitHub(_) | Sender::Token => None,
    }
}

fn condition(key: &str, value: &toml::Value) -> Result<Condition, String> {
    if key.starts_with('/') {
        return Ok(Condition::Body(key.to_owned(), scalar(key, value)?));
    }
    match (key.parse(), value) {
        (Ok(name), toml::Value::String(text)) => Ok(Condition::Header(name, text.clone())),
        (Ok(_), _) => Err(format!("filter: the header {key:?} is compared with a text")),
        (Err(_), _) => Err(format!(
            "filter: {key:?} is neither a JSON pointer, such as \"/action\", nor the name of a header"
        )),
    }
}

//! What can go wrong between us and Discord, sorted by what has to be done about it.

mod codes;
#[cfg(test)]
mod tests;

pub use codes::{Known, TABLE, known};

use botticelli_server::post::{PostError, Reason};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// What has to be done about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A rate limit: wait, then send again.
    RateLimited,
    /// Discord's edge does not let this address through: nothing more may be sent from it for a while.
    Blocked,
    /// Discord had a fault. Whether the request took effect is unknown.
    Transient,
    /// Not now, not here: send it again later.
    Later,
    /// It will never be taken as it is.
    Message,
    /// It was there, and somebody removed it: it is not to be sent again.
    Removed,
    /// The destination takes nothing (gone, no permission): pause it.
    Destination,
    /// The recipient of a direct message can't be reached.
    Recipient,
    /// The token is not valid: nothing more may be sent with it.
    Token,
    /// Discord takes the bot for a spammer: stop, and fetch a person.
    Spam,
    /// What was wanted is so already.
    AlreadyDone,
    /// Something must be changed in the settings.
    Config,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// Its path: `embeds[0].title`. Empty: the whole request.
    pub path: String,
    /// Discord's word for the problem: `BASE_TYPE_MAX_LENGTH`.
    pub code: String,
    /// Discord's sentence.
    pub message: String,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the message" } else { &self.path };
        write!(f, "{path}: {} ({})", self.message.trim_end_matches('.'), self.code)
    }
}

/// An answer of Discord's that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What to do about it.
    pub class: Class,
    /// What was asked: the route without its ids and secrets.
    pub route: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Discord's number of the error; 0 where it gave none.
    pub code: u64,
    /// Discord's sentence, shortened.
    pub message: String,
    /// Which fields are wrong, at most the first 20.
    pub fields: Vec<FieldProblem>,
    /// Why, in plain words.
    pub cause: &'static str,
    /// What helps.
    pub fix: &'static str,
    /// How long Discord wants to be left alone: the longest time that it named.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// The same as platforms say it.
    pub(super) fn reason(&self) -> Reason {
        Reason::answered(self.to_string(), self.status, (self.code != 0).then_some(self.code))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: HTTP {}", self.route, self.status)?;
        if self.code != 0 {
            write!(f, ", code {}", self.code)?;
        }
        write!(f, ": {}", self.cause)?;
        for field in &self.fields {
            write!(f, "; {field}")?;
        }
        if self.fields.is_empty() && !self.message.is_empty() {
            write!(f, " ({:?})", self.message)?;
        }
        write!(f, "; what helps: {}", self.fix)
    }
}

/// Why a request brought nothing. No variant ever holds a token or a webhook's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscordError {
    /// It never left: a limit that has to be waited for, a block, or no connection.
    #[error("{reason}")]
    NotSent {
        /// What kept it back.
        reason: String,
        /// When it is worth trying again.
        retry_after: Option<Duration>,
    },
    /// It never left, and will not before a person has done something: the token is stopped.
    #[error("{0}")]
    Stopped(String),
    /// It does not fit Discord, and was not sent.
    #[error("{0}")]
    Invalid(String),
    /// It left, and no answer tells what became of it.
    #[error("{0}")]
    Unknown(Reason),
    /// Discord said no.
    #[error("{0}")]
    Answered(Box<Answer>),
}

impl DiscordError {
    /// The answer, where there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            Self::NotSent { .. } | Self::Stopped(_) | Self::Invalid(_) | Self::Unknown(_) => None,
        }
    }

    /// The message that was asked for, or to be changed, is gone.
    pub fn is_of_gone_message(&self) -> bool {
        const UNKNOWN_MESSAGE: u64 = 10008;
        self.answer().is_some_and(|answer| answer.code == UNKNOWN_MESSAGE)
    }

    /// The same as platforms say it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Answered(answer) => answer.reason(),
            Self::Unknown(reason) => reason.clone(),
            Self::NotSent { .. } | Self::Stopped(_) | Self::Invalid(_) => self.to_string().into(),
        }
    }

    /// The class of the answer, where there was one.
    pub fn class(&self) -> Option<Class> {
        self.answer().map(|answer| answer.class)
    }
}

/// What the deliverer makes of it, for a request that creates a message.
impl From<DiscordError> for PostError {
    fn from(error: DiscordError) -> Self {
        let reason = error.reason();
        match error {
            DiscordError::NotSent { retry_after, .. } => Self::NotSent { reason, retry_after },
            DiscordError::Stopped(_) => Self::DestinationClosed(reason),
            DiscordError::Invalid(_) => Self::Refused(reason),
            DiscordError::Unknown(_) => Self::Unknown(reason),
            DiscordError::Answered(answer) => match answer.class {
                Class::RateLimited | Class::Blocked | Class::Later => {
                    Self::NotSent { reason, retry_after: answer.retry_after }
                }
                Class::Transient | Class::AlreadyDone => Self::Unknown(reason),
                Class::Message => Self::Refused(reason),
                Class::Removed => Self::Removed(reason),
                Class::Destination | Class::Recipient | Class::Token | Class::Spam | Class::Config => {
                    Self::DestinationClosed(reason)
                }
            },
        }
    }
}

/// What is looked at in a refusal. Made from status, headers and body by `answer.rs`.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// What was asked.
    pub route: &'static str,
    /// Whether the request would have made a message.
    pub creates_message: bool,
    /// Whether it went to a webhook, which has no token of ours.
    pub is_webhook: bool,
    /// The HTTP status.
    pub status: u16,
    /// Whether any header of Discord's rate limiter was there.
    pub has_rate_headers: bool,
    /// The time of the header `Retry-After` or its kin.
    pub retry_after: Option<Duration>,
    /// The body, or its beginning.
    pub body: &'a [u8],
}

/// The JSON that Discord sends with a refusal.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(default)]
    pub(super) code: Value,
    #[serde(default)]
    pub(super) message: Value,
    #[serde(default)]
    pub(super) errors: Value,
    #[serde(default)]
    pub(super) retry_after: Value,
    #[serde(default)]
    pub(super) global: Value,
}

impl ErrorBody {
    /// `None`: this is no JSON of Discord's, but a page, a part of something, or nothing.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let body: Self = serde_json::from_slice(body).ok()?;
        (body.code.is_number() || body.message.is_string()).then_some(body)
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        seconds(self.retry_after.as_f64()?)
    }
}

/// A number of seconds as somebody else sent it.
pub(super) fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

/// How much of Discord's sentences is kept.
const LONGEST_MESSAGE: usize = 300;
const MOST_FIELDS: usize = 20;
/// How deep the paths of fields are followed.
const DEEPEST: usize = 16;

impl Refusal<'_> {
    /// Sorts the refusal.
    pub fn classify(&self) -> Answer {
        let body = ErrorBody::read(self.body);
        let code = body.as_ref().and_then(|body| body.code.as_u64()).unwrap_or(0);
        let message = body.as_ref().and_then(|body| body.message.as_str()).unwrap_or_default();
        let is_global = body.as_ref().is_some_and(|body| body.global == Value::Bool(true));
        let (class, cause, fix) = match known(code) {
            _ if self.is_block(body.is_some(), is_global, code, message) => by_class(Class::Blocked),
            known => self.judge(known, code),
        };
        let mut fields = Vec::new();
        if let Some(body) = &body {
            flatten(&body.errors, "", 0, &mut fields);
        }
        Answer {
            class,
            route: self.route,
            status: self.status,
            code,
            message: shorten(message),
            fields,
            cause,
            fix,
            retry_after: self.retry_after.max(body.and_then(|body| body.retry_after())),
        }
    }

    fn judge(&self, known: Option<&'static Known>, code: u64) -> (Class, &'static str, &'static str) {
        let as_known =
            |class: Class| known.map_or_else(|| by_class(class), |known| (class, known.cause, known.fix));
        match self.status {
            401 if self.is_webhook => as_known(Class::Destination),
            401 => as_known(Class::Token),
            429 if known.is_some_and(|known| known.class == Class::Later) => as_known(Class::Later),
            429 => by_class(Class::RateLimited),
            403 if code == 10008 && self.creates_message => by_class(Class::Spam),
            // The nonce is remembered, and its message is gone (a moderator was quick).
            404 if code == 10008 && self.creates_message => (
                Class::Removed,
                "it was posted before, and somebody deleted it",
                "nothing, or send it again as a new post",
            ),
            408 | 500.. => as_known(Class::Transient),
            413 => as_known(Class::Message),
            status => known
                .map_or_else(|| by_class(by_status(status)), |known| (known.class, known.cause, known.fix)),
        }
    }

    /// A refusal that does not come from Discord's API, but from what stands before it.
    fn is_block(&self, is_json: bool, is_global: bool, code: u64, message: &str) -> bool {
        let says_blocked = code == 0 && message.to_ascii_lowercase().contains("blocked");
        let headerless_limit = self.status == 429 && !is_global;
        matches!(self.status, 403 | 429)
            && (code == 40333 || !self.has_rate_headers && (!is_json || says_blocked || headerless_limit))
    }
}

/// The class of an answer whose code is unknown. The doubtful ones stop rather than go on.
fn by_status(status: u16) -> Class {
    match status {
        403 | 404 | 410 => Class::Destination,
        409 | 423 | 425 => Class::Later,
        400..=499 => Class::Message,
        _ => Class::Config,
    }
}

fn by_class(class: Class) -> (Class, &'static str, &'static str) {
    let (cause, fix) = match class {
        Class::RateLimited => ("a rate limit", "nothing: it is sent later"),
        Class::Blocked => (
            "Discord lets nothing through from this address",
            "wait; find out which program on this address sends invalid requests",
        ),
        Class::Transient => ("Discord had a fault", "nothing: it is settled later"),
        Class::Later => ("not at the moment", "nothing: it is sent later"),
        Class::Message => ("Discord does not take this request", "change the post"),
        Class::Removed => ("somebody deleted it", "nothing"),
        Class::Destination => (
            "Discord lets the bot do nothing there",
            "look whether the channel exists, and at the bot's permissions in it",
        ),
        Class::Recipient => ("this user can't be reached", "use another recipient"),
        Class::Token => (
            "the token is not valid",
            "make a new token on the Bot page of the developer portal, and set DISCORD_TOKEN",
        ),
        Class::Spam => {
            ("Discord takes the bot for a spammer", "look at what the bot posts, then start the server again")
        }
        Class::AlreadyDone => ("it is so already", "nothing"),
        Class::Config => ("this is not an answer of Discord's API", "check `api_base_url`"),
    };
    (class, cause, fix)
}

/// Discord nests problems as the request is nested: `{"embeds": {"0": {"title": {"_errors": […]}}}}`.
fn flatten(errors: &Value, path: &str, depth: usize, into: &mut Vec<FieldProblem>) {
    let Value::Object(errors) = errors else { return };
    for (key, value) in errors {
        if depth >= DEEPEST || into.len() >= MOST_FIELDS {
            return;
        }
        if key == "_errors" {
            let problems = value.as_array().map(Vec::as_slice).unwrap_or_default();
            into.extend(problems.iter().take(MOST_FIELDS - into.len()).map(|problem| FieldProblem {
                path: path.to_owned(),
                code: shorten(problem["code"].as_str().unwrap_or("?")),
                message: shorten(problem["message"].as_str().unwrap_or("no explanation")),
            }));
        } else {
            flatten(value, &shorten(&longer(path, key)), depth + 1, into);
        }
    }
}

fn longer(path: &str, key: &str) -> String {
    match (path, key.bytes().all(|byte| byte.is_ascii_digit())) {
        (_, true) => format!("{path}[{key}]"),
        ("", false) => key.to_owned(),
        (_, false) => format!("{path}.{key}"),
    }
}

pub(super) fn shorten(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(LONGEST_MESSAGE).collect()
}

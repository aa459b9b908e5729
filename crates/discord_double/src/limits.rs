//! Rate limits: buckets shared by routes and kept per top-level resource, the global limit, hidden sub-limits.

use crate::error::ApiError;
use crate::id::Id;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, HashMap};

/// So many requests in so long a window, which begins with its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// What the headers announce.
    pub limit: u32,
    /// The window.
    pub window_ms: u32,
    /// How many of the announced requests are refused all the same: headers that lie.
    #[serde(default)]
    pub early: u32,
}

impl Rate {
    /// `limit` requests in `window_ms`.
    #[must_use]
    pub const fn new(limit: u32, window_ms: u32) -> Self {
        Self { limit, window_ms, early: 0 }
    }
}

/// When `X-RateLimit-Scope` is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeHeader {
    /// With a 429 only, as documented.
    On429,
    /// With every reply that has rate limit headers.
    Always,
    /// Never.
    Never,
}

/// All limits. They can be replaced while the double runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Without, there are neither limits nor headers.
    pub enabled: bool,
    /// For all requests of one token; for those without a token, of one address.
    pub global: Rate,
    /// The buckets, by a name that only the double knows. A bucket that is not here has neither limit nor headers.
    /// In JSON and TOML those that are not named are as they are by default.
    #[serde(deserialize_with = "over_defaults")]
    pub buckets: BTreeMap<String, Rate>,
    /// Puts routes into other buckets than their own (see `discord-double routes`); an empty name means none.
    pub routes: BTreeMap<String, String>,
    /// Crossposts in one channel; not announced by headers, shared.
    pub crosspost: Rate,
    /// Edits of messages older than an hour, in one channel; not announced by headers.
    pub old_edits: Rate,
    /// Messages by all webhooks of one channel; not announced by headers.
    pub webhook_channel: Rate,
    /// Whether a sub-limit's `Retry-After` header says 1 whatever its body says.
    pub headers_contradict_body: bool,
    /// When the scope is named.
    pub scope_header: ScopeHeader,
}

impl Default for Limits {
    fn default() -> Self {
        let buckets = [
            ("message_create", Rate::new(5, 5000)),
            ("message_edit", Rate::new(5, 5000)),
            ("message_delete", Rate::new(5, 1000)),
            ("message_read", Rate::new(50, 1000)),
            ("crosspost", Rate::new(10, 60_000)),
            ("thread_create", Rate::new(50, 300_000)),
            ("pins", Rate::new(5, 4000)),
            ("webhook", Rate::new(5, 2000)),
            ("channel_read", Rate::new(50, 1000)),
        ];
        Self {
            enabled: true,
            global: Rate::new(50, 1000),
            buckets: buckets.map(|(name, rate)| (name.to_owned(), rate)).into(),
            routes: BTreeMap::new(),
            crosspost: Rate::new(10, 3_600_000),
            old_edits: Rate::new(3, 6000),
            webhook_channel: Rate::new(30, 60_000),
            headers_contradict_body: true,
            scope_header: ScopeHeader::On429,
        }
    }
}

impl Limits {
    /// No limit and no headers.
    #[must_use]
    pub fn off() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    /// All windows are so many times shorter: the same limits for tests that can't wait.
    ///
    /// # Panics
    /// If `by` is 0.
    #[must_use]
    pub fn faster(mut self, by: u32) -> Self {
        let own = [&mut self.global, &mut self.crosspost, &mut self.old_edits, &mut self.webhook_channel];
        for rate in self.buckets.values_mut().chain(own) {
            rate.window_ms = (rate.window_ms / by).max(1);
        }
        self
    }

    fn bucket<'a>(&'a self, route: &str, own: &'a str) -> Option<(&'a str, Rate)> {
        let name = self.routes.get(route).map_or(own, String::as_str);
        self.buckets.get_key_value(name).map(|(name, rate)| (name.as_str(), *rate))
    }
}

fn over_defaults<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Rate>, D::Error> {
    let mut buckets = Limits::default().buckets;
    buckets.extend(BTreeMap::<String, Rate>::deserialize(deserializer)?);
    Ok(buckets)
}

/// Whom a 429 concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This token, this bucket.
    User,
    /// This token, everywhere.
    Global,
    /// All who use the resource; not counted as invalid.
    Shared,
}

impl Scope {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Global => "global",
            Self::Shared => "shared",
        }
    }
}

/// What a 429 says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limited {
    pub(crate) scope: Scope,
    pub(crate) body_seconds: f64,
    pub(crate) header_seconds: f64,
}

/// What the headers announce.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Announced {
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    pub(crate) resets_at: DateTime<Utc>,
    pub(crate) bucket: String,
}

/// The windows that are open.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    open: HashMap<(String, String), Window>,
}

#[derive(Debug)]
struct Window {
    ends: DateTime<Utc>,
    used: u32,
}

impl Windows {
    /// Takes one request out of the window, or says how long until the next one begins.
    fn take(&mut self, name: &str, whose: &str, rate: Rate, now: DateTime<Utc>) -> Taken {
        let length = TimeDelta::milliseconds(rate.window_ms.into());
        let window = self
            .open
            .entry((name.to_owned(), whose.to_owned()))
            .or_insert_with(|| Window { ends: now + length, used: 0 });
        if window.ends <= now {
            *window = Window { ends: now + length, used: 0 };
        }
        let granted = window.used + rate.early < rate.limit;
        if granted {
            window.used += 1;
        }
        Taken { granted, remaining: rate.limit.saturating_sub(window.used), ends: window.ends }
    }

    /// The global limit.
    pub(crate) fn global(&mut self, limits: &Limits, who: &str, now: DateTime<Utc>) -> Result<(), ApiError> {
        let taken = match limits.enabled {
            true => self.take("", who, limits.global, now),
            false => return Ok(()),
        };
        match taken.granted {
            true => Ok(()),
            false => Err(limited(Scope::Global, taken.seconds(now))),
        }
    }

    /// The bucket of a route, for one top-level resource.
    pub(crate) fn bucket(
        &mut self,
        limits: &Limits,
        route: (&str, &str),
        major: &str,
        now: DateTime<Utc>,
        seed: u64,
    ) -> (Option<Announced>, Result<(), ApiError>) {
        let Some((name, rate)) = limits.bucket(route.0, route.1).filter(|_| limits.enabled) else {
            return (None, Ok(()));
        };
        let taken = self.take(name, major, rate, now);
        let bucket = bucket_hash(name, seed);
        let announced =
            Announced { limit: rate.limit, remaining: taken.remaining, resets_at: taken.ends, bucket };
        match taken.granted {
            true => (Some(announced), Ok(())),
            false => (Some(announced), Err(limited(Scope::User, taken.seconds(now)))),
        }
    }

    /// A limit that no header announces. Its error is `refusal`.
    pub(crate) fn hidden(
        &mut self,
        limits: &Limits,
        name: &str,
        channel: Id,
        rate: Rate,
        now: DateTime<Utc>,
        refusal: fn() -> ApiError,
    ) -> Result<(), ApiError> {
        if !limits.enabled {
            return Ok(());
        }
        let taken = self.take(name, &channel.to_string(), rate, now);
        if taken.granted {
            return Ok(());
        }
        let mut error = refusal();
        let body_seconds = taken.seconds(now);
        let header_seconds = if limits.headers_contradict_body { 1.0 } else { body_seconds };
        error.limited = Some(Limited { scope: Scope::Shared, body_seconds, header_seconds });
        Err(error)
    }
}

struct Taken {
    granted: bool,
    remaining: u32,
    ends: DateTime<Utc>,
}

impl Taken {
    /// Until the window ends, in thousandths.
    fn seconds(&self, now: DateTime<Utc>) -> f64 {
        seconds(self.ends - now)
    }
}

pub(crate) fn seconds(delta: TimeDelta) -> f64 {
    let micros = delta.num_microseconds().unwrap_or(i64::MAX).max(0);
    // Rounded up: who waits so long comes after the end.
    #[expect(clippy::cast_precision_loss, reason = "windows are far shorter than 2^53 ms")]
    let ms = ((micros + 999) / 1000) as f64;
    ms / 1000.0
}

/// A plain 429.
pub(crate) fn limited(scope: Scope, seconds: f64) -> ApiError {
    let message = match scope {
        Scope::Global | Scope::User => "You are being rate limited.",
        Scope::Shared => "The resource is being rate limited.",
    };
    let mut error = ApiError::new(429, 0, message);
    error.limited = Some(Limited { scope, body_seconds: seconds, header_seconds: seconds });
    error
}

/// An opaque name that is the same for all routes of a bucket, and for all resources.
fn bucket_hash(name: &str, seed: u64) -> String {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed;
    let hash = |salt: u64| {
        name.bytes().fold(start ^ salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    };
    format!("{:016x}{:016x}", hash(0), hash(0x9e37_79b9_7f4a_7c15))
}

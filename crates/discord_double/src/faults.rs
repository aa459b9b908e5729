//! Bad luck, by script and by seed.

use crate::change::Change;
use crate::id::Id;
use crate::limits::Scope;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// One kind of bad luck, and when it strikes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which requests it can strike.
    #[serde(default)]
    pub when: When,
    /// What it does.
    pub what: What,
    /// How often it strikes; 0 means without end.
    #[serde(default = "once")]
    pub times: u32,
    /// How likely it is to strike a request that matches. Drawn from the seed, the route, the resource and the
    /// number of the request there, so a seed gives the same faults however requests to other channels interleave.
    #[serde(default = "certain")]
    pub probability: f64,
}

/// Which requests a fault can strike: those that all of this is true of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// The route's name, such as `create_message`; `discord-double routes` lists them.
    pub route: Option<String>,
    /// The channel in the path, or the webhook's.
    pub channel: Option<Id>,
    /// A part of the request's `content`.
    pub content: Option<String>,
    /// So many requests that match are spared first.
    pub skip: u32,
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// It is done, and the connection is closed without a reply.
    DropReply,
    /// It is done, and the connection is reset without a reply.
    ResetReply,
    /// It is not done, and the connection is closed without a reply.
    LoseRequest,
    /// It is done, and the reply says otherwise: 500, 502, 503, 504.
    FailAfterCommit {
        /// The status.
        status: u16,
    },
    /// It is not done, and the reply says so: 500, 502, 503, 504.
    FailBeforeCommit {
        /// The status.
        status: u16,
    },
    /// It is done, and the reply comes late (in real time).
    SlowReply {
        /// How late.
        millis: u64,
    },
    /// It is done late (in real time).
    SlowRequest {
        /// How late.
        millis: u64,
    },
    /// It is done, and the reply waits until `release` is called.
    HoldReply,
    /// It is not done until `release` is called.
    HoldRequest,
    /// It is done, and the connection is reset in the middle of the reply's body.
    ResetMidBody,
    /// It is done, and the reply's body is cut off, though well framed.
    TruncateBody,
    /// It is done, and the reply is a page of HTML with status 200.
    HtmlBody,
    /// It is done twice, as if something on the way had sent the request again; the second reply is delivered.
    DeliverTwice,
    /// It is done, and reads don't show the new message (and lists its thread) before the double's clock has moved so
    /// far.
    HideInReads {
        /// How long.
        millis: u64,
    },
    /// These characters are missing from what is stored.
    StripCharacters {
        /// The characters.
        characters: String,
    },
    /// It is refused with 429, whatever the headers said before.
    RateLimit {
        /// Whom it concerns.
        scope: Scope,
        /// `retry_after` in the body.
        retry_after_seconds: f64,
        /// `Retry-After` in the header, if it is another one.
        #[serde(default)]
        header_seconds: Option<f64>,
        /// The body's code, such as 20028.
        #[serde(default)]
        code: i64,
    },
    /// It is refused with this error.
    Error {
        /// The status.
        status: u16,
        /// Discord's code.
        code: i64,
        /// Discord's words.
        #[serde(default)]
        message: String,
    },
    /// The client's address is banned from now on, for so long as the rules say.
    Ban,
    /// The world changes just before the request is looked at.
    Change {
        /// How.
        change: Box<Change>,
    },
}

impl What {
    /// The `type` in JSON and TOML.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::DropReply => "drop_reply",
            Self::ResetReply => "reset_reply",
            Self::LoseRequest => "lose_request",
            Self::FailAfterCommit { .. } => "fail_after_commit",
            Self::FailBeforeCommit { .. } => "fail_before_commit",
            Self::SlowReply { .. } => "slow_reply",
            Self::SlowRequest { .. } => "slow_request",
            Self::HoldReply => "hold_reply",
            Self::HoldRequest => "hold_request",
            Self::ResetMidBody => "reset_mid_body",
            Self::TruncateBody => "truncate_body",
            Self::HtmlBody => "html_body",
            Self::DeliverTwice => "deliver_twice",
            Self::HideInReads { .. } => "hide_in_reads",
            Self::StripCharacters { .. } => "strip_characters",
            Self::RateLimit { .. } => "rate_limit",
            Self::Error { .. } => "error",
            Self::Ban => "ban",
            Self::Change { .. } => "change",
        }
    }
}

impl From<What> for Fault {
    fn from(what: What) -> Self {
        Self { when: When::default(), what, times: 1, probability: 1.0 }
    }
}

impl Fault {
    /// Strikes only requests of this route.
    #[must_use]
    pub fn on_route(mut self, route: &str) -> Self {
        self.when.route = Some(route.to_owned());
        self
    }

    /// Strikes only requests for this channel.
    #[must_use]
    pub fn on_channel(mut self, channel: Id) -> Self {
        self.when.channel = Some(channel);
        self
    }

    /// Spares the first so many requests that match.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.when.skip = skip;
        self
    }

    /// Strikes so often; 0 means without end.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Strikes again and again, with this probability.
    #[must_use]
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self.times = 0;
        self
    }

    /// Requests that are lost or delivered twice, replies that are lost, wrong or broken: each kind with this
    /// probability, on requests that write.
    #[must_use]
    pub fn storm(probability: f64) -> Vec<Self> {
        let writes =
            ["create_message", "edit_message", "crosspost_message", "execute_webhook", "start_thread"];
        let kinds = [
            What::DropReply,
            What::ResetReply,
            What::LoseRequest,
            What::FailAfterCommit { status: 500 },
            What::FailAfterCommit { status: 502 },
            What::FailAfterCommit { status: 504 },
            What::FailBeforeCommit { status: 503 },
            What::ResetMidBody,
            What::TruncateBody,
            What::HtmlBody,
            What::DeliverTwice,
        ];
        let faults = writes.iter().flat_map(|route| {
            kinds.iter().map(|what| Self::from(what.clone()).on_route(route).with_probability(probability))
        });
        faults.collect()
    }
}

fn once() -> u32 {
    1
}

fn certain() -> f64 {
    1.0
}

/// What a fault is matched against.
pub(crate) struct Seen<'a> {
    pub(crate) route: &'a str,
    pub(crate) channel: Option<Id>,
    pub(crate) major: &'a str,
    pub(crate) content: &'a str,
}

/// The faults that are armed.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    seed: u64,
    armed: Vec<Armed>,
    added: u64,
    /// Requests so far, by route and top-level resource.
    ordinals: HashMap<(String, String), u64>,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    number: u64,
    spared: u32,
    struck: u32,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(crate) fn add(&mut self, fault: Fault) {
        self.added += 1;
        self.armed.push(Armed { fault, number: self.added, spared: 0, struck: 0 });
    }

    pub(crate) fn clear(&mut self) {
        self.armed.clear();
    }

    pub(crate) fn armed(&self) -> Vec<Fault> {
        self.armed.iter().map(|armed| armed.fault.clone()).collect()
    }

    /// The fault that strikes this request: the first that was armed of those that do. World changes strike beside
    /// it, all of them.
    pub(crate) fn strike(&mut self, seen: &Seen<'_>) -> (Option<What>, Vec<Change>) {
        let ordinal = self.ordinals.entry((seen.route.to_owned(), seen.major.to_owned())).or_default();
        *ordinal += 1;
        let (mut struck, mut changes) = (None, Vec::new());
        for armed in &mut self.armed {
            let is_change = matches!(armed.fault.what, What::Change { .. });
            if !armed.matches(seen) || (struck.is_some() && !is_change) {
                continue;
            }
            if armed.spared < armed.fault.when.skip {
                armed.spared += 1;
                continue;
            }
            if !lucky(self.seed, armed, seen, *ordinal) {
                continue;
            }
            armed.struck += 1;
            match &armed.fault.what {
                What::Change { change } => changes.push((**change).clone()),
                what => struck = Some(what.clone()),
            }
        }
        self.armed.retain(|armed| armed.fault.times == 0 || armed.struck < armed.fault.times);
        (struck, changes)
    }
}

impl Armed {
    fn matches(&self, seen: &Seen<'_>) -> bool {
        let When { route, channel, content, skip: _ } = &self.fault.when;
        route.as_ref().is_none_or(|route| route == seen.route)
            && channel.is_none_or(|channel| seen.channel == Some(channel))
            && content.as_ref().is_none_or(|part| seen.content.contains(part.as_str()))
    }
}

fn lucky(seed: u64, armed: &Armed, seen: &Seen<'_>, ordinal: u64) -> bool {
    if armed.fault.probability >= 1.0 {
        return true;
    }
    let place = format!("{}/{}/{}/{}", armed.number, seen.route, seen.major, ordinal);
    let hash = place.bytes().fold(0xcbf2_9ce4_8422_2325_u64 ^ seed, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    ChaCha8Rng::seed_from_u64(hash).random::<f64>() < armed.fault.probability
}

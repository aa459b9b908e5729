//! Everything that a running double knows, behind one lock.

use crate::call::Call;
use crate::clock::Clock;
use crate::error::{self, ApiError};
use crate::faults::Faults;
use crate::id::{Id, Snowflakes};
use crate::invalid::{BanRules, Invalid};
use crate::ledger::{Entry, Event, Ledger};
use crate::limits::{Limits, Windows};
use crate::message::{Body, Message};
use crate::nonce::{NonceRules, Nonces};
use crate::pings::Pings;
use crate::world::World;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::IpAddr;

/// So many requests are remembered.
const REQUESTS_KEPT: usize = 200_000;

/// What can be set, and changed while the double runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Nonces.
    pub nonce: NonceRules,
    /// Rate limits.
    pub limits: Limits,
    /// The ban that follows invalid requests.
    pub ban: BanRules,
    /// Whether requests without a proper `User-Agent` are refused.
    pub require_user_agent: bool,
    /// What the limit of 2000 counts.
    pub content_unit: ContentUnit,
    /// Whether reads show the nonce of a message.
    pub nonce_in_reads: bool,
    /// The order of messages that were asked for with `after`.
    pub after_order: AfterOrder,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nonce: NonceRules::default(),
            limits: Limits::default(),
            ban: BanRules::default(),
            require_user_agent: true,
            content_unit: ContentUnit::Characters,
            nonce_in_reads: false,
            after_order: AfterOrder::NewestFirst,
        }
    }
}

/// What is counted in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentUnit {
    /// Unicode scalar values.
    Characters,
    /// UTF-16 code units.
    Utf16,
    /// Bytes of UTF-8.
    Bytes,
}

/// An order of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterOrder {
    /// As everywhere else.
    NewestFirst,
    /// From `after` onwards.
    OldestFirst,
}

/// A request that came in, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// 1, 2, 3, …
    pub seq: u64,
    /// When, by the double's clock.
    pub at: DateTime<Utc>,
    /// Since the double started, by a clock that only tests of speed need.
    pub real_micros: u64,
    /// From where.
    pub ip: IpAddr,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The route's name; see `discord-double routes`.
    pub route: String,
    /// The channel in the path, or the webhook's.
    pub channel_id: Option<Id>,
    /// The body, if it was JSON (`payload_json` of a form).
    pub body: Value,
    /// The names of the files.
    pub files: Vec<String>,
    /// What Discord answered, whatever became of the answer on its way; null before that, or if the request was lost.
    pub status: Option<u16>,
    /// Discord's code, if an error was answered.
    pub code: Option<i64>,
    /// The faults that struck, with commas between; a scripted change that could not be made says why.
    pub fault: Option<String>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    pub(crate) seed: u64,
    pub(crate) snowflakes: Snowflakes,
    pub(crate) nonces: Nonces,
    pub(crate) windows: Windows,
    pub(crate) invalid: Invalid,
    pub(crate) faults: Faults,
    pub(crate) ledger: Ledger,
    pub(crate) requests: VecDeque<Request>,
    pub(crate) requests_seen: u64,
}

impl State {
    pub(crate) fn new(world: World, clock: Clock, settings: Settings, seed: u64, ledger: Ledger) -> Self {
        let mut snowflakes = Snowflakes::default();
        world.raise(&mut snowflakes);
        ledger.entries().iter().for_each(|entry| snowflakes.past(entry.message_id));
        Self {
            world,
            clock,
            settings,
            seed,
            snowflakes,
            nonces: Nonces::default(),
            windows: Windows::default(),
            invalid: Invalid::default(),
            faults: Faults::new(seed),
            ledger,
            requests: VecDeque::new(),
            requests_seen: 0,
        }
    }

    pub(crate) fn log(&mut self, call: &Call, route: &str, channel_id: Option<Id>, fault: Option<String>) {
        let (body, files) = match &call.payload {
            Ok(payload) => {
                (payload.json.clone(), payload.files.iter().map(|file| file.name.clone()).collect())
            }
            Err(_) => (Value::Null, Vec::new()),
        };
        self.requests.push_back(Request {
            seq: call.seq,
            at: self.clock.now(),
            real_micros: call.real_micros,
            ip: call.ip,
            method: call.method.clone(),
            path: call.path.clone(),
            route: route.to_owned(),
            channel_id,
            body,
            files,
            status: None,
            code: None,
            fault,
        });
        if self.requests.len() > REQUESTS_KEPT {
            self.requests.pop_front();
        }
    }

    pub(crate) fn log_status(&mut self, seq: u64, status: u16, code: Option<i64>) {
        let from_end = self.requests.iter_mut().rev().find(|request| request.seq == seq);
        if let Some(request) = from_end {
            (request.status, request.code) = (Some(status), code);
        }
    }

    pub(crate) fn message(&self, channel: Id, id: Id) -> Result<&Message, ApiError> {
        let messages = self.world.messages.get(&channel);
        messages.and_then(|messages| messages.get(&id)).ok_or_else(error::unknown_message)
    }

    pub(crate) fn message_mut(&mut self, channel: Id, id: Id) -> Result<&mut Message, ApiError> {
        let messages = self.world.messages.get_mut(&channel);
        messages.and_then(|messages| messages.get_mut(&id)).ok_or_else(error::unknown_message)
    }

    /// Stores a new message, and writes it down as visible.
    pub(crate) fn create_message(&mut self, message: Message, request: u64) {
        let (channel, id) = (message.channel_id, message.id);
        if let Some(known) = self.world.channels.get_mut(&channel) {
            known.last_message_id = Some(id);
            known.total_messages += 1;
        }
        let pings = message.pings.clone();
        self.world.messages.entry(channel).or_default().insert(id, message);
        self.record(Event::Created, channel, id, request, pings);
    }

    /// A message that no request made, and that pings nobody.
    pub(crate) fn say(&mut self, channel_id: Id, author_id: Id, content: String) {
        let now = self.clock.now();
        let message = Message {
            id: self.snowflakes.next(now),
            channel_id,
            author_id,
            webhook_name: None,
            kind: 0,
            body: Body { content, ..Body::default() },
            reference: None,
            poll: None,
            created_at: now,
            edited_at: None,
            pinned_at: None,
            pings: Pings::default(),
            nonce: None,
            visible_from: now,
        };
        self.create_message(message, 0);
    }

    /// Writes down what happened to a message that is still there.
    pub(crate) fn record(&mut self, event: Event, channel: Id, id: Id, request: u64, pings: Pings) {
        let now = self.clock.now();
        let Ok(message) = self.message(channel, id) else { return };
        let (author_id, nonce) = (message.author_id, message.nonce.as_ref().map(nonce_text));
        let message = message.show(&self.world, now);
        self.append(Entry {
            seq: 0,
            at: now,
            event,
            request,
            channel_id: channel,
            message_id: id,
            author_id,
            nonce,
            pings,
            message,
        });
    }

    pub(crate) fn delete_message(&mut self, channel: Id, id: Id, request: u64) -> Result<(), ApiError> {
        let messages = self.world.messages.get_mut(&channel);
        let message = messages.and_then(|all| all.remove(&id)).ok_or_else(error::unknown_message)?;
        self.append(Entry {
            seq: 0,
            at: self.clock.now(),
            event: Event::Deleted,
            request,
            channel_id: channel,
            message_id: id,
            author_id: message.author_id,
            nonce: message.nonce.as_ref().map(nonce_text),
            pings: Pings::default(),
            message: json!(null),
        });
        Ok(())
    }

    /// Removes a channel; its messages and those of its threads are gone too.
    pub(crate) fn delete_channel(&mut self, channel: Id) {
        let threads = self.world.channels.values().filter(|known| known.parent_id == Some(channel));
        let places: Vec<Id> = threads.map(|thread| thread.id).chain([channel]).collect();
        for place in places {
            let messages = self.world.messages.get(&place);
            let ids: Vec<Id> = messages.map(|all| all.keys().copied().collect()).unwrap_or_default();
            for id in ids {
                self.delete_message(place, id, 0).expect("it was there a moment ago");
            }
        }
        self.world.remove_channel(channel);
    }

    fn append(&mut self, entry: Entry) {
        self.ledger.append(entry);
    }
}

pub(crate) fn nonce_text(nonce: &Value) -> String {
    nonce.as_str().map_or_else(|| nonce.to_string(), str::to_owned)
}

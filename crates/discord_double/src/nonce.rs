//! Nonces: within a window the same one makes no second message.

use crate::id::Id;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How nonces behave where Discord has not said it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NonceRules {
    /// How long a nonce is known.
    pub window_seconds: f64,
    /// Whose nonces are compared.
    pub scope: NonceScope,
}

impl Default for NonceRules {
    fn default() -> Self {
        Self { window_seconds: 180.0, scope: NonceScope::Author }
    }
}

/// Whose nonces are compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonceScope {
    /// All of one author.
    Author,
    /// Those of one author in one channel.
    AuthorAndChannel,
}

/// The nonces of the past window.
#[derive(Debug, Default)]
pub(crate) struct Nonces {
    known: HashMap<(Id, Option<Id>, String), Used>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) channel_id: Id,
    pub(crate) message_id: Id,
    at: DateTime<Utc>,
}

impl Nonces {
    pub(crate) fn find(
        &self,
        rules: &NonceRules,
        author: Id,
        channel: Id,
        nonce: &str,
        now: DateTime<Utc>,
    ) -> Option<Used> {
        let window = TimeDelta::from_std(std::time::Duration::from_secs_f64(rules.window_seconds.max(0.0)));
        let used = self.known.get(&key(rules, author, channel, nonce))?;
        (now - used.at < window.unwrap_or(TimeDelta::MAX)).then_some(*used)
    }

    pub(crate) fn remember(
        &mut self,
        rules: &NonceRules,
        author: Id,
        nonce: &str,
        at: DateTime<Utc>,
        place: (Id, Id),
    ) {
        let (channel_id, message_id) = place;
        self.known.insert(key(rules, author, channel_id, nonce), Used { channel_id, message_id, at });
    }
}

fn key(rules: &NonceRules, author: Id, channel: Id, nonce: &str) -> (Id, Option<Id>, String) {
    let channel = match rules.scope {
        NonceScope::Author => None,
        NonceScope::AuthorAndChannel => Some(channel),
    };
    (author, channel, nonce.to_owned())
}

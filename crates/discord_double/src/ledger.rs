//! The ledger of visible messages: append-only, kept apart from the state that serves requests, and the only judge of
//! what people in a channel have seen.

use crate::id::Id;
use crate::pings::Pings;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

/// What happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It appeared.
    Created,
    /// It changed.
    Edited,
    /// It was published to the channels that follow.
    Crossposted,
    /// It is gone.
    Deleted,
}

/// One line of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// 1, 2, 3, …, also across restarts with the same file.
    pub seq: u64,
    /// When, by the double's clock.
    pub at: DateTime<Utc>,
    /// What happened.
    pub event: Event,
    /// The request that did it; 0 if a test did.
    pub request: u64,
    /// Where.
    pub channel_id: Id,
    /// Which message.
    pub message_id: Id,
    /// A user, or a webhook.
    pub author_id: Id,
    /// The nonce of its creation, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Who was pinged by this.
    pub pings: Pings,
    /// The message afterwards, as a reader sees it; null once deleted.
    pub message: Value,
}

/// A message that is in a channel now.
#[derive(Clone, Debug, Serialize)]
pub struct Visible {
    /// Where.
    pub channel_id: Id,
    /// Which message.
    pub message_id: Id,
    /// A user, or a webhook.
    pub author_id: Id,
    /// Its text.
    pub content: String,
    /// The nonce of its creation, if it had one.
    pub nonce: Option<String>,
    /// When it appeared.
    pub created_at: DateTime<Utc>,
    /// The request that made it; 0 if a test did.
    pub request: u64,
    /// Who was pinged when it appeared.
    pub pings: Pings,
    /// Who was pinged by its edits, one element an edit.
    pub edit_pings: Vec<Pings>,
    /// Whether it was crossposted.
    pub crossposted: bool,
    /// The whole message, as a reader sees it.
    pub message: Value,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    visible: BTreeMap<(Id, Id), Visible>,
    file: Option<File>,
}

impl Ledger {
    /// Goes on with the file's entries, if there is one. A last line that is cut off is removed.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut ledger = Self::default();
        let mut whole = 0;
        let mut reader = BufReader::new(&mut file);
        loop {
            let mut line = String::new();
            let length = reader.read_line(&mut line)?;
            if !line.ends_with('\n') {
                break;
            }
            let entry = serde_json::from_str(&line).map_err(|error| {
                let number = ledger.entries.len() + 1;
                io::Error::new(io::ErrorKind::InvalidData, format!("line {number}: {error}"))
            })?;
            whole += length as u64;
            ledger.apply(entry);
        }
        file.set_len(whole)?;
        ledger.file = Some(file);
        Ok(ledger)
    }

    /// Writes the entry down before anyone hears of it.
    pub(crate) fn append(&mut self, mut entry: Entry) {
        entry.seq = self.entries.len() as u64 + 1;
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(&entry).expect("an entry is JSON");
            line.push(b'\n');
            file.write_all(&line).expect("the ledger can't be written, so nothing can be judged any more");
        }
        self.apply(entry);
    }

    fn apply(&mut self, entry: Entry) {
        let key = (entry.channel_id, entry.message_id);
        match entry.event {
            Event::Created => _ = self.visible.insert(key, Visible::created(&entry)),
            Event::Edited | Event::Crossposted => {
                if let Some(visible) = self.visible.get_mut(&key) {
                    visible.change(&entry);
                }
            }
            Event::Deleted => _ = self.visible.remove(&key),
        }
        self.entries.push(entry);
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// In all channels, by channel, oldest first.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &Visible> {
        self.visible.values()
    }

    /// In one channel, oldest first.
    pub(crate) fn visible_in(&self, channel: Id) -> impl Iterator<Item = &Visible> {
        self.visible.range((channel, Id(0))..=(channel, Id(u64::MAX))).map(|(_, visible)| visible)
    }
}

impl Visible {
    fn created(entry: &Entry) -> Self {
        Self {
            channel_id: entry.channel_id,
            message_id: entry.message_id,
            author_id: entry.author_id,
            content: content(&entry.message),
            nonce: entry.nonce.clone(),
            created_at: entry.at,
            request: entry.request,
            pings: entry.pings.clone(),
            edit_pings: Vec::new(),
            crossposted: false,
            message: entry.message.clone(),
        }
    }

    fn change(&mut self, entry: &Entry) {
        self.content = content(&entry.message);
        self.message = entry.message.clone();
        match entry.event {
            Event::Edited => self.edit_pings.push(entry.pings.clone()),
            Event::Crossposted => self.crossposted = true,
            Event::Created | Event::Deleted => {}
        }
    }
}

fn content(message: &Value) -> String {
    message["content"].as_str().unwrap_or_default().to_owned()
}

//! What is posted, where, and what a platform must promise.

use crate::ids::{ExecutionId, TaskId};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A platform and a place on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Destination {
    /// The platform's name: `console`, `file`, …
    pub platform: String,
    /// What that platform needs to know: a path, a channel id; `stdout` for the console.
    pub target: String,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.platform, self.target)
    }
}

/// One message part, as a platform gets it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PostContent {
    /// The text.
    pub text: String,
    /// What comes with the text on platforms that know it, by the platforms' name: `discord` for both of Discord's.
    /// Each reads its own part, strictly; the others show it at most.
    #[serde(default, skip_serializing_if = "Extras::is_empty")]
    pub extras: Extras,
}

/// See [`PostContent::extras`].
pub type Extras = BTreeMap<String, serde_json::Value>;

impl PostContent {
    /// A text alone.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), extras: Extras::new() }
    }
}

/// What a platform answered: the id is *its* id, never one that we made up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// The platform's id of the message.
    pub message_id: String,
    /// When the platform says that it was posted.
    pub posted_at: DateTime<Utc>,
    /// Where a person can see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The message was there already: an earlier request had taken effect.
    #[serde(default)]
    pub recovered: bool,
    /// What is to follow the message and has not yet: steps of [`ContentPoster::follow_up`], in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_follow: Vec<String>,
    /// What was to follow the message and will not, and why: it is there without that. Each begins with the step and a
    /// colon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// What tells an execution from all others, also where a database has lost its last moments and does them again: an
/// occurrence is the same one then, and the number of an execution may be that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A nominal time of a task's schedule.
    Occurrence {
        /// The task.
        task: &'a TaskId,
        /// The nominal time.
        scheduled_for: DateTime<Utc>,
    },
    /// A trigger or an event.
    Asked {
        /// The execution.
        execution: ExecutionId,
        /// When it began to exist.
        opened_at: DateTime<Utc>,
    },
}

/// By which a platform recognises a post that is sent again. Derived from the post's identity, never random: a process
/// that is started again builds the same key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key of part `part` of what the execution `origin` posts to `destination`. `ledger` tells databases apart: two
    /// servers that post to one channel may have tasks of one name.
    pub fn derive(ledger: &str, origin: &Origin<'_>, destination: &Destination, part: u32) -> Self {
        let (kind, name, at) = match origin {
            Origin::Occurrence { task, scheduled_for } => ("occurrence", task.to_string(), scheduled_for),
            Origin::Asked { execution, opened_at } => ("asked", execution.to_string(), opened_at),
        };
        let (at, part) = (at.timestamp_micros().to_string(), part.to_string());
        let mut hash = Sha256::new();
        for field in [ledger, kind, &name, &at, &destination.platform, &destination.target, &part] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field.as_bytes());
        }
        Self(base64url(&hash.finalize()[..16]))
    }

    /// A key as it was stored.
    pub fn stored(key: String) -> Self {
        Self(key)
    }

    /// 22 characters of `A-Z a-z 0-9 - _`: it fits Discord's nonce (25).
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tells tokens apart and gives none away: it may stand in tables and logs.
pub fn fingerprint(token: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"actor-server egress scope\0");
    hash.update(token.as_bytes());
    base64url(&hash.finalize()[..16])
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            text.push(ALPHABET[(group >> (18 - 6 * index) & 63) as usize].into());
        }
    }
    text
}

/// What a platform can do to keep a post from appearing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The platform recognises a key that it saw at most this long ago, and does not post again. [`Duration::MAX`]: for
    /// ever, so that no operator needs to bound it.
    pub idempotent_for: Option<Duration>,
    /// The platform can be asked whether a post is there.
    pub look_up: bool,
    /// How the platform counts and cuts text.
    pub text: TextLimit,
}

/// How long a text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimit {
    /// The most that one part may have; `None`: no limit.
    pub max: Option<usize>,
    /// What is counted.
    pub unit: TextUnit,
}

/// What a platform counts when it measures text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextUnit {
    /// Unicode scalar values.
    Scalars,
    /// Bytes of UTF-8.
    Bytes,
    /// UTF-16 code units.
    Utf16,
    /// What a reader sees as one character.
    Graphemes,
}

/// Whether a post is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookUp<Posted> {
    /// It is.
    Found(Posted),
    /// It surely is not.
    Absent,
    /// The platform can't tell.
    Unknowable {
        /// Why not, for the person who will decide.
        reason: String,
    },
}

/// What is known about a post that may be on a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// When it was first sent.
    pub first_sent: DateTime<Utc>,
    /// Messages there that are known to be other posts: their ids. A post may have the same text as this one.
    pub taken: Vec<String>,
    /// What other posts say that may be there, too: a message that could be one of theirs tells nothing.
    pub rivals: Vec<PostContent>,
}

/// Why something did not work: in words, and in the numbers that the platform gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    text: String,
    /// The HTTP status of its answer.
    pub status: Option<u16>,
    /// Its own number of the error.
    pub code: Option<u64>,
}

impl Reason {
    /// As the platform answered.
    pub fn answered(text: impl Into<String>, status: u16, code: Option<u64>) -> Self {
        Self { text: text.into(), status: Some(status), code }
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self { text, status: None, code: None }
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.text
    }
}

impl std::ops::Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a post did not get its receipt. The variants are what the deliverer does differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The platform will never take this post as it is.
    #[error("{0}")]
    Refused(Reason),
    /// The post was there, by an earlier request, and somebody removed it: it is not to be sent again.
    #[error("{0}")]
    Removed(Reason),
    /// Nothing took effect; it is worth trying again, after `retry_after` if the platform said so.
    #[error("{reason}")]
    NotSent {
        /// What happened.
        reason: Reason,
        /// When the platform wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The request may have taken effect. It must not be sent again without the same key or a look-up.
    #[error("{0}")]
    Unknown(Reason),
    /// The destination takes no posts (permissions, gone): it is paused, its posts wait.
    #[error("{0}")]
    DestinationClosed(Reason),
}

impl PostError {
    /// Why.
    pub fn reason(&self) -> &Reason {
        match self {
            Self::Refused(reason)
            | Self::Removed(reason)
            | Self::NotSent { reason, .. }
            | Self::Unknown(reason)
            | Self::DestinationClosed(reason) => reason,
        }
    }
}

/// Puts one post on one platform.
#[async_trait]
pub trait ContentPoster: Send + Sync {
    /// What is posted.
    type Content;
    /// Where.
    type Destination;
    /// What the platform answers.
    type Posted;

    /// What this platform can do for `content` at `destination`: a webhook of a platform may offer less than its
    /// channels, and some kinds of content less than others. `text` does not depend on the content.
    fn capabilities(&self, content: &Self::Content, destination: &Self::Destination) -> Capabilities;

    /// Says what would be refused, before anything is sent.
    ///
    /// # Errors
    /// [`PostError::Refused`], naming the field and the limit.
    fn validate(&self, content: &Self::Content, destination: &Self::Destination) -> Result<(), PostError>;

    /// Says what stands in the way of every post there, as far as it can be seen without sending anything.
    ///
    /// # Errors
    /// As [`post`](Self::post) would answer.
    fn check(&self, _destination: &Self::Destination) -> Result<(), PostError> {
        Ok(())
    }

    /// `Ok` means that the platform took it; the receipt holds the id *it* gave, and says `recovered` if the message
    /// was there before. Refuses by itself what [`validate`](Self::validate) refuses. Does not wait for a rate limit,
    /// but answers how long to wait ([`PostError::NotSent`]). Who drops the future before it is ready knows as little
    /// as after [`PostError::Unknown`].
    ///
    /// # Errors
    /// [`PostError::Unknown`] when the request may have taken effect.
    async fn post(
        &self,
        content: &Self::Content,
        destination: &Self::Destination,
        key: &IdempotencyKey,
    ) -> Result<Self::Posted, PostError>;

    /// Does one step of [`Receipt::to_follow`] for a post that is there. Can be asked for again and again: what is done
    /// already is fine, and nothing that people see is made twice. A platform without such steps refuses.
    ///
    /// # Errors
    /// [`PostError::Refused`] when the post stays without it; any other means that it may be asked for again.
    async fn follow_up(
        &self,
        _content: &Self::Content,
        _destination: &Self::Destination,
        _posted: &Self::Posted,
        step: &str,
    ) -> Result<(), PostError>
    where
        Self::Content: Sync,
        Self::Destination: Sync,
        Self::Posted: Sync,
    {
        Err(PostError::Refused(format!("nothing named {step:?} can follow a post here").into()))
    }

    /// What this platform counts its limits by, where several nodes share it: a token's [`fingerprint`]. One node at a
    /// time then sends for it. `None`: every node may send.
    fn egress_scope(&self) -> Option<String> {
        None
    }

    /// Whether the post with this key is on the platform. [`LookUp::Absent`] is a promise: the post is then sent. A
    /// platform without `look_up` among its capabilities always answers [`LookUp::Unknowable`].
    ///
    /// # Errors
    /// [`PostError::NotSent`] when the platform could not be asked, or it is too early to say.
    async fn look_up(
        &self,
        content: &Self::Content,
        destination: &Self::Destination,
        key: &IdempotencyKey,
        doubt: &Doubt,
    ) -> Result<LookUp<Self::Posted>, PostError>;
}

/// A platform as the server uses it.
pub type Platform = dyn ContentPoster<Content = PostContent, Destination = Destination, Posted = Receipt>;

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn a_key_is_the_same_after_every_restart_and_differs_in_each_part_of_its_identity() {
        let file = Destination { platform: "file".into(), target: "posts.jsonl".into() };
        let (task, at) = (TaskId::new("daily").expect("an id"), DateTime::UNIX_EPOCH);
        let occurrence = Origin::Occurrence { task: &task, scheduled_for: at };
        let later = Origin::Occurrence { task: &task, scheduled_for: at + TimeDelta::microseconds(1) };
        let asked = |execution| Origin::Asked { execution: ExecutionId(execution), opened_at: at };
        let key = |ledger, origin, part| IdempotencyKey::derive(ledger, &origin, &file, part);
        assert_eq!(key("a", occurrence, 0).as_str(), "RUOffvfJvliqcvw_zIqapw");
        assert_eq!(key("a", asked(1), 0).as_str(), "Y3CCZetCOdMLKCgOh5a7sg");
        let keys = [
            key("a", occurrence, 0),
            key("a", later, 0),
            key("b", occurrence, 0),
            key("a", occurrence, 1),
            key("a", asked(1), 0),
            key("a", asked(2), 0),
            key("a", asked(11), 0),
        ];
        assert!(keys.iter().all(|key| key.as_str().len() == 22));
        assert_eq!(keys.iter().collect::<std::collections::HashSet<_>>().len(), keys.len());
    }

    #[test]
    fn content_that_was_stored_without_extras_is_still_read_and_written_so() {
        let stored = serde_json::json!({"text": "Hi"});
        let content: PostContent = serde_json::from_value(stored.clone()).expect("content");
        assert_eq!(content, PostContent::text("Hi"));
        assert_eq!(serde_json::to_value(content).expect("JSON"), stored);
        let receipt =
            serde_json::json!({"message_id": "1", "posted_at": "2030-01-01T00:00:00Z", "recovered": false});
        let read: Receipt = serde_json::from_value(receipt.clone()).expect("a receipt");
        assert_eq!(serde_json::to_value(read).expect("JSON"), receipt);
    }

    #[test]
    fn a_fingerprint_tells_tokens_apart_and_holds_none() {
        assert_eq!(fingerprint("a.token"), fingerprint("a.token"));
        assert_ne!(fingerprint("a.token"), fingerprint("b.token"));
        assert!(!fingerprint("a.token").contains("token") && fingerprint("a.token").len() == 22);
    }

    #[test]
    fn base64url_is_the_standard_one() {
        assert_eq!(base64url(b"f"), "Zg");
        assert_eq!(base64url(b"fo"), "Zm8");
        assert_eq!(base64url(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }
}

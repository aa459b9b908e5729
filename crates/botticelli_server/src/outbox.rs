//! The outbox: posts on their way, and the memory of what was posted.

use crate::ids::{ExecutionId, Fence, NodeId, PostId, TaskId};
use crate::ledger::LedgerError;
use crate::limits::DeliveryLimits;
use crate::outcome::SkipReason;
use crate::post::{Destination, IdempotencyKey, LookUp, PostContent, PostError, Receipt};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A post that a run made: one part of a message for one destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewPost {
    /// Where it goes.
    pub destination: Destination,
    /// Its place among what this execution posts to that destination, from 0. It is part of the post's identity.
    pub part: u32,
    /// The first part of the same message. A part goes out after the parts before it, or not at all.
    pub first_part: u32,
    /// What is posted.
    pub content: PostContent,
    /// Not before this time.
    pub not_before: Option<DateTime<Utc>>,
    /// Checked again at delivery.
    pub limits: DeliveryLimits,
    /// What to do when nothing can tell whether it is there.
    pub on_unknown: OnUnknown,
}

/// What the operator wants for a post that may or may not have appeared, on a platform that neither recognises a
/// post which is sent again nor can be asked about it. Either way it is not sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// It waits for a person, who looks and then decides.
    #[default]
    NeedsReview,
    /// It is given up, and counts as failed: losing a post is better than asking a person.
    AtMostOnce,
}

impl OnUnknown {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeedsReview => "needs_review",
            Self::AtMostOnce => "at_most_once",
        }
    }
}

/// An item that a run used up: this task will not select it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedItem {
    /// The name of the knowledge source.
    pub source: String,
    /// The item's key there.
    pub key: String,
    /// What duplicates are compared by.
    pub text: String,
    /// Where it went.
    pub destination: Destination,
    /// The `part` of the post that carries it (its first part).
    pub part: u32,
    /// The run knew that it was used before. Otherwise it took it for unused: if it is not, when the run is recorded,
    /// another run of the task was quicker.
    pub again: bool,
}

/// An item that was posted to a destination, or is on its way there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierItem {
    /// The post that carries it.
    pub post_id: Option<PostId>,
    /// What duplicates are compared by.
    pub text: String,
    /// When the run that used it ended.
    pub used_at: DateTime<Utc>,
}

/// What skills may ask about the past.
#[async_trait]
pub trait PostHistory: Send + Sync {
    /// The keys of the items of `source` that `task` posted, has on their way, or tried in vain. Those that a limit left
    /// out are not among them.
    async fn used_keys(&self, task: &TaskId, source: &str) -> Result<Vec<String>, LedgerError>;

    /// What any task posted to `destination`, or has on its way there, since `since`; newest first.
    async fn earlier_items(
        &self,
        destination: &Destination,
        since: DateTime<Utc>,
    ) -> Result<Vec<EarlierItem>, LedgerError>;

    /// When `task` posted messages to `destination` since `since`, and when those on their way are to go; oldest
    /// first. A message of several parts counts once.
    async fn post_times(
        &self,
        task: &TaskId,
        destination: &Destination,
        since: DateTime<Utc>,
    ) -> Result<Vec<DateTime<Utc>>, LedgerError>;
}

/// Where a post stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PostState {
    /// It will be sent.
    Pending,
    /// It waits for a time: a window, a limit, a retry.
    Deferred,
    /// A node is sending it.
    Sending,
    /// The platform gave an id, and here it is.
    Posted,
    /// The platform will not take it.
    Failed,
    /// Nobody can tell whether it is there: a person decides.
    NeedsReview,
    /// It was left out, with a reason.
    Skipped,
}

impl PostState {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Deferred => "deferred",
            Self::Sending => "sending",
            Self::Posted => "posted",
            Self::Failed => "failed",
            Self::NeedsReview => "needs_review",
            Self::Skipped => "skipped",
        }
    }
}

/// A post that this node leased for one attempt. Its attempt row is committed.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedPost {
    /// The post.
    pub id: PostId,
    /// The attempt's token.
    pub fence: Fence,
    /// The run that made it.
    pub execution_id: ExecutionId,
    /// The task that made it.
    pub task_id: TaskId,
    /// Where it goes.
    pub destination: Destination,
    /// What is posted.
    pub content: PostContent,
    /// The same in every attempt.
    pub key: IdempotencyKey,
    /// This attempt, from 1.
    pub attempt: u32,
    /// The same without those that only waited ([`PostEnd::Deferred`]'s `counts`): the waits grow with it.
    pub tries: u32,
    /// Set when an earlier attempt may have taken effect: when the first such request was sent.
    pub uncertain_since: Option<DateTime<Utc>>,
    /// Then also: the receipts of other posts that this one could be mistaken for, because they appeared at its
    /// destination since, or shortly before.
    pub taken: Vec<String>,
    /// And what other posts of its destination say that may be there although nobody knows.
    pub rivals: Vec<PostContent>,
    /// After this time the request must not be sent any more: the lease is over.
    pub lease_until: DateTime<Utc>,
    /// When it was to go out first: when it was made, or the time that it was made for.
    pub wanted_at: DateTime<Utc>,
    /// What to do when nothing can tell whether it is there.
    pub on_unknown: OnUnknown,
    /// The actor's own limits, and the times that they count.
    pub limits: DeliveryLimits,
    /// When this task posted to this destination before (see [`PostHistory::post_times`]), this message left out.
    pub earlier: Vec<DateTime<Utc>>,
    /// It is there, and something is to follow it ([`Receipt::to_follow`]): that is what the attempt is for, and it ends
    /// as [`PostEnd::Followed`]. Its `fence` is the number of the attempt.
    pub posted: Option<Receipt>,
}

/// How one attempt at a post ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostEnd {
    /// It is there.
    Posted(Receipt),
    /// It was there before. What became of that which is to follow it.
    Followed {
        /// As before, but for what was done, and what will never be.
        receipt: Receipt,
        /// What is still to follow waits. `None`: nothing is.
        again: Option<FollowAgain>,
    },
    /// It will never be; one failure of its task.
    Failed {
        /// Why, for a person.
        error: String,
    },
    /// It waits. Not a failure.
    Deferred {
        /// Until then.
        until: DateTime<Utc>,
        /// Why, for a person.
        reason: String,
        /// Whether the post may be there, through this attempt or an earlier one. `true`: the store keeps the time
        /// of the first attempt in doubt ([`ClaimedPost::uncertain_since`]), which is this attempt's if there was
        /// none before. `false`: it surely is not there, and the store forgets any earlier doubt.
        uncertain: bool,
        /// Whether it waits because of its destination, which did not take it: then all other posts of the destination
        /// wait for it, up to [`HOLDS_FOR`].
        holds: bool,
        /// Whether it counts for the waits that grow with every attempt in vain. A wait that the platform or the
        /// actor's own limits asked for does not.
        counts: bool,
    },
    /// It is left out.
    Skipped {
        /// Why.
        reason: SkipReason,
    },
    /// Nobody can tell.
    NeedsReview {
        /// Why, for the person who will decide.
        reason: String,
    },
}

/// When what is to follow a post is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowAgain {
    /// At this time.
    pub at: DateTime<Utc>,
    /// Why not now, for a person.
    pub reason: String,
    /// See [`PostEnd::Deferred`].
    pub counts: bool,
}

/// One thing that an attempt asked its platform, and what came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exchange {
    /// What was asked.
    pub asked: Asked,
    /// When, by the store's clock as the node knows it.
    pub asked_at: DateTime<Utc>,
    /// When the answer was there; `None`: there is none.
    #[serde(default)]
    pub answered_at: Option<DateTime<Utc>>,
    /// What kind of answer; `None`: the attempt broke off.
    #[serde(default)]
    pub answer: Option<PlatformAnswer>,
    /// The HTTP status with which the platform did not do it.
    #[serde(default)]
    pub status: Option<u16>,
    /// The platform's own number of the error.
    #[serde(default)]
    pub code: Option<u64>,
    /// The platform's own words.
    #[serde(default)]
    pub text: Option<String>,
    /// The platform's id of the message, if it is there.
    #[serde(default)]
    pub message_id: Option<String>,
    /// The platform wants to be left alone for so long.
    #[serde(default)]
    pub retry_after_seconds: Option<u64>,
}

/// What a platform is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// To take the post.
    Post,
    /// Whether the post is there.
    LookUp,
    /// To do what is to follow the post.
    FollowUp,
}

impl Asked {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::LookUp => "look_up",
            Self::FollowUp => "follow_up",
        }
    }
}

/// What a platform answers: the variants of [`PostError`] and [`LookUp`], and that it took the post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlatformAnswer {
    /// It took the post.
    Taken,
    /// It will never take it.
    Refused,
    /// Somebody removed it there.
    Removed,
    /// Nothing took effect; later perhaps.
    NotSent,
    /// It may have taken effect.
    Unknown,
    /// The destination takes no posts.
    DestinationClosed,
    /// The post is there.
    Found,
    /// It surely is not.
    Absent,
    /// It can't tell.
    Unknowable,
}

impl PlatformAnswer {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "refused",
            Self::Removed => "removed",
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
            Self::DestinationClosed => "destination_closed",
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Unknowable => "unknowable",
        }
    }
}

impl Exchange {
    /// Asked now, and not answered yet.
    pub fn asked(asked: Asked, asked_at: DateTime<Utc>) -> Self {
        let (answered_at, answer, status, code, text, message_id, retry_after_seconds) = Default::default();
        Self { asked, asked_at, answered_at, answer, status, code, text, message_id, retry_after_seconds }
    }

    /// The platform took the post.
    pub fn taken(&mut self, at: DateTime<Utc>, receipt: &Receipt) {
        self.message_id = Some(receipt.message_id.clone());
        self.is(at, PlatformAnswer::Taken);
    }

    /// The platform did what was to follow.
    pub fn followed(&mut self, at: DateTime<Utc>, _: &()) {
        self.is(at, PlatformAnswer::Taken);
    }

    /// The platform said whether it is there.
    pub fn looked_up(&mut self, at: DateTime<Utc>, answer: &LookUp<Receipt>) {
        match answer {
            LookUp::Found(receipt) => {
                self.message_id = Some(receipt.message_id.clone());
                self.is(at, PlatformAnswer::Found);
            }
            LookUp::Absent => self.is(at, PlatformAnswer::Absent),
            LookUp::Unknowable { reason } => {
                self.text = Some(reason.clone());
                self.is(at, PlatformAnswer::Unknowable);
            }
        }
    }

    /// It came to nothing.
    pub fn failed(&mut self, at: DateTime<Utc>, error: &PostError) {
        let reason = error.reason();
        (self.status, self.code, self.text) = (reason.status, reason.code, Some(reason.to_string()));
        match error {
            PostError::Refused(_) => self.is(at, PlatformAnswer::Refused),
            PostError::Removed(_) => self.is(at, PlatformAnswer::Removed),
            PostError::NotSent { retry_after, .. } => {
                self.retry_after_seconds = retry_after.map(|wait| wait.as_secs());
                self.is(at, PlatformAnswer::NotSent);
            }
            PostError::Unknown(_) => self.is(at, PlatformAnswer::Unknown),
            PostError::DestinationClosed(_) => self.is(at, PlatformAnswer::DestinationClosed),
        }
    }

    fn is(&mut self, at: DateTime<Utc>, answer: PlatformAnswer) {
        (self.answered_at, self.answer) = (Some(at), Some(answer));
    }
}

/// How the reason of a post begins whose destination is closed: it is paused.
pub const DESTINATION_PAUSED: &str = "the destination is paused: ";

/// A post that its destination does not take holds the others for so long, counted from the first time. After that it
/// may be the post, and not the destination.
pub const HOLDS_FOR: Duration = Duration::from_secs(6 * 60 * 60);

/// The end of one attempt at a post, as its node reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledPost {
    /// The post.
    pub id: PostId,
    /// The attempt's token.
    pub fence: Fence,
    /// How it ended.
    pub end: PostEnd,
    /// What the platform was asked, and what it answered, in that order: kept for people.
    pub exchanges: Vec<Exchange>,
}

/// What became of ends that were to be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostsSettled {
    /// Posts whose lease was lost: nothing was written for those.
    pub lost: Vec<PostId>,
    /// Tasks whose breaker was opened by a post that failed, and their failures in a row.
    pub paused: Vec<(TaskId, u32)>,
}

/// A platform whose limits are counted for all nodes together, by a token's fingerprint
/// (see [`ContentPoster::egress_scope`](crate::post::ContentPoster::egress_scope)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressScope {
    /// The platform's name.
    pub platform: String,
    /// What its limits are counted by.
    pub scope: String,
}

/// For so long a node sends for a scope without having said again that it does.
pub const EGRESS_LEASE: Duration = Duration::from_secs(15);

/// The deliverer's side of the store. All writes of an attempt are conditional on its fence.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Takes, or keeps, for `lease` what of `scopes` no other living node sends for. Returns the platforms for which another
    /// one does: this node must leave their posts alone. A node that has left, or is taken for dead, sends for nothing.
    async fn take_egress(
        &self,
        node: &NodeId,
        scopes: &[EgressScope],
        lease: Duration,
    ) -> Result<Vec<String>, LedgerError>;

    /// Leases up to `limit` posts that may go out now, on platforms other than `without`, and commits their attempt rows. At most one post of a
    /// destination is on its way at a time, oldest first, and destinations take turns; a part waits for the parts before it. While a post waits
    /// because its destination did not take it, no other goes there.
    ///
    /// Behind them come posts that are there and that something is to follow ([`ClaimedPost::posted`]): one of a
    /// destination at a time, and no post waits for them. When their lease is over they are due again.
    async fn claim_posts(
        &self,
        node: &NodeId,
        limit: usize,
        lease: Duration,
        without: &[String],
    ) -> Result<Vec<ClaimedPost>, LedgerError>;

    /// Stores how attempts ended that `node` claimed.
    async fn settle_posts(&self, node: &NodeId, ended: &[SettledPost]) -> Result<PostsSettled, LedgerError>;

    /// Takes posts whose lease is over from nodes that did not settle them: they become due again, as uncertain
    /// since the attempt that was lost (or since an earlier one in doubt).
    async fn rescue_posts(&self) -> Result<usize, LedgerError>;

    /// When the next post that waits for a time is due, on platforms other than `without`; posts that are due but wait for another one's time are left out. It may be too early, and lie in
    /// the past, for a post that is due but held up by another one of its destination that is on its way.
    async fn next_post_due(&self, without: &[String]) -> Result<Option<DateTime<Utc>>, LedgerError>;
}

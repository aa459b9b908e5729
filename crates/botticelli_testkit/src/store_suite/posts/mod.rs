//! The outbox: in order, one at a time, and never by two nodes.

mod attempts;
mod decisions;
mod egress;
mod failures;
mod follow_ups;
mod holds;
mod limits;
mod order;

pub use attempts::*;
pub use decisions::*;
pub use egress::*;
pub use failures::*;
pub use follow_ups::*;
pub use holds::*;
pub use limits::*;
pub use order::*;

use super::players::*;
use crate::databases::TestStore;
use botticelli_database::{Decided, PostDecision, PostFilter, PostView};
use botticelli_server::ids::{Fence, PostId};
use botticelli_server::ledger::{Ledger as _, Recorded};
use botticelli_server::limits::DeliveryLimits;
use botticelli_server::outbox::{
    Asked, ClaimedPost, EGRESS_LEASE, EgressScope, Exchange, HOLDS_FOR, NewPost, Outbox as _, PostEnd,
    PostHistory as _, PostState, SettledPost,
};
use botticelli_server::outcome::{AttemptEnd, SkipReason};
use botticelli_server::post::{LookUp, PostError, Reason, Receipt};
use botticelli_server::task::{PauseReason, Task};
use chrono::{DateTime, Utc};
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn claim(player: &Player) -> Vec<ClaimedPost> {
    player.store.claim_posts(&player.id, 100, LEASE, &[]).await.expect("an answer")
}

pub(super) async fn claim_one(player: &Player) -> ClaimedPost {
    let mut claimed = claim(player).await;
    assert_eq!(claimed.len(), 1, "{claimed:?}");
    claimed.remove(0)
}

fn texts(claimed: &[ClaimedPost]) -> Vec<&str> {
    let mut texts: Vec<_> = claimed.iter().map(|post| post.content.text.as_str()).collect();
    texts.sort_unstable();
    texts
}

pub(super) fn posted(db: &TestStore, id: &str) -> PostEnd {
    PostEnd::Posted(Receipt {
        message_id: id.into(),
        posted_at: db.time(),
        link: Some(format!("https://example.org/{id}")),
        recovered: false,
        to_follow: Vec::new(),
        missing: Vec::new(),
    })
}

fn post_failed() -> PostEnd {
    PostEnd::Failed { error: "no such channel".into() }
}

fn needs_review() -> PostEnd {
    PostEnd::NeedsReview { reason: "nobody can tell".into() }
}

fn deferred(until: DateTime<Utc>, uncertain: bool) -> PostEnd {
    PostEnd::Deferred { until, reason: "a limit".into(), uncertain, holds: false, counts: false }
}

fn not_taken(until: DateTime<Utc>) -> PostEnd {
    PostEnd::Deferred {
        until,
        reason: "the network is away".into(),
        uncertain: false,
        holds: true,
        counts: true,
    }
}

pub(super) async fn settle(player: &Player, post: &ClaimedPost, end: PostEnd) -> Vec<PostId> {
    let ended = [SettledPost { id: post.id, fence: post.fence, end, exchanges: Vec::new() }];
    player.store.settle_posts(&player.id, &ended).await.expect("an answer").lost
}

pub(super) async fn view(db: &TestStore, id: PostId) -> PostView {
    db.post(id).await.expect("an answer").expect("the post")
}

/// A node, and a task whose runs make posts.
pub(super) async fn sender(db: &TestStore) -> (Player, Task) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    (Player::enter(db, "node").await, task)
}

/// One run of `task` that makes these posts, a minute after the last.
pub(super) async fn makes(db: &TestStore, player: &Player, task: &Task, posts: Vec<NewPost>) {
    player.run(task, posts).await;
    db.advance(MINUTE).await;
}

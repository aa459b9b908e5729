//! What the deliverer of this node sent.

use super::instruments::bounds;
use super::{Counters, Description, Exposition, Histogram, Kind, Source};
use async_trait::async_trait;
use botticelli_server::outbox::{ClaimedPost, PostEnd};
use chrono::{DateTime, Utc};

const POSTS: Description = Description {
    name: "actor_posts_total",
    kind: Kind::Counter,
    labels: &["platform", "state"],
    help: "Attempts at posts on this node, by the state that the post was in afterwards.",
};
const DELIVERY: Description = Description {
    name: "actor_post_delivery_seconds",
    kind: Kind::Histogram,
    labels: &[],
    help: "From when a post was to go out until its platform had taken it.",
};

/// Instruments of a deliverer.
pub struct DeliveryMetrics {
    posts: Counters<(String, &'static str)>,
    delivery: Histogram,
}

impl Default for DeliveryMetrics {
    fn default() -> Self {
        Self {
            posts: Counters::new(&POSTS),
            delivery: Histogram::new(
                &DELIVERY,
                bounds![0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 21600.0],
            ),
        }
    }
}

impl DeliveryMetrics {
    /// The store has taken this end of an attempt. `platform`: by the name of one that this server knows.
    pub fn settled(&self, post: &ClaimedPost, platform: &str, end: &PostEnd, ended_at: DateTime<Utc>) {
        let state = match end {
            PostEnd::Posted(_) => "posted",
            // It was posted, and counted, before.
            PostEnd::Followed { .. } => return,
            PostEnd::Failed { .. } => "failed",
            PostEnd::Deferred { .. } => "deferred",
            PostEnd::Skipped { .. } => "skipped",
            PostEnd::NeedsReview { .. } => "needs_review",
        };
        self.posts.count((platform.to_owned(), state));
        if let PostEnd::Posted(_) = end {
            self.delivery.observe_since(post.wanted_at, ended_at);
        }
    }
}

#[async_trait]
impl Source for DeliveryMetrics {
    async fn write(&self, text: &mut Exposition) {
        self.posts.write(text);
        self.delivery.write(text);
    }
}

//! Limits that an actor sets for itself: how often it posts to a destination, and in which hours.
//!
//! They are decided twice: when the post is written, and again when it is delivered.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limits that travel with a post.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryLimits {}

/// Whether a post may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Now.
    Now,
    /// Not before this time.
    Later(DateTime<Utc>),
    /// Not at all.
    Skip,
}

impl DeliveryLimits {
    /// Decides for a post at `now`, given the times at which this task posted, or will post, to the destination.
    pub fn verdict(&self, _earlier: &[DateTime<Utc>], _now: DateTime<Utc>) -> Verdict {
        Verdict::Now
    }
}

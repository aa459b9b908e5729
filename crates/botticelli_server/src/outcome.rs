//! How a run ended, and how an execution ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::any::Any;

/// Why an occurrence, or the work of an execution, was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The server was not there at the time, and the task's `catch_up` does not want it any more.
    Missed,
    /// It was later than `misfire_grace_seconds` allows.
    TooLate,
    /// The task was still running (`overlap`).
    Overlap,
    /// It fell into the wait after a failure.
    Backoff,
    /// The task was paused.
    Paused,
    /// The pipeline found nothing to post.
    NothingToPost,
    /// Everything found had been posted before.
    Duplicate,
    /// A limit that the actor sets for itself was reached.
    RateLimited,
    /// So many runs of the task waited already that its trigger takes no more (`max_waiting`).
    TooManyWaiting,
}

impl SkipReason {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::TooLate => "too_late",
            Self::Overlap => "overlap",
            Self::Backoff => "backoff",
            Self::Paused => "paused",
            Self::NothingToPost => "nothing_to_post",
            Self::Duplicate => "duplicate",
            Self::RateLimited => "rate_limited",
            Self::TooManyWaiting => "too_many_waiting",
        }
    }
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The pipeline ended well and its posts, if any, are in the outbox.
    Succeeded,
    /// The last attempt failed.
    Failed {
        /// What went wrong, naming the culprit.
        error: String,
    },
    /// Nothing was done, and why.
    Skipped(SkipReason),
    /// Somebody stopped it.
    Cancelled,
}

impl Outcome {
    /// The word used in tables, JSON and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Skipped(_) => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// `success` in the history: true, false, or unknown because nothing was tried to the end.
    pub fn success(&self) -> Option<bool> {
        match self {
            Self::Succeeded => Some(true),
            Self::Failed { .. } => Some(false),
            Self::Skipped(_) | Self::Cancelled => None,
        }
    }
}

/// What one attempt came to. [`crate::plan::settle`] turns it into the execution's and the task's next state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The pipeline ended well.
    Succeeded,
    /// The pipeline decided to do nothing.
    Skipped(SkipReason),
    /// The pipeline failed.
    Failed {
        /// What went wrong, naming the culprit.
        error: String,
        /// Whether another attempt could end differently: a bad setting stays bad.
        recoverable: bool,
    },
    /// Cut short by a shutdown. Not a failure: the execution is handed on.
    Interrupted,
    /// Somebody stopped it.
    Cancelled,
}

/// What a panic says of itself, for the error that it becomes.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// How the skills of one attempt fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillCounts {
    /// Ended well.
    pub succeeded: u32,
    /// Failed.
    pub failed: u32,
    /// Disabled, or not reached.
    pub skipped: u32,
}

//! Alerts, as people and the server see them.

use botticelli_server::alert::{AlertRule, Severity, Trouble};
use botticelli_server::ids::{ActorName, AlertName};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

/// An alert in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AlertView {
    /// Its number.
    pub id: i64,
    /// The `[[alerts]]` section that tells it.
    pub alert: AlertName,
    /// What it is about.
    pub rule: AlertRule,
    /// How bad that is.
    pub severity: Severity,
    /// What has the trouble: a task, a destination, a platform, an invariant.
    pub subject: String,
    /// The actor, where it is a task's.
    pub actor_name: Option<ActorName>,
    /// The same in words, as it was told last.
    pub summary: String,
    /// The same in all that was told of it.
    pub incident: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was told last.
    pub last_sent_at: DateTime<Utc>,
    /// When it ended; `None`: it goes on.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Which alerts are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertFilter {
    /// Also those that are over.
    pub ended_too: bool,
    /// So many at most.
    pub limit: usize,
}

/// What one look at everything came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertsSeen {
    /// Whether this node is the one that watches.
    pub watches: bool,
    /// What is told from now on.
    pub begun: Vec<Trouble>,
    /// How many were told again.
    pub repeated: usize,
    /// How many are over.
    pub ended: usize,
}

impl AlertsSeen {
    /// Whether there is something to deliver.
    pub fn is_told(&self) -> bool {
        !self.begun.is_empty() || self.repeated > 0 || self.ended > 0
    }
}

//! What the engine is doing.

use chrono::{DateTime, Utc};

/// What the engine is doing: for health checks and metrics, and for whoever waits until it has come to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Claimed, and waiting for their time or for a slot.
    pub claimed: usize,
    /// Attempts that run.
    pub running: usize,
    /// Results on their way to the store.
    pub recording: usize,
    /// Whether the store is being asked something.
    pub asking: bool,
    /// Whether the store answered when it was asked last.
    pub reachable: bool,
    /// When the engine looks at its timer again if nothing happens before.
    pub next_look: DateTime<Utc>,
}

impl Activity {
    /// Of an engine that has not looked at anything yet.
    pub(super) const NEW: Self = Self {
        claimed: 0,
        running: 0,
        recording: 0,
        asking: false,
        reachable: true,
        next_look: DateTime::<Utc>::MIN_UTC,
    };
}

//! The end of a server: one deadline that all of its parts share, and what they could not write down until then.

use botticelli_server::ids::TaskId;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// When nothing runs any more: so long all that remains may take to be recorded.
pub const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// One stop, from the moment when it is asked for. Runs and requests have the grace period; when they are over, or it
/// is, all that remains to be written shares [`LAST_MOMENTS`].
pub struct Shutdown {
    grace: Duration,
    last_moments: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running_until: Option<Instant>,
    until: Option<Instant>,
    unrecorded: BTreeSet<TaskId>,
}

impl Shutdown {
    /// One that nobody has asked for yet.
    pub fn new(grace: Duration) -> Self {
        Self { grace, last_moments: LAST_MOMENTS, state: Mutex::default() }
    }

    /// One that leaves hardly a moment, for tests that wait for its end.
    #[cfg(test)]
    pub(crate) fn hasty() -> Self {
        Self { last_moments: Duration::from_millis(20), ..Self::new(Duration::from_secs(60)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until then runs and requests may go on. The first to ask begins the stop.
    pub fn running_until(&self) -> Instant {
        *self.state().running_until.get_or_insert_with(|| Instant::now() + self.grace)
    }

    /// What ran is over. Until the moment that this returns, the rest is recorded; who is not done by then gives up.
    pub fn nothing_runs(&self) -> Instant {
        let until = self.running_until().min(Instant::now()) + self.last_moments;
        let mut state = self.state();
        let until = state.until.map_or(until, |known| known.max(until));
        *state.until.insert(until)
    }

    /// The end of it all, as far as it is known by now.
    pub fn until(&self) -> Instant {
        let latest = self.running_until() + self.last_moments;
        self.state().until.unwrap_or(latest)
    }

    /// The store did not take what this task did last.
    pub fn lost(&self, task: &TaskId) {
        self.state().unrecorded.insert(task.clone());
    }

    /// The tasks whose last results the store did not take.
    pub fn unrecorded(&self) -> BTreeSet<TaskId> {
        self.state().unrecorded.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_parts_wait_it_is_one_deadline() {
        let shutdown = Shutdown::new(Duration::from_secs(30));
        let grace_ends = shutdown.running_until();
        assert_eq!(shutdown.until(), grace_ends + LAST_MOMENTS);
        let until = shutdown.nothing_runs();
        assert!(until < grace_ends, "nobody waits for the grace period when nothing runs");
        assert_eq!(shutdown.until(), until);
        assert_eq!(shutdown.running_until(), grace_ends);
        // A request that ends later has its own answer to record, but never after this.
        assert!(shutdown.nothing_runs() <= grace_ends + LAST_MOMENTS);

        let no_grace = Shutdown::new(Duration::ZERO);
        let asked = no_grace.running_until();
        assert_eq!(
            (no_grace.nothing_runs(), no_grace.nothing_runs()),
            (asked + LAST_MOMENTS, asked + LAST_MOMENTS)
        );
    }
}

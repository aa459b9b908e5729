//! The clock that everything in the double goes by: snowflakes, windows, limits, polls.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

type Source = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Tells the time, and can be moved forward. Clones show the same time.
#[derive(Clone)]
pub struct Clock {
    source: Source,
    advanced: Arc<Mutex<TimeDelta>>,
}

impl Clock {
    /// The system's time.
    #[expect(clippy::disallowed_methods, reason = "this is the double's clock")]
    #[must_use]
    pub fn system() -> Self {
        Self::following(Utc::now)
    }

    /// Stands still at `start` until it is advanced.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self::following(move || start)
    }

    /// Shows what `source` says, for instance the clock of the server under test.
    #[must_use]
    pub fn following(source: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self { source: Arc::new(source), advanced: Arc::default() }
    }

    /// The time, in whole microseconds.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let advanced = *self.advanced.lock().unwrap_or_else(PoisonError::into_inner);
        ((self.source)() + advanced).trunc_subsecs(6)
    }

    /// Moves the clock forward. Replies that are slow on purpose wait in real time and don't notice.
    pub fn advance(&self, by: Duration) {
        let mut advanced = self.advanced.lock().unwrap_or_else(PoisonError::into_inner);
        *advanced += TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

//! The database's time on this node.

use async_trait::async_trait;
use botticelli_server::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// This node's clock, put right by what the database says: due times are the database's, so a node whose clock is wrong
/// starts work no earlier and no later than its neighbours.
#[derive(Debug)]
pub struct DatabaseClock {
    local: Arc<dyn Clock>,
    /// Database minus local, in microseconds.
    offset: AtomicI64,
}

impl DatabaseClock {
    /// A clock that agrees with `local` until it is told otherwise.
    pub fn new(local: Arc<dyn Clock>) -> Self {
        Self { local, offset: AtomicI64::new(0) }
    }

    /// The local time, for measuring a question to the database.
    pub fn local_now(&self) -> DateTime<Utc> {
        self.local.now()
    }

    /// Takes account of the database having said `database`, between `asked` and `answered` by the local clock.
    pub fn set(&self, asked: DateTime<Utc>, database: DateTime<Utc>, answered: DateTime<Utc>) {
        let round_trip = answered - asked;
        let measured = database - (asked + round_trip / 2);
        let known = self.offset();
        // The answer came at some moment of the round trip: a difference within it is no difference.
        if (measured - known).abs() > round_trip / 2 {
            self.offset.store(measured.num_microseconds().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Database minus local.
    pub fn offset(&self) -> TimeDelta {
        TimeDelta::microseconds(self.offset.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl Clock for DatabaseClock {
    fn now(&self) -> DateTime<Utc> {
        self.local.now() + self.offset()
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        self.local.sleep_until(at - self.offset()).await;
    }
}

//! The database's time on this node.

use async_trait::async_trait;
use botticelli_server::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use tokio::sync::watch;

/// This node's clock, put right by what the database says: due times are the database's, so a node whose clock is wrong
/// starts work no earlier and no later than its neighbours.
#[derive(Debug)]
pub struct DatabaseClock {
    local: Arc<dyn Clock>,
    /// Database minus local.
    offset: watch::Sender<TimeDelta>,
}

impl DatabaseClock {
    /// A clock that agrees with `local` until it is told otherwise.
    pub fn new(local: Arc<dyn Clock>) -> Self {
        Self { local, offset: watch::Sender::new(TimeDelta::zero()) }
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
            self.offset.send_replace(measured);
        }
    }

    /// Database minus local.
    pub fn offset(&self) -> TimeDelta {
        *self.offset.borrow()
    }
}

#[async_trait]
impl Clock for DatabaseClock {
    fn now(&self) -> DateTime<Utc> {
        self.local.now() + self.offset()
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        // When the local clock is found to be wrong, so is the time until which was to be slept.
        let mut offset = self.offset.subscribe();
        loop {
            let until = at - *offset.borrow_and_update();
            tokio::select! {
                () = self.local.sleep_until(until) => return,
                _changed = offset.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use botticelli_testkit::clock::ManualClock;
    use std::time::Duration;

    const HOUR: TimeDelta = TimeDelta::hours(1);

    #[tokio::test]
    async fn a_sleeper_wakes_at_the_databases_time_though_the_local_clock_was_set_meanwhile() {
        let local = ManualClock::new();
        let clock = Arc::new(DatabaseClock::new(local.clone()));
        let at = clock.now() + Duration::from_secs(10);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(at).await }
        });
        local.somebody_sleeps_until(at).await;
        let database = local.now();
        local.set(database - HOUR);
        clock.set(local.now(), database, local.now());
        assert_eq!(clock.now(), database);
        local.somebody_sleeps_until(at - HOUR).await;
        local.advance(Duration::from_secs(10)).await;
        sleeper.await.expect("it wakes");
    }

    #[test]
    fn a_difference_within_the_round_trip_is_no_difference() {
        let local = ManualClock::new();
        let clock = DatabaseClock::new(local.clone());
        let (asked, answered) = (local.now(), local.now() + Duration::from_millis(20));
        clock.set(asked, asked + Duration::from_millis(3), answered);
        assert_eq!(clock.offset(), TimeDelta::zero());
        clock.set(asked, asked + HOUR, answered);
        assert_eq!(clock.offset(), HOUR - TimeDelta::milliseconds(10));
    }
}

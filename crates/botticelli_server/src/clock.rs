//! Time is injected: nothing in the server asks the machine what time it is, except through a [`Clock`].

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, Utc};

/// What time it is, and waiting for a time.
#[async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time now, in whole microseconds: what both databases can hold (see [`to_microseconds`]).
    fn now(&self) -> DateTime<Utc>;

    /// Returns when [`Clock::now`] has reached `at`: at once for a time that is past.
    async fn sleep_until(&self, at: DateTime<Utc>);
}

/// PostgreSQL keeps microseconds. A finer time would not compare equal to itself after a round trip.
pub fn to_microseconds(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}

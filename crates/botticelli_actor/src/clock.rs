//! The machine's clock: the one place that asks what time it is.

mod last_moment;

use async_trait::async_trait;
use botticelli_server::clock::{Clock, to_microseconds};
use chrono::{DateTime, Utc};
use std::time::{Duration, Instant};

/// After so long at most a sleeper looks at the clock again: it may have been set, or the machine was suspended.
const SLICE: Duration = Duration::from_secs(1);

/// tokio's timer is late by less than this. The rest is waited for more precisely.
const LAST_MOMENT: Duration = Duration::from_millis(3);

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that the others take")]
    fn now(&self) -> DateTime<Utc> {
        to_microseconds(Utc::now())
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        while let Ok(left) = (at - self.now()).to_std()
            && !left.is_zero()
        {
            if left > LAST_MOMENT {
                tokio::time::sleep((left - LAST_MOMENT).min(SLICE)).await;
            } else {
                last_moment::wait(Instant::now() + left).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn the_time_is_in_whole_microseconds() {
        assert_eq!(SystemClock.now().timestamp_subsec_nanos() % 1_000, 0);
    }

    #[tokio::test]
    async fn a_past_time_is_not_waited_for() {
        let before = std::time::Instant::now();
        SystemClock.sleep_until(SystemClock.now() - TimeDelta::days(1)).await;
        assert!(before.elapsed() < Duration::from_millis(50));
    }

    /// The best of several, because the machine may be busy.
    #[tokio::test]
    async fn a_sleeper_is_never_early_and_hardly_late() {
        let mut least = TimeDelta::MAX;
        for _ in 0..10 {
            let at = SystemClock.now() + TimeDelta::milliseconds(20);
            SystemClock.sleep_until(at).await;
            let late = SystemClock.now() - at;
            assert!(late >= TimeDelta::zero());
            least = least.min(late);
        }
        assert!(least < TimeDelta::milliseconds(1), "{least}");
    }

    #[tokio::test]
    async fn many_sleepers_wake_each_in_its_turn() {
        let start = SystemClock.now() + TimeDelta::milliseconds(5);
        let sleepers = (0..200).rev().map(|n| async move {
            let at = start + TimeDelta::microseconds(n * 50);
            SystemClock.sleep_until(at).await;
            SystemClock.now() >= at
        });
        assert!(futures::future::join_all(sleepers).await.into_iter().all(|in_time| in_time));
    }

    #[tokio::test]
    async fn more_than_a_slice_is_slept_too() {
        let at = SystemClock.now() + TimeDelta::milliseconds(1_100);
        SystemClock.sleep_until(at).await;
        assert!(SystemClock.now() >= at);
    }
}

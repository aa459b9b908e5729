//! What tests ask of the real binary, by its environment: to abort at a point, and that its time goes faster. Only with
//! the feature `fail-points`, which no release has.

use crate::clock::SystemClock;
use crate::config::env;
use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use botticelli_database::fail_points::{Point, arm};
use botticelli_server::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Names a point and at which of its passings the process aborts: `receipt_stored:2`.
pub const FAIL_POINT: &str = "ACTOR_SERVER_FAIL_POINT";
/// A [`FastClock`], as it is written.
pub const CLOCK: &str = "ACTOR_SERVER_CLOCK";

/// Does what the environment asks for, and answers with the clock that this process goes by.
pub(crate) fn begin() -> anyhow::Result<Arc<dyn Clock>> {
    let (point, clock) = env::rehearsal();
    if let Some(point) = point {
        let (point, nth) = parse(&point).with_context(|| format!("{FAIL_POINT}={point}"))?;
        arm(point, nth);
    }
    let Some(clock) = clock else { return Ok(Arc::new(SystemClock)) };
    Ok(Arc::new(FastClock::from_str(&clock).with_context(|| format!("{CLOCK}={clock}"))?))
}

fn parse(text: &str) -> anyhow::Result<(Point, u32)> {
    let (name, nth) = text.split_once(':').context("needs a colon")?;
    let point = Point::ALL.iter().copied().find(|point| point.name() == name).context("no such point")?;
    Ok((point, nth.parse()?))
}

/// Shows `shown` when the machine's clock shows `real`, and from there on goes `speed` times as fast: so windows and
/// leases of minutes cost a test seconds, all of them alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastClock {
    /// By the machine's clock.
    pub real: DateTime<Utc>,
    /// By this one.
    pub shown: DateTime<Utc>,
    /// At least 1.
    pub speed: u32,
}

#[async_trait]
impl Clock for FastClock {
    fn now(&self) -> DateTime<Utc> {
        let speed = i32::try_from(self.speed).unwrap_or(i32::MAX);
        self.shown + (SystemClock.now() - self.real) * speed
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        while let Ok(left) = (at - self.now()).to_std()
            && !left.is_zero()
        {
            tokio::time::sleep((left / self.speed).min(Duration::from_secs(1))).await;
        }
    }
}

impl fmt::Display for FastClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.real.timestamp_micros(), self.shown.timestamp_micros(), self.speed)
    }
}

impl FromStr for FastClock {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut fields = text.split(',');
        let mut field = || fields.next().context("needs three numbers");
        let time = |text: &str| -> anyhow::Result<DateTime<Utc>> {
            Ok(DateTime::UNIX_EPOCH + TimeDelta::microseconds(text.parse()?))
        };
        let clock = Self { real: time(field()?)?, shown: time(field()?)?, speed: field()?.parse()? };
        ensure!(clock.speed > 0 && fields.next().is_none(), "needs three numbers, the last of them not 0");
        Ok(clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_time_goes_faster_from_where_it_was_set() {
        let real = SystemClock.now();
        let clock = FastClock { real, shown: real + TimeDelta::days(1), speed: 100 };
        let clock: FastClock = clock.to_string().parse().expect("as it was written");
        let begun = clock.now();
        assert!(begun - real >= TimeDelta::days(1));
        clock.sleep_until(begun + TimeDelta::seconds(2)).await;
        let (slept, really) = (clock.now() - begun, SystemClock.now() - real);
        assert!(slept >= TimeDelta::seconds(2) && really < TimeDelta::seconds(2), "{slept} in {really}");
    }

    #[test]
    fn a_point_is_named_with_the_passing_that_is_meant() {
        assert_eq!(parse("receipt_stored:2").expect("a point"), (Point::ReceiptStored, 2));
        for wrong in ["receipt_stored", "nowhere:1", "claimed:x"] {
            parse(wrong).expect_err(wrong);
        }
        for wrong in ["", "1,2", "1,2,0", "1,2,3,4"] {
            FastClock::from_str(wrong).expect_err(wrong);
        }
    }
}

//! The schedules without a calendar: interval, once, immediate.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, NaiveDateTime, TimeDelta, Utc};

use super::Missed;
use super::error::{ScheduleError, shown};
use super::zone::Zone;

/// The longest period of an interval: ten years.
pub const MAX_INTERVAL_SECONDS: u32 = 10 * 366 * 86_400;

/// Again and again after the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntervalSchedule {
    /// 1 to [`MAX_INTERVAL_SECONDS`].
    seconds: u32,
}

impl IntervalSchedule {
    /// An interval of 1 to [`MAX_INTERVAL_SECONDS`] seconds.
    ///
    /// # Errors
    /// When `seconds` is outside that range.
    pub fn new(seconds: i64) -> Result<Self, ScheduleError> {
        let in_range = u32::try_from(seconds).ok().filter(|n| (1..=MAX_INTERVAL_SECONDS).contains(n));
        let seconds = in_range.ok_or(ScheduleError::Interval { seconds })?;
        Ok(Self { seconds })
    }

    /// The time from one occurrence to the next.
    pub fn period(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    pub(super) fn after(&self, previous: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.nth_after(previous, 1)
    }

    /// The occurrences after `after`, which was one, and up to `until`.
    pub(super) fn between(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<Missed> {
        let count = (until - after).num_seconds() / i64::from(self.seconds);
        let latest = self.nth_after(after, count).filter(|_| count > 0)?;
        Some(Missed { count: count.unsigned_abs(), latest })
    }

    fn nth_after(&self, time: DateTime<Utc>, nth: i64) -> Option<DateTime<Utc>> {
        let seconds = nth.checked_mul(self.seconds.into())?;
        time.checked_add_signed(TimeDelta::try_seconds(seconds)?)
    }
}

/// Once, at a given time.
#[derive(Debug, Clone)]
pub struct OnceSchedule {
    at: DateTime<Utc>,
    zone: Arc<Zone>,
    /// As it was written, where no zone says how the time is shown.
    offset: Option<FixedOffset>,
}

impl OnceSchedule {
    /// Once at that time (to the microsecond, which is what the databases keep).
    pub fn new(at: DateTime<Utc>) -> Self {
        Self { at: to_the_microsecond(at), zone: Zone::utc(), offset: None }
    }

    /// Once at a time in RFC 3339. `timezone` (an IANA name) says how it is shown; with it the offset may be left out,
    /// and the time is what the zone's wall clock shows: in a gap the end of the gap, in a fold the first time.
    ///
    /// # Errors
    /// When the time can't be read, has neither offset nor zone, or the zone is not known.
    pub fn parse(at: &str, timezone: Option<&str>) -> Result<Self, ScheduleError> {
        let zone = timezone.map(Zone::get).transpose()?;
        let written = DateTime::parse_from_rfc3339(at);
        let offset = written.as_ref().ok().map(|at| *at.offset());
        let offset = offset.filter(|offset| zone.is_none() && offset.local_minus_utc() != 0);
        let at = match (written, at.parse::<NaiveDateTime>(), &zone) {
            (Ok(at), _, _) => at.to_utc(),
            (Err(_), Ok(local), Some(zone)) => resolve(local, zone),
            (Err(_), Ok(_), None) => return Err(ScheduleError::AtWithoutOffset { at: shown(at) }),
            (Err(_), Err(_), _) => return Err(ScheduleError::At { at: shown(at) }),
        };
        Ok(Self { zone: zone.unwrap_or_else(Zone::utc), offset, ..Self::new(at) })
    }

    /// The time.
    pub fn at(&self) -> DateTime<Utc> {
        self.at
    }

    /// The IANA name of the zone it is shown in.
    pub fn timezone(&self) -> &str {
        self.zone.name()
    }

    pub(super) fn local(&self, time: DateTime<Utc>) -> DateTime<FixedOffset> {
        match self.offset {
            Some(offset) => time.with_timezone(&offset),
            None => self.zone.local(time),
        }
    }

    /// The offset from UTC that it was written with, if it has no time zone and is not in UTC.
    pub(super) fn offset(&self) -> Option<FixedOffset> {
        self.offset
    }

    pub(super) fn describe(&self) -> String {
        let at = self.local(self.at).format("%Y-%m-%d %H:%M:%S%.f %:z");
        match self.offset {
            Some(_) => format!("once at {at}"),
            None => format!("once at {at}, {}", self.timezone()),
        }
    }
}

impl PartialEq for OnceSchedule {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at && self.timezone() == other.timezone() && self.offset == other.offset
    }
}

fn resolve(local: NaiveDateTime, zone: &Zone) -> DateTime<Utc> {
    let civil = local.and_utc();
    let shift = zone.resolve(civil.timestamp()) - civil.timestamp();
    TimeDelta::try_seconds(shift).and_then(|shift| civil.checked_add_signed(shift)).unwrap_or(civil)
}

fn to_the_microsecond(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}

/// Once, when the task is first seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImmediateSchedule {
    /// Once per start of the server instead. The schedule itself can't see a start: the engine looks at this.
    pub every_start: bool,
}

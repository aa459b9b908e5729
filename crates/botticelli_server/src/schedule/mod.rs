//! Schedules: when a task is due. Pure: `now` is an argument, and the zone data is compiled in.
//!
//! A *nominal time* is what a schedule says; together with the task it names an occurrence. [`ScheduleType`] finds
//! nominal times one after the other ([`first_occurrence`](ScheduleType::first_occurrence),
//! [`following`](ScheduleType::following)) and counts those that were missed
//! ([`occurrences_until`](ScheduleType::occurrences_until)).
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use botticelli_server::schedule::{CronSchedule, ScheduleType};
//!
//! let daily = ScheduleType::Cron(CronSchedule::new("0 0 9 * * * *", "Europe/Berlin")?);
//! let now = "2026-03-28T12:00:00Z".parse()?;
//! let next = daily.first_occurrence(now).ok_or("never")?;
//! assert_eq!(daily.local(next).to_rfc3339(), "2026-03-29T09:00:00+02:00");
//! assert_eq!(daily.describe(), "at 09:00:00 every day, Europe/Berlin");
//! # Ok(())
//! # }
//! ```

mod cron;
mod error;
mod jitter;
mod parse;
mod pattern;
mod simple;
mod words;
mod written;
mod zone;

use chrono::{DateTime, FixedOffset, Offset, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cron::{CronSchedule, Fold, Gap};
pub use error::{CronField, CronProblem, ScheduleError};
pub use jitter::jitter;
pub use simple::{ImmediateSchedule, IntervalSchedule, MAX_INTERVAL_SECONDS, OnceSchedule};
pub use written::WrittenSchedule;

/// When a task is due. One type for TOML, JSON and the engine: a value that exists is valid.
///
/// ```
/// use botticelli_server::schedule::ScheduleType;
///
/// let text = r#"{ "type": "Cron", "expression": "0 0 9 * * MON-FRI", "timezone": "Europe/Berlin" }"#;
/// let schedule: ScheduleType = serde_json::from_str(text).unwrap();
/// assert_eq!(schedule.describe(), "at 09:00:00 on Monday to Friday, Europe/Berlin");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "WrittenSchedule", into = "WrittenSchedule")]
pub enum ScheduleType {
    /// At the times of a cron expression.
    Cron(CronSchedule),
    /// Again and again after the same time, counted from the first occurrence: it does not drift.
    Interval(IntervalSchedule),
    /// Once, at a given time; when that is past and it never ran, now.
    Once(OnceSchedule),
    /// Once, when the task is first seen.
    Immediate(ImmediateSchedule),
    /// Never by itself: only when something or somebody asks for it.
    Event,
}

/// The schedule as it stands in configuration.
pub type ScheduleConfig = ScheduleType;

/// What [`Schedule::check`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleCheck {
    /// An occurrence is due that did not run yet.
    pub should_run: bool,
    /// The first nominal time after `now`; `None` is never again.
    pub next_run: Option<DateTime<Utc>>,
}

/// Several occurrences in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// How many, at least 1.
    pub count: u64,
    /// The nominal time of the last one.
    pub latest: DateTime<Utc>,
}

/// The questions that anyone can ask a schedule.
pub trait Schedule {
    /// Is a task due at `now` whose last occurrence was at `last_run` (`None` if it never ran)?
    fn check(&self, last_run: Option<DateTime<Utc>>, now: DateTime<Utc>) -> ScheduleCheck;

    /// The first nominal time strictly after `after`. An interval counts from `after`; `Immediate` has none.
    fn next_execution(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>>;
}

impl Schedule for ScheduleType {
    fn check(&self, last_run: Option<DateTime<Utc>>, now: DateTime<Utc>) -> ScheduleCheck {
        let due = match (self, last_run) {
            (_, None) => self.first_occurrence(now),
            // A run before the time of a `Once` was not the one.
            (Self::Once(once), Some(last_run)) => Some(once.at()).filter(|&at| last_run < at),
            (_, Some(last_run)) => self.following(last_run),
        };
        match due.and_then(|due| self.occurrences_until(due, now)) {
            Some(missed) => ScheduleCheck { should_run: true, next_run: self.following(missed.latest) },
            None => ScheduleCheck { should_run: false, next_run: due },
        }
    }

    fn next_execution(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Once(once) => Some(once.at()).filter(|&at| at > after),
            Self::Cron(_) | Self::Interval(_) | Self::Immediate(_) | Self::Event => self.following(after),
        }
    }
}

impl ScheduleType {
    /// The nominal time of the first occurrence of a task that is first seen at `now`: at once for an interval and
    /// `Immediate`; its time, also a past one, for `Once`; for cron the first match, which may be `now` itself.
    pub fn first_occurrence(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.at_or_after(now),
            Self::Interval(_) | Self::Immediate(_) => Some(now),
            Self::Once(once) => Some(once.at()),
            Self::Event => None,
        }
    }

    /// The nominal time after the nominal time `previous`; `None` when there is no other.
    pub fn following(&self, previous: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.after(previous),
            Self::Interval(interval) => interval.after(previous),
            Self::Once(_) | Self::Immediate(_) | Self::Event => None,
        }
    }

    /// Of the nominal times `first`, `following(first)`, … those up to and including `until`; `None` when even
    /// `first` is later. Years of missed seconds are counted in microseconds, not one by one.
    pub fn occurrences_until(&self, first: DateTime<Utc>, until: DateTime<Utc>) -> Option<Missed> {
        if first > until {
            return None;
        }
        let more = match self {
            Self::Cron(cron) => cron.between(first, until),
            Self::Interval(interval) => interval.between(first, until),
            Self::Once(_) | Self::Immediate(_) | Self::Event => None,
        };
        Some(match more {
            Some(more) => Missed { count: more.count + 1, ..more },
            None => Missed { count: 1, latest: first },
        })
    }

    /// In words: `at 09:00:00 every day, Europe/Berlin`, `every 5 minutes`, `once at 2026-12-24 18:00:00 +01:00`.
    pub fn describe(&self) -> String {
        match self {
            Self::Cron(cron) => cron.describe(),
            Self::Interval(interval) => words::every(interval.period()),
            Self::Once(once) => once.describe(),
            Self::Immediate(ImmediateSchedule { every_start: false }) => "once, at once".to_owned(),
            Self::Immediate(ImmediateSchedule { every_start: true }) => {
                "at every start of the server".to_owned()
            }
            Self::Event => "on events only".to_owned(),
        }
    }

    /// The IANA name of the schedule's time zone; `UTC` where none applies.
    pub fn timezone(&self) -> &str {
        match self {
            Self::Cron(cron) => cron.timezone(),
            Self::Once(once) => once.timezone(),
            Self::Interval(_) | Self::Immediate(_) | Self::Event => "UTC",
        }
    }

    /// What clocks show in the schedule's time zone.
    pub fn local(&self, time: DateTime<Utc>) -> DateTime<FixedOffset> {
        match self {
            Self::Cron(cron) => cron.local(time),
            Self::Once(once) => once.local(time),
            Self::Interval(_) | Self::Immediate(_) | Self::Event => time.with_timezone(&Utc.fix()),
        }
    }
}

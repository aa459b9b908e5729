//! Cron schedules: civil times, resolved to instants.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Missed;
use super::error::{CronProblem, ScheduleError, shown};
use super::parse::parse;
use super::pattern::{ALL_TIME, Pace, Pattern};
use super::words;
use super::zone::{Instant, Zone};

/// A cron expression, evaluated on the wall clock of a time zone.
///
/// # Grammar
/// `second minute hour day-of-month month weekday year`. The year may be left out (6 fields), and the seconds too
/// (5 fields: second 0). Each field is a list (`1,15`) of `*`, numbers, ranges (`9-17`) and steps (`*/5`, `10-40/10`,
/// `5/10` = from 5 on). Months and weekdays have names, short or in full, in any case; ranges of weekdays may go over
/// the end of the week (`FRI-MON`). `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`.
///
/// - Day of month: `L` the last day, `L-3` the third before it, `15W` the weekday (Monday to Friday) nearest to the
///   15th in the same month, `LW` the last weekday, `?` the same as `*`. A day that a month does not have is left out.
/// - Weekday: `FRI#2` the second Friday of the month, `FRIL` the last one, `?` the same as `*`.
/// - In 6 and 7 fields weekdays are numbered as in Quartz (1 = Sunday … 7 = Saturday), and a day must match day of
///   month *and* weekday. In 5 fields it is as in POSIX: 0 and 7 = Sunday, and when neither field starts with `*` (or
///   is `?`) a day must match day of month *or* weekday.
///
/// Occurrences are whole seconds whose local year is 1970 to 2199.
///
/// # When clocks change
/// An expression whose minute or hour field starts with `*` follows elapsed time: it is due whenever the wall clock
/// shows a matching time. Nothing happens in a gap, and both passes of a fold count. Any other expression names fixed
/// times: one that falls in a gap is due at the end of the gap ([`Gap`]), and one in a fold once, the first time
/// ([`Fold`]). The seconds don't matter for this. Times that coincide are one occurrence.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    expression: String,
    pattern: Pattern,
    zone: Arc<Zone>,
    gap: Gap,
    fold: Fold,
}

/// What becomes of a fixed time that the wall clock jumps over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// Due at the first instant after the gap.
    #[default]
    RunAfter,
    /// Not due on that day.
    Skip,
}

/// When a fixed time is due that the wall clock shows twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// The first time.
    #[default]
    First,
    /// The second time. Refused for expressions that follow elapsed time.
    Second,
    /// Both times.
    Both,
}

impl CronSchedule {
    /// A schedule with the default policies.
    ///
    /// # Errors
    /// When the expression can't be read or never matches, or the zone is not an IANA name.
    pub fn new(expression: &str, timezone: &str) -> Result<Self, ScheduleError> {
        let refused = |problem| ScheduleError::Cron { expression: shown(expression), problem };
        let pattern = parse(expression).map_err(refused)?;
        if pattern.first(ALL_TIME).is_none() {
            return Err(refused(CronProblem::NeverMatches));
        }
        Ok(Self {
            expression: expression.to_owned(),
            pattern,
            zone: Zone::get(timezone)?,
            gap: Gap::default(),
            fold: Fold::default(),
        })
    }

    /// The same schedule with these policies.
    ///
    /// # Errors
    /// When the policy contradicts an expression that follows elapsed time.
    pub fn with_policy(self, gap: Gap, fold: Fold) -> Result<Self, ScheduleError> {
        match (self.pattern.pace, fold) {
            (Pace::Elapsed, Fold::Second) => {
                Err(ScheduleError::FoldOfElapsed { expression: shown(&self.expression) })
            }
            _ => Ok(Self { gap, fold, ..self }),
        }
    }

    /// The expression as written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The IANA name of the zone.
    pub fn timezone(&self) -> &str {
        self.zone.name()
    }

    /// What becomes of fixed times in a gap.
    pub fn gap(&self) -> Gap {
        self.gap
    }

    /// What becomes of fixed times in a fold.
    pub fn fold(&self) -> Fold {
        self.fold
    }

    pub(super) fn local(&self, time: DateTime<Utc>) -> DateTime<FixedOffset> {
        self.zone.local(time)
    }

    pub(super) fn describe(&self) -> String {
        format!("{}, {}", words::pattern(&self.pattern), self.zone.name())
    }

    /// The first occurrence at or after `time`.
    pub(super) fn at_or_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let whole = time.timestamp() + i64::from(time.timestamp_subsec_nanos() > 0);
        self.first_from(whole)
    }

    /// The first occurrence strictly after `time`.
    pub(super) fn after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.first_from(time.timestamp() + 1)
    }

    /// The occurrences after `after` and up to `until`.
    pub(super) fn between(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<Missed> {
        let range = after.timestamp() + 1..until.timestamp() + 1;
        let windows = self.zone.index_at(range.start)..=self.zone.index_at(range.end);
        let count = windows.clone().filter_map(|index| Some(self.window(index)?.count(&range))).sum();
        let latest = windows.rev().find_map(|index| self.window(index)?.last(&range))?;
        Some(Missed { count, latest: DateTime::from_timestamp(latest, 0)? })
    }

    fn first_from(&self, start: Instant) -> Option<DateTime<Utc>> {
        let mut windows = self.zone.index_at(start)..self.zone.indices().end;
        let range = start..Instant::MAX;
        let found = windows.find_map(|index| self.window(index)?.first(&range))?;
        DateTime::from_timestamp(found, 0)
    }

    /// The part of a zone's stretch in which the pattern decides, after gap and fold policy.
    fn window(&self, index: usize) -> Option<Window<'_>> {
        let stretch = self.zone.stretch(index)?;
        let civil = stretch.civil();
        let mut window = Window {
            pattern: &self.pattern,
            instants: stretch.start..stretch.end,
            offset: civil.start - stretch.start,
            after_gap: None,
        };
        if self.pattern.pace == Pace::Elapsed {
            return Some(window);
        }
        let before = index.checked_sub(1).and_then(|index| self.zone.stretch(index));
        let next = self.zone.stretch(index + 1);
        // After a fold the clock shows again what it showed before; before a fold, what it is going to show again.
        let shown_before = before.map(|before| stretch.instant(before.civil().end));
        let shown_again = next.map(|next| stretch.instant(next.civil().start));
        match self.fold {
            Fold::First => window.start_at(shown_before),
            Fold::Second => window.end_at(shown_again),
            Fold::Both => {}
        }
        if let (Gap::RunAfter, Some(before)) = (self.gap, before) {
            let skipped = before.civil().end..civil.start;
            let at_start = window.first(&(stretch.start..stretch.start + 1)).is_some();
            let due = !skipped.is_empty() && !at_start && self.pattern.first(skipped).is_some();
            window.after_gap = due.then_some(stretch.start);
        }
        Some(window)
    }
}

/// Some time with a constant offset, in which the pattern decides; plus the occurrence that a gap left over.
struct Window<'a> {
    pattern: &'a Pattern,
    instants: Range<Instant>,
    offset: i64,
    /// An occurrence at the start of the window that the pattern itself doesn't have.
    after_gap: Option<Instant>,
}

impl Window<'_> {
    fn start_at(&mut self, start: Option<Instant>) {
        self.instants.start = self.instants.start.max(start.unwrap_or(Instant::MIN));
    }

    fn end_at(&mut self, end: Option<Instant>) {
        self.instants.end = self.instants.end.min(end.unwrap_or(Instant::MAX));
    }

    fn first(&self, range: &Range<Instant>) -> Option<Instant> {
        self.after_gap_in(range).or_else(|| {
            let found = self.pattern.first(self.civil(range))?;
            Some(found - self.offset)
        })
    }

    fn last(&self, range: &Range<Instant>) -> Option<Instant> {
        let found = self.pattern.last(self.civil(range)).map(|found| found - self.offset);
        found.or_else(|| self.after_gap_in(range))
    }

    fn count(&self, range: &Range<Instant>) -> u64 {
        self.pattern.count(self.civil(range)) + u64::from(self.after_gap_in(range).is_some())
    }

    fn after_gap_in(&self, range: &Range<Instant>) -> Option<Instant> {
        self.after_gap.filter(|instant| range.contains(instant))
    }

    fn civil(&self, range: &Range<Instant>) -> Range<i64> {
        let start = self.instants.start.max(range.start);
        let end = self.instants.end.min(range.end).max(start);
        start + self.offset..end + self.offset
    }
}

/// The same text, zone and policies.
impl PartialEq for CronSchedule {
    fn eq(&self, other: &Self) -> bool {
        let policy = |cron: &Self| (cron.gap, cron.fold);
        self.expression == other.expression
            && self.timezone() == other.timezone()
            && policy(self) == policy(other)
    }
}

/// The expression as written.
impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expression)
    }
}

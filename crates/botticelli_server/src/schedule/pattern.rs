//! Which civil (wall clock) times a cron expression matches. No zones here: a civil time is the number of seconds
//! since 1970-01-01T00:00:00 on a clock that knows no offsets.

use std::ops::Range;

use chrono::{Datelike, NaiveDate};

/// A civil time, in seconds.
pub(super) type Civil = i64;

pub(super) const DAY: i64 = 86_400;

/// Everything, with room to add an offset.
pub(super) const ALL_TIME: Range<Civil> = i64::MIN / 4..i64::MAX / 4;

/// The local years in which cron has occurrences.
pub(super) const YEARS: Range<i32> = 1970..2200;

/// A parsed cron expression.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) seconds: Set,
    pub(super) minutes: Set,
    pub(super) hours: Set,
    pub(super) days: Days,
    pub(super) months: Set,
    pub(super) weekdays: Weekdays,
    pub(super) years: Years,
    pub(super) day_rule: DayRule,
    pub(super) pace: Pace,
}

/// Small numbers, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Set(pub(super) u64);

/// The day-of-month field. A day matches when one of the parts says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Days {
    /// 1-31.
    pub(super) numbers: Set,
    /// `15W`: the weekday (Monday to Friday) nearest to that day, in the same month.
    pub(super) nearest_weekday: Set,
    /// `L` is 0, `L-3` is 3: days before the last one.
    pub(super) before_last: Set,
    /// `LW`: the last weekday (Monday to Friday).
    pub(super) last_weekday: bool,
}

/// The weekday field, 0 = Sunday. A day matches when one of the parts says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weekdays {
    pub(super) every: Set,
    /// `FRI#2` is in `nth[1]`.
    pub(super) nth: [Set; 5],
    /// `FRIL`: the last one of the month.
    pub(super) last: Set,
}

/// The years of [`YEARS`], as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Years([u64; 4]);

/// How day of month and weekday go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DayRule {
    Both,
    Either,
}

/// What an expression means when the clock is put forward or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Minute or hour start with `*`: it follows the clock as it really ticks.
    Elapsed,
    /// It names times of day, which the gap and fold policies look after.
    Fixed,
}

impl Pattern {
    /// The first match in the range.
    pub(super) fn first(&self, range: Range<Civil>) -> Option<Civil> {
        let (day, time) = split(range.start);
        let today = self.first_time(time).filter(|_| self.matches_day(day)).map(|time| (day, time));
        let (day, time) = today.or_else(|| {
            let day = self.first_day(day + 1..split(range.end).0 + 1)?;
            Some((day, self.first_time(0)?))
        })?;
        Some(day * DAY + time).filter(|found| range.contains(found))
    }

    /// The last match in the range.
    pub(super) fn last(&self, range: Range<Civil>) -> Option<Civil> {
        let (day, time) = split(range.end.checked_sub(1)?);
        let today = self.last_time(time).filter(|_| self.matches_day(day)).map(|time| (day, time));
        let (day, time) = today.or_else(|| {
            let day = self.last_day(split(range.start).0..day)?;
            Some((day, self.last_time(DAY - 1)?))
        })?;
        Some(day * DAY + time).filter(|found| range.contains(found))
    }

    /// How many matches the range holds; counted in whole days.
    pub(super) fn count(&self, range: Range<Civil>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let before = |civil| {
            let (day, time) = split(civil);
            if self.matches_day(day) { self.times_before(time) } else { 0 }
        };
        let whole_days = self.count_days(split(range.start).0..split(range.end).0);
        whole_days * self.times_before(DAY) + before(range.end) - before(range.start)
    }

    /// The first matching time of day at or after `time`.
    fn first_time(&self, time: i64) -> Option<i64> {
        let (hour, minute, second) = clock(time);
        let minute_and_second = |minute, second| {
            let this = self.seconds.first_from(second).filter(|_| self.minutes.has(minute));
            this.map(|second| (minute, second))
                .or_else(|| Some((self.minutes.first_from(minute + 1)?, self.seconds.first_from(0)?)))
        };
        let this = minute_and_second(minute, second).filter(|_| self.hours.has(hour));
        let (hour, (minute, second)) = match this {
            Some(rest) => (hour, rest),
            None => (self.hours.first_from(hour + 1)?, minute_and_second(0, 0)?),
        };
        Some(time_of(hour, minute, second))
    }

    /// The last matching time of day at or before `time`.
    fn last_time(&self, time: i64) -> Option<i64> {
        let (hour, minute, second) = clock(time);
        let minute_and_second = |minute, second| {
            let this = self.seconds.last_below(second + 1).filter(|_| self.minutes.has(minute));
            this.map(|second| (minute, second))
                .or_else(|| Some((self.minutes.last_below(minute)?, self.seconds.last_below(60)?)))
        };
        let this = minute_and_second(minute, second).filter(|_| self.hours.has(hour));
        let (hour, (minute, second)) = match this {
            Some(rest) => (hour, rest),
            None => (self.hours.last_below(hour)?, minute_and_second(59, 59)?),
        };
        Some(time_of(hour, minute, second))
    }

    /// How many times of day match before `time` (which may be the end of the day).
    fn times_before(&self, time: i64) -> u64 {
        let (hour, minute, second) = clock(time);
        let mut times = self.hours.count_below(hour);
        times *= self.minutes.count_below(60);
        times += if self.hours.has(hour) { self.minutes.count_below(minute) } else { 0 };
        times *= self.seconds.count_below(60);
        let this_minute = self.hours.has(hour) && self.minutes.has(minute);
        times + if this_minute { self.seconds.count_below(second) } else { 0 }
    }

    fn matches_day(&self, day: i64) -> bool {
        Month::of(day).is_some_and(|month| self.days_in(&month).has(month.day_of_month(day)))
    }

    fn first_day(&self, days: Range<i64>) -> Option<i64> {
        months(days.clone()).find_map(|month| {
            let found = self.days_in(&month).within(month.clip(&days)).first_from(0)?;
            Some(month.start + i64::from(found) - 1)
        })
    }

    fn last_day(&self, days: Range<i64>) -> Option<i64> {
        months(days.clone()).rev().find_map(|month| {
            let found = self.days_in(&month).within(month.clip(&days)).last_below(32)?;
            Some(month.start + i64::from(found) - 1)
        })
    }

    fn count_days(&self, days: Range<i64>) -> u64 {
        months(days.clone()).map(|month| self.days_in(&month).within(month.clip(&days)).count_below(32)).sum()
    }

    /// The matching days of a month.
    fn days_in(&self, month: &Month) -> Set {
        if !self.years.has(month.year) || !self.months.has(month.month) {
            return Set::default();
        }
        let (days, weekdays) = (self.days.in_month(month).0, self.weekdays.in_month(month).0);
        Set(match self.day_rule {
            DayRule::Both => days & weekdays,
            DayRule::Either => days | weekdays,
        })
    }
}

impl Days {
    pub(super) const ALL: Self = Self {
        numbers: Set::range(1, 31),
        nearest_weekday: Set(0),
        before_last: Set(0),
        last_weekday: false,
    };

    fn in_month(&self, month: &Month) -> Set {
        let mut days = self.numbers.within(1..month.length + 1);
        for day in self.nearest_weekday.within(1..month.length + 1).iter() {
            days.add(month.nearest_weekday(day));
        }
        for before in self.before_last.within(0..month.length).iter() {
            days.add(month.length - before);
        }
        if self.last_weekday {
            days.add(month.nearest_weekday(month.length));
        }
        days
    }
}

impl Weekdays {
    pub(super) const ALL: Self = Self { every: Set::range(0, 6), nth: [Set(0); 5], last: Set(0) };

    fn in_month(&self, month: &Month) -> Set {
        let all = Set::range(1, month.length);
        if *self == Self::ALL {
            return all;
        }
        let mut days = Set::default();
        for weekday in 0..7 {
            let first = month.first(weekday);
            let dates = Set(WEEKLY << first).within(1..month.length + 1);
            if self.every.has(weekday) {
                days.0 |= dates.0;
            }
            for (weeks, nth) in (0..).zip(&self.nth) {
                if nth.has(weekday) {
                    days.add(first + 7 * weeks);
                }
            }
            if self.last.has(weekday) {
                days.0 |= dates.last_below(32).map_or(0, |day| 1 << day);
            }
        }
        Set(days.0 & all.0)
    }
}

/// Every seventh bit: the days of one weekday, from the first of them on.
const WEEKLY: u64 = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28;

/// One month of the calendar.
struct Month {
    year: i32,
    month: u32,
    length: u32,
    /// The day number of its first day.
    start: i64,
}

impl Month {
    fn of(day: i64) -> Option<Self> {
        let date = date_of(day)?;
        Self::new(date.year(), date.month()).filter(|month| YEARS.contains(&month.year))
    }

    fn new(year: i32, month: u32) -> Option<Self> {
        let date = NaiveDate::from_ymd_opt(year, month, 1)?;
        Some(Self { year, month, length: date.num_days_in_month().into(), start: day_number(date) })
    }

    fn day_of_month(&self, day: i64) -> u32 {
        u32::try_from(day - self.start + 1).unwrap_or(0)
    }

    /// The days of month that are in the range of day numbers.
    fn clip(&self, days: &Range<i64>) -> Range<u32> {
        let of_month = |day: i64| (day - self.start + 1).clamp(1, i64::from(self.length) + 1);
        let to_u32 = |day: i64| u32::try_from(day).unwrap_or(0);
        to_u32(of_month(days.start))..to_u32(of_month(days.end))
    }

    /// 0 = Sunday. Day 0, 1970-01-01, was a Thursday.
    fn weekday(&self, day_of_month: u32) -> u32 {
        let weekday = (self.start + i64::from(day_of_month) - 1 + 4).rem_euclid(7);
        u32::try_from(weekday).unwrap_or(0)
    }

    /// The first day of month with this weekday.
    fn first(&self, weekday: u32) -> u32 {
        1 + (weekday + 7 - self.weekday(1)) % 7
    }

    /// The day from Monday to Friday that is nearest to the given one, without leaving the month.
    fn nearest_weekday(&self, day: u32) -> u32 {
        match self.weekday(day) {
            6 if day > 1 => day - 1,
            6 => day + 2,
            0 if day < self.length => day + 1,
            0 => day - 2,
            _ => day,
        }
    }
}

/// The months that the range of day numbers touches, inside [`YEARS`].
fn months(days: Range<i64>) -> impl DoubleEndedIterator<Item = Month> {
    let index = |day: i64| {
        let day = day.clamp(day_of_year(YEARS.start), day_of_year(YEARS.end) - 1);
        date_of(day).map_or(0, |date| date.year() * 12 + date.month0().cast_signed())
    };
    let month = |index: i32| Month::new(index.div_euclid(12), index.rem_euclid(12).cast_unsigned() + 1);
    (index(days.start)..index(days.end - 1) + 1).filter_map(month)
}

fn day_of_year(year: i32) -> i64 {
    NaiveDate::from_yo_opt(year, 1).map_or(0, day_number)
}

fn day_number(date: NaiveDate) -> i64 {
    date.to_epoch_days().into()
}

fn date_of(day: i64) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(day.try_into().ok()?)
}

/// Day number and time of day.
fn split(civil: Civil) -> (i64, i64) {
    (civil.div_euclid(DAY), civil.rem_euclid(DAY))
}

/// Hour, minute and second of a time of day; the end of the day is hour 24.
fn clock(time: i64) -> (u32, u32, u32) {
    let time = u32::try_from(time).unwrap_or(0);
    (time / 3600, time / 60 % 60, time % 60)
}

pub(super) fn time_of(hour: u32, minute: u32, second: u32) -> i64 {
    i64::from(hour * 3600 + minute * 60 + second)
}

impl Set {
    pub(super) const fn range(from: u32, to: u32) -> Self {
        Self((u64::MAX << from) & (u64::MAX >> (63 - to)))
    }

    pub(super) fn add(&mut self, number: u32) {
        self.0 |= 1 << number;
    }

    pub(super) fn has(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn within(self, range: Range<u32>) -> Self {
        Self(self.0 & below(range.end) & !below(range.start))
    }

    pub(super) fn first_from(self, number: u32) -> Option<u32> {
        let rest = self.0 & !below(number);
        (rest != 0).then(|| rest.trailing_zeros())
    }

    pub(super) fn last_below(self, number: u32) -> Option<u32> {
        (self.0 & below(number)).checked_ilog2()
    }

    pub(super) fn count_below(self, number: u32) -> u64 {
        (self.0 & below(number)).count_ones().into()
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u32> {
        std::iter::successors(self.first_from(0), move |&number| self.first_from(number + 1))
    }
}

/// The bits under `number`, which is at most 63.
const fn below(number: u32) -> u64 {
    (1 << number) - 1
}

impl Years {
    pub(super) const ALL: Self = Self([u64::MAX; 4]);

    pub(super) fn add(&mut self, year: i32) {
        let (word, bit) = Self::place(year);
        self.0[word] |= 1 << bit;
    }

    pub(super) fn has(&self, year: i32) -> bool {
        let (word, bit) = Self::place(year);
        YEARS.contains(&year) && self.0[word] >> bit & 1 == 1
    }

    fn place(year: i32) -> (usize, u32) {
        let index = (year - YEARS.start).clamp(0, 255).cast_unsigned();
        ((index / 64) as usize, index % 64)
    }
}

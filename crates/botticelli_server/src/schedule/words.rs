//! Schedules in words, for people who want to know whether they were understood.

use std::time::Duration;

use super::parse::{MONTHS, WEEKDAYS};
use super::pattern::{DayRule, Days, Pattern, Set, Weekdays, YEARS, Years};

/// `every 5 minutes`; the largest unit that fits.
pub(super) fn every(period: Duration) -> String {
    let units = [("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];
    let seconds = period.as_secs();
    let unit = units.into_iter().find(|(_, length)| seconds.is_multiple_of(*length));
    let (unit, length) = unit.unwrap_or(("second", 1));
    every_nth(unit, seconds / length)
}

/// `at 09:00:00 every day`.
pub(super) fn pattern(pattern: &Pattern) -> String {
    let (time, often) = time(pattern);
    let days = days(pattern);
    let months = (pattern.months != Set::range(1, 12))
        .then(|| format!("in {}", list(pattern.months, |month| MONTHS[month as usize - 1].to_owned())));
    let years = years(&pattern.years).map(|years| format!("in {years}"));
    // "every 5 minutes" says it all; "at 09:00:00" does not.
    let every_day = (!often || months.is_some()).then(|| "every day".to_owned());
    let parts = [Some(time), days.or(every_day), months, years];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The time of day, and whether it goes on all day long.
fn time(pattern: &Pattern) -> (String, bool) {
    let Pattern { seconds, minutes, hours, .. } = *pattern;
    if few(seconds, minutes, hours) {
        return (format!("at {}", times(seconds, minutes, hours)), false);
    }
    if let Some(often) = often(seconds, minutes, hours) {
        return (often, true);
    }
    let fields = [("second", seconds, SIXTY), ("minute", minutes, SIXTY), ("hour", hours, TWENTY_FOUR)];
    let fields = fields.map(|(name, set, all)| match set {
        _ if set == all => format!("every {name}"),
        _ => format!("{name} {}", list(set, |number| number.to_string())),
    });
    (format!("at {}", fields.join(" of ")), false)
}

/// Evenly spaced times that go on all day long.
fn often(seconds: Set, minutes: Set, hours: Set) -> Option<String> {
    let (all_minutes, all_hours) = (minutes == SIXTY, hours == TWENTY_FOUR);
    if let Some(nth) = period(seconds, 60) {
        return (all_minutes && all_hours).then(|| every_nth("second", nth));
    }
    match (only(seconds)?, only(minutes)) {
        (0, None) if all_hours => Some(every_nth("minute", period(minutes, 60)?)),
        (0, Some(0)) => Some(every_nth("hour", period(hours, 24)?)),
        (second, Some(minute)) if all_hours => Some(format!("every hour at {minute:02}:{second:02}")),
        _ => None,
    }
}

const SIXTY: Set = Set::range(0, 59);
const TWENTY_FOUR: Set = Set::range(0, 23);

fn few(seconds: Set, minutes: Set, hours: Set) -> bool {
    [seconds, minutes, hours].iter().map(|set| set.count_below(60)).product::<u64>() <= 4
}

fn times(seconds: Set, minutes: Set, hours: Set) -> String {
    let mut times = Vec::new();
    for hour in hours.iter() {
        for minute in minutes.iter() {
            times.extend(seconds.iter().map(|second| format!("{hour:02}:{minute:02}:{second:02}")));
        }
    }
    and(times)
}

/// The days, if not all.
fn days(pattern: &Pattern) -> Option<String> {
    let days = (pattern.days != Days::ALL).then(|| days_of_month(&pattern.days));
    let weekdays = (pattern.weekdays != Weekdays::ALL).then(|| days_of_week(&pattern.weekdays));
    match (days, weekdays, pattern.day_rule) {
        (Some(days), Some(weekdays), DayRule::Both) => Some(format!("on {days}, when it is {weekdays}")),
        (Some(days), Some(weekdays), DayRule::Either) => Some(format!("on {days} or on {weekdays}")),
        (days, weekdays, _) => Some(format!("on {}", days.or(weekdays)?)),
    }
}

fn days_of_month(days: &Days) -> String {
    let mut parts = Vec::new();
    if !days.numbers.is_empty() {
        parts.push(format!("day {}", list(days.numbers, |day| day.to_string())));
    }
    parts.extend(days.nearest_weekday.iter().map(|day| format!("the weekday nearest to day {day}")));
    parts.extend(days.before_last.iter().map(|before| match before {
        0 => "the last day".to_owned(),
        1 => "the day before the last day".to_owned(),
        _ => format!("the day {before} days before the last day"),
    }));
    if days.last_weekday {
        parts.push("the last weekday (Monday to Friday)".to_owned());
    }
    format!("{} of the month", and(parts))
}

fn days_of_week(weekdays: &Weekdays) -> String {
    let name = |weekday: u32| WEEKDAYS[weekday as usize].to_owned();
    let mut parts = Vec::new();
    if !weekdays.every.is_empty() {
        parts.push(list(weekdays.every, name));
    }
    for (nth, set) in ["first", "second", "third", "fourth", "fifth"].into_iter().zip(weekdays.nth) {
        parts.extend(set.iter().map(|weekday| format!("the {nth} {} of the month", name(weekday))));
    }
    parts.extend(weekdays.last.iter().map(|weekday| format!("the last {} of the month", name(weekday))));
    and(parts)
}

/// The years, if not all.
fn years(years: &Years) -> Option<String> {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for year in YEARS.filter(|&year| years.has(year)) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == year => *last = year,
            _ => runs.push((year, year)),
        }
    }
    let all = runs == [(YEARS.start, YEARS.end - 1)];
    (!all).then(|| and(runs.into_iter().flat_map(|(from, to)| run(from, to, |year| year.to_string()))))
}

/// `1, 3 and 5 to 9`.
fn list(set: Set, name: impl Fn(u32) -> String) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in set.iter() {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    and(runs.into_iter().flat_map(|(from, to)| run(from, to, &name)))
}

/// One or two names by themselves, three and more as a range.
fn run<N: Copy + PartialEq + std::ops::Sub<Output = N> + Into<i64>>(
    from: N,
    to: N,
    name: impl Fn(N) -> String,
) -> Vec<String> {
    match (to - from).into() {
        0 => vec![name(from)],
        1 => vec![name(from), name(to)],
        _ => vec![format!("{} to {}", name(from), name(to))],
    }
}

fn and(parts: impl IntoIterator<Item = String>) -> String {
    let mut parts: Vec<String> = parts.into_iter().collect();
    match parts.pop() {
        Some(last) if !parts.is_empty() => format!("{} and {last}", parts.join(", ")),
        last => last.unwrap_or_default(),
    }
}

fn every_nth(unit: &str, nth: u64) -> String {
    if nth == 1 { format!("every {unit}") } else { format!("every {nth} {unit}s") }
}

fn only(set: Set) -> Option<u32> {
    set.first_from(0).filter(|_| set.count_below(60) == 1)
}

/// The even spacing of a set that starts at 0 and closes at `turn`.
fn period(set: Set, turn: u32) -> Option<u64> {
    let second = set.first_from(1)?;
    let even = turn.is_multiple_of(second) && set.iter().eq((0..turn).step_by(second as usize));
    even.then_some(second.into())
}

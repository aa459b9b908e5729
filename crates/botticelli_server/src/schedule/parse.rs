//! The grammar of cron expressions: text in, [`Pattern`] or a precise error out.
//!
//! Two dialects. 6 and 7 fields are read as Quartz reads them, 5 fields as POSIX does; see [`CronSchedule`].
//!
//! [`CronSchedule`]: super::CronSchedule

use super::error::{CronField, CronProblem, shown};
use super::pattern::{DayRule, Days, Pace, Pattern, Set, Weekdays, Years};

/// Every second and every minute written out as lists still fit.
pub(super) const MAX_BYTES: usize = 1024;

type Result<T> = std::result::Result<T, CronProblem>;

/// How weekdays are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// 1 = Sunday … 7 = Saturday.
    Quartz,
    /// 0 = Sunday … 6 = Saturday, 7 = Sunday.
    Posix,
}

pub(super) fn parse(expression: &str) -> Result<Pattern> {
    if expression.len() > MAX_BYTES {
        return Err(CronProblem::TooLong { bytes: expression.len() });
    }
    let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
    match *fields.as_slice() {
        [shortcut] if shortcut.starts_with('@') => parse_shortcut(shortcut),
        [minute, hour, day, month, weekday] => {
            let mut pattern = fields_of(["0", minute, hour, day, month, weekday, "*"], Dialect::Posix)?;
            // The star rule of Vixie cron: with two real restrictions a day needs to meet only one.
            if !open(day) && !open(weekday) {
                pattern.day_rule = DayRule::Either;
            }
            Ok(pattern)
        }
        [second, minute, hour, day, month, weekday] => {
            fields_of([second, minute, hour, day, month, weekday, "*"], Dialect::Quartz)
        }
        [second, minute, hour, day, month, weekday, year] => {
            fields_of([second, minute, hour, day, month, weekday, year], Dialect::Quartz)
        }
        _ => Err(CronProblem::FieldCount { count: fields.len() }),
    }
}

fn parse_shortcut(shortcut: &str) -> Result<Pattern> {
    parse(match shortcut.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 0 1 1 * *",
        "@monthly" => "0 0 0 1 * * *",
        "@weekly" => "0 0 0 * * SUN *",
        "@daily" | "@midnight" => "0 0 0 * * * *",
        "@hourly" => "0 0 * * * * *",
        _ => return Err(CronProblem::Shortcut),
    })
}

fn fields_of(fields: [&str; 7], dialect: Dialect) -> Result<Pattern> {
    let [second, minute, hour, day, month, weekday, year] = fields;
    Ok(Pattern {
        seconds: set(second, Numbers::of(CronField::Second))?,
        minutes: set(minute, Numbers::of(CronField::Minute))?,
        hours: set(hour, Numbers::of(CronField::Hour))?,
        days: days(day)?,
        months: set(month, Numbers::of(CronField::Month))?,
        weekdays: weekdays(weekday, dialect)?,
        years: years(year)?,
        day_rule: DayRule::Both,
        pace: if [minute, hour].iter().any(|field| field.starts_with('*')) {
            Pace::Elapsed
        } else {
            Pace::Fixed
        },
    })
}

/// A day field that restricts nothing in the sense of the star rule.
fn open(field: &str) -> bool {
    field.starts_with('*') || field == "?"
}

fn set(text: &str, numbers: Numbers) -> Result<Set> {
    let mut set = Set::default();
    for item in text.split(',') {
        numbers.item(item)?.for_each(|number| set.add(number.into()));
    }
    Ok(set)
}

fn years(text: &str) -> Result<Years> {
    if text == "*" {
        return Ok(Years::ALL);
    }
    let mut years = Years::default();
    for item in text.split(',') {
        Numbers::of(CronField::Year).item(item)?.for_each(|year| years.add(year.into()));
    }
    Ok(years)
}

fn days(text: &str) -> Result<Days> {
    if text == "?" {
        return Ok(Days::ALL);
    }
    let numbers = Numbers::of(CronField::DayOfMonth);
    let mut days = Days::default();
    for item in text.split(',') {
        let upper = item.to_ascii_uppercase();
        if upper == "L" {
            days.before_last.add(0);
        } else if upper == "LW" {
            days.last_weekday = true;
        } else if let Some(before) = upper.strip_prefix("L-") {
            let before = number(before).filter(|before| (1..=30).contains(before));
            days.before_last.add(before.ok_or_else(|| numbers.refuse(item))?.into());
        } else if let Some(day) = upper.strip_suffix('W') {
            let day = numbers.value(day).map_err(|_| numbers.refuse(item))?;
            days.nearest_weekday.add(day.into());
        } else {
            numbers.item(item)?.for_each(|day| days.numbers.add(day.into()));
        }
    }
    Ok(days)
}

fn weekdays(text: &str, dialect: Dialect) -> Result<Weekdays> {
    if text == "?" {
        return Ok(Weekdays::ALL);
    }
    let numbers = Numbers::weekdays(dialect);
    // Numbers run past Saturday in ranges such as FRI-MON; both dialects then count on modulo 7.
    let sunday = if dialect == Dialect::Quartz { 1 } else { 0 };
    let weekday = |number: u16| u32::from(number - sunday) % 7;
    let mut weekdays = Weekdays::default();
    for item in text.split(',') {
        if let Some((day, nth)) = item.split_once('#') {
            let nth = number(nth).filter(|nth| (1..=5).contains(nth)).ok_or_else(|| numbers.refuse(item))?;
            let day = numbers.value(day).map_err(|_| numbers.refuse(item))?;
            weekdays.nth[usize::from(nth) - 1].add(weekday(day));
        } else if let Some(day) = item.strip_suffix(['L', 'l']) {
            let day = numbers.value(day).map_err(|_| numbers.refuse(item))?;
            weekdays.last.add(weekday(day));
        } else {
            numbers.item(item)?.for_each(|day| weekdays.every.add(weekday(day)));
        }
    }
    Ok(weekdays)
}

/// The numbers (and names) of a field.
#[derive(Clone, Copy)]
struct Numbers {
    field: CronField,
    first: u16,
    /// Where `*` and `5/2` end.
    last: u16,
    /// The largest number that may be written.
    max: u16,
    /// As in Quartz: a wider step would never mean what it says.
    max_step: u16,
    names: &'static [&'static str],
    allowed: &'static str,
}

impl Numbers {
    fn of(field: CronField) -> Self {
        let (first, last, max_step, names, allowed): (_, _, _, &[_], _) = match field {
            CronField::Second | CronField::Minute => (0, 59, 59, &[], "0-59"),
            CronField::Hour => (0, 23, 23, &[], "0-23"),
            CronField::DayOfMonth => (1, 31, 31, &[], "1-31, L, L-1 to L-30, LW, 1W to 31W, ?"),
            CronField::Month => (1, 12, 12, &MONTHS, "1-12 or JAN-DEC"),
            CronField::Weekday => return Self::weekdays(Dialect::Quartz),
            CronField::Year => (1970, 2199, 229, &[], "1970-2199"),
        };
        Self { field, first, last, max: last, max_step, names, allowed }
    }

    fn weekdays(dialect: Dialect) -> Self {
        let (first, last, allowed) = match dialect {
            Dialect::Quartz => (1, 7, "SUN-SAT or 1-7 with 1 = Sunday, FRIL, FRI#1 to FRI#5, ?"),
            Dialect::Posix => (0, 6, "SUN-SAT or 0-7 with 0 and 7 = Sunday, FRIL, FRI#1 to FRI#5, ?"),
        };
        Self { field: CronField::Weekday, first, last, max: 7, max_step: 7, names: &WEEKDAYS, allowed }
    }

    /// One entry of a list: `*`, `7`, `1-5`, each also with `/step`; `7/2` is from 7 to the end.
    fn item(self, item: &str) -> Result<impl Iterator<Item = u16>> {
        let (base, step) = match item.split_once('/') {
            Some((base, step)) => (base, Some(self.step(step)?)),
            None => (item, None),
        };
        let (from, to) = match base.split_once('-') {
            Some(("", _) | (_, "")) => return Err(self.refuse(item)),
            Some((from, to)) => self.range(base, self.value(from)?, self.value(to)?)?,
            None if base == "*" => (self.first, self.last),
            None => {
                let value = self.value(base)?;
                (value, if step.is_some() { self.last.max(value) } else { value })
            }
        };
        Ok((from..=to).step_by(step.unwrap_or(1).into()))
    }

    fn range(self, text: &str, from: u16, to: u16) -> Result<(u16, u16)> {
        match self.field {
            _ if from <= to => Ok((from, to)),
            // People write SAT-SUN and FRI-MON, and there is only one thing it can mean.
            CronField::Weekday => Ok((from, to + 7)),
            field => Err(CronProblem::Backwards { field, text: shown(text) }),
        }
    }

    fn step(self, step: &str) -> Result<u16> {
        let found = number(step).filter(|step| (1..=self.max_step).contains(step));
        found.ok_or_else(|| CronProblem::Step { field: self.field, step: shown(step), max: self.max_step })
    }

    fn value(self, text: &str) -> Result<u16> {
        let in_range = |number: &u16| (self.first..=self.max).contains(number);
        let found = number(text).filter(in_range).or_else(|| self.named(text));
        found.ok_or_else(|| self.refuse(text))
    }

    /// `mon`, `Mon` or `Monday`.
    fn named(self, text: &str) -> Option<u16> {
        let is = |name: &&str| text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&name[..3]);
        let index = self.names.iter().position(is)?;
        Some(self.first + u16::try_from(index).ok()?)
    }

    fn refuse(self, text: &str) -> CronProblem {
        CronProblem::Value { field: self.field, text: shown(text), allowed: self.allowed }
    }
}

/// Digits only: no sign, no spaces.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(super) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

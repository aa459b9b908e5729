//! What can be wrong with a schedule: each error names the field, the value and what is allowed.

use std::fmt;

use super::MAX_INTERVAL_SECONDS;

/// Why a schedule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The cron expression can't be used.
    #[error("cron expression {expression:?} {problem}")]
    Cron {
        /// The expression as written (shortened when it is very long).
        expression: String,
        /// What is wrong with it.
        problem: CronProblem,
    },
    /// The zone is not in the bundled IANA data.
    #[error("timezone {name:?} is not known (allowed: IANA names such as \"Europe/Berlin\", or \"UTC\")")]
    Timezone {
        /// The name as written (shortened when it is very long).
        name: String,
        /// A known zone that was probably meant.
        suggestion: Option<String>,
    },
    /// The fold policy contradicts an expression that follows elapsed time.
    #[error(
        "fold = \"second\" has no meaning for cron expression {expression:?}, whose minute or hour starts with `*` (allowed: \"first\", \"both\")"
    )]
    FoldOfElapsed {
        /// The expression as written.
        expression: String,
    },
    /// The period of an interval is zero, negative or absurdly long.
    #[error("interval has seconds = {seconds} (allowed: 1-{MAX_INTERVAL_SECONDS})")]
    Interval {
        /// The value as written.
        seconds: i64,
    },
    /// The time of a `Once` is not a time.
    #[error(
        "once has at = {at:?} (allowed: a date and time with offset, such as 2026-12-24T18:00:00+01:00, or without one together with `timezone`)"
    )]
    At {
        /// The value as written (shortened when it is very long).
        at: String,
    },
    /// The time of a `Once` has no offset, and there is no time zone either.
    #[error("once has at = {at:?} without an offset (allowed: an offset, such as {at}Z, or a `timezone`)")]
    AtWithoutOffset {
        /// The value as written.
        at: String,
    },
}

impl ScheduleError {
    /// What to try instead, for the person who wrote it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cron { expression, problem } => Some(cron_hint(expression, problem)),
            Self::Timezone { suggestion, .. } => {
                suggestion.as_ref().map(|name| format!("did you mean {name:?}?"))
            }
            Self::FoldOfElapsed { .. } => Some(
                "such an expression follows elapsed time and runs in both passes of a fold; \
                 write 0-23 instead of * for an hour that is a fixed time"
                    .to_owned(),
            ),
            Self::Interval { .. } => {
                Some("for a time of day, a week or a month take type = \"Cron\"".to_owned())
            }
            Self::At { .. } => None,
            Self::AtWithoutOffset { .. } => {
                Some("timezone = \"Europe/Berlin\" makes it Berlin's wall clock".to_owned())
            }
        }
    }
}

fn cron_hint(expression: &str, problem: &CronProblem) -> String {
    match problem {
        CronProblem::Shortcut if expression.trim().eq_ignore_ascii_case("@reboot") => {
            "for a run at each start take type = \"Immediate\" with every_start = true".to_owned()
        }
        CronProblem::Backwards { field, text } => match text.split_once('-') {
            Some((from, to)) => {
                format!("for a range over the turn write two: {from}-{},{}-{to}", field.last(), field.first())
            }
            None => CRON_HINT.to_owned(),
        },
        _ => CRON_HINT.to_owned(),
    }
}

const CRON_HINT: &str = "7 fields: sec min hour day-of-month month day-of-week year; \
     `actor-server next --cron \"0 0 9 * * * *\"` shows what one means";

/// What is wrong with a cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronProblem {
    /// The text is too long to be meant seriously.
    #[error("is {bytes} bytes long (allowed: at most {max})", max = super::parse::MAX_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Neither 5 nor 6 nor 7 fields.
    #[error("has {count} field{plural} (allowed: 5, 6 or 7)", plural = if *.count == 1 { "" } else { "s" })]
    FieldCount {
        /// How many there are.
        count: usize,
    },
    /// A word with `@` that is not known.
    #[error(
        "is not a known shortcut (allowed: @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly)"
    )]
    Shortcut,
    /// A value that is out of range or can't be read.
    #[error("has {field} {text} (allowed: {allowed})", text = Quoted(.text))]
    Value {
        /// The field.
        field: CronField,
        /// The value as written.
        text: String,
        /// The values that the field takes.
        allowed: &'static str,
    },
    /// A step of zero, or one that is wider than the field.
    #[error("has {field} step {step} (allowed: 1-{max})", step = Quoted(.step))]
    Step {
        /// The field.
        field: CronField,
        /// The step as written.
        step: String,
        /// The widest step.
        max: u16,
    },
    /// A range whose end is before its start.
    #[error("has {field} range {text:?}, which runs backwards (allowed: from low to high)")]
    Backwards {
        /// The field.
        field: CronField,
        /// The range as written.
        text: String,
    },
    /// Well formed, but no date has it.
    #[error("never matches: no date from 1970 to 2199 has that day, month, weekday and year")]
    NeverMatches,
}

/// A field of a cron expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CronField {
    /// 0-59; not in 5 fields.
    Second,
    /// 0-59.
    Minute,
    /// 0-23.
    Hour,
    /// 1-31, and `L`, `W`, `?`.
    DayOfMonth,
    /// 1-12 or names.
    Month,
    /// Numbers or names, and `L`, `#`, `?`.
    Weekday,
    /// 1970-2199; only in 7 fields.
    Year,
}

impl CronField {
    /// The smallest number of the field (for weekdays: of the names, Sunday).
    pub(super) fn first(self) -> &'static str {
        match self {
            Self::Second | Self::Minute | Self::Hour => "0",
            Self::DayOfMonth | Self::Month => "1",
            Self::Weekday => "SUN",
            Self::Year => "1970",
        }
    }

    /// The largest number of the field (for weekdays: of the names, Saturday).
    pub(super) fn last(self) -> &'static str {
        match self {
            Self::Second | Self::Minute => "59",
            Self::Hour => "23",
            Self::DayOfMonth => "31",
            Self::Month => "12",
            Self::Weekday => "SAT",
            Self::Year => "2199",
        }
    }
}

impl fmt::Display for CronField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::Weekday => "weekday",
            Self::Year => "year",
        })
    }
}

/// Numbers as they are, everything else in quotes: `hour 25`, but `hour "9am"`.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_digit()) {
            f.write_str(self.0)
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

/// The text, cut to a length that an error message can carry.
pub(super) fn shown(text: &str) -> String {
    const CHARS: usize = 120;
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

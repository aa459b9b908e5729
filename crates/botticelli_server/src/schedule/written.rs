//! Schedules as people and programs write them: the raw form behind serde and the JSON Schema.

use std::fmt;

use chrono::SecondsFormat;
use schemars::JsonSchema;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::zone::Zone;
use super::{
    CronSchedule, Fold, Gap, ImmediateSchedule, IntervalSchedule, MAX_INTERVAL_SECONDS, OnceSchedule,
    ScheduleError, ScheduleType,
};

/// RFC 3339 with or without an offset, for JSON Schema.
const AT: &str =
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?$";

/// A schedule as it is written, not yet checked. [`ScheduleType`] goes through it by itself; whoever wants the typed
/// [`ScheduleError`] with its hint, where serde has only text, reads this form and converts it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", deny_unknown_fields)]
#[schemars(rename = "Schedule", description = "When a task is due.")]
pub enum WrittenSchedule {
    /// At the times of a cron expression.
    Cron {
        /// `second minute hour day-of-month month weekday year`; 6 fields (no year) and 5 (POSIX: no seconds, no year)
        /// are accepted too, and `@daily` and its kin.
        #[schemars(length(max = 1024), example = "0 0 9 * * MON-FRI *")]
        expression: String,
        /// The IANA time zone of the wall clock.
        #[serde(default = "utc")]
        #[schemars(example = "Europe/Berlin")]
        timezone: String,
        /// What becomes of a fixed time that the clock jumps over.
        #[serde(default)]
        gap: Gap,
        /// When a fixed time is due that the clock shows twice.
        #[serde(default)]
        fold: Fold,
    },
    /// Again and again after the same time; the first time at once.
    Interval {
        /// The period.
        #[serde(deserialize_with = "seconds")]
        #[schemars(range(min = 1, max = MAX_INTERVAL_SECONDS))]
        seconds: i64,
    },
    /// Once; when the time is past and it never ran, now.
    Once {
        /// RFC 3339; the offset may be left out where `timezone` is given.
        #[serde(deserialize_with = "text_or_toml_datetime")]
        #[schemars(regex(pattern = AT), example = "2026-12-24T18:00:00+01:00")]
        at: String,
        /// The IANA time zone of a time without offset.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timezone: Option<String>,
    },
    /// Once, when the task is first seen.
    Immediate {
        /// Once per start of the server instead.
        #[serde(default)]
        every_start: bool,
    },
    /// Never by itself: the task runs when one of its triggers, or a person, asks for it.
    Event {},
}

impl WrittenSchedule {
    /// All that is wrong with it: each part is looked at also when another one is wrong.
    pub fn problems(&self) -> Vec<ScheduleError> {
        let (time, zone) = match self {
            Self::Cron { expression, timezone, gap, fold } => {
                let cron =
                    CronSchedule::new(expression, "UTC").and_then(|cron| cron.with_policy(*gap, *fold));
                (cron.err(), Zone::get(timezone).err())
            }
            Self::Interval { seconds } => (IntervalSchedule::new(*seconds).err(), None),
            Self::Once { at, timezone } => {
                let time = OnceSchedule::parse(at, timezone.as_ref().map(|_| "UTC"));
                (time.err(), timezone.as_ref().and_then(|zone| Zone::get(zone).err()))
            }
            Self::Immediate { .. } | Self::Event {} => (None, None),
        };
        time.into_iter().chain(zone).collect()
    }
}

impl TryFrom<WrittenSchedule> for ScheduleType {
    type Error = ScheduleError;

    fn try_from(written: WrittenSchedule) -> Result<Self, ScheduleError> {
        Ok(match written {
            WrittenSchedule::Event {} => Self::Event,
            WrittenSchedule::Cron { expression, timezone, gap, fold } => {
                Self::Cron(CronSchedule::new(&expression, &timezone)?.with_policy(gap, fold)?)
            }
            WrittenSchedule::Interval { seconds } => Self::Interval(IntervalSchedule::new(seconds)?),
            WrittenSchedule::Once { at, timezone } => {
                Self::Once(OnceSchedule::parse(&at, timezone.as_deref())?)
            }
            WrittenSchedule::Immediate { every_start } => Self::Immediate(ImmediateSchedule { every_start }),
        })
    }
}

impl From<ScheduleType> for WrittenSchedule {
    fn from(schedule: ScheduleType) -> Self {
        match schedule {
            ScheduleType::Event => Self::Event {},
            ScheduleType::Cron(cron) => Self::Cron {
                expression: cron.expression().to_owned(),
                timezone: cron.timezone().to_owned(),
                gap: cron.gap(),
                fold: cron.fold(),
            },
            ScheduleType::Interval(interval) => {
                Self::Interval { seconds: interval.period().as_secs().cast_signed() }
            }
            ScheduleType::Once(once) if once.offset().is_some() => Self::Once {
                at: once.local(once.at()).to_rfc3339_opts(SecondsFormat::AutoSi, true),
                timezone: None,
            },
            ScheduleType::Once(once) => Self::Once {
                // Not the local time: RFC 3339 can't say the odd offsets that old local times have.
                at: once.at().to_rfc3339_opts(SecondsFormat::AutoSi, true),
                timezone: Some(once.timezone().to_owned()),
            },
            ScheduleType::Immediate(ImmediateSchedule { every_start }) => Self::Immediate { every_start },
        }
    }
}

fn utc() -> String {
    "UTC".to_owned()
}

/// TOML has date-times of its own, which the `toml` crate hands to serde as a map with one private key.
fn text_or_toml_datetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Text;

    impl<'de> Visitor<'de> for Text {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a date and time, such as 2026-12-24T18:00:00+01:00")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<String, M::Error> {
            match map.next_key::<String>()? {
                Some(key) if key == "$__toml_private_datetime" => map.next_value(),
                _ => Err(Error::invalid_type(Unexpected::Map, &self)),
            }
        }
    }

    deserializer.deserialize_any(Text)
}

/// Any whole number: which are allowed, the schedule says, with a hint. Of what is no whole number, or too large for one,
/// it is said here.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Seconds;

    impl Visitor<'_> for Seconds {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a whole number, 1-{MAX_INTERVAL_SECONDS}")
        }

        fn visit_i64<E: Error>(self, seconds: i64) -> Result<i64, E> {
            Ok(seconds)
        }

        fn visit_u64<E: Error>(self, seconds: u64) -> Result<i64, E> {
            i64::try_from(seconds).map_err(|_| E::invalid_value(Unexpected::Unsigned(seconds), &self))
        }
    }

    deserializer.deserialize_i64(Seconds)
}

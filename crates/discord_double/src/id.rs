//! Snowflakes: ids that carry their time of creation.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

const EPOCH_MS: i64 = 1_420_070_400_000;

/// A snowflake. In JSON and TOML it is a string, as with Discord; whole numbers are read too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

impl Id {
    /// The smallest id of that moment: a valid `before` or `after`.
    #[must_use]
    pub fn at(time: DateTime<Utc>) -> Self {
        Self(u64::try_from(time.timestamp_millis() - EPOCH_MS).unwrap_or(0) << 22)
    }

    /// When it was made, to the millisecond.
    #[must_use]
    pub fn time(self) -> DateTime<Utc> {
        let ms = i64::try_from(self.0 >> 22).unwrap_or(0);
        DateTime::from_timestamp_millis(ms + EPOCH_MS).unwrap_or_default()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Id {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(number) => Ok(Self(number)),
            Raw::Text(text) => {
                text.parse().map_err(|_| de::Error::custom(format!("\"{text}\" is not a snowflake")))
            }
        }
    }
}

/// Makes ids that are unique and ascend, also when the clock stands still.
#[derive(Debug, Default)]
pub(crate) struct Snowflakes {
    last: u64,
}

impl Snowflakes {
    pub(crate) fn next(&mut self, now: DateTime<Utc>) -> Id {
        self.last = Id::at(now).0.max(self.last + 1);
        Id(self.last)
    }

    /// Later ids will be greater than `id`.
    pub(crate) fn past(&mut self, id: Id) {
        self.last = self.last.max(id.0);
    }
}

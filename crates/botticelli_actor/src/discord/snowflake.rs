//! Discord's ids, which are times too, and the nonce.

use botticelli_server::post::IdempotencyKey;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Discord counts from the first moment of 2015, in milliseconds.
const EPOCH: i64 = 1_420_070_400_000;

/// Discord's id of anything: a channel, a message, a role. JSON has it as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Snowflake(pub u64);

impl Snowflake {
    /// The smallest id that can be given out at `time`: fits `before` and `after`. Times before 2015 give 0.
    pub fn at(time: DateTime<Utc>) -> Self {
        let milliseconds = u64::try_from(time.timestamp_millis() - EPOCH).unwrap_or(0);
        Self(milliseconds.min(u64::MAX >> 22) << 22)
    }

    /// When it was given out.
    pub fn time(self) -> DateTime<Utc> {
        let milliseconds = i64::try_from(self.0 >> 22).unwrap_or(i64::MAX - EPOCH);
        DateTime::from_timestamp_millis(milliseconds + EPOCH).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl fmt::Display for Snowflake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Snowflake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Text that is no id of Discord's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no id of Discord's: those are numbers of 17 to 20 digits")]
pub struct NotASnowflake(String);

impl FromStr for Snowflake {
    type Err = NotASnowflake;

    fn from_str(text: &str) -> Result<Self, NotASnowflake> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(id) if digits && id != 0 => Ok(Self(id)),
            _ => Err(NotASnowflake(text.chars().take(40).collect())),
        }
    }
}

impl Serialize for Snowflake {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Snowflake {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// By which Discord recognises a message that is sent again: at most 25 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Nonce(String);

impl Nonce {
    /// The key itself where it fits, which ours do (22 characters); else a hash of it.
    pub fn of(key: &IdempotencyKey) -> Self {
        let key = key.as_str();
        if !key.is_empty() && key.len() <= 25 && key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Self(key.to_owned());
        }
        let hash = Sha256::digest(key);
        Self(hash[..12].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// As it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use botticelli_server::ids::ExecutionId;
    use botticelli_server::post::{Destination, Origin};

    #[test]
    fn an_id_tells_its_time_as_in_discords_documentation() {
        let id = Snowflake(175_928_847_299_117_063);
        assert_eq!(id.time().to_rfc3339(), "2016-04-30T11:18:25.796+00:00");
        let lowest = Snowflake::at(id.time());
        assert!(lowest <= id && lowest.time() == id.time());
        assert!(Snowflake(lowest.0 - 1).time() < id.time());
        assert_eq!(Snowflake::at(DateTime::<Utc>::MIN_UTC), Snowflake(0));
        assert!(Snowflake(u64::MAX).time() > id.time());
        assert!(Snowflake::at(DateTime::<Utc>::MAX_UTC) > id);
    }

    #[test]
    fn ids_are_text_in_json_and_only_digits_are_taken() {
        let id: Snowflake = serde_json::from_str("\"81384788765712384\"").expect("an id");
        assert_eq!(serde_json::to_string(&id).expect("JSON"), "\"81384788765712384\"");
        for wrong in ["", "0", "+1", " 1", "#general", "99999999999999999999999", "https://discord.com/1"] {
            assert!(wrong.parse::<Snowflake>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_nonce_is_the_key_and_always_fits() {
        let to = Destination { platform: "discord".into(), target: "1".into() };
        let origin = Origin::Asked { execution: ExecutionId(1), opened_at: DateTime::UNIX_EPOCH };
        let key = IdempotencyKey::derive("a", &origin, &to, 0);
        assert_eq!(Nonce::of(&key).as_str(), key.as_str());
        let other = |key: &str| Nonce::of(&IdempotencyKey::stored(key.into()));
        let long = [other(&"x".repeat(26)), other(&"x".repeat(27)), other(""), other("ä"), other("a b")];
        assert!(long.iter().all(|nonce| nonce.as_str().len() == 24));
        assert_ne!(long[0], long[1]);
        assert_eq!(long[0], other(&"x".repeat(26)));
    }
}

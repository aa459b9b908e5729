//! When a task is due.
use chrono::{DateTime, FixedOffset, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// STUB: replaced by the schedule branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum ScheduleType {
    /// stub
    Cron { expression: String, #[serde(default)] timezone: Option<String> },
    /// stub
    Interval { seconds: u64 },
    /// stub
    Once { at: DateTime<Utc> },
    /// stub
    Immediate { #[serde(default)] every_start: bool },
}
/// stub
pub struct ScheduleCheck { pub should_run: bool, pub next_run: Option<DateTime<Utc>> }
/// stub
pub struct Missed { pub count: u64, pub latest: DateTime<Utc> }
/// stub
pub trait Schedule {
    fn check(&self, last_run: Option<DateTime<Utc>>, now: DateTime<Utc>) -> ScheduleCheck;
    fn next_execution(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>>;
}
impl ScheduleType {
    pub fn first_occurrence(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self { Self::Once { at } => Some(*at), _ => Some(now) }
    }
    pub fn following(&self, previous: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Interval { seconds } => Some(previous + Duration::from_secs(*seconds)),
            Self::Cron { .. } => Some(previous + Duration::from_secs(60)),
            _ => None,
        }
    }
    pub fn occurrences_until(&self, first: DateTime<Utc>, until: DateTime<Utc>) -> Option<Missed> {
        if first > until { return None; }
        match self {
            Self::Interval { .. } | Self::Cron { .. } => {
                let s = match self { Self::Interval { seconds } => *seconds as i64, _ => 60 };
                let n = (until - first).num_seconds() / s;
                Some(Missed { count: n as u64 + 1, latest: first + chrono::Duration::seconds(n * s) })
            }
            _ => Some(Missed { count: 1, latest: first }),
        }
    }
    pub fn describe(&self) -> String { format!("{self:?}") }
    pub fn timezone(&self) -> &str { "UTC" }
    pub fn local(&self, t: DateTime<Utc>) -> DateTime<FixedOffset> { t.fixed_offset() }
}
/// stub
pub fn jitter(_task_id: &str, _nominal: DateTime<Utc>, _max: Duration) -> Duration { Duration::ZERO }

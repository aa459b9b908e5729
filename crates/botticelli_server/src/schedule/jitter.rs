//! Jitter that all nodes agree on.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

/// How long after its nominal time an occurrence starts: at least zero, less than `max` (zero when `max` is zero), in
/// whole microseconds.
///
/// It is a hash of the task and the nominal time, so every node finds the same, also after a restart and with a newer
/// release. Times that differ by less than a microsecond are the same.
pub fn jitter(task_id: &str, nominal: DateTime<Utc>, max: Duration) -> Duration {
    let mut hash = Sha256::new();
    hash.update(task_id);
    hash.update([0]);
    hash.update(nominal.timestamp_micros().to_be_bytes());
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    let share = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let max = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
    let micros = (u128::from(share) * u128::from(max)) >> 64;
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

//! Time zones as what scheduling needs of them: stretches of time with a constant offset from UTC. The data is the
//! IANA data bundled with jiff, so that every node has the same, whatever its system has.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use chrono::{DateTime, FixedOffset, Offset, Utc};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::error::{ScheduleError, shown};
use super::pattern::Civil;

/// A whole second since 1970-01-01T00:00:00Z.
pub(super) type Instant = i64;

/// An IANA time zone from 1970 to 2199.
#[derive(Debug)]
pub(super) struct Zone {
    name: String,
    /// In order; the first begins before all time, each ends where the next begins, neighbours differ in offset.
    stretches: Vec<(Instant, i32)>,
}

/// A time during which a zone's offset does not change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) start: Instant,
    pub(super) end: Instant,
    offset: i32,
}

/// The transitions that matter to local years 1970 to 2199, with room for the offsets and a day to spare.
const FIRST: Instant = -3 * 86_400;
const END: Instant = 7_258_118_400 + 3 * 86_400;

/// Stands for "before all time" and "after all time", with room to add an offset.
const FAR: i64 = i64::MAX / 4;

impl Zone {
    /// The zone of that IANA name, in any case.
    pub(super) fn get(name: &str) -> Result<Arc<Self>, ScheduleError> {
        // Schedules share their zones: a zone is 8 kB, and there may be 100,000 schedules, but only 600 zones.
        static ZONES: LazyLock<Mutex<HashMap<String, Arc<Zone>>>> = LazyLock::new(Mutex::default);
        let time_zone = look_up(name)?;
        let name = time_zone.iana_name().unwrap_or(name).to_owned();
        let mut zones = ZONES.lock().unwrap_or_else(PoisonError::into_inner);
        let zone = zones.entry(name).or_insert_with_key(|name| Arc::new(Self::new(name, &time_zone)));
        Ok(Arc::clone(zone))
    }

    fn new(name: &str, time_zone: &TimeZone) -> Self {
        let first = Timestamp::from_second(FIRST).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut stretches = vec![(-FAR, time_zone.to_offset(first).seconds())];
        for transition in time_zone.following(first) {
            let (start, offset) = (transition.timestamp().as_second(), transition.offset().seconds());
            if start >= END {
                break;
            }
            if stretches.last().is_some_and(|&(_, before)| before != offset) {
                stretches.push((start, offset));
            }
        }
        Self { name: name.to_owned(), stretches }
    }

    /// The zone that needs no data.
    pub(super) fn utc() -> Arc<Self> {
        static UTC: LazyLock<Arc<Zone>> = LazyLock::new(|| Arc::new(Zone::new("UTC", &TimeZone::UTC)));
        Arc::clone(&UTC)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The index of the stretch that `instant` is in.
    pub(super) fn index_at(&self, instant: Instant) -> usize {
        self.stretches.partition_point(|&(start, _)| start <= instant).saturating_sub(1)
    }

    pub(super) fn indices(&self) -> Range<usize> {
        0..self.stretches.len()
    }

    pub(super) fn stretch(&self, index: usize) -> Option<Stretch> {
        let &(start, offset) = self.stretches.get(index)?;
        let end = self.stretches.get(index + 1).map_or(FAR, |&(start, _)| start);
        Some(Stretch { start, end, offset })
    }

    /// The instant of a wall clock time: the first one in a fold, the end of the gap in a gap.
    pub(super) fn resolve(&self, civil: Civil) -> Instant {
        self.indices()
            .filter_map(|index| self.stretch(index))
            .find(|stretch| civil < stretch.civil().end)
            .map_or(FAR, |stretch| stretch.instant(civil).max(stretch.start))
    }

    /// What clocks show in the zone.
    pub(super) fn local(&self, time: DateTime<Utc>) -> DateTime<FixedOffset> {
        let offset = self.stretch(self.index_at(time.timestamp())).map_or(0, |stretch| stretch.offset);
        let offset = FixedOffset::east_opt(offset);
        // At the very ends of what chrono can say the local time may not exist; there it is UTC.
        let offset = offset.filter(|&offset| time.naive_utc().checked_add_offset(offset).is_some());
        time.with_timezone(&offset.unwrap_or_else(|| Utc.fix()))
    }
}

impl Stretch {
    /// What clocks show during it.
    pub(super) fn civil(&self) -> Range<Civil> {
        self.start + i64::from(self.offset)..self.end + i64::from(self.offset)
    }

    /// The instant at which clocks show `civil` (in this stretch's offset).
    pub(super) fn instant(&self, civil: Civil) -> Instant {
        civil - i64::from(self.offset)
    }
}

fn look_up(name: &str) -> Result<TimeZone, ScheduleError> {
    // "Etc/Unknown" is a stand-in for a zone that could not be found: never what someone means.
    let found = database().get(name).ok().filter(|zone| !zone.is_unknown());
    found.ok_or_else(|| ScheduleError::Timezone { name: shown(name), suggestion: suggestion(name) })
}

/// Always the bundled data, never the system's: all nodes must agree.
fn database() -> &'static TimeZoneDatabase {
    static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    &DATABASE
}

/// A zone whose city was meant: `Berlin`, `europe/berlin ` or `Germany/Berlin`.
fn suggestion(name: &str) -> Option<String> {
    let city =
        |name: &str| name.trim().rsplit('/').next().map(|city| city.to_ascii_lowercase().replace(' ', "_"));
    let meant = city(name)?;
    database().available().map(|known| known.to_string()).find(|known| city(known).as_ref() == Some(&meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `cron` takes for granted: a fold or gap is over before the next change, so that only neighbours can overlap.
    #[test]
    fn in_every_zone_a_change_is_over_before_the_next_one() {
        let mut changes = 0;
        for name in database().available() {
            let zone = Zone::get(name.as_str()).unwrap();
            for index in zone.indices().skip(1) {
                let (before, after) = (zone.stretch(index - 1).unwrap(), zone.stretch(index).unwrap());
                let shift = i64::from((after.offset - before.offset).abs());
                let shorter = (before.end - before.start).min(after.end - after.start);
                assert!(shift < shorter, "{name}: {before:?} {after:?}");
                changes += 1;
            }
        }
        assert!(changes > 10_000, "only {changes} changes seen");
    }
}

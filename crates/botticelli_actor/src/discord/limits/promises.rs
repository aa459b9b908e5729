//! Headers that promise too much: a bucket refuses although something should be left in its window.
//!
//! What was refused once in a channel is not tried there again for a while; what was refused in several channels is
//! believed of all that share the bucket's name. So a lie costs a few refusals, and not one in each window.

use super::{BucketKey, BucketName, Major, Moment, Owner};
use chrono::TimeDelta;
use std::collections::HashMap;

/// For so long a refusal is remembered: as long as Discord counts invalid requests.
const REMEMBERED: TimeDelta = TimeDelta::minutes(10);
/// In so many channels it is no accident.
const NO_ACCIDENT: usize = 3;

/// The promises that were broken.
#[derive(Debug, Default)]
pub(super) struct Promises {
    broken: HashMap<(Owner, BucketName), HashMap<Major, Broken>>,
}

#[derive(Debug)]
struct Broken {
    /// So many should have been left.
    promised: u32,
    until: Moment,
}

impl Promises {
    /// A request was refused although `promised` were left.
    pub(super) fn broke(&mut self, bucket: &BucketKey, promised: u32, now: Moment) {
        for majors in self.broken.values_mut() {
            majors.retain(|_, broken| broken.until > now);
        }
        self.broken.retain(|_, majors| !majors.is_empty());
        let majors = self.broken.entry((bucket.owner, bucket.name.clone())).or_default();
        let broken = majors.entry(bucket.major).or_insert(Broken { promised, until: now });
        broken.promised = broken.promised.max(promised);
        broken.until = now + REMEMBERED;
    }

    /// So many of those that are said to be left in the window are not.
    pub(super) fn empty(&self, bucket: &BucketKey, now: Moment) -> u32 {
        if self.broken.is_empty() {
            return 0;
        }
        let Some(majors) = self.broken.get(&(bucket.owner, bucket.name.clone())) else { return 0 };
        let recent = || majors.iter().filter(|(_, broken)| broken.until > now);
        let is_accident = recent().count() < NO_ACCIDENT;
        let here = recent().filter(|(major, _)| !is_accident || **major == bucket.major);
        here.map(|(_, broken)| broken.promised).max().unwrap_or(0)
    }
}

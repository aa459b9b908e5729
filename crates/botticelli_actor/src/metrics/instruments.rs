//! What counts and measures. Changing one takes no lock that anybody holds for long, and waits for nothing.

use super::text::{Description, Exposition, number};
use botticelli_server::ids::ActorName;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

/// The values of a counter's labels. There must be few: each combination is kept for as long as the process lives.
pub trait Labels: Ord + Clone + Send + Sync {
    /// Writes a sample with them.
    fn sample(&self, metric: &Description, value: f64, text: &mut Exposition);
}

impl Labels for (ActorName, &'static str, &'static str) {
    fn sample(&self, metric: &Description, value: f64, text: &mut Exposition) {
        text.sample(metric, &[self.0.as_str(), self.1, self.2], value);
    }
}

impl Labels for (String, &'static str) {
    fn sample(&self, metric: &Description, value: f64, text: &mut Exposition) {
        text.sample(metric, &[&self.0, self.1], value);
    }
}

impl Labels for String {
    fn sample(&self, metric: &Description, value: f64, text: &mut Exposition) {
        text.sample(metric, &[self], value);
    }
}

impl Labels for &'static str {
    fn sample(&self, metric: &Description, value: f64, text: &mut Exposition) {
        text.sample(metric, &[*self], value);
    }
}

/// A counter for each combination of labels.
pub struct Counters<L> {
    metric: &'static Description,
    by_labels: RwLock<BTreeMap<L, AtomicU64>>,
}

impl<L: Labels> Counters<L> {
    /// All are at zero, and none is shown before it counts.
    pub const fn new(metric: &'static Description) -> Self {
        Self { metric, by_labels: RwLock::new(BTreeMap::new()) }
    }

    /// Counts one.
    pub fn count(&self, labels: L) {
        if let Some(counter) = self.by_labels.read().unwrap_or_else(PoisonError::into_inner).get(&labels) {
            counter.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut by_labels = self.by_labels.write().unwrap_or_else(PoisonError::into_inner);
        by_labels.entry(labels).or_default().fetch_add(1, Ordering::Relaxed);
    }

    /// Writes them down.
    pub fn write(&self, text: &mut Exposition) {
        text.describe(self.metric);
        for (labels, counter) in self.by_labels.read().unwrap_or_else(PoisonError::into_inner).iter() {
            labels.sample(self.metric, number(counter.load(Ordering::Relaxed)), text);
        }
    }
}

/// A histogram of times, in seconds.
pub struct Histogram {
    metric: &'static Description,
    /// The bounds, as numbers and as they are written.
    bounds: &'static [(f64, &'static str)],
    /// One for each bound, and one for what is above all of them.
    counts: Vec<AtomicU64>,
    microseconds: AtomicU64,
}

impl Histogram {
    /// Nothing was measured yet.
    pub fn new(metric: &'static Description, bounds: &'static [(f64, &'static str)]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { metric, bounds, counts, microseconds: AtomicU64::new(0) }
    }

    /// Takes note of a time.
    pub fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = self.bounds.partition_point(|(bound, _)| *bound < seconds);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// Takes note of the time between two moments. Clocks may have been set back meanwhile: that counts as none.
    pub fn observe_since(&self, from: chrono::DateTime<chrono::Utc>, to: chrono::DateTime<chrono::Utc>) {
        self.observe((to - from).to_std().unwrap_or_default());
    }

    /// Writes it down.
    pub fn write(&self, text: &mut Exposition) {
        text.describe(self.metric);
        let mut total = 0;
        for (count, bound) in
            self.counts.iter().zip(self.bounds.iter().map(|(_, bound)| *bound).chain(["+Inf"]))
        {
            total += count.load(Ordering::Relaxed);
            text.bucket(self.metric, bound, total);
        }
        let sum = Duration::from_micros(self.microseconds.load(Ordering::Relaxed)).as_secs_f64();
        text.total(self.metric, sum, total);
    }
}

/// The bounds of a histogram, each once.
macro_rules! bounds {
    ($($bound:literal),+ $(,)?) => { &[$(($bound, stringify!($bound))),+] };
}
pub(super) use bounds;

#[cfg(test)]
mod tests {
    use super::super::text::Kind;
    use super::*;

    const TIMES: Description =
        Description { name: "t_seconds", kind: Kind::Histogram, labels: &[], help: "Times." };

    #[test]
    fn a_time_counts_at_its_bound_and_at_all_above() {
        let histogram = Histogram::new(&TIMES, bounds![0.1, 1.0]);
        for milliseconds in [100, 101, 1_000, 2_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let mut text = Exposition::default();
        histogram.write(&mut text);
        let expected = "t_seconds_bucket{le=\"0.1\"} 1\nt_seconds_bucket{le=\"1.0\"} 3\n\
             t_seconds_bucket{le=\"+Inf\"} 4\nt_seconds_sum 3.201\nt_seconds_count 4\n";
        assert!(text.finish().ends_with(expected));
    }
}

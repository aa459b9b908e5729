//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many were up to each of some bounds.
    Histogram,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug)]
pub struct Description {
    /// Its name; the unit is in it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells, in a line.
    pub help: &'static str,
}

/// Metrics, as they are written down.
#[derive(Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// What follows are samples of this metric.
    pub fn describe(&mut self, metric: &Description) {
        let (name, kind) = (metric.name, metric.kind.as_str());
        self.line(format_args!("# HELP {name} {}", metric.help));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// A metric that has one sample, without labels.
    pub fn single(&mut self, metric: &Description, value: f64) {
        self.describe(metric);
        self.sample(metric, &[], value);
    }

    /// A sample, with the values of the metric's labels.
    pub fn sample(&mut self, metric: &Description, labels: &[&str], value: f64) {
        let labels = metric.labels.iter().copied().zip(labels.iter().copied());
        self.series(metric.name, "", labels, value);
    }

    /// A sample of a histogram: so many were not above `bound`.
    pub(super) fn bucket(&mut self, metric: &Description, bound: &str, count: u64) {
        self.series(metric.name, "_bucket", std::iter::once(("le", bound)), number(count));
    }

    /// The end of a histogram.
    pub(super) fn total(&mut self, metric: &Description, sum: f64, count: u64) {
        self.series(metric.name, "_sum", std::iter::empty(), sum);
        self.series(metric.name, "_count", std::iter::empty(), number(count));
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.text
    }

    fn series<'a>(
        &mut self,
        name: &str,
        suffix: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        let mut before = '{';
        for (label, value) in labels {
            self.text.push(before);
            self.text.push_str(label);
            self.text.push_str("=\"");
            self.escaped(value);
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        self.line(format_args!(" {value}"));
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        self.text.write_fmt(line).unwrap_or_default();
        self.text.push('\n');
    }
}

/// As Prometheus has all numbers. Whole ones are exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_stays_inside_its_quotes() {
        const METRIC: Description =
            Description { name: "a_total", kind: Kind::Counter, labels: &["b", "c"], help: "What it is." };
        let mut text = Exposition::default();
        text.describe(&METRIC);
        text.sample(&METRIC, &["x\"} 1\na 2\\", "é"], 1.5);
        let expected = "# HELP a_total What it is.\n# TYPE a_total counter\na_total{b=\"x\\\"} 1\\na 2\\\\\",c=\"é\"} 1.5\n";
        assert_eq!(text.finish(), expected);
    }
}

//! What was asked of Discord by this process.

use super::instruments::bounds;
use super::{Counters, Description, Exposition, Histogram, Kind, Labels};
use std::time::Duration;

const REQUESTS: Description = Description {
    name: "actor_discord_requests_total",
    kind: Kind::Counter,
    labels: &["route", "status"],
    help: "Requests to Discord, by route without ids and HTTP status; no_answer and not_sent where there was none.",
};
const WAIT: Description = Description {
    name: "actor_rate_limit_wait_seconds",
    kind: Kind::Histogram,
    labels: &[],
    help: "How long requests to Discord waited for their turn, those that gave up too.",
};
const INVALID: Description = Description {
    name: "actor_invalid_requests",
    kind: Kind::Gauge,
    labels: &[],
    help: "Requests of the last ten minutes that Discord counts as invalid (401, 403, 429); it bans an address at 10000.",
};

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answered {
    /// It did not leave.
    NotSent,
    /// Nothing came back.
    NoAnswer,
    /// This HTTP status.
    Status(u16),
}

impl Labels for (&'static str, Answered) {
    fn sample(&self, metric: &Description, value: f64, text: &mut Exposition) {
        let (route, answered) = *self;
        match answered {
            Answered::NotSent => text.sample(metric, &[route, "not_sent"], value),
            Answered::NoAnswer => text.sample(metric, &[route, "no_answer"], value),
            Answered::Status(status) => text.sample(metric, &[route, &status.to_string()], value),
        }
    }
}

/// Instruments of the limiter that all requests to Discord pass.
pub struct RequestMetrics {
    requests: Counters<(&'static str, Answered)>,
    wait: Histogram,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self {
            requests: Counters::new(&REQUESTS),
            wait: Histogram::new(&WAIT, bounds![0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
        }
    }
}

/// Not the values.
impl std::fmt::Debug for RequestMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestMetrics").finish_non_exhaustive()
    }
}

impl RequestMetrics {
    /// A request is over.
    pub(crate) fn answered(&self, route: &'static str, answered: Answered) {
        self.requests.count((route, answered));
    }

    /// A request has waited for its turn.
    pub(crate) fn waited(&self, time: Duration) {
        self.wait.observe(time);
    }

    pub(crate) fn write(&self, invalid_requests: u32, text: &mut Exposition) {
        self.requests.write(text);
        self.wait.write(text);
        text.single(&INVALID, f64::from(invalid_requests));
    }
}

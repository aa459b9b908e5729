//! What this node told as an alert.

use super::{Counters, Description, Exposition, Kind, Source};
use async_trait::async_trait;
use botticelli_server::alert::AlertRule;

const ALERTS: Description = Description {
    name: "actor_alerts_total",
    kind: Kind::Counter,
    labels: &["rule"],
    help: "Alerts that began, and that this node put into the outbox.",
};

/// Instruments of a watcher.
pub struct AlertMetrics(Counters<&'static str>);

impl Default for AlertMetrics {
    fn default() -> Self {
        Self(Counters::new(&ALERTS))
    }
}

impl AlertMetrics {
    /// An alert has begun.
    pub fn began(&self, rule: AlertRule) {
        self.0.count(rule.as_str());
    }
}

#[async_trait]
impl Source for AlertMetrics {
    async fn write(&self, text: &mut Exposition) {
        self.0.write(text);
    }
}

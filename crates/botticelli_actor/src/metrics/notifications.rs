//! What this node heard on channels of PostgreSQL.

use super::{Counters, Description, Exposition, Kind, Source};
use async_trait::async_trait;

const NOTIFICATIONS: Description = Description {
    name: "actor_notifications_total",
    kind: Kind::Counter,
    labels: &["channel", "result"],
    help: "Notifications of PostgreSQL that this node heard, for each trigger.",
};

const GAPS: Description = Description {
    name: "actor_notification_gaps_total",
    kind: Kind::Counter,
    labels: &["channel"],
    help: "Times in which nobody listened to a channel: notifications may be lost.",
};

/// Instruments of the listeners.
pub struct NotificationMetrics {
    notifications: Counters<(String, &'static str)>,
    gaps: Counters<String>,
}

impl Default for NotificationMetrics {
    fn default() -> Self {
        Self { notifications: Counters::new(&NOTIFICATIONS), gaps: Counters::new(&GAPS) }
    }
}

impl NotificationMetrics {
    /// One was heard, and this is what became of it.
    pub fn notification(&self, channel: &str, result: &'static str) {
        self.notifications.count((channel.to_owned(), result));
    }

    /// Nobody had listened.
    pub fn gap(&self, channel: &str) {
        self.gaps.count(channel.to_owned());
    }
}

#[async_trait]
impl Source for NotificationMetrics {
    async fn write(&self, text: &mut Exposition) {
        self.notifications.write(text);
        self.gaps.write(text);
    }
}

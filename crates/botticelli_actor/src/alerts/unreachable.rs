//! The one alert that can't go through the database: that it is away. It is told from memory, as well as that goes.

use crate::platforms::Platforms;
use botticelli_server::alert::{AlertEvent, AlertPolicy, AlertRule, Notice, Trouble};
use botticelli_server::clock::Clock;
use botticelli_server::ids::NodeId;
use botticelli_server::post::{IdempotencyKey, fingerprint};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{error, info, warn};

/// A database that comes back sooner was only started again.
const AFTER: TimeDelta = TimeDelta::seconds(3);
/// A sink that does not answer for so long is tried again with the next look.
const PATIENCE: Duration = Duration::from_secs(15);
/// The end is told so many times at most: whoever missed it sees that all goes on.
const ENDS: u32 = 20;

pub(super) struct Unreachable {
    platforms: Platforms,
    policies: Vec<AlertPolicy>,
    clock: Arc<dyn Clock>,
    node: NodeId,
    away: Option<Away>,
}

struct Away {
    since: DateTime<Utc>,
    summary: String,
    /// Sections that have taken the beginning, by place, and not yet the end.
    told: Vec<usize>,
    ends: u32,
}

impl Unreachable {
    pub(super) fn new(
        platforms: Platforms,
        policies: Vec<AlertPolicy>,
        clock: Arc<dyn Clock>,
        node: NodeId,
    ) -> Self {
        let trouble = Trouble {
            rule: AlertRule::DatabaseUnreachable,
            subject: String::new(),
            actor_name: None,
            amount: 1,
            summary: String::new(),
        };
        let policies = policies.into_iter().filter(|policy| policy.wants(&trouble)).collect();
        Self { platforms, policies, clock, node, away: None }
    }

    /// The database did not answer, or not well.
    pub(super) async fn is_away(&mut self, why: &str) {
        let now = self.clock.now();
        let summary = format!("the database does not answer node {}: {why}", self.node);
        let away = self.away.get_or_insert_with(|| Away { since: now, summary, told: Vec::new(), ends: 0 });
        if now - away.since < AFTER || away.told.len() == self.policies.len() {
            return;
        }
        if away.told.is_empty() {
            error!(since = %away.since, "alert: {}", away.summary);
        }
        let missing: Vec<usize> =
            (0..self.policies.len()).filter(|place| !away.told.contains(place)).collect();
        let event = (Notice::Started, away.since, None, away.summary.clone());
        let taken = self.send(&missing, event).await;
        if let Some(away) = &mut self.away {
            away.told.extend(taken);
        }
    }

    /// The database answers.
    pub(super) async fn answers(&mut self) {
        let Some(mut away) = self.away.take() else { return };
        if away.told.is_empty() || away.ends == ENDS {
            return;
        }
        let event = (Notice::Ended, away.since, Some(self.clock.now()), away.summary.clone());
        let taken = self.send(&away.told, event).await;
        away.told.retain(|place| !taken.contains(place));
        away.ends += 1;
        if away.told.is_empty() {
            info!("alert is over: the database answers again");
        } else {
            self.away = Some(away);
        }
    }

    /// Returns who has taken it.
    async fn send(
        &self,
        places: &[usize],
        (notice, since, ended_at, summary): (Notice, DateTime<Utc>, Option<DateTime<Utc>>, String),
    ) -> Vec<usize> {
        let sends = places.iter().map(|place| async {
            let policy = &self.policies[*place];
            let incident = self.incident(policy, since);
            let event = AlertEvent {
                notice,
                alert: policy.name.clone(),
                rule: Some(AlertRule::DatabaseUnreachable),
                severity: AlertRule::DatabaseUnreachable.severity(),
                subject: String::new(),
                actor_name: None,
                summary: summary.clone(),
                started_at: since,
                ended_at,
                incident,
            };
            let sent = deliver(&self.platforms, policy, &event);
            let sent = timeout(PATIENCE, sent).await.unwrap_or_else(|_| Err("it does not answer".to_owned()));
            if let Err(error) = &sent {
                warn!(alert = %policy.name, error, "that the database is away could not be told");
            }
            sent.is_ok().then_some(*place)
        });
        join_all(sends).await.into_iter().flatten().collect()
    }

    /// The same each time this is told, of this node.
    fn incident(&self, policy: &AlertPolicy, since: DateTime<Utc>) -> String {
        fingerprint(&format!("{}\0{}\0{}", self.node, policy.name, since.timestamp_micros()))
    }
}

/// Brings one alert to its sink, past the outbox.
///
/// # Errors
/// What the sink answered.
pub(crate) async fn deliver(
    platforms: &Platforms,
    policy: &AlertPolicy,
    event: &AlertEvent,
) -> Result<String, String> {
    let destination = &policy.destination;
    let platform = platforms
        .get(&destination.platform)
        .ok_or_else(|| format!("this server has no platform {:?}", destination.platform))?;
    let key = IdempotencyKey::stored(fingerprint(&format!("{}\0{}", event.incident, event.notice.as_str())));
    let receipt = platform.post(&event.content(), destination, &key).await;
    receipt.map(|receipt| receipt.message_id).map_err(|error| error.to_string())
}

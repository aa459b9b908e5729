//! Alerts: what is not as it should be is told once when it begins, and once when it ends. See docs/alerts.md.
//!
//! `Watcher` has the store look, again and again; what begins and ends then stands in the outbox, and the deliverer
//! brings it to its sink as it brings posts. Only that the database is away is told from here, by [`unreachable`].

pub(crate) mod heartbeat;
pub mod signature;
pub mod sinks;
pub(crate) mod unreachable;

pub use heartbeat::HeartbeatSettings;
pub use sinks::Sink;

use crate::engine::{Activity, CurrentNode};
use crate::metrics::AlertMetrics;
use crate::platforms::Platforms;
use crate::self_audit::{Finding, SelfAuditReport};
use botticelli_database::{AlertsSeen, Store};
use botticelli_server::alert::{AlertPolicy, AlertRule, AlertWatch, Trouble};
use botticelli_server::clock::Clock;
use botticelli_server::ledger::LedgerError;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use unreachable::Unreachable;

/// Everything is looked at as often as this, whoever says something or not.
const EVERY: Duration = Duration::from_secs(2);
/// And no more often, however much is recorded.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// A database that does not answer for so long is not there.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often old alerts are deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

/// An `[[alerts]]` section.
#[derive(Debug, Clone)]
pub struct AlertSettings {
    /// What it wants to be told, and where.
    pub policy: AlertPolicy,
    /// Its own sink; `None`: it is told on Discord.
    pub sink: Option<Sink>,
}

/// What the server's look at itself found that must never be so.
fn broken_invariants(report: Option<&SelfAuditReport>) -> Vec<Trouble> {
    let findings = report.into_iter().flat_map(SelfAuditReport::findings);
    let broken = |(what, finding): (&str, &Finding)| Trouble {
        rule: AlertRule::InvariantBroken,
        subject: what.to_owned(),
        actor_name: None,
        amount: finding.count,
        summary: format!(
            "{} {}, such as {}",
            finding.count,
            what.replace('_', " "),
            finding.examples.join(", ")
        ),
    };
    findings.filter(|(_, finding)| finding.count > 0).map(broken).collect()
}

/// What a watcher is made of.
pub(crate) struct WatcherParts {
    pub(crate) store: Store,
    pub(crate) platforms: Platforms,
    pub(crate) node: Arc<CurrentNode>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) policies: Vec<AlertPolicy>,
    /// What the server's look at itself found.
    pub(crate) self_audits: watch::Receiver<Option<SelfAuditReport>>,
    /// What the engine does: after it has recorded something it is worth looking.
    pub(crate) activity: watch::Receiver<Activity>,
    /// Woken when there is something to deliver.
    pub(crate) posts_waiting: Arc<Notify>,
    /// So long alerts that are over are kept; `None`: for ever.
    pub(crate) keep: Option<Duration>,
}

/// The background loop that finds out what is wrong.
pub(crate) struct Watcher {
    parts: WatcherParts,
    metrics: Arc<AlertMetrics>,
    serving_since: DateTime<Utc>,
    unreachable: Unreachable,
    prune_at: Instant,
    /// A look that the database has not answered yet.
    asked: Option<JoinHandle<Result<AlertsSeen, LedgerError>>>,
}

impl Watcher {
    pub(crate) fn new(parts: WatcherParts) -> Self {
        let unreachable = Unreachable::new(
            parts.platforms.clone(),
            parts.policies.clone(),
            parts.clock.clone(),
            parts.node.name(),
        );
        Self {
            serving_since: parts.clock.now(),
            unreachable,
            prune_at: Instant::now(),
            asked: None,
            metrics: Arc::default(),
            parts,
        }
    }

    /// What it counts.
    pub(crate) fn metrics(&self) -> Arc<AlertMetrics> {
        self.metrics.clone()
    }

    /// Looks until `stop`. Without a section there is nothing to look for, but what another configuration told is over.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (mut activity, mut self_audits) = (self.parts.activity.clone(), self.parts.self_audits.clone());
        loop {
            let looked_at = Instant::now();
            tokio::select! {
                () = stop.cancelled() => return,
                looked = self.look() => {
                    if self.parts.policies.is_empty() && looked {
                        return stop.cancelled().await;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(looked_at + EVERY) => {}
                () = async {
                    sleep_until(looked_at + AT_MOST_EVERY).await;
                    tokio::select! {
                        () = has_recorded(&mut activity) => {}
                        Ok(()) = self_audits.changed() => {}
                    }
                } => {}
            }
        }
    }

    /// Says whether the database answered.
    async fn look(&mut self) -> bool {
        let mut asked = self.asked.take().unwrap_or_else(|| self.ask());
        let seen = match timeout(PATIENCE, &mut asked).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => Err(LedgerError::Corrupt(format!("the look broke off: {error}"))),
            Err(_) => {
                // One question at a time, however long it takes.
                self.asked = Some(asked);
                Err(LedgerError::Unavailable("no answer".into()))
            }
        };
        match seen {
            Ok(seen) => {
                self.unreachable.answers().await;
                self.tell(&seen);
                self.prune(&seen).await;
                true
            }
            Err(LedgerError::Unavailable(why) | LedgerError::NotWritable(why)) => {
                debug!(error = %why, "alerts wait for the database");
                self.unreachable.is_away(&why.to_string()).await;
                false
            }
            Err(error) => {
                warn!(error = %error, "could not look for what is wrong; trying again");
                true
            }
        }
    }

    /// Has the store look once.
    fn ask(&self) -> JoinHandle<Result<AlertsSeen, LedgerError>> {
        let parts = &self.parts;
        let watch = AlertWatch {
            node: parts.node.name(),
            policies: parts.policies.clone(),
            found: broken_invariants(parts.self_audits.borrow().as_ref()),
            serving_since: self.serving_since,
        };
        let store = parts.store.clone();
        tokio::spawn(async move { store.watch_alerts(watch).await })
    }

    /// This node has put them into the outbox, and no other.
    fn tell(&self, seen: &AlertsSeen) {
        for trouble in &seen.begun {
            self.metrics.began(trouble.rule);
            warn!(rule = trouble.rule.as_str(), subject = trouble.subject, "alert: {}", trouble.summary);
        }
        if seen.ended > 0 {
            info!(alerts = seen.ended, "alerts are over");
        }
        if seen.is_told() {
            self.parts.posts_waiting.notify_one();
        }
    }

    async fn prune(&mut self, seen: &AlertsSeen) {
        let keep = self.parts.keep.and_then(|keep| chrono::TimeDelta::from_std(keep).ok());
        let before = keep.and_then(|keep| self.parts.clock.now().checked_sub_signed(keep));
        let Some(before) = before.filter(|_| seen.watches && Instant::now() >= self.prune_at) else { return };
        self.prune_at = Instant::now() + PRUNE_EVERY;
        match self.parts.store.prune_alerts(before).await {
            Ok(alerts) => debug!(alerts, "old alerts deleted"),
            Err(error) => warn!(error = %error, "old alerts could not be deleted; trying again later"),
        }
    }
}

/// Results were on their way to the store, and have arrived.
async fn has_recorded(activity: &mut watch::Receiver<Activity>) {
    let recording = activity.wait_for(|activity| activity.recording > 0).await.is_ok();
    let recorded = recording && activity.wait_for(|activity| activity.recording == 0).await.is_ok();
    if !recorded {
        // The engine has ended: the poll goes on.
        std::future::pending::<()>().await;
    }
}

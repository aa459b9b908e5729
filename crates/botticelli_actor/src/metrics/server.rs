//! How the server stands: read when somebody asks.

use super::text::number;
use super::{Description, Exposition, Kind, Source};
use crate::actor::RegisteredActors;
use crate::engine::Activity;
use crate::self_audit::SelfAuditReport;
use async_trait::async_trait;
use botticelli_database::{CensusView, Store};
use botticelli_server::server::ActorManager as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Description {
    Description { name, kind: Kind::Gauge, labels, help }
}

const BUILD: Description = gauge("actor_build_info", &["version"], "The version of the program; always 1.");
const RUNNING: Description = gauge("actor_tasks_running", &[], "Attempts that run on this node.");
const UP: Description = gauge(
    "actor_database_up",
    &[],
    "Whether the database answered when these metrics were asked for (1) or not (0).",
);
const SCHEDULED: Description =
    gauge("actor_tasks_scheduled", &[], "Tasks of the database that are due some time and not paused.");
const PAUSED: Description =
    gauge("actor_tasks_paused", &[], "Tasks of the database that a person or the breaker has paused.");
const BREAKER: Description = gauge(
    "actor_breaker_state",
    &["actor", "state"],
    "Tasks of an actor whose breaker is open, or half-open (a probe is under way); those left are closed.",
);
const POOL_MAX: Description =
    gauge("actor_db_pool_max_connections", &[], "Connections to the database that this node may open.");
const POOL: Description = gauge(
    "actor_db_pool_connections",
    &["state"],
    "Open connections of this node to the database, in use or idle.",
);
const POOL_WAITING: Description = gauge(
    "actor_db_pool_waiting",
    &[],
    "Units of work of this node that wait for a connection; not told on SQLite.",
);
const INVARIANTS: [Description; 4] = [
    gauge(
        "actor_invariant_overdue_tasks",
        &[],
        "Tasks that should have started more than a minute ago. Must be 0; counted up to 1000.",
    ),
    gauge(
        "actor_invariant_orphaned_executions",
        &[],
        "Executions without a living owner, that nobody has taken over for a minute. Must be 0; counted up to 1000.",
    ),
    gauge(
        "actor_invariant_stuck_posts",
        &[],
        "Posts in state sending whose lease was over a minute ago. Must be 0; counted up to 1000.",
    ),
    gauge(
        "actor_invariant_unaccounted_occurrences",
        &[],
        "Nominal times that tasks went past and the ledger does not have. Must be 0.",
    ),
];
const AUDITED: Description = gauge(
    "actor_self_audit_timestamp_seconds",
    &[],
    "When the last self-audit was, in seconds since 1970; there is one a minute.",
);

/// What this process is doing.
pub struct NodeMetrics {
    /// Of its engine.
    pub activity: watch::Receiver<Activity>,
}

#[async_trait]
impl Source for NodeMetrics {
    async fn write(&self, text: &mut Exposition) {
        text.describe(&BUILD);
        text.sample(&BUILD, &[botticelli_database::VERSION], 1.0);
        text.single(&RUNNING, count(self.activity.borrow().running));
    }
}

/// How things stand in the database.
pub struct DatabaseMetrics {
    store: Store,
    actors: Arc<RegisteredActors>,
    self_audit: watch::Receiver<Option<SelfAuditReport>>,
    asked: Mutex<Option<(Instant, Option<CensusView>)>>,
}

/// A database that does not answer for so long is not there.
const PATIENCE: Duration = Duration::from_secs(2);
/// However many ask, the database is asked no more often than this.
const FRESH: Duration = Duration::from_secs(1);

impl DatabaseMetrics {
    /// Of this database. The breakers of these actors are told even if all are closed.
    pub fn new(
        store: Store,
        actors: Arc<RegisteredActors>,
        self_audit: watch::Receiver<Option<SelfAuditReport>>,
    ) -> Self {
        Self { store, actors, self_audit, asked: Mutex::default() }
    }

    /// What the database says, or said a moment ago; `None` when it does not answer.
    async fn census(&self) -> Option<CensusView> {
        let mut asked = self.asked.lock().await;
        if let Some((at, said)) = asked.as_ref()
            && at.elapsed() < FRESH
        {
            return said.clone();
        }
        let said = tokio::time::timeout(PATIENCE, self.store.census()).await;
        let said = said.ok().and_then(Result::ok);
        *asked = Some((Instant::now(), said.clone()));
        said
    }

    fn write_census(&self, census: Option<&CensusView>, text: &mut Exposition) {
        text.single(&UP, if census.is_some() { 1.0 } else { 0.0 });
        let held = census.map(|census| census.held.iter().map(|held| held.tasks).sum());
        for (metric, value) in [(&SCHEDULED, census.map(|census| census.scheduled_tasks)), (&PAUSED, held)] {
            text.describe(metric);
            if let Some(value) = value {
                text.sample(metric, &[], number(value));
            }
        }
        text.describe(&BREAKER);
        if let Some(census) = census {
            self.write_breakers(census, text);
        }
    }

    fn write_breakers(&self, census: &CensusView, text: &mut Exposition) {
        let mut breakers: BTreeMap<_, _> =
            self.actors.ids().into_iter().map(|actor| (actor, (0, 0))).collect();
        for held in census.held.iter().filter(|held| held.by_breaker) {
            breakers.insert(held.actor.clone(), (held.tasks.saturating_sub(held.probing), held.probing));
        }
        for (actor, (open, half_open)) in breakers {
            text.sample(&BREAKER, &[actor.as_str(), "open"], number(open));
            text.sample(&BREAKER, &[actor.as_str(), "half_open"], number(half_open));
        }
    }

    fn write_pool(&self, text: &mut Exposition) {
        let pool = self.store.pool();
        text.single(&POOL_MAX, count(pool.max));
        text.describe(&POOL);
        text.sample(&POOL, &["idle"], count(pool.idle));
        text.sample(&POOL, &["in_use"], count(pool.open.saturating_sub(pool.idle)));
        text.describe(&POOL_WAITING);
        if let Some(waiting) = pool.waiting {
            text.sample(&POOL_WAITING, &[], count(waiting));
        }
    }

    fn write_invariants(&self, text: &mut Exposition) {
        let report = self.self_audit.borrow().clone();
        let counts = report.as_ref().map(|report| report.findings().map(|(_, finding)| finding.count));
        for (index, metric) in INVARIANTS.iter().enumerate() {
            text.describe(metric);
            if let Some(counts) = counts {
                text.sample(metric, &[], number(counts[index]));
            }
        }
        text.describe(&AUDITED);
        if let Some(report) = report {
            text.sample(&AUDITED, &[], number(report.at.timestamp().unsigned_abs()));
        }
    }
}

#[async_trait]
impl Source for DatabaseMetrics {
    async fn write(&self, text: &mut Exposition) {
        let census = self.census().await;
        self.write_census(census.as_ref(), text);
        self.write_pool(text);
        self.write_invariants(text);
    }
}

fn count(count: usize) -> f64 {
    number(u64::try_from(count).unwrap_or(u64::MAX))
}

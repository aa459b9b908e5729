//! The server looks at itself once a minute: are there tasks that are overdue, executions that nobody owns, posts that hang,
//! occurrences that nothing accounts for? There must be none; whoever is to hear of it reads [`SelfAudit::reports`].

use crate::engine::DatabaseClock;
use botticelli_database::{Progress, Standing, Store};
use botticelli_server::clock::Clock as _;
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::LedgerError;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

const EVERY: Duration = Duration::from_secs(60);
/// What is wrong for a shorter time than this may be about to be put right.
const GRACE: Duration = Duration::from_secs(60);
/// Of each kind no more are counted.
const MOST: usize = 1_000;
/// So many tasks are followed from one self-audit to the next. All get their turn.
const FOLLOWED: usize = 1_000;
/// So many examples are named.
const EXAMPLES: usize = 5;

/// How many there are of something that must not be, and some of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// How many; counted up to a thousand.
    pub count: u64,
    /// The first few, by id.
    pub examples: Vec<String>,
}

impl Finding {
    fn of(ids: &[impl ToString]) -> Self {
        Self {
            count: u64::try_from(ids.len()).unwrap_or(u64::MAX),
            examples: ids.iter().take(EXAMPLES).map(ToString::to_string).collect(),
        }
    }
}

/// What a self-audit found. All is well when each count is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfAuditReport {
    /// When.
    pub at: DateTime<Utc>,
    /// Tasks that should have started more than a minute ago, and nothing of them is open.
    pub overdue_tasks: Finding,
    /// Executions whose node has been gone for more than a minute, or that nobody takes although they could start.
    pub orphaned_executions: Finding,
    /// Posts that are being sent, and more than a minute ago the lease for that was over.
    pub stuck_posts: Finding,
    /// Nominal times that a task has gone past and that the ledger does not have; the examples are tasks.
    pub unaccounted_occurrences: Finding,
}

impl SelfAuditReport {
    /// What was looked for, by its name, and what was found.
    pub fn findings(&self) -> [(&'static str, &Finding); 4] {
        [
            ("overdue_tasks", &self.overdue_tasks),
            ("orphaned_executions", &self.orphaned_executions),
            ("stuck_posts", &self.stuck_posts),
            ("unaccounted_occurrences", &self.unaccounted_occurrences),
        ]
    }
}

/// The loop.
pub struct SelfAudit {
    store: Store,
    clock: Arc<DatabaseClock>,
    reports: watch::Sender<Option<SelfAuditReport>>,
    /// Where some tasks stood when they were looked at last.
    followed: Vec<Standing>,
    /// The last of those.
    place: Option<TaskId>,
}

impl SelfAudit {
    /// A self-audit that has not looked yet.
    pub fn new(store: Store, clock: Arc<DatabaseClock>) -> Self {
        Self { store, clock, reports: watch::Sender::new(None), followed: Vec::new(), place: None }
    }

    /// The last report, and each that follows. `None`: there was none yet.
    pub fn reports(&self) -> watch::Receiver<Option<SelfAuditReport>> {
        self.reports.subscribe()
    }

    /// Looks each minute until `stop`; at first after a minute, when what was left of the last time is under way.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let next = self.clock.now() + EVERY;
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep_until(next) => {}
            }
            let now = self.clock.now();
            let report = tokio::select! {
                () = stop.cancelled() => return,
                report = self.run_once(now) => report,
            };
            match report {
                Ok(report) => {
                    tell(&report);
                    self.reports.send_replace(Some(report));
                }
                // That the database is away, others say.
                Err(error) => debug!(error = %error, "no self-audit"),
            }
        }
    }

    /// Looks.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn run_once(&mut self, now: DateTime<Utc>) -> Result<SelfAuditReport, LedgerError> {
        let found = self.store.invariants(GRACE, MOST).await?;
        let unaccounted_occurrences = self.unaccounted(now).await?;
        Ok(SelfAuditReport {
            at: now,
            overdue_tasks: Finding::of(&found.overdue_tasks),
            orphaned_executions: Finding::of(&found.orphaned_executions),
            stuck_posts: Finding::of(&found.stuck_posts),
            unaccounted_occurrences,
        })
    }

    /// Counts what the tasks that are followed went past, and turns to the next ones.
    async fn unaccounted(&mut self, now: DateTime<Utc>) -> Result<Finding, LedgerError> {
        let since = std::mem::take(&mut self.followed);
        let mut found = Finding::default();
        let mut tasks = BTreeSet::new();
        for progress in self.store.progress(&since).await? {
            let from = since.iter().find(|task| task.task_id == progress.task_id);
            let missing = from.map_or(0, |from| missing(from.next_run, &progress, now));
            if missing > 0 {
                found.count += missing;
                tasks.insert(progress.task_id);
            }
        }
        found.examples = tasks.iter().take(EXAMPLES).map(ToString::to_string).collect();
        self.followed = self.store.standings(self.place.as_ref(), FOLLOWED).await?;
        // After the last one it begins again; where all fit, all are followed all the time.
        self.place =
            self.followed.last().filter(|_| self.followed.len() == FOLLOWED).map(|task| task.task_id.clone());
        Ok(found)
    }
}

/// How many nominal times from `since` up to where the task stands now the ledger does not have.
fn missing(since: DateTime<Utc>, progress: &Progress, now: DateTime<Utc>) -> u64 {
    let until = progress.next_run.map_or(now, |next| next - TimeDelta::microseconds(1));
    let passed = progress.schedule.occurrences_until(since, until.max(since));
    passed.map_or(0, |passed| passed.count).saturating_sub(progress.accounted)
}

fn tell(report: &SelfAuditReport) {
    for (what, finding) in report.findings() {
        if finding.count > 0 {
            warn!(count = finding.count, examples = ?finding.examples, "the self-audit found {}", what.replace('_', " "));
        }
    }
}

//! A task: what it is (its definition) and where it stands (its state).

use crate::after::After;
use crate::breaker::{BreakerPolicy, BreakerState};
use crate::ids::{ActorName, DefinitionHash, TaskId};
use crate::outbox::OnUnknown;
use crate::post::Destination;
use crate::schedule::{ScheduleType, jitter};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::time::Duration;

/// One scheduled actor instance, as the configuration defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// The actor that it runs.
    pub actor_name: ActorName,
    /// When it is due.
    pub schedule: ScheduleType,
    /// What happens when things do not go to plan.
    pub policy: TaskPolicy,
    /// Where its posts go.
    pub destinations: Vec<Destination>,
    /// A task that is not enabled is known, and paused by its definition.
    pub enabled: bool,
    /// The tasks that it runs after. No part of the definition: the store sees to it, whichever node ends them.
    pub after: Vec<After>,
    /// The hash of all of this and of the actor's definition.
    pub definition: DefinitionHash,
}

impl Task {
    /// When the occurrence `nominal` is to start: its time plus the task's jitter for it.
    pub fn due_at(&self, nominal: DateTime<Utc>) -> DateTime<Utc> {
        nominal + jitter(self.id.as_str(), nominal, self.policy.jitter)
    }
}

/// What happens after downtime, while running, and after failures.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskPolicy {
    /// After downtime.
    pub catch_up: CatchUp,
    /// While the last run is not over.
    pub overlap: Overlap,
    /// Starts are spread over this long after the nominal time.
    pub jitter: Duration,
    /// An occurrence later than this is not worth running any more. `None`: always worth it, except under
    /// [`CatchUp::Skip`], where it is [`SKIP_GRACE`].
    pub misfire_grace: Option<Duration>,
    /// One attempt may take this long.
    pub timeout: Duration,
    /// So many attempts of one execution may fail. Those that a dying or stopping server cut short are not counted.
    pub max_attempts: NonZeroU32,
    /// The wait after a failure.
    pub backoff: Backoff,
    /// At so many failed executions in a row the breaker opens.
    pub max_consecutive_failures: NonZeroU32,
    /// After this long an open breaker lets one occurrence probe. `None`: a person resumes the task.
    pub cooldown: Option<Duration>,
    /// What to do with a post when nothing can tell whether it is there.
    pub on_unknown: OnUnknown,
}

/// How late an occurrence may start under [`CatchUp::Skip`] when no `misfire_grace_seconds` is set.
pub const SKIP_GRACE: Duration = Duration::from_secs(60);

impl Default for TaskPolicy {
    fn default() -> Self {
        Self {
            catch_up: CatchUp::Latest,
            overlap: Overlap::Skip,
            jitter: Duration::ZERO,
            misfire_grace: None,
            timeout: Duration::from_secs(300),
            max_attempts: NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN),
            backoff: Backoff::default(),
            max_consecutive_failures: NonZeroU32::new(5).unwrap_or(NonZeroU32::MIN),
            cooldown: None,
            on_unknown: OnUnknown::default(),
        }
    }
}

/// What to do about occurrences that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// One run for all that was missed.
    Latest,
    /// Every one, in order; when more than `limit` were missed, the newest `limit`.
    All {
        /// The cap.
        limit: NonZeroU32,
    },
    /// None.
    Skip,
}

/// What to do when a task is due while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Leave the occurrence out.
    #[default]
    Skip,
    /// Run once more when the current run is over.
    QueueOne,
    /// Run beside it.
    Allow,
}

/// The wait after failures: doubled with each, up to a cap, less a part that spreads tasks failing together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// After the first failure.
    pub initial: Duration,
    /// Never longer.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_secs(5), max: Duration::from_secs(15 * 60) }
    }
}

impl Backoff {
    /// The wait after the `failures`-th failure in a row (from 1). The jitter, up to a quarter off, is a hash of the
    /// task and the time, so that a decision made again comes out the same.
    pub fn wait(&self, task: &TaskId, failures: u32, now: DateTime<Utc>) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.initial.saturating_mul(1 << doublings).min(self.max);
        full - jitter(task.as_str(), now, full / 4)
    }
}

/// Why a task is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// A person paused it.
    Operator,
    /// Its breaker is open.
    Breaker,
    /// It is disabled in, or gone from, the configuration.
    Definition,
}

impl PauseReason {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Breaker => "breaker",
            Self::Definition => "definition",
        }
    }
}

/// Where a task stands: its row in `actor_server_state`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    /// The task.
    pub task_id: TaskId,
    /// Its actor.
    pub actor_name: ActorName,
    /// The definition that was registered last.
    pub definition: DefinitionHash,
    /// The schedule that was registered last.
    pub schedule: ScheduleType,
    /// When the last attempt started.
    pub last_run: Option<DateTime<Utc>>,
    /// The nominal time of the next occurrence; `None`: never again.
    pub next_run: Option<DateTime<Utc>>,
    /// When to look at the task next.
    pub wake_at: Option<DateTime<Utc>>,
    /// When an open breaker lets one occurrence probe.
    pub probe_at: Option<DateTime<Utc>>,
    /// Failed executions in a row.
    pub consecutive_failures: u32,
    /// Whether occurrences are left alone.
    pub is_paused: bool,
    /// Why. Kept for a moment after somebody set `is_paused = false`: it tells the server that it was resumed.
    pub pause_reason: Option<PauseReason>,
    /// Whatever the owner wants to keep with it.
    pub metadata: serde_json::Value,
    /// The row's last change.
    pub updated_at: DateTime<Utc>,
}

/// The breaker of a task, as its state tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// Occurrences run.
    Closed,
    /// Too many failures: nothing runs until a person resumes the task.
    Open,
    /// Too many failures: one occurrence will be let through as a probe.
    HalfOpen,
}

impl Breaker {
    /// Of a task that stands like this.
    pub fn of(is_paused: bool, pause_reason: Option<PauseReason>, probe_at: Option<DateTime<Utc>>) -> Self {
        match (is_paused, pause_reason, probe_at) {
            (true, Some(PauseReason::Breaker), Some(_)) => Self::HalfOpen,
            (true, Some(PauseReason::Breaker), None) => Self::Open,
            (true, Some(PauseReason::Operator | PauseReason::Definition) | None, _) | (false, ..) => {
                Self::Closed
            }
        }
    }
}

impl TaskPolicy {
    /// The part that concerns the breaker.
    pub fn breaker(&self) -> BreakerPolicy {
        BreakerPolicy { opens_at: self.max_consecutive_failures.get(), cooldown: self.cooldown }
    }
}

impl TaskState {
    /// The part that the breaker decides.
    pub fn breaker_state(&self) -> BreakerState {
        BreakerState {
            consecutive_failures: self.consecutive_failures,
            is_paused: self.is_paused,
            pause_reason: self.pause_reason,
            probe_at: self.probe_at,
        }
    }

    /// Takes over what the breaker decided.
    pub fn set_breaker_state(&mut self, breaker: BreakerState) {
        self.consecutive_failures = breaker.consecutive_failures;
        self.is_paused = breaker.is_paused;
        self.pause_reason = breaker.pause_reason;
        self.probe_at = breaker.probe_at;
    }

    /// The task's breaker.
    pub fn breaker(&self) -> Breaker {
        Breaker::of(self.is_paused, self.pause_reason, self.probe_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_cap_and_are_spread_and_come_out_the_same_again() {
        let backoff = Backoff { initial: Duration::from_secs(8), max: Duration::from_secs(60) };
        let task = |name: &str| TaskId::new(name).expect("a name");
        for (failures, full) in [(1, 8), (2, 16), (3, 32), (4, 60), (40, 60), (u32::MAX, 60)] {
            let waits = (0..50).map(|n| {
                let (task, now) = (task(&format!("task {n}")), DateTime::UNIX_EPOCH);
                assert_eq!(backoff.wait(&task, failures, now), backoff.wait(&task, failures, now));
                backoff.wait(&task, failures, now)
            });
            let waits: Vec<Duration> = waits.collect();
            let full = Duration::from_secs(full);
            assert!(waits.iter().all(|wait| *wait <= full && *wait >= full * 3 / 4), "{failures}: {waits:?}");
            let spread = *waits.iter().max().expect("some") - *waits.iter().min().expect("some");
            assert!(spread > full / 8, "tasks that fail together are not tried again together: {waits:?}");
        }
    }
}

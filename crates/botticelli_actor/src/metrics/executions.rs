//! What the engine of this node ran.

use super::instruments::bounds;
use super::{Counters, Description, Exposition, Histogram, Kind, Source};
use async_trait::async_trait;
use botticelli_server::ids::ActorName;
use botticelli_server::ledger::{EndedAttempt, Trigger};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::plan::Settlement;

const EXECUTIONS: Description = Description {
    name: "actor_executions_total",
    kind: Kind::Counter,
    labels: &["actor", "outcome", "trigger"],
    help: "Executions that ended on this node, however many attempts each took.",
};
const DURATION: Description = Description {
    name: "actor_execution_duration_seconds",
    kind: Kind::Histogram,
    labels: &[],
    help: "How long the last attempt of each execution ran.",
};
const LATENESS: Description = Description {
    name: "actor_schedule_lateness_seconds",
    kind: Kind::Histogram,
    labels: &[],
    help: "How long after its time, jitter included, each scheduled execution started.",
};

/// Instruments of an engine.
pub struct ExecutionMetrics {
    executions: Counters<(ActorName, &'static str, &'static str)>,
    duration: Histogram,
    lateness: Histogram,
}

impl Default for ExecutionMetrics {
    fn default() -> Self {
        Self {
            executions: Counters::new(&EXECUTIONS),
            duration: Histogram::new(
                &DURATION,
                bounds![0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0],
            ),
            lateness: Histogram::new(
                &LATENESS,
                bounds![0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3600.0],
            ),
        }
    }
}

impl ExecutionMetrics {
    /// The store has taken this end of an attempt.
    pub fn recorded(&self, ended: &EndedAttempt) {
        let attempt = &ended.attempt;
        let by_schedule = matches!(attempt.trigger, Trigger::Schedule | Trigger::Probe);
        if by_schedule && attempt.attempt == 1 && ended.end != AttemptEnd::Interrupted {
            self.lateness.observe_since(attempt.due_at, ended.started_at);
        }
        if let Settlement::Close { outcome, .. } = &ended.settlement {
            self.executions.count((ended.actor_name.clone(), outcome.as_str(), attempt.trigger.as_str()));
            self.duration.observe_since(ended.started_at, ended.ended_at);
        }
    }
}

#[async_trait]
impl Source for ExecutionMetrics {
    async fn write(&self, text: &mut Exposition) {
        self.executions.write(text);
        self.duration.write(text);
        self.lateness.write(text);
    }
}

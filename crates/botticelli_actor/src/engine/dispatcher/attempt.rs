//! One attempt, from its start to its end.

use crate::engine::Parts;
use crate::traces::{Stages, TimedStage};
use botticelli_database::fail_points::{Point, pass};
use botticelli_server::clock::Clock as _;
use botticelli_server::ledger::{Attempt, EndedAttempt};
use botticelli_server::outcome::{AttemptEnd, panic_message};
use botticelli_server::server::Run;
use botticelli_server::task::Task;
use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// A run that is over.
pub(super) struct Ended {
    pub(super) attempt: Attempt,
    pub(super) task: Arc<Task>,
    pub(super) started_at: DateTime<Utc>,
    pub(super) ended_at: DateTime<Utc>,
    pub(super) run: Run,
    /// For its trace.
    pub(super) stages: Vec<TimedStage>,
}

/// Writes down that an attempt begins which may be what kills servers. Without that it must not begin.
async fn begins(parts: &Parts, attempt: &Attempt) -> bool {
    let (task, execution) = (&attempt.task_id, attempt.execution_id);
    match parts.ledger.begin(&parts.node(), attempt).await {
        Ok(true) => true,
        Ok(false) => {
            debug!(task.id = %task, execution.id = %execution, "the attempt is another node's by now");
            false
        }
        Err(error) => {
            warn!(task.id = %task, execution.id = %execution, error = %error, "not started: its start can't be written down");
            false
        }
    }
}

/// Runs one attempt to its end, whatever that is.
pub(super) async fn run_attempt(
    parts: Arc<Parts>,
    task: Arc<Task>,
    attempt: Attempt,
    abort: CancellationToken,
    cancel: CancellationToken,
) -> Ended {
    let started_at = parts.clock.now();
    if attempt.interruptions > 0 && !begins(&parts, &attempt).await {
        return Ended {
            attempt,
            task,
            started_at,
            ended_at: started_at,
            run: Run::ended(AttemptEnd::Interrupted),
            stages: Vec::new(),
        };
    }
    let timeout = task.policy.timeout;
    let stages = parts.traces.is_on().then(|| Arc::new(Stages::new(parts.clock.clone())));
    // The actor's work ends with this, so that nothing of it goes on after the time it is recorded with.
    let run = AssertUnwindSafe(async {
        let mut context = (parts.contexts)(&task, &attempt, abort.clone());
        if let Some(stages) = &stages {
            context.trace = Some(stages.clone());
        }
        let running = parts.actors.run(&task.actor_name, context);
        tokio::select! {
            biased;
            () = cancel.cancelled() => Run::ended(AttemptEnd::Cancelled),
            run = running => run.unwrap_or_else(|unknown| Run::ended(AttemptEnd::Failed {
                error: unknown.to_string(),
                recoverable: false,
            })),
            () = parts.clock.sleep_until(started_at + timeout) => Run::ended(AttemptEnd::Failed {
                error: format!("timed out after {} s", timeout.as_secs_f64()),
                recoverable: true,
            }),
            () = abort.cancelled() => Run::ended(AttemptEnd::Interrupted),
        }
    });
    let run = run.catch_unwind().await.unwrap_or_else(|panic| {
        let error = format!("the server panicked: {}", panic_message(&*panic));
        Run::ended(AttemptEnd::Failed { error, recoverable: true })
    });
    let ended_at = parts.clock.now().max(started_at);
    pass(Point::RunProduced);
    let stages = stages.map(|stages| stages.take()).unwrap_or_default();
    Ended { attempt, task, started_at, ended_at, run, stages }
}

pub(super) fn log_end(ended: &EndedAttempt) {
    let (task, execution) = (&ended.attempt.task_id, ended.attempt.execution_id);
    let ms = (ended.ended_at - ended.started_at).num_milliseconds();
    match &ended.end {
        AttemptEnd::Succeeded => {
            info!(task.id = %task, execution.id = %execution, posts = ended.posts.len(), ms, "succeeded");
        }
        AttemptEnd::Skipped(reason) => {
            info!(task.id = %task, execution.id = %execution, reason = reason.as_str(), ms, "skipped");
        }
        AttemptEnd::Failed { error, .. } => {
            warn!(task.id = %task, execution.id = %execution, attempt = ended.attempt.attempt, ms, error, "failed");
        }
        AttemptEnd::Interrupted => {
            info!(task.id = %task, execution.id = %execution, "interrupted; handed on")
        }
        AttemptEnd::Cancelled => info!(task.id = %task, execution.id = %execution, "cancelled"),
    }
}

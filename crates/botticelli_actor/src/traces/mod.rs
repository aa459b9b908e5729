//! Traces for OpenTelemetry: a span for each attempt of an execution, its skills, and each attempt to send its posts.
//!
//! A span is made when what it tells is over and recorded, of the same facts as history and metrics
//! (see `docs/decisions/0022`). Ids are derived, so that the
//! node that sends a post needs nothing from the one that made it.

mod exporter;
mod span;
mod stages;
mod wire;

pub(crate) use exporter::Exporter;
pub(crate) use stages::{Stages, TimedStage};

use crate::config::{TraceSettings, env};
use botticelli_server::alert::TASK_PREFIX;
use botticelli_server::ids::{ExecutionId, NodeId, TaskId};
use botticelli_server::ledger::{Attempt, EndedAttempt, Recorded};
use botticelli_server::outbox::{Asked, ClaimedPost, Exchange, PostEnd};
use botticelli_server::outcome::AttemptEnd;
use chrono::{DateTime, Utc};
use exporter::Sender;
use span::{Hex, Ids, Kind, Part, Span, Value};
use std::borrow::Cow;
use std::sync::Arc;
use tracing::error_span;

/// Names of the log's spans: who writes the log as JSON puts their ids first.
pub(crate) const LOG_SPANS: [&str; 2] = ["run", "delivery"];

/// Where spans are made; off unless it is set up.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Setup>>);

struct Setup {
    /// Which database this is: part of all ids.
    ledger: String,
    /// The share of the executions that are traced.
    share: f64,
    sender: Sender,
}

impl Traces {
    /// What makes spans, and what sends them when it is run.
    ///
    /// # Errors
    /// When the HTTP client can't start.
    pub(crate) fn new(
        mut settings: TraceSettings,
        ledger: &str,
        node: &NodeId,
    ) -> Result<(Self, Exporter), String> {
        let of_process = [
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", node.to_string()),
            ("host.name", env::host_name()),
        ];
        for (key, value) in of_process {
            if settings.resource.iter().all(|(known, _)| known != key) {
                settings.resource.push((key.to_owned(), value));
            }
        }
        let share = settings.share;
        let (sender, exporter) = Exporter::new(settings)?;
        Ok((Self(Some(Arc::new(Setup { ledger: ledger.to_owned(), share, sender }))), exporter))
    }

    /// `None`: this execution is not traced.
    fn ids(&self, task: &TaskId, execution: ExecutionId, part: Part) -> Option<(&Setup, Ids)> {
        let setup = self.0.as_ref()?;
        let ids = Ids::derive(&setup.ledger, task, execution, part);
        ids.is_in(setup.share).then_some((setup, ids))
    }

    fn of_run(&self, attempt: &Attempt) -> Option<(&Setup, Ids)> {
        self.ids(&attempt.task_id, attempt.execution_id, Part::Attempt(attempt.attempt))
    }

    fn of_delivery(&self, post: &ClaimedPost) -> Option<(&Setup, Ids)> {
        let part = Part::Delivery { post: post.id, attempt: post.attempt };
        self.ids(&post.task_id, post.execution_id, part)
    }

    /// The log's lines in here are those of this attempt.
    pub(crate) fn log_run(&self, attempt: &Attempt) -> tracing::Span {
        let Some((_, ids)) = self.of_run(attempt) else { return tracing::Span::none() };
        error_span!("run", trace_id = %Hex(&ids.trace), span_id = %Hex(&ids.span))
    }

    /// The same for an attempt to send a post.
    pub(crate) fn log_delivery(&self, post: &ClaimedPost) -> tracing::Span {
        let Some((_, ids)) = self.of_delivery(post) else { return tracing::Span::none() };
        error_span!("delivery", trace_id = %Hex(&ids.trace), span_id = %Hex(&ids.span))
    }

    /// Whether stages are to be noted for [`Traces::run`].
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// An attempt is over, and this became of its record.
    pub(crate) fn run(&self, ended: &EndedAttempt, recorded: &Recorded, stages: Vec<TimedStage>) {
        let attempt = &ended.attempt;
        let Some((setup, ids)) = self.of_run(attempt) else { return };
        let mut attributes = of_task(&attempt.task_id, attempt.execution_id);
        attributes.extend([
            ("actor_server.actor.name", ended.actor_name.as_str().into()),
            ("actor_server.attempt", i64::from(attempt.attempt).into()),
            ("actor_server.trigger", attempt.trigger.as_str().into()),
            ("actor_server.outcome", outcome(&ended.end).into()),
            ("actor_server.posts", (ended.posts.len() as i64).into()),
        ]);
        if let Some(scheduled_for) = attempt.scheduled_for {
            attributes.push(("actor_server.scheduled_for", scheduled_for.to_rfc3339().into()));
        }
        if let AttemptEnd::Skipped(reason) = &ended.end {
            attributes.push(("actor_server.skip_reason", reason.as_str().into()));
        }
        if let AttemptEnd::Failed { recoverable, .. } = ended.end {
            let kind = if recoverable { "recoverable" } else { "unrecoverable" };
            attributes.push(("error.type", kind.into()));
        }
        if !matches!(recorded, Recorded::Stored { .. }) {
            attributes.push(("actor_server.recorded", false.into()));
        }
        for stage in stages {
            setup.sender.send(self.skill(setup, ids, attempt, stage));
        }
        let first = Ids::derive(&setup.ledger, &attempt.task_id, attempt.execution_id, Part::Attempt(1));
        setup.sender.send(Span {
            ids,
            parent: (attempt.attempt > 1).then_some(first.span),
            name: format!("run {}", ended.actor_name),
            kind: Kind::Internal,
            started_at: ended.started_at,
            ended_at: ended.ended_at,
            attributes,
            error: error(&ended.end, recorded),
        });
    }

    fn skill(&self, setup: &Setup, run: Ids, attempt: &Attempt, stage: TimedStage) -> Span {
        let part = Part::Skill { attempt: attempt.attempt, index: stage.index };
        let mut attributes = of_task(&attempt.task_id, attempt.execution_id);
        attributes.push(("actor_server.skill", stage.name.as_str().into()));
        Span {
            ids: Ids::derive(&setup.ledger, &attempt.task_id, attempt.execution_id, part),
            parent: Some(run.span),
            name: format!("skill {}", stage.name),
            kind: Kind::Internal,
            started_at: stage.started_at,
            ended_at: stage.ended_at,
            attributes,
            error: stage.error.map(Cow::Owned),
        }
    }

    /// An attempt to send a post is over, and stored.
    pub(crate) fn delivery(
        &self,
        post: &ClaimedPost,
        (end, exchanges): (&PostEnd, &[Exchange]),
        started_at: DateTime<Utc>,
        ended_at: DateTime<Utc>,
    ) {
        let Some((setup, ids)) = self.of_delivery(post) else { return };
        let destination = &post.destination;
        let (what, state, error) = told(end);
        let mut attributes = of_task(&post.task_id, post.execution_id);
        attributes.extend([
            ("actor_server.post.id", post.id.0.into()),
            ("actor_server.post.state", state.into()),
            ("actor_server.attempt", i64::from(post.attempt).into()),
            ("messaging.system", destination.platform.as_str().into()),
            ("messaging.destination.name", destination.target.as_str().into()),
            ("messaging.operation.name", what.into()),
            ("messaging.operation.type", "send".into()),
        ]);
        if let PostEnd::Posted(receipt) | PostEnd::Followed { receipt, .. } = end {
            attributes.push(("messaging.message.id", receipt.message_id.as_str().into()));
        }
        let status = exchanges.last().and_then(|exchange| exchange.status);
        attributes.extend(status.map(|status| ("http.response.status_code", i64::from(status).into())));
        if error.is_some() {
            let kind = status.map_or_else(|| state.to_owned(), |status| status.to_string());
            attributes.push(("error.type", kind.into()));
        }
        // An alert has no run.
        let run = Ids::derive(&setup.ledger, &post.task_id, post.execution_id, Part::Attempt(1));
        let is_alert = post.task_id.as_str().starts_with(TASK_PREFIX);
        let has_asked = exchanges.iter().any(|exchange| exchange.asked != Asked::LookUp);
        setup.sender.send(Span {
            ids,
            parent: (!is_alert).then_some(run.span),
            name: format!("{what} {}", destination.platform),
            kind: if has_asked { Kind::Client } else { Kind::Internal },
            started_at,
            ended_at: ended_at.max(started_at),
            attributes,
            error,
        });
    }
}

fn of_task(task: &TaskId, execution: ExecutionId) -> Vec<(&'static str, Value)> {
    vec![("actor_server.task.id", task.as_str().into()), ("actor_server.execution.id", execution.0.into())]
}

fn outcome(end: &AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Succeeded => "succeeded",
        AttemptEnd::Skipped(_) => "skipped",
        AttemptEnd::Failed { .. } => "failed",
        AttemptEnd::Interrupted => "interrupted",
        AttemptEnd::Cancelled => "cancelled",
    }
}

fn error(end: &AttemptEnd, recorded: &Recorded) -> Option<Cow<'static, str>> {
    match (end, recorded) {
        (_, Recorded::Refused { reason }) => Some(format!("can't be stored: {reason}").into()),
        (AttemptEnd::Failed { error, .. }, _) => Some(error.clone().into()),
        (AttemptEnd::Interrupted, _) => Some("interrupted".into()),
        (AttemptEnd::Succeeded | AttemptEnd::Skipped(_) | AttemptEnd::Cancelled, _) => None,
    }
}

/// What was to be done, in which state the post is now, and what went wrong. That a post waits for a time, or for what its
/// actor or its platform allows, is not wrong.
fn told(end: &PostEnd) -> (&'static str, &'static str, Option<Cow<'static, str>>) {
    match end {
        PostEnd::Posted(_) => ("post", "posted", None),
        PostEnd::Followed { receipt, again } => {
            let again = again.as_ref().filter(|again| again.counts).map(|again| again.reason.clone());
            let missing = receipt.missing.first().map(ToString::to_string);
            ("follow_up", "posted", again.or(missing).map(Cow::Owned))
        }
        PostEnd::Failed { error } => ("post", "failed", Some(error.clone().into())),
        PostEnd::Deferred { reason, counts, uncertain, .. } => {
            ("post", "deferred", (*counts || *uncertain).then(|| reason.clone().into()))
        }
        PostEnd::Skipped { .. } => ("post", "skipped", None),
        PostEnd::NeedsReview { reason } => ("post", "needs_review", Some(reason.clone().into())),
    }
}

//! `GET /health`, `/health/live`, `/health/ready`: how the server is, for people, supervisors and load balancers.

use crate::api::Api;
use crate::api::access::Needs;
use crate::api::problem::Answer;
use crate::api::route::{Call, Input, Operation, Reply, Routes};
use axum::http::StatusCode;
use botticelli_database::HealthView;
use botticelli_server::clock::Clock as _;
use botticelli_server::ids::TaskId;
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How the server is.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(in crate::api) struct HealthStatus {
    /// Whether all is well: the database answers, the scheduler is on time, no task was given up.
    pub(in crate::api) healthy: bool,
    /// The rest is told only to who may read.
    #[serde(flatten)]
    pub(in crate::api) details: Option<HealthDetails>,
}

/// What there is to know about that.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(in crate::api) struct HealthDetails {
    /// Tasks that are due some time and not paused; null: the database does not answer.
    pub(in crate::api) scheduled_tasks: Option<u64>,
    /// Tasks whose breaker is open: they failed too often. The first 100, by name.
    pub(in crate::api) failed_tasks: Vec<TaskId>,
    /// When the last execution came to its end.
    pub(in crate::api) last_execution: Option<DateTime<Utc>>,
    /// Whether the database answers.
    pub(in crate::api) database_reachable: bool,
    /// How late the scheduler is with looking at what is due.
    pub(in crate::api) scheduler_lag_seconds: f64,
    /// Attempts that run on this node.
    pub(in crate::api) running: usize,
    /// Whether the server is about to stop.
    pub(in crate::api) stopping: bool,
    /// This process.
    pub(in crate::api) node: String,
    /// Of the program.
    pub(in crate::api) version: &'static str,
    /// When this process started to listen.
    pub(in crate::api) started_at: DateTime<Utc>,
}

/// Later than this, something keeps the scheduler from its work.
const LATE: TimeDelta = TimeDelta::seconds(10);
/// A database that does not answer for so long is not there.
const PATIENCE: Duration = Duration::from_secs(2);
/// Health is asked for by everybody, without a token: the database is asked no more often than this.
const FRESH: Duration = Duration::from_secs(1);

/// What the database said last.
#[derive(Default)]
pub(in crate::api) struct Health {
    asked: Mutex<Option<(Instant, Option<HealthView>)>>,
}

pub(super) fn add(routes: Routes) -> Routes {
    let open = Needs::Nothing;
    routes
        .add(
            Operation::get("/health", "health", open, "How the server is").about(
                "200 when all is well, 503 when not: for people and monitors. Without a token (where one is needed) only \
                 `healthy` is told.",
            ),
            health,
        )
        .add(
            Operation::get("/health/live", "health_live", open, "Whether this process works")
                .about("503 when it should be started again. A database that is away is no reason for that."),
            live,
        )
        .add(
            Operation::get("/health/ready", "health_ready", open, "Whether this node takes on work")
                .about("503 while it starts or stops, or the database does not answer."),
            ready,
        )
}

async fn health(call: Call, _: Input) -> Answer<Reply<HealthStatus>> {
    let details = details(&call.api).await;
    let on_time = details.scheduler_lag_seconds < LATE.as_seconds_f64();
    let healthy = is_ready(&call.api, &details) && on_time && details.failed_tasks.is_empty();
    Ok(told(&call, healthy, details))
}

async fn live(call: Call, _: Input) -> Answer<Reply<HealthStatus>> {
    let details = details(&call.api).await;
    let healthy = !call.api.broken_down.is_cancelled() || details.stopping;
    Ok(told(&call, healthy, details))
}

async fn ready(call: Call, _: Input) -> Answer<Reply<HealthStatus>> {
    let details = details(&call.api).await;
    let healthy = is_ready(&call.api, &details);
    Ok(told(&call, healthy, details))
}

fn is_ready(api: &Api, details: &HealthDetails) -> bool {
    let has_looked = api.activity.borrow().next_look > DateTime::<Utc>::MIN_UTC;
    has_looked && details.database_reachable && !details.stopping && !api.broken_down.is_cancelled()
}

fn told(call: &Call, healthy: bool, details: HealthDetails) -> Reply<HealthStatus> {
    let details = call.caller.may_read().then_some(details);
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Reply::from(HealthStatus { healthy, details }).status(status)
}

async fn details(api: &Api) -> HealthDetails {
    let database = ask(api).await;
    let activity = *api.activity.borrow();
    let reachable = database.is_some();
    let view = database.unwrap_or_default();
    let lag = api.clock.now() - activity.next_look.max(api.started_at);
    HealthDetails {
        scheduled_tasks: reachable.then_some(view.scheduled_tasks),
        failed_tasks: view.failed_tasks,
        last_execution: view.last_execution,
        database_reachable: reachable,
        scheduler_lag_seconds: lag.max(TimeDelta::zero()).as_seconds_f64(),
        running: activity.running,
        stopping: api.stopping.is_cancelled(),
        node: api.node.name().to_string(),
        version: botticelli_database::VERSION,
        started_at: api.started_at,
    }
}

/// What the database says, or said a moment ago; `None` when it does not answer.
async fn ask(api: &Api) -> Option<HealthView> {
    let mut asked = api.health.asked.lock().await;
    if let Some((at, said)) = asked.as_ref()
        && at.elapsed() < FRESH
    {
        return said.clone();
    }
    let said = tokio::time::timeout(PATIENCE, api.store.health()).await;
    let said = said.ok().and_then(Result::ok);
    *asked = Some((Instant::now(), said.clone()));
    said
}

//! The control server, on a port of its own: what tests of other programs ask and tell.

use crate::faults::Fault;
use crate::id::Id;
use crate::scenario::{self, Changes, OneOrMany};
use crate::server::Shared;
use crate::state::Settings;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

type App = State<Arc<Shared>>;
type Refused = (StatusCode, Json<Value>);

/// `?channel=` and `?after=`, the latter a `seq`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Filter {
    channel: Option<Id>,
    after: u64,
}

/// All that the control server answers.
pub(crate) fn router(shared: &Arc<Shared>, about: Value) -> Router {
    Router::new()
        .route("/", get(move || async move { Json(about) }))
        .route("/ledger", get(ledger))
        .route("/visible", get(visible))
        .route("/requests", get(requests))
        .route("/invalid-requests", get(invalid_requests))
        .route("/faults", get(faults).post(add_faults).delete(clear_faults))
        .route("/release", post(release))
        .route("/world", post(change_world))
        .route("/settings", get(settings).put(set_settings))
        .with_state(Arc::clone(shared))
}

async fn ledger(State(shared): App, Query(filter): Query<Filter>) -> Json<Value> {
    let state = shared.state();
    let entries = state.ledger.entries().iter().filter(|entry| entry.seq > filter.after);
    let entries: Vec<_> =
        entries.filter(|entry| filter.channel.is_none_or(|channel| entry.channel_id == channel)).collect();
    Json(json!(entries))
}

async fn visible(State(shared): App, Query(filter): Query<Filter>) -> Json<Value> {
    let state = shared.state();
    let visible = state.ledger.visible();
    let visible: Vec<_> = visible
        .filter(|message| filter.channel.is_none_or(|channel| message.channel_id == channel))
        .collect();
    Json(json!(visible))
}

async fn requests(State(shared): App, Query(filter): Query<Filter>) -> Json<Value> {
    let state = shared.state();
    let requests = state.requests.iter().filter(|request| request.seq > filter.after);
    let requests: Vec<_> =
        requests.filter(|request| filter.channel.is_none() || request.channel_id == filter.channel).collect();
    Json(json!(requests))
}

async fn invalid_requests(State(shared): App) -> Json<Value> {
    let state = shared.state();
    let now = state.clock.now();
    let addresses = state.invalid.in_window(&state.settings.ban, now);
    let addresses = addresses.into_iter().map(|(ip, count)| {
        json!({"ip": ip, "in_window": count, "banned_until": state.invalid.banned_until(ip, now)})
    });
    let addresses: Vec<_> = addresses.collect();
    Json(
        json!({"total": state.invalid.total(), "dead_webhooks": state.invalid.dead_webhook_requests(), "addresses": addresses}),
    )
}

async fn faults(State(shared): App) -> Json<Value> {
    Json(json!(shared.state().faults.armed()))
}

async fn add_faults(State(shared): App, Json(faults): Json<OneOrMany<Fault>>) -> Result<StatusCode, Refused> {
    let faults = faults.into_vec();
    faults.iter().try_for_each(scenario::check).map_err(|error| refused(&error.to_string()))?;
    shared.update(|state| faults.into_iter().for_each(|fault| state.faults.add(fault)));
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_faults(State(shared): App) -> StatusCode {
    shared.update(|state| state.faults.clear());
    StatusCode::NO_CONTENT
}

async fn release(State(shared): App) -> StatusCode {
    shared.release();
    StatusCode::NO_CONTENT
}

async fn change_world(State(shared): App, Json(changes): Json<Changes>) -> Result<StatusCode, Refused> {
    let changes = changes.into_vec();
    shared
        .update(|state| changes.into_iter().try_for_each(|change| change.apply(state)))
        .map_err(|problem| refused(&problem))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn settings(State(shared): App) -> Json<Value> {
    Json(json!(shared.state().settings))
}

async fn set_settings(State(shared): App, Json(settings): Json<Settings>) -> Result<StatusCode, Refused> {
    scenario::check_limits(&settings.limits).map_err(|error| refused(&error.to_string()))?;
    shared.update(|state| state.settings = settings);
    Ok(StatusCode::NO_CONTENT)
}

fn refused(problem: &str) -> Refused {
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": problem})))
}

//! `POST /events/{name}`: what happens elsewhere makes tasks run.

use super::steer::request_key;
use crate::api::access::Needs;
use crate::api::page::to_hex;
use crate::api::problem::{Answer, Kind, Problem};
use crate::api::route::{Call, Operation, Reply, Routes};
use crate::api::{read, signature};
use crate::config::Webhook;
use crate::config::triggers::Sender;
use axum::body::Bytes;
use axum::http::StatusCode;
use botticelli_database::{RequestKey, Scope};
use botticelli_server::clock::Clock as _;
use botticelli_server::ids::{ExecutionId, TaskId};
use botticelli_server::server::{Arrival, EventItem, EventServer as _, Received, WhenFull};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;

/// Whoever is refused because too much waits comes again after so many seconds.
const COME_AGAIN: u64 = 5;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_signed(
        Operation::post("/events/{name}", "receive_event", Needs::Nothing, "Hand in an event")
            .about(
                "Runs the tasks that have a trigger of this name, with the body as their knowledge of type `event`. Who may \
                 send says the trigger: whoever signs with its secret (Standard Webhooks, or as GitHub does), or has a token \
                 with the scope `events`. Answers when the event is stored: from then on it will run, whatever happens to \
                 the server. The same id (`webhook-id`, `X-GitHub-Delivery`, or with a token `Idempotency-Key`) makes no \
                 second run within a week. 429 when too many runs wait.",
            )
            .answers(StatusCode::ACCEPTED),
        receive,
    )
}

/// Where an event is handed in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EventPath {
    /// The name of the trigger.
    name: String,
}

/// What becomes of an event.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct EventView {
    /// The runs that it leads to, one for each task.
    executions: Vec<EventRun>,
    /// The tasks whose filter does not let it through.
    filtered: Vec<TaskId>,
}

/// A run that an event leads to.
#[derive(Debug, Serialize, JsonSchema)]
struct EventRun {
    /// The task.
    task_id: TaskId,
    /// The execution. Several events may share one.
    execution_id: ExecutionId,
    /// Whether the event was here before.
    again: bool,
}

/// An event of which is known that its sender may send it.
struct Admitted {
    /// What it is known by.
    key: Option<RequestKey>,
    body: Value,
}

async fn receive(call: Call, path: EventPath, body: Bytes) -> Answer<Reply<EventView>> {
    let webhooks: Vec<Webhook> = {
        let known = call.api.webhooks.borrow();
        known.iter().filter(|webhook| webhook.name == path.name).cloned().collect()
    };
    // All of one name have the same sender.
    let Some(sender) = webhooks.first().map(|webhook| webhook.sender.clone()) else {
        call.caller.may(Needs::Scope(Scope::Events))?;
        return Err(Problem::unknown("webhook", &path.name)
            .hint("an enabled task with [[actors.triggers]] type = \"webhook\" and this name makes one"));
    };
    let admitted = admit(&call, &sender, &body).inspect_err(|problem| {
        if problem.kind == Kind::Unauthorized {
            warn!(webhook = path.name, from = %call.peer.ip(), "an event was refused: its sender is not known");
        }
    })?;
    let api = call.api.clone();
    api.work(Needs::Scope(Scope::Events), async move { store(&call, webhooks, admitted).await }).await
}

fn admit(call: &Call, sender: &Sender, body: &Bytes) -> Answer<Admitted> {
    let by_id = |id: String| Some(RequestKey { key: id, request: String::new() });
    let id = match sender {
        Sender::StandardWebhooks(secret) => {
            by_id(signature::standard(secret, &call.headers, body, call.api.clock.now())?)
        }
        Sender::GitHub(secret) => by_id(signature::github(secret, &call.headers, body)?),
        Sender::Token => {
            call.caller.may(Needs::Scope(Scope::Events))?;
            None
        }
    };
    let body: Value = read::told_as_json(&call.headers, body)?;
    let key = match sender {
        Sender::Token => request_key(call, &body)?,
        Sender::StandardWebhooks(_) | Sender::GitHub(_) => id,
    };
    Ok(Admitted { key, body })
}

async fn store(call: &Call, webhooks: Vec<Webhook>, event: Admitted) -> Answer<Reply<EventView>> {
    let Admitted { key, body } = event;
    let item = EventItem { key: key.as_ref().map_or_else(new_id, |key| Ok(key.key.clone()))?, body };
    let (mut view, mut full) = (EventView::default(), None);
    for webhook in webhooks {
        if !webhook.wants(&call.headers, &item.body) {
            view.filtered.push(webhook.task);
            continue;
        }
        let arrival = Arrival {
            task: webhook.task.clone(),
            source: webhook.name,
            id: key.as_ref().map(|key| key.key.clone()),
            request: key.as_ref().map(|key| key.request.clone()),
            item: item.clone(),
            gathering: webhook.gathering,
            max_waiting: webhook.max_waiting,
            when_full: WhenFull::Refuse,
        };
        let run = |execution_id, again| EventRun { task_id: webhook.task.clone(), execution_id, again };
        match call.api.store.receive(arrival).await? {
            Received::Stored(id) | Received::LeftOut(id) => view.executions.push(run(id, false)),
            Received::Again(id) => view.executions.push(run(id, true)),
            Received::OtherRequest => {
                let detail = "another event has brought this key";
                return Err(Problem::field(Kind::InvalidBody, "header", "Idempotency-Key", detail)
                    .hint("a new event needs a new key"));
            }
            Received::Full { waiting } => full = Some((webhook.task, waiting)),
            Received::UnknownTask => return Err(Problem::unknown("task", &webhook.task)),
        }
    }
    call.changed();
    match full {
        None => Ok(view.into()),
        // Those that took it know it by its id when it comes again.
        Some((task, waiting)) => {
            let detail = format!("{waiting} runs of task {task:?} wait already");
            Err(Problem::new(Kind::TooManyRequests, detail).retry_after(COME_AGAIN))
        }
    }
}

/// For an event whose sender gave it no id: each is another one.
fn new_id() -> Answer<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| Problem::new(Kind::Unavailable, "the system has no random bytes").retry_after(1))?;
    Ok(to_hex(&bytes))
}

//! `POST /tasks/{task_id}/trigger`, `/pause`, `/resume`: steering a task.

use super::note::{Note, Noted};
use super::tasks::{TaskPath, find};
use crate::api::access::Needs;
use crate::api::page::to_hex;
use crate::api::problem::{Answer, Kind, Problem};
use crate::api::route::{Call, Input, Nothing, Operation, Reply, Routes, TakenHeader};
use crate::app::is_configured;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use botticelli_database::{ExecutionView, Origin, Published, RequestKey, Resumed, Scope, TaskView};
use botticelli_server::ids::{ExecutionId, TaskId};
use botticelli_server::ledger::Trigger;
use botticelli_server::server::Event;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

const OPERATE: Needs = Needs::Scope(Scope::Operate);
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::post("/tasks/{task_id}/trigger", "trigger_task", OPERATE, "Run a task now")
                .about(
                    "Whatever its schedule says, and paused or not. Answers with the execution as soon as it is stored: from \
                     then on it will run, whatever happens to the server. With a header `Idempotency-Key` (1-255 visible \
                     characters, of your choice) a request that is sent again within a week makes no second execution: it is \
                     answered with the first one, and `Idempotency-Replayed: true`.",
                )
                .takes_header(TakenHeader {
                    name: "Idempotency-Key",
                    purpose: "Makes it safe to send this request again.",
                    pattern: "^[!-~]{1,255}$",
                })
                .answers(StatusCode::ACCEPTED),
            trigger,
        )
        .add(
            Operation::post(
                "/tasks/{task_id}/pause",
                "pause_task",
                OPERATE,
                "Leave occurrences out until it is resumed",
            )
            .about("At once, and on every node. Answers with the task."),
            pause,
        )
        .add(
            Operation::post(
                "/tasks/{task_id}/resume",
                "resume_task",
                OPERATE,
                "Go on with a paused task, and forget its failures",
            )
            .about("What it missed meanwhile is left out. Answers with the task."),
            resume,
        )
}

/// What a run gets to know.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TriggerBody {
    /// For the actor's skills.
    #[serde(default)]
    parameters: Map<String, Value>,
    /// Why, for others: it stands in the audit.
    note: Option<Note>,
}

async fn trigger(call: Call, input: Input<TaskPath, Nothing, TriggerBody>) -> Answer<Reply<ExecutionView>> {
    let (task, parameters) = (input.path.task_id, Value::Object(input.body.parameters));
    let key = request_key(&call, &parameters)?;
    let origin = find(&call.api, &task).await?.origin;
    if !is_configured(&call.api.store, &task, origin).await? {
        let detail = format!("task {task:?} is not in the server's configuration: nobody would run it");
        return Err(Problem::new(Kind::Conflict, detail).hint(put_back(origin)));
    }
    let event = Event { task: task.clone(), trigger: Trigger::Manual, parameters };
    let published =
        call.store(input.body.note.map(Note::into)).publish_once(event, key, Some(&call.api.wakeups)).await?;
    let (id, again) = match published {
        Published::Execution(id) => (id, false),
        Published::Again(id) => (id, true),
        Published::OtherRequest => {
            let detail = "another request for this task has brought this key";
            return Err(Problem::field(Kind::InvalidBody, "header", "Idempotency-Key", detail)
                .hint("a new request needs a new key"));
        }
        Published::UnknownTask => return Err(Problem::unknown("task", &task)),
    };
    let execution = call.api.store.execution(id).await?;
    let execution = execution.ok_or_else(|| forgotten(id))?;
    let reply = Reply::from(execution);
    let reply = match HeaderValue::try_from(format!("/executions/{id}")) {
        Ok(place) => reply.header(header::LOCATION, place),
        Err(_) => reply,
    };
    Ok(if again { reply.header(REPLAYED, HeaderValue::from_static("true")) } else { reply })
}

/// The key is kept longer than short histories are.
fn forgotten(id: ExecutionId) -> Problem {
    Problem::new(Kind::Conflict, format!("it was execution {id}, which is no longer in the history"))
}

pub(super) fn request_key(call: &Call, parameters: &Value) -> Answer<Option<RequestKey>> {
    let wrong = |detail: &str| Problem::field(Kind::InvalidParameter, "header", "Idempotency-Key", detail);
    let mut keys = call.headers.get_all(KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(wrong("is there more than once"));
    }
    let visible = |key: &&str| key.bytes().all(|byte| byte.is_ascii_graphic());
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len())).filter(visible);
    let key = key.ok_or_else(|| wrong("must have 1-255 visible characters of ASCII"))?;
    let request = to_hex(&Sha256::digest(sorted(parameters).to_string()));
    Ok(Some(RequestKey { key: key.to_owned(), request }))
}

/// With its keys in order, in whatever order they came.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> =
                fields.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

async fn pause(call: Call, input: Input<TaskPath, Nothing, Noted>) -> Answer<Reply<TaskView>> {
    let id = input.path.task_id;
    if !call.store(input.body.note.map(Note::into)).pause(&id).await? {
        return Err(Problem::unknown("task", &id));
    }
    call.changed();
    Ok(find(&call.api, &id).await?.into())
}

async fn resume(call: Call, input: Input<TaskPath, Nothing, Noted>) -> Answer<Reply<TaskView>> {
    let id = input.path.task_id;
    match call.store(input.body.note.map(Note::into)).resume(&id).await? {
        Resumed::Resumed | Resumed::WasNotPaused => {}
        Resumed::NotInConfiguration => {
            let origin = find(&call.api, &id).await?.origin;
            return Err(not_in_configuration(&id, origin));
        }
        Resumed::UnknownTask => return Err(Problem::unknown("task", &id)),
    }
    call.changed();
    Ok(find(&call.api, &id).await?.into())
}

fn not_in_configuration(id: &TaskId, origin: Origin) -> Problem {
    let detail = format!("task {id:?} is disabled in, or gone from, the configuration");
    Problem::new(Kind::Conflict, detail).hint(match origin {
        Origin::File => "set `enabled = true`, or put its [[actors]] entry back, and reload",
        Origin::Api => "PUT it with `enabled` true, or make it again with POST /tasks",
    })
}

fn put_back(origin: Origin) -> &'static str {
    match origin {
        Origin::File => "put its [[actors]] entry back, and reload",
        Origin::Api => "POST /tasks makes it again",
    }
}

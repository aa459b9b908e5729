//! `POST /tasks`, `PUT /tasks/{task_id}`, `DELETE /tasks/{task_id}`: tasks that are made while the server runs.

use super::note::{Note, Noted};
use super::tasks::{TaskPath, details};
use crate::api::access::Needs;
use crate::api::problem::{Answer, Kind, Problem};
use crate::api::route::{Call, Input, Nothing, Operation, Reply, Routes, TakenHeader};
use crate::app::{App, AppError, Put};
use crate::config::{Fault, schema_of_entry, shortened, table_of};
use crate::shown::TaskDetails;
use axum::http::{HeaderValue, Method, StatusCode, header};
use botticelli_database::{Expected, Scope, TaskChange};
use botticelli_server::ids::TaskId;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

const ADMIN: Needs = Needs::Scope(Scope::Admin);
const IF_MATCH: TakenHeader = TakenHeader {
    name: "If-Match",
    purpose: "Only if the task is still what this `ETag` of it says; or one of several, or `*` for any.",
    pattern: r#"^(\*|(W/)?"[!#-+\--~]*"( *, *(W/)?"[!#-+\--~]*")*)$"#,
};

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::post("/tasks", "create_task", ADMIN, "Make a task")
                .about(
                    "Of an actor that this node has loaded, with the keys of an `[[actors]]` entry (`GET /actors` lists \
                     the actors). It is kept in the database: it survives restarts and reloads, and every node that has \
                     the actor runs it from the next second on. Names of tasks of the server's file can't be used.",
                )
                .answers(StatusCode::CREATED),
            create,
        )
        .add(
            Operation::new(Method::PUT, "/tasks/{task_id}", "replace_task", ADMIN, "Replace a task that was made here")
                .about(
                    "By what the body says, as a whole; what it leaves out is as if it had never been said. Where the task \
                     stands, its history and a pause stay. A schedule that is another one begins anew. To say the same \
                     again changes nothing.",
                )
                .takes_header(IF_MATCH),
            replace,
        )
        .add(
            Operation::new(Method::DELETE, "/tasks/{task_id}", "remove_task", ADMIN, "Remove a task that was made here")
                .about(
                    "Its history stays. What is open of it is cancelled; posts that it has made are delivered all the same.",
                )
                .takes_header(IF_MATCH)
                .answers(StatusCode::NO_CONTENT),
            remove,
        )
}

/// What a body says of a task.
struct Asked {
    entry: Map<String, Value>,
    note: Option<Note>,
}

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Asked;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Asked, A::Error> {
                let mut asked = Asked { entry: Map::new(), note: None };
                while let Some(key) = fields.next_key::<String>()? {
                    if asked.entry.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
                    }
                    if key == "note" {
                        asked.note = fields.next_value()?;
                    } else {
                        asked.entry.insert(key, fields.next_value()?);
                    }
                }
                Ok(asked)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

fn schema(generator: &mut SchemaGenerator, needed: &[&str]) -> Schema {
    let mut schema = schema_of_entry(generator, needed);
    schema["properties"]["note"] = generator.subschema_for::<Option<Note>>().to_value();
    schema.try_into().unwrap_or_default()
}

/// A task that is to be made.
#[derive(Deserialize)]
#[serde(transparent)]
struct NewTask(Asked);

impl JsonSchema for NewTask {
    fn schema_name() -> Cow<'static, str> {
        "NewTask".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema(generator, &["name", "actor", "schedule"])
    }
}

/// What a task is to be from now on.
#[derive(Deserialize)]
#[serde(transparent)]
struct Replacement(Asked);

impl JsonSchema for Replacement {
    fn schema_name() -> Cow<'static, str> {
        "TaskReplacement".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema(generator, &["actor", "schedule"])
    }
}

async fn create(call: Call, input: Input<Nothing, Nothing, NewTask>) -> Answer<Reply<TaskDetails>> {
    let NewTask(asked) = input.body;
    let task = put(&call, asked, Expected::New).await?;
    let reply = details(&call.api, &task).await?;
    Ok(match HeaderValue::try_from(format!("/tasks/{}", in_a_path(&task))) {
        Ok(place) => reply.header(header::LOCATION, place),
        Err(_) => reply,
    })
}

/// With whatever a path can't have written as its bytes.
fn in_a_path(task: &TaskId) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let written = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    task.as_str().bytes().map(written).collect()
}

async fn replace(call: Call, input: Input<TaskPath, Nothing, Replacement>) -> Answer<Reply<TaskDetails>> {
    let (id, Replacement(mut asked)) = (input.path.task_id, input.body);
    let expected = expected(&call)?;
    // Whatever the body says: the task that is meant is another matter.
    if call.api.store.api_task(&id).await?.is_none() {
        return Err(refused(&call, &id, TaskChange::Unknown).await);
    }
    let name = asked.entry.entry("name").or_insert_with(|| id.as_str().into());
    if name.as_str() != Some(id.as_str()) {
        let problem = Problem::body("name", format!("is not {id:?}, which the path names"));
        return Err(problem.hint("a task keeps its name: its history is kept under it"));
    }
    put(&call, asked, expected).await?;
    details(&call.api, &id).await
}

async fn remove(call: Call, input: Input<TaskPath, Nothing, Noted>) -> Answer<Reply<Nothing>> {
    let (id, expected) = (input.path.task_id, expected(&call)?);
    let store = call.store(input.body.note.map(Note::into));
    let server = server(&call)?;
    let removed = call.api.stopping.run_until_cancelled(server.remove_task(&store, &id, expected)).await;
    match removed.ok_or_else(stopping)?.map_err(problem)? {
        TaskChange::Done(_) => {
            call.changed();
            Ok(Nothing {}.into())
        }
        other => Err(refused(&call, &id, other).await),
    }
}

async fn put(call: &Call, asked: Asked, expected: Expected) -> Answer<TaskId> {
    let entry = table_of(&Value::Object(asked.entry)).map_err(wrong)?;
    let store = call.store(asked.note.map(Note::into));
    let server = server(call)?;
    let put = call.api.stopping.run_until_cancelled(server.put_task(&store, &entry, expected)).await;
    let name = || entry.get("name").and_then(toml::Value::as_str).and_then(|name| TaskId::new(name).ok());
    match (put.ok_or_else(stopping)?.map_err(problem)?, name()) {
        (Put::Answered(TaskChange::Done(_)), Some(name)) => {
            call.changed();
            Ok(name)
        }
        (Put::Answered(other), Some(name)) => Err(refused(call, &name, other).await),
        (Put::Wrong(faults), _) => Err(wrong(faults)),
        (Put::Answered(_), None) => Err(Problem::new(Kind::Internal, "a task without a name was made")),
    }
}

fn stopping() -> Problem {
    Problem::new(Kind::Unavailable, "the server is about to stop")
}

fn server(call: &Call) -> Answer<Arc<App>> {
    call.api.server.upgrade().ok_or_else(stopping)
}

fn problem(error: AppError) -> Problem {
    match error {
        AppError::Ledger(error) => error.into(),
        other => Problem::new(Kind::Unavailable, other.to_string()),
    }
}

/// The mistakes of an entry, in the configuration's own words.
fn wrong(faults: Vec<Fault>) -> Problem {
    let hint = faults.iter().find_map(|fault| fault.hint.clone());
    let fields = faults.into_iter().map(|fault| (fault.path.to_string(), shortened(fault.message)));
    let problem = Problem::fields(Kind::InvalidBody, "body", fields.collect());
    match hint {
        Some(hint) => problem.hint(shortened(hint)),
        None => problem,
    }
}

/// Why a task is not changed.
async fn refused(call: &Call, id: &TaskId, change: TaskChange) -> Problem {
    match change {
        TaskChange::NameTaken => Problem::new(Kind::Conflict, format!("there is a task {id:?} already"))
            .hint(format!("PUT /tasks/{} replaces it", in_a_path(id))),
        TaskChange::OfFile => of_the_file(id),
        TaskChange::OtherRevision => {
            let detail = format!("task {id:?} is no longer what If-Match says");
            Problem::new(Kind::PreconditionFailed, detail).hint("GET it again: somebody else has changed it")
        }
        TaskChange::Unknown | TaskChange::Done(_) => match call.api.store.task(id).await {
            Ok(Some(task)) if task.origin == botticelli_database::Origin::File => of_the_file(id),
            Ok(Some(_)) => Problem::new(Kind::NotFound, format!("task {id:?} was removed"))
                .hint("POST /tasks makes it again"),
            Ok(None) => Problem::unknown("task", id),
            Err(error) => error.into(),
        },
    }
}

fn of_the_file(id: &TaskId) -> Problem {
    let detail = format!("task {id:?} is one of the server's file, and is changed there");
    Problem::new(Kind::Conflict, detail)
        .hint("change its [[actors]] entry and reload, or choose another name")
}

fn is_tag(text: &str) -> bool {
    let opaque = text.strip_prefix("W/").unwrap_or(text);
    let opaque = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    opaque.is_some_and(|opaque| opaque.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'))
}

/// What whoever asks takes the task for. An `ETag` ends with the revision, which is all that counts: how far the task has
/// run does not change what it is.
fn expected(call: &Call) -> Answer<Expected> {
    let mut tags = Vec::new();
    for value in call.headers.get_all(header::IF_MATCH) {
        let wrong = || {
            let detail = "is no list of ETags";
            Problem::field(Kind::InvalidParameter, "header", "If-Match", detail).hint("If-Match: \"0f…-17\"")
        };
        for tag in value.to_str().map_err(|_| wrong())?.split(',').map(str::trim) {
            if tag == "*" {
                return Ok(Expected::Any);
            }
            tags.push(if is_tag(tag) { tag } else { return Err(wrong()) });
        }
    }
    if tags.is_empty() {
        return Ok(Expected::Any);
    }
    // A weak one is never the same.
    let revision = |tag: &str| tag.strip_prefix('"')?.strip_suffix('"')?.rsplit_once('-')?.1.parse().ok();
    Ok(Expected::Revisions(tags.into_iter().filter_map(revision).collect()))
}

//! `/tasks`: what is scheduled, and steering it.

use super::note::{Note, Noted};
use crate::api::Api;
use crate::api::access::Needs;
use crate::api::page::{Cursor, Limit, Page};
use crate::api::problem::{Answer, Kind, Problem};
use crate::api::route::{Call, Input, Nothing, Operation, Reply, Routes};
use botticelli_database::{Resumed, Scope, TaskFilter, TaskView};
use botticelli_server::ids::{ActorName, TaskId};
use botticelli_server::task::PauseReason;
use schemars::JsonSchema;
use serde::Deserialize;

const READ: Needs = Needs::Scope(Scope::Read);
const OPERATE: Needs = Needs::Scope(Scope::Operate);
/// The name of the list, in its cursors.
const TASKS: &str = "tasks";

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::get("/tasks", "list_tasks", READ, "Tasks, by name")
                .about("With their schedule in words, breaker and last outcome."),
            list,
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

/// A task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TaskPath {
    /// Its name.
    task_id: TaskId,
}

async fn pause(call: Call, input: Input<TaskPath, Nothing, Noted>) -> Answer<Reply<TaskView>> {
    let id = input.path.task_id;
    if !call.store(input.body.note.map(Note::into)).pause(&id).await? {
        return Err(Problem::unknown("task", &id));
    }
    call.changed();
    Ok(task(&call.api, &id).await?.into())
}

async fn resume(call: Call, input: Input<TaskPath, Nothing, Noted>) -> Answer<Reply<TaskView>> {
    let id = input.path.task_id;
    match call.store(input.body.note.map(Note::into)).resume(&id).await? {
        Resumed::Resumed | Resumed::WasNotPaused => {}
        Resumed::NotInConfiguration => {
            let detail = format!("task {id:?} is disabled in, or gone from, the configuration");
            return Err(Problem::new(Kind::Conflict, detail)
                .hint("set `enabled = true`, or put its [[actors]] entry back, and reload"));
        }
        Resumed::UnknownTask => return Err(Problem::unknown("task", &id)),
    }
    call.changed();
    Ok(task(&call.api, &id).await?.into())
}

async fn task(api: &Api, id: &TaskId) -> Answer<TaskView> {
    api.store.task(id).await?.ok_or_else(|| Problem::unknown("task", id))
}

/// Which tasks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TaskQuery {
    /// Only those that run this actor.
    actor: Option<ActorName>,
    /// Only those that are paused, or are not.
    paused: Option<bool>,
    /// Only those that are paused for this reason.
    pause_reason: Option<PauseReason>,
    /// How many rows.
    #[serde(default)]
    limit: Limit,
    /// Where the page begins.
    cursor: Option<Cursor>,
}

async fn list(call: Call, input: Input<Nothing, TaskQuery>) -> Answer<Reply<Page<TaskView>>> {
    let query = input.query;
    let after = query.cursor.map(|cursor| cursor.read::<String>(TASKS)).transpose()?;
    let filter = TaskFilter {
        task: None,
        actor: query.actor,
        is_paused: query.paused,
        pause_reason: query.pause_reason,
        after: after.and_then(|name| TaskId::new(name).ok()),
        limit: Some(query.limit.and_one()),
    };
    let tasks = call.api.store.tasks_where(filter).await?;
    Ok(Page::new(tasks, query.limit, TASKS, |task| task.task_id.clone()).into())
}

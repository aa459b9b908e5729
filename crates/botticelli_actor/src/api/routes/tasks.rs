//! `/tasks`: what is scheduled, and what became of it.

use crate::api::Api;
use crate::api::access::Needs;
use crate::api::page::{Cursor, Limit, Page};
use crate::api::problem::{Answer, Problem};
use crate::api::route::{Call, Input, Nothing, Operation, Reply, Routes};
use crate::shown::TaskDetails;
use botticelli_database::{ExecutionView, HistoryFilter, Origin, OutcomeFilter, Scope, TaskFilter, TaskView};
use botticelli_server::ids::{ActorName, ExecutionId, TaskId};
use botticelli_server::ledger::Trigger;
use botticelli_server::task::PauseReason;
use schemars::JsonSchema;
use serde::Deserialize;

const READ: Needs = Needs::Scope(Scope::Read);
/// The names of the lists, in their cursors.
const TASKS: &str = "tasks";
const HISTORY: &str = "history";

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::get("/tasks", "list_tasks", READ, "Tasks, by name")
                .about("With their schedule in words, breaker and last outcome."),
            list,
        )
        .add(
            Operation::get("/tasks/{task_id}", "show_task", READ, "One task")
                .about("Where it stands, its next times, its executions that are not over, and its posts by state."),
            show,
        )
        .add(
            Operation::get("/tasks/{task_id}/history", "task_history", READ, "Executions of a task, newest first")
                .about("Those that are not over, too. A row may stand for many occurrences that were skipped together."),
            history,
        )
}

/// A task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskPath {
    /// Its name.
    pub(super) task_id: TaskId,
}

pub(super) async fn find(api: &Api, id: &TaskId) -> Answer<TaskView> {
    api.store.task(id).await?.ok_or_else(|| Problem::unknown("task", id))
}

async fn show(call: Call, input: Input<TaskPath>) -> Answer<Reply<TaskDetails>> {
    details(&call.api, &input.path.task_id).await
}

/// All of one task. Its `ETag` ends with the revision of one that was made over the API.
pub(super) async fn details(api: &Api, id: &TaskId) -> Answer<Reply<TaskDetails>> {
    let (details, _) = TaskDetails::of(&api.store, find(api, id).await?).await?;
    let revision = details.revision;
    Ok(Reply::from(details).revision(revision))
}

/// Which executions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    /// Only those that ended like this, or are open.
    outcome: Option<OutcomeFilter>,
    /// Only those that were started by this.
    trigger: Option<Trigger>,
    /// How many rows.
    #[serde(default)]
    limit: Limit,
    /// Where the page begins.
    cursor: Option<Cursor>,
}

async fn history(call: Call, input: Input<TaskPath, HistoryQuery>) -> Answer<Reply<Page<ExecutionView>>> {
    let query = input.query;
    let before = query.cursor.map(|cursor| cursor.read::<ExecutionId>(HISTORY)).transpose()?;
    let filter = HistoryFilter {
        task: Some(input.path.task_id.clone()),
        outcome: query.outcome,
        trigger: query.trigger,
        before,
        limit: query.limit.and_one(),
        ..HistoryFilter::default()
    };
    let executions = call.api.store.history_where(filter).await?;
    if executions.is_empty() {
        find(&call.api, &input.path.task_id).await?;
    }
    Ok(Page::new(executions, query.limit, HISTORY, |execution| execution.id).into())
}

/// Which tasks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TaskQuery {
    /// Only those that run this actor.
    actor: Option<ActorName>,
    /// Only those of the server's file, or those that were made over the API.
    origin: Option<Origin>,
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
        origin: query.origin,
        is_paused: query.paused,
        pause_reason: query.pause_reason,
        after: after.and_then(|name| TaskId::new(name).ok()),
        limit: Some(query.limit.and_one()),
    };
    let tasks = call.api.store.tasks_where(filter).await?;
    Ok(Page::new(tasks, query.limit, TASKS, |task| task.task_id.clone()).into())
}

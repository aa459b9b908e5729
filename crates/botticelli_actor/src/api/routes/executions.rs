//! `/executions`: the runs of all tasks.

use super::note::{Note, Noted};
use crate::api::Api;
use crate::api::access::Needs;
use crate::api::page::{Cursor, Limit, Page};
use crate::api::problem::{Answer, Kind, Problem};
use crate::api::route::{Call, Input, Nothing, Operation, Reply, Routes};
use crate::shown::ExecutionDetails;
use axum::http::StatusCode;
use botticelli_database::{Cancelled, ExecutionView, HistoryFilter, OutcomeFilter, Scope};
use botticelli_server::ids::{ExecutionId, TaskId};
use botticelli_server::ledger::Trigger;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;

/// The name of the list, in its cursors.
const EXECUTIONS: &str = "executions";

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::get("/executions", "list_executions", Needs::Scope(Scope::Read), "Executions, newest first")
                .about("Of all tasks. Those that are not over, too. A row may stand for many occurrences that were skipped together."),
            list,
        )
        .add(
            Operation::get("/executions/{id}", "show_execution", Needs::Scope(Scope::Read), "One execution")
                .about("With what each skill did, its earlier attempts, and the posts that it made."),
            show,
        )
        .add(
            Operation::post(
                "/executions/{id}/cancel",
                "cancel_execution",
                Needs::Scope(Scope::Operate),
                "End an execution that is not over",
            )
            .about(
                "One that waits is over at once. One that runs is ended by its node within a second: what it would have made \
                 is not posted. Answers with the execution as it stands.",
            )
            .answers(StatusCode::ACCEPTED),
            cancel,
        )
}

/// Which executions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExecutionQuery {
    /// Only those of this task.
    task: Option<TaskId>,
    /// Only those that ended like this, or are open.
    outcome: Option<OutcomeFilter>,
    /// Only those that were started by this.
    trigger: Option<Trigger>,
    /// Only those that started then or later. What was left out never started.
    since: Option<DateTime<Utc>>,
    /// Only those that started before then.
    until: Option<DateTime<Utc>>,
    /// How many rows.
    #[serde(default)]
    limit: Limit,
    /// Where the page begins.
    cursor: Option<Cursor>,
}

async fn list(call: Call, input: Input<Nothing, ExecutionQuery>) -> Answer<Reply<Page<ExecutionView>>> {
    let query = input.query;
    let filter = HistoryFilter {
        task: query.task,
        outcome: query.outcome,
        trigger: query.trigger,
        since: query.since,
        until: query.until,
        before: query.cursor.map(|cursor| cursor.read::<ExecutionId>(EXECUTIONS)).transpose()?,
        limit: query.limit.and_one(),
    };
    let executions = call.api.store.history_where(filter).await?;
    Ok(Page::new(executions, query.limit, EXECUTIONS, |execution| execution.id).into())
}

/// An execution.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExecutionPath {
    /// Its number.
    id: ExecutionId,
}

async fn show(call: Call, input: Input<ExecutionPath>) -> Answer<Reply<ExecutionDetails>> {
    Ok(find(&call.api, input.path.id).await?.into())
}

async fn find(api: &Api, id: ExecutionId) -> Answer<ExecutionDetails> {
    ExecutionDetails::of(&api.store, id).await?.ok_or_else(|| Problem::unknown("execution", id.0))
}

async fn cancel(call: Call, input: Input<ExecutionPath, Nothing, Noted>) -> Answer<Reply<ExecutionDetails>> {
    let id = input.path.id;
    match call.store(input.body.note.map(Note::into)).cancel(id).await? {
        Cancelled::Done | Cancelled::Requested => {}
        Cancelled::AlreadyOver => {
            return Err(Problem::new(Kind::Conflict, format!("execution {id} is over")));
        }
        Cancelled::UnknownExecution => return Err(Problem::unknown("execution", id.0)),
    }
    call.changed();
    Ok(find(&call.api, id).await?.into())
}

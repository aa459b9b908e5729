//! `/executions/{id}`: one run of a task.

use super::note::{Note, Noted};
use crate::api::Api;
use crate::api::access::Needs;
use crate::api::problem::{Answer, Kind, Problem};
use crate::api::route::{Call, Input, Nothing, Operation, Reply, Routes};
use crate::shown::ExecutionDetails;
use axum::http::StatusCode;
use botticelli_database::{Cancelled, Scope};
use botticelli_server::ids::ExecutionId;
use schemars::JsonSchema;
use serde::Deserialize;

pub(super) fn add(routes: Routes) -> Routes {
    routes
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

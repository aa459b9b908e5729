//! `POST /reload`: the server as a whole.

use super::note::{Note, Noted};
use crate::api::access::Needs;
use crate::api::problem::{Answer, Kind, Problem};
use crate::api::route::{Call, Input, Nothing, Operation, Reply, Routes};
use crate::app::AppError;
use axum::http::StatusCode;
use botticelli_database::Scope;
use botticelli_server::server::ActorServer as _;
use serde_json::Value;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add(
        Operation::post("/reload", "reload", Needs::Scope(Scope::Admin), "Take up the changed configuration")
            .about("Of this node, as SIGHUP does. A configuration with a mistake changes nothing, and the answer says what it is.")
            .answers(StatusCode::NO_CONTENT),
        reload,
    )
}

async fn reload(call: Call, input: Input<Nothing, Nothing, Noted>) -> Answer<Reply<Nothing>> {
    let stopping = || Problem::new(Kind::Unavailable, "the server is about to stop");
    let server = call.api.server.upgrade().ok_or_else(stopping)?;
    let reloaded = call.api.stopping.run_until_cancelled(server.reload()).await.ok_or_else(stopping)?;
    reloaded.map_err(problem)?;
    let store = call.store(input.body.note.map(Note::into));
    store.note("server.reload", call.api.node.name(), Value::Null).await?;
    Ok(Nothing {}.into())
}

fn problem(error: AppError) -> Problem {
    match error {
        AppError::Config(problems) => {
            let hints = problems.0.iter().filter_map(|problem| problem.hint.clone()).next();
            let problem = Problem::new(Kind::Conflict, format!("nothing was changed: {problems}"));
            match hints {
                Some(hint) => problem.hint(hint),
                None => problem,
            }
        }
        AppError::Ledger(error) => error.into(),
        other @ (AppError::Open(_)
        | AppError::Api(_)
        | AppError::AlreadyStarted
        | AppError::NotRunning
        | AppError::ResultsLost(_)
        | AppError::NotSaid) => Problem::new(Kind::Unavailable, other.to_string()),
    }
}

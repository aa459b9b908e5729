//! Which task was meant, and whether anybody would run it.

use super::errors::{Failure, UsageError};
use super::once::NODE;
use crate::app::{is_configured, last_server};
use crate::config::LoadedConfig;
use crate::config::read::closest;
use botticelli_database::{Origin, Store, TaskView};
use botticelli_server::ids::TaskId;
use botticelli_server::task::Task;
use std::path::Path;

/// The task of that name in the configuration, which stands in `file`.
pub(super) fn in_configuration<'a>(
    config: &'a LoadedConfig,
    file: &Path,
    name: &str,
) -> Result<&'a Task, UsageError> {
    config.tasks.iter().map(AsRef::as_ref).find(|task: &&Task| task.id.as_str() == name).ok_or_else(|| {
        let names: Vec<&str> = config.tasks.iter().map(|task| task.id.as_str()).collect();
        unknown(name, &file.display().to_string(), &names, "it has no [[actors]] entries")
    })
}

/// The task of that name, if the database knows it.
pub(super) async fn in_database(store: &Store, name: &str) -> anyhow::Result<TaskView> {
    let id = TaskId::new(name).ok();
    let found = match &id {
        Some(id) => store.task(id).await?,
        None => None,
    };
    match found {
        Some(found) => Ok(found),
        None => {
            let tasks = store.tasks().await?;
            let names: Vec<&str> = tasks.iter().map(|task| task.task_id.as_str()).collect();
            let none = "it knows none yet: a server registers those of its configuration when it starts";
            Err(unknown(name, "the database", &names, none).into())
        }
    }
}

/// So many names are listed in a hint.
const MOST_NAMES: usize = 20;

fn unknown(name: &str, place: &str, known: &[&str], none: &str) -> UsageError {
    let hint = match closest(name, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => none.to_owned(),
        None => {
            let more = if known.len() > MOST_NAMES { ", …" } else { "" };
            let listed: Vec<&str> = known.iter().copied().take(MOST_NAMES).collect();
            format!("tasks there: {}{more}", listed.join(", "))
        }
    };
    UsageError::new(format!("there is no task {name:?} in {place}")).hint(Some(hint))
}

/// A server that would take up what is triggered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Runner {
    /// At least one lives.
    Lives,
    /// One lives, and left the task out, for this reason; another one may have what it lacks.
    Lacking(String),
    /// The next one that starts.
    Awaited,
}

/// Who will run the task when it is triggered.
///
/// # Errors
/// When nobody will: the servers' configuration does not have it.
pub(super) async fn runner_of(store: &Store, task: &TaskView) -> anyhow::Result<Runner> {
    let nodes = store.living_nodes().await?;
    let lives = nodes.iter().any(|node| !node.as_str().starts_with(NODE));
    let last = last_server(store).await?;
    let lacking = last.as_ref().and_then(|last| last.left_out.get(&task.task_id)).cloned();
    let left_out = !is_configured(store, &task.task_id, task.origin).await?;
    // Without a server, one that is not paused was registered since, by `once`: the next server may have it.
    if left_out && (lives || task.is_paused) {
        let message = format!("task {:?} is not in the server's configuration", task.task_id.as_str());
        let hint = match task.origin {
            Origin::File => "put its [[actors]] entry back, and reload or restart the server",
            Origin::Api => "it was made over the API, and removed: POST /tasks makes it again",
        };
        return Err(Failure::new(message).hint(hint).into());
    }
    Ok(match lacking {
        _ if !lives => Runner::Awaited,
        Some(lacking) => Runner::Lacking(lacking),
        None => Runner::Lives,
    })
}

/// The configuration is where that is mended.
pub(super) fn not_enabled(task: &TaskView) -> Failure {
    let failure =
        Failure::new(format!("task {:?} is not enabled in the configuration", task.task_id.as_str()));
    failure.hint(match task.origin {
        Origin::File => {
            "set `enabled = true`, or put its [[actors]] entry back, and reload or restart the server"
        }
        Origin::Api => {
            "it was made over the API: PUT it with `enabled` true, or make it again with POST /tasks"
        }
    })
}

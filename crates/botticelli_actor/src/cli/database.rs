//! The commands that work on the database, also while a server runs: `migrate`, `tasks`, `posts`.

use super::args::{GlobalArgs, PostsCommand, TasksCommand};
use super::errors::{Failure, UsageError};
use super::load_config;
use super::output::{write_json, write_table};
use crate::clock::SystemClock;
use botticelli_database::{Decided, Mode, PostDecision, PostFilter, Resumed, Store};
use botticelli_server::ids::{ExecutionId, PostId, TaskId};
use botticelli_server::ledger::Trigger;
use botticelli_server::outbox::PostState;
use botticelli_server::server::{Accepted, Event, EventServer};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;

/// The database that a flag, the environment or the configuration names. A command needs no valid configuration when
/// it is told where the database is.
fn database_url(global: &GlobalArgs) -> anyhow::Result<SecretString> {
    match global.database_url() {
        Some(url) => Ok(url),
        None => Ok(load_config(global)?.database_url),
    }
}

pub(super) async fn open(global: &GlobalArgs) -> anyhow::Result<Store> {
    let url = database_url(global)?;
    Ok(Store::open(url.expose_secret(), Mode::Command, Arc::new(SystemClock)).await?)
}

pub(super) async fn migrate(global: &GlobalArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = database_url(global)?;
    let done = Store::migrate(url.expose_secret(), Arc::new(SystemClock)).await?;
    for migration in &done {
        writeln!(out, "{migration}")?;
    }
    if done.is_empty() {
        writeln!(out, "up to date")?;
    }
    Ok(())
}

pub(super) async fn tasks(
    global: &GlobalArgs,
    command: &TasksCommand,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let store = open(global).await?;
    match command {
        TasksCommand::List { json } => {
            let tasks = store.tasks().await?;
            if *json { write_json(&tasks, out) } else { write_table(&tasks, out) }
        }
        TasksCommand::Show { task, json } => {
            let task = known(&store, task).await?;
            let shown: Vec<_> =
                store.tasks().await?.into_iter().filter(|shown| shown.task_id == task).collect();
            match (json, shown.first()) {
                (true, Some(shown)) => write_json(shown, out),
                _ => {
                    write_table(&shown, out)?;
                    writeln!(out)?;
                    write_table(&store.history(&task, 5).await?, out)
                }
            }
        }
        TasksCommand::History { task, limit, json } => {
            let task = known(&store, task).await?;
            let history = store.history(&task, usize::try_from(*limit)?).await?;
            if *json { write_json(&history, out) } else { write_table(&history, out) }
        }
        TasksCommand::Trigger { task } => {
            let task = known(&store, task).await?;
            let event = Event { task: task.clone(), trigger: Trigger::Manual, parameters: Value::Null };
            match store.publish(event).await? {
                Accepted::Execution(id) => {
                    Ok(writeln!(out, "{task}: execution {id} will run as soon as a server can")?)
                }
                Accepted::UnknownTask => Err(unknown_task(&store, task.as_str()).await?),
            }
        }
        TasksCommand::Pause { task } => {
            let task = known(&store, task).await?;
            store.pause(&task).await?;
            Ok(writeln!(out, "{task}: paused")?)
        }
        TasksCommand::Resume { task } => {
            let task = known(&store, task).await?;
            match store.resume(&task).await? {
                Resumed::Resumed => Ok(writeln!(out, "{task}: resumed; what it missed meanwhile is left out")?),
                Resumed::WasNotPaused => Ok(writeln!(out, "{task}: was not paused")?),
                Resumed::NotInConfiguration => Err(Failure::new(format!(
                    "task {:?} is not enabled in the configuration",
                    task.as_str()
                ))
                .hint("set `enabled = true`, or put its [[actors]] entry back, and reload or restart the server")
                .into()),
                Resumed::UnknownTask => Err(unknown_task(&store, task.as_str()).await?),
            }
        }
    }
}

/// The task of that name, if the database knows it.
async fn known(store: &Store, name: &str) -> anyhow::Result<TaskId> {
    let tasks = store.tasks().await?;
    match tasks.into_iter().find(|task| task.task_id.as_str() == name) {
        Some(task) => Ok(task.task_id),
        None => Err(unknown_task(store, name).await?),
    }
}

async fn unknown_task(store: &Store, name: &str) -> anyhow::Result<anyhow::Error> {
    let names: Vec<String> = store.tasks().await?.iter().map(|task| task.task_id.to_string()).collect();
    let hint = if names.is_empty() {
        "the database knows no tasks yet: a server registers those of its configuration when it starts"
            .to_owned()
    } else {
        format!("known tasks: {}", names.join(", "))
    };
    Ok(UsageError::new(format!("there is no task {name:?}")).hint(Some(hint)).into())
}

pub(super) async fn posts(
    global: &GlobalArgs,
    command: &PostsCommand,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let store = open(global).await?;
    match command {
        PostsCommand::List { task, execution, state, limit, json } => {
            let task = match task {
                Some(task) => Some(known(&store, task).await?),
                None => None,
            };
            let state =
                state.clone().map(|state| serde_json::from_value::<PostState>(state.into())).transpose()?;
            let filter = PostFilter {
                task,
                execution_id: execution.map(ExecutionId),
                state,
                limit: usize::try_from(*limit)?,
            };
            let posts = store.posts(filter).await?;
            if *json { write_json(&posts, out) } else { write_table(&posts, out) }
        }
        PostsCommand::Show { post, json } => show_post(&store, PostId(*post), *json, out).await,
        PostsCommand::Retry { post } => decide(&store, PostId(*post), PostDecision::Retry, out).await,
        PostsCommand::Dismiss { post } => decide(&store, PostId(*post), PostDecision::Dismiss, out).await,
    }
}

async fn show_post(store: &Store, id: PostId, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(post) = store.post(id).await? else { return Err(unknown_post(id)) };
    let attempts = store.post_attempts(id).await?;
    if json {
        let mut shown = serde_json::to_value(&post)?;
        shown["attempts_made"] = json!(attempts);
        return write_json(&shown, out);
    }
    write_table(std::slice::from_ref(&post), out)?;
    writeln!(out)?;
    write_table(&attempts, out)?;
    writeln!(out)?;
    for line in post.content.lines() {
        writeln!(out, "    {}", super::output::visible(line))?;
    }
    Ok(())
}

async fn decide(
    store: &Store,
    id: PostId,
    decision: PostDecision,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match (store.decide(id, decision).await?, decision) {
        (Decided::Done, PostDecision::Retry) => {
            Ok(writeln!(out, "post {id} will be sent as soon as a server can")?)
        }
        (Decided::Done, PostDecision::Dismiss) => Ok(writeln!(out, "post {id} is dismissed")?),
        (Decided::UnknownPost, _) => Err(unknown_post(id)),
        (Decided::NotNow(state), PostDecision::Retry) => {
            Err(Failure::new(format!("post {id} is {}: there is nothing to retry", state.as_str())).into())
        }
        (Decided::NotNow(state), PostDecision::Dismiss) => {
            Err(Failure::new(format!("post {id} is {}: it can't be dismissed", state.as_str())).into())
        }
    }
}

fn unknown_post(id: PostId) -> anyhow::Error {
    UsageError::new(format!("there is no post {id}"))
        .hint(Some("`actor-server posts list` shows them".to_owned()))
        .into()
}

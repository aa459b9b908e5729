//! The commands that work on the database, also while a server runs: `migrate`, `tasks`, `posts`.

use super::args::{GlobalArgs, PostsCommand, TasksCommand};
use super::errors::{Failure, UsageError};
use super::output::{time_or, visible, write_json, write_table};
use super::task::{Runner, in_database, not_enabled, runner_of};
use super::{load_config, show};
use crate::clock::SystemClock;
use crate::config::env;
use crate::engine::is_on;
use crate::shown::PostDetails;
use botticelli_database::{
    Decided, Mode, PostDecision, PostFilter, PostView, Requester, Restored, Resumed, Store, TaskView,
};
use botticelli_server::ids::{ExecutionId, PostId};
use botticelli_server::ledger::Trigger;
use botticelli_server::outbox::PostState;
use botticelli_server::server::{Accepted, Event, EventServer};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
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
    let store = Store::open(url.expose_secret(), Mode::Command, Arc::new(SystemClock)).await?;
    let who = format!("user {}", env::user_name());
    Ok(store.by(Requester { who, origin: "command line".to_owned(), note: None }))
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

pub(super) async fn restored(global: &GlobalArgs, out: &mut impl Write) -> anyhow::Result<()> {
    match open(global).await?.restored().await? {
        Restored::Done { tasks, executions, posts } => Ok(writeln!(
            out,
            "{tasks} tasks leave out what was due since the backup\n{executions} executions are cancelled\n\
             {posts} posts may be there already: they are looked up before they are sent"
        )?),
        Restored::ServerRuns(node) => Err(Failure::new(format!("server {node} runs on this database"))
            .hint("stop it: this is for a database that was restored from a backup, before a server starts on it")
            .into()),
    }
}

/// Whether a server of this machine (or container) has just said to its database that it lives.
pub(super) async fn health(global: &GlobalArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let host = env::host_name();
    let nodes = open(global).await?.nodes(None, usize::MAX).await?;
    let here: Vec<_> = nodes.into_iter().filter(|node| node.lives && is_on(&node.node, &host)).collect();
    for node in &here {
        let (beat, open) = (time_or(Some(node.heartbeat_at), "-"), node.open_executions);
        writeln!(out, "{} lives: last said so {beat}; it has {open} executions", node.node)?;
    }
    if here.is_empty() {
        let failure = Failure::new(format!("no server of {host:?} lives"));
        return Err(failure.hint("servers of other machines are not looked at").into());
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
            let task = in_database(&store, task).await?;
            show::print(&store, task, *json, out).await
        }
        TasksCommand::History { task, limit, json } => {
            let task = in_database(&store, task).await?.task_id;
            let history = store.history(&task, usize::try_from(*limit)?).await?;
            if *json { write_json(&history, out) } else { write_table(&history, out) }
        }
        TasksCommand::Trigger { task } => trigger(&store, &in_database(&store, task).await?, out).await,
        TasksCommand::Pause { task } => {
            let task = in_database(&store, task).await?.task_id;
            store.pause(&task).await?;
            Ok(writeln!(out, "{task}: paused")?)
        }
        TasksCommand::Resume { task } => {
            let view = in_database(&store, task).await?;
            match store.resume(&view.task_id).await? {
                Resumed::Resumed => {
                    Ok(writeln!(out, "{task}: resumed; what it missed meanwhile is left out")?)
                }
                Resumed::WasNotPaused => Ok(writeln!(out, "{task}: was not paused")?),
                Resumed::NotInConfiguration => Err(not_enabled(&view).into()),
                Resumed::UnknownTask => Err(gone(task)),
            }
        }
    }
}

async fn trigger(store: &Store, task: &TaskView, out: &mut impl Write) -> anyhow::Result<()> {
    let runner = runner_of(store, task).await?;
    let event = Event { task: task.task_id.clone(), trigger: Trigger::Manual, parameters: Value::Null };
    let Accepted::Execution(id) = store.publish(event).await? else {
        return Err(gone(task.task_id.as_str()));
    };
    let what = if matches!(runner, Runner::Lacking(_)) {
        "waits for a server that can run it"
    } else {
        "will run as soon as a server can"
    };
    writeln!(out, "{}: execution {id} {what}", task.task_id)?;
    match runner {
        Runner::Lives => {}
        Runner::Lacking(why) => {
            tracing::warn!(
                "the server that started last leaves this task out: {why}; start one that has what it lacks"
            );
        }
        Runner::Awaited => {
            tracing::warn!("no server runs on this database: execution {id} starts when one does")
        }
    }
    Ok(())
}

/// It was there a moment ago; rows of tasks are only deleted by hand.
fn gone(task: &str) -> anyhow::Error {
    Failure::new(format!("task {task:?} has just been deleted")).into()
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
                Some(task) => Some(in_database(&store, task).await?.task_id),
                None => None,
            };
            let state =
                state.clone().map(|state| serde_json::from_value::<PostState>(state.into())).transpose()?;
            let filter = PostFilter {
                task,
                execution_id: execution.map(ExecutionId),
                state,
                before: None,
                limit: usize::try_from(*limit)?,
            };
            let posts = store.posts(filter).await?;
            if *json { write_json(&posts, out) } else { write_table(&posts, out) }
        }
        PostsCommand::Show { post, json } => show_post(&store, PostId(*post), *json, out).await,
        PostsCommand::Retry { post } => decide(&store, PostId(*post), PostDecision::Retry, false, out).await,
        PostsCommand::Resend { post, json } => {
            decide(&store, PostId(*post), PostDecision::Resend, *json, out).await
        }
        PostsCommand::MarkPosted { post, message_id, link, json } => {
            let decision = PostDecision::MarkPosted { message_id: message_id.clone(), link: link.clone() };
            decide(&store, PostId(*post), decision, *json, out).await
        }
        PostsCommand::Dismiss { post } => {
            decide(&store, PostId(*post), PostDecision::Dismiss, false, out).await
        }
    }
}

async fn show_post(store: &Store, id: PostId, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(shown) = PostDetails::of(store, id).await? else { return Err(unknown_post(id)) };
    if json {
        return write_json(&shown, out);
    }
    let PostDetails { post, attempts_made: attempts } = shown;
    for (what, text) in post_lines(&post) {
        writeln!(out, "{what:18} {}", visible(&text))?;
    }
    writeln!(out)?;
    write_table(&attempts, out)?;
    for attempt in &attempts {
        for text in attempt.exchanges.iter().flatten().filter_map(|exchange| exchange.text.as_ref()) {
            writeln!(out, "attempt {}: {}", attempt.attempt, visible(text))?;
        }
    }
    writeln!(out)?;
    let extras = crate::platforms::shown(&post.extras);
    for line in post.content.lines().chain(extras.lines()) {
        writeln!(out, "    {}", visible(line))?;
    }
    Ok(())
}

/// All that is known of a post, and nothing that does not apply.
fn post_lines(post: &PostView) -> Vec<(&'static str, String)> {
    let at = |time: Option<DateTime<Utc>>| time.map(|time| time_or(Some(time), "-"));
    let receipt = post.receipt.as_ref();
    let by = if post.marked_posted { " (a person's word, not the platform's)" } else { "" };
    let lines = [
        ("post", Some(post.id.to_string())),
        ("task", Some(post.task_id.to_string())),
        ("execution", Some(post.execution_id.to_string())),
        ("destination", Some(format!("{}:{}", post.platform, post.destination))),
        ("part", Some(post.part.to_string())),
        ("state", Some(post.state.as_str().to_owned())),
        ("reason", post.reason.clone()),
        ("waits until", at(post.deliver_at)),
        (
            "still to follow",
            receipt.map(|receipt| receipt.to_follow.join(", ")).filter(|text| !text.is_empty()),
        ),
        ("it follows at", at(post.follow_up_at)),
        ("it is without", receipt.map(|receipt| receipt.missing.join("; ")).filter(|text| !text.is_empty())),
        ("waits for post", post.waits_for.map(|other| other.to_string())),
        ("may be there since", at(post.uncertain_since)),
        ("sent by", post.node.clone()),
        ("message", receipt.map(|receipt| format!("{}{by}", receipt.message_id))),
        ("found there", receipt.filter(|receipt| receipt.recovered).map(|_| "yes".to_owned())),
        ("link", receipt.and_then(|receipt| receipt.link.clone())),
        ("posted", at(post.posted_at)),
        ("created", at(Some(post.created_at))),
        ("key", Some(post.key.clone())),
    ];
    lines.into_iter().filter_map(|(what, text)| Some((what, text?))).collect()
}

async fn decide(
    store: &Store,
    id: PostId,
    decision: PostDecision,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match store.decide(id, decision.clone()).await? {
        Decided::Done if json => show_post(store, id, true, out).await,
        Decided::Done => {
            let is_there = store.post(id).await?.is_some_and(|post| post.state == PostState::Posted);
            Ok(writeln!(out, "post {id} {}", done(&decision, is_there))?)
        }
        Decided::UnknownPost => Err(unknown_post(id)),
        Decided::NotNow(state) => Err(not_now(id, state, &decision).into()),
    }
}

fn done(decision: &PostDecision, is_there: bool) -> String {
    match decision {
        PostDecision::Retry if is_there => {
            "is there; what is to follow it is tried as soon as a server can".to_owned()
        }
        PostDecision::Dismiss if is_there => "stays as it is: nothing follows it any more".to_owned(),
        PostDecision::Retry => "will be sent as soon as a server can".to_owned(),
        PostDecision::Resend => {
            "will be sent again as soon as a server can; if it was there, it is there twice \
             unless the platform still knows its key"
                .to_owned()
        }
        PostDecision::MarkPosted { message_id, .. } => {
            format!("is marked as posted: message {}, as you say", visible(message_id))
        }
        PostDecision::Dismiss => "is dismissed".to_owned(),
    }
}

/// Why a decision can't be carried out, and what can be decided instead.
fn not_now(id: PostId, state: PostState, decision: &PostDecision) -> Failure {
    let why = decision.why_not(state);
    let refused = Failure::new(format!("post {id} is {}: {why}", state.as_str()));
    match state {
        PostState::NeedsReview => refused.hint(format!(
            "look at the destination; then `actor-server posts mark-posted {id} --message-id ID` if it is there, \
             `actor-server posts resend {id}` if it is not"
        )),
        PostState::Deferred | PostState::Failed | PostState::Skipped => {
            refused.hint(format!("`actor-server posts retry {id}` sends it"))
        }
        PostState::Sending => refused.hint("a server is sending it at this moment: try again when that is over"),
        PostState::Pending | PostState::Posted => {
            refused.hint(format!("`actor-server posts show {id}` tells more"))
        }
    }
}

fn unknown_post(id: PostId) -> anyhow::Error {
    UsageError::new(format!("there is no post {id}"))
        .hint(Some("`actor-server posts list` shows them".to_owned()))
        .into()
}

//! `GET /tasks/{task_id}/preview`: what a task is about to do.

use super::tasks::{TaskPath, find};
use crate::api::access::Needs;
use crate::api::problem::{Answer, Kind, Problem};
use crate::api::route::{Call, Input, Operation, Reply, Routes};
use crate::app::AppError;
use crate::config::within::Within;
use crate::shown::{NominalTime, next_times};
use botticelli_database::{Scope, TaskView};
use botticelli_server::ledger::Ledger as _;
use botticelli_server::outbox::NewPost;
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::post::Extras;
use botticelli_server::server::Run;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add(
        Operation::get(
            "/tasks/{task_id}/preview",
            "preview_task",
            Needs::Scope(Scope::Read),
            "The next times of a task, and what it would post now",
        )
        .about(
            "The pipeline runs as it would run at this moment, on this node; nothing of it is sent or recorded. `?posts=false` \
             leaves that out.",
        ),
        preview,
    )
}

/// How much of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PreviewQuery {
    /// How many of the next times: 1-100.
    #[serde(default = "Within::<1, 100>::of::<5>")]
    count: Within<1, 100>,
    /// Whether to run the pipeline.
    #[serde(default = "yes")]
    posts: bool,
}

fn yes() -> bool {
    true
}

/// What a task is about to do.
#[derive(Debug, Serialize, JsonSchema)]
struct Preview {
    /// Its next nominal times.
    times: Vec<PreviewedTime>,
    /// What a run at this moment would make; null when it was left out.
    run: Option<PreviewedRun>,
}

/// A nominal time.
#[derive(Debug, Serialize, JsonSchema)]
struct PreviewedTime {
    #[serde(flatten)]
    time: NominalTime,
    /// Why then.
    why: String,
}

/// What a run would make.
#[derive(Debug, Serialize, JsonSchema)]
struct PreviewedRun {
    /// How it would end: `succeeded`, `failed`, `skipped`, `interrupted`.
    outcome: String,
    /// Why it would not succeed.
    reason: Option<String>,
    /// Its posts, in order.
    posts: Vec<PreviewedPost>,
    /// What each skill did.
    metadata: Value,
}

/// A post that would be made.
#[derive(Debug, Serialize, JsonSchema)]
struct PreviewedPost {
    /// Where it would go.
    platform: String,
    /// Where on that platform.
    destination: String,
    /// Its place in what the execution posts there, from 0.
    part: u32,
    /// The text.
    content: String,
    /// What comes with it, by the platforms that know it.
    #[serde(skip_serializing_if = "Extras::is_empty")]
    extras: Extras,
    /// Not before this time.
    not_before: Option<DateTime<Utc>>,
}

async fn preview(call: Call, input: Input<TaskPath, PreviewQuery>) -> Answer<Reply<Preview>> {
    let task = find(&call.api, &input.path.task_id).await?;
    let now = call.api.store.now().await?;
    let count = usize::try_from(input.query.count.get()).unwrap_or(usize::MAX);
    let times = next_times(&task, now).take(count).map(|time| PreviewedTime {
        time: NominalTime::of(&task.schedule, time),
        why: why(&task, time, now),
    });
    let times = times.collect();
    let run = if input.query.posts { Some(rehearse(&call, &task).await?) } else { None };
    Ok(Preview { times, run }.into())
}

fn why(task: &TaskView, time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let paused = if task.is_paused { ", once the task is resumed" } else { "" };
    let due = if time <= now { "due already: " } else { "" };
    format!("{due}{}{paused}", task.schedule_text)
}

async fn rehearse(call: &Call, task: &TaskView) -> Answer<PreviewedRun> {
    let stopping = || Problem::new(Kind::Unavailable, "the server is about to stop");
    let server = call.api.server.upgrade().ok_or_else(stopping)?;
    // It ends with the request: whatever it still does then is for nobody.
    let stop = CancellationToken::new();
    let _end = stop.clone().drop_guard();
    let rehearsed =
        tokio::time::timeout(call.api.settings.request_timeout, server.rehearse(&task.task_id, stop));
    let late =
        || Problem::new(Kind::Unavailable, "the pipeline did not come to its end in time").retry_after(1);
    match rehearsed.await.map_err(|_| late())? {
        Ok(Some(run)) => Ok(run.into()),
        Ok(None) => {
            let detail = format!("task {:?} is not in the configuration of this node", task.task_id);
            Err(Problem::new(Kind::Conflict, detail).hint("`?posts=false` shows its times"))
        }
        Err(AppError::Ledger(error)) => Err(error.into()),
        Err(_) => Err(stopping()),
    }
}

impl From<Run> for PreviewedRun {
    fn from(run: Run) -> Self {
        let (outcome, reason) = match run.end {
            AttemptEnd::Succeeded => ("succeeded", None),
            AttemptEnd::Skipped(reason) => ("skipped", Some(reason.as_str().to_owned())),
            AttemptEnd::Failed { error, .. } => ("failed", Some(error)),
            AttemptEnd::Interrupted => ("interrupted", None),
            AttemptEnd::Cancelled => ("cancelled", None),
        };
        Self {
            outcome: outcome.to_owned(),
            reason,
            posts: run.posts.into_iter().map(PreviewedPost::from).collect(),
            metadata: run.metadata,
        }
    }
}

impl From<NewPost> for PreviewedPost {
    fn from(post: NewPost) -> Self {
        Self {
            platform: post.destination.platform,
            destination: post.destination.target,
            part: post.part,
            content: post.content.text,
            extras: post.content.extras,
            not_before: post.not_before,
        }
    }
}

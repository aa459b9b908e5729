//! What is shown of one task, execution or post: by `--json` on the command line and by the API, which are the same.

use botticelli_database::{
    AttemptView, ExecutionView, Origin, PostAttemptView, PostFilter, PostView, Store, TaskView,
};
use botticelli_server::ids::{ExecutionId, PostId};
use botticelli_server::ledger::{Ledger as _, LedgerError};
use botticelli_server::schedule::ScheduleType;
use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// So many of a task's next times are shown.
const TIMES: usize = 3;
/// The last outcome is looked for among so many executions.
const LOOKED_THROUGH: usize = 50;
/// So many posts of one execution are shown with it.
const POSTS: usize = 500;

/// All that is to be known about one task.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TaskDetails {
    /// What listings tell.
    #[serde(flatten)]
    pub task: TaskView,
    /// What was asked for, of a task that was made over the API: what `PUT` takes.
    pub entry: Option<Value>,
    /// Of that: greater with every change.
    #[serde(skip)]
    pub(crate) revision: Option<i64>,
    /// The next nominal times; of a paused task those after it is resumed.
    pub next_times: Vec<DateTime<Utc>>,
    /// When an open breaker lets one occurrence through.
    pub probe_at: Option<DateTime<Utc>>,
    /// The execution, or the skipped occurrences, that came to their end last.
    pub last_execution: Option<ExecutionView>,
    /// Executions that are not over.
    pub open: Vec<ExecutionView>,
    /// How many posts there are in each state.
    pub posts: BTreeMap<String, u64>,
}

impl TaskDetails {
    /// Of this task; and its executions, newest first, as far as they were looked through.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn of(store: &Store, task: TaskView) -> Result<(Self, Vec<ExecutionView>), LedgerError> {
        let now = store.now().await?;
        let history = store.history(&task.task_id, LOOKED_THROUGH).await?;
        let state = store.states(std::slice::from_ref(&task.task_id)).await?.pop();
        let api_task = match task.origin {
            Origin::Api => store.api_task(&task.task_id).await?,
            Origin::File => None,
        };
        let (entry, revision) = api_task.map(|task| (task.entry, Some(task.revision))).unwrap_or_default();
        let details = Self {
            entry,
            revision,
            next_times: next_times(&task, now).take(TIMES).collect(),
            probe_at: state.and_then(|state| state.probe_at),
            last_execution: history.iter().find(|execution| execution.outcome.is_some()).cloned(),
            open: history.iter().filter(|execution| execution.outcome.is_none()).cloned().collect(),
            posts: store.post_counts(&task.task_id).await?,
            task,
        };
        Ok((details, history))
    }
}

/// The next nominal times of a task. What fell into a pause is left out when the task is resumed, so it is not told
/// either.
pub fn next_times(task: &TaskView, now: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    let missed = task.next_run.filter(|_| task.is_paused);
    let missed = missed.and_then(|first| task.schedule.occurrences_until(first, now));
    let first = match missed {
        Some(missed) => task.schedule.following(missed.latest),
        None => task.next_run,
    };
    std::iter::successors(first, |time| task.schedule.following(*time))
}

/// One nominal time, as clocks show it in UTC and in the schedule's time zone.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NominalTime {
    /// RFC 3339, in UTC.
    pub scheduled_for: String,
    /// RFC 3339, as clocks in the schedule's time zone show it.
    pub local: String,
}

impl NominalTime {
    /// That time of this schedule.
    pub fn of(schedule: &ScheduleType, time: DateTime<Utc>) -> Self {
        Self {
            scheduled_for: time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            local: schedule.local(time).to_rfc3339_opts(SecondsFormat::AutoSi, false),
        }
    }
}

/// All that is to be known about one execution.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ExecutionDetails {
    /// What listings tell. `metadata` has what each skill did.
    #[serde(flatten)]
    pub execution: ExecutionView,
    /// Its attempts before the last.
    pub earlier_attempts: Vec<AttemptView>,
    /// The posts that it made, oldest first: the last 500.
    pub posts: Vec<PostView>,
}

impl ExecutionDetails {
    /// Of this execution, if there is one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn of(store: &Store, id: ExecutionId) -> Result<Option<Self>, LedgerError> {
        let Some(execution) = store.execution(id).await? else { return Ok(None) };
        let filter = PostFilter { execution_id: Some(id), limit: POSTS, ..PostFilter::default() };
        let mut posts = store.posts(filter).await?;
        posts.reverse();
        let earlier_attempts = store.earlier_attempts(id).await?;
        Ok(Some(Self { execution, earlier_attempts, posts }))
    }
}

/// All that is to be known about one post.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PostDetails {
    /// What listings tell.
    #[serde(flatten)]
    pub post: PostView,
    /// Every attempt to send it.
    pub attempts_made: Vec<PostAttemptView>,
}

impl PostDetails {
    /// Of this post, if there is one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn of(store: &Store, id: PostId) -> Result<Option<Self>, LedgerError> {
        let Some(post) = store.post(id).await? else { return Ok(None) };
        Ok(Some(Self { post, attempts_made: store.post_attempts(id).await? }))
    }
}

//! `actor-server tasks show`: all that is to be known about one task.

use super::next;
use super::output::{posts_wait, time_or, visible, write_json, write_table};
use botticelli_database::{ExecutionView, Store, TaskView};
use botticelli_server::ledger::Ledger as _;
use botticelli_server::schedule::ScheduleType;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// So many of the next times are shown.
const TIMES: usize = 3;
/// So many executions are listed; the last outcome is looked for among more.
const LISTED: usize = 5;
const LOOKED_THROUGH: usize = 50;

/// A task, as `tasks show --json` prints it.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    task: TaskView,
    next_times: Vec<DateTime<Utc>>,
    probe_at: Option<DateTime<Utc>>,
    last_execution: Option<ExecutionView>,
    open: Vec<ExecutionView>,
    posts: BTreeMap<String, u64>,
}

pub(super) async fn print(
    store: &Store,
    task: TaskView,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let now = store.now().await?;
    let history = store.history(&task.task_id, LOOKED_THROUGH).await?;
    let state = store.states(std::slice::from_ref(&task.task_id)).await?.pop();
    let shown = Shown {
        next_times: next_times(&task, now),
        probe_at: state.and_then(|state| state.probe_at),
        last_execution: history.iter().find(|execution| execution.outcome.is_some()).cloned(),
        open: history.iter().filter(|execution| execution.outcome.is_none()).cloned().collect(),
        posts: store.post_counts(&task.task_id).await?,
        task,
    };
    if json {
        return write_json(&shown, out);
    }
    for (what, text) in shown.lines() {
        writeln!(out, "{what:13} {}", visible(&text))?;
    }
    writeln!(out)?;
    write_table(&history[..history.len().min(LISTED)], out)
}

/// What fell into a pause is left out when the task is resumed, so it is not shown either.
fn next_times(task: &TaskView, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let missed = task.next_run.filter(|_| task.is_paused);
    let missed = missed.and_then(|first| task.schedule.occurrences_until(first, now));
    let first = match missed {
        Some(missed) => task.schedule.following(missed.latest),
        None => task.next_run,
    };
    std::iter::successors(first, |time| task.schedule.following(*time)).take(TIMES).collect()
}

impl Shown {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { task, .. } = self;
        let mut lines = vec![
            ("task", task.task_id.to_string()),
            ("actor", task.actor_name.to_string()),
            ("schedule", task.schedule_text.clone()),
            ("state", self.state()),
        ];
        let mut head = if task.is_paused { "if resumed" } else { "next" };
        if self.next_times.is_empty() {
            lines.push((head, "never again".to_owned()));
        }
        for time in &self.next_times {
            lines.push((std::mem::take(&mut head), local(&task.schedule, *time)));
        }
        lines.push(("failures", format!("{} in a row", task.consecutive_failures)));
        lines.push(("last run", time_or(task.last_run, "never")));
        lines.push(("last outcome", self.last_execution.as_ref().map_or("none".to_owned(), outcome)));
        lines.extend(self.open.iter().map(|execution| ("open", open(execution))));
        lines.push(("posts", self.posts_text()));
        if task.waiting_posts > 0 {
            let since = time_or(task.waiting_since, "-");
            let reason = task.waiting_reason.as_deref().unwrap_or("their destination did not take one");
            lines.push(("waiting", format!("{} since {since}: {reason}", posts_wait(task.waiting_posts))));
        }
        lines
    }

    fn state(&self) -> String {
        let task = &self.task;
        if !task.is_paused {
            return "active".to_owned();
        }
        let reason = task.pause_reason.map_or("by hand", |reason| reason.as_str());
        let probe =
            self.probe_at.map_or(String::new(), |at| format!(", tried again at {}", time_or(Some(at), "")));
        format!("paused ({reason}); unchanged since {}{probe}", time_or(Some(task.updated_at), ""))
    }

    fn posts_text(&self) -> String {
        let counts: Vec<String> =
            self.posts.iter().map(|(state, count)| format!("{count} {state}")).collect();
        if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
    }
}

fn local(schedule: &ScheduleType, time: DateTime<Utc>) -> String {
    next::line(schedule, time).trim().to_owned()
}

fn outcome(execution: &ExecutionView) -> String {
    let reason = execution.skip_reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let error = execution.error_message.as_ref().map_or(String::new(), |error| format!(": {error}"));
    format!(
        "execution {} {}{reason} at {}{error}",
        execution.id,
        execution.outcome.as_deref().unwrap_or("is open"),
        time_or(execution.completed_at, "-")
    )
}

fn open(execution: &ExecutionView) -> String {
    let what = match (&execution.node, execution.waiting_until) {
        (_, Some(until)) => format!("waits for a server, from {} on", time_or(Some(until), "")),
        (Some(node), None) => format!("attempt {} on {node}", execution.attempt),
        (None, None) => "waits for a server".to_owned(),
    };
    format!("execution {} ({}): {what}", execution.id, execution.trigger.as_str())
}

//! `actor-server tasks show`: all that is to be known about one task.

use super::next;
use super::output::{posts_wait, time_or, visible, write_json, write_table};
use crate::shown::TaskDetails;
use botticelli_database::{ExecutionView, Store, TaskView};
use botticelli_server::schedule::ScheduleType;
use chrono::{DateTime, Utc};
use std::io::Write;

/// So many executions are listed.
const LISTED: usize = 5;

pub(super) async fn print(
    store: &Store,
    task: TaskView,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (shown, history) = TaskDetails::of(store, task).await?;
    if json {
        return write_json(&shown, out);
    }
    for (what, text) in lines(&shown) {
        writeln!(out, "{what:13} {}", visible(&text))?;
    }
    writeln!(out)?;
    write_table(&history[..history.len().min(LISTED)], out)
}

fn lines(shown: &TaskDetails) -> Vec<(&'static str, String)> {
    let task = &shown.task;
    let mut lines = vec![
        ("task", task.task_id.to_string()),
        ("actor", task.actor_name.to_string()),
        ("origin", task.origin.as_str().to_owned()),
        ("schedule", task.schedule_text.clone()),
        ("state", state(shown)),
    ];
    let mut head = if task.is_paused { "if resumed" } else { "next" };
    if shown.next_times.is_empty() {
        lines.push((head, "never again".to_owned()));
    }
    for time in &shown.next_times {
        lines.push((std::mem::take(&mut head), local(&task.schedule, *time)));
    }
    lines.extend(task.pause_note.iter().map(|note| ("note", note.clone())));
    lines.push(("failures", format!("{} in a row", task.consecutive_failures)));
    lines.push(("last run", time_or(task.last_run, "never")));
    lines.push(("last outcome", shown.last_execution.as_ref().map_or("none".to_owned(), outcome)));
    lines.extend(shown.open.iter().map(|execution| ("open", open(execution))));
    lines.push(("posts", posts_text(shown)));
    if task.waiting_posts > 0 {
        let since = time_or(task.waiting_since, "-");
        let reason = task.waiting_reason.as_deref().unwrap_or("their destination did not take one");
        lines.push(("waiting", format!("{} since {since}: {reason}", posts_wait(task.waiting_posts))));
    }
    lines
}

fn state(shown: &TaskDetails) -> String {
    let task = &shown.task;
    if !task.is_paused {
        return "active".to_owned();
    }
    let reason = task.pause_reason.map_or("by hand", |reason| reason.as_str());
    let probe =
        shown.probe_at.map_or(String::new(), |at| format!(", tried again at {}", time_or(Some(at), "")));
    format!("paused ({reason}); unchanged since {}{probe}", time_or(Some(task.updated_at), ""))
}

fn posts_text(shown: &TaskDetails) -> String {
    let counts: Vec<String> = shown.posts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
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

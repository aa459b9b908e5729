//! `actor-server --dry-run`: checks what can be checked without acting.

use super::args::GlobalArgs;
use super::errors::DryRunFailed;
use super::output::visible;
use super::{load_config, next};
use botticelli_server::task::Task;
use chrono::{DateTime, Utc};
use std::io::Write;

/// So many times are shown of each task.
const TIMES: usize = 3;

pub(super) fn print(global: &GlobalArgs, now: DateTime<Utc>, out: &mut impl Write) -> anyhow::Result<()> {
    let config = load_config(global).map_err(DryRunFailed)?;
    for task in &config.tasks {
        print_task(task, now, out)?;
    }
    Ok(())
}

fn print_task(task: &Task, now: DateTime<Utc>, out: &mut impl Write) -> anyhow::Result<()> {
    let destinations: Vec<String> = task.destinations.iter().map(ToString::to_string).collect();
    let disabled = if task.enabled { "" } else { " (not enabled)" };
    let what = format!(
        "{}: actor {}, {}, to {}{disabled}",
        task.id,
        task.actor_name,
        task.schedule.describe(),
        destinations.join(", ")
    );
    writeln!(out, "{}", visible(&what))?;
    for time in first_times(task, now) {
        let late = if time <= now { "   (at the first start)" } else { "" };
        writeln!(out, "{}{late}", next::line(&task.schedule, time))?;
    }
    Ok(())
}

/// The times of a task that never ran.
fn first_times(task: &Task, now: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    let first = task.schedule.first_occurrence(now);
    std::iter::successors(first, |time| task.schedule.following(*time)).take(TIMES)
}

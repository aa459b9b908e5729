//! `actor-server --dry-run`: checks what can be checked without acting.

use super::args::GlobalArgs;
use super::errors::{DryRunFailed, opening_hint};
use super::output::visible;
use super::{actor_faults, load_checked, next};
use crate::clock::SystemClock;
use crate::config::{ActorFile, Check, Fault, Files, LoadedConfig, Problem, Problems};
use crate::knowledge::check_content;
use crate::platforms::{Finding, Intended, Platforms};
use crate::skills::SkillRegistry;
use botticelli_database::{Condition, Store};
use botticelli_server::post::{Destination, PostContent};
use botticelli_server::task::Task;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use std::cell::Cell;
use std::io::Write;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// So many times are shown of each task.
const TIMES: usize = 3;

pub(super) fn print(global: &GlobalArgs, now: DateTime<Utc>, out: &mut impl Write) -> anyhow::Result<()> {
    let surroundings = Surroundings {
        runtime: Builder::new_multi_thread().worker_threads(1).enable_all().build()?,
        skills: SkillRegistry::standard(),
        platforms: Platforms::built_in(Arc::new(SystemClock)),
        own_database: Cell::new(None),
    };
    let config = load_checked(global, &surroundings, &mut Files::default()).map_err(DryRunFailed)?;
    let problems = surroundings.runtime.block_on(preflight(global, &config, now))?;
    if !problems.is_empty() {
        return Err(DryRunFailed(Problems(problems)).into());
    }
    for task in &config.tasks {
        print_task(task, now, out)?;
    }
    Ok(())
}

/// What keeps tasks from posting to Discord; what only limits them is a warning.
async fn preflight(
    global: &GlobalArgs,
    config: &LoadedConfig,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<Problem>> {
    let without_token: Vec<Problem> =
        config.without_token().into_iter().map(|(_, problem)| problem).collect();
    if !without_token.is_empty() && !global.allow_degraded {
        return Ok(without_token);
    }
    let platforms = Platforms::configured(config, Arc::new(SystemClock))?;
    let intended = Intended::all(config, &SkillRegistry::standard());
    let findings = platforms.preflight(&intended, now).await;
    let (blocking, others): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.blocks);
    for Finding { problem, .. } in others {
        tracing::warn!("{problem}; {}", problem.hint.as_deref().unwrap_or_default());
    }
    Ok(blocking.into_iter().map(|finding| finding.problem).collect())
}

/// What the configuration needs around it: its database, the content that actors read, the places where tasks post.
struct Surroundings {
    runtime: Runtime,
    skills: SkillRegistry,
    platforms: Platforms,
    /// `None`: it can't be used, or was not asked yet.
    own_database: Cell<Option<Condition>>,
}

impl Check for Surroundings {
    fn actor(&self, file: &ActorFile, database_url: &SecretString) -> Vec<Fault> {
        let mut faults = actor_faults(file, &self.skills, database_url);
        let content = check_content(file, database_url.expose_secret(), self.own_database.get());
        faults.extend(self.runtime.block_on(content));
        faults
    }

    fn destination(&self, destination: &Destination) -> Option<String> {
        let platform = self.platforms.get(&destination.platform)?;
        let anything = PostContent::text("text");
        let checked = platform.validate(&anything, destination).and_then(|()| platform.check(destination));
        checked.err().map(|error| error.to_string())
    }

    fn database(&self, url: &SecretString) -> Option<(String, Option<&'static str>)> {
        match self.runtime.block_on(Store::look(url.expose_secret())) {
            Ok(condition) => {
                self.own_database.set(Some(condition));
                None
            }
            Err(error) => Some((format!("can't be used: {error}"), opening_hint(&error))),
        }
    }
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
        let late = if time <= now { "   (now, if it never ran)" } else { "" };
        writeln!(out, "{}{late}", next::line(&task.schedule, time))?;
    }
    Ok(())
}

/// The times of a task that never ran.
fn first_times(task: &Task, now: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    let first = task.schedule.first_occurrence(now);
    std::iter::successors(first, |time| task.schedule.following(*time)).take(TIMES)
}

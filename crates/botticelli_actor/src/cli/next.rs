//! `actor-server next`: what a schedule means, in words and as its next times.

use super::args::{GlobalArgs, NextArgs};
use super::errors::UsageError;
use super::load_config;
use super::output::{visible, write_json};
use super::task::in_configuration;
use crate::shown::NominalTime;
use botticelli_server::schedule::{CronSchedule, Schedule, ScheduleType};
use chrono::{DateTime, SecondsFormat, Utc};
use std::io::Write;

pub(super) fn print(
    global: &GlobalArgs,
    args: &NextArgs,
    now: DateTime<Utc>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let schedule = match (&args.asked.cron, &args.asked.task) {
        (Some(expression), _) => {
            let schedule = cron(expression, args.timezone.as_deref().unwrap_or("UTC"))?;
            if let Some(warning) = never_again(&schedule, args.after.unwrap_or(now).min(now)) {
                tracing::warn!("{warning}");
            }
            schedule
        }
        (None, Some(task)) => in_configuration(&load_config(global)?, &global.config, task)?.schedule.clone(),
        (None, None) => return Err(UsageError::new("next needs a task or --cron").into()),
    };
    let times = times_after(&schedule, args.after.unwrap_or(now), args.count.into());
    if args.json {
        let rows: Vec<NominalTime> = times.iter().map(|time| NominalTime::of(&schedule, *time)).collect();
        return write_json(&rows, out);
    }
    writeln!(out, "{}", visible(&schedule.describe()))?;
    for time in &times {
        writeln!(out, "{}", line(&schedule, *time))?;
    }
    if times.len() < args.count.into() {
        writeln!(out, "  {}", end_of_times(&schedule))?;
    }
    Ok(())
}

fn end_of_times(schedule: &ScheduleType) -> &'static str {
    match schedule {
        ScheduleType::Cron(_) | ScheduleType::Interval(_) | ScheduleType::Once(_) => "no more times",
        ScheduleType::Immediate(_) | ScheduleType::Event => "no times of its own",
    }
}

fn cron(expression: &str, timezone: &str) -> Result<ScheduleType, UsageError> {
    CronSchedule::new(expression, timezone)
        .map(ScheduleType::Cron)
        .map_err(|error| UsageError::new(error.to_string()).hint(error.hint()))
}

/// A warning about a cron expression whose years are over.
pub(super) fn never_again(schedule: &ScheduleType, now: DateTime<Utc>) -> Option<String> {
    match schedule {
        ScheduleType::Cron(_) if schedule.first_occurrence(now).is_none() => {
            Some(format!("it never runs again: {}", schedule.describe()))
        }
        ScheduleType::Cron(_)
        | ScheduleType::Interval(_)
        | ScheduleType::Once(_)
        | ScheduleType::Immediate(_)
        | ScheduleType::Event => None,
    }
}

fn times_after(schedule: &ScheduleType, after: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
    std::iter::successors(schedule.next_execution(after), |time| schedule.following(*time))
        .take(count)
        .collect()
}

/// `Tue 2026-11-24 09:00:00 +01:00   2026-11-24T08:00:00Z`
pub(super) fn line(schedule: &ScheduleType, time: DateTime<Utc>) -> String {
    let local = schedule.local(time).format("%a %Y-%m-%d %H:%M:%S %:z");
    format!("  {local}   {}", time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

//! What to do about a task now ([`plan`]), and what becomes of it after an attempt ([`settle`]): pure decisions, which
//! the store then carries out if the task is still as they saw it.

use crate::ledger::{Attempt, SkippedRange, Trigger};
use crate::outcome::{AttemptEnd, Outcome, SkipReason};
use crate::schedule::{Missed, ScheduleType};
use crate::task::{CatchUp, Overlap, PauseReason, SKIP_GRACE, Task, TaskState};
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// What to do about a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Nothing, until somebody changes it.
    Nothing,
    /// Nothing before this time.
    Wait {
        /// Look again then.
        until: DateTime<Utc>,
    },
    /// Advance the task, and run or skip what was due.
    Claim(ClaimPlan),
}

/// One step of a task along its schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimPlan {
    /// The `next_run` that was seen. The step is taken only if it is still this.
    pub expected: DateTime<Utc>,
    /// Occurrences to leave out, from `expected` on.
    pub skipped: Option<SkippedRange>,
    /// The occurrence to run, if one is due.
    pub run: Option<OccurrenceToRun>,
    /// The nominal time after all of that.
    pub next_run: Option<DateTime<Utc>>,
    /// When to look at the task for it.
    pub wake_at: Option<DateTime<Utc>>,
    /// The task was resumed since it was last looked at: its failures are forgotten.
    pub resumed: bool,
}

/// One occurrence that is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OccurrenceToRun {
    /// Its nominal time.
    pub scheduled_for: DateTime<Utc>,
    /// When it is to start.
    pub due_at: DateTime<Utc>,
    /// By schedule, or as a probe.
    pub trigger: Trigger,
}

/// Decides what to do about `task` at `now`; what is due within `ahead` counts as due.
pub fn plan(task: &Task, state: &TaskState, now: DateTime<Utc>, ahead: Duration) -> Plan {
    let Some(expected) = state.next_run else { return Plan::Nothing };
    if !task.enabled {
        return Plan::Nothing;
    }
    let resumed = matches!(standing(state), Standing::Resumed);
    let horizon = now + ahead;
    let (skip_until, trigger) = match standing(state) {
        Standing::Paused => return Plan::Nothing,
        Standing::Probing { at } if at > horizon => return Plan::Wait { until: at },
        Standing::Probing { .. } => (all_but_latest(task, expected, now, SkipReason::Paused), Trigger::Probe),
        // A task that only runs once still wants to, after a pause. What recurs goes on with its next time.
        Standing::Resumed if recurs(&task.schedule) => (Some((now, SkipReason::Paused)), Trigger::Schedule),
        Standing::Resumed | Standing::Running => (unwanted(task, expected, now), Trigger::Schedule),
    };
    let skipped = skip_until.and_then(|(until, reason)| skip(&task.schedule, expected, until, reason));
    let candidate = match skipped {
        Some(range) => task.schedule.following(range.to),
        None => Some(expected),
    };
    let run = candidate
        .map(|nominal| OccurrenceToRun { scheduled_for: nominal, due_at: task.due_at(nominal), trigger })
        .filter(|run| run.due_at <= horizon);
    let next_run = match run {
        Some(run) => task.schedule.following(run.scheduled_for),
        None => candidate,
    };
    let wake_at = next_run.map(|nominal| task.due_at(nominal));
    match (skipped, run) {
        // The first look after a resume ends it: what comes due from now on was not missed in the pause.
        (None, None) if !resumed => Plan::Wait { until: task.due_at(expected) },
        (None | Some(_), None | Some(_)) => {
            Plan::Claim(ClaimPlan { expected, skipped, run, next_run, wake_at, resumed })
        }
    }
}

enum Standing {
    Running,
    Paused,
    Resumed,
    Probing { at: DateTime<Utc> },
}

fn standing(state: &TaskState) -> Standing {
    match (state.is_paused, state.pause_reason, state.probe_at) {
        (true, Some(PauseReason::Breaker), Some(at)) => Standing::Probing { at },
        (true, ..) => Standing::Paused,
        (false, Some(_), _) => Standing::Resumed,
        (false, None, _) => Standing::Running,
    }
}

fn recurs(schedule: &ScheduleType) -> bool {
    match schedule {
        ScheduleType::Cron { .. } | ScheduleType::Interval { .. } => true,
        ScheduleType::Once { .. } | ScheduleType::Immediate { .. } | ScheduleType::Event => false,
    }
}

/// Until when occurrences from `expected` on are not wanted any more, and why.
fn unwanted(task: &Task, expected: DateTime<Utc>, now: DateTime<Utc>) -> Option<(DateTime<Utc>, SkipReason)> {
    let superseded = match task.policy.catch_up {
        CatchUp::Latest | CatchUp::Skip => all_but_latest(task, expected, now, SkipReason::Missed),
        CatchUp::All { limit } => all_but_newest(task, expected, now, u64::from(limit.get())),
    };
    let (grace, reason) = match (task.policy.misfire_grace, task.policy.catch_up) {
        (Some(grace), _) => (Some(grace), SkipReason::TooLate),
        (None, CatchUp::Skip) => (Some(SKIP_GRACE), SkipReason::Missed),
        (None, CatchUp::Latest | CatchUp::All { .. }) => (None, SkipReason::TooLate),
    };
    let too_late = grace.map(|grace| (just_before(now - grace - task.policy.jitter), reason));
    superseded.into_iter().chain(too_late).max_by_key(|(until, _)| *until)
}

/// Leaves the latest occurrence that is due. Times that jitter may still be holding back are not counted as missed.
fn all_but_latest(
    task: &Task,
    expected: DateTime<Utc>,
    now: DateTime<Utc>,
    reason: SkipReason,
) -> Option<(DateTime<Utc>, SkipReason)> {
    let due = task.schedule.occurrences_until(expected, now - task.policy.jitter)?;
    (due.count > 1).then(|| (just_before(due.latest), reason))
}

fn all_but_newest(
    task: &Task,
    expected: DateTime<Utc>,
    now: DateTime<Utc>,
    keep: u64,
) -> Option<(DateTime<Utc>, SkipReason)> {
    let due = task.schedule.occurrences_until(expected, now - task.policy.jitter)?;
    let excess = due.count.checked_sub(keep).filter(|excess| *excess > 0)?;
    let last_unwanted = nth_occurrence(&task.schedule, expected, due.latest, excess);
    Some((last_unwanted, SkipReason::Missed))
}

/// The `n`-th occurrence (from 1) at or after `first`; there are at least `n` until `last`. By bisection: there may be
/// millions.
fn nth_occurrence(
    schedule: &ScheduleType,
    first: DateTime<Utc>,
    last: DateTime<Utc>,
    n: u64,
) -> DateTime<Utc> {
    let until = |at| schedule.occurrences_until(first, at);
    let (mut low, mut high) = (first, last);
    while low < high {
        let middle = low + (high - low) / 2;
        if until(middle).is_some_and(|found| found.count >= n) {
            high = middle;
        } else {
            low = middle + TimeDelta::microseconds(1);
        }
    }
    until(high).map_or(high, |found| found.latest)
}

fn skip(
    schedule: &ScheduleType,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    reason: SkipReason,
) -> Option<SkippedRange> {
    let Missed { count, latest } = schedule.occurrences_until(from, until)?;
    Some(SkippedRange { from, to: latest, count, reason })
}

fn just_before(at: DateTime<Utc>) -> DateTime<Utc> {
    at - TimeDelta::microseconds(1)
}

/// What becomes of an execution and its task after an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Settlement {
    /// The execution stays open. At this time any node may make the next attempt.
    Retry {
        /// The end of the wait.
        at: DateTime<Utc>,
    },
    /// The execution is over.
    Close {
        /// How it ended.
        outcome: Outcome,
        /// What that means for the breaker.
        breaker: BreakerEffect,
        /// Occurrences that the run, or the wait after it, left no room for.
        advance: Option<Advance>,
    },
}

/// What the end of an execution means for its task's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerEffect {
    /// Nothing.
    None,
    /// Failures are forgotten, at once or when the posts are settled; a probe closes the breaker.
    Success {
        /// Whether this was a probe.
        probe: bool,
    },
    /// One more failure. The store counts, and opens the breaker at `max_consecutive_failures`, so that no two nodes
    /// count the same.
    Failure,
}

/// A step over occurrences that are left out. Taken only if `next_run` is still `expected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// The `next_run` that was seen.
    pub expected: DateTime<Utc>,
    /// The nominal time after them.
    pub next_run: Option<DateTime<Utc>>,
    /// When to look at the task for it.
    pub wake_at: Option<DateTime<Utc>>,
    /// What is left out; `None` when only the look is put off.
    pub skipped: Option<SkippedRange>,
}

/// Decides what becomes of `attempt`'s execution and of `task`, whose `next_run` is known to be this.
pub fn settle(
    task: &Task,
    attempt: &Attempt,
    next_run: Option<DateTime<Utc>>,
    end: &AttemptEnd,
    started_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Settlement {
    let probe = attempt.trigger == Trigger::Probe;
    let close = |outcome, breaker, advance| Settlement::Close { outcome, breaker, advance };
    let overlapped = || next_run.and_then(|next| overlapped(task, next, started_at, now));
    match end {
        AttemptEnd::Interrupted => Settlement::Retry { at: now },
        AttemptEnd::Cancelled => close(Outcome::Cancelled, BreakerEffect::None, overlapped()),
        AttemptEnd::Succeeded => close(Outcome::Succeeded, BreakerEffect::Success { probe }, overlapped()),
        AttemptEnd::Skipped(reason) => {
            // The pipeline worked, so a probe that found nothing to do has shown what it was to show.
            let breaker = if probe { BreakerEffect::Success { probe } } else { BreakerEffect::None };
            close(Outcome::Skipped(*reason), breaker, overlapped())
        }
        AttemptEnd::Failed { error, recoverable } => {
            let failures = attempt.failures + 1;
            let failed_so_far = attempt.consecutive_failures + failures;
            let wait_until = now + task.policy.backoff.wait(&task.id, failed_so_far, now);
            let occurrence_is_nearer = next_run.is_some_and(|next| task.due_at(next) <= wait_until);
            let attempts_left = failures < task.policy.max_attempts.get();
            if *recoverable && attempts_left && !occurrence_is_nearer && !probe {
                return Settlement::Retry { at: wait_until };
            }
            let advance = next_run.and_then(|next| backed_off(task, next, wait_until));
            close(Outcome::Failed { error: error.clone() }, BreakerEffect::Failure, advance)
        }
    }
}

/// Occurrences that came due while the run went on.
fn overlapped(
    task: &Task,
    next_run: DateTime<Utc>,
    started_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
) -> Option<Advance> {
    // What was due before the run started is being caught up, in order: it is not an overlap.
    if next_run <= started_at {
        return None;
    }
    let until = match task.policy.overlap {
        Overlap::Allow => return None,
        Overlap::Skip => ended_at - task.policy.jitter,
        Overlap::QueueOne => all_but_latest(task, next_run, ended_at, SkipReason::Overlap)?.0,
    };
    let skipped = skip(&task.schedule, next_run, until, SkipReason::Overlap)?;
    Some(step_over(task, next_run, skipped))
}

/// Occurrences that fall into the wait after a failure.
fn backed_off(task: &Task, next_run: DateTime<Utc>, wait_until: DateTime<Utc>) -> Option<Advance> {
    if !recurs(&task.schedule) {
        return None;
    }
    let skipped = skip(&task.schedule, next_run, just_before(wait_until), SkipReason::Backoff)?;
    Some(step_over(task, next_run, skipped))
}

fn step_over(task: &Task, expected: DateTime<Utc>, skipped: SkippedRange) -> Advance {
    let next_run = task.schedule.following(skipped.to);
    Advance {
        expected,
        next_run,
        wake_at: next_run.map(|nominal| task.due_at(nominal)),
        skipped: Some(skipped),
    }
}

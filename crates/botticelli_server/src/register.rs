//! What a task's state becomes when its definition is registered, at an explicit start or reload.

use crate::schedule::{Schedule, ScheduleType};
use crate::task::{PauseReason, Task, TaskState};
use chrono::{DateTime, Utc};

/// The state of `task` after its registration at `now`; `None` when nothing changes. With `start`, a server starts.
///
/// A changed schedule begins anew from `now`: it never causes a catch-up. A pause by a person or by the breaker stays.
pub fn register(
    task: &Task,
    known: Option<&TaskState>,
    now: DateTime<Utc>,
    start: bool,
) -> Option<TaskState> {
    let Some(known) = known else { return Some(first_seen(task, now)) };
    let mut state = known.clone();
    state.actor_name = task.actor_name.clone();
    state.definition = task.definition.clone();
    state.schedule = task.schedule.clone();
    if known.schedule != task.schedule {
        state.next_run = rescheduled(task, known, now);
    } else if start && runs_at_every_start(&task.schedule) {
        state.next_run = Some(now);
    }
    if known.definition != task.definition || known.next_run != state.next_run {
        state.wake_at = state.next_run.map(|nominal| task.due_at(nominal));
    }
    match (task.enabled, state.is_paused, state.pause_reason) {
        (false, false, _) => {
            state.is_paused = true;
            state.pause_reason = Some(PauseReason::Definition);
        }
        // `pause_reason` stays until the task is looked at: what was missed meanwhile was missed on purpose.
        (true, true, Some(PauseReason::Definition)) => state.is_paused = false,
        (true | false, true, _) | (true, false, _) => {}
    }
    (state != *known).then_some(state)
}

/// The state of a task that nobody has seen before.
pub fn first_seen(task: &Task, now: DateTime<Utc>) -> TaskState {
    let next_run = task.schedule.first_occurrence(now);
    TaskState {
        task_id: task.id.clone(),
        actor_name: task.actor_name.clone(),
        definition: task.definition.clone(),
        schedule: task.schedule.clone(),
        last_run: None,
        next_run,
        wake_at: next_run.map(|nominal| task.due_at(nominal)),
        probe_at: None,
        consecutive_failures: 0,
        is_paused: !task.enabled,
        pause_reason: (!task.enabled).then_some(PauseReason::Definition),
        metadata: serde_json::Value::Object(serde_json::Map::new()),
        updated_at: now,
    }
}

fn rescheduled(task: &Task, known: &TaskState, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match known.last_run {
        None => task.schedule.first_occurrence(now),
        Some(last_run) => task.schedule.check(Some(last_run), now).next_run,
    }
}

fn runs_at_every_start(schedule: &ScheduleType) -> bool {
    match schedule {
        ScheduleType::Immediate(immediate) => immediate.every_start,
        ScheduleType::Cron { .. }
        | ScheduleType::Interval { .. }
        | ScheduleType::Once { .. }
        | ScheduleType::Event => false,
    }
}

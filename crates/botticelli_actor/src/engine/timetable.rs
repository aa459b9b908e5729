//! What this node looks at, and when: its tasks, what it knows of their state, and a timer over both.
//!
//! All of it is a cache. The store decides: a plan made from old knowledge is refused there, and the task is looked up.

use botticelli_server::ids::{ExecutionId, TaskId};
use botticelli_server::ledger::{Attempt, ClaimRequest, TakeRequest, TaskChange, Waiting};
use botticelli_server::plan::{Plan, plan};
use botticelli_server::task::{Overlap, Task, TaskState};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A task that was refused is looked at again after this long, doubled each time.
const REFUSED: Duration = Duration::from_millis(250);
/// So often waiting executions are looked at that were not to be had: for 16 seconds. Then the poll looks at them.
const LOOKS_IN_VAIN: u32 = 6;

#[derive(Default)]
pub(super) struct Timetable {
    tasks: HashMap<TaskId, Entry>,
    timer: BTreeSet<(DateTime<Utc>, Look)>,
    /// Until when the timer is complete. What is due later is not in it, and comes with the next agenda.
    complete_until: Option<DateTime<Utc>>,
}

struct Entry {
    task: Arc<Task>,
    /// Boxed: most tasks have nothing to do for a long time, and their state is not here.
    state: Option<Box<TaskState>>,
    in_timer: Option<DateTime<Utc>>,
    /// Attempts of this node that are not recorded.
    occupied: u32,
    /// Waiting executions that found the task occupied.
    blocked: BTreeSet<ExecutionId>,
    /// Executions that others of the task overtook. They choose again one after the other, or they would overtake each
    /// other again.
    overtaken: VecDeque<ExecutionId>,
    refusals: u32,
    /// How often in a row waiting executions of the task were not to be had.
    in_vain: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    Task(TaskId),
    Waiting(ExecutionId, TaskId),
}

impl Entry {
    /// When there is something to do about the task; `None`: not before something changes.
    fn when_to_look(&self, state: &TaskState, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if state.definition != self.task.definition {
            // It is registered as others have it: they run it.
            None
        } else if state.is_paused {
            state.probe_at
        } else if state.pause_reason.is_some() {
            // Somebody resumed it: the first look says from when on nothing is left out any more.
            state.next_run.map(|_| now)
        } else {
            state.wake_at
        }
    }
}

/// Work to ask the store for.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) claims: Vec<ClaimRequest>,
    pub(super) waiting: Vec<TakeRequest>,
}

impl Wanted {
    pub(super) fn len(&self) -> usize {
        self.claims.len() + self.waiting.len()
    }
}

impl Timetable {
    /// Takes up a definition.
    pub(super) fn hold(&mut self, task: Arc<Task>) {
        match self.tasks.get_mut(&task.id) {
            Some(entry) => {
                entry.state = None;
                entry.refusals = 0;
                entry.task = task;
            }
            None => {
                let entry = Entry {
                    task: task.clone(),
                    state: None,
                    in_timer: None,
                    occupied: 0,
                    blocked: BTreeSet::new(),
                    overtaken: VecDeque::new(),
                    refusals: 0,
                    in_vain: 0,
                };
                self.tasks.insert(task.id.clone(), entry);
            }
        }
    }

    /// Lets go of a task. Says whether it was held.
    pub(super) fn drop_task(&mut self, task: &TaskId) -> bool {
        let Some(entry) = self.tasks.remove(task) else { return false };
        if let Some(at) = entry.in_timer {
            self.timer.remove(&(at, Look::Task(task.clone())));
        }
        true
    }

    pub(super) fn held(&self) -> Vec<TaskId> {
        let mut held: Vec<TaskId> = self.tasks.keys().cloned().collect();
        held.sort();
        held
    }

    pub(super) fn task(&self, task: &TaskId) -> Option<Arc<Task>> {
        self.tasks.get(task).map(|entry| entry.task.clone())
    }

    /// The nominal time after what was claimed last, as far as this node knows, if it is one of the definition that it
    /// holds.
    pub(super) fn next_run(&self, task: &TaskId) -> Option<DateTime<Utc>> {
        let entry = self.tasks.get(task)?;
        entry.state.as_ref().filter(|state| state.definition == entry.task.definition)?.next_run
    }

    /// Until when the timer holds all there is.
    pub(super) fn complete_until(&mut self, until: DateTime<Utc>) {
        self.complete_until = Some(until);
    }

    /// What the store knows of a task of ours.
    pub(super) fn learn(&mut self, state: TaskState, now: DateTime<Utc>) {
        let id = state.task_id.clone();
        let Some(entry) = self.tasks.get_mut(&id) else { return };
        let look_at = entry.when_to_look(&state, now);
        entry.state = Some(Box::new(state));
        self.look_at(&id, look_at);
    }

    /// The same for a task that was refused. If it stands where it stood, it is left alone for a while, or it would be
    /// asked for again and again; if it has moved, somebody else was quicker.
    pub(super) fn learn_after_refusal(&mut self, state: TaskState, now: DateTime<Utc>, longest: Duration) {
        let id = state.task_id.clone();
        let Some(entry) = self.tasks.get_mut(&id) else { return };
        let look_at = entry.when_to_look(&state, now);
        let has_moved = entry.state.as_ref().is_none_or(|known| known.next_run != state.next_run);
        entry.state = Some(Box::new(state));
        let not_before = if has_moved {
            entry.refusals = 0;
            now
        } else {
            let wait = REFUSED.saturating_mul(1 << entry.refusals.min(16)).min(longest);
            entry.refusals += 1;
            now + wait
        };
        self.look_at(&id, look_at.map(|at| at.max(not_before)));
    }

    /// An execution that waits, if it is one of a task of ours.
    pub(super) fn add_waiting(&mut self, waiting: Waiting) {
        if let Some(entry) = self.tasks.get_mut(&waiting.task_id) {
            entry.in_vain = 0;
            self.timer.insert((waiting.ready_at, Look::Waiting(waiting.execution_id, waiting.task_id)));
        }
    }

    fn look_at(&mut self, task: &TaskId, at: Option<DateTime<Utc>>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        if let Some(before) = entry.in_timer.take() {
            self.timer.remove(&(before, Look::Task(task.clone())));
        }
        let at = at.filter(|at| self.complete_until.is_none_or(|until| *at <= until));
        if let Some(at) = at {
            entry.in_timer = Some(at);
            self.timer.insert((at, Look::Task(task.clone())));
        }
    }

    /// When there is something to look at.
    pub(super) fn next_look(&self) -> Option<DateTime<Utc>> {
        self.timer.first().map(|(at, _)| *at)
    }

    /// What is due within `ahead`, as much as `most`. It leaves the timer.
    pub(super) fn due(&mut self, now: DateTime<Utc>, ahead: Duration, most: usize) -> Wanted {
        let horizon = now + ahead;
        let mut wanted = Wanted::default();
        while wanted.len() < most
            && let Some((at, _)) = self.timer.first()
            && *at <= horizon
            && let Some((_, look)) = self.timer.pop_first()
        {
            match look {
                Look::Task(id) => self.plan_task(&id, now, ahead, &mut wanted),
                Look::Waiting(execution, id) => self.want_waiting(execution, &id, &mut wanted),
            }
        }
        wanted
    }

    fn plan_task(&mut self, id: &TaskId, now: DateTime<Utc>, ahead: Duration, wanted: &mut Wanted) {
        let Some(entry) = self.tasks.get_mut(id) else { return };
        entry.in_timer = None;
        let overlap_allowed = entry.task.policy.overlap == Overlap::Allow;
        // An occupied task is looked at when its attempt is recorded.
        if entry.occupied > 0 && !overlap_allowed {
            return;
        }
        let Some(state) = &entry.state else { return };
        match plan(&entry.task, state, now, ahead) {
            Plan::Nothing => {}
            Plan::Wait { until } => self.look_at(id, Some(until)),
            Plan::Claim(plan) => wanted.claims.push(ClaimRequest {
                task_id: id.clone(),
                actor_name: entry.task.actor_name.clone(),
                definition: entry.task.definition.clone(),
                plan,
                overlap_allowed,
            }),
        }
    }

    fn want_waiting(&mut self, execution: ExecutionId, id: &TaskId, wanted: &mut Wanted) {
        let Some(entry) = self.tasks.get_mut(id) else { return };
        let overlap_allowed = entry.task.policy.overlap == Overlap::Allow;
        if entry.occupied > 0 && !overlap_allowed {
            entry.blocked.insert(execution);
            return;
        }
        wanted.waiting.push(TakeRequest {
            execution_id: execution,
            task_id: id.clone(),
            definition: entry.task.definition.clone(),
            overlap_allowed,
        });
    }

    /// This node has won `attempt`. `claim` is the request that it came of, if it was not waiting.
    pub(super) fn won(&mut self, attempt: &Attempt, claim: Option<&ClaimRequest>) {
        let Some(entry) = self.tasks.get_mut(&attempt.task_id) else { return };
        entry.occupied += 1;
        entry.refusals = 0;
        entry.in_vain = 0;
        if let Some(claim) = claim {
            self.stepped(claim);
        }
    }

    /// A waiting execution was not to be had. If this node runs its task, it is looked at again after that. If not, another
    /// node has it, or runs its task, or has held the task for a moment: it is looked at some more times.
    pub(super) fn not_taken(&mut self, execution: ExecutionId, task: &TaskId, now: DateTime<Utc>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        if entry.occupied > 0 {
            entry.blocked.insert(execution);
        } else if entry.in_vain < LOOKS_IN_VAIN {
            let wait = REFUSED.saturating_mul(1 << entry.in_vain);
            self.timer.insert((now + wait, Look::Waiting(execution, task.clone())));
        }
    }

    /// Some of the task's waiting executions were not to be had.
    pub(super) fn in_vain(&mut self, task: &TaskId) {
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.in_vain = (entry.in_vain + 1).min(LOOKS_IN_VAIN);
        }
    }

    fn stepped(&mut self, claim: &ClaimRequest) {
        let Some(entry) = self.tasks.get_mut(&claim.task_id) else { return };
        if let Some(state) = &mut entry.state {
            state.next_run = claim.plan.next_run;
            state.wake_at = claim.plan.wake_at;
            state.probe_at = None;
            if claim.plan.resumed {
                state.pause_reason = None;
                state.consecutive_failures = 0;
            }
        }
        let wake_at = claim.plan.wake_at;
        self.look_at(&claim.task_id, wake_at);
    }

    /// An attempt of this node is no more: given back, withdrawn, or lost.
    pub(super) fn vacate(&mut self, task: &TaskId, now: DateTime<Utc>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        entry.occupied = entry.occupied.saturating_sub(1);
        for execution in std::mem::take(&mut entry.blocked) {
            self.timer.insert((now, Look::Waiting(execution, task.clone())));
        }
        if entry.occupied == 0
            && let Some(execution) = entry.overtaken.pop_front()
        {
            self.timer.insert((now, Look::Waiting(execution, task.clone())));
        }
    }

    /// An attempt of this node was overtaken by another one of its task. It is made again when nothing of the task runs
    /// here.
    pub(super) fn overtaken(&mut self, execution: ExecutionId, task: &TaskId, now: DateTime<Utc>) {
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.overtaken.push_back(execution);
        }
        self.vacate(task, now);
    }

    /// An attempt of this node is recorded, and the store said what became of the task.
    pub(super) fn recorded(&mut self, task: &TaskId, change: &TaskChange, now: DateTime<Utc>) {
        self.vacate(task, now);
        let Some(state) = self.tasks.get_mut(task).and_then(|entry| entry.state.as_mut()) else { return };
        state.next_run = change.next_run;
        state.wake_at = change.wake_at;
        state.consecutive_failures = change.consecutive_failures;
        self.look_at(task, change.wake_at);
    }

    /// An execution waits for its next attempt.
    pub(super) fn retry(&mut self, execution: ExecutionId, task: &TaskId, at: DateTime<Utc>) {
        self.add_waiting(Waiting { execution_id: execution, task_id: task.clone(), ready_at: at });
    }

    /// How many tasks are held.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }
}

/// Asked again before the timer runs dry.
pub(super) fn refill_before(complete_until: DateTime<Utc>) -> DateTime<Utc> {
    complete_until - TimeDelta::milliseconds(2_000)
}

//! A scheduler in memory: the decisions of [`crate::plan`], carried out without a store.

use crate::clock::Clock;
use crate::ids::{ActorName, ExecutionId, Fence, TaskId};
use crate::ledger::{Attempt, LedgerError, SkippedRange};
use crate::outbox::{NewPost, UsedItem};
use crate::outcome::{AttemptEnd, Outcome};
use crate::plan::{Advance, BreakerEffect, ClaimPlan, OccurrenceToRun, Plan, Settlement, plan, settle};
use crate::register::{first_seen, register};
use crate::server::{ActorManager, Run, TaskScheduler};
use crate::task::{Overlap, Task, TaskState};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::future::{Either, FutureExt, select};
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Runs tasks at their times, with the same decisions as the production engine: catch-up, overlap, retries, backoff,
/// breaker. What it knows is in memory, and lost with it. Actors run on the task that awaits
/// [`run`](TaskScheduler::run), beside each other but not in parallel.
///
/// It delivers nothing: what runs want posted is in its [`history`](SimpleTaskScheduler::history).
pub struct SimpleTaskScheduler {
    actors: Arc<dyn ActorManager<ActorName, Attempt>>,
    clock: Arc<dyn Clock>,
    book: Mutex<Book>,
    changed: Signal,
}

/// An execution that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct SimpleExecution {
    /// The last attempt.
    pub attempt: Attempt,
    /// When the last attempt started, or was cancelled before it did.
    pub started_at: DateTime<Utc>,
    /// When it was over.
    pub ended_at: DateTime<Utc>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it wants posted. Nobody has done so.
    pub posts: Vec<NewPost>,
    /// The items that these posts use up.
    pub used_items: Vec<UsedItem>,
}

#[derive(Default)]
struct Book {
    entries: BTreeMap<TaskId, Entry>,
    history: Vec<SimpleExecution>,
    skipped: Vec<(TaskId, SkippedRange)>,
    last_execution: i64,
    last_fence: i64,
}

struct Entry {
    task: Task,
    state: TaskState,
    running: usize,
    /// Attempts of open executions that wait for the end of a backoff.
    waiting: Vec<Attempt>,
    /// Cancelled while it ran: it is forgotten when that is over.
    cancelled: bool,
}

struct Ended {
    task: Task,
    attempt: Attempt,
    started_at: DateTime<Utc>,
    run: Run,
}

impl SimpleTaskScheduler {
    /// A scheduler of nothing yet. An actor's context is the attempt that it makes.
    pub fn new(actors: Arc<dyn ActorManager<ActorName, Attempt>>, clock: Arc<dyn Clock>) -> Self {
        Self { actors, clock, book: Mutex::default(), changed: Signal::default() }
    }

    /// The executions that are over, oldest first.
    pub fn history(&self) -> Vec<SimpleExecution> {
        self.book().history.clone()
    }

    /// The occurrences that were left out, oldest first.
    pub fn skipped(&self) -> Vec<(TaskId, SkippedRange)> {
        self.book().skipped.clone()
    }

    /// Where a task stands.
    pub fn state(&self, task: &TaskId) -> Option<TaskState> {
        self.book().entries.get(task).map(|entry| entry.state.clone())
    }

    /// Ends a pause, be it by the breaker; failures are forgotten. Says whether the task is known.
    pub fn resume(&self, task: &TaskId) -> bool {
        let known = self.book().entries.get_mut(task).map(Entry::resume).is_some();
        self.changed.send();
        known
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt(&self, task: Task, attempt: Attempt) -> Ended {
        let started_at = self.clock.now();
        let run = self.run_in_time(&task, attempt.clone(), started_at + task.policy.timeout).await;
        Ended { task, attempt, started_at, run }
    }

    async fn run_in_time(&self, task: &Task, attempt: Attempt, deadline: DateTime<Utc>) -> Run {
        let running = pin!(self.actors.run(&task.actor_name, attempt));
        let too_long = pin!(self.clock.sleep_until(deadline));
        match select(running, too_long).await {
            Either::Left((Ok(run), _)) => run,
            Either::Left((Err(unknown), _)) => failed(unknown.to_string(), false),
            Either::Right(_) => failed(format!("took longer than {:?}", task.policy.timeout), true),
        }
    }

    async fn sleep_until(&self, at: Option<DateTime<Utc>>) {
        match at {
            Some(at) => self.clock.sleep_until(at).await,
            None => futures::future::pending().await,
        }
    }
}

fn failed(error: String, recoverable: bool) -> Run {
    Run::ended(AttemptEnd::Failed { error, recoverable })
}

#[async_trait]
impl TaskScheduler for SimpleTaskScheduler {
    async fn schedule(&self, task: Task) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let mut book = self.book();
        match book.entries.get_mut(&task.id) {
            Some(entry) => entry.redefine(task, now),
            None => {
                book.entries.insert(task.id.clone(), Entry::new(task, now));
            }
        }
        drop(book);
        self.changed.send();
        Ok(())
    }

    async fn cancel(&self, task: &TaskId) -> Result<bool, LedgerError> {
        let mut book = self.book();
        let Some(entry) = book.entries.get_mut(task).filter(|entry| !entry.cancelled) else {
            return Ok(false);
        };
        entry.cancelled = true;
        let given_up = std::mem::take(&mut entry.waiting);
        let now = self.clock.now();
        book.history.extend(
            given_up.into_iter().map(|attempt| {
                closed(attempt, now, now, Outcome::Cancelled, Run::ended(AttemptEnd::Cancelled))
            }),
        );
        book.forget_cancelled(task);
        drop(book);
        self.changed.send();
        Ok(true)
    }

    async fn scheduled(&self) -> Result<Vec<TaskId>, LedgerError> {
        let book = self.book();
        Ok(book.entries.iter().filter(|(_, entry)| !entry.cancelled).map(|(id, _)| id.clone()).collect())
    }

    async fn run(&self, stop: CancellationToken) {
        let mut running = FuturesUnordered::new();
        while !stop.is_cancelled() {
            // Watched before the book is read, so that no change falls between.
            let changed = self.changed.watch();
            let Due { attempts, look_at } = self.book().claim_due(self.clock.now());
            running.extend(attempts.into_iter().map(|(task, attempt)| self.attempt(task, attempt)));
            let mut timer = pin!(self.sleep_until(look_at).fuse());
            futures::select_biased! {
                () = stop.cancelled().fuse() => {}
                ended = running.select_next_some() => self.book().record(ended, self.clock.now()),
                () = changed.cancelled().fuse() => {}
                () = timer => {}
            }
        }
        while let Some(ended) = running.next().await {
            self.book().record(ended, self.clock.now());
        }
    }
}

/// What is to be done now, and when to look again.
#[derive(Default)]
struct Due {
    attempts: Vec<(Task, Attempt)>,
    look_at: Option<DateTime<Utc>>,
}

impl Book {
    fn claim_due(&mut self, now: DateTime<Utc>) -> Due {
        let mut due = Due::default();
        let ids: Vec<TaskId> = self.entries.keys().cloned().collect();
        for id in ids {
            while let Some(step) = self.entries.get(&id).and_then(|entry| entry.next_step(now)) {
                match step {
                    Step::LookAt(at) => {
                        due.look_at = Some(due.look_at.map_or(at, |earlier| earlier.min(at)));
                        break;
                    }
                    Step::Retry(index) => due.attempts.extend(self.retry(&id, index)),
                    Step::Claim(claim) => due.attempts.extend(self.claim(&id, claim)),
                }
            }
        }
        due
    }

    fn retry(&mut self, id: &TaskId, index: usize) -> Option<(Task, Attempt)> {
        let entry = self.entries.get_mut(id)?;
        entry.running += 1;
        Some((entry.task.clone(), entry.waiting.remove(index)))
    }

    fn claim(&mut self, id: &TaskId, claim: ClaimPlan) -> Option<(Task, Attempt)> {
        let entry = self.entries.get_mut(id)?;
        self.skipped.extend(claim.skipped.map(|range| (id.clone(), range)));
        entry.advance(&claim);
        let OccurrenceToRun { scheduled_for, due_at, trigger } = claim.run?;
        self.last_execution += 1;
        self.last_fence += 1;
        entry.running += 1;
        let attempt = Attempt {
            execution_id: ExecutionId(self.last_execution),
            task_id: id.clone(),
            trigger,
            scheduled_for: Some(scheduled_for),
            due_at,
            opened_at: due_at,
            attempt: 1,
            fence: Fence(self.last_fence),
            consecutive_failures: entry.state.consecutive_failures,
            failures: 0,
            interruptions: 0,
            parameters: serde_json::Value::Null,
        };
        Some((entry.task.clone(), attempt))
    }

    fn record(&mut self, ended: Ended, now: DateTime<Utc>) {
        let Ended { task, attempt, started_at, run } = ended;
        // An entry stays while it runs.
        let Some(entry) = self.entries.get_mut(&task.id) else { return };
        entry.running -= 1;
        entry.state.last_run = Some(started_at);
        match settle(&task, &attempt, entry.state.next_run, &run.end, started_at, now) {
            Settlement::Retry { at } if !entry.cancelled => {
                self.last_fence += 1;
                let fence = Fence(self.last_fence);
                let failures = attempt.failures + u32::from(matches!(run.end, AttemptEnd::Failed { .. }));
                let next = Attempt { attempt: attempt.attempt + 1, failures, due_at: at, fence, ..attempt };
                entry.waiting.push(next);
            }
            Settlement::Retry { .. } => {
                let outcome = Outcome::Cancelled;
                self.history.push(closed(attempt, started_at, now, outcome, run));
            }
            Settlement::Close { outcome, breaker, advance } => {
                entry.apply(breaker, now);
                let skipped = advance.and_then(|advance| entry.step_over(&advance));
                self.skipped.extend(skipped.map(|range| (task.id.clone(), range)));
                self.history.push(closed(attempt, started_at, now, outcome, run));
            }
        }
        self.forget_cancelled(&task.id);
    }

    fn forget_cancelled(&mut self, id: &TaskId) {
        if self.entries.get(id).is_some_and(|entry| entry.cancelled && entry.running == 0) {
            self.entries.remove(id);
        }
    }
}

fn closed(
    attempt: Attempt,
    started_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
    outcome: Outcome,
    run: Run,
) -> SimpleExecution {
    SimpleExecution { attempt, started_at, ended_at, outcome, posts: run.posts, used_items: run.used_items }
}

enum Step {
    LookAt(DateTime<Utc>),
    /// The waiting attempt at this index is due.
    Retry(usize),
    Claim(ClaimPlan),
}

impl Entry {
    fn new(task: Task, now: DateTime<Utc>) -> Self {
        let state = first_seen(&task, now);
        Self { task, state, running: 0, waiting: Vec::new(), cancelled: false }
    }

    fn redefine(&mut self, task: Task, now: DateTime<Utc>) {
        self.cancelled = false;
        if let Some(state) = register(&task, Some(&self.state), now, false) {
            self.state = TaskState { updated_at: now, ..state };
        }
        self.task = task;
    }

    /// The plan sees a pause that is over by its reason, which it leaves for that.
    fn resume(&mut self) {
        self.state.is_paused = false;
        self.state.probe_at = None;
        self.state.consecutive_failures = 0;
    }

    fn next_step(&self, now: DateTime<Utc>) -> Option<Step> {
        if self.cancelled {
            return None;
        }
        if let Some(index) = self.waiting.iter().position(|attempt| attempt.due_at <= now) {
            return Some(Step::Retry(index));
        }
        let next_retry = self.waiting.iter().map(|attempt| attempt.due_at).min();
        let is_busy = self.running > 0 || next_retry.is_some();
        if is_busy && self.task.policy.overlap != Overlap::Allow {
            return next_retry.map(Step::LookAt);
        }
        match plan(&self.task, &self.state, now, Duration::ZERO) {
            Plan::Nothing => next_retry.map(Step::LookAt),
            Plan::Wait { until } => Some(Step::LookAt(next_retry.map_or(until, |retry| retry.min(until)))),
            Plan::Claim(claim) => Some(Step::Claim(claim)),
        }
    }

    fn advance(&mut self, claim: &ClaimPlan) {
        self.state.next_run = claim.next_run;
        self.state.wake_at = claim.wake_at;
        // The probe that this may be is the only one.
        self.state.probe_at = None;
        if claim.resumed {
            self.state.pause_reason = None;
            self.state.consecutive_failures = 0;
        }
    }

    fn step_over(&mut self, advance: &Advance) -> Option<SkippedRange> {
        if self.state.next_run != Some(advance.expected) {
            return None;
        }
        self.state.next_run = advance.next_run;
        self.state.wake_at = advance.wake_at;
        advance.skipped
    }

    fn apply(&mut self, effect: BreakerEffect, now: DateTime<Utc>) {
        let after = self.state.breaker_state().after(effect, false, self.task.policy.breaker(), now);
        self.state.set_breaker_state(after);
    }
}

/// Tells whoever watches that something changed since.
#[derive(Default)]
struct Signal(Mutex<CancellationToken>);

impl Signal {
    fn watch(&self) -> CancellationToken {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn send(&self) {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).cancel();
    }
}

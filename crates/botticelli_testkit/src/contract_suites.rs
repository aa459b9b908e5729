//! What every implementation of a contract must do, the small ones and those of the production server alike. Each
//! suite is a macro that makes a test of each rule (it needs `tokio` with its macros), over a trait by which a rule
//! gets at the implementation.
//!
//! `suite!(name, place())` runs the rules each on a place of its own; `suite!(name, if_any place().await)` those on a
//! place that there may not be (`None`), such as a PostgreSQL server.

use crate::clock::ManualClock;
use async_trait::async_trait;
use botticelli_server::clock::Clock;
use botticelli_server::ids::{ActorName, DefinitionHash, TaskId};
use botticelli_server::ledger::LedgerError;
use botticelli_server::outcome::{AttemptEnd, Outcome};
use botticelli_server::schedule::ScheduleType;
use botticelli_server::server::{Actor, ActorManager, ActorServer, Run, StatePersistence, TaskScheduler};
use botticelli_server::task::{Task, TaskPolicy};
use chrono::{DateTime, Utc};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[doc(hidden)]
#[macro_export]
macro_rules! suite {
    // On a runtime of several threads, and left out without a place.
    ($name:ident, [if_any $make:expr], $($rule:ident,)+) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    if let Some(place) = $make {
                        $crate::contract_suites::$rule(&place).await;
                    }
                }
            )+
        }
    };
    ($name:ident, [$make:expr], $($rule:ident,)+) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test]
                async fn $rule() {
                    $crate::contract_suites::$rule(&$make).await;
                }
            )+
        }
    };
}

// ---------------------------------------------------------------------------------------------- an actor for tests

/// What a [`ProbeActor`] does in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Ends well.
    Succeed,
    /// Fails; another attempt may end differently.
    Fail,
    /// Panics.
    Panic,
    /// Ends well, when it is let go.
    WaitForRelease,
}

/// An actor in any context that notes its runs and behaves as it is told, and well after that.
#[derive(Debug)]
pub struct ProbeActor {
    behaviours: Mutex<VecDeque<Behaviour>>,
    started: watch::Sender<usize>,
    release: Notify,
}

impl ProbeActor {
    /// An actor that behaves like this in its first runs.
    pub fn new(behaviours: &[Behaviour]) -> Arc<Self> {
        let behaviours = Mutex::new(behaviours.iter().copied().collect());
        Arc::new(Self { behaviours, started: watch::Sender::new(0), release: Notify::new() })
    }

    /// How many runs have started.
    pub fn started(&self) -> usize {
        *self.started.borrow()
    }

    /// Returns when so many runs have started.
    pub async fn has_started(&self, runs: usize) {
        let mut started = self.started.subscribe();
        started.wait_for(|started| *started >= runs).await.expect("the sender lives in self");
    }

    /// Lets one run go that waits, or will.
    pub fn release(&self) {
        self.release.notify_one();
    }
}

#[async_trait]
impl<Context: Send + 'static> Actor<Context> for ProbeActor {
    async fn run(&self, _: Context) -> Run {
        self.started.send_modify(|started| *started += 1);
        let next = self.behaviours.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match next.unwrap_or(Behaviour::Succeed) {
            Behaviour::Succeed => {}
            Behaviour::Fail => {
                let error = "it failed as it was told".into();
                return Run::ended(AttemptEnd::Failed { error, recoverable: true });
            }
            Behaviour::Panic => panic!("it panicked as it was told"),
            Behaviour::WaitForRelease => self.release.notified().await,
        }
        Run::ended(AttemptEnd::Succeeded)
    }
}

// ---------------------------------------------------------------------------------------------------- TaskScheduler

/// A scheduler of nothing yet, on a manual clock.
#[async_trait]
pub trait SchedulerUnderTest: Send + Sync {
    /// The scheduler.
    fn scheduler(&self) -> Arc<dyn TaskScheduler>;

    /// Its clock.
    fn clock(&self) -> Arc<ManualClock>;

    /// Enters `actor` where the scheduler looks for it.
    fn register(&self, name: ActorName, actor: Arc<ProbeActor>);

    /// Moves the clock on, and returns when all that came due then has started, or is known not to.
    async fn advance(&self, by: Duration);

    /// How the task's executions ended that ran, oldest first; returns when there are at least so many.
    async fn outcomes(&self, task: &TaskId, at_least: usize) -> Vec<Outcome>;
}

/// `scheduler_suite!(simple, SimpleUnderTest::new());`
#[macro_export]
macro_rules! scheduler_suite {
    ($name:ident, $($make:tt)+) => {
        $crate::suite!(
            $name,
            [$($make)+],
            due_work_runs_at_its_time,
            work_goes_on_from_one_occurrence_to_the_next,
            a_task_that_is_cancelled_does_not_run_any_more,
            a_task_that_is_scheduled_again_keeps_what_it_has_done,
            a_panic_is_a_failed_run_and_nobody_elses_business,
            a_failed_attempt_is_made_again_after_a_wait,
            a_run_past_its_timeout_is_cut_off_and_failed,
            a_slow_task_delays_nobody_else_and_does_not_overlap_itself,
            a_stop_lets_running_work_end_and_starts_nothing_more,
        );
    };
}

/// A scheduler that is running.
struct Running<'a> {
    place: &'a dyn SchedulerUnderTest,
    scheduler: Arc<dyn TaskScheduler>,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl<'a> Running<'a> {
    fn start(place: &'a dyn SchedulerUnderTest) -> Self {
        let (scheduler, stop) = (place.scheduler(), CancellationToken::new());
        let ended = tokio::spawn({
            let (scheduler, stop) = (scheduler.clone(), stop.clone());
            async move { scheduler.run(stop).await }
        });
        Self { place, scheduler, stop, ended }
    }

    /// Registers an actor that behaves like this, and schedules a task of the same name for it.
    async fn add(&self, task: &Task, behaviours: &[Behaviour]) -> Arc<ProbeActor> {
        let actor = ProbeActor::new(behaviours);
        self.place.register(task.actor_name.clone(), actor.clone());
        self.schedule(task).await;
        actor
    }

    async fn schedule(&self, task: &Task) {
        self.scheduler.schedule(task.clone()).await.expect("scheduled");
        self.place.advance(Duration::ZERO).await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ended.await.expect("the scheduler ends well");
    }
}

fn task(name: &str, schedule: ScheduleType) -> Task {
    Task {
        id: TaskId::new(name).expect("a name"),
        actor_name: ActorName::new(format!("actor of {name}")).expect("a name"),
        schedule,
        policy: TaskPolicy { max_attempts: NonZeroU32::MIN, ..TaskPolicy::default() },
        destinations: Vec::new(),
        enabled: true,
        after: Vec::new(),
        definition: DefinitionHash::new(format!("definition of {name}")).expect("a name"),
    }
}

fn every(period: Duration) -> ScheduleType {
    schedule(serde_json::json!({ "type": "Interval", "seconds": period.as_secs() }))
}

fn once(at: DateTime<Utc>) -> ScheduleType {
    schedule(serde_json::json!({ "type": "Once", "at": at }))
}

fn schedule(json: serde_json::Value) -> ScheduleType {
    serde_json::from_value(json).expect("a schedule as it stands in the configuration")
}

/// Not before, and not at the next poll.
pub async fn due_work_runs_at_its_time(place: &dyn SchedulerUnderTest) {
    let running = Running::start(place);
    let task = task("once", once(place.clock().now() + MINUTE));
    let actor = running.add(&task, &[]).await;
    place.advance(MINUTE - Duration::from_millis(1)).await;
    assert_eq!(actor.started(), 0);
    place.advance(Duration::from_millis(1)).await;
    assert_eq!(actor.started(), 1);
    assert_eq!(place.outcomes(&task.id, 1).await, [Outcome::Succeeded]);
    place.advance(60 * MINUTE).await;
    assert_eq!(actor.started(), 1, "once");
    running.stop().await;
}

/// An interval starts at once and keeps its step.
pub async fn work_goes_on_from_one_occurrence_to_the_next(place: &dyn SchedulerUnderTest) {
    let running = Running::start(place);
    let task = task("every minute", every(MINUTE));
    let actor = running.add(&task, &[]).await;
    for runs in 1..=3 {
        assert_eq!(actor.started(), runs);
        assert_eq!(place.outcomes(&task.id, runs).await.len(), runs);
        place.advance(MINUTE - SECOND).await;
        assert_eq!(actor.started(), runs);
        place.advance(SECOND).await;
    }
    running.stop().await;
}

/// Cancelling says whether there was something to cancel.
pub async fn a_task_that_is_cancelled_does_not_run_any_more(place: &dyn SchedulerUnderTest) {
    let running = Running::start(place);
    let (task, other) = (task("every minute", every(MINUTE)), task("other", every(MINUTE)));
    let actor = running.add(&task, &[]).await;
    let other_actor = running.add(&other, &[]).await;
    place.outcomes(&task.id, 1).await;
    let scheduler = &running.scheduler;
    assert_eq!(scheduler.scheduled().await.expect("asked"), [task.id.clone(), other.id.clone()]);
    assert!(scheduler.cancel(&task.id).await.expect("asked"));
    assert!(!scheduler.cancel(&task.id).await.expect("asked"), "it is gone");
    assert_eq!(scheduler.scheduled().await.expect("asked"), [other.id]);
    place.advance(MINUTE).await;
    assert_eq!((actor.started(), other_actor.started()), (1, 2));
    running.stop().await;
}

/// The same definition again is no reason to run.
pub async fn a_task_that_is_scheduled_again_keeps_what_it_has_done(place: &dyn SchedulerUnderTest) {
    let running = Running::start(place);
    let task = task("every minute", every(MINUTE));
    let actor = running.add(&task, &[]).await;
    place.outcomes(&task.id, 1).await;
    running.schedule(&task).await;
    assert_eq!(actor.started(), 1);
    place.advance(MINUTE).await;
    assert_eq!(actor.started(), 2);
    running.stop().await;
}

/// The task goes on, and so do others.
pub async fn a_panic_is_a_failed_run_and_nobody_elses_business(place: &dyn SchedulerUnderTest) {
    let running = Running::start(place);
    let (panicking, other) = (task("panicking", every(60 * MINUTE)), task("other", every(60 * MINUTE)));
    let panicking_actor = running.add(&panicking, &[Behaviour::Panic]).await;
    let other_actor = running.add(&other, &[]).await;
    let outcomes = place.outcomes(&panicking.id, 1).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Failed { error }] if error.contains("it panicked as it was told")),
        "{outcomes:?}"
    );
    place.outcomes(&other.id, 1).await;
    place.advance(60 * MINUTE).await;
    assert_eq!((panicking_actor.started(), other_actor.started()), (2, 2));
    assert_eq!(place.outcomes(&panicking.id, 2).await[1], Outcome::Succeeded);
    running.stop().await;
}

/// Of the same execution.
pub async fn a_failed_attempt_is_made_again_after_a_wait(place: &dyn SchedulerUnderTest) {
    let running = Running::start(place);
    let mut task = task("once", once(place.clock().now()));
    task.policy.max_attempts = NonZeroU32::new(3).expect("not zero");
    let actor = running.add(&task, &[Behaviour::Fail, Behaviour::Fail]).await;
    actor.has_started(1).await;
    place.advance(task.policy.backoff.initial / 2).await;
    assert_eq!(actor.started(), 1, "it waits");
    place.advance(task.policy.backoff.initial).await;
    actor.has_started(2).await;
    place.advance(2 * task.policy.backoff.initial).await;
    actor.has_started(3).await;
    assert_eq!(place.outcomes(&task.id, 1).await, [Outcome::Succeeded]);
    running.stop().await;
}

/// An actor that hangs doesn't hang for ever.
pub async fn a_run_past_its_timeout_is_cut_off_and_failed(place: &dyn SchedulerUnderTest) {
    let running = Running::start(place);
    let mut task = task("hanging", once(place.clock().now()));
    task.policy.timeout = MINUTE;
    let actor = running.add(&task, &[Behaviour::WaitForRelease]).await;
    actor.has_started(1).await;
    place.advance(MINUTE).await;
    let outcomes = place.outcomes(&task.id, 1).await;
    assert!(matches!(&outcomes[..], [Outcome::Failed { .. }]), "{outcomes:?}");
    running.stop().await;
}

/// What came due while it ran is left out.
pub async fn a_slow_task_delays_nobody_else_and_does_not_overlap_itself(place: &dyn SchedulerUnderTest) {
    let running = Running::start(place);
    let (mut slow, other) = (task("slow", every(MINUTE)), task("other", every(MINUTE)));
    slow.policy.timeout = 60 * MINUTE;
    let slow_actor = running.add(&slow, &[Behaviour::WaitForRelease]).await;
    let other_actor = running.add(&other, &[]).await;
    for runs in 1..=3 {
        place.outcomes(&other.id, runs).await;
        place.advance(MINUTE).await;
    }
    assert_eq!((slow_actor.started(), other_actor.started()), (1, 4));
    slow_actor.release();
    assert_eq!(place.outcomes(&slow.id, 1).await, [Outcome::Succeeded]);
    place.advance(MINUTE).await;
    slow_actor.has_started(2).await;
    running.stop().await;
}

/// Stopping takes as long as what runs.
pub async fn a_stop_lets_running_work_end_and_starts_nothing_more(place: &dyn SchedulerUnderTest) {
    let running = Running::start(place);
    let (slow, other) = (task("slow", every(MINUTE)), task("other", every(MINUTE)));
    let slow_actor = running.add(&slow, &[Behaviour::WaitForRelease]).await;
    let other_actor = running.add(&other, &[]).await;
    slow_actor.has_started(1).await;
    place.outcomes(&other.id, 1).await;
    running.stop.cancel();
    place.advance(2 * MINUTE).await;
    assert!(!running.ended.is_finished(), "it waits for what runs");
    assert_eq!(other_actor.started(), 1);
    slow_actor.release();
    running.stop().await;
    assert_eq!(place.outcomes(&slow.id, 1).await, [Outcome::Succeeded]);
    assert_eq!((slow_actor.started(), other_actor.started()), (1, 1));
}

// ----------------------------------------------------------------------------------------------------- ActorManager

/// A manager that knows nobody.
pub trait ManagerUnderTest: Send + Sync {
    /// What its actors run in.
    type Context: Send + 'static;

    /// The manager.
    fn manager(&self) -> Arc<dyn ActorManager<ActorName, Self::Context>>;

    /// Something to run an actor in.
    fn context(&self) -> Self::Context;
}

/// `manager_suite!(generic, GenericUnderTest::default());`
#[macro_export]
macro_rules! manager_suite {
    ($name:ident, $($make:tt)+) => {
        $crate::suite!(
            $name,
            [$($make)+],
            who_is_registered_can_be_run,
            a_name_belongs_to_the_last_one_registered,
            a_panicking_actor_has_failed_and_can_be_run_again,
        );
    };
}

fn named(name: &str) -> ActorName {
    ActorName::new(name).expect("a name")
}

/// And nobody else can.
pub async fn who_is_registered_can_be_run<M: ManagerUnderTest>(place: &M) {
    let manager = place.manager();
    let (writer, editor) = (ProbeActor::new(&[]), ProbeActor::new(&[]));
    assert!(manager.register(named("writer"), writer.clone()).is_none());
    assert!(manager.register(named("editor"), editor.clone()).is_none());
    assert_eq!(manager.ids(), [named("editor"), named("writer")]);
    let run = manager.run(&named("writer"), place.context()).await.expect("it is known");
    assert_eq!(run.end, AttemptEnd::Succeeded);
    assert_eq!((writer.started(), editor.started()), (1, 0));
    let unknown = manager.run(&named("nobody"), place.context()).await.expect_err("nobody");
    assert!(unknown.to_string().contains("nobody"), "{unknown}");
    assert!(manager.deregister(&named("writer")));
    assert!(!manager.deregister(&named("writer")));
    assert!(manager.run(&named("writer"), place.context()).await.is_err());
    assert_eq!(manager.ids(), [named("editor")]);
}

/// The one before is handed out.
pub async fn a_name_belongs_to_the_last_one_registered<M: ManagerUnderTest>(place: &M) {
    let manager = place.manager();
    let (first, second) = (ProbeActor::new(&[]), ProbeActor::new(&[]));
    manager.register(named("writer"), first.clone());
    let replaced = manager.register(named("writer"), second.clone()).expect("there was one");
    replaced.run(place.context()).await;
    assert_eq!((first.started(), second.started()), (1, 0));
    manager.run(&named("writer"), place.context()).await.expect("it is known");
    assert_eq!((first.started(), second.started()), (1, 1));
}

/// A panic ends the attempt only.
pub async fn a_panicking_actor_has_failed_and_can_be_run_again<M: ManagerUnderTest>(place: &M) {
    let manager = place.manager();
    manager.register(named("writer"), ProbeActor::new(&[Behaviour::Panic]));
    let run = manager.run(&named("writer"), place.context()).await.expect("it is known");
    assert!(
        matches!(&run.end, AttemptEnd::Failed { error, .. } if error.contains("it panicked as it was told")),
        "{:?}",
        run.end
    );
    let again = manager.run(&named("writer"), place.context()).await.expect("it is known");
    assert_eq!(again.end, AttemptEnd::Succeeded);
}

// ------------------------------------------------------------------------------------------------- StatePersistence

/// A place for a snapshot that holds none.
#[async_trait]
pub trait PersistenceUnderTest: Send + Sync {
    /// What is kept.
    type State: Clone + PartialEq + Debug + Send + Sync + 'static;

    /// The persistence as a process that has just started opens it. Called again: the next process, the same place.
    async fn open(&self) -> Arc<dyn StatePersistence<State = Self::State>>;

    /// Two different states, the first with more in it.
    fn states(&self) -> [Self::State; 2];
}

/// `persistence_suite!(json, JsonUnderTest::default());`
#[macro_export]
macro_rules! persistence_suite {
    ($name:ident, $($make:tt)+) => {
        $crate::suite!(
            $name,
            [$($make)+],
            what_was_saved_is_loaded_by_the_next_process,
            a_save_replaces_the_whole_snapshot,
            a_snapshot_that_was_cleared_is_gone,
        );
    };
}

async fn load<P: PersistenceUnderTest>(place: &P) -> Option<P::State> {
    place.open().await.load().await.expect("readable")
}

async fn save<P: PersistenceUnderTest>(place: &P, state: &P::State) {
    place.open().await.save(state).await.expect("writable");
}

/// And nothing is `None`, not a default.
pub async fn what_was_saved_is_loaded_by_the_next_process<P: PersistenceUnderTest>(place: &P) {
    let [state, _] = place.states();
    assert_eq!(load(place).await, None);
    save(place, &state).await;
    assert_eq!(load(place).await, Some(state));
}

/// Nothing of the old one shows through.
pub async fn a_save_replaces_the_whole_snapshot<P: PersistenceUnderTest>(place: &P) {
    let [larger, smaller] = place.states();
    for state in [&larger, &smaller, &smaller, &larger] {
        save(place, state).await;
        assert_eq!(load(place).await.as_ref(), Some(state));
    }
}

/// Clearing nothing is fine, and so is saving afterwards.
pub async fn a_snapshot_that_was_cleared_is_gone<P: PersistenceUnderTest>(place: &P) {
    let [state, other] = place.states();
    place.open().await.clear().await.expect("nothing to clear");
    save(place, &state).await;
    place.open().await.clear().await.expect("writable");
    assert_eq!(load(place).await, None);
    save(place, &other).await;
    assert_eq!(load(place).await, Some(other));
}

// ------------------------------------------------------------------------------------------------------ ActorServer

/// A server that is not started, on a manual clock, with a configuration that the rules write. Every task in it runs
/// once a minute, from its start on.
#[async_trait]
pub trait ServerUnderTest: Send + Sync {
    /// Why the server could not do as told.
    type Error: Debug;

    /// The server.
    fn server(&self) -> Arc<dyn ActorServer<Error = Self::Error>>;

    /// Writes a configuration of these tasks, which no server has taken up yet.
    fn configure(&self, tasks: &[&str]);

    /// Writes a configuration that is wrong.
    fn misconfigure(&self);

    /// Moves the clock on, and returns when all that came due then has run.
    async fn advance(&self, by: Duration);

    /// How many runs of the task have ended well.
    async fn runs(&self, task: &str) -> Result<usize, LedgerError>;
}

/// `server_suite!(basic, BasicUnderTest::new());`
#[macro_export]
macro_rules! server_suite {
    ($name:ident, $($make:tt)+) => {
        $crate::suite!(
            $name,
            [$($make)+],
            a_server_works_from_start_to_stop,
            a_bad_configuration_does_not_start,
            a_reload_takes_up_what_is_new_and_drops_what_is_gone,
            a_reload_of_a_bad_configuration_changes_nothing,
        );
    };
}

async fn runs<S: ServerUnderTest>(place: &S, task: &str) -> usize {
    place.runs(task).await.expect("asked")
}

/// Inert before and after.
pub async fn a_server_works_from_start_to_stop<S: ServerUnderTest>(place: &S) {
    place.configure(&["one"]);
    let server = place.server();
    place.advance(MINUTE).await;
    assert_eq!(runs(place, "one").await, 0);
    server.start().await.expect("started");
    place.advance(MINUTE).await;
    assert_eq!(runs(place, "one").await, 2);
    server.stop().await.expect("stopped");
    place.advance(10 * MINUTE).await;
    assert_eq!(runs(place, "one").await, 2);
}

/// It says so instead.
pub async fn a_bad_configuration_does_not_start<S: ServerUnderTest>(place: &S) {
    place.misconfigure();
    place.server().start().await.expect_err("it can't");
}

/// What stays goes on undisturbed.
pub async fn a_reload_takes_up_what_is_new_and_drops_what_is_gone<S: ServerUnderTest>(place: &S) {
    place.configure(&["stays", "goes"]);
    let server = place.server();
    server.start().await.expect("started");
    place.advance(30 * SECOND).await;
    place.configure(&["stays", "comes"]);
    server.reload().await.expect("reloaded");
    place.advance(30 * SECOND).await;
    assert_eq!(
        [runs(place, "stays").await, runs(place, "goes").await, runs(place, "comes").await],
        [2, 1, 1]
    );
    place.advance(MINUTE).await;
    assert_eq!(
        [runs(place, "stays").await, runs(place, "goes").await, runs(place, "comes").await],
        [3, 1, 2]
    );
    server.stop().await.expect("stopped");
}

/// The error is the answer; the work goes on.
pub async fn a_reload_of_a_bad_configuration_changes_nothing<S: ServerUnderTest>(place: &S) {
    place.configure(&["one"]);
    let server = place.server();
    server.start().await.expect("started");
    place.advance(MINUTE).await;
    place.misconfigure();
    server.reload().await.expect_err("it can't");
    place.advance(MINUTE).await;
    assert_eq!(runs(place, "one").await, 3);
    server.stop().await.expect("stopped");
}

//! The small real implementations keep what the contracts promise.

use async_trait::async_trait;
use botticelli_server::clock::Clock;
use botticelli_server::ids::{ActorName, DefinitionHash, TaskId};
use botticelli_server::ledger::{Attempt, LedgerError};
use botticelli_server::outcome::Outcome;
use botticelli_server::post::{Destination, Platform, PostContent};
use botticelli_server::server::{ActorManager, ActorServer, StatePersistence, TaskScheduler};
use botticelli_server::simple::{
    BasicActorServer, BasicServerError, GenericActorManager, GenericContentPoster, JsonStatePersistence,
    SimpleTaskScheduler,
};
use botticelli_server::task::{Breaker, Task, TaskPolicy};
use botticelli_testkit::clock::ManualClock;
use botticelli_testkit::contract_suites::{
    Behaviour, ManagerUnderTest, PersistenceUnderTest, ProbeActor, SchedulerUnderTest, ServerUnderTest,
};
use botticelli_testkit::platform_suite::PlatformUnderTest;
use botticelli_testkit::{manager_suite, persistence_suite, platform_suite, scheduler_suite, server_suite};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

scheduler_suite!(simple_task_scheduler, Scheduling::new());
manager_suite!(generic_actor_manager, Managing);
platform_suite!(generic_content_poster, Memory::new());
persistence_suite!(json_state_persistence, JsonFile::new());
server_suite!(basic_actor_server, Serving::new());

const MINUTE: Duration = Duration::from_secs(60);

struct Scheduling {
    clock: Arc<ManualClock>,
    actors: Arc<GenericActorManager<ActorName, Attempt>>,
    scheduler: Arc<SimpleTaskScheduler>,
}

impl Scheduling {
    fn new() -> Self {
        let clock = ManualClock::new();
        let actors = Arc::new(GenericActorManager::default());
        let scheduler = Arc::new(SimpleTaskScheduler::new(actors.clone(), clock.clone()));
        Self { clock, actors, scheduler }
    }

    fn outcomes_now(&self, task: &TaskId) -> Vec<Outcome> {
        let history = self.scheduler.history();
        let of_task = history.into_iter().filter(|execution| execution.attempt.task_id == *task);
        of_task.map(|execution| execution.outcome).collect()
    }
}

#[async_trait]
impl SchedulerUnderTest for Scheduling {
    fn scheduler(&self) -> Arc<dyn TaskScheduler> {
        self.scheduler.clone()
    }

    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }

    fn register(&self, name: ActorName, actor: Arc<ProbeActor>) {
        self.actors.register(name, actor);
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by).await;
    }

    async fn outcomes(&self, task: &TaskId, at_least: usize) -> Vec<Outcome> {
        // All is in memory: what has not come to rest in one advance never will.
        self.clock.advance(Duration::ZERO).await;
        let outcomes = self.outcomes_now(task);
        assert!(outcomes.len() >= at_least, "{at_least} executions should be over: {outcomes:?}");
        outcomes
    }
}

struct Managing;

impl ManagerUnderTest for Managing {
    type Context = ();

    fn manager(&self) -> Arc<dyn ActorManager<ActorName, ()>> {
        Arc::new(GenericActorManager::default())
    }

    fn context(&self) {}
}

struct Memory {
    clock: Arc<ManualClock>,
    poster: GenericContentPoster<PostContent, Destination>,
}

impl Memory {
    fn new() -> Self {
        let clock = ManualClock::new();
        Self { poster: GenericContentPoster::new(clock.clone()), clock }
    }
}

#[async_trait]
impl PlatformUnderTest for Memory {
    fn connect(&self) -> Arc<Platform> {
        Arc::new(self.poster.clone())
    }

    fn destination(&self) -> Destination {
        Destination { platform: "memory".into(), target: "here".into() }
    }

    async fn visible(&self) -> Vec<String> {
        self.poster.posted_to(&self.destination()).into_iter().map(|content| content.text).collect()
    }

    fn refused(&self) -> Vec<(PostContent, Destination)> {
        Vec::new()
    }

    fn before(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

struct JsonFile {
    folder: tempfile::TempDir,
}

impl JsonFile {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }
}

#[async_trait]
impl PersistenceUnderTest for JsonFile {
    type State = BTreeMap<String, u32>;

    async fn open(&self) -> Arc<dyn StatePersistence<State = Self::State>> {
        Arc::new(JsonStatePersistence::new(self.folder.path().join("state.json")))
    }

    fn states(&self) -> [Self::State; 2] {
        [BTreeMap::from([("a".into(), 1), ("b".into(), 2)]), BTreeMap::from([("b".into(), 3)])]
    }
}

#[tokio::test]
async fn a_corrupt_state_file_is_named_and_left_alone() {
    let place = JsonFile::new();
    let path = place.folder.path().join("state.json");
    std::fs::write(&path, r#"{"a": 1,"#).expect("written");
    let error = place.open().await.load().await.expect_err("corrupt");
    assert!(matches!(&error, LedgerError::Corrupt(_)) && error.to_string().contains("state.json"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), r#"{"a": 1,"#);
}

#[tokio::test]
async fn a_save_that_fails_leaves_the_old_state() {
    let place = JsonFile::new();
    let [old, new] = place.states();
    place.open().await.save(&old).await.expect("saved");
    // The new state can't be written beside the old one.
    std::fs::create_dir(place.folder.path().join("state.json.tmp")).expect("in the way");
    let error = place.open().await.save(&new).await.expect_err("not writable");
    assert!(
        matches!(&error, LedgerError::NotWritable(_)) && error.to_string().contains("state.json"),
        "{error}"
    );
    assert_eq!(place.open().await.load().await.expect("readable"), Some(old));
}

type Configuration = Arc<Mutex<Result<Vec<Task>, String>>>;

struct Serving {
    scheduling: Scheduling,
    configuration: Configuration,
    server: Arc<BasicActorServer<String>>,
}

impl Serving {
    fn new() -> Self {
        let scheduling = Scheduling::new();
        let configuration: Configuration = Arc::new(Mutex::new(Ok(Vec::new())));
        let read = configuration.clone();
        let server = BasicActorServer::new(
            scheduling.scheduler(),
            move || read.lock().expect("not poisoned").clone(),
            |future| drop(tokio::spawn(future)),
        );
        Self { scheduling, configuration, server: Arc::new(server) }
    }
}

fn every_minute(name: &str) -> Task {
    let schedule = serde_json::json!({ "type": "Interval", "seconds": 60 });
    Task {
        id: TaskId::new(name).expect("a name"),
        actor_name: ActorName::new(name).expect("a name"),
        schedule: serde_json::from_value(schedule).expect("a schedule"),
        policy: TaskPolicy::default(),
        destinations: Vec::new(),
        enabled: true,
        after: Vec::new(),
        definition: DefinitionHash::new(name).expect("a name"),
    }
}

#[async_trait]
impl ServerUnderTest for Serving {
    type Error = BasicServerError<String>;

    fn server(&self) -> Arc<dyn ActorServer<Error = Self::Error>> {
        self.server.clone()
    }

    fn configure(&self, tasks: &[&str]) {
        let tasks: Vec<Task> = tasks.iter().map(|name| every_minute(name)).collect();
        for task in &tasks {
            self.scheduling.register(task.actor_name.clone(), ProbeActor::new(&[]));
        }
        *self.configuration.lock().expect("not poisoned") = Ok(tasks);
    }

    fn misconfigure(&self) {
        *self.configuration.lock().expect("not poisoned") = Err("line 1: what is this?".into());
    }

    async fn advance(&self, by: Duration) {
        self.scheduling.advance(by).await;
    }

    async fn runs(&self, task: &str) -> Result<usize, LedgerError> {
        let outcomes = self.scheduling.outcomes_now(&TaskId::new(task).expect("a name"));
        Ok(outcomes.iter().filter(|outcome| **outcome == Outcome::Succeeded).count())
    }
}

#[tokio::test]
async fn a_basic_server_is_started_once_at_a_time() {
    let serving = Serving::new();
    serving.configure(&["one"]);
    let server = serving.server();
    assert!(matches!(server.reload().await, Err(BasicServerError::NotRunning)));
    server.start().await.expect("started");
    assert!(matches!(server.start().await, Err(BasicServerError::AlreadyStarted)));
    serving.advance(MINUTE).await;
    server.stop().await.expect("stopped");
    server.stop().await.expect("nothing to stop");
    server.start().await.expect("started again");
    serving.advance(MINUTE).await;
    assert_eq!(serving.runs("one").await.expect("asked"), 3);
    server.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_simple_scheduler_opens_the_breaker_and_probes() {
    let scheduling = Scheduling::new();
    let mut task = every_minute("failing");
    task.policy = TaskPolicy {
        max_attempts: NonZeroU32::MIN,
        max_consecutive_failures: NonZeroU32::new(2).expect("not zero"),
        cooldown: Some(10 * MINUTE),
        ..TaskPolicy::default()
    };
    let actor = ProbeActor::new(&[Behaviour::Fail, Behaviour::Fail]);
    scheduling.register(task.actor_name.clone(), actor.clone());
    scheduling.scheduler.schedule(task.clone()).await.expect("scheduled");
    let (scheduler, stop) = (scheduling.scheduler(), CancellationToken::new());
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { scheduler.run(stop).await }
    });
    let state = || scheduling.scheduler.state(&task.id).expect("known");
    scheduling.advance(5 * MINUTE).await;
    assert_eq!((actor.started(), state().breaker()), (2, Breaker::HalfOpen));
    scheduling.advance(5 * MINUTE).await;
    assert_eq!(actor.started(), 2, "it is paused");
    scheduling.advance(MINUTE).await;
    assert_eq!((actor.started(), state().breaker()), (3, Breaker::Closed), "the probe ended well");
    stop.cancel();
    running.await.expect("it ends");
}

#[tokio::test]
async fn an_execution_that_waits_for_another_attempt_is_cancelled_with_its_task() {
    let scheduling = Scheduling::new();
    let task = every_minute("failing");
    let actor = ProbeActor::new(&[Behaviour::Fail]);
    scheduling.register(task.actor_name.clone(), actor.clone());
    scheduling.scheduler.schedule(task.clone()).await.expect("scheduled");
    let (scheduler, stop) = (scheduling.scheduler(), CancellationToken::new());
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { scheduler.run(stop).await }
    });
    scheduling.advance(Duration::from_secs(1)).await;
    assert!(scheduling.outcomes_now(&task.id).is_empty(), "it waits for its second attempt");
    assert!(scheduling.scheduler.cancel(&task.id).await.expect("asked"));
    scheduling.advance(MINUTE).await;
    assert_eq!(actor.started(), 1);
    assert_eq!(scheduling.outcomes_now(&task.id), [Outcome::Cancelled]);
    stop.cancel();
    running.await.expect("it ends");
}

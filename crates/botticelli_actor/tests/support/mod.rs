//! A whole server for tests: a database of its own, a clock that the test moves, the real engine, store and deliverer,
//! a platform that remembers what it was given, and actors that behave as they are told.

mod probe;

pub(crate) use probe::{Does, Probe};

use botticelli_actor::actor::{RegisteredActors, RunContext};
use botticelli_actor::app::contexts;
use botticelli_actor::deliverer::{Deliverer, DeliverySettings, DeliverySignals};
use botticelli_actor::engine::{Activity, CurrentNode, DatabaseClock, Engine, EngineParts, EngineSettings};
use botticelli_actor::platforms::Platforms;
use botticelli_actor::traces::Traces;
use botticelli_database::{ExecutionView, PostFilter, Resumed, Store, Wakeups};
use botticelli_server::clock::Clock;
use botticelli_server::ids::{ActorName, DefinitionHash, NodeId, PostId, TaskId};
use botticelli_server::ledger::{Ledger as _, Registration, Trigger};
use botticelli_server::outbox::PostState;
use botticelli_server::post::{Destination, PostContent};
use botticelli_server::schedule::ScheduleType;
use botticelli_server::server::{
    Accepted, Actor, ActorManager as _, Event, EventServer as _, TaskScheduler as _,
};
use botticelli_server::simple::GenericContentPoster;
use botticelli_server::task::{Task, TaskPolicy, TaskState};
use botticelli_testkit::clock::ManualClock;
use botticelli_testkit::databases::TestStore;
use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use futures::future::select_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// Something hangs when nothing has come to rest for so long. Never waited for when all is well.
const HANGS: Duration = Duration::from_secs(30);

/// A cluster of one node or more.
pub(crate) struct TestServer {
    pub(crate) database: TestStore,
    pub(crate) actors: Arc<RegisteredActors>,
    pub(crate) platform: GenericContentPoster<PostContent, Destination>,
    pub(crate) nodes: Vec<Node>,
    /// How many runs wait for something that only the test does.
    parked: Arc<watch::Sender<usize>>,
    ended: bool,
}

/// One process, in so far as there can be several in one.
pub(crate) struct Node {
    pub(crate) engine: Arc<Engine>,
    activity: watch::Receiver<Activity>,
    clock: Arc<DatabaseClock>,
    stop: CancellationToken,
    stop_delivering: CancellationToken,
    run: Option<JoinHandle<()>>,
    watch: JoinHandle<()>,
    deliverer: Option<JoinHandle<()>>,
    wakeups: Wakeups,
    /// Its engine is run by somebody else.
    run_elsewhere: bool,
}

/// What of a node sleeps when it is at rest: dispatcher, heartbeat, retention, deliverer.
const LOOPS: usize = 4;

/// The settings of the nodes: the engine's own, but for heartbeats, which would only make time pass more slowly.
pub(crate) fn settings() -> EngineSettings {
    EngineSettings { heartbeat: 10 * MINUTE, lease: HOUR, ..EngineSettings::default() }
}

impl TestServer {
    /// One node.
    pub(crate) async fn start(database: TestStore) -> Self {
        Self::start_with(database, settings()).await
    }

    /// One node with these settings.
    pub(crate) async fn start_with(database: TestStore, settings: EngineSettings) -> Self {
        let mut server = Self::without_nodes(database);
        server.start_node("node", settings).await;
        server
    }

    /// A database and actors; nobody runs them.
    pub(crate) fn without_nodes(database: TestStore) -> Self {
        Self {
            platform: GenericContentPoster::new(database.clock()),
            database,
            actors: Arc::default(),
            nodes: Vec::new(),
            parked: Arc::new(watch::Sender::new(0)),
            ended: false,
        }
    }

    /// Starts another node.
    pub(crate) async fn start_node(&mut self, name: &str, settings: EngineSettings) {
        let clock = self.database.clock();
        self.start_node_by(clock, name, settings).await;
    }

    /// The same, by a clock of its own.
    pub(crate) async fn start_node_by(
        &mut self,
        clock: Arc<dyn Clock>,
        name: &str,
        settings: EngineSettings,
    ) {
        let mut node = self.node(clock, name, settings).await;
        let (engine, stop) = (node.engine.clone(), node.stop.clone());
        node.run = Some(tokio::spawn(async move { engine.run(stop).await }));
        self.nodes.push(node);
        self.rest().await;
    }

    /// One node whose engine somebody else will run, before anything else happens.
    pub(crate) async fn start_elsewhere(database: TestStore) -> Self {
        let mut server = Self::without_nodes(database);
        let patient = EngineSettings { shutdown_grace: HOUR, ..settings() };
        let node = server.node(server.database.clock(), "node", patient).await;
        server.nodes.push(Node { run_elsewhere: true, ..node });
        server
    }

    async fn node(&self, clock: Arc<dyn Clock>, name: &str, settings: EngineSettings) -> Node {
        let store = self.database.another().await;
        let history = Arc::new(store.clone());
        let clock = Arc::new(DatabaseClock::new(clock));
        let (wakeups, posts_waiting) = (Wakeups::default(), Arc::new(Notify::new()));
        let mut platforms = Platforms::default();
        platforms.register("memory", Arc::new(self.platform.clone()));
        let node = Arc::new(CurrentNode::new(NodeId::new(name).expect("a name")));
        let engine = Arc::new(Engine::new(EngineParts {
            ledger: history.clone(),
            outbox: history.clone(),
            actors: self.actors.clone(),
            contexts: Arc::new(contexts(history.clone(), clock.clone(), platforms.clone())),
            clock: clock.clone(),
            wakeups: wakeups.clone(),
            posts_waiting: posts_waiting.clone(),
            node: node.clone(),
            settings,
            traces: Traces::default(),
        }));
        let delivery = DeliverySettings { poll_interval: HOUR, ..DeliverySettings::default() };
        let signals =
            DeliverySignals { posts_waiting, changed: wakeups.clone(), ..DeliverySignals::default() };
        let deliverer = Deliverer::new(history, platforms, clock.clone(), node, delivery, signals);
        let (stop, stop_delivering) = (CancellationToken::new(), CancellationToken::new());
        engine.enter().await.expect("the node is entered");
        Node {
            activity: engine.activity(),
            watch: tokio::spawn(store.watch(wakeups.clone(), stop.clone())),
            wakeups,
            deliverer: Some(tokio::spawn(deliverer.run(stop_delivering.clone(), engine.shutdown()))),
            run: None,
            engine,
            clock,
            stop,
            stop_delivering,
            run_elsewhere: false,
        }
    }

    /// Registers these tasks, and has one node take them up.
    pub(crate) async fn hold_on(&self, node: usize, tasks: &[Task]) {
        let registration = Registration { tasks: tasks.to_vec(), complete: false, start: false };
        self.database.register(registration).await.expect("registered");
        self.nodes[node].engine.hold(tasks.to_vec());
        self.rest().await;
    }

    /// The time now.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.database.time()
    }

    /// Enters an actor where every node looks for it.
    pub(crate) fn register(&self, name: ActorName, actor: Arc<dyn Actor<RunContext>>) {
        self.actors.register(name, Arc::new(probe::Watched { actor, parked: self.parked.clone() }));
    }

    /// Registers `task` on all nodes, with an actor of its own that behaves like this and well after that, and returns
    /// when what is due of it has run.
    pub(crate) async fn add(&self, task: &Task, behaviour: &[Does]) -> Arc<Probe> {
        let probe = Probe::new(behaviour);
        self.register(task.actor_name.clone(), probe.clone());
        self.hold(std::slice::from_ref(task)).await;
        self.rest().await;
        probe
    }

    /// Registers these tasks, and has all nodes take them up.
    pub(crate) async fn hold(&self, tasks: &[Task]) {
        let registration = Registration { tasks: tasks.to_vec(), complete: false, start: false };
        self.database.register(registration).await.expect("registered");
        for node in self.running_nodes() {
            node.engine.hold(tasks.to_vec());
        }
    }

    fn running_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .filter(|node| (node.run.is_some() || node.run_elsewhere) && !node.stop.is_cancelled())
    }

    /// Moves time on, from one moment at which something happens to the next, and returns when all that came due is
    /// recorded and delivered, but for runs that wait for the test.
    pub(crate) async fn advance(&self, by: Duration) {
        let target = self.now() + by;
        self.rest().await;
        let clock = self.database.clock();
        while let Some(next) = clock.wake_times().first().copied().filter(|next| *next < target) {
            self.database.set(next.max(self.now())).await;
            self.rest().await;
        }
        self.database.set(target).await;
        self.rest().await;
    }

    /// Sets the time: what was in between did not happen, as when the machine was off or its clock was set.
    pub(crate) async fn jump(&self, to: DateTime<Utc>) {
        self.database.set(to).await;
        self.rest().await;
    }

    /// Returns when nothing happens any more until the test does something, or time goes on.
    pub(crate) async fn rest(&self) {
        // What an engine was told before, it has heard when it answers.
        for node in self.running_nodes() {
            node.engine.scheduled().await.expect("an answer");
        }
        loop {
            self.until("the server is at rest", |server| server.is_at_rest()).await;
            if !self.posts_are_due().await {
                return;
            }
            // The deliverer goes to sleep again when it has settled what it sent.
            let mut sleepers = self.database.clock().sleepers();
            if self.posts_are_due().await {
                let woken = tokio::time::timeout(HANGS, sleepers.changed()).await;
                woken.expect("posts are delivered").expect("the clock is there");
            }
        }
    }

    async fn posts_are_due(&self) -> bool {
        if self.nodes.iter().all(|node| node.deliverer.is_none()) {
            return false;
        }
        let posts =
            self.database.posts(PostFilter { limit: 100, ..PostFilter::default() }).await.expect("posts");
        posts.iter().any(|post| match post.state {
            PostState::Pending | PostState::Sending => true,
            PostState::Deferred => post.deliver_at.is_some_and(|at| at <= self.now()),
            PostState::Posted | PostState::Failed | PostState::NeedsReview | PostState::Skipped => false,
        })
    }

    /// Returns when `holds`, which depends on nothing but what nodes, runs and sleepers do.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut parked = self.parked.subscribe();
        let mut sleepers = self.database.clock().sleepers();
        let mut activities: Vec<_> = self.nodes.iter().map(|node| node.activity.clone()).collect();
        loop {
            parked.mark_unchanged();
            sleepers.mark_unchanged();
            activities.iter_mut().for_each(watch::Receiver::mark_unchanged);
            if holds(self) {
                return;
            }
            let mut changes = vec![sleepers.changed().map(drop).boxed(), parked.changed().map(drop).boxed()];
            // An engine that is gone does nothing any more.
            changes.extend(activities.iter_mut().map(|activity| {
                async {
                    if activity.changed().await.is_err() {
                        std::future::pending().await
                    }
                }
                .boxed()
            }));
            if tokio::time::timeout(HANGS, select_all(changes)).await.is_err() {
                panic!("not so after {HANGS:?}: {what}\n{}", self.describe());
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        let now = self.now();
        let wake_times = self.database.clock().wake_times();
        let (mut running, mut loops) = (0, 0);
        for node in self.running_nodes() {
            let activity = *node.activity.borrow();
            if activity.asking || activity.recording > 0 || activity.next_look <= node.clock.now() {
                return false;
            }
            running += activity.running;
            loops += LOOPS;
        }
        let stopping = self.nodes.iter().any(|node| node.run.is_some() && node.stop.is_cancelled());
        let parked = *self.parked.borrow();
        // While a node stops its own loops come to an end, one by one.
        let complete = stopping || (running == parked && wake_times.len() >= loops + running);
        complete && wake_times.first().is_none_or(|first| *first > now)
    }

    fn describe(&self) -> String {
        let activities: Vec<Activity> = self.nodes.iter().map(|node| *node.activity.borrow()).collect();
        format!(
            "now: {}\nsleeping until: {:?}\nwaiting runs: {}\n{activities:#?}",
            self.now(),
            self.database.clock().wake_times(),
            *self.parked.borrow()
        )
    }

    /// Has a person trigger the task from another process.
    pub(crate) async fn trigger(&self, task: &Task) {
        let event =
            Event { task: task.id.clone(), trigger: Trigger::Manual, parameters: serde_json::Value::Null };
        let accepted = self.database.publish(event).await.expect("published");
        assert!(matches!(accepted, Accepted::Execution(_)), "{accepted:?}");
    }

    /// Has a person resume the task, and returns when a node has looked at it since.
    pub(crate) async fn resume(&self, task: &Task) {
        let resumed = self.database.resume(&task.id).await.expect("resumed");
        assert_eq!(resumed, Resumed::Resumed);
        self.nudge().await;
    }

    /// Has the nodes look at everything, as their poll does in the end, and returns when they have.
    pub(crate) async fn nudge(&self) {
        for node in self.running_nodes() {
            node.wakeups.changed();
            node.engine.hold(Vec::<Task>::new());
        }
        self.rest().await;
    }

    /// Has the nodes look at everything, and does not wait for it.
    pub(crate) fn look_over(&self) {
        self.running_nodes().for_each(|node| node.wakeups.changed());
    }

    /// What a node does.
    pub(crate) fn activity(&self, node: usize) -> Activity {
        *self.nodes[node].activity.borrow()
    }

    /// Whether a node has the time right.
    pub(crate) fn is_right(&self, node: usize) -> bool {
        self.nodes[node].clock.now() == self.now()
    }

    /// Returns when the nodes have found that the database is back: some time passes.
    pub(crate) async fn recovered(&self) {
        self.until("results are recorded", |server| {
            server.running_nodes().all(|node| node.activity.borrow().recording == 0)
        })
        .await;
        while self.running_nodes().any(|node| !node.activity.borrow().reachable) {
            self.database.set(self.now() + SECOND).await;
            self.until("the store has answered", |server| server.is_at_rest()).await;
        }
    }

    /// Returns when a post has been tried so often.
    pub(crate) async fn attempted(&self, post: PostId, attempts: u32) {
        let mut sleepers = self.database.clock().sleepers();
        loop {
            let post = self.database.post(post).await.expect("an answer").expect("it is there");
            if post.attempts >= attempts && post.state != PostState::Sending {
                return;
            }
            let changed = tokio::time::timeout(HANGS, sleepers.changed()).await;
            changed.expect("the deliverer looks at it").expect("the clock is there");
        }
    }

    /// Returns when a query answers this, which depends on nothing but what nodes are doing.
    pub(crate) async fn comes_to(&self, query: &str, value: &str) {
        let answers = async { while self.database.value(query).await != value {} };
        tokio::time::timeout(HANGS, answers).await.unwrap_or_else(|_| panic!("{query} never gave {value}"));
    }

    /// How much the nodes have claimed and not started.
    pub(crate) fn claimed(&self) -> usize {
        self.running_nodes().map(|node| node.activity.borrow().claimed).sum()
    }

    /// Where the task stands.
    pub(crate) async fn state(&self, task: &Task) -> TaskState {
        let states = self.database.states(std::slice::from_ref(&task.id)).await.expect("states");
        states.into_iter().next().expect("the task is known")
    }

    /// The task's executions, oldest first, those that are open too.
    pub(crate) async fn history(&self, task: &Task) -> Vec<ExecutionView> {
        let mut history = self.database.history(&task.id, 10_000).await.expect("history");
        history.reverse();
        history
    }

    /// The same in few words: see [`told`].
    pub(crate) async fn ledger(&self, task: &Task) -> Vec<String> {
        self.history(task).await.iter().map(told).collect()
    }

    /// The texts that the platform shows.
    pub(crate) fn posted(&self) -> Vec<String> {
        self.platform.posted_to(&place()).into_iter().map(|content| content.text).collect()
    }

    /// Tells a node to stop, and does not wait for it.
    pub(crate) fn tell_to_stop(&self, node: usize) {
        self.nodes[node].stop.cancel();
    }

    /// Returns when a node that was told to stop has stopped.
    pub(crate) async fn has_stopped(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let run = node.run.take().expect("it is running");
        tokio::time::timeout(HANGS, run).await.expect("it stops").expect("the engine ends well");
        node.stop_delivering.cancel();
        let deliverer = node.deliverer.take().expect("it is running");
        tokio::time::timeout(HANGS, deliverer).await.expect("it stops").expect("the deliverer ends well");
        node.engine.leave().await;
    }

    /// Stops a node in good order.
    pub(crate) async fn stop(&mut self, node: usize) {
        self.tell_to_stop(node);
        self.has_stopped(node).await;
    }

    /// A node dies: nothing of it goes on, and it tells nobody.
    pub(crate) async fn kill(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        for part in node.run.take().into_iter().chain(node.deliverer.take()) {
            part.abort();
            part.await.expect_err("it was cut off");
        }
        node.stop.cancel();
    }

    /// Does without the look at its end: somebody else runs its engine.
    pub(crate) fn ends_elsewhere(&mut self) {
        self.ended = true;
    }

    /// Stops all nodes and looks whether something was left: a run that is not over, or a task that panicked.
    pub(crate) async fn end(mut self) {
        let running: usize = self.running_nodes().map(|node| node.activity.borrow().running).sum();
        assert_eq!(running, 0, "runs are unfinished\n{}", self.describe());
        for node in 0..self.nodes.len() {
            if self.nodes[node].run.is_some() {
                self.stop(node).await;
            }
        }
        for node in &mut self.nodes {
            node.stop.cancel();
            (&mut node.watch).await.expect("the watcher ends well");
        }
        self.ended = true;
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        assert!(
            self.ended || std::thread::panicking(),
            "a test ends its server, which looks whether all is well"
        );
    }
}

/// An execution as people talk of it: `00:05:00 succeeded`, `00:01:00 to 00:04:00 skipped 4: missed`, `manual
/// failed`, with `, 2 attempts` where there was more than one.
pub(crate) fn told(execution: &ExecutionView) -> String {
    let time = |at: DateTime<Utc>| at.format("%H:%M:%S").to_string();
    let which = match (execution.scheduled_for, execution.scheduled_until) {
        (Some(from), Some(to)) if from != to => format!("{} to {}", time(from), time(to)),
        (Some(at), _) => time(at),
        (None, _) => String::new(),
    };
    let trigger = match execution.trigger {
        Trigger::Schedule => "",
        other => other.as_str(),
    };
    let outcome = execution.outcome.as_deref().unwrap_or("open");
    let count = match execution.occurrences {
        1 => String::new(),
        count => format!(" {count}"),
    };
    let attempts = match execution.attempt {
        0 | 1 => String::new(),
        attempts => format!(", {attempts} attempts"),
    };
    let reason = execution.skip_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let words = [trigger, which.as_str(), &format!("{outcome}{count}{reason}{attempts}")];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Where the posts of these tests go.
pub(crate) fn place() -> Destination {
    Destination { platform: "memory".into(), target: "here".into() }
}

/// A task with an actor of its own.
pub(crate) fn task(name: &str, schedule: ScheduleType) -> Task {
    Task {
        id: TaskId::new(name).expect("a name"),
        actor_name: ActorName::new(format!("actor of {name}")).expect("a name"),
        schedule,
        policy: TaskPolicy::default(),
        destinations: vec![place()],
        enabled: true,
        after: Vec::new(),
        definition: DefinitionHash::new(format!("definition of {name}")).expect("a hash"),
    }
}

/// A task with a policy of its own.
pub(crate) fn with(mut task: Task, change: impl FnOnce(&mut TaskPolicy)) -> Task {
    change(&mut task.policy);
    task
}

/// Every so often, at first at once.
pub(crate) fn every(period: Duration) -> ScheduleType {
    schedule(serde_json::json!({ "type": "Interval", "seconds": period.as_secs() }))
}

/// Once, at this time.
pub(crate) fn once(at: DateTime<Utc>) -> ScheduleType {
    schedule(serde_json::json!({ "type": "Once", "at": at }))
}

/// As it stands in the configuration.
pub(crate) fn schedule(json: serde_json::Value) -> ScheduleType {
    serde_json::from_value(json).expect("a schedule")
}

/// The store of a node, for what no node does.
pub(crate) async fn another_store(server: &TestServer) -> Store {
    server.database.another().await
}

/// The clock of the database and, unless they have their own, of the nodes.
pub(crate) fn clock(server: &TestServer) -> Arc<ManualClock> {
    server.database.clock()
}

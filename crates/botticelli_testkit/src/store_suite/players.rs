//! Tasks, and nodes that play the engine's part by hand.

use crate::databases::TestStore;
use botticelli_database::Store;
use botticelli_server::ids::{ActorName, DefinitionHash, ExecutionId, NodeId, TaskId};
use botticelli_server::ledger::{
    Attempt, ClaimRequest, EndedAttempt, Ledger as _, Recorded, Registered, Registration, TakeRequest,
    TaskChange,
};
use botticelli_server::limits::DeliveryLimits;
use botticelli_server::outbox::{NewPost, OnUnknown, UsedItem};
use botticelli_server::outcome::{AttemptEnd, SkillCounts};
use botticelli_server::plan::{Plan, plan, settle};
use botticelli_server::post::{Destination, PostContent};
use botticelli_server::schedule::{IntervalSchedule, ScheduleType};
use botticelli_server::task::{Overlap, Task, TaskPolicy, TaskState};
use chrono::{DateTime, Utc};
use std::time::Duration;

/// A minute.
pub const MINUTE: Duration = Duration::from_secs(60);
/// How long a node of these tests may be silent.
pub const LEASE: Duration = Duration::from_secs(15);

/// A task with this schedule, and the policy that tasks have by default.
pub fn task(name: &str, schedule: ScheduleType) -> Task {
    Task {
        id: TaskId::new(name).expect("a name"),
        actor_name: ActorName::new("actor").expect("a name"),
        schedule,
        policy: TaskPolicy::default(),
        destinations: Vec::new(),
        enabled: true,
        after: Vec::new(),
        definition: DefinitionHash::new("first").expect("a hash"),
    }
}

/// Every so many seconds.
pub fn every(seconds: i64) -> ScheduleType {
    ScheduleType::Interval(IntervalSchedule::new(seconds).expect("a period"))
}

/// A task that is due every minute, at first at once.
pub fn each_minute(name: &str) -> Task {
    task(name, every(60))
}

/// `task` with another policy.
pub fn with(mut task: Task, change: impl FnOnce(&mut TaskPolicy)) -> Task {
    change(&mut task.policy);
    task
}

/// Registers these tasks, as at a start.
pub async fn register(store: &Store, tasks: &[&Task]) -> Registered {
    let tasks = tasks.iter().map(|task| (*task).clone()).collect();
    store
        .register(Registration { tasks, start: true, complete: true })
        .await
        .expect("the tasks are registered")
}

/// The state of a task.
pub async fn state(store: &Store, task: &Task) -> TaskState {
    let states = store.states(std::slice::from_ref(&task.id)).await.expect("states");
    states.into_iter().next().expect("the task is known")
}

/// The claim that the plan for a task in this state says, if it says one.
pub fn request(task: &Task, state: &TaskState, now: DateTime<Utc>, ahead: Duration) -> Option<ClaimRequest> {
    match plan(task, state, now, ahead) {
        Plan::Nothing | Plan::Wait { .. } => None,
        Plan::Claim(plan) => Some(ClaimRequest {
            task_id: task.id.clone(),
            actor_name: task.actor_name.clone(),
            definition: task.definition.clone(),
            plan,
            overlap_allowed: task.policy.overlap == Overlap::Allow,
        }),
    }
}

/// What a run made.
#[derive(Default)]
pub struct Made {
    /// Its posts.
    pub posts: Vec<NewPost>,
    /// The items they use up.
    pub used_items: Vec<UsedItem>,
}

/// Where the posts of these tests go.
pub fn destination(target: &str) -> Destination {
    Destination { platform: "file".into(), target: target.into() }
}

/// A message of one part.
pub fn message(target: &str, text: &str) -> NewPost {
    part(target, 0, text)
}

/// Part `part` of a message whose first part is 0.
pub fn part(target: &str, part: u32, text: &str) -> NewPost {
    NewPost {
        destination: destination(target),
        part,
        first_part: 0,
        content: PostContent::text(text),
        not_before: None,
        limits: DeliveryLimits::default(),
        on_unknown: OnUnknown::NeedsReview,
    }
}

/// An item that part 0 for `target` carries.
pub fn item(target: &str, key: &str) -> UsedItem {
    UsedItem {
        source: "facts".into(),
        key: key.into(),
        text: format!("text of {key}"),
        destination: destination(target),
        part: 0,
        again: false,
    }
}

/// An attempt that failed, worth another one.
pub fn failed(error: &str) -> AttemptEnd {
    AttemptEnd::Failed { error: error.into(), recoverable: true }
}

/// An attempt that failed, and so will every other.
pub fn failed_for_good(error: &str) -> AttemptEnd {
    AttemptEnd::Failed { error: error.into(), recoverable: false }
}

/// A node, with a handle of its own on the database.
pub struct Player {
    /// Its handle.
    pub store: Store,
    /// Its name.
    pub id: NodeId,
}

impl Player {
    /// A node that has entered itself.
    pub async fn enter(database: &TestStore, name: &str) -> Self {
        let player = Self { store: database.another().await, id: NodeId::new(name).expect("a name") };
        player.store.renew(&player.id, LEASE).await.expect("a heartbeat");
        player
    }

    /// The claim that the plan for `task` says, if it says one now.
    pub async fn request(&self, task: &Task, ahead: Duration) -> Option<ClaimRequest> {
        let now = self.store.now().await.expect("the time");
        request(task, &state(&self.store, task).await, now, ahead)
    }

    /// Claims what is due of `task` now, if anything is.
    pub async fn try_claim(&self, task: &Task) -> Option<Attempt> {
        self.claim_ahead(task, Duration::ZERO).await
    }

    /// Claims what is due of `task` by then, if anything is.
    pub async fn claim_ahead(&self, task: &Task, ahead: Duration) -> Option<Attempt> {
        let request = self.request(task, ahead).await?;
        let mut won = self.store.claim(&self.id, &[request], ahead).await.expect("an answer");
        assert!(won.len() <= 1);
        won.pop()
    }

    /// Claims what is due of `task`, which is something.
    pub async fn claim(&self, task: &Task) -> Attempt {
        self.try_claim(task).await.expect("something is due, and nobody else has it")
    }

    /// Takes what it can get of these executions, which are of these tasks.
    pub async fn take(&self, tasks: &[&Task], waiting: &[ExecutionId]) -> Vec<Attempt> {
        self.take_ahead(tasks, waiting, Duration::ZERO).await
    }

    /// The same of those that may be made by then.
    pub async fn take_ahead(
        &self,
        tasks: &[&Task],
        waiting: &[ExecutionId],
        ahead: Duration,
    ) -> Vec<Attempt> {
        let mut wanted = Vec::new();
        for execution in waiting {
            let open = self.store.execution(*execution).await.expect("an answer").expect("an execution");
            let task = tasks.iter().find(|task| task.id == open.task_id).expect("one of these tasks");
            wanted.push(TakeRequest {
                execution_id: *execution,
                task_id: task.id.clone(),
                definition: task.definition.clone(),
                overlap_allowed: task.policy.overlap == Overlap::Allow,
            });
        }
        self.store.take(&self.id, &wanted, ahead).await.expect("an answer")
    }

    /// What is to be recorded of an attempt that ends now.
    pub async fn ended(&self, task: &Task, attempt: &Attempt, end: AttemptEnd, made: Made) -> EndedAttempt {
        let now = self.store.now().await.expect("the time");
        let next_run = state(&self.store, task).await.next_run;
        let started_at = attempt.due_at.min(now);
        EndedAttempt {
            attempt: attempt.clone(),
            actor_name: task.actor_name.clone(),
            started_at,
            ended_at: now,
            settlement: settle(task, attempt, next_run, &end, started_at, now),
            end,
            skills: SkillCounts { succeeded: 2, failed: 1, skipped: 3 },
            posts: made.posts,
            used_items: made.used_items,
            metadata: serde_json::json!({ "skills": ["selected 1 item"] }),
        }
    }

    /// Records one end.
    pub async fn record(&self, ended: EndedAttempt) -> Recorded {
        let mut recorded = self.store.record(&self.id, &[ended]).await.expect("an answer");
        assert_eq!(recorded.len(), 1);
        recorded.remove(0)
    }

    /// Ends an attempt now, and records it.
    pub async fn end(&self, task: &Task, attempt: &Attempt, end: AttemptEnd, made: Made) -> TaskChange {
        let ended = self.ended(task, attempt, end, made).await;
        match self.record(ended).await {
            Recorded::Stored { state } => *state.expect("the task is known"),
            other => panic!("not stored: {other:?}"),
        }
    }

    /// Claims what is due of `task`, and ends it well with these posts.
    pub async fn run(&self, task: &Task, posts: Vec<NewPost>) -> Attempt {
        let attempt = self.claim(task).await;
        self.end(task, &attempt, AttemptEnd::Succeeded, Made { posts, used_items: Vec::new() }).await;
        attempt
    }
}

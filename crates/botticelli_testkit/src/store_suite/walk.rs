//! Random walks: whatever happens in whatever order, every occurrence is accounted for, and none twice.

use super::players::*;
use crate::databases::TestStore;
use crate::random::Random;
use botticelli_server::ids::{ExecutionId, NodeId};
use botticelli_server::ledger::{
    Attempt, ClaimRequest, EndedAttempt, Lease, Ledger as _, Recorded, Registration, Trigger,
};
use botticelli_server::outcome::{AttemptEnd, SkillCounts, SkipReason};
use botticelli_server::plan::settle;
use botticelli_server::schedule::{CronSchedule, ImmediateSchedule, OnceSchedule, ScheduleType};
use botticelli_server::server::{Event, EventServer as _};
use botticelli_server::task::{Backoff, CatchUp, Overlap, Task, TaskState};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

const STEPS: usize = 120;

/// Several walks, always the same ones.
pub async fn every_occurrence_is_accounted_for_whatever_happens(db: &TestStore) {
    let walks = if db.is_postgres() { 2 } else { 6 };
    for seed in 0..walks {
        walk(db, seed).await;
    }
}

async fn walk(db: &TestStore, seed: u64) {
    let mut walk = Walk::start(db, seed).await;
    for _ in 0..STEPS {
        walk.step().await;
    }
    walk.check().await;
    walk.come_to_rest().await;
    walk.check().await;
}

fn seconds(dice: &mut Random, most: u64) -> Duration {
    Duration::from_millis(dice.below(most * 1000) + 1)
}

fn one_of<'a, T>(dice: &mut Random, things: &'a [T]) -> &'a T {
    &things[dice.index(things.len())]
}

struct Walk<'a> {
    db: &'a TestStore,
    dice: Random,
    seed: u64,
    tasks: Vec<Task>,
    first: BTreeMap<String, DateTime<Utc>>,
    nodes: Vec<(Player, Vec<Attempt>)>,
    names: u32,
    /// Plans that were made and not carried out at once.
    late: Vec<ClaimRequest>,
    /// What a node last knew of a task.
    known: BTreeMap<String, TaskState>,
}

fn limit(n: u32) -> CatchUp {
    CatchUp::All { limit: NonZeroU32::new(n).expect("not 0") }
}

fn tasks(seed: u64, now: DateTime<Utc>) -> Vec<Task> {
    let cron = |expression| ScheduleType::Cron(CronSchedule::new(expression, "UTC").expect("cron"));
    let name = |name: &str| format!("{seed} {name}");
    let second = Duration::from_secs(1);
    let quick = Backoff { initial: 2 * second, max: 90 * second };
    let mut tasks = vec![
        task(&name("latest"), every(60)),
        with(task(&name("all"), every(45)), |policy| policy.catch_up = limit(5)),
        with(task(&name("skip"), cron("0 */2 * * * *")), |policy| policy.catch_up = CatchUp::Skip),
        with(task(&name("grace"), cron("15,45 * * * * *")), |policy| {
            (policy.misfire_grace, policy.catch_up) = (Some(100 * second), limit(100));
        }),
        with(task(&name("jitter"), every(60)), |policy| policy.jitter = 40 * second),
        with(task(&name("queue"), every(30)), |policy| policy.overlap = Overlap::QueueOne),
        with(task(&name("beside"), every(50)), |policy| {
            (policy.overlap, policy.catch_up) = (Overlap::Allow, limit(3));
        }),
        with(task(&name("fragile"), every(40)), |policy| {
            policy.max_consecutive_failures = NonZeroU32::new(2).expect("not 0");
            policy.cooldown = Some(120 * second);
        }),
        with(task(&name("rare"), every(3_600)), |policy| policy.jitter = 5 * second),
        task(&name("once"), ScheduleType::Once(OnceSchedule::new(now + 500 * second))),
        task(&name("immediate"), ScheduleType::Immediate(ImmediateSchedule { every_start: false })),
    ];
    for task in &mut tasks {
        task.policy.backoff = quick;
    }
    tasks
}

impl<'a> Walk<'a> {
    async fn start(db: &'a TestStore, seed: u64) -> Self {
        let tasks = tasks(seed, db.time());
        let mut walk = Self {
            db,
            dice: Random(seed),
            seed,
            tasks,
            first: BTreeMap::new(),
            nodes: Vec::new(),
            names: 0,
            late: Vec::new(),
            known: BTreeMap::new(),
        };
        walk.register(walk.tasks.clone(), true).await;
        for task in &walk.tasks {
            let first = state(db, task).await.next_run.expect("it was never run");
            walk.first.insert(task.id.to_string(), first);
        }
        for _ in 0..2 {
            let node = walk.new_node().await;
            walk.nodes.push(node);
        }
        walk
    }

    async fn register(&self, tasks: Vec<Task>, start: bool) {
        let registration = Registration { tasks, start, complete: true };
        self.db.register(registration).await.expect("registered");
    }

    async fn new_node(&mut self) -> (Player, Vec<Attempt>) {
        self.names += 1;
        let name = format!("{} node {}", self.seed, self.names);
        (Player::enter(self.db, &name).await, Vec::new())
    }

    async fn step(&mut self) {
        for node in 0..self.nodes.len() {
            let player = &self.nodes[node].0;
            if player.store.renew(&player.id, LEASE).await.expect("an answer") == Lease::Lost {
                self.nodes[node] = self.new_node().await;
            }
        }
        match self.dice.below(20) {
            0..=4 => {
                let by = seconds(&mut self.dice, 60);
                self.db.advance(by).await;
            }
            5 => {
                let by = seconds(&mut self.dice, 1_000);
                self.db.advance(by).await;
            }
            6..=9 => self.claim().await,
            10 => self.carry_out_late_plans().await,
            11 => self.take().await,
            12..=15 => self.record().await,
            16 => self.pause_or_resume().await,
            17 => self.lose_a_node().await,
            18 => self.reload().await,
            _ => self.trigger_or_release().await,
        }
    }

    /// Both nodes plan, and claim at the same moment.
    async fn claim(&mut self) {
        let ahead = if self.dice.one_in(2) { seconds(&mut self.dice, 20) } else { Duration::ZERO };
        let ids: Vec<_> = self.tasks.iter().map(|task| task.id.clone()).collect();
        let states = self.db.states(&ids).await.expect("states");
        self.known = states.into_iter().map(|state| (state.task_id.to_string(), state)).collect();
        let (now, known) = (self.db.time(), &self.known);
        let planned = |task: &Task| request(task, &known[task.id.as_str()], now, ahead);
        let requests: Vec<_> = self.tasks.iter().filter_map(planned).collect();
        let mut batches = [requests.clone(), requests];
        if self.dice.one_in(4) {
            self.late.append(&mut batches[1]);
        }
        let (one, two) = (&self.nodes[0].0, &self.nodes[1].0);
        let (won_one, won_two) = tokio::join!(
            one.store.claim(&one.id, &batches[0], ahead),
            two.store.claim(&two.id, &batches[1], ahead)
        );
        self.nodes[0].1.extend(won_one.expect("an answer"));
        self.nodes[1].1.extend(won_two.expect("an answer"));
    }

    async fn carry_out_late_plans(&mut self) {
        let late = std::mem::take(&mut self.late);
        let (player, attempts) = &mut self.nodes[0];
        attempts.extend(
            player.store.claim(&player.id, &late, 20 * Duration::from_secs(1)).await.expect("an answer"),
        );
    }

    async fn take(&mut self) {
        let waiting = self.db.agenda(self.db.time(), None, 1000).await.expect("an agenda").waiting;
        let ids: Vec<ExecutionId> = waiting.iter().map(|waiting| waiting.execution_id).collect();
        let tasks: Vec<&Task> = self.tasks.iter().collect();
        let (one, two) = tokio::join!(self.nodes[0].0.take(&tasks, &ids), self.nodes[1].0.take(&tasks, &ids));
        self.nodes[0].1.extend(one);
        self.nodes[1].1.extend(two);
    }

    /// Some of a node's attempts end in some way.
    async fn record(&mut self) {
        let node = usize::from(self.dice.one_in(2));
        let now = self.db.time();
        let attempts = std::mem::take(&mut self.nodes[node].1);
        let mut ended = Vec::new();
        for attempt in attempts {
            if attempt.due_at > now || self.dice.one_in(3) {
                self.nodes[node].1.push(attempt);
                continue;
            }
            let end = match self.dice.below(8) {
                0..=2 => AttemptEnd::Succeeded,
                3 | 4 => failed("no answer"),
                5 => failed_for_good("broken"),
                6 => AttemptEnd::Skipped(SkipReason::NothingToPost),
                _ if self.dice.one_in(2) => AttemptEnd::Cancelled,
                _ => AttemptEnd::Interrupted,
            };
            ended.push(self.ended(attempt, end).await);
        }
        self.store(node, ended).await;
    }

    async fn ended(&mut self, attempt: Attempt, end: AttemptEnd) -> EndedAttempt {
        let now = self.db.time();
        let task = self.tasks.iter().find(|task| task.id == attempt.task_id).expect("ours").clone();
        // A node may know less than what is in the database by now.
        let stale = self.known.get(task.id.as_str()).filter(|_| self.dice.0.is_multiple_of(4));
        let next_run = match stale {
            Some(known) => known.next_run,
            None => state(self.db, &task).await.next_run,
        };
        let started_at = attempt.due_at;
        let posts = if end == AttemptEnd::Succeeded { vec![message("a", "text")] } else { Vec::new() };
        EndedAttempt {
            settlement: settle(&task, &attempt, next_run, &end, started_at, now),
            attempt,
            actor_name: task.actor_name.clone(),
            started_at,
            ended_at: now,
            end,
            skills: SkillCounts::default(),
            posts,
            used_items: Vec::new(),
            metadata: serde_json::Value::Null,
        }
    }

    async fn store(&mut self, node: usize, ended: Vec<EndedAttempt>) {
        let player = &self.nodes[node].0;
        for recorded in player.store.record(&player.id, &ended).await.expect("an answer") {
            assert!(!matches!(recorded, Recorded::Refused { .. }), "{recorded:?}");
        }
    }

    async fn pause_or_resume(&mut self) {
        let task = one_of(&mut self.dice, &self.tasks).clone();
        match self.dice.below(4) {
            0 => drop(self.db.pause(&task.id).await.expect("an answer")),
            1 | 2 => drop(self.db.resume(&task.id).await.expect("an answer")),
            _ => {
                let word = if self.dice.one_in(2) { "1 = 1" } else { "1 = 0" };
                let sql = format!(
                    "UPDATE actor_server_state SET is_paused = ({word}) WHERE task_id = '{}'",
                    task.id
                );
                self.db.sql(&sql).await;
            }
        }
        for (player, attempts) in &mut self.nodes {
            let withdrawn = player.store.withdraw_paused(&player.id).await.expect("an answer");
            attempts.retain(|attempt| !withdrawn.contains(&attempt.execution_id));
        }
    }

    /// It dies, or stops in good order.
    async fn lose_a_node(&mut self) {
        let node = usize::from(self.dice.one_in(2));
        let new = self.new_node().await;
        let (lost, _) = std::mem::replace(&mut self.nodes[node], new);
        if self.dice.one_in(2) {
            lost.store.leave(&lost.id).await.expect("an answer");
        } else if self.dice.one_in(2) {
            self.db.advance(LEASE + Duration::from_secs(1)).await;
            let living: &NodeId = &self.nodes[1 - node].0.id;
            lost.store.renew(living, LEASE).await.expect("a heartbeat");
            lost.store.rescue(living).await.expect("an answer");
        }
    }

    /// The same, with or without one of the tasks, or with another policy.
    async fn reload(&mut self) {
        let mut tasks = self.tasks.clone();
        match self.dice.below(3) {
            0 => {
                let gone = one_of(&mut self.dice, &tasks).id.clone();
                tasks.retain(|task| task.id != gone);
            }
            1 => {
                let n = self.dice.below(1_000);
                let which = self.dice.index(tasks.len());
                tasks[which].definition =
                    botticelli_server::ids::DefinitionHash::new(format!("policy {n}")).expect("a hash");
                self.tasks = tasks.clone();
            }
            _ => {}
        }
        let start = self.dice.one_in(2);
        self.register(tasks, start).await;
    }

    async fn trigger_or_release(&mut self) {
        if self.dice.one_in(2) {
            let task = one_of(&mut self.dice, &self.tasks).id.clone();
            let event = Event { task, trigger: Trigger::Manual, parameters: serde_json::Value::Null };
            self.db.publish(event).await.expect("an answer");
        } else {
            let (player, attempts) = &mut self.nodes[0];
            player.store.release(&player.id, &std::mem::take(attempts)).await.expect("an answer");
        }
    }

    /// Everything is resumed and ends well: then nothing is open, and every task waits for a time to come.
    async fn come_to_rest(&mut self) {
        self.late.clear();
        self.register(self.tasks.clone(), false).await;
        for task in &self.tasks {
            self.db.resume(&task.id).await.expect("an answer");
        }
        for (player, _) in std::mem::take(&mut self.nodes) {
            player.store.leave(&player.id).await.expect("an answer");
        }
        // Nodes that died unseen.
        self.db.advance(2 * LEASE).await;
        for _ in 0..2 {
            let node = self.new_node().await;
            node.0.store.rescue(&node.0.id).await.expect("an answer");
            self.nodes.push(node);
        }
        self.db.advance(3_600 * Duration::from_secs(1)).await;
        for _ in 0..40 {
            self.claim().await;
            self.late.clear();
            self.take().await;
            for node in 0..2 {
                let attempts = std::mem::take(&mut self.nodes[node].1);
                let latest = attempts.iter().map(|attempt| attempt.due_at).max();
                self.db.set(latest.unwrap_or(DateTime::UNIX_EPOCH).max(self.db.time())).await;
                let mut ended = Vec::new();
                for attempt in attempts {
                    ended.push(self.ended(attempt, AttemptEnd::Succeeded).await);
                }
                self.store(node, ended).await;
            }
        }
        let seed = self.seed;
        let open = format!(
            "SELECT task_id AS value FROM actor_server_open_executions WHERE task_id LIKE '{seed} %'"
        );
        assert_eq!(self.db.values(&open).await, Vec::<String>::new(), "seed {seed}: something never ran");
        for task in &self.tasks {
            let state = state(self.db, task).await;
            assert!(!state.is_paused, "seed {seed}: {state:?}");
            let due = state.next_run.map(|next| next + task.policy.jitter);
            assert!(
                due.is_none_or(|due| due + 120 * Duration::from_secs(1) > self.db.time()),
                "seed {seed}: {state:?}"
            );
        }
    }

    /// From the first occurrence to the next one: no gap, no overlap, none twice.
    async fn check(&self) {
        for task in &self.tasks {
            let mut accounted = Vec::new();
            for row in self.db.history(&task.id, 1_000_000).await.expect("history") {
                let Some(from) = row.scheduled_for else { continue };
                let mut nominal = Some(from);
                for n in 1..=row.occurrences {
                    let at = nominal.unwrap_or_else(|| panic!("seed {}: {row:?} has too many", self.seed));
                    accounted.push((at, row.id));
                    if n == row.occurrences {
                        assert_eq!(at, row.scheduled_until.unwrap_or(from), "seed {}: {row:?}", self.seed);
                    }
                    nominal = task.schedule.following(at);
                }
            }
            accounted.sort();
            let mut expected = Some(self.first[task.id.as_str()]);
            for (at, id) in &accounted {
                assert_eq!(Some(*at), expected, "seed {}: {} at execution {id}", self.seed, task.id);
                expected = task.schedule.following(*at);
            }
            let next_run = state(self.db, task).await.next_run;
            assert_eq!(next_run, expected, "seed {}: {}", self.seed, task.id);
        }
        let orphans = "SELECT id AS value FROM actor_server_posts WHERE execution_id NOT IN \
             (SELECT id FROM actor_server_executions WHERE outcome = 'succeeded')";
        assert_eq!(self.db.values(orphans).await, Vec::<String>::new());
    }
}

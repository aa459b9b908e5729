//! What the tables say at the end, and what must be true of it.

use crate::stage::Stage;
use botticelli_server::schedule::ScheduleType;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The ledger and the outbox of a server that is at rest.
pub(crate) struct Ledger {
    tasks: Vec<Task>,
    executions: Vec<Execution>,
    posts: Vec<Post>,
    used_items: Vec<UsedItem>,
    lines: Vec<Value>,
}

struct Task {
    id: String,
    schedule: ScheduleType,
    next_run: Option<DateTime<Utc>>,
}

#[derive(Debug)]
struct Execution {
    id: i64,
    task: String,
    trigger: String,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    occurrences: u64,
    outcome: String,
    attempt: usize,
    error: String,
}

struct Post {
    execution: i64,
    key: String,
    state: String,
}

struct UsedItem {
    task: String,
    item: String,
    execution: i64,
}

/// Joined by a character that stands in none of them.
fn columns(names: &[&str]) -> String {
    let texts = names.iter().map(|name| format!("COALESCE(CAST({name} AS text), '')"));
    format!("{} AS value", texts.collect::<Vec<_>>().join(" || '|' || "))
}

fn rows(stage: &Stage, names: &[&str], table: &str) -> Vec<Vec<String>> {
    let answer = stage.values(&format!("SELECT {} FROM {table}", columns(names)));
    answer.iter().map(|row| row.split('|').map(str::to_owned).collect()).collect()
}

/// As both databases write it.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let parse = |text| DateTime::parse_from_str(text, "%F %T%.f%#z").unwrap_or_else(|_| panic!("{text:?}"));
    (!text.is_empty()).then(|| parse(text).with_timezone(&Utc))
}

impl Ledger {
    pub(crate) fn of(stage: &Stage) -> Self {
        let task = |row: &Vec<String>| Task {
            id: row[0].clone(),
            schedule: serde_json::from_str(&row[1]).unwrap(),
            next_run: time(&row[2]),
        };
        let execution = |row: &Vec<String>| Execution {
            id: row[0].parse().unwrap(),
            task: row[1].clone(),
            trigger: row[2].clone(),
            first: time(&row[3]),
            last: time(&row[4]),
            occurrences: row[5].parse().unwrap(),
            outcome: row[6].clone(),
            attempt: row[7].parse().unwrap(),
            error: row[8].clone(),
        };
        let post = |row: &Vec<String>| Post {
            execution: row[0].parse().unwrap(),
            key: row[1].clone(),
            state: row[2].clone(),
        };
        let used_item = |row: &Vec<String>| UsedItem {
            task: row[0].clone(),
            item: row[1].clone(),
            execution: row[2].parse().unwrap(),
        };
        let executions = [
            "id",
            "task_id",
            "trigger",
            "scheduled_for",
            "scheduled_until",
            "occurrences",
            "outcome",
            "attempt",
            "error_message",
        ];
        let mut executions: Vec<Execution> =
            rows(stage, &executions, "actor_server_executions").iter().map(execution).collect();
        // What waits for a node, because its task was paused meanwhile, is accounted for: it is pending.
        let pending = [
            "id",
            "task_id",
            "trigger",
            "scheduled_for",
            "NULL",
            "1",
            "CASE WHEN node IS NULL THEN 'pending' END",
            "attempt",
            "NULL",
        ];
        executions.extend(rows(stage, &pending, "actor_server_open_executions").iter().map(execution));
        let used = ["task_id", "item_key", "execution_id"];
        Self {
            tasks: rows(stage, &["task_id", "schedule", "next_run"], "actor_server_state")
                .iter()
                .map(task)
                .collect(),
            executions,
            posts: rows(stage, &["execution_id", "key", "state"], "actor_server_posts")
                .iter()
                .map(post)
                .collect(),
            used_items: rows(stage, &used, "actor_server_used_items").iter().map(used_item).collect(),
            lines: stage.posted_lines(),
        }
    }

    /// Each nominal time from the task's first to its next is there once: as run, or as left out. The first is the one
    /// that a server which started between these times must have found.
    pub(crate) fn accounts_for_every_occurrence(&self, first_start: (DateTime<Utc>, DateTime<Utc>)) {
        for task in &self.tasks {
            let mut accounted = BTreeMap::new();
            for execution in self.executions.iter().filter(|execution| execution.task == task.id) {
                for nominal in execution.nominal_times(&task.schedule) {
                    let twice = accounted.insert(nominal, execution.id);
                    assert_eq!(twice, None, "{} of {} was settled twice: {execution:?}", nominal, task.id);
                }
            }
            let (&first, _) = accounted.first_key_value().unwrap_or_else(|| panic!("{} never ran", task.id));
            let range = first_start.0..=first_start.1;
            let possible = match &task.schedule {
                ScheduleType::Cron(_) => {
                    task.schedule.first_occurrence(*range.start())
                        ..=task.schedule.first_occurrence(*range.end())
                }
                ScheduleType::Interval(_) | ScheduleType::Immediate(_) => {
                    Some(*range.start())..=Some(*range.end())
                }
                ScheduleType::Once(once) => Some(once.at())..=Some(once.at()),
                ScheduleType::Event => panic!("{} has no nominal times", task.id),
            };
            assert!(possible.contains(&Some(first)), "{}: {first} is not in {possible:?}", task.id);
            let mut nominal = Some(first);
            while let Some(now) = nominal.filter(|_| nominal != task.next_run) {
                assert!(accounted.remove(&now).is_some(), "{now} of {} is lost", task.id);
                nominal = task.schedule.following(now);
            }
            assert_eq!(nominal, task.next_run, "{} waits for a time that it does not have", task.id);
            assert!(
                accounted.is_empty(),
                "{} has what is still to come, or never was: {accounted:?}",
                task.id
            );
        }
    }

    /// What was asked for by hand is there once, and nothing that was not.
    pub(crate) fn has_each_trigger_once(&self, accepted: &[i64]) {
        let manual = self.executions.iter().filter(|execution| execution.trigger == "manual");
        let mut manual: Vec<i64> = manual.map(|execution| execution.id).collect();
        manual.sort_unstable();
        let mut accepted = accepted.to_vec();
        accepted.sort_unstable();
        assert_eq!(manual, accepted);
    }

    /// What became of executions is what this test knows of: they succeeded, or were cut off three times.
    pub(crate) fn has_no_failures_but_poison(&self) {
        for execution in &self.executions {
            match execution.outcome.as_str() {
                "succeeded" | "skipped" | "pending" => {}
                "failed" => assert!(execution.error.contains("died 3 times"), "{execution:?}"),
                _ => panic!("{execution:?}"),
            }
        }
    }

    /// Each succeeded execution made as many posts as its task's actor makes; nothing else made any. All are posted,
    /// stand in their file once, and used up one item each, which no other post of the task has.
    pub(crate) fn has_every_post_exactly_once(&self, posts_of: impl Fn(&str) -> usize) {
        let mut made: HashMap<i64, usize> = HashMap::new();
        for post in &self.posts {
            *made.entry(post.execution).or_default() += 1;
            assert_eq!(post.state, "posted", "{} of execution {}", post.key, post.execution);
        }
        for execution in &self.executions {
            let wanted = if execution.outcome == "succeeded" { posts_of(&execution.task) } else { 0 };
            assert_eq!(made.remove(&execution.id).unwrap_or(0), wanted, "posts of {execution:?}");
        }
        assert!(made.is_empty(), "posts of executions that are not in the history: {made:?}");

        let text =
            |line: &Value, name: &str| line[name].as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
        let keys: Vec<String> = self.lines.iter().map(|line| text(line, "key")).collect();
        let unique: BTreeSet<&String> = keys.iter().collect();
        assert_eq!(unique.len(), keys.len(), "a key stands in the files twice");
        let posted: BTreeSet<&String> = self.posts.iter().map(|post| &post.key).collect();
        assert_eq!(unique, posted, "the files have other posts than the outbox");

        let shown: Vec<String> = self.lines.iter().map(|line| text(line, "content")).collect();
        let unique: BTreeSet<&String> = shown.iter().collect();
        assert_eq!(unique.len(), shown.len(), "an item was posted twice");
        let used: BTreeSet<String> =
            self.used_items.iter().map(|used| format!("{} {}", used.task, used.item)).collect();
        assert_eq!(unique, used.iter().collect(), "items that are used up, and items in the files");
        let of_execution: HashMap<i64, &str> =
            self.executions.iter().map(|execution| (execution.id, execution.task.as_str())).collect();
        for used in &self.used_items {
            assert_eq!(of_execution.get(&used.execution), Some(&used.task.as_str()), "{}", used.item);
        }
    }

    /// Attempts before the last are all there.
    pub(crate) fn knows_every_attempt(&self, stage: &Stage) {
        let mut earlier: HashMap<i64, BTreeSet<usize>> = HashMap::new();
        for row in rows(stage, &["execution_id", "attempt"], "actor_server_attempts") {
            earlier.entry(row[0].parse().unwrap()).or_default().insert(row[1].parse().unwrap());
        }
        for execution in self.executions.iter().filter(|execution| execution.outcome == "succeeded") {
            let before = earlier.remove(&execution.id).unwrap_or_default();
            assert!(before.iter().copied().eq(1..execution.attempt), "{before:?} before {execution:?}");
        }
    }

    pub(crate) fn summary(&self) -> String {
        let count =
            |outcome: &str| self.executions.iter().filter(|execution| execution.outcome == outcome).count();
        let rescued = self.executions.iter().filter(|execution| execution.attempt > 1).count();
        let left_out: u64 =
            self.executions.iter().filter(|e| e.outcome == "skipped").map(|e| e.occurrences).sum();
        format!(
            "{} succeeded, {} failed, {} pending ({rescued} not in the first attempt), {left_out} left out; {} posts",
            count("succeeded"),
            count("failed"),
            count("pending"),
            self.posts.len()
        )
    }
}

impl Execution {
    fn nominal_times(&self, schedule: &ScheduleType) -> Vec<DateTime<Utc>> {
        let times: Vec<_> = match (self.first, self.last) {
            (None, _) => Vec::new(),
            (Some(only), None) => vec![only],
            (Some(first), Some(last)) => {
                let all = std::iter::successors(Some(first), |previous| schedule.following(*previous));
                all.take_while(|nominal| *nominal <= last).collect()
            }
        };
        let expected = if self.first.is_some() { self.occurrences } else { 0 };
        assert_eq!(times.len() as u64, expected, "{self:?}");
        assert_eq!(times.last().copied(), self.last.or(self.first), "{self:?}");
        times
    }
}

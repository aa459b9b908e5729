//! Storing how attempts ended, with everything they made.

use super::agenda::lock_states;
use super::ends::Followers;
use super::known::{Known, known};
use super::read::{CARRIED_BY, STILL_USED};
use super::rows::{LockedState, NewActorServerExecution, insert_executions, word};
use super::*;
use crate::fail_points::{Point, pass};
use botticelli_server::breaker::{BreakerPolicy, BreakerState};
use botticelli_server::clock::to_microseconds;
use botticelli_server::ids::{NodeId, TaskId};
use botticelli_server::ledger::{EndedAttempt, Recorded, SkippedRange, TaskChange, Trigger};
use botticelli_server::outbox::UsedItem;
use botticelli_server::outcome::{AttemptEnd, Outcome};
use botticelli_server::plan::{Advance, BreakerEffect, Settlement};
use botticelli_server::post::IdempotencyKey;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Everything a batch writes, gathered first: one statement a table, however many attempts ended.
#[derive(Default)]
struct Writes {
    history: Vec<NewActorServerExecution>,
    earlier_attempts: Vec<NewAttempt>,
    closed: Vec<ExecutionRef>,
    waiting: Vec<WaitingExecution>,
    posts: Vec<NewPostRow>,
    /// By their key in the table: one statement can't write a row twice.
    used_items: HashMap<[String; 5], NewUsedItem>,
    states: HashMap<String, StateAfter>,
    followers: Followers,
    /// What is accounted for already of what the runs left no room for.
    known: Known,
    /// The tasks whose state is written.
    touched: HashSet<String>,
}

pub(crate) async fn record(
    conn: &mut Connection,
    node: NodeId,
    ended: Arc<[EndedAttempt]>,
    ledger_id: Arc<str>,
) -> Work<Vec<Recorded>> {
    let tasks: Vec<TaskId> = ended.iter().map(|ended| ended.attempt.task_id.clone()).collect();
    let states = lock_states(conn, &tasks).await?;
    let (mut owned, now) = owned_attempts(conn, &node, &ended).await?;
    let mut writes = Writes {
        followers: Followers::of(&states),
        states: states.into_iter().map(|row| (row.task_id.clone(), StateAfter::new(row))).collect(),
        ..Writes::default()
    };
    let used = used_before(conn, &ended).await?;
    writes.known = known(conn, &ended.iter().filter_map(skipped_by).collect::<Vec<_>>()).await?;
    let mut answers = Vec::with_capacity(ended.len());
    for ended in ended.iter() {
        // Taken out: who comes twice in one batch is stale the second time.
        if owned.remove(&ended.attempt.execution_id.0) == Some(ended.attempt.fence.0) {
            let taken = |key| used.contains(&key) || writes.used_items.contains_key(&key);
            if fresh_items(ended).any(|item| taken(item_key(ended, item))) {
                answers.push(writes.overtaken(ended, &node, now));
            } else {
                answers.push(writes.add(ended, &node, &ledger_id, now)?);
            }
        } else {
            answers.push(Recorded::Stale);
        }
    }
    writes.number_skipped_rows(conn).await?;
    writes.carry_out(conn).await?;
    pass(Point::RunWritten);
    if answers.contains(&Recorded::Stale) {
        let stored = stored_before(conn, &node, &ended).await?;
        for (answer, ended) in answers.iter_mut().zip(ended.iter()) {
            let before = (ended.attempt.execution_id.0, ended.attempt.fence.0);
            if *answer == Recorded::Stale
                && let Some(stored) = stored.get(&before)
            {
                *answer = stored.answer(&ended.settlement);
            }
        }
    }
    Ok(answers)
}

fn skipped_by(ended: &EndedAttempt) -> Option<(&TaskId, &SkippedRange)> {
    match &ended.settlement {
        Settlement::Close { advance: Some(advance), .. } => {
            Some((&ended.attempt.task_id, advance.skipped.as_ref()?))
        }
        Settlement::Close { advance: None, .. } | Settlement::Retry { .. } => None,
    }
}

fn fresh_items(ended: &EndedAttempt) -> impl Iterator<Item = &UsedItem> {
    ended.used_items.iter().filter(|item| !item.again)
}

/// The key of the item's row in the table.
fn item_key(ended: &EndedAttempt, item: &UsedItem) -> [String; 5] {
    let to = &item.destination;
    [ended.attempt.task_id.as_str(), &item.source, &item.key, &to.platform, &to.target].map(str::to_owned)
}

/// Of the items that these attempts took for unused, those that are not. Their tasks are locked, so it stays so.
async fn used_before(conn: &mut Connection, ended: &[EndedAttempt]) -> Work<HashSet<[String; 5]>> {
    batch_row! {
        #[derive(QueryableByName)]
        struct ItemKey {
            #[diesel(sql_type = Text)]
            task_id: String,
            #[diesel(sql_type = Text)]
            source: String,
            #[diesel(sql_type = Text)]
            item_key: String,
            #[diesel(sql_type = Text)]
            platform: String,
            #[diesel(sql_type = Text)]
            destination: String,
        }
    }
    let wanted: Vec<ItemKey> = ended
        .iter()
        .flat_map(|ended| fresh_items(ended).map(|item| item_key(ended, item)))
        .map(|[task_id, source, item_key, platform, destination]| ItemKey {
            task_id,
            source,
            item_key,
            platform,
            destination,
        })
        .collect();
    if wanted.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = format!(
        "SELECT u.task_id, u.source, u.item_key, u.platform, u.destination \
         FROM {{r}} JOIN actor_server_used_items AS u \
             ON u.task_id = r.task_id AND u.source = r.source AND u.item_key = r.item_key \
             AND u.platform = r.platform AND u.destination = r.destination {CARRIED_BY} \
         WHERE {STILL_USED}"
    );
    let used: Vec<ItemKey> = sql_query(sql).rows(&wanted)?.load(conn).await?;
    let key = |row: ItemKey| [row.task_id, row.source, row.item_key, row.platform, row.destination];
    Ok(used.into_iter().map(key).collect())
}

#[derive(QueryableByName)]
struct StoredBefore {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    fence: i64,
    /// Since when the execution waits for its next attempt, if this one left it waiting.
    #[diesel(sql_type = Nullable<Instant>)]
    waits_since: Option<DateTime<Utc>>,
}

impl StoredBefore {
    fn answer(&self, settlement: &Settlement) -> Recorded {
        match (self.waits_since, settlement) {
            // It was to be closed.
            (Some(ready_at), Settlement::Close { .. }) => Recorded::Overtaken { ready_at },
            (Some(_), Settlement::Retry { .. }) | (None, _) => Recorded::Stored { state: None },
        }
    }
}

/// Of these attempts, by execution and fence, those whose end is stored: the node did not hear of it then.
async fn stored_before(
    conn: &mut Connection,
    node: &NodeId,
    ended: &[EndedAttempt],
) -> Work<HashMap<(i64, i64), StoredBefore>> {
    batch_row! {
        struct AttemptRef {
            id: i64,
            fence: i64,
            attempt: u32,
            ended_at: DateTime<Utc>,
        }
    }
    let refs: Vec<AttemptRef> = ended
        .iter()
        .map(|ended| AttemptRef {
            id: ended.attempt.execution_id.0,
            fence: ended.attempt.fence.0,
            attempt: ended.attempt.attempt,
            ended_at: ended.ended_at,
        })
        .collect();
    // An earlier attempt has no fence any more; that it ended at that very moment says that it is this one.
    let sql = "SELECT r.id, r.fence, a.ended_at AS waits_since FROM {r} \
         LEFT JOIN actor_server_executions AS e ON e.id = r.id AND e.fence = r.fence AND e.node = $1 \
         LEFT JOIN actor_server_attempts AS a ON a.execution_id = r.id AND a.attempt = r.attempt AND a.node = $1 \
             AND a.ended_at = r.ended_at \
         WHERE e.id IS NOT NULL OR a.execution_id IS NOT NULL";
    let stored: Vec<StoredBefore> =
        sql_query(sql).bind::<Text, _>(node.as_str()).rows(&refs)?.load(conn).await?;
    Ok(stored.into_iter().map(|stored| ((stored.id, stored.fence), stored)).collect())
}

fn execution_refs(ended: &[EndedAttempt]) -> Vec<ExecutionRef> {
    ended.iter().map(|ended| ExecutionRef { id: ended.attempt.execution_id.0 }).collect()
}

/// The fences of those executions that are the node's, and the time, which matters only if there are any.
async fn owned_attempts(
    conn: &mut Connection,
    node: &NodeId,
    ended: &[EndedAttempt],
) -> Work<(HashMap<i64, i64>, DateTime<Utc>)> {
    #[derive(QueryableByName)]
    struct Owned {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        fence: i64,
        #[diesel(sql_type = Instant)]
        now: DateTime<Utc>,
    }
    // No lock of its own: whoever changes the owner of an execution holds its task's row.
    let sql = "SELECT o.id, o.fence, actor_server_now() AS now FROM actor_server_open_executions AS o \
         WHERE o.id IN (SELECT r.id FROM {r}) AND o.node = $1";
    let rows: Vec<Owned> =
        sql_query(sql).bind::<Text, _>(node.as_str()).rows(&execution_refs(ended))?.load(conn).await?;
    let now = rows.iter().map(|row| to_microseconds(row.now)).next().unwrap_or_default();
    Ok((rows.into_iter().map(|row| (row.id, row.fence)).collect(), now))
}

impl Writes {
    fn add(
        &mut self,
        ended: &EndedAttempt,
        node: &NodeId,
        ledger_id: &str,
        now: DateTime<Utc>,
    ) -> Work<Recorded> {
        let task = ended.attempt.task_id.as_str();
        self.touched.insert(task.to_owned());
        let change = match &ended.settlement {
            Settlement::Retry { at } => {
                self.wait(ended, node, *at);
                self.states.get_mut(task).map(|state| {
                    state.ran(ended.started_at);
                    state.change(false)
                })
            }
            Settlement::Close { outcome, breaker, advance } => {
                self.close(ended, node, outcome);
                self.put_into_outbox(ended, ledger_id, now);
                let skipped = advance.and_then(|advance| self.step_over(ended, &advance, now));
                self.history.extend(skipped);
                match self.states.get_mut(task) {
                    None => None,
                    Some(state) => {
                        state.ran(ended.started_at);
                        let opened = state.breaker(*breaker, !ended.posts.is_empty(), now)?;
                        if ended.attempt.trigger == Trigger::Probe {
                            state.probe_again(now);
                        }
                        Some(state.change(opened))
                    }
                }
            }
        };
        Ok(Recorded::Stored { state: change.map(Box::new) })
    }

    /// Two runs of a task side by side chose the same item. The second one chooses again.
    fn overtaken(&mut self, ended: &EndedAttempt, node: &NodeId, now: DateTime<Utc>) -> Recorded {
        self.wait(ended, node, now);
        if let Some(attempt) = self.earlier_attempts.last_mut() {
            attempt.error_message =
                Some("another run of the task had posted an item of this one first".into());
        }
        Recorded::Overtaken { ready_at: now }
    }

    fn wait(&mut self, ended: &EndedAttempt, node: &NodeId, at: DateTime<Utc>) {
        let (how, error) = match &ended.end {
            AttemptEnd::Failed { error, .. } => ("failed", Some(batch::without_nul(error))),
            AttemptEnd::Interrupted
            | AttemptEnd::Succeeded
            | AttemptEnd::Skipped(_)
            | AttemptEnd::Cancelled => ("interrupted", None),
        };
        self.earlier_attempts.push(NewAttempt {
            execution_id: ended.attempt.execution_id.0,
            attempt: ended.attempt.attempt,
            node: node.to_string(),
            started_at: Some(ended.started_at),
            ended_at: ended.ended_at,
            ended: how,
            error_message: error,
        });
        let failures = u32::from(how == "failed");
        self.waiting.push(WaitingExecution { id: ended.attempt.execution_id.0, ready_at: at, failures });
    }

    fn close(&mut self, ended: &EndedAttempt, node: &NodeId, outcome: &Outcome) {
        let attempt = &ended.attempt;
        self.closed.push(ExecutionRef { id: attempt.execution_id.0 });
        self.history.push(NewActorServerExecution {
            id: attempt.execution_id.0,
            task_id: attempt.task_id.to_string(),
            actor_name: ended.actor_name.to_string(),
            trigger: attempt.trigger.as_str(),
            scheduled_for: attempt.scheduled_for,
            scheduled_until: None,
            occurrences: 1,
            started_at: Some(ended.started_at),
            completed_at: ended.ended_at,
            outcome: outcome.as_str(),
            skip_reason: match outcome {
                Outcome::Skipped(reason) => Some(reason.as_str()),
                Outcome::Succeeded | Outcome::Failed { .. } | Outcome::Cancelled => None,
            },
            success: outcome.success(),
            error_message: match outcome {
                Outcome::Failed { error } => Some(batch::without_nul(error)),
                Outcome::Succeeded | Outcome::Skipped(_) | Outcome::Cancelled => None,
            },
            attempt: attempt.attempt,
            node: Some(node.to_string()),
            fence: Some(attempt.fence.0),
            skills_succeeded: ended.skills.succeeded,
            skills_failed: ended.skills.failed,
            skills_skipped: ended.skills.skipped,
            metadata: object(&ended.metadata),
        });
    }

    fn put_into_outbox(&mut self, ended: &EndedAttempt, ledger_id: &str, now: DateTime<Utc>) {
        let execution = ended.attempt.execution_id;
        for post in &ended.posts {
            let waits = post.not_before.is_some_and(|at| at > now);
            self.posts.push(NewPostRow {
                execution_id: execution.0,
                task_id: ended.attempt.task_id.to_string(),
                platform: post.destination.platform.clone(),
                destination: post.destination.target.clone(),
                part: post.part,
                first_part: post.first_part,
                key: IdempotencyKey::derive(ledger_id, &ended.attempt.origin(), &post.destination, post.part)
                    .as_str()
                    .to_owned(),
                content: serde_json::json!(post.content),
                limits: serde_json::json!(post.limits),
                on_unknown: post.on_unknown.as_str(),
                state: if waits { "deferred" } else { "pending" },
                not_before: post.not_before,
                deliver_at: post.not_before.unwrap_or(now).max(now),
                is_due: !waits,
                created_at: now,
                updated_at: now,
            });
        }
        for item in &ended.used_items {
            let used = NewUsedItem {
                task_id: ended.attempt.task_id.to_string(),
                source: item.source.clone(),
                item_key: item.key.clone(),
                platform: item.destination.platform.clone(),
                destination: item.destination.target.clone(),
                text: item.text.clone(),
                execution_id: execution.0,
                part: item.part,
                used_at: now,
            };
            self.used_items.insert(item_key(ended, item), used);
        }
    }

    /// Moves the task past occurrences that the run left no room for; their history row gets its number later.
    fn step_over(
        &mut self,
        ended: &EndedAttempt,
        advance: &Advance,
        now: DateTime<Utc>,
    ) -> Option<NewActorServerExecution> {
        let state = self.states.get_mut(ended.attempt.task_id.as_str())?;
        if state.row.next_run != Some(advance.expected) {
            return None;
        }
        state.row.next_run = advance.next_run;
        state.row.wake_at = advance.wake_at;
        let range = self.known.leaves(&ended.attempt.task_id, advance.skipped.as_ref()?)?;
        Some(NewActorServerExecution::skipped(0, &ended.attempt.task_id, &ended.actor_name, &range, now))
    }

    async fn number_skipped_rows(&mut self, conn: &mut Connection) -> Work<()> {
        let unnumbered: Vec<&mut NewActorServerExecution> =
            self.history.iter_mut().filter(|row| row.id == 0).collect();
        let numbers = batch::take_numbers(conn, unnumbered.len()).await?;
        for (row, number) in unnumbered.into_iter().zip(numbers) {
            row.id = number;
        }
        Ok(())
    }

    async fn carry_out(self, conn: &mut Connection) -> Work<()> {
        insert_executions(conn, &self.history).await?;
        self.followers.note(conn, &self.history).await?;
        insert_attempts(conn, &self.earlier_attempts).await?;
        let close = "DELETE FROM actor_server_open_executions WHERE id IN (SELECT r.id FROM {r})";
        batch::update(conn, close, &self.closed).await?;
        let wait = "UPDATE actor_server_open_executions AS o SET node = NULL, fence = NULL, ready_at = r.ready_at, \
                 failures = o.failures + r.failures \
             FROM {r} WHERE o.id = r.id";
        batch::update(conn, wait, &self.waiting).await?;
        batch::insert(conn, "actor_server_posts", &self.posts, "").await?;
        let used_again = "ON CONFLICT (task_id, source, item_key, platform, destination) DO UPDATE SET \
             text = excluded.text, execution_id = excluded.execution_id, part = excluded.part, \
             used_at = excluded.used_at";
        let used_items: Vec<NewUsedItem> = self.used_items.into_values().collect();
        batch::insert(conn, "actor_server_used_items", &used_items, used_again).await?;
        let touched = self.states.into_iter().filter(|(task, _)| self.touched.contains(task));
        let states: Vec<StateUpdate> = touched.map(|(_, state)| state.into_update()).collect();
        write_states(conn, &states).await
    }
}

/// A locked state row, changed in memory and written once.
pub(super) struct StateAfter {
    row: LockedState,
}

impl StateAfter {
    pub(super) fn new(row: LockedState) -> Self {
        Self { row }
    }

    fn ran(&mut self, started_at: DateTime<Utc>) {
        self.row.last_run = self.row.last_run.max(Some(to_microseconds(started_at)));
    }

    /// Says whether this opened the breaker.
    pub(super) fn breaker(
        &mut self,
        effect: BreakerEffect,
        posts_open: bool,
        now: DateTime<Utc>,
    ) -> Work<bool> {
        let row = &mut self.row;
        let before = BreakerState {
            consecutive_failures: row.consecutive_failures.unsigned_abs(),
            is_paused: row.is_paused,
            pause_reason: row.pause_reason.as_deref().map(|text| word("pause_reason", text)).transpose()?,
            probe_at: row.probe_at,
        };
        let policy = BreakerPolicy {
            opens_at: row.max_consecutive_failures.unsigned_abs(),
            cooldown: row.cooldown_seconds.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
        };
        let after = before.after(effect, posts_open, policy, now);
        row.consecutive_failures = i32::try_from(after.consecutive_failures).unwrap_or(i32::MAX);
        row.is_paused = after.is_paused;
        row.pause_reason = after.pause_reason.map(|reason| reason.as_str().to_owned());
        row.probe_at = after.probe_at;
        Ok(after.opened_since(&before))
    }

    /// A probe that told nothing, because it was cancelled, leaves the breaker open: there will be another.
    fn probe_again(&mut self, now: DateTime<Utc>) {
        let row = &mut self.row;
        if row.is_paused && row.pause_reason.as_deref() == Some("breaker") && row.probe_at.is_none() {
            let cooldown = row.cooldown_seconds.and_then(TimeDelta::try_seconds);
            row.probe_at = cooldown.and_then(|cooldown| now.checked_add_signed(cooldown));
        }
    }

    fn change(&self, breaker_opened: bool) -> TaskChange {
        TaskChange {
            next_run: self.row.next_run,
            wake_at: if self.row.is_paused { self.row.probe_at } else { self.row.wake_at },
            breaker_opened,
            consecutive_failures: self.failures(),
            followed: self.row.followers.is_some(),
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.row.consecutive_failures.unsigned_abs()
    }

    pub(super) fn into_update(self) -> StateUpdate {
        let row = self.row;
        StateUpdate {
            task_id: row.task_id,
            last_run: row.last_run,
            next_run: row.next_run,
            wake_at: row.wake_at,
            probe_at: row.probe_at,
            consecutive_failures: row.consecutive_failures,
            is_paused: row.is_paused,
            pause_reason: row.pause_reason,
        }
    }
}

batch_row! {
    pub(super) struct StateUpdate {
        task_id: String,
        last_run: Option<DateTime<Utc>>,
        next_run: Option<DateTime<Utc>>,
        wake_at: Option<DateTime<Utc>>,
        probe_at: Option<DateTime<Utc>>,
        consecutive_failures: i32,
        is_paused: bool,
        pause_reason: Option<String>,
    }
}

/// Writes locked rows back. Columns whose value stays the same keep the update off the indexes.
pub(super) async fn write_states(conn: &mut Connection, states: &[StateUpdate]) -> Work<()> {
    let sql = "UPDATE actor_server_state AS s SET last_run = r.last_run, next_run = r.next_run, \
             wake_at = r.wake_at, probe_at = r.probe_at, consecutive_failures = r.consecutive_failures, \
             is_paused = r.is_paused, pause_reason = r.pause_reason, updated_at = actor_server_now() \
         FROM {r} WHERE s.task_id = r.task_id";
    batch::update(conn, sql, states).await.map(drop)
}

batch_row! {
    struct ExecutionRef {
        id: i64,
    }
}

batch_row! {
    struct WaitingExecution {
        id: i64,
        ready_at: DateTime<Utc>,
        failures: u32,
    }
}

batch_row! {
    pub(super) struct NewAttempt {
        pub(super) execution_id: i64,
        pub(super) attempt: u32,
        pub(super) node: String,
        pub(super) started_at: Option<DateTime<Utc>>,
        pub(super) ended_at: DateTime<Utc>,
        pub(super) ended: &'static str,
        pub(super) error_message: Option<String>,
    }
}

pub(super) async fn insert_attempts(conn: &mut Connection, rows: &[NewAttempt]) -> Work<usize> {
    batch::insert(conn, "actor_server_attempts", rows, "").await
}

batch_row! {
    struct NewPostRow {
        execution_id: i64,
        task_id: String,
        platform: String,
        destination: String,
        part: u32,
        first_part: u32,
        key: String,
        content: Value,
        limits: Value,
        on_unknown: &'static str,
        state: &'static str,
        not_before: Option<DateTime<Utc>>,
        deliver_at: DateTime<Utc>,
        is_due: bool,
        created_at: DateTime<Utc>,
        updated_at: DateTime<Utc>,
    }
}

batch_row! {
    struct NewUsedItem {
        task_id: String,
        source: String,
        item_key: String,
        platform: String,
        destination: String,
        text: String,
        execution_id: i64,
        part: u32,
        used_at: DateTime<Utc>,
    }
}

/// JSON columns hold objects: a JSON null would arrive as SQL's.
fn object(value: &Value) -> Value {
    if value.is_null() { Value::Object(serde_json::Map::new()) } else { value.clone() }
}

//! The outbox: storing how attempts at posts ended, and taking back those that were lost.

use super::agenda::lock_states;
use super::follow_ups;
use super::record::{StateAfter, write_states};
use super::rows::{PostRow, task_id};
use super::*;
use crate::fail_points::{Point, pass};
use botticelli_server::clock::to_microseconds;
use botticelli_server::ids::NodeId;
use botticelli_server::outbox::{HOLDS_FOR, PostEnd, PostsSettled, SettledPost};
use botticelli_server::plan::BreakerEffect;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Text};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Stores how attempts ended; what was lost to another node is returned and left alone.
pub(crate) async fn settle_posts(
    conn: &mut Connection,
    node: NodeId,
    ended: Arc<[SettledPost]>,
) -> Work<PostsSettled> {
    let (followed, ended): (Vec<SettledPost>, Vec<SettledPost>) =
        ended.iter().cloned().partition(|ended| matches!(ended.end, PostEnd::Followed { .. }));
    let rows = sending_posts(conn, &node, &ended, "").await?;
    let tasks = rows.values().map(|row| task_id(row.task_id.clone())).collect::<Work<Vec<_>>>()?;
    let states = lock_states(conn, &tasks).await?;
    // Again, and now locked: a rescue may have been quicker. First the tasks and then the posts, as everywhere.
    let rows = sending_posts(conn, &node, &ended, dialect::LOCK_POSTS).await?;
    let now = super::now(conn).await?;

    let (mut lost, mut ours, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for ended in &ended {
        match rows.get(&(ended.id.0, ended.fence.0)) {
            Some(row) if seen.insert(ended.id) => ours.push((ended, row)),
            Some(_) => {}
            None => lost.push(ended.id),
        }
    }
    let settled: Vec<Settled> = ours.iter().map(|(ended, row)| Settled::new(ended, row, now)).collect();
    write_settled(conn, &settled).await?;
    lost.extend(follow_ups::settle(conn, &node, &followed, now).await?);
    skip_later_parts(conn, &ours, now).await?;

    let mut states: HashMap<String, StateAfter> =
        states.into_iter().map(|row| (row.task_id.clone(), StateAfter::new(row))).collect();
    let (mut failed, mut paused) = (HashSet::new(), Vec::new());
    for (ended, row) in &ours {
        if matches!(ended.end, PostEnd::Failed { .. })
            && let Some(state) = states.get_mut(&row.task_id)
        {
            if state.breaker(BreakerEffect::Failure, false, now)? {
                paused.push((task_id(row.task_id.clone())?, state.failures()));
            }
            failed.insert(row.task_id.clone());
        }
    }
    let failed: Vec<_> = states
        .into_iter()
        .filter(|(task, _)| failed.contains(task))
        .map(|(_, state)| state.into_update())
        .collect();
    write_states(conn, &failed).await?;
    let is_settled = |end: &PostEnd| matches!(end, PostEnd::Posted(_) | PostEnd::Skipped { .. });
    let settled: Vec<&PostRow> =
        ours.iter().filter(|(ended, _)| is_settled(&ended.end)).map(|(_, row)| *row).collect();
    forget_failures(conn, &settled).await?;
    pass(Point::EndsWritten);
    Ok(PostsSettled { lost, paused })
}

batch_row! {
    struct PostRef {
        id: i64,
        fence: i64,
    }
}

async fn sending_posts(
    conn: &mut Connection,
    node: &NodeId,
    ended: &[SettledPost],
    lock: &str,
) -> Work<HashMap<(i64, i64), PostRow>> {
    let refs: Vec<PostRef> =
        ended.iter().map(|ended| PostRef { id: ended.id.0, fence: ended.fence.0 }).collect();
    let columns = PostRow::COLUMNS;
    let sql = format!(
        "SELECT {columns} FROM actor_server_posts AS p WHERE p.state = 'sending' AND p.node = $1 \
             AND (p.id, p.fence) IN (SELECT r.id, r.fence FROM {{r}}) {lock}"
    );
    let rows: Vec<PostRow> = sql_query(sql).bind::<Text, _>(node.as_str()).rows(&refs)?.load(conn).await?;
    Ok(rows.into_iter().map(|row| ((row.id, row.fence.unwrap_or(0)), row)).collect())
}

batch_row! {
    struct Settled {
        id: i64,
        attempt: i32,
        state: &'static str,
        ended: &'static str,
        reason: Option<String>,
        deliver_at: Option<DateTime<Utc>>,
        follow_up_at: Option<DateTime<Utc>>,
        posted_at: Option<DateTime<Utc>>,
        receipt: Option<Value>,
        exchanges: Value,
        /// What to do with `uncertain_since`: keep the first doubt, or forget it.
        uncertain: bool,
        /// It does not count as a try.
        waited: bool,
        /// Until when others wait for it, if nothing was said before.
        holds_until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    }
}

impl Settled {
    fn new(ended: &SettledPost, row: &PostRow, now: DateTime<Utc>) -> Self {
        let mut settled = Self {
            id: row.id,
            attempt: row.attempts,
            state: "posted",
            ended: "posted",
            reason: None,
            deliver_at: None,
            follow_up_at: None,
            posted_at: None,
            receipt: None,
            exchanges: batch::json_without_nul(serde_json::json!(ended.exchanges)),
            uncertain: false,
            waited: false,
            holds_until: None,
            now,
        };
        match &ended.end {
            PostEnd::Posted(receipt) => {
                settled.posted_at = Some(to_microseconds(receipt.posted_at));
                settled.receipt = Some(serde_json::json!(receipt));
                settled.follow_up_at = (!receipt.to_follow.is_empty()).then_some(now);
            }
            // `follow_ups` stores those.
            PostEnd::Followed { .. } => {}
            PostEnd::Failed { error } => {
                (settled.state, settled.ended) = ("failed", "failed");
                settled.reason = Some(batch::without_nul(error));
            }
            PostEnd::Deferred { until, reason, uncertain, holds, counts } => {
                settled.waited = !counts;
                settled.holds_until = holds.then(|| now + HOLDS_FOR);
                (settled.state, settled.ended) = ("deferred", "deferred");
                settled.reason = Some(batch::without_nul(reason));
                settled.deliver_at = Some(to_microseconds(*until));
                settled.uncertain = *uncertain;
            }
            PostEnd::Skipped { reason } => {
                (settled.state, settled.ended) = ("skipped", "skipped");
                settled.reason = Some(reason.as_str().to_owned());
            }
            PostEnd::NeedsReview { reason } => {
                (settled.state, settled.ended) = ("needs_review", "needs_review");
                settled.reason = Some(batch::without_nul(reason));
                settled.uncertain = true;
            }
        }
        settled
    }
}

async fn write_settled(conn: &mut Connection, settled: &[Settled]) -> Work<()> {
    let settle = "UPDATE actor_server_posts AS p SET state = r.state, reason = r.reason, deliver_at = r.deliver_at, \
             follow_up_at = r.follow_up_at, \
             posted_at = r.posted_at, receipt = r.receipt, node = NULL, fence = NULL, lease_until = NULL, \
             uncertain_since = CASE WHEN r.uncertain THEN COALESCE(p.uncertain_since, ( \
                 SELECT a.sent_at FROM actor_server_post_attempts AS a \
                 WHERE a.post_id = p.id AND a.attempt = p.attempts)) ELSE NULL END, \
             holds_until = CASE WHEN r.holds_until IS NOT NULL THEN COALESCE(p.holds_until, r.holds_until) END, \
             waits = CASE WHEN r.follow_up_at IS NOT NULL THEN p.attempts WHEN r.waited THEN p.waits + 1 ELSE p.waits END, \
             updated_at = r.now \
         FROM {r} WHERE p.id = r.id";
    batch::update(conn, settle, settled).await?;
    let end = "UPDATE actor_server_post_attempts AS a SET ended_at = r.now, ended = r.ended, reason = r.reason, \
             exchanges = r.exchanges \
         FROM {r} WHERE a.post_id = r.id AND a.attempt = r.attempt";
    batch::update(conn, end, settled).await?;
    Ok(())
}

/// A message whose part will not be posted ends there: its later parts are left out.
async fn skip_later_parts(
    conn: &mut Connection,
    ended: &[(&SettledPost, &PostRow)],
    now: DateTime<Utc>,
) -> Work<()> {
    for (ended, row) in ended {
        if matches!(ended.end, PostEnd::Failed { .. } | PostEnd::Skipped { .. }) {
            skip_parts_after(conn, row, now).await?;
        }
    }
    Ok(())
}

pub(super) async fn skip_parts_after(conn: &mut Connection, row: &PostRow, now: DateTime<Utc>) -> Work<()> {
    let sql = "UPDATE actor_server_posts SET state = 'skipped', deliver_at = NULL, reason = $1, updated_at = $2 \
         WHERE execution_id = $3 AND platform = $4 AND destination = $5 AND first_part = $6 AND part > $7 \
             AND state IN ('pending', 'deferred')";
    parts_after(conn, sql, row, now).await
}

/// The message goes on after all: what was left out because of this part goes out behind it.
pub(super) async fn take_up_parts_after(
    conn: &mut Connection,
    row: &PostRow,
    now: DateTime<Utc>,
) -> Work<()> {
    let sql = "UPDATE actor_server_posts SET state = 'pending', deliver_at = $2, reason = NULL, updated_at = $2 \
         WHERE execution_id = $3 AND platform = $4 AND destination = $5 AND first_part = $6 AND part > $7 \
             AND state = 'skipped' AND reason = $1";
    parts_after(conn, sql, row, now).await
}

async fn parts_after(conn: &mut Connection, sql: &str, row: &PostRow, now: DateTime<Utc>) -> Work<()> {
    sql_query(sql)
        .bind::<Text, _>(format!("post {}, an earlier part of the message, was not posted", row.id))
        .bind::<Instant, _>(now)
        .bind::<BigInt, _>(row.execution_id)
        .bind::<Text, _>(&row.platform)
        .bind::<Text, _>(&row.destination)
        .bind::<Integer, _>(row.first_part)
        .bind::<Integer, _>(row.part)
        .execute(conn)
        .await?;
    Ok(())
}

/// Failures are forgotten when the posts of a succeeded execution are settled, unless a later execution failed.
pub(super) async fn forget_failures(conn: &mut Connection, settled: &[&PostRow]) -> Work<()> {
    batch_row! {
        struct Execution<'a> {
            task_id: &'a str,
            execution_id: i64,
        }
    }
    let settled: HashMap<(&str, i64), Execution<'_>> = settled
        .iter()
        .map(|row| {
            let execution = Execution { task_id: &row.task_id, execution_id: row.execution_id };
            ((row.task_id.as_str(), row.execution_id), execution)
        })
        .collect();
    let settled: Vec<Execution<'_>> = settled.into_values().collect();
    let sql = "UPDATE actor_server_state SET consecutive_failures = 0 \
         WHERE consecutive_failures > 0 AND NOT is_paused AND task_id IN ( \
             SELECT r.task_id FROM {r} \
             WHERE NOT EXISTS (SELECT 1 FROM actor_server_posts AS p \
                 WHERE p.execution_id = r.execution_id AND p.state NOT IN ('posted', 'skipped')) \
             AND NOT EXISTS (SELECT 1 FROM actor_server_executions AS e \
                 WHERE e.task_id = r.task_id AND e.id > r.execution_id AND e.outcome = 'failed') \
             AND NOT EXISTS (SELECT 1 FROM actor_server_posts AS p \
                 WHERE p.task_id = r.task_id AND p.execution_id > r.execution_id AND p.state = 'failed'))";
    batch::update(conn, sql, &settled).await?;
    Ok(())
}

/// Posts whose lease is over become due again; the lost attempt may have taken effect.
pub(crate) async fn rescue_posts(conn: &mut Connection) -> Work<usize> {
    take_back(conn, "p.lease_until < actor_server_now() AND $1 = ''", "", dialect::LOCK_POSTS_SKIPPING).await
}

/// The same for everything that a dead node was sending.
pub(super) async fn hand_on_posts(conn: &mut Connection, node: &str) -> Work<usize> {
    take_back(conn, "p.lease_until IS NOT NULL AND p.node = $1", node, dialect::LOCK_POSTS).await
}

async fn take_back(conn: &mut Connection, which: &str, node: &str, lock: &str) -> Work<usize> {
    batch_row! {
        #[derive(QueryableByName)]
        struct LostPost {
            #[diesel(sql_type = BigInt)]
            id: i64,
            #[diesel(sql_type = Integer)]
            attempts: i32,
        }
    }
    let lost = format!(
        "SELECT p.id, p.attempts FROM actor_server_posts AS p WHERE p.state = 'sending' AND {which} \
         {lock}"
    );
    let lost: Vec<LostPost> = sql_query(lost).bind::<Text, _>(node).load(conn).await?;
    let due_again = format!(
        "UPDATE actor_server_posts AS p SET state = 'pending', deliver_at = actor_server_now(), \
             holds_until = COALESCE(p.holds_until, actor_server_now_plus({})), \
             reason = 'the node that was sending it was lost', node = NULL, fence = NULL, lease_until = NULL, \
             uncertain_since = COALESCE(p.uncertain_since, ( \
                 SELECT a.sent_at FROM actor_server_post_attempts AS a \
                 WHERE a.post_id = p.id AND a.attempt = p.attempts)), \
             updated_at = actor_server_now() \
         FROM {{r}} WHERE p.id = r.id",
        HOLDS_FOR.as_micros()
    );
    batch::update(conn, &due_again, &lost).await?;
    let end = "UPDATE actor_server_post_attempts AS a SET ended_at = actor_server_now(), ended = 'lost' \
         FROM {r} WHERE a.post_id = r.id AND a.attempt = r.attempts AND a.ended IS NULL";
    batch::update(conn, end, &lost).await?;
    Ok(lost.len())
}

//! The outbox: leasing posts for one attempt, and storing how it ended.

use super::agenda::{lock_state, lock_states};
use super::follow_ups;
use super::record::{StateAfter, write_states};
use super::rows::{PostRow, json, task_id, word};
use super::*;
use crate::access::NewAudit;
use crate::fail_points::{Point, pass};
use crate::store::{Decided, PostDecision};
use crate::views::MARKED_POSTED;
use botticelli_server::clock::to_microseconds;
use botticelli_server::ids::{ExecutionId, Fence, NodeId, PostId};
use botticelli_server::outbox::{
    ClaimedPost, EgressScope, HOLDS_FOR, PostEnd, PostState, PostsSettled, SettledPost,
};
use botticelli_server::plan::BreakerEffect;
use botticelli_server::post::{Destination, IdempotencyKey, PostContent, Receipt};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Another post `h` of the destination was not taken there, and waits: `q` waits for it. Of several such posts each waits
/// until the time of all has come; then the first of them goes. A part never waits for a later one.
const HOLDING: &str = "FROM actor_server_posts AS h \
     WHERE h.platform = q.platform AND h.destination = q.destination AND h.id <> q.id \
         AND h.holds_until > actor_server_now() AND h.deliver_at IS NOT NULL \
         AND (h.deliver_at > actor_server_now() OR COALESCE(q.holds_until <= actor_server_now(), true)) \
         AND NOT (h.execution_id = q.execution_id AND h.first_part = q.first_part AND h.part > q.part)";

/// Parts before `q` of the same message that are not settled: `q` waits for them.
const PARTS_BEFORE: &str = "FROM actor_server_posts AS e \
     WHERE e.execution_id = q.execution_id AND e.platform = q.platform AND e.destination = q.destination \
         AND e.first_part = q.first_part AND e.part < q.part AND e.state NOT IN ('posted', 'failed', 'skipped')";

batch_row! {
    struct Scope<'a> {
        platform: &'a str,
        scope: &'a str,
    }
}

/// Takes what is free, keeps what is the node's, and says what is another's. Who is dead, or silent for too long, has
/// nothing.
pub(crate) async fn take_egress(
    conn: &mut Connection,
    node: NodeId,
    scopes: Arc<[EgressScope]>,
    lease: i64,
) -> Work<Vec<String>> {
    if let Some(serialize) = dialect::SERIALIZE_POST_CLAIMS {
        sql_query(serialize).execute(conn).await?;
    }
    let scopes: Vec<Scope<'_>> =
        scopes.iter().map(|one| Scope { platform: &one.platform, scope: &one.scope }).collect();
    let take = "INSERT INTO actor_server_egress_leases (platform, scope, node, lease_until) \
         SELECT r.platform, r.scope, $1, actor_server_now_plus($2) FROM {r} WHERE true \
         ON CONFLICT (platform, scope) DO UPDATE SET node = excluded.node, lease_until = excluded.lease_until \
         WHERE actor_server_egress_leases.node = excluded.node \
             OR actor_server_egress_leases.lease_until < actor_server_now() \
             OR NOT EXISTS (SELECT 1 FROM actor_server_nodes AS n \
                 WHERE n.node = actor_server_egress_leases.node AND n.left_at IS NULL \
                     AND n.lease_until >= actor_server_now())";
    sql_query(take)
        .bind::<Text, _>(node.as_str())
        .bind::<BigInt, _>(lease)
        .rows(&scopes)?
        .execute(conn)
        .await?;
    let of_others = "SELECT r.platform FROM {r} WHERE NOT EXISTS ( \
             SELECT 1 FROM actor_server_egress_leases AS e \
             WHERE e.platform = r.platform AND e.scope = r.scope AND e.node = $1) \
         ORDER BY r.platform";
    let of_others: Vec<PlatformRow> =
        sql_query(of_others).bind::<Text, _>(node.as_str()).rows(&scopes)?.load(conn).await?;
    Ok(of_others.into_iter().map(|row| row.platform).collect())
}

batch_row! {
    #[derive(QueryableByName)]
    pub(super) struct PlatformRow {
        #[diesel(sql_type = Text)]
        platform: String,
    }
}

impl PlatformRow {
    fn all(platforms: &[String]) -> Vec<Self> {
        platforms.iter().map(|platform| Self { platform: platform.clone() }).collect()
    }
}

/// Leases the first due post of each destination on which nothing is being sent.
pub(crate) async fn claim_posts(
    conn: &mut Connection,
    node: NodeId,
    limit: i64,
    lease: i64,
    without: Arc<[String]>,
) -> Work<Vec<ClaimedPost>> {
    if let Some(serialize) = dialect::SERIALIZE_POST_CLAIMS {
        sql_query(serialize).execute(conn).await?;
    }
    // An earlier part that was given up took the later ones with it; if one of those is due, a person wants it.
    let sql = format!(
        "SELECT {} FROM actor_server_posts AS p WHERE p.id IN ( \
             SELECT min(q.id) FROM actor_server_posts AS q \
             WHERE q.deliver_at <= actor_server_now() AND q.platform NOT IN (SELECT r.platform FROM {{r}}) \
                 AND NOT EXISTS (SELECT 1 {PARTS_BEFORE}) AND NOT EXISTS (SELECT 1 {HOLDING}) \
             GROUP BY q.platform, q.destination) \
         AND NOT EXISTS (SELECT 1 FROM actor_server_posts AS s \
             WHERE s.state = 'sending' AND s.platform = p.platform AND s.destination = p.destination) \
         AND p.deliver_at <= actor_server_now() ORDER BY p.deliver_at LIMIT $1 {}",
        PostRow::COLUMNS,
        // A person may be deciding about a post at this moment: then it is left for the next time.
        dialect::LOCK_CHOSEN_POSTS
    );
    let without = PlatformRow::all(&without);
    let rows: Vec<PostRow> = sql_query(sql).bind::<BigInt, _>(limit).rows(&without)?.load(conn).await?;
    let lease = lease_of(conn, lease).await?;
    let room = limit.saturating_sub(i64::try_from(rows.len()).unwrap_or(limit));
    let following = follow_ups::claim(conn, &node, room, &lease, &without).await?;
    if rows.is_empty() {
        return Ok(following);
    }
    let fences = batch::take_numbers(conn, rows.len()).await?;
    let mut claimed = Vec::with_capacity(rows.len() + following.len());
    for (row, fence) in rows.into_iter().zip(fences) {
        let (earlier, taken) = (earlier_posts(conn, &row).await?, taken_receipts(conn, &row).await?);
        let rivals = rivals(conn, &row).await?;
        let mut post = claimed_post(row, lease.until)?;
        (post.fence, post.earlier, post.taken, post.rivals) = (Fence(fence), earlier, taken, rivals);
        claimed.push(post);
    }
    enter_attempts(conn, &node, &claimed, lease.now).await?;
    claimed.extend(following);
    pass(Point::LeaseWritten);
    Ok(claimed)
}

/// The next attempt at a post. Its fence is the attempt's number.
pub(super) fn claimed_post(row: PostRow, lease_until: DateTime<Utc>) -> Work<ClaimedPost> {
    let attempt = row.attempts.unsigned_abs() + 1;
    let receipt = row.receipt.filter(|_| row.state == "posted");
    Ok(ClaimedPost {
        id: PostId(row.id),
        fence: Fence(attempt.into()),
        execution_id: ExecutionId(row.execution_id),
        task_id: task_id(row.task_id)?,
        destination: Destination { platform: row.platform, target: row.destination },
        content: json("content", row.content)?,
        key: IdempotencyKey::stored(row.key),
        attempt,
        tries: row.attempts.saturating_sub(row.waits).unsigned_abs() + 1,
        uncertain_since: row.uncertain_since,
        taken: Vec::new(),
        rivals: Vec::new(),
        lease_until,
        wanted_at: row.not_before.unwrap_or(row.created_at).max(row.created_at),
        on_unknown: word("on_unknown", &row.on_unknown)?,
        limits: json("limits", row.limits)?,
        earlier: Vec::new(),
        posted: receipt.map(|receipt| json("receipt", receipt)).transpose()?,
    })
}

/// When something begins, and until when it is a node's.
#[derive(QueryableByName)]
pub(super) struct Lease {
    #[diesel(sql_type = Instant)]
    pub(super) now: DateTime<Utc>,
    #[diesel(sql_type = Instant)]
    pub(super) until: DateTime<Utc>,
}

async fn lease_of(conn: &mut Connection, lease: i64) -> Work<Lease> {
    let sql = "SELECT actor_server_now() AS now, actor_server_now_plus($1) AS until";
    let lease: Lease = sql_query(sql).bind::<BigInt, _>(lease).get_result(conn).await?;
    Ok(Lease { now: to_microseconds(lease.now), until: to_microseconds(lease.until) })
}

/// When the task posted, or may have posted, other messages to the destination: what the actor's own limits count.
/// Posts that are still waiting are not counted, or two that wait would hold each other up.
async fn earlier_posts(conn: &mut Connection, row: &PostRow) -> Work<Vec<DateTime<Utc>>> {
    if row.limits.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(Vec::new());
    }
    #[derive(QueryableByName)]
    struct At {
        #[diesel(sql_type = Instant)]
        at: DateTime<Utc>,
    }
    let sql = "SELECT COALESCE(posted_at, uncertain_since, updated_at) AS at FROM actor_server_posts \
         WHERE task_id = $1 AND platform = $2 AND destination = $3 AND part = first_part \
             AND (state IN ('posted', 'sending', 'needs_review') \
                 OR (state IN ('pending', 'deferred') AND uncertain_since IS NOT NULL)) \
             AND NOT (execution_id = $4 AND first_part = $5) \
         ORDER BY id DESC LIMIT 1000";
    let rows: Vec<At> = sql_query(sql)
        .bind::<Text, _>(&row.task_id)
        .bind::<Text, _>(&row.platform)
        .bind::<Text, _>(&row.destination)
        .bind::<BigInt, _>(row.execution_id)
        .bind::<Integer, _>(row.first_part)
        .load(conn)
        .await?;
    let mut times: Vec<DateTime<Utc>> = rows.into_iter().map(|row| row.at).collect();
    times.sort_unstable();
    Ok(times)
}

/// The receipts of other posts that a look-up for this one could find: a message can be a little older than the doubt,
/// because clocks differ.
async fn taken_receipts(conn: &mut Connection, row: &PostRow) -> Work<Vec<String>> {
    let Some(since) = row.uncertain_since else { return Ok(Vec::new()) };
    #[derive(QueryableByName)]
    struct Taken {
        #[diesel(sql_type = Text)]
        message_id: String,
    }
    let sql = "SELECT receipt ->> 'message_id' AS message_id FROM actor_server_posts \
         WHERE platform = $1 AND destination = $2 AND state = 'posted' AND id <> $3 AND posted_at >= $4 \
             AND receipt IS NOT NULL";
    let rows: Vec<Taken> = sql_query(sql)
        .bind::<Text, _>(&row.platform)
        .bind::<Text, _>(&row.destination)
        .bind::<BigInt, _>(row.id)
        .bind::<Instant, _>(since - TimeDelta::hours(1))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|row| row.message_id).collect())
}

/// What other posts say that may be at the destination although nobody knows. One that a person left out may be there
/// all the same.
async fn rivals(conn: &mut Connection, row: &PostRow) -> Work<Vec<PostContent>> {
    if row.uncertain_since.is_none() {
        return Ok(Vec::new());
    }
    #[derive(QueryableByName)]
    struct Rival {
        #[diesel(sql_type = Json)]
        content: Value,
    }
    let sql = "SELECT content FROM actor_server_posts \
         WHERE platform = $1 AND destination = $2 AND id <> $3 AND uncertain_since IS NOT NULL AND state <> 'posted' \
         ORDER BY id DESC LIMIT 1000";
    let rows: Vec<Rival> = sql_query(sql)
        .bind::<Text, _>(&row.platform)
        .bind::<Text, _>(&row.destination)
        .bind::<BigInt, _>(row.id)
        .load(conn)
        .await?;
    rows.into_iter().map(|row| json("content", row.content)).collect()
}

/// The attempt rows are committed before any request leaves.
async fn enter_attempts(
    conn: &mut Connection,
    node: &NodeId,
    claimed: &[ClaimedPost],
    now: DateTime<Utc>,
) -> Work<()> {
    batch_row! {
        struct Sending<'a> {
            id: i64,
            node: &'a str,
            fence: i64,
            attempt: u32,
            sent_at: DateTime<Utc>,
            lease_until: DateTime<Utc>,
        }
    }
    let sending: Vec<Sending<'_>> = claimed
        .iter()
        .map(|post| Sending {
            id: post.id.0,
            node: node.as_str(),
            fence: post.fence.0,
            attempt: post.attempt,
            sent_at: now,
            lease_until: post.lease_until,
        })
        .collect();
    let lease = "UPDATE actor_server_posts AS p SET state = 'sending', reason = NULL, deliver_at = NULL, \
             node = r.node, fence = r.fence, lease_until = r.lease_until, attempts = r.attempt, \
             updated_at = r.sent_at \
         FROM {r} WHERE p.id = r.id";
    batch::update(conn, lease, &sending).await?;
    let enter = "INSERT INTO actor_server_post_attempts (post_id, attempt, node, sent_at) \
         SELECT r.id, r.attempt, r.node, r.sent_at FROM {r}";
    batch::update(conn, enter, &sending).await?;
    Ok(())
}

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
async fn take_up_parts_after(conn: &mut Connection, row: &PostRow, now: DateTime<Utc>) -> Work<()> {
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
async fn forget_failures(conn: &mut Connection, settled: &[&PostRow]) -> Work<()> {
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

pub(crate) async fn next_post_due(
    conn: &mut Connection,
    without: Arc<[String]>,
) -> Work<Option<DateTime<Utc>>> {
    #[derive(QueryableByName)]
    struct Due {
        #[diesel(sql_type = Nullable<Instant>)]
        due: Option<DateTime<Utc>>,
    }
    let sql = format!(
        "SELECT min(d.due) AS due FROM ( \
             SELECT min(q.deliver_at) AS due FROM actor_server_posts AS q \
             WHERE q.deliver_at IS NOT NULL AND q.platform NOT IN (SELECT r.platform FROM {{r}}) \
                 AND NOT EXISTS (SELECT 1 {HOLDING}) \
             UNION ALL SELECT min(q.follow_up_at) FROM actor_server_posts AS q \
             WHERE q.follow_up_at IS NOT NULL AND q.platform NOT IN (SELECT r.platform FROM {{r}})) AS d"
    );
    let without = PlatformRow::all(&without);
    let due: Due = sql_query(sql).rows(&without)?.get_result(conn).await?;
    Ok(due.due)
}

/// For which other post each of these waits, if it does.
pub(super) async fn waits_for(conn: &mut Connection, posts: &[i64]) -> Work<HashMap<i64, i64>> {
    #[derive(QueryableByName)]
    struct Waits {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Nullable<BigInt>)]
        other: Option<i64>,
    }
    let sql = format!(
        "SELECT q.id, COALESCE((SELECT min(e.id) {PARTS_BEFORE}), (SELECT min(h.id) {HOLDING})) AS other \
         FROM actor_server_posts AS q WHERE q.deliver_at IS NOT NULL AND q.id IN (SELECT r.id FROM {{r}})"
    );
    let rows: Vec<Waits> = sql_query(sql).rows(&batch::Id::all(posts))?.load(conn).await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.id, row.other?))).collect())
}

/// A person decides about a post.
pub(crate) async fn decide(
    conn: &mut Connection,
    post: PostId,
    decision: PostDecision,
    audit: Option<NewAudit>,
) -> Work<Decided> {
    let find = async |conn: &mut Connection, lock: &str| -> Work<Option<PostRow>> {
        let columns = PostRow::COLUMNS;
        let sql = format!("SELECT {columns} FROM actor_server_posts AS p WHERE p.id = $1 {lock}");
        Ok(sql_query(sql).bind::<BigInt, _>(post.0).load::<PostRow>(conn).await?.into_iter().next())
    };
    let Some(row) = find(conn, "").await? else { return Ok(Decided::UnknownPost) };
    lock_state(conn, &task_id(row.task_id.clone())?).await?;
    if decision == PostDecision::Retry {
        lock_with_waiting(conn, &row).await?;
    }
    let Some(row) = find(conn, dialect::LOCK_POSTS).await? else { return Ok(Decided::UnknownPost) };
    let state = word("state", &row.state)?;
    let now = super::now(conn).await?;
    if state == PostState::Posted {
        let decided = follow_ups::decide(conn, row, &decision, now).await?;
        if decided == Decided::Done {
            super::access::write_down(conn, audit).await?;
        }
        return Ok(decided);
    }
    if !decision.applies_to(state, row.uncertain_since.is_some()) {
        return Ok(Decided::NotNow(state));
    }
    match decision {
        PostDecision::Retry => {
            send_again(conn, &row, row.uncertain_since, now).await?;
            ask_again(conn, &row, now).await?;
        }
        // The person takes the doubt upon himself.
        PostDecision::Resend => send_again(conn, &row, None, now).await?,
        PostDecision::MarkPosted { message_id, link } => {
            // Nobody knows better when it appeared than that an attempt may have made it.
            let posted_at = row.uncertain_since.unwrap_or(now);
            let receipt = Receipt {
                message_id,
                posted_at,
                link,
                recovered: false,
                to_follow: Vec::new(),
                missing: Vec::new(),
            };
            mark_posted(conn, &row, &receipt, now).await?;
        }
        PostDecision::Dismiss => {
            let sql = "UPDATE actor_server_posts SET state = 'skipped', deliver_at = NULL, \
                 reason = 'dismissed by an operator', updated_at = $1 WHERE id = $2";
            sql_query(sql).bind::<Instant, _>(now).bind::<BigInt, _>(row.id).execute(conn).await?;
            skip_parts_after(conn, &row, now).await?;
        }
    }
    super::access::write_down(conn, audit).await?;
    Ok(Decided::Done)
}

async fn send_again(
    conn: &mut Connection,
    row: &PostRow,
    uncertain_since: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Work<()> {
    let sql = "UPDATE actor_server_posts SET state = 'pending', deliver_at = $1, reason = NULL, \
         uncertain_since = $2, updated_at = $1 WHERE id = $3";
    sql_query(sql)
        .bind::<Instant, _>(now)
        .bind::<Nullable<Instant>, _>(uncertain_since)
        .bind::<BigInt, _>(row.id)
        .execute(conn)
        .await?;
    take_up_parts_after(conn, row, now).await
}

/// Locks the post, and those of its destination that [`ask_again`] would change, in their order: somebody else may retry
/// one of those.
async fn lock_with_waiting(conn: &mut Connection, row: &PostRow) -> Work<()> {
    let sql = format!(
        "SELECT {} FROM actor_server_posts AS p WHERE p.id = $1 OR (p.platform = $2 AND p.destination = $3 \
             AND p.holds_until IS NOT NULL AND p.deliver_at > actor_server_now()) {}",
        PostRow::COLUMNS,
        dialect::LOCK_POSTS
    );
    let _locked: Vec<PostRow> = sql_query(sql)
        .bind::<BigInt, _>(row.id)
        .bind::<Text, _>(&row.platform)
        .bind::<Text, _>(&row.destination)
        .load(conn)
        .await?;
    Ok(())
}

/// The destination is asked again at once, by the post whose turn it is.
async fn ask_again(conn: &mut Connection, row: &PostRow, now: DateTime<Utc>) -> Work<()> {
    let sql = "UPDATE actor_server_posts SET deliver_at = $1 WHERE platform = $2 AND destination = $3 \
         AND holds_until IS NOT NULL AND deliver_at > $1";
    sql_query(sql)
        .bind::<Instant, _>(now)
        .bind::<Text, _>(&row.platform)
        .bind::<Text, _>(&row.destination)
        .execute(conn)
        .await?;
    Ok(())
}

/// The receipt holds a person's words, and the reason says so for ever: the platform has not answered.
async fn mark_posted(
    conn: &mut Connection,
    row: &PostRow,
    receipt: &Receipt,
    now: DateTime<Utc>,
) -> Work<()> {
    let stored = serde_json::json!(receipt);
    batch::storable(&stored)?;
    let sql = "UPDATE actor_server_posts SET state = 'posted', deliver_at = NULL, reason = $1, receipt = $2, \
         posted_at = $3, uncertain_since = NULL, holds_until = NULL, updated_at = $4 WHERE id = $5";
    sql_query(sql)
        .bind::<Text, _>(MARKED_POSTED)
        .bind::<Json, _>(stored)
        .bind::<Instant, _>(receipt.posted_at)
        .bind::<Instant, _>(now)
        .bind::<BigInt, _>(row.id)
        .execute(conn)
        .await?;
    take_up_parts_after(conn, row, now).await?;
    forget_failures(conn, &[row]).await
}

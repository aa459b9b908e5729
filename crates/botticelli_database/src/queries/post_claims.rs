//! Leasing posts for one attempt.

use super::egress::PlatformRow;
use super::follow_ups;
use super::post_turns::{PostRef, mark_due, may_go, whose_turn};
use super::rows::{PostRow, json, task_id, word};
use super::*;
use crate::fail_points::{Point, pass};
use botticelli_server::clock::to_microseconds;
use botticelli_server::ids::{ExecutionId, Fence, NodeId, PostId};
use botticelli_server::outbox::ClaimedPost;
use botticelli_server::post::{Destination, IdempotencyKey, PostContent};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Text};
use serde_json::Value;
use std::sync::Arc;

/// Leases the first due post of each destination on which nothing is being sent, from the one behind `after` on. Says
/// which destination was looked at last.
pub(crate) async fn claim_posts(
    conn: &mut Connection,
    node: NodeId,
    limit: i64,
    lease: i64,
    without: Arc<[String]>,
    after: Destination,
) -> Work<(Vec<ClaimedPost>, Destination)> {
    if let Some(serialize) = dialect::SERIALIZE_POST_CLAIMS {
        sql_query(serialize).execute(conn).await?;
    }
    let without = PlatformRow::all(&without);
    mark_due(conn).await?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let (turns, last) = whose_turn(conn, after, most, &without).await?;
    let rows = lock(conn, &turns).await?;
    let lease = lease_of(conn, lease).await?;
    let room = limit.saturating_sub(i64::try_from(rows.len()).unwrap_or(limit));
    let following = follow_ups::claim(conn, &node, room, &lease, &without).await?;
    if rows.is_empty() {
        return Ok((following, last));
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
    Ok((claimed, last))
}

/// Of these posts, those that may still go out. A person may be deciding about one at this moment: then it is left for
/// the next time. An earlier part that was given up took the later ones with it; if one of those is due, a person wants
/// it.
async fn lock(conn: &mut Connection, turns: &[PostRef]) -> Work<Vec<PostRow>> {
    if turns.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {} FROM actor_server_posts AS p WHERE p.id IN (SELECT r.id FROM {{r}}) AND {} \
         ORDER BY p.deliver_at {}",
        PostRow::COLUMNS,
        may_go(),
        dialect::LOCK_CHOSEN_POSTS
    );
    Ok(sql_query(sql).rows(turns)?.load(conn).await?)
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
    let lease = "UPDATE actor_server_posts AS p SET state = 'sending', reason = NULL, deliver_at = NULL, is_due = false, \
             node = r.node, fence = r.fence, lease_until = r.lease_until, attempts = r.attempt, \
             updated_at = r.sent_at \
         FROM {r} WHERE p.id = r.id";
    batch::update(conn, lease, &sending).await?;
    let enter = "INSERT INTO actor_server_post_attempts (post_id, attempt, node, sent_at) \
         SELECT r.id, r.attempt, r.node, r.sent_at FROM {r}";
    batch::update(conn, enter, &sending).await?;
    Ok(())
}

//! What is to follow a post that is there, such as a crosspost. The post stays `posted` whatever becomes of it. It can be
//! repeated, so there is no doubt to keep: a lease that is over makes it due again, and the number of the attempt is the
//! fence.

use super::egress::PlatformRow;
use super::post_claims::{Lease, claimed_post};
use super::rows::{PostRow, json};
use super::*;
use crate::store::{Decided, PostDecision};
use botticelli_server::clock::to_microseconds;
use botticelli_server::ids::{NodeId, PostId};
use botticelli_server::outbox::{ClaimedPost, PostEnd, PostState, SettledPost};
use botticelli_server::post::Receipt;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use serde_json::Value;
use std::collections::HashSet;

/// Leases the oldest post of each destination whose follow-up is due, where none is under way, and enters the attempts.
pub(super) async fn claim(
    conn: &mut Connection,
    node: &NodeId,
    room: i64,
    lease: &Lease,
    without: &[PlatformRow],
) -> Work<Vec<ClaimedPost>> {
    let sql = format!(
        "SELECT {} FROM actor_server_posts AS p WHERE p.id IN ( \
             SELECT min(q.id) FROM actor_server_posts AS q \
             WHERE q.follow_up_at <= actor_server_now() AND q.platform NOT IN (SELECT r.platform FROM {{r}}) \
             GROUP BY q.platform, q.destination) \
         AND NOT EXISTS (SELECT 1 FROM actor_server_posts AS s \
             WHERE s.follow_up_at IS NOT NULL AND s.lease_until > actor_server_now() \
                 AND s.platform = p.platform AND s.destination = p.destination) \
         AND p.follow_up_at <= actor_server_now() ORDER BY p.follow_up_at LIMIT $1 {}",
        PostRow::COLUMNS,
        dialect::LOCK_CHOSEN_POSTS
    );
    if room == 0 {
        return Ok(Vec::new());
    }
    let rows: Vec<PostRow> = sql_query(sql).bind::<BigInt, _>(room).rows(without)?.load(conn).await?;
    let claimed: Vec<ClaimedPost> =
        rows.into_iter().map(|row| claimed_post(row, lease.until)).collect::<Work<_>>()?;
    enter_attempts(conn, node, &claimed, lease.now).await?;
    Ok(claimed)
}

async fn enter_attempts(
    conn: &mut Connection,
    node: &NodeId,
    claimed: &[ClaimedPost],
    now: DateTime<Utc>,
) -> Work<()> {
    batch_row! {
        struct Following<'a> {
            id: i64,
            node: &'a str,
            attempt: u32,
            now: DateTime<Utc>,
            lease_until: DateTime<Utc>,
        }
    }
    let following: Vec<Following<'_>> = claimed
        .iter()
        .map(|post| Following {
            id: post.id.0,
            node: node.as_str(),
            attempt: post.attempt,
            now,
            lease_until: post.lease_until,
        })
        .collect();
    let lost = "UPDATE actor_server_post_attempts AS a SET ended_at = r.now, ended = 'lost' \
         FROM {r} WHERE a.post_id = r.id AND a.ended IS NULL";
    batch::update(conn, lost, &following).await?;
    let lease = "UPDATE actor_server_posts AS p SET node = r.node, lease_until = r.lease_until, \
             follow_up_at = r.lease_until, attempts = r.attempt, updated_at = r.now \
         FROM {r} WHERE p.id = r.id";
    batch::update(conn, lease, &following).await?;
    let enter = "INSERT INTO actor_server_post_attempts (post_id, attempt, node, sent_at) \
         SELECT r.id, r.attempt, r.node, r.now FROM {r}";
    batch::update(conn, enter, &following).await?;
    Ok(())
}

/// Stores what became of follow-ups. Returns those that are another node's by now, or done with.
pub(super) async fn settle(
    conn: &mut Connection,
    node: &NodeId,
    ended: &[SettledPost],
    now: DateTime<Utc>,
) -> Work<Vec<PostId>> {
    if ended.is_empty() {
        return Ok(Vec::new());
    }
    let ours = under_way(conn, node, ended).await?;
    let (ours, lost): (Vec<_>, Vec<_>) =
        ended.iter().partition(|ended| ours.contains(&(ended.id.0, ended.fence.0)));
    let settled: Vec<Settled> = ours.into_iter().filter_map(|ended| Settled::new(ended, now)).collect();
    let settle = "UPDATE actor_server_posts AS p SET receipt = r.receipt, reason = r.reason, \
             follow_up_at = r.follow_up_at, node = NULL, lease_until = NULL, \
             waits = CASE WHEN r.waited THEN p.waits + 1 ELSE p.waits END, updated_at = r.now \
         FROM {r} WHERE p.id = r.id";
    batch::update(conn, settle, &settled).await?;
    let end = "UPDATE actor_server_post_attempts AS a SET ended_at = r.now, ended = r.ended, reason = r.reason, \
             exchanges = r.exchanges \
         FROM {r} WHERE a.post_id = r.id AND a.attempt = r.attempt";
    batch::update(conn, end, &settled).await?;
    Ok(lost.into_iter().map(|ended| ended.id).collect())
}

/// Posts and attempts, locked.
async fn under_way(conn: &mut Connection, node: &NodeId, ended: &[SettledPost]) -> Work<HashSet<(i64, i64)>> {
    batch_row! {
        struct AttemptRef {
            id: i64,
            attempt: i64,
        }
    }
    #[derive(QueryableByName)]
    struct UnderWay {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Integer)]
        attempts: i32,
    }
    let refs: Vec<AttemptRef> =
        ended.iter().map(|ended| AttemptRef { id: ended.id.0, attempt: ended.fence.0 }).collect();
    let sql = format!(
        "SELECT p.id, p.attempts FROM actor_server_posts AS p WHERE p.state = 'posted' AND p.node = $1 \
             AND p.follow_up_at IS NOT NULL AND (p.id, p.attempts) IN (SELECT r.id, r.attempt FROM {{r}}) {}",
        dialect::LOCK_POSTS
    );
    let rows: Vec<UnderWay> = sql_query(sql).bind::<Text, _>(node.as_str()).rows(&refs)?.load(conn).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.attempts.into())).collect())
}

batch_row! {
    struct Settled {
        id: i64,
        attempt: i64,
        ended: &'static str,
        receipt: Value,
        reason: Option<String>,
        follow_up_at: Option<DateTime<Utc>>,
        waited: bool,
        exchanges: Value,
        now: DateTime<Utc>,
    }
}

impl Settled {
    fn new(ended: &SettledPost, now: DateTime<Utc>) -> Option<Self> {
        let PostEnd::Followed { receipt, again } = &ended.end else { return None };
        let (ended_as, reason) = match again {
            Some(again) => ("deferred", Some(again.reason.clone())),
            None if receipt.missing.is_empty() => ("posted", None),
            None => ("failed", Some(without(receipt))),
        };
        Some(Self {
            id: ended.id.0,
            attempt: ended.fence.0,
            ended: ended_as,
            receipt: batch::json_without_nul(serde_json::json!(receipt)),
            reason: reason.map(|reason| batch::without_nul(&reason)),
            follow_up_at: again.as_ref().map(|again| to_microseconds(again.at)),
            waited: again.as_ref().is_some_and(|again| !again.counts),
            exchanges: batch::json_without_nul(serde_json::json!(ended.exchanges)),
            now,
        })
    }
}

fn without(receipt: &Receipt) -> String {
    format!("without its {}", receipt.missing.join("; "))
}

/// A person decides about what follows a post that is there: it is tried again now, or done without.
pub(super) async fn decide(
    conn: &mut Connection,
    row: PostRow,
    decision: &PostDecision,
    now: DateTime<Utc>,
) -> Work<Decided> {
    let Some(receipt) = row.receipt else { return Ok(Decided::NotNow(PostState::Posted)) };
    let mut receipt: Receipt = json("receipt", receipt)?;
    let (missing, to_follow) = (std::mem::take(&mut receipt.missing), std::mem::take(&mut receipt.to_follow));
    let (reason, follow_up_at) = match decision {
        PostDecision::Retry if !missing.is_empty() || !to_follow.is_empty() => {
            let step = |missing: &String| missing.split(':').next().unwrap_or_default().to_owned();
            receipt.to_follow = missing.iter().map(step).chain(to_follow).collect();
            (None, Some(now))
        }
        PostDecision::Dismiss if !to_follow.is_empty() => {
            let dismissed = |step: String| format!("{step}: dismissed by an operator");
            receipt.missing = missing.into_iter().chain(to_follow.into_iter().map(dismissed)).collect();
            (Some(without(&receipt)), None)
        }
        PostDecision::Retry
        | PostDecision::Dismiss
        | PostDecision::Resend
        | PostDecision::MarkPosted { .. } => return Ok(Decided::NotNow(PostState::Posted)),
    };
    // It is under way.
    if row.node.is_some() {
        return Ok(Decided::NotNow(PostState::Sending));
    }
    let sql = "UPDATE actor_server_posts SET receipt = $1, reason = $2, follow_up_at = $3, waits = attempts, \
         updated_at = $4 WHERE id = $5";
    sql_query(sql)
        .bind::<Json, _>(serde_json::json!(receipt))
        .bind::<Nullable<Text>, _>(reason)
        .bind::<Nullable<Instant>, _>(follow_up_at)
        .bind::<Instant, _>(now)
        .bind::<BigInt, _>(row.id)
        .execute(conn)
        .await?;
    Ok(Decided::Done)
}

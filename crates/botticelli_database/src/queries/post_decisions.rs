//! What a person decides about a post.

use super::agenda::lock_state;
use super::follow_ups;
use super::outbox::{forget_failures, skip_parts_after, take_up_parts_after};
use super::rows::{PostRow, task_id, word};
use super::*;
use crate::access::NewAudit;
use crate::store::{Decided, PostDecision};
use crate::views::MARKED_POSTED;
use botticelli_server::ids::PostId;
use botticelli_server::outbox::PostState;
use botticelli_server::post::Receipt;
use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Text};

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

//! After a backup was restored. What it believes to be due has been done since, and what it has to send was sent.

use super::access::write_down;
use super::ends::forget_ends;
use super::nodes::living;
use super::operate::end_cancelled;
use super::*;
use crate::access::NewAudit;
use crate::store::Restored;

pub(crate) async fn restored(conn: &mut Connection, audit: Option<NewAudit>) -> Work<Restored> {
    if let Some(node) = living(conn).await?.into_iter().next() {
        return Ok(Restored::ServerRuns(node));
    }
    // As after a pause: the server finds the reason that is still there, and leaves out what was missed.
    let tasks = sql_query(
        "UPDATE actor_server_state SET pause_reason = 'operator', updated_at = actor_server_now() \
         WHERE NOT is_paused AND pause_reason IS NULL AND next_run <= actor_server_now()",
    )
    .execute(conn)
    .await?;
    let executions = sql_query(
        "UPDATE actor_server_open_executions SET node = NULL, fence = NULL, ready_at = actor_server_now(), \
             cancel_requested_at = COALESCE(cancel_requested_at, actor_server_now())",
    )
    .execute(conn)
    .await?;
    end_cancelled(conn).await?;
    forget_ends(conn).await?;
    // What was being sent is in doubt without that, when its lease is over.
    let posts = sql_query(
        "UPDATE actor_server_posts SET uncertain_since = created_at, updated_at = actor_server_now() \
         WHERE state IN ('pending', 'deferred') AND uncertain_since IS NULL AND deliver_at <= actor_server_now()",
    )
    .execute(conn)
    .await?;
    super::stream::begin_stream(conn).await?;
    write_down(conn, audit).await?;
    Ok(Restored::Done { tasks, executions, posts })
}

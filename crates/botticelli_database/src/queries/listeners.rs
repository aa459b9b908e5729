//! Which node listens to which channel of notifications.

use super::*;
use crate::notifications::Heard;
use botticelli_server::clock::to_microseconds;
use botticelli_server::ids::NodeId;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};

/// Takes the channel for the node, or keeps it. `None`: another one that lives listens to it. `heard`: what was notified
/// longer ago than this is stored.
pub(crate) async fn take_channel(
    conn: &mut Connection,
    node: NodeId,
    database: String,
    channel: String,
    lease: i64,
    heard: Option<i64>,
) -> Work<Option<Heard>> {
    #[derive(QueryableByName)]
    struct Taken {
        #[diesel(sql_type = Nullable<Instant>)]
        heard_until: Option<DateTime<Utc>>,
        #[diesel(sql_type = Instant)]
        now: DateTime<Utc>,
    }
    let take = "INSERT INTO actor_server_listeners (database, channel, node, lease_until) \
         VALUES ($1, $2, $3, actor_server_now_plus($4)) \
         ON CONFLICT (database, channel) DO UPDATE SET node = excluded.node, lease_until = excluded.lease_until \
         WHERE actor_server_listeners.node = excluded.node \
             OR actor_server_listeners.lease_until < actor_server_now() \
             OR NOT EXISTS (SELECT 1 FROM actor_server_nodes AS n \
                 WHERE n.node = actor_server_listeners.node AND n.left_at IS NULL \
                     AND n.lease_until >= actor_server_now())";
    let taken = sql_query(take)
        .bind::<Text, _>(&database)
        .bind::<Text, _>(&channel)
        .bind::<Text, _>(node.as_str())
        .bind::<BigInt, _>(lease)
        .execute(conn)
        .await?;
    if taken == 0 {
        return Ok(None);
    }
    let hear = "UPDATE actor_server_listeners SET heard_until = actor_server_now_plus($1) WHERE database = $2 AND channel = $3";
    if let Some(ago) = heard {
        sql_query(hear)
            .bind::<BigInt, _>(-ago)
            .bind::<Text, _>(&database)
            .bind::<Text, _>(&channel)
            .execute(conn)
            .await?;
    }
    let read = "SELECT heard_until, actor_server_now() AS now FROM actor_server_listeners \
         WHERE database = $1 AND channel = $2";
    let taken: Taken =
        sql_query(read).bind::<Text, _>(&database).bind::<Text, _>(&channel).get_result(conn).await?;
    Ok(Some(Heard { until: taken.heard_until, now: to_microseconds(taken.now) }))
}

/// The node listens no more: another one may at once.
pub(crate) async fn leave_channel(
    conn: &mut Connection,
    node: NodeId,
    database: String,
    channel: String,
) -> Work<usize> {
    let sql = "UPDATE actor_server_listeners SET lease_until = actor_server_now_plus(-1) \
         WHERE database = $1 AND channel = $2 AND node = $3";
    let query = sql_query(sql).bind::<Text, _>(database).bind::<Text, _>(channel);
    Ok(query.bind::<Text, _>(node.as_str()).execute(conn).await?)
}

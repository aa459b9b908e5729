//! Which node sends for a token.

use super::*;
use botticelli_server::ids::NodeId;
use botticelli_server::outbox::EgressScope;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use std::sync::Arc;

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
    pub(crate) struct PlatformRow {
        #[diesel(sql_type = Text)]
        platform: String,
    }
}

impl PlatformRow {
    pub(super) fn all(platforms: &[String]) -> Vec<Self> {
        platforms.iter().map(|platform| Self { platform: platform.clone() }).collect()
    }
}

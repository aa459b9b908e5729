//! Which posts may go out, and in whose turn. The cost is that of the destinations that are looked at, however many posts
//! wait there.
//!
//! Posts whose time has come are marked (`is_due`) and stand in an index by destination, the oldest first. Destinations
//! take turns: a claim goes on behind the one that was looked at last.

use super::egress::PlatformRow;
use super::*;
use crate::sql::Sql;
use botticelli_server::post::Destination;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Another post `h` of the destination was not taken there, and waits: `p` waits for it. Of several such posts each waits
/// until the time of all has come; then the first of them goes. A part never waits for a later one.
const HOLDING: &str = "FROM actor_server_posts AS h \
     WHERE h.platform = p.platform AND h.destination = p.destination AND h.id <> p.id \
         AND h.holds_until > actor_server_now() AND h.deliver_at IS NOT NULL \
         AND (h.deliver_at > actor_server_now() OR COALESCE(p.holds_until <= actor_server_now(), true)) \
         AND NOT (h.execution_id = p.execution_id AND h.first_part = p.first_part AND h.part > p.part)";

/// Parts before `p` of the same message that are not settled: `p` waits for them. Asked for one at a time
/// (`no_part_before`): as a join PostgreSQL may read the whole table, where one execution has made most posts.
const PARTS_BEFORE: &str = "FROM actor_server_posts AS e \
     WHERE e.execution_id = p.execution_id AND e.platform = p.platform AND e.destination = p.destination \
         AND e.part >= p.first_part AND e.part < p.part AND e.first_part = p.first_part \
         AND e.state NOT IN ('posted', 'failed', 'skipped')";

fn no_part_before() -> String {
    format!("(SELECT 1 {PARTS_BEFORE} LIMIT 1) IS NULL")
}

/// A post that is on its way to the destination of `{of}`.
fn on_its_way(of: &str) -> String {
    format!(
        "FROM actor_server_posts AS s \
         WHERE s.state = 'sending' AND s.platform = {of}.platform AND s.destination = {of}.destination"
    )
}

/// So many posts are marked at a time as due.
const MARKED: i64 = 5_000;

/// Of so many destinations that are looked at one may be busy, or wait.
const MAY_WAIT: usize = 16;

/// Whether `p` may go out.
pub(super) fn may_go() -> String {
    format!(
        "p.deliver_at <= actor_server_now() AND NOT EXISTS (SELECT 1 {}) AND {} AND NOT EXISTS (SELECT 1 {HOLDING})",
        on_its_way("p"),
        no_part_before()
    )
}

batch_row! {
    #[derive(QueryableByName)]
    pub(super) struct PostRef {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
}

/// Marks posts whose time has come since. Where they are too many for once, those whose time came first: as if it were a
/// moment earlier.
pub(super) async fn mark_due(conn: &mut Connection) -> Work<()> {
    let sql = format!(
        "SELECT p.id FROM actor_server_posts AS p WHERE NOT p.is_due AND p.deliver_at <= actor_server_now() \
         ORDER BY p.deliver_at, p.id LIMIT $1 {}",
        dialect::LOCK_CHOSEN_POSTS
    );
    let due: Vec<PostRef> = sql_query(sql).bind::<BigInt, _>(MARKED).load(conn).await?;
    batch::update(conn, "UPDATE actor_server_posts AS p SET is_due = true FROM {r} WHERE p.id = r.id", &due)
        .await?;
    Ok(())
}

/// Up to `limit` posts whose turn it is, one of a destination, and the destination that was looked at last.
pub(super) async fn whose_turn(
    conn: &mut Connection,
    after: Destination,
    limit: usize,
    without: &[PlatformRow],
) -> Work<(Vec<PostRef>, Destination)> {
    let mut round = Round { limit, posts: Vec::new(), seen: HashSet::new(), last: after };
    round.go_on(conn, without).await?;
    if round.posts.len() < limit {
        round.last = nowhere();
        round.go_on(conn, without).await?;
    }
    Ok((round.posts, round.last))
}

/// Before every destination.
fn nowhere() -> Destination {
    Destination { platform: String::new(), target: String::new() }
}

struct Round {
    limit: usize,
    posts: Vec<PostRef>,
    seen: HashSet<Destination>,
    last: Destination,
}

impl Round {
    /// Looks at the destinations behind the last one, until there are enough, or no more that were not seen.
    async fn go_on(&mut self, conn: &mut Connection, without: &[PlatformRow]) -> Work<()> {
        loop {
            let count = self.limit - self.posts.len() + MAY_WAIT;
            let look = look_at_turns(&self.last.platform, &self.last.target, count, without)?;
            let turns: Vec<Turn> = look.load(conn).await?;
            let is_all = turns.len() < count;
            for turn in turns {
                let destination = Destination { platform: turn.platform, target: turn.destination };
                if self.posts.len() == self.limit || !self.seen.insert(destination.clone()) {
                    return Ok(());
                }
                self.last = destination;
                self.posts.extend(turn.post.map(|id| PostRef { id }));
            }
            if is_all || self.posts.len() == self.limit {
                return Ok(());
            }
        }
    }
}

/// A destination at which posts are due, and which of them may go out, if any.
#[derive(QueryableByName)]
struct Turn {
    #[diesel(sql_type = Text)]
    platform: String,
    #[diesel(sql_type = Text)]
    destination: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    post: Option<i64>,
}

/// The next `count` destinations behind another one.
pub(crate) fn look_at_turns<'f>(
    platform: &'f str,
    destination: &'f str,
    count: usize,
    without: &'f [PlatformRow],
) -> Work<Sql<'f, Backend>> {
    sql_query(look_sql())
        .bind::<Text, _>(platform)
        .bind::<Text, _>(destination)
        .bind::<BigInt, _>(i64::try_from(count).unwrap_or(i64::MAX))
        .rows(without)
}

/// `d` is the first due post of each destination: a step of the recursion is one look into the index. Where posts hold the
/// others, only they, and parts that go before them, may be next.
fn look_sql() -> String {
    let holders = "w.platform = d.platform AND w.destination = d.destination \
         AND w.holds_until > actor_server_now() AND w.deliver_at IS NOT NULL";
    let no_part_before = no_part_before();
    let of_held = format!(
        "SELECT min(p.id) FROM actor_server_posts AS w JOIN actor_server_posts AS p \
             ON p.execution_id = w.execution_id AND p.platform = w.platform AND p.destination = w.destination \
                 AND p.part >= w.first_part AND p.part <= w.part \
         WHERE {holders} AND p.deliver_at <= actor_server_now() \
             AND {no_part_before} AND NOT EXISTS (SELECT 1 {HOLDING})"
    );
    // BETWEEN and the order leave PostgreSQL no other index.
    let of_free = format!(
        "SELECT p.id FROM actor_server_posts AS p \
         WHERE p.platform = d.platform AND p.destination BETWEEN d.destination AND d.destination \
             AND p.is_due AND p.deliver_at <= actor_server_now() AND {no_part_before} \
         ORDER BY p.destination, p.id LIMIT 1"
    );
    format!(
        "WITH RECURSIVE heads(id, number) AS ( \
             SELECT {first}, 1 \
             UNION ALL \
             SELECT {next}, heads.number + 1 \
             FROM heads JOIN actor_server_posts AS d ON d.id = heads.id WHERE heads.number < $3) \
         SELECT d.platform, d.destination, CASE \
             WHEN d.platform IN (SELECT r.platform FROM {{r}}) OR EXISTS (SELECT 1 {on_its_way}) THEN NULL \
             WHEN EXISTS (SELECT 1 FROM actor_server_posts AS w WHERE {holders}) THEN ({of_held}) \
             ELSE ({of_free}) END AS post \
         FROM heads JOIN actor_server_posts AS d ON d.id = heads.id ORDER BY heads.number",
        first = head_behind("$1", "$2"),
        next = head_behind("d.platform", "d.destination"),
        on_its_way = on_its_way("d"),
    )
}

/// The first due post of the next destination. What another node sends for is passed over as a whole. (SQLite makes no
/// use of the index for a comparison of both at once.)
fn head_behind(platform: &str, destination: &str) -> String {
    let due = "SELECT q.id FROM actor_server_posts AS q WHERE q.is_due AND q.deliver_at IS NOT NULL";
    format!(
        "COALESCE( \
             CASE WHEN {platform} NOT IN (SELECT r.platform FROM {{r}}) THEN ( \
                 {due} AND q.platform = {platform} AND q.destination > {destination} \
                 ORDER BY q.platform, q.destination, q.id LIMIT 1) END, \
             ({due} AND q.platform > {platform} ORDER BY q.platform, q.destination, q.id LIMIT 1))"
    )
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
    // Of those whose time has come, the first of each destination stands for all.
    let sql = format!(
        "WITH RECURSIVE heads(id) AS ( \
             SELECT {first} \
             UNION ALL \
             SELECT {next} FROM heads JOIN actor_server_posts AS p ON p.id = heads.id) \
         SELECT min(d.due) AS due FROM ( \
             SELECT min(p.deliver_at) AS due FROM heads JOIN actor_server_posts AS p ON p.id = heads.id \
             WHERE p.platform NOT IN (SELECT r.platform FROM {{r}}) AND NOT EXISTS (SELECT 1 {HOLDING}) \
             UNION ALL SELECT (SELECT q.deliver_at FROM actor_server_posts AS q \
                 WHERE NOT q.is_due AND q.deliver_at IS NOT NULL AND q.platform NOT IN (SELECT r.platform FROM {{r}}) \
                 ORDER BY q.deliver_at LIMIT 1) \
             UNION ALL SELECT min(q.follow_up_at) FROM actor_server_posts AS q \
             WHERE q.follow_up_at IS NOT NULL AND q.platform NOT IN (SELECT r.platform FROM {{r}})) AS d",
        first = head_behind("''", "''"),
        next = head_behind("p.platform", "p.destination"),
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
        "SELECT p.id, COALESCE((SELECT min(e.id) {PARTS_BEFORE}), (SELECT min(h.id) {HOLDING})) AS other \
         FROM actor_server_posts AS p WHERE p.deliver_at IS NOT NULL AND p.id IN (SELECT r.id FROM {{r}})"
    );
    let ids: Vec<PostRef> = posts.iter().map(|id| PostRef { id: *id }).collect();
    let rows: Vec<Waits> = sql_query(sql).rows(&ids)?.load(conn).await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.id, row.other?))).collect())
}

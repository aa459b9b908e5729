//! What listings and skills ask, and the pruning of old history.

use super::conditions::Conditions;
use super::post_turns::waits_for;
use super::rows::{ActorServerExecutionRow, ActorServerStateRow, OpenExecutionRow, PostRow, json, word};
use super::schema::*;
use super::*;
use crate::views::{
    AttemptView, ExecutionView, HistoryFilter, OutcomeFilter, PostAttemptView, PostFilter, PostView,
    TaskFilter, TaskView, Waiting,
};
use botticelli_server::clock::to_microseconds;
use botticelli_server::ids::{ExecutionId, PostId, TaskId};
use botticelli_server::outbox::EarlierItem;
use botticelli_server::post::Destination;
use chrono::{DateTime, Utc};
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _, SelectableHelper as _};
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{Queryable, QueryableByName, Selectable};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// What a database says of itself.
#[derive(Debug, Clone, QueryableByName)]
pub(crate) struct Meta {
    #[diesel(sql_type = Text)]
    pub(crate) ledger_id: String,
    #[diesel(sql_type = Text)]
    pub(crate) min_binary: String,
}

pub(crate) async fn meta(conn: &mut Connection) -> Work<Meta> {
    Ok(sql_query("SELECT ledger_id, min_binary FROM actor_server_meta").get_result(conn).await?)
}

/// How far the database is migrated, of which these are all `versions`. Only reads.
pub(crate) async fn schema(conn: &mut Connection, versions: Vec<String>) -> Work<Schema> {
    #[derive(QueryableByName)]
    struct There {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        there: bool,
    }
    #[derive(QueryableByName)]
    struct Applied {
        #[diesel(sql_type = Text)]
        version: String,
    }
    let There { there } = sql_query(dialect::HAS_MIGRATIONS).get_result(conn).await?;
    if !there {
        return Ok(Schema::Missing);
    }
    let applied: Vec<Applied> =
        sql_query("SELECT version FROM __diesel_schema_migrations").load(conn).await?;
    let is_pending = |version: &String| applied.iter().all(|applied| applied.version != *version);
    let count = versions.len();
    let pending: Vec<String> = versions.into_iter().filter(is_pending).collect();
    Ok(match pending.len() {
        0 => Schema::Current,
        all if all == count => Schema::Missing,
        _ => Schema::Behind(pending),
    })
}

#[derive(QueryableByName)]
struct TaskRow {
    #[diesel(embed)]
    state: ActorServerStateRow,
    #[diesel(sql_type = Text)]
    origin: String,
    #[diesel(sql_type = Nullable<Text>)]
    pause_note: Option<String>,
    #[diesel(sql_type = BigInt)]
    open_executions: i64,
    #[diesel(sql_type = Nullable<Text>)]
    last_outcome: Option<String>,
    #[diesel(sql_type = Nullable<Instant>)]
    last_completed_at: Option<DateTime<Utc>>,
}

impl TryFrom<TaskRow> for TaskView {
    type Error = WorkError;

    fn try_from(row: TaskRow) -> Work<Self> {
        Ok(Self {
            origin: word("origin", &row.origin)?,
            open_executions: u32::try_from(row.open_executions).unwrap_or(u32::MAX),
            pause_note: row.pause_note.filter(|_| row.state.is_paused),
            last_outcome: row.last_outcome,
            last_completed_at: row.last_completed_at,
            ..Self::new(row.state.try_into()?)
        })
    }
}

/// Tasks by name. Whatever else is told of them is looked up for those alone that are listed.
pub(crate) async fn task_views(conn: &mut Connection, filter: TaskFilter) -> Work<Vec<TaskView>> {
    let mut wanted = Conditions::default();
    wanted.add("s.task_id = ", filter.task.map(String::from));
    wanted.add("s.task_id > ", filter.after.map(String::from));
    wanted.add("s.actor_name = ", filter.actor.map(String::from));
    wanted.add("s.origin = ", filter.origin.map(|origin| origin.as_str().to_owned()));
    // Written out: a partial index is used where the database can see that it applies.
    if let Some(reason) = filter.pause_reason {
        wanted.plain(format!("s.is_paused AND s.pause_reason = '{}'", reason.as_str()));
    }
    match filter.is_paused {
        Some(true) => wanted.plain("s.is_paused"),
        Some(false) => wanted.plain("NOT s.is_paused"),
        None => {}
    }
    let columns = ActorServerStateRow::COLUMNS;
    let limit = wanted.limit(filter.limit);
    let sql = format!(
        "SELECT {columns}, s.origin, s.pause_note, e.outcome AS last_outcome, e.completed_at AS last_completed_at, \
             (SELECT count(*) FROM actor_server_open_executions AS o WHERE o.task_id = s.task_id) AS open_executions \
         FROM (SELECT {columns}, s.origin, s.pause_note FROM actor_server_state AS s {} ORDER BY s.task_id {limit}) AS s \
         LEFT JOIN actor_server_executions AS e \
             ON e.id = (SELECT max(l.id) FROM actor_server_executions AS l WHERE l.task_id = s.task_id) \
         ORDER BY s.task_id",
        wanted.text()
    );
    let rows: Vec<TaskRow> = wanted.bind(sql_query(sql)).load(conn).await?;
    let mut waiting = waiting(conn).await?;
    let view = |row: TaskRow| {
        let view = TaskView::try_from(row)?;
        let waiting = waiting.remove(view.task_id.as_str());
        Ok(match waiting {
            Some(waiting) => view.with_waiting(waiting),
            None => view,
        })
    };
    rows.into_iter().map(view).collect()
}

/// By task: the posts that are due, or would be, if their destination had not refused one that still waits.
async fn waiting(conn: &mut Connection) -> Work<HashMap<String, Waiting>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        task_id: String,
        #[diesel(sql_type = BigInt)]
        posts: i64,
        #[diesel(sql_type = Nullable<Instant>)]
        since: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Text>)]
        reason: Option<String>,
    }
    // Few destinations are in trouble, and those that are stand in an index.
    let sql = "SELECT p.task_id, count(*) AS posts, min(p.created_at) AS since, \
             max((SELECT h.reason FROM actor_server_posts AS h \
                 WHERE h.platform = p.platform AND h.destination = p.destination \
                     AND h.holds_until IS NOT NULL AND h.deliver_at IS NOT NULL \
                 ORDER BY h.updated_at DESC LIMIT 1)) AS reason \
         FROM actor_server_posts AS p \
         WHERE p.deliver_at IS NOT NULL AND (p.deliver_at <= actor_server_now() OR p.holds_until IS NOT NULL) \
             AND EXISTS (SELECT 1 FROM actor_server_posts AS h \
                 WHERE h.platform = p.platform AND h.destination = p.destination \
                     AND h.holds_until IS NOT NULL AND h.deliver_at IS NOT NULL) \
         GROUP BY p.task_id";
    let rows: Vec<Row> = sql_query(sql).load(conn).await?;
    let view = |row: Row| Waiting { posts: row.posts.unsigned_abs(), since: row.since, reason: row.reason };
    Ok(rows.into_iter().map(|row| (row.task_id.clone(), view(row))).collect())
}

/// Executions, newest first, those that are open too.
pub(crate) async fn history(conn: &mut Connection, filter: HistoryFilter) -> Work<Vec<ExecutionView>> {
    let wanted = |table: &str, started: &str| {
        let mut wanted = Conditions::default();
        wanted.add(&format!("{table}.task_id = "), filter.task.clone().map(String::from));
        wanted.add(&format!("{table}.id < "), filter.before.map(|id| id.0));
        // Written out: so the database can see that its indexes of what is unusual apply.
        if let Some(trigger) = filter.trigger {
            wanted.plain(format!("{table}.trigger = '{}'", trigger.as_str()));
        }
        wanted.add(&format!("{table}.{started} >= "), filter.since);
        wanted.add(&format!("{table}.{started} < "), filter.until);
        wanted
    };
    let mut views = Vec::new();
    if filter.outcome.is_none_or(|outcome| outcome == OutcomeFilter::Open) {
        let mut wanted = wanted("o", "due_at");
        let limit = wanted.limit(Some(filter.limit));
        let (columns, text) = (OpenExecutionRow::COLUMNS, wanted.text());
        let sql = format!(
            "SELECT {columns} FROM actor_server_open_executions AS o {text} ORDER BY o.id DESC {limit}"
        );
        let open: Vec<OpenExecutionRow> = wanted.bind(sql_query(sql)).load(conn).await?;
        views.extend(open.into_iter().map(ExecutionView::try_from).collect::<Work<Vec<_>>>()?);
    }
    if filter.outcome != Some(OutcomeFilter::Open) {
        let mut wanted = wanted("e", "started_at");
        if let Some(outcome) = filter.outcome {
            wanted.plain(format!("e.outcome = '{}'", outcome.as_str()));
        }
        let limit = wanted.limit(Some(filter.limit));
        let (columns, text) = (ActorServerExecutionRow::COLUMNS, wanted.text());
        let sql =
            format!("SELECT {columns} FROM actor_server_executions AS e {text} ORDER BY e.id DESC {limit}");
        let over: Vec<ActorServerExecutionRow> = wanted.bind(sql_query(sql)).load(conn).await?;
        views.extend(over.into_iter().map(ExecutionView::try_from).collect::<Work<Vec<_>>>()?);
    }
    views.sort_by_key(|view| std::cmp::Reverse(view.id));
    views.truncate(filter.limit);
    Ok(views)
}

pub(crate) async fn executions(conn: &mut Connection) -> Work<usize> {
    let count: i64 = actor_server_executions::table.count().get_result(conn).await?;
    Ok(usize::try_from(count).unwrap_or(0))
}

pub(crate) async fn execution(conn: &mut Connection, id: ExecutionId) -> Work<Option<ExecutionView>> {
    let open: Vec<OpenExecutionRow> = actor_server_open_executions::table
        .find(id.0)
        .select(OpenExecutionRow::as_select())
        .load(conn)
        .await?;
    if let Some(open) = open.into_iter().next() {
        return open.try_into().map(Some);
    }
    let over: Vec<ActorServerExecutionRow> = actor_server_executions::table
        .find(id.0)
        .select(ActorServerExecutionRow::as_select())
        .load(conn)
        .await?;
    over.into_iter().next().map(ExecutionView::try_from).transpose()
}

type AttemptRow = (i32, String, Option<DateTime<Utc>>, DateTime<Utc>, String, Option<String>);

pub(crate) async fn attempts(conn: &mut Connection, id: ExecutionId) -> Work<Vec<AttemptView>> {
    use actor_server_attempts::dsl;
    let rows: Vec<AttemptRow> = dsl::actor_server_attempts
        .filter(dsl::execution_id.eq(id.0))
        .order(dsl::attempt)
        .select((dsl::attempt, dsl::node, dsl::started_at, dsl::ended_at, dsl::ended, dsl::error_message))
        .load(conn)
        .await?;
    let view = |(attempt, node, started_at, ended_at, ended, error_message): AttemptRow| AttemptView {
        attempt: attempt.unsigned_abs(),
        node,
        started_at,
        ended_at,
        ended,
        error_message,
    };
    Ok(rows.into_iter().map(view).collect())
}

pub(crate) async fn posts(conn: &mut Connection, filter: PostFilter) -> Work<Vec<PostView>> {
    let mut wanted = Conditions::default();
    wanted.add("p.task_id = ", filter.task.map(String::from));
    wanted.add("p.execution_id = ", filter.execution_id.map(|id| id.0));
    wanted.add("p.id < ", filter.before.map(|id| id.0));
    // Written out: a partial index is used where the database can see that it applies.
    if let Some(state) = filter.state {
        wanted.plain(format!("p.state = '{}'", state.as_str()));
    }
    let limit = wanted.limit(Some(filter.limit));
    let (columns, text) = (PostRow::COLUMNS, wanted.text());
    let sql = format!("SELECT {columns} FROM actor_server_posts AS p {text} ORDER BY p.id DESC {limit}");
    let rows: Vec<PostRow> = wanted.bind(sql_query(sql)).load(conn).await?;
    post_views(conn, rows).await
}

async fn post_views(conn: &mut Connection, rows: Vec<PostRow>) -> Work<Vec<PostView>> {
    let ids: Vec<i64> = rows.iter().filter(|row| row.deliver_at.is_some()).map(|row| row.id).collect();
    let waits_for = if ids.is_empty() { HashMap::new() } else { waits_for(conn, &ids).await? };
    let view = |row: PostRow| {
        let waits_for = waits_for.get(&row.id).copied().map(PostId);
        Ok(PostView { waits_for, ..row.try_into()? })
    };
    rows.into_iter().map(view).collect()
}

/// Those with these numbers, in any order.
pub(super) async fn posts_of(conn: &mut Connection, ids: &[i64]) -> Work<Vec<PostView>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let columns = PostRow::COLUMNS;
    let sql = format!("SELECT {columns} FROM actor_server_posts AS p WHERE p.id IN (SELECT r.id FROM {{r}})");
    let rows: Vec<PostRow> = sql_query(sql).rows(&batch::Id::all(ids))?.load(conn).await?;
    post_views(conn, rows).await
}

/// How many posts of a task there are in each state that any is in.
pub(crate) async fn post_counts(conn: &mut Connection, task: TaskId) -> Work<BTreeMap<String, u64>> {
    let counts: Vec<(String, i64)> = actor_server_posts::table
        .filter(actor_server_posts::task_id.eq(task.as_str()))
        .group_by(actor_server_posts::state)
        .select((actor_server_posts::state, diesel::dsl::count_star()))
        .load(conn)
        .await?;
    Ok(counts.into_iter().map(|(state, count)| (state, count.unsigned_abs())).collect())
}

pub(crate) async fn post(conn: &mut Connection, id: PostId) -> Work<Option<PostView>> {
    let rows: Vec<PostRow> =
        actor_server_posts::table.find(id.0).select(PostRow::as_select()).load(conn).await?;
    Ok(post_views(conn, rows).await?.pop())
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = actor_server_post_attempts)]
struct PostAttemptRow {
    attempt: i32,
    node: String,
    sent_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    ended: Option<String>,
    reason: Option<String>,
    exchanges: Option<Value>,
}

impl TryFrom<PostAttemptRow> for PostAttemptView {
    type Error = WorkError;

    fn try_from(row: PostAttemptRow) -> Work<Self> {
        Ok(Self {
            attempt: row.attempt.unsigned_abs(),
            node: row.node,
            sent_at: row.sent_at,
            ended_at: row.ended_at,
            ended: row.ended,
            reason: row.reason,
            exchanges: row.exchanges.map(|exchanges| json("exchanges", exchanges)).transpose()?,
        })
    }
}

pub(crate) async fn post_attempts(conn: &mut Connection, id: PostId) -> Work<Vec<PostAttemptView>> {
    use actor_server_post_attempts::dsl;
    let rows: Vec<PostAttemptRow> = dsl::actor_server_post_attempts
        .filter(dsl::post_id.eq(id.0))
        .order(dsl::attempt)
        .select(PostAttemptRow::as_select())
        .load(conn)
        .await?;
    rows.into_iter().map(PostAttemptView::try_from).collect()
}

/// The post that carries the used item `u`.
pub(super) const CARRIED_BY: &str = "LEFT JOIN actor_server_posts AS p ON p.execution_id = u.execution_id \
     AND p.platform = u.platform AND p.destination = u.destination AND p.part = u.part";
/// What was refused would be refused again, and what a person left out is done with. What the actor's own limit left out
/// may be posted another day.
pub(super) const STILL_USED: &str =
    "(p.id IS NULL OR p.state <> 'skipped' OR COALESCE(p.reason, '') <> 'rate_limited')";
const IS_OR_WILL_BE_THERE: &str = "(p.id IS NULL OR p.state NOT IN ('failed', 'skipped'))";

pub(crate) async fn used_keys(conn: &mut Connection, task: TaskId, source: String) -> Work<Vec<String>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        item_key: String,
    }
    let sql = format!(
        "SELECT DISTINCT u.item_key FROM actor_server_used_items AS u {CARRIED_BY} \
         WHERE u.task_id = $1 AND u.source = $2 AND {STILL_USED}"
    );
    let rows: Vec<Row> =
        sql_query(sql).bind::<Text, _>(task.as_str()).bind::<Text, _>(source).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.item_key).collect())
}

pub(crate) async fn earlier_items(
    conn: &mut Connection,
    destination: Destination,
    since: DateTime<Utc>,
) -> Work<Vec<EarlierItem>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<BigInt>)]
        post_id: Option<i64>,
        #[diesel(sql_type = Text)]
        text: String,
        #[diesel(sql_type = Instant)]
        used_at: DateTime<Utc>,
    }
    let sql = format!(
        "SELECT p.id AS post_id, u.text, u.used_at FROM actor_server_used_items AS u {CARRIED_BY} \
         WHERE u.platform = $1 AND u.destination = $2 AND u.used_at >= $3 AND {IS_OR_WILL_BE_THERE} \
         ORDER BY u.used_at DESC"
    );
    let rows: Vec<Row> = sql_query(sql)
        .bind::<Text, _>(destination.platform)
        .bind::<Text, _>(destination.target)
        .bind::<Instant, _>(since)
        .load(conn)
        .await?;
    let item =
        |row: Row| EarlierItem { post_id: row.post_id.map(PostId), text: row.text, used_at: row.used_at };
    Ok(rows.into_iter().map(item).collect())
}

pub(crate) async fn post_times(
    conn: &mut Connection,
    task: TaskId,
    destination: Destination,
    since: DateTime<Utc>,
) -> Work<Vec<DateTime<Utc>>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Instant)]
        at: DateTime<Utc>,
    }
    let sql = "SELECT COALESCE(posted_at, deliver_at, uncertain_since, updated_at) AS at FROM actor_server_posts \
         WHERE task_id = $1 AND platform = $2 AND destination = $3 AND part = first_part \
             AND state NOT IN ('failed', 'skipped') \
             AND COALESCE(posted_at, deliver_at, uncertain_since, updated_at) >= $4";
    let rows: Vec<Row> = sql_query(sql)
        .bind::<Text, _>(task.as_str())
        .bind::<Text, _>(destination.platform)
        .bind::<Text, _>(destination.target)
        .bind::<Instant, _>(since)
        .load(conn)
        .await?;
    let mut times: Vec<DateTime<Utc>> = rows.into_iter().map(|row| to_microseconds(row.at)).collect();
    times.sort_unstable();
    Ok(times)
}

/// Deletes up to `limit` rows of history that were over before `before`, and as many old entries of the audit; posts and
/// used items stay. Returns how many.
pub(crate) async fn prune(conn: &mut Connection, before: DateTime<Utc>, limit: i64) -> Work<usize> {
    // Numbers grow with time, so the oldest rows are the first ones: no index on `completed_at` is needed.
    let oldest: Vec<i64> = actor_server_executions::table
        .order(actor_server_executions::id)
        .limit(limit)
        .select(actor_server_executions::id)
        .load(conn)
        .await?;
    let audits = super::access::prune_audit(conn, before, limit).await?;
    let Some(newest_of_them) = oldest.iter().max().copied() else { return Ok(audits) };
    let deleted = diesel::delete(
        actor_server_executions::table
            .filter(actor_server_executions::id.le(newest_of_them))
            .filter(actor_server_executions::completed_at.lt(before)),
    )
    .execute(conn)
    .await?;
    let attempts_of_none = "DELETE FROM actor_server_attempts AS a WHERE a.execution_id <= $1 \
         AND NOT EXISTS (SELECT 1 FROM actor_server_executions AS e WHERE e.id = a.execution_id) \
         AND NOT EXISTS (SELECT 1 FROM actor_server_open_executions AS o WHERE o.id = a.execution_id)";
    sql_query(attempts_of_none).bind::<BigInt, _>(newest_of_them).execute(conn).await?;
    Ok(deleted + audits)
}

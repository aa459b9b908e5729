//! What is not as it should be, as far as the tables tell: small questions, each with an index, asked every other second.

use super::rows::{actor_name, json};
use super::*;
use botticelli_server::alert::{AlertRule, Trouble, shortened};
use botticelli_server::outbox::{DESTINATION_PAUSED, Exchange};
use botticelli_server::post::Destination;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// More troubles of one kind than this are not looked at: whoever is told of so many has enough to do.
const MOST: usize = 1_000;
/// So much of an error is told.
const LONGEST_ERROR: usize = 500;

/// All of them. `overdue`: how late a task must be, in microseconds; `None`: nobody wants to know.
pub(super) async fn troubles(conn: &mut Connection, overdue: Option<Duration>) -> Work<Vec<Trouble>> {
    let mut troubles = failing_tasks(conn).await?;
    if let Some(overdue) = overdue {
        troubles.extend(overdue_tasks(conn, overdue).await?);
    }
    troubles.extend(posts_in_review(conn).await?);
    troubles.extend(paused_destinations(conn).await?);
    Ok(troubles)
}

async fn failing_tasks(conn: &mut Connection) -> Work<Vec<Trouble>> {
    #[derive(QueryableByName)]
    struct Failing {
        #[diesel(sql_type = Text)]
        task_id: String,
        #[diesel(sql_type = Text)]
        actor_name: String,
        #[diesel(sql_type = Integer)]
        consecutive_failures: i32,
        #[diesel(sql_type = Bool)]
        is_open: bool,
    }
    // What is disabled in, or gone from, the configuration is nobody's trouble any more.
    let sql = format!(
        "SELECT s.task_id, s.actor_name, s.consecutive_failures, \
             s.is_paused AND COALESCE(s.pause_reason = 'breaker', false) AS is_open \
         FROM actor_server_state AS s \
         WHERE s.consecutive_failures > 0 AND NOT (s.is_paused AND COALESCE(s.pause_reason = 'definition', false)) \
         ORDER BY s.task_id LIMIT {MOST}"
    );
    let rows: Vec<Failing> = sql_query(sql).load(conn).await?;
    let mut troubles = Vec::new();
    for row in rows {
        let (task, failures) = (row.task_id, row.consecutive_failures.unsigned_abs());
        let actor_name = Some(actor_name(row.actor_name)?);
        let times = if failures == 1 { "once".to_owned() } else { format!("{failures} times in a row") };
        let trouble = |rule, summary| Trouble {
            rule,
            subject: task.clone(),
            actor_name: actor_name.clone(),
            amount: u64::from(failures),
            summary,
        };
        troubles.push(trouble(AlertRule::ConsecutiveFailures, format!("task {task:?} has failed {times}")));
        if row.is_open {
            let summary = format!("task {task:?} is paused: it has failed {times}");
            troubles.push(trouble(AlertRule::BreakerOpened, summary));
        }
    }
    Ok(troubles)
}

/// Why the task failed last: its execution, or a post of it.
pub(super) async fn last_error(conn: &mut Connection, task: &str) -> Work<Option<String>> {
    #[derive(QueryableByName)]
    struct Error {
        #[diesel(sql_type = Nullable<Text>)]
        reason: Option<String>,
    }
    let sql = "SELECT f.reason FROM ( \
             SELECT * FROM (SELECT e.id AS execution, e.error_message AS reason FROM actor_server_executions AS e \
                 WHERE e.task_id = $1 AND e.outcome = 'failed' ORDER BY e.id DESC LIMIT 1) AS execution \
             UNION ALL \
             SELECT * FROM (SELECT p.execution_id AS execution, p.reason FROM actor_server_posts AS p \
                 WHERE p.task_id = $1 AND p.state = 'failed' ORDER BY p.execution_id DESC LIMIT 1) AS post \
         ) AS f ORDER BY f.execution DESC LIMIT 1";
    let rows: Vec<Error> = sql_query(sql).bind::<Text, _>(task).load(conn).await?;
    Ok(rows.into_iter().find_map(|row| row.reason).map(|reason| shortened(&reason, LONGEST_ERROR)))
}

/// Due, and not started: the task's next occurrence, or the next attempt of an execution that waits for a node. While
/// one runs, the next is not overdue: it waits for that.
async fn overdue_tasks(conn: &mut Connection, by: Duration) -> Work<Vec<Trouble>> {
    #[derive(QueryableByName)]
    struct Overdue {
        #[diesel(sql_type = Text)]
        task_id: String,
        #[diesel(sql_type = Text)]
        actor_name: String,
        #[diesel(sql_type = Instant)]
        due_at: DateTime<Utc>,
        #[diesel(sql_type = Instant)]
        now: DateTime<Utc>,
    }
    let sql = format!(
        "SELECT s.task_id, s.actor_name, s.wake_at AS due_at, actor_server_now() AS now \
             FROM actor_server_state AS s \
             WHERE NOT s.is_paused AND s.wake_at < actor_server_now_plus($1) AND NOT EXISTS ( \
                 SELECT 1 FROM actor_server_open_executions AS o WHERE o.task_id = s.task_id) \
         UNION ALL \
         SELECT s.task_id, s.actor_name, o.ready_at AS due_at, actor_server_now() AS now \
             FROM actor_server_open_executions AS o JOIN actor_server_state AS s ON s.task_id = o.task_id \
             WHERE NOT s.is_paused AND o.ready_at < actor_server_now_plus($1) \
         LIMIT {MOST}"
    );
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    let rows: Vec<Overdue> = sql_query(sql).bind::<BigInt, _>(-by).load(conn).await?;
    let mut by_task = BTreeMap::new();
    for row in rows {
        let late: TimeDelta = row.now - row.due_at;
        let trouble = Trouble {
            rule: AlertRule::TaskOverdue,
            actor_name: Some(actor_name(row.actor_name)?),
            amount: u64::try_from(late.num_seconds()).unwrap_or(0),
            summary: format!(
                "task {:?} is due since {} and does not run",
                row.task_id,
                row.due_at.to_rfc3339()
            ),
            subject: row.task_id.clone(),
        };
        let earlier = by_task.entry(row.task_id).or_insert_with(|| trouble.clone());
        if trouble.amount > earlier.amount {
            *earlier = trouble;
        }
    }
    Ok(by_task.into_values().collect())
}

async fn posts_in_review(conn: &mut Connection) -> Work<Vec<Trouble>> {
    #[derive(QueryableByName)]
    struct InReview {
        #[diesel(sql_type = Text)]
        task_id: String,
        #[diesel(sql_type = BigInt)]
        posts: i64,
        #[diesel(sql_type = BigInt)]
        first: i64,
    }
    let sql = format!(
        "SELECT p.task_id, count(*) AS posts, min(p.id) AS first FROM actor_server_posts AS p \
         WHERE p.state = 'needs_review' GROUP BY p.task_id ORDER BY p.task_id LIMIT {MOST}"
    );
    let rows: Vec<InReview> = sql_query(sql).load(conn).await?;
    let trouble = |row: InReview| Trouble {
        rule: AlertRule::PostsNeedReview,
        actor_name: None,
        amount: row.posts.unsigned_abs(),
        summary: format!(
            "{} of task {:?} may or may not be there, and wait for a person; the first is post {}",
            if row.posts == 1 { "1 post".to_owned() } else { format!("{} posts", row.posts) },
            row.task_id,
            row.first
        ),
        subject: row.task_id,
    };
    Ok(rows.into_iter().map(trouble).collect())
}

/// Destinations that did not take a post and have taken none since; and tokens that were refused there.
async fn paused_destinations(conn: &mut Connection) -> Work<Vec<Trouble>> {
    #[derive(QueryableByName)]
    struct Refusal {
        #[diesel(sql_type = Text)]
        platform: String,
        #[diesel(sql_type = Text)]
        destination: String,
        #[diesel(sql_type = Text)]
        reason: String,
        #[diesel(sql_type = Nullable<Json>)]
        exchanges: Option<Value>,
    }
    // A post that is being sent again, or whose node was lost meanwhile, has told before why it waits.
    let sql = format!(
        "SELECT p.platform, p.destination, a.reason, a.exchanges \
         FROM actor_server_posts AS p JOIN actor_server_post_attempts AS a ON a.post_id = p.id \
         WHERE p.holds_until IS NOT NULL AND (p.deliver_at IS NOT NULL OR p.state = 'sending') \
             AND a.reason LIKE '{DESTINATION_PAUSED}%' \
         ORDER BY p.id DESC, a.attempt DESC LIMIT {MOST}"
    );
    let rows: Vec<Refusal> = sql_query(sql).load(conn).await?;
    let mut troubles = BTreeMap::new();
    for row in rows {
        let why = row.reason.strip_prefix(DESTINATION_PAUSED).unwrap_or(&row.reason);
        let why = shortened(why, LONGEST_ERROR);
        let destination = Destination { platform: row.platform.clone(), target: row.destination };
        let trouble =
            |rule, subject: String, summary| Trouble { rule, subject, actor_name: None, amount: 1, summary };
        if is_refused_token(&row.platform, row.exchanges)? {
            let summary = format!("{} does not take the token any more: {why}", row.platform);
            let revoked = trouble(AlertRule::TokenRevoked, row.platform.clone(), summary);
            troubles.entry((AlertRule::TokenRevoked, row.platform)).or_insert(revoked);
        }
        let subject = destination.to_string();
        let summary = format!("{subject} takes no posts: {why}");
        let paused = trouble(AlertRule::DestinationPaused, subject.clone(), summary);
        troubles.entry((AlertRule::DestinationPaused, subject)).or_insert(paused);
    }
    Ok(troubles.into_values().collect())
}

/// Discord answers 401 to a bot whose token is not valid; elsewhere that concerns one destination only.
fn is_refused_token(platform: &str, exchanges: Option<Value>) -> Work<bool> {
    let Some(exchanges) = exchanges.filter(|_| platform == "discord") else { return Ok(false) };
    let exchanges: Vec<Exchange> = json("exchanges", exchanges)?;
    Ok(exchanges.iter().any(|exchange| exchange.status == Some(401)))
}

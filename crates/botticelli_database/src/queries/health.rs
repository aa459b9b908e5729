//! How things stand, in a few numbers.

use super::rows::task_id;
use super::*;
use crate::views::HealthView;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};

pub(crate) async fn health(conn: &mut Connection) -> Work<HealthView> {
    #[derive(QueryableByName)]
    struct Failed {
        #[diesel(sql_type = Text)]
        task_id: String,
    }
    #[derive(QueryableByName)]
    struct Numbers {
        #[diesel(sql_type = BigInt)]
        scheduled: i64,
        #[diesel(sql_type = Nullable<Instant>)]
        last: Option<DateTime<Utc>>,
    }
    let sql = "SELECT task_id FROM actor_server_state WHERE is_paused AND pause_reason = 'breaker' \
         ORDER BY task_id LIMIT $1";
    let most = i64::try_from(HealthView::MOST_NAMES).unwrap_or(i64::MAX);
    let failed: Vec<Failed> = sql_query(sql).bind::<BigInt, _>(most).load(conn).await?;
    // What is over last has the highest number, or nearly.
    let sql = "SELECT (SELECT count(*) FROM actor_server_state WHERE NOT is_paused AND next_run IS NOT NULL) AS scheduled, \
         (SELECT completed_at FROM actor_server_executions ORDER BY id DESC LIMIT 1) AS last";
    let numbers: Numbers = sql_query(sql).get_result(conn).await?;
    Ok(HealthView {
        scheduled_tasks: numbers.scheduled.unsigned_abs(),
        failed_tasks: failed.into_iter().map(|row| task_id(row.task_id)).collect::<Work<_>>()?,
        last_execution: numbers.last,
    })
}

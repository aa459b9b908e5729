//! What the ledger accounts for already of occurrences that are to be left out. It has some of them where somebody set
//! `next_run` back by hand.

use super::*;
use botticelli_server::clock::to_microseconds;
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::SkippedRange;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use std::collections::HashMap;

/// By task and the first time of the range.
#[derive(Default)]
pub(super) struct Known(HashMap<(String, DateTime<Utc>), KnownPart>);

#[derive(QueryableByName)]
struct KnownPart {
    #[diesel(sql_type = Text)]
    task_id: String,
    #[diesel(sql_type = Instant)]
    first: DateTime<Utc>,
    #[diesel(sql_type = Instant)]
    last: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    occurrences: i64,
}

impl Known {
    /// What of the range is still to be written, if anything is: what comes after the last that is known.
    pub(super) fn leaves(&self, task: &TaskId, range: &SkippedRange) -> Option<SkippedRange> {
        let Some(known) = self.0.get(&(task.to_string(), to_microseconds(range.from))) else {
            return Some(*range);
        };
        let after = known.last + TimeDelta::microseconds(1);
        let count = range.count.saturating_sub(known.occurrences.unsigned_abs()).max(1);
        (known.last < range.to).then_some(SkippedRange { from: after, count, ..*range })
    }
}

/// Asked under the locks of the tasks.
pub(super) async fn known(conn: &mut Connection, ranges: &[(&TaskId, &SkippedRange)]) -> Work<Known> {
    batch_row! {
        struct Range<'a> {
            task_id: &'a str,
            first: DateTime<Utc>,
            last: DateTime<Utc>,
        }
    }
    if ranges.is_empty() {
        return Ok(Known::default());
    }
    let ranges: Vec<Range<'_>> = ranges
        .iter()
        .map(|(task, range)| Range { task_id: task.as_str(), first: range.from, last: range.to })
        .collect();
    let sql = "SELECT k.task_id, k.first, max(k.last) AS last, CAST(sum(k.occurrences) AS bigint) AS occurrences FROM ( \
             SELECT e.task_id, r.first, COALESCE(e.scheduled_until, e.scheduled_for) AS last, e.occurrences \
             FROM {r} JOIN actor_server_executions AS e \
                 ON e.task_id = r.task_id AND e.scheduled_for BETWEEN r.first AND r.last \
             UNION ALL SELECT o.task_id, r.first, o.scheduled_for, 1 \
             FROM {r} JOIN actor_server_open_executions AS o \
                 ON o.task_id = r.task_id AND o.scheduled_for BETWEEN r.first AND r.last) AS k \
         GROUP BY k.task_id, k.first";
    let parts: Vec<KnownPart> = sql_query(sql).rows(&ranges)?.load(conn).await?;
    let key = |part: &KnownPart| (part.task_id.clone(), part.first);
    Ok(Known(parts.into_iter().map(|part| (key(&part), part)).collect()))
}

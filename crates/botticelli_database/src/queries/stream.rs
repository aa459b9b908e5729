//! The stream of changes: what is read of it, and what is forgotten. It is written by triggers, and with the history.

use super::alerts::alerts_of;
use super::read::posts_of;
use super::rows::{ActorServerExecutionRow, actor_name, json, task_id, word};
use super::*;
use crate::stream::{AlertChange, BreakerChange, Change, ChangeKind, Position, StreamFilter, StreamPage};
use crate::views::ExecutionView;
use botticelli_server::alert::Notice;
use botticelli_server::task::{Breaker, PauseReason};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

/// So many rows are looked at in one go.
const ROWS: usize = 100;
/// So many changes are told in one go: what is held in memory for one reader.
const CHANGES: usize = 100;

#[derive(QueryableByName)]
struct StreamRow {
    #[diesel(sql_type = BigInt)]
    tx: i64,
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Instant)]
    at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Json)]
    about: Value,
}

impl StreamRow {
    const COLUMNS: &str = "tx, id, at, kind, about";

    /// Behind so many of its changes.
    fn position(&self, told: usize) -> Position {
        Position { tx: self.tx, id: self.id, at: self.at.timestamp_micros(), told }
    }

    fn changes(&self) -> &[Value] {
        self.about.as_array().map_or(&[], Vec::as_slice)
    }

    /// `None`: it tells of nothing, or of something that only a newer server knows.
    fn kind(&self) -> Option<ChangeKind> {
        ChangeKind::ALL.into_iter().find(|kind| kind.as_str() == self.kind)
    }
}

/// From that row on.
async fn rows_from(conn: &mut Connection, tx: i64, id: i64) -> Work<Vec<StreamRow>> {
    let sql = format!(
        "SELECT {} FROM actor_server_stream WHERE (tx, id) >= ($1, $2) AND {} ORDER BY tx, id LIMIT {ROWS}",
        StreamRow::COLUMNS,
        dialect::NOTHING_COMES_BEFORE
    );
    Ok(sql_query(sql).bind::<BigInt, _>(tx).bind::<BigInt, _>(id).load(conn).await?)
}

/// Behind the newest change. `None`: nothing can be said at this moment.
pub(crate) async fn stream_head(conn: &mut Connection) -> Work<Option<Position>> {
    let sql = format!(
        "SELECT {} FROM actor_server_stream WHERE {} ORDER BY tx DESC, id DESC LIMIT 1",
        StreamRow::COLUMNS,
        dialect::NOTHING_COMES_BEFORE
    );
    let newest: Vec<StreamRow> = sql_query(sql).load(conn).await?;
    Ok(newest.as_slice().first().map(|row| row.position(row.changes().len())))
}

/// What came after `after`, oldest first.
pub(crate) async fn stream(conn: &mut Connection, after: Position, filter: StreamFilter) -> Work<StreamPage> {
    let rows = rows_from(conn, after.tx, after.id).await?;
    if rows.as_slice().first().is_some_and(|row| row.position(after.told) == after) {
        return page(conn, rows, None, after, filter).await;
    }
    // The row is gone, or another one has its number.
    let rows = rows_from(conn, 0, 0).await?;
    let oldest = rows.as_slice().first().map(|row| row.position(0));
    page(conn, rows, oldest, oldest.unwrap_or(after), filter).await
}

async fn page(
    conn: &mut Connection,
    rows: Vec<StreamRow>,
    gap: Option<Position>,
    after: Position,
    filter: StreamFilter,
) -> Work<StreamPage> {
    let mut more = rows.len() == ROWS;
    let mut position = after;
    let mut wanted: Vec<(Position, ChangeKind, &Value)> = Vec::new();
    'rows: for row in &rows {
        let told = if row.position(after.told) == after { after.told } else { 0 };
        if let Some(kind) = row.kind().filter(|kind| filter.wants(*kind)) {
            for (index, about) in row.changes().iter().enumerate().skip(told) {
                if wanted.len() == CHANGES {
                    more = true;
                    break 'rows;
                }
                position = row.position(index + 1);
                wanted.push((position, kind, about));
            }
        }
        position = row.position(row.changes().len());
    }
    let mut changes = Vec::with_capacity(wanted.len());
    let mut views = Views::of(conn, &wanted).await?;
    for (position, kind, about) in wanted {
        let change = views.change(kind, about)?;
        let is_wanted = |change: &Change| filter.task.as_ref().is_none_or(|task| change.is_of(task));
        changes.extend(change.filter(is_wanted).map(|change| (position, change)));
    }
    Ok(StreamPage { gap, changes, position, more })
}

/// What the changes are about, by their numbers. What is gone by now is left out.
struct Views {
    executions: HashMap<i64, ExecutionView>,
    posts: HashMap<i64, crate::views::PostView>,
    alerts: HashMap<i64, crate::alerts::AlertView>,
}

impl Views {
    async fn of(conn: &mut Connection, wanted: &[(Position, ChangeKind, &Value)]) -> Work<Self> {
        let numbers = |kind: ChangeKind| -> Vec<i64> {
            let of_kind = wanted.iter().filter(|(_, other, _)| *other == kind);
            of_kind.filter_map(|(_, _, about)| about.as_i64().or_else(|| about["id"].as_i64())).collect()
        };
        let executions = executions_of(conn, &numbers(ChangeKind::Execution)).await?;
        let posts = posts_of(conn, &numbers(ChangeKind::Post)).await?;
        let alerts = alerts_of(conn, &numbers(ChangeKind::Alert)).await?;
        Ok(Self {
            executions: executions.into_iter().map(|view| (view.id.0, view)).collect(),
            posts: posts.into_iter().map(|view| (view.id.0, view)).collect(),
            alerts: alerts.into_iter().map(|view| (view.id, view)).collect(),
        })
    }

    fn change(&mut self, kind: ChangeKind, about: &Value) -> Work<Option<Change>> {
        #[derive(Deserialize)]
        struct AboutAlert {
            id: i64,
            notice: Notice,
        }
        let number = || about.as_i64().unwrap_or_default();
        Ok(match kind {
            // An execution ends once.
            ChangeKind::Execution => {
                self.executions.remove(&number()).map(|view| Change::Execution(Box::new(view)))
            }
            ChangeKind::Post => self.posts.get(&number()).map(|view| Change::Post(Box::new(view.clone()))),
            ChangeKind::Breaker => Some(Change::Breaker(breaker_change(about)?)),
            ChangeKind::Alert => {
                let AboutAlert { id, notice } = json("about", about.clone())?;
                let alert = self.alerts.get(&id).cloned();
                alert.map(|alert| Change::Alert(AlertChange { notice, alert }))
            }
        })
    }
}

fn breaker_change(about: &Value) -> Work<BreakerChange> {
    #[derive(Deserialize)]
    struct AboutTask {
        task_id: String,
        actor_name: String,
        is_paused: bool,
        pause_reason: Option<String>,
        consecutive_failures: u32,
        probe_at: Option<DateTime<Utc>>,
    }
    let about: AboutTask = json("about", about.clone())?;
    let pause_reason: Option<PauseReason> =
        about.pause_reason.map(|reason| word("pause_reason", &reason)).transpose()?;
    Ok(BreakerChange {
        task_id: task_id(about.task_id)?,
        actor_name: actor_name(about.actor_name)?,
        breaker: Breaker::of(about.is_paused, pause_reason, about.probe_at),
        is_paused: about.is_paused,
        pause_reason,
        consecutive_failures: about.consecutive_failures,
        probe_at: about.probe_at,
    })
}

async fn executions_of(conn: &mut Connection, ids: &[i64]) -> Work<Vec<ExecutionView>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {} FROM actor_server_executions AS e WHERE e.id IN (SELECT r.id FROM {{r}})",
        ActorServerExecutionRow::COLUMNS
    );
    let rows: Vec<ActorServerExecutionRow> = sql_query(sql).rows(&batch::Id::all(ids))?.load(conn).await?;
    rows.into_iter().map(ExecutionView::try_from).collect()
}

/// Forgets at most `limit` rows that are older than `before`; the newest of those stays: only whoever missed a row is to
/// be told that some are missing. Returns how many.
pub(crate) async fn prune_stream(conn: &mut Connection, before: DateTime<Utc>, limit: i64) -> Work<usize> {
    let sql = format!("SELECT {} FROM actor_server_stream ORDER BY tx, id LIMIT $1", StreamRow::COLUMNS);
    let oldest: Vec<StreamRow> = sql_query(sql).bind::<BigInt, _>(limit.saturating_add(1)).load(conn).await?;
    let old = oldest.iter().take_while(|row| row.at < before).count();
    let Some(last) = old.checked_sub(2).and_then(|index| oldest.get(index)) else { return Ok(0) };
    let sql = "DELETE FROM actor_server_stream WHERE (tx, id) <= ($1, $2)";
    Ok(sql_query(sql).bind::<BigInt, _>(last.tx).bind::<BigInt, _>(last.id).execute(conn).await?)
}

/// Begins anew: what a backup holds are the changes of another time, and on another PostgreSQL server the numbers of
/// transactions are others, too.
pub(super) async fn begin_stream(conn: &mut Connection) -> Work<()> {
    sql_query("DELETE FROM actor_server_stream").execute(conn).await?;
    let sql = "INSERT INTO actor_server_stream (kind, about, at) VALUES ('start', $1, actor_server_now())";
    sql_query(sql).bind::<Json, _>(Value::Array(Vec::new())).execute(conn).await?;
    Ok(())
}

//! What arrives.

use super::agenda::lock_state;
use super::claim::{NewOpenExecution, insert_open};
use super::operate::{known_request, remember_request};
use super::rows::{NewActorServerExecution, OpenExecutionRow, insert_executions};
use super::*;
use crate::store::{Published, RequestKey};
use botticelli_server::ids::ExecutionId;
use botticelli_server::ledger::Trigger;
use botticelli_server::outcome::SkipReason;
use botticelli_server::server::{
    Arrival, EventItem, GatheredEvents, Gathering, LONGEST_DEBOUNCE, Received, WhenFull,
};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Text};
use serde_json::Value;
use std::time::Duration;

/// Events that share a run are written anew with each: no more than this of them.
const MOST_GATHERED_BYTES: usize = 4 * 1024 * 1024;

/// Stores what arrived. The task's lock is held: nobody takes an execution to which this adds, and nobody else brings the
/// same id.
pub(crate) async fn receive(conn: &mut Connection, arrival: Arrival) -> Work<Received> {
    let Some(task) = lock_state(conn, &arrival.task).await? else { return Ok(Received::UnknownTask) };
    let key = arrival.id.as_ref().map(|id| RequestKey {
        key: format!("event {:?} {id}", arrival.source),
        request: arrival.request.clone().unwrap_or_default(),
    });
    if let Some(key) = &key {
        match known_request(conn, &arrival.task, key).await? {
            Some(Published::Again(id) | Published::Execution(id)) => return Ok(Received::Again(id)),
            Some(Published::OtherRequest) => return Ok(Received::OtherRequest),
            Some(Published::UnknownTask) | None => {}
        }
    }
    let now = super::now(conn).await?;
    let received = keep(conn, &task.actor_name, &arrival, now).await?;
    if let (Some(key), Received::Stored(id) | Received::LeftOut(id)) = (key, &received) {
        remember_request(conn, &arrival.task, key, id.0, now).await?;
    }
    Ok(received)
}

/// Stores what is here for the first time. The task's lock is held.
pub(super) async fn keep(
    conn: &mut Connection,
    actor_name: &str,
    arrival: &Arrival,
    now: DateTime<Utc>,
) -> Work<Received> {
    let waiting = waiting(conn, arrival).await?;
    let id = match open_to_more(&waiting, arrival, now) {
        Some((row, gathered)) => {
            add(conn, row, gathered, arrival, now).await?;
            row.id
        }
        None if waiting.len() >= arrival.max_waiting.get() as usize => {
            return match arrival.when_full {
                WhenFull::Refuse => {
                    Ok(Received::Full { waiting: u32::try_from(waiting.len()).unwrap_or(u32::MAX) })
                }
                WhenFull::LeaveOut => leave_out(conn, actor_name, arrival, now).await,
            };
        }
        None => open(conn, actor_name, arrival, now).await?,
    };
    Ok(Received::Stored(ExecutionId(id)))
}

/// Nobody would bring it again: the history tells of it.
async fn leave_out(
    conn: &mut Connection,
    actor_name: &str,
    arrival: &Arrival,
    now: DateTime<Utc>,
) -> Work<Received> {
    let id = batch::take_number(conn).await?;
    let row = NewActorServerExecution {
        id,
        task_id: arrival.task.to_string(),
        actor_name: actor_name.to_owned(),
        trigger: Trigger::Event.as_str(),
        scheduled_for: None,
        scheduled_until: None,
        occurrences: 1,
        started_at: None,
        completed_at: now,
        outcome: "skipped",
        skip_reason: Some(SkipReason::TooManyWaiting.as_str()),
        success: None,
        error_message: None,
        attempt: 0,
        node: None,
        fence: None,
        skills_succeeded: 0,
        skills_failed: 0,
        skills_skipped: 0,
        metadata: serde_json::json!({ "event": { "source": arrival.source, "key": arrival.item.key } }),
    };
    insert_executions(conn, &[row]).await?;
    Ok(Received::LeftOut(ExecutionId(id)))
}

/// The task's executions that wait with their events, oldest first.
async fn waiting(conn: &mut Connection, arrival: &Arrival) -> Work<Vec<OpenExecutionRow>> {
    let sql = format!(
        "SELECT {} FROM actor_server_open_executions AS o \
         WHERE o.task_id = $1 AND o.node IS NULL AND o.trigger = $2 ORDER BY o.id",
        OpenExecutionRow::COLUMNS
    );
    let query = sql_query(sql).bind::<Text, _>(arrival.task.as_str());
    Ok(query.bind::<Text, _>(Trigger::Event.as_str()).load(conn).await?)
}

/// The execution that gathers events of this source, if its time is not over.
fn open_to_more<'a>(
    waiting: &'a [OpenExecutionRow],
    arrival: &Arrival,
    now: DateTime<Utc>,
) -> Option<(&'a OpenExecutionRow, GatheredEvents)> {
    if arrival.gathering == Gathering::Each {
        return None;
    }
    let gathers = |row: &&OpenExecutionRow| row.attempt == 0 && row.ready_at.is_some_and(|at| at > now);
    waiting.iter().filter(gathers).find_map(|row| {
        let gathered: GatheredEvents = serde_json::from_value(row.parameters.clone()).ok()?;
        (gathered.source == arrival.source).then_some((row, gathered))
    })
}

async fn add(
    conn: &mut Connection,
    row: &OpenExecutionRow,
    mut gathered: GatheredEvents,
    arrival: &Arrival,
    now: DateTime<Utc>,
) -> Work<()> {
    let ready_at = match arrival.gathering {
        Gathering::Each => now,
        Gathering::Last { quiet } => {
            gathered.events = vec![arrival.item.clone()];
            later(now, quiet).min(later(row.opened_at, quiet * LONGEST_DEBOUNCE))
        }
        Gathering::All { most, .. } => {
            gathered.events.push(arrival.item.clone());
            let full = gathered.events.len() >= most.get() as usize || bytes(&gathered) > MOST_GATHERED_BYTES;
            if full { now } else { row.ready_at.unwrap_or(now) }
        }
    };
    let sql =
        "UPDATE actor_server_open_executions SET parameters = $1, ready_at = $2, due_at = $2 WHERE id = $3";
    sql_query(sql)
        .bind::<Json, _>(serde_json::json!(gathered))
        .bind::<Instant, _>(ready_at)
        .bind::<BigInt, _>(row.id)
        .execute(conn)
        .await?;
    Ok(())
}

async fn open(conn: &mut Connection, actor_name: &str, arrival: &Arrival, now: DateTime<Utc>) -> Work<i64> {
    let ready_at = match arrival.gathering {
        Gathering::Each => now,
        Gathering::Last { quiet } => later(now, quiet),
        Gathering::All { within, most } => {
            if most.get() == 1 {
                now
            } else {
                later(now, within)
            }
        }
    };
    let gathered = GatheredEvents { source: arrival.source.clone(), events: vec![arrival.item.clone()] };
    let id = batch::take_number(conn).await?;
    let execution = NewOpenExecution {
        id,
        task_id: arrival.task.as_str(),
        actor_name,
        trigger: Trigger::Event.as_str(),
        scheduled_for: None,
        due_at: ready_at,
        node: None,
        fence: None,
        attempt: 0,
        ready_at: Some(ready_at),
        parameters: serde_json::json!(gathered),
        opened_at: now,
    };
    insert_open(conn, &[execution]).await?;
    Ok(id)
}

fn later(time: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let by = TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
    time.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn bytes(gathered: &GatheredEvents) -> usize {
    gathered.events.iter().map(|EventItem { key, body }| key.len() + length(body)).sum()
}

fn length(body: &Value) -> usize {
    body.to_string().len()
}

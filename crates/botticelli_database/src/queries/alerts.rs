//! Alerts: what begins and what ends is written down together with the posts that tell it.

use super::egress::take_egress;
use super::rows::{actor_name, word};
use super::troubles::{last_error, troubles};
use super::*;
use crate::alerts::{AlertFilter, AlertView, AlertsSeen};
use botticelli_server::alert::{
    AlertEvent, AlertPolicy, AlertRule, AlertWatch, Notice, OpenAlert, TASK_PREFIX, Trouble, step,
};
use botticelli_server::clock::to_microseconds;
use botticelli_server::ids::{AlertName, ExecutionId, NodeId};
use botticelli_server::limits::DeliveryLimits;
use botticelli_server::outbox::{EgressScope, OnUnknown};
use botticelli_server::post::{IdempotencyKey, Origin};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde_json::Value;
use std::sync::Arc;

/// One node at a time watches: nodes with different files must not end each other's alerts. The next one takes over
/// when it has been silent for so long.
const LEASE: TimeDelta = TimeDelta::seconds(8);
const WATCHING: &str = "alerts";

/// Finds out what is wrong, and writes down what has begun and what has ended since. Whoever does not watch does nothing.
pub(crate) async fn watch_alerts(
    conn: &mut Connection,
    ledger_id: Arc<str>,
    watch: Arc<AlertWatch>,
) -> Work<AlertsSeen> {
    if !watches(conn, &watch.node).await? {
        return Ok(AlertsSeen { watches: false, ..AlertsSeen::default() });
    }
    let open = open_alerts(conn).await?;
    let overdue = watch.policies.iter().filter_map(AlertPolicy::shortest_overdue).min();
    let mut troubles = troubles(conn, overdue).await?;
    troubles.extend(watch.found.iter().cloned());
    let now = super::now(conn).await?;
    let known: Vec<OpenAlert> = open.iter().map(AlertRow::open).collect::<Work<_>>()?;
    let step = step(&watch, &troubles, &known, now);

    let mut notices = Notices { ledger_id: &ledger_id, now, posts: Vec::new() };
    let seen = AlertsSeen {
        watches: true,
        begun: step.begin.iter().map(|(_, trouble)| trouble.clone()).collect(),
        repeated: step.repeat.len(),
        ended: step.end.len(),
    };
    begin(conn, &watch, step.begin, &mut notices).await?;
    for (place, id, trouble) in step.repeat {
        repeat(conn, &watch.policies[place], id, trouble, &open, &mut notices).await?;
    }
    for (place, id) in step.end {
        let policy = place.map(|place| &watch.policies[place]);
        end(conn, policy, id, &open, &mut notices).await?;
    }
    batch::insert(conn, "actor_server_posts", &notices.posts, "").await?;
    Ok(seen)
}

/// Whether this node is the one that watches. It says so again only when half of its lease is over.
async fn watches(conn: &mut Connection, node: &NodeId) -> Work<bool> {
    #[derive(QueryableByName)]
    struct Held {
        #[diesel(sql_type = Text)]
        node: String,
        #[diesel(sql_type = Instant)]
        lease_until: DateTime<Utc>,
    }
    let now = super::now(conn).await?;
    let sql = "SELECT node, lease_until FROM actor_server_egress_leases WHERE platform = $1 AND scope = ''";
    let held: Vec<Held> = sql_query(sql).bind::<Text, _>(WATCHING).load(conn).await?;
    if held.iter().any(|held| held.node == node.as_str() && held.lease_until > now + LEASE / 2) {
        return Ok(true);
    }
    let scope = EgressScope { platform: WATCHING.into(), scope: String::new() };
    let lease = LEASE.num_microseconds().unwrap_or(0);
    Ok(take_egress(conn, node.clone(), [scope].into(), lease).await?.is_empty())
}

#[derive(QueryableByName)]
struct AlertRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    alert: String,
    #[diesel(sql_type = Text)]
    rule: String,
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Text)]
    severity: String,
    #[diesel(sql_type = Nullable<Text>)]
    actor_name: Option<String>,
    #[diesel(sql_type = Text)]
    summary: String,
    #[diesel(sql_type = Text)]
    incident: String,
    #[diesel(sql_type = Instant)]
    started_at: DateTime<Utc>,
    #[diesel(sql_type = Instant)]
    last_sent_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Instant>)]
    ended_at: Option<DateTime<Utc>>,
}

impl AlertRow {
    const COLUMNS: &str = "id, alert, rule, subject, severity, actor_name, summary, incident, started_at, last_sent_at, ended_at";

    fn open(&self) -> Work<OpenAlert> {
        Ok(OpenAlert {
            id: self.id,
            alert: AlertName::new(&*self.alert).map_err(|error| WorkError::corrupt("alert", error))?,
            rule: word("rule", &self.rule)?,
            subject: self.subject.clone(),
            last_sent_at: self.last_sent_at,
        })
    }

    fn view(self) -> Work<AlertView> {
        Ok(AlertView {
            id: self.id,
            alert: self.open()?.alert,
            rule: word("rule", &self.rule)?,
            severity: word("severity", &self.severity)?,
            subject: self.subject,
            actor_name: self.actor_name.map(actor_name).transpose()?,
            summary: self.summary,
            incident: self.incident,
            started_at: self.started_at,
            last_sent_at: self.last_sent_at,
            ended_at: self.ended_at,
        })
    }

    fn event(&self, notice: Notice) -> Work<AlertEvent> {
        Ok(AlertEvent {
            notice,
            alert: self.open()?.alert,
            incident: self.incident.clone(),
            rule: Some(word("rule", &self.rule)?),
            severity: word("severity", &self.severity)?,
            subject: self.subject.clone(),
            actor_name: self.actor_name.clone().map(actor_name).transpose()?,
            summary: self.summary.clone(),
            started_at: self.started_at,
            ended_at: self.ended_at,
        })
    }
}

/// Locked: two nodes that both believe to watch tell an end once. A beginning is kept from being told twice by the index.
async fn open_alerts(conn: &mut Connection) -> Work<Vec<AlertRow>> {
    let sql = format!(
        "SELECT {} FROM actor_server_alerts WHERE ended_at IS NULL ORDER BY id {}",
        AlertRow::COLUMNS,
        dialect::LOCK_ROWS
    );
    Ok(sql_query(sql).load(conn).await?)
}

batch_row! {
    struct NoticeRow {
        execution_id: i64,
        task_id: String,
        platform: String,
        destination: String,
        part: u32,
        first_part: u32,
        key: String,
        content: Value,
        limits: Value,
        on_unknown: &'static str,
        state: &'static str,
        deliver_at: DateTime<Utc>,
        is_due: bool,
        created_at: DateTime<Utc>,
        updated_at: DateTime<Utc>,
    }
}

/// The posts that tell what happened.
struct Notices<'a> {
    ledger_id: &'a str,
    now: DateTime<Utc>,
    posts: Vec<NoticeRow>,
}

impl Notices<'_> {
    fn key(&self, number: i64, policy: &AlertPolicy) -> String {
        let origin = Origin::Asked { execution: ExecutionId(number), opened_at: self.now };
        IdempotencyKey::derive(self.ledger_id, &origin, &policy.destination, 0).as_str().to_owned()
    }

    fn tell(&mut self, number: i64, policy: &AlertPolicy, event: &AlertEvent) {
        let content = batch::json_without_nul(serde_json::json!(event.content()));
        self.posts.push(NoticeRow {
            execution_id: number,
            task_id: policy.task_id().to_string(),
            platform: policy.destination.platform.clone(),
            destination: policy.destination.target.clone(),
            part: 0,
            first_part: 0,
            key: self.key(number, policy),
            content,
            limits: serde_json::json!(DeliveryLimits::default()),
            on_unknown: OnUnknown::NeedsReview.as_str(),
            state: "pending",
            deliver_at: self.now,
            is_due: true,
            created_at: self.now,
            updated_at: self.now,
        });
    }
}

async fn begin(
    conn: &mut Connection,
    watch: &AlertWatch,
    begun: Vec<(usize, Trouble)>,
    notices: &mut Notices<'_>,
) -> Work<()> {
    batch_row! {
        struct NewAlert {
            id: i64,
            alert: String,
            rule: &'static str,
            subject: String,
            severity: &'static str,
            actor_name: Option<String>,
            summary: String,
            incident: String,
            started_at: DateTime<Utc>,
            last_sent_at: DateTime<Utc>,
        }
    }
    let numbers = batch::take_numbers(conn, begun.len()).await?;
    let mut rows = Vec::with_capacity(begun.len());
    for ((place, trouble), number) in begun.into_iter().zip(numbers) {
        let policy = &watch.policies[place];
        let summary = with_error(conn, &trouble).await?;
        let event = AlertEvent {
            notice: Notice::Started,
            alert: policy.name.clone(),
            incident: notices.key(number, policy),
            rule: Some(trouble.rule),
            severity: trouble.rule.severity(),
            subject: trouble.subject,
            actor_name: trouble.actor_name,
            summary,
            started_at: to_microseconds(notices.now),
            ended_at: None,
        };
        notices.tell(number, policy, &event);
        rows.push(NewAlert {
            id: number,
            alert: event.alert.to_string(),
            rule: trouble.rule.as_str(),
            subject: batch::without_nul(&event.subject),
            severity: event.severity.as_str(),
            actor_name: event.actor_name.map(String::from),
            summary: batch::without_nul(&event.summary),
            incident: event.incident,
            started_at: event.started_at,
            last_sent_at: event.started_at,
        });
    }
    batch::insert(conn, "actor_server_alerts", &rows, "").await?;
    Ok(())
}

/// What a person wants to know first of a task that fails.
async fn with_error(conn: &mut Connection, trouble: &Trouble) -> Work<String> {
    let error = match trouble.rule {
        AlertRule::ConsecutiveFailures | AlertRule::BreakerOpened => {
            last_error(conn, &trouble.subject).await?
        }
        AlertRule::TaskOverdue
        | AlertRule::PostsNeedReview
        | AlertRule::DestinationPaused
        | AlertRule::TokenRevoked
        | AlertRule::DatabaseUnreachable
        | AlertRule::InvariantBroken => None,
    };
    Ok(error.map_or(trouble.summary.clone(), |error| format!("{}: {error}", trouble.summary)))
}

async fn repeat(
    conn: &mut Connection,
    policy: &AlertPolicy,
    id: i64,
    trouble: Trouble,
    open: &[AlertRow],
    notices: &mut Notices<'_>,
) -> Work<()> {
    let Some(row) = open.iter().find(|row| row.id == id) else { return Ok(()) };
    let summary = with_error(conn, &trouble).await?;
    let event = AlertEvent { summary, ..row.event(Notice::Repeated)? };
    let number = batch::take_number(conn).await?;
    notices.tell(number, policy, &event);
    let sql = "UPDATE actor_server_alerts SET last_sent_at = $1, summary = $2 WHERE id = $3";
    sql_query(sql)
        .bind::<Instant, _>(notices.now)
        .bind::<Text, _>(batch::without_nul(&event.summary))
        .bind::<BigInt, _>(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// `None` for a policy: its section is gone, and there is nobody to tell.
async fn end(
    conn: &mut Connection,
    policy: Option<&AlertPolicy>,
    id: i64,
    open: &[AlertRow],
    notices: &mut Notices<'_>,
) -> Work<()> {
    let Some(row) = open.iter().find(|row| row.id == id) else { return Ok(()) };
    if let Some(policy) = policy {
        let event = AlertEvent { ended_at: Some(to_microseconds(notices.now)), ..row.event(Notice::Ended)? };
        let number = batch::take_number(conn).await?;
        notices.tell(number, policy, &event);
    }
    let sql = "UPDATE actor_server_alerts SET ended_at = $1 WHERE id = $2";
    sql_query(sql).bind::<Instant, _>(notices.now).bind::<BigInt, _>(id).execute(conn).await?;
    Ok(())
}

/// Newest first.
pub(crate) async fn alerts(conn: &mut Connection, filter: AlertFilter) -> Work<Vec<AlertView>> {
    let which = if filter.ended_too { "" } else { "WHERE ended_at IS NULL" };
    let sql =
        format!("SELECT {} FROM actor_server_alerts {which} ORDER BY id DESC LIMIT $1", AlertRow::COLUMNS);
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let rows: Vec<AlertRow> = sql_query(sql).bind::<BigInt, _>(limit).load(conn).await?;
    rows.into_iter().map(AlertRow::view).collect()
}

/// Those with these numbers, in any order.
pub(super) async fn alerts_of(conn: &mut Connection, ids: &[i64]) -> Work<Vec<AlertView>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql =
        format!("SELECT {} FROM actor_server_alerts WHERE id IN (SELECT r.id FROM {{r}})", AlertRow::COLUMNS);
    let rows: Vec<AlertRow> = sql_query(sql).rows(&batch::Id::all(ids))?.load(conn).await?;
    rows.into_iter().map(AlertRow::view).collect()
}

/// Deletes alerts that ended before, and the posts that told them and are settled, which nobody's duplicates are
/// compared with. Returns how many alerts.
pub(crate) async fn prune_alerts(conn: &mut Connection, before: DateTime<Utc>) -> Work<usize> {
    let old = format!(
        "p.task_id LIKE '{TASK_PREFIX}%' AND p.updated_at < $1 AND p.state IN ('posted', 'failed', 'skipped')"
    );
    let attempts = format!(
        "DELETE FROM actor_server_post_attempts WHERE post_id IN (SELECT p.id FROM actor_server_posts AS p WHERE {old})"
    );
    sql_query(attempts).bind::<Instant, _>(before).execute(conn).await?;
    let posts = format!("DELETE FROM actor_server_posts AS p WHERE {old}");
    sql_query(posts).bind::<Instant, _>(before).execute(conn).await?;
    let sql = "DELETE FROM actor_server_alerts WHERE ended_at < $1";
    Ok(sql_query(sql).bind::<Instant, _>(before).execute(conn).await?)
}

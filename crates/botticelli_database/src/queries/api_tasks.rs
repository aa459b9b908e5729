//! Tasks that are made over the API.

use super::access::write_down;
use super::agenda::{lock_full_state, lock_state};
use super::operate::{cancel_all, stop};
use super::register::write_one;
use super::*;
use crate::access::NewAudit;
use crate::api_tasks::{ApiTask, Expected, PutTask, TaskChange};
use botticelli_server::ids::TaskId;
use botticelli_server::register::register as registered_state;
use botticelli_server::task::PauseReason;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde_json::Value;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    task_id: String,
    #[diesel(sql_type = Nullable<Json>)]
    entry: Option<Value>,
    #[diesel(sql_type = BigInt)]
    revision: i64,
}

impl TryFrom<Row> for ApiTask {
    type Error = WorkError;

    fn try_from(row: Row) -> Work<Self> {
        Ok(Self { task_id: super::rows::task_id(row.task_id)?, entry: row.entry, revision: row.revision })
    }
}

/// What has changed since that revision, in order.
pub(crate) async fn api_tasks(conn: &mut Connection, since: i64) -> Work<Vec<ApiTask>> {
    let sql =
        "SELECT task_id, entry, revision FROM actor_server_api_tasks WHERE revision > $1 ORDER BY revision";
    let rows: Vec<Row> = sql_query(sql).bind::<BigInt, _>(since).load(conn).await?;
    rows.into_iter().map(ApiTask::try_from).collect()
}

/// The task, if it was made over the API and not removed.
pub(crate) async fn api_task(conn: &mut Connection, task: TaskId) -> Work<Option<ApiTask>> {
    let sql = "SELECT task_id, entry, revision FROM actor_server_api_tasks \
         WHERE task_id = $1 AND entry IS NOT NULL";
    let rows: Vec<Row> = sql_query(sql).bind::<Text, _>(task.as_str()).load(conn).await?;
    rows.into_iter().next().map(ApiTask::try_from).transpose()
}

/// One change at a time, and none while a configuration is taken up: revisions are seen in their order, and no name gets
/// two owners.
pub(super) async fn serialize(conn: &mut Connection) -> Work<()> {
    if let Some(serialize) = dialect::SERIALIZE_REGISTRATIONS {
        sql_query(serialize).execute(conn).await?;
    }
    Ok(())
}

/// Makes a task, or puts another one in its place.
pub(crate) async fn put_task(
    conn: &mut Connection,
    wanted: PutTask,
    audit: Option<NewAudit>,
) -> Work<TaskChange> {
    serialize(conn).await?;
    let PutTask { task, entry, expected } = wanted;
    let known = api_task(conn, task.id.clone()).await?;
    match (&expected, &known) {
        (Expected::New, Some(_)) => return Ok(TaskChange::NameTaken),
        (Expected::New, None) if is_of_file(conn, &task.id).await? => return Ok(TaskChange::OfFile),
        (Expected::New, None) => {}
        (expected, known) => match as_expected(conn, &task.id, expected, known.as_ref()).await? {
            Ok(()) => {}
            Err(refused) => return Ok(refused),
        },
    }
    let now = super::now(conn).await?;
    let state = lock_full_state(conn, &task.id).await?;
    if let (Some(known), Some(state)) = (&known, &state)
        && known.entry.as_ref() == Some(&entry)
        && state.definition == task.definition
    {
        return Ok(TaskChange::Done(known.revision));
    }
    let revision = enter(conn, &task.id, Some(entry)).await?;
    if let Some(state) = registered_state(&task, state.as_ref(), now, false) {
        write_one(conn, &task, state, now).await?;
    }
    let sql = "UPDATE actor_server_state SET origin = 'api' WHERE task_id = $1 AND origin <> 'api'";
    sql_query(sql).bind::<Text, _>(task.id.as_str()).execute(conn).await?;
    write_down(conn, audit).await?;
    Ok(TaskChange::Done(revision))
}

/// Removes a task: it is kept, paused, as one that is gone from the configuration; what is open of it ends.
pub(crate) async fn remove_task(
    conn: &mut Connection,
    task: TaskId,
    expected: Expected,
    audit: Option<NewAudit>,
) -> Work<TaskChange> {
    serialize(conn).await?;
    let known = api_task(conn, task.clone()).await?;
    if let Err(refused) = as_expected(conn, &task, &expected, known.as_ref()).await? {
        return Ok(refused);
    }
    let revision = enter(conn, &task, None).await?;
    if let Some(state) = lock_state(conn, &task).await? {
        stop(conn, &state, PauseReason::Definition).await?;
    }
    let sql = "UPDATE actor_server_state SET consecutive_failures = 0, pause_note = NULL WHERE task_id = $1";
    sql_query(sql).bind::<Text, _>(task.as_str()).execute(conn).await?;
    cancel_all(conn, &task).await?;
    write_down(conn, audit).await?;
    Ok(TaskChange::Done(revision))
}

/// Whether the task is what whoever wants to change it takes it for; else why it can't be changed.
async fn as_expected(
    conn: &mut Connection,
    task: &TaskId,
    expected: &Expected,
    known: Option<&ApiTask>,
) -> Work<Result<(), TaskChange>> {
    Ok(match (known, expected) {
        (None, _) if is_of_file(conn, task).await? => Err(TaskChange::OfFile),
        (None, _) => Err(TaskChange::Unknown),
        (Some(known), Expected::Revisions(wanted)) if !wanted.contains(&known.revision) => {
            Err(TaskChange::OtherRevision)
        }
        (Some(_), Expected::Revisions(_) | Expected::Any | Expected::New) => Ok(()),
    })
}

/// The name of a task of the file stays the file's, also when the task is gone from it: its history is kept under it.
async fn is_of_file(conn: &mut Connection, task: &TaskId) -> Work<bool> {
    #[derive(QueryableByName)]
    struct Known {
        #[diesel(sql_type = Text)]
        origin: String,
    }
    let sql = "SELECT origin FROM actor_server_state WHERE task_id = $1";
    let known: Vec<Known> = sql_query(sql).bind::<Text, _>(task.as_str()).load(conn).await?;
    Ok(known.iter().any(|known| known.origin == "file"))
}

async fn enter(conn: &mut Connection, task: &TaskId, entry: Option<Value>) -> Work<i64> {
    if let Some(entry) = &entry {
        batch::storable(entry)?;
    }
    let revision = batch::take_number(conn).await?;
    let sql = "INSERT INTO actor_server_api_tasks (task_id, entry, revision, updated_at) \
         VALUES ($1, $2, $3, actor_server_now()) \
         ON CONFLICT (task_id) DO UPDATE SET entry = excluded.entry, revision = excluded.revision, \
             updated_at = excluded.updated_at";
    sql_query(sql)
        .bind::<Text, _>(task.as_str())
        .bind::<Nullable<Json>, _>(entry)
        .bind::<BigInt, _>(revision)
        .execute(conn)
        .await?;
    Ok(revision)
}

/// What of the API's tasks concerns a registration.
pub(super) struct Standing {
    /// Those that are there, and their revisions.
    pub(super) there: std::collections::HashMap<String, i64>,
    /// Those that were removed: their names are free for the file.
    removed: Vec<String>,
}

pub(super) async fn standing(conn: &mut Connection) -> Work<Standing> {
    #[derive(QueryableByName)]
    struct Known {
        #[diesel(sql_type = Text)]
        task_id: String,
        #[diesel(sql_type = BigInt)]
        revision: i64,
        #[diesel(sql_type = diesel::sql_types::Bool)]
        there: bool,
    }
    let sql = "SELECT task_id, revision, entry IS NOT NULL AS there FROM actor_server_api_tasks";
    let known: Vec<Known> = sql_query(sql).load(conn).await?;
    let (there, removed): (Vec<_>, Vec<_>) = known.into_iter().partition(|known| known.there);
    Ok(Standing {
        there: there.into_iter().map(|known| (known.task_id, known.revision)).collect(),
        removed: removed.into_iter().map(|known| known.task_id).collect(),
    })
}

impl Standing {
    /// Gives names of removed tasks to the file that has them now.
    pub(super) async fn hand_over<'a>(
        &self,
        conn: &mut Connection,
        names: impl Iterator<Item = &'a TaskId>,
    ) -> Work<()> {
        batch_row! {
            struct Named<'a> {
                task_id: &'a str,
            }
        }
        if self.removed.is_empty() {
            return Ok(());
        }
        let removed: std::collections::HashSet<&str> = self.removed.iter().map(String::as_str).collect();
        let named: Vec<Named<'_>> = names
            .map(TaskId::as_str)
            .filter(|name| removed.contains(name))
            .map(|task_id| Named { task_id })
            .collect();
        let sql = "UPDATE actor_server_state AS s SET origin = 'file' FROM {r} WHERE s.task_id = r.task_id";
        batch::update(conn, sql, &named).await?;
        Ok(())
    }
}

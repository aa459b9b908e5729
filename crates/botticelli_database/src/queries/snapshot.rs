//! Snapshots by name.

use super::*;
use diesel::QueryableByName;
use diesel::sql_types::Text;
use serde_json::Value;

pub(crate) async fn snapshot_load(conn: &mut Connection, name: String) -> Work<Option<Value>> {
    #[derive(QueryableByName)]
    struct Snapshot {
        #[diesel(sql_type = Json)]
        snapshot: Value,
    }
    let sql = "SELECT snapshot FROM actor_server_snapshots WHERE name = $1";
    let rows: Vec<Snapshot> = sql_query(sql).bind::<Text, _>(name).load(conn).await?;
    Ok(rows.into_iter().next().map(|row| row.snapshot))
}

pub(crate) async fn snapshot_save(conn: &mut Connection, name: String, snapshot: Value) -> Work<()> {
    batch::storable(&snapshot)?;
    let sql = "INSERT INTO actor_server_snapshots (name, snapshot, updated_at) VALUES ($1, $2, actor_server_now()) \
         ON CONFLICT (name) DO UPDATE SET snapshot = excluded.snapshot, updated_at = excluded.updated_at";
    sql_query(sql).bind::<Text, _>(name).bind::<Json, _>(snapshot).execute(conn).await?;
    Ok(())
}

pub(crate) async fn snapshot_clear(conn: &mut Connection, name: String) -> Work<()> {
    sql_query("DELETE FROM actor_server_snapshots WHERE name = $1")
        .bind::<Text, _>(name)
        .execute(conn)
        .await?;
    Ok(())
}

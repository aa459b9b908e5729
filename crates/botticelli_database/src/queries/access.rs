//! Tokens, and the audit.

use super::conditions::Conditions;
use super::rows::word;
use super::*;
use crate::access::{AuditFilter, AuditView, NewAudit, TokenView, ValidToken};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde_json::Value;

#[derive(QueryableByName)]
struct TokenRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    scope: String,
    #[diesel(sql_type = Text)]
    sha256: String,
    #[diesel(sql_type = Instant)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Instant>)]
    revoked_at: Option<DateTime<Utc>>,
}

async fn token_rows(conn: &mut Connection, which: &str) -> Work<Vec<TokenRow>> {
    let sql = format!(
        "SELECT name, scope, sha256, created_at, revoked_at FROM actor_server_tokens {which} ORDER BY id"
    );
    Ok(sql_query(sql).load(conn).await?)
}

/// Those that are not revoked.
pub(crate) async fn valid_tokens(conn: &mut Connection) -> Work<Vec<ValidToken>> {
    let rows = token_rows(conn, "WHERE revoked_at IS NULL").await?;
    let token = |row: TokenRow| {
        Ok(ValidToken { scope: word("scope", &row.scope)?, name: row.name, sha256: row.sha256 })
    };
    rows.into_iter().map(token).collect()
}

/// All, oldest first.
pub(crate) async fn tokens(conn: &mut Connection) -> Work<Vec<TokenView>> {
    let rows = token_rows(conn, "").await?;
    let view = |row: TokenRow| {
        let TokenRow { name, scope, created_at, revoked_at, .. } = row;
        Ok(TokenView { scope: word("scope", &scope)?, name, created_at, revoked_at })
    };
    rows.into_iter().map(view).collect()
}

/// Says whether the name was free.
pub(crate) async fn token_add(
    conn: &mut Connection,
    token: ValidToken,
    audit: Option<NewAudit>,
) -> Work<bool> {
    let sql = "INSERT INTO actor_server_tokens (name, scope, sha256, created_at) \
         VALUES ($1, $2, $3, actor_server_now()) ON CONFLICT DO NOTHING";
    let added = sql_query(sql)
        .bind::<Text, _>(token.name)
        .bind::<Text, _>(token.scope.as_str())
        .bind::<Text, _>(token.sha256)
        .execute(conn)
        .await?;
    if added > 0 {
        write_down(conn, audit).await?;
    }
    Ok(added > 0)
}

/// Says whether there was one that was valid.
pub(crate) async fn token_revoke(conn: &mut Connection, name: String, audit: Option<NewAudit>) -> Work<bool> {
    let sql = "UPDATE actor_server_tokens SET revoked_at = actor_server_now() \
         WHERE name = $1 AND revoked_at IS NULL";
    let revoked = sql_query(sql).bind::<Text, _>(name).execute(conn).await?;
    if revoked > 0 {
        write_down(conn, audit).await?;
    }
    Ok(revoked > 0)
}

/// Writes down a change, in the transaction that makes it.
pub(crate) async fn write_down(conn: &mut Connection, audit: Option<NewAudit>) -> Work<()> {
    let Some(audit) = audit else { return Ok(()) };
    batch::storable(&audit.detail)?;
    let sql = "INSERT INTO actor_server_audit (at, who, origin, action, target, note, detail) \
         VALUES (actor_server_now(), $1, $2, $3, $4, $5, $6)";
    sql_query(sql)
        .bind::<Text, _>(audit.by.who.clone())
        .bind::<Text, _>(audit.by.origin.clone())
        .bind::<Text, _>(audit.action)
        .bind::<Nullable<Text>, _>(audit.target)
        .bind::<Nullable<Text>, _>(audit.by.note.clone())
        .bind::<Json, _>(audit.detail)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn audit_add(conn: &mut Connection, audit: NewAudit) -> Work<()> {
    write_down(conn, Some(audit)).await
}

/// Deletes up to `limit` entries that are older than `before`. Returns how many.
pub(super) async fn prune_audit(conn: &mut Connection, before: DateTime<Utc>, limit: i64) -> Work<usize> {
    // Numbers grow with time: no index on `at` is needed.
    let sql = "DELETE FROM actor_server_audit WHERE at < $1 \
         AND id IN (SELECT a.id FROM actor_server_audit AS a ORDER BY a.id LIMIT $2)";
    Ok(sql_query(sql).bind::<Instant, _>(before).bind::<BigInt, _>(limit).execute(conn).await?)
}

/// Newest first.
pub(crate) async fn audits(conn: &mut Connection, filter: AuditFilter) -> Work<Vec<AuditView>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Instant)]
        at: DateTime<Utc>,
        #[diesel(sql_type = Text)]
        who: String,
        #[diesel(sql_type = Text)]
        origin: String,
        #[diesel(sql_type = Text)]
        action: String,
        #[diesel(sql_type = Nullable<Text>)]
        target: Option<String>,
        #[diesel(sql_type = Nullable<Text>)]
        note: Option<String>,
        #[diesel(sql_type = Json)]
        detail: Value,
    }
    let mut wanted = Conditions::default();
    wanted.add("action = ", filter.action);
    wanted.add("target = ", filter.target);
    wanted.add("id < ", filter.before);
    let limit = wanted.limit(Some(filter.limit));
    let sql = format!(
        "SELECT id, at, who, origin, action, target, note, detail FROM actor_server_audit {} ORDER BY id DESC {limit}",
        wanted.text()
    );
    let rows: Vec<Row> = wanted.bind(sql_query(sql)).load(conn).await?;
    let view = |row: Row| {
        let Row { id, at, who, origin, action, target, note, detail } = row;
        AuditView { id, at, who, origin, action, target, note, detail }
    };
    Ok(rows.into_iter().map(view).collect())
}

//! `actor-server token`, `actor-server audit`: who may use the API, and who has changed what.

use super::args::{GlobalArgs, TokenCommand};
use super::database::open;
use super::errors::{Failure, UsageError};
use super::output::{write_json, write_table};
use crate::api::access::{hash_of, new_token};
use botticelli_database::{AuditFilter, Scope, ValidToken};
use std::io::Write;

pub(super) async fn run(
    global: &GlobalArgs,
    command: &TokenCommand,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let store = open(global).await?;
    match command {
        TokenCommand::New { name, scope } => {
            let scope: Scope = serde_json::from_value(scope.as_str().into())?;
            let token = new_token()?;
            let entry = ValidToken { name: name.clone(), scope, sha256: hash_of(&token) };
            if !store.add_token(entry).await? {
                let hint =
                    format!("`actor-server token revoke {name}` makes room for another one of that name");
                return Err(Failure::new(format!("there is a token {name:?}")).hint(hint).into());
            }
            tracing::info!("the token {name:?} is shown this once; from now on the API asks for one");
            Ok(writeln!(out, "{token}")?)
        }
        TokenCommand::List { json } => {
            let tokens = store.tokens().await?;
            if *json { write_json(&tokens, out) } else { write_table(&tokens, out) }
        }
        TokenCommand::Revoke { name } => {
            if !store.revoke_token(name).await? {
                let hint = "`actor-server token list` shows them".to_owned();
                return Err(UsageError::new(format!("there is no valid token {name:?}"))
                    .hint(Some(hint))
                    .into());
            }
            Ok(writeln!(out, "{name}: revoked")?)
        }
    }
}

pub(super) async fn audit(
    global: &GlobalArgs,
    limit: u32,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let filter = AuditFilter { limit: usize::try_from(limit)?, ..AuditFilter::default() };
    let rows = open(global).await?.audits(filter).await?;
    if json { write_json(&rows, out) } else { write_table(&rows, out) }
}

//! Who may ask for what, and the record of who has.

use crate::store::Store;
use botticelli_server::ledger::LedgerError;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// What a token lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look at everything.
    Read,
    /// That, and steer: trigger, pause, resume, cancel, decide about posts, hand in events.
    Operate,
    /// That, and change what runs: tasks, reloads; and read the audit.
    Admin,
    /// Hand in events, and nothing else.
    Events,
}

impl Scope {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
            Self::Events => "events",
        }
    }

    /// Whether whoever has this scope may do what needs that one.
    pub fn allows(self, needed: Self) -> bool {
        use Scope::{Admin, Events, Operate, Read};
        match self {
            Admin => true,
            Operate => matches!(needed, Operate | Read | Events),
            Read => needed == Read,
            Events => needed == Events,
        }
    }
}

/// A token in a listing. What it is itself, nobody knows but its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// What it lets its holder do.
    pub scope: Scope,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A token that is valid, as it is compared.
#[derive(Clone, PartialEq, Eq)]
pub struct ValidToken {
    /// Its name.
    pub name: String,
    /// What it lets its holder do.
    pub scope: Scope,
    /// The SHA-256 of the token, in hexadecimal.
    pub sha256: String,
}

/// Who asks for a change, and from where: for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// `token NAME`, `user NAME`, or `anybody`.
    pub who: String,
    /// An address, or `command line`.
    pub origin: String,
    /// What they say about it.
    pub note: Option<String>,
}

/// A change that somebody asked for.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AuditView {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who: `token NAME`, `user NAME`, or `anybody`.
    pub who: String,
    /// From where: an address, or `command line`.
    pub origin: String,
    /// What: `task.pause`, `post.retry`, …
    pub action: String,
    /// Which task, execution, post or token.
    pub target: Option<String>,
    /// What they said about it.
    pub note: Option<String>,
    /// What else there is to know.
    pub detail: Value,
}

/// Which audit rows to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this action.
    pub action: Option<String>,
    /// About this.
    pub target: Option<String>,
    /// Older than this row.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// What is written down of a change.
#[derive(Debug, Clone)]
pub(crate) struct NewAudit {
    pub(crate) by: Arc<Requester>,
    pub(crate) action: &'static str,
    pub(crate) target: Option<String>,
    pub(crate) detail: Value,
}

impl Store {
    /// The same store for somebody: what they change by it is written down with their name, in the same transaction.
    pub fn by(&self, requester: Requester) -> Self {
        let mut store = self.clone();
        store.requester = Some(Arc::new(requester));
        store
    }

    /// What is to be written down of a change.
    pub(crate) fn audit(
        &self,
        action: &'static str,
        target: impl ToString,
        detail: Value,
    ) -> Option<NewAudit> {
        let by = self.requester.clone()?;
        Some(NewAudit { by, action, target: Some(target.to_string()), detail })
    }

    /// Enters a token by its hash. Says whether the name was free.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_token(&self, token: ValidToken) -> Result<bool, LedgerError> {
        let audit = self.audit("token.new", &token.name, serde_json::json!({ "scope": token.scope }));
        self.token_add(token, audit).await
    }

    /// Revokes a token for good. Says whether there was one that was valid.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_token(&self, name: &str) -> Result<bool, LedgerError> {
        let audit = self.audit("token.revoke", name, Value::Null);
        self.token_revoke(name.to_owned(), audit).await
    }

    /// Writes down a change that the store itself does not make.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note(
        &self,
        action: &'static str,
        target: impl ToString,
        detail: Value,
    ) -> Result<(), LedgerError> {
        match self.audit(action, target, detail) {
            Some(audit) => self.audit_add(audit).await,
            None => Ok(()),
        }
    }
}

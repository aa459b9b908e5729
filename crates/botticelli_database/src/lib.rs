//! The only crate that knows SQL: PostgreSQL and SQLite behind one [`Store`].
//!
//! A *unit of work* is an async function over one connection in the folder `queries`: the same source,
//! compiled once for PostgreSQL and once for SQLite, where each future is ready at once and the whole unit runs in one
//! blocking closure. What truly differs between the databases stands in `postgres/mod.rs` and `sqlite/mod.rs`, side by
//! side under the same names.

#![expect(clippy::duplicate_mod, reason = "the queries are compiled once for each database, on purpose")]

mod access;
mod alerts;
mod api_tasks;
mod error;
pub mod fail_points;
mod invariants;
mod notifications;
mod persistence;
mod postgres;
pub mod reader;
mod sql;
mod sqlite;
pub mod statement;
mod store;
mod stream;
mod target;
mod views;
mod wakeups;

pub use access::{AuditFilter, AuditView, Requester, Scope, TokenView, ValidToken};
pub use alerts::{AlertFilter, AlertView, AlertsSeen};
pub use api_tasks::{ApiTask, Expected, Origin, PutTask, TaskChange};
pub use error::OpenError;
pub use invariants::{CensusView, HeldTasks, InvariantsView, PoolView, Progress, Standing};
pub use notifications::{Heard, ListenError, Notifications, is_own_channel};
pub use persistence::DatabaseStatePersistence;
pub use store::{
    Cancelled, Condition, Decided, Mode, PostDecision, Published, RequestKey, Restored, Resumed, Store,
};
pub use stream::{
    AlertChange, BreakerChange, CHANGES_ARE_KEPT_FOR, Change, ChangeKind, NoPosition, Position, StreamFilter,
    StreamPage,
};
pub use target::{DatabaseUrl, UrlError};
pub use views::{
    AttemptView, ExecutionView, HealthView, HistoryFilter, NodeView, OutcomeFilter, PostAttemptView,
    PostFilter, PostView, TaskFilter, TaskView,
};
pub use wakeups::{News, Wakeups};

/// The version that is compared with a database's `min_binary`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

//! The units of work. This folder is compiled twice, as `postgres::queries` and as `sqlite::queries`; `super` is the
//! backend that it is compiled for.
//!
//! The shape of a unit: lock the rows that decide, decide in Rust, write plain values. A batch of rows is one
//! statement: PostgreSQL gets an array for each column, SQLite one JSON text.

#[macro_use]
pub(crate) mod batch;

mod access;
mod agenda;
mod alerts;
mod api_tasks;
mod claim;
mod conditions;
mod egress;
mod ends;
mod events;
mod follow_ups;
mod health;
mod invariants;
mod known;
mod listeners;
mod nodes;
mod operate;
mod outbox;
mod post_claims;
mod post_decisions;
pub(super) mod post_turns;
mod read;
mod record;
mod register;
mod restored;
mod rows;
mod schema;
mod snapshot;
mod stream;
mod troubles;

use super::{Backend, Connection, Instant, Json, RunQueryDsl, dialect, sql_query};
use crate::error::{Schema, WorkError};

pub(crate) use access::{audit_add, audits, token_add, token_revoke, tokens, valid_tokens};
pub(crate) use agenda::{agenda, now, states, withdraw_paused};
pub(crate) use alerts::{alerts, prune_alerts, watch_alerts};
pub(crate) use api_tasks::{api_task, api_tasks, put_task, remove_task};
pub(crate) use claim::{claim, release, take};
pub(crate) use egress::take_egress;
pub(crate) use ends::pass_on_ends;
pub(crate) use events::receive;
pub(crate) use health::health;
pub(crate) use invariants::{census, invariants, progress, standings};
pub(crate) use listeners::{leave_channel, take_channel};
pub(crate) use nodes::{begin, leave, living, node_views, owned, prune_nodes, renew, rescue};
pub(crate) use operate::{cancel, cancelled, pause, prune_request_keys, publish, resume, retire};
pub(crate) use outbox::{rescue_posts, settle_posts};
pub(crate) use post_claims::claim_posts;
pub(crate) use post_decisions::decide;
pub(crate) use post_turns::next_post_due;
pub(crate) use read::{
    attempts, earlier_items, execution, executions, history, meta, post, post_attempts, post_counts,
    post_times, posts, prune, schema, task_views, used_keys,
};
pub(crate) use record::record;
pub(crate) use register::register;
pub(crate) use restored::restored;
pub(crate) use snapshot::{snapshot_clear, snapshot_load, snapshot_save};
pub(crate) use stream::{prune_stream, stream, stream_head};

type Work<T> = Result<T, WorkError>;

//! The contracts of the Botticelli Actor Server.
//!
//! Pure: no runtime, no SQL, no HTTP, and no clock of its own: whoever asks says what time it is. The words are
//! those of `ARCHITECTURE.md`; the traits are the seams that the binary `actor-server` is assembled from.

pub mod after;
pub mod alert;
pub mod breaker;
pub mod clock;
pub mod ids;
pub mod ledger;
pub mod limits;
pub mod outbox;
pub mod outcome;
pub mod plan;
pub mod post;
pub mod register;
pub mod schedule;
pub mod server;
pub mod simple;
pub mod task;

//! Discord: our own client, its limits, and what can be posted (see `docs/decisions/0005`).

pub mod error;
pub mod limits;
pub mod message;
pub mod snowflake;

pub use error::DiscordError;
pub use message::Message;
pub use snowflake::{Nonce, Snowflake};

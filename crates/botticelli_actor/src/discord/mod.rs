//! Discord: our own client, its limits, and what can be posted (see `docs/decisions/0005`).

mod answer;
pub mod error;
mod http;
pub mod limits;
pub mod message;
pub mod permissions;
pub mod platform;
pub mod preflight;
mod rest;
mod routes;
pub mod snowflake;
pub mod types;

pub use error::DiscordError;
pub use http::{HttpSettings, SetupError};
pub use message::Message;
pub use rest::{Page, Rest, WebhookRest};
pub use snowflake::{Nonce, Snowflake};

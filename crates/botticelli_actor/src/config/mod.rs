//! Configuration: the server's file, the actors' files, the environment and the command line, checked as a whole.
//!
//! [`load`] reports all that is wrong in all files in one run, each problem with its file and line. Nothing else in the
//! server reads the environment.

pub mod actor_file;
pub mod alerts;
pub mod api;
mod api_task;
mod definition;
pub mod discord;
mod document;
pub mod env;
mod files;
mod load;
pub mod parts;
mod problem;
pub mod read;
pub mod schema;
pub mod server_file;
mod task;
#[cfg(test)]
mod tests;
mod traces;
pub mod triggers;
pub mod within;

pub use actor_file::ActorFile;
pub use api::ApiSettings;
pub use api_task::{FromApi, Makings, schema_of_entry, table_of};
pub use discord::{BotPost, DiscordSettings};
pub use files::Files;
pub use load::{Check, Given, LoadedConfig, load, load_noting};
pub(crate) use problem::shortened;
pub use problem::{Problem, Problems};
pub use read::{Fault, KeyPath, read, read_what_is_right};
pub use server_file::{ActorInstanceConfig, ActorServerConfig, ServerSettings};
pub use traces::TraceSettings;
pub use triggers::{Channel, Webhook};

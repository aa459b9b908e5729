//! Configuration: the server's file, the actors' files, the environment and the command line, checked as a whole.
//!
//! [`load`] reports all that is wrong in all files in one run, each problem with its file and line. Nothing else in the
//! server reads the environment.

pub mod actor_file;
pub mod alerts;
pub mod api;
mod definition;
pub mod discord;
mod document;
pub mod env;
mod load;
pub mod parts;
mod problem;
pub mod read;
pub mod schema;
pub mod server_file;
mod task;
#[cfg(test)]
mod tests;
pub mod triggers;
pub mod within;

pub use actor_file::ActorFile;
pub use api::ApiSettings;
pub use discord::{BotPost, DiscordSettings};
pub use load::{Check, Given, LoadedConfig, load};
pub use problem::{Problem, Problems};
pub use read::{Fault, KeyPath, read, read_what_is_right};
pub use server_file::{ActorInstanceConfig, ActorServerConfig, ServerSettings};
pub use triggers::{Channel, Webhook};

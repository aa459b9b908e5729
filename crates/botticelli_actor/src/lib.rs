//! The Botticelli Actor Server: configuration, actors, knowledge, skills, platforms, the engine and the deliverer.
//!
//! `ARCHITECTURE.md` is the map.

pub mod actor;
pub mod alerts;
pub mod api;
pub mod app;
mod causes;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deliverer;
#[cfg(feature = "discord")]
pub mod discord;
#[cfg(feature = "discord")]
pub mod discord_server;
pub mod draft;
pub mod engine;
pub mod knowledge;
pub mod metrics;
pub mod names;
pub mod notifications;
pub mod platforms;
mod regular_file;
#[cfg(feature = "fail-points")]
pub mod rehearsal;
pub mod self_audit;
pub mod shown;
pub mod skill;
pub mod skills;
pub mod text;
mod tls;
pub mod traces;

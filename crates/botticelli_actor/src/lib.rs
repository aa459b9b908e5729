//! Server.

pub mod cli;
pub mod clock;
pub mod config;
pub mod draft;
pub mod skill;

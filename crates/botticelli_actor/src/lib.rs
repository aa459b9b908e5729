//! Server.

pub mod draft;
pub mod skill;

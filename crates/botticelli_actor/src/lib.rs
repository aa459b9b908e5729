//! Server.

pub mod draft;
pub mod skill;
pub mod text;

//! Server.

pub mod actor;
pub mod draft;
pub mod knowledge;
pub mod names;
pub mod skill;
pub mod skills;
pub mod text;

//! Server.

pub mod deliverer;
pub mod draft;
pub mod platforms;
pub mod skill;

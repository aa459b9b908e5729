//! Store.

pub mod reader;
pub mod statement;

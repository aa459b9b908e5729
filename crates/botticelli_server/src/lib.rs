//! Contracts.

pub mod schedule;

//! For tests only: databases, a manual clock, and the suites that every store and platform must pass.

pub mod clock;
pub mod contract_suites;
pub mod databases;
pub mod platform_suite;
pub mod random;
pub mod store_suite;

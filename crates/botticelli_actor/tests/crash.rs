//! What is promised whatever happens, shown by the real binary: killed, crowded, cut off, told to stop.
//!
//! `CRASH_KILLS` says at how many moments the server is killed on each database, `CRASH_SEED` at which.

#[path = "crash/alerts.rs"]
mod alerts;
#[path = "crash/bad_luck.rs"]
mod bad_luck;
#[path = "crash/cluster.rs"]
mod cluster;
#[path = "crash/deployment.rs"]
mod deployment;
#[path = "crash/kills.rs"]
mod kills;
#[path = "crash/ledger.rs"]
mod ledger;
#[path = "crash/receiver.rs"]
mod receiver;
#[path = "crash/server.rs"]
mod server;
#[path = "crash/signals.rs"]
mod signals;
#[path = "crash/stage.rs"]
mod stage;
#[path = "crash/traces.rs"]
mod traces;
#[path = "crash/triggers.rs"]
mod triggers;
#[path = "crash/watch.rs"]
mod watch;

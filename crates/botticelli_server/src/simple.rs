//! Small real implementations of the contracts, for prototyping and tests: everything in memory or in one JSON file,
//! and no runtime of their own. They keep the promises that need no durable store.

mod manager;
mod persistence;
mod poster;
mod scheduler;
mod server;

pub use manager::GenericActorManager;
pub use persistence::JsonStatePersistence;
pub use poster::GenericContentPoster;
pub use scheduler::{SimpleExecution, SimpleTaskScheduler};
pub use server::{BasicActorServer, BasicServerError};

//! The REST API: a whole server, asked over real sockets.

#[path = "api/access.rs"]
mod access;
#[path = "api/documentation.rs"]
mod documentation;
#[path = "api/events.rs"]
mod events;
#[path = "api/input.rs"]
mod input;
#[path = "api/made_tasks.rs"]
mod made_tasks;
#[path = "api/metrics.rs"]
mod metrics;
#[path = "api/notifications.rs"]
mod notifications;
#[path = "api/reading.rs"]
mod reading;
#[path = "api/server.rs"]
mod server;
#[path = "api/steering.rs"]
mod steering;
#[path = "api/stream.rs"]
mod stream;

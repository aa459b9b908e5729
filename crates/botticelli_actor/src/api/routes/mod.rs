//! The routes, each group in a file of its name.

mod change;
mod cluster;
mod describe;
mod events;
mod executions;
pub(super) mod health;
mod metrics;
mod note;
mod posts;
mod preview;
mod server;
mod steer;
pub(super) mod stream;
mod tasks;

use super::route::Routes;

/// All routes. A new group is added here.
pub(super) fn all() -> Routes {
    let groups = [
        health::add,
        metrics::add,
        tasks::add,
        change::add,
        preview::add,
        steer::add,
        executions::add,
        posts::add,
        cluster::add,
        events::add,
        stream::add,
        server::add,
        describe::add,
    ];
    groups.into_iter().fold(Routes::default(), |routes, add: fn(Routes) -> Routes| add(routes))
}

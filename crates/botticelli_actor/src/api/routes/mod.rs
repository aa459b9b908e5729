//! The routes, each group in a file of its name.

mod describe;
pub(super) mod health;
mod metrics;
mod note;
mod server;
mod tasks;

use super::route::Routes;

/// All routes. A new group is added here.
pub(super) fn all() -> Routes {
    let routes = Routes::default();
    let routes = health::add(routes);
    let routes = metrics::add(routes);
    let routes = tasks::add(routes);
    let routes = server::add(routes);
    describe::add(routes)
}

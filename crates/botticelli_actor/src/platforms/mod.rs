//! Where posts go: the platforms that this server knows, by name.

mod console;
mod extras;
mod file;

pub use console::Console;
pub(crate) use extras::shown;
pub use file::JsonLinesFile;

use botticelli_server::clock::Clock;
use botticelli_server::post::{Capabilities, Destination, Platform, PostContent};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The registry of platforms. A platform is known by the name that stands in `platform = "…"` and in
/// [`Destination::platform`](botticelli_server::post::Destination::platform).
#[derive(Clone, Default)]
pub struct Platforms {
    by_name: BTreeMap<String, Arc<Platform>>,
}

impl Platforms {
    /// `console` and `file`: those that need neither a key nor a server.
    pub fn built_in(clock: Arc<dyn Clock>) -> Self {
        let mut platforms = Self::default();
        platforms.register("console", Arc::new(Console::stdout(clock.clone())));
        platforms.register("file", Arc::new(JsonLinesFile::new(clock)));
        platforms
    }

    /// Enters `platform`; returns the one that had the name before.
    pub fn register(&mut self, name: impl Into<String>, platform: Arc<Platform>) -> Option<Arc<Platform>> {
        self.by_name.insert(name.into(), platform)
    }

    /// The platform of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Platform>> {
        self.by_name.get(name)
    }

    /// What can be done at `destination` for a plain text. `None`: nobody knows its platform.
    pub fn capabilities(&self, destination: &Destination) -> Option<Capabilities> {
        let platform = self.get(&destination.platform)?;
        Some(platform.capabilities(&PostContent::default(), destination))
    }

    /// All names, in order: what an error message offers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

impl std::fmt::Debug for Platforms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

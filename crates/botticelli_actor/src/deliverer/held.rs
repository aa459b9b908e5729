//! Platforms whose posts wait until something has been looked at.

use super::DeliverySignals;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The names of those platforms, as often as each is held.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<Mutex<Vec<String>>>);

/// As long as it lives, no post goes to its platform.
#[derive(Debug)]
pub struct Hold {
    held: Held,
    platform: String,
    posts_waiting: Arc<Notify>,
}

impl DeliverySignals {
    /// Lets no post go to `platform` for now.
    pub fn hold(&self, platform: &str) -> Hold {
        self.held.names().push(platform.to_owned());
        let (held, posts_waiting) = (self.held.clone(), self.posts_waiting.clone());
        Hold { held, platform: platform.to_owned(), posts_waiting }
    }
}

impl Held {
    pub(super) fn names(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut names = self.held.names();
        if let Some(one) = names.iter().position(|name| *name == self.platform) {
            names.remove(one);
        }
        drop(names);
        self.posts_waiting.notify_one();
    }
}

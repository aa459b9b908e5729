//! `watch = true`: tells when files of the configuration are not as they were loaded.
//!
//! They are looked at again and again. Being told by the kernel would not work where the files are another machine's, and
//! links that are swapped as a whole (Kubernetes) need watches on every folder of the way. A look costs some microseconds.

use crate::config::Files;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::info;

/// The time between two looks. Files that stayed the same for so long are taken for whole.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure that is not the files' (a database that is away), they are loaded again after this.
const AGAIN: Duration = Duration::from_secs(30);

/// The files of the last load, whoever asked for it, and whatever came of it.
#[derive(Clone, Default)]
pub(super) struct LastLoad(Arc<Mutex<Files>>);

impl LastLoad {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, files: Files) {
        *self.files() = files;
    }
}

pub(super) struct Watch {
    loaded: LastLoad,
    /// At the look before.
    before: Files,
    again_at: Option<Instant>,
}

impl Watch {
    pub(super) fn new(loaded: LastLoad) -> Self {
        Self { loaded, before: Files::default(), again_at: None }
    }

    /// Returns when the files are to be loaded.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.again_at.take_if(|at| *at <= Instant::now()).is_some() {
                return;
            }
            let loaded = self.loaded.files().clone();
            let known = loaded.clone();
            // A file system that hangs keeps nothing else waiting.
            let Ok(now) = tokio::task::spawn_blocking(move || known.now()).await else { continue };
            if self.is_to_be_loaded(&loaded, now) {
                return;
            }
        }
    }

    /// Whether the files differ from those that were loaded, and have come to rest. A file that is wrong was loaded, too: it
    /// is not loaded, and complained of, again until it changes.
    fn is_to_be_loaded(&mut self, loaded: &Files, now: Files) -> bool {
        let rests = now == self.before;
        let changed: Vec<_> = now.unlike(loaded).collect();
        let told = rests && !changed.is_empty();
        if told {
            info!(files = ?changed, "files of the configuration have changed");
        }
        self.before = now;
        told
    }

    /// How the last load went: whether something else than the files kept it from taking effect.
    pub(super) fn note(&mut self, failed: bool) {
        self.again_at = failed.then(|| Instant::now() + AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_loaded_once_when_whoever_writes_it_is_done() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let write = |text: &str| std::fs::write(file.path(), text).expect("written");
        let mut loaded = Files::default();
        assert!(loaded.note(file.path()));
        let mut watch = Watch::new(LastLoad::default());
        let mut look = |loaded: &Files| watch.is_to_be_loaded(loaded, loaded.now());
        assert_eq!([look(&loaded), look(&loaded)], [false, false], "it is as it was");
        write("[ser");
        assert!(!look(&loaded));
        write("[server]");
        assert!(!look(&loaded), "it was still being written");
        assert!(look(&loaded));
        let loaded = loaded.now();
        assert_eq!([look(&loaded), look(&loaded)], [false, false], "it is known, be it right or wrong");
        write("");
        assert_eq!([look(&loaded), look(&loaded)], [false, true]);
    }
}

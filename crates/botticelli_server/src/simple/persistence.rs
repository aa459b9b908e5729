//! A snapshot in a JSON file.

use crate::ledger::LedgerError;
use crate::server::StatePersistence;
use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Keeps its state in one JSON file, which is replaced whole: whoever opens it, and whatever crashed, sees the old
/// state or the new one. One process at a time. Writes block the caller for as long as the disk takes.
pub struct JsonStatePersistence<State> {
    path: PathBuf,
    writing: Mutex<()>,
    state: PhantomData<fn() -> State>,
}

impl<State> JsonStatePersistence<State> {
    /// The state is in the file at `path`, whose folder must exist. Beside it a file of the same name and `.tmp` comes
    /// and goes.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), writing: Mutex::default(), state: PhantomData }
    }

    fn replace(&self, json: &[u8]) -> io::Result<()> {
        let temporary = self.temporary();
        let mut file = File::create(&temporary)?;
        file.write_all(json)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        self.sync_folder()
    }

    fn temporary(&self) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(".tmp");
        path.into()
    }

    /// A new name in a folder survives a power cut only when the folder is on the disk.
    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn not_written(&self, error: &io::Error) -> LedgerError {
        LedgerError::NotWritable(format!("{}: {error}", self.path.display()).into())
    }
}

#[async_trait]
impl<State: Serialize + DeserializeOwned + Send + Sync> StatePersistence for JsonStatePersistence<State> {
    type State = State;

    async fn load(&self) -> Result<Option<State>, LedgerError> {
        let json = match std::fs::read(&self.path) {
            Ok(json) => json,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(LedgerError::Unavailable(format!("{}: {error}", self.path.display()).into()));
            }
        };
        let state = serde_json::from_slice(&json);
        state.map_err(|error| LedgerError::Corrupt(format!("{}: {error}", self.path.display()))).map(Some)
    }

    async fn save(&self, state: &State) -> Result<(), LedgerError> {
        let json = serde_json::to_vec_pretty(state).map_err(|error| LedgerError::Refused(error.into()))?;
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace(&json).map_err(|error| self.not_written(&error))
    }

    async fn clear(&self) -> Result<(), LedgerError> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match std::fs::remove_file(&self.path).and_then(|()| self.sync_folder()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.not_written(&error)),
        }
    }
}

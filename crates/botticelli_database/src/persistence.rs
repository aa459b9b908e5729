//! Snapshots in the database.

use crate::store::Store;
use async_trait::async_trait;
use botticelli_server::ledger::LedgerError;
use botticelli_server::server::StatePersistence;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// A [`StatePersistence`] in table `actor_server_snapshots`: one row a name.
pub struct DatabaseStatePersistence<State> {
    store: Store,
    name: String,
    state: PhantomData<fn() -> State>,
}

impl<State> DatabaseStatePersistence<State> {
    /// The snapshot called `name`.
    pub fn new(store: Store, name: impl Into<String>) -> Self {
        Self { store, name: name.into(), state: PhantomData }
    }
}

#[async_trait]
impl<State: Serialize + DeserializeOwned + Send + Sync> StatePersistence for DatabaseStatePersistence<State> {
    type State = State;

    async fn load(&self) -> Result<Option<State>, LedgerError> {
        let snapshot = self.store.snapshot_load(&self.name).await?;
        snapshot.map(serde_json::from_value).transpose().map_err(|error| self.unreadable(&error))
    }

    async fn save(&self, state: &State) -> Result<(), LedgerError> {
        let snapshot = serde_json::to_value(state).map_err(|error| self.unreadable(&error))?;
        self.store.snapshot_save(&self.name, snapshot).await
    }

    async fn clear(&self) -> Result<(), LedgerError> {
        self.store.snapshot_clear(&self.name).await
    }
}

impl<State> DatabaseStatePersistence<State> {
    fn unreadable(&self, error: &serde_json::Error) -> LedgerError {
        LedgerError::Corrupt(format!("snapshot {:?}: {error}", self.name))
    }
}

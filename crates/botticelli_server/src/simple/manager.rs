//! A registry of actors.

use crate::outcome::{AttemptEnd, panic_message};
use crate::server::{Actor, ActorManager, Run, UnknownActor};
use async_trait::async_trait;
use futures::FutureExt;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

type Registry<ActorId, Context> = BTreeMap<ActorId, Arc<dyn Actor<Context>>>;

/// Actors by any kind of name, run where they are called.
pub struct GenericActorManager<ActorId, Context> {
    actors: RwLock<Registry<ActorId, Context>>,
}

impl<ActorId, Context> Default for GenericActorManager<ActorId, Context> {
    fn default() -> Self {
        Self { actors: RwLock::default() }
    }
}

impl<ActorId, Context> GenericActorManager<ActorId, Context> {
    fn read(&self) -> RwLockReadGuard<'_, Registry<ActorId, Context>> {
        self.actors.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Registry<ActorId, Context>> {
        self.actors.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<ActorId, Context> ActorManager<ActorId, Context> for GenericActorManager<ActorId, Context>
where
    ActorId: Ord + Clone + Display + Send + Sync,
    Context: Send + 'static,
{
    fn register(&self, id: ActorId, actor: Arc<dyn Actor<Context>>) -> Option<Arc<dyn Actor<Context>>> {
        self.write().insert(id, actor)
    }

    fn deregister(&self, id: &ActorId) -> bool {
        self.write().remove(id).is_some()
    }

    fn ids(&self) -> Vec<ActorId> {
        self.read().keys().cloned().collect()
    }

    async fn run(&self, id: &ActorId, context: Context) -> Result<Run, UnknownActor> {
        let actor = self.read().get(id).cloned().ok_or_else(|| UnknownActor(id.to_string()))?;
        // An actor has no effect outside: what a panic leaves half done is dropped with it.
        let run = AssertUnwindSafe(async { actor.run(context).await }).catch_unwind().await;
        Ok(run.unwrap_or_else(|panic| {
            let error = format!("the actor panicked: {}", panic_message(&*panic));
            Run::ended(AttemptEnd::Failed { error, recoverable: true })
        }))
    }
}

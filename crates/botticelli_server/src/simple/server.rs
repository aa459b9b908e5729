//! A server over any scheduler.

use crate::ids::TaskId;
use crate::ledger::LedgerError;
use crate::server::{ActorServer, TaskScheduler};
use crate::task::Task;
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::lock::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Why a [`BasicActorServer`] could not do as told.
#[derive(Debug, thiserror::Error)]
pub enum BasicServerError<E> {
    /// It runs already.
    #[error("the server is running already")]
    AlreadyStarted,
    /// It does not run.
    #[error("the server is not running")]
    NotRunning,
    /// The configuration could not be used. Nothing was changed.
    #[error("the configuration can't be used: {0}")]
    Configuration(E),
    /// The scheduler failed. Started again, or asked to reload again, it takes up the rest.
    #[error(transparent)]
    Scheduler(#[from] LedgerError),
}

type Configuration<E> = dyn Fn() -> Result<Vec<Task>, E> + Send + Sync;
type Spawn = dyn Fn(BoxFuture<'static, ()>) + Send + Sync;

/// Runs the tasks of a configuration on a scheduler. It can be started again after a stop.
pub struct BasicActorServer<E> {
    scheduler: Arc<dyn TaskScheduler>,
    configuration: Box<Configuration<E>>,
    spawn: Box<Spawn>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: CancellationToken,
    ended: CancellationToken,
}

impl<E> BasicActorServer<E> {
    /// A server that is not started. `configuration` is read at every start and reload; `spawn` runs a future in the
    /// background: `|future| drop(tokio::spawn(future))`.
    pub fn new(
        scheduler: Arc<dyn TaskScheduler>,
        configuration: impl Fn() -> Result<Vec<Task>, E> + Send + Sync + 'static,
        spawn: impl Fn(BoxFuture<'static, ()>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            scheduler,
            configuration: Box::new(configuration),
            spawn: Box::new(spawn),
            running: Mutex::new(None),
        }
    }

    async fn take_up_configuration(&self) -> Result<(), BasicServerError<E>> {
        let tasks = (self.configuration)().map_err(BasicServerError::Configuration)?;
        let wanted: BTreeSet<TaskId> = tasks.iter().map(|task| task.id.clone()).collect();
        for gone in self.scheduler.scheduled().await?.iter().filter(|task| !wanted.contains(task)) {
            self.scheduler.cancel(gone).await?;
        }
        for task in tasks {
            self.scheduler.schedule(task).await?;
        }
        Ok(())
    }

    fn spawn_scheduler(&self) -> Running {
        let running = Running { stop: CancellationToken::new(), ended: CancellationToken::new() };
        let (scheduler, stop) = (self.scheduler.clone(), running.stop.clone());
        // However the scheduler ends, a stop that waits for it goes on.
        let ended = running.ended.clone().drop_guard();
        (self.spawn)(Box::pin(async move {
            let _ended = ended;
            scheduler.run(stop).await;
        }));
        running
    }
}

#[async_trait]
impl<E: Send + Sync> ActorServer for BasicActorServer<E> {
    type Error = BasicServerError<E>;

    async fn start(&self) -> Result<(), Self::Error> {
        let mut running = self.running.lock().await;
        if running.is_some() {
            return Err(BasicServerError::AlreadyStarted);
        }
        self.take_up_configuration().await?;
        *running = Some(self.spawn_scheduler());
        Ok(())
    }

    async fn stop(&self) -> Result<(), Self::Error> {
        if let Some(Running { stop, ended }) = self.running.lock().await.take() {
            stop.cancel();
            ended.cancelled().await;
        }
        Ok(())
    }

    async fn reload(&self) -> Result<(), Self::Error> {
        match *self.running.lock().await {
            Some(_) => self.take_up_configuration().await,
            None => Err(BasicServerError::NotRunning),
        }
    }
}

//! The production implementations keep what the contracts promise.

use crate::support::*;
use async_trait::async_trait;
use botticelli_actor::actor::{RegisteredActors, RunContext};
use botticelli_database::DatabaseStatePersistence;
use botticelli_server::ids::{ActorName, TaskId};
use botticelli_server::outcome::Outcome;
use botticelli_server::server::{ActorManager, StatePersistence, TaskScheduler};
use botticelli_testkit::clock::ManualClock;
use botticelli_testkit::contract_suites::{PersistenceUnderTest, ProbeActor, SchedulerUnderTest};
use botticelli_testkit::databases::TestStore;
use botticelli_testkit::{persistence_suite, scheduler_suite};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

persistence_suite!(persistence_on_sqlite, if_any Some(Snapshot(TestStore::sqlite().await)));
persistence_suite!(persistence_on_postgres, if_any TestStore::postgres().await.map(Snapshot));

struct Snapshot(TestStore);

#[async_trait]
impl PersistenceUnderTest for Snapshot {
    type State = BTreeMap<String, u32>;

    async fn open(&self) -> Arc<dyn StatePersistence<State = Self::State>> {
        Arc::new(DatabaseStatePersistence::new(self.0.another().await, "test"))
    }

    fn states(&self) -> [Self::State; 2] {
        [BTreeMap::from([("a".into(), 1), ("b".into(), 2)]), BTreeMap::from([("b".into(), 3)])]
    }
}

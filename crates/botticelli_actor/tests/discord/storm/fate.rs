//! What befalls one process: it dies, or is suspended, at the points where that matters.

use async_trait::async_trait;
use botticelli_database::Store;
use botticelli_server::ids::NodeId;
use botticelli_server::ledger::LedgerError;
use botticelli_server::outbox::{ClaimedPost, EgressScope, Outbox, PostsSettled, SettledPost};
use botticelli_server::post::{
    Capabilities, ContentPoster, Destination, Doubt, IdempotencyKey, LookUp, Platform, PostContent,
    PostError, Receipt,
};
use botticelli_testkit::random::Random;
use chrono::{DateTime, Utc};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    Suspended,
    Dead,
}

pub(super) struct Fate {
    random: Mutex<Random>,
    life: watch::Sender<Life>,
    /// Of a hundred points, so many are deadly, and so many more suspend.
    dangers: (u64, u64),
}

impl Fate {
    pub(super) fn new(random: Random, dangers: (u64, u64)) -> Arc<Self> {
        Arc::new(Self { random: Mutex::new(random), life: watch::Sender::new(Life::Running), dangers })
    }

    pub(super) fn life(&self) -> Life {
        *self.life.borrow()
    }

    pub(super) fn resume(&self) {
        self.life.send_replace(Life::Running);
    }

    /// Returns when the process is dead or suspended.
    pub(super) async fn strikes(&self) {
        let mut life = self.life.subscribe();
        life.wait_for(|life| *life != Life::Running).await.expect("the sender lives in self");
    }

    /// A moment at which a process may die or be suspended; then none of its tasks gets further than its next point.
    async fn point(&self) {
        let drawn = self.random.lock().expect("not poisoned").below(100);
        if self.life() == Life::Running && drawn < self.dangers.0 {
            self.life.send_replace(Life::Dead);
        } else if self.life() == Life::Running && drawn < self.dangers.0 + self.dangers.1 {
            self.life.send_replace(Life::Suspended);
        }
        let mut life = self.life.subscribe();
        life.wait_for(|life| *life == Life::Running).await.expect("the sender lives in self");
    }
}

/// The store as that process has it.
pub(super) struct FatedOutbox {
    pub(super) store: Store,
    pub(super) fate: Arc<Fate>,
}

#[async_trait]
impl Outbox for FatedOutbox {
    async fn take_egress(
        &self,
        node: &NodeId,
        scopes: &[EgressScope],
        lease: Duration,
    ) -> Result<Vec<String>, LedgerError> {
        self.store.take_egress(node, scopes, lease).await
    }

    async fn claim_posts(
        &self,
        node: &NodeId,
        limit: usize,
        lease: Duration,
        without: &[String],
    ) -> Result<Vec<ClaimedPost>, LedgerError> {
        let claimed = self.store.claim_posts(node, limit, lease, without).await;
        self.fate.point().await;
        claimed
    }

    async fn settle_posts(&self, node: &NodeId, ended: &[SettledPost]) -> Result<PostsSettled, LedgerError> {
        self.fate.point().await;
        let settled = self.store.settle_posts(node, ended).await;
        self.fate.point().await;
        settled
    }

    async fn rescue_posts(&self) -> Result<usize, LedgerError> {
        let rescued = self.store.rescue_posts().await;
        self.fate.point().await;
        rescued
    }

    async fn next_post_due(&self, without: &[String]) -> Result<Option<DateTime<Utc>>, LedgerError> {
        self.store.next_post_due(without).await
    }
}

/// A platform as that process has it.
pub(super) struct FatedPlatform {
    pub(super) platform: Arc<Platform>,
    pub(super) fate: Arc<Fate>,
}

#[async_trait]
impl ContentPoster for FatedPlatform {
    type Content = PostContent;
    type Destination = Destination;
    type Posted = Receipt;

    fn capabilities(&self, content: &PostContent, destination: &Destination) -> Capabilities {
        self.platform.capabilities(content, destination)
    }

    fn validate(&self, content: &PostContent, destination: &Destination) -> Result<(), PostError> {
        self.platform.validate(content, destination)
    }

    async fn post(
        &self,
        content: &PostContent,
        destination: &Destination,
        key: &IdempotencyKey,
    ) -> Result<Receipt, PostError> {
        self.fate.point().await;
        let posted = self.platform.post(content, destination, key).await;
        self.fate.point().await;
        posted
    }

    async fn follow_up(
        &self,
        content: &PostContent,
        destination: &Destination,
        posted: &Receipt,
        step: &str,
    ) -> Result<(), PostError> {
        self.fate.point().await;
        let done = self.platform.follow_up(content, destination, posted, step).await;
        self.fate.point().await;
        done
    }

    async fn look_up(
        &self,
        content: &PostContent,
        destination: &Destination,
        key: &IdempotencyKey,
        doubt: &Doubt,
    ) -> Result<LookUp<Receipt>, PostError> {
        self.fate.point().await;
        let found = self.platform.look_up(content, destination, key, doubt).await;
        self.fate.point().await;
        found
    }
}

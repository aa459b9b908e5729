//! The loop, on an outbox in memory that can be made to fail.

use super::*;
use async_trait::async_trait;
use botticelli_server::ids::{ExecutionId, Fence, TaskId};
use botticelli_server::limits::DeliveryLimits;
use botticelli_server::outbox::{OnUnknown, PlatformAnswer};
use botticelli_server::post::{
    Capabilities, ContentPoster, Destination, Doubt, IdempotencyKey, PostContent, TextLimit, TextUnit,
};
use botticelli_testkit::clock::ManualClock;
use chrono::TimeDelta;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn claimed(id: i64, target: &str) -> ClaimedPost {
    let destination = Destination { platform: "fake".into(), target: target.into() };
    ClaimedPost {
        id: PostId(id),
        fence: Fence(0),
        execution_id: ExecutionId(1),
        task_id: TaskId::new("task").expect("a name"),
        content: PostContent::text(format!("post {id}")),
        key: IdempotencyKey::stored(format!("key of {id}")),
        destination,
        attempt: 1,
        tries: 1,
        uncertain_since: None,
        taken: Vec::new(),
        rivals: Vec::new(),
        lease_until: DateTime::<Utc>::MAX_UTC,
        wanted_at: DateTime::<Utc>::UNIX_EPOCH,
        on_unknown: OnUnknown::NeedsReview,
        limits: DeliveryLimits::default(),
        earlier: Vec::new(),
        posted: None,
    }
}

/// Posts in memory, with the rules of the contract.
struct MemoryOutbox {
    clock: Arc<ManualClock>,
    rows: Mutex<Vec<Row>>,
    /// Errors that the next settles end with.
    troubles: Mutex<VecDeque<LedgerError>>,
    settled_at_once: Mutex<Vec<usize>>,
    /// Who sends for the only scope there is, and until when.
    sender: Mutex<Option<(NodeId, DateTime<Utc>)>>,
}

#[derive(Clone)]
struct Row {
    post: ClaimedPost,
    due: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    node: Option<NodeId>,
    end: Option<PostEnd>,
    exchanges: Vec<Exchange>,
}

impl Row {
    /// It is being sent, or it waits because its destination did not take it.
    fn is_in_the_way(&self, now: DateTime<Utc>) -> bool {
        let waits = matches!(self.end, Some(PostEnd::Deferred { holds: true, .. })) && self.due > now;
        self.sent_at.is_some() || waits
    }

    fn is_open(&self) -> bool {
        matches!(self.end, None | Some(PostEnd::Deferred { .. }))
    }
}

impl MemoryOutbox {
    fn new(clock: &Arc<ManualClock>) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            rows: Mutex::default(),
            troubles: Mutex::default(),
            settled_at_once: Mutex::default(),
            sender: Mutex::default(),
        })
    }

    fn put(&self, post: ClaimedPost) {
        let due = self.clock.now();
        self.rows().push(Row {
            post: ClaimedPost { attempt: 0, ..post },
            due,
            sent_at: None,
            node: None,
            end: None,
            exchanges: Vec::new(),
        });
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().expect("not poisoned")
    }

    fn end(&self, id: i64) -> Option<PostEnd> {
        self.rows().iter().find(|row| row.post.id == PostId(id)).expect("such a post").end.clone()
    }

    /// Of all attempts at a post.
    fn exchanges(&self, id: i64) -> Vec<Exchange> {
        self.rows().iter().find(|row| row.post.id == PostId(id)).expect("such a post").exchanges.clone()
    }

    fn next_settle_fails(&self, error: LedgerError) {
        self.troubles.lock().expect("not poisoned").push_back(error);
    }
}

#[async_trait]
impl Outbox for MemoryOutbox {
    async fn take_egress(
        &self,
        node: &NodeId,
        scopes: &[EgressScope],
        lease: Duration,
    ) -> Result<Vec<String>, LedgerError> {
        let now = self.clock.now();
        let mut sender = self.sender.lock().expect("not poisoned");
        if sender.as_ref().is_none_or(|(by, until)| by == node || *until < now) {
            *sender = Some((node.clone(), now + lease));
            return Ok(Vec::new());
        }
        Ok(scopes.iter().map(|scope| scope.platform.clone()).collect())
    }

    async fn claim_posts(
        &self,
        node: &NodeId,
        limit: usize,
        lease: Duration,
        without: &[String],
    ) -> Result<Vec<ClaimedPost>, LedgerError> {
        let now = self.clock.now();
        let mut rows = self.rows();
        let mut busy: HashSet<Destination> = rows
            .iter()
            .filter(|row| row.is_in_the_way(now))
            .map(|row| row.post.destination.clone())
            .collect();
        let mut claimed = Vec::new();
        let is_left_alone = |row: &Row| without.contains(&row.post.destination.platform);
        for row in rows
            .iter_mut()
            .filter(|row| !is_left_alone(row) && row.is_open() && row.sent_at.is_none() && row.due <= now)
        {
            if claimed.len() < limit && busy.insert(row.post.destination.clone()) {
                row.sent_at = Some(now);
                row.node = Some(node.clone());
                row.post.fence.0 += 1;
                row.post.attempt += 1;
                row.post.lease_until = now + lease;
                claimed.push(row.post.clone());
            }
        }
        Ok(claimed)
    }

    async fn settle_posts(&self, node: &NodeId, ended: &[SettledPost]) -> Result<PostsSettled, LedgerError> {
        if let Some(error) = self.troubles.lock().expect("not poisoned").pop_front() {
            return Err(error);
        }
        self.settled_at_once.lock().expect("not poisoned").push(ended.len());
        let mut rows = self.rows();
        let (mut lost, mut paused) = (Vec::new(), Vec::new());
        for settled in ended {
            let row = rows.iter_mut().find(|row| row.post.id == settled.id).expect("such a post");
            let Some(sent_at) =
                row.sent_at.filter(|_| row.post.fence == settled.fence && row.node.as_ref() == Some(node))
            else {
                lost.push(settled.id);
                continue;
            };
            row.sent_at = None;
            if let PostEnd::Deferred { until, uncertain, counts, .. } = settled.end {
                row.due = until;
                row.post.tries += u32::from(counts);
                row.post.uncertain_since = uncertain.then(|| row.post.uncertain_since.unwrap_or(sent_at));
            }
            if matches!(settled.end, PostEnd::Failed { .. }) {
                paused.push((row.post.task_id.clone(), 1));
            }
            row.end = Some(settled.end.clone());
            row.exchanges.extend(settled.exchanges.clone());
        }
        Ok(PostsSettled { lost, paused })
    }

    async fn rescue_posts(&self) -> Result<usize, LedgerError> {
        let now = self.clock.now();
        let mut rescued = 0;
        for row in self.rows().iter_mut().filter(|row| row.sent_at.is_some() && row.post.lease_until <= now) {
            row.post.uncertain_since = row.post.uncertain_since.or(row.sent_at.take());
            row.sent_at = None;
            row.post.fence.0 += 1;
            row.due = now;
            rescued += 1;
        }
        Ok(rescued)
    }

    async fn next_post_due(&self, without: &[String]) -> Result<Option<DateTime<Utc>>, LedgerError> {
        let rows = self.rows();
        let waits = |row: &&Row| {
            row.is_open() && row.sent_at.is_none() && !without.contains(&row.post.destination.platform)
        };
        Ok(rows.iter().filter(waits).map(|row| row.due).min())
    }
}

/// How the platform answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Take,
    TakeAndFallSilent,
    FallSilent,
    TakeAndHang,
    Busy,
    /// Busy, and it says for how many seconds.
    BusyFor(u64),
    Refuse,
    Removed,
    Close,
    Panic,
}

impl Answer {
    /// Nothing was taken.
    fn error(self) -> PostError {
        match self {
            Self::FallSilent => PostError::Unknown("connection reset".into()),
            Self::Busy => PostError::NotSent { reason: "429".into(), retry_after: None },
            Self::BusyFor(seconds) => {
                PostError::NotSent { reason: "429".into(), retry_after: Some(Duration::from_secs(seconds)) }
            }
            Self::Removed => PostError::Removed("somebody deleted it".into()),
            Self::Refuse => PostError::Refused("blocked".into()),
            Self::Close => PostError::DestinationClosed("403".into()),
            Self::Take | Self::TakeAndFallSilent | Self::TakeAndHang | Self::Panic => panic!("a bug"),
        }
    }
}

/// A platform that answers as it is told, then takes everything.
struct FakePlatform {
    clock: Arc<ManualClock>,
    capabilities: Capabilities,
    answers: Mutex<VecDeque<Answer>>,
    messages: Mutex<Vec<(IdempotencyKey, Receipt)>>,
    requests: Mutex<Vec<(Destination, PostContent)>>,
    /// Its limits are counted for all nodes together.
    is_shared: std::sync::atomic::AtomicBool,
}

impl FakePlatform {
    fn new(clock: &Arc<ManualClock>, window: Option<Duration>, look_up: bool) -> Arc<Self> {
        let text = TextLimit { max: None, unit: TextUnit::Scalars };
        Arc::new(Self {
            clock: clock.clone(),
            capabilities: Capabilities { idempotent_for: window, look_up, text },
            answers: Mutex::default(),
            messages: Mutex::default(),
            requests: Mutex::default(),
            is_shared: false.into(),
        })
    }

    fn will(&self, answers: &[Answer]) {
        self.answers.lock().expect("not poisoned").extend(answers);
    }

    fn next_answer(&self) -> Answer {
        self.answers.lock().expect("not poisoned").pop_front().unwrap_or(Answer::Take)
    }

    fn count(&self) -> usize {
        self.messages.lock().expect("not poisoned").len()
    }

    fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock().expect("not poisoned");
        requests.iter().map(|(_, content)| content.text.clone()).collect()
    }

    /// Recognises a key for as long as it says, not a moment longer.
    fn take(&self, key: &IdempotencyKey) -> Receipt {
        let now = self.clock.now();
        let mut messages = self.messages.lock().expect("not poisoned");
        let known = messages.iter().find(|(known, receipt)| {
            let age = (now - receipt.posted_at).to_std().expect("not negative");
            known == key && self.capabilities.idempotent_for.is_some_and(|window| age <= window)
        });
        if let Some((_, receipt)) = known {
            return Receipt { recovered: true, ..receipt.clone() };
        }
        let message_id = format!("message-{}", messages.len() + 1);
        let receipt = Receipt {
            message_id,
            posted_at: now,
            link: None,
            recovered: false,
            to_follow: Vec::new(),
            missing: Vec::new(),
        };
        messages.push((key.clone(), receipt.clone()));
        receipt
    }
}

#[async_trait]
impl ContentPoster for FakePlatform {
    type Content = PostContent;
    type Destination = Destination;
    type Posted = Receipt;

    fn capabilities(&self, _: &PostContent, _: &Destination) -> Capabilities {
        self.capabilities
    }

    fn validate(&self, content: &PostContent, _: &Destination) -> Result<(), PostError> {
        if content.text.is_empty() { Err(PostError::Refused("the text is empty".into())) } else { Ok(()) }
    }

    fn egress_scope(&self) -> Option<String> {
        self.is_shared.load(std::sync::atomic::Ordering::Relaxed).then(|| "token".to_owned())
    }

    async fn post(
        &self,
        content: &PostContent,
        destination: &Destination,
        key: &IdempotencyKey,
    ) -> Result<Receipt, PostError> {
        self.requests.lock().expect("not poisoned").push((destination.clone(), content.clone()));
        match self.next_answer() {
            Answer::Take => Ok(self.take(key)),
            Answer::TakeAndFallSilent => {
                self.take(key);
                Err(PostError::Unknown("502".into()))
            }
            Answer::TakeAndHang => {
                self.take(key);
                std::future::pending().await
            }
            other => Err(other.error()),
        }
    }

    async fn follow_up(
        &self,
        _: &PostContent,
        _: &Destination,
        _: &Receipt,
        _: &str,
    ) -> Result<(), PostError> {
        match self.next_answer() {
            Answer::Take => Ok(()),
            other => Err(other.error()),
        }
    }

    async fn look_up(
        &self,
        _: &PostContent,
        _: &Destination,
        key: &IdempotencyKey,
        _: &Doubt,
    ) -> Result<LookUp<Receipt>, PostError> {
        let messages = self.messages.lock().expect("not poisoned");
        let found = messages.iter().find(|(known, _)| known == key);
        Ok(found.map_or(LookUp::Absent, |(_, receipt)| LookUp::Found(receipt.clone())))
    }
}

struct Stage {
    clock: Arc<ManualClock>,
    outbox: Arc<MemoryOutbox>,
    platform: Arc<FakePlatform>,
    node: Arc<CurrentNode>,
    signals: DeliverySignals,
}

impl Stage {
    fn new(window: Option<Duration>, look_up: bool) -> Self {
        let clock = ManualClock::new();
        let platform = FakePlatform::new(&clock, window, look_up);
        let node = Arc::new(CurrentNode::new(NodeId::new("node").expect("a name")));
        Self { outbox: MemoryOutbox::new(&clock), platform, clock, node, signals: DeliverySignals::default() }
    }

    fn deliverer(&self, settings: DeliverySettings) -> Deliverer {
        let mut platforms = Platforms::default();
        platforms.register("fake", self.platform.clone());
        let (node, signals) = (self.node.clone(), self.signals.clone());
        Deliverer::new(self.outbox.clone(), platforms, self.clock.clone(), node, settings, signals)
    }

    /// With a minute for what is under way at the stop.
    fn run_until(&self, stop: CancellationToken) -> impl Future<Output = ()> + use<> {
        self.deliverer(DeliverySettings::default()).run(stop, Arc::new(Shutdown::new(60 * SECOND)))
    }

    async fn run_once(&self) -> Report {
        self.deliverer(DeliverySettings::default()).run_once().await.expect("the store is there")
    }

    /// Until nothing is open.
    async fn run_to_the_end(&self) -> Report {
        let mut total = self.run_once().await;
        while let Some(due) = self.outbox.next_post_due(&[]).await.expect("the store is there") {
            self.clock.set(due.max(self.clock.now()));
            let report = self.run_once().await;
            total.posted += report.posted;
            total.failed += report.failed;
            total.deferred += report.deferred;
            total.needs_review += report.needs_review;
        }
        total
    }
}

#[tokio::test]
async fn posts_of_one_destination_go_in_order_and_others_go_beside_them() {
    let stage = Stage::new(None, false);
    for id in 0..6 {
        stage.outbox.put(claimed(id, if id % 2 == 0 { "even" } else { "odd" }));
    }
    assert_eq!(stage.run_once().await, Report { posted: 6, ..Report::default() });
    let requests = stage.platform.requests.lock().expect("not poisoned").clone();
    let of = |target: &str| -> Vec<String> {
        let matching = requests.iter().filter(|(destination, _)| destination.target == target);
        matching.map(|(_, content)| content.text.clone()).collect()
    };
    assert_eq!(of("even"), ["post 0", "post 2", "post 4"]);
    assert_eq!(of("odd"), ["post 1", "post 3", "post 5"]);
    assert_eq!(*stage.outbox.settled_at_once.lock().expect("not poisoned"), [2, 2, 2], "settled together");
}

#[tokio::test]
async fn an_unknown_outcome_is_sent_again_with_the_same_key_and_recovered() {
    let stage = Stage::new(Some(Duration::MAX), false);
    stage.platform.will(&[Answer::TakeAndFallSilent, Answer::FallSilent]);
    stage.outbox.put(claimed(1, "here"));
    let report = stage.run_to_the_end().await;
    assert_eq!((report.posted, report.deferred), (1, 2));
    assert_eq!(stage.platform.count(), 1);
    assert!(matches!(stage.outbox.end(1), Some(PostEnd::Posted(Receipt { recovered: true, .. }))));
}

#[tokio::test]
async fn an_unknown_outcome_is_looked_up_where_no_key_helps() {
    for (first, sent) in [(Answer::TakeAndFallSilent, 1), (Answer::FallSilent, 2)] {
        let stage = Stage::new(None, true);
        stage.platform.will(&[first]);
        stage.outbox.put(claimed(1, "here"));
        stage.run_to_the_end().await;
        assert!(matches!(stage.outbox.end(1), Some(PostEnd::Posted(_))));
        assert_eq!((stage.platform.count(), stage.platform.requests().len()), (1, sent));
    }
}

#[tokio::test]
async fn where_nothing_can_tell_the_operators_choice_holds() {
    for (on_unknown, expected) in [
        (OnUnknown::NeedsReview, Report { needs_review: 1, ..Report::default() }),
        (OnUnknown::AtMostOnce, Report { failed: 1, ..Report::default() }),
    ] {
        let stage = Stage::new(None, false);
        stage.platform.will(&[Answer::FallSilent]);
        stage.outbox.put(ClaimedPost { on_unknown, ..claimed(1, "here") });
        assert_eq!(stage.run_to_the_end().await, expected);
        assert_eq!(stage.platform.requests(), ["post 1"]);
    }
}

#[tokio::test]
async fn a_wait_that_the_platform_asks_for_is_kept_to_the_moment_and_makes_no_other_wait_longer() {
    let stage = Stage::new(None, true);
    stage.outbox.put(claimed(1, "here"));
    stage.platform.will(&[Answer::BusyFor(7); 10]);
    for _ in 0..10 {
        let at = stage.clock.now();
        assert_eq!(stage.run_once().await, Report { deferred: 1, ..Report::default() });
        let due = stage.outbox.next_post_due(&[]).await.expect("the store is there").expect("it waits");
        assert_eq!(due, at + 7 * SECOND);
        stage.clock.set(due);
    }
    stage.platform.will(&[Answer::Busy]);
    stage.run_once().await;
    let due = stage.outbox.next_post_due(&[]).await.expect("the store is there").expect("it waits");
    assert!(
        due <= stage.clock.now() + DeliverySettings::default().retry.initial,
        "this was the first in vain"
    );
}

#[tokio::test]
async fn what_somebody_removed_meanwhile_is_not_posted_again() {
    for look_up in [true, false] {
        let stage = Stage::new(Some(DeliverySettings::default().safe_window), look_up);
        stage.outbox.put(claimed(1, "here"));
        stage.platform.will(&[Answer::FallSilent, Answer::Removed]);
        let report = stage.run_to_the_end().await;
        assert_eq!((report.failed, report.posted), (1, 0));
        assert_eq!(stage.outbox.end(1), Some(PostEnd::Failed { error: "somebody deleted it".into() }));
        assert_eq!(stage.platform.requests().len(), 2);
    }
}

#[tokio::test]
async fn what_the_platform_would_refuse_is_not_sent() {
    let stage = Stage::new(None, true);
    stage.outbox.put(ClaimedPost { content: PostContent::text(String::new()), ..claimed(1, "here") });
    assert_eq!(stage.run_once().await, Report { failed: 1, ..Report::default() });
    assert_eq!(stage.platform.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_panic_of_the_platform_is_an_unknown_outcome() {
    let stage = Stage::new(None, true);
    stage.platform.will(&[Answer::Panic]);
    stage.outbox.put(claimed(1, "here"));
    assert_eq!(stage.run_once().await, Report { deferred: 1, ..Report::default() });
    let Some(PostEnd::Deferred { reason, uncertain, .. }) = stage.outbox.end(1) else { panic!("deferred") };
    assert_eq!((reason.as_str(), uncertain), ("the platform panicked: a bug", true));
}

#[tokio::test]
async fn a_platform_that_is_not_there_defers_its_posts() {
    let stage = Stage::new(None, true);
    let elsewhere = Destination { platform: "elsewhere".into(), target: "x".into() };
    stage.outbox.put(ClaimedPost { destination: elsewhere, ..claimed(1, "here") });
    assert_eq!(stage.run_once().await, Report { deferred: 1, ..Report::default() });
    let Some(PostEnd::Deferred { reason, .. }) = stage.outbox.end(1) else { panic!("deferred") };
    assert_eq!(reason, "this server has no platform \"elsewhere\"");
}

#[tokio::test]
async fn a_request_without_an_answer_is_given_up_in_time() {
    let stage = Stage::new(Some(Duration::MAX), true);
    stage.platform.will(&[Answer::TakeAndHang]);
    stage.outbox.put(claimed(1, "here"));
    let running = tokio::spawn(stage.run_until(CancellationToken::new()));
    stage.clock.somebody_sleeps_until(stage.clock.now() + 30 * SECOND).await;
    stage.clock.advance(30 * SECOND).await;
    let Some(PostEnd::Deferred { reason, uncertain, .. }) = stage.outbox.end(1) else { panic!("deferred") };
    assert_eq!((reason.as_str(), uncertain), ("no answer within 30s", true));
    stage.clock.advance(2 * SECOND).await;
    assert!(matches!(stage.outbox.end(1), Some(PostEnd::Posted(Receipt { recovered: true, .. }))));
    assert_eq!(stage.platform.count(), 1);
    running.abort();
}

#[tokio::test]
async fn a_node_under_another_name_settles_what_it_sent_under_the_old_one_and_claims_under_the_new() {
    let stage = Stage::new(Some(Duration::MAX), true);
    stage.platform.will(&[Answer::TakeAndHang]);
    stage.outbox.put(claimed(1, "here"));
    let running = tokio::spawn(stage.run_until(CancellationToken::new()));
    stage.clock.somebody_sleeps_until(stage.clock.now() + 30 * SECOND).await;
    stage.node.take_another();
    stage.clock.advance(30 * SECOND).await;
    let Some(PostEnd::Deferred { reason, .. }) = stage.outbox.end(1) else { panic!("deferred") };
    assert_eq!(reason, "no answer within 30s", "it was settled");
    stage.clock.advance(2 * SECOND).await;
    assert!(matches!(stage.outbox.end(1), Some(PostEnd::Posted(_))));
    let claimed_by = stage.outbox.rows()[0].node.clone();
    assert_eq!(claimed_by, Some(NodeId::new("node+1").expect("a name")));
    running.abort();
}

#[tokio::test]
async fn a_post_that_failed_and_paused_its_task_is_told_at_once() {
    let stage = Stage::new(Some(Duration::MAX), true);
    stage.platform.will(&[Answer::Take, Answer::Refuse]);
    stage.outbox.put(claimed(1, "here"));
    stage.run_once().await;
    assert_eq!(stage.signals.changed.wait().now_or_never(), None, "nothing was paused");
    stage.outbox.put(claimed(2, "here"));
    assert_eq!(stage.run_once().await.failed, 1);
    assert_eq!(stage.signals.changed.wait().now_or_never().map(|news| news.anything), Some(true));
}

#[tokio::test]
async fn a_new_post_is_sent_when_the_deliverer_is_woken_and_by_the_poll_if_nobody_does() {
    let stage = Stage::new(None, false);
    let stop = CancellationToken::new();
    let running = tokio::spawn(stage.run_until(stop.clone()));
    stage.clock.somebody_sleeps_until(stage.clock.now() + 5 * SECOND).await;
    stage.outbox.put(claimed(1, "here"));
    stage.signals.posts_waiting.notify_one();
    stage.clock.advance(Duration::ZERO).await;
    assert_eq!(stage.platform.requests(), ["post 1"]);
    stage.outbox.put(claimed(2, "here"));
    stage.clock.advance(5 * SECOND).await;
    assert_eq!(stage.platform.requests(), ["post 1", "post 2"]);
    stop.cancel();
    running.await.expect("it ends");
}

#[tokio::test]
async fn a_deferred_post_is_sent_at_its_time_not_at_the_next_poll() {
    let stage = Stage::new(None, false);
    stage.outbox.put(claimed(1, "here"));
    let due = stage.clock.now() + TimeDelta::milliseconds(1234);
    stage.outbox.rows()[0].due = due;
    let running = tokio::spawn(stage.run_until(CancellationToken::new()));
    stage.clock.somebody_sleeps_until(due).await;
    stage.clock.advance(2 * SECOND).await;
    let Some(PostEnd::Posted(receipt)) = stage.outbox.end(1) else { panic!("posted") };
    assert_eq!(receipt.posted_at, due);
    running.abort();
}

#[tokio::test]
async fn a_stop_lets_what_is_being_sent_end_and_settles_it() {
    let stage = Stage::new(Some(Duration::MAX), true);
    stage.platform.will(&[Answer::TakeAndHang]);
    stage.outbox.put(claimed(1, "here"));
    stage.outbox.put(claimed(2, "here"));
    let stop = CancellationToken::new();
    let running = tokio::spawn(stage.run_until(stop.clone()));
    stage.clock.somebody_sleeps_until(stage.clock.now() + 30 * SECOND).await;
    stop.cancel();
    stage.outbox.next_settle_fails(LedgerError::Unavailable("gone".into()));
    stage.clock.advance(60 * SECOND).await;
    running.await.expect("it ends");
    assert!(matches!(stage.outbox.end(1), Some(PostEnd::Deferred { uncertain: true, .. })));
    assert_eq!(stage.outbox.end(2), None, "nothing new was started");
    assert_eq!(stage.platform.requests(), ["post 1"]);
}

#[tokio::test]
async fn a_stop_has_an_end_though_the_store_is_away_and_tells_whose_posts_it_does_not_know() {
    let stage = Stage::new(None, false);
    stage.outbox.put(claimed(1, "here"));
    let (stop, shutdown) = (CancellationToken::new(), Arc::new(Shutdown::hasty()));
    // The clock that says when to try again stands still: the store stays away.
    stage.outbox.next_settle_fails(LedgerError::Unavailable("gone".into()));
    let deliverer = stage.deliverer(DeliverySettings::default());
    let running = tokio::spawn(deliverer.run(stop.clone(), shutdown.clone()));
    stage.clock.sleepers_are(|times| !times.is_empty()).await;
    shutdown.nothing_runs();
    stop.cancel();
    stage.outbox.next_settle_fails(LedgerError::Unavailable("still gone".into()));
    running.await.expect("it ends");
    assert_eq!(shutdown.unrecorded(), BTreeSet::from([claimed(1, "here").task_id]));
    assert_eq!(stage.platform.requests(), ["post 1"]);
}

#[tokio::test]
async fn a_store_that_is_away_for_a_moment_costs_nothing() {
    let stage = Stage::new(None, false);
    stage.outbox.put(claimed(1, "here"));
    stage.outbox.next_settle_fails(LedgerError::Unavailable("gone".into()));
    stage.outbox.next_settle_fails(LedgerError::Unavailable("still gone".into()));
    let running = tokio::spawn(stage.run_until(CancellationToken::new()));
    stage.clock.sleepers_are(|times| !times.is_empty()).await;
    stage.clock.advance(20 * SECOND).await;
    assert!(matches!(stage.outbox.end(1), Some(PostEnd::Posted(_))));
    assert_eq!(stage.platform.requests(), ["post 1"]);
    running.abort();
}

#[tokio::test]
async fn one_end_that_the_store_refuses_does_not_take_the_others_with_it() {
    let stage = Stage::new(None, false);
    stage.outbox.put(claimed(1, "here"));
    stage.outbox.put(claimed(2, "there"));
    for _ in 0..2 {
        stage.outbox.next_settle_fails(LedgerError::Refused("too long".into()));
    }
    assert_eq!(stage.run_once().await, Report { posted: 1, ..Report::default() });
    assert_eq!(stage.platform.requests(), ["post 1", "post 2"]);
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_writes_nothing_and_its_post_appears_once() {
    let stage = Stage::new(Some(Duration::MAX), true);
    stage.outbox.put(claimed(1, "here"));
    let node = NodeId::new("dead").expect("a name");
    let lost = stage.outbox.claim_posts(&node, 1, 60 * SECOND, &[]).await.expect("claimed").remove(0);
    stage.platform.take(&lost.key);
    stage.clock.set(lost.lease_until);
    assert_eq!(stage.run_once().await, Report { posted: 1, ..Report::default() });
    assert_eq!(stage.platform.count(), 1);
    let late = SettledPost {
        id: lost.id,
        fence: lost.fence,
        end: PostEnd::Failed { error: "late".into() },
        exchanges: Vec::new(),
    };
    assert_eq!(stage.outbox.settle_posts(&node, &[late]).await.expect("asked").lost, [lost.id]);
    assert!(matches!(stage.outbox.end(1), Some(PostEnd::Posted(Receipt { recovered: true, .. }))));
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let answer = prop_oneof![
        Just(Answer::Take),
        Just(Answer::TakeAndFallSilent),
        Just(Answer::FallSilent),
        Just(Answer::Busy),
        (1..2_000u64).prop_map(Answer::BusyFor),
        Just(Answer::Refuse),
        Just(Answer::Close),
        Just(Answer::Panic),
    ];
    proptest::collection::vec(answer, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    /// Whatever the platform answers, and whatever it can do: never two messages, and `posted` exactly where there is
    /// one that somebody was told of.
    #[test]
    fn a_post_appears_once_whatever_is_answered(
        answers in answers(), window in proptest::option::of(0..300u64), look_up: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let stage = Stage::new(window.map(Duration::from_secs), look_up);
            stage.platform.will(&answers);
            stage.outbox.put(claimed(1, "here"));
            stage.run_to_the_end().await;
            let count = stage.platform.count();
            prop_assert!(count <= 1, "{} messages", count);
            match stage.outbox.end(1).expect("it ended") {
                PostEnd::Posted(receipt) => prop_assert_eq!((receipt.message_id.as_str(), count), ("message-1", 1)),
                PostEnd::Failed { .. } => prop_assert_eq!(count, 0),
                PostEnd::NeedsReview { .. } => prop_assert!(!look_up),
                PostEnd::Followed { .. } | PostEnd::Deferred { .. } | PostEnd::Skipped { .. } => {
                    prop_assert!(false, "not settled");
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn what_was_asked_and_answered_is_kept_with_each_attempt() {
    let stage = Stage::new(None, true);
    stage.outbox.put(claimed(1, "somewhere"));
    stage.platform.will(&[Answer::FallSilent, Answer::Busy, Answer::Panic]);
    stage.run_to_the_end().await;
    let kept: Vec<_> = stage
        .outbox
        .exchanges(1)
        .into_iter()
        .map(|exchange| (exchange.asked, exchange.answer, exchange.text, exchange.message_id))
        .collect();
    let post = |answer, text: &str| (Asked::Post, Some(answer), Some(text.to_owned()), None);
    let absent = || (Asked::LookUp, Some(PlatformAnswer::Absent), None, None);
    assert_eq!(
        kept,
        [
            post(PlatformAnswer::Unknown, "connection reset"),
            absent(),
            post(PlatformAnswer::NotSent, "429"),
            // The attempt that broke off.
            (Asked::Post, None, None, None),
            absent(),
            (Asked::Post, Some(PlatformAnswer::Taken), None, Some("message-1".into())),
        ]
    );
}

#[tokio::test]
async fn what_is_not_valid_was_not_asked() {
    let stage = Stage::new(None, false);
    stage.outbox.put(ClaimedPost { content: PostContent::text(""), ..claimed(1, "somewhere") });
    stage.run_to_the_end().await;
    assert!(matches!(stage.outbox.end(1), Some(PostEnd::Failed { .. })));
    assert_eq!(stage.outbox.exchanges(1), []);
}

#[tokio::test]
async fn a_destination_that_is_closed_says_so_in_its_posts_and_once_in_the_log() {
    let stage = Stage::new(None, false);
    stage.outbox.put(claimed(1, "somewhere"));
    stage.platform.will(&[Answer::Close]);
    stage.run_once().await;
    let Some(end @ PostEnd::Deferred { .. }) = stage.outbox.end(1) else { panic!("it waits") };
    let PostEnd::Deferred { reason, .. } = &end else { unreachable!() };
    assert_eq!(reason, "the destination is paused: 403");

    let ended = |id, target, end: &PostEnd, exchanges: Vec<Exchange>| Ended {
        node: stage.node.name(),
        post: claimed(id, target),
        end: end.clone(),
        exchanges,
        started_at: stage.clock.now(),
        ended_at: stage.clock.now(),
    };
    let closed = stage.outbox.exchanges(1);
    let receipt = Receipt {
        message_id: "1".into(),
        posted_at: stage.clock.now(),
        link: None,
        recovered: false,
        to_follow: Vec::new(),
        missing: Vec::new(),
    };
    let posted = PostEnd::Posted(receipt);
    let mut paused = Paused::default();
    let mut note = |ended: Ended| paused.note(&ended);
    assert_eq!(note(ended(2, "open", &end, Vec::new())), Pause::AsBefore, "it waits for something else");
    assert_eq!(note(ended(1, "somewhere", &end, closed.clone())), Pause::Begins);
    assert_eq!(note(ended(1, "somewhere", &end, closed.clone())), Pause::AsBefore, "said once");
    assert_eq!(note(ended(3, "elsewhere", &end, closed.clone())), Pause::Begins);
    assert_eq!(note(ended(4, "open", &posted, Vec::new())), Pause::AsBefore);
    assert_eq!(note(ended(1, "somewhere", &posted, Vec::new())), Pause::Ends);
    assert_eq!(note(ended(5, "somewhere", &end, closed.clone())), Pause::Begins, "a new pause");
    let deferred = |counts| PostEnd::Deferred {
        until: stage.clock.now(),
        reason: "why".into(),
        uncertain: false,
        holds: true,
        counts,
    };
    assert_eq!(
        note(ended(6, "busy", &deferred(false), closed.clone())),
        Pause::AsBefore,
        "it asked for a wait"
    );
    assert_eq!(
        note(ended(6, "full", &deferred(true), closed.clone())),
        Pause::Begins,
        "whatever the trouble is"
    );
    assert_eq!(note(ended(6, "full", &deferred(true), closed)), Pause::AsBefore);
    assert_eq!(note(ended(6, "full", &posted, Vec::new())), Pause::Ends);
}

#[tokio::test]
async fn for_a_token_that_another_node_sends_for_nothing_is_sent_until_that_one_is_gone() {
    let stage = Stage::new(None, false);
    stage.platform.is_shared.store(true, std::sync::atomic::Ordering::Relaxed);
    let other = NodeId::new("other").expect("a name");
    let until = stage.clock.now() + EGRESS_LEASE;
    *stage.outbox.sender.lock().expect("not poisoned") = Some((other, until));
    stage.outbox.put(claimed(1, "somewhere"));
    assert_eq!(stage.run_once().await, Report::default());
    stage.clock.set(until + SECOND);
    assert_eq!(stage.run_once().await.posted, 1);
}

#[tokio::test]
async fn a_node_under_another_name_has_to_take_what_it_sends_for_again() {
    let stage = Stage::new(None, false);
    stage.platform.is_shared.store(true, std::sync::atomic::Ordering::Relaxed);
    let deliverer = stage.deliverer(DeliverySettings::default());
    let mut work = Work::new(stage.clock.now());
    let others = async |work: &mut Work| {
        deliverer.sent_by_others(work, stage.clock.now()).await.expect("the store is there")
    };
    assert_eq!(others(&mut work).await, Vec::<String>::new());
    stage.node.take_another();
    assert_eq!(others(&mut work).await, ["fake"], "its old name has it");
    stage.clock.set(stage.clock.now() + EGRESS_LEASE + SECOND);
    assert_eq!(others(&mut work).await, Vec::<String>::new());
    // It says so again in time.
    stage.clock.set(stage.clock.now() + EGRESS_LEASE / 3);
    assert_eq!(others(&mut work).await, Vec::<String>::new());
    let (_, until) = stage.outbox.sender.lock().expect("not poisoned").clone().expect("a sender");
    assert_eq!(until, stage.clock.now() + EGRESS_LEASE);
}

#[tokio::test]
async fn what_follows_a_post_is_tried_again_or_given_up_as_the_platform_answers() {
    use Answer::{Busy, BusyFor, Close, FallSilent, Panic, Refuse, Removed, Take};
    let seconds = |seconds| Duration::from_secs(seconds);
    let settings = DeliverySettings::default();
    for (answers, to_follow, missing, wait) in [
        (vec![Take, Take], vec![], vec![], None),
        (vec![Refuse, Take], vec![], vec!["thread: blocked"], None),
        (vec![Removed, Refuse], vec![], vec!["thread: somebody deleted it", "crosspost: blocked"], None),
        (vec![Take, BusyFor(1163)], vec!["crosspost"], vec![], Some((seconds(1163), false))),
        (vec![BusyFor(50), BusyFor(40)], vec!["thread", "crosspost"], vec![], Some((seconds(40), false))),
        (
            vec![Refuse, Busy],
            vec!["crosspost"],
            vec!["thread: blocked"],
            Some((settings.retry.initial, true)),
        ),
        (vec![FallSilent, Take], vec!["thread"], vec![], Some((settings.retry.initial, true))),
        (vec![Panic, Take], vec!["thread"], vec![], Some((settings.retry.initial, true))),
        (vec![Take, Close], vec!["crosspost"], vec![], Some((settings.closed.initial, true))),
    ] {
        let stage = Stage::new(None, false);
        let receipt = Receipt {
            to_follow: vec!["thread".into(), "crosspost".into()],
            ..stage.platform.take(&IdempotencyKey::stored("k".into()))
        };
        stage.outbox.put(ClaimedPost { posted: Some(receipt.clone()), ..claimed(1, "here") });
        stage.platform.will(&answers);
        let report = stage.run_once().await;
        let Some(PostEnd::Followed { receipt: after, again }) = stage.outbox.end(1) else {
            panic!("{report:?}")
        };
        assert_eq!(
            (&after.to_follow, &after.missing),
            (
                &to_follow.iter().map(ToString::to_string).collect(),
                &missing.iter().map(ToString::to_string).collect(),
            ),
            "{answers:?}"
        );
        let expected =
            Report { deferred: wait.is_some().into(), followed: wait.is_none().into(), ..Report::default() };
        assert_eq!(report, expected);
        assert_eq!(again.is_some(), wait.is_some());
        if let (Some(again), Some((most, counts))) = (again, wait) {
            let waits = (again.at - stage.clock.now()).to_std().expect("later");
            assert!(waits <= most && waits * 2 >= most, "{answers:?}: {waits:?}");
            assert_eq!(again.counts, counts, "{answers:?}");
            assert!(again.reason.contains("follows later: "), "{}", again.reason);
        }
        assert_eq!(stage.platform.count(), 1, "no second message");
        let asked: Vec<_> = stage.outbox.exchanges(1).iter().map(|exchange| exchange.asked).collect();
        assert_eq!(asked, [Asked::FollowUp, Asked::FollowUp]);
    }
}

#[tokio::test]
async fn while_a_platform_is_held_nothing_goes_there() {
    let stage = Stage::new(None, false);
    let holds = [stage.signals.hold("fake"), stage.signals.hold("fake"), stage.signals.hold("other")];
    stage.outbox.put(claimed(1, "somewhere"));
    let [one, two, _other] = holds;
    assert_eq!(stage.run_once().await, Report::default());
    drop(one);
    assert_eq!(stage.run_once().await, Report::default(), "held twice");
    drop(two);
    assert_eq!(stage.run_once().await.posted, 1);
}

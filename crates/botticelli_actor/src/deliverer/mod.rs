//! Takes posts from the outbox to their platforms, so that each appears once.
//!
//! The store commits an attempt before [`Outbox::claim_posts`] returns it, so that whatever happens afterwards is known
//! to have possibly happened. Between that and [`Outbox::settle_posts`] stands one request, and `decision` says what
//! follows from its answer, or from its having none.

mod decision;
mod follow_up;
mod held;
#[cfg(test)]
mod tests;

use crate::engine::{CurrentNode, Shutdown};
use crate::metrics::DeliveryMetrics;
use crate::platforms::Platforms;
use crate::traces::Traces;
use botticelli_database::Wakeups;
use botticelli_database::fail_points::{Point, pass};
use botticelli_server::clock::Clock;
use botticelli_server::ids::{NodeId, PostId};
use botticelli_server::ledger::LedgerError;
use botticelli_server::outbox::{
    Asked, ClaimedPost, EGRESS_LEASE, EgressScope, Exchange, Outbox, PostEnd, PostsSettled, SettledPost,
};
use botticelli_server::outcome::panic_message;
use botticelli_server::post::{Destination, Doubt, LookUp, Platform, PostError, Receipt};
use botticelli_server::task::Backoff;
use chrono::{DateTime, Utc};
pub(crate) use decision::OWN_LIMITS;
use decision::{Action, Case};
use futures::FutureExt;
pub use held::{Held, Hold};
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error, info, warn};

/// A post that is due, but held up by another one of its destination, is looked at again after this long. One of our
/// own that ends is noticed at once; this is for those of other nodes, and for clocks that differ a little.
const HELD_UP: Duration = Duration::from_millis(250);

/// At a stop, with a store that can't be reached, ends of attempts are tried again after no more than this.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);

/// At a stop, requests that are under way have at least this to be answered.
const A_MOMENT: Duration = Duration::from_secs(1);

/// How posts are delivered.
#[derive(Debug, Clone)]
pub struct DeliverySettings {
    /// So many destinations are served at a time.
    pub concurrency: NonZeroUsize,
    /// How long a post is this node's. Longer than `request_timeout`, or it cuts requests short.
    pub lease: Duration,
    /// A request without an answer for so long has an unknown outcome.
    pub request_timeout: Duration,
    /// For so long after the first request the same key is trusted to prevent a second message; never longer than the
    /// platform says.
    pub safe_window: Duration,
    /// How often the outbox is looked at even if nothing says that there is something, and posts of dead nodes are
    /// taken over.
    pub poll_interval: Duration,
    /// The wait after a request that had no effect.
    pub retry: Backoff,
    /// The same while a post may be there and its key still works.
    pub in_doubt: Backoff,
    /// The wait while a destination takes no posts.
    pub closed: Backoff,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        let backoff =
            |initial, max| Backoff { initial: Duration::from_secs(initial), max: Duration::from_secs(max) };
        Self {
            concurrency: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
            lease: Duration::from_secs(60),
            request_timeout: Duration::from_secs(30),
            safe_window: Duration::from_secs(120),
            poll_interval: Duration::from_secs(5),
            retry: backoff(5, 15 * 60),
            in_doubt: backoff(1, 30),
            closed: backoff(60, 60 * 60),
        }
    }
}

/// How many attempts ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// There, with a receipt.
    pub posted: usize,
    /// What was to follow a post that was there: done, or done without.
    pub followed: usize,
    /// Given up.
    pub failed: usize,
    /// Waiting for another attempt, be it for what is to follow them.
    pub deferred: usize,
    /// Left out.
    pub skipped: usize,
    /// Waiting for a person.
    pub needs_review: usize,
    /// Not stored, because another node had taken the post over.
    pub lease_lost: usize,
}

/// The background loop that empties the outbox.
pub struct Deliverer {
    outbox: Arc<dyn Outbox>,
    platforms: Platforms,
    scopes: Vec<EgressScope>,
    clock: Arc<dyn Clock>,
    node: Arc<CurrentNode>,
    settings: Arc<DeliverySettings>,
    signals: DeliverySignals,
    metrics: Arc<DeliveryMetrics>,
    traces: Traces,
}

/// What a deliverer hears, and what it tells.
#[derive(Clone, Default)]
pub struct DeliverySignals {
    /// Whoever puts posts into the outbox, or changes what is due, calls `notify_one`.
    pub posts_waiting: Arc<Notify>,
    /// Told when a post that failed has paused its task.
    pub changed: Wakeups,
    /// See [`DeliverySignals::hold`].
    pub held: Held,
}

impl Deliverer {
    /// A deliverer for `node`. `clock` must follow the store's time: leases and doubts are measured by it.
    pub fn new(
        outbox: Arc<dyn Outbox>,
        platforms: Platforms,
        clock: Arc<dyn Clock>,
        node: Arc<CurrentNode>,
        settings: DeliverySettings,
        signals: DeliverySignals,
    ) -> Self {
        let scopes = platforms.egress_scopes();
        Self {
            outbox,
            platforms,
            scopes,
            clock,
            node,
            settings: Arc::new(settings),
            signals,
            metrics: Arc::default(),
            traces: Traces::default(),
        }
    }

    /// One that makes spans of its attempts.
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<DeliveryMetrics> {
        self.metrics.clone()
    }

    /// Delivers until `stop`; then claims nothing more, and returns when what is being sent is settled, or when the
    /// time for that is over: then leases do the rest, and `shutdown` knows whose ends of attempts are lost.
    pub async fn run(self, stop: CancellationToken, shutdown: Arc<Shutdown>) {
        let mut work = Work::new(self.clock.now());
        while !stop.is_cancelled() {
            // A turn may have claimed posts without our knowing yet, so it is cut short only by the end of it all.
            let turn = tokio::select! {
                turn = self.turn(&mut work) => turn,
                () = async { stop.cancelled().await; sleep_until(shutdown.until()).await } => break,
            };
            let look_at = match turn {
                Ok(look_at) => look_at,
                Err(error) => self.clock.now() + work.trouble(&error, &self.settings),
            };
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = work.sending.join_next() => work.take(ended),
                () = self.signals.posts_waiting.notified() => {}
                () = self.clock.sleep_until(look_at) => {}
            }
        }
        self.finish(work, &shutdown).await;
    }

    /// Delivers until nothing is due.
    ///
    /// # Errors
    /// When the store can't do its part. Requests under way are then cut off; their posts are taken up again, as
    /// uncertain, when the lease is over.
    pub async fn run_once(&self) -> Result<Report, LedgerError> {
        let mut work = Work::new(self.clock.now());
        loop {
            self.turn(&mut work).await?;
            match work.sending.join_next().await {
                Some(ended) => work.take(ended),
                None => return Ok(work.report),
            }
        }
    }

    async fn finish(&self, mut work: Work, shutdown: &Shutdown) {
        if !work.sending.is_empty() {
            // A moment even where there is no grace period: most answers are on their way.
            let a_moment = (Instant::now() + A_MOMENT).min(shutdown.until());
            let answers_until = shutdown.running_until().max(a_moment);
            let in_time = timeout_at(answers_until, self.wait_for_answers(&mut work)).await.is_ok();
            work.take_all_that_ended();
            if !in_time && !work.sending.is_empty() {
                let posts = work.sending.len();
                warn!(
                    posts,
                    "posts are still being sent: they are taken up again, as uncertain, when their lease is over"
                );
                work.sending.abort_all();
            }
            shutdown.nothing_runs();
        }
        if timeout_at(shutdown.until(), self.settle_the_rest(&mut work)).await.is_err() {
            for Ended { post, .. } in &work.ended {
                shutdown.lost(&post.task_id);
                error!(
                    post.id = %post.id, task.id = %post.task_id, destination = %post.destination,
                    "what became of the post could not be recorded in time: it is taken up again, as uncertain, when \
                     its lease is over"
                );
            }
        }
    }

    async fn wait_for_answers(&self, work: &mut Work) {
        while let Some(ended) = work.sending.join_next().await {
            work.take(ended);
            work.take_all_that_ended();
            if let Err(error) = self.settle(work).await {
                work.trouble(&error, &self.settings);
            }
        }
    }

    async fn settle_the_rest(&self, work: &mut Work) {
        while let Err(error) = self.settle(work).await {
            let wait = work.trouble(&error, &self.settings).min(SETTLE_AGAIN);
            self.clock.sleep_until(self.clock.now() + wait).await;
        }
    }

    /// Settles what has ended, starts what is due, and says when to look again if nothing happens before.
    async fn turn(&self, work: &mut Work) -> Result<DateTime<Utc>, LedgerError> {
        work.take_all_that_ended();
        self.settle(work).await?;
        let now = self.clock.now();
        if now >= work.rescue_at {
            self.rescue().await?;
            work.rescue_at = now + self.settings.poll_interval;
        }
        let mut without = self.sent_by_others(work, now).await?;
        without.extend(self.signals.held.names().iter().cloned());
        let look_at = self.claim(work, now, &without).await?;
        work.troubles = 0;
        let keep = if self.scopes.is_empty() { self.settings.poll_interval } else { EGRESS_LEASE / 3 };
        Ok(look_at.min(now + self.settings.poll_interval.min(keep)))
    }

    /// The platforms for whose tokens another node sends. Where this one sends for all, it says so again when a third of
    /// the lease is over; else it asks each time, because the other may have gone.
    async fn sent_by_others(&self, work: &mut Work, now: DateTime<Utc>) -> Result<Vec<String>, LedgerError> {
        let node = self.node.name();
        let holds = |(by, until): &(NodeId, DateTime<Utc>)| *by == node && now < *until;
        if self.scopes.is_empty() || work.sends_for_all.as_ref().is_some_and(holds) {
            return Ok(Vec::new());
        }
        let others = self.outbox.take_egress(&node, &self.scopes, EGRESS_LEASE).await?;
        if work.sent_by_others.as_ref() != Some(&others) {
            info!(platforms = ?others, "platforms for which another node sends, with the same token");
            work.sent_by_others = Some(others.clone());
        }
        work.sends_for_all = others.is_empty().then(|| (node, now + EGRESS_LEASE / 3));
        Ok(others)
    }

    async fn rescue(&self) -> Result<(), LedgerError> {
        let rescued = self.outbox.rescue_posts().await?;
        if rescued > 0 {
            info!(posts = rescued, "took over posts whose lease was over");
        }
        Ok(())
    }

    /// Starts as many as there is room for.
    async fn claim(
        &self,
        work: &mut Work,
        now: DateTime<Utc>,
        without: &[String],
    ) -> Result<DateTime<Utc>, LedgerError> {
        let room = self.settings.concurrency.get().saturating_sub(work.sending.len());
        let idle_until = now + self.settings.poll_interval;
        if room == 0 {
            return Ok(idle_until);
        }
        let node = self.node.name();
        let claimed = self.outbox.claim_posts(&node, room, self.settings.lease, without).await?;
        let is_full = claimed.len() >= room;
        for post in claimed {
            let (courier, node, log) = (self.courier(&post), node.clone(), self.traces.log_delivery(&post));
            let attempt = async move {
                let (clock, started_at) = (courier.clock.clone(), courier.clock.now());
                let (end, exchanges) = courier.deliver(&post).await;
                Ended { node, post, end, exchanges, started_at, ended_at: clock.now() }
            };
            work.sending.spawn(attempt.instrument(log));
        }
        if is_full {
            return Ok(idle_until);
        }
        Ok(match self.outbox.next_post_due(without).await? {
            None => idle_until,
            Some(due) if due > now => due,
            Some(_) => now + HELD_UP,
        })
    }

    fn courier(&self, post: &ClaimedPost) -> Courier {
        Courier {
            platform: self.platforms.get(&post.destination.platform).cloned(),
            clock: self.clock.clone(),
            settings: self.settings.clone(),
        }
    }

    /// Stores how attempts ended, as many as there are at once. What can't be stored now stays in `work`.
    async fn settle(&self, work: &mut Work) -> Result<(), LedgerError> {
        while let Some(node) = work.ended.first().map(|ended| ended.node.clone()) {
            work.ended.sort_by_key(|ended| ended.node != node);
            let of_this_name = work.ended.iter().take_while(|ended| ended.node == node).count();
            match self.store(&work.ended[..of_this_name]).await {
                Ok(lost) => {
                    let told: Vec<Ended> = work.ended.drain(..of_this_name).collect();
                    for ended in told {
                        let log = self.traces.log_delivery(&ended.post);
                        log.in_scope(|| work.tell(&ended, lost.contains(&ended.post.id)));
                    }
                }
                Err(LedgerError::Refused(_) | LedgerError::Corrupt(_)) => {
                    self.settle_one_by_one(work).await?
                }
                Err(error @ (LedgerError::Unavailable(_) | LedgerError::NotWritable(_))) => {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// One end that the store refuses must not take the others with it.
    async fn settle_one_by_one(&self, work: &mut Work) -> Result<(), LedgerError> {
        while let Some(ended) = work.ended.last() {
            let stored = self.store(std::slice::from_ref(ended)).await;
            if let Err(error @ (LedgerError::Unavailable(_) | LedgerError::NotWritable(_))) = stored {
                return Err(error);
            }
            // Only now, so that one whose storing is cut short is known not to be stored.
            let Some(ended) = work.ended.pop() else { break };
            let _lines_of_the_attempt = self.traces.log_delivery(&ended.post).entered();
            match stored {
                Ok(lost) => work.tell(&ended, !lost.is_empty()),
                Err(error) => {
                    error!(post.id = %ended.post.id, "the end of an attempt can't be stored: {error}");
                }
            }
        }
        Ok(())
    }

    /// Stores ends of attempts that were claimed under one name. Returns those whose lease was lost.
    async fn store(&self, ended: &[Ended]) -> Result<Vec<PostId>, LedgerError> {
        let Some(Ended { node, .. }) = ended.first() else { return Ok(Vec::new()) };
        let settled: Vec<SettledPost> = ended.iter().map(Ended::settled).collect();
        let PostsSettled { lost, paused } = self.outbox.settle_posts(node, &settled).await?;
        for (task, failures) in &paused {
            warn!(task.id = %task, "paused after {failures} failures");
        }
        if !paused.is_empty() {
            // What of these tasks was claimed ahead is to be taken back.
            self.signals.changed.changed();
        }
        for ended in ended.iter().filter(|ended| !lost.contains(&ended.post.id)) {
            let Ended { post, end, exchanges, started_at, ended_at, .. } = ended;
            let platform = &post.destination.platform;
            let known = self.platforms.get(platform).map_or("unknown", |_| platform);
            self.metrics.settled(post, known, end, self.clock.now());
            self.traces.delivery(post, (end, exchanges), *started_at, *ended_at);
        }
        Ok(lost)
    }
}

/// What is under way.
struct Work {
    sending: JoinSet<Ended>,
    ended: Vec<Ended>,
    rescue_at: DateTime<Utc>,
    troubles: u32,
    report: Report,
    paused: Paused,
    /// Under which name this node sends for all its scopes, and until when it need not say so again.
    sends_for_all: Option<(NodeId, DateTime<Utc>)>,
    /// As it was said last.
    sent_by_others: Option<Vec<String>>,
}

/// An attempt that is over.
struct Ended {
    /// Who claimed it.
    node: NodeId,
    post: ClaimedPost,
    end: PostEnd,
    exchanges: Vec<Exchange>,
    started_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
}

impl Ended {
    fn settled(&self) -> SettledPost {
        SettledPost {
            id: self.post.id,
            fence: self.post.fence,
            end: self.end.clone(),
            exchanges: self.exchanges.clone(),
        }
    }
}

impl Work {
    fn new(now: DateTime<Utc>) -> Self {
        Self {
            sending: JoinSet::new(),
            ended: Vec::new(),
            rescue_at: now,
            troubles: 0,
            report: Report::default(),
            paused: Paused::default(),
            sends_for_all: None,
            sent_by_others: None,
        }
    }

    /// An end that is stored, or was lost.
    fn tell(&mut self, ended: &Ended, lease_lost: bool) {
        let pause = if lease_lost { Pause::AsBefore } else { self.paused.note(ended) };
        self.report.count(ended, lease_lost, pause);
    }

    fn take_all_that_ended(&mut self) {
        while let Some(ended) = self.sending.try_join_next() {
            self.take(ended);
        }
    }

    fn take(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok(ended) => self.ended.push(ended),
            // Its post is uncertain, and is taken up again when its lease is over.
            Err(error) => error!("an attempt at a post broke off: {error}"),
        }
    }

    /// Notes that the store failed, and says how long to leave it alone.
    fn trouble(&mut self, error: &LedgerError, settings: &DeliverySettings) -> Duration {
        self.troubles = self.troubles.saturating_add(1);
        let wait =
            settings.in_doubt.initial.saturating_mul(1 << self.troubles.min(8)).min(settings.poll_interval);
        if self.troubles == 1 {
            warn!("deliveries wait for the store: {error}");
        } else {
            debug!("deliveries wait another {wait:?} for the store: {error}");
        }
        wait
    }
}

impl Report {
    /// The one line that the log has about an attempt. Never the text of a post.
    fn count(&mut self, ended: &Ended, lease_lost: bool, pause: Pause) {
        let Ended { post, end, .. } = ended;
        let (id, task, to) = (post.id, &post.task_id, &post.destination);
        if lease_lost {
            self.lease_lost += 1;
            warn!(post.id = %id, task.id = %task, destination = %to, "lease lost: another node settles this post");
            return;
        }
        match end {
            PostEnd::Posted(Receipt { message_id, recovered, .. }) => {
                self.posted += 1;
                if pause == Pause::Ends {
                    info!(destination = %to, "the destination takes posts again");
                }
                info!(post.id = %id, task.id = %task, destination = %to, message_id, recovered, "posted");
            }
            PostEnd::Followed { again: Some(again), .. } => {
                self.deferred += 1;
                let (until, reason) = (again.at, &again.reason);
                info!(post.id = %id, task.id = %task, destination = %to, %until, "posted, and {reason}");
            }
            PostEnd::Followed { receipt, again: None } => {
                self.followed += 1;
                if receipt.missing.is_empty() {
                    info!(post.id = %id, task.id = %task, destination = %to, "all that was to follow is done");
                }
                for lacking in &receipt.missing {
                    warn!(
                        post.id = %id, task.id = %task, destination = %to,
                        "posted without its {lacking}. When that is put right, `actor-server posts retry {id}` tries \
                         it again"
                    );
                }
            }
            PostEnd::Failed { error } => {
                self.failed += 1;
                error!(post.id = %id, task.id = %task, destination = %to, "not posted: {error}");
            }
            PostEnd::Deferred { until, reason, uncertain, .. } => {
                self.deferred += 1;
                if pause == Pause::Begins {
                    warn!(
                        post.id = %id, task.id = %task, destination = %to, %until, uncertain,
                        "deferred: {reason}. Posts to this destination wait, and it is asked again now and then, which \
                         is not said each time; when it is put right, `actor-server posts retry {id}` asks at once"
                    );
                    return;
                }
                info!(post.id = %id, task.id = %task, destination = %to, %until, uncertain, "deferred: {reason}");
            }
            PostEnd::Skipped { reason } => {
                self.skipped += 1;
                info!(post.id = %id, task.id = %task, destination = %to, "skipped: {}", reason.as_str());
            }
            PostEnd::NeedsReview { reason } => {
                self.needs_review += 1;
                error!(post.id = %id, task.id = %task, destination = %to, "needs review: {reason}");
            }
        }
    }
}

/// The destinations that took no posts when they were last asked: that is said once.
#[derive(Default)]
struct Paused(HashSet<Destination>);

/// What an end means for its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    Begins,
    AsBefore,
    Ends,
}

impl Paused {
    fn note(&mut self, ended: &Ended) -> Pause {
        let was_asked = !ended.exchanges.is_empty();
        let destination = &ended.post.destination;
        match &ended.end {
            // A wait that the platform asks for, or that the actor's limits do, is no trouble.
            PostEnd::Deferred { holds: true, counts: true, .. } if was_asked => {
                if self.0.insert(destination.clone()) { Pause::Begins } else { Pause::AsBefore }
            }
            PostEnd::Posted(_) if self.0.remove(destination) => Pause::Ends,
            PostEnd::Posted(_)
            | PostEnd::Followed { .. }
            | PostEnd::Failed { .. }
            | PostEnd::Deferred { .. }
            | PostEnd::Skipped { .. }
            | PostEnd::NeedsReview { .. } => Pause::AsBefore,
        }
    }
}

/// Carries one post.
struct Courier {
    platform: Option<Arc<Platform>>,
    clock: Arc<dyn Clock>,
    settings: Arc<DeliverySettings>,
}

impl Courier {
    async fn deliver(self, post: &ClaimedPost) -> (PostEnd, Vec<Exchange>) {
        match (&self.platform, &post.posted) {
            (Some(platform), None) => self.attempt(post, &**platform).await,
            (Some(platform), Some(posted)) => {
                let capabilities = platform.capabilities(&post.content, &post.destination);
                let mut case = Case::new(post, capabilities, &self.settings);
                (self.follow_up(posted, &mut case, &**platform).await, case.exchanges)
            }
            (None, None) => (self.no_platform(post), Vec::new()),
            (None, Some(posted)) => (self.follows_later(post, posted), Vec::new()),
        }
    }

    /// A panic of the platform is a request whose outcome nobody knows.
    async fn attempt(&self, post: &ClaimedPost, platform: &Platform) -> (PostEnd, Vec<Exchange>) {
        let mut case =
            Case::new(post, platform.capabilities(&post.content, &post.destination), &self.settings);
        let end = AssertUnwindSafe(self.bring(&mut case, platform)).catch_unwind().await;
        let end = end.unwrap_or_else(|panic| {
            let error =
                PostError::Unknown(format!("the platform panicked: {}", panic_message(&*panic)).into());
            case.failed(error, self.clock.now())
        });
        (end, case.exchanges)
    }

    async fn bring(&self, case: &mut Case<'_>, platform: &Platform) -> PostEnd {
        loop {
            match case.decide(self.clock.now()) {
                Action::End(end) => return end,
                Action::Send => return self.send(case, platform).await,
                Action::LookUp { first_sent } => match self.look_up(case, platform, first_sent).await {
                    Ok(LookUp::Found(receipt)) => {
                        return PostEnd::Posted(Receipt { recovered: true, ..receipt });
                    }
                    // It is as if it had never been sent: its limits count again.
                    Ok(LookUp::Absent) => case.doubt = None,
                    Ok(LookUp::Unknowable { reason }) => return case.undecidable(reason),
                    Err(error) => return case.failed(error, self.clock.now()),
                },
            }
        }
    }

    async fn send(&self, case: &mut Case<'_>, platform: &Platform) -> PostEnd {
        let ClaimedPost { content, destination, key, .. } = case.post;
        if let Err(error) = platform.validate(content, destination) {
            return case.failed(error, self.clock.now());
        }
        let request = platform.post(content, destination, key);
        let answer = self.ask(case, Asked::Post, request, Exchange::taken).await;
        pass(Point::AnswerRead);
        match answer {
            Ok(receipt) => PostEnd::Posted(receipt),
            Err(error) => case.failed(error, self.clock.now()),
        }
    }

    async fn look_up(
        &self,
        case: &mut Case<'_>,
        platform: &Platform,
        first_sent: DateTime<Utc>,
    ) -> Result<LookUp<Receipt>, PostError> {
        let ClaimedPost { content, destination, key, taken, rivals, .. } = case.post;
        let doubt = Doubt { first_sent, taken: taken.clone(), rivals: rivals.clone() };
        let request = platform.look_up(content, destination, key, &doubt);
        let answer = self.ask(case, Asked::LookUp, request, Exchange::looked_up).await;
        if answer.is_ok() {
            pass(Point::LookedUp);
        }
        answer
    }

    /// The last look at the lease before the request leaves; and the request is given up when its time, or the lease,
    /// is over. What was asked is noted before, and what was answered behind it.
    async fn ask<T>(
        &self,
        case: &mut Case<'_>,
        asked: Asked,
        request: impl Future<Output = Result<T, PostError>>,
        note: fn(&mut Exchange, DateTime<Utc>, &T),
    ) -> Result<T, PostError> {
        let now = self.clock.now();
        let lease_until = case.post.lease_until;
        if now >= lease_until {
            return Err(decision::lease_over());
        }
        case.exchanges.push(Exchange::asked(asked, now));
        let deadline = lease_until.min(now + self.settings.request_timeout);
        let answer = tokio::select! {
            biased;
            answer = request => answer,
            () = self.clock.sleep_until(deadline) => {
                let waited = (deadline - now).to_std().unwrap_or_default();
                Err(PostError::Unknown(format!("no answer within {waited:?}").into()))
            }
        };
        if let Some(exchange) = case.exchanges.last_mut() {
            match &answer {
                Ok(answer) => note(exchange, self.clock.now(), answer),
                Err(error) => exchange.failed(self.clock.now(), error),
            }
        }
        answer
    }

    /// Another node, or this one with another configuration, may know the platform.
    fn no_platform(&self, post: &ClaimedPost) -> PostEnd {
        let now = self.clock.now();
        PostEnd::Deferred {
            until: now + self.settings.closed.wait(&post.task_id, post.tries, now),
            reason: format!("this server has no platform {:?}", post.destination.platform),
            uncertain: post.uncertain_since.is_some(),
            holds: true,
            counts: true,
        }
    }
}

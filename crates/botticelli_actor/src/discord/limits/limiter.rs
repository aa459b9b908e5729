//! Where requests wait for their turn.

use super::{Ended, Grant, Lane, LimitSettings, Limits, Moment, Notice, Owner, Ticket};
use crate::discord::error::Class;
use crate::metrics::{Answered, Exposition, RequestMetrics, Source};
use async_trait::async_trait;
use botticelli_server::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tracing::{error, info, warn};

/// One for the process: the ban of an address concerns all of its tokens and webhooks.
#[derive(Debug)]
pub struct Limiter {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    patience: Duration,
    /// One of those who wait watches the clock, for all.
    watch: tokio::sync::Mutex<()>,
    changed: Notify,
    metrics: RequestMetrics,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    waiting: HashMap<Ticket, Waiter>,
    latest: DateTime<Utc>,
    /// How far the clock was set back, all in all: our own time never goes back.
    set_back: TimeDelta,
}

type Turn = Result<Permit, NotYet>;

#[derive(Debug)]
struct Waiter {
    turn: oneshot::Sender<Turn>,
    lane: Lane,
    /// By our own count of time.
    gives_up: Moment,
}

/// Why a request may not go now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotYet {
    /// It would have had to wait for longer than there is patience.
    Later(Duration),
    /// Its token is stopped.
    Stopped(Class),
}

/// How things stand, for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimiterStatus {
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// Invalid requests of the last ten minutes.
    pub invalid_requests: u32,
    /// Until when nothing is sent because Discord's edge refuses this address.
    pub blocked_until: Option<DateTime<Utc>>,
}

/// The permission to send one request. Dropped before [`Permit::sent`] it is given back.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    grant: Option<Grant>,
    was_sent: bool,
}

impl Permit {
    /// From now on the request may have left.
    pub fn sent(&mut self) {
        self.was_sent = true;
    }

    /// The request is over.
    pub fn end(mut self, ended: &Ended) {
        self.finish(ended);
    }

    fn finish(&mut self, ended: &Ended) {
        if let Some(grant) = self.grant.take() {
            self.limiter.end(&grant, ended);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let ended = if self.was_sent { Ended::NoAnswer } else { Ended::NotSent };
        self.finish(&ended);
    }
}

/// Takes the request out of the queue when its future is dropped.
struct Place<'a> {
    limiter: &'a Limiter,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.state();
        state.limits.cancel(self.ticket);
        // A permit that is in the channel already gives itself back, which takes the lock again.
        let _turn = state.waiting.remove(&self.ticket);
        drop(state);
    }
}

impl Limiter {
    /// No request was sent yet.
    pub fn new(settings: LimitSettings, clock: Arc<dyn Clock>) -> Arc<Self> {
        let patience = settings.patience;
        let state = State {
            limits: Limits::new(settings),
            waiting: HashMap::new(),
            latest: clock.now(),
            set_back: TimeDelta::zero(),
        };
        let (watch, changed, metrics) = Default::default();
        Arc::new(Self { state: Mutex::new(state), clock, patience, watch, changed, metrics })
    }

    /// Another token. A token that is replaced is another one.
    pub fn owner(&self) -> Owner {
        self.state().limits.new_owner()
    }

    /// How things stand.
    pub fn status(&self) -> LimiterStatus {
        let mut state = self.state();
        let now = state.moment(self.clock.now());
        let set_back = state.set_back;
        LimiterStatus {
            waiting: state.limits.waiting(),
            invalid_requests: state.limits.ban().invalid(now),
            blocked_until: state.limits.ban().blocked_until().map(|until| until - set_back),
        }
    }

    /// Waits for the turn of a request. Who drops the future leaves the queue.
    ///
    /// # Errors
    /// When it would have to wait for longer than there is patience, or its token is stopped.
    pub async fn turn(self: &Arc<Self>, lane: Lane) -> Result<Permit, NotYet> {
        let started = self.clock.now();
        let turn = self.turn_from(lane, started).await;
        self.metrics.waited((self.clock.now() - started).to_std().unwrap_or_default());
        turn
    }

    async fn turn_from(self: &Arc<Self>, lane: Lane, started: DateTime<Utc>) -> Result<Permit, NotYet> {
        let (place, mut turn) = self.queue(lane, started)?;
        let give_up = started + self.patience();
        tokio::select! {
            biased;
            turn = &mut turn => return self.granted(turn),
            never = self.watch_the_clock() => match never {},
            () = self.clock.sleep_until(give_up) => {}
        }
        drop(place);
        // The permit may have come at this very moment.
        match turn.try_recv() {
            Ok(turn) => self.granted(Ok(turn)),
            Err(_) => Err(NotYet::Later(self.wait(lane))),
        }
    }

    fn queue(
        self: &Arc<Self>,
        lane: Lane,
        started: DateTime<Utc>,
    ) -> Result<(Place<'_>, oneshot::Receiver<Turn>), NotYet> {
        let mut state = self.state();
        let now = state.moment(started);
        if let Some(class) = state.limits.stopped(lane.owner) {
            return Err(NotYet::Stopped(class));
        }
        if let Some(earliest) = state.limits.earliest(lane, now)
            && let Ok(wait) = (earliest - now).to_std()
            && wait > self.patience
        {
            return Err(NotYet::Later(wait));
        }
        let ticket = state.limits.enqueue(lane);
        let (turn, receiver) = oneshot::channel();
        state.waiting.insert(ticket, Waiter { turn, lane, gives_up: now + self.patience() });
        drop(state);
        self.pump();
        self.changed.notify_one();
        Ok((Place { limiter: self, ticket }, receiver))
    }

    fn granted(&self, turn: Result<Turn, oneshot::error::RecvError>) -> Result<Permit, NotYet> {
        match turn {
            Ok(turn) => turn,
            Err(_) => Err(NotYet::Later(Duration::ZERO)),
        }
    }

    fn patience(&self) -> TimeDelta {
        TimeDelta::from_std(self.patience).unwrap_or(TimeDelta::hours(24))
    }

    fn wait(&self, lane: Lane) -> Duration {
        let mut state = self.state();
        let now = state.moment(self.clock.now());
        let earliest = state.limits.earliest(lane, now);
        earliest.and_then(|earliest| (earliest - now).to_std().ok()).unwrap_or_default()
    }

    /// Lets others go when their time has come. One of those who wait does this for all.
    async fn watch_the_clock(self: &Arc<Self>) -> Infallible {
        let _watch = self.watch.lock().await;
        loop {
            let changed = self.changed.notified();
            match self.pump() {
                Some(wake) => tokio::select! {
                    () = self.clock.sleep_until(wake) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Lets go whatever may go, and says when to look again.
    fn pump(self: &Arc<Self>) -> Option<DateTime<Utc>> {
        let mut state = self.state();
        let now = state.moment(self.clock.now());
        let grants = state.limits.grant(now);
        let mut turns = Vec::with_capacity(grants.len());
        for grant in grants {
            let waiter = state.waiting.remove(&grant.ticket);
            let permit = Permit { limiter: self.clone(), grant: Some(grant), was_sent: false };
            turns.push((waiter, Ok(permit)));
        }
        for (ticket, class) in state.limits.take_stopped() {
            turns.push((state.waiting.remove(&ticket), Err(NotYet::Stopped(class))));
        }
        let set_back = state.set_back;
        let wake = state.limits.next_wake(now).map(|wake| wake - set_back);
        drop(state);
        for (waiter, turn) in turns {
            // A permit that nobody wants any more is dropped here, and gives itself back.
            let _unwanted = waiter.map(|waiter| waiter.turn.send(turn));
        }
        wake
    }

    /// Tells those who would wait in vain.
    fn send_away(&self) {
        let mut state = self.state();
        let now = state.moment(self.clock.now());
        let State { limits, waiting, .. } = &mut *state;
        let mut vain = Vec::new();
        for (ticket, waiter) in waiting.iter() {
            let earliest = limits.earliest(waiter.lane, now).filter(|earliest| *earliest > waiter.gives_up);
            vain.extend(earliest.map(|earliest| (*ticket, (earliest - now).to_std().unwrap_or_default())));
        }
        for (ticket, wait) in vain {
            limits.cancel(ticket);
            // Who has left in the meantime need not be told.
            let _gone = waiting.remove(&ticket).map(|waiter| waiter.turn.send(Err(NotYet::Later(wait))));
        }
    }

    fn end(self: &Arc<Self>, grant: &Grant, ended: &Ended) {
        self.metrics.answered(grant.route(), answered(ended));
        let mut state = self.state();
        let now = state.moment(self.clock.now());
        let notices = state.limits.end(grant, ended, now);
        drop(state);
        notices.iter().for_each(log);
        if matches!(ended, Ended::Answered(seen) if seen.class.is_some()) {
            self.send_away();
        }
        self.pump();
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Source for Limiter {
    async fn write(&self, text: &mut Exposition) {
        self.metrics.write(self.status().invalid_requests, text);
    }
}

fn answered(ended: &Ended) -> Answered {
    match ended {
        Ended::NotSent => Answered::NotSent,
        Ended::NoAnswer => Answered::NoAnswer,
        Ended::Answered(seen) => Answered::Status(seen.status),
    }
}

impl State {
    /// The time by our own count.
    fn moment(&mut self, now: DateTime<Utc>) -> Moment {
        self.set_back += (self.latest - now).max(TimeDelta::zero());
        self.latest = now;
        now + self.set_back
    }
}

fn log(notice: &Notice) {
    match notice {
        Notice::Global(wait) => warn!("Discord's global rate limit: nothing is sent for {wait:?}"),
        Notice::Blocked(wait) => error!(
            "Discord lets nothing through from this address: nothing is sent for {wait:?}, then one request asks again"
        ),
        Notice::Unblocked => info!("Discord lets requests through again"),
        Notice::TooManyInvalid => {
            error!("too many invalid requests (401, 403, 429): sending waits, or Discord bans this address");
        }
        Notice::Stopped(class) => error!("nothing is sent with this Discord token any more: {class:?}"),
    }
}

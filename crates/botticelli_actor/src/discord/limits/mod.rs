//! Keeping to Discord's limits before they are hit: which request may go now, and when the next one may.
//!
//! Pure: `Limits` is told the time and what was answered. [`Limiter`] is what requests wait in.
//!
//! - Requests of one bucket go one after the other, in the order in which they came; so the headers of each answer are
//!   known before the next one goes, and a surprise costs one refused request.
//! - Among the buckets that may send, the one goes first whose last turn is longest ago.
//! - A 429 pauses what it concerns: a route of a channel (shared and hidden limits), a bucket, or all of a token.
//! - What a token's global limit lets through is learnt when it refuses again and again, and tried out anew step by step.
//! - What does not come from Discord's API but from what stands before it stops everything; then one request probes.

mod ban;
mod caution;
mod holds;
mod limiter;
mod promises;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use limiter::{Limiter, LimiterStatus, NotYet, Permit};

use crate::discord::error::Class;
use ban::Ban;
use caution::Caution;
use chrono::{DateTime, TimeDelta, Utc};
use holds::{Bucket, BucketKey, BucketName, Hold, LaneState, Pause, Window, key_of};
use promises::Promises;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What we allow ourselves.
#[derive(Debug, Clone)]
pub struct LimitSettings {
    /// Discord's limit for all requests of a token, per second.
    pub global_per_second: u32,
    /// So many requests of a token are under way at a time. When Discord suddenly refuses everything, at most so many
    /// are refused before we know.
    pub in_flight: u32,
    /// By how much longer than a second the global limit counts, for requests that do not all take equally long on
    /// their way.
    pub slack: Duration,
    /// At so many invalid requests (401, 403, 429) within ten minutes nothing more is sent. Discord bans the address
    /// at 10,000.
    pub invalid_stop: u32,
    /// Longer than this no request waits here: it is told when to come again.
    pub patience: Duration,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            global_per_second: 50,
            in_flight: 8,
            slack: Duration::from_millis(25),
            invalid_stop: 500,
            patience: Duration::from_secs(5),
        }
    }
}

/// Whose limits count: one for each token. Webhooks have none, and share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(u32);

impl Owner {
    /// Requests without a token.
    pub const NOBODY: Self = Self(0);
}

/// The resource that Discord counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Major {
    /// None: the route is counted as a whole.
    None,
    /// A channel or thread.
    Channel(u64),
    /// A Discord server.
    Guild(u64),
    /// A webhook.
    Webhook(u64),
}

/// What a request waits in: a route, for one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Whose token.
    pub owner: Owner,
    /// The method and the path without ids.
    pub route: &'static str,
    /// Which resource.
    pub major: Major,
}

/// What an answer says about limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RateHeaders {
    /// Whether any header of the rate limiter was there.
    pub any: bool,
    /// Requests per window.
    pub limit: Option<u32>,
    /// How many are left in it.
    pub remaining: Option<u32>,
    /// How long the window lasts.
    pub reset_after: Option<Duration>,
    /// The name of the bucket.
    pub bucket: Option<Arc<str>>,
    /// Whom a 429 concerns.
    pub scope: Option<Scope>,
}

/// Whom a 429 concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This bot, in this bucket.
    User,
    /// All of this bot.
    Global,
    /// All who use the resource. Not counted as invalid.
    Shared,
}

/// How a request ended, as far as limits are concerned.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It did not leave.
    NotSent,
    /// It left, and nothing came back.
    NoAnswer,
    /// Something came back.
    Answered(Seen),
}

/// An answer, as far as limits are concerned.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The HTTP status.
    pub status: u16,
    /// The class of a refusal.
    pub class: Option<Class>,
    /// The longest wait that header and body name.
    pub retry_after: Option<Duration>,
    /// What the headers say.
    pub rate: RateHeaders,
}

/// Something that a person should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Discord refuses everything of a token for so long.
    Global(Duration),
    /// Nothing is sent from here for so long.
    Blocked(Duration),
    /// It is over.
    Unblocked,
    /// So many invalid requests that nothing is sent for a while.
    TooManyInvalid,
    /// Nothing is sent with a token any more.
    Stopped(Class),
}

/// No window and no pause is believed to last longer.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Discord rounds to milliseconds.
const ROUNDING: TimeDelta = TimeDelta::milliseconds(1);
/// So many idle buckets may be remembered.
const MOST_IDLE: usize = 4096;

/// The place of a request in the queue.
pub(crate) type Ticket = u64;
type Moment = DateTime<Utc>;

/// The permission to send one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) ticket: Ticket,
    lane: Lane,
    bucket: BucketKey,
    is_probe: bool,
}

impl Grant {
    /// The method and the path without ids.
    pub(crate) fn route(&self) -> &'static str {
        self.lane.route
    }
}

#[derive(Debug, Default)]
struct OwnerState {
    /// When the requests of the last second were granted.
    recent: VecDeque<Moment>,
    pause: Pause,
    in_flight: u32,
    /// How many may be under way: grows with every answer, and is 1 again when everything is refused.
    allowed: u32,
    /// What it has learnt of a global limit that is lower than ours.
    caution: Caution,
    stopped: Option<Class>,
}

/// All limits of one process.
#[derive(Debug)]
pub(crate) struct Limits {
    settings: LimitSettings,
    owners: Vec<OwnerState>,
    lanes: HashMap<Lane, LaneState>,
    buckets: HashMap<BucketKey, Bucket>,
    promises: Promises,
    waiting: BTreeMap<Ticket, Lane>,
    ban: Ban,
    tickets: Ticket,
    turns: u64,
}

impl Limits {
    pub(crate) fn new(settings: LimitSettings) -> Self {
        let ban = Ban::new(settings.invalid_stop);
        let mut limits = Self {
            settings,
            owners: Vec::new(),
            lanes: HashMap::new(),
            buckets: HashMap::new(),
            promises: Promises::default(),
            waiting: BTreeMap::new(),
            ban,
            tickets: 0,
            turns: 0,
        };
        limits.new_owner();
        limits
    }

    /// Another token.
    pub(crate) fn new_owner(&mut self) -> Owner {
        self.owners.push(OwnerState { allowed: 1, ..OwnerState::default() });
        Owner(u32::try_from(self.owners.len() - 1).unwrap_or(u32::MAX))
    }

    /// Why nothing is sent for `owner` any more.
    pub(crate) fn stopped(&self, owner: Owner) -> Option<Class> {
        self.owner(owner).stopped
    }

    /// Queues a request.
    pub(crate) fn enqueue(&mut self, lane: Lane) -> Ticket {
        self.tickets += 1;
        self.waiting.insert(self.tickets, lane);
        self.tickets
    }

    /// Takes it out of the queue again.
    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    /// Takes those out of the queue that will never go.
    pub(crate) fn take_stopped(&mut self) -> Vec<(Ticket, Class)> {
        let owners = &self.owners;
        let stopped = self
            .waiting
            .iter()
            .filter_map(|(ticket, lane)| owners[lane.owner.0 as usize].stopped.map(|class| (*ticket, class)));
        let stopped: Vec<_> = stopped.collect();
        for (ticket, _) in &stopped {
            self.waiting.remove(ticket);
        }
        stopped
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn ban(&mut self) -> &mut Ban {
        &mut self.ban
    }

    /// The earliest time at which a request of `lane` could go, as far as is known; `None` when nothing but other
    /// requests holds it up.
    pub(crate) fn earliest(&mut self, lane: Lane, now: Moment) -> Option<Moment> {
        let [own, bucket] = self.holds_of_lane(lane, now);
        let holds = [own, bucket, self.hold_of_owner(lane.owner, now), self.ban.hold(now)];
        holds.into_iter().flatten().filter_map(Hold::time).max()
    }

    /// Lets go whatever may go now. The others wait for [`next_wake`](Self::next_wake) or for an answer.
    pub(crate) fn grant(&mut self, now: Moment) -> Vec<Grant> {
        let mut ready = self.ready(now);
        ready.sort_unstable();
        let mut grants = Vec::new();
        for (_, ticket) in ready {
            let Some(lane) = self.waiting.get(&ticket).copied() else { continue };
            if self.ban.hold(now).is_some() {
                break;
            }
            if self.hold_of_owner(lane.owner, now).is_none() {
                grants.push(self.take(ticket, lane, now));
            }
        }
        grants
    }

    /// The first waiting request of each bucket that could go, with the bucket's last turn.
    fn ready(&mut self, now: Moment) -> Vec<(u64, Ticket)> {
        let held = self.holds_of_owners(now);
        let mut seen = HashSet::new();
        let mut ready = Vec::new();
        if self.ban.hold(now).is_some() || held.iter().all(Option::is_some) {
            return ready;
        }
        for (&ticket, &lane) in &self.waiting {
            let state = self.lanes.get(&lane);
            let is_paused = state.is_some_and(|state| state.pause.over(now).is_some());
            if is_paused || held[lane.owner.0 as usize].is_some() {
                continue;
            }
            let key = key_of(lane, state.and_then(|state| state.bucket.as_ref()));
            if !seen.contains(&key) && self.hold_of_bucket(&key, now).is_none() {
                ready.push((self.buckets.get(&key).map_or(0, |bucket| bucket.turn), ticket));
            }
            seen.insert(key);
        }
        ready
    }

    fn holds_of_owners(&mut self, now: Moment) -> Vec<Option<Hold>> {
        let owners = u32::try_from(self.owners.len()).unwrap_or(u32::MAX);
        (0..owners).map(|owner| self.hold_of_owner(Owner(owner), now)).collect()
    }

    fn take(&mut self, ticket: Ticket, lane: Lane, now: Moment) -> Grant {
        self.waiting.remove(&ticket);
        self.turns += 1;
        let key = self.bucket_of(lane);
        let bucket = self.buckets.entry(key.clone()).or_default();
        bucket.is_busy = true;
        bucket.turn = self.turns;
        bucket.window = bucket.window.take().filter(|window| window.resets_at > now);
        if let Some(window) = &mut bucket.window {
            window.remaining = window.remaining.saturating_sub(1);
        }
        let owner = self.owner_mut(lane.owner);
        owner.recent.push_back(now);
        owner.in_flight += 1;
        owner.caution.send(now);
        Grant { ticket, lane, bucket: key, is_probe: self.ban.send() }
    }

    /// When to call [`grant`](Self::grant) again if nothing happens before. It may be too early, but never too late.
    pub(crate) fn next_wake(&mut self, now: Moment) -> Option<Moment> {
        if let Some(hold) = self.ban.hold(now) {
            return hold.time().filter(|_| !self.waiting.is_empty());
        }
        let held = self.holds_of_owners(now);
        let holds = self.waiting.values().map(|lane| {
            let of_owner = held[lane.owner.0 as usize];
            let hold = of_owner.or_else(|| self.holds_of_lane(*lane, now).into_iter().max().flatten());
            hold.and_then(Hold::time)
        });
        holds.flatten().min()
    }

    /// Takes note of how a request ended.
    pub(crate) fn end(&mut self, grant: &Grant, ended: &Ended, now: Moment) -> Vec<Notice> {
        let bucket = self.buckets.entry(grant.bucket.clone()).or_default();
        bucket.is_busy = false;
        self.owner_mut(grant.lane.owner).in_flight -= 1;
        match ended {
            Ended::NotSent => {
                self.give_back(grant);
                self.ban.end(grant.is_probe, None, now).into_iter().collect()
            }
            Ended::NoAnswer => self.ban.end(grant.is_probe, None, now).into_iter().collect(),
            Ended::Answered(seen) => {
                let mut notices: Vec<Notice> =
                    self.ban.end(grant.is_probe, Some(seen), now).into_iter().collect();
                self.learn(grant, &seen.rate, now);
                notices.extend(self.obey(grant, seen, now));
                self.forget_the_idle(now);
                notices
            }
        }
    }

    fn give_back(&mut self, grant: &Grant) {
        let owner = self.owner_mut(grant.lane.owner);
        owner.recent.pop_back();
        owner.caution.give_back();
        if let Some(window) = self.buckets.get_mut(&grant.bucket).and_then(|bucket| bucket.window.as_mut()) {
            window.remaining += 1;
        }
    }

    fn learn(&mut self, grant: &Grant, rate: &RateHeaders, now: Moment) {
        if let Some(name) = &rate.bucket {
            self.lanes.entry(grant.lane).or_default().bucket = Some(name.clone());
        }
        let (Some(remaining), Some(reset_after)) = (rate.remaining, rate.reset_after) else { return };
        let key = self.bucket_of(grant.lane);
        let turn = self.turns;
        let bucket = self.buckets.entry(key).or_insert_with(|| Bucket { turn, ..Bucket::default() });
        let remaining = remaining.min(rate.limit.unwrap_or(u32::MAX));
        bucket.window = Some(Window { remaining, resets_at: now + reset_after.min(LONGEST) + ROUNDING });
    }

    fn obey(&mut self, grant: &Grant, seen: &Seen, now: Moment) -> Option<Notice> {
        let most = self.settings.in_flight.max(1);
        let ours =
            TimeDelta::seconds(1) / i32::try_from(self.settings.global_per_second.max(1)).unwrap_or(i32::MAX);
        let key = self.bucket_of(grant.lane);
        let stops =
            matches!(seen.class, Some(Class::Token | Class::Spam)) && grant.lane.owner != Owner::NOBODY;
        if stops {
            let class = seen.class;
            let owner = self.owner_mut(grant.lane.owner);
            return std::mem::replace(&mut owner.stopped, class).xor(class).map(Notice::Stopped);
        }
        if seen.class == Some(Class::Blocked) {
            self.owner_mut(grant.lane.owner).allowed = 1;
            return None;
        }
        if seen.status != 429 {
            self.lanes.entry(grant.lane).or_default().pause.succeed();
            self.buckets.entry(key).or_default().pause.succeed();
            let owner = self.owner_mut(grant.lane.owner);
            owner.pause.succeed();
            owner.caution.succeed(ours, now);
            owner.allowed = (owner.allowed + 1).min(most);
            return None;
        }
        let is_others = seen.rate.scope == Some(Scope::Shared) || seen.class == Some(Class::Later);
        let promised = seen.rate.remaining.filter(|remaining| *remaining > 0);
        let is_hidden = is_others || promised.is_some();
        if seen.rate.scope == Some(Scope::Global) {
            let owner = self.owner_mut(grant.lane.owner);
            owner.allowed = 1;
            let wait = owner.pause.refuse(seen.retry_after, now);
            owner.caution.refuse(wait, now);
            return Some(Notice::Global(wait));
        }
        if let Some(promised) = promised.filter(|_| !is_others) {
            self.promises.broke(&key, promised, now);
        }
        let pause = if is_hidden {
            &mut self.lanes.entry(grant.lane).or_default().pause
        } else {
            &mut self.buckets.entry(key).or_default().pause
        };
        pause.refuse(seen.retry_after.or(seen.rate.reset_after), now);
        None
    }

    fn forget_the_idle(&mut self, now: Moment) {
        if self.buckets.len() < MOST_IDLE && self.lanes.len() < MOST_IDLE {
            return;
        }
        self.buckets.retain(|_, bucket| {
            bucket.is_busy
                || bucket.pause.over(now).is_some()
                || bucket.window.as_ref().is_some_and(|window| window.resets_at > now)
        });
        let buckets = &self.buckets;
        self.lanes.retain(|lane, state| {
            state.pause.over(now).is_some() || buckets.contains_key(&key_of(*lane, state.bucket.as_ref()))
        });
    }

    /// What holds up the route, and what its bucket.
    fn holds_of_lane(&self, lane: Lane, now: Moment) -> [Option<Hold>; 2] {
        let state = self.lanes.get(&lane);
        let key = key_of(lane, state.and_then(|state| state.bucket.as_ref()));
        [state.and_then(|state| state.pause.over(now)).map(Hold::Until), self.hold_of_bucket(&key, now)]
    }

    fn hold_of_bucket(&self, key: &BucketKey, now: Moment) -> Option<Hold> {
        self.buckets.get(key)?.hold(self.promises.empty(key, now), now)
    }

    fn hold_of_owner(&mut self, owner: Owner, now: Moment) -> Option<Hold> {
        let second =
            TimeDelta::seconds(1) + TimeDelta::from_std(self.settings.slack).unwrap_or(TimeDelta::seconds(1));
        let most = self.settings.global_per_second.max(1) as usize;
        let owner = self.owner_mut(owner);
        while owner.recent.front().is_some_and(|sent| *sent + second <= now) {
            owner.recent.pop_front();
        }
        if owner.stopped.is_some() || owner.in_flight >= owner.allowed {
            return Some(Hold::Busy);
        }
        let full = owner.recent.len().checked_sub(most).map(|first| owner.recent[first] + second);
        full.max(owner.pause.over(now)).max(owner.caution.hold(now)).map(Hold::Until)
    }

    fn bucket_of(&self, lane: Lane) -> BucketKey {
        key_of(lane, self.lanes.get(&lane).and_then(|state| state.bucket.as_ref()))
    }

    fn owner(&self, owner: Owner) -> &OwnerState {
        &self.owners[owner.0 as usize]
    }

    fn owner_mut(&mut self, owner: Owner) -> &mut OwnerState {
        &mut self.owners[owner.0 as usize]
    }
}

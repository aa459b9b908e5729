//! The guard against a ban of this address: counts invalid requests, and stops everything when Discord's edge refuses.

use super::{Hold, LONGEST, Moment, Notice, Scope, Seen};
use crate::discord::error::Class;
use chrono::TimeDelta;
use std::collections::VecDeque;
use std::time::Duration;

/// Discord counts invalid requests over this time.
const WINDOW: TimeDelta = TimeDelta::minutes(10);
/// How long a block lasts that does not say.
const UNNAMED_BLOCK: Duration = Duration::from_secs(60 * 60);
/// The wait after a probe that nothing came back for.
const NEXT_PROBE: TimeDelta = TimeDelta::seconds(30);

#[derive(Debug)]
pub(crate) struct Ban {
    stop: u32,
    invalid: VecDeque<Moment>,
    /// Each of them may turn out to be invalid.
    in_flight: u32,
    block: Block,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    /// From then on one request may probe.
    Until(Moment),
    Probing,
}

impl Ban {
    pub(super) fn new(stop: u32) -> Self {
        Self { stop: stop.max(1), invalid: VecDeque::new(), in_flight: 0, block: Block::None }
    }

    /// How many invalid requests count now.
    pub(crate) fn invalid(&mut self, now: Moment) -> u32 {
        while self.invalid.front().is_some_and(|at| *at + WINDOW <= now) {
            self.invalid.pop_front();
        }
        u32::try_from(self.invalid.len()).unwrap_or(u32::MAX)
    }

    /// Until when nothing is sent because of a block.
    pub(crate) fn blocked_until(&self) -> Option<Moment> {
        match self.block {
            Block::Until(at) => Some(at),
            Block::None | Block::Probing => None,
        }
    }

    pub(super) fn hold(&mut self, now: Moment) -> Option<Hold> {
        match self.block {
            Block::Until(at) if at > now => return Some(Hold::Until(at)),
            Block::Until(_) if self.in_flight > 0 => return Some(Hold::Busy),
            Block::Probing => return Some(Hold::Busy),
            Block::Until(_) | Block::None => {}
        }
        let invalid = self.invalid(now);
        match self.invalid.front() {
            Some(oldest) if invalid >= self.stop => Some(Hold::Until(*oldest + WINDOW)),
            _ if invalid + self.in_flight >= self.stop => Some(Hold::Busy),
            _ => None,
        }
    }

    /// Another request leaves; whether it is the probe.
    pub(super) fn send(&mut self) -> bool {
        self.in_flight += 1;
        let is_probe = matches!(self.block, Block::Until(_));
        if is_probe {
            self.block = Block::Probing;
        }
        is_probe
    }

    pub(super) fn end(&mut self, is_probe: bool, seen: Option<&Seen>, now: Moment) -> Option<Notice> {
        self.in_flight -= 1;
        let Some(seen) = seen else {
            if is_probe {
                self.block = Block::Until(now + NEXT_PROBE);
            }
            return None;
        };
        let is_invalid = matches!(seen.status, 401 | 403 | 429) && seen.rate.scope != Some(Scope::Shared);
        if is_invalid {
            self.invalid.push_back(now);
        }
        if seen.class == Some(Class::Blocked) {
            return self.be_blocked(seen.retry_after, is_probe, now);
        }
        if is_probe {
            self.block = Block::None;
            return Some(Notice::Unblocked);
        }
        (is_invalid && self.invalid(now) == self.stop).then_some(Notice::TooManyInvalid)
    }

    fn be_blocked(&mut self, retry_after: Option<Duration>, is_probe: bool, now: Moment) -> Option<Notice> {
        let wait = retry_after.unwrap_or(UNNAMED_BLOCK).clamp(Duration::from_secs(1), LONGEST);
        let until = now + wait;
        let (block, is_news) = match self.block {
            Block::None => (Block::Until(until), true),
            Block::Until(earlier) => (Block::Until(until.max(earlier)), false),
            Block::Probing if is_probe => (Block::Until(until), true),
            Block::Probing => (Block::Probing, false),
        };
        self.block = block;
        is_news.then_some(Notice::Blocked(wait))
    }
}

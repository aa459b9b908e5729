//! What holds a request up: a route that is paused, a bucket that is busy, empty or paused.

use super::{LONGEST, Lane, Major, Moment, Owner, ROUNDING};
use std::sync::Arc;
use std::time::Duration;

/// The pause after a 429 that names none.
const UNNAMED_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BucketKey {
    pub(super) owner: Owner,
    pub(super) name: BucketName,
    pub(super) major: Major,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum BucketName {
    /// Discord has not told yet.
    Of(&'static str),
    Known(Arc<str>),
}

#[derive(Debug, Default)]
pub(super) struct LaneState {
    pub(super) bucket: Option<Arc<str>>,
    pub(super) pause: Pause,
}

#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) is_busy: bool,
    pub(super) window: Option<Window>,
    pub(super) pause: Pause,
    /// Its last turn.
    pub(super) turn: u64,
}

impl Bucket {
    /// `empty` of those that are left in its window are not to be believed in.
    pub(super) fn hold(&self, empty: u32, now: Moment) -> Option<Hold> {
        if self.is_busy {
            return Some(Hold::Busy);
        }
        let window =
            self.window.as_ref().filter(|window| window.remaining <= empty && window.resets_at > now);
        window.map(|window| window.resets_at).max(self.pause.over(now)).map(Hold::Until)
    }
}

#[derive(Debug)]
pub(super) struct Window {
    pub(super) remaining: u32,
    pub(super) resets_at: Moment,
}

/// A wait that a 429 asked for. Refusals one after the other make it longer than was asked: who names too short a wait
/// must not be asked for ever.
#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Moment>,
    in_a_row: u32,
}

impl Pause {
    pub(super) fn refuse(&mut self, retry_after: Option<Duration>, now: Moment) -> Duration {
        let least = match self.in_a_row {
            0 => Duration::ZERO,
            again => Duration::from_millis(250) * (1 << again.min(10)),
        };
        self.in_a_row += 1;
        let wait = retry_after.unwrap_or(UNNAMED_PAUSE).max(least).min(LONGEST);
        self.until = self.until.max(Some(now + wait + ROUNDING));
        wait
    }

    pub(super) fn succeed(&mut self) {
        self.in_a_row = 0;
    }

    pub(super) fn over(&self, now: Moment) -> Option<Moment> {
        self.until.filter(|until| *until > now)
    }
}

/// Why a request can't go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Not before this time.
    Until(Moment),
    /// Not before another request has ended.
    Busy,
}

impl Hold {
    pub(super) fn time(self) -> Option<Moment> {
        match self {
            Self::Until(at) => Some(at),
            Self::Busy => None,
        }
    }
}

/// A later time is the stronger hold, and waiting for another request the strongest.
impl Ord for Hold {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |hold: &Self| hold.time().map_or((1, Moment::MAX_UTC), |at| (0, at));
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for Hold {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

pub(super) fn key_of(lane: Lane, bucket: Option<&Arc<str>>) -> BucketKey {
    let name = bucket.map_or(BucketName::Of(lane.route), |name| BucketName::Known(name.clone()));
    BucketKey { owner: lane.owner, name, major: lane.major }
}

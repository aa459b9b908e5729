//! Caution where Discord takes less of a token than its global limit says, as when others send with it.
//!
//! One refusal is a pause, and no more. When the next one comes soon, what was taken in between is what Discord takes: the
//! requests are spaced so. For a while nothing more is tried; then each success halves the space, and a refusal doubles it
//! at most. So a limit that stays low costs a refusal now and then, and not one in each of its windows.

use super::Moment;
use chrono::TimeDelta;
use std::time::Duration;

/// For so long after a refusal nothing more is tried.
const TRIED_AGAIN: TimeDelta = TimeDelta::seconds(90);
/// Requests are spaced no wider.
const WIDEST: TimeDelta = TimeDelta::seconds(60);

#[derive(Debug, Default)]
pub(super) struct Caution {
    /// Between two requests; zero: none is needed.
    space: TimeDelta,
    sent_at: Option<Moment>,
    refused_at: Option<Moment>,
    /// When the pause after the last refusal ends, and how many requests were taken since.
    resumed_at: Option<Moment>,
    taken: i32,
}

impl Caution {
    pub(super) fn send(&mut self, now: Moment) {
        self.sent_at = Some(now);
    }

    /// It was not sent.
    pub(super) fn give_back(&mut self) {
        self.sent_at = None;
    }

    /// Everything is refused for `wait`.
    pub(super) fn refuse(&mut self, wait: Duration, now: Moment) {
        let until = now + TimeDelta::from_std(wait).unwrap_or(WIDEST);
        let resumed_at = self.resumed_at.replace(until.max(self.resumed_at.unwrap_or(until)));
        match resumed_at {
            // It had left before.
            Some(resumed_at) if now < resumed_at => return,
            Some(resumed_at) if self.space > TimeDelta::zero() || now - resumed_at < TRIED_AGAIN => {
                // A little more, because requests do not all take equally long on their way.
                let each = (until - resumed_at) * 51 / 50 / self.taken.max(1);
                let most = if self.space.is_zero() { WIDEST } else { WIDEST.min(self.space * 2) };
                self.space = each.clamp(self.space.min(most), most);
            }
            Some(_) | None => {}
        }
        (self.refused_at, self.taken) = (Some(now), 0);
    }

    /// A request was taken. No caution is needed where requests are `ours` apart anyway.
    pub(super) fn succeed(&mut self, ours: TimeDelta, now: Moment) {
        self.taken = self.taken.saturating_add(1);
        if self.refused_at.is_some_and(|refused_at| now - refused_at >= TRIED_AGAIN) {
            self.space = self.space / 2;
            if self.space < ours {
                self.space = TimeDelta::zero();
            }
        }
    }

    /// When the next request may go.
    pub(super) fn hold(&self, now: Moment) -> Option<Moment> {
        self.sent_at.map(|sent_at| sent_at + self.space).filter(|next| *next > now)
    }
}

//! The breaker of a task: what failures and successes do to it.

use crate::plan::BreakerEffect;
use crate::task::PauseReason;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// The part of a task's state that the breaker decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BreakerState {
    /// Failed executions in a row.
    pub consecutive_failures: u32,
    /// Whether occurrences are left alone.
    pub is_paused: bool,
    /// Why.
    pub pause_reason: Option<PauseReason>,
    /// When one occurrence may probe.
    pub probe_at: Option<DateTime<Utc>>,
}

/// When a breaker opens, and whether it probes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// It opens at so many failures in a row.
    pub opens_at: u32,
    /// It lets one occurrence probe after this long.
    pub cooldown: Option<Duration>,
}

impl BreakerState {
    /// What becomes of it. With `posts_open`, a success is forgotten failures only once its posts are settled.
    ///
    /// An operator's pause is never undone here, nor one by the definition.
    #[must_use]
    pub fn after(
        self,
        effect: BreakerEffect,
        posts_open: bool,
        policy: BreakerPolicy,
        now: DateTime<Utc>,
    ) -> Self {
        let by_breaker = self.pause_reason == Some(PauseReason::Breaker);
        match effect {
            BreakerEffect::None => self,
            BreakerEffect::Success { probe } => {
                let consecutive_failures = if posts_open { self.consecutive_failures } else { 0 };
                if probe && self.is_paused && by_breaker {
                    Self { consecutive_failures, ..Self::default() }
                } else {
                    Self { consecutive_failures, ..self }
                }
            }
            BreakerEffect::Failure => {
                let consecutive_failures = self.consecutive_failures.saturating_add(1);
                let opens = consecutive_failures >= policy.opens_at && (!self.is_paused || by_breaker);
                if opens {
                    Self {
                        consecutive_failures,
                        is_paused: true,
                        pause_reason: Some(PauseReason::Breaker),
                        probe_at: policy.cooldown.and_then(|cooldown| {
                            now.checked_add_signed(chrono::TimeDelta::from_std(cooldown).ok()?)
                        }),
                    }
                } else {
                    Self { consecutive_failures, ..self }
                }
            }
        }
    }

    /// Whether the breaker opened between `before` and this.
    pub fn opened_since(&self, before: &Self) -> bool {
        self.is_paused && !before.is_paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy { opens_at: 2, cooldown: Some(Duration::from_secs(60)) };
    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn after(state: BreakerState, effects: &[BreakerEffect]) -> BreakerState {
        effects.iter().fold(state, |state, effect| state.after(*effect, false, POLICY, NOW))
    }

    #[test]
    fn it_opens_at_the_configured_number_of_failures_in_a_row() {
        use BreakerEffect::{Failure, Success};
        let closed = after(BreakerState::default(), &[Failure, Success { probe: false }, Failure]);
        assert!(!closed.is_paused);
        let open = after(closed, &[Failure]);
        assert!(open.opened_since(&closed));
        assert_eq!(open.pause_reason, Some(PauseReason::Breaker));
        assert_eq!(open.probe_at, Some(NOW + Duration::from_secs(60)));
    }

    #[test]
    fn only_a_probe_closes_it_and_a_failed_probe_keeps_it_open() {
        use BreakerEffect::{Failure, Success};
        let open = after(BreakerState::default(), &[Failure, Failure]);
        assert!(after(open, &[Success { probe: false }]).is_paused);
        assert!(after(open, &[Failure]).is_paused);
        assert_eq!(after(open, &[Success { probe: true }]), BreakerState::default());
    }

    #[test]
    fn an_operators_pause_is_never_undone_or_relabelled() {
        use BreakerEffect::{Failure, Success};
        let paused = BreakerState {
            is_paused: true,
            pause_reason: Some(PauseReason::Operator),
            ..BreakerState::default()
        };
        let later = after(paused, &[Failure, Failure, Failure, Success { probe: true }]);
        assert_eq!((later.is_paused, later.pause_reason), (true, Some(PauseReason::Operator)));
    }

    #[test]
    fn failures_are_remembered_until_the_posts_of_a_success_are_settled() {
        let failed = after(BreakerState::default(), &[BreakerEffect::Failure]);
        let succeeded = failed.after(BreakerEffect::Success { probe: false }, true, POLICY, NOW);
        assert_eq!(succeeded.consecutive_failures, 1);
    }
}

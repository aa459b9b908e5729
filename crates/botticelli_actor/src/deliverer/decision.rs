//! What to do about a post, and what an error makes of it: pure decisions.

use super::DeliverySettings;
use botticelli_server::limits::Verdict;
use botticelli_server::outbox::{ClaimedPost, DESTINATION_PAUSED, Exchange, OnUnknown, PostEnd};
use botticelli_server::outcome::SkipReason;
use botticelli_server::post::{Capabilities, PostError};
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// No platform's wish to be left alone is honoured for longer.
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a post waits that could go out: the one reason that is no trouble.
pub(crate) const OWN_LIMITS: &str = "the actor's own limits allow it only then";

/// What to do about a post now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Send it. If it may be there already, the platform will recognise its key.
    Send,
    /// It may be there: ask the platform.
    LookUp {
        /// When it was first sent.
        first_sent: DateTime<Utc>,
    },
    /// Nothing is sent.
    End(PostEnd),
}

/// One post on its way, with all that decides about it.
pub(super) struct Case<'a> {
    pub(super) post: &'a ClaimedPost,
    pub(super) capabilities: Capabilities,
    pub(super) settings: &'a DeliverySettings,
    /// Since when the post may be there. `None`: it surely is not.
    pub(super) doubt: Option<DateTime<Utc>>,
    /// What the platform was asked so far.
    pub(super) exchanges: Vec<Exchange>,
}

impl<'a> Case<'a> {
    pub(super) fn new(
        post: &'a ClaimedPost,
        capabilities: Capabilities,
        settings: &'a DeliverySettings,
    ) -> Self {
        Self { post, capabilities, settings, doubt: post.uncertain_since, exchanges: Vec::new() }
    }

    /// Doubt comes first: a post that may be there has passed its limits, and only an answer settles it.
    pub(super) fn decide(&self, now: DateTime<Utc>) -> Action {
        if now >= self.post.lease_until {
            return Action::End(self.failed(lease_over(), now));
        }
        match self.doubt {
            None => self.by_limits(self.post.limits.verdict(&self.post.earlier, now), now),
            Some(first_sent) if self.recognises(first_sent, now) => Action::Send,
            Some(first_sent) if self.capabilities.look_up => Action::LookUp { first_sent },
            Some(first_sent) => {
                let reason =
                    format!("an attempt at {first_sent} may have taken effect, and the platform can't tell");
                Action::End(self.undecidable(reason))
            }
        }
    }

    fn by_limits(&self, verdict: Verdict, now: DateTime<Utc>) -> Action {
        match verdict {
            Verdict::Now => Action::Send,
            Verdict::Later(at) => Action::End(PostEnd::Deferred {
                until: at.max(now + self.settings.retry.initial),
                reason: OWN_LIMITS.into(),
                uncertain: false,
                holds: false,
                counts: false,
            }),
            Verdict::Skip => Action::End(PostEnd::Skipped { reason: SkipReason::RateLimited }),
        }
    }

    /// What an error makes of the post.
    pub(super) fn failed(&self, error: PostError, now: DateTime<Utc>) -> PostEnd {
        let uncertain = self.doubt.is_some();
        match error {
            PostError::Refused(reason) => self.refused(reason.into(), now),
            // Whoever removed it wants it gone, and a look-up would not find it.
            PostError::Removed(reason) => PostEnd::Failed { error: reason.into() },
            PostError::NotSent { reason, retry_after } => {
                let asked_for = retry_after.filter(|wait| !wait.is_zero());
                let wait =
                    asked_for.unwrap_or_else(|| self.retry_wait(self.doubt, now)).min(LONGEST_RETRY_AFTER);
                PostEnd::Deferred {
                    until: now + wait,
                    reason: reason.into(),
                    uncertain,
                    holds: true,
                    counts: asked_for.is_none(),
                }
            }
            PostError::Unknown(reason) => self.unknown(reason.into(), now),
            PostError::DestinationClosed(reason) => {
                let wait = self.settings.closed.wait(&self.post.task_id, self.post.tries, now);
                let reason = format!("{DESTINATION_PAUSED}{reason}");
                PostEnd::Deferred { until: now + wait, reason, uncertain, holds: true, counts: true }
            }
        }
    }

    /// A refusal tells nothing of an earlier request that may have been taken.
    fn refused(&self, reason: String, now: DateTime<Utc>) -> PostEnd {
        match self.doubt {
            None => PostEnd::Failed { error: reason },
            Some(first_sent) if self.capabilities.look_up => {
                let window = self.window().unwrap_or_default();
                let window_over = first_sent.checked_add_signed(window).unwrap_or(now);
                let until = window_over.max(now + self.retry_wait(self.doubt, now));
                PostEnd::Deferred { until, reason, uncertain: true, holds: true, counts: true }
            }
            Some(first_sent) => {
                self.undecidable(format!("{reason}; but an attempt at {first_sent} may have taken effect"))
            }
        }
    }

    fn unknown(&self, reason: String, now: DateTime<Utc>) -> PostEnd {
        let first_sent = self.doubt.unwrap_or(now);
        if self.recognises(first_sent, now) || self.capabilities.look_up {
            let until = now + self.retry_wait(Some(first_sent), now);
            PostEnd::Deferred { until, reason, uncertain: true, holds: true, counts: true }
        } else {
            self.undecidable(reason)
        }
    }

    /// Nothing can tell whether the post is there: what its operator wants then.
    pub(super) fn undecidable(&self, reason: String) -> PostEnd {
        match self.post.on_unknown {
            OnUnknown::NeedsReview => PostEnd::NeedsReview { reason },
            OnUnknown::AtMostOnce => {
                PostEnd::Failed { error: format!("{reason}; it is not sent again (at_most_once)") }
            }
        }
    }

    /// Whether the platform surely recognises a key that was first sent then. Two clocks that disagree may put that
    /// into the future: then it was as long ago as they disagree.
    fn recognises(&self, first_sent: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        self.window().is_some_and(|window| (now - first_sent).abs() <= window)
    }

    fn window(&self) -> Option<TimeDelta> {
        let window = match self.capabilities.idempotent_for? {
            Duration::MAX => Duration::MAX,
            window => window.min(self.settings.safe_window),
        };
        Some(TimeDelta::from_std(window).unwrap_or(TimeDelta::MAX))
    }

    /// While the platform still recognises the key there is no time to lose.
    fn retry_wait(&self, first_sent: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
        let hurry = first_sent.is_some_and(|first_sent| self.recognises(first_sent, now));
        let backoff = if hurry { &self.settings.in_doubt } else { &self.settings.retry };
        backoff.wait(&self.post.task_id, self.post.tries, now)
    }
}

/// A request of an attempt whose lease is over would race with its successor's.
pub(super) fn lease_over() -> PostError {
    PostError::NotSent { reason: "its lease was over before it could be sent".into(), retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliverer::tests::claimed;
    use botticelli_server::post::{TextLimit, TextUnit};
    use proptest::prelude::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_900_000_000, 0).expect("a time")
    }

    fn capabilities(idempotent_for: Option<Duration>, look_up: bool) -> Capabilities {
        Capabilities { idempotent_for, look_up, text: TextLimit { max: None, unit: TextUnit::Scalars } }
    }

    fn posts() -> impl Strategy<Value = ClaimedPost> {
        let doubt = proptest::option::of(-400..400i64);
        (doubt, -5..60i64, 1..80u32, any::<bool>()).prop_map(|(doubt, lease, attempt, at_most_once)| {
            ClaimedPost {
                uncertain_since: doubt.map(|seconds| now() - TimeDelta::seconds(seconds)),
                lease_until: now() + TimeDelta::seconds(lease),
                tries: attempt,
                on_unknown: if at_most_once { OnUnknown::AtMostOnce } else { OnUnknown::NeedsReview },
                ..claimed(1, "somewhere")
            }
        })
    }

    fn platforms() -> impl Strategy<Value = Capabilities> {
        let windows = prop_oneof![
            Just(None),
            (0..300u64).prop_map(|seconds| Some(Duration::from_secs(seconds))),
            Just(Some(Duration::MAX)),
        ];
        (windows, any::<bool>()).prop_map(|(window, look_up)| capabilities(window, look_up))
    }

    fn errors() -> impl Strategy<Value = PostError> {
        let retry_after = proptest::option::of(prop_oneof![
            (0..10_000u64).prop_map(Duration::from_secs),
            Just(Duration::MAX)
        ]);
        prop_oneof![
            Just(PostError::Refused("no".into())),
            Just(PostError::Removed("a moderator was quick".into())),
            retry_after.prop_map(|retry_after| PostError::NotSent { reason: "busy".into(), retry_after }),
            Just(PostError::Unknown("silence".into())),
            Just(PostError::DestinationClosed("gone".into())),
        ]
    }

    proptest! {
        #[test]
        fn a_post_in_doubt_is_sent_again_only_while_its_key_is_surely_recognised(
            post in posts(), capabilities in platforms(),
        ) {
            let settings = DeliverySettings::default();
            let case = Case::new(&post, capabilities, &settings);
            let lease_over = post.lease_until <= now();
            let age = post.uncertain_since.map(|since| (now() - since).abs().to_std().expect("not negative"));
            let safe = age.is_none_or(|age| {
                let trusted = settings.safe_window;
                capabilities.idempotent_for.is_some_and(|window| {
                    age <= window && (age <= trusted || window == Duration::MAX)
                })
            });
            let may_ask = post.uncertain_since.is_some() && capabilities.look_up;
            match case.decide(now()) {
                Action::Send => prop_assert!(!lease_over && safe),
                Action::LookUp { .. } => prop_assert!(!lease_over && !safe && may_ask),
                Action::End(PostEnd::Deferred { until, uncertain, .. }) => {
                    prop_assert!(lease_over);
                    prop_assert!(until > now());
                    prop_assert_eq!(uncertain, post.uncertain_since.is_some());
                }
                Action::End(PostEnd::NeedsReview { .. }) => {
                    prop_assert!(!lease_over && !safe && !may_ask);
                    prop_assert_eq!(post.on_unknown, OnUnknown::NeedsReview);
                }
                Action::End(PostEnd::Failed { .. }) => {
                    prop_assert!(!lease_over && !safe && !may_ask);
                    prop_assert_eq!(post.on_unknown, OnUnknown::AtMostOnce);
                }
                Action::End(PostEnd::Posted(_) | PostEnd::Followed { .. } | PostEnd::Skipped { .. }) => {
                    prop_assert!(false, "invented");
                }
            }
        }

        #[test]
        fn an_error_neither_drops_a_doubt_nor_waits_for_ever_nor_not_at_all(
            post in posts(), capabilities in platforms(), error in errors(),
        ) {
            let settings = DeliverySettings::default();
            let case = Case::new(&post, capabilities, &settings);
            let may_be_there = post.uncertain_since.is_some() || matches!(error, PostError::Unknown(_));
            let end = case.failed(error.clone(), now());
            if matches!(error, PostError::Removed(_)) {
                prop_assert!(matches!(end, PostEnd::Failed { .. }), "somebody wants it gone");
                return Ok(());
            }
            match end {
                PostEnd::Deferred { until, uncertain, holds, counts, .. } => {
                    prop_assert!(holds, "the others keep their place behind it");
                    prop_assert_eq!(uncertain, may_be_there);
                    prop_assert!(until > now());
                    prop_assert!(until <= now() + LONGEST_RETRY_AFTER.max(settings.closed.max));
                    if let PostError::NotSent { retry_after: Some(asked), .. } = error {
                        let asked_for = !asked.is_zero();
                        prop_assert_eq!(counts, !asked_for);
                        prop_assert!(!asked_for || until == now() + asked.min(LONGEST_RETRY_AFTER));
                    } else {
                        prop_assert!(counts);
                    }
                }
                PostEnd::Failed { .. } if may_be_there => {
                    prop_assert_eq!(post.on_unknown, OnUnknown::AtMostOnce);
                }
                PostEnd::Failed { .. } => prop_assert!(matches!(error, PostError::Refused(_))),
                PostEnd::NeedsReview { .. } => {
                    prop_assert!(may_be_there && !capabilities.look_up);
                    prop_assert_eq!(post.on_unknown, OnUnknown::NeedsReview);
                }
                PostEnd::Posted(_) | PostEnd::Followed { .. } | PostEnd::Skipped { .. } => {
                    prop_assert!(false, "invented");
                }
            }
        }
    }

    #[test]
    fn the_actors_limits_defer_or_skip() {
        let (post, settings) = (claimed(1, "somewhere"), DeliverySettings::default());
        let case = Case::new(&post, capabilities(None, false), &settings);
        let later = now() + TimeDelta::hours(1);
        assert_eq!(case.by_limits(Verdict::Now, now()), Action::Send);
        assert_eq!(
            case.by_limits(Verdict::Skip, now()),
            Action::End(PostEnd::Skipped { reason: SkipReason::RateLimited })
        );
        let Action::End(PostEnd::Deferred { until, uncertain, holds, .. }) =
            case.by_limits(Verdict::Later(later), now())
        else {
            panic!("it is not allowed yet");
        };
        assert_eq!((until, uncertain, holds), (later, false, false), "others need not wait for that");
    }

    #[test]
    fn failures_wait_longer_each_time_up_to_a_bound() {
        let settings = DeliverySettings::default();
        let wait = |attempt, error| {
            let post = ClaimedPost { tries: attempt, ..claimed(1, "somewhere") };
            let PostEnd::Deferred { until, .. } =
                Case::new(&post, capabilities(None, true), &settings).failed(error, now())
            else {
                panic!("it is worth another try");
            };
            (until - now()).to_std().expect("later")
        };
        let busy = || PostError::NotSent { reason: "busy".into(), retry_after: None };
        assert!(wait(1, busy()) <= settings.retry.initial);
        assert!(wait(4, busy()) > wait(1, busy()));
        assert!(wait(1000, busy()) <= settings.retry.max);
        let closed = || PostError::DestinationClosed("gone".into());
        assert!(wait(1, closed()) > wait(1, busy()));
        assert!(wait(1000, closed()) <= settings.closed.max);
    }
}

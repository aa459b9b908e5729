//! What is to follow a post that is there: a thread, a crosspost. The post is `posted` whatever becomes of it, and each
//! step can be repeated, so nothing is ever in doubt here.

use super::decision::{Case, LONGEST_RETRY_AFTER};
use super::{Courier, Exchange};
use botticelli_server::outbox::{Asked, ClaimedPost, FollowAgain, PostEnd};
use botticelli_server::outcome::panic_message;
use botticelli_server::post::{Platform, PostError, Receipt};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

impl Courier {
    /// Tries each step that is to follow the post.
    pub(super) async fn follow_up(
        &self,
        posted: &Receipt,
        case: &mut Case<'_>,
        platform: &Platform,
    ) -> PostEnd {
        let mut receipt = Receipt { to_follow: Vec::new(), ..posted.clone() };
        let mut again: Option<FollowAgain> = None;
        for step in &posted.to_follow {
            let Err(error) = self.step(posted, step, case, platform).await else { continue };
            match put_off(step, error, case, self.clock.now()) {
                Ok(later) => {
                    receipt.to_follow.push(step.clone());
                    again = again.into_iter().chain([later]).min_by_key(|later| later.at);
                }
                Err(reason) => receipt.missing.push(format!("{step}: {reason}")),
            }
        }
        PostEnd::Followed { receipt, again }
    }

    async fn step(
        &self,
        posted: &Receipt,
        step: &str,
        case: &mut Case<'_>,
        platform: &Platform,
    ) -> Result<(), PostError> {
        let ClaimedPost { content, destination, .. } = case.post;
        let request = async {
            let request = AssertUnwindSafe(platform.follow_up(content, destination, posted, step));
            request.catch_unwind().await.unwrap_or_else(|panic| {
                Err(PostError::Unknown(format!("the platform panicked: {}", panic_message(&*panic)).into()))
            })
        };
        let done = self.ask(case, Asked::FollowUp, request, Exchange::followed).await;
        if let Some(exchange) = case.exchanges.last_mut() {
            let said = exchange.text.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
            exchange.text = Some(format!("{step}{said}"));
        }
        done
    }

    /// Another node, or this one with another configuration, may know the platform.
    pub(super) fn follows_later(&self, post: &ClaimedPost, posted: &Receipt) -> PostEnd {
        let now = self.clock.now();
        let again = FollowAgain {
            at: now + self.settings.closed.wait(&post.task_id, post.tries, now),
            reason: format!("this server has no platform {:?}", post.destination.platform),
            counts: true,
        };
        PostEnd::Followed { receipt: posted.clone(), again: Some(again) }
    }
}

/// When the step is tried again; `Err`: never.
fn put_off(step: &str, error: PostError, case: &Case<'_>, now: DateTime<Utc>) -> Result<FollowAgain, String> {
    let (settings, post) = (case.settings, case.post);
    let (reason, asked_for, backoff) = match error {
        PostError::Refused(reason) | PostError::Removed(reason) => return Err(reason.into()),
        PostError::NotSent { reason, retry_after } => (reason, retry_after, &settings.retry),
        PostError::Unknown(reason) => (reason, None, &settings.retry),
        PostError::DestinationClosed(reason) => (reason, None, &settings.closed),
    };
    let asked_for = asked_for.filter(|wait: &Duration| !wait.is_zero());
    let wait = asked_for.unwrap_or_else(|| backoff.wait(&post.task_id, post.tries, now));
    Ok(FollowAgain {
        at: now + wait.min(LONGEST_RETRY_AFTER),
        reason: format!("its {step} follows later: {reason}"),
        counts: asked_for.is_none(),
    })
}

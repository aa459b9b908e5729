//! What follows a message that is there: a thread, a crosspost. Both can be repeated: Discord does them once. So when
//! one breaks off, the whole post is sent again with its nonce, which makes no second message, and what is missing is
//! done then.

use super::{Bot, locked};
use crate::discord::error::{Class, DiscordError};
use crate::discord::message::Message;
use crate::discord::snowflake::Snowflake;
use botticelli_database::fail_points::{Point, pass};
use botticelli_server::post::{PostError, Receipt};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashMap;
use std::sync::Mutex;

/// What a channel refused is not asked for again for so long: refusals count towards a ban.
const CLOSED_FOR: TimeDelta = TimeDelta::hours(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FollowUp {
    Thread,
    Crosspost,
}

/// Until when which step is not tried in a channel, and why.
pub(super) type ClosedSteps = Mutex<HashMap<(Snowflake, FollowUp), (DateTime<Utc>, String)>>;

/// How a step ended that was not done.
enum NotDone {
    /// Another try may do it.
    Yet(String),
    /// The message is there, without it.
    AtAll(String),
}

impl Bot {
    /// The receipt, once all that is to follow the message is done, or known to be missing.
    pub(super) async fn follow_up(
        &self,
        channel: Snowflake,
        message: &Message,
        posted: Snowflake,
        mut receipt: Receipt,
    ) -> Result<Receipt, PostError> {
        if message.thread.is_some() || message.crosspost {
            pass(Point::FollowUpDue);
        }
        if let Some(thread) = &message.thread {
            let starting = async { self.rest.start_thread(channel, posted, thread).await.map(drop) };
            let done = self.step(channel, FollowUp::Thread, starting).await;
            note(&mut receipt, "thread", done)?;
        }
        if message.crosspost {
            let done = self.step(channel, FollowUp::Crosspost, self.rest.crosspost(channel, posted)).await;
            note(&mut receipt, "crosspost", done)?;
        }
        Ok(receipt)
    }

    /// The same for a message that a look-up found. What can't be done now is left to the next look-up.
    pub(super) async fn complete(
        &self,
        channel: Snowflake,
        message: &Message,
        receipt: Receipt,
    ) -> Result<Receipt, PostError> {
        match receipt.message_id.parse() {
            Ok(posted) => {
                self.follow_up(channel, message, posted, receipt).await.map_err(|error| match error {
                    PostError::Unknown(reason) => PostError::NotSent { reason, retry_after: None },
                    other => other,
                })
            }
            Err(_) => Ok(receipt),
        }
    }

    async fn step(
        &self,
        channel: Snowflake,
        step: FollowUp,
        request: impl Future<Output = Result<(), DiscordError>>,
    ) -> Result<(), NotDone> {
        let now = self.clock.now();
        let closed =
            locked(&self.closed_steps).get(&(channel, step)).filter(|(until, _)| *until > now).cloned();
        if let Some((_, reason)) = closed {
            return Err(NotDone::AtAll(reason));
        }
        let Err(error) = request.await else { return Ok(()) };
        if error.class() == Some(Class::Destination) {
            locked(&self.closed_steps).insert((channel, step), (now + CLOSED_FOR, error.to_string()));
        }
        Err(not_done(step, &error))
    }
}

/// A crosspost that has to wait for Discord's limit (about ten an hour) must not hold up what comes after it.
fn not_done(step: FollowUp, error: &DiscordError) -> NotDone {
    let text = error.to_string();
    let waits_for_limit = match error {
        DiscordError::Unknown(_) => return NotDone::Yet(text),
        DiscordError::NotSent { retry_after, .. } => retry_after.is_some(),
        DiscordError::Answered(answer) if matches!(answer.class, Class::RateLimited | Class::Later) => true,
        DiscordError::Stopped(_) | DiscordError::Invalid(_) | DiscordError::Answered(_) => {
            return NotDone::AtAll(text);
        }
    };
    match step {
        FollowUp::Crosspost if waits_for_limit => NotDone::AtAll(text),
        FollowUp::Thread | FollowUp::Crosspost => NotDone::Yet(text),
    }
}

fn note(receipt: &mut Receipt, step: &str, done: Result<(), NotDone>) -> Result<(), PostError> {
    match done {
        Ok(()) => Ok(()),
        Err(NotDone::AtAll(reason)) => {
            receipt.missing.push(format!("{step}: {reason}"));
            Ok(())
        }
        Err(NotDone::Yet(reason)) => {
            Err(PostError::Unknown(format!("the message is there, its {step} is not yet: {reason}").into()))
        }
    }
}

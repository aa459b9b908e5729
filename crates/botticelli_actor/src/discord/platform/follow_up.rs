//! What follows a message that is there: a thread, a crosspost. Discord does each once, however often it is asked.

use super::{Bot, locked};
use crate::discord::error::{Class, DiscordError};
use crate::discord::message::Message;
use crate::discord::snowflake::Snowflake;
use botticelli_database::fail_points::{Point, pass};
use botticelli_server::post::{PostError, Reason};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

/// What a channel refused is not asked for again for so long: refusals count towards a ban.
const CLOSED_FOR: TimeDelta = TimeDelta::hours(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FollowUp {
    Thread,
    Crosspost,
}

impl FollowUp {
    const ALL: [Self; 2] = [Self::Thread, Self::Crosspost];

    fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Crosspost => "crosspost",
        }
    }

    fn is_wanted(self, message: &Message) -> bool {
        match self {
            Self::Thread => message.thread.is_some(),
            Self::Crosspost => message.crosspost,
        }
    }
}

/// A step that a channel refused.
pub(super) struct Closed {
    until: DateTime<Utc>,
    reason: Reason,
    /// The messages whose deliverer knows. If one comes again, somebody wants it to be tried.
    told: HashSet<Snowflake>,
}

/// What channels refused.
pub(super) type ClosedSteps = Mutex<HashMap<(Snowflake, FollowUp), Closed>>;

/// The steps that are to follow `message`, in their order.
pub(super) fn steps(message: &Message) -> Vec<String> {
    let wanted = FollowUp::ALL.into_iter().filter(|step| step.is_wanted(message));
    wanted.map(|step| step.name().to_owned()).collect()
}

impl Bot {
    /// Does one of [`steps`].
    pub(super) async fn do_step(
        &self,
        channel: Snowflake,
        message: &Message,
        posted: Snowflake,
        step: &str,
    ) -> Result<(), PostError> {
        let refused = || PostError::Refused(format!("nothing named {step:?} follows this message").into());
        let known = FollowUp::ALL.into_iter().find(|known| known.name() == step);
        let known = known.filter(|known| known.is_wanted(message)).ok_or_else(refused)?;
        if let Some(reason) = self.is_closed(channel, known, posted) {
            return Err(PostError::Refused(reason));
        }
        pass(Point::FollowUpDue);
        let done = match (&message.thread, known) {
            (Some(thread), FollowUp::Thread) => {
                self.rest.start_thread(channel, posted, thread).await.map(drop)
            }
            (None, FollowUp::Thread) => return Err(refused()),
            (_, FollowUp::Crosspost) => self.rest.crosspost(channel, posted).await,
        };
        done.map_err(|error| self.not_done(channel, known, posted, error))
    }

    fn is_closed(&self, channel: Snowflake, step: FollowUp, posted: Snowflake) -> Option<Reason> {
        let now = self.clock.now();
        let mut steps = locked(&self.closed_steps);
        steps.retain(|_, closed| closed.until > now);
        let closed = steps.get_mut(&(channel, step))?;
        closed.told.insert(posted).then(|| closed.reason.clone())
    }

    /// A channel that refuses is closed for this step, and for nothing else: it takes messages.
    fn not_done(
        &self,
        channel: Snowflake,
        step: FollowUp,
        posted: Snowflake,
        error: DiscordError,
    ) -> PostError {
        if error.is_of_gone_message() {
            return PostError::Removed(error.reason());
        }
        if error.class() != Some(Class::Destination) {
            return error.into();
        }
        let (until, reason) = (self.clock.now() + CLOSED_FOR, error.reason());
        let closed = Closed { until, reason: reason.clone(), told: HashSet::from([posted]) };
        locked(&self.closed_steps).insert((channel, step), closed);
        PostError::Refused(reason)
    }
}

//! Polls.

use super::{Context, Reply, messages};
use crate::error::{self, ApiError};
use crate::ledger::Event;
use crate::pings::Pings;

pub(super) fn expire(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    let id = context.call.id("message_id")?;
    let now = context.now;
    let bot = context.bot;
    let message = context.state.message_mut(channel.id, id)?;
    if message.author_id != bot {
        return Err(error::not_own_message());
    }
    let poll = message.poll.as_mut().ok_or_else(error::no_poll)?;
    if poll.ends_at <= now {
        return Err(error::poll_expired());
    }
    poll.ends_at = now;
    context.state.record(Event::Edited, channel.id, id, context.call.seq, Pings::default());
    let message = context.state.message(channel.id, id)?;
    Reply::ok(messages::show_to_reader(context, message))
}

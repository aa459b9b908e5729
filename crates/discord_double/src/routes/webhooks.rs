//! Webhooks, and what they post.

use super::messages::{self, Author};
use super::{Context, Reply, threads};
use crate::error::{self, ApiError, FormErrors};
use crate::id::Id;
use crate::message::Message;
use crate::permissions::Permissions;
use crate::validation::{self, Form};
use crate::world::{Channel, Webhook};
use serde_json::{Value, json};

/// What a webhook may do, wherever it posts.
const POWERS: Permissions =
    Permissions(Permissions::POSTER.0 | Permissions::MENTION_EVERYONE.0 | Permissions::SEND_TTS_MESSAGES.0);

/// The webhook in the path, if its token is right.
fn webhook(context: &Context<'_>) -> Result<Webhook, ApiError> {
    let id = context.call.id("webhook_id")?;
    let webhook = context.state.world.webhooks.get(&id).ok_or_else(error::unknown_webhook)?;
    match context.call.params.get("webhook_token") == Some(&webhook.token) {
        true => Ok(webhook.clone()),
        false => Err(error::invalid_webhook_token()),
    }
}

fn show(context: &Context<'_>, webhook: &Webhook) -> Value {
    let guild = context.state.world.channel(webhook.channel_id).map(|channel| channel.guild_id);
    json!({
        "id": webhook.id, "type": 1, "guild_id": guild, "channel_id": webhook.channel_id, "name": webhook.name,
        "avatar": null, "token": webhook.token, "application_id": null,
    })
}

pub(super) fn get_with_token(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let webhook = webhook(context)?;
    Reply::ok(show(context, &webhook))
}

pub(super) fn get(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let id = context.call.id("webhook_id")?;
    let webhook = context.state.world.webhooks.get(&id).ok_or_else(error::unknown_webhook)?;
    let channel = context.state.world.channel(webhook.channel_id).ok_or_else(error::unknown_webhook)?;
    context.require(channel, Permissions::MANAGE_WEBHOOKS)?;
    Reply::ok(show(context, webhook))
}

pub(super) fn of_channel(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    context.require(&channel, Permissions::MANAGE_WEBHOOKS)?;
    let webhooks = context.state.world.webhooks.values();
    let own = webhooks.filter(|webhook| webhook.channel_id == channel.id);
    let shown: Vec<_> = own.map(|webhook| show(context, webhook)).collect();
    Reply::ok(json!(shown))
}

/// Where the webhook's message goes: its channel, or a thread of it that the request names.
fn target(context: &mut Context<'_>, webhook: &Webhook) -> Result<Channel, ApiError> {
    let channel = context.state.world.channel(webhook.channel_id).ok_or_else(error::unknown_webhook)?.clone();
    let Some(thread) = context.call.query_id("thread_id")? else { return Ok(channel) };
    let thread = context.state.world.channel(thread).cloned();
    thread.filter(|thread| thread.parent_id == Some(channel.id)).ok_or_else(error::unknown_channel)
}

pub(super) fn execute(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let webhook = webhook(context)?;
    let waits = context.call.query_is("wait", "true") || context.call.query_is("wait", "1");
    let posted = post(context, &webhook);
    if waits {
        let id = posted?;
        let message = context.state.message(id.0, id.1)?;
        let body = message.show(&context.state.world, context.now);
        return Ok(Reply { status: 200, body: Some(body) });
    }
    match posted {
        // Nobody waits to hear whether the message was saved: only a request that is wrong in itself is refused.
        Err(error) if !is_silent(&error) => Err(error),
        Ok(_) | Err(_) => Reply::no_content(),
    }
}

/// Errors that come up only when the message is saved.
fn is_silent(error: &ApiError) -> bool {
    matches!(error.code, 50083 | 160_005 | 10003)
}

fn post(context: &mut Context<'_>, webhook: &Webhook) -> Result<(Id, Id), ApiError> {
    let channel = target(context, webhook)?;
    let payload = context.call.payload()?;
    let fields = &payload.json;
    let components = context.call.query_is("with_components", "true");
    let form = Form::Webhook { components };
    let file_bytes = messages::file_bytes(context, &channel);
    let draft = validation::check(&context.state.settings, form, fields, payload, file_bytes)?;
    let name = check_username(&fields["username"])?.unwrap_or_else(|| webhook.name.clone());
    let limits = context.state.settings.limits.clone();
    let (rate, windows) = (limits.webhook_channel, &mut context.state.windows);
    windows.hidden(&limits, "webhook_channel", webhook.channel_id, rate, context.now, || {
        crate::limits::limited(crate::limits::Scope::Shared, 0.0)
    })?;
    let channel = thread_for(context, channel, fields, webhook.id)?;
    messages::writable_thread(context, &channel, POWERS | Permissions::MANAGE_THREADS)?;
    let author = Author { id: webhook.id, webhook_name: Some(name), permissions: POWERS };
    let starts = channel.owner_id == Some(webhook.id) && channel.last_message_id.is_none();
    let id = match starts {
        // A forum post's first message has the id of its thread.
        true => channel.id,
        false => context.state.snowflakes.next(context.now),
    };
    messages::store_as(context, id, &channel, &author, &draft, None);
    Ok((channel.id, id))
}

/// In a forum a message needs a thread: one that is there, or a new one.
fn thread_for(
    context: &mut Context<'_>,
    channel: Channel,
    fields: &Value,
    webhook: Id,
) -> Result<Channel, ApiError> {
    let new = fields["thread_name"].as_str();
    let names_thread = context.call.query.contains_key("thread_id");
    match (new, channel.kind.is_forum()) {
        (Some(_), _) if names_thread => Err(error::webhook_forum_one_thread()),
        (Some(name), true) => {
            let mut errors = FormErrors::default();
            let name = validation::check_name("thread_name", &json!(name), 100, &mut errors);
            errors.check()?;
            threads::by_webhook(context, &channel, &name, &fields["applied_tags"], webhook)
        }
        (Some(_), false) => Err(error::webhook_threads_in_forums_only()),
        (None, true) => Err(error::webhook_forum_needs_thread()),
        (None, false) => Ok(channel),
    }
}

fn check_username(name: &Value) -> Result<Option<String>, ApiError> {
    if name.is_null() {
        return Ok(None);
    }
    let mut errors = FormErrors::default();
    let name = validation::check_name("username", name, 80, &mut errors);
    for forbidden in ["clyde", "discord"] {
        if name.to_lowercase().contains(forbidden) {
            let message = format!("Username cannot contain \"{forbidden}\"");
            errors.add("username", "USERNAME_INVALID_CONTAINS", message);
        }
    }
    for forbidden in ["here", "everyone"] {
        if name.eq_ignore_ascii_case(forbidden) {
            errors.add("username", "USERNAME_INVALID", format!("Username cannot be \"{forbidden}\""));
        }
    }
    errors.check()?;
    Ok(Some(name))
}

/// A message that this webhook wrote.
fn own_message(context: &mut Context<'_>) -> Result<(Channel, Message), ApiError> {
    let webhook = webhook(context)?;
    let channel = target(context, &webhook)?;
    let message = context.state.message(channel.id, context.call.id("message_id")?)?;
    match message.author_id == webhook.id {
        true => Ok((channel, message.clone())),
        false => Err(error::unknown_message()),
    }
}

pub(super) fn get_message(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let (_, message) = own_message(context)?;
    Reply::ok(message.show(&context.state.world, context.now))
}

pub(super) fn edit_message(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let (channel, message) = own_message(context)?;
    let payload = context.call.payload()?;
    let form = Form::Edit { flags: message.body.flags, webhook: true };
    let file_bytes = messages::file_bytes(context, &channel);
    let draft = validation::check(&context.state.settings, form, &payload.json, payload, file_bytes)?;
    messages::apply_edit(context, &channel, message, &draft, POWERS)
}

pub(super) fn delete_message(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let (channel, message) = own_message(context)?;
    context.state.delete_message(channel.id, message.id, context.call.seq)?;
    Reply::no_content()
}

//! Messages of bots.

use super::{Context, Reply};
use crate::error::{self, ApiError, form_error};
use crate::id::Id;
use crate::ledger::Event;
use crate::message::{self, Message, Poll, Reference, iso};
use crate::permissions::Permissions;
use crate::pings::{self, AllowedMentions, Pings};
use crate::state::{AfterOrder, nonce_text};
use crate::validation::{self, Draft, Form};
use crate::world::Channel;
use chrono::TimeDelta;
use serde_json::{Value, json};

/// Who writes.
pub(super) struct Author {
    pub(super) id: Id,
    /// The name that a webhook's message is shown under.
    pub(super) webhook_name: Option<String>,
    pub(super) permissions: Permissions,
}

pub(super) fn create(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    if channel.kind.is_forum() {
        return Err(error::message_in_forum());
    }
    let permissions = context.permissions(&channel);
    let send = match channel.kind.is_thread() {
        true => Permissions::SEND_MESSAGES_IN_THREADS,
        false => Permissions::SEND_MESSAGES,
    };
    context.require(&channel, send)?;
    let payload = context.call.payload()?;
    let file_bytes = file_bytes(context, &channel);
    let mut draft =
        validation::check(&context.state.settings, Form::Create, &payload.json, payload, file_bytes)?;
    check_permissions(&mut draft, permissions)?;
    if let Some(known) = deduplicate(context, &channel, &draft)? {
        return Ok(known);
    }
    writable_thread(context, &channel, permissions)?;
    let author = Author { id: context.bot, webhook_name: None, permissions };
    let reference = resolve_reference(context, &channel, &draft, permissions)?;
    let id = store(context, &channel, &author, &draft, reference);
    if let Some(nonce) = &draft.nonce {
        let rules = context.state.settings.nonce.clone();
        let nonce = nonce_text(nonce);
        context.state.nonces.remember(&rules, context.bot, &nonce, context.now, (channel.id, id));
    }
    reply_with_nonce(context, channel.id, id)
}

/// The message that had this nonce before, if that must be unique.
fn deduplicate(context: &Context<'_>, channel: &Channel, draft: &Draft) -> Result<Option<Reply>, ApiError> {
    let Some(nonce) = draft.nonce.as_ref().filter(|_| draft.enforce_nonce) else { return Ok(None) };
    let rules = &context.state.settings.nonce;
    let used = context.state.nonces.find(rules, context.bot, channel.id, &nonce_text(nonce), context.now);
    used.map(|used| reply_with_nonce(context, used.channel_id, used.message_id)).transpose()
}

fn reply_with_nonce(context: &Context<'_>, channel: Id, id: Id) -> Result<Reply, ApiError> {
    let message = context.state.message(channel, id)?;
    let mut shown = message.show(&context.state.world, context.now);
    if let Some(nonce) = &message.nonce {
        shown["nonce"] = nonce.clone();
    }
    Ok(Reply { status: 200, body: Some(shown) })
}

/// Refuses what the author may not send. Embeds beside other content are dropped in silence.
pub(super) fn check_permissions(draft: &mut Draft, permissions: Permissions) -> Result<(), ApiError> {
    let embeds = draft.embeds.as_ref().is_some_and(|embeds| !embeds.is_empty());
    if embeds && !permissions.has(Permissions::EMBED_LINKS) {
        draft.embeds = Some(Vec::new());
        if draft.is_empty() {
            return Err(error::missing_permissions());
        }
    }
    let needed = [
        (!draft.files.is_empty(), Permissions::ATTACH_FILES),
        (draft.poll.is_some(), Permissions::SEND_POLLS),
        (draft.tts, Permissions::SEND_TTS_MESSAGES),
    ];
    match needed.into_iter().all(|(used, permission)| !used || permissions.has(permission)) {
        true => Ok(()),
        false => Err(error::missing_permissions()),
    }
}

/// A locked thread takes messages only from those who may manage it. An archived one is opened by a message.
pub(super) fn writable_thread(
    context: &mut Context<'_>,
    channel: &Channel,
    permissions: Permissions,
) -> Result<(), ApiError> {
    if !channel.kind.is_thread() || !channel.archived {
        return match channel.locked && !permissions.has(Permissions::MANAGE_THREADS) {
            true => Err(error::locked_thread()),
            false => Ok(()),
        };
    }
    if channel.locked && !permissions.has(Permissions::MANAGE_THREADS) {
        return Err(error::archived_thread());
    }
    let now = context.now;
    let thread = context.state.world.channel_mut(channel.id);
    (thread.archived, thread.archived_at) = (false, now);
    Ok(())
}

pub(super) fn file_bytes(context: &Context<'_>, channel: &Channel) -> usize {
    let tier = context.state.world.guild(channel.guild_id).map_or(0, |guild| guild.premium_tier);
    let mebibytes = match tier {
        0 | 1 => 10,
        2 => 50,
        _ => 100,
    };
    mebibytes * 1024 * 1024
}

fn resolve_reference(
    context: &Context<'_>,
    channel: &Channel,
    draft: &Draft,
    permissions: Permissions,
) -> Result<Option<Reference>, ApiError> {
    let Some(reference) = &draft.reference else { return Ok(None) };
    if !permissions.has(Permissions::READ_MESSAGE_HISTORY) {
        return Err(error::reply_without_history());
    }
    let channel_id = reference.channel_id.unwrap_or(channel.id);
    let original = context.state.message(channel_id, reference.message_id).ok();
    let original = original.filter(|_| reference.forward || channel_id == channel.id);
    match original {
        Some(original) => {
            let shown = reference.forward.then(|| original.show(&context.state.world, context.now));
            Ok(Some(Reference {
                forward: reference.forward,
                channel_id,
                message_id: original.id,
                snapshot: shown,
            }))
        }
        None if reference.fail_if_not_exists => {
            Err(form_error("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message"))
        }
        None => Ok(None),
    }
}

/// Puts a checked message into a channel.
pub(super) fn store(
    context: &mut Context<'_>,
    channel: &Channel,
    author: &Author,
    draft: &Draft,
    reference: Option<Reference>,
) -> Id {
    let id = context.state.snowflakes.next(context.now);
    store_as(context, id, channel, author, draft, reference);
    id
}

pub(super) fn store_as(
    context: &mut Context<'_>,
    id: Id,
    channel: &Channel,
    author: &Author,
    draft: &Draft,
    reference: Option<Reference>,
) {
    let mut body = draft.body();
    body.content = context.strip(&body.content);
    body.attachments = new_attachments(context, channel.id, &draft.files);
    let replied = reference.as_ref().filter(|reference| !reference.forward);
    let replied = replied.and_then(|reply| context.state.message(reply.channel_id, reply.message_id).ok());
    let pings =
        pinged(context, channel, author.permissions, &body, &draft.allowed, replied.map(|to| to.author_id));
    let kind = if reference.as_ref().is_some_and(|reference| !reference.forward) { 19 } else { 0 };
    let now = context.now;
    let poll = draft.poll.as_ref().map(|poll| Poll {
        question: poll.question.clone(),
        answers: poll.answers.clone(),
        multiselect: poll.multiselect,
        layout: poll.layout,
        ends_at: now + TimeDelta::hours(poll.hours),
    });
    let message = Message {
        id,
        channel_id: channel.id,
        author_id: author.id,
        webhook_name: author.webhook_name.clone(),
        kind,
        body,
        reference,
        poll,
        created_at: now,
        edited_at: None,
        pinned_at: None,
        pings,
        nonce: draft.nonce.clone(),
        visible_from: now + context.hidden_for,
    };
    context.state.create_message(message, context.call.seq);
}

pub(super) fn new_attachments(context: &mut Context<'_>, channel: Id, files: &[Value]) -> Vec<Value> {
    let mut attachments = Vec::new();
    for file in files {
        let id = context.state.snowflakes.next(context.now);
        let name = file["filename"].as_str().unwrap_or("unknown");
        let url = format!("https://cdn.discordapp.com/attachments/{channel}/{id}/{name}");
        let mut attachment = file.clone();
        attachment["id"] = json!(id);
        attachment["proxy_url"] = json!(url.replace("cdn.discordapp.com", "media.discordapp.net"));
        attachment["url"] = json!(url);
        attachments.push(attachment);
    }
    attachments
}

fn pinged(
    context: &Context<'_>,
    channel: &Channel,
    permissions: Permissions,
    body: &message::Body,
    allowed: &AllowedMentions,
    replied: Option<Id>,
) -> Pings {
    let mut texts = vec![body.content.as_str()];
    body.components.iter().for_each(|component| pings::component_texts(component, &mut texts));
    pings::pinged(&texts, allowed, permissions, context.state.world.guild(channel.guild_id), replied)
}

pub(super) fn edit(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    let id = context.call.id("message_id")?;
    let permissions = context.permissions(&channel);
    let message = context.state.message(channel.id, id)?.clone();
    let payload = context.call.payload()?;
    if message.author_id != context.bot {
        return Err(error::not_own_message());
    }
    let form = Form::Edit { flags: message.body.flags, webhook: false };
    let mut draft = validation::check(
        &context.state.settings,
        form,
        &payload.json,
        payload,
        file_bytes(context, &channel),
    )?;
    if !permissions.has(Permissions::EMBED_LINKS) {
        draft.embeds = None;
    }
    check_permissions(&mut draft, permissions)?;
    if channel.archived {
        return Err(error::archived_thread());
    }
    if context.now - message.created_at > TimeDelta::hours(1) {
        let limits = context.state.settings.limits.clone();
        let rate = limits.old_edits;
        let windows = &mut context.state.windows;
        windows.hidden(&limits, "old_edits", channel.id, rate, context.now, error::old_edits)?;
    }
    apply_edit(context, &channel, message, &draft, permissions)
}

/// Changes what the request named, and leaves the rest.
pub(super) fn apply_edit(
    context: &mut Context<'_>,
    channel: &Channel,
    message: Message,
    draft: &Draft,
    permissions: Permissions,
) -> Result<Reply, ApiError> {
    let mut body = message.body;
    if let Some(content) = &draft.content {
        body.content = context.strip(content);
    }
    if let Some(embeds) = &draft.embeds {
        body.embeds = embeds.clone();
    }
    if let Some(components) = &draft.components {
        body.components = components.clone();
    }
    if let Some(kept) = &draft.kept {
        let is_kept = |attachment: &Value| {
            serde_json::from_value::<Id>(attachment["id"].clone()).is_ok_and(|id| kept.contains(&id))
        };
        body.attachments.retain(is_kept);
    }
    let new = new_attachments(context, channel.id, &draft.files);
    body.attachments.extend(new);
    if let Some(flags) = draft.flags {
        // Components V2 can't be taken back; the flags that nobody sets stay as they are.
        let suppress = flags & message::SUPPRESS_EMBEDS;
        body.flags = (body.flags & !message::SUPPRESS_EMBEDS) | suppress | (flags & message::COMPONENTS_V2);
    }
    let nothing = body.content.is_empty()
        && body.embeds.is_empty()
        && body.components.is_empty()
        && body.attachments.is_empty()
        && body.stickers.is_empty()
        && message.poll.is_none()
        && message.reference.is_none();
    if nothing {
        return Err(error::empty_message());
    }
    let pings = pinged(context, channel, permissions, &body, &draft.allowed, None);
    let (id, now) = (message.id, context.now);
    let stored = context.state.message_mut(channel.id, id)?;
    (stored.body, stored.pings, stored.edited_at) = (body, pings.clone(), Some(now));
    context.state.record(Event::Edited, channel.id, id, context.call.seq, pings);
    show(context, channel, id)
}

fn show(context: &Context<'_>, channel: &Channel, id: Id) -> Result<Reply, ApiError> {
    let message = context.state.message(channel.id, id)?;
    let body = message.show(&context.state.world, context.now);
    Ok(Reply { status: 200, body: Some(body) })
}

pub(super) fn delete(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    let id = context.call.id("message_id")?;
    let message = context.state.message(channel.id, id)?;
    if message.author_id != context.bot {
        context.require(&channel, Permissions::MANAGE_MESSAGES)?;
    }
    context.state.delete_message(channel.id, id, context.call.seq)?;
    Reply::no_content()
}

pub(super) fn crosspost(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    let id = context.call.id("message_id")?;
    if channel.kind.number() != 5 {
        return Err(error::wrong_channel_type());
    }
    let message = context.state.message(channel.id, id)?;
    let own = message.author_id == context.bot;
    let crossposted = message.body.flags & message::CROSSPOSTED != 0;
    let needed = if own { Permissions::SEND_MESSAGES } else { Permissions::MANAGE_MESSAGES };
    context.require(&channel, needed)?;
    if crossposted {
        return Err(error::already_crossposted());
    }
    let limits = context.state.settings.limits.clone();
    let (rate, windows) = (limits.crosspost, &mut context.state.windows);
    windows.hidden(&limits, "crossposts", channel.id, rate, context.now, error::slow_crosspost)?;
    context.state.message_mut(channel.id, id)?.body.flags |= message::CROSSPOSTED;
    context.state.record(Event::Crossposted, channel.id, id, context.call.seq, Pings::default());
    show(context, &channel, id)
}

pub(super) fn get(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    context.require(&channel, Permissions::READ_MESSAGE_HISTORY)?;
    let message = context.state.message(channel.id, context.call.id("message_id")?)?;
    match message.visible_from <= context.now {
        true => Reply::ok(show_to_reader(context, message)),
        false => Err(error::unknown_message()),
    }
}

pub(super) fn list(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    let limit = context.call.limit(50, 100)?;
    let before = context.call.query_id("before")?;
    let after = context.call.query_id("after")?;
    let around = context.call.query_id("around")?;
    if [before, after, around].iter().flatten().count() > 1 {
        return Err(form_error(
            "",
            "MESSAGES_QUERY_EXCLUSIVE",
            "before, after and around are mutually exclusive",
        ));
    }
    if !context.permissions(&channel).has(Permissions::READ_MESSAGE_HISTORY) {
        return Reply::ok(json!([]));
    }
    let messages = context.state.world.messages.get(&channel.id).into_iter().flat_map(|all| all.values());
    let messages: Vec<&Message> = messages.filter(|message| message.visible_from <= context.now).collect();
    let mut page = page(&messages, before, after, around, limit);
    if after.is_none() || context.state.settings.after_order == AfterOrder::NewestFirst {
        page.reverse();
    }
    let shown: Vec<_> = page.into_iter().map(|message| show_to_reader(context, message)).collect();
    Reply::ok(json!(shown))
}

/// The messages asked for, oldest first.
fn page<'a>(
    messages: &[&'a Message],
    before: Option<Id>,
    after: Option<Id>,
    around: Option<Id>,
    limit: usize,
) -> Vec<&'a Message> {
    let from = |start: usize, length: usize| messages.iter().skip(start).take(length).copied().collect();
    let position = |id: Id| messages.partition_point(|message| message.id < id);
    if let Some(after) = after {
        return from(position(Id(after.0 + 1)), limit);
    }
    if let Some(around) = around {
        let newer = limit / 2;
        let start = position(around).saturating_sub(limit - newer - 1);
        return from(start, limit);
    }
    let end = before.map_or(messages.len(), position);
    let start = end.saturating_sub(limit);
    from(start, end - start)
}

/// As the bot sees it: what others wrote is empty without the intent for it, unless they mention the bot.
pub(super) fn show_to_reader(context: &Context<'_>, message: &Message) -> Value {
    let mut shown = message.show(&context.state.world, context.now);
    if context.state.settings.nonce_in_reads
        && let Some(nonce) = &message.nonce
    {
        shown["nonce"] = nonce.clone();
    }
    let reader = context.state.world.users.get(&context.bot);
    let may_read = reader.is_some_and(|reader| reader.message_content)
        || message.author_id == context.bot
        || message.pings.users.contains(&context.bot);
    if !may_read {
        shown["content"] = json!("");
        for list in ["embeds", "attachments", "components"] {
            shown[list] = json!([]);
        }
        if let Some(fields) = shown.as_object_mut() {
            fields.remove("poll");
        }
    }
    let flags = shown["flags"].as_u64().unwrap_or(0);
    if flags & message::HAS_THREAD != 0
        && let Some(thread) = context.state.world.channel(message.id)
    {
        shown["thread"] = super::channels::show(&context.state.world, thread);
    }
    if let Some(pinned) = message.pinned_at {
        shown["pinned_at"] = json!(iso(pinned));
    }
    shown
}

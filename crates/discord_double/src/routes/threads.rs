//! Threads, and the posts of forums.

use super::messages::{self, Author};
use super::{Context, Reply, channels, guilds};
use crate::error::{self, ApiError, FormErrors};
use crate::id::Id;
use crate::message::{self, iso};
use crate::permissions::Permissions;
use crate::validation::{self, Form};
use crate::world::{Channel, ChannelKind};
use serde_json::{Value, json};

const AUTO_ARCHIVE: [u64; 4] = [60, 1440, 4320, 10080];

/// What a request says about a new thread.
struct Wish {
    name: String,
    auto_archive_minutes: u32,
}

fn wish(fields: &Value) -> Result<Wish, ApiError> {
    let mut errors = FormErrors::default();
    let name = validation::check_name("name", &fields["name"], 100, &mut errors);
    let minutes = fields["auto_archive_duration"].as_u64().unwrap_or(4320);
    if !AUTO_ARCHIVE.contains(&minutes) {
        let message = "Value must be one of (60, 1440, 4320, 10080).";
        errors.add("auto_archive_duration", "BASE_TYPE_CHOICES", message);
    }
    errors.check()?;
    Ok(Wish { name, auto_archive_minutes: u32::try_from(minutes).unwrap_or(4320) })
}

/// Makes a thread with that id below `parent`, owned by `owner`.
fn make(context: &mut Context<'_>, id: Id, parent: &Channel, kind: ChannelKind, wish: &Wish, owner: Id) {
    let now = context.now;
    let world = &mut context.state.world;
    world.add_thread_as(id, parent.id, kind, &wish.name);
    let thread = world.channel_mut(id);
    thread.owner_id = Some(owner);
    thread.thread_members.insert(owner);
    thread.auto_archive_minutes = wish.auto_archive_minutes;
    thread.archived_at = now;
}

pub(super) fn from_message(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    let id = context.call.id("message_id")?;
    let kind = match channel.kind {
        ChannelKind::Text => ChannelKind::PublicThread,
        ChannelKind::Announcement => ChannelKind::AnnouncementThread,
        ChannelKind::Voice
        | ChannelKind::AnnouncementThread
        | ChannelKind::PublicThread
        | ChannelKind::PrivateThread
        | ChannelKind::Forum
        | ChannelKind::Media => return Err(error::wrong_channel_type()),
    };
    context.require(&channel, Permissions::CREATE_PUBLIC_THREADS)?;
    context.state.message(channel.id, id)?;
    let wish = wish(&context.call.payload()?.json)?;
    if context.state.world.channel(id).is_some() {
        return Err(error::thread_exists());
    }
    make(context, id, &channel, kind, &wish, context.bot);
    context.state.message_mut(channel.id, id)?.body.flags |= message::HAS_THREAD;
    created(context, id)
}

fn created(context: &Context<'_>, id: Id) -> Result<Reply, ApiError> {
    let thread = context.state.world.channel(id).ok_or_else(error::unknown_channel)?;
    let body = channels::show(&context.state.world, thread);
    Ok(Reply { status: 201, body: Some(body) })
}

pub(super) fn start(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    if channel.kind.is_forum() {
        return forum_post(context, &channel);
    }
    let fields = &context.call.payload()?.json;
    let kind = match (channel.kind, fields["type"].as_u64().unwrap_or(12)) {
        (ChannelKind::Text, 11) => ChannelKind::PublicThread,
        (ChannelKind::Text, 12) => ChannelKind::PrivateThread,
        (ChannelKind::Announcement, _) => ChannelKind::AnnouncementThread,
        _ => return Err(error::wrong_channel_type()),
    };
    let needed = match kind {
        ChannelKind::PrivateThread => Permissions::CREATE_PRIVATE_THREADS,
        _ => Permissions::CREATE_PUBLIC_THREADS,
    };
    context.require(&channel, needed)?;
    let wish = wish(fields)?;
    let id = context.state.snowflakes.next(context.now);
    make(context, id, &channel, kind, &wish, context.bot);
    created(context, id)
}

fn forum_post(context: &mut Context<'_>, forum: &Channel) -> Result<Reply, ApiError> {
    // CREATE_PUBLIC_THREADS does not matter here.
    context.require(forum, Permissions::SEND_MESSAGES)?;
    let permissions = context.permissions(forum);
    let payload = context.call.payload()?;
    let wish = wish(&payload.json)?;
    let message = &payload.json["message"];
    if !message.is_object() {
        return Err(error::form_error("message", "BASE_TYPE_REQUIRED", "This field is required"));
    }
    let file_bytes = messages::file_bytes(context, forum);
    let settings = &context.state.settings;
    let mut draft = validation::check(settings, Form::ForumStarter, message, payload, file_bytes)?;
    messages::check_permissions(&mut draft, permissions)?;
    let tags = applied_tags(&payload.json, forum, permissions)?;
    let id = context.state.snowflakes.next(context.now);
    make(context, id, forum, ChannelKind::PublicThread, &wish, context.bot);
    context.state.world.channel_mut(id).applied_tags = tags;
    let thread = context.state.world.channel_mut(id).clone();
    let author = Author { id: context.bot, webhook_name: None, permissions };
    messages::store_as(context, id, &thread, &author, &draft, None);
    let mut body = created(context, id)?.body.unwrap_or_default();
    body["message"] = context.state.message(id, id)?.show(&context.state.world, context.now);
    Ok(Reply { status: 201, body: Some(body) })
}

fn applied_tags(fields: &Value, forum: &Channel, permissions: Permissions) -> Result<Vec<Id>, ApiError> {
    let none = Vec::new();
    let wanted = fields["applied_tags"].as_array().unwrap_or(&none);
    let mut errors = FormErrors::default();
    if wanted.len() > 5 {
        errors.too_long("applied_tags", 5);
    }
    let mut tags = Vec::new();
    for (index, wanted) in wanted.iter().enumerate() {
        let id = serde_json::from_value(wanted.clone()).unwrap_or_default();
        match forum.tags.iter().find(|tag| tag.id == id) {
            Some(tag) if tag.moderated && !permissions.has(Permissions::MANAGE_THREADS) => {
                return Err(error::no_tags());
            }
            Some(tag) => tags.push(tag.id),
            None => errors.add(
                &format!("applied_tags.{index}"),
                "FORUM_TAG_INVALID",
                format!("Tag {id} does not exist in this channel"),
            ),
        }
    }
    errors.check()?;
    match tags.is_empty() && forum.require_tag {
        true => Err(error::tag_required()),
        false => Ok(tags),
    }
}

/// A forum's post by a webhook.
pub(super) fn by_webhook(
    context: &mut Context<'_>,
    forum: &Channel,
    name: &str,
    tags: &Value,
    owner: Id,
) -> Result<Channel, ApiError> {
    let tags = applied_tags(&json!({"applied_tags": tags}), forum, Permissions::MANAGE_THREADS)?;
    let wish = Wish { name: name.to_owned(), auto_archive_minutes: 4320 };
    let id = context.state.snowflakes.next(context.now);
    make(context, id, forum, ChannelKind::PublicThread, &wish, owner);
    let thread = context.state.world.channel_mut(id);
    thread.applied_tags = tags;
    Ok(thread.clone())
}

/// Whether lists show it: not while its first message is hidden.
fn is_listed(context: &Context<'_>, thread: &Channel) -> bool {
    let first = context.state.message(thread.id, thread.id);
    let is_hidden = first.is_ok_and(|first| first.visible_from > context.now);
    guilds::can_view(context, thread) && !is_hidden
}

pub(super) fn active(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let guild = context.guild()?;
    let world = &context.state.world;
    let threads = world.channels.values().rev();
    let threads = threads
        .filter(|known| known.kind.is_thread() && known.guild_id == guild && !known.archived)
        .filter(|thread| is_listed(context, thread));
    let shown: Vec<_> = threads.map(|thread| channels::show(world, thread)).collect();
    Reply::ok(json!({"threads": shown, "members": []}))
}

pub(super) fn archived(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    context.require(&channel, Permissions::READ_MESSAGE_HISTORY)?;
    let limit = context.call.limit(50, 100)?;
    let before = context.call.query.get("before");
    let world = &context.state.world;
    let mut threads: Vec<_> = world
        .channels
        .values()
        .filter(|known| known.parent_id == Some(channel.id) && known.archived)
        .filter(|known| known.kind != ChannelKind::PrivateThread && is_listed(context, known))
        .filter(|thread| before.is_none_or(|before| iso(thread.archived_at).as_str() < before.as_str()))
        .collect();
    threads.sort_by_key(|thread| std::cmp::Reverse(thread.archived_at));
    let has_more = threads.len() > limit;
    let shown: Vec<_> = threads.iter().take(limit).map(|thread| channels::show(world, thread)).collect();
    Reply::ok(json!({"threads": shown, "members": [], "has_more": has_more}))
}

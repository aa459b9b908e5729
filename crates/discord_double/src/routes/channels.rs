//! Channels and pins.

use super::{Context, Reply, messages};
use crate::error::{self, ApiError};
use crate::message::{Message, iso};
use crate::permissions::Permissions;
use crate::world::{Channel, ChannelKind, Overwrite, OverwriteTarget, World};
use serde_json::{Value, json};

pub(super) fn get(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    Reply::ok(show(&context.state.world, &channel))
}

pub(super) fn show(world: &World, channel: &Channel) -> Value {
    let mut shown = json!({
        "id": channel.id,
        "type": channel.kind.number(),
        "guild_id": channel.guild_id,
        "name": channel.name,
        "parent_id": channel.parent_id,
        "last_message_id": channel.last_message_id,
        "flags": u8::from(channel.require_tag) << 4,
    });
    let extra = match channel.kind {
        ChannelKind::AnnouncementThread | ChannelKind::PublicThread | ChannelKind::PrivateThread => json!({
            "owner_id": channel.owner_id,
            "thread_metadata": {
                "archived": channel.archived,
                "archive_timestamp": iso(channel.archived_at),
                "auto_archive_duration": channel.auto_archive_minutes,
                "locked": channel.locked,
                "create_timestamp": iso(channel.id.time()),
            },
            "message_count": world.messages.get(&channel.id).map_or(0, |all| all.len()),
            "total_message_sent": channel.total_messages,
            "member_count": channel.thread_members.len(),
            "rate_limit_per_user": 0,
            "applied_tags": channel.applied_tags,
        }),
        ChannelKind::Forum | ChannelKind::Media => json!({
            "permission_overwrites": overwrites(channel),
            "position": 0, "nsfw": false, "topic": null, "rate_limit_per_user": 0,
            "available_tags": tags(channel),
            "default_reaction_emoji": null, "default_sort_order": null, "default_forum_layout": 0,
        }),
        ChannelKind::Text | ChannelKind::Voice | ChannelKind::Announcement => json!({
            "permission_overwrites": overwrites(channel),
            "position": 0, "nsfw": false, "topic": null, "rate_limit_per_user": 0,
        }),
    };
    if let (Value::Object(fields), Value::Object(extra)) = (&mut shown, extra) {
        fields.extend(extra);
    }
    shown
}

fn overwrites(channel: &Channel) -> Vec<Value> {
    let show = |overwrite: &Overwrite| {
        let (kind, id) = match overwrite.target {
            OverwriteTarget::Role(id) => (0, id),
            OverwriteTarget::Member(id) => (1, id),
        };
        json!({"id": id, "type": kind, "allow": overwrite.allow, "deny": overwrite.deny})
    };
    channel.overwrites.iter().map(show).collect()
}

fn tags(channel: &Channel) -> Vec<Value> {
    let show = |tag: &crate::world::Tag| json!({"id": tag.id, "name": tag.name, "moderated": tag.moderated, "emoji_id": null, "emoji_name": null});
    channel.tags.iter().map(show).collect()
}

/// Archives, locks or renames a thread. Other channels can't be edited here.
pub(super) fn edit(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    let permissions = context.permissions(&channel);
    if !channel.kind.is_thread() {
        return Err(error::missing_permissions());
    }
    let wanted = &context.call.payload()?.json;
    let manages = permissions.has(Permissions::MANAGE_THREADS);
    let (archived, locked) = (wanted["archived"].as_bool(), wanted["locked"].as_bool());
    let only_opens = archived == Some(false) && locked.is_none() && wanted["name"].is_null();
    let may_open = only_opens && !channel.locked && permissions.has(Permissions::SEND_MESSAGES_IN_THREADS);
    let owns = channel.owner_id == Some(context.bot) && locked.is_none() && !channel.locked;
    if !manages && !may_open && !owns {
        return Err(error::missing_permissions());
    }
    if channel.archived && archived != Some(false) {
        return Err(error::archived_thread());
    }
    let now = context.now;
    let thread = context.state.world.channel_mut(channel.id);
    if let Some(archived) = archived {
        (thread.archived, thread.archived_at) = (archived, now);
    }
    thread.locked = locked.unwrap_or(thread.locked);
    if let Some(name) = wanted["name"].as_str() {
        thread.name = name.to_owned();
    }
    let thread = thread.clone();
    Reply::ok(show(&context.state.world, &thread))
}

fn pinned<'a>(context: &'a Context<'_>, channel: &Channel) -> Vec<&'a Message> {
    let messages = context.state.world.messages.get(&channel.id);
    let messages = messages.into_iter().flat_map(|all| all.values());
    let mut pinned: Vec<_> = messages.filter(|message| message.pinned_at.is_some()).collect();
    pinned.sort_by_key(|message| std::cmp::Reverse(message.pinned_at));
    pinned
}

pub(super) fn pins(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    if !context.permissions(&channel).has(Permissions::READ_MESSAGE_HISTORY) {
        return Reply::ok(json!({"items": [], "has_more": false}));
    }
    let limit = context.call.limit(50, 50)?;
    let pinned = pinned(context, &channel);
    let items = pinned.iter().take(limit).map(|message| {
        let at = message.pinned_at.map(iso);
        json!({"pinned_at": at, "message": messages::show_to_reader(context, message)})
    });
    let items: Vec<_> = items.collect();
    Reply::ok(json!({"items": items, "has_more": pinned.len() > limit}))
}

pub(super) fn old_pins(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    if !context.permissions(&channel).has(Permissions::READ_MESSAGE_HISTORY) {
        return Reply::ok(json!([]));
    }
    let pinned = pinned(context, &channel);
    let shown: Vec<_> = pinned.iter().map(|message| messages::show_to_reader(context, message)).collect();
    Reply::ok(json!(shown))
}

pub(super) fn pin(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    context.require(&channel, Permissions::PIN_MESSAGES)?;
    if pinned(context, &channel).len() >= 250 {
        return Err(error::max_pins());
    }
    let now = context.now;
    let message = context.state.message_mut(channel.id, context.call.id("message_id")?)?;
    message.pinned_at.get_or_insert(now);
    Reply::no_content()
}

pub(super) fn unpin(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let channel = context.channel("channel_id")?;
    context.require(&channel, Permissions::PIN_MESSAGES)?;
    context.state.message_mut(channel.id, context.call.id("message_id")?)?.pinned_at = None;
    Reply::no_content()
}

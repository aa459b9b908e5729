//! Guilds, members, the bot itself.

use super::{Context, Reply, channels};
use crate::error::{self, ApiError};
use crate::id::Id;
use crate::message::{iso, show_user};
use crate::permissions::{self, Permissions};
use crate::world::{Guild, Role};
use serde_json::{Value, json};

pub(super) fn get(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let id = context.guild()?;
    let world = &context.state.world;
    let guild = world.guild(id).ok_or_else(error::unknown_guild)?;
    Reply::ok(json!({
        "id": guild.id, "name": guild.name, "owner_id": guild.owner_id,
        "roles": guild.roles.values().map(|role| show_role(role, id)).collect::<Vec<_>>(),
        "premium_tier": guild.premium_tier,
        "icon": null, "splash": null, "discovery_splash": null, "banner": null, "description": null,
        "afk_channel_id": null, "afk_timeout": 300, "verification_level": 0, "default_message_notifications": 1,
        "explicit_content_filter": 0, "emojis": [], "stickers": [], "features": [], "mfa_level": 0,
        "application_id": null, "system_channel_id": null, "system_channel_flags": 0, "rules_channel_id": null,
        "vanity_url_code": null, "preferred_locale": "en-US", "public_updates_channel_id": null, "nsfw_level": 0,
        "premium_progress_bar_enabled": false, "safety_alerts_channel_id": null,
    }))
}

fn show_role(role: &Role, guild: Id) -> Value {
    json!({
        "id": role.id, "name": role.name, "permissions": role.permissions, "mentionable": role.mentionable,
        "color": 0, "colors": {"primary_color": 0, "secondary_color": null, "tertiary_color": null},
        "hoist": false, "icon": null, "unicode_emoji": null, "position": u8::from(role.id != guild),
        "managed": false, "flags": 0,
    })
}

pub(super) fn roles(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let id = context.guild()?;
    let guild = context.state.world.guild(id).ok_or_else(error::unknown_guild)?;
    let roles: Vec<_> = guild.roles.values().map(|role| show_role(role, id)).collect();
    Reply::ok(json!(roles))
}

pub(super) fn channels(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let id = context.guild()?;
    let world = &context.state.world;
    let all = world.channels.values().filter(|channel| channel.guild_id == id && !channel.kind.is_thread());
    let visible = all.filter(|channel| context.permissions(channel).has(Permissions::VIEW_CHANNEL));
    let shown: Vec<_> = visible.map(|channel| channels::show(world, channel)).collect();
    Reply::ok(json!(shown))
}

pub(super) fn member(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let id = context.guild()?;
    let user = context.call.id("user_id")?;
    let world = &context.state.world;
    let shown = show_user(world, user).ok_or_else(error::unknown_user)?;
    let guild = world.guild(id).ok_or_else(error::unknown_guild)?;
    let member = guild.members.get(&user).ok_or_else(error::unknown_member)?;
    Reply::ok(json!({
        "user": shown, "roles": member.roles, "nick": null, "avatar": null, "banner": null,
        "joined_at": iso(id.time()), "premium_since": null, "deaf": false, "mute": false, "flags": 0,
        "pending": false, "communication_disabled_until": member.timed_out_until.map(iso),
    }))
}

pub(super) fn current_user(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let mut user = show_user(&context.state.world, context.bot).ok_or_else(error::unauthorized)?;
    let fields = json!({"mfa_enabled": true, "locale": "en-US", "verified": true, "email": null, "flags": 0});
    if let (Value::Object(user), Value::Object(fields)) = (&mut user, fields) {
        user.extend(fields);
    }
    Reply::ok(user)
}

/// The guilds that the bot is in, by id; `after` and `limit` (at most 200) page through them.
pub(super) fn of_current_user(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let after = context.call.query_id("after")?;
    let limit = context.call.limit(200, 200)?;
    let guilds = context.state.world.guilds.values();
    let own = guilds.filter(|guild| guild.members.contains_key(&context.bot) && Some(guild.id) > after);
    let show = |guild: &Guild| {
        json!({
            "id": guild.id, "name": guild.name, "icon": null, "banner": null, "features": [],
            "owner": guild.owner_id == context.bot,
            "permissions": permissions::in_guild(&context.state.world, context.bot, guild.id, context.now),
        })
    };
    Reply::ok(own.take(limit).map(show).collect())
}

/// The flags say whether the bot may read what others write.
pub(super) fn current_application(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let user = context.state.world.users.get(&context.bot).ok_or_else(error::unauthorized)?;
    let flags = if user.message_content { 1 << 18 } else { 0 };
    Reply::ok(json!({
        "id": user.id, "name": user.username, "icon": null, "description": "", "bot_public": false,
        "bot_require_code_grant": false, "summary": "", "verify_key": "0".repeat(64), "team": null,
        "flags": flags, "bot": show_user(&context.state.world, user.id),
    }))
}

pub(super) fn gateway(_: &mut Context<'_>) -> Result<Reply, ApiError> {
    Reply::ok(json!({"url": "wss://gateway.discord.gg"}))
}

/// For threads: whether the bot can see one.
pub(super) fn can_view(context: &Context<'_>, channel: &crate::world::Channel) -> bool {
    permissions::in_channel(&context.state.world, context.bot, channel, context.now)
        .has(Permissions::VIEW_CHANNEL)
}

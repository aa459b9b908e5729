//! The routes: one table with the path, the bucket and the handler of each.

mod channels;
mod guilds;
mod messages;
mod polls;
mod threads;
mod webhooks;

use crate::call::Call;
use crate::error::{self, ApiError};
use crate::id::Id;
use crate::permissions::{self, Permissions};
use crate::state::State;
use crate::world::Channel;
use axum::http::Method;
use chrono::{DateTime, Utc};
use serde_json::Value;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    /// A bot with its token.
    Bot,
    /// Whoever knows the path.
    Path,
}

/// One route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    /// Below `/api/v10`.
    pub(crate) path: &'static str,
    /// The bucket that it shares with others; empty where there are no rate limit headers.
    pub(crate) bucket: &'static str,
    pub(crate) auth: Auth,
    pub(crate) handler: Handler,
}

pub(crate) type Handler = fn(&mut Context<'_>) -> Result<Reply, ApiError>;

macro_rules! route {
    ($name:literal $method:ident $path:literal $bucket:literal $auth:ident $handler:path) => {
        Route {
            name: $name,
            method: Method::$method,
            path: $path,
            bucket: $bucket,
            auth: Auth::$auth,
            handler: $handler,
        }
    };
}

/// All routes that the double has.
pub(crate) const TABLE: &[Route] = &[
    route!("create_message" POST "/channels/{channel_id}/messages" "message_create" Bot messages::create),
    route!("get_messages" GET "/channels/{channel_id}/messages" "message_read" Bot messages::list),
    route!("get_message" GET "/channels/{channel_id}/messages/{message_id}" "message_read" Bot messages::get),
    route!("edit_message" PATCH "/channels/{channel_id}/messages/{message_id}" "message_edit" Bot messages::edit),
    route!("delete_message" DELETE "/channels/{channel_id}/messages/{message_id}" "message_delete" Bot messages::delete),
    route!("crosspost_message" POST "/channels/{channel_id}/messages/{message_id}/crosspost" "crosspost" Bot messages::crosspost),
    route!("start_thread_from_message" POST "/channels/{channel_id}/messages/{message_id}/threads" "thread_create" Bot threads::from_message),
    route!("start_thread" POST "/channels/{channel_id}/threads" "thread_create" Bot threads::start),
    route!("get_archived_threads" GET "/channels/{channel_id}/threads/archived/public" "channel_read" Bot threads::archived),
    route!("expire_poll" POST "/channels/{channel_id}/polls/{message_id}/expire" "message_edit" Bot polls::expire),
    route!("get_channel" GET "/channels/{channel_id}" "channel_read" Bot channels::get),
    route!("edit_channel" PATCH "/channels/{channel_id}" "channel_edit" Bot channels::edit),
    route!("get_channel_webhooks" GET "/channels/{channel_id}/webhooks" "" Bot webhooks::of_channel),
    route!("get_pins" GET "/channels/{channel_id}/messages/pins" "pins" Bot channels::pins),
    route!("pin_message" PUT "/channels/{channel_id}/messages/pins/{message_id}" "pins" Bot channels::pin),
    route!("unpin_message" DELETE "/channels/{channel_id}/messages/pins/{message_id}" "pins" Bot channels::unpin),
    route!("get_old_pins" GET "/channels/{channel_id}/pins" "pins" Bot channels::old_pins),
    route!("pin_message_old" PUT "/channels/{channel_id}/pins/{message_id}" "pins" Bot channels::pin),
    route!("unpin_message_old" DELETE "/channels/{channel_id}/pins/{message_id}" "pins" Bot channels::unpin),
    route!("get_guild" GET "/guilds/{guild_id}" "guild_read" Bot guilds::get),
    route!("get_guild_channels" GET "/guilds/{guild_id}/channels" "guild_read" Bot guilds::channels),
    route!("get_guild_roles" GET "/guilds/{guild_id}/roles" "" Bot guilds::roles),
    route!("get_guild_member" GET "/guilds/{guild_id}/members/{user_id}" "guild_read" Bot guilds::member),
    route!("get_active_threads" GET "/guilds/{guild_id}/threads/active" "" Bot threads::active),
    route!("get_current_user" GET "/users/@me" "" Bot guilds::current_user),
    route!("get_current_guilds" GET "/users/@me/guilds" "" Bot guilds::of_current_user),
    route!("get_current_application" GET "/applications/@me" "" Bot guilds::current_application),
    route!("get_gateway" GET "/gateway" "" Path guilds::gateway),
    route!("get_webhook" GET "/webhooks/{webhook_id}" "webhook_read" Bot webhooks::get),
    route!("get_webhook_with_token" GET "/webhooks/{webhook_id}/{webhook_token}" "webhook_read" Path webhooks::get_with_token),
    route!("execute_webhook" POST "/webhooks/{webhook_id}/{webhook_token}" "webhook" Path webhooks::execute),
    route!("get_webhook_message" GET "/webhooks/{webhook_id}/{webhook_token}/messages/{message_id}" "webhook" Path webhooks::get_message),
    route!("edit_webhook_message" PATCH "/webhooks/{webhook_id}/{webhook_token}/messages/{message_id}" "webhook" Path webhooks::edit_message),
    route!("delete_webhook_message" DELETE "/webhooks/{webhook_id}/{webhook_token}/messages/{message_id}" "webhook" Path webhooks::delete_message),
];

/// What requests are answered with that match no route.
pub(crate) const UNKNOWN: Route = route!("unknown" GET "" "" Path unknown);

fn unknown(context: &mut Context<'_>) -> Result<Reply, ApiError> {
    let path = context.call.path.as_str();
    let version = path.strip_prefix("/api/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    match version {
        "" | "v10" => Err(error::not_found()),
        // Another version, or none at all, which on Discord still means a version that is long deprecated.
        _ => Err(error::api_version()),
    }
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
}

impl Reply {
    pub(crate) fn ok(body: Value) -> Result<Self, ApiError> {
        Ok(Self { status: 200, body: Some(body) })
    }

    pub(crate) fn no_content() -> Result<Self, ApiError> {
        Ok(Self { status: 204, body: None })
    }
}

/// What a handler works with.
pub(crate) struct Context<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) call: &'a Call,
    /// The bot, where the route asks for one.
    pub(crate) bot: Id,
    pub(crate) now: DateTime<Utc>,
    /// Characters that go missing from what is stored.
    pub(crate) stripped: String,
    /// How long reads don't show what is made now.
    pub(crate) hidden_for: chrono::TimeDelta,
}

impl Context<'_> {
    /// A channel that the bot can see.
    pub(crate) fn channel(&self, param: &str) -> Result<Channel, ApiError> {
        let id = self.call.id(param)?;
        let channel = self.state.world.channel(id).ok_or_else(error::unknown_channel)?;
        match self.permissions(channel).has(Permissions::VIEW_CHANNEL) {
            true => Ok(channel.clone()),
            false => Err(error::missing_access()),
        }
    }

    pub(crate) fn permissions(&self, channel: &Channel) -> Permissions {
        permissions::in_channel(&self.state.world, self.bot, channel, self.now)
    }

    pub(crate) fn require(&self, channel: &Channel, needed: Permissions) -> Result<(), ApiError> {
        match self.permissions(channel).has(needed) {
            true => Ok(()),
            false => Err(error::missing_permissions()),
        }
    }

    /// A guild that the bot is in.
    pub(crate) fn guild(&self) -> Result<Id, ApiError> {
        let id = self.call.id("guild_id")?;
        let guild = self.state.world.guild(id).ok_or_else(error::unknown_guild)?;
        match guild.members.contains_key(&self.bot) {
            true => Ok(id),
            false => Err(error::missing_access()),
        }
    }

    /// `text` as it is stored.
    pub(crate) fn strip(&self, text: &str) -> String {
        text.chars().filter(|character| !self.stripped.contains(*character)).collect()
    }
}

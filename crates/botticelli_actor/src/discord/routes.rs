//! The parts of Discord's API that we use.

use super::limits::Major;
use super::snowflake::Snowflake;
use std::fmt;

/// One request's method, path and resource. The path of a webhook holds its secret, so only the pattern is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pattern: &'static str,
    path: String,
    major: Major,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pattern)
    }
}

impl Route {
    /// `METHOD /path/with/{}`, and what stands for each `{}`.
    fn new(pattern: &'static str, parts: &[&dyn fmt::Display], major: Major) -> Self {
        let mut path = String::new();
        let (_, template) = pattern.split_once(' ').unwrap_or_default();
        let mut parts = parts.iter();
        for (index, piece) in template.split("{}").enumerate() {
            if index > 0 {
                path.extend(parts.next().map(ToString::to_string));
            }
            path.push_str(piece);
        }
        Self { pattern, path, major }
    }

    fn of_channel(pattern: &'static str, channel: Snowflake, parts: &[&dyn fmt::Display]) -> Self {
        Self::new(pattern, parts, Major::Channel(channel.0))
    }

    /// The method and the path without ids: what limits are counted by, and what may be shown.
    pub(crate) fn pattern(&self) -> &'static str {
        self.pattern
    }

    pub(crate) fn method(&self) -> &'static str {
        self.pattern.split_once(' ').map_or("", |(method, _)| method)
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn major(&self) -> Major {
        self.major
    }

    pub(crate) fn is_webhook(&self) -> bool {
        matches!(self.major, Major::Webhook(_))
    }

    /// Whether it makes a message.
    pub(crate) fn creates_message(&self) -> bool {
        matches!(
            self.pattern,
            "POST /channels/{}/messages" | "POST /channels/{}/threads" | "POST /webhooks/{}/{}"
        )
    }

    pub(crate) fn create_message(channel: Snowflake) -> Self {
        Self::of_channel("POST /channels/{}/messages", channel, &[&channel])
    }

    pub(crate) fn edit_message(channel: Snowflake, message: Snowflake) -> Self {
        Self::of_channel("PATCH /channels/{}/messages/{}", channel, &[&channel, &message])
    }

    pub(crate) fn delete_message(channel: Snowflake, message: Snowflake) -> Self {
        Self::of_channel("DELETE /channels/{}/messages/{}", channel, &[&channel, &message])
    }

    pub(crate) fn crosspost(channel: Snowflake, message: Snowflake) -> Self {
        Self::of_channel("POST /channels/{}/messages/{}/crosspost", channel, &[&channel, &message])
    }

    pub(crate) fn thread_from_message(channel: Snowflake, message: Snowflake) -> Self {
        Self::of_channel("POST /channels/{}/messages/{}/threads", channel, &[&channel, &message])
    }

    pub(crate) fn forum_post(channel: Snowflake) -> Self {
        Self::of_channel("POST /channels/{}/threads", channel, &[&channel])
    }

    pub(crate) fn expire_poll(channel: Snowflake, message: Snowflake) -> Self {
        Self::of_channel("POST /channels/{}/polls/{}/expire", channel, &[&channel, &message])
    }

    pub(crate) fn history(channel: Snowflake) -> Self {
        Self::of_channel("GET /channels/{}/messages", channel, &[&channel])
    }

    pub(crate) fn message(channel: Snowflake, message: Snowflake) -> Self {
        Self::of_channel("GET /channels/{}/messages/{}", channel, &[&channel, &message])
    }

    pub(crate) fn pins(channel: Snowflake) -> Self {
        Self::of_channel("GET /channels/{}/messages/pins", channel, &[&channel])
    }

    pub(crate) fn pin(channel: Snowflake, message: Snowflake) -> Self {
        Self::of_channel("PUT /channels/{}/messages/pins/{}", channel, &[&channel, &message])
    }

    pub(crate) fn unpin(channel: Snowflake, message: Snowflake) -> Self {
        Self::of_channel("DELETE /channels/{}/messages/pins/{}", channel, &[&channel, &message])
    }

    pub(crate) fn channel(channel: Snowflake) -> Self {
        Self::of_channel("GET /channels/{}", channel, &[&channel])
    }

    pub(crate) fn edit_channel(channel: Snowflake) -> Self {
        Self::of_channel("PATCH /channels/{}", channel, &[&channel])
    }

    pub(crate) fn archived_threads(channel: Snowflake) -> Self {
        Self::of_channel("GET /channels/{}/threads/archived/public", channel, &[&channel])
    }

    pub(crate) fn current_user() -> Self {
        Self::new("GET /users/@me", &[], Major::None)
    }

    pub(crate) fn current_guilds() -> Self {
        Self::new("GET /users/@me/guilds", &[], Major::None)
    }

    pub(crate) fn guild(guild: Snowflake) -> Self {
        Self::new("GET /guilds/{}", &[&guild], Major::Guild(guild.0))
    }

    pub(crate) fn guild_channels(guild: Snowflake) -> Self {
        Self::new("GET /guilds/{}/channels", &[&guild], Major::Guild(guild.0))
    }

    pub(crate) fn roles(guild: Snowflake) -> Self {
        Self::new("GET /guilds/{}/roles", &[&guild], Major::Guild(guild.0))
    }

    pub(crate) fn member(guild: Snowflake, user: Snowflake) -> Self {
        Self::new("GET /guilds/{}/members/{}", &[&guild, &user], Major::Guild(guild.0))
    }

    pub(crate) fn active_threads(guild: Snowflake) -> Self {
        Self::new("GET /guilds/{}/threads/active", &[&guild], Major::Guild(guild.0))
    }

    pub(crate) fn execute_webhook(webhook: Snowflake, token: &str) -> Self {
        Self::new("POST /webhooks/{}/{}", &[&webhook, &token], Major::Webhook(webhook.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_its_method_its_path_and_its_resource() {
        let route = Route::edit_message(Snowflake(1), Snowflake(2));
        assert_eq!((route.method(), route.path()), ("PATCH", "/channels/1/messages/2"));
        assert_eq!(route.major(), Major::Channel(1));
        assert_eq!(Route::current_user().path(), "/users/@me");
        assert_eq!(Route::member(Snowflake(3), Snowflake(4)).path(), "/guilds/3/members/4");
    }

    #[test]
    fn a_webhooks_secret_is_not_shown() {
        let route = Route::execute_webhook(Snowflake(5), "s3cret");
        assert_eq!(route.path(), "/webhooks/5/s3cret");
        assert_eq!(format!("{route:?}"), "POST /webhooks/{}/{}");
    }
}

//! What somebody may do in a channel, as Discord works it out (topics/permissions).

use super::message::Message;
use super::snowflake::Snowflake;
use super::types::{Channel, Member, Overwrite, Role};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, de};
use std::fmt;
use std::ops::{BitAnd, BitOr, Not};

/// A set of permissions. JSON has it as a number in text.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Permissions(pub u64);

macro_rules! permissions {
    ($($name:ident = $bit:literal, $words:literal;)+) => {
        impl Permissions {
            $(#[doc = $words] pub const $name: Self = Self(1 << $bit);)+

            /// The permissions that this program has to do with, by Discord's names.
            const NAMES: &[(Self, &str)] = &[$((Self::$name, $words),)+];
        }
    };
}

permissions! {
    ADMINISTRATOR = 3, "Administrator";
    VIEW_CHANNEL = 10, "View Channel";
    SEND_MESSAGES = 11, "Send Messages";
    SEND_TTS_MESSAGES = 12, "Send Text-to-Speech Messages";
    MANAGE_MESSAGES = 13, "Manage Messages";
    EMBED_LINKS = 14, "Embed Links";
    ATTACH_FILES = 15, "Attach Files";
    READ_MESSAGE_HISTORY = 16, "Read Message History";
    MENTION_EVERYONE = 17, "Mention Everyone";
    MANAGE_THREADS = 34, "Manage Threads";
    CREATE_PUBLIC_THREADS = 35, "Create Public Threads";
    SEND_MESSAGES_IN_THREADS = 38, "Send Messages in Threads";
    SEND_POLLS = 49, "Create Polls";
    PIN_MESSAGES = 51, "Pin Messages";
}

impl Permissions {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether it has all of `others`.
    pub fn has(self, others: Self) -> bool {
        self & others == others
    }

    /// What of `wanted` it lacks.
    pub fn lacks(self, wanted: Self) -> Self {
        wanted & !self
    }

    /// The names that Discord's settings show.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(permission, _)| self.has(*permission)).map(|(_, name)| *name).collect()
    }
}

impl BitOr for Permissions {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Permissions {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Permissions {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permissions({} = {})", self.0, self.names().join(", "))
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| de::Error::custom("permissions are a number in text"))
    }
}

/// Somebody in a server.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The server.
    pub guild: Snowflake,
    /// The server's owner.
    pub owner: Option<Snowflake>,
    /// All roles of the server.
    pub roles: &'a [Role],
    /// Whose permissions are asked for.
    pub user: Snowflake,
    /// As part of the server.
    pub member: &'a Member,
    /// Now: a time-out ends by itself.
    pub now: DateTime<Utc>,
}

impl Who<'_> {
    /// In the server, before channels change anything.
    pub fn base(&self) -> Permissions {
        if self.owner == Some(self.user) {
            return Permissions::ALL;
        }
        let has = |role: &&Role| role.id == self.guild || self.member.roles.contains(&role.id);
        let all = self.roles.iter().filter(has).fold(Permissions::NONE, |all, role| all | role.permissions);
        if all.has(Permissions::ADMINISTRATOR) { Permissions::ALL } else { all }
    }

    /// In a channel. For a thread, `channel` is the channel that it belongs to, and `in_thread` is set.
    pub fn in_channel(&self, channel: &Channel, in_thread: bool) -> Permissions {
        let base = self.base();
        if base == Permissions::ALL {
            return base;
        }
        self.with_denials(self.with_overwrites(base, &channel.permission_overwrites), in_thread)
    }

    /// Everyone's first, then all roles' together, then the member's own.
    fn with_overwrites(&self, base: Permissions, overwrites: &[Overwrite]) -> Permissions {
        let is_everyone = |overwrite: &Overwrite| overwrite.kind == 0 && overwrite.id == self.guild;
        let is_role = |overwrite: &Overwrite| {
            overwrite.kind == 0 && overwrite.id != self.guild && self.member.roles.contains(&overwrite.id)
        };
        let is_own = |overwrite: &Overwrite| overwrite.kind == 1 && overwrite.id == self.user;
        let steps: [&dyn Fn(&Overwrite) -> bool; 3] = [&is_everyone, &is_role, &is_own];
        steps.iter().fold(base, |permissions, concerns| {
            let both =
                |(allow, deny), overwrite: &Overwrite| (allow | overwrite.allow, deny | overwrite.deny);
            let none = (Permissions::NONE, Permissions::NONE);
            let (allow, deny) = overwrites.iter().filter(|overwrite| concerns(overwrite)).fold(none, both);
            permissions & !deny | allow
        })
    }

    /// Who can't see can't do anything; who can't write can't do what belongs to writing.
    fn with_denials(&self, permissions: Permissions, in_thread: bool) -> Permissions {
        if !permissions.has(Permissions::VIEW_CHANNEL) {
            return Permissions::NONE;
        }
        if self.member.communication_disabled_until.is_some_and(|until| until > self.now) {
            return permissions & (Permissions::VIEW_CHANNEL | Permissions::READ_MESSAGE_HISTORY);
        }
        let write =
            if in_thread { Permissions::SEND_MESSAGES_IN_THREADS } else { Permissions::SEND_MESSAGES };
        if permissions.has(write) {
            return permissions;
        }
        permissions
            & !(Permissions::MENTION_EVERYONE
                | Permissions::SEND_TTS_MESSAGES
                | Permissions::ATTACH_FILES
                | Permissions::EMBED_LINKS
                | Permissions::SEND_POLLS)
    }
}

/// What a message needs in such a place. Without Read Message History a post whose outcome is unknown can't be looked
/// for.
pub fn needed(message: &Message, in_thread: bool) -> Permissions {
    let write = if in_thread { Permissions::SEND_MESSAGES_IN_THREADS } else { Permissions::SEND_MESSAGES };
    let more = [
        (!message.embeds.is_empty(), Permissions::EMBED_LINKS),
        (!message.files.is_empty(), Permissions::ATTACH_FILES),
        (message.poll.is_some(), Permissions::SEND_POLLS),
        (message.mentions.everyone || message.mentions.any_role, Permissions::MENTION_EVERYONE),
        (message.reply.is_some(), Permissions::READ_MESSAGE_HISTORY),
        (message.thread.is_some(), Permissions::CREATE_PUBLIC_THREADS),
    ];
    let add = |all, (is_needed, permission)| if is_needed { all | permission } else { all };
    more.into_iter().fold(Permissions::VIEW_CHANNEL | write, add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use serde_json::json;

    const GUILD: Snowflake = Snowflake(1);
    const USER: Snowflake = Snowflake(2);

    fn role(id: Snowflake, permissions: Permissions) -> Role {
        Role { id, name: String::new(), permissions, mentionable: false }
    }

    fn member(roles: &[Snowflake]) -> Member {
        Member { roles: roles.to_vec(), communication_disabled_until: None }
    }

    fn who<'a>(roles: &'a [Role], member: &'a Member) -> Who<'a> {
        let now = DateTime::from_timestamp(1_900_000_000, 0).expect("a time");
        Who { guild: GUILD, owner: None, roles, user: USER, member, now }
    }

    fn channel(overwrites: &serde_json::Value) -> Channel {
        serde_json::from_value(json!({"id": "9", "type": 0, "permission_overwrites": overwrites}))
            .expect("a channel")
    }

    fn overwrite(id: Snowflake, kind: u8, allow: Permissions, deny: Permissions) -> serde_json::Value {
        json!({"id": id, "type": kind, "allow": allow.0.to_string(), "deny": deny.0.to_string()})
    }

    #[test]
    fn the_owner_and_administrators_may_do_everything_whatever_channels_say() {
        let nothing = channel(&json!([overwrite(GUILD, 0, Permissions::NONE, Permissions::ALL)]));
        let (roles, nobody) = ([role(GUILD, Permissions::NONE)], member(&[]));
        let owner = Who { owner: Some(USER), ..who(&roles, &nobody) };
        assert_eq!(owner.in_channel(&nothing, false), Permissions::ALL);
        let roles = [role(GUILD, Permissions::NONE), role(Snowflake(5), Permissions::ADMINISTRATOR)];
        assert_eq!(who(&roles, &member(&[Snowflake(5)])).in_channel(&nothing, false), Permissions::ALL);
        assert_eq!(who(&roles, &nobody).in_channel(&nothing, false), Permissions::NONE, "not their role");
    }

    #[test]
    fn overwrites_count_in_order_everyone_then_roles_then_the_member() {
        let (view, send) = (Permissions::VIEW_CHANNEL, Permissions::SEND_MESSAGES);
        let (roles, somebody) =
            ([role(GUILD, view | send), role(Snowflake(5), view)], member(&[Snowflake(5)]));
        let none = Permissions::NONE;
        let everyone = overwrite(GUILD, 0, none, send);
        let by_role = overwrite(Snowflake(5), 0, send, none);
        let other_role = overwrite(Snowflake(6), 0, none, view);
        let own = overwrite(USER, 1, none, send);
        let may_send =
            |list: &serde_json::Value| who(&roles, &somebody).in_channel(&channel(list), false).has(send);
        assert!(!may_send(&json!([everyone])));
        assert!(may_send(&json!([by_role, everyone, other_role])));
        assert!(!may_send(&json!([own, by_role, everyone])));
    }

    #[test]
    fn who_cannot_write_cannot_do_what_belongs_to_writing() {
        let all = Permissions::VIEW_CHANNEL
            | Permissions::SEND_MESSAGES
            | Permissions::EMBED_LINKS
            | Permissions::READ_MESSAGE_HISTORY;
        let (roles, mut somebody) = ([role(GUILD, all)], member(&[]));
        let here = channel(&json!([]));
        assert_eq!(who(&roles, &somebody).in_channel(&here, false), all);
        let in_thread = who(&roles, &somebody).in_channel(&here, true);
        assert!(!in_thread.has(Permissions::EMBED_LINKS), "threads have a permission of their own");
        somebody.communication_disabled_until = Some(who(&roles, &member(&[])).now + TimeDelta::seconds(1));
        let read = Permissions::VIEW_CHANNEL | Permissions::READ_MESSAGE_HISTORY;
        assert_eq!(who(&roles, &somebody).in_channel(&here, false), read, "a time-out");
    }

    #[test]
    fn what_a_message_needs_depends_on_what_is_in_it() {
        let text = needed(&Message::text("x"), false);
        assert_eq!(text.names(), ["View Channel", "Send Messages"]);
        let everyone = Message {
            mentions: crate::discord::message::Mentions { everyone: true, ..Default::default() },
            ..Message::text("x")
        };
        assert_eq!(
            text.lacks(needed(&everyone, true)).names(),
            ["Mention Everyone", "Send Messages in Threads"]
        );
    }
}

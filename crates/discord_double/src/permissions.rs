//! Permissions as Discord computes them: roles, overwrites, implicit denials, threads.

use crate::id::Id;
use crate::world::{Channel, ChannelKind, OverwriteTarget, World};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// A set of permissions. In JSON it is a decimal string, as with Discord; in a scenario it can also be a list of
/// names such as `["VIEW_CHANNEL", "SEND_MESSAGES"]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(pub u64);

macro_rules! permissions {
    ($($name:ident = $bit:literal;)*) => {
        impl Permissions {
            $(#[doc = concat!("`", stringify!($name), "`, bit ", $bit)] pub const $name: Self = Self(1 << $bit);)*

            /// Every permission that the double knows, with its name.
            pub const NAMES: &[(&str, Self)] = &[$((stringify!($name), Self::$name)),*];
        }
    };
}

permissions! {
    ADMINISTRATOR = 3;
    MANAGE_CHANNELS = 4;
    VIEW_CHANNEL = 10;
    SEND_MESSAGES = 11;
    SEND_TTS_MESSAGES = 12;
    MANAGE_MESSAGES = 13;
    EMBED_LINKS = 14;
    ATTACH_FILES = 15;
    READ_MESSAGE_HISTORY = 16;
    MENTION_EVERYONE = 17;
    CONNECT = 20;
    MANAGE_WEBHOOKS = 29;
    MANAGE_THREADS = 34;
    CREATE_PUBLIC_THREADS = 35;
    CREATE_PRIVATE_THREADS = 36;
    SEND_MESSAGES_IN_THREADS = 38;
    SEND_POLLS = 49;
    PIN_MESSAGES = 51;
}

impl Permissions {
    /// No permission.
    pub const NONE: Self = Self(0);
    /// All permissions.
    pub const ALL: Self = Self(u64::MAX >> 11);
    /// What the default world's bot and @everyone have: all that a poster needs, without MENTION_EVERYONE.
    pub const POSTER: Self = Self(
        Self::VIEW_CHANNEL.0
            | Self::SEND_MESSAGES.0
            | Self::EMBED_LINKS.0
            | Self::ATTACH_FILES.0
            | Self::READ_MESSAGE_HISTORY.0
            | Self::CREATE_PUBLIC_THREADS.0
            | Self::SEND_MESSAGES_IN_THREADS.0
            | Self::SEND_POLLS.0
            | Self::CONNECT.0,
    );

    /// Whether all of `other` are in here.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, bit)| *bit)
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

impl BitOrAssign for Permissions {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl Not for Permissions {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Bits(u64),
            Text(String),
            Names(Vec<String>),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Bits(bits) => Ok(Self(bits)),
            Raw::Text(text) => text
                .parse()
                .map(Self)
                .map_err(|_| de::Error::custom(format!("\"{text}\" is not a set of permissions"))),
            Raw::Names(names) => names.iter().try_fold(Self::NONE, |all, name| {
                Self::named(name)
                    .map(|bit| all | bit)
                    .ok_or_else(|| de::Error::custom(format!("unknown permission \"{name}\"")))
            }),
        }
    }
}

/// What `user` may do in `channel` at `now`. Nothing if the user is not a member of its guild.
#[must_use]
pub(crate) fn in_channel(world: &World, user: Id, channel: &Channel, now: DateTime<Utc>) -> Permissions {
    let base = in_guild(world, user, channel.guild_id, now);
    let Some(guild) = world.guild(channel.guild_id) else { return Permissions::NONE };
    let Some(member) = guild.members.get(&user) else { return Permissions::NONE };
    if base.has(Permissions::ADMINISTRATOR) {
        return base;
    }
    // A thread has no overwrites of its own: its parent's hold.
    let holder = match channel.kind.is_thread() {
        true => channel.parent_id.and_then(|parent| world.channel(parent)),
        false => Some(channel),
    };
    let overwrites = holder.map(|holder| holder.overwrites.as_slice()).unwrap_or_default();
    let mut allowed = base;
    let mut apply = |targets: &dyn Fn(OverwriteTarget) -> bool| {
        let (mut allow, mut deny) = (Permissions::NONE, Permissions::NONE);
        for overwrite in overwrites.iter().filter(|overwrite| targets(overwrite.target)) {
            allow |= overwrite.allow;
            deny |= overwrite.deny;
        }
        allowed = allowed.without(deny) | allow;
    };
    apply(&|target| target == OverwriteTarget::Role(guild.id));
    apply(&|target| matches!(target, OverwriteTarget::Role(role) if member.roles.contains(&role)));
    apply(&|target| target == OverwriteTarget::Member(user));
    let allowed = timed_out(allowed, member.timed_out_until.is_some_and(|until| until > now));
    implied(allowed, channel, user)
}

/// What `user` may do in the guild as a whole, before any channel's overwrites.
#[must_use]
pub(crate) fn in_guild(world: &World, user: Id, guild: Id, now: DateTime<Utc>) -> Permissions {
    let Some(guild) = world.guild(guild) else { return Permissions::NONE };
    let Some(member) = guild.members.get(&user) else { return Permissions::NONE };
    if guild.owner_id == user {
        return Permissions::ALL;
    }
    let roles = guild.roles.values().filter(|role| role.id == guild.id || member.roles.contains(&role.id));
    let base = roles.fold(Permissions::NONE, |all, role| all | role.permissions);
    if base.has(Permissions::ADMINISTRATOR) {
        return Permissions::ALL;
    }
    timed_out(base, member.timed_out_until.is_some_and(|until| until > now))
}

fn timed_out(allowed: Permissions, is_timed_out: bool) -> Permissions {
    match is_timed_out {
        true => allowed & (Permissions::VIEW_CHANNEL | Permissions::READ_MESSAGE_HISTORY),
        false => allowed,
    }
}

/// Takes away what is implied by another permission being absent.
fn implied(allowed: Permissions, channel: &Channel, user: Id) -> Permissions {
    if !allowed.has(Permissions::VIEW_CHANNEL) {
        return Permissions::NONE;
    }
    let hidden = channel.kind == ChannelKind::PrivateThread
        && !channel.thread_members.contains(&user)
        && !allowed.has(Permissions::MANAGE_THREADS);
    if hidden {
        return Permissions::NONE;
    }
    if channel.kind == ChannelKind::Voice && !allowed.has(Permissions::CONNECT) {
        return Permissions::VIEW_CHANNEL;
    }
    // In threads SEND_MESSAGES_IN_THREADS takes the place of SEND_MESSAGES, and neither implies the other.
    let send = match channel.kind.is_thread() {
        true => Permissions::SEND_MESSAGES_IN_THREADS,
        false => Permissions::SEND_MESSAGES,
    };
    match allowed.has(send) {
        true => allowed,
        false => allowed.without(
            Permissions::MENTION_EVERYONE
                | Permissions::SEND_TTS_MESSAGES
                | Permissions::ATTACH_FILES
                | Permissions::EMBED_LINKS
                | Permissions::SEND_POLLS,
        ),
    }
}

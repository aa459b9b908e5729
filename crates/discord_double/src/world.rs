//! What exists: guilds, roles, members, channels, threads, webhooks. Built in code or read from a scenario.

use crate::id::{Id, Snowflakes};
use crate::message::Message;
use crate::permissions::Permissions;
use chrono::{DateTime, TimeZone, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The ready-made world's names and ids: see [`World::standard`].
pub mod standard {
    use crate::id::Id;

    const BASE: u64 = 1_300_000_000_000_000_000;

    /// The bot's token, as in `Authorization: Bot double-bot-token`.
    pub const TOKEN: &str = "double-bot-token";
    /// The bot.
    pub const BOT: Id = Id(BASE + 1);
    /// The owner of the guild, a person.
    pub const OWNER: Id = Id(BASE + 2);
    /// The guild, and so also its @everyone role.
    pub const GUILD: Id = Id(BASE + 10);
    /// The bot's role.
    pub const BOT_ROLE: Id = Id(BASE + 11);
    /// A role that anyone may mention.
    pub const MENTIONABLE_ROLE: Id = Id(BASE + 12);
    /// A text channel.
    pub const GENERAL: Id = Id(BASE + 100);
    /// A second text channel.
    pub const RANDOM: Id = Id(BASE + 101);
    /// An announcement channel.
    pub const NEWS: Id = Id(BASE + 102);
    /// A forum, with the tags [`TAG`] and [`MODERATED_TAG`].
    pub const FORUM: Id = Id(BASE + 103);
    /// A media channel.
    pub const MEDIA: Id = Id(BASE + 104);
    /// A voice channel.
    pub const VOICE: Id = Id(BASE + 105);
    /// A public thread in [`GENERAL`].
    pub const THREAD: Id = Id(BASE + 106);
    /// A tag of the forum.
    pub const TAG: Id = Id(BASE + 200);
    /// A tag of the forum that only moderators may set.
    pub const MODERATED_TAG: Id = Id(BASE + 201);
    /// The webhook of [`GENERAL`].
    pub const WEBHOOK: Id = Id(BASE + 300);
    /// The token of [`WEBHOOK`].
    pub const WEBHOOK_TOKEN: &str = "double-webhook-token";
    /// The webhook of [`FORUM`].
    pub const FORUM_WEBHOOK: Id = Id(BASE + 301);
    /// The token of [`FORUM_WEBHOOK`].
    pub const FORUM_WEBHOOK_TOKEN: &str = "double-forum-webhook-token";
}

/// Discord's number for a type of channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// 0
    Text,
    /// 2
    Voice,
    /// 5
    Announcement,
    /// 10
    AnnouncementThread,
    /// 11
    PublicThread,
    /// 12
    PrivateThread,
    /// 15
    Forum,
    /// 16
    Media,
}

impl ChannelKind {
    /// The number in the API.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Text => 0,
            Self::Voice => 2,
            Self::Announcement => 5,
            Self::AnnouncementThread => 10,
            Self::PublicThread => 11,
            Self::PrivateThread => 12,
            Self::Forum => 15,
            Self::Media => 16,
        }
    }

    pub(crate) const fn is_thread(self) -> bool {
        matches!(self, Self::AnnouncementThread | Self::PublicThread | Self::PrivateThread)
    }

    /// Forum or media: holds threads, and no messages of its own.
    pub(crate) const fn is_forum(self) -> bool {
        matches!(self, Self::Forum | Self::Media)
    }
}

/// Whom an overwrite is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverwriteTarget {
    /// A role; the guild's id is @everyone.
    Role(Id),
    /// A member.
    Member(Id),
}

/// Permissions that a channel gives or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overwrite {
    /// Whom it is for.
    pub target: OverwriteTarget,
    /// Given.
    #[serde(default)]
    pub allow: Permissions,
    /// Taken, unless given as well.
    #[serde(default)]
    pub deny: Permissions,
}

/// A person or a bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its id.
    #[serde(default)]
    pub id: Id,
    /// Its name.
    pub username: String,
    /// Whether it is a bot.
    #[serde(default)]
    pub bot: bool,
    /// Whether it may read what others write (the intent MESSAGE_CONTENT).
    #[serde(default = "yes")]
    pub message_content: bool,
}

/// A role of a guild.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its id; the one with the guild's id is @everyone.
    #[serde(default)]
    pub id: Id,
    /// Its name.
    pub name: String,
    /// What it gives.
    #[serde(default)]
    pub permissions: Permissions,
    /// Whether anyone may mention it.
    #[serde(default)]
    pub mentionable: bool,
}

/// A user in a guild.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Roles beside @everyone.
    #[serde(default)]
    pub roles: BTreeSet<Id>,
    /// Until when it may only look.
    #[serde(default)]
    pub timed_out_until: Option<DateTime<Utc>>,
}

/// A guild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guild {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Its owner, who may do everything.
    pub owner_id: Id,
    /// Its roles.
    pub roles: BTreeMap<Id, Role>,
    /// Its members.
    pub members: BTreeMap<Id, Member>,
    /// 0 to 3; 2 and 3 raise the size that a file may have.
    pub premium_tier: u8,
}

/// A tag of a forum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// Its id.
    #[serde(default)]
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Whether only those with MANAGE_THREADS may set it.
    #[serde(default)]
    pub moderated: bool,
}

/// A channel or a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its id.
    pub id: Id,
    /// Its guild.
    pub guild_id: Id,
    /// Its type.
    pub kind: ChannelKind,
    /// Its name.
    pub name: String,
    /// The channel that a thread belongs to.
    pub parent_id: Option<Id>,
    /// Its overwrites; a thread goes by its parent's.
    pub overwrites: Vec<Overwrite>,
    /// A forum's tags.
    pub tags: Vec<Tag>,
    /// Whether a forum post must have a tag.
    pub require_tag: bool,
    /// The tags of a forum's post.
    pub applied_tags: Vec<Id>,
    /// Who made a thread.
    pub owner_id: Option<Id>,
    /// Who has joined a thread.
    pub thread_members: BTreeSet<Id>,
    /// Whether a thread is archived.
    pub archived: bool,
    /// When that changed last.
    pub archived_at: DateTime<Utc>,
    /// Whether a thread is locked.
    pub locked: bool,
    /// Minutes without activity until a thread is archived. The double shows it, and archives only when told to.
    pub auto_archive_minutes: u32,
    /// The newest message, whether or not it is still there.
    pub last_message_id: Option<Id>,
    /// How many messages were ever sent here.
    pub total_messages: u32,
}

impl Channel {
    fn new(id: Id, guild_id: Id, kind: ChannelKind, name: &str) -> Self {
        Self {
            id,
            guild_id,
            kind,
            name: name.into(),
            parent_id: None,
            overwrites: Vec::new(),
            tags: Vec::new(),
            require_tag: false,
            applied_tags: Vec::new(),
            owner_id: None,
            thread_members: BTreeSet::new(),
            archived: false,
            archived_at: id.time(),
            locked: false,
            auto_archive_minutes: 4320,
            last_message_id: None,
            total_messages: 0,
        }
    }
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its id.
    #[serde(default)]
    pub id: Id,
    /// The channel that it posts to.
    pub channel_id: Id,
    /// Its secret.
    pub token: String,
    /// The name that it posts under.
    pub name: String,
}

/// Everything that exists. Ids given as 0 are filled in when something is added.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Users by id.
    pub users: BTreeMap<Id, User>,
    /// Bot tokens, and whose they are.
    pub tokens: BTreeMap<String, Id>,
    /// Guilds by id.
    pub guilds: BTreeMap<Id, Guild>,
    /// Channels and threads by id.
    pub channels: BTreeMap<Id, Channel>,
    /// Webhooks by id.
    pub webhooks: BTreeMap<Id, Webhook>,
    pub(crate) messages: BTreeMap<Id, BTreeMap<Id, Message>>,
    ids: IdSource,
}

#[derive(Clone, Debug, Default)]
struct IdSource(u64);

impl IdSource {
    /// Ids of what is there from the beginning are the same in every run.
    fn next(&mut self, given: Id) -> Id {
        if given.0 != 0 {
            return given;
        }
        self.0 += 1;
        let start = Utc.with_ymd_and_hms(2025, 1, 1, 0, 0, 0).single().unwrap_or_default();
        Id(Id::at(start).0 + (self.0 << 22))
    }
}

impl World {
    /// Nothing at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One guild with a bot, a channel of each type and webhooks; the ids are in [`standard`].
    #[must_use]
    pub fn standard() -> Self {
        let mut world = Self::new();
        world.add_user(User { id: standard::OWNER, ..person("owner") });
        world.add_owned_guild(standard::GUILD, "Double guild", standard::OWNER);
        let everyone = Role { id: standard::GUILD, ..role("@everyone", Permissions::POSTER) };
        let bot_role = Role { id: standard::BOT_ROLE, ..role("double-bot", Permissions::POSTER) };
        let mentionable =
            Role { id: standard::MENTIONABLE_ROLE, mentionable: true, ..role("readers", Permissions::NONE) };
        for role in [everyone, bot_role, mentionable] {
            world.add_role(standard::GUILD, role);
        }
        let bot = User { id: standard::BOT, bot: true, ..person("double-bot") };
        world.add_bot_as(bot, standard::TOKEN);
        world.join(standard::GUILD, standard::BOT, &[standard::BOT_ROLE]);
        for (id, kind, name) in [
            (standard::GENERAL, ChannelKind::Text, "general"),
            (standard::RANDOM, ChannelKind::Text, "random"),
            (standard::NEWS, ChannelKind::Announcement, "news"),
            (standard::FORUM, ChannelKind::Forum, "questions"),
            (standard::MEDIA, ChannelKind::Media, "gallery"),
            (standard::VOICE, ChannelKind::Voice, "lounge"),
        ] {
            world.add_channel_as(id, standard::GUILD, kind, name);
        }
        world.add_thread_as(standard::THREAD, standard::GENERAL, ChannelKind::PublicThread, "a thread");
        world.add_tag(standard::FORUM, Tag { id: standard::TAG, name: "help".into(), moderated: false });
        let moderated = Tag { id: standard::MODERATED_TAG, name: "solved".into(), moderated: true };
        world.add_tag(standard::FORUM, moderated);
        for (id, channel_id, token) in [
            (standard::WEBHOOK, standard::GENERAL, standard::WEBHOOK_TOKEN),
            (standard::FORUM_WEBHOOK, standard::FORUM, standard::FORUM_WEBHOOK_TOKEN),
        ] {
            world.add_webhook(Webhook { id, channel_id, token: token.into(), name: "double-webhook".into() });
        }
        world
    }

    /// Adds a guild with an owner of its own and an @everyone role that may post.
    pub fn add_guild(&mut self, name: &str) -> Id {
        let id = self.ids.next(Id(0));
        self.add_guild_as(id, name)
    }

    pub(crate) fn add_guild_as(&mut self, id: Id, name: &str) -> Id {
        let owner = self.add_user(person(&format!("owner of {name}")));
        self.add_owned_guild(id, name, owner);
        id
    }

    fn add_owned_guild(&mut self, id: Id, name: &str, owner_id: Id) {
        let (roles, members) = Default::default();
        self.guilds.insert(id, Guild { id, name: name.into(), owner_id, roles, members, premium_tier: 0 });
        self.add_role(id, Role { id, ..role("@everyone", Permissions::POSTER) });
        self.join(id, owner_id, &[]);
    }

    /// Adds a user, or replaces the one with the same id.
    pub fn add_user(&mut self, mut user: User) -> Id {
        user.id = self.ids.next(user.id);
        let id = user.id;
        self.users.insert(id, user);
        id
    }

    /// Adds a bot that is a member of the guild, with no roles but @everyone.
    pub fn add_bot(&mut self, guild: Id, name: &str, token: &str) -> Id {
        let id = self.add_bot_as(User { bot: true, ..person(name) }, token);
        self.join(guild, id, &[]);
        id
    }

    pub(crate) fn add_bot_as(&mut self, bot: User, token: &str) -> Id {
        let id = self.add_user(bot);
        self.tokens.insert(token.into(), id);
        id
    }

    /// Adds a role, or replaces the one with the same id.
    ///
    /// # Panics
    /// If the guild does not exist.
    pub fn add_role(&mut self, guild: Id, mut role: Role) -> Id {
        role.id = self.ids.next(role.id);
        let id = role.id;
        self.guild_mut(guild).roles.insert(id, role);
        id
    }

    /// Makes a user a member with these roles, beside those that it has.
    ///
    /// # Panics
    /// If the guild does not exist.
    pub fn join(&mut self, guild: Id, user: Id, roles: &[Id]) {
        self.guild_mut(guild).members.entry(user).or_default().roles.extend(roles);
    }

    /// Adds a channel.
    ///
    /// # Panics
    /// If the guild does not exist.
    pub fn add_channel(&mut self, guild: Id, kind: ChannelKind, name: &str) -> Id {
        let id = self.ids.next(Id(0));
        self.add_channel_as(id, guild, kind, name)
    }

    pub(crate) fn add_channel_as(&mut self, id: Id, guild: Id, kind: ChannelKind, name: &str) -> Id {
        assert!(self.guilds.contains_key(&guild), "guild {guild} does not exist");
        self.channels.insert(id, Channel::new(id, guild, kind, name));
        id
    }

    /// Adds a thread to a channel.
    ///
    /// # Panics
    /// If the channel does not exist.
    pub fn add_thread(&mut self, parent: Id, kind: ChannelKind, name: &str) -> Id {
        let id = self.ids.next(Id(0));
        self.add_thread_as(id, parent, kind, name)
    }

    pub(crate) fn add_thread_as(&mut self, id: Id, parent: Id, kind: ChannelKind, name: &str) -> Id {
        let guild = self.channel_mut(parent).guild_id;
        let mut thread = Channel::new(id, guild, kind, name);
        thread.parent_id = Some(parent);
        self.channels.insert(id, thread);
        id
    }

    /// Adds a tag to a forum.
    ///
    /// # Panics
    /// If the channel does not exist.
    pub fn add_tag(&mut self, forum: Id, mut tag: Tag) -> Id {
        tag.id = self.ids.next(tag.id);
        let id = tag.id;
        self.channel_mut(forum).tags.push(tag);
        id
    }

    /// Adds a webhook.
    pub fn add_webhook(&mut self, mut webhook: Webhook) -> Id {
        webhook.id = self.ids.next(webhook.id);
        let id = webhook.id;
        self.webhooks.insert(id, webhook);
        id
    }

    /// Sets what a channel gives to and takes from a role or a member.
    ///
    /// # Panics
    /// If the channel does not exist.
    pub fn overwrite(&mut self, channel: Id, overwrite: Overwrite) {
        let overwrites = &mut self.channel_mut(channel).overwrites;
        overwrites.retain(|known| known.target != overwrite.target);
        overwrites.push(overwrite);
    }

    /// Removes a channel with its messages, threads and webhooks.
    pub fn remove_channel(&mut self, channel: Id) {
        self.channels.retain(|id, known| *id != channel && known.parent_id != Some(channel));
        self.webhooks.retain(|_, webhook| webhook.channel_id != channel);
        let channels = &self.channels;
        self.messages.retain(|id, _| channels.contains_key(id));
    }

    /// The guild with that id.
    #[must_use]
    pub fn guild(&self, id: Id) -> Option<&Guild> {
        self.guilds.get(&id)
    }

    /// The channel or thread with that id.
    #[must_use]
    pub fn channel(&self, id: Id) -> Option<&Channel> {
        self.channels.get(&id)
    }

    /// The guild with that id, to be changed.
    ///
    /// # Panics
    /// If there is none.
    pub fn guild_mut(&mut self, id: Id) -> &mut Guild {
        self.guilds.get_mut(&id).unwrap_or_else(|| panic!("guild {id} does not exist"))
    }

    /// The channel or thread with that id, to be changed.
    ///
    /// # Panics
    /// If there is none.
    pub fn channel_mut(&mut self, id: Id) -> &mut Channel {
        self.channels.get_mut(&id).unwrap_or_else(|| panic!("channel {id} does not exist"))
    }

    /// Ids that are made from now on are greater than all that exist.
    pub(crate) fn raise(&self, snowflakes: &mut Snowflakes) {
        let ids = [
            self.channels.keys().next_back(),
            self.guilds.keys().next_back(),
            self.users.keys().next_back(),
            self.webhooks.keys().next_back(),
        ];
        ids.into_iter().flatten().for_each(|id| snowflakes.past(*id));
    }
}

fn person(name: &str) -> User {
    User { id: Id(0), username: name.into(), bot: false, message_content: true }
}

fn role(name: &str, permissions: Permissions) -> Role {
    Role { id: Id(0), name: name.into(), permissions, mentionable: false }
}

fn yes() -> bool {
    true
}

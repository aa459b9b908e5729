//! Looks, before anything is posted, whether the bot can do what an actor will do, and says what to change if not.
//!
//! Only lists of what the bot can see are asked for, and only where it surely may: refusals count towards a ban. So a
//! channel is never asked for by its id.

use super::error::{Class, DiscordError};
use super::message::{ForumPost, Message, TAG_OF_ITEM};
use super::permissions::{Permissions, Who, needed};
use super::rest::Rest;
use super::snowflake::Snowflake;
use super::types::{Channel, ChannelKind, Guild, Member, Role, User};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Where.
    pub channel: Snowflake,
    /// A message of the kind that will be posted.
    pub message: Message,
}

/// What stands in the way, or will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of which check, by its place in the list; `None`: of all.
    pub check: Option<usize>,
    /// Where; `None`: everywhere.
    pub channel: Option<Snowflake>,
    /// How bad it is.
    pub weight: Weight,
    /// What is wrong.
    pub what: String,
    /// What to change, and where.
    pub fix: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Nothing can be posted.
    Problem,
    /// Posts arrive, but something will not work.
    Warning,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(channel) = self.channel {
            write!(f, "channel {channel}: ")?;
        }
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// The bot's servers are looked at in pages of 200, at most so many.
const MOST_PAGES: usize = 25;
/// So many channels at most are searched for an archived thread.
const MOST_ARCHIVES: usize = 100;

/// What was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Empty: nothing stands in the way.
    pub findings: Vec<Finding>,
    /// In which server each of the channels is.
    pub guilds: BTreeMap<Snowflake, Snowflake>,
}

/// Checks all of `checks` with the requests for one.
///
/// # Errors
/// When Discord can't be asked. A token that is refused is a finding.
pub async fn preflight(rest: &Rest, checks: &[Check], now: DateTime<Utc>) -> Result<Report, DiscordError> {
    let me = match rest.current_user().await {
        Ok(me) => me,
        Err(error) if error.class() == Some(Class::Token) => {
            return Ok(Report { findings: vec![token_refused()], ..Report::default() });
        }
        Err(error) => return Err(error),
    };
    let mut map = Map::new(rest, me, now);
    let wanted: BTreeSet<Snowflake> = checks.iter().map(|check| check.channel).collect();
    map.explore(&wanted).await?;
    let mut findings = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        let found = map.judge(check).await?.into_iter();
        findings.extend(found.map(|finding| Finding { check: Some(index), ..finding }));
    }
    let mut guilds = map.servers;
    guilds.retain(|channel, _| wanted.contains(channel));
    Ok(Report { findings, guilds })
}

fn token_refused() -> Finding {
    Finding {
        check: None,
        channel: None,
        weight: Weight::Problem,
        what: "Discord refuses the token".into(),
        fix: "make a new one on the Bot page of https://discord.com/developers/applications, and set DISCORD_TOKEN"
            .into(),
    }
}

/// What the bot can see.
struct Map<'a> {
    rest: &'a Rest,
    me: User,
    now: DateTime<Utc>,
    channels: BTreeMap<Snowflake, Channel>,
    /// The server of each channel.
    servers: BTreeMap<Snowflake, Snowflake>,
    here: BTreeMap<Snowflake, Here>,
}

/// What decides about permissions in a server.
struct Here {
    guild: Guild,
    roles: Vec<Role>,
    member: Member,
}

impl<'a> Map<'a> {
    fn new(rest: &'a Rest, me: User, now: DateTime<Utc>) -> Self {
        let (channels, servers, here) = Default::default();
        Self { rest, me, now, channels, servers, here }
    }

    async fn explore(&mut self, wanted: &BTreeSet<Snowflake>) -> Result<(), DiscordError> {
        let mut after = None;
        for _ in 0..MOST_PAGES {
            let guilds = self.rest.current_guilds(after).await?;
            after = guilds.iter().map(|guild| guild.id).max();
            for guild in &guilds {
                if self.knows(wanted) {
                    return Ok(());
                }
                self.add(guild.id, self.rest.guild_channels(guild.id).await?);
                if !self.knows(wanted) {
                    self.add(guild.id, self.rest.active_threads(guild.id).await?.threads);
                }
            }
            if guilds.len() < 200 {
                break;
            }
        }
        self.search_archives(wanted).await
    }

    fn knows(&self, wanted: &BTreeSet<Snowflake>) -> bool {
        wanted.iter().all(|channel| self.channels.contains_key(channel))
    }

    fn add(&mut self, guild: Snowflake, channels: Vec<Channel>) {
        for channel in channels {
            self.servers.insert(channel.id, guild);
            self.channels.insert(channel.id, channel);
        }
    }

    /// What is in no list yet may be an archived thread of a channel whose history the bot can read.
    async fn search_archives(&mut self, wanted: &BTreeSet<Snowflake>) -> Result<(), DiscordError> {
        let may_have_threads = |channel: &&Channel| {
            matches!(channel.kind, ChannelKind::Text | ChannelKind::Announcement) || channel.kind.is_forum()
        };
        let parents: Vec<Channel> = self.channels.values().filter(may_have_threads).cloned().collect();
        let mut searched = 0;
        for parent in parents {
            if self.knows(wanted) || searched == MOST_ARCHIVES {
                break;
            }
            let readable = Permissions::VIEW_CHANNEL | Permissions::READ_MESSAGE_HISTORY;
            if let (Some(guild), Some(permissions)) =
                (self.servers.get(&parent.id).copied(), self.permissions(&parent).await?)
                && permissions.has(readable)
            {
                self.add(guild, self.rest.archived_threads(parent.id, None).await?.threads);
                searched += 1;
            }
        }
        Ok(())
    }

    async fn judge(&mut self, check: &Check) -> Result<Vec<Finding>, DiscordError> {
        let Some(channel) = self.channels.get(&check.channel).cloned() else {
            return Ok(vec![unseen(check.channel)]);
        };
        let mut verdict = Verdict { channel: &channel, findings: Vec::new() };
        verdict.kind(&check.message);
        verdict.forum(&check.message);
        if let Some(permissions) = self.permissions(&channel).await? {
            verdict.permissions(&check.message, permissions);
            let server = self.servers.get(&channel.id).and_then(|guild| self.here.get(guild));
            verdict.roles(&check.message, server.map_or(&[], |here| &here.roles), permissions);
        }
        Ok(verdict.findings)
    }

    /// `None`: not the channel of a server.
    async fn permissions(&mut self, channel: &Channel) -> Result<Option<Permissions>, DiscordError> {
        let Some(guild) = self.servers.get(&channel.id).copied() else { return Ok(None) };
        if !self.here.contains_key(&guild) {
            let here = Here {
                guild: self.rest.guild(guild).await?,
                roles: self.rest.roles(guild).await?,
                member: self.rest.member(guild, self.me.id).await?,
            };
            self.here.insert(guild, here);
        }
        let parent = channel.parent_id.filter(|_| channel.kind.is_thread());
        let place = parent.map_or(Some(channel), |parent| self.channels.get(&parent));
        Ok(self.here.get(&guild).map(|here| {
            let who = Who {
                guild,
                owner: here.guild.owner_id,
                roles: &here.roles,
                user: self.me.id,
                member: &here.member,
                now: self.now,
            };
            // A parent that is in no list can't be seen.
            place.map_or(Permissions::NONE, |place| who.in_channel(place, channel.kind.is_thread()))
        }))
    }
}

fn unseen(channel: Snowflake) -> Finding {
    Finding {
        check: None,
        channel: Some(channel),
        weight: Weight::Problem,
        what: "the bot can't see it, or it does not exist (nor is it among the last archived threads)".into(),
        fix: "check `channel_id` (right click on the channel, Copy Channel ID), invite the bot to its server, and give \
              the bot's role View Channel there"
            .into(),
    }
}

fn known_tags(post: &ForumPost) -> Vec<String> {
    post.tags.iter().filter(|tag| *tag != TAG_OF_ITEM).cloned().collect()
}

struct Verdict<'a> {
    channel: &'a Channel,
    findings: Vec<Finding>,
}

impl Verdict<'_> {
    fn find(&mut self, weight: Weight, what: impl Into<String>, fix: impl Into<String>) {
        let (channel, what, fix) = (Some(self.channel.id), what.into(), fix.into());
        self.findings.push(Finding { check: None, channel, weight, what, fix });
    }

    fn problem(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.find(Weight::Problem, what, fix);
    }

    fn name(&self) -> String {
        self.channel.name.as_ref().map_or_else(|| "the channel".into(), |name| format!("#{name}"))
    }

    fn kind(&mut self, message: &Message) {
        let (kind, name) = (self.channel.kind, self.name());
        match (kind.is_forum(), message.forum.is_some()) {
            (true, false) => {
                self.problem(
                    format!("{name} is a forum, which takes no plain messages"),
                    "give its posts a title: `forum = { name = \"…\" }` in the actor's discord_message",
                );
            }
            (false, true) => {
                self.problem(
                    format!("{name} is no forum"),
                    "take `forum` out of the actor's discord_message, or choose a forum",
                );
            }
            (false, false) if !kind.takes_messages() => {
                self.problem(format!("{name} takes no messages"), "choose a text channel");
            }
            (true, true) | (false, false) => {}
        }
        if message.crosspost && kind != ChannelKind::Announcement {
            self.problem(
                format!("{name} is no announcement channel, so nothing can be published from it"),
                "take `crosspost` out of the actor's discord_message, or make it an announcement channel (Edit Channel, \
                 Overview)",
            );
        }
        if message.thread.is_some() && !matches!(kind, ChannelKind::Text | ChannelKind::Announcement) {
            self.problem(
                format!("no thread can be started in {name}"),
                "take `thread` out of the actor's discord_message, or choose a text channel",
            );
        }
    }

    fn forum(&mut self, message: &Message) {
        let Some(post) = message.forum.as_ref().filter(|_| self.channel.kind.is_forum()) else { return };
        if let Err(unknown) = self.channel.tag_ids(&known_tags(post)) {
            self.problem(unknown, "correct `forum.tags` in the actor's discord_message, or make the tag");
        }
        if self.channel.requires_tag() && post.tags.is_empty() {
            self.problem(
                format!("{} requires a tag", self.name()),
                "name one of its tags: `forum.tags` in the actor's discord_message",
            );
        }
    }

    fn permissions(&mut self, message: &Message, permissions: Permissions) {
        let in_thread = self.channel.kind.is_thread();
        let lacking = permissions.lacks(needed(message, in_thread)).names();
        let name = self.name();
        let place = if in_thread { "the channel of the thread" } else { &name };
        if !lacking.is_empty() {
            let lacking = lacking.join(", ");
            self.problem(
                format!("the bot lacks in {name}: {lacking}"),
                format!("in the settings of {place}, under Permissions, allow the bot's role: {lacking}"),
            );
        } else if !permissions.has(Permissions::READ_MESSAGE_HISTORY) {
            self.find(
                Weight::Warning,
                format!("the bot can't read the history of {name}: a post whose outcome is unknown waits for a person"),
                format!("in the settings of {place}, under Permissions, allow the bot's role: Read Message History"),
            );
        }
        let moderates = permissions.has(Permissions::MANAGE_THREADS);
        self.thread(moderates);
        if !moderates {
            self.moderated_tags(message);
        }
    }

    /// Those that are to be pinged: each allows that to everyone, or the bot may ping all.
    fn roles(&mut self, message: &Message, roles: &[Role], permissions: Permissions) {
        for id in &message.mentions.roles {
            let Some(role) = roles.iter().find(|role| role.id == *id) else {
                self.problem(
                    format!("there is no role {id} to ping"),
                    "correct `mentions.roles` in the actor's discord_message (Server Settings, Roles, Copy Role ID)",
                );
                continue;
            };
            if !role.mentionable && !permissions.has(Permissions::MENTION_EVERYONE) {
                self.problem(
                    format!("the bot can't ping the role {}", role.name),
                    "in Server Settings, Roles, allow anyone to mention it, or allow the bot's role: Mention Everyone",
                );
            }
        }
    }

    fn thread(&mut self, moderates: bool) {
        let Some(thread) = self.channel.thread_metadata else { return };
        if thread.locked && !moderates {
            self.problem(
                "the thread is locked",
                "unlock it, or allow the bot's role in its channel: Manage Threads",
            );
        } else if thread.archived {
            self.find(Weight::Warning, "the thread is archived", "nothing: the first post opens it again");
        }
    }

    fn moderated_tags(&mut self, message: &Message) {
        let tags = message.forum.as_ref().map(known_tags).unwrap_or_default();
        let ids = self.channel.tag_ids(&tags).unwrap_or_default();
        let of_moderators =
            self.channel.available_tags.iter().filter(|tag| tag.moderated && ids.contains(&tag.id));
        let names: Vec<&str> = of_moderators.map(|tag| tag.name.as_str()).collect();
        if !names.is_empty() {
            self.problem(
                format!("only moderators can set the tag {}", names.join(", ")),
                "use another tag, or give the bot's role Manage Threads",
            );
        }
    }
}

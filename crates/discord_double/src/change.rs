//! Changes of the world while requests come in.

use crate::id::Id;
use crate::invalid::BanRules;
use crate::limits::Limits;
use crate::nonce::NonceRules;
use crate::permissions::Permissions;
use crate::state::State;
use crate::world::Overwrite;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What changes. In JSON and TOML: `{"type": "revoke_token", "token": "…"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// The token is not valid any more.
    RevokeToken {
        /// Which.
        token: String,
    },
    /// The bot gets a (new) token.
    IssueToken {
        /// Whose.
        bot: Id,
        /// The token.
        token: String,
    },
    /// What a channel gives and takes.
    Overwrite {
        /// Where.
        channel: Id,
        /// What, and to whom.
        overwrite: Overwrite,
    },
    /// What a role gives.
    RolePermissions {
        /// The guild.
        guild: Id,
        /// The role.
        role: Id,
        /// All of its permissions.
        permissions: Permissions,
    },
    /// The member leaves, or is thrown out.
    RemoveMember {
        /// The guild.
        guild: Id,
        /// Who.
        user: Id,
    },
    /// The channel or thread goes, with all in it.
    DeleteChannel {
        /// Which.
        channel: Id,
    },
    /// The thread is archived or not, locked or not.
    Thread {
        /// Which.
        thread: Id,
        /// Whether it is archived.
        archived: bool,
        /// Whether it is locked.
        locked: bool,
    },
    /// Whether a forum's posts must have a tag.
    RequireTag {
        /// The forum.
        forum: Id,
        /// Whether they must.
        required: bool,
    },
    /// Somebody writes a message.
    Say {
        /// Where.
        channel: Id,
        /// Who.
        author: Id,
        /// What.
        content: String,
    },
    /// Somebody deletes a message.
    DeleteMessage {
        /// Where.
        channel: Id,
        /// Which.
        message: Id,
    },
    /// The webhook goes.
    DeleteWebhook {
        /// Which.
        webhook: Id,
    },
    /// Other rate limits hold from now on.
    Limits {
        /// All of them.
        limits: Box<Limits>,
    },
    /// Other rules for nonces hold from now on.
    Nonce {
        /// All of them.
        rules: NonceRules,
    },
    /// Other rules for bans hold from now on.
    Ban {
        /// All of them.
        rules: BanRules,
    },
    /// No address is banned any more, and nothing counts towards a ban.
    Unban,
    /// The clock moves forward.
    AdvanceClock {
        /// How far.
        millis: u64,
    },
}

impl Change {
    /// # Errors
    /// What the change names does not exist.
    pub(crate) fn apply(self, state: &mut State) -> Result<(), String> {
        let world = &mut state.world;
        let missing = |what: &str, id: Id| format!("{what} {id} does not exist");
        match self {
            Self::RevokeToken { token } => {
                world.tokens.remove(&token).map(|_| ()).ok_or("no such token".to_owned())?;
            }
            Self::IssueToken { bot, token } => {
                world.users.get(&bot).ok_or_else(|| missing("user", bot))?;
                world.tokens.insert(token, bot);
            }
            Self::Overwrite { channel, overwrite } => {
                world.channel(channel).ok_or_else(|| missing("channel", channel))?;
                world.overwrite(channel, overwrite);
            }
            Self::RolePermissions { guild, role, permissions } => {
                let roles = world.guilds.get_mut(&guild).map(|guild| &mut guild.roles);
                let known = roles.and_then(|roles| roles.get_mut(&role));
                known.ok_or_else(|| missing("role", role))?.permissions = permissions;
            }
            Self::RemoveMember { guild, user } => {
                let members = world.guilds.get_mut(&guild).map(|guild| &mut guild.members);
                let gone = members.and_then(|members| members.remove(&user));
                gone.ok_or_else(|| missing("member", user))?;
            }
            Self::DeleteChannel { channel } => {
                world.channel(channel).ok_or_else(|| missing("channel", channel))?;
                state.delete_channel(channel);
            }
            Self::Thread { thread, archived, locked } => {
                let now = state.clock.now();
                let known = world.channels.get_mut(&thread).filter(|known| known.kind.is_thread());
                let known = known.ok_or_else(|| missing("thread", thread))?;
                (known.archived, known.locked, known.archived_at) = (archived, locked, now);
            }
            Self::RequireTag { forum, required } => {
                let known = world.channels.get_mut(&forum).filter(|known| known.kind.is_forum());
                known.ok_or_else(|| missing("forum", forum))?.require_tag = required;
            }
            Self::Say { channel, author, content } => {
                world.channel(channel).ok_or_else(|| missing("channel", channel))?;
                world.users.get(&author).ok_or_else(|| missing("user", author))?;
                state.say(channel, author, content);
            }
            Self::DeleteMessage { channel, message } => {
                state.delete_message(channel, message, 0).map_err(|_| missing("message", message))?;
            }
            Self::DeleteWebhook { webhook } => {
                world.webhooks.remove(&webhook).ok_or_else(|| missing("webhook", webhook))?;
            }
            Self::Limits { limits } => state.settings.limits = *limits,
            Self::Nonce { rules } => state.settings.nonce = rules,
            Self::Ban { rules } => state.settings.ban = rules,
            Self::Unban => state.invalid.unban(),
            Self::AdvanceClock { millis } => state.clock.advance(Duration::from_millis(millis)),
        }
        Ok(())
    }
}

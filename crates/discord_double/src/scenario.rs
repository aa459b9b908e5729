//! Scenario files: a world, settings and faults in TOML or JSON.

use crate::change::Change;
use crate::double::Options;
use crate::faults::Fault;
use crate::id::Id;
use crate::limits::Limits;
use crate::permissions::Permissions;
use crate::state::Settings;
use crate::world::{ChannelKind, Overwrite, Role, Tag, User, Webhook, World};
use serde::Deserialize;
use std::path::Path;

/// What is wrong with a scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It can't be read.
    #[error("can't read it")]
    Read(#[from] std::io::Error),
    /// It is not TOML, or says what nobody understands.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// It is not JSON, or says what nobody understands.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A fault or the limits name a route that does not exist.
    #[error("there is no route \"{0}\" (`discord-double routes` lists them)")]
    Route(String),
    /// The limits name a bucket that no route is in.
    #[error("no route is in the bucket \"{0}\" (`discord-double routes` lists the buckets)")]
    Bucket(String),
    /// A fault's probability is no probability.
    #[error("a probability is between 0 and 1, not {0}")]
    Probability(f64),
}

/// A scenario: what is not said is as in [`Options::default`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Decides what is left to chance.
    pub seed: u64,
    /// How the double behaves.
    pub settings: Settings,
    /// What exists; if it is not said, the standard world.
    pub guilds: Vec<GuildPlan>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// A storm on top: see [`Fault::storm`].
    pub storm: f64,
}

/// A guild.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuildPlan {
    /// Its name.
    pub name: String,
    /// Its id; made up if absent.
    #[serde(default)]
    pub id: Id,
    /// What @everyone may do.
    #[serde(default = "poster")]
    pub everyone: Permissions,
    /// 0 to 3; 2 and 3 raise the size that a file may have.
    #[serde(default)]
    pub premium_tier: u8,
    /// Roles beside @everyone.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Bots that are members.
    #[serde(default)]
    pub bots: Vec<BotPlan>,
    /// People that are members.
    #[serde(default)]
    pub people: Vec<User>,
    /// Channels.
    #[serde(default)]
    pub channels: Vec<ChannelPlan>,
}

/// A bot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BotPlan {
    /// Its name.
    pub name: String,
    /// Its token.
    pub token: String,
    /// Its id; made up if absent.
    #[serde(default)]
    pub id: Id,
    /// Its roles in this guild.
    #[serde(default)]
    pub roles: Vec<Id>,
    /// Whether it may read what others write.
    #[serde(default = "yes")]
    pub message_content: bool,
}

/// A channel, with its threads and webhooks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelPlan {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ChannelKind,
    /// Its id; made up if absent.
    #[serde(default)]
    pub id: Id,
    /// What it gives and takes.
    #[serde(default)]
    pub overwrites: Vec<Overwrite>,
    /// A forum's tags.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// Whether a forum's posts must have a tag.
    #[serde(default)]
    pub require_tag: bool,
    /// For a thread.
    #[serde(default)]
    pub archived: bool,
    /// For a thread.
    #[serde(default)]
    pub locked: bool,
    /// Its threads.
    #[serde(default)]
    pub threads: Vec<ChannelPlan>,
    /// Its webhooks.
    #[serde(default)]
    pub webhooks: Vec<WebhookPlan>,
}

/// A webhook.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookPlan {
    /// The name that it posts under.
    pub name: String,
    /// Its secret.
    pub token: String,
    /// Its id; made up if absent.
    #[serde(default)]
    pub id: Id,
}

fn poster() -> Permissions {
    Permissions::POSTER
}

fn yes() -> bool {
    true
}

impl Scenario {
    /// Reads a file: JSON if its name ends so, else TOML.
    ///
    /// # Errors
    /// The file can't be read or understood, or names what does not exist.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path)?;
        let scenario: Self = match path.extension().is_some_and(|extension| extension == "json") {
            true => serde_json::from_str(&text)?,
            false => toml::from_str(&text)?,
        };
        scenario.faults.iter().try_for_each(check)?;
        check_limits(&scenario.settings.limits)?;
        Ok(scenario)
    }

    /// The options to start with.
    #[must_use]
    pub fn options(self) -> Options {
        let world = match self.guilds.is_empty() {
            true => World::standard(),
            false => self.guilds.into_iter().fold(World::new(), add_guild),
        };
        let mut faults = self.faults;
        if self.storm > 0.0 {
            faults.extend(Fault::storm(self.storm));
        }
        Options { seed: self.seed, settings: self.settings, world, faults, ..Options::default() }
    }
}

/// # Errors
/// The fault can never strike, or says a probability that is none.
pub(crate) fn check(fault: &Fault) -> Result<(), ScenarioError> {
    if !(0.0..=1.0).contains(&fault.probability) {
        return Err(ScenarioError::Probability(fault.probability));
    }
    match &fault.when.route {
        Some(route) if !crate::routes::TABLE.iter().any(|known| known.name == route) => {
            Err(ScenarioError::Route(route.clone()))
        }
        _ => Ok(()),
    }
}

/// # Errors
/// The limits name a route or a bucket that does not exist.
pub(crate) fn check_limits(limits: &Limits) -> Result<(), ScenarioError> {
    let table = crate::routes::TABLE;
    if let Some(route) = limits.routes.keys().find(|name| !table.iter().any(|known| known.name == **name)) {
        return Err(ScenarioError::Route(route.clone()));
    }
    let is_used = |name: &String| {
        table.iter().any(|route| route.bucket == name) || limits.routes.values().any(|bucket| bucket == name)
    };
    match limits.buckets.keys().find(|name| !is_used(name)) {
        Some(name) => Err(ScenarioError::Bucket(name.clone())),
        None => Ok(()),
    }
}

fn add_guild(mut world: World, plan: GuildPlan) -> World {
    let id = match plan.id {
        Id(0) => world.add_guild(&plan.name),
        id => world.add_guild_as(id, &plan.name),
    };
    let guild = world.guild_mut(id);
    guild.premium_tier = plan.premium_tier;
    if let Some(everyone) = guild.roles.get_mut(&id) {
        everyone.permissions = plan.everyone;
    }
    for role in plan.roles {
        world.add_role(id, role);
    }
    for person in plan.people {
        let person = world.add_user(person);
        world.join(id, person, &[]);
    }
    for BotPlan { name, token, id: bot, roles, message_content } in plan.bots {
        let known = world.tokens.get(&token).copied();
        let user = User { id: known.unwrap_or(bot), username: name, bot: true, message_content };
        let bot = world.add_bot_as(user, &token);
        world.join(id, bot, &roles);
    }
    for channel in plan.channels {
        add_channel(&mut world, id, None, channel);
    }
    world
}

fn add_channel(world: &mut World, guild: Id, parent: Option<Id>, plan: ChannelPlan) {
    let id = match (parent, plan.id) {
        (None, Id(0)) => world.add_channel(guild, plan.kind, &plan.name),
        (None, id) => world.add_channel_as(id, guild, plan.kind, &plan.name),
        (Some(parent), Id(0)) => world.add_thread(parent, plan.kind, &plan.name),
        (Some(parent), id) => world.add_thread_as(id, parent, plan.kind, &plan.name),
    };
    let channel = world.channel_mut(id);
    channel.overwrites = plan.overwrites;
    channel.require_tag = plan.require_tag;
    (channel.archived, channel.locked) = (plan.archived, plan.locked);
    for tag in plan.tags {
        world.add_tag(id, tag);
    }
    for WebhookPlan { name, token, id: webhook } in plan.webhooks {
        world.add_webhook(Webhook { id: webhook, channel_id: id, token, name });
    }
    for thread in plan.threads {
        add_channel(world, guild, Some(id), thread);
    }
}

/// One or several of something, as the control server takes them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    pub(crate) fn into_vec(self) -> Vec<T> {
        match self {
            Self::Many(many) => many,
            Self::One(one) => vec![one],
        }
    }
}

/// A change as the control server takes it.
pub(crate) type Changes = OneOrMany<Change>;

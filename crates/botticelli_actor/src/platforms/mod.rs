//! Where posts go: the platforms that this server knows, by name.

mod alerts;
mod console;
#[cfg(feature = "discord")]
mod discord;
mod extras;
mod file;

pub use console::Console;
pub(crate) use extras::shown;
pub use file::JsonLinesFile;

use crate::config::{BotPost, LoadedConfig, Problem};
use crate::metrics::Source;
use crate::skill::TextLimits;
use crate::skills::SkillRegistry;
use botticelli_server::clock::Clock;
use botticelli_server::ids::TaskId;
use botticelli_server::outbox::EgressScope;
use botticelli_server::post::{Capabilities, Destination, Platform, PostContent};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a platform can't be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(pub(crate) String);

/// The registry of platforms. A platform is known by the name that stands in `platform = "…"` and in
/// [`Destination::platform`](botticelli_server::post::Destination::platform).
#[derive(Clone, Default)]
pub struct Platforms {
    by_name: BTreeMap<String, Arc<Platform>>,
    /// Asks Discord before anything is posted.
    #[cfg(feature = "discord")]
    bot: Option<crate::discord::Rest>,
    /// What all requests to Discord wait in.
    #[cfg(feature = "discord")]
    limiter: Option<Arc<crate::discord::limits::Limiter>>,
}

/// What an enabled task will post somewhere as the bot.
#[derive(Debug, Clone, PartialEq)]
pub struct Intended {
    /// Where that is said.
    pub post: BotPost,
    /// A message of that kind.
    pub example: PostContent,
}

impl Intended {
    /// Where it is said apart.
    pub fn is_like(&self, other: &Self) -> bool {
        self.post.channel == other.post.channel && self.example == other.example
    }

    /// All of a configuration.
    pub fn all(config: &LoadedConfig, skills: &SkillRegistry) -> Vec<Self> {
        Self::of(config, skills, &config.bot_posts)
    }

    /// Those of a configuration that are about `posts`.
    pub fn of(config: &LoadedConfig, skills: &SkillRegistry, posts: &[BotPost]) -> Vec<Self> {
        let example = |task: &TaskId| {
            let actor = &config.tasks.iter().find(|known| known.id == *task)?.actor_name;
            Some(skills.example(config.actors.iter().find(|file| file.actor.name == *actor)?))
        };
        let intended = |post: &BotPost| Self {
            post: post.clone(),
            example: example(&post.task).unwrap_or_else(|| PostContent::text("text")),
        };
        posts.iter().map(intended).collect()
    }
}

/// What stands in the way of posts, or will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is, where it is written, and what to change.
    pub problem: Problem,
    /// Nothing can be posted; else something will not work.
    pub blocks: bool,
}

impl Platforms {
    /// `console` and `file`: those that need neither a key nor a server.
    pub fn built_in(clock: Arc<dyn Clock>) -> Self {
        let mut platforms = Self::default();
        platforms.register("console", Arc::new(Console::stdout(clock.clone())));
        platforms.register("file", Arc::new(JsonLinesFile::new(clock)));
        platforms
    }

    /// The built-in ones, and those that the configuration sets up.
    ///
    /// # Errors
    /// When one of them can't be set up.
    pub fn configured(config: &LoadedConfig, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let mut platforms = Self::built_in(clock.clone());
        alerts::register(&mut platforms, &config.alerts, &clock)?;
        #[cfg(feature = "discord")]
        discord::register(&mut platforms, config, &clock)?;
        Ok(platforms)
    }

    /// What they count.
    pub fn metrics(&self) -> Vec<Arc<dyn Source>> {
        #[cfg(feature = "discord")]
        if let Some(limiter) = &self.limiter {
            return vec![limiter.clone()];
        }
        Vec::new()
    }

    /// What stands in the way of these posts, found out without posting. Empty without a token.
    pub async fn preflight(&self, posts: &[Intended], now: DateTime<Utc>) -> Vec<Finding> {
        #[cfg(feature = "discord")]
        if let Some(bot) = &self.bot {
            return discord::preflight(bot, posts, now).await;
        }
        #[cfg(not(feature = "discord"))]
        let _: (&[Intended], DateTime<Utc>) = (posts, now);
        Vec::new()
    }

    /// Enters `platform`; returns the one that had the name before.
    pub fn register(&mut self, name: impl Into<String>, platform: Arc<Platform>) -> Option<Arc<Platform>> {
        self.by_name.insert(name.into(), platform)
    }

    /// The platform of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Platform>> {
        self.by_name.get(name)
    }

    /// What can be done at `destination` for a plain text. `None`: nobody knows its platform.
    pub fn capabilities(&self, destination: &Destination) -> Option<Capabilities> {
        let platform = self.get(&destination.platform)?;
        Some(platform.capabilities(&PostContent::default(), destination))
    }

    /// How long a text may be at each of these.
    pub fn text_limits(&self, destinations: &[Destination]) -> TextLimits {
        let limit = |to: &Destination| Some((to.clone(), self.capabilities(to)?.text));
        destinations.iter().filter_map(limit).collect()
    }

    /// Those whose limits are counted for all nodes together.
    pub fn egress_scopes(&self) -> Vec<EgressScope> {
        let scope = |(name, platform): (&String, &Arc<Platform>)| {
            Some(EgressScope { platform: name.clone(), scope: platform.egress_scope()? })
        };
        self.by_name.iter().filter_map(scope).collect()
    }

    /// All names, in order: what an error message offers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

impl std::fmt::Debug for Platforms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

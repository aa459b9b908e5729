//! The skills that come with the server, and the registry by which an actor file names them.

mod content_formatter;
mod content_scheduling;
mod content_selection;
#[cfg(feature = "discord")]
mod discord_message;
mod duplicate_check;
mod planning;
mod rate_limiting;
mod template;
#[cfg(test)]
pub(crate) mod testing;

pub use content_formatter::ContentFormatter;
pub use content_scheduling::ContentScheduling;
pub use content_selection::ContentSelection;
#[cfg(feature = "discord")]
pub use discord_message::DiscordMessage;
pub use duplicate_check::DuplicateCheck;
pub use rate_limiting::RateLimiting;

use crate::config::{ActorFile, Fault, discord, read_what_is_right};
use crate::names::unknown;
use crate::skill::Skill;
use botticelli_server::post::PostContent;
use schemars::{JsonSchema, Schema, schema_for};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the guide shows is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/actors.md")]
struct Guide;

/// The skills that actor files can name.
#[derive(Clone)]
pub struct SkillRegistry {
    skills: BTreeMap<String, Registered>,
}

/// The one skill that not every build has.
const DISCORD_MESSAGE: &str = "discord_message";

type Built = (Option<Arc<dyn Skill>>, Vec<Fault>);

#[derive(Clone)]
struct Registered {
    build: fn(&toml::Table) -> Built,
    schema: fn() -> Schema,
}

impl SkillRegistry {
    /// None at all.
    pub fn empty() -> Self {
        Self { skills: BTreeMap::new() }
    }

    /// Those that come with the server.
    pub fn standard() -> Self {
        let registry = Self::empty()
            .register::<ContentSelection>("content_selection")
            .register::<DuplicateCheck>("duplicate_check")
            .register::<ContentFormatter>("content_formatter")
            .register::<RateLimiting>("rate_limiting")
            .register::<ContentScheduling>("content_scheduling");
        #[cfg(feature = "discord")]
        let registry = registry.register::<DiscordMessage>(DISCORD_MESSAGE);
        registry
    }

    /// Enters a skill, whose fields are its settings (derive `deny_unknown_fields`, so that slips are found). It
    /// replaces one of the same name.
    #[must_use]
    pub fn register<S: Skill + DeserializeOwned + JsonSchema + 'static>(mut self, name: &str) -> Self {
        let registered = Registered { build: build::<S>, schema: || schema_for!(S) };
        self.skills.insert(name.to_owned(), registered);
        self
    }

    /// The skill `name` with these settings.
    ///
    /// # Errors
    /// When there is no such skill, or settings are unknown, missing or wrong: all of them.
    pub fn build(&self, name: &str, settings: &toml::Table) -> Result<Arc<dyn Skill>, Vec<Fault>> {
        match self.build_what_is_right(name, settings) {
            (Some(skill), faults) if faults.is_empty() => Ok(skill),
            (_, faults) => Err(faults),
        }
    }

    /// The skill with those settings that are right, to be checked and not to be run, and the faults of the others.
    pub(crate) fn build_what_is_right(&self, name: &str, settings: &toml::Table) -> Built {
        match self.skills.get(name) {
            Some(skill) => (skill.build)(settings),
            None if !discord::AVAILABLE && name == DISCORD_MESSAGE => {
                let message = format!("skill {name:?}: {}", discord::LEFT_OUT);
                (None, vec![Fault::new("name", message).hint(discord::LEFT_OUT_HINT)])
            }
            None => {
                let (message, hint) = unknown("skill", name, self.names());
                (None, vec![Fault::new("name", message).hint(hint)])
            }
        }
    }

    /// A message of the kind that the actor will post, as far as its settings tell.
    pub fn example(&self, actor: &ActorFile) -> PostContent {
        let skills = actor.skills.iter().filter(|section| section.enabled);
        let skills = skills.filter_map(|section| self.build(&section.name, &section.settings).ok());
        PostContent { text: "text".to_owned(), extras: skills.flat_map(|skill| skill.adds()).collect() }
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.skills.keys().map(String::as_str)
    }

    /// The JSON Schema of a skill's settings.
    pub fn schema(&self, name: &str) -> Option<Schema> {
        self.skills.get(name).map(|skill| (skill.schema)())
    }
}

fn build<S: Skill + DeserializeOwned + 'static>(settings: &toml::Table) -> Built {
    let (skill, faults) = read_what_is_right::<S>(settings);
    (skill.map(|skill| Arc::new(skill) as Arc<dyn Skill>), faults)
}

/// The state of a pseudo-random choice that every node and every attempt makes alike.
pub(crate) fn seeded(parts: &[&str]) -> u64 {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finalize();
    hash[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str, settings: &str) -> (String, String, Option<String>) {
        match SkillRegistry::standard().build(name, &settings.parse().unwrap()) {
            Ok(_) => panic!("{name} took {settings}"),
            Err(mut faults) => {
                let Fault { path, message, hint } = faults.remove(0);
                (path.to_string(), message, hint)
            }
        }
    }

    #[test]
    fn an_unknown_skill_is_named_with_the_nearest_one() {
        let (path, message, hint) = fault("content_selektion", "");
        assert_eq!((path.as_str(), message.as_str()), ("name", "unknown skill \"content_selektion\""));
        assert!(hint.unwrap().starts_with("did you mean \"content_selection\"?"));
    }

    #[cfg(not(feature = "discord"))]
    #[test]
    fn a_skill_that_was_left_out_of_the_build_is_not_called_unknown() {
        let (_, message, _) = fault("discord_message", "");
        assert_eq!(message, "skill \"discord_message\": this program was built without Discord");
    }

    #[test]
    fn an_unknown_setting_is_named_with_the_nearest_one() {
        let (path, message, hint) = fault("content_selection", "stratgy = 'latest'");
        assert_eq!((path.as_str(), message.as_str()), ("stratgy", "stratgy is not a known key"));
        assert_eq!(hint.unwrap(), "did you mean \"strategy\"?");
    }

    #[test]
    fn every_wrong_setting_is_named_with_what_is_allowed() {
        for (skill, settings, key, message) in [
            (
                "content_selection",
                "strategy = 'newest'",
                "strategy",
                "strategy is \"newest\" (allowed: \"latest\", \"oldest\", \"top_scored\", \"random\", \"weighted\")",
            ),
            ("content_selection", "limit = 0", "limit", "limit is 0 (allowed: a whole number, 1-1000)"),
            ("content_selection", "on_empty = 3", "on_empty", "on_empty is 3 (allowed: a string)"),
            (
                "content_selection",
                "strategy = 'weighted'\npriority_weight = -1",
                "priority_weight",
                "priority_weight: -1 is no weight (allowed: 0 and more)",
            ),
            (
                "duplicate_check",
                "similarity_threshold = 1.5",
                "similarity_threshold",
                "similarity_threshold: 1.5 is no similarity (allowed: 0 to 1)",
            ),
            (
                "duplicate_check",
                "lookback_days = 0",
                "lookback_days",
                "lookback_days is 0 (allowed: a whole number, 1-3650)",
            ),
            (
                "content_formatter",
                "max_length = 0",
                "max_length",
                "max_length is 0 (allowed: a whole number, 1-1000000)",
            ),
            ("content_formatter", "template = '{{ title'", "template", "template: line 1: syntax error"),
            (
                "content_formatter",
                "overflow = 'cut'",
                "overflow",
                "(allowed: \"split\", \"truncate\", \"fail\")",
            ),
            (
                "content_formatter",
                "add_hashtags = ['a b']",
                "add_hashtags",
                "\"a b\" is no hashtag (allowed: letters, digits, _)",
            ),
            (
                "content_formatter",
                "add_hashtags = 3",
                "add_hashtags",
                "add_hashtags is 3 (allowed: true, false, or a list of tags like \"#art\")",
            ),
            (
                "rate_limiting",
                "max_posts_per_day = 0",
                "max_posts_per_day",
                "(allowed: a whole number, 1-10000)",
            ),
            (
                "rate_limiting",
                "max_posts_per_day = 1\nwhen_over = 'drop'",
                "when_over",
                "(allowed: \"defer\", \"skip\")",
            ),
            (
                "content_scheduling",
                "window_start = '25:00'",
                "window_start",
                "\"25:00\" is no time of day (allowed: \"00:00\" to \"23:59\")",
            ),
            ("content_scheduling", "timezone = 'Berlin'", "timezone", "unknown time zone \"Berlin\""),
            ("content_scheduling", "days = []", "days", "no days"),
            ("content_scheduling", "days = ['lundi']", "days", "days[0] is \"lundi\" (allowed: \"mon\","),
        ] {
            let (path, text, _) = fault(skill, settings);
            assert!(
                path.split('[').next() == Some(key) && text.contains(message),
                "{skill} {settings}: {path}: {text}"
            );
        }
    }

    #[test]
    fn every_setting_is_in_the_schema_and_described() {
        let registry = SkillRegistry::standard();
        for name in registry.names() {
            let schema = registry.schema(name).unwrap();
            for (key, property) in schema.get("properties").unwrap().as_object().unwrap() {
                assert!(property.get("description").is_some(), "{name}.{key}");
            }
        }
    }
}

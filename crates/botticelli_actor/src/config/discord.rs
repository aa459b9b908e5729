//! `[discord]`: how Discord is reached, and the webhooks by name.

use super::problem::Problem;
use super::read::{Fault, KeyPath};
use super::within::Within;
use botticelli_server::ids::TaskId;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Whether this build has Discord.
pub const AVAILABLE: bool = cfg!(feature = "discord");
/// What is said where a build without it is to have it.
pub(crate) const LEFT_OUT: &str = "this program was built without Discord";
/// What helps then.
pub(crate) const LEFT_OUT_HINT: &str =
    "build it with the cargo feature `discord`; the platforms console and file are there without it";

/// Where Discord is.
pub const API_BASE_URL: &str = "https://discord.com/api/v10";

/// The page about the bot where nobody has one: where Discord's bots are managed.
pub const ABOUT_URL: &str = "https://discord.com/developers/applications";

/// Where Discord is, from the environment. It wins over the file.
pub(super) const API_BASE_URL_VARIABLE: &str = "DISCORD_API_BASE_URL";

/// How Discord is reached.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiscordSection {
    /// Discord's API with its version, or what stands in for it. DISCORD_API_BASE_URL wins.
    pub api_base_url: String,
    /// A page about the bot or who runs it: Discord wants one in every request.
    pub about_url: String,
    /// The longest wait for a connection.
    pub connect_timeout_seconds: Within<1, 60>,
    /// The longest that a request may take in all. What becomes of it is unknown then.
    pub request_timeout_seconds: Within<1, 300>,
    /// For so long after a message was sent Discord is trusted to recognise it when it is sent again. Discord only says
    /// "a few minutes".
    pub nonce_window_seconds: Within<1, 600>,
    /// After that window, for so long a message may not be in the channel's history yet.
    pub history_grace_seconds: Within<0, 600>,
    /// Names for webhooks, and their URLs, which are secrets: `herald = "${HERALD_URL}"`. A task says
    /// `platform = "discord_webhook"` and `destination = "herald"`.
    #[serde(skip_serializing)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub webhooks: Webhooks,
}

impl Default for DiscordSection {
    fn default() -> Self {
        Self {
            api_base_url: API_BASE_URL.to_owned(),
            about_url: ABOUT_URL.to_owned(),
            connect_timeout_seconds: Within::of::<5>(),
            request_timeout_seconds: Within::of::<20>(),
            nonce_window_seconds: Within::of::<120>(),
            history_grace_seconds: Within::of::<30>(),
            webhooks: Webhooks::default(),
        }
    }
}

/// The URLs of webhooks, by name. One that stands where it does not belong is not shown in the error either.
#[derive(Debug, Clone, Default)]
pub struct Webhooks(pub BTreeMap<String, SecretString>);

impl<'de> Deserialize<'de> for Webhooks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Webhooks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of names and URLs")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Webhooks, E> {
                Err(E::custom(
                    "a webhook needs a name (allowed: a table, [discord.webhooks] name = \"${URL}\")",
                ))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Webhooks, A::Error> {
                let mut webhooks = BTreeMap::new();
                while let Some((name, url)) = entries.next_entry()? {
                    webhooks.insert(name, url);
                }
                Ok(Webhooks(webhooks))
            }
        }

        deserializer.deserialize_any(Names)
    }
}

/// How Discord is reached, as the rest of the program takes it.
#[derive(Debug, Clone)]
pub struct DiscordSettings {
    /// Discord's API with its version, or what stands in for it.
    pub api_base_url: String,
    /// A page about the bot or who runs it.
    pub about_url: String,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest that a request may take in all.
    pub request_timeout: Duration,
    /// For so long Discord is trusted to recognise a message.
    pub nonce_window: Duration,
    /// After that, for so long the history may lag behind.
    pub history_grace: Duration,
    /// The URLs of webhooks, by name.
    pub webhooks: Webhooks,
}

impl From<DiscordSection> for DiscordSettings {
    fn from(section: DiscordSection) -> Self {
        Self {
            api_base_url: section.api_base_url,
            about_url: section.about_url,
            connect_timeout: section.connect_timeout_seconds.seconds(),
            request_timeout: section.request_timeout_seconds.seconds(),
            nonce_window: section.nonce_window_seconds.seconds(),
            history_grace: section.history_grace_seconds.seconds(),
            webhooks: section.webhooks,
        }
    }
}

impl Default for DiscordSettings {
    fn default() -> Self {
        DiscordSection::default().into()
    }
}

/// A place in the configuration where an enabled task says that it posts as the bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BotPost {
    /// The task.
    pub task: TaskId,
    /// The channel's id.
    pub channel: String,
    pub(super) place: String,
    pub(super) line: Option<usize>,
}

impl BotPost {
    /// Something wrong with it, at its line.
    pub fn problem(&self, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem {
            line: self.line,
            subject: Some(format!("task {:?}", self.task)),
            ..Problem::with(self.place.clone(), message).hint(hint)
        }
    }

    /// That there is no token to post with.
    pub fn without_token(&self) -> Problem {
        self.problem(
            "it posts to Discord, and there is no token",
            "set the environment variable DISCORD_TOKEN; --allow-degraded runs the other tasks without it",
        )
    }
}

/// What is wrong with the webhooks' URLs, which are not shown.
pub(super) fn wrong_webhooks(webhooks: &Webhooks) -> Vec<Fault> {
    let fault = |(name, url): (&String, &SecretString)| {
        let path = KeyPath::from("discord").key("webhooks").key(name);
        let message = format!("{path}: {}", wrong::webhook(url)?);
        Some(Fault::new(path, message).hint(
            "copy it in Discord: Edit Channel, Integrations, Webhooks, Copy Webhook URL; keep it in an environment \
             variable",
        ))
    };
    webhooks.0.iter().filter_map(fault).collect()
}

#[cfg(feature = "discord")]
pub(super) mod wrong {
    //! What is wrong with texts that only the client understands.

    use crate::discord::{HttpSettings, Rest, SetupError, Snowflake, WebhookRest};
    use secrecy::SecretString;

    pub(in super::super) fn api_base_url(url: &str) -> Option<String> {
        match HttpSettings::check_base_url(url) {
            Ok(()) => None,
            // Not the URL itself: it may hold a password.
            Err(SetupError::BaseUrl { problem, .. }) => Some(problem.to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    pub(in super::super) fn about_url(url: &str) -> Option<String> {
        HttpSettings::check_about_url(url).err().map(|_| "is no plain http:// or https:// address".to_owned())
    }

    pub(in super::super) fn token(token: &SecretString) -> Option<String> {
        Rest::check_token(token).err().map(|error| error.to_string())
    }

    pub(in super::super) fn webhook(url: &SecretString) -> Option<String> {
        WebhookRest::check_url(url).err().map(|error| error.to_string())
    }

    /// The id as it is always written.
    pub(in super::super) fn channel(id: &str) -> Result<String, String> {
        let id: Result<Snowflake, _> = id.trim().parse();
        id.map(|id| id.to_string()).map_err(|error| error.to_string())
    }
}

#[cfg(not(feature = "discord"))]
pub(super) mod wrong {
    //! Without the client nothing is wrong: nothing is used.

    use secrecy::SecretString;

    pub(in super::super) fn api_base_url(_: &str) -> Option<String> {
        None
    }

    pub(in super::super) fn about_url(_: &str) -> Option<String> {
        None
    }

    pub(in super::super) fn token(_: &SecretString) -> Option<String> {
        None
    }

    pub(in super::super) fn webhook(_: &SecretString) -> Option<String> {
        None
    }

    pub(in super::super) fn channel(id: &str) -> Result<String, String> {
        Ok(id.to_owned())
    }
}

//! The server's file: how the server runs, where its database is, and which actors run when.

use super::alerts::{AlertSection, HeartbeatSection};
use super::api::ApiSection;
use super::discord::DiscordSection;
use super::triggers::TriggerSection;
use super::within::Within;
use botticelli_server::ids::TaskId;
use botticelli_server::outbox::OnUnknown;
use botticelli_server::schedule::ScheduleType;
use botticelli_server::task::{Backoff, Overlap};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::time::Duration;

/// A day, in seconds.
const DAY: u64 = 86_400;

/// The file that `--config` names.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorServerConfig {
    /// How the server runs.
    #[serde(default)]
    pub server: ServerSection,
    /// Where the server keeps what it must not forget.
    #[serde(default)]
    pub database: DatabaseSection,
    /// The HTTP interface.
    #[serde(default)]
    pub api: ApiSection,
    /// How Discord is reached, and the webhooks by name.
    #[serde(default)]
    pub discord: DiscordSection,
    /// Who is told when something is not as it should be.
    #[serde(default)]
    pub alerts: Vec<AlertSection>,
    /// Who is called while all is well.
    #[serde(default)]
    pub heartbeat: HeartbeatSection,
    /// The tasks: each runs an actor on a schedule.
    #[serde(default)]
    pub actors: Vec<ActorInstanceConfig>,
    /// Accepted for older files. Set the environment variable DISCORD_TOKEN instead.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("deprecated" = true))]
    pub discord_token: Option<SecretString>,
}

/// How the server runs.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSection {
    /// How often the server looks for due work that no timer told it of. Due work does not wait for this.
    pub check_interval_seconds: Within<1, 3_600>,
    /// At so many failed executions in a row a task is paused.
    pub max_consecutive_failures: Within<1, 1_000>,
    /// So many actors run at the same time.
    pub max_concurrent_executions: Within<1, 1_000>,
    /// After SIGTERM or SIGINT, so long may running work go on.
    pub shutdown_grace_seconds: Within<0, 3_600>,
    /// A server that was silent for so long is taken for dead, and its work is handed on.
    pub lease_seconds: Within<2, 600>,
    /// Executions that ended longer ago are deleted; 0 keeps them for ever. What was posted is always remembered.
    pub history_retention_days: Within<0, 36_500>,
    /// The wait after a task's first failure; it doubles with each further one.
    pub backoff_initial_seconds: Within<1, DAY>,
    /// The longest wait after a failure.
    pub backoff_max_seconds: Within<1, DAY>,
    /// Whether this file and the actors' files are read again when they change, as SIGHUP asks for it.
    pub watch: bool,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            check_interval_seconds: Within::of::<60>(),
            max_consecutive_failures: Within::of::<5>(),
            max_concurrent_executions: Within::of::<16>(),
            shutdown_grace_seconds: Within::of::<30>(),
            lease_seconds: Within::of::<8>(),
            history_retention_days: Within::of::<90>(),
            backoff_initial_seconds: Within::of::<5>(),
            backoff_max_seconds: Within::of::<900>(),
            watch: false,
        }
    }
}

/// Where the server keeps what it must not forget.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSection {
    /// `sqlite://FILE` (relative to the working directory) or `postgres://…`. `--database-url` and DATABASE_URL win.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("default" = DEFAULT_DATABASE_URL))]
    pub url: Option<SecretString>,
}

/// Where the database is when nobody says.
pub const DEFAULT_DATABASE_URL: &str = "sqlite://actor_server.db";

/// One `[[actors]]` entry: a task.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorInstanceConfig {
    /// The task's name, unlike any other's. Its history and state are kept under it.
    pub name: TaskId,
    /// The actor's file: looked up beside this file, then in the working directory.
    pub config_file: String,
    /// When the task is due. Without it, the task runs when one of its triggers asks for it.
    #[serde(default = "on_events")]
    pub schedule: ScheduleType,
    /// What makes it run besides its schedule.
    #[serde(default)]
    pub triggers: Vec<TriggerSection>,
    /// Where it posts. Default: `discord` where `channel_id` is set, else `console`.
    #[serde(default)]
    pub platform: Option<PlatformName>,
    /// What the platform needs to know: for `file` the path (beside this file), for `discord_webhook` the webhook's name.
    #[serde(default)]
    pub destination: Option<String>,
    /// The Discord channel, or the thread.
    #[serde(default)]
    pub channel_id: Option<String>,
    /// Several places, instead of the keys above: it posts to each of them, and each goes its own way.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub destinations: Option<Vec<DestinationSection>>,
    /// A task that is not enabled is kept, and paused.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What to run of the occurrences that were missed while no server ran.
    #[serde(default)]
    pub catch_up: CatchUpMode,
    /// With `catch_up = "all"`: at most so many, the newest.
    #[serde(default)]
    pub catch_up_limit: Option<Within<1, 10_000>>,
    /// What to do when the task is due while it runs.
    #[serde(default)]
    pub overlap: Overlap,
    /// Starts are spread over so many seconds after the nominal time; the same on every node.
    #[serde(default = "Within::<0, DAY>::of::<0>")]
    pub jitter_seconds: Within<0, DAY>,
    /// An occurrence later than this is left out. Default: no bound; with `catch_up = "skip"` 60.
    #[serde(default)]
    pub misfire_grace_seconds: Option<Within<1, { 366 * DAY }>>,
    /// An attempt may take so long. Default: the actor's own `timeout_seconds`, else 300.
    #[serde(default)]
    pub timeout_seconds: Option<Within<1, DAY>>,
    /// So many attempts of one execution may fail. Those cut short by a server that died or stopped are not counted.
    #[serde(default = "Within::<1, 100>::of::<3>")]
    pub max_attempts: Within<1, 100>,
    /// For this task instead of the server's.
    #[serde(default)]
    pub max_consecutive_failures: Option<Within<1, 1_000>>,
    /// So long after too many failures one occurrence is tried again. Default: a person resumes the task.
    #[serde(default)]
    pub cooldown_seconds: Option<Within<1, { 366 * DAY }>>,
    /// For this task instead of the server's.
    #[serde(default)]
    pub backoff_initial_seconds: Option<Within<1, DAY>>,
    /// For this task instead of the server's.
    #[serde(default)]
    pub backoff_max_seconds: Option<Within<1, DAY>>,
    /// What to do with a post that may or may not have appeared, on a platform that can't be asked.
    #[serde(default)]
    pub on_unknown: OnUnknown,
}

fn on_events() -> ScheduleType {
    ScheduleType::Event
}

fn yes() -> bool {
    true
}

/// One of several places where a task posts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationSection {
    /// The platform. Default: `discord` where `channel_id` is set, else `console`.
    #[serde(default)]
    pub platform: Option<PlatformName>,
    /// What the platform needs to know: for `file` the path (beside this file), for `discord_webhook` the webhook's name.
    #[serde(default)]
    pub destination: Option<String>,
    /// The Discord channel, or the thread.
    #[serde(default)]
    pub channel_id: Option<String>,
}

/// The platforms by the names that configuration has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlatformName {
    /// Prints posts to the terminal.
    Console,
    /// Appends posts to a file, as JSON Lines.
    File,
    /// Posts to a Discord channel, as a bot.
    Discord,
    /// Posts to a Discord channel through a webhook, without a bot.
    DiscordWebhook,
}

impl PlatformName {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::File => "file",
            Self::Discord => "discord",
            Self::DiscordWebhook => "discord_webhook",
        }
    }
}

/// What to run of the occurrences that were missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUpMode {
    /// One run for all of them.
    #[default]
    Latest,
    /// Each of them, in order, up to `catch_up_limit`.
    All,
    /// None.
    Skip,
}

/// How the server runs, as the rest of the program takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// How often to look for due work that no timer told of.
    pub check_interval: Duration,
    /// At so many failed executions in a row a task is paused.
    pub max_consecutive_failures: NonZeroU32,
    /// So many actors run at the same time.
    pub max_concurrent_executions: NonZeroU32,
    /// So long may running work go on after the signal to stop.
    pub shutdown_grace: Duration,
    /// A server that was silent for so long is taken for dead.
    pub lease: Duration,
    /// Executions that ended longer ago are deleted. `None`: never.
    pub history_retention: Option<Duration>,
    /// The wait after failures, where a task does not say otherwise.
    pub backoff: Backoff,
    /// Whether the files are read again when they change.
    pub watch: bool,
}

impl From<&ServerSection> for ServerSettings {
    fn from(section: &ServerSection) -> Self {
        let days = section.history_retention_days.get();
        Self {
            check_interval: section.check_interval_seconds.seconds(),
            max_consecutive_failures: section.max_consecutive_failures.count(),
            max_concurrent_executions: section.max_concurrent_executions.count(),
            shutdown_grace: section.shutdown_grace_seconds.seconds(),
            lease: section.lease_seconds.seconds(),
            history_retention: (days > 0).then(|| Duration::from_secs(days * DAY)),
            backoff: Backoff {
                initial: section.backoff_initial_seconds.seconds(),
                max: section.backoff_max_seconds.seconds(),
            },
            watch: section.watch,
        }
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self::from(&ServerSection::default())
    }
}

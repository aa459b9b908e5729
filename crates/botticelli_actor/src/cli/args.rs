//! What can be typed.

use chrono::{DateTime, Utc};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;

/// Runs actors on schedules, and posts what they make.
#[derive(Debug, Parser)]
#[command(name = "actor-server", version, max_term_width = 100)]
pub struct Cli {
    /// What goes with every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do; `run` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What goes with every command, before or after it.
#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// The server's file
    #[arg(short, long, global = true, value_name = "FILE", default_value = "actor_server.toml")]
    pub config: PathBuf,
    /// Where the database is: sqlite://FILE or postgres://… (wins over the file)
    #[arg(long, global = true, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<SecretString>,
    /// The Discord bot's token; others can see a flag, so set the variable
    #[arg(long, global = true, value_name = "TOKEN", env = "DISCORD_TOKEN", hide_env_values = true)]
    discord_token: Option<SecretString>,
    /// Check everything that can be checked without acting, and print each task with its next three times
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Run without a Discord token: the tasks that need it are left out, with a warning
    #[arg(long, global = true)]
    pub allow_degraded: bool,
    /// How the log on stderr is written; RUST_LOG says how much of it
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// The token stood on the command line.
    #[arg(skip)]
    pub token_in_flag: bool,
}

impl GlobalArgs {
    /// The database that a flag or the environment names. An empty variable counts as none.
    pub fn database_url(&self) -> Option<SecretString> {
        not_empty(&self.database_url)
    }

    /// The token from a flag or the environment. An empty variable counts as none.
    pub fn discord_token(&self) -> Option<SecretString> {
        not_empty(&self.discord_token)
    }
}

fn not_empty(secret: &Option<SecretString>) -> Option<SecretString> {
    secret.clone().filter(|secret| !secret.expose_secret().is_empty())
}

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (the default)
    Run,
    /// Show what a schedule means: in words, and as its next times
    Next(NextArgs),
    /// Run one task now, without sending and without trace, and print each stage
    Once(OnceArgs),
    /// Look at tasks and steer them, also while the server runs
    #[command(subcommand)]
    Tasks(TasksCommand),
    /// Look at posts and decide about those that wait for a person
    #[command(subcommand)]
    Posts(PostsCommand),
    /// Look at alerts, and see whether they arrive
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Make and revoke the tokens that the API asks for
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show who has changed what, newest first
    Audit {
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Bring the database's tables up to date, and do nothing else
    Migrate,
    /// After a backup was restored, before a server starts: leave out what was due since, and doubt what was to be sent
    Restored,
    /// Say whether a server of this machine lives (exit code 0 or 1)
    Health,
    /// Print the JSON Schema of a configuration file
    Schema(SchemaArgs),
    /// Print the manual page, for `man`
    Man,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// Arguments of `next`.
#[derive(Debug, Args)]
pub struct NextArgs {
    /// Which schedule.
    #[command(flatten)]
    pub asked: Asked,
    /// The IANA time zone of the expression [default: UTC]; a task has its own
    #[arg(long, value_name = "ZONE", conflicts_with = "task")]
    pub timezone: Option<String>,
    /// Times after this one, in RFC 3339, such as 2026-01-31T09:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub after: Option<DateTime<Utc>>,
    /// How many times, 1-1000
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// Print a JSON array of {"scheduled_for", "local"}
    #[arg(long)]
    pub json: bool,
}

fn time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    text.parse()
        .map_err(|_| "not a time in RFC 3339, such as 2026-01-31T09:00:00Z or 2026-01-31T10:00:00+01:00")
}

/// What a platform may have called a message, or a link to it.
pub(crate) fn printable(text: &str) -> Result<String, &'static str> {
    let fits =
        (1..=500).contains(&text.chars().count()) && !text.contains(|c: char| c.is_control() || c == ' ');
    if fits { Ok(text.to_owned()) } else { Err("1-500 characters, without blanks") }
}

/// A task or an expression.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Asked {
    /// A task of the configuration
    pub task: Option<String>,
    /// A cron expression: sec min hour day-of-month month day-of-week year
    #[arg(long, value_name = "EXPR")]
    pub cron: Option<String>,
}

/// Arguments of `once`.
#[derive(Debug, Args)]
pub struct OnceArgs {
    /// The task
    pub task: String,
    /// Really run it: record it, and send its posts
    #[arg(long)]
    pub send: bool,
}

/// Commands about tasks.
#[derive(Debug, Subcommand)]
pub enum TasksCommand {
    /// List all tasks
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one task
    Show {
        /// The task
        task: String,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Run a task as soon as a server can, whatever its schedule says
    Trigger {
        /// The task
        task: String,
    },
    /// Leave a task's occurrences out until it is resumed
    Pause {
        /// The task
        task: String,
    },
    /// Go on with a paused task, and forget its failures
    Resume {
        /// The task
        task: String,
    },
    /// Show a task's executions, newest first
    History {
        /// The task
        task: String,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
}

/// Commands about tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it: once, for it is kept nowhere
    New {
        /// What to call it, such as who will use it
        #[arg(long, value_name = "NAME", value_parser = printable)]
        name: String,
        /// What it lets its holder do
        #[arg(long, value_name = "SCOPE", value_parser = ["read", "operate", "admin", "events"])]
        scope: String,
    },
    /// List all tokens, revoked ones too
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Make a token worthless, within a second and without a restart
    Revoke {
        /// Its name
        name: String,
    },
}

/// Commands about posts.
#[derive(Debug, Subcommand)]
pub enum PostsCommand {
    /// List posts, newest first
    List {
        /// Only those of this task
        #[arg(long)]
        task: Option<String>,
        /// Only those that this execution made
        #[arg(long, value_name = "ID")]
        execution: Option<i64>,
        /// Only those in this state
        #[arg(long, value_parser = ["pending", "deferred", "sending", "posted", "failed", "needs_review", "skipped"])]
        state: Option<String>,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one post
    Show {
        /// Its number
        post: i64,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Send a post that failed, or was left out, again; ask at once about one that is deferred
    Retry {
        /// Its number
        post: i64,
    },
    /// Send a post again although it may be there: look first, or it may appear twice
    Resend {
        /// Its number
        post: i64,
        /// Print a JSON object: the post as it stands now
        #[arg(long)]
        json: bool,
    },
    /// Settle a post that you have seen on the platform, where the platform did not say so
    MarkPosted {
        /// Its number
        post: i64,
        /// The platform's id of the message
        #[arg(long, value_name = "ID", value_parser = printable)]
        message_id: String,
        /// Where it can be seen
        #[arg(long, value_name = "URL", value_parser = printable)]
        link: Option<String>,
        /// Print a JSON object: the post as it stands now
        #[arg(long)]
        json: bool,
    },
    /// Leave a post that failed, or waits for a person, as it is
    Dismiss {
        /// Its number
        post: i64,
    },
}

/// Commands about alerts.
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// List alerts, newest first: those that are not over
    List {
        /// Also those that are over
        #[arg(long)]
        all: bool,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Send a test alert now, and say what its sink answered
    Test {
        /// The name of a section [default: each of them]
        name: Option<String>,
    },
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Which file
    #[arg(value_enum)]
    pub file: SchemaFile,
}

/// The two kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaFile {
    /// The server's file.
    Server,
    /// An actor's file.
    Actor,
}

impl Cli {
    /// Reads the arguments of this process.
    pub(super) fn from_process() -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches()?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.global.token_in_flag = given_as_flag(&matches, "discord_token");
        Ok(cli)
    }
}

/// Whether the argument stood on the command line, before or after a sub-command.
fn given_as_flag(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
        || matches.subcommand().is_some_and(|(_, matches)| given_as_flag(matches, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_fit_together() {
        Cli::command().debug_assert();
    }
}

//! The command line: what can be typed, and who answers it.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 fine, 1 failed, 2 usage or configuration.

mod alerts;
mod args;
mod database;
mod dry_run;
mod errors;
mod logging;
mod man;
mod next;
mod once;
pub mod output;
mod run;
mod schema;
mod show;
mod supervisor;
mod task;
mod token;
mod watch;

pub(crate) use args::printable;
pub use args::{
    AlertsCommand, Cli, Command, GlobalArgs, LogFormat, OnceArgs, PostsCommand, TasksCommand, TokenCommand,
};

use crate::actor::PipelineActor;
use crate::clock::SystemClock;
use crate::config::{self, ActorFile, Check, Fault, Files, Given, LoadedConfig, Problems};
use crate::skills::SkillRegistry;
use anyhow::Context as _;
use botticelli_server::clock::Clock;
use clap::CommandFactory;
use errors::UsageError;
use secrecy::{ExposeSecret as _, SecretString};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Runs `actor-server` with the arguments of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::from_process() {
        Ok(cli) => cli,
        Err(error) => return errors::report_usage(&error),
    };
    match start(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => errors::report(&error, form_of_errors(&cli)),
    }
}

/// Who reads the server's log by program reads its end so, too.
fn form_of_errors(cli: &Cli) -> errors::Form {
    match (&cli.command, cli.global.log_format) {
        (None | Some(Command::Run), LogFormat::Json) => errors::Form::JsonLog,
        (None | Some(Command::Run), LogFormat::Text) | (Some(_), _) => errors::Form::Text,
    }
}

fn start(cli: &Cli) -> anyhow::Result<()> {
    logging::start(cli.global.log_format)?;
    if cli.global.token_in_flag {
        tracing::warn!(
            "--discord-token can be seen by other users of this machine: set DISCORD_TOKEN instead"
        );
    }
    let command = cli.command.as_ref().unwrap_or(&Command::Run);
    if cli.global.dry_run && !matches!(command, Command::Run) {
        return Err(UsageError::new("--dry-run goes with `run`, the default command").into());
    }
    match command {
        Command::Run if cli.global.dry_run => {
            print(|out| dry_run::print(&cli.global, SystemClock.now(), out))
        }
        Command::Next(args) => print(|out| next::print(&cli.global, args, SystemClock.now(), out)),
        Command::Schema(args) => print(|out| schema::print(args.file, out)),
        Command::Man => print(man::print),
        Command::Completions { shell } => print(|out| {
            clap_complete::generate(*shell, &mut Cli::command(), "actor-server", out);
            Ok(())
        }),
        Command::Run
        | Command::Once(_)
        | Command::Tasks(_)
        | Command::Posts(_)
        | Command::Alerts(_)
        | Command::Token(_)
        | Command::Audit { .. }
        | Command::Migrate
        | Command::Restored
        | Command::Health => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let result = runtime.block_on(with_database(cli, command));
            // Whatever still blocks a thread must not hold up the end.
            runtime.shutdown_timeout(Duration::from_secs(1));
            result
        }
    }
}

/// Prints to stdout, also what led to a failure.
fn print(write: impl FnOnce(&mut Vec<u8>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut text = Vec::new();
    let done = write(&mut text);
    let mut out = std::io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).context("the output can't be written")?;
    done
}

async fn with_database(cli: &Cli, command: &Command) -> anyhow::Result<()> {
    let mut out = Vec::new();
    let done = match command {
        Command::Run => run::run(cli.global.clone()).await,
        Command::Once(args) => once::run(&cli.global, args).await,
        Command::Tasks(command) => database::tasks(&cli.global, command, &mut out).await,
        Command::Posts(command) => database::posts(&cli.global, command, &mut out).await,
        Command::Alerts(AlertsCommand::List { all, limit, json }) => {
            alerts::list(&cli.global, *all, *limit, *json, &mut out).await
        }
        Command::Alerts(AlertsCommand::Test { name }) => {
            alerts::test(&cli.global, name.as_deref(), &mut out).await
        }
        Command::Token(command) => token::run(&cli.global, command, &mut out).await,
        Command::Audit { limit, json } => token::audit(&cli.global, *limit, *json, &mut out).await,
        Command::Migrate => database::migrate(&cli.global, &mut out).await,
        Command::Restored => database::restored(&cli.global, &mut out).await,
        Command::Health => database::health(&cli.global, &mut out).await,
        Command::Next(_) | Command::Schema(_) | Command::Man | Command::Completions { .. } => Ok(()),
    };
    // Also, and above all, what led to a failure.
    print(|stdout| Ok(stdout.write_all(&out)?))?;
    done
}

/// Loads the configuration that the command line names; warnings go to the log.
fn load_config(global: &GlobalArgs) -> Result<LoadedConfig, Problems> {
    load_noting(global, &mut Files::default())
}

fn load_noting(global: &GlobalArgs, files: &mut Files) -> Result<LoadedConfig, Problems> {
    let skills = SkillRegistry::standard();
    let check =
        move |file: &ActorFile, database_url: &SecretString| actor_faults(file, &skills, database_url);
    load_checked(global, &check, files)
}

fn actor_faults(file: &ActorFile, skills: &SkillRegistry, database_url: &SecretString) -> Vec<Fault> {
    PipelineActor::build(file, skills, database_url.expose_secret()).err().unwrap_or_default()
}

fn load_checked(global: &GlobalArgs, check: &dyn Check, files: &mut Files) -> Result<LoadedConfig, Problems> {
    let given = Given {
        config: global.config.clone(),
        database_url: global.database_url(),
        discord_token: global.discord_token(),
    };
    let loaded = config::load_noting(&given, &config::env::process, check, files)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let now = SystemClock.now();
    for task in loaded.tasks.iter().filter(|task| task.enabled) {
        if let Some(warning) = next::never_again(&task.schedule, now) {
            tracing::warn!("{}: task {:?}: {warning}", global.config.display(), task.id);
        }
    }
    Ok(loaded)
}

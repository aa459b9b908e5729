//! The command line: what can be typed, and who answers it.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 fine, 1 failed, 2 usage or configuration.

mod args;
mod dry_run;
mod errors;
mod logging;
mod next;
pub mod output;
mod schema;

pub use args::{Cli, Command, GlobalArgs, LogFormat, OnceArgs, PostsCommand, TasksCommand};

use crate::clock::SystemClock;
use crate::config::{self, Given, LoadedConfig};
use botticelli_server::clock::Clock;
use clap::CommandFactory;
use errors::UsageError;
use std::io::Write;
use std::process::ExitCode;

/// Runs `actor-server` with the arguments of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::from_process() {
        Ok(cli) => cli,
        Err(error) => return errors::report_usage(&error),
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => errors::report(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
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
    let mut out = std::io::stdout().lock();
    match command {
        Command::Run if cli.global.dry_run => dry_run::print(&cli.global, SystemClock.now(), &mut out)?,
        Command::Next(args) => next::print(&cli.global, args, SystemClock.now(), &mut out)?,
        Command::Schema(args) => schema::print(args.file, &mut out)?,
        Command::Completions { shell } => {
            // Not straight to `out`: it panics where that can't be written.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "actor-server", &mut script);
            out.write_all(&script)?;
        }
        Command::Run | Command::Once(_) | Command::Tasks(_) | Command::Posts(_) | Command::Migrate => {
            anyhow::bail!("this build has no store yet")
        }
    }
    Ok(out.flush()?)
}

/// Loads the configuration that the command line names; warnings go to the log.
fn load_config(global: &GlobalArgs) -> Result<LoadedConfig, config::Problems> {
    let given = Given {
        config: global.config.clone(),
        database_url: global.database_url(),
        discord_token: global.discord_token(),
    };
    let loaded = config::load(&given, &config::env::process, &|_| Vec::new())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded)
}

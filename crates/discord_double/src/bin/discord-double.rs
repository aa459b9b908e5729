//! `discord-double`: a Discord on loopback, until SIGTERM or SIGINT.

use clap::{Args, Parser, Subcommand, ValueEnum};
use discord_double::{BEHAVIOURS, Double, Fault, Limits, NonceScope, Options, Scenario};
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// A Discord HTTP API (v10) on loopback, for people who develop bots.
///
/// Prints its URLs, tokens and ids as one line of JSON, and runs until SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints what the double does, and where each behaviour was learnt.
    Behaviours {
        /// As a table for its README.
        #[arg(long)]
        markdown: bool,
    },
    /// Asks another Discord the same questions as the double, and prints where the answers differ.
    ///
    /// Writes into the channels and deletes what it wrote. Exit code 1 if answers differ.
    #[cfg(feature = "compare")]
    Compare(Compare),
    /// Prints the routes, by the names that faults and limits use.
    Routes,
}

#[cfg(feature = "compare")]
#[derive(Debug, Args)]
struct Compare {
    /// Where it is.
    #[arg(long, default_value = "https://discord.com/api/v10")]
    base_url: String,
    /// The bot's token.
    #[arg(long, env = "DISCORD_TOKEN", hide_env_values = true)]
    token: String,
    /// A text channel in which the bot may post with embeds, files and polls, and read the history.
    #[arg(long)]
    channel: discord_double::Id,
    /// Another one.
    #[arg(long)]
    second_channel: discord_double::Id,
    /// Also finds out for how long a nonce is known, up to so many seconds. It takes as long.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    nonce_window_up_to: u64,
}

#[derive(Debug, Args)]
struct Run {
    /// Where Discord's API listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the control server listens: ledger, requests, faults, changes of the world.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Decides what is left to chance; wins over the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// World, settings and faults, in TOML or JSON. Without, there is one guild with a channel of each type.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Also keeps the ledger of visible messages in this file, as JSON Lines; continues it if it is there.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// How long a nonce is known.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    nonce_window: Option<f64>,
    /// Whose nonces are compared.
    #[arg(long)]
    nonce_scope: Option<Scope>,
    /// Neither limits nor their headers.
    #[arg(long, conflicts_with = "faster_limits")]
    no_limits: bool,
    /// Makes the windows of all limits so many times shorter.
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..))]
    faster_limits: Option<u32>,
    /// On requests that write: lost, delivered twice, answered wrongly or not at all; each kind with this probability.
    #[arg(long, value_name = "PROBABILITY", value_parser = probability)]
    storm: Option<f64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scope {
    Author,
    AuthorAndChannel,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let max = 1e9;
    (0.0..=max).contains(&seconds).then_some(seconds).ok_or(format!("not between 0 and {max}"))
}

fn probability(text: &str) -> Result<f64, String> {
    let probability: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (0.0..=1.0).contains(&probability).then_some(probability).ok_or("not between 0 and 1".to_owned())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Behaviours { markdown }) => print_behaviours(markdown).map_err(failed),
        #[cfg(feature = "compare")]
        Some(Command::Compare(arguments)) => compare(arguments),
        Some(Command::Routes) => print_lines(discord_double::routes()).map_err(failed),
        None => options(cli.run).and_then(run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}

/// An exit code and a message.
type Failure = (u8, String);

/// Something went wrong that is not the caller's fault.
fn failed(error: impl Error + 'static) -> Failure {
    (1, chain(&error))
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    let mut lines: Vec<String> = causes.map(ToString::to_string).collect();
    lines.dedup();
    lines.join(": ")
}

fn options(run: Run) -> Result<Options, Failure> {
    let scenario = match &run.scenario {
        Some(path) => {
            Scenario::read(path).map_err(|error| (2, format!("{}: {}", path.display(), chain(&error))))?
        }
        None => Scenario::default(),
    };
    let mut options = scenario.options();
    options.listen = run.listen;
    options.control = Some(run.control);
    options.ledger = run.ledger;
    options.seed = run.seed.unwrap_or(options.seed);
    let nonce = &mut options.settings.nonce;
    nonce.window_seconds = run.nonce_window.unwrap_or(nonce.window_seconds);
    match run.nonce_scope {
        Some(Scope::Author) => nonce.scope = NonceScope::Author,
        Some(Scope::AuthorAndChannel) => nonce.scope = NonceScope::AuthorAndChannel,
        None => {}
    }
    let limits = &mut options.settings.limits;
    if run.no_limits {
        *limits = Limits::off();
    }
    if let Some(times) = run.faster_limits {
        *limits = limits.clone().faster(times);
    }
    if let Some(probability) = run.storm {
        options.faults.extend(Fault::storm(probability));
    }
    Ok(options)
}

fn run(options: Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        // Listened for before anyone can know that there is something to stop.
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let double = Double::start(options).map_err(failed)?;
        print_lines([double.about().to_string()]).map_err(failed)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

#[cfg(feature = "compare")]
fn compare(arguments: Compare) -> Result<(), Failure> {
    use discord_double::compare::{Target, compare};
    let Compare { base_url, token, channel, second_channel, nonce_window_up_to } = arguments;
    let target = Target { base_url, token, channel, second_channel };
    let up_to = std::time::Duration::from_secs(nonce_window_up_to);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let comparisons = runtime.block_on(compare(&target, up_to)).map_err(failed)?;
    let lines = comparisons.iter().map(|found| match found.is_same() {
        true => format!("same   {}: {}", found.question, found.double),
        false => format!("OTHER  {}: {} (the double: {})", found.question, found.target, found.double),
    });
    print_lines(lines).map_err(failed)?;
    match comparisons.iter().filter(|found| !found.is_same()).count() {
        0 => Ok(()),
        count => Err((1, format!("{count} of {} answers differ", comparisons.len()))),
    }
}

fn print_behaviours(markdown: bool) -> io::Result<()> {
    if markdown {
        return print_lines([discord_double::behaviours_markdown().trim_end()]);
    }
    print_lines(BEHAVIOURS.iter().map(|known| {
        format!("{:12} [{}] {} ({})", known.area, known.source.tag(), known.what, known.reference)
    }))
}

fn print_lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", line.as_ref())?;
    }
    out.flush()
}

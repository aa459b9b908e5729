//! The log: on stderr, as text or JSON.

use super::args::LogFormat;
use super::errors::UsageError;
use crate::config::env;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

pub(super) fn start(format: LogFormat) -> Result<(), UsageError> {
    let filter = env::log_filter().unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|error| {
        UsageError::new(format!("RUST_LOG is {filter:?}: {error}"))
            .hint(Some("such as info, or warn,botticelli_actor=debug".to_owned()))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Where the log can't be written, that can't be told there either: trying to would end the server.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // A second start in one process (tests) keeps the first log.
    let started = match format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).with_ansi(false).try_init(),
    };
    started.or(Ok(()))
}

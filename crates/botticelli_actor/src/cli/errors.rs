//! The one place that prints errors and picks the exit code: 0 fine, 1 failed, 2 usage or configuration.

use super::output::visible;
use crate::api::{ApiError, ListenError};
use crate::app::AppError;
use crate::clock::SystemClock;
use crate::config::Problems;
use botticelli_database::{DatabaseUrl, OpenError};
use botticelli_server::clock::Clock as _;
use chrono::SecondsFormat;
use serde_json::json;
use std::io::{self, Write};
use std::process::ExitCode;

/// The command line asks for something that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct UsageError {
    message: String,
    hint: Option<String>,
}

impl UsageError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

/// Something that can't be done, with what would help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// A dry run found something wrong: that is its result, not a failure to start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DryRunFailed(pub(super) Problems);

/// How errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// As lines of the log in JSON, of which they are the last.
    JsonLog,
}

pub(super) fn report(error: &anyhow::Error, form: Form) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    // Where even stderr is closed, the exit code is all that is left to say.
    write(error, form, &mut io::stderr().lock()).unwrap_or_default();
    let config = error.is::<Problems>()
        || matches!(error.downcast_ref(), Some(AppError::Config(_)))
        || matches!(error.downcast_ref(), Some(OpenError::Url(_)));
    if config || error.is::<UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// What clap says; `--help` and `--version` come here too.
pub(super) fn report_usage(error: &clap::Error) -> ExitCode {
    match error.print().and_then(|()| io::stdout().flush()) {
        // Help that nobody got is no answer.
        Err(failed) if failed.kind() != io::ErrorKind::BrokenPipe && !error.use_stderr() => {
            return ExitCode::FAILURE;
        }
        Ok(()) | Err(_) => {}
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Whoever reads our output has seen enough (`| head`).
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn write(error: &anyhow::Error, form: Form, to: &mut impl Write) -> io::Result<()> {
    let problems =
        error.downcast_ref::<Problems>().or(error.downcast_ref().map(|DryRunFailed(problems)| problems));
    if let Some(Problems(problems)) = problems {
        for problem in problems {
            write_one(&problem.to_string(), problem.hint.as_deref(), form, to)?;
        }
        return Ok(());
    }
    let usage = error.downcast_ref::<UsageError>().and_then(|error| error.hint.as_deref());
    let failure = error.downcast_ref::<Failure>().and_then(|error| error.hint.as_deref());
    let hint = usage.or(failure).or_else(|| stop_hint(error)).or_else(|| database_hint(error));
    write_one(&told(error), hint, form, to)
}

/// The error with its causes, none of them twice.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

/// What comes of a stop that the database does not know of.
fn stop_hint(error: &anyhow::Error) -> Option<&'static str> {
    match error.downcast_ref() {
        Some(AppError::ResultsLost(_)) => Some(
            "a server that has the database runs these again, and finds out what became of posts that were on their way",
        ),
        Some(AppError::NotSaid) => {
            Some("nothing is lost: what it had is handed on when its lease is over; is the database there?")
        }
        _ => None,
    }
}

/// What helps where the database can't be used.
fn database_hint(error: &anyhow::Error) -> Option<&'static str> {
    let opening = error.downcast_ref::<OpenError>().or(match error.downcast_ref() {
        Some(AppError::Open(error)) => Some(error),
        _ => None,
    });
    let api = match error.downcast_ref() {
        Some(AppError::Api(ApiError::Listen(error))) => Some(listen_hint(error)),
        _ => None,
    };
    opening.and_then(opening_hint).or(api).or_else(|| file_hint(&format!("{error:#}")))
}

/// What helps where the API can't listen.
fn listen_hint(error: &ListenError) -> &'static str {
    match error {
        ListenError::Address { .. } => {
            "api.listen of the server's file says where; does another program listen there?"
        }
        ListenError::NoToken { .. } => {
            "`actor-server token new --name NAME --scope admin` makes one; or listen on 127.0.0.1"
        }
        ListenError::Tls { .. } => "it must be a file in PEM that this user can read",
    }
}

/// What SQLite says of files that it can't use, and what helps.
fn file_hint(error: &str) -> Option<&'static str> {
    if error.contains("database is locked") {
        Some(LOCKED)
    } else if ["disk is full", "No space left on device"].iter().any(|words| error.contains(words)) {
        Some("make room on the disk; what was recorded before is safe")
    } else if error.ends_with(", not a file") {
        Some("name a file, or one that can be made, such as sqlite://actor_server.db")
    } else if error.contains("file is not a database") {
        Some("the file is something else, or encrypted: name another one")
    } else if error.contains("database disk image is malformed") {
        Some("the file is damaged: restore a copy, or save what can be read with `sqlite3 FILE .recover`")
    } else {
        None
    }
}

const LOCKED: &str = "a backup, a migration or a client with an open transaction keeps it locked: end that, or try again when \
     it is over";

/// What helps where the database can't be opened.
pub(super) fn opening_hint(error: &OpenError) -> Option<&'static str> {
    match error {
        OpenError::Url(_) => Some(DatabaseUrl::EXAMPLES),
        OpenError::Connect { target: DatabaseUrl::Postgres(_), .. } => Some(
            "is the server running there, and do user, password and database exist? `psql URL` tells more",
        ),
        OpenError::Connect { target: DatabaseUrl::Sqlite(_), reason } => {
            file_hint(reason).or(Some("the folder must exist, and this user must be able to write to it"))
        }
        OpenError::InUse { .. } => {
            Some("one server serves a SQLite file; stop the other one, or use PostgreSQL")
        }
        OpenError::ManyNames { .. } => {
            Some("remove the others: `find / -xdev -samefile FILE` shows them; a symbolic link does no harm")
        }
        OpenError::TooNew { .. } => Some("install that version; the database was upgraded by it"),
        OpenError::NotMade { .. } => {
            Some("is the URL right? `actor-server migrate`, or the first start of the server, makes it")
        }
        OpenError::Behind { .. } => {
            Some("`actor-server migrate` brings it up to date, or a start of the server")
        }
        OpenError::Locked { .. } => Some(LOCKED),
        OpenError::Migrate { reason, .. } => file_hint(reason),
        OpenError::Ledger(_) => None,
    }
}

fn write_one(message: &str, hint: Option<&str>, form: Form, to: &mut impl Write) -> io::Result<()> {
    match form {
        Form::Text => {
            writeln!(to, "error: {}", visible(message))?;
            match hint {
                Some(hint) => writeln!(to, "hint: {}", visible(hint)),
                None => Ok(()),
            }
        }
        Form::JsonLog => {
            let timestamp = SystemClock.now().to_rfc3339_opts(SecondsFormat::Micros, true);
            let line = json!({
                "timestamp": timestamp, "level": "ERROR", "message": "actor-server can't go on", "error": message,
                "hint": hint,
            });
            writeln!(to, "{line}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use botticelli_server::ledger::LedgerError;

    fn printed(error: impl Into<anyhow::Error>) -> String {
        let mut text = Vec::new();
        write(&error.into(), Form::Text, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_full_disk_is_said_once_with_what_helps() {
        let hint = "hint: make room on the disk; what was recorded before is safe\n";
        let full = "database or disk is full";
        assert_eq!(
            printed(LedgerError::NotWritable(full.into())),
            format!("error: the database can't be written: {full}\n{hint}")
        );
        let target = DatabaseUrl::parse("sqlite://a.db").unwrap();
        let opening = OpenError::Connect { target: target.clone(), reason: full.into() };
        assert_eq!(printed(opening), format!("error: can't connect to sqlite://a.db: {full}\n{hint}"));
        let migrating = AppError::Open(OpenError::Migrate { target, reason: full.into() });
        assert_eq!(printed(migrating), format!("error: sqlite://a.db could not be migrated: {full}\n{hint}"));
    }

    #[test]
    fn a_lock_that_is_not_let_go_of_comes_with_what_helps() {
        let locked = printed(AppError::Ledger(LedgerError::Unavailable("database is locked".into())));
        let error = "error: the database can't be reached: database is locked\nhint: a backup, a migration";
        assert!(locked.starts_with(error), "{locked}");
    }
}

//! What is wrong with a configuration, and where: every message names its file, its line and the culprit.

use super::document::Document;
use super::read::Fault;
use botticelli_server::ids::ActorName;
use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file or flag that it is about.
    pub place: String,
    /// The nearest line, from 1.
    pub line: Option<usize>,
    /// The task or actor that it is about: `task "digest"`.
    pub subject: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to try instead.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with a whole file or flag.
    pub(crate) fn with(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), line: None, subject: None, message: message.into(), hint: None }
    }

    /// A problem with one place in `document`.
    pub(super) fn at(document: &Document, subject: Option<&str>, fault: Fault) -> Self {
        Self {
            place: document.path.display().to_string(),
            line: document.line(&fault.path),
            subject: subject.map(str::to_owned),
            message: shortened(document.with_numbers(document.without_secrets(&fault.message))),
            hint: fault.hint.map(|hint| shortened(document.without_secrets(&hint))),
        }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Messages show values, and values may be long. Cut only after secrets are out: half of one would not be recognised.
pub(crate) fn shortened(message: String) -> String {
    const CHARS: usize = 600;
    match message.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(subject) = &self.subject {
            write!(f, ": {subject}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All that is wrong with a configuration, in the order of its files; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// What is wrong with an actor whose file was in order when it was loaded: something around it has changed since.
    pub fn of(actor: &ActorName, faults: Vec<Fault>) -> Self {
        let problem = |fault: Fault| Problem {
            hint: fault.hint,
            ..Problem::with(format!("actor {actor:?}"), fault.message)
        };
        Self(faults.into_iter().map(problem).collect())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// Why a file could not be read as text.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("there is no such file")]
    Missing,
    #[error("this is a directory, not a file")]
    Directory,
    #[error("the file is longer than {} MiB", super::document::LONGEST_FILE / (1024 * 1024))]
    TooLong,
    #[error("the file is not UTF-8 text: byte {byte} can't be read")]
    NotUtf8 { byte: usize, line: usize },
    #[error("the file can't be read: {0}")]
    Unreadable(#[source] std::io::Error),
}

impl FileError {
    pub(super) fn at(self, path: PathBuf) -> Problem {
        let line = match &self {
            Self::NotUtf8 { line, .. } => Some(*line),
            Self::Missing | Self::Directory | Self::TooLong | Self::Unreadable(_) => None,
        };
        Problem { line, ..Problem::with(path.display().to_string(), self.to_string()) }
    }
}

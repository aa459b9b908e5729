//! What can go wrong, by what the caller does about it.

use crate::target::{DatabaseUrl, UrlError};
use botticelli_server::ledger::LedgerError;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use std::path::PathBuf;

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not one of ours.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Nobody answers, or the answer was no.
    #[error("can't connect to {target}: {reason}")]
    Connect {
        /// Which database, without secrets.
        target: DatabaseUrl,
        /// The whole chain of causes.
        reason: String,
    },
    /// Another server has the file.
    #[error("{} is in use by another server (lock file {})", path.display(), lock.display())]
    InUse {
        /// The database.
        path: PathBuf,
        /// Its lock.
        lock: PathBuf,
    },
    /// The file could be opened twice without anybody noticing.
    #[error("{} has {names} names (hard links): each would have a log and a lock of its own", path.display())]
    ManyNames {
        /// One of them.
        path: PathBuf,
        /// How many.
        names: u64,
    },
    /// The database belongs to a newer program.
    #[error("{target} needs actor-server {needed} or newer; this is {have}")]
    TooNew {
        /// Which database, without secrets.
        target: DatabaseUrl,
        /// What it asks for.
        needed: String,
        /// What this is.
        have: &'static str,
    },
    /// It has to be made first, which a command does not do.
    #[error("{target} {}", if *.is_there { "has none of the server's tables" } else { "does not exist" })]
    NotMade {
        /// Which database, without secrets.
        target: DatabaseUrl,
        /// There is a database of that name, with nothing of ours in it.
        is_there: bool,
    },
    /// It has to be migrated first, which a command does not do.
    #[error("{target} was left by an older actor-server: not migrated yet ({})", pending.join(", "))]
    Behind {
        /// Which database, without secrets.
        target: DatabaseUrl,
        /// The versions of the migrations that are pending.
        pending: Vec<String>,
    },
    /// It has to be migrated, and somebody else does not let go of it.
    #[error("{target} has to be migrated, and another program keeps it locked")]
    Locked {
        /// Which database, without secrets.
        target: DatabaseUrl,
    },
    /// A migration failed.
    #[error("{target} could not be migrated: {reason}")]
    Migrate {
        /// Which database, without secrets.
        target: DatabaseUrl,
        /// What happened.
        reason: String,
    },
    /// It was opened, and then failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why a database could not be migrated.
#[derive(Debug)]
pub(crate) enum MigrateError {
    Connect(String),
    Locked,
    Migration(String),
}

impl MigrateError {
    pub(crate) fn of(self, target: &DatabaseUrl) -> OpenError {
        let target = target.clone();
        match self {
            Self::Connect(reason) => OpenError::Connect { target, reason },
            Self::Locked => OpenError::Locked { target },
            Self::Migration(reason) => OpenError::Migrate { target, reason },
        }
    }
}

impl From<String> for MigrateError {
    /// What the database said while it was migrated.
    fn from(reason: String) -> Self {
        let locked = ["database is locked", "lock timeout"].iter().any(|words| reason.contains(words));
        if locked { Self::Locked } else { Self::Migration(reason) }
    }
}

impl From<WorkError> for MigrateError {
    /// What it said when it was asked whether it has to be.
    fn from(error: WorkError) -> Self {
        Self::Connect(error.to_string())
    }
}

/// How far a database is migrated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// It has nothing of ours.
    Missing,
    /// These migrations, by their versions, are pending.
    Behind(Vec<String>),
    /// It has all that this program needs.
    Current,
}

/// What a unit of work fails with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    #[error(transparent)]
    Diesel(#[from] DieselError),
    #[error("no connection: {0}")]
    NoConnection(String),
    #[error("{0}")]
    Corrupt(String),
    #[error("{0}")]
    Refused(String),
    #[error("{} was deleted, moved or replaced while it was in use", .0.display())]
    Misplaced(PathBuf),
}

impl WorkError {
    pub(crate) fn corrupt(what: &str, why: impl std::fmt::Display) -> Self {
        Self::Corrupt(format!("{what}: {why}"))
    }
}

impl From<WorkError> for LedgerError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::NoConnection(_) => Self::Unavailable(Box::new(error)),
            WorkError::Corrupt(why) => Self::Corrupt(why),
            WorkError::Refused(_) => Self::Refused(Box::new(error)),
            WorkError::Misplaced(_) => Self::NotWritable(Box::new(error)),
            WorkError::Diesel(error) => from_diesel(error),
        }
    }
}

fn from_diesel(error: DieselError) -> LedgerError {
    let text = error.to_string();
    match &error {
        DieselError::DatabaseError(
            DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::SerializationFailure,
            _,
        )
        | DieselError::BrokenTransactionManager => LedgerError::Unavailable(Box::new(error)),
        DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _) => {
            LedgerError::NotWritable(Box::new(error))
        }
        _ if NOT_WRITABLE.iter().any(|words| text.contains(words)) => {
            LedgerError::NotWritable(Box::new(error))
        }
        _ if COME_BACK_LATER.iter().any(|words| text.contains(words)) => {
            LedgerError::Unavailable(Box::new(error))
        }
        _ if CORRUPT.iter().any(|words| text.contains(words)) => LedgerError::Corrupt(text),
        _ => LedgerError::Refused(Box::new(error)),
    }
}

// Neither database's driver gives these conditions a kind of their own.
const NOT_WRITABLE: &[&str] = &[
    "database or disk is full",
    "disk I/O error",
    "attempt to write a readonly database",
    "unable to open database file",
    "No space left on device",
    "could not extend file",
];
const COME_BACK_LATER: &[&str] = &[
    "database is locked",
    "deadlock detected",
    "connection closed",
    "terminating connection",
    "the database system is",
    "too many clients",
    "remaining connection slots",
    "error communicating with the server",
];
const CORRUPT: &[&str] = &["database disk image is malformed", "file is not a database"];

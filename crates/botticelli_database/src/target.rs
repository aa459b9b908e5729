//! Which database: parsed once, printed without its password.

use crate::error::OpenError;
use std::fmt;
use std::path::PathBuf;

/// A database URL that was understood.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `postgres://…` or `postgresql://…`.
    Postgres(String),
    /// `sqlite://path` (or `sqlite:path`), relative to the working directory.
    Sqlite(PathBuf),
}

impl DatabaseUrl {
    /// # Errors
    /// When the URL has another scheme, or no path.
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"));
        match path {
            Some("") => Err(OpenError::Url { problem: "names no file after `sqlite://`".into() }),
            Some(":memory:") => Err(OpenError::Url {
                problem: "names a database in memory, which would not outlive the process".into(),
            }),
            Some(path) => Ok(Self::Sqlite(PathBuf::from(path))),
            None => {
                let scheme = url.split_once(':').map_or("no scheme", |(scheme, _)| scheme);
                let scheme =
                    if scheme.chars().all(|c| c.is_ascii_alphanumeric()) { scheme } else { "no scheme" };
                Err(OpenError::Url {
                    problem: format!("has {scheme:?} where postgres:// or sqlite:// is allowed"),
                })
            }
        }
    }
}

/// Without user, password and options: this is what logs and errors show.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => {
                let rest = url.split_once("://").map_or("", |(_, rest)| rest);
                let rest = rest.split(['?', '#']).next().unwrap_or("");
                let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
                write!(f, "postgres://{place}")
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for url in
            ["postgres://me:pa@ss@db.example:5432/bots?password=x", "postgresql://db.example:5432/bots#me:ss"]
        {
            let shown = DatabaseUrl::parse(url).unwrap().to_string();
            assert_eq!(shown, "postgres://db.example:5432/bots");
        }
    }

    #[test]
    fn what_is_no_database_url_is_refused_without_repeating_it() {
        let refused = |url| DatabaseUrl::parse(url).unwrap_err().to_string();
        assert_eq!(
            refused("mysql://u:secret@h/d"),
            "the database URL has \"mysql\" where postgres:// or sqlite:// is allowed"
        );
        assert_eq!(
            refused("bots.db"),
            "the database URL has \"no scheme\" where postgres:// or sqlite:// is allowed"
        );
        assert_eq!(refused("sqlite://"), "the database URL names no file after `sqlite://`");
        assert!(refused("sqlite::memory:").contains("in memory"));
    }
}

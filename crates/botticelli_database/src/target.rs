//! Which database: parsed once, printed without its password.

use crate::postgres::chain;
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

/// A URL that names no database that we could use. It is not shown: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database URL {problem}")]
pub struct UrlError {
    /// What is wrong with it; a sentence without its subject.
    pub problem: String,
}

impl DatabaseUrl {
    /// What a URL looks like, for a hint.
    pub const EXAMPLES: &str = "such as sqlite://actor_server.db or postgres://user@host/database";

    /// # Errors
    /// When the URL has another scheme, names no database, or has options that are not understood.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let problem = |problem: String| Err(UrlError { problem });
        let Some((scheme, rest)) = url.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
            return problem("is no URL".into());
        };
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        match scheme {
            "sqlite" | "postgres" | "postgresql" if rest.is_empty() => problem("names no database".into()),
            "sqlite" => sqlite_path(rest).map(Self::Sqlite),
            "postgres" | "postgresql" => match url.parse::<tokio_postgres::Config>() {
                Ok(_) => Ok(Self::Postgres(url.to_owned())),
                Err(error) => problem(format!("can't be read: {}", chain(&error))),
            },
            _ => problem(format!("has the scheme {scheme:?} (allowed: sqlite, postgres)")),
        }
    }
}

/// Shown in messages, so it must not be the beginning of a password.
fn is_scheme(text: &str) -> bool {
    (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

fn sqlite_path(path: &str) -> Result<PathBuf, UrlError> {
    let problem = |problem: String| Err(UrlError { problem });
    if path.starts_with(":memory:") {
        return problem("names a database in memory, which would not outlive the process".into());
    }
    match path.split_once('?') {
        None => Ok(PathBuf::from(path)),
        Some((_, parameters)) => {
            let name = parameters.split(['=', '&']).next().unwrap_or_default();
            problem(format!(
                "has the parameter {name:?} (a sqlite:// URL has none: it names the file, and no more)"
            ))
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
        let url = "the database URL ";
        assert_eq!(
            refused("mysql://u:secret@h/d"),
            format!("{url}has the scheme \"mysql\" (allowed: sqlite, postgres)")
        );
        assert_eq!(refused("bots.db"), format!("{url}is no URL"));
        assert_eq!(refused("S3cret:x"), format!("{url}is no URL"));
        for nothing in ["sqlite://", "sqlite:", "postgres://", "postgresql:"] {
            assert_eq!(refused(nothing), format!("{url}names no database"), "{nothing}");
        }
        assert_eq!(
            refused("sqlite://bots.db?mode=rwc&key=secret"),
            format!(
                "{url}has the parameter \"mode\" (a sqlite:// URL has none: it names the file, and no more)"
            )
        );
        assert!(refused("postgres://me@h/d?keepalives=secret").contains("keepalives"));
        for bad in ["postgres://me:secret@h:port/d", "postgres://me@h/d?keepalives=secret"] {
            assert!(!refused(bad).contains("secret"), "{bad}: {}", refused(bad));
        }
        assert!(refused("sqlite::memory:").contains("in memory"));
    }
}

//! Who asks, and what they may: bearer tokens with scopes, and the checks that keep web pages out.

use super::page::to_hex;
use super::problem::{Answer, Kind, Problem};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use botticelli_database::{Requester, Scope, Store, ValidToken};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq as _;
use tokio::sync::{Mutex, Semaphore};
use tracing::warn;

/// So soon a token that was made or revoked, on whatever node, is known to be.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// Whoever has no valid token waits so long for the answer.
const SLOWED_DOWN: Duration = Duration::from_secs(1);
/// So many wait at a time; others are told to come again.
const SLOWED_AT_A_TIME: usize = 16;
/// What all tokens begin with, so that people and scanners know one when they see it.
const PREFIX: &str = "actor_";

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: everybody may. Who has a token is still told more.
    Nothing,
    /// A token that allows this.
    Scope(Scope),
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Whoever reaches a loopback address, while there is no token at all.
    Anybody,
    /// The holder of a token.
    Token {
        /// Its name.
        name: String,
        /// What it allows.
        scope: Scope,
    },
    /// Nobody that is known.
    Stranger,
}

impl Caller {
    /// Whether they may do what needs this.
    ///
    /// # Errors
    /// When they may not.
    pub fn may(&self, needs: Needs) -> Answer<()> {
        match (self, needs) {
            (_, Needs::Nothing) | (Self::Anybody, Needs::Scope(_)) => Ok(()),
            (Self::Token { scope, .. }, Needs::Scope(needed)) if scope.allows(needed) => Ok(()),
            (Self::Token { name, scope }, Needs::Scope(needed)) => {
                let (has, needed) = (scope.as_str(), needed.as_str());
                let detail = format!("this needs the scope {needed:?}; the token {name:?} has {has:?}");
                Err(Problem::new(Kind::Forbidden, detail)
                    .hint(format!("`actor-server token new --name NAME --scope {needed}` makes one")))
            }
            (Self::Stranger, Needs::Scope(_)) => Err(unauthorized("there is no token in the request")
                .hint("send it as `Authorization: Bearer TOKEN`; `actor-server token new` makes one")),
        }
    }

    /// Whether they may look at everything.
    pub fn may_read(&self) -> bool {
        self.may(Needs::Scope(Scope::Read)).is_ok()
    }

    /// For the audit.
    pub fn requester(&self, peer: SocketAddr, note: Option<String>) -> Requester {
        let who = match self {
            Self::Anybody | Self::Stranger => "anybody".to_owned(),
            Self::Token { name, .. } => format!("token {name}"),
        };
        Requester { who, origin: peer.ip().to_string(), note }
    }
}

fn unauthorized(detail: &str) -> Problem {
    let challenge = HeaderValue::from_static("Bearer realm=\"actor-server\"");
    Problem::new(Kind::Unauthorized, detail).header(header::WWW_AUTHENTICATE, challenge)
}

/// A new token: 256 random bits. It is shown once, and kept by nobody but its holder.
///
/// # Errors
/// When the system has no random bytes.
pub fn new_token() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", to_hex(&bytes)))
}

/// What a token is known by.
pub fn hash_of(token: &str) -> String {
    to_hex(&Sha256::digest(token.as_bytes()))
}

/// Knows the tokens.
pub struct Access {
    store: Store,
    /// Only those who are on this machine can reach the server.
    loopback: bool,
    known: Mutex<Option<(Instant, Arc<[ValidToken]>)>>,
    slowed: Semaphore,
}

impl Access {
    /// For a server that listens there.
    pub fn new(store: Store, address: SocketAddr) -> Self {
        let loopback = address.ip().is_loopback();
        Self { store, loopback, known: Mutex::new(None), slowed: Semaphore::new(SLOWED_AT_A_TIME) }
    }

    /// Who sent a request with these headers.
    ///
    /// # Errors
    /// When they show a token that is not valid, or the tokens can't be read.
    pub async fn caller(&self, headers: &HeaderMap, peer: SocketAddr) -> Answer<Caller> {
        let tokens = self.tokens().await?;
        if self.loopback && tokens.is_empty() {
            return Ok(Caller::Anybody);
        }
        let Some(shown) = headers.get(header::AUTHORIZATION) else { return Ok(Caller::Stranger) };
        match bearer(shown).and_then(|token| find(&tokens, token)) {
            Some(token) => Ok(Caller::Token { name: token.name.clone(), scope: token.scope }),
            None => Err(self.refuse(peer).await),
        }
    }

    /// Slowly: whoever guesses gets few answers. Others are not held up by it.
    async fn refuse(&self, peer: SocketAddr) -> Problem {
        let Ok(_slowed) = self.slowed.try_acquire() else {
            let detail = "too many requests with tokens that are not valid";
            return Problem::new(Kind::TooManyRequests, detail).retry_after(SLOWED_DOWN.as_secs());
        };
        warn!(from = %peer.ip(), "a request with a token that is not valid was refused");
        tokio::time::sleep(SLOWED_DOWN).await;
        unauthorized("the token is not valid")
            .hint("it may be revoked; `actor-server token list` shows those that are valid")
    }

    async fn tokens(&self) -> Answer<Arc<[ValidToken]>> {
        let mut known = self.known.lock().await;
        if let Some((since, tokens)) = known.as_ref()
            && since.elapsed() < KNOWN_FOR
        {
            return Ok(tokens.clone());
        }
        let read = tokio::time::timeout(KNOWN_FOR, self.store.valid_tokens()).await;
        let tokens: Arc<[ValidToken]> = match (read, known.as_ref()) {
            (Ok(Ok(tokens)), _) => tokens.into(),
            // What was valid a moment ago still is, for all that can be known: health has to answer just now.
            (_, Some((_, tokens))) => tokens.clone(),
            (Ok(Err(error)), None) => return Err(error.into()),
            (Err(_), None) => {
                return Err(Problem::new(Kind::Unavailable, "the database does not answer").retry_after(1));
            }
        };
        *known = Some((Instant::now(), tokens.clone()));
        Ok(tokens)
    }
}

fn bearer(shown: &HeaderValue) -> Option<&str> {
    let (scheme, token) = shown.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Compares with every token, each in the same time whatever it is.
fn find<'a>(tokens: &'a [ValidToken], shown: &str) -> Option<&'a ValidToken> {
    let shown = hash_of(shown);
    tokens.iter().fold(None, |found, token| {
        if bool::from(token.sha256.as_bytes().ct_eq(shown.as_bytes())) { Some(token) } else { found }
    })
}

/// Keeps out web pages that a browser on this machine has open: their scripts can send requests to any address, this
/// server's too, and can make their own name mean that address (DNS rebinding). What they can't do is change what the
/// browser says about them.
///
/// # Errors
/// When the request may come from such a page.
pub fn keep_pages_out(
    method: &Method,
    host: Option<&str>,
    headers: &HeaderMap,
    allowed_hosts: &[String],
    any_host: bool,
) -> Answer<()> {
    let Some(host) = host.map(str::to_ascii_lowercase) else {
        return Err(Problem::field(
            Kind::InvalidParameter,
            "header",
            "Host",
            "is missing, or there are several",
        ));
    };
    if !any_host && !is_this_server(&host, allowed_hosts) {
        let detail = format!("this server is not called {host:?}");
        return Err(Problem::new(Kind::WrongHost, detail).hint(
            "use its address or localhost, or enter the name in api.allowed_hosts of the server's file",
        ));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("null").to_ascii_lowercase();
        let from = origin.split_once("://").map(|(_, host)| host);
        let same =
            from.is_some_and(|from| from == host || allowed_hosts.iter().any(|name| name == host_name(from)));
        return if same { Ok(()) } else { Err(foreign(&origin)) };
    }
    // What a page only embeds (an image, a script) has no origin, but this.
    let text = |name: &'static str| {
        headers.get(HeaderName::from_static(name)).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let opened_by_a_person = method == Method::GET && text("sec-fetch-mode") == "navigate";
    match text("sec-fetch-site") {
        "cross-site" | "same-site" if !opened_by_a_person => Err(foreign("another site")),
        _ => Ok(()),
    }
}

fn foreign(origin: &str) -> Problem {
    Problem::new(Kind::ForeignOrigin, format!("a web page of {origin:?} may not use this server"))
}

/// Addresses can't be made to mean another machine; names can.
fn is_this_server(host: &str, allowed: &[String]) -> bool {
    let name = host_name(host);
    name.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || allowed.iter().any(|allowed| allowed == name)
}

/// Without the port, and without the brackets of an address.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str, headers: &[(&'static str, &str)]) -> Result<(), Kind> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        let allowed = ["actors.example.org".to_owned()];
        keep_pages_out(&Method::POST, Some(host), &map, &allowed, false).map_err(|problem| problem.kind)
    }

    #[test]
    fn names_that_anybody_can_point_here_are_refused() {
        for host in ["127.0.0.1:8080", "[::1]:8080", "localhost", "LOCALHOST:1", "a.localhost:1", "10.0.0.7"]
        {
            assert_eq!(asked(host, &[]), Ok(()), "{host}");
        }
        assert_eq!(asked("actors.example.org:443", &[]), Ok(()));
        for host in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", ""]
        {
            assert_eq!(asked(host, &[]), Err(Kind::WrongHost), "{host}");
        }
    }

    #[test]
    fn pages_of_others_are_refused() {
        let here = "127.0.0.1:8080";
        assert_eq!(asked(here, &[("origin", "http://127.0.0.1:8080")]), Ok(()));
        assert_eq!(asked(here, &[("origin", "https://actors.example.org")]), Ok(()));
        for origin in ["https://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:8080"] {
            assert_eq!(asked(here, &[("origin", origin)]), Err(Kind::ForeignOrigin), "{origin}");
        }
        assert_eq!(asked(here, &[("sec-fetch-site", "cross-site")]), Err(Kind::ForeignOrigin));
        assert_eq!(asked(here, &[("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(asked(here, &[("sec-fetch-site", "none")]), Ok(()));
    }

    #[test]
    fn a_token_is_found_by_what_it_hashes_to() {
        let token = |name: &str| (new_token().unwrap(), name.to_owned());
        let made = [token("a"), token("b")];
        let known: Vec<ValidToken> = made
            .iter()
            .map(|(token, name)| ValidToken {
                name: name.clone(),
                scope: Scope::Read,
                sha256: hash_of(token),
            })
            .collect();
        assert_eq!(made[0].0.len(), PREFIX.len() + 64);
        for (token, name) in &made {
            assert_eq!(&find(&known, token).unwrap().name, name);
        }
        assert!(find(&known, "actor_").is_none());
        assert!(find(&known, &known[0].sha256).is_none(), "the hash is no token");
    }

    #[test]
    fn scopes_are_ordered_but_for_events() {
        use Scope::{Admin, Events, Operate, Read};
        let all = [Read, Operate, Admin, Events];
        let allowed = |scope: Scope| all.map(|needed| scope.allows(needed));
        assert_eq!(allowed(Read), [true, false, false, false]);
        assert_eq!(allowed(Operate), [true, true, false, true]);
        assert_eq!(allowed(Admin), [true, true, true, true]);
        assert_eq!(allowed(Events), [false, false, false, true]);
    }
}

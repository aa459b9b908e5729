//! The connection: TLS, time-outs, and who we say we are.

use crate::config::discord::ABOUT_URL;
use reqwest::{Client, Url, redirect};
use std::time::Duration;

/// Where Discord is, who we say we are, and how long we wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Discord's API with its version, or what stands in for it.
    pub api_base_url: String,
    /// A page about the bot or who runs it, which Discord is told with every request.
    pub about_url: String,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest that a request may take in all.
    pub total_timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            api_base_url: "https://discord.com/api/v10".into(),
            about_url: ABOUT_URL.into(),
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(20),
        }
    }
}

impl HttpSettings {
    /// Whether requests can begin with this address.
    ///
    /// # Errors
    /// [`SetupError::BaseUrl`].
    pub fn check_base_url(url: &str) -> Result<(), SetupError> {
        base_url(url).map(drop)
    }

    /// Whether Discord can be told of this page.
    ///
    /// # Errors
    /// [`SetupError::AboutUrl`].
    pub fn check_about_url(url: &str) -> Result<(), SetupError> {
        user_agent(url).map(drop)
    }
}

/// Why there can be no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The address of the API can't be used.
    #[error("api_base_url {url:?} {problem}")]
    BaseUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The page about the bot can't be named.
    #[error("about_url {url:?} is no plain http:// or https:// address")]
    AboutUrl {
        /// What was given.
        url: String,
    },
    /// The token can't be one. It is not shown.
    #[error("the Discord token {0}")]
    Token(&'static str),
    /// The webhook's URL can't be one. It is not shown.
    #[error("the webhook's URL {0}")]
    Webhook(&'static str),
    /// The HTTP client can't start.
    #[error("the HTTP client can't start: {0}")]
    Http(String),
}

/// An HTTP client, and the address that requests begin with.
#[derive(Debug, Clone)]
pub(super) struct Http {
    pub(super) client: Client,
    base: String,
}

impl Http {
    pub(super) fn new(settings: &HttpSettings) -> Result<Self, SetupError> {
        let base = base_url(&settings.api_base_url)?;
        let client = Client::builder()
            .tls_backend_preconfigured(
                crate::tls::client(base.starts_with("https")).map_err(SetupError::Http)?,
            )
            .user_agent(user_agent(&settings.about_url)?)
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.total_timeout)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| SetupError::Http(error.to_string()))?;
        Ok(Self { client, base })
    }

    /// The values of `query` are ids, numbers and times: nothing that needs escapes.
    pub(super) fn url(&self, path: &str, query: &[(&str, String)]) -> String {
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{path}{mark}{}", self.base, query.join("&"))
    }
}

/// Discord demands this form, and blocks requests without it.
fn user_agent(about_url: &str) -> Result<String, SetupError> {
    let wrong = || SetupError::AboutUrl { url: about_url.chars().take(200).collect() };
    let url = Url::parse(about_url).map_err(|_| wrong())?;
    let is_plain = matches!(url.scheme(), "http" | "https") && !url.as_str().contains(['(', ')', ',', ' ']);
    if !is_plain || url.password().is_some() {
        return Err(wrong());
    }
    Ok(format!("DiscordBot ({url}, {})", env!("CARGO_PKG_VERSION")))
}

fn base_url(text: &str) -> Result<String, SetupError> {
    let wrong = |problem| SetupError::BaseUrl { url: text.chars().take(200).collect(), problem };
    let url = Url::parse(text).map_err(|_| wrong("is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("does not begin with https:// or http:// and a host"));
    }
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err(wrong("has more than a host and a path"));
    }
    let host = url.host_str().unwrap_or_default();
    if host == "discordapp.com" || host.ends_with(".discordapp.com") {
        return Err(wrong("is Discord's old name, with limits of its own: use https://discord.com/api/v10"));
    }
    if host == "discord.com" && (url.scheme(), url.path().trim_end_matches('/')) != ("https", "/api/v10") {
        return Err(wrong("is not the version that this program speaks: https://discord.com/api/v10"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_api_is_checked() {
        for right in
            ["https://discord.com/api/v10", "http://127.0.0.1:8080/api/v10", "https://proxy.example/d"]
        {
            assert_eq!(base_url(&format!("{right}/")), Ok(right.to_owned()));
        }
        for wrong in [
            "",
            "discord.com/api/v10",
            "ftp://discord.com/api/v10",
            "https://discord.com/api",
            "https://discord.com/api/v9",
            "http://discord.com/api/v10",
            "https://discordapp.com/api/v10",
            "https://user:pw@proxy.example/api/v10",
            "https://proxy.example/?a=b",
        ] {
            assert!(matches!(base_url(wrong), Err(SetupError::BaseUrl { .. })), "{wrong}");
        }
    }

    #[test]
    fn who_we_are_has_the_form_that_discord_demands() {
        let version = env!("CARGO_PKG_VERSION");
        for page in [ABOUT_URL, "https://bots.example/herald"] {
            assert_eq!(user_agent(page), Ok(format!("DiscordBot ({page}, {version})")));
        }
        for wrong in ["", "herald", "ftp://a.example/", "https://a.example/b,c", "https://a:b@c.example/"] {
            assert!(matches!(user_agent(wrong), Err(SetupError::AboutUrl { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_client_can_be_made_without_anything_set_up_before() {
        Http::new(&HttpSettings::default()).expect("a client");
    }
}

//! The section `[api]`: where the server listens, and what it takes.

use super::read::{Fault, KeyPath};
use super::within::Within;
use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the API listens when nobody says.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The HTTP interface: where it listens, and what it takes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiSection {
    /// Whether there is one.
    pub enabled: bool,
    /// The address and port. Another than a loopback address needs a token first: `actor-server token new`. Port 0 is a
    /// free one, which the log tells.
    #[schemars(extend("default" = "127.0.0.1:8080"))]
    #[serde(deserialize_with = "address")]
    pub listen: Option<SocketAddr>,
    /// The certificate chain in PEM, beside this file. With `tls_key_file` the server speaks HTTPS.
    pub tls_certificate_file: Option<String>,
    /// The private key in PEM, beside this file.
    pub tls_key_file: Option<String>,
    /// Names under which this server is reached, besides its address and localhost; such as `actors.example.org` behind a
    /// proxy. Other names are refused, because a web page can make its own name mean this machine.
    pub allowed_hosts: Vec<String>,
    /// The longest body of a request.
    pub max_body_bytes: Within<1_024, 67_108_864>,
    /// So many connections at a time; others wait.
    pub max_connections: Within<1, 65_536>,
    /// So many requests at a time; others are told to come again.
    pub max_concurrent_requests: Within<1, 65_536>,
    /// A request, and each part of it, may take so long.
    pub request_timeout_seconds: Within<1, 600>,
}

fn address<'de, D: Deserializer<'de>>(value: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(value)?;
    let allowed = "an IP address and a port, such as 127.0.0.1:8080";
    text.parse().map(Some).map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &allowed))
}

impl Default for ApiSection {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: None,
            tls_certificate_file: None,
            tls_key_file: None,
            allowed_hosts: Vec::new(),
            max_body_bytes: Within::of::<1_048_576>(),
            max_connections: Within::of::<512>(),
            max_concurrent_requests: Within::of::<128>(),
            request_timeout_seconds: Within::of::<30>(),
        }
    }
}

/// The section as the rest of the program takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// Whether there is one.
    pub enabled: bool,
    /// The address; `None`: [`DEFAULT_LISTEN`], if it is free.
    pub listen: Option<SocketAddr>,
    /// With this, HTTPS.
    pub tls: Option<TlsFiles>,
    /// Names of this server, in lower case.
    pub allowed_hosts: Vec<String>,
    /// The longest body.
    pub max_body: usize,
    /// Connections at a time.
    pub max_connections: usize,
    /// Requests at a time.
    pub max_requests: usize,
    /// How long a request, and each part of it, may take.
    pub request_timeout: Duration,
}

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, in PEM.
    pub certificate: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

impl ApiSettings {
    /// The settings of a section that stands in a file in `folder`.
    pub(super) fn of(section: &ApiSection, folder: &Path) -> Self {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let tls = match (&section.tls_certificate_file, &section.tls_key_file) {
            (Some(certificate), Some(key)) => {
                Some(TlsFiles { certificate: folder.join(certificate), key: folder.join(key) })
            }
            _ => None,
        };
        Self {
            enabled: section.enabled,
            listen: section.listen,
            tls,
            allowed_hosts: section.allowed_hosts.iter().map(|name| name.to_ascii_lowercase()).collect(),
            max_body: count(section.max_body_bytes.get()),
            max_connections: count(section.max_connections.get()),
            max_requests: count(section.max_concurrent_requests.get()),
            request_timeout: section.request_timeout_seconds.seconds(),
        }
    }
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self::of(&ApiSection::default(), Path::new(""))
    }
}

/// What is wrong with a section that can be read.
pub(super) fn faults(section: &ApiSection) -> Vec<Fault> {
    let path = |key: &str| KeyPath::from("api").key(key);
    let mut faults = Vec::new();
    let half = match (&section.tls_certificate_file, &section.tls_key_file) {
        (Some(_), None) => Some(("tls_certificate_file", "tls_key_file")),
        (None, Some(_)) => Some(("tls_key_file", "tls_certificate_file")),
        (Some(_), Some(_)) | (None, None) => None,
    };
    if let Some((there, missing)) = half {
        faults.push(Fault::new(path(there), format!("api.{there} needs api.{missing} beside it")));
    }
    for host in &section.allowed_hosts {
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/:@?#".contains(c)) {
            let message = format!("api.allowed_hosts has {host:?}, which is no name of a host");
            faults.push(
                Fault::new(path("allowed_hosts"), message).hint("such as actors.example.org, without a port"),
            );
        }
    }
    faults
}

//! Connections: where the server listens, how many there may be, and how long they may take.

use super::Api;
use super::access::keep_pages_out;
use super::patience::Patient;
use super::problem::{Kind, Problem};
use crate::config::ApiSettings;
use crate::config::api::{DEFAULT_LISTEN, TlsFiles};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

/// Why there is no API where one is wanted.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be had.
    #[error("the API can't listen on {address}: {reason}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        reason: io::Error,
    },
    /// Others could reach it, and anybody could use it.
    #[error("the API would be open to anybody on {address}: there is no token yet")]
    NoToken {
        /// The address.
        address: SocketAddr,
    },
    /// A file for TLS can't be used.
    #[error("the API can't use {}: {reason}", file.display())]
    Tls {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// An address that is taken.
pub struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Takes the address. `None`: there shall be no API; or the default address, which nobody asked for, is not to be had.
///
/// # Errors
/// When the address that was asked for is not to be had, or a file for TLS can't be used.
pub async fn bind(settings: &ApiSettings) -> Result<Option<Listener>, ListenError> {
    if !settings.enabled {
        return Ok(None);
    }
    let tls = settings.tls.as_ref().map(acceptor).transpose()?;
    let wanted = settings.listen.unwrap_or(DEFAULT_LISTEN);
    let bound = match TcpListener::bind(wanted).await {
        Ok(socket) => socket.local_addr().map(|address| (socket, address)),
        Err(error) => Err(error),
    };
    match bound {
        Ok((socket, address)) => Ok(Some(Listener { socket, tls, address })),
        Err(reason) if settings.listen.is_some() => Err(ListenError::Address { address: wanted, reason }),
        Err(reason) => {
            warn!(
                "the API is left out: its default address {wanted} can't be had ({reason}); \
                 api.listen of the server's file names another one"
            );
            Ok(None)
        }
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ListenError> {
    let wrong = |file: &Path| {
        let file = file.to_owned();
        move |reason: String| ListenError::Tls { file, reason }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(&files.certificate)(error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(&files.certificate)("there is no certificate in it".to_owned()));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key)(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong(&files.key)(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Open requests may take so long after the stop.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// A machine without free file handles has some again a moment later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

impl Listener {
    /// Serves until `stop`; then ends, and requests that are open are answered.
    pub async fn serve(self, api: Arc<Api>, router: Router, stop: CancellationToken) {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        info!("the API listens on {scheme}://{}", self.address);
        let slots = Arc::new(Semaphore::new(api.settings.max_connections));
        let mut connections = JoinSet::new();
        while let Some(Ok(slot)) = stop.run_until_cancelled(slots.clone().acquire_owned()).await {
            let Some(accepted) = stop.run_until_cancelled(self.socket.accept()).await else { break };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer)) => {
                    let connection =
                        Connection { api: api.clone(), router: router.clone(), peer, stop: stop.clone() };
                    let tls = self.tls.clone();
                    connections.spawn(async move {
                        connection.run(stream, tls).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    warn!(error = %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        drop(self.socket);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_REQUESTS, all).await.is_err() {
            warn!("requests that were still open are cut off");
        }
    }
}

struct Connection {
    api: Arc<Api>,
    router: Router,
    peer: SocketAddr,
    stop: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // A small answer is not to wait for more of it.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let Some(tls) = tls else { return self.speak(stream).await };
        match tokio::time::timeout(self.api.settings.request_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.speak(stream).await,
            Ok(Err(error)) => debug!(from = %self.peer.ip(), error = %error, "no TLS"),
            Err(_) => debug!(from = %self.peer.ip(), "no TLS in time"),
        }
    }

    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Self { api, router, peer, stop } = self;
        let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
            let (api, router) = (api.clone(), router.clone());
            async move { Ok::<_, Infallible>(respond(&api, router, peer, request.map(Body::new)).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(api.settings.request_timeout)
            .max_buf_size(LONGEST_HEAD)
            .serve_connection(TokioIo::new(Patient::new(stream, TAKES_NOTHING)), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(from = %peer.ip(), error = %error, "a connection did not end well");
        }
    }
}

/// So long an answer, or a stream, waits for its reader.
const TAKES_NOTHING: Duration = Duration::from_secs(30);
/// All headers of a request together.
const LONGEST_HEAD: usize = 64 * 1024;

/// The checks that go before any route, and the bounds of all.
async fn respond(api: &Api, router: Router, peer: SocketAddr, mut request: Request) -> Response {
    // A loopback address is reached by whatever name somebody makes mean it; another one is behind tokens.
    let any_host = !api.address.ip().is_loopback() && api.settings.allowed_hosts.is_empty();
    let host = named_host(request.uri(), request.headers());
    let kept_out = keep_pages_out(
        request.method(),
        host.as_deref(),
        request.headers(),
        &api.settings.allowed_hosts,
        any_host,
    );
    if let Err(problem) = kept_out {
        return problem.into_response();
    }
    let Ok(_request) = api.requests.try_acquire() else {
        let detail = "too many requests at this moment";
        return Problem::new(Kind::Unavailable, detail).retry_after(1).into_response();
    };
    request.extensions_mut().insert(ConnectInfo(peer));
    // The body and the work are bounded where they are; this is for all that is left.
    let patience = api.settings.request_timeout * 2;
    match tokio::time::timeout(patience, router.oneshot(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => Problem::new(Kind::Unavailable, "the answer took too long").retry_after(1).into_response(),
    }
}

/// Which server the request names; `None` when it names none, or several.
fn named_host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok()?.to_owned(),
        _ => return None,
    };
    // The whole address in the request line wins (RFC 9112), so both have to be right: take that one.
    Some(uri.authority().map_or(host, |authority| authority.as_str().to_owned()))
}

/// Where the request came from.
pub(super) fn peer(parts: &Parts) -> SocketAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), |ConnectInfo(peer)| *peer)
}

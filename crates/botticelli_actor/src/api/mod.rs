//! The REST API: what the command line can look at and do, over HTTP, with the same JSON.
//!
//! A route is an [`Operation`](route::Operation) and a handler in `routes/`; see [`route`] for what comes with that:
//! reading what was sent, tokens and scopes, problem documents, ETags, and `/openapi.json`. Handlers read the store and
//! command through it and through [`App`]; they hold no state of their own.

pub mod access;
mod docs;
mod listen;
mod openapi;
pub mod page;
mod patience;
pub mod problem;
mod read;
pub mod route;
mod routes;
mod signature;

pub use listen::{ListenError, Listener, bind};

use crate::app::App;
use crate::config::{ApiSettings, Webhook};
use crate::engine::{Activity, CurrentNode, DatabaseClock};
use crate::metrics::Metrics;
use access::{Access, Needs};
use axum::http::{Method, Uri};
use axum::response::IntoResponse as _;
use botticelli_database::{Store, Wakeups};
use botticelli_server::ledger::LedgerError;
use chrono::{DateTime, Utc};
use problem::{Answer, Kind, Problem};
use route::Call;
use routes::health::Health;
use serde_json::Value;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// What the API needs of the server around it.
pub struct ApiParts {
    /// How it listens, and what it takes.
    pub settings: ApiSettings,
    /// The store.
    pub store: Store,
    /// The database's time.
    pub clock: Arc<DatabaseClock>,
    /// This process.
    pub node: Arc<CurrentNode>,
    /// What the engine is doing.
    pub activity: watch::Receiver<Activity>,
    /// What the server counts and measures.
    pub metrics: Metrics,
    /// To be called when something was changed.
    pub wakeups: Wakeups,
    /// Where events come in.
    pub webhooks: watch::Receiver<Arc<[Webhook]>>,
    /// The server, for reloads.
    pub server: Weak<App>,
    /// Cancelled when the server begins to stop.
    pub stopping: CancellationToken,
    /// Cancelled when a part of the server has come to an end that nobody asked for.
    pub broken_down: CancellationToken,
}

/// So many requests work at a time: more would take the database's connections from those who run tasks. Others wait.
const WORKERS: usize = 4;

/// The API as its handlers see it.
pub struct Api {
    settings: ApiSettings,
    /// Where it listens.
    pub address: SocketAddr,
    store: Store,
    clock: Arc<DatabaseClock>,
    node: Arc<CurrentNode>,
    activity: watch::Receiver<Activity>,
    metrics: Metrics,
    wakeups: Wakeups,
    webhooks: watch::Receiver<Arc<[Webhook]>>,
    server: Weak<App>,
    stopping: CancellationToken,
    broken_down: CancellationToken,
    started_at: DateTime<Utc>,
    access: Access,
    health: Health,
    requests: Semaphore,
    streams: Arc<Semaphore>,
    workers: Semaphore,
    document: Value,
}

/// Why the API can't be started.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It can't listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The database failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Serves on `listener` until `stop`.
///
/// # Errors
/// When anybody could use it.
pub async fn start(
    listener: Listener,
    parts: ApiParts,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, ApiError> {
    let address = listener.address;
    if !address.ip().is_loopback() && parts.store.valid_tokens().await?.is_empty() {
        return Err(ListenError::NoToken { address }.into());
    }
    let (router, document) = routes::all().into_parts();
    let api = Arc::new(Api {
        access: Access::new(parts.store.clone(), address),
        health: Health::default(),
        requests: Semaphore::new(parts.settings.max_requests),
        streams: Arc::new(Semaphore::new(routes::stream::MOST_STREAMS)),
        workers: Semaphore::new(WORKERS),
        started_at: botticelli_server::clock::Clock::now(&*parts.clock),
        document: document.finish(),
        address,
        settings: parts.settings,
        store: parts.store,
        clock: parts.clock,
        node: parts.node,
        activity: parts.activity,
        metrics: parts.metrics,
        wakeups: parts.wakeups,
        webhooks: parts.webhooks,
        server: parts.server,
        stopping: parts.stopping,
        broken_down: parts.broken_down,
    });
    let router = router
        .fallback(async |uri: Uri| {
            Problem::unknown("path", uri.path()).hint("/docs lists those that are there")
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let detail = format!("{} can't be asked for with {method}", uri.path());
            Problem::new(Kind::MethodNotAllowed, detail).into_response()
        })
        .with_state(api.clone());
    Ok(listener.serve(api, router, stop))
}

impl Api {
    /// Does the work of a request to its end, even if whoever asked goes away meanwhile, and as one of a few.
    async fn work<T: Send + 'static>(
        self: Arc<Self>,
        needs: Needs,
        work: impl Future<Output = Answer<T>> + Send + 'static,
    ) -> Answer<T> {
        let patience = self.settings.request_timeout;
        let late =
            || Problem::new(Kind::Unavailable, "the server did not come to an end in time").retry_after(1);
        let api = self.clone();
        let bounded = tokio::spawn(async move {
            // What everybody may ask for costs little, and has to answer also when all others wait for the database.
            let _worker = match needs {
                Needs::Nothing => None,
                Needs::Scope(_) => Some(api.workers.acquire().await.map_err(|_| late())?),
            };
            work.await
        });
        match tokio::time::timeout(patience, bounded).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                error!(error = %error, "a request broke off");
                Err(Problem::new(Kind::Internal, "the server's log says what happened"))
            }
            Err(_) => Err(late()),
        }
    }
}

impl Call {
    /// The store, for a change in the name of whoever asks, with what they say about it.
    fn store(&self, note: Option<String>) -> Store {
        self.api.store.by(self.caller.requester(self.peer, note))
    }

    /// Something was changed: this node's engine looks at it now, not at its next poll.
    fn changed(&self) {
        self.api.wakeups.changed();
    }
}

//! The wire: connections, and the faults that happen there.

use crate::answer::Answer;
use crate::call::{self, Call};
use crate::faults::{Seen, What};
use crate::routes::{self, Route};
use crate::state::State;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, RawPathParams, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use axum::{Extension, RequestExt};
use chrono::TimeDelta;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Goes up with everything that happens.
    changed: watch::Sender<u64>,
    /// Goes up when replies that are held may go.
    released: watch::Sender<u64>,
    started: Instant,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            released: watch::Sender::new(0),
            started: Instant::now(),
            stop: CancellationToken::new(),
        }
    }

    /// A handler that panicked must not hide what is in the ledger, so poison is ignored.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the state, and wakes whoever waits for a change.
    pub(crate) fn update<T>(&self, update: impl FnOnce(&mut State) -> T) -> T {
        let done = update(&mut self.state());
        self.changed.send_modify(|count| *count += 1);
        done
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }
}

/// Where a request came from.
#[derive(Clone, Debug)]
struct Peer {
    ip: IpAddr,
    /// Set when the connection shall end with a reset.
    reset: Arc<AtomicBool>,
}

/// Takes the place of a reply: the connection is closed.
#[derive(Clone, Copy, Debug)]
struct HangUp;

/// The routes of Discord's API.
pub(crate) fn api(shared: &Arc<Shared>) -> Router {
    let mut api = Router::new();
    for route in routes::TABLE {
        let shared = Arc::clone(shared);
        let method = MethodFilter::try_from(route.method.clone()).expect("the table has plain methods");
        let handler = move |Extension(peer): Extension<Peer>, params: RawPathParams, request: Request| {
            let params = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            serve(Arc::clone(&shared), route, peer, params, request)
        };
        api = api.route(route.path, on(method, handler));
    }
    let shared = Arc::clone(shared);
    let unknown = move |Extension(peer): Extension<Peer>, request: Request| {
        serve(Arc::clone(&shared), &routes::UNKNOWN, peer, HashMap::new(), request)
    };
    // How much a request may hold is Discord's business: see `call`.
    let unlimited = DefaultBodyLimit::disable();
    Router::new()
        .nest("/api/v10", api)
        .fallback(unknown.clone())
        .method_not_allowed_fallback(unknown)
        .layer(unlimited)
}

/// Serves connections until `stop`.
pub(crate) async fn run(listener: TcpListener, router: Router, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // A connection that is gone before it was taken is no business of ours.
        let Ok((stream, address)) = accepted else { continue };
        tokio::spawn(connection(stream, address, router.clone(), stop.clone()));
    }
}

async fn connection(stream: TcpStream, address: SocketAddr, router: Router, stop: CancellationToken) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let peer = Peer { ip: address.ip(), reset: Arc::default() };
    let io = TokioIo::new(Resettable { stream, reset: Arc::clone(&peer.reset) });
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (router, peer) = (router.clone(), peer.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let response = router.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
            match response.extensions().get::<HangUp>() {
                Some(HangUp) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "hung up on purpose")),
                None => Ok(response),
            }
        }
    });
    let serving =
        hyper::server::conn::http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service);
    tokio::select! {
        () = stop.cancelled() => {}
        // How a connection ends is the client's to judge.
        _ended = serving => {}
    }
}

/// A connection that can end with a reset instead of an orderly close.
struct Resettable {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) && self.stream.set_zero_linger().is_err() {
            // Then it is closed in order, which is no less of a broken reply.
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn serve(
    shared: Arc<Shared>,
    route: &'static Route,
    peer: Peer,
    params: HashMap<String, String>,
    request: Request,
) -> Response {
    let real_micros = u64::try_from(shared.started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut call = read(&peer, params, request).await;
    call.real_micros = real_micros;
    let clock = shared.state().clock.clone();
    // What has arrived is done, also when nobody waits for the reply any more: hence a task of its own.
    let done = tokio::spawn(async move { process(&shared, route, &peer, call).await });
    let mut response = done.await.unwrap_or_else(|_panicked| hang_up());
    // By the double's clock: clients learn from it how wrong their own is.
    let date = clock.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    response.headers_mut().insert(header::DATE, HeaderValue::try_from(date).expect("a date is plain text"));
    response
}

async fn process(shared: &Shared, route: &'static Route, peer: &Peer, mut call: Call) -> Response {
    // Whoever wants to hold this request knows what was released before it came.
    let released = shared.released.subscribe();
    let fault = shared.update(|state| state.receive(route, &mut call));
    match &fault {
        Some(What::LoseRequest) => return hang_up(),
        Some(What::FailBeforeCommit { status }) => {
            shared.update(|state| state.log_status(call.seq, *status, None));
            return respond(Answer::html(*status));
        }
        Some(What::SlowRequest { millis }) => tokio::time::sleep(Duration::from_millis(*millis)).await,
        Some(What::HoldRequest) => until_released(shared, released.clone()).await,
        _ => {}
    }
    let mut answer = shared.update(|state| state.answer(route, &call, fault.as_ref()));
    if fault == Some(What::DeliverTwice) {
        answer = shared.update(|state| state.answer(route, &call, None));
    }
    match fault {
        Some(What::DropReply) => hang_up(),
        Some(What::ResetReply) => {
            peer.reset.store(true, Ordering::Relaxed);
            hang_up()
        }
        Some(What::FailAfterCommit { status }) => respond(Answer::html(status)),
        Some(What::SlowReply { millis }) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            respond(answer)
        }
        Some(What::HoldReply) => {
            until_released(shared, released).await;
            respond(answer)
        }
        Some(What::ResetMidBody) => {
            peer.reset.store(true, Ordering::Relaxed);
            cut_off(answer)
        }
        Some(What::TruncateBody) => {
            answer.body.truncate(answer.body.len() / 2);
            respond(answer)
        }
        Some(What::HtmlBody) => respond(Answer::html(200)),
        _ => respond(answer),
    }
}

async fn until_released(shared: &Shared, mut released: watch::Receiver<u64>) {
    tokio::select! {
        () = shared.stop.cancelled() => {}
        // Fails only if the double is gone, and then nothing is held.
        _released = released.changed() => {}
    }
}

impl State {
    /// Notes a request, and draws the fault that strikes it.
    fn receive(&mut self, route: &Route, call: &mut Call) -> Option<What> {
        self.requests_seen += 1;
        call.seq = self.requests_seen;
        let param = |name: &str| call.params.get(name).and_then(|id| id.parse().ok());
        let webhook = param("webhook_id").and_then(|id| self.world.webhooks.get(&id));
        let channel = param("channel_id").or(webhook.map(|webhook| webhook.channel_id));
        let major = channel.or(param("guild_id")).map(|id| id.to_string()).unwrap_or_default();
        let seen = Seen { route: route.name, channel, major: &major, content: call.content() };
        let (fault, changes) = self.faults.strike(&seen);
        // A scripted change that could not be made is there to be seen in the requests.
        let mut struck: Vec<String> = fault.iter().map(|what| what.name().to_owned()).collect();
        for change in changes {
            struck.push(match change.apply(self) {
                Ok(()) => "change".into(),
                Err(problem) => format!("change failed: {problem}"),
            });
        }
        if fault == Some(What::Ban) {
            let until = self.clock.now() + TimeDelta::seconds(self.settings.ban.ban_seconds.into());
            self.invalid.ban(call.ip, until);
        }
        self.log(call, route.name, channel, (!struck.is_empty()).then(|| struck.join(", ")));
        fault
    }
}

async fn read(peer: &Peer, params: HashMap<String, String>, mut request: Request) -> Call {
    let headers = request.headers();
    let authorization = call::header(headers, header::AUTHORIZATION);
    let user_agent = call::header(headers, header::USER_AGENT);
    let (method, path) = (request.method().to_string(), request.uri().to_string());
    let query = request.extract_parts::<Query<HashMap<String, String>>>().await;
    Call {
        seq: 0,
        real_micros: 0,
        ip: peer.ip,
        method,
        path,
        params,
        query: query.map(|Query(query)| query).unwrap_or_default(),
        authorization,
        user_agent,
        payload: call::read_payload(request).await,
    }
}

fn hang_up() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(HangUp);
    response
}

fn respond(answer: Answer) -> Response {
    let mut response = head(&answer);
    *response.body_mut() = Body::from(answer.body);
    response
}

fn head(answer: &Answer) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if !answer.content_type.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    }
    for (name, value) in &answer.headers {
        let value = HeaderValue::try_from(value).expect("headers are numbers and plain words");
        headers.insert(*name, value);
    }
    response
}

/// A reply that announces its whole length, and breaks off in the middle.
fn cut_off(answer: Answer) -> Response {
    let mut response = head(&answer);
    let whole = answer.body.len();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(whole));
    let half = Bytes::from(answer.body).slice(..whole / 2);
    *response.body_mut() = Body::new(HalfBody { half: Some(half), whole, pauses: 3 });
    response
}

/// Sends what it has, lets that get onto the wire, and fails.
struct HalfBody {
    half: Option<Bytes>,
    whole: usize,
    pauses: u8,
}

impl hyper::body::Body for HalfBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, io::Error>>> {
        if let Some(half) = self.half.take() {
            return Poll::Ready(Some(Ok(hyper::body::Frame::data(half))));
        }
        if self.pauses > 0 {
            self.pauses -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut off on purpose"))))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.whole as u64)
    }
}

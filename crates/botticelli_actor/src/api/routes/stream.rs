//! `GET /events`: what happens on all nodes, as it happens (Server-Sent Events).
//!
//! A stream holds nothing but its place: it reads the database from there on whenever its client has taken what came
//! before. So a slow client costs nobody else anything, and one that comes back has missed nothing.

use crate::api::access::Needs;
use crate::api::problem::{Answer, Kind, Problem};
use crate::api::route::{Call, Input, Nothing, Operation, Routes, TakenHeader};
use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use botticelli_database::{Change, ChangeKind, Position, Scope, StreamFilter};
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::LedgerError;
use schemars::JsonSchema;
use serde::Deserialize;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::{debug, error};

const READ: Needs = Needs::Scope(Scope::Read);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// So many streams are open at a time.
pub(in crate::api) const MOST_STREAMS: usize = 32;
/// How often a stream looks for changes.
const LOOK: Duration = Duration::from_millis(500);
/// When nothing happens, the client hears after this long that the stream is alive, and how far it has come.
const ALIVE: Duration = Duration::from_secs(15);

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw(
        Operation::get("/events", "follow_events", READ, "What happens, as it happens")
            .about(
                "Server-Sent Events, from all nodes: `execution`, `post`, `breaker` and `alert`, as docs/api.md describes \
                 them. Without `Last-Event-ID` from now on. Whoever was away for more than a day is told so by an event \
                 `gap`. At most 32 streams on a node.",
            )
            .takes_header(TakenHeader {
                name: "Last-Event-ID",
                purpose: "The id of the last event that arrived: goes on behind it.",
                pattern: "^[0-9]+(-[0-9]+){3}$",
            }),
        "text/event-stream",
        follow,
    )
}

/// Which events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StreamQuery {
    /// Only those of this task.
    task: Option<TaskId>,
    /// Only those of these kinds, with commas between them: `execution,alert`.
    kind: Option<Kinds>,
}

/// Kinds with commas between them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^(execution|post|breaker|alert)(,(execution|post|breaker|alert))*$"))]
struct Kinds(Vec<ChangeKind>);

impl TryFrom<String> for Kinds {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let kind = |word: &str| {
            let known = ChangeKind::ALL.into_iter().find(|kind| kind.as_str() == word);
            known.ok_or_else(|| format!("{word:?} is no kind (allowed: execution, post, breaker, alert)"))
        };
        text.split(',').map(kind).collect::<Result<_, _>>().map(Self)
    }
}

async fn follow(call: Call, input: Input<Nothing, StreamQuery>) -> Answer<Response> {
    let slot = call.api.streams.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{MOST_STREAMS} streams are open already");
        Problem::new(Kind::TooManyRequests, detail).retry_after(10)
    })?;
    let position = match last_event_id(&call)? {
        Some(position) => position,
        None => {
            let not_now = || Problem::new(Kind::Unavailable, "the changes can't be read at this moment");
            call.api.store.stream_head().await?.ok_or_else(|| not_now().retry_after(1))?
        }
    };
    let StreamQuery { task, kind } = input.query;
    let filter = StreamFilter { task, kinds: kind.map(|kinds| kinds.0).unwrap_or_default() };
    let follower = Follower { call, filter, position, begun: false, more: true, _slot: slot };
    let mut response = Response::new(Body::from_stream(futures::stream::unfold(follower, Follower::next)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that gathers answers would keep the events to itself.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

fn last_event_id(call: &Call) -> Answer<Option<Position>> {
    // As an `EventSource` sends it before the first event.
    let Some(id) = call.headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    let position = id.to_str().ok().and_then(|id| id.parse().ok());
    let wrong = || {
        let detail = "is not the id of an event of this server";
        Problem::field(Kind::InvalidParameter, "header", "Last-Event-ID", detail)
            .hint("leave it out to begin with what happens now")
    };
    position.map(Some).ok_or_else(wrong)
}

/// One client, and how far it has come.
struct Follower {
    call: Call,
    filter: StreamFilter,
    position: Position,
    /// The client knows where it begins.
    begun: bool,
    /// There is more to tell already.
    more: bool,
    _slot: OwnedSemaphorePermit,
}

impl Follower {
    /// Called when the client has taken what came before. `None`: the stream ends.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let stopping = self.call.api.stopping.clone();
        let text = stopping.run_until_cancelled(self.text()).await??;
        Some((Ok(text.into()), self))
    }

    async fn text(&mut self) -> Option<String> {
        if !self.begun {
            self.begun = true;
            return Some(format!("retry: 2000\n{}", self.sign_of_life()));
        }
        let alive = Instant::now() + ALIVE;
        loop {
            if !self.may_go_on().await {
                return None;
            }
            let text = self.look().await?;
            if !text.is_empty() {
                return Some(text);
            }
            if Instant::now() >= alive {
                return Some(self.sign_of_life());
            }
            if !self.more {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// No event: a comment, and an id, so that one whose events are rare need not begin far back.
    fn sign_of_life(&self) -> String {
        format!(": alive\nid: {}\n\n", self.position)
    }

    /// Tokens are revoked while streams are open.
    async fn may_go_on(&self) -> bool {
        let caller = self.call.api.access.caller(&self.call.headers, self.call.peer).await;
        match caller.and_then(|caller| caller.may(READ)) {
            Ok(()) => true,
            // Nobody can tell just now.
            Err(problem) => matches!(problem.kind, Kind::Unavailable | Kind::Internal),
        }
    }

    /// What has changed since the last look.
    async fn look(&mut self) -> Option<String> {
        let api = &self.call.api;
        let _worker = api.workers.acquire().await.ok()?;
        self.more = false;
        match api.store.stream(self.position, self.filter.clone()).await {
            Ok(page) => {
                let gap = page.gap.map(told_gap).unwrap_or_default();
                (self.position, self.more) = (page.position, page.more);
                page.changes.iter().try_fold(gap, |text, (position, change)| told(text, *position, change))
            }
            Err(error @ (LedgerError::Unavailable(_) | LedgerError::NotWritable(_))) => {
                debug!(error = %error, "a stream of events waits for the database");
                Some(String::new())
            }
            Err(error @ (LedgerError::Refused(_) | LedgerError::Corrupt(_))) => {
                error!(error = %error, "a stream of events can't go on");
                None
            }
        }
    }
}

fn told(mut text: String, position: Position, change: &Change) -> Option<String> {
    let data = serde_json::to_string(change).ok()?;
    write!(text, "event: {}\nid: {position}\ndata: {data}\n\n", change.kind().as_str()).ok()?;
    Some(text)
}

fn told_gap(position: Position) -> String {
    let detail =
        "events that came after the last one you have are not kept any more; this goes on with the oldest";
    format!("event: gap\nid: {position}\ndata: {}\n\n", serde_json::json!({ "detail": detail }))
}

//! One place for each operation: its path, who may ask for it, what it takes and what it answers. The router and
//! `/openapi.json` are both made from it, so the document can't say anything else than the server does.

use super::Api;
use super::access::{Caller, Needs};
use super::openapi::Document;
use super::page::to_hex;
use super::problem::{Answer, Kind, Problem};
use super::read;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::error;

/// What an operation is, for the router and for the document.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its name for programs, unlike any other's.
    pub id: &'static str,
    /// The method.
    pub method: Method,
    /// The path, with `{names}`.
    pub path: &'static str,
    /// Who may ask.
    pub needs: Needs,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// What else is to be known.
    pub description: &'static str,
    /// A header that it takes.
    pub header: Option<TakenHeader>,
    /// The status when all is well.
    pub status: StatusCode,
}

/// A header that an operation takes.
#[derive(Debug, Clone, Copy)]
pub struct TakenHeader {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// What it may be: a regular expression.
    pub pattern: &'static str,
}

impl Operation {
    /// An operation that answers 200.
    pub const fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        needs: Needs,
        summary: &'static str,
    ) -> Self {
        Self { id, method, path, needs, summary, description: "", header: None, status: StatusCode::OK }
    }

    /// `GET`.
    pub const fn get(path: &'static str, id: &'static str, needs: Needs, summary: &'static str) -> Self {
        Self::new(Method::GET, path, id, needs, summary)
    }

    /// `POST`.
    pub const fn post(path: &'static str, id: &'static str, needs: Needs, summary: &'static str) -> Self {
        Self::new(Method::POST, path, id, needs, summary)
    }

    /// With what else is to be known.
    #[must_use]
    pub const fn about(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Takes this header.
    #[must_use]
    pub const fn takes_header(mut self, header: TakenHeader) -> Self {
        self.header = Some(header);
        self
    }

    /// Answers this status when all is well.
    #[must_use]
    pub const fn answers(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

/// A request whose sender is known, and may do this.
pub struct Call {
    /// The server.
    pub api: Arc<Api>,
    /// Who asks.
    pub caller: Caller,
    /// From where.
    pub peer: SocketAddr,
    /// The headers.
    pub headers: HeaderMap,
}

/// What came with a request, read. Nothing that is unknown is let through.
pub struct Input<P = Nothing, Q = Nothing, B = Nothing> {
    /// The parts of the path.
    pub path: P,
    /// The query.
    pub query: Q,
    /// The body. None at all counts as `{}`.
    pub body: B,
}

/// Nothing is expected.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// What can be read from a request.
pub trait Readable: DeserializeOwned + JsonSchema + Send + 'static {}

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Readable for T {}

/// A good answer: JSON, and headers.
pub struct Reply<T> {
    body: T,
    status: Option<StatusCode>,
    headers: HeaderMap,
    revision: Option<i64>,
}

impl<T> From<T> for Reply<T> {
    fn from(body: T) -> Self {
        Self { body, status: None, headers: HeaderMap::new(), revision: None }
    }
}

impl<T> Reply<T> {
    /// With another status than the operation's.
    #[must_use]
    pub fn status(self, status: StatusCode) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Of something that has this revision: its `ETag` ends with it.
    #[must_use]
    pub fn revision(self, revision: Option<i64>) -> Self {
        Self { revision, ..self }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// All operations.
#[derive(Default)]
pub struct Routes {
    router: Router<Arc<Api>>,
    document: Document,
}

impl Routes {
    /// Adds an operation that takes and answers JSON.
    #[must_use]
    pub fn add<P, Q, B, T, F, Done>(mut self, operation: Operation, handler: F) -> Self
    where
        P: Readable,
        Q: Readable,
        B: Readable,
        T: Serialize + JsonSchema + Send + 'static,
        F: Fn(Call, Input<P, Q, B>) -> Done + Clone + Send + Sync + 'static,
        Done: Future<Output = Answer<Reply<T>>> + Send + 'static,
    {
        self.document.add::<P, Q, B, T>(&operation);
        let (status, needs) = (operation.status, operation.needs);
        self.mount(operation, move |call, params, request| {
            let handler = handler.clone();
            async move {
                let get = request.method() == Method::GET;
                let wanted = request.headers().get(header::IF_NONE_MATCH).cloned();
                let (parts, body) = request.into_parts();
                let input = Input {
                    path: read::path(&params)?,
                    query: read::query(&parts.uri)?,
                    body: read::body(&call.api, &parts, body).await?,
                };
                let reply = call.api.clone().work(needs, handler(call, input)).await?;
                json_response(reply, status, get, wanted.as_ref())
            }
        })
    }

    /// Adds an operation whose handler gets the body as it came, before anything is known of whoever sent it: it may be
    /// signed.
    #[must_use]
    pub fn add_signed<P, T, F, Done>(mut self, operation: Operation, handler: F) -> Self
    where
        P: Readable,
        T: Serialize + JsonSchema + Send + 'static,
        F: Fn(Call, P, Bytes) -> Done + Clone + Send + Sync + 'static,
        Done: Future<Output = Answer<Reply<T>>> + Send + 'static,
    {
        self.document.add::<P, Nothing, Value, T>(&operation);
        let status = operation.status;
        self.mount(operation, move |call, params, request| {
            let handler = handler.clone();
            async move {
                read::query::<Nothing>(request.uri())?;
                let path = read::path(&params)?;
                let body = read::bytes(&call.api, request.into_body()).await?;
                json_response(handler(call, path, body).await?, status, false, None)
            }
        })
    }

    /// Adds an operation that answers something else than JSON: a page, a stream, metrics.
    #[must_use]
    pub fn add_raw<Q, F, Done>(mut self, operation: Operation, media_type: &'static str, handler: F) -> Self
    where
        Q: Readable,
        F: Fn(Call, Input<Nothing, Q>) -> Done + Clone + Send + Sync + 'static,
        Done: Future<Output = Answer<Response>> + Send + 'static,
    {
        self.document.add_raw::<Q>(&operation, media_type);
        let needs = operation.needs;
        self.mount(operation, move |call, _, request| {
            let handler = handler.clone();
            async move {
                let query = read::query(request.uri())?;
                let input = Input { path: Nothing {}, query, body: Nothing {} };
                call.api.clone().work(needs, handler(call, input)).await
            }
        })
    }

    fn mount<F, Done>(mut self, operation: Operation, respond: F) -> Self
    where
        F: Fn(Call, RawPathParams, Request) -> Done + Clone + Send + Sync + 'static,
        Done: Future<Output = Answer<Response>> + Send + 'static,
    {
        let needs = operation.needs;
        let handle = move |State(api): State<Arc<Api>>, params: Params, request: Request| {
            let respond = respond.clone();
            async move {
                let (parts, body) = request.into_parts();
                let answer = match (call(api, needs, &parts).await, params) {
                    (Ok(call), Ok(params)) => respond(call, params, Request::from_parts(parts, body)).await,
                    (Ok(_), Err(error)) => {
                        Err(Problem::field(Kind::InvalidParameter, "path", "", error.body_text()))
                    }
                    (Err(problem), _) => Err(problem),
                };
                answer.unwrap_or_else(Problem::into_response)
            }
        };
        let filter = match operation.method {
            Method::GET => MethodFilter::GET,
            Method::POST => MethodFilter::POST,
            Method::PUT => MethodFilter::PUT,
            Method::DELETE => MethodFilter::DELETE,
            other => unreachable!("no operation has the method {other}"),
        };
        self.router = self.router.route(operation.path, on(filter, handle));
        self
    }

    /// The router and the document.
    pub fn into_parts(self) -> (Router<Arc<Api>>, Document) {
        (self.router, self.document)
    }
}

type Params = Result<RawPathParams, RawPathParamsRejection>;

/// Finds out who asks, and whether they may.
async fn call(api: Arc<Api>, needs: Needs, parts: &Parts) -> Answer<Call> {
    let peer = super::listen::peer(parts);
    let caller = api.access.caller(&parts.headers, peer).await?;
    caller.may(needs)?;
    Ok(Call { api, caller, peer, headers: parts.headers.clone() })
}

fn json_response<T: Serialize>(
    reply: Reply<T>,
    status: StatusCode,
    get: bool,
    wanted: Option<&HeaderValue>,
) -> Answer<Response> {
    let status = reply.status.unwrap_or(status);
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = reply.headers;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    *response.status_mut() = status;
    if status == StatusCode::NO_CONTENT {
        return Ok(response);
    }
    let json = serde_json::to_vec(&reply.body).map_err(|error| {
        error!(error = %error, "an answer can't be written as JSON");
        Problem::new(Kind::Internal, "the server's log says what happened")
    })?;
    if (get && status == StatusCode::OK) || status == StatusCode::CREATED {
        let tag = etag(&json, reply.revision);
        let known =
            wanted.and_then(|wanted| wanted.to_str().ok()).is_some_and(|wanted| is_one_of(&tag, wanted));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        if get && known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = Body::from(json);
    Ok(response)
}

/// The same as long as the answer is.
fn etag(json: &[u8], revision: Option<i64>) -> String {
    let revision = revision.map_or_else(String::new, |revision| format!("-{revision}"));
    format!("\"{}{revision}\"", to_hex(&Sha256::digest(json)[..12]))
}

fn is_one_of(tag: &str, wanted: &str) -> bool {
    wanted.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

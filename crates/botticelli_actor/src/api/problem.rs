//! What can be wrong with a request, as RFC 9457 tells it: `application/problem+json`.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use botticelli_server::ledger::LedgerError;
use schemars::JsonSchema;
use serde::Serialize;
use tracing::{error, warn};

/// Every kind of problem: what programs tell them apart by. `docs/api.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body is no JSON.
    MalformedJson,
    /// A part of the path, the query or a header can't be what it is.
    InvalidParameter,
    /// A field of the body can't be what it is.
    InvalidBody,
    /// Who asks is not known.
    Unauthorized,
    /// Who asks may not do this.
    Forbidden,
    /// A web page asks that may not.
    ForeignOrigin,
    /// The request names another server.
    WrongHost,
    /// There is nothing there.
    NotFound,
    /// Not with this method.
    MethodNotAllowed,
    /// It did not come in time.
    Timeout,
    /// Not as things stand.
    Conflict,
    /// It is not what the request takes it for.
    PreconditionFailed,
    /// The body is too long.
    TooLarge,
    /// The body is no JSON by its type.
    UnsupportedMediaType,
    /// Too many, too fast.
    TooManyRequests,
    /// A fault of this server.
    Internal,
    /// The database, or this server, can't do it now.
    Unavailable,
}

impl Kind {
    /// The status, the last part of `type`, and the title.
    const fn words(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::MalformedJson => (StatusCode::BAD_REQUEST, "malformed-json", "The body is not JSON"),
            Self::InvalidParameter => {
                (StatusCode::BAD_REQUEST, "invalid-parameter", "A parameter is not valid")
            }
            Self::InvalidBody => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", "A field of the body is not valid")
            }
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The token may not do this"),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign-origin", "This web page may not ask"),
            Self::WrongHost => {
                (StatusCode::MISDIRECTED_REQUEST, "wrong-host", "The request names another server")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Not with this method")
            }
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "The request took too long to arrive"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "Not as things stand"),
            Self::PreconditionFailed => {
                (StatusCode::PRECONDITION_FAILED, "precondition-failed", "It has changed")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too long"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body must be JSON")
            }
            Self::TooManyRequests => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests")
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "A fault of this server"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not possible now"),
        }
    }

    /// The status of the answer.
    pub const fn status(self) -> StatusCode {
        self.words().0
    }
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Which kind.
    pub kind: Kind,
    detail: String,
    fields: Vec<WrongField>,
    hint: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A field of a request that can't be what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WrongField {
    /// Where it was looked for: `path`, `query`, `header` or `body`.
    #[serde(rename = "in")]
    pub place: &'static str,
    /// Its name; inside of a body its path, such as `schedule.expression`.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

/// The document that every error answers with (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ProblemDocument {
    /// Which kind of problem: `urn:actor-server:problem:` and a word.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What is wrong with this request.
    detail: String,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<WrongField>,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// What a handler answers.
pub type Answer<T> = Result<T, Problem>;

impl Problem {
    /// A problem of this kind; `detail` says what is wrong with this request.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), fields: Vec::new(), hint: None, headers: Vec::new() }
    }

    /// There is no `what` of that name or number.
    pub fn unknown(what: &str, name: impl std::fmt::Debug) -> Self {
        Self::new(Kind::NotFound, format!("there is no {what} {name:?}"))
    }

    /// A field is wrong.
    pub fn field(
        kind: Kind,
        place: &'static str,
        field: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        let (field, detail) = (field.into(), detail.into());
        let told = if field.is_empty() { detail.clone() } else { format!("{field}: {detail}") };
        Self { fields: vec![WrongField { place, field, detail }], ..Self::new(kind, told) }
    }

    /// Several fields are wrong; each message names its own.
    pub fn fields(kind: Kind, place: &'static str, wrong: Vec<(String, String)>) -> Self {
        let told: Vec<&str> = wrong.iter().map(|(_, detail)| detail.as_str()).collect();
        let told = told.join("; ");
        let fields = wrong.into_iter().map(|(field, detail)| WrongField { place, field, detail });
        Self { fields: fields.collect(), ..Self::new(kind, told) }
    }

    /// A parameter of the query is wrong.
    pub fn query(field: &str, detail: impl Into<String>) -> Self {
        Self::field(Kind::InvalidParameter, "query", field, detail)
    }

    /// A field of the body is wrong.
    pub fn body(field: &str, detail: impl Into<String>) -> Self {
        Self::field(Kind::InvalidBody, "body", field, detail)
    }

    /// With what would help.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With a header of the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// To be tried again after so many seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, seconds.into())
    }
}

impl From<LedgerError> for Problem {
    /// What the database says is for the log: it may name what is not the client's business.
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Unavailable(_) | LedgerError::NotWritable(_) => {
                warn!(error = %error, "a request could not be answered");
                Self::new(Kind::Unavailable, "the database can't be used at this moment").retry_after(1)
            }
            LedgerError::Refused(_) | LedgerError::Corrupt(_) => {
                error!(error = %error, "a request could not be answered");
                Self::new(Kind::Internal, "the server's log says what happened")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, slug, title) = self.kind.words();
        let document = ProblemDocument {
            kind: format!("urn:actor-server:problem:{slug}"),
            title,
            status: status.as_u16(),
            detail: self.detail,
            errors: self.fields,
            hint: self.hint,
        };
        let json = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(json));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

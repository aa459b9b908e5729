//! A request as the routes see it: parsed, with its files.

use crate::error::{self, ApiError};
use crate::id::Id;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Multipart};
use axum::http::{HeaderMap, Request, header};
use hyper::body::Body as _;
use serde_json::Value;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;

/// A request may have so many bytes.
pub(crate) const REQUEST_BYTES: usize = 25 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) seq: u64,
    pub(crate) real_micros: u64,
    pub(crate) ip: IpAddr,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) params: HashMap<String, String>,
    pub(crate) query: HashMap<String, String>,
    pub(crate) authorization: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) payload: Result<Payload, ApiError>,
}

#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) json: Value,
    pub(crate) files: Vec<File>,
}

#[derive(Debug)]
pub(crate) struct File {
    /// The n of `files[n]`.
    pub(crate) index: u64,
    pub(crate) name: String,
    pub(crate) content_type: Option<String>,
    pub(crate) size: usize,
}

impl Call {
    /// An id in the path.
    pub(crate) fn id(&self, name: &str) -> Result<Id, ApiError> {
        let text = self.params.get(name).map(String::as_str).unwrap_or_default();
        parse_id(name, text)
    }

    /// An id in the query.
    pub(crate) fn query_id(&self, name: &str) -> Result<Option<Id>, ApiError> {
        self.query.get(name).map(|text| parse_id(name, text)).transpose()
    }

    pub(crate) fn query_is(&self, name: &str, wanted: &str) -> bool {
        self.query.get(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted))
    }

    /// `limit` in the query.
    pub(crate) fn limit(&self, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.query.get("limit") else { return Ok(default) };
        let bad = |code: &str, message: String| error::form_error("limit", code, message);
        let limit: usize =
            text.parse().map_err(|_| bad("NUMBER_TYPE_COERCE", format!("Value \"{text}\" is not int.")))?;
        match limit {
            0 => Err(bad("NUMBER_TYPE_MIN", "int value should be greater than or equal to 1.".into())),
            limit if limit > max => {
                Err(bad("NUMBER_TYPE_MAX", format!("int value should be less than or equal to {max}.")))
            }
            limit => Ok(limit),
        }
    }

    pub(crate) fn payload(&self) -> Result<&Payload, ApiError> {
        self.payload.as_ref().map_err(Clone::clone)
    }

    /// The text of the request, for faults that look at it.
    pub(crate) fn content(&self) -> &str {
        let json = self.payload.as_ref().map(|payload| &payload.json).unwrap_or(&Value::Null);
        json["content"].as_str().or(json["message"]["content"].as_str()).unwrap_or_default()
    }
}

fn parse_id(name: &str, text: &str) -> Result<Id, ApiError> {
    let not_snowflake = || format!("Value \"{text}\" is not snowflake.");
    text.parse().map_err(|_| error::form_error(name, "NUMBER_TYPE_COERCE", not_snowflake()))
}

pub(crate) fn header(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Reads the body, whatever it is. A body that nobody can read is an error of the request, not of the connection.
pub(crate) async fn read_payload(request: Request<Body>) -> Result<Payload, ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = read_bytes(body).await?;
    if bytes.is_empty() {
        return Ok(Payload::default());
    }
    let content_type = header(&parts.headers, header::CONTENT_TYPE).unwrap_or_default();
    if content_type.starts_with("multipart/form-data") {
        return read_form(Request::from_parts(parts, Body::from(bytes))).await;
    }
    if !content_type.starts_with("application/json") {
        let message = format!(
            "Expected \"Content-Type\" header to be one of {{'application/json'}}, not \"{content_type}\"."
        );
        return Err(error::form_error("", "CONTENT_TYPE_INVALID", message));
    }
    let json = serde_json::from_slice(&bytes).map_err(|_| error::invalid_json())?;
    Ok(Payload { json, files: Vec::new() })
}

/// All bytes of a body. One that is too large is read to its end, so that its sender can hear of it.
async fn read_bytes(mut body: Body) -> Result<Bytes, ApiError> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        // The sender is gone: whatever is answered, nobody hears it.
        let Ok(data) = frame.map_err(|_| error::invalid_json())?.into_data() else { continue };
        length += data.len();
        if length <= REQUEST_BYTES {
            bytes.extend_from_slice(&data);
        }
    }
    if length > REQUEST_BYTES { Err(error::request_too_large()) } else { Ok(bytes.into()) }
}

async fn read_form(request: Request<Body>) -> Result<Payload, ApiError> {
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| error::invalid_json())?;
    let mut payload = Payload { json: Value::Object(serde_json::Map::new()), files: Vec::new() };
    let broken = |_| error::invalid_json();
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        let file_name = field.file_name().map(str::to_owned);
        let content_type = field.content_type().map(str::to_owned);
        let bytes = field.bytes().await.map_err(broken)?;
        let index = name.strip_prefix("files[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        match (name.as_str(), index, file_name) {
            ("payload_json", _, _) => {
                payload.json = serde_json::from_slice(&bytes).map_err(|_| error::invalid_json())?;
            }
            (_, index, Some(name)) => {
                let index = index.unwrap_or(payload.files.len() as u64);
                payload.files.push(File { index, name, content_type, size: bytes.len() });
            }
            // Without payload_json, plain fields are the message's.
            (field, _, None) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Value::Object(fields) = &mut payload.json {
                    fields.insert(field.to_owned(), Value::String(text));
                }
            }
        }
    }
    Ok(payload)
}

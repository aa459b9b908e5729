//! Reads what came with a request. What can't be read is named: the field, and what is wrong with it.

use super::Api;
use super::problem::{Answer, Kind, Problem};
use super::route::{Nothing, Readable};
use axum::body::{Body, Bytes};
use axum::extract::RawPathParams;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::any::TypeId;

/// The parts of the path, which are decoded.
pub(super) fn path<P: Readable>(params: &RawPathParams) -> Answer<P> {
    let pairs: Vec<(&str, &str)> = params.iter().collect();
    pairs_into(&pairs, "path")
}

/// The query.
pub(super) fn query<Q: Readable>(uri: &Uri) -> Answer<Q> {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(uri.query().unwrap_or_default())
        .map_err(|error| Problem::query("", error.to_string()))?;
    pairs_into(&pairs, "query")
}

fn pairs_into<T: DeserializeOwned>(pairs: &[impl serde::Serialize], place: &'static str) -> Answer<T> {
    let encoded = serde_urlencoded::to_string(pairs)
        .map_err(|error| Problem::field(Kind::InvalidParameter, place, "", error.to_string()))?;
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(encoded.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let (field, detail) = located(&error.path().to_string(), &error.into_inner().to_string());
        Problem::field(Kind::InvalidParameter, place, field, detail)
    })
}

/// The body, as JSON. None at all counts as `{}`.
pub(super) async fn body<B: Readable>(api: &Api, parts: &Parts, body: Body) -> Answer<B> {
    let nothing = TypeId::of::<B>() == TypeId::of::<Nothing>();
    if nothing && parts.method == Method::GET {
        return json(b"{}");
    }
    told_as_json(&parts.headers, &bytes(api, body).await?)
}

/// The body as it came.
pub(super) async fn bytes(api: &Api, body: Body) -> Answer<Bytes> {
    match tokio::time::timeout(
        api.settings.request_timeout,
        Limited::new(body, api.settings.max_body).collect(),
    )
    .await
    {
        Err(_) => Err(Problem::new(Kind::Timeout, "the body did not come in time")),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let most = api.settings.max_body;
            Err(Problem::new(Kind::TooLarge, format!("the body has more than {most} bytes"))
                .hint("api.max_body_bytes of the server's file says how long it may be"))
        }
        Ok(Err(error)) => Err(Problem::new(Kind::MalformedJson, format!("the body broke off: {error}"))),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// A body that is said to be JSON.
pub(super) fn told_as_json<B: DeserializeOwned + 'static>(headers: &HeaderMap, bytes: &[u8]) -> Answer<B> {
    if bytes.is_empty() {
        return json(b"{}");
    }
    if !is_json(headers) {
        let told = "send it with `Content-Type: application/json`";
        return Err(Problem::new(Kind::UnsupportedMediaType, "the body is not said to be JSON").hint(told));
    }
    json(bytes)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(told) = headers.get(header::CONTENT_TYPE).and_then(|told| told.to_str().ok()) else {
        return false;
    };
    let media_type = told.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

fn json<B: DeserializeOwned + 'static>(bytes: &[u8]) -> Answer<B> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.into_inner());
        match error.classify() {
            serde_json::error::Category::Data => {
                let (field, detail) = located(&path, &error.to_string());
                Problem::body(&field, detail)
            }
            _ => Problem::new(Kind::MalformedJson, error.to_string()),
        }
    })?;
    reader.end().map_err(|error| Problem::new(Kind::MalformedJson, error.to_string()))?;
    let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    // An array would be read as the fields in their order, where there are any.
    if value.is_array() && TypeId::of::<B>() != TypeId::of::<Value>() {
        return Err(Problem::body("", "is an array (allowed: an object)"));
    }
    // PostgreSQL has no such character.
    if let Some(field) = nul_in(&value, "") {
        return Err(Problem::body(&field, "has the character U+0000, which can't be stored"));
    }
    Ok(read)
}

/// The path of the first text, or key, with a NUL character.
fn nul_in(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(|| path.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| nul_in(item, &format!("{path}[{index}]")))
        }
        Value::Object(fields) => fields.iter().find_map(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if key.contains('\0') { Some(path.replace('\0', "")) } else { nul_in(value, &path) }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The field that an error is about, and what it says. Of what is missing, unknown or doubled the path is that of the
/// whole; its name stands in the message.
fn located(path: &str, message: &str) -> (String, String) {
    const ABOUT_A_FIELD: [&str; 3] = ["missing field `", "unknown field `", "duplicate field `"];
    let path = if path == "." { "" } else { path };
    let named = ABOUT_A_FIELD.iter().find_map(|words| message.strip_prefix(words)?.split('`').next());
    let field = match named {
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) if path.rsplit('.').next() != Some(name) => format!("{path}.{name}"),
        Some(_) | None => path.to_owned(),
    };
    (field, message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use schemars::JsonSchema;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read is asked")]
    struct Thing {
        #[serde(default)]
        count: Option<u32>,
        #[serde(default)]
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read is asked")]
    struct Inner {
        name: String,
    }

    async fn wrong<T: std::fmt::Debug>(answer: Answer<T>) -> (StatusCode, Value) {
        let response = answer.unwrap_err().into_response();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn field_of(json_text: &str) -> Value {
        let (status, problem) = wrong(json::<Thing>(json_text.as_bytes())).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        problem["errors"][0]["field"].clone()
    }

    #[tokio::test]
    async fn the_field_of_a_body_that_is_wrong_is_named() {
        assert_eq!(field_of(r#"{"count": "many"}"#).await, "count");
        assert_eq!(field_of(r#"{"countt": 1}"#).await, "countt");
        assert_eq!(field_of(r#"{"count": 1, "count": 2}"#).await, "count");
        assert_eq!(field_of(r#"{"inner": {}}"#).await, "inner.name");
        assert_eq!(field_of(r#"{"inner": {"name": "x", "nmae": 1}}"#).await, "inner.nmae");
        assert_eq!(field_of(r#"{"inner": {"name": "a\u0000b"}}"#).await, "inner.name");
        assert_eq!(field_of("[]").await, "");
        assert_eq!(json::<Value>(b"[1]").ok(), Some(serde_json::json!([1])), "it has no fields");
    }

    #[tokio::test]
    async fn what_is_no_json_is_said_to_be_none() {
        for text in ["", "{", "{}{}", "\u{feff}{}", "nul", r#"{"count": 1e999}"#] {
            let (status, problem) = wrong(json::<Thing>(text.as_bytes())).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{text:?}: {problem}");
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let (status, problem) = wrong(json::<Value>(deep.as_bytes())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    }

    #[tokio::test]
    async fn the_parameter_that_is_wrong_is_named() {
        for query_text in ["count=x", "count=1&count=2", "count=-1"] {
            let (status, problem) = wrong(query::<Thing>(&format!("/?{query_text}").parse().unwrap())).await;
            assert_eq!(
                (status, &problem["errors"][0]["field"]),
                (StatusCode::BAD_REQUEST, &"count".into()),
                "{problem}"
            );
        }
        let (_, problem) = wrong(query::<Nothing>(&"/?other=1".parse().unwrap())).await;
        assert_eq!(problem["errors"][0]["field"], "other");
    }
}

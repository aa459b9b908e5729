//! Reading what comes back: headers, and no more of a body than we are ready for.

use super::error::{ErrorBody, Refusal, seconds};
use super::limits::{RateHeaders, Scope, Seen};
use super::routes::Route;
use super::{DiscordError, error::Answer};
use botticelli_server::post::Reason;
use chrono::{DateTime, Utc};
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The most that is read of an answer. A hundred long messages are less.
const LONGEST_BODY: usize = 16 << 20;
/// The most that is read of a refusal.
const LONGEST_REFUSAL: usize = 256 << 10;

/// What came back, read.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) date: Option<DateTime<Utc>>,
    rate: RateHeaders,
    retry_after: Option<Duration>,
    body: Vec<u8>,
    /// It broke off, or is longer than anything that we read.
    is_cut: bool,
}

impl Reply {
    pub(super) async fn read(mut response: Response) -> Self {
        let status = response.status().as_u16();
        let headers = response.headers();
        let date = headers.get("date").and_then(|date| date.to_str().ok()).and_then(http_date);
        let (rate, retry_after) = (rate_headers(headers, date), number(headers, "retry-after"));
        let most = if response.status().is_success() { LONGEST_BODY } else { LONGEST_REFUSAL };
        let mut body = Vec::new();
        let is_cut = loop {
            match response.chunk().await {
                Ok(None) => break false,
                Ok(Some(chunk)) if body.len() + chunk.len() <= most => body.extend_from_slice(&chunk),
                Ok(Some(_)) | Err(_) => break true,
            }
        };
        Self { status, date, rate, retry_after: retry_after.and_then(seconds), body, is_cut }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What it refuses, if it does.
    pub(super) fn refusal(&self, route: &Route) -> Option<Answer> {
        let refusal = Refusal {
            route: route.pattern(),
            creates_message: route.creates_message(),
            is_webhook: route.is_webhook(),
            status: self.status,
            has_rate_headers: self.rate.any,
            retry_after: self.retry_after,
            body: &self.body,
        };
        (!self.is_success()).then(|| refusal.classify())
    }

    /// What it says about limits.
    pub(super) fn seen(&self, refusal: Option<&Answer>) -> Seen {
        let is_global = ErrorBody::read(&self.body).is_some_and(|body| body.global == true);
        let mut rate = self.rate.clone();
        if self.status == 429 && is_global {
            rate.scope = Some(Scope::Global);
        }
        Seen {
            status: self.status,
            class: refusal.map(|answer| answer.class),
            retry_after: refusal.and_then(|answer| answer.retry_after),
            rate,
        }
    }

    /// The body of a success. Without it the request may have taken effect, but we can't say how.
    pub(super) fn json<T: DeserializeOwned>(&self, route: &Route) -> Result<T, DiscordError> {
        let unreadable = |why: String| {
            let pattern = route.pattern();
            let text = format!("{pattern}: HTTP {}, but the answer {why}", self.status);
            DiscordError::Unknown(Reason::answered(text, self.status, None))
        };
        if self.is_cut {
            return Err(unreadable("broke off".into()));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            unreadable(format!("is not what it should be ({place})"))
        })
    }
}

fn rate_headers(headers: &HeaderMap, date: Option<DateTime<Utc>>) -> RateHeaders {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let whole = |name| text(name).and_then(|value| value.trim().parse().ok());
    // Where only the absolute time is there, the server's own clock says how far away it is.
    let until_reset = || {
        let reset = number(headers, "x-ratelimit-reset")?;
        Some(reset - date?.timestamp() as f64)
    };
    RateHeaders {
        any: headers.keys().any(|name| name.as_str().starts_with("x-ratelimit-")),
        limit: whole("x-ratelimit-limit"),
        remaining: whole("x-ratelimit-remaining"),
        reset_after: number(headers, "x-ratelimit-reset-after").or_else(until_reset).and_then(seconds),
        bucket: text("x-ratelimit-bucket").filter(|name| name.len() <= 100).map(Into::into),
        scope: match text("x-ratelimit-scope") {
            Some("global") => Some(Scope::Global),
            Some("shared") => Some(Scope::Shared),
            Some("user") => Some(Scope::User),
            _ => text("x-ratelimit-global").filter(|value| *value == "true").map(|_| Scope::Global),
        },
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn http_date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text).ok().map(|date| date.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn read(headers: &[(&str, &str)]) -> RateHeaders {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))
        };
        let headers: HeaderMap = headers.iter().map(pair).collect();
        rate_headers(&headers, http_date("Tue, 15 Nov 2033 08:12:31 GMT"))
    }

    #[test]
    fn headers_are_read_with_their_decimals() {
        let headers = read(&[
            ("X-RateLimit-Limit", "5"),
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Reset-After", "0.303"),
            ("X-RateLimit-Bucket", "abcd1234"),
            ("X-RateLimit-Scope", "shared"),
        ]);
        assert_eq!(
            headers,
            RateHeaders {
                any: true,
                limit: Some(5),
                remaining: Some(0),
                reset_after: Some(Duration::from_millis(303)),
                bucket: Some("abcd1234".into()),
                scope: Some(Scope::Shared),
            }
        );
    }

    #[test]
    fn what_is_missing_or_nonsense_is_not_believed() {
        assert_eq!(read(&[("content-type", "text/html")]), RateHeaders::default());
        let nonsense = read(&[
            ("X-RateLimit-Limit", "many"),
            ("X-RateLimit-Remaining", "-1"),
            ("X-RateLimit-Reset-After", "NaN"),
            ("X-RateLimit-Scope", "galaxy"),
        ]);
        assert_eq!(nonsense, RateHeaders { any: true, ..RateHeaders::default() });
        assert_eq!(read(&[("X-RateLimit-Reset-After", "-3")]).reset_after, None);
        assert_eq!(read(&[("X-RateLimit-Global", "true")]).scope, Some(Scope::Global));
    }

    #[test]
    fn an_absolute_time_is_measured_by_the_servers_clock() {
        let reset = http_date("Tue, 15 Nov 2033 08:12:41 GMT").expect("a date").timestamp();
        let headers = read(&[("X-RateLimit-Reset", &format!("{reset}.5"))]);
        assert_eq!(headers.reset_after, Some(Duration::from_millis(10_500)));
    }
}

//! Where alerts go besides Discord: a signed webhook, and PagerDuty. Both are platforms, so that the outbox delivers to
//! them, and both know an alert again that is sent twice.

use super::AlertSettings;
use super::signature::SigningKey;
use crate::causes::with_causes;
use async_trait::async_trait;
use botticelli_server::alert::{AlertEvent, EXTRA, Notice, shortened};
use botticelli_server::clock::Clock;
use botticelli_server::post::{
    Capabilities, ContentPoster, Destination, Doubt, IdempotencyKey, LookUp, PostContent, PostError, Reason,
    Receipt, TextLimit, TextUnit,
};
use chrono::SecondsFormat;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The name of the webhooks' platform. (`webhook` alone may be one for posts some day.)
pub const WEBHOOK: &str = "alert_webhook";
/// The name of PagerDuty's platform.
pub const PAGERDUTY: &str = "pagerduty";
/// Where PagerDuty takes events.
pub const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// So much of an answer is read, and told.
const LONGEST_ANSWER: usize = 300;

/// One sink, with its secrets.
#[derive(Debug, Clone)]
pub enum Sink {
    /// A signed request.
    Webhook {
        /// Where to.
        url: SecretString,
        /// The key that both sides know.
        key: SigningKey,
    },
    /// An event.
    PagerDuty {
        /// Where to.
        url: SecretString,
        /// Of the service that is to know.
        routing_key: SecretString,
    },
}

impl Sink {
    /// Whether it is set up the same.
    fn is(&self, other: &Self) -> bool {
        let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
        match (self, other) {
            (Self::Webhook { url, key }, Self::Webhook { url: other_url, key: other_key }) => {
                same(url, other_url) && key.is(other_key)
            }
            (
                Self::PagerDuty { url, routing_key },
                Self::PagerDuty { url: other_url, routing_key: other_routing_key },
            ) => same(url, other_url) && same(routing_key, other_routing_key),
            (Self::Webhook { .. }, Self::PagerDuty { .. })
            | (Self::PagerDuty { .. }, Self::Webhook { .. }) => false,
        }
    }
}

impl PartialEq for AlertSettings {
    fn eq(&self, other: &Self) -> bool {
        let same_sink = match (&self.sink, &other.sink) {
            (Some(sink), Some(other)) => sink.is(other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_sink && self.policy == other.policy
    }
}

/// What is wrong with the URL, which is not shown.
pub fn wrong_url(url: &SecretString) -> Option<&'static str> {
    match Url::parse(url.expose_secret()) {
        Err(_) => Some("is no URL"),
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            Some("does not begin with https:// or http:// and a host")
        }
        Ok(_) => None,
    }
}

/// A client that goes nowhere else than it is told, and waits for nobody.
///
/// # Errors
/// When the HTTP client can't start.
pub fn client() -> Result<Client, String> {
    // Without certificates plain HTTP still works, as on a machine that has nothing else.
    let tls = crate::tls::client(true).or_else(|_| crate::tls::client(false))?;
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("actor-server/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|error| error.without_url().to_string())
}

/// The sinks of one kind, by the names of their sections.
pub struct Sinks {
    client: Client,
    clock: Arc<dyn Clock>,
    by_name: BTreeMap<String, Sink>,
}

impl Sinks {
    /// Sinks that share a client.
    pub fn new(client: Client, clock: Arc<dyn Clock>, by_name: BTreeMap<String, Sink>) -> Self {
        Self { client, clock, by_name }
    }

    fn sink(&self, destination: &Destination) -> Result<&Sink, PostError> {
        let unknown = || {
            let reason =
                format!("there is no [[alerts]] section {:?} with this sink here", destination.target);
            PostError::DestinationClosed(reason.into())
        };
        self.by_name.get(&destination.target).ok_or_else(unknown)
    }
}

#[async_trait]
impl ContentPoster for Sinks {
    type Content = PostContent;
    type Destination = Destination;
    type Posted = Receipt;

    fn capabilities(&self, _: &PostContent, _: &Destination) -> Capabilities {
        let text = TextLimit { max: None, unit: TextUnit::Scalars };
        // The receiver knows the id again, whenever that is; there is nothing to look into.
        Capabilities { idempotent_for: Some(Duration::MAX), look_up: false, text }
    }

    fn validate(&self, content: &PostContent, _: &Destination) -> Result<(), PostError> {
        event(content).map(drop)
    }

    async fn post(
        &self,
        content: &PostContent,
        destination: &Destination,
        key: &IdempotencyKey,
    ) -> Result<Receipt, PostError> {
        let event = event(content)?;
        let now = self.clock.now();
        let message_id = match self.sink(destination)? {
            Sink::Webhook { url, key: signing } => {
                let body = webhook_body(&event).to_string();
                let (id, timestamp) = (key.as_str(), now.timestamp());
                let request = self
                    .client
                    .post(url.expose_secret())
                    .header(CONTENT_TYPE, "application/json")
                    .header("webhook-id", id)
                    .header("webhook-timestamp", timestamp)
                    .header("webhook-signature", signing.sign(id, timestamp, body.as_bytes()))
                    .body(body);
                send(request, &[url]).await?;
                // The receiver gives none of its own: this is the one by which it knows the alert.
                id.to_owned()
            }
            Sink::PagerDuty { url, routing_key } => {
                let body = pagerduty_body(&event, routing_key).to_string();
                let request =
                    self.client.post(url.expose_secret()).header(CONTENT_TYPE, "application/json").body(body);
                let answer = send(request, &[url, routing_key]).await?;
                dedup_key(&answer).unwrap_or_else(|| event.incident.clone())
            }
        };
        Ok(Receipt {
            message_id,
            posted_at: now,
            link: None,
            recovered: false,
            to_follow: Vec::new(),
            missing: Vec::new(),
        })
    }

    async fn look_up(
        &self,
        _: &PostContent,
        _: &Destination,
        _: &IdempotencyKey,
        _: &Doubt,
    ) -> Result<LookUp<Receipt>, PostError> {
        Ok(LookUp::Unknowable { reason: "receivers of alerts can't be asked".into() })
    }
}

fn event(content: &PostContent) -> Result<AlertEvent, PostError> {
    let extra = content.extras.get(EXTRA).cloned().unwrap_or_default();
    serde_json::from_value(extra)
        .map_err(|error| PostError::Refused(format!("this is no alert: {error}").into()))
}

/// See docs/alerts.md.
fn webhook_body(event: &AlertEvent) -> Value {
    let at = event.ended_at.unwrap_or(event.started_at).to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({ "type": format!("alert.{}", event.notice.as_str()), "timestamp": at, "data": event })
}

fn pagerduty_body(event: &AlertEvent, routing_key: &SecretString) -> Value {
    const LONGEST_SUMMARY: usize = 1_024;
    let action = match event.notice {
        Notice::Started | Notice::Repeated | Notice::Test => "trigger",
        Notice::Ended => "resolve",
    };
    let mut body = json!({
        "routing_key": routing_key.expose_secret().trim(),
        "event_action": action,
        "dedup_key": event.incident,
    });
    if event.notice != Notice::Ended {
        body["payload"] = json!({
            "summary": shortened(&event.summary, LONGEST_SUMMARY),
            "source": if event.subject.is_empty() { "actor-server" } else { &event.subject },
            "severity": event.severity.as_str(),
            "timestamp": event.started_at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "component": event.actor_name,
            "class": event.rule,
            "custom_details": event,
        });
    }
    body
}

/// PagerDuty repeats the key under which it has the event.
fn dedup_key(answer: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        dedup_key: String,
    }
    serde_json::from_str(answer).ok().map(|Answer { dedup_key }| dedup_key)
}

/// The answer's text, if the receiver took it. `secrets` are cut out of whatever is told.
async fn send(request: RequestBuilder, secrets: &[&SecretString]) -> Result<String, PostError> {
    let told = |error: reqwest::Error| without(&with_causes(&error), secrets);
    let response = request.send().await.map_err(|error| {
        let never_left = error.is_connect() || error.is_builder();
        let reason = Reason::from(told(error.without_url()));
        if never_left { PostError::NotSent { reason, retry_after: None } } else { PostError::Unknown(reason) }
    })?;
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let text = beginning(response).await;
    if status.is_success() {
        return Ok(text);
    }
    let text = without(text.trim(), secrets);
    let reason = if text.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {text}") };
    Err(refused(status.as_u16(), reason, retry_after))
}

/// What a receiver answers costs no more memory than this, however long it is.
async fn beginning(mut response: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST_ANSWER
        && let Ok(Some(chunk)) = response.chunk().await
    {
        let room = LONGEST_ANSWER - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn without(text: &str, secrets: &[&SecretString]) -> String {
    let hide = |text: String, secret: &&SecretString| match secret.expose_secret().trim() {
        "" => text,
        secret => text.replace(secret, "…"),
    };
    secrets.iter().fold(text.to_owned(), hide)
}

/// What an answer means. An alert is right by construction: whoever refuses it is set up wrongly, or this is, and it waits
/// until that is put right.
fn refused(status: u16, text: String, retry_after: Option<Duration>) -> PostError {
    let reason = Reason::answered(text, status, None);
    match status {
        408 | 425 | 429 => PostError::NotSent { reason, retry_after },
        503 if retry_after.is_some() => PostError::NotSent { reason, retry_after },
        500.. => PostError::Unknown(reason),
        413 | 422 => PostError::Refused(reason),
        _ => PostError::DestinationClosed(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use botticelli_server::alert::{AlertRule, Severity};
    use botticelli_server::ids::{ActorName, AlertName};
    use chrono::DateTime;

    fn alert(notice: Notice) -> AlertEvent {
        let started_at = DateTime::from_timestamp(1_900_000_000, 0).expect("a time");
        AlertEvent {
            notice,
            alert: AlertName::new("ops").expect("a name"),
            incident: "the-incident".into(),
            rule: Some(AlertRule::BreakerOpened),
            severity: Severity::Error,
            subject: "daily".into(),
            actor_name: ActorName::new("poster").ok(),
            summary: "task \"daily\" is paused".into(),
            started_at,
            ended_at: (notice == Notice::Ended).then_some(started_at),
        }
    }

    #[test]
    fn a_webhook_says_what_the_docs_say() {
        let at = "2030-03-17T17:46:40Z";
        let event = json!({
            "notice": "started", "alert": "ops", "incident": "the-incident", "rule": "breaker_opened",
            "severity": "error", "subject": "daily", "actor_name": "poster",
            "summary": "task \"daily\" is paused", "started_at": at, "ended_at": null,
        });
        let started =
            json!({ "type": "alert.started", "timestamp": "2030-03-17T17:46:40.000Z", "data": event });
        assert_eq!(webhook_body(&alert(Notice::Started)), started);
        let ended = webhook_body(&alert(Notice::Ended));
        assert_eq!((&ended["type"], &ended["data"]["ended_at"]), (&json!("alert.ended"), &json!(at)));
    }

    #[test]
    fn pagerduty_triggers_and_resolves_one_incident() {
        let trigger = pagerduty_body(&alert(Notice::Started), &"R0UT1NG".into());
        let resolve = pagerduty_body(&alert(Notice::Ended), &"R0UT1NG".into());
        assert_eq!(
            resolve,
            json!({ "routing_key": "R0UT1NG", "event_action": "resolve", "dedup_key": "the-incident" })
        );
        assert_eq!(
            (&trigger["event_action"], &trigger["dedup_key"]),
            (&json!("trigger"), &resolve["dedup_key"])
        );
        let payload = &trigger["payload"];
        assert_eq!((&payload["source"], &payload["severity"]), (&json!("daily"), &json!("error")));
        assert_eq!(payload["timestamp"], "2030-03-17T17:46:40.000Z");
        assert_eq!(dedup_key(r#"{"status":"success","dedup_key":"theirs"}"#).as_deref(), Some("theirs"));
    }

    #[test]
    fn an_answer_that_is_no_says_whether_it_helps_to_try_again() {
        let means = |status, retry_after| refused(status, "no".into(), retry_after);
        let later = Some(Duration::from_secs(7));
        assert!(matches!(means(429, later), PostError::NotSent { retry_after, .. } if retry_after == later));
        assert!(matches!(means(503, later), PostError::NotSent { .. }));
        assert!(matches!(means(503, None), PostError::Unknown(_)), "it may have arrived");
        assert!(matches!(means(500, None), PostError::Unknown(_)));
        assert!(matches!(means(413, None), PostError::Refused(_)));
        for wrong_here_or_there in [301, 400, 401, 403, 404, 410] {
            assert!(matches!(means(wrong_here_or_there, None), PostError::DestinationClosed(_)));
        }
    }

    #[test]
    fn what_is_no_alert_is_refused_before_it_is_sent() {
        assert!(matches!(event(&PostContent::text("hello")), Err(PostError::Refused(_))));
        assert_eq!(event(&alert(Notice::Test).content()), Ok(alert(Notice::Test)));
    }

    #[test]
    fn a_secret_is_cut_out_of_what_a_receiver_says() {
        let secret = SecretString::from("https://hooks.example/T0KEN");
        assert_eq!(without("no such hook: https://hooks.example/T0KEN!", &[&secret]), "no such hook: …!");
        assert!(wrong_url(&secret).is_none() && wrong_url(&"hooks.example".into()).is_some());
    }
}

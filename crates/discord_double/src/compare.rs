//! Asks a Discord the same questions as the double, and shows where the answers differ.

use crate::double::{Double, Options, StartError};
use crate::id::Id;
use crate::limits::Limits;
use crate::nonce::NonceRules;
use crate::state::Settings;
use crate::world::standard;
use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Where to ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// Such as `https://discord.com/api/v10`.
    pub base_url: String,
    /// The bot's token.
    pub token: String,
    /// A text channel in which the bot may do what a poster does. All messages are deleted again.
    pub channel: Id,
    /// A second one, for the scope of nonces.
    pub second_channel: Id,
}

/// What was asked, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The question.
    pub question: String,
    /// The answer.
    pub seen: String,
}

/// A question with two answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The question.
    pub question: String,
    /// What the double answers.
    pub double: String,
    /// What the target answers.
    pub target: String,
}

impl Comparison {
    /// Whether the answers are the same.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.double == self.target
    }
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The double did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No certificates of this system can be read.
    #[error("can't read the system's certificates")]
    Certificates(#[source] io::Error),
    /// The request was not answered.
    #[error("no answer to {method} {path}: {reason}")]
    NoAnswer {
        /// The method.
        method: &'static str,
        /// Below the base URL.
        path: String,
        /// Why.
        reason: String,
    },
    /// It said five times that there are too many requests.
    #[error("{path} is rate limited again and again")]
    Limited {
        /// Below the base URL.
        path: String,
    },
}

/// Asks the double and the target. With `nonce_window_up_to`, also how long the target knows a nonce: that takes so
/// long.
///
/// # Errors
/// One of them does not answer.
pub async fn compare(target: &Target, nonce_window_up_to: Duration) -> Result<Vec<Comparison>, CompareError> {
    let limits = Limits::default().faster(100);
    let double = Double::start(Options {
        settings: Settings { limits, ..Settings::default() },
        ..Options::default()
    })?;
    let expected = observe(&of_double(&double)).await?;
    let found = observe(target).await?;
    let pairs = expected.into_iter().zip(found);
    let mut comparisons: Vec<_> = pairs
        .map(|(double, target)| Comparison {
            question: double.question,
            double: double.seen,
            target: target.seen,
        })
        .collect();
    comparisons.extend(nonce_window(target, nonce_window_up_to).await?);
    Ok(comparisons)
}

/// A running double as a target.
#[must_use]
pub fn of_double(double: &Double) -> Target {
    Target {
        base_url: double.base_url(),
        token: standard::TOKEN.into(),
        channel: standard::GENERAL,
        second_channel: standard::RANDOM,
    }
}

/// Asks all questions but that for the window of nonces.
///
/// # Errors
/// The target does not answer.
pub async fn observe(target: &Target) -> Result<Vec<Observation>, CompareError> {
    let mut session = Session::new(target)?;
    let mut seen = Vec::new();
    for (question, body) in forms() {
        let reply = session.post(target.channel, body).await?;
        seen.push(Observation { question: question.into(), seen: reply.summary() });
    }
    session.nonces(&mut seen).await?;
    session.order(&mut seen).await?;
    session.clean_up().await?;
    Ok(seen)
}

/// Messages that are answered at once.
fn forms() -> Vec<(&'static str, Value)> {
    let v2 = 1 << 15;
    let text = |length: usize| json!({"type": 10, "content": "x".repeat(length)});
    let many = json!({"type": 17, "components": vec![text(1); 40]});
    vec![
        ("a message without anything", json!({})),
        ("2000 characters and spaces around them", json!({"content": format!(" {} ", "x".repeat(2000))})),
        ("2001 characters", json!({"content": "x".repeat(2001)})),
        ("2000 emoji outside the BMP", json!({"content": "😀".repeat(2000)})),
        ("1000 emoji of several scalar values (1000 × 2)", json!({"content": "👍🏽".repeat(1000)})),
        ("1001 emoji of several scalar values (1001 × 2)", json!({"content": "👍🏽".repeat(1001)})),
        ("a number as content", json!({"content": 5})),
        ("an object as content", json!({"content": {}})),
        ("a list as message", json!([1])),
        ("an empty embed", json!({"embeds": [{}]})),
        ("an embed's title of 257", json!({"embeds": [{"title": "x".repeat(257)}]})),
        (
            "6001 characters in embeds",
            json!({"embeds": [{"description": "x".repeat(4096)}, {"description": "x".repeat(1905)}]}),
        ),
        ("11 embeds", json!({"embeds": vec![json!({"title": "t"}); 11]})),
        ("an embed with an ftp URL", json!({"embeds": [{"title": "t", "url": "ftp://example.org"}]})),
        (
            "parse and a list of users",
            json!({"content": "x", "allowed_mentions": {"parse": ["users"], "users": ["1"]}}),
        ),
        ("parse of cats", json!({"content": "x", "allowed_mentions": {"parse": ["cats"]}})),
        ("an attachment that is not there", json!({"content": "x", "attachments": [{"id": 7}]})),
        ("a nonce of 26 characters", json!({"content": "x", "nonce": "n".repeat(26)})),
        ("content with components V2", json!({"flags": v2, "content": "x", "components": [text(1)]})),
        ("41 components", json!({"flags": v2, "components": [many]})),
        ("4001 characters in components", json!({"flags": v2, "components": [text(4001)]})),
        (
            "a poll of 769 hours",
            json!({"poll": {"question": {"text": "q"}, "answers": [{"poll_media": {"text": "a"}}], "duration": 769}}),
        ),
        ("a reply to nothing", json!({"content": "x", "message_reference": {"message_id": "5"}})),
    ]
}

/// How long the target knows a nonce, beside what the double assumes.
async fn nonce_window(target: &Target, up_to: Duration) -> Result<Vec<Comparison>, CompareError> {
    let steps = [60, 120, 180, 240, 300, 420, 600, 900, 1800].map(Duration::from_secs);
    let steps: Vec<_> = steps.into_iter().filter(|step| *step <= up_to).collect();
    let mut session = Session::new(target)?;
    let mut first = Vec::new();
    for step in &steps {
        let body = json!({"content": "nonce", "nonce": session.nonce(step.as_secs()), "enforce_nonce": true});
        first.push((Instant::now(), *step, session.post(target.channel, body.clone()).await?.id(), body));
    }
    let mut comparisons = Vec::new();
    for (begin, step, id, body) in first {
        sleep_until(begin + step).await;
        let again = session.post(target.channel, body).await?.id();
        let assumed = step.as_secs_f64() < NonceRules::default().window_seconds;
        let known = |known: bool| if known { "known" } else { "forgotten" }.to_owned();
        comparisons.push(Comparison {
            question: format!("a nonce after {} s", step.as_secs()),
            double: known(assumed),
            target: known(again == id),
        });
    }
    session.clean_up().await?;
    Ok(comparisons)
}

struct Session<'a> {
    target: &'a Target,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Other than those of earlier sessions.
    salt: Id,
    made: Vec<(Id, String)>,
}

struct Answer {
    status: u16,
    has_scope: bool,
    retry_after: Option<Duration>,
    json: Value,
}

impl Answer {
    fn id(&self) -> String {
        self.json["id"].as_str().unwrap_or_default().to_owned()
    }

    /// Status, code, and the codes of the form's errors with their paths.
    fn summary(&self) -> String {
        let mut parts = vec![self.status.to_string()];
        parts.extend(self.json["code"].as_i64().map(|code| code.to_string()));
        form_errors("", &self.json["errors"], &mut parts);
        parts.join(" ")
    }
}

fn form_errors(path: &str, node: &Value, found: &mut Vec<String>) {
    for (name, inside) in node.as_object().into_iter().flatten() {
        match inside.as_array().filter(|_| name == "_errors") {
            Some(errors) => {
                let codes = errors.iter().filter_map(|error| error["code"].as_str());
                found.extend(codes.map(|code| format!("{path}:{code}")));
            }
            None => {
                let dot = if path.is_empty() { "" } else { "." };
                form_errors(&format!("{path}{dot}{name}"), inside, found);
            }
        }
    }
}

impl<'a> Session<'a> {
    fn new(target: &'a Target) -> Result<Self, CompareError> {
        let connector =
            HttpsConnectorBuilder::new().with_native_roots().map_err(CompareError::Certificates)?;
        let connector = connector.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let salt = Id::at(crate::clock::Clock::system().now());
        Ok(Self { target, client, salt, made: Vec::new() })
    }

    fn nonce(&self, n: u64) -> String {
        (self.salt.0 + n).to_string()
    }

    /// Posts, and remembers what was made.
    async fn post(&mut self, channel: Id, body: Value) -> Result<Answer, CompareError> {
        let answer = self.send("POST", format!("/channels/{channel}/messages"), Some(body)).await?;
        let made = (channel, answer.id());
        if answer.status == 200 && !self.made.contains(&made) {
            self.made.push(made);
        }
        Ok(answer)
    }

    async fn nonces(&mut self, seen: &mut Vec<Observation>) -> Result<(), CompareError> {
        let channel = self.target.channel;
        let (mine, others) = (self.nonce(1), self.nonce(2));
        let body = |content: &str| json!({"content": content, "nonce": mine, "enforce_nonce": true});
        let first = self.post(channel, body("one")).await?;
        let again = self.post(channel, body("two")).await?;
        let mut note = |question: &str, answer: String| {
            seen.push(Observation { question: question.into(), seen: answer });
        };
        note("the nonce in the reply", yes(first.json["nonce"] == json!(mine)));
        note("`X-RateLimit-Scope` with a 200", yes(first.has_scope));
        note("the same nonce again: the same message", yes(first.id() == again.id()));
        note("its content", again.json["content"].to_string());
        let path = format!("/channels/{channel}/messages/{}", first.id());
        let read = self.send("GET", path.clone(), None).await?;
        note("the nonce in what is read", yes(!read.json["nonce"].is_null()));
        let elsewhere = self.post(self.target.second_channel, body("three")).await?;
        note("the same nonce in another channel: the same message", yes(elsewhere.id() == first.id()));
        self.send("DELETE", path, None).await?;
        note(
            "the same nonce after its message was deleted",
            self.post(channel, body("four")).await?.summary(),
        );
        let loose = json!({"content": "x", "nonce": others});
        let loose = self.post(channel, loose).await?;
        let strict = json!({"content": "x", "nonce": others, "enforce_nonce": true});
        let strict = self.post(channel, strict).await?;
        note("a nonce that was not enforced, enforced: the same message", yes(loose.id() == strict.id()));
        Ok(())
    }

    async fn order(&mut self, seen: &mut Vec<Observation>) -> Result<(), CompareError> {
        let channel = self.target.channel;
        let mut ids = Vec::new();
        for n in 0..4 {
            ids.push(self.post(channel, json!({"content": n.to_string()})).await?.id());
        }
        for query in [format!("after={}&limit=2", ids[0]), format!("before={}&limit=2", ids[3])] {
            let page = self.send("GET", format!("/channels/{channel}/messages?{query}"), None).await?;
            let contents =
                page.json.as_array().into_iter().flatten().filter_map(|one| one["content"].as_str());
            let question = format!("of 0, 1, 2, 3: {}", query.split('=').next().unwrap_or_default());
            seen.push(Observation { question, seen: contents.collect::<Vec<_>>().join(", ") });
        }
        Ok(())
    }

    async fn clean_up(&mut self) -> Result<(), CompareError> {
        for (channel, id) in std::mem::take(&mut self.made) {
            // What is gone already is gone.
            self.send("DELETE", format!("/channels/{channel}/messages/{id}"), None).await?;
        }
        Ok(())
    }

    /// Sends, and waits as long as it is told to where there are too many requests.
    async fn send(
        &self,
        method: &'static str,
        path: String,
        body: Option<Value>,
    ) -> Result<Answer, CompareError> {
        for _ in 0..5 {
            let answer = self.send_once(method, &path, body.as_ref()).await;
            let answer =
                answer.map_err(|reason| CompareError::NoAnswer { method, path: path.clone(), reason })?;
            match answer.retry_after {
                Some(wait) => sleep(wait).await,
                None => return Ok(answer),
            }
        }
        Err(CompareError::Limited { path })
    }

    async fn send_once(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = hyper::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.target.base_url))
            .header("authorization", format!("Bot {}", self.target.token))
            .header("user-agent", "DiscordBot (https://example.org/discord-double, 1)")
            .header("content-type", "application/json")
            .body(Full::new(bytes))
            .map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let has_scope = response.headers().contains_key("x-ratelimit-scope");
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        let json: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        let retry_after = json["retry_after"].as_f64().filter(|_| status == 429);
        let retry_after = retry_after.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 600.0)));
        Ok(Answer { status, has_scope, retry_after, json })
    }
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.into()
}

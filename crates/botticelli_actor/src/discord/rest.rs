//! The client: one method for each thing that we do on Discord.
//!
//! Nothing is sent twice by itself, and no request waits for long: what to do next is the caller's decision, by the
//! error.

use super::answer::Reply;
use super::error::{Class, DiscordError};
use super::http::{Http, HttpSettings, SetupError};
use super::limits::{Ended, Lane, Limiter, NotYet, Owner};
use super::message::{
    LoadedFile, Message, MessageBody, NewThread, edit_body, forum_body, message_body, thread_body,
    webhook_body,
};
use super::routes::Route;
use super::snowflake::{Nonce, Snowflake};
use super::types::{Channel, Guild, Member, PostedMessage, Role, Threads, User};
use crate::causes::with_causes;
use botticelli_database::fail_points::{Point, pass};
use botticelli_server::clock::Clock;
use botticelli_server::post::fingerprint;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Which part of a channel's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The newest.
    Newest,
    /// Those after this id (or time: [`Snowflake::at`]).
    After(Snowflake),
    /// Those before it.
    Before(Snowflake),
}

/// What a request carries. Messages come from `message/wire.rs`, and so have `allowed_mentions`.
enum Body {
    None,
    Json(Value),
    Message(MessageBody, Vec<LoadedFile>),
}

/// Sends requests, within the limits.
#[derive(Clone)]
struct Sender {
    http: Http,
    limiter: Arc<Limiter>,
    owner: Owner,
    clock: Arc<dyn Clock>,
    authorization: Option<HeaderValue>,
    /// How far Discord's clock is ahead of ours, in milliseconds.
    skew: Arc<AtomicI64>,
}

impl Sender {
    /// Sends one request, once.
    async fn send(&self, route: &Route, query: &[(&str, String)], body: Body) -> Result<Reply, DiscordError> {
        let request = self.request(route, query, body)?;
        let lane = Lane { owner: self.owner, route: route.pattern(), major: route.major() };
        let mut permit = self.limiter.turn(lane).await.map_err(|not_yet| held(route, &not_yet))?;
        let sent_at = self.clock.now();
        permit.sent();
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let (ended, error) = failed(route, error);
                permit.end(&ended);
                return Err(error);
            }
        };
        if route.creates_message() {
            pass(Point::AnswerBegun);
        }
        let reply = Reply::read(response).await;
        self.compare_clocks(reply.date, sent_at);
        let refusal = reply.refusal(route);
        permit.end(&Ended::Answered(reply.seen(refusal.as_ref())));
        match refusal {
            None => Ok(reply),
            Some(answer) if answer.class == Class::Transient => Err(DiscordError::Unknown(answer.reason())),
            Some(answer) => Err(DiscordError::Answered(Box::new(answer))),
        }
    }

    fn request(
        &self,
        route: &Route,
        query: &[(&str, String)],
        body: Body,
    ) -> Result<RequestBuilder, DiscordError> {
        let impossible = |what: &str| DiscordError::Invalid(format!("{}: {what}", route.pattern()));
        let method = Method::from_bytes(route.method().as_bytes()).map_err(|_| impossible("no method"))?;
        let mut request = self.http.client.request(method, self.http.url(route.path(), query));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        Ok(match body {
            Body::None => request,
            Body::Json(json) => with_json(request, &json),
            Body::Message(body, files) if files.is_empty() => with_json(request, body.json()),
            Body::Message(body, files) => request.multipart(form(&body, files)),
        })
    }

    /// Discord's `Date` has whole seconds: on average it is half a second later.
    fn compare_clocks(&self, date: Option<DateTime<Utc>>, sent_at: DateTime<Utc>) {
        if let Some(date) = date {
            let ours = sent_at + (self.clock.now() - sent_at) / 2;
            let skew = date + TimeDelta::milliseconds(500) - ours;
            self.skew.store(skew.num_milliseconds(), Ordering::Relaxed);
        }
    }
}

fn with_json(request: RequestBuilder, json: &Value) -> RequestBuilder {
    request.header("content-type", "application/json").body(json.to_string())
}

/// `payload_json` and `files[n]`; the `id` of an attachment is its n.
fn form(body: &MessageBody, files: Vec<LoadedFile>) -> Form {
    let payload = Part::text(body.json().to_string());
    let payload =
        payload.mime_str("application/json").unwrap_or_else(|_| Part::text(body.json().to_string()));
    let form = Form::new().part("payload_json", payload);
    files.into_iter().enumerate().fold(form, |form, (index, file)| {
        form.part(format!("files[{index}]"), Part::bytes(file.bytes).file_name(file.name))
    })
}

fn held(route: &Route, not_yet: &NotYet) -> DiscordError {
    let route = route.pattern();
    match not_yet {
        NotYet::Later(wait) => DiscordError::NotSent {
            reason: format!("{route}: waits {:.1} s for a limit", wait.as_secs_f64()),
            retry_after: Some(*wait),
        },
        NotYet::Stopped(class) => {
            let why = if *class == Class::Spam {
                "Discord takes the bot for a spammer"
            } else {
                "Discord refused it"
            };
            DiscordError::Stopped(format!(
                "{route}: nothing is sent with this token any more: {why}; set another token, or start again"
            ))
        }
    }
}

/// Only what failed before there was a connection surely did not take effect. The URL may be a webhook's secret.
fn failed(route: &Route, error: reqwest::Error) -> (Ended, DiscordError) {
    let error = error.without_url();
    let text = format!("{}: {}", route.pattern(), with_causes(&error));
    if error.is_builder() {
        (Ended::NotSent, DiscordError::Invalid(text))
    } else if error.is_connect() {
        (Ended::NotSent, DiscordError::NotSent { reason: text, retry_after: None })
    } else {
        (Ended::NoAnswer, DiscordError::Unknown(text.into()))
    }
}

/// What is so already is as good as done.
fn done(result: Result<Reply, DiscordError>) -> Result<(), DiscordError> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.class() == Some(Class::AlreadyDone) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The same for what is done to a message: one that is gone did not have it done.
fn done_to_message(result: Result<Reply, DiscordError>) -> Result<(), DiscordError> {
    match result {
        Err(error) if error.is_of_gone_message() => Err(error),
        other => done(other),
    }
}

/// A bot on Discord.
#[derive(Clone)]
pub struct Rest {
    sender: Sender,
}

/// Without the token.
impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").field("owner", &self.sender.owner).finish_non_exhaustive()
    }
}

impl Rest {
    /// A client for the bot with this token. Nothing is sent yet. All clients of a process share one `limiter`.
    ///
    /// # Errors
    /// When the settings or the token can't be used.
    pub fn new(
        settings: &HttpSettings,
        token: &SecretString,
        limiter: Arc<Limiter>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let authorization = Some(authorization(token)?);
        let (http, owner) = (Http::new(settings)?, limiter.owner());
        Ok(Self { sender: Sender { http, limiter, owner, clock, authorization, skew: Arc::default() } })
    }

    /// What tells this bot's token apart, and does not hold it.
    pub fn egress_scope(&self) -> Option<String> {
        self.sender.authorization.as_ref()?.to_str().ok().map(fingerprint)
    }

    /// Whether this can be a token.
    ///
    /// # Errors
    /// [`SetupError::Token`].
    pub fn check_token(token: &SecretString) -> Result<(), SetupError> {
        authorization(token).map(drop)
    }

    /// How far Discord's clock is ahead of ours, within about a second. Zero until something was answered.
    pub fn skew(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.sender.skew.load(Ordering::Relaxed))
    }

    async fn read<T: for<'de> Deserialize<'de>>(
        &self,
        route: Route,
        query: &[(&str, String)],
    ) -> Result<T, DiscordError> {
        self.sender.send(&route, query, Body::None).await?.json(&route)
    }

    async fn write<T: for<'de> Deserialize<'de>>(&self, route: Route, body: Body) -> Result<T, DiscordError> {
        self.sender.send(&route, &[], body).await?.json(&route)
    }

    /// Who the bot is.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn current_user(&self) -> Result<User, DiscordError> {
        self.read(Route::current_user(), &[]).await
    }

    /// The servers that the bot is in: at most 200, those after `after`.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn current_guilds(&self, after: Option<Snowflake>) -> Result<Vec<Guild>, DiscordError> {
        let after = after.map(|after| ("after", after.to_string()));
        let query: Vec<_> = [("limit", "200".to_owned())].into_iter().chain(after).collect();
        self.read(Route::current_guilds(), &query).await
    }

    /// A server.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn guild(&self, guild: Snowflake) -> Result<Guild, DiscordError> {
        self.read(Route::guild(guild), &[]).await
    }

    /// A server's channels, without its threads.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn guild_channels(&self, guild: Snowflake) -> Result<Vec<Channel>, DiscordError> {
        self.read(Route::guild_channels(guild), &[]).await
    }

    /// A server's open threads.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn active_threads(&self, guild: Snowflake) -> Result<Threads, DiscordError> {
        self.read(Route::active_threads(guild), &[]).await
    }

    /// A channel's archived threads that all can see, newest first. Needs Read Message History.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn archived_threads(
        &self,
        channel: Snowflake,
        before: Option<DateTime<Utc>>,
    ) -> Result<Threads, DiscordError> {
        let rfc3339 = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let query: Vec<_> = before.map(|before| ("before", rfc3339(before))).into_iter().collect();
        self.read(Route::archived_threads(channel), &query).await
    }

    /// A server's roles.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn roles(&self, guild: Snowflake) -> Result<Vec<Role>, DiscordError> {
        self.read(Route::roles(guild), &[]).await
    }

    /// Somebody as part of a server.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn member(&self, guild: Snowflake, user: Snowflake) -> Result<Member, DiscordError> {
        self.read(Route::member(guild, user), &[]).await
    }

    /// A channel or thread. One that the bot can't see is a 403, which counts towards a ban.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn channel(&self, channel: Snowflake) -> Result<Channel, DiscordError> {
        self.read(Route::channel(channel), &[]).await
    }

    /// Messages of a channel, at most 100, newest first. Without Read Message History Discord answers with none: an
    /// empty answer proves nothing unless the permission is known.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn history(&self, channel: Snowflake, page: Page) -> Result<Vec<PostedMessage>, DiscordError> {
        let from = match page {
            Page::Newest => None,
            Page::After(id) => Some(("after", id.to_string())),
            Page::Before(id) => Some(("before", id.to_string())),
        };
        let query: Vec<_> = [("limit", "100".to_owned())].into_iter().chain(from).collect();
        self.read(Route::history(channel), &query).await
    }

    /// One message.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn message(
        &self,
        channel: Snowflake,
        message: Snowflake,
    ) -> Result<PostedMessage, DiscordError> {
        self.read(Route::message(channel, message), &[]).await
    }

    /// Posts a message. The same nonce within some minutes returns the message that was posted first, whatever it says.
    /// `files` are those of the message, loaded.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn create_message(
        &self,
        channel: Snowflake,
        message: &Message,
        files: Vec<LoadedFile>,
        nonce: &Nonce,
    ) -> Result<PostedMessage, DiscordError> {
        self.write(Route::create_message(channel), Body::Message(message_body(message, nonce), files)).await
    }

    /// Changes the text, embeds and buttons of a message of the bot's.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn edit_message(
        &self,
        channel: Snowflake,
        id: Snowflake,
        message: &Message,
    ) -> Result<PostedMessage, DiscordError> {
        let body = Body::Message(edit_body(message), Vec::new());
        self.write(Route::edit_message(channel, id), body).await
    }

    /// Deletes a message. One that is gone already is fine.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn delete_message(&self, channel: Snowflake, message: Snowflake) -> Result<(), DiscordError> {
        done(self.sender.send(&Route::delete_message(channel, message), &[], Body::None).await)
    }

    /// Publishes a message of an announcement channel. One that is published already is fine.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn crosspost(&self, channel: Snowflake, message: Snowflake) -> Result<(), DiscordError> {
        done_to_message(self.sender.send(&Route::crosspost(channel, message), &[], Body::None).await)
    }

    /// Starts a thread from a message and returns its id, which is the message's. One that is there already is fine.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn start_thread(
        &self,
        channel: Snowflake,
        message: Snowflake,
        thread: &NewThread,
    ) -> Result<Snowflake, DiscordError> {
        let route = Route::thread_from_message(channel, message);
        done_to_message(self.sender.send(&route, &[], Body::Json(thread_body(thread))).await)?;
        Ok(message)
    }

    /// Opens a post in a forum or media channel. Discord knows no nonce here: an unknown outcome has to be looked up.
    /// `tags` are ids: see [`Channel::tag_ids`]. The answer is the new thread, with its first message.
    ///
    /// # Errors
    /// See [`DiscordError`]; [`DiscordError::Invalid`] for a message without `forum`.
    pub async fn create_forum_post(
        &self,
        forum: Snowflake,
        message: &Message,
        files: Vec<LoadedFile>,
        tags: &[Snowflake],
    ) -> Result<Channel, DiscordError> {
        let Some(post) = &message.forum else {
            return Err(DiscordError::Invalid("forum: a post in a forum needs a name".into()));
        };
        let body = forum_body(message, post, tags);
        self.write(Route::forum_post(forum), Body::Message(body, files)).await
    }

    /// Opens an archived thread again.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn unarchive(&self, thread: Snowflake) -> Result<Channel, DiscordError> {
        self.write(Route::edit_channel(thread), Body::Json(json!({"archived": false}))).await
    }

    /// Ends a poll of the bot's.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn expire_poll(
        &self,
        channel: Snowflake,
        message: Snowflake,
    ) -> Result<PostedMessage, DiscordError> {
        self.write(Route::expire_poll(channel, message), Body::None).await
    }

    /// Pins a message.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn pin(&self, channel: Snowflake, message: Snowflake) -> Result<(), DiscordError> {
        done(self.sender.send(&Route::pin(channel, message), &[], Body::None).await)
    }

    /// Takes a pin away. A message that is gone is fine.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn unpin(&self, channel: Snowflake, message: Snowflake) -> Result<(), DiscordError> {
        done(self.sender.send(&Route::unpin(channel, message), &[], Body::None).await)
    }

    /// The pinned messages, at most 50, last pinned first.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn pins(&self, channel: Snowflake) -> Result<Vec<PostedMessage>, DiscordError> {
        #[derive(Deserialize)]
        struct Pins {
            items: Vec<Pin>,
        }
        #[derive(Deserialize)]
        struct Pin {
            message: PostedMessage,
        }
        let pins: Pins = self.read(Route::pins(channel), &[]).await?;
        Ok(pins.items.into_iter().map(|pin| pin.message).collect())
    }
}

/// A token is printable text without spaces. What it is never appears in an error.
fn authorization(token: &SecretString) -> Result<HeaderValue, SetupError> {
    let token = token.expose_secret().trim();
    let token = token.strip_prefix("Bot ").unwrap_or(token).trim_start();
    if matches!(token, "" | "Bot") {
        return Err(SetupError::Token("is empty"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SetupError::Token("has characters that no token has"));
    }
    let mut value = HeaderValue::from_str(&format!("Bot {token}"))
        .map_err(|_| SetupError::Token("has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A webhook: a place to post to without a bot. Its URL is its secret.
#[derive(Clone)]
pub struct WebhookRest {
    sender: Sender,
    id: Snowflake,
    token: SecretString,
    thread: Option<Snowflake>,
}

/// Without the secret.
impl fmt::Debug for WebhookRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookRest")
            .field("id", &self.id)
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

impl WebhookRest {
    /// A client for the webhook with this URL, as Discord's settings show it; `?thread_id=…` names a thread of its
    /// channel. Nothing is sent yet. Requests go to `settings.api_base_url`, whatever host the URL has.
    ///
    /// # Errors
    /// When the settings or the URL can't be used.
    pub fn new(
        settings: &HttpSettings,
        url: &SecretString,
        limiter: Arc<Limiter>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let (id, token, thread) = webhook(url.expose_secret())?;
        let http = Http::new(settings)?;
        let (owner, authorization) = (Owner::NOBODY, None);
        let sender = Sender { http, limiter, owner, clock, authorization, skew: Arc::default() };
        Ok(Self { sender, id, token, thread })
    }

    /// Whether this can be a webhook's URL.
    ///
    /// # Errors
    /// [`SetupError::Webhook`].
    pub fn check_url(url: &SecretString) -> Result<(), SetupError> {
        webhook(url.expose_secret()).map(drop)
    }

    /// The webhook's id, which is no secret.
    pub fn id(&self) -> Snowflake {
        self.id
    }

    /// Posts a message, and waits until Discord has stored it. Discord knows no nonce here: after
    /// [`DiscordError::Unknown`] nothing can tell whether it is there.
    ///
    /// # Errors
    /// See [`DiscordError`].
    pub async fn execute(
        &self,
        message: &Message,
        files: Vec<LoadedFile>,
    ) -> Result<PostedMessage, DiscordError> {
        let route = Route::execute_webhook(self.id, self.token.expose_secret());
        let thread = self.thread.map(|thread| ("thread_id", thread.to_string()));
        let buttons = (!message.links.is_empty()).then(|| ("with_components", "true".to_owned()));
        let query: Vec<_> = [("wait", "true".to_owned())].into_iter().chain(thread).chain(buttons).collect();
        let body = Body::Message(webhook_body(message), files);
        self.sender.send(&route, &query, body).await?.json(&route)
    }
}

/// `https://discord.com/api/webhooks/ID/TOKEN`, with or without a version and `thread_id`.
fn webhook(url: &str) -> Result<(Snowflake, SecretString, Option<Snowflake>), SetupError> {
    let wrong = SetupError::Webhook;
    let url = reqwest::Url::parse(url.trim()).map_err(|_| wrong("is no URL"))?;
    let host = url.host_str().unwrap_or_default();
    let is_discord = ["discord.com", "discordapp.com"]
        .iter()
        .any(|name| host == *name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')));
    if url.scheme() != "https" || !is_discord {
        return Err(wrong("does not begin with https://discord.com/"));
    }
    let parts: Vec<&str> = url.path().trim_matches('/').split('/').collect();
    let (id, token) = match parts.as_slice() {
        ["api", "webhooks", id, token] => (id, token),
        ["api", version, "webhooks", id, token] if version.starts_with('v') => (id, token),
        _ => return Err(wrong("is not of the form https://discord.com/api/webhooks/ID/TOKEN")),
    };
    let id = id.parse().map_err(|_| wrong("has no id where it should be"))?;
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err(wrong("has no token where it should be"));
    }
    let thread = url.query_pairs().find(|(name, _)| name == "thread_id");
    let thread = thread.map(|(_, id)| id.parse().map_err(|_| wrong("has a thread_id that is no id")));
    Ok((id, SecretString::from((*token).to_owned()), thread.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_checked_and_never_shown() {
        let check = |token: &str| authorization(&SecretString::from(token.to_owned()));
        let value = check(" Bot abc.def-ghi \n").expect("a token");
        assert_eq!(value.to_str().expect("text"), "Bot abc.def-ghi");
        assert_eq!(format!("{value:?}"), "Sensitive");
        for wrong in ["", "Bot ", "abc def", "abc\u{e4}", "a\0b"] {
            assert!(matches!(check(wrong), Err(SetupError::Token(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_webhooks_url_is_checked_and_never_shown() {
        let token = |url: &str| {
            webhook(url)
                .map(|(id, token, thread)| (id.0, token.expose_secret().to_owned(), thread.map(|id| id.0)))
        };
        let right = Ok((12, "s3-cr_et".to_owned(), None));
        assert_eq!(token("https://discord.com/api/webhooks/12/s3-cr_et"), right);
        assert_eq!(token(" https://canary.discord.com/api/v10/webhooks/12/s3-cr_et/\n"), right);
        assert_eq!(
            token("https://discordapp.com/api/webhooks/12/s3-cr_et?thread_id=7"),
            Ok((12, "s3-cr_et".to_owned(), Some(7)))
        );
        for wrong in [
            "",
            "12/s3-cr_et",
            "http://discord.com/api/webhooks/12/s3-cr_et",
            "https://evildiscord.com/api/webhooks/12/s3-cr_et",
            "https://discord.com/api/webhooks/12",
            "https://discord.com/api/webhooks/12/s3-cr_et/slack",
            "https://discord.com/api/webhooks/me/s3-cr_et",
            "https://discord.com/api/webhooks/12/s3%2Fcr_et",
            "https://discord.com/api/webhooks/12/s3-cr_et?thread_id=x",
        ] {
            let error = token(wrong).expect_err(wrong);
            assert!(!error.to_string().contains("s3"), "{error}");
        }
    }
}

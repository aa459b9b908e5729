//! Discord as platforms for the deliverer: `discord` (a bot, which can be asked what it posted) and `discord_webhook`.

mod follow_up;
mod forum;

use super::error::{Class, DiscordError};
use super::message::{FileLimits, LoadedFile, Message, Place, load};
use super::permissions::{Permissions, Who};
use super::rest::{Page, Rest, WebhookRest};
use super::snowflake::{Nonce, Snowflake};
use super::types::{Channel, PostedMessage};
use async_trait::async_trait;
use botticelli_server::clock::Clock;
use botticelli_server::post::{
    Capabilities, ContentPoster, Destination, Doubt, IdempotencyKey, LookUp, PostContent, PostError, Receipt,
    TextLimit, TextUnit,
};
use chrono::{DateTime, TimeDelta, Utc};
use follow_up::ClosedSteps;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// What Discord takes in one message.
const TEXT: TextLimit = TextLimit { max: Some(2000), unit: TextUnit::Scalars };
/// The nonces that are remembered, to say `recovered` of a message that this process posted itself.
const REMEMBERED: usize = 1024;
/// A message that is older than its request by more than this was there before: `Date` has whole seconds.
const OLDER: TimeDelta = TimeDelta::milliseconds(1500);
/// Clocks and requests on their way are allowed for so much when the history is searched.
const ALLOWANCE: TimeDelta = TimeDelta::seconds(60);
/// The last request with its nonce may leave when the window ends, and be on its way for so long.
pub const LONGEST_REQUEST: Duration = Duration::from_secs(30);
/// At most so many pages of a hundred messages are searched.
const MOST_PAGES: usize = 20;

/// How a bot's posts are kept from appearing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BotSettings {
    /// For so long Discord is trusted to recognise a nonce. It does not say how long it does: "a few minutes".
    pub nonce_window: Duration,
    /// After the window and the last request, for so long what was sent may not be in the history yet.
    pub history_grace: Duration,
    /// How large files may be.
    pub files: FileLimits,
}

impl Default for BotSettings {
    fn default() -> Self {
        Self {
            nonce_window: Duration::from_secs(120),
            history_grace: Duration::from_secs(30),
            files: FileLimits::default(),
        }
    }
}

/// Posts as a bot. The target is the id of a channel or thread.
pub struct Bot {
    rest: Rest,
    clock: Arc<dyn Clock>,
    settings: BotSettings,
    me: OnceCell<Snowflake>,
    /// In which server a channel is: for links.
    guilds: Mutex<HashMap<Snowflake, Snowflake>>,
    sent: Mutex<VecDeque<Nonce>>,
    closed_steps: ClosedSteps,
}

impl Bot {
    /// The platform `discord`.
    pub fn new(rest: Rest, clock: Arc<dyn Clock>, settings: BotSettings) -> Self {
        let (me, guilds, sent, closed_steps) = Default::default();
        Self { rest, clock, settings, me, guilds, sent, closed_steps }
    }

    /// In which server a channel is, as the preflight found out: receipts then have a link.
    pub fn learn(&self, channel: Snowflake, guild: Snowflake) {
        locked(&self.guilds).insert(channel, guild);
    }

    /// Remembers the nonce; whether it was known.
    fn remember(&self, nonce: &Nonce) -> bool {
        let mut sent = locked(&self.sent);
        if sent.contains(nonce) {
            return true;
        }
        if sent.len() == REMEMBERED {
            sent.pop_front();
        }
        sent.push_back(nonce.clone());
        false
    }

    fn receipt(&self, channel: Snowflake, posted: &PostedMessage, recovered: bool) -> Receipt {
        let guild = locked(&self.guilds).get(&channel).copied();
        let link = guild.map(|guild| format!("https://discord.com/channels/{guild}/{channel}/{}", posted.id));
        receipt(posted.id, link, recovered)
    }

    async fn me(&self) -> Result<Snowflake, DiscordError> {
        let ask = || async { Ok(self.rest.current_user().await?.id) };
        self.me.get_or_try_init(ask).await.copied()
    }

    /// Whether an empty history means that nothing is there: without the permission Discord answers with nothing.
    async fn can_read_history(&self, channel: Snowflake) -> Result<bool, DiscordError> {
        let channel = self.rest.channel(channel).await?;
        let Some(guild) = channel.guild_id else { return Ok(true) };
        self.learn(channel.id, guild);
        let parent = match channel.parent_id.filter(|_| channel.kind.is_thread()) {
            Some(parent) => Some(self.rest.channel(parent).await?),
            None => None,
        };
        let is_thread = parent.is_some();
        let place: &Channel = parent.as_ref().unwrap_or(&channel);
        let user = self.me().await?;
        let (info, roles) = (self.rest.guild(guild).await?, self.rest.roles(guild).await?);
        let member = self.rest.member(guild, user).await?;
        let now = self.clock.now();
        let who = Who { guild, owner: info.owner_id, roles: &roles, user, member: &member, now };
        let readable = Permissions::VIEW_CHANNEL | Permissions::READ_MESSAGE_HISTORY;
        Ok(who.in_channel(place, is_thread).has(readable))
    }

    /// Our own messages that look like `message`, from `since` on, but those that are taken. `None`: there is too much
    /// to search.
    async fn candidates(
        &self,
        channel: Snowflake,
        message: &Message,
        (since, doubt): (DateTime<Utc>, &Doubt),
    ) -> Result<Option<Vec<PostedMessage>>, DiscordError> {
        let me = self.me().await?;
        let mut after = Snowflake::at(since);
        let mut found = Vec::new();
        for _ in 0..MOST_PAGES {
            let page = self.rest.history(channel, Page::After(after)).await?;
            let is_last = page.len() < 100;
            after = page.iter().map(|posted| posted.id).max().unwrap_or(after);
            let is_ours = |posted: &PostedMessage| {
                posted.author.id == me && posted.webhook_id.is_none() && !is_taken(doubt, posted.id)
            };
            found.extend(page.into_iter().filter(|posted| is_ours(posted) && posted.is_like(message)));
            if is_last {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn find(
        &self,
        channel: Snowflake,
        message: &Message,
        (since, doubt): (DateTime<Utc>, &Doubt),
    ) -> Result<LookUp<Receipt>, DiscordError> {
        let unknowable = |reason: String| Ok(LookUp::Unknowable { reason });
        if !self.can_read_history(channel).await? {
            return unknowable("the bot may not read the channel's history (Read Message History)".into());
        }
        let rivals: Vec<Message> = rivals(doubt).collect();
        match self.candidates(channel, message, (since, doubt)).await?.as_deref() {
            None => unknowable("too much was written in the channel since".into()),
            Some([]) => Ok(LookUp::Absent),
            Some([only]) if rivals.iter().any(|rival| only.is_like(rival)) => {
                unknowable(format!("message {} is there, and it may be {RIVAL}", only.id))
            }
            Some([only]) => Ok(LookUp::Found(self.receipt(channel, only, true))),
            Some(several) => {
                let ids: Vec<String> = several.iter().map(|posted| posted.id.to_string()).collect();
                unknowable(format!("several messages of the bot look like it: {}", ids.join(", ")))
            }
        }
    }
}

#[async_trait]
impl ContentPoster for Bot {
    type Content = PostContent;
    type Destination = Destination;
    type Posted = Receipt;

    /// Discord knows nonces of messages alone: not of posts in a forum.
    fn capabilities(&self, content: &PostContent, _: &Destination) -> Capabilities {
        let is_forum_post = message(content).is_ok_and(|message| message.forum.is_some());
        let idempotent_for = (!is_forum_post).then_some(self.settings.nonce_window);
        Capabilities { idempotent_for, look_up: true, text: TEXT }
    }

    fn validate(&self, content: &PostContent, destination: &Destination) -> Result<(), PostError> {
        channel(destination)?;
        valid(&message(content)?, Place::Channel)
    }

    async fn post(
        &self,
        content: &PostContent,
        destination: &Destination,
        key: &IdempotencyKey,
    ) -> Result<Receipt, PostError> {
        self.validate(content, destination)?;
        let (channel, message, nonce) = (channel(destination)?, message(content)?, Nonce::of(key));
        let files = loaded(&message, self.settings.files).await?;
        if let Some(forum) = &message.forum {
            return self.open_forum_post(channel, &message, forum, files).await;
        }
        let sent_at = self.clock.now();
        let was_known = self.remember(&nonce);
        let posted = self.rest.create_message(channel, &message, files, &nonce).await?;
        let is_older = posted.id.time() + OLDER < sent_at + self.rest.skew();
        let receipt = self.receipt(channel, &posted, was_known || is_older);
        Ok(Receipt { to_follow: follow_up::steps(&message), ..receipt })
    }

    async fn follow_up(
        &self,
        content: &PostContent,
        destination: &Destination,
        posted: &Receipt,
        step: &str,
    ) -> Result<(), PostError> {
        let (channel, message) = (channel(destination)?, message(content)?);
        let posted = posted.message_id.parse().map_err(|error| {
            PostError::Refused(format!("{:?} is no id of a message: {error}", posted.message_id).into())
        })?;
        self.do_step(channel, &message, posted, step).await
    }

    fn egress_scope(&self) -> Option<String> {
        self.rest.egress_scope()
    }

    async fn look_up(
        &self,
        content: &PostContent,
        destination: &Destination,
        _: &IdempotencyKey,
        doubt: &Doubt,
    ) -> Result<LookUp<Receipt>, PostError> {
        let (channel, message) = (channel(destination)?, message(content)?);
        let settled = self.settings.nonce_window + LONGEST_REQUEST + self.settings.history_grace;
        let age = (self.clock.now() - doubt.first_sent).to_std().unwrap_or_default();
        if let Some(wait) = settled.checked_sub(age).filter(|wait| !wait.is_zero()) {
            let reason = "it is too early to look for it in the history".into();
            return Err(PostError::NotSent { reason, retry_after: Some(wait) });
        }
        let since = doubt.first_sent + self.rest.skew() - ALLOWANCE;
        let found = match &message.forum {
            None => self.find(channel, &message, (since, doubt)).await,
            Some(forum) => self.find_forum_post(channel, &message, forum, (since, doubt)).await,
        };
        match found {
            Ok(LookUp::Found(receipt)) => {
                Ok(LookUp::Found(Receipt { to_follow: follow_up::steps(&message), ..receipt }))
            }
            Ok(answer @ (LookUp::Absent | LookUp::Unknowable { .. })) => Ok(answer),
            Err(error) if error.class() == Some(Class::Destination) => {
                Ok(LookUp::Unknowable { reason: error.to_string() })
            }
            Err(error) => Err(not_asked(&error)),
        }
    }
}

/// Whose message one may be that looks like another post, too.
const RIVAL: &str = "that of another post which says the same, and of which nobody knows either";

fn is_taken(doubt: &Doubt, id: Snowflake) -> bool {
    doubt.taken.contains(&id.to_string())
}

fn rivals(doubt: &Doubt) -> impl Iterator<Item = Message> {
    doubt.rivals.iter().filter_map(|content| message(content).ok())
}

fn receipt(message: Snowflake, link: Option<String>, recovered: bool) -> Receipt {
    let (message_id, posted_at) = (message.to_string(), message.time());
    Receipt { message_id, posted_at, link, recovered, to_follow: Vec::new(), missing: Vec::new() }
}

/// A question that got no answer changes nothing: it can be asked again.
fn not_asked(error: &DiscordError) -> PostError {
    let retry_after = match error {
        DiscordError::NotSent { retry_after, .. } => *retry_after,
        DiscordError::Answered(answer) => answer.retry_after,
        DiscordError::Stopped(_) | DiscordError::Invalid(_) | DiscordError::Unknown(_) => None,
    };
    PostError::NotSent { reason: error.reason(), retry_after }
}

/// Posts through webhooks. The target is the name that a webhook has in the settings, because its URL is a secret.
pub struct Webhooks {
    by_name: BTreeMap<String, WebhookRest>,
    files: FileLimits,
}

impl Webhooks {
    /// The platform `discord_webhook`.
    pub fn new(by_name: BTreeMap<String, WebhookRest>, files: FileLimits) -> Self {
        Self { by_name, files }
    }

    fn webhook(&self, destination: &Destination) -> Result<&WebhookRest, PostError> {
        self.by_name.get(&destination.target).ok_or_else(|| {
            let known = self.by_name.keys().map(String::as_str);
            let (message, hint) = crate::names::unknown("webhook", &destination.target, known);
            PostError::Refused(format!("{message}: {hint}").into())
        })
    }
}

#[async_trait]
impl ContentPoster for Webhooks {
    type Content = PostContent;
    type Destination = Destination;
    type Posted = Receipt;

    fn capabilities(&self, _: &PostContent, _: &Destination) -> Capabilities {
        Capabilities { idempotent_for: None, look_up: false, text: TEXT }
    }

    fn validate(&self, content: &PostContent, destination: &Destination) -> Result<(), PostError> {
        self.webhook(destination)?;
        valid(&message(content)?, Place::Webhook)
    }

    async fn post(
        &self,
        content: &PostContent,
        destination: &Destination,
        _: &IdempotencyKey,
    ) -> Result<Receipt, PostError> {
        self.validate(content, destination)?;
        let (webhook, message) = (self.webhook(destination)?, message(content)?);
        let files = loaded(&message, self.files).await?;
        let posted = webhook.execute(&message, files).await?;
        Ok(receipt(posted.id, None, false))
    }

    async fn look_up(
        &self,
        _: &PostContent,
        _: &Destination,
        _: &IdempotencyKey,
        _: &Doubt,
    ) -> Result<LookUp<Receipt>, PostError> {
        let reason = "a webhook can't be asked what it posted".into();
        Ok(LookUp::Unknowable { reason })
    }
}

fn message(content: &PostContent) -> Result<Message, PostError> {
    Message::try_from(content).map_err(|problem| PostError::Refused(problem.to_string().into()))
}

fn channel(destination: &Destination) -> Result<Snowflake, PostError> {
    destination
        .target
        .parse()
        .map_err(|error| PostError::Refused(format!("the channel's id: {error}").into()))
}

fn valid(message: &Message, place: Place) -> Result<(), PostError> {
    message.validate(place).map_err(|problems| PostError::Refused(problems.to_string().into()))
}

async fn loaded(message: &Message, limits: FileLimits) -> Result<Vec<LoadedFile>, PostError> {
    if message.files.is_empty() {
        return Ok(Vec::new());
    }
    let files = message.files.clone();
    let loading = tokio::task::spawn_blocking(move || load(&files, limits));
    let not_sent = |reason: String| PostError::NotSent { reason: reason.into(), retry_after: None };
    loading
        .await
        .map_err(|panic| not_sent(format!("reading files broke off: {panic}")))?
        .map_err(|problem| PostError::Refused(problem.to_string().into()))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Posts in a forum: Discord knows no nonce for them, so what may have been opened is looked for among the threads.

use super::{Bot, MOST_PAGES, RIVAL, is_taken, not_asked, receipt, rivals};
use crate::discord::error::DiscordError;
use crate::discord::message::{ForumPost, LoadedFile, Message};
use crate::discord::snowflake::Snowflake;
use crate::discord::types::{Channel, normal};
use botticelli_server::post::{Doubt, LookUp, PostError, Receipt};
use chrono::{DateTime, Utc};

impl Bot {
    pub(super) async fn open_forum_post(
        &self,
        forum: Snowflake,
        message: &Message,
        post: &ForumPost,
        files: Vec<LoadedFile>,
    ) -> Result<Receipt, PostError> {
        let place = self.rest.channel(forum).await.map_err(|error| match error {
            // Nothing was to take effect.
            DiscordError::Unknown(_) => not_asked(&error),
            other => other.into(),
        })?;
        let tags = tags(&place, post).map_err(|problem| PostError::Refused(problem.into()))?;
        let thread = self.rest.create_forum_post(forum, message, files, &tags).await?;
        Ok(self.thread_receipt(&place, &thread, false))
    }

    /// The first message of a post has the id of its thread.
    fn thread_receipt(&self, forum: &Channel, thread: &Channel, recovered: bool) -> Receipt {
        let link = |guild| format!("https://discord.com/channels/{guild}/{}/{0}", thread.id);
        receipt(thread.id, thread.guild_id.or(forum.guild_id).map(link), recovered)
    }

    /// Our own posts of that title, opened since, whose first message looks like this one.
    pub(super) async fn find_forum_post(
        &self,
        forum: Snowflake,
        message: &Message,
        post: &ForumPost,
        (since, doubt): (DateTime<Utc>, &Doubt),
    ) -> Result<LookUp<Receipt>, DiscordError> {
        let unknowable = |reason: String| Ok(LookUp::Unknowable { reason });
        if !self.can_read_history(forum).await? {
            return unknowable("the bot may not read the forum's history (Read Message History)".into());
        }
        let place = self.rest.channel(forum).await?;
        let Some(threads) = self.threads_since(&place, since).await? else {
            return unknowable("too many threads were opened in the forum since".into());
        };
        let me = self.me().await?;
        let mut found = Vec::new();
        for thread in threads {
            let is_ours =
                thread.owner_id == Some(me) && thread.id.time() >= since && !is_taken(doubt, thread.id);
            let title = thread.name.as_deref().unwrap_or_default();
            if is_ours && normal(title) == normal(&post.name) && self.begins_like(&thread, message).await? {
                found.push(thread);
            }
        }
        match found.as_slice() {
            [] => Ok(LookUp::Absent),
            [only] if rivals(doubt).any(|rival| is_same(&rival, message)) => {
                unknowable(format!("post {} is there, and it may be {RIVAL}", only.id))
            }
            [only] => Ok(LookUp::Found(self.thread_receipt(&place, only, true))),
            several => {
                let ids: Vec<String> = several.iter().map(|thread| thread.id.to_string()).collect();
                unknowable(format!("several posts of the bot look like it: {}", ids.join(", ")))
            }
        }
    }

    /// A first message that was deleted leaves its title to tell.
    async fn begins_like(&self, thread: &Channel, message: &Message) -> Result<bool, DiscordError> {
        match self.rest.message(thread.id, thread.id).await {
            Ok(posted) => Ok(posted.is_like(message)),
            Err(error) if error.is_of_gone_message() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The forum's threads, open and archived, that may have been opened since then. `None`: there are too many.
    async fn threads_since(
        &self,
        forum: &Channel,
        since: DateTime<Utc>,
    ) -> Result<Option<Vec<Channel>>, DiscordError> {
        let mut threads = match forum.guild_id {
            Some(guild) => self.rest.active_threads(guild).await?.threads,
            None => Vec::new(),
        };
        threads.retain(|thread| thread.parent_id == Some(forum.id));
        let mut before = None;
        for _ in 0..MOST_PAGES {
            let page = self.rest.archived_threads(forum.id, before).await?;
            let archived =
                |thread: &Channel| thread.thread_metadata.and_then(|metadata| metadata.archive_timestamp);
            before = page.threads.last().and_then(archived);
            threads.extend(page.threads);
            // Nothing is archived before it is opened.
            if !page.has_more || before.is_none_or(|archived| archived < since) {
                return Ok(Some(threads));
            }
        }
        Ok(None)
    }
}

/// Whether nobody could tell the posts apart that become of them.
fn is_same(one: &Message, other: &Message) -> bool {
    let title = |message: &Message| message.forum.as_ref().map(|post| normal(&post.name));
    title(one) == title(other) && normal(&one.content) == normal(&other.content)
}

/// The tags' ids. Of a channel that is no forum the same request would make a thread that nobody sees.
fn tags(forum: &Channel, post: &ForumPost) -> Result<Vec<Snowflake>, String> {
    if !forum.kind.is_forum() {
        return Err("forum is set, but the channel is neither a forum nor a media channel".into());
    }
    if forum.requires_tag() && post.tags.is_empty() {
        return Err("forum.tags is empty, and the forum wants a tag on each post".into());
    }
    forum.tag_ids(&post.tags).map_err(|error| format!("forum.tags: {error}"))
}

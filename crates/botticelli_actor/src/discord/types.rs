//! What Discord answers, as far as we read it. Fields that we don't know are passed over.

use super::message::Message;
use super::permissions::Permissions;
use super::snowflake::Snowflake;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

/// A user or bot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct User {
    /// Its id.
    pub id: Snowflake,
    /// Its name.
    #[serde(default)]
    pub username: String,
}

/// A message as Discord has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PostedMessage {
    /// Its id.
    pub id: Snowflake,
    /// Where it is.
    pub channel_id: Snowflake,
    /// Who wrote it.
    pub author: User,
    /// Through which webhook.
    #[serde(default)]
    pub webhook_id: Option<Snowflake>,
    /// Its text: not always to the letter what was sent.
    #[serde(default)]
    pub content: String,
    /// When it was posted.
    pub timestamp: DateTime<Utc>,
    /// Its embeds, those that Discord made of links too.
    #[serde(default)]
    pub embeds: Vec<Value>,
    /// Its files.
    #[serde(default)]
    pub attachments: Vec<PostedFile>,
    /// Its poll.
    #[serde(default)]
    pub poll: Option<Value>,
    /// Bits: 1 << 2 means that embeds are not shown.
    #[serde(default)]
    pub flags: u64,
}

/// A file of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PostedFile {
    /// Its name.
    pub filename: String,
}

impl PostedMessage {
    /// Whether it can be what became of `message`. Discord strips and trims what it stores, adds embeds of its own, and
    /// counts files that an embed shows as parts of the embed; so this looks at what stays.
    pub fn is_like(&self, message: &Message) -> bool {
        let question = message.poll.as_ref().map(|poll| normal(&poll.question));
        let posted_question =
            self.poll.as_ref().map(|poll| normal(poll["question"]["text"].as_str().unwrap_or_default()));
        let shows_embeds = self.flags & (1 << 2) == 0;
        normal(&self.content) == normal(&message.content)
            && question == posted_question
            && self.has_files_of(message)
            && (!shows_embeds
                || message.embeds.iter().all(|sent| self.embeds.iter().any(|embed| is_like(embed, sent))))
    }

    fn has_files_of(&self, message: &Message) -> bool {
        let posted: Vec<String> = self.attachments.iter().map(|file| plain_name(&file.filename)).collect();
        let pictures =
            message.embeds.iter().flat_map(|embed| [embed.image.as_ref(), embed.thumbnail.as_ref()]);
        let shown: Vec<String> = pictures.flatten().map(|picture| plain_name(&picture.url)).collect();
        let sent: Vec<String> = message.files.iter().map(|file| plain_name(&file.shown_name())).collect();
        let is_shown = |name: &String| shown.contains(&format!("attachment{name}"));
        posted.iter().all(|name| sent.contains(name))
            && sent.iter().all(|name| posted.contains(name) || is_shown(name))
    }
}

fn is_like(embed: &Value, sent: &super::message::Embed) -> bool {
    let same = |name: &str, text: Option<&String>| {
        text.is_none_or(|text| normal(text) == normal(embed[name].as_str().unwrap_or_default()))
    };
    same("title", sent.title.as_ref()) && same("description", sent.description.as_ref())
}

/// Text without what Discord may strip: white space and marks that nobody sees.
pub(super) fn normal(text: &str) -> String {
    let is_visible = |character: &char| {
        !(character.is_whitespace()
            || character.is_control()
            || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'))
    };
    text.chars().filter(is_visible).collect()
}

/// Discord replaces characters in file names.
fn plain_name(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// A channel, thread, forum or category.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Channel {
    /// Its id.
    pub id: Snowflake,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ChannelKind,
    /// The Discord server that it is in.
    #[serde(default)]
    pub guild_id: Option<Snowflake>,
    /// The category of a channel, the channel of a thread.
    #[serde(default)]
    pub parent_id: Option<Snowflake>,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Who may do more or less here than elsewhere.
    #[serde(default)]
    pub permission_overwrites: Vec<Overwrite>,
    /// A forum's tags.
    #[serde(default)]
    pub available_tags: Vec<ForumTag>,
    /// Bits; see [`Channel::requires_tag`].
    #[serde(default)]
    pub flags: u64,
    /// Who opened the thread.
    #[serde(default)]
    pub owner_id: Option<Snowflake>,
    /// Whether the thread is open.
    #[serde(default)]
    pub thread_metadata: Option<ThreadMetadata>,
    /// The first message, in the answer to a new forum post.
    #[serde(default)]
    pub message: Option<PostedMessage>,
}

impl Channel {
    /// Whether a post in this forum needs a tag.
    pub fn requires_tag(&self) -> bool {
        self.flags & (1 << 4) != 0
    }

    /// The ids of the forum's tags that are given by name or id.
    ///
    /// # Errors
    /// The first that the forum does not have, and those that it has.
    pub fn tag_ids(&self, tags: &[String]) -> Result<Vec<Snowflake>, String> {
        let id = |wanted: &String| {
            let found = self.available_tags.iter().find(|tag| {
                tag.id.to_string() == *wanted || tag.name.trim().eq_ignore_ascii_case(wanted.trim())
            });
            found.map(|tag| tag.id).ok_or_else(|| {
                let names = self.available_tags.iter().map(|tag| tag.name.as_str());
                let (message, hint) = crate::names::unknown("tag", wanted, names);
                format!("{message}: {hint}")
            })
        };
        tags.iter().map(id).collect()
    }
}

/// The type of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "u8")]
pub enum ChannelKind {
    /// A text channel of a server.
    Text,
    /// A direct message.
    Direct,
    /// A voice channel, which has a text chat.
    Voice,
    /// A category: holds channels, takes no messages.
    Category,
    /// An announcement channel.
    Announcement,
    /// A thread of an announcement channel.
    AnnouncementThread,
    /// A thread that all can see.
    PublicThread,
    /// A thread for those who are invited.
    PrivateThread,
    /// A stage, which has a text chat.
    Stage,
    /// A forum.
    Forum,
    /// A forum of pictures.
    Media,
    /// Something else, by Discord's number.
    Other(u8),
}

impl From<u8> for ChannelKind {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Text,
            1 => Self::Direct,
            2 => Self::Voice,
            4 => Self::Category,
            5 => Self::Announcement,
            10 => Self::AnnouncementThread,
            11 => Self::PublicThread,
            12 => Self::PrivateThread,
            13 => Self::Stage,
            15 => Self::Forum,
            16 => Self::Media,
            other => Self::Other(other),
        }
    }
}

impl ChannelKind {
    /// Whether it is a thread.
    pub fn is_thread(self) -> bool {
        matches!(self, Self::AnnouncementThread | Self::PublicThread | Self::PrivateThread)
    }

    /// Whether it takes posts with a title rather than messages.
    pub fn is_forum(self) -> bool {
        matches!(self, Self::Forum | Self::Media)
    }

    /// Whether messages can be sent to it.
    pub fn takes_messages(self) -> bool {
        !self.is_forum() && !matches!(self, Self::Category | Self::Other(_))
    }
}

/// A tag of a forum.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ForumTag {
    /// Its id.
    pub id: Snowflake,
    /// Its name.
    pub name: String,
    /// Only moderators may set it.
    #[serde(default)]
    pub moderated: bool,
}

/// Whether a thread is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ThreadMetadata {
    /// A message opens it again.
    #[serde(default)]
    pub archived: bool,
    /// Only moderators can write.
    #[serde(default)]
    pub locked: bool,
    /// When it was last archived or opened again.
    #[serde(default)]
    pub archive_timestamp: Option<DateTime<Utc>>,
}

/// Who may do more or less in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Overwrite {
    /// A role's or a member's id.
    pub id: Snowflake,
    /// 0: a role. 1: a member.
    #[serde(rename = "type")]
    pub kind: u8,
    /// More.
    pub allow: Permissions,
    /// Less.
    pub deny: Permissions,
}

/// A Discord server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Guild {
    /// Its id.
    pub id: Snowflake,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Who may do everything; not in lists.
    #[serde(default)]
    pub owner_id: Option<Snowflake>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Role {
    /// Its id. The role of everyone has the id of the server.
    pub id: Snowflake,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// What it allows.
    pub permissions: Permissions,
    /// Anyone may mention it.
    #[serde(default)]
    pub mentionable: bool,
}

/// Somebody as part of a server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// The roles besides everyone's.
    #[serde(default)]
    pub roles: Vec<Snowflake>,
    /// Until when they may only read.
    #[serde(default)]
    pub communication_disabled_until: Option<DateTime<Utc>>,
}

/// A list of threads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Threads {
    /// The threads.
    pub threads: Vec<Channel>,
    /// There are more.
    #[serde(default)]
    pub has_more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discord::message::{Embed, EmbedPicture, File, FileData};
    use serde_json::json;

    fn posted(change: &Value) -> PostedMessage {
        let mut message = json!({
            "id": "2", "channel_id": "1", "author": {"id": "3"}, "content": "Hi there",
            "timestamp": "2030-01-01T00:00:00.000000+00:00",
        });
        for (field, value) in change.as_object().expect("fields") {
            message[field] = value.clone();
        }
        serde_json::from_value(message).expect("a message")
    }

    #[test]
    fn what_discord_changed_is_still_like_what_was_sent() {
        let text = Message::text("  Hi\u{200b} there\n");
        assert!(posted(&json!({})).is_like(&text));
        assert!(posted(&json!({"embeds": [{"url": "https://a.b", "title": "a preview"}]})).is_like(&text));
        let embed = Embed {
            title: Some("T ".into()),
            image: Some(EmbedPicture { url: "attachment://my pic.png".into() }),
            ..Embed::default()
        };
        let picture = File {
            name: "my pic.png".into(),
            data: FileData::Text(String::new()),
            description: None,
            spoiler: false,
        };
        let message = Message { embeds: vec![embed], files: vec![picture], ..Message::text("Hi there") };
        let (embeds, files) = (json!([{"title": "T"}]), json!([{"filename": "my_pic.png"}]));
        assert!(posted(&json!({"embeds": embeds, "attachments": files})).is_like(&message));
        assert!(posted(&json!({"embeds": embeds})).is_like(&message), "the embed shows the file");
        assert!(posted(&json!({"flags": 4, "attachments": files})).is_like(&message), "a moderator hid it");
        assert!(!posted(&json!({"attachments": files})).is_like(&message));
    }

    #[test]
    fn another_message_is_not_like_it() {
        let text = Message::text("Hi there");
        for other in [
            json!({"content": "Hi, there"}),
            json!({"attachments": [{"filename": "a.png"}]}),
            json!({"poll": {"question": {"text": "Tea?"}}}),
        ] {
            assert!(!posted(&other).is_like(&text), "{other}");
        }
    }
}

//! What a post says on Discord. This is also how it is stored on its way; so fields may be added, never renamed.

mod files;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
mod validate;
mod wire;

pub use files::{FileLimits, LoadedFile, load};
pub use validate::{Place, Problem, Problems};
pub(crate) use wire::{MessageBody, edit_body, forum_body, message_body, thread_body, webhook_body};

use super::snowflake::Snowflake;
use botticelli_server::post::PostContent;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A message. It pings nobody unless `mentions` says so, whatever its text holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Message {
    /// The text: at most 2000 characters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content: String,
    /// Whom it may ping. Default: nobody.
    #[serde(skip_serializing_if = "is_default")]
    pub mentions: Mentions,
    /// At most 10, with at most 6000 characters together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub embeds: Vec<Embed>,
    /// At most 10.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// A poll.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    /// Buttons below the message that open a page; at most 25.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// The message that this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// It makes no sound and no notification on the desktop.
    #[serde(skip_serializing_if = "is_default")]
    pub silent: bool,
    /// Links in the text get no preview.
    #[serde(skip_serializing_if = "is_default")]
    pub suppress_embeds: bool,
    /// It opens a post of a forum or media channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forum: Option<ForumPost>,
    /// A thread is started from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<NewThread>,
    /// It is published to the servers that follow the announcement channel.
    #[serde(skip_serializing_if = "is_default")]
    pub crosspost: bool,
    /// Under which name a webhook speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
}

impl Message {
    /// A message of text alone.
    pub fn text(content: impl Into<String>) -> Self {
        Self { content: content.into(), ..Self::default() }
    }
}

/// Under this name a [`PostContent`] holds what goes to Discord besides its text: a [`Message`]. If that has `content`,
/// it stands in for the text.
pub const EXTRA: &str = "discord";

impl TryFrom<&PostContent> for Message {
    type Error = Problem;

    fn try_from(content: &PostContent) -> Result<Self, Problem> {
        let Some(own) = content.extras.get(EXTRA) else { return Ok(Self::text(&content.text)) };
        let message: Self = serde_path_to_error::deserialize(own).map_err(|error| Problem {
            field: format!("extras.{EXTRA}.{}", error.path()),
            reason: error.inner().to_string(),
        })?;
        Ok(if own.get("content").is_some() {
            message
        } else {
            Self { content: content.text.clone(), ..message }
        })
    }
}

/// Whom a message may ping. The text must mention them too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mentions {
    /// `@everyone` and `@here` ping.
    #[serde(skip_serializing_if = "is_default")]
    pub everyone: bool,
    /// Any user pings.
    #[serde(skip_serializing_if = "is_default")]
    pub any_user: bool,
    /// Any role pings.
    #[serde(skip_serializing_if = "is_default")]
    pub any_role: bool,
    /// These users ping; at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<Snowflake>,
    /// These roles ping; at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Snowflake>,
    /// Who is answered pings.
    #[serde(skip_serializing_if = "is_default")]
    pub replied_user: bool,
}

/// A box below the text, in Discord's own JSON form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Embed {
    /// At most 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// At most 4096 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where the title leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A time below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<DateTime<Utc>>,
    /// 0xRRGGBB, as a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<u32>,
    /// The line at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub footer: Option<EmbedFooter>,
    /// The large picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<EmbedPicture>,
    /// The small picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<EmbedPicture>,
    /// The line at the top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<EmbedAuthor>,
    /// At most 25.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<EmbedField>,
}

/// The line at the end of an embed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedFooter {
    /// At most 2048 characters.
    pub text: String,
    /// A picture before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
}

/// A picture of an embed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedPicture {
    /// `https://…`, or `attachment://NAME` for a file of the message.
    pub url: String,
}

/// The line at the top of an embed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedAuthor {
    /// At most 256 characters.
    pub name: String,
    /// Where the name leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A picture before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
}

/// A heading and a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedField {
    /// At most 256 characters.
    pub name: String,
    /// At most 1024 characters.
    pub value: String,
    /// It may stand beside its neighbour.
    #[serde(default, skip_serializing_if = "is_default")]
    pub inline: bool,
}

/// A file that comes with a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The name under which people see it.
    pub name: String,
    /// What is in it.
    pub data: FileData,
    /// What it shows, for those who can't see it: at most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// It is hidden until somebody clicks on it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spoiler: bool,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileData {
    /// This text.
    Text(String),
    /// What is in this file of the server's machine when the post is sent.
    Path(PathBuf),
}

/// A poll. It can't be changed once it is posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// At most 300 characters.
    pub question: String,
    /// 1 to 10 answers of at most 55 characters.
    pub answers: Vec<String>,
    /// How long people can vote: 1 to 768 hours.
    #[serde(default = "a_day")]
    pub hours: u32,
    /// One may choose several answers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub multiple: bool,
}

fn a_day() -> u32 {
    24
}

/// A button that opens a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// At most 80 characters.
    pub label: String,
    /// At most 512 characters.
    pub url: String,
}

/// Which message is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// A message of the same channel.
    pub message_id: Snowflake,
    /// If it is gone, this one is refused. Else it is posted as a plain message.
    #[serde(default, skip_serializing_if = "is_default")]
    pub must_exist: bool,
}

/// Stands for a tag that only an item can tell, in an example of what will be posted.
pub const TAG_OF_ITEM: &str = "{{ }}";

/// A post in a forum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForumPost {
    /// Its title: 1 to 100 characters.
    pub name: String,
    /// Names or ids of the forum's tags; at most 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// It is archived after so long without a message. Default: as the forum is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_archive_minutes: Option<u32>,
}

/// A thread that is started from a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewThread {
    /// 1 to 100 characters.
    pub name: String,
    /// It is archived after so long without a message: 60, 1440, 4320 or 10080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_archive_minutes: Option<u32>,
}

/// Under which name a webhook speaks. Default: the webhook's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sender {
    /// 1 to 80 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

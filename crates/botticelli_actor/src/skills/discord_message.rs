//! What comes with a text on Discord: embeds, files, a poll, a thread, …

use super::template::Template;
use crate::config::within::Within;
use crate::config::{Fault, KeyPath};
use crate::discord::message::{
    EXTRA, Embed, EmbedAuthor, EmbedField, EmbedFooter, EmbedPicture, File, FileData, FileLimits, ForumPost,
    Link, Mentions, Message, NewThread, Place, Poll, Problem, Reply, Sender, TAG_OF_ITEM,
};
use crate::draft::{Draft, Entry, Extra};
use crate::skill::{ActorContext, Skill, SkillError, Step};
use async_trait::async_trait;
use botticelli_server::post::Extras;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Component, Path, PathBuf};

/// Adds to a message what only Discord has. Texts are Jinja templates over the item's fields, as in
/// `content_formatter`; what a template makes empty is left out. Of a text in several parts the first carries it all;
/// `mentions`, `silent`, `suppress_embeds`, `crosspost` and `sender` hold for every part. Other platforms show it at most.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiscordMessage {
    /// Leaves the text out on Discord, for example where an embed says it all.
    hide_text: bool,
    /// Boxes below the text: at most 10, with at most 6000 characters together.
    embeds: Vec<EmbedSettings>,
    /// Files that come with the message: at most 10, of at most 10 MiB each and 24 MiB together.
    files: Vec<FileSettings>,
    /// A poll.
    poll: Option<PollSettings>,
    /// Buttons that open a page: at most 25.
    links: Vec<LinkSettings>,
    /// The id of the message that is answered.
    reply_to: Option<Template>,
    /// Refuses to post if the message that is answered has gone. Else it becomes a plain message.
    reply_must_exist: bool,
    /// Starts a thread from the message.
    thread: Option<ThreadSettings>,
    /// Opens a post in a forum or media channel.
    forum: Option<ForumSettings>,
    /// Publishes the message to the servers that follow the announcement channel.
    crosspost: bool,
    /// No sound, and no notification on the desktop.
    silent: bool,
    /// Links in the text get no preview.
    suppress_embeds: bool,
    /// Whom the message may ping, if its text mentions them. Default: nobody.
    mentions: Mentions,
    /// Under which name a webhook speaks.
    sender: Option<SenderSettings>,
}

/// A box below the text.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct EmbedSettings {
    /// At most 256 characters.
    title: Option<Template>,
    /// At most 4096 characters.
    description: Option<Template>,
    /// Where the title leads.
    url: Option<Template>,
    /// `#RRGGBB`.
    color: Option<Template>,
    /// A time in RFC 3339, such as `{{ now }}`.
    timestamp: Option<Template>,
    /// The large picture: a URL, or `attachment://NAME` for a file of the message.
    image: Option<Template>,
    /// The small picture.
    thumbnail: Option<Template>,
    /// The line at the top.
    author: Option<AuthorSettings>,
    /// The line at the end.
    footer: Option<FooterSettings>,
    /// At most 25.
    fields: Vec<FieldSettings>,
}

/// The line at the top of an embed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuthorSettings {
    /// At most 256 characters.
    name: Template,
    /// Where the name leads.
    url: Option<Template>,
    /// A picture before it.
    icon_url: Option<Template>,
}

/// The line at the end of an embed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FooterSettings {
    /// At most 2048 characters.
    text: Template,
    /// A picture before it.
    icon_url: Option<Template>,
}

/// A heading and a text of an embed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FieldSettings {
    /// At most 256 characters.
    name: Template,
    /// At most 1024 characters.
    value: Template,
    /// It may stand beside its neighbour.
    #[serde(default)]
    inline: bool,
}

/// A file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct FileSettings {
    /// Where it is, from the folder of the actor's file, and inside it. It is read when the post is sent.
    path: Option<Template>,
    /// What is in it, instead of `path`.
    text: Option<Template>,
    /// The name under which people see it. Default: that of `path`.
    name: Option<Template>,
    /// What it shows, for those who can't see it: at most 1024 characters.
    description: Option<Template>,
    /// It is hidden until somebody clicks on it.
    spoiler: bool,
}

/// A poll.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PollSettings {
    /// At most 300 characters.
    question: Template,
    /// 1 to 10 answers of at most 55 characters.
    answers: Vec<Template>,
    /// How long people can vote.
    #[serde(default = "a_day")]
    hours: Within<1, 768>,
    /// One may choose several answers.
    #[serde(default)]
    multiple: bool,
}

fn a_day() -> Within<1, 768> {
    Within::of::<24>()
}

/// A button that opens a page.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LinkSettings {
    /// At most 80 characters.
    label: Template,
    /// At most 512 characters.
    url: Template,
}

/// A thread that is started from a message.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ThreadSettings {
    /// 1 to 100 characters.
    name: Template,
    /// It is archived after so long without a message: 60, 1440, 4320 or 10080.
    auto_archive_minutes: Option<u32>,
}

/// A post in a forum.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ForumSettings {
    /// Its title: 1 to 100 characters.
    name: Template,
    /// Names or ids of the forum's tags: at most 5.
    #[serde(default)]
    tags: Vec<Template>,
    /// It is archived after so long without a message: 60, 1440, 4320 or 10080.
    auto_archive_minutes: Option<u32>,
}

/// Under which name a webhook speaks.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct SenderSettings {
    /// 1 to 80 characters. Default: the webhook's own.
    name: Option<Template>,
    /// A picture.
    avatar_url: Option<Template>,
}

/// The longest text that a template may make.
const LONGEST_TEXT: usize = 1 << 20;

#[async_trait]
impl Skill for DiscordMessage {
    fn check(&self, _knowledge: &[&str]) -> Vec<Fault> {
        let example = |template: &Template, kind: Kind<'_>| Ok(kind.example(template));
        let message = match self.message(&Writer { text: &example }) {
            Ok(message) => message,
            Err(problem) => return vec![fault(&problem)],
        };
        if message == Message::default() && !self.hide_text {
            return vec![Fault::new(KeyPath::default(), "nothing is set: nothing comes with the message")];
        }
        let place = if message.sender.is_some() { Place::Webhook } else { Place::Channel };
        let content = if self.hide_text { "" } else { "x" }.to_owned();
        match (Message { content, ..message }).validate(place) {
            Ok(()) => Vec::new(),
            Err(problems) => problems.0.iter().map(fault).collect(),
        }
    }

    fn adds(&self) -> Extras {
        let example = |template: &Template, kind: Kind<'_>| Ok(kind.example(template));
        let message = self.message(&Writer { text: &example }).unwrap_or_default();
        Extras::from([(EXTRA.to_owned(), self.extra(&message).first)])
    }

    async fn run(&self, mut draft: Draft, context: &ActorContext) -> Result<Step, SkillError> {
        let mut notes = Vec::new();
        for entry in &mut draft.entries {
            let message = self.written(entry, context).await.map_err(|problem| {
                let item = &entry.item;
                SkillError::Unrecoverable(format!("item {:?} of {:?}: {problem}", item.key, item.source))
            })?;
            let extra = self.extra(&message);
            let what: Vec<&str> =
                extra.first.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
            notes.push(format!("{:?} comes with {} on Discord", entry.item.key, what.join(", ")));
            entry.extras.insert(EXTRA.to_owned(), extra);
        }
        Ok(Step::Continue { draft, notes })
    }
}

/// What is wrong with a setting, at its place in the file as far as there is one.
fn fault(problem: &Problem) -> Fault {
    let key = problem.field.split(['[', '.']).next().unwrap_or_default();
    Fault::new(key, problem.to_string())
}

impl DiscordMessage {
    async fn written(&self, entry: &Entry, context: &ActorContext) -> Result<Message, Problem> {
        let render = |template: &Template, _: Kind<'_>| template.render(&entry.item, context);
        let message = self.message(&Writer { text: &render })?;
        if message.files.is_empty() {
            return Ok(message);
        }
        let folder = context.folder.clone();
        let looking = tokio::task::spawn_blocking(move || located(&folder, message));
        looking.await.unwrap_or_else(|panic| Err(problem("files", format!("can't be looked for: {panic}"))))
    }

    fn extra(&self, message: &Message) -> Extra {
        let others = Message {
            mentions: Mentions { replied_user: false, ..message.mentions.clone() },
            silent: message.silent,
            suppress_embeds: message.suppress_embeds,
            crosspost: message.crosspost,
            sender: message.sender.clone(),
            ..Message::default()
        };
        let mut first = json!(message);
        if self.hide_text {
            first["content"] = Value::String(String::new());
        }
        let whole = match (self.hide_text, &self.forum) {
            (_, Some(_)) => Some("a post in a forum"),
            (true, None) => Some("a message that hides its text"),
            (false, None) => None,
        };
        Extra { first, others: (others != Message::default()).then(|| json!(others)), whole }
    }

    /// The message without its text.
    fn message(&self, write: &Writer<'_>) -> Result<Message, Problem> {
        let reply_to = write.optional("reply_to", self.reply_to.as_ref(), Kind::Id)?;
        let reply = reply_to.map(|id| {
            let message_id = id.parse().map_err(|error| problem("reply_to", format!("{error}")))?;
            Ok(Reply { message_id, must_exist: self.reply_must_exist })
        });
        let (poll, forum) = (self.poll.as_ref(), self.forum.as_ref());
        let (thread, sender) = (self.thread.as_ref(), self.sender.as_ref());
        Ok(Message {
            content: String::new(),
            mentions: self.mentions.clone(),
            embeds: each("embeds", &self.embeds, |field, embed| embed.write(field, write))?,
            files: each("files", &self.files, |field, file| file.write(field, write))?,
            poll: poll.map(|poll| poll.write(write)).transpose()?,
            links: each("links", &self.links, |field, link| link.write(field, write))?,
            reply: reply.transpose()?,
            silent: self.silent,
            suppress_embeds: self.suppress_embeds,
            forum: forum.map(|forum| forum.write(write)).transpose()?,
            thread: thread.map(|thread| thread.write(write)).transpose()?,
            crosspost: self.crosspost,
            sender: sender.map(|sender| sender.write(write)).transpose()?,
        })
    }
}

impl EmbedSettings {
    fn write(&self, field: &str, write: &Writer<'_>) -> Result<Option<Embed>, Problem> {
        let of = |name: &str, template: &Option<Template>, kind| {
            write.optional(&format!("{field}.{name}"), template.as_ref(), kind)
        };
        let picture =
            |name: &str, template| Ok(of(name, template, Kind::Picture)?.map(|url| EmbedPicture { url }));
        let color = of("color", &self.color, Kind::Color)?;
        let timestamp = of("timestamp", &self.timestamp, Kind::Time)?;
        let embed = Embed {
            title: of("title", &self.title, Kind::Text)?,
            description: of("description", &self.description, Kind::Text)?,
            url: of("url", &self.url, Kind::Url)?,
            timestamp: timestamp
                .map(|text| {
                    let time = chrono::DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc());
                    time.map_err(|_| {
                        problem(
                            format!("{field}.timestamp"),
                            format!("is no time in RFC 3339: {}", shown(&text)),
                        )
                    })
                })
                .transpose()?,
            color: color
                .map(|text| {
                    number_of(&text).ok_or_else(|| {
                        problem(
                            format!("{field}.color"),
                            format!("is {} (allowed: \"#RRGGBB\")", shown(&text)),
                        )
                    })
                })
                .transpose()?,
            footer: self.footer.as_ref().map(|footer| footer.write(field, write)).transpose()?.flatten(),
            image: picture("image", &self.image)?,
            thumbnail: picture("thumbnail", &self.thumbnail)?,
            author: self.author.as_ref().map(|author| author.write(field, write)).transpose()?.flatten(),
            fields: each(&format!("{field}.fields"), &self.fields, |path, one| one.write(path, write))?,
        };
        let is_empty = Embed { color: None, timestamp: None, ..embed.clone() } == Embed::default();
        Ok((!is_empty).then_some(embed))
    }
}

fn number_of(color: &str) -> Option<u32> {
    let digits = color.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

impl FooterSettings {
    fn write(&self, embed: &str, write: &Writer<'_>) -> Result<Option<EmbedFooter>, Problem> {
        let text = write.optional(&format!("{embed}.footer.text"), Some(&self.text), Kind::Text)?;
        let icon =
            write.optional(&format!("{embed}.footer.icon_url"), self.icon_url.as_ref(), Kind::Picture)?;
        Ok(text.map(|text| EmbedFooter { text, icon_url: icon }))
    }
}

impl AuthorSettings {
    fn write(&self, embed: &str, write: &Writer<'_>) -> Result<Option<EmbedAuthor>, Problem> {
        let of =
            |name: &str, template, kind| write.optional(&format!("{embed}.author.{name}"), template, kind);
        let (url, icon_url) = (
            of("url", self.url.as_ref(), Kind::Url)?,
            of("icon_url", self.icon_url.as_ref(), Kind::Picture)?,
        );
        Ok(of("name", Some(&self.name), Kind::Text)?.map(|name| EmbedAuthor { name, url, icon_url }))
    }
}

impl FieldSettings {
    fn write(&self, field: &str, write: &Writer<'_>) -> Result<Option<EmbedField>, Problem> {
        let name = write.text(&format!("{field}.name"), &self.name, Kind::Text)?;
        let value = write.optional(&format!("{field}.value"), Some(&self.value), Kind::Text)?;
        Ok(value.map(|value| EmbedField { name, value, inline: self.inline }))
    }
}

impl FileSettings {
    fn write(&self, field: &str, write: &Writer<'_>) -> Result<Option<File>, Problem> {
        let of = |name: &str, template: &Option<Template>, kind| {
            write.optional(&format!("{field}.{name}"), template.as_ref(), kind)
        };
        let name = of("name", &self.name, Kind::Name(field))?;
        let (name, data) = match (&self.path, &self.text) {
            (Some(_), None) => {
                let Some(path) = of("path", &self.path, Kind::Name(field))? else { return Ok(None) };
                let path = PathBuf::from(path);
                let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                (name.unwrap_or_else(|| own.to_owned()), FileData::Path(path))
            }
            (None, Some(_)) => {
                let Some(text) = of("text", &self.text, Kind::Text)? else { return Ok(None) };
                let no_name =
                    || problem(format!("{field}.name"), "is missing: a file of `text` needs a name");
                (name.ok_or_else(no_name)?, FileData::Text(text))
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(problem(field, "needs either `path` or `text`"));
            }
        };
        let description = of("description", &self.description, Kind::Text)?;
        Ok(Some(File { name, data, description, spoiler: self.spoiler }))
    }
}

impl PollSettings {
    fn write(&self, write: &Writer<'_>) -> Result<Poll, Problem> {
        let answer = |field: &str, answer: &Template| write.optional(field, Some(answer), Kind::Text);
        Ok(Poll {
            question: write.text("poll.question", &self.question, Kind::Text)?,
            answers: each("poll.answers", &self.answers, answer)?,
            hours: self.hours.count().get(),
            multiple: self.multiple,
        })
    }
}

impl LinkSettings {
    fn write(&self, field: &str, write: &Writer<'_>) -> Result<Option<Link>, Problem> {
        let label = write.text(&format!("{field}.label"), &self.label, Kind::Text)?;
        let url = write.optional(&format!("{field}.url"), Some(&self.url), Kind::Url)?;
        Ok(url.map(|url| Link { label, url }))
    }
}

impl ThreadSettings {
    fn write(&self, write: &Writer<'_>) -> Result<NewThread, Problem> {
        let name = write.text("thread.name", &self.name, Kind::Text)?;
        Ok(NewThread { name, auto_archive_minutes: self.auto_archive_minutes })
    }
}

impl ForumSettings {
    fn write(&self, write: &Writer<'_>) -> Result<ForumPost, Problem> {
        let tag = |field: &str, tag: &Template| write.optional(field, Some(tag), Kind::Tag);
        Ok(ForumPost {
            name: write.text("forum.name", &self.name, Kind::Text)?,
            tags: each("forum.tags", &self.tags, tag)?,
            auto_archive_minutes: self.auto_archive_minutes,
        })
    }
}

impl SenderSettings {
    fn write(&self, write: &Writer<'_>) -> Result<Sender, Problem> {
        Ok(Sender {
            name: write.optional("sender.name", self.name.as_ref(), Kind::Text)?,
            avatar_url: write.optional("sender.avatar_url", self.avatar_url.as_ref(), Kind::Url)?,
        })
    }
}

/// Makes each text of its template.
struct Writer<'a> {
    text: &'a dyn Fn(&Template, Kind<'_>) -> Result<String, String>,
}

impl Writer<'_> {
    fn text(&self, field: &str, template: &Template, kind: Kind<'_>) -> Result<String, Problem> {
        let text = (self.text)(template, kind).map_err(|error| problem(format!("{field}:"), error))?;
        if text.len() > LONGEST_TEXT {
            return Err(problem(field, format!("has {} bytes (allowed: {LONGEST_TEXT})", text.len())));
        }
        Ok(text.trim().to_owned())
    }

    /// `None` also for what comes out empty.
    fn optional(
        &self,
        field: &str,
        template: Option<&Template>,
        kind: Kind<'_>,
    ) -> Result<Option<String>, Problem> {
        let text = template.map(|template| self.text(field, template, kind)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }
}

/// What a text is for.
#[derive(Debug, Clone, Copy)]
enum Kind<'a> {
    Text,
    Url,
    /// A URL, or a file of the message.
    Picture,
    Id,
    /// Of a forum: which it has is known there.
    Tag,
    Color,
    Time,
    /// Of the file in this field: no two are alike.
    Name(&'a str),
}

impl Kind<'_> {
    /// What stands in for a text that only an item can tell, when settings are checked.
    fn example(self, template: &Template) -> String {
        let example = match self {
            Self::Text => "x",
            Self::Url | Self::Picture => "https://example.org/",
            Self::Id => "1",
            Self::Tag => TAG_OF_ITEM,
            Self::Color => "#000000",
            Self::Time => "2030-01-01T00:00:00Z",
            Self::Name(field) => field,
        };
        // Whether the file is there is known when files have their names.
        let of_item = |text: &&str| matches!(self, Self::Picture) && text.starts_with("attachment://");
        template.constant().filter(|text| !of_item(text)).unwrap_or(example).to_owned()
    }
}

fn each<S, T>(
    name: &str,
    settings: &[S],
    write: impl Fn(&str, &S) -> Result<Option<T>, Problem>,
) -> Result<Vec<T>, Problem> {
    let one = |(index, settings)| write(&format!("{name}[{index}]"), settings).transpose();
    settings.iter().enumerate().filter_map(one).collect()
}

fn problem(field: impl Into<String>, reason: impl Into<String>) -> Problem {
    Problem { field: field.into(), reason: reason.into() }
}

/// A piece of a text, for an error.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

/// The message with the whole paths of its files, which are there and not too large. Blocks.
fn located(folder: &Path, mut message: Message) -> Result<Message, Problem> {
    let limits = FileLimits::default();
    let mut together = 0;
    for (index, file) in message.files.iter_mut().enumerate() {
        let field = format!("files[{index}]");
        let size = match &mut file.data {
            FileData::Text(text) => text.len() as u64,
            FileData::Path(path) => {
                let (whole, size) =
                    inside(folder, path).map_err(|reason| problem(format!("{field}.path"), reason))?;
                *path = whole;
                size
            }
        };
        together += size;
        for (what, size, most) in [(field.as_str(), size, limits.each), ("files", together, limits.together)]
        {
            if size > most as u64 {
                return Err(problem(what, format!("has {size} bytes (allowed: {most})")));
            }
        }
    }
    Ok(message)
}

/// Items come from outside: a path of theirs must not lead to other files of the machine.
fn inside(folder: &Path, path: &Path) -> Result<(PathBuf, u64), String> {
    let is_inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let outside = || format!("leads out of the actor's folder: {}", shown(&path.to_string_lossy()));
    if !is_inside {
        return Err(outside());
    }
    let unreadable = |error| format!("can't read {}: {error}", shown(&path.to_string_lossy()));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = folder.canonicalize().map_err(unreadable)?;
    let whole = folder.join(path).canonicalize().map_err(unreadable)?;
    if !whole.starts_with(&folder) {
        return Err(outside());
    }
    let metadata = whole.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(format!("is no file: {}", shown(&path.to_string_lossy())));
    }
    Ok((whole, metadata.len()))
}

#[cfg(test)]
mod tests;

//! What does not fit Discord is found before it is sent. Lengths are in characters (Unicode scalar values), without
//! the white space around, as Discord counts.

use super::{Embed, FileData, Message, NewThread, Poll};
use crate::discord::snowflake::Snowflake;
use reqwest::Url;
use std::collections::HashSet;
use std::fmt;

/// What kind of place a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A channel or thread that the bot writes in. A message with `forum` opens a post in a forum.
    Channel,
    /// A webhook.
    Webhook,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its path: `embeds[0].title`.
    pub field: String,
    /// What is wrong, with the limit.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.reason)
    }
}

/// Everything that is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Problems(pub Vec<Problem>);

const CONTENT: usize = 2000;
const EMBEDS: usize = 10;
const EMBEDS_TOGETHER: usize = 6000;
const FILES: usize = 10;
const LINKS: usize = 25;
const MENTIONED: usize = 100;
const URL: usize = 2048;
const TAGS: usize = 5;
const ARCHIVE_AFTER: [u32; 4] = [60, 1440, 4320, 10080];

impl Message {
    /// Whether Discord would take it in such a place, as far as can be said without asking.
    ///
    /// # Errors
    /// Every field that does not fit.
    pub fn validate(&self, place: Place) -> Result<(), Problems> {
        let mut check = Check::default();
        check.message(self);
        check.place(self, place);
        check.end()
    }

    /// Whether a message of ours can be changed to this one.
    ///
    /// # Errors
    /// Every field that does not fit, or can't be changed.
    pub fn validate_edit(&self) -> Result<(), Problems> {
        let mut check = Check::default();
        check.message(self);
        let unchangeable = [
            ("files", !self.files.is_empty()),
            ("poll", self.poll.is_some()),
            ("reply", self.reply.is_some()),
            ("silent", self.silent),
            ("forum", self.forum.is_some()),
            ("thread", self.thread.is_some()),
            ("crosspost", self.crosspost),
            ("sender", self.sender.is_some()),
        ];
        check.absent(&unchangeable, "can't be changed by an edit");
        check.end()
    }
}

#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn end(self) -> Result<(), Problems> {
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }

    fn problem(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.problems.push(Problem { field: field.into(), reason: reason.into() });
    }

    fn message(&mut self, message: &Message) {
        let has_files = !message.files.is_empty();
        let is_empty =
            message.content.trim().is_empty() && message.embeds.is_empty() && message.links.is_empty();
        if is_empty && !has_files && message.poll.is_none() {
            self.problem("content", "is empty, and there are no embeds, files, links or poll either");
        }
        self.at_most("content", &message.content, CONTENT);
        self.embeds(message);
        if message.suppress_embeds && !message.embeds.is_empty() {
            self.problem("suppress_embeds", "would hide the message's own embeds");
        }
        self.files(message);
        self.mentions(message);
        self.count("links", message.links.len(), LINKS);
        for (index, link) in message.links.iter().enumerate() {
            self.between(&format!("links[{index}].label"), &link.label, 80);
            self.url(&format!("links[{index}].url"), &link.url, 512, None);
        }
        if let Some(poll) = &message.poll {
            self.poll(poll);
        }
        if let Some(forum) = &message.forum {
            self.thread("forum", &forum.name, forum.auto_archive_minutes);
            self.count("forum.tags", forum.tags.len(), TAGS);
        }
        if let Some(NewThread { name, auto_archive_minutes }) = &message.thread {
            self.thread("thread", name, *auto_archive_minutes);
        }
        if let Some(sender) = &message.sender {
            self.sender(sender);
        }
    }

    fn place(&mut self, message: &Message, place: Place) {
        match place {
            Place::Webhook => {
                let impossible = [
                    ("reply", message.reply.is_some()),
                    ("thread", message.thread.is_some()),
                    ("crosspost", message.crosspost),
                ];
                self.absent(&impossible, "is not possible through a webhook");
                let tags = message.forum.iter().flat_map(|forum| &forum.tags);
                for (index, tag) in tags.enumerate().filter(|(_, tag)| tag.parse::<Snowflake>().is_err()) {
                    let reason = format!("is no id: {:?} (a webhook can't look names up)", shown(tag));
                    self.problem(format!("forum.tags[{index}]"), reason);
                }
            }
            Place::Channel => {
                self.absent(&[("sender", message.sender.is_some())], "is possible only through a webhook");
            }
        }
        if message.forum.is_some() {
            let impossible = [
                ("poll", message.poll.is_some() && place == Place::Channel),
                ("reply", message.reply.is_some()),
                ("thread", message.thread.is_some()),
                ("crosspost", message.crosspost),
            ];
            self.absent(&impossible, "is not possible in the first message of a forum post");
        }
    }

    fn absent(&mut self, fields: &[(&str, bool)], reason: &str) {
        for (field, _) in fields.iter().filter(|(_, is_there)| *is_there) {
            self.problem(*field, reason);
        }
    }

    fn embeds(&mut self, message: &Message) {
        self.count("embeds", message.embeds.len(), EMBEDS);
        let mut together = 0;
        for (index, embed) in message.embeds.iter().enumerate() {
            together += self.embed(&format!("embeds[{index}]"), embed, message);
        }
        if together > EMBEDS_TOGETHER {
            self.problem(
                "embeds",
                format!("have {together} characters together (allowed: {EMBEDS_TOGETHER})"),
            );
        }
    }

    /// Returns how many characters it has.
    fn embed<'a>(&mut self, path: &str, embed: &'a Embed, message: &Message) -> usize {
        let mut texts: Vec<(String, &'a str, usize)> = Vec::new();
        let mut text = |name: &str, text: Option<&'a String>, most| {
            texts.extend(text.map(|text| (format!("{path}.{name}"), text.as_str(), most)));
        };
        text("title", embed.title.as_ref(), 256);
        text("description", embed.description.as_ref(), 4096);
        text("footer.text", embed.footer.as_ref().map(|footer| &footer.text), 2048);
        text("author.name", embed.author.as_ref().map(|author| &author.name), 256);
        for (index, field) in embed.fields.iter().enumerate() {
            text(&format!("fields[{index}].name"), Some(&field.name), 256);
            text(&format!("fields[{index}].value"), Some(&field.value), 1024);
        }
        for (field, text, most) in &texts {
            self.between(field, text, *most);
        }
        self.count(&format!("{path}.fields"), embed.fields.len(), 25);
        if embed.color.is_some_and(|color| color > 0xFF_FFFF) {
            self.problem(format!("{path}.color"), "is no colour (allowed: 0 to 16777215, which is 0xFFFFFF)");
        }
        let icon = embed.footer.as_ref().and_then(|footer| footer.icon_url.as_ref());
        let (author_icon, author_url) = embed
            .author
            .as_ref()
            .map_or((None, None), |author| (author.icon_url.as_ref(), author.url.as_ref()));
        let pictures = [
            ("image.url", embed.image.as_ref().map(|image| &image.url)),
            ("thumbnail.url", embed.thumbnail.as_ref().map(|thumbnail| &thumbnail.url)),
            ("footer.icon_url", icon),
            ("author.icon_url", author_icon),
        ];
        for (name, url) in pictures {
            url.into_iter().for_each(|url| self.url(&format!("{path}.{name}"), url, URL, Some(message)));
        }
        for (name, url) in [("url", embed.url.as_ref()), ("author.url", author_url)] {
            url.into_iter().for_each(|url| self.url(&format!("{path}.{name}"), url, URL, None));
        }
        if texts.is_empty() && pictures.iter().all(|(_, url)| url.is_none()) {
            self.problem(path, "is empty");
        }
        texts.iter().map(|(_, text, _)| length(text)).sum()
    }

    fn files(&mut self, message: &Message) {
        self.count("files", message.files.len(), FILES);
        let mut names = HashSet::new();
        for (index, file) in message.files.iter().enumerate() {
            let field = format!("files[{index}]");
            self.between(&format!("{field}.name"), &file.name, 200);
            if file.name.contains(['/', '\\', '"']) || file.name.chars().any(char::is_control) {
                self.problem(
                    format!("{field}.name"),
                    "has a character that is not allowed (/ \\ \" or control)",
                );
            }
            if !names.insert(&file.name) {
                self.problem(format!("{field}.name"), format!("is used twice: {:?}", shown(&file.name)));
            }
            if let Some(description) = &file.description {
                self.at_most(&format!("{field}.description"), description, 1024);
            }
            if let FileData::Path(path) = &file.data
                && path.as_os_str().is_empty()
            {
                self.problem(format!("{field}.path"), "is empty");
            }
        }
    }

    fn mentions(&mut self, message: &Message) {
        let mentions = &message.mentions;
        let lists =
            [("users", &mentions.users, mentions.any_user), ("roles", &mentions.roles, mentions.any_role)];
        for (kind, ids, any) in lists {
            let field = format!("mentions.{kind}");
            self.count(&field, ids.len(), MENTIONED);
            if any && !ids.is_empty() {
                self.problem(field, "can't be listed when any may be pinged");
            }
        }
    }

    fn poll(&mut self, poll: &Poll) {
        self.between("poll.question", &poll.question, 300);
        self.count("poll.answers", poll.answers.len(), 10);
        if poll.answers.is_empty() {
            self.problem("poll.answers", "is empty (allowed: 1 to 10)");
        }
        for (index, answer) in poll.answers.iter().enumerate() {
            self.between(&format!("poll.answers[{index}]"), answer, 55);
        }
        if !(1..=768).contains(&poll.hours) {
            self.problem("poll.hours", format!("is {} (allowed: 1 to 768)", poll.hours));
        }
    }

    fn thread(&mut self, field: &str, name: &str, minutes: Option<u32>) {
        self.between(&format!("{field}.name"), name, 100);
        if let Some(minutes) = minutes.filter(|minutes| !ARCHIVE_AFTER.contains(minutes)) {
            let reason = format!("is {minutes} (allowed: 60, 1440, 4320, 10080)");
            self.problem(format!("{field}.auto_archive_minutes"), reason);
        }
    }

    fn sender(&mut self, sender: &super::Sender) {
        if let Some(name) = &sender.name {
            self.between("sender.name", name, 80);
            let lower = name.to_lowercase();
            if let Some(reserved) = ["clyde", "discord"].into_iter().find(|word| lower.contains(word)) {
                self.problem("sender.name", format!("contains {reserved:?}, which Discord keeps for itself"));
            }
        }
        if let Some(url) = &sender.avatar_url {
            self.url("sender.avatar_url", url, URL, None);
        }
    }

    fn between(&mut self, field: &str, text: &str, most: usize) {
        if text.trim().is_empty() {
            self.problem(field, format!("is empty (allowed: 1 to {most} characters)"));
        }
        self.at_most(field, text, most);
    }

    fn at_most(&mut self, field: &str, text: &str, most: usize) {
        let length = length(text);
        if length > most {
            self.problem(field, format!("has {length} characters (allowed: {most})"));
        }
    }

    fn count(&mut self, field: &str, count: usize, most: usize) {
        if count > most {
            self.problem(field, format!("has {count} entries (allowed: {most})"));
        }
    }

    /// A page, or where `files` has them, a file of the message.
    fn url(&mut self, field: &str, url: &str, most: usize, files: Option<&Message>) {
        self.at_most(field, url, most);
        if let (Some(message), Some(name)) = (files, url.strip_prefix("attachment://")) {
            if !message.files.iter().any(|file| file.shown_name() == name) {
                self.problem(field, format!("names a file that is not attached: {:?}", shown(name)));
            }
            return;
        }
        let is_page =
            Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !is_page {
            self.problem(field, format!("is no URL of a page (https://…): {:?}", shown(url)));
        }
    }
}

fn length(text: &str) -> usize {
    text.trim().chars().count()
}

/// A piece of what somebody wrote, for an error.
fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

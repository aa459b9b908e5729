//! Messages as Discord's JSON. Every body that makes or changes a message comes from here, and each has
//! `allowed_mentions`: without it Discord pings whomever the text names, on an edit too.

use super::{File, ForumPost, Link, Mentions, Message, NewThread, Poll};
use crate::discord::snowflake::{Nonce, Snowflake};
use serde_json::{Map, Value, json};

const SUPPRESS_EMBEDS: u32 = 1 << 2;
const SUPPRESS_NOTIFICATIONS: u32 = 1 << 12;

/// Buttons in a row.
const ROW: usize = 5;

/// A body that has `allowed_mentions`. Only this module makes one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MessageBody(Value);

impl MessageBody {
    pub(crate) fn json(&self) -> &Value {
        &self.0
    }
}

/// Create Message.
pub(crate) fn message_body(message: &Message, nonce: &Nonce) -> MessageBody {
    let mut body = common(message);
    body.insert("nonce".into(), json!(nonce));
    body.insert("enforce_nonce".into(), json!(true));
    if let Some(reply) = &message.reply {
        let reference = json!({"message_id": reply.message_id, "fail_if_not_exists": reply.must_exist});
        body.insert("message_reference".into(), reference);
    }
    MessageBody(body.into())
}

/// Start Thread in Forum Channel. `tags` are the ids of the forum's tags.
pub(crate) fn forum_body(message: &Message, post: &ForumPost, tags: &[Snowflake]) -> MessageBody {
    let ForumPost { name, auto_archive_minutes, .. } = post.clone();
    let mut body = thread_body(&NewThread { name, auto_archive_minutes });
    if !tags.is_empty() {
        body["applied_tags"] = json!(tags);
    }
    body["message"] = common(message).into();
    MessageBody(body)
}

/// Execute Webhook.
pub(crate) fn webhook_body(message: &Message) -> MessageBody {
    let mut body = common(message);
    let sender = message.sender.clone().unwrap_or_default();
    let optional = [
        ("username", sender.name),
        ("avatar_url", sender.avatar_url),
        ("thread_name", message.forum.as_ref().map(|forum| forum.name.clone())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body.insert(name.into(), json!(value));
        }
    }
    let tags = message.forum.iter().flat_map(|forum| &forum.tags).filter_map(|tag| tag.parse().ok());
    let tags: Vec<Snowflake> = tags.collect();
    if !tags.is_empty() {
        body.insert("applied_tags".into(), json!(tags));
    }
    MessageBody(body.into())
}

/// Edit Message: replaces text, embeds and buttons, and leaves files and poll alone.
pub(crate) fn edit_body(message: &Message) -> MessageBody {
    MessageBody(json!({
        "content": message.content,
        "embeds": message.embeds,
        "components": rows(&message.links),
        "flags": flags(message) & SUPPRESS_EMBEDS,
        "allowed_mentions": allowed(&message.mentions),
    }))
}

/// Start Thread from Message.
pub(crate) fn thread_body(thread: &NewThread) -> Value {
    let mut body = json!({"name": thread.name.trim()});
    if let Some(minutes) = thread.auto_archive_minutes {
        body["auto_archive_duration"] = json!(minutes);
    }
    body
}

fn common(message: &Message) -> Map<String, Value> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("allowed_mentions", allowed(&message.mentions));
    if !message.content.is_empty() {
        put("content", json!(message.content));
    }
    if !message.embeds.is_empty() {
        put("embeds", json!(message.embeds));
    }
    if !message.links.is_empty() {
        put("components", rows(&message.links));
    }
    if !message.files.is_empty() {
        put("attachments", message.files.iter().enumerate().map(attachment).collect());
    }
    if let Some(of) = &message.poll {
        put("poll", poll(of));
    }
    if flags(message) != 0 {
        put("flags", json!(flags(message)));
    }
    body
}

fn flags(message: &Message) -> u32 {
    let flag = |is_set, bit| if is_set { bit } else { 0 };
    flag(message.suppress_embeds, SUPPRESS_EMBEDS) | flag(message.silent, SUPPRESS_NOTIFICATIONS)
}

/// `parse` names what may ping by its kind, the lists who may by id. Discord refuses a kind and its list together.
fn allowed(mentions: &Mentions) -> Value {
    let kinds = [(mentions.everyone, "everyone"), (mentions.any_user, "users"), (mentions.any_role, "roles")];
    let parse: Vec<_> = kinds.iter().filter(|(may, _)| *may).map(|(_, kind)| *kind).collect();
    let mut allowed = json!({"parse": parse, "replied_user": mentions.replied_user});
    for (kind, ids) in [("users", &mentions.users), ("roles", &mentions.roles)] {
        if !ids.is_empty() {
            allowed[kind] = json!(ids);
        }
    }
    allowed
}

fn rows(links: &[Link]) -> Value {
    let button = |link: &Link| json!({"type": 2, "style": 5, "label": link.label, "url": link.url});
    let row = |row: &[Link]| json!({"type": 1, "components": row.iter().map(button).collect::<Vec<_>>()});
    links.chunks(ROW).map(row).collect()
}

fn attachment((index, file): (usize, &File)) -> Value {
    let mut attachment = json!({"id": index, "filename": file.shown_name()});
    if let Some(description) = &file.description {
        attachment["description"] = json!(description);
    }
    attachment
}

fn poll(poll: &Poll) -> Value {
    let answer = |text: &String| json!({"poll_media": {"text": text}});
    json!({
        "question": {"text": poll.question},
        "answers": poll.answers.iter().map(answer).collect::<Vec<_>>(),
        "duration": poll.hours,
        "allow_multiselect": poll.multiple,
        "layout_type": 1,
    })
}

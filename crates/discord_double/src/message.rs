//! A message as it is stored, and as it is shown.

use crate::id::Id;
use crate::pings::Pings;
use crate::world::World;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

pub(crate) const CROSSPOSTED: u64 = 1;
pub(crate) const SUPPRESS_EMBEDS: u64 = 1 << 2;
pub(crate) const HAS_THREAD: u64 = 1 << 5;
pub(crate) const SUPPRESS_NOTIFICATIONS: u64 = 1 << 12;
pub(crate) const VOICE_MESSAGE: u64 = 1 << 13;
pub(crate) const COMPONENTS_V2: u64 = 1 << 15;

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: Id,
    pub(crate) channel_id: Id,
    /// A user, or the webhook's id.
    pub(crate) author_id: Id,
    pub(crate) webhook_name: Option<String>,
    pub(crate) kind: u8,
    pub(crate) body: Body,
    pub(crate) reference: Option<Reference>,
    pub(crate) poll: Option<Poll>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) edited_at: Option<DateTime<Utc>>,
    pub(crate) pinned_at: Option<DateTime<Utc>>,
    pub(crate) pings: Pings,
    pub(crate) nonce: Option<Value>,
    /// Reads don't show it before.
    pub(crate) visible_from: DateTime<Utc>,
}

/// What an edit can change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) content: String,
    pub(crate) embeds: Vec<Value>,
    pub(crate) components: Vec<Value>,
    pub(crate) attachments: Vec<Value>,
    pub(crate) stickers: Vec<Id>,
    pub(crate) flags: u64,
    pub(crate) tts: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) forward: bool,
    pub(crate) channel_id: Id,
    pub(crate) message_id: Id,
    /// The forwarded message as it was.
    pub(crate) snapshot: Option<Value>,
}

#[derive(Clone, Debug)]
pub(crate) struct Poll {
    pub(crate) question: Value,
    pub(crate) answers: Vec<Value>,
    pub(crate) multiselect: bool,
    pub(crate) layout: u64,
    pub(crate) ends_at: DateTime<Utc>,
}

pub(crate) fn iso(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, false)
}

impl Message {
    /// The message with all that it holds, without its nonce: only the reply to its creation carries that.
    pub(crate) fn show(&self, world: &World, now: DateTime<Utc>) -> Value {
        let mentions: Vec<_> = self.pings.users.iter().filter_map(|id| show_user(world, *id)).collect();
        let mut message = json!({
            "id": self.id,
            "channel_id": self.channel_id,
            "type": self.kind,
            "content": self.body.content,
            "timestamp": iso(self.created_at),
            "edited_timestamp": self.edited_at.map(iso),
            "tts": self.body.tts,
            "mention_everyone": self.pings.everyone || self.pings.here,
            "mentions": mentions,
            "mention_roles": self.pings.roles,
            "attachments": self.body.attachments,
            "embeds": if self.body.flags & SUPPRESS_EMBEDS == 0 { json!(self.body.embeds) } else { json!([]) },
            "components": self.body.components,
            "pinned": self.pinned_at.is_some(),
            "flags": self.body.flags,
            "author": self.author(world),
        });
        let fields = message.as_object_mut().expect("it is an object");
        if self.webhook_name.is_some() {
            fields.insert("webhook_id".into(), json!(self.author_id));
        }
        if !self.body.stickers.is_empty() {
            let items = self.body.stickers.iter();
            let items: Vec<_> =
                items.map(|id| json!({"id": id, "name": "sticker", "format_type": 1})).collect();
            fields.insert("sticker_items".into(), json!(items));
        }
        if let Some(poll) = &self.poll {
            fields.insert("poll".into(), poll.show(now));
        }
        self.show_reference(world, fields, now);
        message
    }

    fn author(&self, world: &World) -> Value {
        match &self.webhook_name {
            Some(name) => json!({
                "id": self.author_id, "username": name, "discriminator": "0000", "avatar": null, "bot": true,
                "global_name": null,
            }),
            None => show_user(world, self.author_id).unwrap_or_else(
                || json!({"id": self.author_id, "username": "Deleted User", "discriminator": "0000", "avatar": null}),
            ),
        }
    }

    fn show_reference(&self, world: &World, fields: &mut Map<String, Value>, now: DateTime<Utc>) {
        let Some(reference) = &self.reference else { return };
        let guild = world.channel(reference.channel_id).map(|channel| channel.guild_id);
        fields.insert(
            "message_reference".into(),
            json!({
                "type": u8::from(reference.forward), "channel_id": reference.channel_id,
                "message_id": reference.message_id, "guild_id": guild,
            }),
        );
        if let Some(snapshot) = &reference.snapshot {
            fields.insert("message_snapshots".into(), json!([{"message": snapshot}]));
        } else if self.kind == 19 {
            let original =
                world.messages.get(&reference.channel_id).and_then(|all| all.get(&reference.message_id));
            let original = original.map(|message| {
                let mut shown = Message { reference: None, ..message.clone() }.show(world, now);
                shown["nonce"] = Value::Null;
                shown
            });
            fields.insert("referenced_message".into(), json!(original));
        }
    }
}

impl Poll {
    fn show(&self, now: DateTime<Utc>) -> Value {
        let answers = self.answers.iter().enumerate();
        let answers: Vec<_> =
            answers.map(|(n, media)| json!({"answer_id": n + 1, "poll_media": media})).collect();
        json!({
            "question": self.question,
            "answers": answers,
            "expiry": iso(self.ends_at),
            "allow_multiselect": self.multiselect,
            "layout_type": self.layout,
            "results": {"is_finalized": self.ends_at <= now, "answer_counts": []},
        })
    }
}

pub(crate) fn show_user(world: &World, id: Id) -> Option<Value> {
    let user = world.users.get(&id)?;
    Some(json!({
        "id": user.id, "username": user.username, "discriminator": "0", "avatar": null, "global_name": null,
        "bot": user.bot, "public_flags": 0,
    }))
}

//! Whom a message wakes: mentions in the text, what `allowed_mentions` lets through, and permissions.

use crate::call::Payload;
use crate::error::FormErrors;
use crate::id::Id;
use crate::permissions::Permissions;
use crate::state::Settings;
use crate::validation::{self, Form};
use crate::world::Guild;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// Who is pinged by one create or edit. Mentions of users and roles that the world does not know count too, and so
/// do mentions inside code blocks: a judge of unrequested pings should rather see one too many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pings {
    /// `@everyone`
    pub everyone: bool,
    /// `@here`
    pub here: bool,
    /// Roles.
    pub roles: BTreeSet<Id>,
    /// Users.
    pub users: BTreeSet<Id>,
}

impl Pings {
    /// Whom a request with this body wakes, by the rules that hold for requests to a double: for those who have millions
    /// of bodies to judge. Its author may mention everybody; what it answers, if it does, was written by `replied`.
    ///
    /// # Errors
    /// Discord's answer where it would refuse the body.
    pub fn of(body: &Value, writes: Writes, replied: Id) -> Result<Self, Value> {
        let form = match writes {
            Writes::Message => Form::Create,
            Writes::Edit => Form::Edit { flags: 0, webhook: false },
            Writes::Webhook => Form::Webhook { components: true },
            Writes::ForumPost => Form::ForumStarter,
        };
        let checked = validation::check(&Settings::default(), form, body, &Payload::default(), 0);
        let draft = checked.map_err(|refusal| refusal.body())?;
        let mut texts: Vec<&str> = draft.content.iter().map(String::as_str).collect();
        let components = draft.components.iter().flatten();
        components.for_each(|component| component_texts(component, &mut texts));
        let replied = draft.reference.as_ref().filter(|reference| !reference.forward).map(|_| replied);
        Ok(pinged(&texts, &draft.allowed, Permissions::ALL, None, replied))
    }

    /// Whether nobody is pinged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a request's body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Create Message.
    Message,
    /// Edit Message.
    Edit,
    /// Execute Webhook.
    Webhook,
    /// The `message` of Start Thread in Forum Channel.
    ForumPost,
}

/// The `allowed_mentions` of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AllowedMentions {
    everyone: bool,
    roles: Allowed,
    users: Allowed,
    replied_user: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Allowed {
    All,
    Only(BTreeSet<Id>),
}

impl Allowed {
    fn has(&self, id: Id) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(&id),
        }
    }
}

impl AllowedMentions {
    /// What holds where the field is absent: everything for a bot's message, users only for a webhook's.
    pub(crate) fn default_for(webhook: bool) -> Self {
        let roles = if webhook { Allowed::Only(BTreeSet::new()) } else { Allowed::All };
        Self { everyone: !webhook, roles, users: Allowed::All, replied_user: !webhook }
    }

    pub(crate) fn read(value: Option<&Value>, webhook: bool, form: &mut FormErrors) -> Self {
        let Some(Value::Object(fields)) = value else { return Self::default_for(webhook) };
        let empty = Vec::new();
        let parse = fields.get("parse").and_then(Value::as_array).unwrap_or(&empty);
        let parse: Vec<_> = parse.iter().filter_map(Value::as_str).collect();
        for (index, kind) in parse.iter().enumerate() {
            if !["roles", "users", "everyone"].contains(kind) {
                form.add(
                    &format!("allowed_mentions.parse.{index}"),
                    "BASE_TYPE_CHOICES",
                    "Value must be one of ('users', 'roles', 'everyone').",
                );
            }
        }
        let mut list = |name: &str| {
            let ids = fields.get(name).and_then(Value::as_array).unwrap_or(&empty);
            if ids.len() > 100 {
                form.too_long(&format!("allowed_mentions.{name}"), 100);
            }
            if !ids.is_empty() && parse.contains(&name) {
                form.add(
                    "allowed_mentions",
                    "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE",
                    format!("parse:[\"{name}\"] and {name}: [ids...] are mutually exclusive."),
                );
            }
            match parse.contains(&name) {
                true => Allowed::All,
                false => {
                    let ids = ids.iter().filter_map(|id| serde_json::from_value(id.clone()).ok());
                    Allowed::Only(ids.collect())
                }
            }
        };
        let (roles, users) = (list("roles"), list("users"));
        let replied_user = fields.get("replied_user").and_then(Value::as_bool).unwrap_or(false);
        Self { everyone: parse.contains(&"everyone"), roles, users, replied_user }
    }
}

/// Who is pinged by `texts`, and by replying to `replied`.
pub(crate) fn pinged(
    texts: &[&str],
    allowed: &AllowedMentions,
    author: Permissions,
    guild: Option<&Guild>,
    replied: Option<Id>,
) -> Pings {
    let mut pings = Pings::default();
    let may_mention_all = author.has(Permissions::MENTION_EVERYONE);
    for text in texts {
        if allowed.everyone && may_mention_all {
            pings.everyone |= text.contains("@everyone");
            pings.here |= text.contains("@here");
        }
        for (at, _) in text.match_indices("<@") {
            match mention(&text[at + 2..]) {
                Some(Mention::User(id)) if allowed.users.has(id) => _ = pings.users.insert(id),
                Some(Mention::Role(id)) if allowed.roles.has(id) => {
                    let role = guild.and_then(|guild| guild.roles.get(&id));
                    if role.is_none_or(|role| role.mentionable || may_mention_all) {
                        pings.roles.insert(id);
                    }
                }
                Some(Mention::User(_) | Mention::Role(_)) | None => {}
            }
        }
    }
    pings.users.extend(replied.filter(|_| allowed.replied_user));
    pings
}

/// Texts of components ping as content does.
pub(crate) fn component_texts<'a>(component: &'a Value, texts: &mut Vec<&'a str>) {
    if component["type"] == 10 {
        texts.extend(component["content"].as_str());
    }
    let inside = component["components"].as_array();
    inside.into_iter().flatten().for_each(|inside| component_texts(inside, texts));
}

enum Mention {
    User(Id),
    Role(Id),
}

/// What follows `<@`: `1>`, `!1>` or `&1>`.
fn mention(rest: &str) -> Option<Mention> {
    let (inside, _) = rest.split_once('>')?;
    let id = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<Id>().ok()).flatten()
    };
    match inside.strip_prefix('&') {
        Some(role) => id(role).map(Mention::Role),
        None => id(inside.strip_prefix('!').unwrap_or(inside)).map(Mention::User),
    }
}

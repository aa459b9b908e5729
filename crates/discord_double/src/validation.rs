//! What a message may hold: Discord's limits, and its errors with the path of each field.

use crate::call::{File, Payload};
use crate::error::{self, ApiError, FormErrors, form_error};
use crate::id::Id;
use crate::message::{self, Body};
use crate::pings::AllowedMentions;
use crate::state::{ContentUnit, Settings};
use chrono::DateTime;
use serde_json::{Map, Value, json};

/// Where a message comes from and goes to: the rules differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Create Message.
    Create,
    /// The first message of a forum's post.
    ForumStarter,
    /// A webhook's; whether it may have components.
    Webhook { components: bool },
    /// An edit of a message with these flags; whether a webhook wrote it.
    Edit { flags: u64, webhook: bool },
}

impl Form {
    fn is_webhook(self) -> bool {
        matches!(self, Self::Webhook { .. } | Self::Edit { webhook: true, .. })
    }

    fn is_edit(self) -> bool {
        matches!(self, Self::Edit { .. })
    }
}

/// A request's message, checked. Fields that an edit leaves out are `None`.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) content: Option<String>,
    pub(crate) embeds: Option<Vec<Value>>,
    pub(crate) components: Option<Vec<Value>>,
    /// The attachments of an edit that are kept; new files come after them.
    pub(crate) kept: Option<Vec<Id>>,
    /// New files, as attachments without id and URL.
    pub(crate) files: Vec<Value>,
    pub(crate) stickers: Vec<Id>,
    pub(crate) flags: Option<u64>,
    pub(crate) tts: bool,
    pub(crate) poll: Option<PollDraft>,
    pub(crate) allowed: AllowedMentions,
    pub(crate) reference: Option<ReferenceDraft>,
    pub(crate) nonce: Option<Value>,
    pub(crate) enforce_nonce: bool,
}

#[derive(Debug)]
pub(crate) struct PollDraft {
    pub(crate) question: Value,
    pub(crate) answers: Vec<Value>,
    pub(crate) multiselect: bool,
    pub(crate) layout: u64,
    pub(crate) hours: i64,
}

#[derive(Debug)]
pub(crate) struct ReferenceDraft {
    pub(crate) forward: bool,
    pub(crate) channel_id: Option<Id>,
    pub(crate) message_id: Id,
    pub(crate) fail_if_not_exists: bool,
}

impl Draft {
    pub(crate) fn body(&self) -> Body {
        Body {
            content: self.content.clone().unwrap_or_default(),
            embeds: self.embeds.clone().unwrap_or_default(),
            components: self.components.clone().unwrap_or_default(),
            attachments: Vec::new(),
            stickers: self.stickers.clone(),
            flags: self.flags.unwrap_or(0),
            tts: self.tts,
        }
    }

    /// Whether there is nothing to show.
    pub(crate) fn is_empty(&self) -> bool {
        let no = |list: &Option<Vec<Value>>| list.as_ref().is_none_or(Vec::is_empty);
        let forwards = self.reference.as_ref().is_some_and(|reference| reference.forward);
        self.content.as_deref().unwrap_or_default().is_empty()
            && no(&self.embeds)
            && no(&self.components)
            && self.files.is_empty()
            && self.stickers.is_empty()
            && self.poll.is_none()
            && !forwards
    }
}

/// Checks the message of a request. `file_bytes` is how large one file may be.
///
/// # Errors
/// 50035 with all fields that are wrong; 40005 for a file that is too large; 50146 for a file that is named and not
/// there; 50006 for a message with nothing in it.
pub(crate) fn check(
    settings: &Settings,
    form: Form,
    json: &Value,
    payload: &Payload,
    file_bytes: usize,
) -> Result<Draft, ApiError> {
    let empty = Map::new();
    let fields = match json {
        Value::Object(fields) => fields,
        Value::Null => &empty,
        _ => return Err(form_error("", "DICT_TYPE_CONVERT", "Only dictionaries may be used in a DictType")),
    };
    if payload.files.iter().any(|file| file.size > file_bytes) {
        return Err(error::file_too_large());
    }
    let mut checker = Checker { form, fields, errors: FormErrors::default() };
    let draft = checker.message(settings, &payload.files)?;
    checker.errors.check()?;
    if !form.is_edit() && draft.is_empty() {
        return Err(error::empty_message());
    }
    Ok(draft)
}

struct Checker<'a> {
    form: Form,
    fields: &'a Map<String, Value>,
    errors: FormErrors,
}

impl Checker<'_> {
    fn message(&mut self, settings: &Settings, files: &[File]) -> Result<Draft, ApiError> {
        let content = self.content(settings.content_unit);
        let flags = self.flags();
        let embeds = self.embeds();
        let components = self.components(flags.unwrap_or(0));
        let (kept, files) = self.attachments(files)?;
        let stickers = self.stickers();
        let poll = self.poll();
        let is_v2 = (flags.unwrap_or(0) | self.old_flags()) & message::COMPONENTS_V2 != 0;
        if is_v2 {
            self.v2_exclusive();
        }
        Ok(Draft {
            content,
            embeds,
            components,
            kept,
            files,
            stickers,
            flags,
            tts: self.flag("tts"),
            poll,
            allowed: AllowedMentions::read(
                self.fields.get("allowed_mentions"),
                self.form.is_webhook(),
                &mut self.errors,
            ),
            reference: self.reference(),
            nonce: self.nonce(),
            enforce_nonce: self.flag("enforce_nonce"),
        })
    }

    fn old_flags(&self) -> u64 {
        match self.form {
            Form::Edit { flags, .. } => flags,
            Form::Create | Form::ForumStarter | Form::Webhook { .. } => 0,
        }
    }

    fn flag(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| value == &json!(true) || value == "true")
    }

    /// A list that may be absent or null; null is an empty one.
    fn list(&mut self, name: &str, max: usize) -> Option<Vec<Value>> {
        match self.fields.get(name)? {
            Value::Null => Some(Vec::new()),
            Value::Array(list) => {
                if list.len() > max {
                    self.errors.too_long(name, max);
                }
                Some(list.clone())
            }
            _ => {
                self.errors.add(name, "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType");
                None
            }
        }
    }

    fn content(&mut self, unit: ContentUnit) -> Option<String> {
        match self.fields.get("content")? {
            Value::Null => Some(String::new()),
            Value::String(text) => {
                let text = text.trim().to_owned();
                let length = match unit {
                    ContentUnit::Characters => text.chars().count(),
                    ContentUnit::Utf16 => text.encode_utf16().count(),
                    ContentUnit::Bytes => text.len(),
                };
                if length > 2000 {
                    self.errors.too_long("content", 2000);
                }
                Some(text)
            }
            Value::Number(number) => Some(number.to_string()),
            other => {
                let message = format!("Could not interpret \"{other}\" as string.");
                self.errors.add("content", "STRING_TYPE_CONVERT", message);
                None
            }
        }
    }

    /// Flags that can't be set are ignored.
    fn flags(&mut self) -> Option<u64> {
        let settable = match self.form {
            Form::Create => {
                message::SUPPRESS_EMBEDS
                    | message::SUPPRESS_NOTIFICATIONS
                    | message::VOICE_MESSAGE
                    | message::COMPONENTS_V2
            }
            Form::ForumStarter => message::SUPPRESS_EMBEDS | message::SUPPRESS_NOTIFICATIONS,
            Form::Webhook { .. } => {
                message::SUPPRESS_EMBEDS | message::SUPPRESS_NOTIFICATIONS | message::COMPONENTS_V2
            }
            Form::Edit { .. } => message::SUPPRESS_EMBEDS | message::COMPONENTS_V2,
        };
        match self.fields.get("flags")? {
            Value::Null => None,
            flags => match flags.as_u64().or_else(|| flags.as_str()?.parse().ok()) {
                Some(flags) => Some(flags & settable),
                None => {
                    self.errors.add("flags", "NUMBER_TYPE_COERCE", format!("Value {flags} is not int."));
                    None
                }
            },
        }
    }

    fn embeds(&mut self) -> Option<Vec<Value>> {
        let mut embeds = self.list("embeds", 10)?;
        let mut total = 0;
        for (index, embed) in embeds.iter_mut().enumerate() {
            total += check_embed(&format!("embeds.{index}"), embed, &mut self.errors);
        }
        if total > 6000 {
            self.errors.add("embeds", "MAX_EMBED_SIZE_EXCEEDED", "Embed size exceeds maximum size of 6000");
        }
        Some(collapse(embeds))
    }

    fn components(&mut self, flags: u64) -> Option<Vec<Value>> {
        if self.form == (Form::Webhook { components: false }) {
            return None;
        }
        let is_v2 = (flags | self.old_flags()) & message::COMPONENTS_V2 != 0;
        let components = self.list("components", 40)?;
        if is_v2 {
            let total: usize = components.iter().map(count_components).sum();
            if total > 40 {
                self.errors.add(
                    "components",
                    "COMPONENT_MAX_TOTAL_COMPONENTS_EXCEEDED",
                    "The total number of components cannot exceed 40",
                );
            }
            let text: usize = components.iter().map(displayed_characters).sum();
            if text > 4000 {
                self.errors.add(
                    "components",
                    "COMPONENT_DISPLAYABLE_TEXT_SIZE_EXCEEDED",
                    "The total length of displayable text cannot exceed 4000",
                );
            }
            return Some(components);
        }
        if components.len() > 5 {
            self.errors.bad_length("components", 1, 5);
        }
        for (index, component) in components.iter().enumerate() {
            let path = format!("components.{index}");
            if component["type"] != json!(1) {
                self.errors.add(
                    &format!("{path}.type"),
                    "UNION_TYPE_CHOICES",
                    "Value of field \"type\" must be one of (1,).",
                );
                continue;
            }
            let inside = component["components"].as_array().map_or(0, Vec::len);
            if !(1..=5).contains(&inside) {
                self.errors.bad_length(&format!("{path}.components"), 1, 5);
            }
        }
        Some(components)
    }

    /// What is kept, and the new files with their descriptions.
    fn attachments(&mut self, files: &[File]) -> Result<(Option<Vec<Id>>, Vec<Value>), ApiError> {
        let named = self.list("attachments", 10);
        let mut kept = named.as_ref().map(|_| Vec::new());
        let mut new: Vec<_> = files.iter().map(show_file).collect();
        for (index, attachment) in named.iter().flatten().enumerate() {
            let Ok(id) = serde_json::from_value::<Id>(attachment["id"].clone()) else {
                self.errors.required(&format!("attachments.{index}.id"));
                continue;
            };
            let description = attachment["description"].as_str().unwrap_or_default();
            if description.chars().count() > 1024 {
                self.errors.too_long(&format!("attachments.{index}.description"), 1024);
            }
            match files.iter().position(|file| file.index == id.0) {
                Some(at) => {
                    if let Some(name) = attachment["filename"].as_str() {
                        new[at]["filename"] = json!(name);
                    }
                    if !description.is_empty() {
                        new[at]["description"] = json!(description);
                    }
                }
                None if self.form.is_edit() => kept.iter_mut().for_each(|kept| kept.push(id)),
                None => return Err(ApiError::new(400, 50146, "Uploaded file not found")),
            }
        }
        if new.len() + kept.as_ref().map_or(0, Vec::len) > 10 {
            self.errors.too_long("attachments", 10);
        }
        Ok((kept, new))
    }

    fn stickers(&mut self) -> Vec<Id> {
        let list = self.list("sticker_ids", 3).unwrap_or_default();
        list.into_iter().filter_map(|id| serde_json::from_value(id).ok()).collect()
    }

    fn poll(&mut self) -> Option<PollDraft> {
        // An edit has no such field, and what a form does not know is ignored.
        let poll = self.fields.get("poll").filter(|poll| !poll.is_null() && !self.form.is_edit())?;
        if self.form == Form::ForumStarter {
            self.errors.add("poll", "POLL_NOT_ALLOWED", "Polls are not allowed here");
            return None;
        }
        let question = poll["question"]["text"].as_str().unwrap_or_default().trim();
        if question.is_empty() {
            self.errors.required("poll.question.text");
        } else if question.chars().count() > 300 {
            self.errors.bad_length("poll.question.text", 1, 300);
        }
        let none = Vec::new();
        let answers = poll["answers"].as_array().unwrap_or(&none);
        if !(1..=10).contains(&answers.len()) {
            self.errors.bad_length("poll.answers", 1, 10);
        }
        for (index, answer) in answers.iter().enumerate() {
            let text = answer["poll_media"]["text"].as_str().unwrap_or_default().trim();
            if !(1..=55).contains(&text.chars().count()) {
                self.errors.bad_length(&format!("poll.answers.{index}.poll_media.text"), 1, 55);
            }
        }
        let hours = poll["duration"].as_i64().unwrap_or(24);
        if hours < 1 {
            let message = "int value should be greater than or equal to 1.";
            self.errors.add("poll.duration", "NUMBER_TYPE_MIN", message);
        } else if hours > 768 {
            let message = "int value should be less than or equal to 768.";
            self.errors.add("poll.duration", "NUMBER_TYPE_MAX", message);
        }
        Some(PollDraft {
            question: poll["question"].clone(),
            answers: answers.iter().map(|answer| answer["poll_media"].clone()).collect(),
            multiselect: poll["allow_multiselect"].as_bool().unwrap_or(false),
            layout: poll["layout_type"].as_u64().unwrap_or(1),
            hours,
        })
    }

    fn v2_exclusive(&mut self) {
        for name in ["content", "embeds", "poll", "sticker_ids"] {
            let is_there = self.fields.get(name).is_some_and(|value| match value {
                Value::Null => false,
                Value::String(text) => !text.is_empty(),
                Value::Array(list) => !list.is_empty(),
                _ => true,
            });
            if is_there {
                self.errors.add(
                    name,
                    "MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2",
                    format!("The '{name}' field cannot be used when using MessageFlags.IS_COMPONENTS_V2"),
                );
            }
        }
    }

    fn reference(&mut self) -> Option<ReferenceDraft> {
        let reference = self.fields.get("message_reference").filter(|reference| !reference.is_null())?;
        let Ok(message_id) = serde_json::from_value(reference["message_id"].clone()) else {
            self.errors.required("message_reference.message_id");
            return None;
        };
        Some(ReferenceDraft {
            forward: reference["type"] == json!(1),
            channel_id: serde_json::from_value(reference["channel_id"].clone()).ok(),
            message_id,
            fail_if_not_exists: reference["fail_if_not_exists"].as_bool().unwrap_or(true),
        })
    }

    fn nonce(&mut self) -> Option<Value> {
        if self.form != Form::Create {
            return None;
        }
        match self.fields.get("nonce")? {
            Value::Null => None,
            Value::Number(number) if number.as_i64().is_some() => Some(json!(number)),
            Value::String(text) => {
                if text.chars().count() > 25 {
                    self.errors.too_long("nonce", 25);
                }
                Some(json!(text))
            }
            other => {
                let message = format!("Could not interpret \"{other}\" as string.");
                self.errors.add("nonce", "STRING_TYPE_CONVERT", message);
                None
            }
        }
    }
}

fn show_file(file: &File) -> Value {
    let mut shown = json!({"filename": file.name, "size": file.size});
    if let Some(content_type) = &file.content_type {
        shown["content_type"] = json!(content_type);
    }
    shown
}

/// Checks and trims one embed, and says what it adds to the sum of all embeds.
fn check_embed(path: &str, embed: &mut Value, errors: &mut FormErrors) -> usize {
    let Value::Object(fields) = embed else {
        errors.add(path, "DICT_TYPE_CONVERT", "Only dictionaries may be used in a DictType");
        return 0;
    };
    let mut total = 0;
    let parts = [("title", 256), ("description", 4096)];
    for (name, limit) in parts {
        total +=
            fields.get_mut(name).map_or(0, |text| check_text(&format!("{path}.{name}"), text, limit, errors));
    }
    for (part, name, limit) in [("footer", "text", 2048), ("author", "name", 256)] {
        let text = fields.get_mut(part).and_then(|part| part.get_mut(name));
        total += text.map_or(0, |text| check_text(&format!("{path}.{part}.{name}"), text, limit, errors));
    }
    check_urls(path, fields, errors);
    check_color_and_time(path, fields, errors);
    total += check_fields(path, fields.get_mut("fields"), errors);
    let visible = ["title", "description", "fields", "footer", "author", "image", "thumbnail", "url"];
    if !visible.iter().any(|name| fields.get(*name).is_some_and(|value| !is_blank(value))) {
        errors.required(&format!("{path}.description"));
    }
    fields.insert("type".into(), json!("rich"));
    fields.retain(|_, value| !value.is_null());
    total
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn check_text(path: &str, text: &mut Value, limit: usize, errors: &mut FormErrors) -> usize {
    let Value::String(inside) = text else {
        if !text.is_null() {
            errors.add(path, "STRING_TYPE_CONVERT", format!("Could not interpret \"{text}\" as string."));
        }
        return 0;
    };
    let trimmed = inside.trim().to_owned();
    let length = trimmed.chars().count();
    if length > limit {
        errors.too_long(path, limit);
    }
    *inside = trimmed;
    length
}

fn check_fields(path: &str, fields: Option<&mut Value>, errors: &mut FormErrors) -> usize {
    let Some(Value::Array(fields)) = fields else { return 0 };
    if fields.len() > 25 {
        errors.too_long(&format!("{path}.fields"), 25);
    }
    let mut total = 0;
    for (index, field) in fields.iter_mut().enumerate() {
        for (name, limit) in [("name", 256), ("value", 1024)] {
            let path = format!("{path}.fields.{index}.{name}");
            let length = field.get_mut(name).map_or(0, |text| check_text(&path, text, limit, errors));
            if length == 0 {
                errors.required(&path);
            }
            total += length;
        }
        if field["inline"].is_null() {
            field["inline"] = json!(false);
        }
    }
    total
}

fn check_urls(path: &str, fields: &Map<String, Value>, errors: &mut FormErrors) {
    let nested = |part: &str, name: &str| fields.get(part).and_then(|part| part.get(name));
    let urls = [
        ("url", fields.get("url"), false),
        ("image.url", nested("image", "url"), true),
        ("thumbnail.url", nested("thumbnail", "url"), true),
        ("author.url", nested("author", "url"), false),
        ("author.icon_url", nested("author", "icon_url"), true),
        ("footer.icon_url", nested("footer", "icon_url"), true),
    ];
    for (name, url, may_be_attachment) in urls {
        let Some(url) = url.and_then(Value::as_str).filter(|url| !url.is_empty()) else { continue };
        let path = format!("{path}.{name}");
        if url.len() > 2048 {
            errors.too_long(&path, 2048);
            continue;
        }
        let Some((scheme, rest)) = url.split_once(':') else {
            errors.add(&path, "URL_TYPE_INVALID_URL", "Not a well formed URL.");
            continue;
        };
        let is_known = match scheme {
            "http" | "https" => true,
            "attachment" => may_be_attachment,
            _ => false,
        };
        if !is_known {
            let known = if may_be_attachment { "'http', 'https', 'attachment'" } else { "'http', 'https'" };
            let message = format!("Scheme \"{scheme}\" must be one of ({known}).");
            errors.add(&path, "URL_TYPE_INVALID_SCHEME", message);
        } else if !rest.starts_with("//") || rest.len() < 3 || rest.contains(char::is_whitespace) {
            errors.add(&path, "URL_TYPE_INVALID_URL", "Not a well formed URL.");
        }
    }
}

fn check_color_and_time(path: &str, fields: &Map<String, Value>, errors: &mut FormErrors) {
    if fields.get("color").and_then(Value::as_i64).is_some_and(|color| color > 0xFF_FFFF) {
        let message = "int value should be less than or equal to 16777215.";
        errors.add(&format!("{path}.color"), "NUMBER_TYPE_MAX", message);
    }
    if let Some(time) = fields.get("timestamp").and_then(Value::as_str) {
        let is_time = DateTime::parse_from_rfc3339(time).is_ok()
            || time.parse::<chrono::NaiveDateTime>().is_ok()
            || time.parse::<chrono::NaiveDate>().is_ok();
        if !is_time {
            let message = format!("Could not parse {time}. Should be ISO8601.");
            errors.add(&format!("{path}.timestamp"), "DATE_TIME_TYPE_PARSE", message);
        }
    }
}

/// Embeds with the same URL become the first of them, with the images of all.
fn collapse(embeds: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for embed in embeds {
        let url = embed["url"].as_str();
        if url.is_none() || !kept.iter().any(|known| known["url"].as_str() == url) {
            kept.push(embed);
        }
    }
    kept
}

fn count_components(component: &Value) -> usize {
    let inside = component["components"].as_array();
    let accessory = usize::from(component["accessory"].is_object());
    1 + accessory + inside.map_or(0, |inside| inside.iter().map(count_components).sum())
}

fn displayed_characters(component: &Value) -> usize {
    let own = component["content"].as_str().map_or(0, |text| text.chars().count());
    let inside = component["components"].as_array();
    own + inside.map_or(0, |inside| inside.iter().map(displayed_characters).sum())
}

/// A name of 1 to `max` characters.
pub(crate) fn check_name(path: &str, name: &Value, max: usize, errors: &mut FormErrors) -> String {
    let Some(name) = name.as_str() else {
        errors.required(path);
        return String::new();
    };
    let name = name.trim();
    if !(1..=max).contains(&name.chars().count()) {
        errors.bad_length(path, 1, max);
    }
    name.to_owned()
}

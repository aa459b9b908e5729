//! Discord's errors: status, code, message, and for forms the path of each field that is wrong.

use crate::limits::{Limited, Scope};
use serde_json::{Map, Value, json};

/// What Discord answers when it does not do what was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) errors: Option<Value>,
    /// Set if this is a 429 by a rate limit.
    pub(crate) limited: Option<Limited>,
}

impl ApiError {
    pub(crate) fn new(status: u16, code: i64, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), errors: None, limited: None }
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = Map::new();
        body.insert("message".into(), json!(self.message));
        if let Some(limited) = &self.limited {
            body.insert("retry_after".into(), json!(limited.body_seconds));
            body.insert("global".into(), json!(limited.scope == Scope::Global));
        }
        // A plain 429 has no code.
        if self.limited.is_none() || self.code != 0 {
            body.insert("code".into(), json!(self.code));
        }
        if let Some(errors) = &self.errors {
            body.insert("errors".into(), errors.clone());
        }
        Value::Object(body)
    }
}

macro_rules! errors {
    ($($name:ident = $status:literal, $code:literal, $message:literal;)*) => {
        $(pub(crate) fn $name() -> ApiError { ApiError::new($status, $code, $message) })*
    };
}

errors! {
    unauthorized = 401, 0, "401: Unauthorized";
    not_found = 404, 0, "404: Not Found";
    unknown_channel = 404, 10003, "Unknown Channel";
    unknown_guild = 404, 10004, "Unknown Guild";
    unknown_member = 404, 10007, "Unknown Member";
    unknown_message = 404, 10008, "Unknown Message";
    unknown_user = 404, 10013, "Unknown User";
    unknown_webhook = 404, 10015, "Unknown Webhook";
    slow_crosspost = 429, 20028, "The write action you are performing on the channel has hit the write rate limit";
    max_pins = 400, 30003, "Maximum number of pins reached (50)";
    old_edits = 429, 30046, "Maximum number of edits to messages older than 1 hour reached. Try again later";
    request_too_large = 413, 40005, "Request entity too large";
    already_crossposted = 400, 40033, "This message has already been crossposted";
    user_agent = 403, 40333, "internal network error";
    tag_required = 400, 40067, "A tag is required to create a forum post in this channel";
    no_tags = 400, 40066, "There are no tags available that can be set by non-moderators";
    missing_access = 403, 50001, "Missing Access";
    not_own_message = 403, 50005, "Cannot edit a message authored by another user";
    empty_message = 400, 50006, "Cannot send an empty message";
    missing_permissions = 403, 50013, "Missing Permissions";
    wrong_channel_type = 400, 50024, "Cannot execute action on this channel type";
    invalid_webhook_token = 401, 50027, "Invalid Webhook Token";
    message_in_forum = 400, 40058, "Cannot send a message in a forum channel";
    api_version = 400, 50041, "Invalid API version provided";
    file_too_large = 413, 40005, "Request entity too large";
    archived_thread = 400, 50083, "Thread is archived";
    invalid_json = 400, 50109, "The request body contains invalid JSON.";
    thread_exists = 400, 160_004, "A thread has already been created for this message";
    locked_thread = 400, 160_005, "Thread is locked";
    reply_without_history = 400, 160_002, "Cannot reply without permission to read message history";
    webhook_forum_needs_thread = 400, 220_001, "Webhooks posted to forum channels must have a thread_name or thread_id";
    webhook_forum_one_thread = 400, 220_002, "Webhooks posted to forum channels can only have one of thread_name or thread_id";
    webhook_threads_in_forums_only = 400, 220_003, "Webhooks can only create threads in forum channels";
    poll_expired = 400, 520_001, "Poll expired";
    no_poll = 400, 520_006, "Cannot expire a message without a poll";
}

/// The fields of a form that are wrong, by their path in the request.
#[derive(Debug, Default)]
pub(crate) struct FormErrors {
    tree: Map<String, Value>,
}

impl FormErrors {
    /// Notes one error at `path`, whose parts are separated by dots; an empty path is the form itself.
    pub(crate) fn add(&mut self, path: &str, code: &str, message: impl Into<String>) {
        let mut node = &mut self.tree;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let next = node.entry(part).or_insert_with(|| json!({}));
            let Value::Object(next) = next else { return };
            node = next;
        }
        let list = node.entry("_errors").or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(json!({"code": code, "message": message.into()}));
        }
    }

    pub(crate) fn too_long(&mut self, path: &str, limit: usize) {
        self.add(path, "BASE_TYPE_MAX_LENGTH", format!("Must be {limit} or fewer in length."));
    }

    pub(crate) fn bad_length(&mut self, path: &str, from: usize, to: usize) {
        self.add(path, "BASE_TYPE_BAD_LENGTH", format!("Must be between {from} and {to} in length."));
    }

    pub(crate) fn required(&mut self, path: &str) {
        self.add(path, "BASE_TYPE_REQUIRED", "This field is required");
    }

    pub(crate) fn check(self) -> Result<(), ApiError> {
        if self.tree.is_empty() {
            return Ok(());
        }
        let mut error = ApiError::new(400, 50035, "Invalid Form Body");
        error.errors = Some(Value::Object(self.tree));
        Err(error)
    }
}

/// A form with one error.
pub(crate) fn form_error(path: &str, code: &str, message: impl Into<String>) -> ApiError {
    let mut form = FormErrors::default();
    form.add(path, code, message);
    form.check().expect_err("an error was added")
}

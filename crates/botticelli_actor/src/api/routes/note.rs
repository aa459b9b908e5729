//! What people say about what they change.

use schemars::JsonSchema;
use serde::Deserialize;

/// The body of a change that needs none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Noted {
    /// Why, for others: it stands in the audit, and with a paused task.
    pub(super) note: Option<Note>,
}

/// A line or two: 1-1000 characters.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("minLength" = 1, "maxLength" = 1000))]
pub(super) struct Note(String);

impl TryFrom<String> for Note {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = (1..=1_000).contains(&text.chars().count());
        if fits { Ok(Self(text)) } else { Err("a note has 1-1000 characters") }
    }
}

impl From<Note> for String {
    fn from(note: Note) -> Self {
        note.0
    }
}

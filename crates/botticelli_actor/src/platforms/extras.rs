//! What comes with a text, for people to read where it is not posted.

use botticelli_server::post::Extras;
use serde_json::Value;

/// One line for each thing, by the path under which errors name it: `[discord] embeds[0].title: …`. Further lines of a
/// value are indented.
pub(crate) fn shown(extras: &Extras) -> String {
    let mut lines = String::new();
    for (platform, value) in extras {
        add(&mut lines, platform, "", value);
    }
    lines
}

fn add(lines: &mut String, platform: &str, path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                add(lines, platform, &format!("{path}{dot}{name}"), value);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                add(lines, platform, &format!("{path}[{index}]"), value);
            }
        }
        Value::String(text) => {
            let text = text.lines().collect::<Vec<_>>().join("\n  ");
            lines.push_str(&format!("[{platform}] {path}: {text}\n"));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            lines.push_str(&format!("[{platform}] {path}: {value}\n"));
        }
    }
}

//! The hash by which nodes know that they hold the same definition of a task.

use super::server_file::ServerSettings;
use sha2::{Digest, Sha256};
use toml::{Table, Value};

/// The hash of a task's entry, its actor's file, and what the server's settings add. Neither paths nor the form of the
/// files matter, nor defaults that a later release adds: nodes of two releases can share a task.
pub(super) fn hash(task: &Table, actor: &Table, server: &ServerSettings) -> String {
    let mut text = String::new();
    write_canonical(&mut text, &Value::Table(task.clone()));
    write_canonical(&mut text, &Value::Table(actor.clone()));
    let defaults = [
        server.max_consecutive_failures.get().into(),
        server.backoff.initial.as_secs(),
        server.backoff.max.as_secs(),
    ];
    text.push_str(&defaults.map(|number: u64| number.to_string()).join(" "));
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// JSON with sorted keys and without spaces.
fn write_canonical(text: &mut String, value: &Value) {
    match value {
        Value::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                text.push_str(&serde_json::Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(text, value);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_canonical(text, item);
            }
            text.push(']');
        }
        Value::String(string) => text.push_str(&serde_json::Value::from(string.as_str()).to_string()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            text.push_str(&value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_and_order_do_not_matter_and_content_does() {
        let hash = |task: &str| hash(&task.parse().unwrap(), &Table::new(), &ServerSettings::default());
        let one = hash("name = 'a'\nschedule = { type = 'Interval', seconds = 60 }");
        assert_eq!(one, hash("# words\nname = \"a\"\n[schedule]\nseconds = 0x3C\ntype = 'Interval'"));
        assert_ne!(one, hash("name = 'b'\nschedule = { type = 'Interval', seconds = 60 }"));
        assert_ne!(one, hash("name = 'a'\nschedule = { type = 'Interval', seconds = 61 }"));
        assert_eq!(one.len(), 64);
    }

    #[test]
    fn what_the_server_adds_counts() {
        let strict =
            ServerSettings { max_consecutive_failures: std::num::NonZeroU32::MIN, ..Default::default() };
        let empty = Table::new();
        assert_ne!(hash(&empty, &empty, &ServerSettings::default()), hash(&empty, &empty, &strict));
    }
}

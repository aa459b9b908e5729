//! JSON Schemas of both files, for editors.

use super::actor_file::ActorFile;
use super::server_file::ActorServerConfig;
use schemars::{Schema, schema_for};
use serde_json::Value;

/// The schema of the server's file.
pub fn server() -> Schema {
    without_null(schema_for!(ActorServerConfig))
}

/// The schema of an actor's file.
pub fn actor() -> Schema {
    without_null(schema_for!(ActorFile))
}

/// TOML has no null: what is optional is left out.
fn without_null(mut schema: Schema) -> Schema {
    schema.as_object_mut().into_iter().flat_map(|object| object.values_mut()).for_each(strip_null);
    schema
}

fn strip_null(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, value| key != "default" || !value.is_null());
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
            }
            object.values_mut().for_each(strip_null);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

//! JSON Schemas of both files, for editors.

use super::actor_file::ActorFile;
use super::server_file::ActorServerConfig;
use schemars::{Schema, schema_for};
use serde_json::{Map, Value, json};

/// The schema of the server's file.
pub fn server() -> Schema {
    without_null(schema_for!(ActorServerConfig))
}

/// The schema of an actor's file, in which skills and knowledge sources have the settings that these schemas say, by
/// their name or type. Without any, they may have all settings.
pub fn actor<'a>(
    skills: impl IntoIterator<Item = (&'a str, Schema)>,
    knowledge: impl IntoIterator<Item = (&'a str, Schema)>,
) -> Schema {
    let mut schema = schema_for!(ActorFile);
    one_of(&mut schema, "SkillSection", "name", skills);
    one_of(&mut schema, "KnowledgeSection", "type", knowledge);
    without_null(schema)
}

/// Replaces the definition `section` by one for each kind of entry, which its key `tag` tells apart.
fn one_of<'a>(
    whole: &mut Schema,
    section: &str,
    tag: &str,
    kinds: impl IntoIterator<Item = (&'a str, Schema)>,
) {
    let kinds: Vec<Value> =
        kinds.into_iter().map(|(kind, settings)| entry(whole, section, tag, kind, settings)).collect();
    if let Some(definitions) = definitions(whole)
        && !kinds.is_empty()
    {
        definitions.insert(section.to_owned(), json!({ "oneOf": kinds }));
    }
}

/// The schema of an entry of one kind: its settings, and what all entries of the section have. What the settings define
/// goes to the definitions of the whole, under the kind's name.
fn entry(whole: &mut Schema, section: &str, tag: &str, kind: &str, settings: Schema) -> Value {
    let mut settings = settings.to_value();
    point_into(&mut settings, kind);
    let Some(entry) = settings.as_object_mut() else { return settings };
    if let (Some(Value::Object(defined)), Some(definitions)) = (entry.remove("$defs"), definitions(whole)) {
        definitions
            .extend(defined.into_iter().map(|(definition, schema)| (format!("{kind}.{definition}"), schema)));
    }
    entry.remove("$schema");
    entry.remove("title");
    let common = whole.pointer(&format!("/$defs/{section}/properties")).and_then(Value::as_object).cloned();
    if let Some(properties) = object(entry, "properties") {
        properties.extend(common.unwrap_or_default());
        properties.insert(tag.to_owned(), json!({ "const": kind }));
    }
    let needed = whole.pointer(&format!("/$defs/{section}/required")).and_then(Value::as_array).cloned();
    if let Value::Array(required) = entry.entry("required").or_insert_with(|| json!([])) {
        required.extend(needed.unwrap_or_default());
    }
    settings
}

fn definitions(schema: &mut Schema) -> Option<&mut Map<String, Value>> {
    object(schema.ensure_object(), "$defs")
}

fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    parent.entry(key).or_insert_with(|| json!({})).as_object_mut()
}

fn point_into(value: &mut Value, name: &str) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(target) if key == "$ref" => {
                        *target = target.replacen("#/$defs/", &format!("#/$defs/{name}."), 1);
                    }
                    other => point_into(other, name),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| point_into(item, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::JsonSchema;

    #[derive(JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Cutter {
        length: u32,
        overflow: Option<Overflow>,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Overflow {
        Split,
    }

    #[test]
    fn the_settings_of_skills_are_part_of_the_actor_s_schema() {
        let schema = actor([("cutter", schema_for!(Cutter))], []).to_value();
        let cutter = &schema["$defs"]["SkillSection"]["oneOf"][0];
        assert_eq!(cutter["properties"]["name"], json!({ "const": "cutter" }));
        assert_eq!(cutter["properties"]["enabled"]["type"], "boolean");
        assert_eq!(cutter["required"], json!(["length", "name"]));
        assert_eq!(cutter["additionalProperties"], false);
        assert_eq!(cutter["properties"]["overflow"]["anyOf"], json!([{ "$ref": "#/$defs/cutter.Overflow" }]));
        assert_eq!(schema["$defs"]["cutter.Overflow"]["enum"], json!(["Split"]));
    }

    #[test]
    fn nothing_is_null() {
        assert!(!server().to_value().to_string().contains("null"));
        assert!(!actor([], []).to_value().to_string().contains("null"));
    }
}

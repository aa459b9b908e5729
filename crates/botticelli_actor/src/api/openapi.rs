//! `/openapi.json`: OpenAPI 3.1, made from the operations as they are mounted and from the types that they really take
//! and answer.

use super::access::Needs;
use super::problem::ProblemDocument;
use super::route::{Nothing, Operation, TakenHeader};
use axum::http::{Method, StatusCode};
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};
use std::any::TypeId;

/// Where types stand in the document.
const SCHEMAS: &str = "/components/schemas";
/// Where they stand until the document is finished, if they are read: they may look otherwise than when they are written.
const READ: &str = "/components/read";

/// The document, while operations are added to it.
pub struct Document {
    read: SchemaGenerator,
    written: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Default for Document {
    fn default() -> Self {
        let settings = |place: &'static str| {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = place.into();
                settings.meta_schema = None;
            })
        };
        Self {
            read: settings(READ).for_deserialize().into_generator(),
            written: settings(SCHEMAS).for_serialize().into_generator(),
            paths: Map::new(),
        }
    }
}

impl Document {
    /// Adds an operation that takes `P`, `Q` and `B`, and answers `T`.
    pub(super) fn add<P, Q, B, T>(&mut self, operation: &Operation)
    where
        P: JsonSchema + 'static,
        Q: JsonSchema + 'static,
        B: JsonSchema + 'static,
        T: JsonSchema,
    {
        let mut described = self.described::<P, Q>(operation);
        if TypeId::of::<B>() != TypeId::of::<Nothing>() {
            let schema = self.read.subschema_for::<B>().to_value();
            let needed = B::json_schema(&mut self.read).get("required").is_some();
            described["requestBody"] =
                json!({ "required": needed, "content": { "application/json": { "schema": schema } } });
        }
        let schema = self.written.subschema_for::<T>().to_value();
        let content = json!({ "application/json": { "schema": schema } });
        self.enter(operation, described, content);
    }

    /// Adds an operation that answers something else than JSON.
    pub(super) fn add_raw<Q: JsonSchema + 'static>(&mut self, operation: &Operation, media_type: &str) {
        let described = self.described::<Nothing, Q>(operation);
        self.enter(operation, described, json!({ media_type: {} }));
    }

    fn described<P: JsonSchema + 'static, Q: JsonSchema + 'static>(
        &mut self,
        operation: &Operation,
    ) -> Value {
        let mut parameters = self.parameters::<P>("path");
        parameters.extend(self.parameters::<Q>("query"));
        parameters.extend(operation.header.map(|TakenHeader { name, purpose, pattern }| {
            let schema = json!({ "type": "string", "pattern": pattern });
            json!({ "name": name, "in": "header", "required": false, "description": purpose, "schema": schema })
        }));
        let mut described = json!({
            "operationId": operation.id,
            "summary": operation.summary,
            "tags": [operation.path.split('/').nth(1).unwrap_or_default()],
            "parameters": parameters,
            "security": security(operation.needs),
        });
        if !operation.description.is_empty() {
            described["description"] = operation.description.into();
        }
        described
    }

    /// The fields of `T`, each a parameter.
    fn parameters<T: JsonSchema + 'static>(&mut self, place: &str) -> Vec<Value> {
        let schema = T::json_schema(&mut self.read).to_value();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let fields = schema["properties"].as_object().cloned().unwrap_or_default();
        let parameter = |(name, mut schema): (String, Value)| {
            without_null(&mut schema);
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            json!({
                "name": name,
                "in": place,
                "required": place == "path" || required.iter().any(|needed| *needed == name),
                "description": description.unwrap_or_default(),
                "schema": schema,
            })
        };
        fields.into_iter().map(parameter).collect()
    }

    fn enter(&mut self, operation: &Operation, mut described: Value, content: Value) {
        let problem = json!({
            "description": "What is wrong (RFC 9457)",
            "content": { "application/problem+json": { "schema": self.written.subschema_for::<ProblemDocument>().to_value() } },
        });
        let mut answer = json!({ "description": "Done" });
        if operation.status != StatusCode::NO_CONTENT {
            answer["content"] = content;
        }
        let mut responses = Map::new();
        responses.insert(operation.status.as_str().to_owned(), answer);
        if operation.method == Method::GET {
            responses.insert(
                "304".to_owned(),
                json!({ "description": "As the `If-None-Match` of the request knows it" }),
            );
        }
        responses.insert("4XX".to_owned(), problem.clone());
        responses.insert("5XX".to_owned(), problem);
        described["responses"] = responses.into();
        let path = self.paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = described;
    }

    /// The whole document.
    pub fn finish(mut self) -> Value {
        let mut schemas = self.written.take_definitions(true);
        for (name, schema) in self.read.take_definitions(true) {
            schemas.insert(format!("{name}Input"), schema);
        }
        let mut document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Botticelli Actor Server",
                "version": botticelli_database::VERSION,
                "description": "Every error is a problem document (RFC 9457). Lists come in pages: `limit` says how many rows, \
                    and `next_cursor` is the `cursor` of the next page. Nothing unknown is accepted in a query or a body.",
            },
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            },
        });
        point_to_schemas(&mut document);
        document
    }
}

fn security(needs: Needs) -> Value {
    match needs {
        Needs::Nothing => json!([]),
        Needs::Scope(scope) => json!([{ "token": [scope.as_str()] }]),
    }
}

/// A parameter is left out, never null.
fn without_null(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.retain(|key, value| key != "default" || !value.is_null());
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
    }
}

fn point_to_schemas(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(name) = target.strip_prefix('#').and_then(|path| path.strip_prefix(READ))
                        {
                            *target = format!("#{SCHEMAS}{name}Input");
                        }
                    }
                    other => point_to_schemas(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(point_to_schemas),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

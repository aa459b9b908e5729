//! Texts that are made of an item.

use crate::draft::Item;
use crate::skill::ActorContext;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, UndefinedBehavior};
use schemars::JsonSchema;
use serde::Deserialize;

/// The most steps that a template may take: thousands of times what one needs, and over in milliseconds.
const FUEL: u64 = 100_000;

/// A Jinja template over an item's fields, `item`, `task` and `now`, whose syntax is right.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub(super) struct Template(String);

impl TryFrom<String> for Template {
    type Error = String;
    fn try_from(source: String) -> Result<Self, String> {
        environment().template_from_str(&source).map_err(|error| describe(&error))?;
        Ok(Self(source))
    }
}

impl Template {
    /// What it makes of every item, if that is clear.
    #[cfg(feature = "discord")]
    pub(super) fn constant(&self) -> Option<&str> {
        (!self.0.contains('{')).then_some(&self.0)
    }

    /// What it makes of `item`.
    pub(super) fn render(&self, item: &Item, context: &ActorContext) -> Result<String, String> {
        let own = [
            ("item", Value::from(Serde(&item.fields))),
            ("task", Value::from(context.task_id.as_str())),
            ("now", Value::from(context.scheduled_for.to_rfc3339())),
        ];
        let fields = item.fields.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value))));
        // An item's field of one of these names is still there as `item.now`.
        let values: std::collections::BTreeMap<&str, Value> = fields.chain(own).collect();
        let environment = environment();
        let template = environment.template_from_str(&self.0).map_err(|error| describe(&error))?;
        let missing = || {
            template
                .undeclared_variables(false)
                .into_iter()
                .filter(|name| !values.contains_key(name.as_str()))
        };
        template.render(&values).map_err(|error| match (error.kind(), missing().min()) {
            (minijinja::ErrorKind::UndefinedError, Some(name)) => {
                let known = item.fields.keys().map(String::as_str).chain(["item", "task", "now"]);
                let (_, hint) = crate::names::unknown("field", &name, known);
                format!("the item has no field {name:?} ({hint})")
            }
            _ => describe(&error),
        })
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
}

fn describe(error: &minijinja::Error) -> String {
    let line = error.line().map_or_else(String::new, |line| format!("line {line}: "));
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{line}{}{detail}", error.kind())
}

//! `/docs`: the document as a page for people. It needs no script, and nothing from anywhere else.

use super::problem::{Answer, Kind, Problem};
use minijinja::value::{Serde, Value};
use minijinja::{Environment, context};
use serde_json::Value as Json;

const PAGE: &str = include_str!("docs.html");

/// The page.
///
/// # Errors
/// When the template can't be filled in, which is a fault of this program.
pub(super) fn page(document: &Json) -> Answer<String> {
    let fault = |error: minijinja::Error| {
        tracing::error!(error = %error, "the page of the API can't be made");
        Problem::new(Kind::Internal, "the server's log says what happened")
    };
    let mut environment = Environment::new();
    environment.add_template("docs.html", PAGE).map_err(fault)?;
    environment
        .get_template("docs.html")
        .and_then(|page| page.render(context! { document => Value::from(Serde(document)) }))
        .map_err(fault)
}

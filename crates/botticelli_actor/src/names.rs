//! "Did you mean …?"

use crate::config::read::closest;

/// The message and the hint about a `kind` of thing called `name` that is not among `known`.
pub fn unknown<'a>(kind: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> (String, String) {
    let known: Vec<&str> = known.into_iter().collect();
    let all =
        if known.is_empty() { "there is none".to_owned() } else { format!("known: {}", known.join(", ")) };
    let hint = match closest(name, &known) {
        Some(meant) => format!("did you mean {meant:?}? ({all})"),
        None => all,
    };
    (format!("unknown {kind} {name:?}"), hint)
}

//! The only place that reads the environment.

use std::collections::BTreeMap;

/// Environment variables by name; a function, so that tests bring their own.
pub type Environment = dyn Fn(&str) -> Option<String>;

/// The variables of this process. One that is not UTF-8 counts as absent.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the environment")]
pub fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What `RUST_LOG` asks for.
pub fn log_filter() -> Option<String> {
    process("RUST_LOG").filter(|filter| !filter.trim().is_empty())
}

/// What a test asks of this process: see `rehearsal`.
#[cfg(feature = "fail-points")]
pub(crate) fn rehearsal() -> (Option<String>, Option<String>) {
    (process(crate::rehearsal::FAIL_POINT), process(crate::rehearsal::CLOCK))
}

/// Who has started this process, as far as that is told.
pub fn user_name() -> String {
    process("USER").or_else(|| process("LOGNAME")).unwrap_or_else(|| "unknown".to_owned())
}

/// What this machine is called; part of a node's name.
pub fn host_name() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| process("HOSTNAME"));
    told.unwrap_or_default().trim().to_owned()
}

/// Replaces `${NAME}` by the variable's value (`$${` stands for a plain `${`), and notes in `used` what was replaced.
pub(super) fn expand(
    text: &str,
    environment: &Environment,
    used: &mut BTreeMap<String, String>,
) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &reference[2..];
            continue;
        }
        let (name, after) = reference[2..].split_once('}').ok_or("has a `${` without its `}`")?;
        let value = environment(name).ok_or_else(|| problem_with(name))?;
        expanded.push_str(before);
        expanded.push_str(&value);
        used.insert(name.to_owned(), value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn problem_with(name: &str) -> String {
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_name {
        format!("needs the environment variable {name}, which is not set")
    } else {
        format!("has ${{{name}}}, which is no name of an environment variable")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let environment = |name: &str| (name == "HOME_PAGE").then(|| "https://x".to_owned());
        expand(text, &environment, &mut BTreeMap::new())
    }

    #[test]
    fn variables_are_replaced_and_plain_dollars_are_not() {
        assert_eq!(expanded("see ${HOME_PAGE}/a, $5, {x}").unwrap(), "see https://x/a, $5, {x}");
        assert_eq!(expanded("${HOME_PAGE}${HOME_PAGE}").unwrap(), "https://xhttps://x");
    }

    #[test]
    fn two_dollars_keep_what_looks_like_a_variable() {
        assert_eq!(expanded("$${HOME_PAGE} $${").unwrap(), "${HOME_PAGE} ${");
    }

    #[test]
    fn what_can_not_be_replaced_is_refused() {
        assert_eq!(expanded("${NOPE}").unwrap_err(), "needs the environment variable NOPE, which is not set");
        assert_eq!(
            expanded("${a b}").unwrap_err(),
            "has ${a b}, which is no name of an environment variable"
        );
        assert_eq!(expanded("${}").unwrap_err(), "has ${}, which is no name of an environment variable");
        assert_eq!(expanded("${HOME").unwrap_err(), "has a `${` without its `}`");
    }
}

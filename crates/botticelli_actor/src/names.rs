//! "Did you mean …?"

/// The message and the hint about a `kind` of thing called `name` that is not among `known`.
pub fn unknown<'a>(kind: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> (String, String) {
    let known: Vec<&str> = known.into_iter().collect();
    let all =
        if known.is_empty() { "there is none".to_owned() } else { format!("allowed: {}", known.join(", ")) };
    let hint = match nearest(name, known) {
        Some(meant) => format!("did you mean {meant:?}? ({all})"),
        None => all,
    };
    (format!("unknown {kind} {name:?}"), hint)
}

/// The one of `known` that is most like `name`, if it is like it at all.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike = |other: &str| distance(&name.to_lowercase(), &other.to_lowercase());
    let (distance, nearest) =
        known.into_iter().map(|other| (alike(other), other)).min_by_key(|(distance, _)| *distance)?;
    (distance * 5 <= name.chars().count().max(3) * 2).then_some(nearest)
}

/// How many characters must be put in, taken out or replaced (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, from) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_slip_is_recognised_and_what_is_something_else_is_not() {
        assert_eq!(nearest("stratgy", ["limit", "strategy"]), Some("strategy"));
        assert_eq!(nearest("Facts", ["facts", "quotes"]), Some("facts"));
        assert_eq!(nearest("facts", ["quotes"]), None);
        assert_eq!(nearest("facts", []), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

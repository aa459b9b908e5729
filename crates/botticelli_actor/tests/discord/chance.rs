//! From which seeds tests draw, and how many: the caller may choose.

/// So many seeds as the variable `count` says, or `share`, from the one that the variable `first` says, or 1, on.
pub(crate) fn seeds(first: &str, count: &str, share: u64) -> std::ops::Range<u64> {
    let first = setting(first).unwrap_or(1);
    first..first + setting(count).unwrap_or(share)
}

#[expect(clippy::disallowed_methods, reason = "the caller's wishes for this test")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

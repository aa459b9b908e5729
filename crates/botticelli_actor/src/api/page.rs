//! Lists in pages: `limit` and `cursor`. A cursor says after which row the next page begins, so a page costs the same
//! wherever it is, and rows that come or go meanwhile do not shift it.

use super::problem::{Answer, Problem};
use crate::config::within::Within;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many rows a page has: 1-500; 100 when nothing is said.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Limit(Within<1, 500>);

impl Default for Limit {
    fn default() -> Self {
        Self(Within::of::<100>())
    }
}

impl Limit {
    /// One more than is shown: it tells whether there is another page.
    pub fn and_one(self) -> usize {
        self.shown() + 1
    }

    fn shown(self) -> usize {
        usize::try_from(self.0.get()).unwrap_or(usize::MAX)
    }
}

/// Where a page begins: the `next_cursor` of the page before. Only this server reads it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^([0-9a-f]{2})+$"))]
pub struct Cursor(String);

impl Cursor {
    /// What [`Page::new`] was given for the last row of the page before, in a list of that name.
    pub fn read<K: std::str::FromStr>(&self, list: &str) -> Answer<K> {
        let bad = || {
            Problem::query("cursor", "is not one that this list gave").hint("leave it out for the first page")
        };
        let bytes = from_hex(&self.0).ok_or_else(bad)?;
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        let key = text.strip_prefix(list).and_then(|rest| rest.strip_prefix(':')).ok_or_else(bad)?;
        key.parse().map_err(|_| bad())
    }
}

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Of rows that were asked for by [`Limit::and_one`]. `key` is what the next page continues after.
    pub fn new<K: std::fmt::Display>(
        mut rows: Vec<T>,
        limit: Limit,
        list: &str,
        key: impl Fn(&T) -> K,
    ) -> Self {
        let more = rows.len() > limit.shown();
        rows.truncate(limit.shown());
        let next_cursor =
            rows.last().filter(|_| more).map(|last| to_hex(format!("{list}:{}", key(last)).as_bytes()));
        Self { items: rows, next_cursor }
    }
}

/// As two hexadecimal digits for each byte.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`to_hex`] wrote.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_on_in_its_own_list_only() {
        let limit: Limit = serde_json::from_str("2").unwrap();
        let page = Page::new(vec!["a", "b:ä", "c"], limit, "tasks", |row| *row);
        assert_eq!(page.items, ["a", "b:ä"]);
        let cursor = Cursor(page.next_cursor.unwrap());
        assert_eq!(cursor.read::<String>("tasks").unwrap(), "b:ä");
        assert!(cursor.read::<String>("posts").is_err());
        assert!(cursor.read::<i64>("tasks").is_err());
        assert!(Cursor("zz".into()).read::<String>("tasks").is_err());
        assert!(Cursor("ä".into()).read::<String>("tasks").is_err());
        assert_eq!(Page::new(vec![1, 2], limit, "tasks", |row| *row).next_cursor, None);
    }
}

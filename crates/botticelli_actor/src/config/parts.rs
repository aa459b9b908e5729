//! Reads a file in parts, one for each `[[actors]]` entry. The parser of the `toml` crate needs fifty times the size of
//! what it parses: of a file with ten thousand tasks that is more than the server needs to run them.

use toml::de::DeTable;
use toml::{Table, Value};
use toml_parser::Source;
use toml_parser::lexer::{Token, TokenKind};

/// The entries that are parts of their own.
const ENTRIES: &str = "actors";

/// The values of `text`, each part read by `read`. `None` when only the whole can tell: something is wrong, or it is
/// written in a way that this does not know.
pub(super) fn parse(text: &str, mut read: impl FnMut(&DeTable<'_>) -> Table) -> Option<Table> {
    let Parts { frame, entries } = cut(text);
    let mut read = |part: &str| DeTable::parse(part).ok().map(|table| read(table.get_ref()));
    let mut root = read(&frame)?;
    let entries = entries.into_iter().map(|part| only_entry(read(part)?)).collect::<Option<Vec<_>>>()?;
    if !entries.is_empty() && root.insert(ENTRIES.to_owned(), Value::Array(entries)).is_some() {
        return None;
    }
    Some(root)
}

/// What a part holds, when it is one entry and nothing else.
fn only_entry(mut part: Table) -> Option<Value> {
    match part.remove(ENTRIES) {
        Some(Value::Array(mut items)) if part.is_empty() && items.len() == 1 => items.pop(),
        _ => None,
    }
}

struct Parts<'a> {
    /// All that is no entry, in its order.
    frame: String,
    entries: Vec<&'a str>,
}

fn cut(text: &str) -> Parts<'_> {
    let mut parts = Parts { frame: String::new(), entries: Vec::new() };
    let mut start = 0;
    let mut in_entry = false;
    let mut end_section = |start: usize, end: usize, in_entry: bool| {
        if in_entry {
            parts.entries.push(&text[start..end]);
        } else {
            parts.frame.push_str(&text[start..end]);
        }
    };
    for header in Headers::of(text) {
        if in_entry && header.kind == Kind::WithinEntry {
            continue;
        }
        end_section(start, header.at, in_entry);
        start = header.at;
        in_entry = header.kind == Kind::Entry;
    }
    end_section(start, text.len(), in_entry);
    parts
}

/// The header of a table: `[server]`, `[[actors]]`, `[actors.schedule]`.
struct Header {
    /// Where its first bracket stands.
    at: usize,
    kind: Kind,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Entry,
    WithinEntry,
    Other,
}

/// Finds headers by tokens: brackets also stand in values, and lines within strings look like headers.
struct Headers<'a, T> {
    text: &'a str,
    tokens: T,
    /// How many brackets are open.
    depth: usize,
    /// Whether only white space stood since the last line break outside of brackets.
    at_start: bool,
}

impl<'a> Headers<'a, ()> {
    fn of(text: &'a str) -> Headers<'a, impl Iterator<Item = Token> + 'a> {
        Headers { text, tokens: Source::new(text).lex(), depth: 0, at_start: true }
    }
}

impl<T: Iterator<Item = Token>> Headers<'_, T> {
    /// The next token, and whether a statement begins with it.
    fn token(&mut self) -> Option<(Token, bool)> {
        let token = self.tokens.next()?;
        let begins = self.at_start;
        match token.kind() {
            TokenKind::Newline => self.at_start = self.depth == 0,
            TokenKind::Whitespace => {}
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                self.depth += 1;
                self.at_start = false;
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                self.depth = self.depth.saturating_sub(1);
                self.at_start = false;
            }
            _ => self.at_start = false,
        }
        Some((token, begins))
    }

    fn kind(&mut self) -> Kind {
        let mut written = String::from("[");
        while self.depth > 0
            && let Some((token, _)) = self.token()
        {
            if token.kind() != TokenKind::Whitespace {
                written.push_str(&self.text[token.span().start()..token.span().end()]);
            }
        }
        match written.trim_start_matches('[').strip_prefix(ENTRIES) {
            Some("]]") if written.starts_with("[[") => Kind::Entry,
            Some(rest) if rest.starts_with('.') => Kind::WithinEntry,
            _ => Kind::Other,
        }
    }
}

impl<T: Iterator<Item = Token>> Iterator for Headers<'_, T> {
    type Item = Header;

    fn next(&mut self) -> Option<Header> {
        loop {
            let (token, begins) = self.token()?;
            if begins && token.kind() == TokenKind::LeftSquareBracket {
                return Some(Header { at: token.span().start(), kind: self.kind() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::table_of;
    use super::*;
    use proptest::prelude::*;

    fn in_parts(text: &str) -> Option<Table> {
        parse(text, |part| table_of(part, &mut Vec::new()))
    }

    #[test]
    fn each_entry_is_a_part() {
        let text = "top = 1\n[[actors]] # first\nname = 'a'\n[actors.schedule]\ntype = 'Once'\n\n[server]\nx = 1\n  \
                    [[ actors ]]\nname = 'b'\n[[actors.destinations]]\nplatform = 'file'\n[[alerts]]\ny = [\n[2]\n]";
        let parts = cut(text);
        assert_eq!(parts.entries.len(), 2);
        assert!(parts.entries[0].ends_with("type = 'Once'\n\n"), "{:?}", parts.entries[0]);
        assert!(parts.entries[1].ends_with("platform = 'file'\n"), "{:?}", parts.entries[1]);
        assert_eq!(in_parts(text), Some(text.parse().unwrap()));
    }

    #[test]
    fn what_only_looks_like_a_header_is_none() {
        let text = "a = \"\"\"\n[[actors]]\n\"\"\"\nb = [\n[['actors']],\n[[1]]\n]\n# [[actors]]\n";
        assert_eq!(cut(text).entries.len(), 0);
        assert_eq!(in_parts(text), Some(text.parse().unwrap()));
    }

    #[test]
    fn what_belongs_to_an_entry_elsewhere_is_left_to_the_whole() {
        for text in [
            "[[actors]]\nname = 'a'\n[server]\n[actors.schedule]\ntype = 'Once'",
            "actors = []\n[[actors]]\nname = 'a'",
            "[[actors]]\nname = 'a'\n[['actors']]\nname = 'b'",
            "[[actors]]\nname = 'a'\n[[actors]]\nname = 'b",
        ] {
            assert_eq!(in_parts(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parts_never_say_anything_else_than_the_whole(
            lines in prop::collection::vec(prop::sample::select(vec![
                "[[actors]]", " [[ actors ]] # one", "[['actors']]", "[actors]", "[actors.schedule]",
                "[[actors.destinations]]", "[server]", "[[alerts]]", "[x.actors]", "actors = 1", "actors.a = 1", "a = 1",
                "b = '[[actors]]'", "c = [", "[[1]],", "]", "d = { e = [", "]}", "\"\"\"", "f = \"\"\"", "", "# [[actors]]",
                "[[actors", "\u{feff}", "g = 1 [[actors]]",
            ]), 0..14),
            ends in prop::sample::select(vec!["\n", "\r\n"]),
        ) {
            let text = lines.join(ends);
            if let Some(root) = in_parts(&text) {
                prop_assert_eq!(Ok(root), text.parse::<Table>());
            }
        }
    }
}

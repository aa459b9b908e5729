//! Cutting text to a platform's measure.
//!
//! Nothing is cut inside a grapheme (what a reader sees as one character) or a URL. A code fence that is cut is closed
//! where it is cut and opened again, with its language, in the next part.

use botticelli_server::post::{TextLimit, TextUnit};
use unicode_segmentation::UnicodeSegmentation;

/// Text that can't be cut to the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Something that must stay whole is too long.
    #[error("{what} of length {size} can't be cut, and only {limit} fit: it begins with {begin:?}")]
    Unsplittable {
        /// A URL, or a character.
        what: &'static str,
        /// Its length.
        size: usize,
        /// What would fit.
        limit: usize,
        /// Its beginning.
        begin: String,
    },
    /// The limit leaves no room beside what must be added to each part.
    #[error("a limit of {limit} is too small for the code fence {fence:?}")]
    NoRoomForFence {
        /// The limit.
        limit: usize,
        /// The line that opens the fence.
        fence: String,
    },
}

/// How long `text` is, as the platform counts.
pub fn measure(text: &str, unit: TextUnit) -> usize {
    match unit {
        TextUnit::Scalars => text.chars().count(),
        TextUnit::Bytes => text.len(),
        TextUnit::Utf16 => text.encode_utf16().count(),
        TextUnit::Graphemes => text.graphemes(true).count(),
    }
}

/// Whether `text` is within the limit.
pub fn fits(text: &str, limit: TextLimit) -> bool {
    limit.max.is_none_or(|max| text.len() <= max || measure(text, limit.unit) <= max)
}

/// Cuts `text` into parts within the limit: between paragraphs where that fills at least half of a part, else between
/// lines, else between words, else between graphemes. White space at a cut is dropped, except in code.
///
/// # Errors
/// When a URL or a grapheme is longer than a part, or a code fence leaves no room.
pub fn split(text: &str, limit: TextLimit) -> Result<Vec<String>, TextError> {
    let Some(max) = limit.max.filter(|_| !fits(text, limit)) else { return Ok(vec![text.to_owned()]) };
    let text = text.trim_end();
    let pieces = Pieces::of(text, limit.unit);
    let mut parts = Vec::new();
    let mut from = 0;
    while from < pieces.list.len() {
        let to = pieces.cut(from, max, 0)?;
        parts.push(pieces.part(from, to, ""));
        from = pieces.resume(to);
    }
    parts.retain(|part| !part.trim().is_empty());
    Ok(parts)
}

/// The beginning of `text` that is within the limit, with an ellipsis where something is left out.
///
/// # Errors
/// When not even the first URL, grapheme or line of code fits.
pub fn truncate(text: &str, limit: TextLimit) -> Result<String, TextError> {
    let Some(max) = limit.max.filter(|_| !fits(text, limit)) else { return Ok(text.to_owned()) };
    let text = text.trim_end();
    if fits(text, limit) {
        return Ok(text.to_owned());
    }
    let ellipsis = if measure("…", limit.unit) < max { "…" } else { "" };
    let pieces = Pieces::of(text, limit.unit);
    let to = pieces.cut(0, max, measure(ellipsis, limit.unit))?;
    Ok(pieces.part(0, to, ellipsis))
}

/// How good a place for a cut is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Break {
    /// Beside or inside the line of a code fence: a cut there would leave an empty fence.
    Never,
    Grapheme,
    Word,
    Line,
    Paragraph,
}

/// Text that is never cut, and the place behind it.
struct Piece<'a> {
    text: &'a str,
    size: usize,
    after: Break,
    /// The code fence that is open there.
    fence: Option<usize>,
}

impl Piece<'_> {
    fn is_space(&self) -> bool {
        self.text.chars().all(char::is_whitespace)
    }
}

/// What a cut inside a code fence costs.
struct Fence<'a> {
    marker: &'a str,
    closing_size: usize,
    /// The marker again, with the language.
    opening: String,
    opening_size: usize,
}

struct Pieces<'a> {
    list: Vec<Piece<'a>>,
    fences: Vec<Fence<'a>>,
}

impl<'a> Pieces<'a> {
    fn of(text: &'a str, unit: TextUnit) -> Self {
        let mut pieces = Self { list: Vec::new(), fences: Vec::new() };
        let mut open = None;
        for line in text.split_inclusive('\n') {
            let before = open;
            open = pieces.fence_behind(line, before, unit);
            pieces.push_line(line, before, open, unit);
        }
        pieces
    }

    fn push_line(&mut self, line: &'a str, before: Option<usize>, behind: Option<usize>, unit: TextUnit) {
        let first = self.list.len();
        let is_fence = before != behind;
        for text in (Atoms { rest: line }) {
            let space = text.chars().all(char::is_whitespace);
            let after = if is_fence {
                Break::Never
            } else if space {
                Break::Word
            } else {
                Break::Grapheme
            };
            self.list.push(Piece { text, size: measure(text, unit), after, fence: before });
        }
        if is_fence && behind.is_none() {
            self.list[first - 1].after = Break::Never;
        }
        if let Some(last) = self.list.last_mut() {
            last.fence = behind;
            last.after = match behind {
                Some(_) if is_fence => Break::Never,
                None if line.trim().is_empty() => Break::Paragraph,
                Some(_) | None => Break::Line,
            };
        }
    }

    /// The code fence that is open behind `line`, given the one before it (as in CommonMark).
    fn fence_behind(&mut self, line: &'a str, open: Option<usize>, unit: TextUnit) -> Option<usize> {
        let line = line.trim_end();
        let unindented = line.trim_start_matches(' ');
        let Some(mark) = unindented.chars().next().filter(|mark| matches!(mark, '`' | '~')) else {
            return open;
        };
        let (marker, info) =
            unindented.split_at(unindented.len() - unindented.trim_start_matches(mark).len());
        if marker.len() < 3 || line.len() - unindented.len() > 3 {
            return open;
        }
        match open {
            Some(fence) if info.is_empty() && marker.starts_with(self.fences[fence].marker) => None,
            None if mark == '~' || !info.contains('`') => {
                let opening = format!("{marker}{}\n", info.split_whitespace().next().unwrap_or_default());
                let (closing_size, opening_size) = (marker.len() + 1, measure(&opening, unit));
                self.fences.push(Fence { marker, closing_size, opening, opening_size });
                Some(self.fences.len() - 1)
            }
            Some(_) | None => open,
        }
    }

    /// The code fence that is open before the piece `at`.
    fn fence(&self, at: usize) -> Option<&Fence<'a>> {
        self.list[at.checked_sub(1)?].fence.map(|fence| &self.fences[fence])
    }

    /// Where a part that begins at `from` ends best: at most `max` long with its fences and the `reserved` size.
    fn cut(&self, from: usize, max: usize, reserved: usize) -> Result<usize, TextError> {
        let mut size = reserved + self.fence(from).map_or(0, |fence| fence.opening_size);
        // White space at a cut is dropped, so it does not count, except in code.
        let mut solid = size;
        // For each kind of break the last place that fits, and the size up to there.
        let mut places = [None; Break::Paragraph as usize + 1];
        for (to, piece) in (1..).zip(&self.list).skip(from) {
            size += piece.size;
            if piece.fence.is_some() || !piece.is_space() {
                solid = size;
            }
            if solid > max {
                break;
            }
            if to == self.list.len() {
                return Ok(to);
            }
            if solid + self.fence(to).map_or(0, |fence| fence.closing_size) <= max {
                places[piece.after as usize] = Some((to, solid));
            }
        }
        let [_, grapheme, word, line, paragraph] = places;
        let soft = [paragraph, line, word];
        let half_full = soft.into_iter().flatten().find(|(_, size)| *size * 2 >= max);
        half_full
            .or(soft.into_iter().flatten().max())
            .or(grapheme)
            .map(|(to, _)| to)
            .ok_or_else(|| self.too_long(from, max, reserved))
    }

    fn too_long(&self, from: usize, max: usize, reserved: usize) -> TextError {
        let piece = &self.list[from];
        let fence = self.list[from..].iter().find_map(|piece| piece.fence).map(|fence| &self.fences[fence]);
        let room = |fence: &Fence| max.saturating_sub(reserved + fence.opening_size + fence.closing_size);
        let limit = self.fence(from).map_or(max.saturating_sub(reserved), room);
        match fence {
            Some(fence) if piece.size <= limit => {
                TextError::NoRoomForFence { limit: max, fence: begin(fence.opening.trim_end()) }
            }
            Some(_) | None => TextError::Unsplittable {
                what: if is_url(piece.text) { "a URL" } else { "one character" },
                size: piece.size,
                limit,
                begin: begin(piece.text),
            },
        }
    }

    /// The part from piece `from` to piece `to`, with the fences that the cuts need.
    fn part(&self, from: usize, to: usize, ellipsis: &str) -> String {
        let mut text = self.fence(from).map_or_else(String::new, |fence| fence.opening.clone());
        text.extend(self.list[from..to].iter().map(|piece| piece.text));
        match self.fence(to).filter(|_| to < self.list.len()) {
            Some(fence) => {
                text.push_str(ellipsis);
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(fence.marker);
            }
            None if to < self.list.len() => {
                text.truncate(text.trim_end().len());
                text.push_str(ellipsis);
            }
            None => {}
        }
        text
    }

    /// Where the next part begins after a cut at `to`: behind white space, but not behind the indentation of a line.
    fn resume(&self, to: usize) -> usize {
        if self.fence(to).is_some() {
            return to;
        }
        let space = self.list[to..].iter().take_while(|piece| piece.is_space());
        let end = to + space.count();
        let line_start = |at: &usize| self.list[*at - 1].after >= Break::Line;
        (to.max(1)..=end).rev().find(line_start).unwrap_or(end)
    }
}

/// Graphemes, and URLs as a whole.
struct Atoms<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Atoms<'a> {
    type Item = &'a str;
    fn next(&mut self) -> Option<&'a str> {
        let length =
            if is_url(self.rest) { url_length(self.rest) } else { self.rest.graphemes(true).next()?.len() };
        let (atom, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(atom)
    }
}

fn is_url(text: &str) -> bool {
    let begins =
        |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    begins("http://") || begins("https://")
}

/// The length of the URL that `text` begins with: up to white space or a delimiter, less the punctuation of the sentence
/// that it stands in. Works on whole graphemes.
fn url_length(text: &str) -> usize {
    let ends = |first: char| first.is_whitespace() || first.is_control() || "<>\"`".contains(first);
    let url: Vec<&str> = text.graphemes(true).take_while(|g| !g.starts_with(ends)).collect();
    let mut closing = url.iter().filter(|g| **g == ")").count();
    let opening = url.iter().filter(|g| **g == "(").count();
    let mut length: usize = url.iter().map(|g| g.len()).sum();
    for last in url.iter().rev() {
        match *last {
            ")" if closing > opening => closing -= 1,
            "." | "," | ";" | ":" | "!" | "?" | "'" | "*" | "_" | "]" | "}" => {}
            _ => break,
        }
        length -= last.len();
    }
    length
}

fn begin(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scalars(max: usize) -> TextLimit {
        TextLimit { max: Some(max), unit: TextUnit::Scalars }
    }

    #[test]
    fn text_that_fits_is_left_alone() {
        assert_eq!(split(" as it is \n", scalars(11)).unwrap(), [" as it is \n"]);
        assert_eq!(split("anything", TextLimit { max: None, unit: TextUnit::Bytes }).unwrap(), ["anything"]);
        assert_eq!(truncate("abc", scalars(3)).unwrap(), "abc");
    }

    #[test]
    fn cuts_fall_between_paragraphs_then_lines_then_words_then_graphemes() {
        assert_eq!(split("one two\n\nthree four", scalars(12)).unwrap(), ["one two", "three four"]);
        assert_eq!(split("one two\nthree four", scalars(12)).unwrap(), ["one two", "three four"]);
        assert_eq!(split("one two three four", scalars(12)).unwrap(), ["one two", "three four"]);
        assert_eq!(split("abcdefghij", scalars(4)).unwrap(), ["abcd", "efgh", "ij"]);
        assert_eq!(split("- item\n  - nested", scalars(11)).unwrap(), ["- item", "  - nested"]);
    }

    #[test]
    fn each_platform_counts_in_its_own_unit() {
        let family = "👩‍👩‍👧";
        let size = |unit| measure(family, unit);
        assert_eq!(
            [TextUnit::Graphemes, TextUnit::Scalars, TextUnit::Utf16, TextUnit::Bytes].map(size),
            [1, 5, 8, 18]
        );
        let parts = split(&family.repeat(3), TextLimit { max: Some(12), unit: TextUnit::Utf16 }).unwrap();
        assert_eq!(parts, [family; 3]);
    }

    #[test]
    fn a_url_stays_whole_or_is_refused() {
        let url = "https://example.org/a_(b)";
        let parts = split(&format!("look at this: {url}."), scalars(26)).unwrap();
        assert_eq!(parts, ["look at this:", "https://example.org/a_(b)."]);
        let error = split(&format!("see {url}"), scalars(20)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a URL of length 25 can't be cut, and only 20 fit: it begins with {url:?}")
        );
        assert_eq!(truncate(&format!("see {url}"), scalars(20)).unwrap(), "see…");
    }

    #[test]
    fn a_code_fence_that_is_cut_is_closed_and_opened_again() {
        let text = "before\n```rust ignore\nlet a = 1;\nlet b = 2;\nlet c = 3;\n```\nafter";
        assert_eq!(
            split(text, scalars(40)).unwrap(),
            ["before\n```rust ignore\nlet a = 1;\n```", "```rust\nlet b = 2;\nlet c = 3;\n```\nafter"]
        );
        assert_eq!(truncate(text, scalars(44)).unwrap(), "before\n```rust ignore\nlet a = 1;\n…\n```");
        let error = split("```rust\nlet a = 1;\n```", scalars(10)).unwrap_err();
        assert_eq!(error.to_string(), "a limit of 10 is too small for the code fence \"```rust\"");
    }

    #[test]
    fn a_truncated_text_ends_with_an_ellipsis_within_the_limit() {
        assert_eq!(truncate("one two three", scalars(9)).unwrap(), "one two…");
        assert_eq!(truncate("abcdefgh", TextLimit { max: Some(5), unit: TextUnit::Bytes }).unwrap(), "ab…");
        assert_eq!(truncate("abcdefgh", TextLimit { max: Some(2), unit: TextUnit::Bytes }).unwrap(), "ab");
    }

    #[test]
    fn one_character_that_is_too_long_is_refused() {
        let hostile = format!("a{}", "\u{301}".repeat(100_000));
        let error = split(&hostile, scalars(2000)).unwrap_err();
        assert!(error.to_string().starts_with("one character of length 100001 can't be cut"), "{error}");
        assert_eq!(split(&hostile, TextLimit { max: Some(1), unit: TextUnit::Graphemes }).unwrap().len(), 1);
    }

    /// Much of each: quadratic work would take minutes.
    #[test]
    fn hostile_text_is_cut_in_linear_time() {
        let size = 1 << 17;
        for unit in [
            "a",
            " ",
            "\n",
            "\u{200b}",
            "e\u{301}",
            "`",
            "```\n",
            "~~~\nx\n",
            "(",
            "a ",
            "\u{1f1e9}",
            "\u{200d}",
        ] {
            let text = unit.repeat(size / unit.len());
            for part in split(&text, scalars(2000)).unwrap_or_default() {
                assert!(part.chars().count() <= 2000);
            }
            truncate(&text, scalars(2000)).map(|text| assert!(text.chars().count() <= 2000)).ok();
        }
        for unit in ["http://", "http://a ", "http://a)", "http://a,"] {
            split(&unit.repeat(size / unit.len()), scalars(2000)).ok();
        }
    }

    fn text() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            8 => "[a-zäß]{1,9}",
            2 => Just("👩‍👩‍👧".to_owned()), 2 => Just("e\u{301}".to_owned()), 1 => Just("🇩🇪🇫🇷".to_owned()),
            2 => "https?://[a-z]{1,5}\\.[a-z/?()]{1,9}[.,]?", 1 => "[^`\n]{1,4}", 1 => Just("\u{200d}".to_owned()),
        ];
        let gap = prop_oneof![6 => Just(" "), 2 => Just("\n"), 1 => Just("\n\n"), 1 => Just("\n```π\n"), 1 => Just("\n```\n"), 1 => Just("  "), 1 => Just("")];
        proptest::collection::vec((word, gap), 0..60)
            .prop_map(|words| words.into_iter().map(|(word, gap)| word + gap).collect())
    }

    fn limit() -> impl Strategy<Value = TextLimit> {
        let units = [TextUnit::Scalars, TextUnit::Bytes, TextUnit::Utf16, TextUnit::Graphemes];
        (1usize..200, proptest::sample::select(units.to_vec()))
            .prop_map(|(max, unit)| TextLimit { max: Some(max), unit })
    }

    /// Everything but white space and what the lines of fences are made of.
    fn content(text: &str) -> String {
        text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '`' | 'π')).collect()
    }

    proptest! {
        #[test]
        fn parts_fit_and_hold_all_of_the_text(text in text(), limit in limit()) {
            if let Ok(parts) = split(&text, limit) {
                for part in &parts {
                    prop_assert!(fits(part, limit), "{part:?}");
                }
                prop_assert_eq!(content(&parts.join("\n")), content(&text));
            }
        }

        #[test]
        fn no_grapheme_and_no_url_is_cut(text in text(), limit in limit()) {
            let Ok(parts) = split(&text, limit) else { return Ok(()) };
            let whole: std::collections::HashSet<_> = text.graphemes(true).collect();
            for part in &parts {
                let own = part.graphemes(true).filter(|g| !matches!(*g, "\n" | "\r\n" | "`" | "π"));
                prop_assert!(own.into_iter().all(|g| whole.contains(g)), "{part:?}");
            }
            let urls = |text: &str| text.lines().flat_map(|rest| Atoms { rest }).filter(|a| is_url(a)).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(parts.iter().flat_map(|part| urls(part)).collect::<Vec<_>>(), urls(&text));
        }

        #[test]
        fn fences_are_balanced_in_every_part_if_they_were(words in proptest::collection::vec("[a-z]{1,9}", 1..60), max in 30usize..80) {
            let text = format!("intro\n```rs\n{}\n```\nend", words.join("\n"));
            for part in split(&text, scalars(max)).unwrap() {
                prop_assert_eq!(part.matches("```").count() % 2, 0, "{}", part);
            }
        }

        #[test]
        fn a_truncated_text_is_its_beginning(text in text(), limit in limit()) {
            if let Ok(short) = truncate(&text, limit) {
                prop_assert!(fits(&short, limit));
                prop_assert!(content(&text).starts_with(content(&short).trim_end_matches('…')));
            }
        }

        #[test]
        fn nothing_panics(text in ".*", max in 1usize..20) {
            split(&text, scalars(max)).ok();
            truncate(&text, scalars(max)).ok();
        }
    }
}

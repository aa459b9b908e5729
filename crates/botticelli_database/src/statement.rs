//! SQL that people write into actor files: checked when it is loaded, with values bound, never pasted in.

use std::num::NonZeroU32;

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// SQL that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not a name of a table or column.
    #[error("{0:?} is no name (allowed: letters, digits, _; a table may have its schema before a dot)")]
    Name(String),
    /// Not an order.
    #[error(
        "{0:?} is no order (allowed: column names, each with asc or desc, and nulls first or nulls last)"
    )]
    Order(String),
    /// Something else than a query.
    #[error("only a query is allowed (SELECT, WITH, VALUES), not {0:?}")]
    NoQuery(String),
    /// More than one statement.
    #[error("only one statement is allowed")]
    Several,
    /// A quote or comment without an end.
    #[error("{0} is not closed")]
    Open(&'static str),
    /// `$1`
    #[error("parameters have names, like $task, not numbers (${0})")]
    Numbered(String),
}

/// One query, ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub(crate) sql: String,
    pub(crate) parameters: Vec<String>,
    /// Set when the whole of a table is read.
    pub(crate) table: Option<String>,
}

impl Statement {
    /// All columns of a table, or of a view.
    ///
    /// # Errors
    /// When the table or the order are not made of plain names.
    pub fn table(
        name: &str,
        order_by: Option<&str>,
        limit: Option<NonZeroU32>,
    ) -> Result<Self, StatementError> {
        let parts: Vec<&str> = name.split('.').collect();
        if parts.len() > 2 {
            return Err(StatementError::Name(name.to_owned()));
        }
        let quoted: Vec<String> = parts.into_iter().map(quoted).collect::<Result<_, _>>()?;
        let mut sql = format!("SELECT * FROM {}", quoted.join("."));
        if let Some(order) = order_by {
            let table = quoted.last().map_or("", String::as_str);
            let terms: Vec<String> =
                order.split(',').map(|term| order_term(table, term)).collect::<Result<_, _>>()?;
            sql.push_str(&format!(" ORDER BY {}", terms.join(", ")));
        }
        if let Some(limit) = limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        Ok(Self { sql, parameters: Vec::new(), table: Some(name.to_owned()) })
    }

    /// A query with parameters like `$task`.
    ///
    /// # Errors
    /// When it is not one query. Whether the database understands it shows when it runs.
    pub fn query(sql: &str, dialect: Dialect) -> Result<Self, StatementError> {
        let mut scan = Scan { rest: sql, dialect, sql: String::new(), parameters: Vec::new(), ended: false };
        while !scan.rest.is_empty() {
            scan.step()?;
        }
        let bare = scan.first_word(sql)?;
        if !["select", "with", "values"].contains(&bare.to_lowercase().as_str()) {
            return Err(StatementError::NoQuery(bare));
        }
        Ok(Self { sql: scan.sql, parameters: scan.parameters, table: None })
    }

    /// The same without any row: whether the database understands it shows all the same.
    #[must_use]
    pub fn without_rows(&self) -> Self {
        // A line break, because the query may end with a comment.
        Self { sql: format!("SELECT * FROM (\n{}\n) AS q LIMIT 0", self.sql), ..self.clone() }
    }

    /// The table, if it reads the whole of one.
    pub fn whole_table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    /// The names of its parameters, without the `$`.
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }
}

fn quoted(name: &str) -> Result<String, StatementError> {
    let good = |c: char| c.is_alphanumeric() || c == '_';
    let is_name = !name.is_empty() && name.chars().all(good) && !name.starts_with(|c: char| c.is_numeric());
    is_name.then(|| format!("\"{name}\"")).ok_or_else(|| StatementError::Name(name.to_owned()))
}

/// With the table before the column: SQLite takes an unknown name alone in double quotes for a text.
fn order_term(table: &str, term: &str) -> Result<String, StatementError> {
    let words: Vec<&str> = term.split_whitespace().collect();
    let lower: Vec<String> = words.iter().skip(1).map(|word| word.to_lowercase()).collect();
    let after = match lower.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => "",
        ["asc"] => " ASC",
        ["desc"] => " DESC",
        ["nulls", "first"] | ["asc", "nulls", "first"] => " ASC NULLS FIRST",
        ["nulls", "last"] | ["asc", "nulls", "last"] => " ASC NULLS LAST",
        ["desc", "nulls", "first"] => " DESC NULLS FIRST",
        ["desc", "nulls", "last"] => " DESC NULLS LAST",
        _ => return Err(StatementError::Order(term.trim().to_owned())),
    };
    let column = words.first().ok_or_else(|| StatementError::Order(term.trim().to_owned()))?;
    Ok(format!("{table}.{}{after}", quoted(column)?))
}

/// Finds parameters, and leaves alone what stands in quotes and comments.
struct Scan<'a> {
    rest: &'a str,
    dialect: Dialect,
    sql: String,
    parameters: Vec<String>,
    /// Behind the `;`.
    ended: bool,
}

impl<'a> Scan<'a> {
    fn step(&mut self) -> Result<(), StatementError> {
        let rest = self.rest;
        if let Some(length) = self.comment(rest)? {
            // A space, because what stands on its sides must not grow together.
            self.rest = &rest[length..];
            self.sql.push(' ');
            return Ok(());
        }
        if let Some(length) = self.quotation(rest)? {
            return self.copy(length);
        }
        match rest.strip_prefix('$').map(name_length) {
            Some(length) if length > 0 => {
                let name = &rest[1..=length];
                if name.starts_with(|c: char| c.is_ascii_digit()) {
                    return Err(StatementError::Numbered(name.to_owned()));
                }
                let known = self.parameters.iter().position(|known| known == name);
                let index = known.unwrap_or_else(|| {
                    self.parameters.push(name.to_owned());
                    self.parameters.len() - 1
                });
                let mark = if self.dialect == Dialect::Postgres { '$' } else { '?' };
                self.not_ended()?;
                self.sql.push_str(&format!("{mark}{}", index + 1));
                self.rest = &rest[length + 1..];
                Ok(())
            }
            _ if rest.starts_with(';') => {
                self.ended = true;
                self.rest = &rest[1..];
                Ok(())
            }
            _ => {
                // A name as a whole: a `$` inside it begins no parameter.
                let first = rest.chars().next().map_or(0, char::len_utf8);
                let name = match name_length(rest) {
                    0 => 0,
                    _ => rest
                        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
                        .unwrap_or(rest.len()),
                };
                self.copy(name.max(first))
            }
        }
    }

    fn copy(&mut self, length: usize) -> Result<(), StatementError> {
        let (text, rest) = self.rest.split_at(length);
        if !text.trim().is_empty() {
            self.not_ended()?;
        }
        self.sql.push_str(text);
        self.rest = rest;
        Ok(())
    }

    fn not_ended(&self) -> Result<(), StatementError> {
        if self.ended { Err(StatementError::Several) } else { Ok(()) }
    }

    /// The length of the comment that `text` begins with.
    fn comment(&self, text: &str) -> Result<Option<usize>, StatementError> {
        if text.starts_with("--") {
            return Ok(Some(text.find('\n').unwrap_or(text.len())));
        }
        if !text.starts_with("/*") {
            return Ok(None);
        }
        let mut depth = 0;
        let mut at = 0;
        while let Some(here) = text.get(at..).filter(|here| !here.is_empty()) {
            if here.starts_with("/*") && (depth == 0 || self.dialect == Dialect::Postgres) {
                depth += 1;
                at += 2;
            } else if here.starts_with("*/") {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Ok(Some(at));
                }
            } else {
                at += here.chars().next().map_or(1, char::len_utf8);
            }
        }
        Err(StatementError::Open("a comment"))
    }

    /// The length of the quotation that `text` begins with.
    fn quotation(&self, text: &str) -> Result<Option<usize>, StatementError> {
        let postgres = self.dialect == Dialect::Postgres;
        if postgres && (text.starts_with("E'") || text.starts_with("e'")) {
            return quoted_length(&text[1..], '\'', true).map(|length| Some(length + 1));
        }
        if let Some(quote @ ('\'' | '"')) = text.chars().next() {
            return quoted_length(text, quote, false).map(Some);
        }
        if let Some(after) = text.strip_prefix('$').filter(|_| postgres) {
            let tag = &after[..name_length(after)];
            if after[tag.len()..].starts_with('$') && !tag.starts_with(|c: char| c.is_ascii_digit()) {
                let fence = &text[..tag.len() + 2];
                let body = &text[fence.len()..];
                let end = body.find(fence).ok_or(StatementError::Open("a $$ text"))?;
                return Ok(Some(2 * fence.len() + end));
            }
        }
        Ok(None)
    }

    fn first_word(&self, sql: &str) -> Result<String, StatementError> {
        let mut text = sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        while let Some(length) = self.comment(text)? {
            text = text[length..].trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        }
        Ok(text[..name_length(text)].to_owned())
    }
}

fn name_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// The length of the text in quotes that `text` begins with; a doubled quote stands for one.
fn quoted_length(text: &str, quote: char, backslash: bool) -> Result<usize, StatementError> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == '\\' && backslash {
            characters.next();
        } else if character == quote {
            match characters.peek() {
                Some((_, next)) if *next == quote => drop(characters.next()),
                _ => return Ok(at + 1),
            }
        }
    }
    Err(StatementError::Open("a quoted text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(sql: &str) -> Result<(String, Vec<String>), StatementError> {
        Statement::query(sql, Dialect::Postgres).map(|statement| (statement.sql, statement.parameters))
    }

    #[test]
    fn a_table_is_quoted_and_ordered() {
        let table = |name, order, limit| Statement::table(name, order, NonZeroU32::new(limit)).map(|s| s.sql);
        assert_eq!(table("facts", None, 0).unwrap(), "SELECT * FROM \"facts\"");
        assert_eq!(
            table("public.facts", Some("created_at DESC nulls last, id"), 5).unwrap(),
            "SELECT * FROM \"public\".\"facts\" ORDER BY \"facts\".\"created_at\" DESC NULLS LAST, \"facts\".\"id\" LIMIT 5"
        );
        for name in ["", "facts; drop table facts", "a.b.c", "fa\"cts", "1facts", ".a"] {
            assert!(matches!(table(name, None, 0), Err(StatementError::Name(_))), "{name}");
        }
        for order in ["", "a b", "a desc desc", "a,", "1", "a;", "lower(a)"] {
            let error = table("facts", Some(order), 0).unwrap_err();
            assert!(matches!(error, StatementError::Order(_) | StatementError::Name(_)), "{order}: {error}");
        }
    }

    #[test]
    fn parameters_are_bound_by_name_each_once() {
        let (sql, names) = postgres("SELECT * FROM a WHERE t = $task AND d < $now AND u <> $task;").unwrap();
        assert_eq!(sql, "SELECT * FROM a WHERE t = $1 AND d < $2 AND u <> $1");
        assert_eq!(names, ["task", "now"]);
        let sqlite = Statement::query("SELECT $task, $task", Dialect::Sqlite).unwrap();
        assert_eq!(sqlite.sql, "SELECT ?1, ?1");
    }

    #[test]
    fn quotes_comments_and_names_are_left_alone() {
        for text in [
            "'$task'",
            "'it''s $task'",
            "\"$task\"",
            "$$ $task $$",
            "$q$ $task; $q$",
            "E'\\' $task'",
            "a$task",
        ] {
            let sql = format!("SELECT {text}");
            assert_eq!(postgres(&sql).unwrap(), (sql.clone(), vec![]), "{text}");
        }
        let (sql, names) = postgres("/* $a /* ; */ */ SELECT 1 -- $b ;\n+ $c ; -- end").unwrap();
        assert_eq!((sql.trim(), names.as_slice()), ("SELECT 1  \n+ $1", ["c".to_owned()].as_slice()));
    }

    #[test]
    fn what_is_not_one_query_is_refused() {
        for (sql, error) in [
            ("DELETE FROM a", "only a query is allowed (SELECT, WITH, VALUES), not \"DELETE\""),
            ("-- c\n  drop table a", "only a query is allowed (SELECT, WITH, VALUES), not \"drop\""),
            ("", "only a query is allowed (SELECT, WITH, VALUES), not \"\""),
            ("SELECT 1; SELECT 2", "only one statement is allowed"),
            ("SELECT $1", "parameters have names, like $task, not numbers ($1)"),
            ("SELECT 'a", "a quoted text is not closed"),
            ("SELECT /* a", "a comment is not closed"),
            ("SELECT $a$ b", "a $$ text is not closed"),
        ] {
            assert_eq!(postgres(sql).unwrap_err().to_string(), error, "{sql}");
        }
        assert!(postgres("(SELECT 1) UNION (VALUES (2))").is_ok());
    }
}

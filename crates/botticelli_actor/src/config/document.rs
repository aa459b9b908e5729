//! A TOML file: its values with the environment put in, and the line of each.

use super::env::{self, Environment};
use super::parts;
use super::problem::{FileError, Problem};
use super::read::{Fault, KeyPath, Step};
use crate::regular_file;
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

/// The longest configuration file, in bytes.
pub(super) const LONGEST_FILE: u64 = 32 * 1024 * 1024;

/// Values from the environment that are shorter than this are no secrets, and may be part of any word.
const SHORTEST_SECRET: usize = 4;

pub(super) struct Document {
    pub(super) path: PathBuf,
    pub(super) root: Table,
    text: String,
    /// The line of each key, found out when a problem asks for one: most files have none, and large ones have many keys.
    lines: OnceCell<HashMap<KeyPath, usize>>,
    /// Whole numbers that do not fit into 64 bits, as they are written, and the nearest number that stands for each:
    /// what is allowed is said where it is read.
    too_large: Vec<(String, f64)>,
    environment: BTreeMap<String, String>,
    /// Where a variable is missing, which is reported.
    unresolved: HashSet<KeyPath>,
}

impl Document {
    /// Reads and parses the file; what is wrong with single values goes to `problems`.
    pub(super) fn load(
        path: &Path,
        environment: &Environment,
        problems: &mut Vec<Problem>,
    ) -> Result<Self, Problem> {
        let text = read_text(path).map_err(|error| error.at(path.to_owned()))?;
        let mut document = Self::parse(path, text)?;
        document.put_in(environment, problems);
        Ok(document)
    }

    fn parse(path: &Path, text: String) -> Result<Self, Problem> {
        let mut too_large = Vec::new();
        let root = match parts::parse(&text, |part| table_of(part, &mut too_large)) {
            Some(root) => root,
            None => {
                too_large.clear();
                let whole = DeTable::parse(&text).map_err(|error| Problem {
                    line: error.span().map(|span| line_of(&text, span.start)),
                    ..Problem::with(path.display().to_string(), wrong_toml(error.message()))
                })?;
                table_of(whole.get_ref(), &mut too_large)
            }
        };
        Ok(Self {
            path: path.to_owned(),
            root,
            text,
            too_large,
            lines: OnceCell::new(),
            environment: BTreeMap::new(),
            unresolved: HashSet::new(),
        })
    }

    fn put_in(&mut self, environment: &Environment, problems: &mut Vec<Problem>) {
        let mut faults = Vec::new();
        let mut root = Value::Table(std::mem::take(&mut self.root));
        expand(&mut root, &mut KeyPath::default(), environment, &mut self.environment, &mut faults);
        self.unresolved = faults.iter().map(|fault| fault.path.clone()).collect();
        problems.extend(faults.into_iter().map(|fault| Problem::at(self, None, fault)));
        if let Value::Table(root) = root {
            self.root = root;
        }
    }

    /// The line of the value at `path`, else of the nearest thing around it.
    pub(super) fn line(&self, path: &KeyPath) -> Option<usize> {
        let lines = self.lines.get_or_init(|| Lines::of(&self.text));
        (1..=path.0.len()).rev().find_map(|length| lines.get(&KeyPath(path.0[..length].to_vec()))).copied()
    }

    /// Whether the value at `path` needs a variable that is not set: it is reported, and its text is not what was meant.
    pub(super) fn is_unresolved(&self, path: &KeyPath) -> bool {
        self.unresolved.contains(path)
    }

    /// `message` with large numbers as they are written.
    pub(super) fn with_numbers(&self, message: String) -> String {
        self.too_large
            .iter()
            .fold(message, |message, (written, read)| message.replace(&format!("{read:?}"), written))
    }

    /// `message` with the values that came from the environment written as in the file.
    pub(super) fn without_secrets(&self, message: &str) -> String {
        self.environment.iter().filter(|(_, value)| value.len() >= SHORTEST_SECRET).fold(
            message.to_owned(),
            |message, (name, value)| {
                let escaped = value.escape_debug().to_string();
                let written = format!("${{{name}}}");
                message.replace(value, &written).replace(&escaped, &written)
            },
        )
    }
}

fn read_text(path: &Path) -> Result<String, FileError> {
    let file = regular_file::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => FileError::Missing,
        std::io::ErrorKind::IsADirectory => FileError::Directory,
        _ => FileError::Unreadable(error),
    })?;
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(FileError::Unreadable)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(FileError::TooLong);
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count();
        FileError::NotUtf8 { byte: valid + 1, line }
    })
}

fn wrong_toml(message: &str) -> String {
    format!("this is not TOML: {}", message.replace('\n', ", "))
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

/// The line of each key. A file may have ten thousand tasks, so line breaks are counted once.
struct Lines {
    breaks: Vec<usize>,
    of: HashMap<KeyPath, usize>,
}

impl Lines {
    fn of(text: &str) -> HashMap<KeyPath, usize> {
        let breaks = text.match_indices('\n').map(|(at, _)| at).collect();
        let mut lines = Self { breaks, of: HashMap::new() };
        // It has been read as TOML before.
        if let Ok(table) = DeTable::parse(text) {
            lines.table(&mut KeyPath::default(), table.get_ref());
        }
        lines.of
    }

    fn table(&mut self, path: &mut KeyPath, table: &DeTable<'_>) {
        for (key, value) in table {
            path.0.push(Step::Key(key.get_ref().to_string()));
            self.value(path, key.span().start, value);
            path.0.pop();
        }
    }

    fn value(&mut self, path: &mut KeyPath, at: usize, value: &Spanned<DeValue<'_>>) {
        let line = 1 + self.breaks.partition_point(|line_break| *line_break < at);
        self.of.insert(path.clone(), line);
        match value.get_ref() {
            DeValue::Table(table) => self.table(path, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.0.push(Step::Index(index));
                    self.value(path, item.span().start, item);
                    path.0.pop();
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}

pub(super) fn table_of(table: &DeTable<'_>, too_large: &mut Vec<(String, f64)>) -> Table {
    table
        .iter()
        .map(|(key, value)| (key.get_ref().to_string(), value_of(value.get_ref(), too_large)))
        .collect()
}

fn value_of(value: &DeValue<'_>, too_large: &mut Vec<(String, f64)>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                let digits = number.as_str().chars().filter_map(|digit| digit.to_digit(number.radix()));
                let size =
                    digits.fold(0.0, |so_far, digit| so_far * f64::from(number.radix()) + f64::from(digit));
                let read = if number.as_str().starts_with('-') { -size } else { size };
                too_large.push((number.to_string(), read));
                Value::Float(read)
            }
        },
        // What the grammar takes for a number is one; what is too large is infinite.
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| value_of(item.get_ref(), too_large)).collect())
        }
        DeValue::Table(table) => Value::Table(table_of(table, too_large)),
    }
}

/// Puts the environment into every string, and writes dates and times as strings: the one form that JSON has too.
fn expand(
    value: &mut Value,
    path: &mut KeyPath,
    environment: &Environment,
    used: &mut BTreeMap<String, String>,
    faults: &mut Vec<Fault>,
) {
    match value {
        Value::String(text) => match env::expand(text, environment, used) {
            Ok(expanded) => *text = expanded,
            Err(problem) => faults.push(Fault::new(path.clone(), format!("{path} {problem}"))),
        },
        Value::Datetime(datetime) => *value = Value::String(datetime.to_string()),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.0.push(Step::Index(index));
                expand(item, path, environment, used, faults);
                path.0.pop();
            }
        }
        Value::Table(table) => {
            for (key, value) in table.iter_mut() {
                path.0.push(Step::Key(key.clone()));
                expand(value, path, environment, used, faults);
                path.0.pop();
            }
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {}
    }
}

//! Items from files.

use super::Fields;
use crate::config::Fault;
use crate::regular_file;
use crate::skill::SkillError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The content of files: CSV with a head line, JSON, JSON Lines, TOML, Markdown. Which, says the name's ending.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The field that an item is known by. Default: `id` where an item has it, else a hash of its content.
    pub(super) key: Option<String>,
    /// The file, from the actor file's folder. `*`, `?`, `[…]` and `**` match several files.
    path: String,
}

/// All files of a source together may have so many bytes: more is surely a mistake, and would be held in memory.
const MOST_BYTES: u64 = 64 << 20;

pub(super) struct FileSource {
    /// The path, or a pattern.
    pattern: String,
    is_pattern: bool,
}

impl FileSource {
    pub(super) fn new(config: &FileConfig, base_dir: &Path) -> Result<Self, Fault> {
        let is_pattern = config.path.contains(['*', '?', '[']);
        let wrong = |message| Fault::new("path", format!("path: {message}"));
        let pattern = if is_pattern {
            // Only what the actor file says is a pattern, not the name of the folder it stands in.
            let base = glob::Pattern::escape(&base_dir.to_string_lossy());
            Path::new(&base).join(&config.path)
        } else {
            base_dir.join(&config.path)
        };
        let pattern = pattern.into_os_string().into_string();
        let pattern = pattern.map_err(|path| wrong(format!("{} is not UTF-8", path.display())))?;
        if is_pattern {
            glob::Pattern::new(&pattern)
                .map_err(|error| wrong(format!("bad pattern {:?}: {error}", config.path)))?;
        }
        Format::of(Path::new(&config.path)).map_err(wrong)?;
        Ok(Self { pattern, is_pattern })
    }

    pub(super) async fn read(&self) -> Result<Vec<Fields>, SkillError> {
        let paths = self.paths().map_err(SkillError::Unrecoverable)?;
        tokio::task::spawn_blocking(move || read_all(&paths))
            .await
            .map_err(|error| SkillError::Recoverable(format!("reading was cut short: {error}")))?
    }

    /// What the files hold, or all that is wrong with them.
    pub(super) fn check(&self) -> Result<Vec<Fields>, Vec<String>> {
        let paths = self.paths().map_err(|error| vec![error])?;
        let mut left = MOST_BYTES;
        let (mut items, mut problems) = (Vec::new(), Vec::new());
        for path in paths {
            match read_one(&path, &mut left) {
                Ok(more) => items.extend(more),
                Err(error) => problems.push(error.to_string()),
            }
        }
        if problems.is_empty() { Ok(items) } else { Err(problems) }
    }

    fn paths(&self) -> Result<Vec<PathBuf>, String> {
        if !self.is_pattern {
            return Ok(vec![PathBuf::from(&self.pattern)]);
        }
        let paths =
            glob::glob(&self.pattern).map_err(|error| format!("bad pattern {:?}: {error}", self.pattern))?;
        let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        paths.sort();
        if paths.is_empty() {
            return Err(format!("no file matches {}", self.pattern));
        }
        Ok(paths)
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Fields>, SkillError> {
    let mut left = MOST_BYTES;
    let mut items = Vec::new();
    for path in paths {
        items.extend(read_one(path, &mut left)?);
    }
    Ok(items)
}

fn read_one(path: &Path, left: &mut u64) -> Result<Vec<Fields>, SkillError> {
    let text = read_text(path, left)?;
    let wrong = |error| SkillError::Unrecoverable(format!("{}: {error}", path.display()));
    Format::of(path).and_then(|format| format.parse(&text)).map_err(wrong)
}

fn read_text(path: &Path, left: &mut u64) -> Result<String, SkillError> {
    let shown = path.display();
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => SkillError::Unrecoverable(format!("there is no file {shown}")),
        std::io::ErrorKind::PermissionDenied
        | std::io::ErrorKind::IsADirectory
        | std::io::ErrorKind::Unsupported => {
            SkillError::Unrecoverable(format!("{shown} can't be read: {error}"))
        }
        _ => SkillError::Recoverable(format!("{shown} can't be read: {error}")),
    };
    let mut bytes = Vec::new();
    regular_file::open(path).map_err(failed)?.take(*left + 1).read_to_end(&mut bytes).map_err(failed)?;
    let Some(rest) = left.checked_sub(bytes.len() as u64) else {
        let most = MOST_BYTES >> 20;
        return Err(SkillError::Unrecoverable(format!("{shown}: the source has more than {most} MiB")));
    };
    *left = rest;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        SkillError::Unrecoverable(format!("{shown}:{line}: invalid UTF-8 (byte {at})"))
    })
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Csv,
    Json,
    JsonLines,
    Toml,
    Markdown,
}

impl Format {
    fn of(path: &Path) -> Result<Self, String> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("json") => Ok(Self::Json),
            Some("jsonl" | "ndjson") => Ok(Self::JsonLines),
            Some("toml") => Ok(Self::Toml),
            Some("md" | "markdown") => Ok(Self::Markdown),
            _ => Err(format!(
                "{:?} has no ending that says what it is (allowed: .csv, .json, .jsonl, .ndjson, .toml, .md, .markdown)",
                path.file_name().unwrap_or_default()
            )),
        }
    }

    fn parse(self, text: &str) -> Result<Vec<Fields>, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        match self {
            Self::Csv => csv_rows(text),
            Self::Json => serde_json::from_str(text).map_err(|error| error.to_string()).and_then(list),
            Self::JsonLines => json_lines(text),
            Self::Toml => toml_table(text).map(Value::Object).and_then(list),
            Self::Markdown => markdown(text).map(|item| vec![item]),
        }
    }
}

fn toml_table(text: &str) -> Result<Fields, String> {
    text.parse().map(json_fields).map_err(|error: toml::de::Error| error.to_string())
}

/// TOML's own times become texts.
pub(super) fn json_fields(table: toml::Table) -> Fields {
    fn json(value: toml::Value) -> Value {
        match value {
            toml::Value::String(text) => text.into(),
            toml::Value::Integer(number) => number.into(),
            toml::Value::Float(number) => number.into(),
            toml::Value::Boolean(bool) => bool.into(),
            toml::Value::Datetime(time) => time.to_string().into(),
            toml::Value::Array(values) => values.into_iter().map(json).collect(),
            toml::Value::Table(table) => Value::Object(json_fields(table)),
        }
    }
    table.into_iter().map(|(name, value)| (name, json(value))).collect()
}

fn csv_rows(text: &str) -> Result<Vec<Fields>, String> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let head = reader.headers().map_err(|error| error.to_string())?.clone();
    if let Some(twice) =
        head.iter().enumerate().find(|(index, name)| head.iter().take(*index).any(|n| n == *name))
    {
        return Err(format!("the head line has {:?} twice", twice.1));
    }
    let row = |row: Result<csv::StringRecord, csv::Error>| {
        let row = row.map_err(|error| error.to_string())?;
        Ok(head.iter().zip(&row).map(|(name, value)| (name.to_owned(), Value::from(value))).collect())
    };
    reader.records().map(row).collect()
}

fn json_lines(text: &str) -> Result<Vec<Fields>, String> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| serde_json::from_str(line).map_err(|error| format!("line {number}: {error}")))
        .collect()
}

/// A list of objects, or an object whose only list is one.
fn list(value: Value) -> Result<Vec<Fields>, String> {
    let list = match value {
        Value::Array(list) => list,
        Value::Object(fields) => {
            let mut lists = fields.into_iter().filter_map(|(_, value)| match value {
                Value::Array(list) => Some(list),
                _ => None,
            });
            match (lists.next(), lists.next()) {
                (Some(list), None) => list,
                (None, _) => return Err("there is no list of items".to_owned()),
                (Some(_), Some(_)) => {
                    return Err("there are several lists: which one has the items?".to_owned());
                }
            }
        }
        _ => return Err("there is no list of items".to_owned()),
    };
    let item = |(number, value)| match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(format!("item {number} is no object: {value}")),
    };
    (1..).zip(list).map(item).collect()
}

/// One item: front matter, as TOML between `+++` lines or as flat `key: value` lines between `---` lines, and the body
/// as `text`.
fn markdown(text: &str) -> Result<Fields, String> {
    let fence = text.lines().next().map(str::trim_end).filter(|line| matches!(*line, "+++" | "---"));
    let Some(fence) = fence else {
        return Ok(Map::from_iter([("text".to_owned(), Value::from(text.trim()))]));
    };
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let Some(end) = lines.iter().position(|line| line.trim_end() == fence) else {
        return Err(format!("the front matter has no {fence} at its end"));
    };
    let (head, body) = (&lines[..end], &lines[end + 1..]);
    let mut fields = match fence {
        "+++" => toml_table(&head.join("\n")).map_err(|error| format!("front matter: {error}"))?,
        _ => flat_front_matter(head)?,
    };
    match fields.insert("text".to_owned(), Value::from(body.join("\n").trim())) {
        None => Ok(fields),
        Some(_) => Err("the front matter has `text`, which is the name of the body".to_owned()),
    }
}

/// Not YAML, only what looks the same in it: `key: value`, with texts, numbers, booleans and `[a, b]`.
fn flat_front_matter(lines: &[&str]) -> Result<Fields, String> {
    let mut fields = Fields::new();
    for (number, line) in (2..).zip(lines) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let flat = line.split_once(':').filter(|(key, _)| !key.starts_with([' ', '\t', '-']));
        let Some((key, value)) = flat.map(|(key, value)| (key.trim(), value.trim())) else {
            return Err(format!(
                "line {number}: not `key: value` (nested YAML is not read; use +++ and TOML)"
            ));
        };
        if value.starts_with(['|', '>', '{', '&', '*', '!']) || value.is_empty() {
            return Err(format!(
                "line {number}: {key:?} is not flat (nested YAML is not read; use +++ and TOML)"
            ));
        }
        if fields.insert(key.to_owned(), flat_value(value)).is_some() {
            return Err(format!("line {number}: {key:?} is there twice"));
        }
    }
    Ok(fields)
}

fn flat_value(text: &str) -> Value {
    if let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(flat_value).collect();
    }
    match serde_json::from_str(text) {
        Ok(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null)) => value,
        _ => {
            let quoted = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            Value::from(quoted.unwrap_or(text))
        }
    }
}

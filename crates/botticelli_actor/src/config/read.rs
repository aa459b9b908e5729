//! Turns TOML values into typed ones. Unlike the `toml` crate's own deserializer it reports all that is wrong, each with
//! the path of its key, in words for the person who wrote it.

use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt;
use toml::{Table, Value};

/// Where a value stands: `actors[0].schedule.expression`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct KeyPath(pub Vec<Step>);

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Into a table.
    Key(String),
    /// Into an array, from 0.
    Index(usize),
}

impl KeyPath {
    /// The entry `index` of the array `key`.
    pub fn entry(key: &str, index: usize) -> Self {
        Self(vec![Step::Key(key.to_owned()), Step::Index(index)])
    }

    /// Whether it leads to that key of the outermost table, or into it.
    pub fn begins_with(&self, key: &str) -> bool {
        matches!(self.0.first(), Some(Step::Key(first)) if first == key)
    }

    /// The key of the table that stands here.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(self.0.iter().cloned().chain([Step::Key(key.to_owned())]).collect())
    }
}

impl From<&str> for KeyPath {
    /// A path of one key.
    fn from(key: &str) -> Self {
        Self(vec![Step::Key(key.to_owned())])
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Something wrong at one place of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The place.
    pub path: KeyPath,
    /// What is wrong, naming the key.
    pub message: String,
    /// What to try instead.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault without a hint.
    pub fn new(path: impl Into<KeyPath>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }

    /// With what to try instead.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same fault, seen from the table around: its path gets `outer` in front, its message stays.
    #[must_use]
    pub fn within(self, outer: KeyPath) -> Self {
        Self { path: KeyPath([outer.0, self.path.0].concat()), ..self }
    }
}

/// Reads `table` as a `T`.
///
/// # Errors
/// All faults.
pub fn read<T: DeserializeOwned>(table: &Table) -> Result<T, Vec<Fault>> {
    match read_what_is_right(table) {
        (Some(read), faults) if faults.is_empty() => Ok(read),
        (_, faults) => Err(faults),
    }
}

/// Reads `table` as a `T` without what is wrong in it, and with anything that fits in the place of what is missing: for
/// those who check the rest, so that one fault hides no other. Returns the faults too; where there are any, the `T` is
/// good for nothing else.
pub fn read_what_is_right<T: DeserializeOwned>(table: &Table) -> (Option<T>, Vec<Fault>) {
    let mut value = Value::Table(table.clone());
    let (mut faults, mut removed, mut fillers) = (Vec::new(), Vec::new(), Vec::<Filler>::new());
    loop {
        let error = match T::deserialize(Node(&value)) {
            Ok(read) => return (Some(read), faults),
            Err(error) => error.located(&value),
        };
        let path = error.path();
        if let Some(filler) = fillers.iter_mut().find(|filler| path.0.starts_with(&filler.path.0)) {
            filler.tried += 1;
            if filler.put_into(&mut value).is_none() {
                return (None, faults);
            }
            continue;
        }
        let is_missing = matches!(error.kind, Kind::Missing(_));
        if !removed.contains(&path) {
            faults.push(error.into());
        }
        if is_missing {
            let filler = Filler { path, tried: 0 };
            if filler.put_into(&mut value).is_none() {
                return (None, faults);
            }
            fillers.push(filler);
        } else {
            match remove(&mut value, &path) {
                Some(gone) => removed.push(gone),
                None => return (None, faults),
            }
        }
    }
}

/// What stands in the place of a key that is missing.
struct Filler {
    path: KeyPath,
    /// Which kind of value.
    tried: usize,
}

impl Filler {
    /// `None`: nothing fits, or there is no table for it.
    fn put_into(&self, value: &mut Value) -> Option<()> {
        let kinds = [
            Value::String("x".to_owned()),
            Value::Integer(1),
            Value::Boolean(false),
            Value::Array(Vec::new()),
            Value::Table(Table::new()),
        ];
        let (Step::Key(key), around) = self.path.0.split_last()? else { return None };
        let around = around.iter().try_fold(value, |value, step| match step {
            Step::Key(key) => value.get_mut(key.as_str()),
            Step::Index(index) => value.get_mut(*index),
        });
        around?.as_table_mut()?.insert(key.clone(), kinds.get(self.tried)?.clone());
        Some(())
    }
}

fn at<'a>(value: &'a Value, path: &KeyPath) -> Option<&'a Value> {
    path.0.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

/// Takes out the key at `path`, or the array that it is in. Returns the path of what is gone.
fn remove(value: &mut Value, path: &KeyPath) -> Option<KeyPath> {
    let keys: Vec<&String> = path
        .0
        .iter()
        .map_while(|step| match step {
            Step::Key(key) => Some(key),
            Step::Index(_) => None,
        })
        .collect();
    let (last, tables) = keys.split_last()?;
    let table = tables.iter().try_fold(value, |value, key| value.get_mut(key.as_str()))?;
    table.as_table_mut()?.remove(last.as_str())?;
    Some(KeyPath(path.0[..keys.len()].to_vec()))
}

/// What serde found wrong. The path is built from the inside out.
#[derive(Debug)]
struct ReadError {
    reversed: Vec<Step>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Unknown { key: String, known: &'static [&'static str] },
    Missing(&'static str),
    Value { found: String, allowed: String },
    Choice { found: String, allowed: &'static [&'static str] },
    Custom(String),
}

impl ReadError {
    fn new(kind: Kind) -> Self {
        Self { reversed: Vec::new(), kind }
    }

    fn inside(mut self, step: Step) -> Self {
        self.reversed.push(step);
        self
    }

    /// Of an enum that is tagged inside, serde knows only the table. The key is the one whose value it refuses.
    fn located(self, root: &Value) -> Self {
        let Some(Value::Table(table)) = at(root, &self.path()) else { return self };
        let is_refused = |value: &Value| match &self.kind {
            Kind::Value { found, .. } => shown(unexpected(value)) == *found,
            Kind::Choice { found, .. } => value.as_str() == Some(found),
            Kind::Unknown { .. } | Kind::Missing(_) | Kind::Custom(_) => false,
        };
        match table.iter().find(|(_, value)| is_refused(value)) {
            Some((key, _)) => {
                Self { reversed: [vec![Step::Key(key.clone())], self.reversed].concat(), ..self }
            }
            None => self,
        }
    }

    fn path(&self) -> KeyPath {
        let key = match &self.kind {
            Kind::Unknown { key, .. } => Some(key.as_str()),
            Kind::Missing(key) => Some(*key),
            Kind::Value { .. } | Kind::Choice { .. } | Kind::Custom(_) => None,
        };
        KeyPath(self.reversed.iter().rev().cloned().chain(key.map(|key| Step::Key(key.to_owned()))).collect())
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        let path = error.path();
        let (message, hint) = match error.kind {
            Kind::Unknown { key, known } => {
                (format!("{path} is not a known key"), Some(suggestion(&key, known)))
            }
            Kind::Missing(_) => (format!("{path} is missing"), None),
            Kind::Value { found, allowed } => (format!("{path} is {found} (allowed: {allowed})"), None),
            Kind::Choice { found, allowed } => {
                let hint = closest(&found, allowed).map(|word| format!("did you mean {word:?}?"));
                (format!("{path} is {found:?} (allowed: {})", list(allowed)), hint)
            }
            Kind::Custom(message) => (format!("{path}: {message}"), None),
        };
        Self { path, message, hint }
    }
}

fn suggestion(key: &str, known: &[&str]) -> String {
    match closest(key, known) {
        Some(word) => format!("did you mean {word:?}?"),
        None if known.is_empty() => "there are no keys here".to_owned(),
        None => format!("known keys: {}", known.join(", ")),
    }
}

/// The known word that was probably meant.
pub fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(&word, &known.to_lowercase()), *known))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Kind::Custom(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_value(found, expected)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Kind::Value { found: shown(found), allowed: plain(&expected.to_string()).to_owned() })
    }

    fn unknown_variant(found: &str, allowed: &'static [&'static str]) -> Self {
        Self::new(Kind::Choice { found: found.to_owned(), allowed })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::Unknown { key: key.to_owned(), known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Kind::Missing(key))
    }
}

/// What serde calls by a name of Rust.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a map" => "a table",
        "a sequence" => "an array",
        other => other,
    }
}

/// A value as it stands in the file.
fn shown(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => format!("{value:?}"),
        Unexpected::Str(text) => format!("{text:?}"),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::String(text) => Unexpected::Str(text),
        Value::Integer(number) => Unexpected::Signed(*number),
        Value::Float(number) => Unexpected::Float(*number),
        Value::Boolean(value) => Unexpected::Bool(*value),
        Value::Datetime(_) => Unexpected::Other("a date or time"),
        Value::Array(_) => Unexpected::Seq,
        Value::Table(_) => Unexpected::Map,
    }
}

struct Node<'a>(&'a Value);

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Datetime(datetime) => visitor.visit_string(datetime.to_string()),
            Value::Array(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Table(table) => visitor.visit_map(Entries { entries: table.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Table(_) => self.deserialize_any(visitor),
            other => Err(de::Error::invalid_type(unexpected(other), &"a table")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Array(_) => self.deserialize_any(visitor),
            other => Err(de::Error::invalid_type(unexpected(other), &"an array")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(de::value::StrDeserializer::new(text)),
            other => Err(de::Error::invalid_type(unexpected(other), &"a string")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items<'a>(std::iter::Enumerate<std::slice::Iter<'a, Value>>);

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some((index, value)) = self.0.next() else { return Ok(None) };
        seed.deserialize(Node(value)).map(Some).map_err(|error| error.inside(Step::Index(index)))
    }
}

struct Entries<'a> {
    entries: toml::map::Iter<'a, String, Value>,
    value: Option<(&'a String, &'a Value)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        self.value = self.entries.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        seed.deserialize(StringDeserializer::new(key.clone())).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let (key, value) =
            self.value.ok_or_else(|| de::Error::custom("a value was asked for before its key"))?;
        seed.deserialize(Node(value)).map_err(|error| error.inside(Step::Key(key.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        size: u32,
        #[serde(default)]
        colour: Option<Colour>,
        #[serde(default)]
        tags: Vec<String>,
        #[serde(default)]
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        ratio: f64,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Colour {
        Red,
        Green,
    }

    fn faults(text: &str) -> Vec<String> {
        let faults = read::<Settings>(&text.parse().unwrap()).unwrap_err();
        faults
            .into_iter()
            .map(|fault| {
                format!("{}{}", fault.message, fault.hint.map(|h| format!(" | {h}")).unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn good_values_are_read() {
        let text = "size = 3\ncolour = 'red'\ntags = ['a']\ninner = { ratio = 0.5 }";
        let settings: Settings = read(&text.parse().unwrap()).unwrap();
        assert_eq!(
            settings,
            Settings {
                size: 3,
                colour: Some(Colour::Red),
                tags: vec!["a".into()],
                inner: Some(Inner { ratio: 0.5 })
            }
        );
    }

    #[test]
    fn all_faults_are_found_in_one_go() {
        let text = "sise = 3\ncolour = 'gren'\ntags = ['a', 7]\ninner = { ratio = 'x', other = 1 }";
        assert_eq!(
            faults(text),
            [
                "colour is \"gren\" (allowed: \"red\", \"green\") | did you mean \"green\"?",
                "inner.other is not a known key | known keys: ratio",
                "inner.ratio is \"x\" (allowed: a number)",
                "sise is not a known key | did you mean \"size\"?",
                "tags[1] is 7 (allowed: a string)",
                "size is missing",
            ]
        );
    }

    #[test]
    fn all_that_is_missing_is_found_and_the_rest_is_read() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Lacking {
            name: String,
            count: u32,
            inner: Inner,
            list: Vec<Inner>,
        }
        let table: Table = "list = [{}, { ratio = 2.5 }]\ninner = { ratio = 'x' }".parse().unwrap();
        let (read, faults) = read_what_is_right::<Lacking>(&table);
        let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "inner.ratio is \"x\" (allowed: a number)",
                "list[0].ratio is missing",
                "name is missing",
                "count is missing"
            ]
        );
        assert_eq!(read.unwrap().list[1], Inner { ratio: 2.5 });
    }

    #[test]
    fn a_wrong_shape_is_named() {
        assert_eq!(
            faults("size = true\ncolour = 1\ntags = 'a'\ninner = [1]"),
            [
                "colour is 1 (allowed: a string)",
                "inner is an array (allowed: a table)",
                "size is true (allowed: a whole number that is not negative)",
                "tags is \"a\" (allowed: an array)",
            ]
        );
    }
}

//! Names and numbers by which things are known, each a type of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name:?} {problem}")]
pub struct NameError {
    kind: &'static str,
    name: String,
    problem: &'static str,
}

/// Longest name in characters: names are printed in tables and are part of keys.
const LONGEST_NAME: usize = 200;

/// What [`checked`] lets through, for JSON Schema.
const PATTERN: &str = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$";

fn checked(kind: &'static str, name: String) -> Result<String, NameError> {
    let problem = if name.trim().is_empty() {
        "is empty"
    } else if name.chars().count() > LONGEST_NAME {
        "is longer than 200 characters"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else if name.trim() != name {
        "begins or ends with a space"
    } else {
        return Ok(name);
    };
    Err(NameError { kind, name, problem })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String", extend("minLength" = 1, "maxLength" = LONGEST_NAME, "pattern" = PATTERN))]
        pub struct $type(std::sync::Arc<str>);

        impl $type {
            /// # Errors
            /// When the name is empty, too long, padded, or has control characters.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                Ok(Self(checked($kind, name.into())?.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

name! {
    /// A task: the `name` of an `[[actors]]` entry.
    TaskId, "task name"
}
name! {
    /// An `[[alerts]]` section: its `name`.
    AlertName, "alert name"
}
name! {
    /// An actor definition: the `[actor] name` of its file.
    ActorName, "actor name"
}
name! {
    /// One running server process. A process that is started again is another node.
    NodeId, "node name"
}
name! {
    /// What a node must hold to run a task: the hash of the task's whole definition.
    DefinitionHash, "definition hash"
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $type(pub i64);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $type {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number! {
    /// An execution, counted by the database.
    ExecutionId
}
number! {
    /// A post, counted by the database.
    PostId
}
number! {
    /// The token of one attempt. Every later write of the attempt carries it; a successor has another.
    Fence
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::string::string_regex;

    proptest! {
        #[test]
        fn what_the_schema_allows_is_a_name(name in string_regex(PATTERN.trim_matches(['^', '$'])).unwrap()) {
            prop_assume!(name.chars().count() <= LONGEST_NAME);
            prop_assert!(TaskId::new(name).is_ok());
        }
    }

    #[test]
    fn a_name_is_refused_as_the_schema_says() {
        for name in ["", " ", " a", "a ", "\u{2003}a", "a\n", "a\0b", "\u{85}"] {
            assert!(TaskId::new(name).is_err(), "{name:?}");
        }
        assert!(TaskId::new("ä".repeat(LONGEST_NAME)).is_ok());
        assert!(TaskId::new("a".repeat(LONGEST_NAME + 1)).is_err());
    }
}

//! An actor's file: what it knows, its skills in order, and its limits.
//!
//! What a knowledge source or a skill is set to is kept as a table here: those who implement them read it (with
//! [`read`](super::read::read)) and report what is wrong.

use super::within::Within;
use botticelli_server::ids::ActorName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use toml::Table;

/// The file that `config_file` names.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorFile {
    /// Who it is.
    pub actor: ActorSection,
    /// The knowledge sources.
    #[serde(default)]
    pub knowledge: Vec<KnowledgeSection>,
    /// The skills, in the order in which they run.
    #[serde(default)]
    pub skills: Vec<SkillSection>,
    /// Limits of a run.
    #[serde(default)]
    pub execution: ExecutionSection,
    /// What is kept of what was read.
    #[serde(default)]
    pub cache: CacheSection,
    /// The file's folder: relative paths in it start there.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Who an actor is.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorSection {
    /// Its name, unlike any other actor's.
    pub name: ActorName,
    /// What it is for, for people.
    #[serde(default)]
    pub description: Option<String>,
}

/// A source of items.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct KnowledgeSection {
    /// How skills call it (`source`).
    pub name: String,
    /// Where it comes from: `file`, `inline`, `table`, `query`, `event`.
    #[serde(rename = "type")]
    pub kind: String,
    /// All other keys.
    #[serde(flatten)]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub settings: Table,
}

/// One step of the pipeline.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct SkillSection {
    /// Which skill.
    pub name: String,
    /// A skill that is not enabled is left out, and counted as skipped.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// All other keys.
    #[serde(flatten)]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub settings: Table,
}

fn yes() -> bool {
    true
}

/// Limits of a run.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExecutionSection {
    /// How often a skill is tried again, within one attempt, after a failure that may pass.
    pub max_retries: Within<0, 20>,
    /// An attempt may take so long. The task's own `timeout_seconds` wins.
    pub timeout_seconds: Within<1, 86_400>,
    /// Go on with the next skill after one failed.
    pub continue_on_error: bool,
    /// End the run at a failure that will not pass, even with `continue_on_error`.
    pub stop_on_unrecoverable: bool,
}

impl Default for ExecutionSection {
    fn default() -> Self {
        Self {
            max_retries: Within::of::<2>(),
            timeout_seconds: Within::of::<300>(),
            continue_on_error: false,
            stop_on_unrecoverable: true,
        }
    }
}

/// What is kept of what was read from knowledge sources.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSection {
    /// Where it is kept.
    pub strategy: CacheStrategy,
    /// For how long.
    pub ttl_seconds: Within<1, 86_400>,
    /// So many sources at most.
    pub max_entries: Within<1, 10_000>,
}

impl CacheSection {
    /// For how long what was read is kept; `None`: it is read anew in every run.
    pub fn ttl(&self) -> Option<Duration> {
        match self.strategy {
            CacheStrategy::None => None,
            CacheStrategy::Memory => Some(self.ttl_seconds.seconds()),
        }
    }
}

impl Default for CacheSection {
    fn default() -> Self {
        Self {
            strategy: CacheStrategy::None,
            ttl_seconds: Within::of::<300>(),
            max_entries: Within::of::<100>(),
        }
    }
}

/// Where what was read is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheStrategy {
    /// Nowhere.
    None,
    /// In the server's memory.
    Memory,
}

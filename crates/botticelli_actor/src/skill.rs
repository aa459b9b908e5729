//! One step of an actor's pipeline, and how a skill gets its name.

use crate::config::Fault;
use crate::draft::{Draft, Item};
use async_trait::async_trait;
use botticelli_server::clock::Clock;
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::LedgerError;
use botticelli_server::outbox::PostHistory;
use botticelli_server::outcome::SkipReason;
use botticelli_server::post::{Destination, Extras, TextLimit, TextUnit};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What a skill made of the draft.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The next skill goes on with this draft.
    Continue {
        /// The draft.
        draft: Draft,
        /// What was done and why, a line each, for a person (`actor-server once`, and the history).
        notes: Vec<String>,
    },
    /// There is nothing left to do: the run ends as skipped.
    Stop {
        /// Why.
        reason: SkipReason,
        /// The same for a person.
        note: String,
    },
}

/// Why a skill, or a knowledge source, could not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkillError {
    /// Network, limits, time-outs: worth another try.
    #[error("{0}")]
    Recoverable(String),
    /// A bad setting, a missing table, a bad token: another try ends the same.
    #[error("{0}")]
    Unrecoverable(String),
}

/// Failures of the database by what another try would do.
impl From<LedgerError> for SkillError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Unavailable(_) | LedgerError::NotWritable(_) => Self::Recoverable(error.to_string()),
            LedgerError::Refused(_) | LedgerError::Corrupt(_) => Self::Unrecoverable(error.to_string()),
        }
    }
}

/// What a skill may know and ask. Narrow on purpose: a skill has no effect outside.
#[derive(Clone)]
pub struct ActorContext {
    /// The task that runs.
    pub task_id: TaskId,
    /// The nominal time of the occurrence, or when it was triggered: the same in every attempt. Random choices and
    /// times are derived from it and the task, so that every attempt and every node comes to the same.
    pub scheduled_for: DateTime<Utc>,
    /// Where the task posts.
    pub destinations: Vec<Destination>,
    /// How long a text may be there, and how that is counted.
    pub text_limits: TextLimits,
    /// What was posted before.
    pub history: Arc<dyn PostHistory>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Parameters of a manual trigger, or the event.
    pub parameters: serde_json::Value,
    /// The actor's knowledge.
    pub knowledge: Arc<dyn Knowledge>,
    /// Where the actor's file is: relative paths in it start there.
    pub folder: PathBuf,
}

/// How long a text may be at each destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextLimits(BTreeMap<Destination, TextLimit>);

impl TextLimits {
    /// The limit there. Where nobody knows of one there is none.
    pub fn of(&self, destination: &Destination) -> TextLimit {
        let no_limit = TextLimit { max: None, unit: TextUnit::Scalars };
        self.0.get(destination).copied().unwrap_or(no_limit)
    }
}

impl FromIterator<(Destination, TextLimit)> for TextLimits {
    fn from_iter<T: IntoIterator<Item = (Destination, TextLimit)>>(limits: T) -> Self {
        Self(limits.into_iter().collect())
    }
}

/// The actor's knowledge sources, by name.
#[async_trait]
pub trait Knowledge: Send + Sync {
    /// The names of the sources.
    fn names(&self) -> Vec<String>;

    /// The items of the source `name`.
    ///
    /// # Errors
    /// Unrecoverable when there is no such source, table or file; the message names it.
    async fn items(&self, name: &str, context: &ActorContext) -> Result<Arc<Vec<Item>>, SkillError>;
}

/// One step of a pipeline.
#[async_trait]
pub trait Skill: Send + Sync {
    /// Says at load what is wrong with the settings that their types could not say, given the names of the actor's
    /// knowledge sources. A message names the setting and what is allowed.
    fn check(&self, _knowledge: &[&str]) -> Vec<Fault> {
        Vec::new()
    }

    /// An example of what will come with messages, as far as the settings tell: platforms can say beforehand whether they
    /// would take it.
    fn adds(&self) -> Extras {
        Extras::new()
    }

    /// Makes the next draft. Takes it as a whole and gives it back: a skill that fails has changed nothing.
    async fn run(&self, draft: Draft, context: &ActorContext) -> Result<Step, SkillError>;
}

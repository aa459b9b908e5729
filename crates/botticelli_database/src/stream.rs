//! What has changed, in the order in which it became visible: for those who follow it as it happens, wherever it happened.

use crate::alerts::AlertView;
use crate::views::{ExecutionView, PostView};
use botticelli_server::alert::Notice;
use botticelli_server::ids::{ActorName, TaskId};
use botticelli_server::task::{Breaker, PauseReason};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::Duration;

/// Changes are kept for so long. Whoever comes back later is told that some are missing.
pub const CHANGES_ARE_KEPT_FOR: Duration = Duration::from_secs(86_400);

/// How far somebody has come: behind a row of the stream, or in the midst of one that tells of several changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub(crate) tx: i64,
    pub(crate) id: i64,
    /// When the row was written, in microseconds: so that the numbers of a database that was restored are not taken for
    /// those that they replace.
    pub(crate) at: i64,
    /// So many changes of that row are behind.
    pub(crate) told: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.tx, self.id, self.at, self.told)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not one that this server gave")]
pub struct NoPosition;

impl From<ParseIntError> for NoPosition {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let parts: Vec<&str> = text.split('-').collect();
        let [tx, id, at, told] = parts[..] else { return Err(NoPosition) };
        Ok(Self { tx: tx.parse()?, id: id.parse()?, at: at.parse()?, told: told.parse()? })
    }
}

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// An execution is over, or occurrences were left out.
    Execution,
    /// A post has another state; but not that it is being sent.
    Post,
    /// A task was paused or resumed: by its breaker, a person or the configuration.
    Breaker,
    /// An alert has begun or ended.
    Alert,
}

impl ChangeKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Execution, Self::Post, Self::Breaker, Self::Alert];

    /// The word used in tables, JSON and streams.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Execution => "execution",
            Self::Post => "post",
            Self::Breaker => "breaker",
            Self::Alert => "alert",
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Change {
    /// The execution.
    Execution(Box<ExecutionView>),
    /// The post, as it is now.
    Post(Box<PostView>),
    /// The task, as it was then.
    Breaker(BreakerChange),
    /// The alert, as it is now.
    Alert(AlertChange),
}

impl Change {
    /// What changed.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::Execution(_) => ChangeKind::Execution,
            Self::Post(_) => ChangeKind::Post,
            Self::Breaker(_) => ChangeKind::Breaker,
            Self::Alert(_) => ChangeKind::Alert,
        }
    }

    /// Whether it concerns this task.
    pub(crate) fn is_of(&self, task: &TaskId) -> bool {
        match self {
            Self::Execution(execution) => execution.task_id == *task,
            Self::Post(post) => post.task_id == *task,
            Self::Breaker(breaker) => breaker.task_id == *task,
            Self::Alert(change) => change.alert.subject == task.as_str(),
        }
    }
}

/// A task was paused or resumed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BreakerChange {
    /// The task.
    pub task_id: TaskId,
    /// Its actor.
    pub actor_name: ActorName,
    /// What its breaker does now.
    pub breaker: Breaker,
    /// Whether occurrences are left alone now.
    pub is_paused: bool,
    /// Why.
    pub pause_reason: Option<PauseReason>,
    /// Failed executions in a row.
    pub consecutive_failures: u32,
    /// When one occurrence is let through as a probe.
    pub probe_at: Option<DateTime<Utc>>,
}

/// An alert has begun or ended.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AlertChange {
    /// Which of both.
    pub notice: Notice,
    /// The alert.
    #[serde(flatten)]
    pub alert: AlertView,
}

/// Which changes are wanted.
#[derive(Debug, Clone, Default)]
pub struct StreamFilter {
    /// Of this task.
    pub task: Option<TaskId>,
    /// Of these kinds; none: of all.
    pub kinds: Vec<ChangeKind>,
}

impl StreamFilter {
    pub(crate) fn wants(&self, kind: ChangeKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

/// What came after a position.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamPage {
    /// Changes that came right after it are not there any more: it goes on with the oldest that are.
    pub gap: Option<Position>,
    /// The changes that are wanted, each with the position behind it.
    pub changes: Vec<(Position, Change)>,
    /// How far this has come, whether anything of it was wanted or not.
    pub position: Position,
    /// There is more already.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_and_nothing_else_is() {
        let position = Position { tx: 742, id: 9, at: 1_700_000_000_000_000, told: 3 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in
            ["", "1", "1-2-3", "1-2-3-4-5", "1-2-3-x", "1-2-3--4", "99999999999999999999-1-1-1", "1-2-3-4 "]
        {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text:?}");
        }
    }
}

//! Tasks that run after others.

use crate::ids::TaskId;
use crate::server::Gathering;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;

/// Which ends are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// It succeeded: its posts, if any, are in the outbox.
    #[default]
    Succeeded,
    /// It failed, and is not tried again.
    Failed,
    /// It is over, however it ended: also with nothing to post, or cancelled.
    Finished,
}

impl Ends {
    /// Whether an execution with this outcome, as the history has it, is meant.
    pub fn include(self, outcome: &str) -> bool {
        match self {
            Self::Succeeded => outcome == "succeeded",
            Self::Failed => outcome == "failed",
            Self::Finished => true,
        }
    }

    /// Whether an end can be meant by both.
    pub fn overlap(self, other: Self) -> bool {
        self == other || self == Self::Finished || other == Self::Finished
    }
}

/// Runs a task after another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct After {
    /// The other one.
    pub task: TaskId,
    /// Which ends of its executions are meant.
    pub on: Ends,
    /// Only those whose event has these values, by JSON pointer.
    pub filter: BTreeMap<String, Value>,
    /// Which of them share a run.
    pub gathering: Gathering,
    /// With so many runs waiting, others are left out.
    pub max_waiting: NonZeroU32,
}

impl After {
    /// What its events come from.
    pub fn source(&self) -> String {
        format!("after {}", self.task)
    }

    /// Whether the end of an execution, which is told by `event`, is meant.
    pub fn wants(&self, outcome: &str, event: &Value) -> bool {
        self.on.include(outcome)
            && self.filter.iter().all(|(pointer, wanted)| event.pointer(pointer) == Some(wanted))
    }
}

/// Tasks that run after each other in a circle, each after the next, the first one again at the end; `None`: there is no
/// circle. `runs_after`: a task, and one that it runs after.
pub fn circle<'a>(runs_after: &[(&'a TaskId, &'a TaskId)]) -> Option<Vec<&'a TaskId>> {
    let mut left = runs_after.to_vec();
    // What runs after nothing that is left is in no circle, nor is what leads to it.
    loop {
        let before = left.len();
        let heads: HashSet<&TaskId> = left.iter().map(|(task, _)| *task).collect();
        left.retain(|(_, upstream)| heads.contains(upstream));
        if left.len() == before {
            break;
        }
    }
    let mut way = vec![left.first()?.0];
    loop {
        let last = *way.last()?;
        let next = left.iter().find(|(task, _)| *task == last)?.1;
        let begins = way.iter().position(|task| *task == next);
        way.push(next);
        if let Some(begins) = begins {
            return Some(way.split_off(begins));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(edges: &[(&str, &str)]) -> Option<String> {
        let id = |name: &str| TaskId::new(name).expect("a name");
        let edges: Vec<(TaskId, TaskId)> =
            edges.iter().map(|(task, upstream)| (id(task), id(upstream))).collect();
        let edges: Vec<(&TaskId, &TaskId)> = edges.iter().map(|(task, upstream)| (task, upstream)).collect();
        circle(&edges).map(|way| way.iter().map(|task| task.as_str()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_circle_is_found_however_long_and_whatever_leads_to_it() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("b", "a"), ("c", "a"), ("d", "b"), ("d", "c")]), None);
        assert_eq!(found(&[("a", "a")]).as_deref(), Some("a a"));
        assert_eq!(found(&[("a", "b"), ("b", "a")]).as_deref(), Some("a b a"));
        let long = [("x", "a"), ("a", "z"), ("a", "b"), ("b", "c"), ("c", "a"), ("y", "c")];
        assert_eq!(found(&long).as_deref(), Some("a b c a"));
    }

    #[test]
    fn ends_are_those_that_the_word_says() {
        let outcomes = ["succeeded", "failed", "skipped", "cancelled"];
        let of = |ends: Ends| outcomes.map(|outcome| ends.include(outcome));
        assert_eq!(of(Ends::Succeeded), [true, false, false, false]);
        assert_eq!(of(Ends::Failed), [false, true, false, false]);
        assert_eq!(of(Ends::Finished), [true; 4]);
        assert!(!Ends::Failed.overlap(Ends::Succeeded) && Ends::Failed.overlap(Ends::Finished));
    }
}

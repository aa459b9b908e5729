//! A span, and the ids of runs and deliveries, which every node derives alike.

use botticelli_server::ids::{ExecutionId, PostId, TaskId};
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::fmt;

pub(super) type TraceId = [u8; 16];
pub(super) type SpanId = [u8; 8];

/// Which span of which trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
}

/// A part of a trace.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// An attempt of the execution, from 1. Of the first one everybody knows the span who knows the execution.
    Attempt(u32),
    /// A skill of an attempt, by its place in the pipeline.
    Skill { attempt: u32, index: usize },
    /// An attempt to send a post.
    Delivery { post: PostId, attempt: u32 },
}

impl Ids {
    /// `ledger` tells databases apart, as in the keys of posts; the task tells what an alert sends from what a run made.
    pub(super) fn derive(ledger: &str, task: &TaskId, execution: ExecutionId, part: Part) -> Self {
        let mut hash = Sha256::new();
        for field in ["actor-server trace", ledger, task.as_str(), &execution.to_string()] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        let trace = first(&hash.clone().finalize());
        hash.update(match part {
            Part::Attempt(attempt) => format!("attempt {attempt}"),
            Part::Skill { attempt, index } => format!("skill {attempt} {index}"),
            Part::Delivery { post, attempt } => format!("delivery {attempt} {post}"),
        });
        Self { trace, span: first(&hash.finalize()) }
    }

    /// Whether this trace is among the `share` that is kept: the same everywhere, and for all of its spans.
    pub(super) fn is_in(&self, share: f64) -> bool {
        let [.., a, b, c, d] = self.trace;
        f64::from(u32::from_be_bytes([a, b, c, d])) < share * 2_f64.powi(32)
    }
}

fn first<const N: usize>(hash: &[u8]) -> [u8; N] {
    std::array::from_fn(|index| hash[index])
}

/// As the W3C's trace context and logs have ids.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Something that took time, and is over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    pub(super) ids: Ids,
    pub(super) parent: Option<SpanId>,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) started_at: DateTime<Utc>,
    pub(super) ended_at: DateTime<Utc>,
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// What went wrong.
    pub(super) error: Option<Cow<'static, str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Within this process.
    Internal,
    /// It asks another server.
    Client,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Truth(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_same_on_every_node_and_differ_between_all_that_differs() {
        let (task, alert) = (TaskId::new("t").expect("a name"), TaskId::new("alert:t").expect("a name"));
        let ids = |ledger, task, execution, part| Ids::derive(ledger, task, ExecutionId(execution), part);
        let run = ids("a", &task, 1, Part::Attempt(1));
        assert_eq!(Hex(&run.trace).to_string(), "e311617084313706e4b23f99cf4db1a5");
        let others = [
            ids("a", &task, 1, Part::Attempt(2)),
            ids("a", &task, 1, Part::Skill { attempt: 1, index: 1 }),
            ids("a", &task, 1, Part::Skill { attempt: 2, index: 1 }),
            ids("a", &task, 1, Part::Delivery { post: PostId(1), attempt: 1 }),
            ids("a", &task, 1, Part::Delivery { post: PostId(1), attempt: 2 }),
            ids("a", &task, 1, Part::Delivery { post: PostId(2), attempt: 1 }),
        ];
        let mut spans: Vec<SpanId> = others.iter().map(|other| other.span).collect();
        spans.extend([run.span]);
        spans.sort();
        spans.dedup();
        assert_eq!(spans.len(), 7);
        assert!(others.iter().all(|other| other.trace == run.trace));
        for other in [ids("b", &task, 1, Part::Attempt(1)), ids("a", &alert, 1, Part::Attempt(1))] {
            assert_ne!(other.trace, run.trace);
        }
        assert_ne!(ids("a", &task, 2, Part::Attempt(1)).trace, run.trace);
    }

    #[test]
    fn a_share_of_the_executions_is_traced() {
        let task = TaskId::new("t").expect("a name");
        let traces: Vec<Ids> =
            (1..=1_000).map(|n| Ids::derive("a", &task, ExecutionId(n), Part::Attempt(1))).collect();
        let kept = |share| traces.iter().filter(|ids| ids.is_in(share)).count();
        assert_eq!((kept(0.0), kept(1.0)), (0, 1_000));
        assert!((200..300).contains(&kept(0.25)), "{}", kept(0.25));
    }
}

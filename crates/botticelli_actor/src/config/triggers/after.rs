//! Tasks that run after others.

use super::super::read::{Fault, KeyPath, closest};
use super::super::within::Within;
use super::{BatchSize, MostWaiting, Seconds, Together, pointers};
use botticelli_server::after::{After, Ends, circle};
use botticelli_server::ids::TaskId;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The end of another task's run runs this one, once, with what is known of that run as knowledge of type `event`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AfterSection {
    /// The other task.
    pub(in crate::config) task: TaskId,
    /// Which ends: `succeeded`; `failed`, when it is not tried again; or `finished`, however it ended, also with nothing
    /// to post, or cancelled.
    #[serde(default)]
    pub(super) on: Ends,
    /// Only ends for which all of this holds. A key is a JSON pointer into the event; the value there is exactly this
    /// one.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Value>")]
    pub(super) filter: BTreeMap<String, toml::Value>,
    /// Ends that follow each other within so long are one run, for the last of them. A stream that never pauses is run
    /// after ten times as long.
    #[serde(default)]
    pub(super) debounce_seconds: Option<Seconds>,
    /// Ends that come within so long after a first one are one run, for all of them.
    #[serde(default)]
    pub(super) batch_seconds: Option<Seconds>,
    /// With `batch_seconds`: at so many ends the run starts at once.
    #[serde(default)]
    pub(super) batch_max: Option<BatchSize>,
    /// With so many runs of the task waiting for their turn, others are left out: the history says so.
    #[serde(default = "Within::<1, 10_000>::of::<100>")]
    pub(super) max_waiting: MostWaiting,
}

/// Adds what the section says to those of the task; returns what is wrong with it.
pub(super) fn add(section: &AfterSection, found: &mut Vec<After>) -> Vec<Fault> {
    let AfterSection { task, on, filter, debounce_seconds, batch_seconds, batch_max, max_waiting } = section;
    let together = Together { debounce: *debounce_seconds, batch: *batch_seconds, batch_max: *batch_max };
    let mut faults = together.faults();
    if found.iter().any(|other| other.task == *task && other.on.overlap(*on)) {
        let fault = Fault::new("task", format!("the task has another trigger for the same ends of {task:?}"));
        faults.push(fault.hint("one end is one run: `on` says which ends are meant"));
    }
    found.push(After {
        task: task.clone(),
        on: *on,
        filter: pointers(filter, &mut faults),
        gathering: together.gathering(),
        max_waiting: max_waiting.count(),
    });
    faults
}

/// A task by its place in the file, and one after which it runs.
pub(in crate::config) struct Named {
    pub(in crate::config) task: TaskId,
    /// The place of the entry of its trigger that names the other one.
    pub(in crate::config) place: KeyPath,
    pub(in crate::config) after: TaskId,
}

/// What is wrong with them as a whole, in the order of the file: tasks that nobody knows, and circles.
pub(in crate::config) fn wrong_afters<'a>(named: &'a [Named], known: &[&str]) -> Vec<(&'a Named, Fault)> {
    let mut wrong = Vec::new();
    for one in named.iter().filter(|one| !known.contains(&one.after.as_str())) {
        let message = format!("there is no task {:?} to run after", one.after);
        let hint = match closest(one.after.as_str(), known) {
            Some(word) => format!("did you mean {word:?}?"),
            None => "the name of another [[actors]] entry of this file".to_owned(),
        };
        wrong.push((one, Fault::new("task", message).hint(hint)));
    }
    let mut left: Vec<&Named> = named.iter().collect();
    loop {
        let edges: Vec<(&TaskId, &TaskId)> = left.iter().map(|one| (&one.task, &one.after)).collect();
        let Some(way) = circle(&edges) else { return wrong };
        let names: Vec<String> = way.iter().map(|task| format!("{task:?}")).collect();
        let message = format!("tasks that run after each other in a circle: {}", names.join(" after "));
        let begins =
            left.iter().find(|one| way.first() == Some(&&one.task) && way.get(1) == Some(&&one.after));
        if let Some(one) = begins {
            wrong.push((*one, Fault::new("task", message).hint("each of them would run for ever")));
        }
        let of_the_circle: Vec<TaskId> = way.into_iter().cloned().collect();
        left.retain(|one| !of_the_circle.contains(&one.task));
    }
}

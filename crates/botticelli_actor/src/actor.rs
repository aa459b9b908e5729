//! An actor: its definition, and the pipeline that runs it.

use crate::config::actor_file::ExecutionSection;
use crate::config::{ActorFile, Fault, KeyPath};
use crate::draft::{Delivery, Draft, Entry, Extra};
use crate::knowledge::KnowledgeSet;
use crate::platforms::Platforms;
use crate::skill::{ActorContext, Skill, SkillError, Step, TextLimits};
use crate::skills::SkillRegistry;
use crate::text::{fits, measure};
use async_trait::async_trait;
use botticelli_server::clock::Clock;
use botticelli_server::ids::{ActorName, TaskId};
use botticelli_server::outbox::{NewPost, OnUnknown, PostHistory, UsedItem};
use botticelli_server::outcome::{AttemptEnd, SkillCounts};
use botticelli_server::post::{Destination, PostContent, PostError, TextLimit};
use botticelli_server::schedule::jitter;
use botticelli_server::server::{Actor, ActorManager, Run, UnknownActor};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The wait before the first retry of a skill. It doubles with each, up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The wait before the `retry`-th retry (from 1), less up to a quarter that keeps tasks apart.
fn backoff(task: &TaskId, retry: u32, now: DateTime<Utc>) -> Duration {
    let full = FIRST_BACKOFF.saturating_mul(1 << retry.saturating_sub(1).min(20)).min(LONGEST_BACKOFF);
    full - jitter(task.as_str(), now, full / 4)
}

/// All that one attempt needs to know.
#[derive(Clone)]
pub struct RunContext {
    /// The task that runs.
    pub task_id: TaskId,
    /// See [`ActorContext::scheduled_for`].
    pub scheduled_for: DateTime<Utc>,
    /// Where the task posts.
    pub destinations: Vec<Destination>,
    /// How long a text may be there.
    pub text_limits: TextLimits,
    /// What does not fit them is not posted.
    pub platforms: Platforms,
    /// What was posted before.
    pub history: Arc<dyn PostHistory>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Parameters of a manual trigger, or the event.
    pub parameters: serde_json::Value,
    /// What the task wants done with a post when nothing can tell whether it is there.
    pub on_unknown: OnUnknown,
    /// Ends the attempt as interrupted.
    pub stop: CancellationToken,
    /// Gets to see each stage.
    pub trace: Option<Arc<dyn Trace>>,
}

/// Gets to see each stage of a run, as it ends.
pub trait Trace: Send + Sync {
    /// One skill is done. `draft` is what the next one gets.
    fn stage(&self, stage: &Stage, draft: &Draft);
}

/// What one skill did, for a person; kept in the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// The skill.
    pub name: String,
    /// How it ended.
    pub result: StageResult,
    /// What it did and why.
    pub notes: Vec<String>,
    /// How long it took, retries and all.
    pub ms: i64,
}

/// How a skill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageResult {
    /// Well.
    Succeeded,
    /// With an error.
    Failed,
    /// It is disabled, or was not reached.
    Skipped,
}

/// So many notes of a skill are kept in the history.
const MOST_NOTES: usize = 50;

/// An actor as a pipeline of skills.
pub struct PipelineActor {
    steps: Vec<PipelineStep>,
    knowledge: Arc<KnowledgeSet>,
    execution: ExecutionSection,
    folder: PathBuf,
}

struct PipelineStep {
    name: String,
    /// `None`: disabled.
    skill: Option<Arc<dyn Skill>>,
}

impl PipelineActor {
    /// Makes the actor, without reading anything. A table or query that names no database reads `own_database_url`.
    ///
    /// # Errors
    /// All that is wrong with the file's knowledge and skills.
    pub fn build(
        file: &ActorFile,
        registry: &SkillRegistry,
        own_database_url: &str,
    ) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let knowledge = KnowledgeSet::build(file, own_database_url).unwrap_or_else(|wrong| {
            faults.extend(wrong);
            KnowledgeSet::default()
        });
        let sources: Vec<&str> = file.knowledge.iter().map(|section| section.name.as_str()).collect();
        let mut steps = Vec::new();
        for (index, section) in file.skills.iter().enumerate() {
            let place = |fault: Fault| fault.within(KeyPath::entry("skills", index));
            // A disabled skill is checked too: it is to work when somebody enables it.
            let (skill, wrong) = registry.build_what_is_right(&section.name, &section.settings);
            let checked = skill.as_ref().map(|skill| skill.check(&sources)).unwrap_or_default();
            // Of a skill with wrong settings, others may only seem to be wrong; but not which source it names.
            let source = KeyPath::from("source");
            let names_a_source =
                section.settings.contains_key("source") && wrong.iter().all(|fault| fault.path != source);
            let stands = |fault: &Fault| wrong.is_empty() || (names_a_source && fault.path == source);
            let checked: Vec<Fault> = checked.into_iter().filter(stands).collect();
            faults.extend(wrong.into_iter().chain(checked).map(place));
            steps.push(PipelineStep { name: section.name.clone(), skill: skill.filter(|_| section.enabled) });
        }
        if file.skills.is_empty() {
            faults.push(Fault::new("skills", "the actor has no skills").hint(SELECT_HINT));
        }
        if faults.is_empty() {
            let (execution, folder) = (file.execution.clone(), file.folder.clone());
            Ok(Self { steps, knowledge: Arc::new(knowledge), execution, folder })
        } else {
            Err(faults)
        }
    }
}

const SELECT_HINT: &str = "a pipeline begins with [[skills]] name = \"content_selection\"";

#[async_trait]
impl Actor<RunContext> for PipelineActor {
    async fn run(&self, context: RunContext) -> Run {
        let RunContext { stop, trace, on_unknown, .. } = context.clone();
        let mut pass = Pass {
            actor: self,
            context: ActorContext {
                task_id: context.task_id,
                scheduled_for: context.scheduled_for,
                destinations: context.destinations,
                text_limits: context.text_limits,
                history: context.history,
                clock: context.clock,
                parameters: context.parameters,
                knowledge: self.knowledge.clone(),
                folder: self.folder.clone(),
            },
            platforms: context.platforms,
            trace,
            on_unknown,
            draft: Draft::default(),
            stages: Vec::new(),
            first_failure: None,
        };
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Some(AttemptEnd::Interrupted),
            ended = pass.run() => ended,
        };
        pass.finish(ended)
    }
}

/// One way through the pipeline.
struct Pass<'a> {
    actor: &'a PipelineActor,
    context: ActorContext,
    platforms: Platforms,
    trace: Option<Arc<dyn Trace>>,
    on_unknown: OnUnknown,
    draft: Draft,
    stages: Vec<Stage>,
    first_failure: Option<SkillError>,
}

impl Pass<'_> {
    /// Runs the skills in order. Says how the run ended if that was before the last one.
    async fn run(&mut self) -> Option<AttemptEnd> {
        for step in &self.actor.steps {
            let Some(skill) = &step.skill else {
                self.stage(&step.name, StageResult::Skipped, vec!["disabled".to_owned()], 0);
                continue;
            };
            let started_at = self.context.clock.now();
            let (result, mut notes) = self.with_retries(skill.as_ref()).await;
            let ms = (self.context.clock.now() - started_at).num_milliseconds();
            match result {
                Ok(Step::Continue { draft, notes: done }) => {
                    self.draft = draft;
                    notes.extend(done);
                    self.stage(&step.name, StageResult::Succeeded, notes, ms);
                }
                Ok(Step::Stop { reason, note }) => {
                    notes.push(note);
                    self.stage(&step.name, StageResult::Succeeded, notes, ms);
                    return Some(AttemptEnd::Skipped(reason));
                }
                Err(error) => {
                    notes.push(error.to_string());
                    self.stage(&step.name, StageResult::Failed, notes, ms);
                    let named = name(&step.name, error);
                    if self.ends_run(&named) {
                        return Some(failed(named));
                    }
                    self.first_failure.get_or_insert(named);
                }
            }
        }
        None
    }

    /// What came of the skill, and why it was tried again.
    async fn with_retries(&self, skill: &dyn Skill) -> (Result<Step, SkillError>, Vec<String>) {
        let mut notes = Vec::new();
        for retry in 1..=self.actor.execution.max_retries.get() as u32 {
            match skill.run(self.draft.clone(), &self.context).await {
                Err(SkillError::Recoverable(error)) => {
                    let now = self.context.clock.now();
                    let wait = backoff(&self.context.task_id, retry, now);
                    notes.push(format!("{error}; tried again after {} ms", wait.as_millis()));
                    self.context.clock.sleep_until(now + wait).await;
                }
                done => return (done, notes),
            }
        }
        (skill.run(self.draft.clone(), &self.context).await, notes)
    }

    fn ends_run(&self, error: &SkillError) -> bool {
        let execution = &self.actor.execution;
        match error {
            SkillError::Recoverable(_) => !execution.continue_on_error,
            SkillError::Unrecoverable(_) => !execution.continue_on_error || execution.stop_on_unrecoverable,
        }
    }

    fn stage(&mut self, name: &str, result: StageResult, mut notes: Vec<String>, ms: i64) {
        if notes.len() > MOST_NOTES {
            let left_out = notes.len() - MOST_NOTES;
            notes.truncate(MOST_NOTES);
            notes.push(format!("and {left_out} more"));
        }
        let stage = Stage { name: name.to_owned(), result, notes, ms };
        if let Some(trace) = &self.trace {
            trace.stage(&stage, &self.draft);
        }
        self.stages.push(stage);
    }

    fn finish(mut self, ended: Option<AttemptEnd>) -> Run {
        let steps = &self.actor.steps;
        for step in &steps[self.stages.len()..] {
            self.stage(&step.name, StageResult::Skipped, vec!["not reached".to_owned()], 0);
        }
        let made = match ended {
            Some(end) => Err(end),
            None => self.made(),
        };
        let skills = counts(&self.stages);
        let metadata = json!({ "skills": self.stages });
        match made {
            Ok(Made { posts, used_items }) => {
                Run { end: AttemptEnd::Succeeded, skills, posts, used_items, metadata }
            }
            Err(end) => Run { skills, metadata, ..Run::ended(end) },
        }
    }

    /// The posts of the draft.
    fn made(&self) -> Result<Made, AttemptEnd> {
        if self.draft.entries.is_empty() {
            let nothing = || SkillError::Unrecoverable(format!("nothing selects content: {SELECT_HINT}"));
            return Err(failed(self.first_failure.clone().unwrap_or_else(nothing)));
        }
        let mut made = Made::default();
        let mut next_part: HashMap<&Destination, u32> = HashMap::new();
        for entry in &self.draft.entries {
            for delivery in &entry.deliveries {
                let limit = self.context.text_limits.of(&delivery.destination);
                let parts = parts(entry, delivery, limit).map_err(failed)?;
                self.fits(entry, &parts, &delivery.destination).map_err(failed)?;
                let next = next_part.entry(&delivery.destination).or_default();
                let first_part = *next;
                for content in parts {
                    made.posts.push(NewPost {
                        destination: delivery.destination.clone(),
                        part: *next,
                        first_part,
                        content,
                        not_before: delivery.not_before,
                        limits: delivery.limits.clone(),
                        on_unknown: self.on_unknown,
                    });
                    *next += 1;
                }
                made.used_items.push(UsedItem {
                    source: entry.item.source.clone(),
                    key: entry.item.key.clone(),
                    text: entry.item.text().into_owned(),
                    destination: delivery.destination.clone(),
                    part: first_part,
                    again: entry.again,
                });
            }
        }
        Ok(made)
    }

    /// What the destination would refuse is refused before it is in the outbox. A platform that this node does not know
    /// may be another node's.
    fn fits(&self, entry: &Entry, parts: &[PostContent], to: &Destination) -> Result<(), SkillError> {
        let Some(platform) = self.platforms.get(&to.platform) else { return Ok(()) };
        parts.iter().try_for_each(|content| match platform.validate(content, to) {
            Err(PostError::Refused(reason)) => Err(wrong(entry, format!("{to} would refuse it: {reason}"))),
            // What may pass is no fault of the draft.
            Ok(()) | Err(_) => Ok(()),
        })
    }
}

#[derive(Default)]
struct Made {
    posts: Vec<NewPost>,
    used_items: Vec<UsedItem>,
}

/// What is posted of an entry at a destination. The platform would refuse a text that is empty or too long, later.
fn parts(entry: &Entry, delivery: &Delivery, limit: TextLimit) -> Result<Vec<PostContent>, SkillError> {
    let parts = delivery.parts.clone().unwrap_or_else(|| vec![entry.item.text().into_owned()]);
    let wrong = |what| wrong(entry, what);
    if parts.is_empty() || parts.iter().any(|part| part.trim().is_empty()) {
        return Err(wrong("the text is empty".to_owned()));
    }
    match (parts.iter().find(|part| !fits(part, limit)), limit.max) {
        (Some(long), Some(max)) => Err(wrong(format!(
            "the text has a length of {} (allowed: {max}); the skill content_formatter can split it",
            measure(long, limit.unit)
        ))),
        _ => with_extras(parts, entry),
    }
}

fn with_extras(texts: Vec<String>, entry: &Entry) -> Result<Vec<PostContent>, SkillError> {
    let whole = entry.extras.values().find_map(|extra| extra.whole).filter(|_| texts.len() > 1);
    if let Some(whole) = whole {
        return Err(wrong(
            entry,
            format!(
                "the text has {} parts, and {whole} has only one; `overflow = \"truncate\"` in content_formatter \
                 cuts it",
                texts.len()
            ),
        ));
    }
    let extra =
        |extra: &Extra, index| if index == 0 { Some(extra.first.clone()) } else { extra.others.clone() };
    let content = |(index, text)| {
        let extras = entry.extras.iter().filter_map(|(name, of)| Some((name.clone(), extra(of, index)?)));
        PostContent { text, extras: extras.collect() }
    };
    Ok(texts.into_iter().enumerate().map(content).collect())
}

fn wrong(entry: &Entry, what: String) -> SkillError {
    SkillError::Unrecoverable(format!("item {:?} of {:?}: {what}", entry.item.key, entry.item.source))
}

fn name(skill: &str, error: SkillError) -> SkillError {
    match error {
        SkillError::Recoverable(error) => SkillError::Recoverable(format!("{skill}: {error}")),
        SkillError::Unrecoverable(error) => SkillError::Unrecoverable(format!("{skill}: {error}")),
    }
}

fn failed(error: SkillError) -> AttemptEnd {
    let recoverable = matches!(error, SkillError::Recoverable(_));
    AttemptEnd::Failed { error: error.to_string(), recoverable }
}

fn counts(stages: &[Stage]) -> SkillCounts {
    let count = |result| stages.iter().filter(|stage| stage.result == result).count() as u32;
    SkillCounts {
        succeeded: count(StageResult::Succeeded),
        failed: count(StageResult::Failed),
        skipped: count(StageResult::Skipped),
    }
}

/// The actors of a server, by name.
#[derive(Default)]
pub struct RegisteredActors {
    actors: RwLock<BTreeMap<ActorName, Arc<dyn Actor<RunContext>>>>,
}

#[async_trait]
impl ActorManager<ActorName, RunContext> for RegisteredActors {
    fn register(
        &self,
        id: ActorName,
        actor: Arc<dyn Actor<RunContext>>,
    ) -> Option<Arc<dyn Actor<RunContext>>> {
        self.actors.write().unwrap_or_else(PoisonError::into_inner).insert(id, actor)
    }

    fn deregister(&self, id: &ActorName) -> bool {
        self.actors.write().unwrap_or_else(PoisonError::into_inner).remove(id).is_some()
    }

    fn ids(&self) -> Vec<ActorName> {
        self.actors.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    async fn run(&self, id: &ActorName, context: RunContext) -> Result<Run, UnknownActor> {
        let actor = self.actors.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        let actor = actor.ok_or_else(|| UnknownActor(id.to_string()))?;
        // A panic leaves nothing half done: an attempt has no effect outside, and its pass is dropped.
        match AssertUnwindSafe(actor.run(context)).catch_unwind().await {
            Ok(run) => Ok(run),
            Err(panic) => {
                let error = format!("panicked: {}", panic_message(panic.as_ref()));
                Ok(Run::ended(AttemptEnd::Failed { error, recoverable: true }))
            }
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests;

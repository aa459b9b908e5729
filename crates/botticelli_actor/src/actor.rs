//! An actor: its definition, and the pipeline that runs it.

use crate::draft::{Draft, Entry};
use crate::knowledge::{KnowledgeConfig, KnowledgeSet};
use crate::skill::{ActorContext, Skill, SkillError, Step};
use crate::skills::SkillRegistry;
use crate::text::{fits, measure};
use async_trait::async_trait;
use botticelli_server::clock::Clock;
use botticelli_server::ids::{ActorName, TaskId};
use botticelli_server::outbox::{NewPost, OnUnknown, PostHistory, UsedItem};
use botticelli_server::outcome::{AttemptEnd, SkillCounts};
use botticelli_server::post::{Destination, PostContent, TextLimit};
use botticelli_server::schedule::jitter;
use botticelli_server::server::{Actor, ActorManager, Run, UnknownActor};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// An actor file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorDefinition {
    /// Who it is.
    pub actor: ActorHeader,
    /// Where its content comes from.
    #[serde(default)]
    pub knowledge: Vec<KnowledgeConfig>,
    /// What it does with it, in order.
    #[serde(default)]
    pub skills: Vec<SkillConfig>,
    /// What happens when a skill fails.
    #[serde(default)]
    pub execution: ExecutionConfig,
    /// How long what was read is kept.
    #[serde(default)]
    pub cache: CacheConfig,
}

/// `[actor]`: who it is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorHeader {
    /// Its name.
    pub name: ActorName,
    /// What it is for, for people.
    #[serde(default)]
    pub description: String,
}

/// `[[skills]]`: one step of the pipeline.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SkillConfig {
    /// Which skill.
    pub name: String,
    /// Whether it is run.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Its own settings.
    #[serde(flatten)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub settings: toml::Table,
}

fn yes() -> bool {
    true
}

/// `[execution]`: what happens when a skill fails.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExecutionConfig {
    /// So often a skill that failed for a reason that may pass is tried again within the attempt.
    pub max_retries: u32,
    /// One attempt may take so many seconds.
    pub timeout_seconds: NonZeroU32,
    /// The wait before the first retry, in milliseconds. It doubles with each, up to half a minute.
    pub retry_backoff_ms: NonZeroU32,
    /// Whether the pipeline goes on without a skill that failed.
    pub continue_on_error: bool,
    /// Whether a failure that no retry can mend ends the run even so.
    pub stop_on_unrecoverable: bool,
}

impl Default for ExecutionConfig {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            max_retries: 3,
            timeout_seconds: number(300),
            retry_backoff_ms: number(500),
            continue_on_error: false,
            stop_on_unrecoverable: true,
        }
    }
}

/// The longest wait before a retry.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

impl ExecutionConfig {
    /// How long one attempt may take. The engine sees to it.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.get().into())
    }

    /// The wait before the `retry`-th retry (from 1), less up to a quarter that keeps tasks apart.
    fn backoff(&self, task: &TaskId, retry: u32, now: DateTime<Utc>) -> Duration {
        let first = Duration::from_millis(self.retry_backoff_ms.get().into());
        let full = first.saturating_mul(1 << retry.saturating_sub(1).min(20)).min(LONGEST_BACKOFF);
        full - jitter(task.as_str(), now, full / 4)
    }
}

/// `[cache]`: how long what was read from knowledge sources is kept.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Whether anything is kept.
    pub strategy: CacheStrategy,
    /// For so many seconds.
    pub ttl_seconds: NonZeroU32,
    /// The results of so many reads, the newest.
    pub max_entries: NonZeroU32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self { strategy: CacheStrategy::None, ttl_seconds: number(300), max_entries: number(100) }
    }
}

/// Where what was read is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheStrategy {
    /// Nowhere: every run reads anew.
    #[default]
    None,
    /// In memory.
    Memory,
}

/// Something in an actor file that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `skills[1].limit`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would help.
    pub hint: Option<String>,
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
    /// The tightest limit of those destinations' platforms.
    pub text_limit: TextLimit,
    /// What is to be done about posts of which nothing can tell whether they are there.
    pub on_unknown: OnUnknown,
    /// What was posted before.
    pub history: Arc<dyn PostHistory>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Parameters of a manual trigger, or the event.
    pub parameters: serde_json::Value,
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
    execution: ExecutionConfig,
}

struct PipelineStep {
    name: String,
    /// `None`: disabled.
    skill: Option<Arc<dyn Skill>>,
}

impl PipelineActor {
    /// Makes the actor, without starting or reading anything. Files are looked up from `base_dir`; a table or query
    /// that names no database reads `own_database_url`.
    ///
    /// # Errors
    /// All problems of the definition.
    pub fn build(
        definition: &ActorDefinition,
        registry: &SkillRegistry,
        base_dir: &Path,
        own_database_url: &str,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let knowledge =
            KnowledgeSet::build(&definition.knowledge, &definition.cache, base_dir, own_database_url)
                .unwrap_or_else(|wrong| {
                    problems.extend(wrong);
                    KnowledgeSet::default()
                });
        let sources: Vec<&str> = definition.knowledge.iter().map(KnowledgeConfig::name).collect();
        let mut steps = Vec::new();
        for (index, config) in definition.skills.iter().enumerate() {
            // A disabled skill is checked too: it is to work when somebody enables it.
            let skill = registry
                .build(&config.name, config.settings.clone())
                .and_then(|skill| skill.check(&sources).map(|()| skill));
            match skill {
                Ok(skill) => {
                    let skill = config.enabled.then_some(skill);
                    steps.push(PipelineStep { name: config.name.clone(), skill });
                }
                Err(error) => problems.push(Problem {
                    path: error
                        .key
                        .map_or_else(|| format!("skills[{index}]"), |key| format!("skills[{index}].{key}")),
                    message: error.message,
                    hint: error.hint,
                }),
            }
        }
        if definition.skills.is_empty() {
            problems.push(Problem {
                path: "skills".to_owned(),
                message: "the actor has no skills".to_owned(),
                hint: Some(SELECT_HINT.to_owned()),
            });
        }
        if problems.is_empty() {
            Ok(Self { steps, knowledge: Arc::new(knowledge), execution: definition.execution.clone() })
        } else {
            Err(problems)
        }
    }
}

const SELECT_HINT: &str = "a pipeline begins with [[skills]] name = \"content_selection\"";

#[async_trait]
impl Actor<RunContext> for PipelineActor {
    async fn run(&self, context: RunContext) -> Run {
        let RunContext { stop, trace, .. } = context.clone();
        let mut pass = Pass {
            actor: self,
            context: ActorContext {
                task_id: context.task_id,
                scheduled_for: context.scheduled_for,
                destinations: context.destinations,
                text_limit: context.text_limit,
                history: context.history,
                clock: context.clock,
                parameters: context.parameters,
                knowledge: self.knowledge.clone(),
            },
            trace,
            on_unknown: context.on_unknown,
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
        for retry in 1..=self.actor.execution.max_retries {
            match skill.run(self.draft.clone(), &self.context).await {
                Err(SkillError::Recoverable(error)) => {
                    let now = self.context.clock.now();
                    let wait = self.actor.execution.backoff(&self.context.task_id, retry, now);
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
            let parts = parts(entry, self.context.text_limit).map_err(failed)?;
            for delivery in &entry.deliveries {
                let next = next_part.entry(&delivery.destination).or_default();
                let first_part = *next;
                for text in &parts {
                    made.posts.push(NewPost {
                        destination: delivery.destination.clone(),
                        part: *next,
                        first_part,
                        content: PostContent { text: text.clone() },
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
                });
            }
        }
        Ok(made)
    }
}

#[derive(Default)]
struct Made {
    posts: Vec<NewPost>,
    used_items: Vec<UsedItem>,
}

/// The texts that are posted for an entry. The platform would refuse one that is empty or too long, later.
fn parts(entry: &Entry, limit: TextLimit) -> Result<Vec<String>, SkillError> {
    let item = &entry.item;
    let parts = entry.parts.clone().unwrap_or_else(|| vec![item.text().into_owned()]);
    let wrong = |what| SkillError::Unrecoverable(format!("item {:?} of {:?}: {what}", item.key, item.source));
    if parts.is_empty() || parts.iter().any(|part| part.trim().is_empty()) {
        return Err(wrong("the text is empty".to_owned()));
    }
    match (parts.iter().find(|part| !fits(part, limit)), limit.max) {
        (Some(long), Some(max)) => Err(wrong(format!(
            "the text has a length of {} (allowed: {max}); the skill content_formatter can split it",
            measure(long, limit.unit)
        ))),
        _ => Ok(parts),
    }
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

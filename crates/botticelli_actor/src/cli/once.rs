//! `actor-server once TASK`: one run, stage by stage.

use super::args::{GlobalArgs, OnceArgs};
use super::errors::Failure;
use super::load_config;
use super::output::visible;
use super::task::{Runner, in_configuration, in_database, runner_of};
use crate::actor::{PipelineActor, RunContext, Stage, StageResult, Trace};
use crate::app::{contexts, delivery_settings, rehearsal};
use crate::clock::SystemClock;
use crate::config::{ActorFile, LoadedConfig, Problems};
use crate::deliverer::{Deliverer, DeliverySignals, OWN_LIMITS};
use crate::draft::Draft;
use crate::engine::{CurrentNode, DatabaseClock, Shutdown, node_name};
use crate::knowledge::on_a_new_database;
use crate::platforms::{Platforms, shown};
use crate::skills::SkillRegistry;
use anyhow::Context as _;
use async_trait::async_trait;
use botticelli_database::{Mode, OpenError, PostFilter, PostView, Store};
use botticelli_server::clock::Clock;
use botticelli_server::ids::{ExecutionId, NodeId, TaskId};
use botticelli_server::ledger::{
    Attempt, EndedAttempt, Ledger as _, LedgerError, Recorded, Registration, TakeRequest, Trigger,
};
use botticelli_server::outbox::{EarlierItem, NewPost, PostHistory, PostState};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::plan::{Settlement, settle};
use botticelli_server::post::Destination;
use botticelli_server::server::{Accepted, Actor as _, Event, EventServer as _, Run};
use botticelli_server::task::Task;
use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub(super) async fn run(global: &GlobalArgs, args: &OnceArgs) -> anyhow::Result<()> {
    let config = load_config(global)?;
    let task = in_configuration(&config, &global.config, &args.task)?.clone();
    let mut out = Screen { failed: None };
    let done = if args.send {
        send(&config, &task, &mut out).await
    } else {
        rehearse(&config, &task, &mut out).await
    };
    let shown = out.close();
    done?;
    Ok(shown?)
}

/// Runs the pipeline as it would run now, and prints what it would post. The database is only read; where there is none
/// yet, as at the first start.
async fn rehearse(config: &LoadedConfig, task: &Task, out: &mut impl Write) -> anyhow::Result<()> {
    let url = config.database_url.expose_secret();
    let file = actor_file(config, task)?;
    let setting = match Store::open(url, Mode::Command, Arc::new(SystemClock)).await {
        Ok(store) => Setting { now: store.now().await?, history: Arc::new(store), file: file.clone() },
        Err(error @ OpenError::NotMade { .. }) => {
            tracing::info!("{error}: this is how it would run on a new database");
            let file = on_a_new_database(file);
            Setting { now: SystemClock.now(), history: Arc::new(NothingPosted), file }
        }
        Err(error) => return Err(error.into()),
    };
    let attempt = rehearsal(task, setting.now);
    let run = traced(config, task, &attempt, setting.history, &setting.file, out).await?;
    write_posts(&run.posts, out)?;
    writeln!(
        out,
        "nothing was sent or recorded; `once {} --send` really runs it",
        visible(task.id.as_str())
    )?;
    failure_of(task, &run.end)
}

/// What a rehearsal is surrounded by.
struct Setting {
    now: DateTime<Utc>,
    history: Arc<dyn PostHistory>,
    file: ActorFile,
}

/// The history of a database that is not made yet.
struct NothingPosted;

#[async_trait]
impl PostHistory for NothingPosted {
    async fn used_keys(&self, _: &TaskId, _: &str) -> Result<Vec<String>, LedgerError> {
        Ok(Vec::new())
    }

    async fn earlier_items(
        &self,
        _: &Destination,
        _: DateTime<Utc>,
    ) -> Result<Vec<EarlierItem>, LedgerError> {
        Ok(Vec::new())
    }

    async fn post_times(
        &self,
        _: &TaskId,
        _: &Destination,
        _: DateTime<Utc>,
    ) -> Result<Vec<DateTime<Utc>>, LedgerError> {
        Ok(Vec::new())
    }
}

fn actor_file<'a>(config: &'a LoadedConfig, task: &Task) -> anyhow::Result<&'a ActorFile> {
    let file = config.actors.iter().find(|file| file.actor.name == task.actor_name);
    file.with_context(|| format!("the configuration has no actor {:?}", task.actor_name))
}

/// Runs one attempt of the task's actor and prints each stage.
async fn traced(
    config: &LoadedConfig,
    task: &Task,
    attempt: &Attempt,
    history: Arc<dyn PostHistory>,
    file: &ActorFile,
    out: &mut impl Write,
) -> anyhow::Result<Run> {
    let registry = SkillRegistry::standard();
    let actor = PipelineActor::build(file, &registry, config.database_url.expose_secret())
        .map_err(|faults| Problems::of(&file.actor.name, faults))?;
    let system: Arc<dyn Clock> = Arc::new(SystemClock);
    let clock = Arc::new(DatabaseClock::new(system.clone()));
    let context = contexts(history, clock, Platforms::configured(config, system)?);
    let trace = Arc::new(Stages::default());
    let context =
        RunContext { trace: Some(trace.clone()), ..context(task, attempt, CancellationToken::new()) };
    let places: Vec<String> = task.destinations.iter().map(ToString::to_string).collect();
    let at = short(attempt.opened_at);
    writeln!(out, "{}: actor {}, to {}, as of {at}", task.id, task.actor_name, visible(&places.join(", ")))?;
    let run = actor.run(context).await;
    out.write_all(trace.lines.lock().unwrap_or_else(PoisonError::into_inner).as_bytes())?;
    let end = match &run.end {
        AttemptEnd::Succeeded => {
            format!("succeeded, with {} post{}", run.posts.len(), if run.posts.len() == 1 { "" } else { "s" })
        }
        AttemptEnd::Skipped(reason) => format!("skipped ({})", reason.as_str()),
        AttemptEnd::Failed { error, .. } => format!("failed: {error}"),
        AttemptEnd::Interrupted => "interrupted".to_owned(),
        AttemptEnd::Cancelled => "cancelled".to_owned(),
    };
    writeln!(out, "=> {}", visible(&end))?;
    Ok(run)
}

/// Collects what each stage did.
#[derive(Default)]
struct Stages {
    lines: Mutex<String>,
}

impl Trace for Stages {
    fn stage(&self, stage: &Stage, draft: &Draft) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match stage.result {
            StageResult::Succeeded => "succeeded",
            StageResult::Failed => "failed",
            StageResult::Skipped => "skipped",
        };
        lines.push_str(&format!("-- {}: {result} ({} ms)\n", visible(&stage.name), stage.ms));
        for note in &stage.notes {
            lines.push_str(&format!("   {}\n", visible(note)));
        }
        for entry in &draft.entries {
            let key = format!("{}/{}", entry.item.source, entry.item.key);
            let counts: BTreeSet<usize> =
                entry.deliveries.iter().filter_map(|delivery| Some(delivery.parts.as_ref()?.len())).collect();
            let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
            let parts =
                if counts.is_empty() { String::new() } else { format!(", {} part(s)", counts.join(" or ")) };
            lines.push_str(&format!("   draft: {}{parts}\n", visible(&key)));
        }
    }
}

fn write_posts(posts: &[NewPost], out: &mut impl Write) -> anyhow::Result<()> {
    for post in posts {
        let wait = post.not_before.map_or(String::new(), |at| format!(", not before {}", short(at)));
        writeln!(out, "post {} to {}{wait}:", post.part + 1, visible(&post.destination.to_string()))?;
        let extras = shown(&post.content.extras);
        for line in post.content.text.lines().chain(extras.lines()) {
            writeln!(out, "    {}", visible(line))?;
        }
    }
    Ok(())
}

fn failure_of(task: &Task, end: &AttemptEnd) -> anyhow::Result<()> {
    match end {
        AttemptEnd::Failed { .. } => Err(Failure::new(format!("the run of {:?} failed", task.id)).into()),
        AttemptEnd::Succeeded | AttemptEnd::Skipped(_) | AttemptEnd::Interrupted | AttemptEnd::Cancelled => {
            Ok(())
        }
    }
}

/// Really runs the task: in this process, or, where a server has the database, there.
async fn send(config: &LoadedConfig, task: &Task, out: &mut impl Write) -> anyhow::Result<()> {
    let url = config.database_url.expose_secret();
    match Store::open(url, Mode::Server, Arc::new(SystemClock)).await {
        Ok(store) => run_here(config, task, &store, out).await,
        Err(OpenError::InUse { .. }) => {
            let store = Store::open(url, Mode::Command, Arc::new(SystemClock)).await?;
            run_there(task, &store, out).await
        }
        Err(error) => Err(error.into()),
    }
}

/// What the names of these nodes begin with. No server's does: theirs begin with the host's name.
pub(super) const NODE: &str = "(once)";

/// A node for one execution: if this process dies, the others hand it on.
async fn run_here(
    config: &LoadedConfig,
    task: &Task,
    store: &Store,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let node = node_name(NODE, std::process::id(), SystemClock.now());
    store.renew(&node, task.policy.timeout + Duration::from_secs(60)).await?;
    let done = run_as(&node, config, task, store, out).await;
    store.leave(&node).await?;
    done
}

async fn run_as(
    node: &NodeId,
    config: &LoadedConfig,
    task: &Task,
    store: &Store,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let registration = Registration { tasks: vec![task.clone()], complete: false, start: false };
    if !store.register(registration).await?.taken.is_empty() {
        let failure = Failure::new(format!("a task {:?} was made over the API", task.id.as_str()));
        return Err(failure.hint("give one of the two another name").into());
    }
    let execution = publish(task, store).await?;
    let wanted = TakeRequest {
        execution_id: execution,
        task_id: task.id.clone(),
        definition: task.definition.clone(),
        // A person wants it now.
        overlap_allowed: true,
    };
    let Some(attempt) = store.take(node, &[wanted], Duration::ZERO).await?.pop() else {
        // Another node was quicker.
        return wait_for(execution, task, store, out).await;
    };
    let started_at = store.now().await?;
    let history = Arc::new(store.clone());
    let run = traced(config, task, &attempt, history, actor_file(config, task)?, out).await?;
    let ended_at = store.now().await?;
    let next_run = store.states(std::slice::from_ref(&task.id)).await?.pop().and_then(|state| state.next_run);
    let settlement = match settle(task, &attempt, next_run, &run.end, started_at, ended_at) {
        // Nobody would make the next attempt when this process has gone; a person is looking, and can.
        Settlement::Retry { .. } => {
            settle(task, &last_attempt(task, &attempt), next_run, &run.end, started_at, ended_at)
        }
        close @ Settlement::Close { .. } => close,
    };
    let end = run.end.clone();
    let ended = EndedAttempt {
        attempt,
        actor_name: task.actor_name.clone(),
        started_at,
        ended_at,
        end: run.end,
        skills: run.skills,
        settlement,
        posts: run.posts,
        used_items: run.used_items,
        metadata: run.metadata,
    };
    match store.record(node, &[ended]).await?.pop() {
        Some(Recorded::Stored { .. }) => {}
        Some(Recorded::Refused { reason }) => anyhow::bail!("the result could not be stored: {reason}"),
        Some(Recorded::Overtaken { .. }) => {
            anyhow::bail!("another run of the task posted the same item first; a server runs this one again")
        }
        Some(Recorded::Stale) | None => {
            anyhow::bail!("the result came too late: another node has taken over")
        }
    }
    let system: Arc<dyn Clock> = Arc::new(SystemClock);
    let deliverer = Deliverer::new(
        Arc::new(store.clone()),
        Platforms::configured(config, system.clone())?,
        system,
        Arc::new(CurrentNode::new(node.clone())),
        delivery_settings(config),
        DeliverySignals::default(),
    );
    // What the console platform prints comes after the stages.
    out.flush()?;
    let stop = CancellationToken::new();
    let delivering = tokio::spawn(deliverer.run(stop.clone(), Arc::new(Shutdown::new(SETTLING))));
    let posts = settled(execution, store).await;
    stop.cancel();
    delivering.await.context("the delivery broke off")?;
    let posts = posts?;
    write_states(&posts, out)?;
    failure_of(task, &end)?;
    trouble_with(&posts)
}

fn last_attempt(task: &Task, attempt: &Attempt) -> Attempt {
    Attempt { failures: task.policy.max_attempts.get() - 1, ..attempt.clone() }
}

async fn publish(task: &Task, store: &Store) -> anyhow::Result<ExecutionId> {
    let event = Event { task: task.id.clone(), trigger: Trigger::Manual, parameters: Value::Null };
    match store.publish(event).await? {
        Accepted::Execution(execution) => Ok(execution),
        Accepted::UnknownTask => {
            let hint = "reload or restart the server, so that it knows the task";
            Err(Failure::new(format!("the server does not know the task {:?}", task.id)).hint(hint).into())
        }
    }
}

async fn run_there(task: &Task, store: &Store, out: &mut impl Write) -> anyhow::Result<()> {
    let known = in_database(store, task.id.as_str()).await?;
    match runner_of(store, &known).await? {
        Runner::Lives => {}
        Runner::Awaited => {
            let hint = "it may be another `once`; try again when that is over";
            return Err(Failure::new("the database is in use, but not by a server").hint(hint).into());
        }
        Runner::Lacking(why) => {
            let hint = "start the server with what is lacking, or stop it: then `once` runs the task itself";
            return Err(Failure::new(format!(
                "the server that has the database leaves this task out: {why}"
            ))
            .hint(hint)
            .into());
        }
    }
    let execution = publish(task, store).await?;
    writeln!(out, "a server has the database: it runs execution {execution}")?;
    wait_for(execution, task, store, out).await
}

/// Between two looks at what another process does.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Waits until the execution is over, wherever it runs, and prints how it ended.
async fn wait_for(
    execution: ExecutionId,
    task: &Task,
    store: &Store,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + task.policy.timeout + SETTLING;
    let view = loop {
        let view = store.execution(execution).await?;
        let view = view.with_context(|| format!("execution {execution} is gone from the database"))?;
        if view.outcome.is_some() {
            break view;
        }
        if Instant::now() > deadline {
            let hint = format!("`actor-server tasks history {}` shows how it ends", task.id);
            return Err(Failure::new(format!("execution {execution} is still not over")).hint(hint).into());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let error = view.error_message.map_or(String::new(), |error| format!(": {error}"));
    writeln!(out, "=> {}{}", view.outcome.unwrap_or_default(), visible(&error))?;
    let posts = settled(execution, store).await?;
    write_states(&posts, out)?;
    if view.success == Some(false) {
        return Err(Failure::new(format!("execution {execution} failed")).into());
    }
    trouble_with(&posts)
}

/// So long the posts of an execution may take until it is known what became of them.
const SETTLING: Duration = Duration::from_secs(30);

/// The posts of an execution, oldest first, as soon as none of them is on its way any more.
async fn settled(execution: ExecutionId, store: &Store) -> anyhow::Result<Vec<PostView>> {
    let deadline = Instant::now() + SETTLING;
    loop {
        let filter = PostFilter { execution_id: Some(execution), limit: 10_000, ..PostFilter::default() };
        let mut posts = store.posts(filter).await?;
        let on_its_way = |post: &PostView| matches!(post.state, PostState::Pending | PostState::Sending);
        if !posts.iter().any(on_its_way) || Instant::now() > deadline {
            posts.reverse();
            return Ok(posts);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What became of each post, and what the platform answered.
fn write_states(posts: &[PostView], out: &mut impl Write) -> anyhow::Result<()> {
    for post in posts {
        let until = match (post.state, post.deliver_at) {
            (PostState::Deferred, Some(at)) => format!(" until {}", short(at)),
            _ => String::new(),
        };
        let reason = post.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
        let receipt = post.receipt.as_ref().map_or(String::new(), |receipt| {
            let link = receipt.link.as_ref().map_or(String::new(), |link| format!(", {link}"));
            format!(", message {} at {}{link}", receipt.message_id, short(receipt.posted_at))
        });
        let line = format!(
            "post {} to {}:{}: {}{until}{reason}{receipt}",
            post.id,
            post.platform,
            post.destination,
            post.state.as_str()
        );
        writeln!(out, "{}", visible(&line))?;
    }
    Ok(())
}

fn short(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A post that did not get through, and that is not what the actor itself wanted.
fn trouble_with(posts: &[PostView]) -> anyhow::Result<()> {
    let trouble = |post: &&PostView| match post.state {
        PostState::Posted | PostState::Skipped => false,
        // Windows and limits defer a post before it is tried.
        PostState::Deferred => post.attempts > 0 && post.reason.as_deref() != Some(OWN_LIMITS),
        PostState::Pending | PostState::Sending | PostState::Failed | PostState::NeedsReview => true,
    };
    match posts.iter().find(trouble) {
        None => Ok(()),
        Some(post) => {
            let hint = format!("`actor-server posts show {}` tells more", post.id);
            Err(Failure::new(format!("post {} is {}", post.id, post.state.as_str())).hint(hint).into())
        }
    }
}

/// Standard output, for a run that has effects: it goes on, and is recorded, also when nobody reads any more.
struct Screen {
    failed: Option<io::Error>,
}

impl Screen {
    /// What went wrong with the output on the way.
    fn close(mut self) -> io::Result<()> {
        self.flush()?;
        self.failed.map_or(Ok(()), Err)
    }

    fn note<T>(&mut self, done: io::Result<T>, instead: T) -> io::Result<T> {
        match done {
            Ok(done) => Ok(done),
            Err(error) => {
                self.failed.get_or_insert(error);
                Ok(instead)
            }
        }
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.failed {
            None => self.note(io::stdout().write(bytes), bytes.len()),
            Some(_) => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.failed {
            None => self.note(io::stdout().flush(), ()),
            Some(_) => Ok(()),
        }
    }
}

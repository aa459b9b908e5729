//! The one task that decides what starts when.

mod asking;
mod attempt;

use asking::{ASK_AGAIN, Able, CLAIM_AT, Reply, answer};
use attempt::{Ended, log_end, run_attempt};

use super::recorder::{Answer, Recorder};
use super::timetable::Timetable;
use super::window::Window;
use super::{Activity, Command, LAST_MOMENTS, Parts, Shutdown};
use crate::traces::TimedStage;
use botticelli_database::News;
use botticelli_server::clock::Clock as _;
use botticelli_server::ids::{ExecutionId, TaskId};
use botticelli_server::ledger::{Attempt, EndedAttempt, POISON_INTERRUPTIONS, Recorded, Trigger, Waiting};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::plan::{Settlement, settle};
use botticelli_server::server::Run;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error, info, warn};

pub(super) struct Dispatcher {
    parts: Arc<Parts>,
    commands: mpsc::UnboundedReceiver<Command>,
    timetable: Timetable,
    window: Window,
    /// The room of the last claim.
    asked_room: usize,
    /// Claimed and not started, by due time.
    ready: BTreeMap<(DateTime<Utc>, ExecutionId), Attempt>,
    running: JoinSet<Ended>,
    /// Started, and not recorded.
    under_way: BTreeMap<ExecutionId, TaskId>,
    /// Of those, the skills, where they are traced.
    stages: BTreeMap<ExecutionId, Vec<TimedStage>>,
    /// Ends one of those that run.
    cancels: BTreeMap<ExecutionId, CancellationToken>,
    question: Option<JoinHandle<Reply>>,
    /// The next part of a long agenda is read while the part before it is claimed: they are other tasks.
    reading: Option<JoinHandle<Reply>>,
    ask_not_before: Option<DateTime<Utc>>,
    /// What the database lacks.
    trouble: Option<Able>,
    refill_at: Option<DateTime<Utc>>,
    /// What this node has is to be compared with what the store says that it has.
    check: bool,
    /// Work is asked for next, before news. They take turns, so that a stream of news keeps no work waiting.
    work_next: bool,
    /// Tasks whose state is to be looked up, and whether that is because the store refused a claim.
    look_up: BTreeMap<TaskId, bool>,
    recorder: Option<mpsc::UnboundedSender<EndedAttempt>>,
    recorded: mpsc::UnboundedReceiver<Answer>,
    /// Results on their way to the store.
    recording: usize,
    recorder_task: JoinHandle<()>,
    abort: CancellationToken,
}

impl Dispatcher {
    pub(super) fn new(parts: Arc<Parts>, commands: mpsc::UnboundedReceiver<Command>) -> Self {
        let (recorder, ended) = mpsc::unbounded_channel();
        let (answers, recorded) = mpsc::unbounded_channel();
        let recorder_task = tokio::spawn(Recorder::new(parts.clone(), ended, answers).run());
        Self {
            window: Window::new(parts.settings.max_concurrent_executions.get()),
            asked_room: 0,
            parts,
            commands,
            timetable: Timetable::default(),
            ready: BTreeMap::new(),
            running: JoinSet::new(),
            cancels: BTreeMap::new(),
            question: None,
            reading: None,
            ask_not_before: None,
            trouble: None,
            refill_at: Some(DateTime::<Utc>::MIN_UTC),
            check: false,
            work_next: false,
            under_way: BTreeMap::new(),
            stages: BTreeMap::new(),
            look_up: BTreeMap::new(),
            recorder: Some(recorder),
            recorded,
            recording: 0,
            recorder_task,
            abort: CancellationToken::new(),
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let clock = self.parts.clock.clone();
        let wakeups = self.parts.wakeups.clone();
        loop {
            self.start_due();
            self.ask();
            let wake_at = self.wake_at();
            self.tell_activity(wake_at);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.running.join_next() => {
                    self.ended(ended);
                    // Whatever else has ended frees a slot in the same turn.
                    while let Some(ended) = self.running.try_join_next() {
                        self.ended(ended);
                    }
                }
                reply = answer(&mut self.question) => self.answered(reply),
                reply = answer(&mut self.reading) => self.answered(reply),
                Some(answer) = self.recorded.recv() => {
                    self.note_recorded(answer);
                    while let Ok(answer) = self.recorded.try_recv() {
                        self.note_recorded(answer);
                    }
                }
                Some(command) = self.commands.recv() => self.obey(command),
                news = wakeups.wait() => self.woken(news),
                () = clock.sleep_until(wake_at) => {}
                // A clock that is set back does not put the poll off.
                () = tokio::time::sleep(self.parts.settings.check_interval) => {}
            }
        }
        self.drain().await;
    }

    fn now(&self) -> DateTime<Utc> {
        self.parts.clock.now()
    }

    fn slots(&self) -> usize {
        self.parts.settings.max_concurrent_executions.get()
    }

    fn tell_activity(&self, next_look: DateTime<Utc>) {
        let activity = Activity {
            claimed: self.ready.len(),
            running: self.running.len(),
            recording: self.recording,
            asking: self.question.is_some() || self.reading.is_some(),
            reachable: self.trouble.is_none(),
            next_look,
        };
        self.parts.activity.send_if_modified(|known| std::mem::replace(known, activity) != activity);
    }

    /// When something is to be done even if nothing happens.
    fn wake_at(&self) -> DateTime<Utc> {
        let start = if self.running.len() < self.slots() {
            self.ready.keys().next().map(|(due, _)| *due)
        } else {
            None
        };
        let ask = if self.question.is_some() {
            None
        } else {
            let look = self.timetable.next_look().map(|at| at - CLAIM_AT);
            let has_room = self.window.room(self.ready.len()) > 0;
            let next = self.refill_at.into_iter().chain(look.filter(|_| has_room)).min();
            next.map(|at| at.max(self.ask_not_before(self.now()).unwrap_or(DateTime::<Utc>::MIN_UTC)))
        };
        let poll = self.now() + self.parts.settings.check_interval;
        start.into_iter().chain(ask).min().unwrap_or(poll)
    }

    fn woken(&mut self, news: News) {
        let now = self.now();
        for (execution_id, task_id) in news.waiting {
            self.timetable.add_waiting(Waiting { execution_id, task_id, ready_at: now });
        }
        if news.anything {
            self.check = true;
            self.refill_at = Some(DateTime::<Utc>::MIN_UTC);
            // A person may have decided about a post.
            self.parts.posts_waiting.notify_one();
        }
    }

    // Starting.

    fn start_due(&mut self) {
        let now = self.now();
        while self.running.len() < self.slots()
            && let Some(entry) = self.ready.first_entry()
            && entry.key().0 <= now
        {
            let attempt = entry.remove();
            self.start(attempt);
        }
    }

    fn start(&mut self, attempt: Attempt) {
        let Some(task) = self.timetable.task(&attempt.task_id) else {
            // Dropped between claim and start: another node may hold it.
            self.give_back(vec![attempt]);
            return;
        };
        let parts = self.parts.clone();
        let (abort, cancel) = (self.abort.child_token(), CancellationToken::new());
        self.cancels.insert(attempt.execution_id, cancel.clone());
        self.under_way.insert(attempt.execution_id, attempt.task_id.clone());
        let log = self.parts.traces.log_run(&attempt);
        self.running.spawn(run_attempt(parts, task, attempt, abort, cancel).instrument(log));
    }

    fn give_back(&self, attempts: Vec<Attempt>) {
        let parts = self.parts.clone();
        tokio::spawn(async move {
            if !release(&parts, &attempts).await {
                // Looking at what this node has finds them again.
                parts.clock.sleep_until(parts.clock.now() + ASK_AGAIN).await;
                parts.wakeups.changed();
            }
        });
    }

    /// A person wants these to end.
    fn cancel(&mut self, executions: &[ExecutionId]) {
        let now = self.now();
        for execution in executions {
            if let Some(running) = self.cancels.get(execution) {
                running.cancel();
                continue;
            }
            let waiting = self.ready.extract_if(.., |(_, ready), _| ready == execution).next();
            let Some((_, attempt)) = waiting else { continue };
            let Some(task) = self.timetable.task(&attempt.task_id) else { continue };
            self.under_way.insert(attempt.execution_id, attempt.task_id.clone());
            let run = Run::ended(AttemptEnd::Cancelled);
            self.ended(Ok(Ended { attempt, task, started_at: now, ended_at: now, run, stages: Vec::new() }));
        }
    }

    // Ending.

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let mut ended = match ended {
            Ok(ended) => ended,
            // `run_attempt` catches panics; what is left is the end of the grace period.
            Err(error) => return error!(error = %error, "a run was cut off"),
        };
        let cancelled = self.cancels.remove(&ended.attempt.execution_id);
        if cancelled.is_some_and(|cancel| cancel.is_cancelled())
            && matches!(ended.run.end, AttemptEnd::Failed { .. } | AttemptEnd::Interrupted)
        {
            // It shall not be tried again, whatever it came to.
            ended.run = Run::ended(AttemptEnd::Cancelled);
        }
        // By the definition of now, which may have changed since the run started: so is `next_run`.
        let task = self.timetable.task(&ended.attempt.task_id).unwrap_or_else(|| ended.task.clone());
        let next_run = self.timetable.next_run(&ended.attempt.task_id);
        let settlement =
            settle(&task, &ended.attempt, next_run, &ended.run.end, ended.started_at, ended.ended_at);
        if !ended.stages.is_empty() {
            self.stages.insert(ended.attempt.execution_id, ended.stages);
        }
        let ended = EndedAttempt {
            actor_name: ended.task.actor_name.clone(),
            attempt: ended.attempt,
            started_at: ended.started_at,
            ended_at: ended.ended_at,
            end: ended.run.end,
            skills: ended.run.skills,
            settlement,
            posts: ended.run.posts,
            used_items: ended.run.used_items,
            metadata: ended.run.metadata,
        };
        self.recording += 1;
        let sent = self.recorder.as_ref().is_some_and(|recorder| recorder.send(ended).is_ok());
        if !sent {
            error!("a result was lost: the recorder is gone");
        }
    }

    fn note_recorded(&mut self, Answer { ended, recorded }: Answer) {
        self.recording -= 1;
        self.under_way.remove(&ended.attempt.execution_id);
        let now = self.now();
        let task = ended.attempt.task_id.clone();
        let execution = ended.attempt.execution_id;
        let traces = &self.parts.traces;
        traces.run(&ended, &recorded, self.stages.remove(&execution).unwrap_or_default());
        let _lines_of_the_run = traces.log_run(&ended.attempt).entered();
        if ended.attempt.interruptions + 1 >= POISON_INTERRUPTIONS {
            // Another one of its kind may wait for its end, and is not in the timer.
            self.refill_at = Some(DateTime::<Utc>::MIN_UTC);
        }
        let state = match recorded {
            Recorded::Stored { state } => state,
            Recorded::Overtaken { .. } => {
                debug!(task.id = %task, execution.id = %execution, "another run of the task posted the same item first; run again");
                self.timetable.overtaken(execution, &task, now);
                return;
            }
            Recorded::Refused { reason } => {
                error!(task.id = %task, execution.id = %execution, reason, "the result can't be stored, not even as a failure");
                self.timetable.vacate(&task, now);
                self.look_up.insert(task, false);
                return;
            }
            Recorded::Stale => {
                debug!(task.id = %task, execution.id = %execution, "the attempt has a successor; its result is dropped");
                self.timetable.vacate(&task, now);
                self.look_up.insert(task, false);
                return;
            }
        };
        self.note_good(Able::Written);
        log_end(&ended);
        self.parts.metrics.recorded(&ended);
        if !ended.posts.is_empty() {
            self.parts.posts_waiting.notify_one();
        }
        match state {
            Some(change) => {
                self.timetable.recorded(&task, &change, now);
                if change.followed {
                    self.refill_at = Some(DateTime::<Utc>::MIN_UTC);
                }
                if change.breaker_opened {
                    warn!(task.id = %task, "paused after {} failures", change.consecutive_failures);
                }
                if change.breaker_opened || ended.attempt.trigger == Trigger::Probe {
                    self.look_up.insert(task.clone(), false);
                }
            }
            // It was stored before, or the task is gone: what has become of the task is not known here.
            None => {
                self.timetable.vacate(&task, now);
                self.look_up.insert(task.clone(), false);
            }
        }
        if let Settlement::Retry { at } = ended.settlement {
            self.timetable.retry(ended.attempt.execution_id, &task, at);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Hold(tasks) => {
                for task in tasks {
                    self.timetable.hold(task);
                }
                info!(tasks = self.timetable.len(), "scheduling");
                // What is retired or disabled now may have been claimed a moment ago.
                self.check = true;
                self.refill_at = Some(DateTime::<Utc>::MIN_UTC);
            }
            Command::Drop(task, known) => {
                self.check = true;
                // Who does not wait for the answer need not have it.
                known.send(self.timetable.drop_task(&task)).unwrap_or_default();
            }
            Command::Held(held) => {
                // Who knows the answer finds that all commands before it show in the activity, too.
                self.tell_activity(self.wake_at());
                drop(held.send(self.timetable.held()));
            }
            Command::LeaseLost => self.forget_claims(),
        }
    }

    /// What was claimed under the old name is somebody else's now. What runs goes on, and will be told.
    fn forget_claims(&mut self) {
        let now = self.now();
        for (_, attempt) in std::mem::take(&mut self.ready) {
            self.timetable.vacate(&attempt.task_id, now);
            self.look_up.insert(attempt.task_id, false);
        }
        self.refill_at = Some(DateTime::<Utc>::MIN_UTC);
    }

    // Stopping.

    /// Nothing new starts; what was claimed goes back; what runs is finished within the grace period, and recorded. Takes
    /// no longer than that and the last moments, even if the store does not answer.
    async fn drain(mut self) {
        let shutdown = self.parts.shutdown.clone();
        let grace = self.parts.settings.shutdown_grace;
        let grace_ends = shutdown.running_until();
        let mut handing_back = self.hand_back();
        if !self.running.is_empty() {
            info!(running = self.running.len(), "stopping: waiting for what runs");
        }
        self.until_ended(self.now() + grace, grace_ends).await;
        let until = shutdown.nothing_runs();
        if !self.running.is_empty() {
            warn!(running = self.running.len(), "the grace period is over: what still runs is handed on");
            self.abort.cancel();
            self.until_ended(self.now() + LAST_MOMENTS, until).await;
        }
        self.running.abort_all();
        drop(self.recorder.take());
        let recorded = async {
            while let Some(answer) = self.recorded.recv().await {
                self.note_recorded(answer);
            }
        };
        if timeout_at(until, recorded).await.is_err() {
            self.recorder_task.abort();
        }
        self.tell_what_is_lost(&shutdown);
        if timeout_at(until, &mut handing_back).await.is_err() {
            handing_back.abort();
            warn!("claimed work could not be given back in time; it is handed on when the lease runs out");
        }
        self.tell_activity(DateTime::<Utc>::MAX_UTC);
    }

    /// Gives back what is claimed and not started, while what has started runs on.
    fn hand_back(&mut self) -> JoinHandle<()> {
        if let Some(reading) = self.reading.take() {
            reading.abort();
        }
        let mut unstarted: Vec<Attempt> = std::mem::take(&mut self.ready).into_values().collect();
        let (parts, question) = (self.parts.clone(), self.question.take());
        tokio::spawn(async move {
            if let Some(question) = question
                && let Ok(Reply::Work { claimed, taken, .. }) = question.await
            {
                unstarted.extend(claimed.into_iter().chain(taken));
            }
            release(&parts, &unstarted).await;
        })
    }

    fn tell_what_is_lost(&self, shutdown: &Shutdown) {
        for (execution, task) in &self.under_way {
            shutdown.lost(task);
            error!(task.id = %task, execution.id = %execution, "the result could not be recorded in time: it is lost, and will be run again");
        }
    }

    /// Returns when nothing runs any more, or at that time: by the server's clock, or, whatever becomes of that one, by
    /// the machine's own count.
    async fn until_ended(&mut self, until: DateTime<Utc>, at_the_latest: Instant) {
        let clock = self.parts.clock.clone();
        while !self.running.is_empty() {
            self.tell_activity(until);
            tokio::select! {
                Some(ended) = self.running.join_next() => self.ended(ended),
                Some(answer) = self.recorded.recv() => self.note_recorded(answer),
                Some(command) = self.commands.recv() => self.obey(command),
                () = clock.sleep_until(until) => return,
                () = tokio::time::sleep_until(at_the_latest) => return,
            }
        }
    }
}

/// Says whether they are given back.
async fn release(parts: &Parts, attempts: &[Attempt]) -> bool {
    if attempts.is_empty() {
        return true;
    }
    let released = parts.ledger.release(&parts.node(), attempts).await;
    if let Err(error) = &released {
        warn!(error = %error, "claimed work could not be given back; it is handed on when the lease runs out");
    }
    released.is_ok()
}

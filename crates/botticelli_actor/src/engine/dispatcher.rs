//! The one task that decides what starts when.

use super::recorder::{Answer, Recorder};
use super::timetable::{Timetable, Wanted, refill_before};
use super::window::Window;
use super::{Activity, Command, LAST_MOMENTS, Parts};
use botticelli_server::clock::Clock as _;
use botticelli_server::ids::{ExecutionId, NodeId, TaskId};
use botticelli_server::ledger::{
    Agenda, AgendaMark, Attempt, ClaimRequest, EndedAttempt, LedgerError, POISON_INTERRUPTIONS, Recorded,
    Trigger,
};
use botticelli_server::outcome::{AttemptEnd, panic_message};
use botticelli_server::plan::{Settlement, settle};
use botticelli_server::server::Run;
use botticelli_server::task::{Task, TaskState};
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt as _;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// A claim is asked for when the first of it is due within this time …
const CLAIM_AT: Duration = Duration::from_millis(200);
/// … and takes with it what is due within this time, so that few claims bring much.
const CLAIM_AHEAD: Duration = Duration::from_millis(600);
/// The store refuses claims further ahead than this: a node's idea of the time may be a little off.
const CLAIM_BOUND: Duration = Duration::from_secs(1);
/// The timer reaches this much further than the next look over everything.
const LOOK_FURTHER: Duration = Duration::from_secs(5);
/// So many tasks come with one part of an agenda: the first of them can be claimed while the next part is read.
const AGENDA: usize = 20_000;
/// After a question that failed.
const ASK_AGAIN: Duration = Duration::from_millis(500);

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
    under_way: BTreeSet<ExecutionId>,
    question: Option<JoinHandle<Reply>>,
    /// The next part of a long agenda is read while the part before it is claimed: they are other tasks.
    reading: Option<JoinHandle<Reply>>,
    ask_not_before: Option<DateTime<Utc>>,
    unreachable: bool,
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

/// A run that is over.
struct Ended {
    attempt: Attempt,
    task: Arc<Task>,
    started_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
    run: Run,
}

/// What the store answered.
enum Reply {
    Owned {
        node: NodeId,
        known: BTreeSet<ExecutionId>,
        owned: Vec<Attempt>,
    },
    Agenda {
        until: DateTime<Utc>,
        agenda: Agenda,
    },
    States {
        states: Vec<TaskState>,
        refused: BTreeSet<TaskId>,
    },
    Work {
        node: NodeId,
        wanted: Wanted,
        claimed: Vec<Attempt>,
        taken: Vec<Attempt>,
        trouble: Option<LedgerError>,
    },
    Failed {
        error: LedgerError,
        tasks: Vec<TaskId>,
    },
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
            question: None,
            reading: None,
            ask_not_before: None,
            unreachable: false,
            refill_at: Some(DateTime::<Utc>::MIN_UTC),
            check: false,
            work_next: false,
            under_way: BTreeSet::new(),
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
                () = wakeups.wait() => {
                    self.check = true;
                    self.refill_at = Some(DateTime::<Utc>::MIN_UTC);
                    // A person may have decided about a post.
                    self.parts.posts_waiting.notify_one();
                }
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
            reachable: !self.unreachable,
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
        let abort = self.abort.child_token();
        self.under_way.insert(attempt.execution_id);
        self.running.spawn(run_attempt(parts, task, attempt, abort));
    }

    fn give_back(&self, attempts: Vec<Attempt>) {
        let parts = self.parts.clone();
        tokio::spawn(async move { release(&parts, &attempts).await });
    }

    // Ending.

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let ended = match ended {
            Ok(ended) => ended,
            // `run_attempt` catches panics; what is left is the end of the grace period.
            Err(error) => return error!(error = %error, "a run was cut off"),
        };
        // By the definition of now, which may have changed since the run started: so is `next_run`.
        let task = self.timetable.task(&ended.attempt.task_id).unwrap_or_else(|| ended.task.clone());
        let next_run = self.timetable.next_run(&ended.attempt.task_id);
        let settlement =
            settle(&task, &ended.attempt, next_run, &ended.run.end, ended.started_at, ended.ended_at);
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
        log_end(&ended);
        if !ended.posts.is_empty() {
            self.parts.posts_waiting.notify_one();
        }
        match state {
            Some(change) => {
                self.timetable.recorded(&task, &change, now);
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

    // Asking.

    /// Asks the store one question, if there is one and none is open.
    fn ask(&mut self) {
        let now = self.now();
        if self.question.is_some() || self.ask_not_before(now).is_some() {
            return;
        }
        self.question = if self.work_next {
            self.ask_for_work(now).or_else(|| self.ask_for_news(now))
        } else {
            self.ask_for_news(now).or_else(|| self.ask_for_work(now))
        };
    }

    /// The end of the wait after trouble, if it is not over. A clock that was set back does not make it longer.
    fn ask_not_before(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.ask_not_before.filter(|at| *at > now && *at <= now + ASK_AGAIN)
    }

    fn ask_for_news(&mut self, now: DateTime<Utc>) -> Option<JoinHandle<Reply>> {
        let parts = self.parts.clone();
        let question = if std::mem::take(&mut self.check) {
            let claimed = self.ready.keys().map(|(_, execution)| *execution);
            let known = claimed.chain(self.under_way.iter().copied()).collect();
            tokio::spawn(async move { check(&parts, known).await })
        } else if self.refill_at.is_none_or(|at| at <= now || at > now + self.parts.settings.check_interval) {
            // Set again before the answer comes: what has changed since may not be in it.
            self.refill_at = None;
            let until = now + self.parts.settings.check_interval + LOOK_FURTHER;
            tokio::spawn(async move { refill(&parts, until, None).await })
        } else if !self.look_up.is_empty() {
            let tasks = std::mem::take(&mut self.look_up);
            tokio::spawn(async move { look_up(&parts, tasks).await })
        } else {
            return None;
        };
        self.work_next = true;
        Some(question)
    }

    fn ask_for_work(&mut self, now: DateTime<Utc>) -> Option<JoinHandle<Reply>> {
        self.timetable.next_look().filter(|at| *at <= now + CLAIM_AT)?;
        self.asked_room = self.window.room(self.ready.len());
        let wanted = self.timetable.due(now, CLAIM_AHEAD, self.asked_room);
        if wanted.len() == 0 {
            return None;
        }
        self.work_next = false;
        let parts = self.parts.clone();
        Some(tokio::spawn(async move { claim(&parts, wanted).await }))
    }

    fn answered(&mut self, reply: Result<Reply, tokio::task::JoinError>) {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                error!(error = %error, "a question to the store was lost");
                return self.doubt();
            }
        };
        let well = !matches!(reply, Reply::Failed { .. } | Reply::Work { trouble: Some(_), .. });
        if self.unreachable && well {
            info!("the database is back");
            self.unreachable = false;
        }
        match reply {
            Reply::Owned { node, known, owned } => self.note_owned(&node, &known, owned),
            Reply::Agenda { until, agenda } => self.note_agenda(until, agenda),
            Reply::States { states, refused } => self.note_states(states, &refused),
            Reply::Work { node, wanted, claimed, taken, trouble } => {
                self.note_work(&node, &wanted, claimed, taken);
                if let Some(error) = trouble {
                    self.note_trouble(&error);
                }
            }
            Reply::Failed { error, tasks } => {
                self.look_up.extend(tasks.into_iter().map(|task| (task, false)));
                self.note_trouble(&error);
            }
        }
    }

    fn note_trouble(&mut self, error: &LedgerError) {
        if !self.unreachable {
            error!(error = %error, "scheduling waits for the database");
        }
        self.unreachable = true;
        self.doubt();
    }

    /// Nobody knows what became of the last question. What this node has, it asks; and nothing is asked for a moment.
    fn doubt(&mut self) {
        self.check = true;
        self.refill_at = Some(DateTime::<Utc>::MIN_UTC);
        self.ask_not_before = Some(self.now() + ASK_AGAIN);
    }

    /// What the store took back does not start; what it gave without our hearing of it does.
    fn note_owned(&mut self, node: &NodeId, known: &BTreeSet<ExecutionId>, owned: Vec<Attempt>) {
        if *node != self.parts.node() {
            return;
        }
        let now = self.now();
        let still_ours: BTreeSet<ExecutionId> = owned.iter().map(|attempt| attempt.execution_id).collect();
        let gone = self
            .ready
            .extract_if(.., |(_, execution), _| known.contains(execution) && !still_ours.contains(execution));
        let tasks: Vec<TaskId> = gone.map(|(_, attempt)| attempt.task_id).collect();
        for task in tasks {
            self.timetable.vacate(&task, now);
            self.look_up.insert(task, false);
        }
        let unheard_of = owned.into_iter().filter(|attempt| !known.contains(&attempt.execution_id));
        let (ours, dropped): (Vec<Attempt>, Vec<Attempt>) =
            unheard_of.partition(|attempt| self.timetable.task(&attempt.task_id).is_some());
        for attempt in ours {
            self.timetable.won(&attempt, None);
            self.look_up.insert(attempt.task_id.clone(), false);
            self.ready.insert((attempt.due_at, attempt.execution_id), attempt);
        }
        if !dropped.is_empty() {
            self.give_back(dropped);
        }
    }

    fn note_agenda(&mut self, until: DateTime<Utc>, agenda: Agenda) {
        let now = self.now();
        self.timetable.complete_until(until);
        for state in agenda.tasks {
            self.timetable.learn(state, now);
        }
        for waiting in agenda.waiting {
            self.timetable.add_waiting(waiting);
        }
        // All of it, at once: what is last must not wait until what is first can be claimed.
        self.reading = agenda.more.map(|mark| {
            let parts = self.parts.clone();
            tokio::spawn(async move { refill(&parts, until, Some(mark)).await })
        });
        let at_the_latest = now + self.parts.settings.check_interval;
        let next = refill_before(until).max(now + TimeDelta::milliseconds(200)).min(at_the_latest);
        self.refill_at = Some(self.refill_at.map_or(next, |wanted| wanted.min(next)));
    }

    fn note_states(&mut self, states: Vec<TaskState>, refused: &BTreeSet<TaskId>) {
        let now = self.now();
        for state in states {
            if refused.contains(&state.task_id) {
                self.timetable.learn_after_refusal(state, now, self.parts.settings.check_interval);
            } else {
                self.timetable.learn(state, now);
            }
        }
    }

    fn note_work(&mut self, node: &NodeId, wanted: &Wanted, claimed: Vec<Attempt>, taken: Vec<Attempt>) {
        if *node != self.parts.node() {
            // The name was given up meanwhile, and what was claimed under it is handed on.
            self.look_up.extend(tasks_of(wanted).into_iter().map(|task| (task, false)));
            return;
        }
        let requests: HashMap<TaskId, &ClaimRequest> =
            wanted.claims.iter().map(|request| (request.task_id.clone(), request)).collect();
        let won: BTreeSet<TaskId> = claimed.iter().map(|attempt| attempt.task_id.clone()).collect();
        for attempt in &claimed {
            self.timetable.won(attempt, requests.get(&attempt.task_id).copied());
        }
        for attempt in &taken {
            self.timetable.won(attempt, None);
        }
        let got: BTreeSet<ExecutionId> = taken.iter().map(|attempt| attempt.execution_id).collect();
        for request in wanted.waiting.iter().filter(|request| !got.contains(&request.execution_id)) {
            self.timetable.not_taken(request.execution_id, &request.task_id);
        }
        for request in wanted.claims.iter().filter(|request| !won.contains(&request.task_id)) {
            self.look_up.insert(request.task_id.clone(), true);
        }
        let waiting_for_a_slot = self.ready.first_key_value().map(|((due, _), _)| self.now() - *due);
        self.window.claimed(wanted.len() >= self.asked_room, waiting_for_a_slot.unwrap_or_default());
        for attempt in claimed.into_iter().chain(taken) {
            self.ready.insert((attempt.due_at, attempt.execution_id), attempt);
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
    /// no longer than that and a few moments for the store, even if the store does not answer.
    async fn drain(mut self) {
        if let Some(question) = self.question.take()
            && let Ok(Ok(Reply::Work { claimed, taken, .. })) =
                tokio::time::timeout(LAST_MOMENTS, question).await
        {
            self.ready.extend(claimed.into_iter().chain(taken).map(|a| ((a.due_at, a.execution_id), a)));
        }
        let unstarted: Vec<Attempt> = std::mem::take(&mut self.ready).into_values().collect();
        if tokio::time::timeout(LAST_MOMENTS, release(&self.parts, &unstarted)).await.is_err() {
            warn!("claimed work could not be given back in time; it is handed on when the lease runs out");
        }
        if !self.running.is_empty() {
            info!(running = self.running.len(), "stopping: waiting for what runs");
        }
        self.until_ended(self.parts.settings.shutdown_grace).await;
        if !self.running.is_empty() {
            warn!(running = self.running.len(), "the grace period is over: what still runs is handed on");
            self.abort.cancel();
            self.until_ended(LAST_MOMENTS).await;
        }
        self.running.abort_all();
        drop(self.recorder.take());
        let recorded = async {
            while let Some(answer) = self.recorded.recv().await {
                self.note_recorded(answer);
            }
        };
        if tokio::time::timeout(LAST_MOMENTS, recorded).await.is_err() {
            error!(
                results = self.recording,
                "results could not be recorded in time; they are lost, and will be run again"
            );
            self.recorder_task.abort();
        }
        self.tell_activity(DateTime::<Utc>::MAX_UTC);
    }

    /// Returns when nothing runs any more, or after `at_most`.
    async fn until_ended(&mut self, at_most: Duration) {
        let clock = self.parts.clock.clone();
        let until = clock.now() + at_most;
        while !self.running.is_empty() {
            self.tell_activity(until);
            tokio::select! {
                Some(ended) = self.running.join_next() => self.ended(ended),
                Some(answer) = self.recorded.recv() => self.note_recorded(answer),
                Some(command) = self.commands.recv() => self.obey(command),
                () = clock.sleep_until(until) => return,
            }
        }
    }
}

/// The open question's answer; waits for ever when there is none.
async fn answer(question: &mut Option<JoinHandle<Reply>>) -> Result<Reply, tokio::task::JoinError> {
    match question {
        Some(open) => {
            let reply = open.await;
            *question = None;
            reply
        }
        None => std::future::pending().await,
    }
}

/// Takes back what was paused since it was claimed, and asks what is left.
async fn check(parts: &Parts, known: BTreeSet<ExecutionId>) -> Reply {
    let node = parts.node();
    let owned = async {
        parts.ledger.withdraw_paused(&node).await?;
        parts.ledger.owned(&node).await
    };
    match owned.await {
        Ok(owned) => Reply::Owned { node, known, owned },
        Err(error) => Reply::Failed { error, tasks: Vec::new() },
    }
}

async fn refill(parts: &Parts, until: DateTime<Utc>, mark: Option<AgendaMark>) -> Reply {
    match parts.ledger.agenda(until, mark, AGENDA).await {
        Ok(agenda) => Reply::Agenda { until, agenda },
        Err(error) => Reply::Failed { error, tasks: Vec::new() },
    }
}

async fn look_up(parts: &Parts, wanted: BTreeMap<TaskId, bool>) -> Reply {
    let tasks: Vec<TaskId> = wanted.keys().cloned().collect();
    match parts.ledger.states(&tasks).await {
        Ok(states) => {
            let refused = wanted.into_iter().filter(|(_, refused)| *refused).map(|(task, _)| task).collect();
            Reply::States { states, refused }
        }
        Err(error) => Reply::Failed { error, tasks },
    }
}

async fn claim(parts: &Parts, wanted: Wanted) -> Reply {
    let node = parts.node();
    let work = async {
        let claimed = match wanted.claims.as_slice() {
            [] => Vec::new(),
            claims => parts.ledger.claim(&node, claims, CLAIM_BOUND).await?,
        };
        Ok::<_, LedgerError>(claimed)
    };
    let claimed = match work.await {
        Ok(claimed) => claimed,
        Err(error) => return Reply::Failed { error, tasks: tasks_of(&wanted) },
    };
    let (taken, trouble) = match wanted.waiting.as_slice() {
        [] => (Vec::new(), None),
        waiting => match parts.ledger.take(&node, waiting, CLAIM_BOUND).await {
            Ok(taken) => (taken, None),
            // What was claimed is ours all the same.
            Err(error) => (Vec::new(), Some(error)),
        },
    };
    Reply::Work { node, wanted, claimed, taken, trouble }
}

fn tasks_of(wanted: &Wanted) -> Vec<TaskId> {
    wanted.claims.iter().map(|request| request.task_id.clone()).collect()
}

async fn release(parts: &Parts, attempts: &[Attempt]) {
    if attempts.is_empty() {
        return;
    }
    if let Err(error) = parts.ledger.release(&parts.node(), attempts).await {
        warn!(error = %error, "claimed work could not be given back; it is handed on when the lease runs out");
    }
}

/// Writes down that an attempt begins which may be what kills servers. Without that it must not begin.
async fn begins(parts: &Parts, attempt: &Attempt) -> bool {
    let (task, execution) = (&attempt.task_id, attempt.execution_id);
    match parts.ledger.begin(&parts.node(), attempt).await {
        Ok(true) => true,
        Ok(false) => {
            debug!(task.id = %task, execution.id = %execution, "the attempt is another node's by now");
            false
        }
        Err(error) => {
            warn!(task.id = %task, execution.id = %execution, error = %error, "not started: its start can't be written down");
            false
        }
    }
}

/// Runs one attempt to its end, whatever that is.
async fn run_attempt(
    parts: Arc<Parts>,
    task: Arc<Task>,
    attempt: Attempt,
    abort: CancellationToken,
) -> Ended {
    let started_at = parts.clock.now();
    if attempt.interruptions > 0 && !begins(&parts, &attempt).await {
        return Ended {
            attempt,
            task,
            started_at,
            ended_at: started_at,
            run: Run::ended(AttemptEnd::Interrupted),
        };
    }
    let timeout = task.policy.timeout;
    // The actor's work ends with this, so that nothing of it goes on after the time it is recorded with.
    let run = AssertUnwindSafe(async {
        let context = (parts.contexts)(&task, &attempt, abort.clone());
        let running = parts.actors.run(&task.actor_name, context);
        tokio::select! {
            biased;
            run = running => run.unwrap_or_else(|unknown| Run::ended(AttemptEnd::Failed {
                error: unknown.to_string(),
                recoverable: false,
            })),
            () = parts.clock.sleep_until(started_at + timeout) => Run::ended(AttemptEnd::Failed {
                error: format!("timed out after {} s", timeout.as_secs_f64()),
                recoverable: true,
            }),
            () = abort.cancelled() => Run::ended(AttemptEnd::Interrupted),
        }
    });
    let run = run.catch_unwind().await.unwrap_or_else(|panic| {
        let error = format!("the server panicked: {}", panic_message(&*panic));
        Run::ended(AttemptEnd::Failed { error, recoverable: true })
    });
    let ended_at = parts.clock.now().max(started_at);
    Ended { attempt, task, started_at, ended_at, run }
}

fn log_end(ended: &EndedAttempt) {
    let (task, execution) = (&ended.attempt.task_id, ended.attempt.execution_id);
    let ms = (ended.ended_at - ended.started_at).num_milliseconds();
    match &ended.end {
        AttemptEnd::Succeeded => {
            info!(task.id = %task, execution.id = %execution, posts = ended.posts.len(), ms, "succeeded");
        }
        AttemptEnd::Skipped(reason) => {
            info!(task.id = %task, execution.id = %execution, reason = reason.as_str(), ms, "skipped");
        }
        AttemptEnd::Failed { error, .. } => {
            warn!(task.id = %task, execution.id = %execution, attempt = ended.attempt.attempt, ms, error, "failed");
        }
        AttemptEnd::Interrupted => {
            info!(task.id = %task, execution.id = %execution, "interrupted; handed on")
        }
        AttemptEnd::Cancelled => info!(task.id = %task, execution.id = %execution, "cancelled"),
    }
}

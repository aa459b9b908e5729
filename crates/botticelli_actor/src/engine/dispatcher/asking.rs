//! What the store is asked, one question at a time, and what its answers change.

use super::Dispatcher;
use crate::engine::Parts;
use crate::engine::timetable::{Wanted, refill_before};
use botticelli_server::ids::{ExecutionId, NodeId, TaskId};
use botticelli_server::ledger::{Agenda, AgendaMark, Attempt, ClaimRequest, LedgerError};
use botticelli_server::task::TaskState;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio::task::JoinHandle;
use tracing::{error, info};

/// A claim is asked for when the first of it is due within this time …
pub(super) const CLAIM_AT: Duration = Duration::from_millis(200);
/// … and takes with it what is due within this time, so that few claims bring much.
const CLAIM_AHEAD: Duration = Duration::from_millis(600);
/// The store refuses claims further ahead than this: a node's idea of the time may be a little off.
const CLAIM_BOUND: Duration = Duration::from_secs(1);
/// The timer reaches this much further than the next look over everything.
const LOOK_FURTHER: Duration = Duration::from_secs(5);
/// So many tasks come with one part of an agenda: the first of them can be claimed while the next part is read.
const AGENDA: usize = 20_000;
/// After a question that failed.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What the store answered.
pub(super) enum Reply {
    Owned {
        node: NodeId,
        known: BTreeSet<ExecutionId>,
        owned: Vec<Attempt>,
        /// Of those: what a person wants to end.
        cancelled: Vec<ExecutionId>,
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

/// What a database was seen to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Able {
    Read,
    Written,
}

impl Reply {
    /// What it shows of the database. A question that found nothing to change has written nothing.
    fn shows(&self) -> Option<Able> {
        match self {
            Self::Failed { .. } | Self::Work { trouble: Some(_), .. } => None,
            Self::Work { claimed, taken, trouble: None, .. } if !claimed.is_empty() || !taken.is_empty() => {
                Some(Able::Written)
            }
            Self::Owned { .. } | Self::Agenda { .. } | Self::States { .. } | Self::Work { .. } => {
                Some(Able::Read)
            }
        }
    }
}

impl Dispatcher {
    /// Asks the store one question, if there is one and none is open.
    pub(super) fn ask(&mut self) {
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
    pub(super) fn ask_not_before(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.ask_not_before.filter(|at| *at > now && *at <= now + ASK_AGAIN)
    }

    fn ask_for_news(&mut self, now: DateTime<Utc>) -> Option<JoinHandle<Reply>> {
        let parts = self.parts.clone();
        let question = if std::mem::take(&mut self.check) {
            let claimed = self.ready.keys().map(|(_, execution)| *execution);
            let known = claimed.chain(self.under_way.keys().copied()).collect();
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

    pub(super) fn answered(&mut self, reply: Result<Reply, tokio::task::JoinError>) {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                error!(error = %error, "a question to the store was lost");
                return self.doubt();
            }
        };
        if let Some(shown) = reply.shows() {
            self.note_good(shown);
        }
        match reply {
            Reply::Owned { node, known, owned, cancelled } => {
                self.note_owned(&node, &known, owned);
                self.cancel(&cancelled);
            }
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
        if self.trouble.is_none() {
            error!(error = %error, "scheduling waits for the database");
        }
        let lacking = match error {
            LedgerError::NotWritable(_) => Able::Written,
            LedgerError::Unavailable(_) | LedgerError::Refused(_) | LedgerError::Corrupt(_) => Able::Read,
        };
        self.trouble = self.trouble.max(Some(lacking));
        self.doubt();
    }

    /// What can be read may still be impossible to write.
    pub(super) fn note_good(&mut self, shown: Able) {
        if self.trouble.is_some_and(|lacking| lacking <= shown) {
            info!("the database is back");
            self.trouble = None;
        }
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
        let now = self.now();
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
        let mut in_vain = BTreeSet::new();
        for request in wanted.waiting.iter().filter(|request| !got.contains(&request.execution_id)) {
            self.timetable.not_taken(request.execution_id, &request.task_id, now);
            in_vain.insert(&request.task_id);
        }
        in_vain.into_iter().for_each(|task| self.timetable.in_vain(task));
        for request in wanted.claims.iter().filter(|request| !won.contains(&request.task_id)) {
            self.look_up.insert(request.task_id.clone(), true);
        }
        let waiting_for_a_slot = self.ready.first_key_value().map(|((due, _), _)| self.now() - *due);
        self.window.claimed(wanted.len() >= self.asked_room, waiting_for_a_slot.unwrap_or_default());
        for attempt in claimed.into_iter().chain(taken) {
            self.ready.insert((attempt.due_at, attempt.execution_id), attempt);
        }
    }
}

/// The open question's answer; waits for ever when there is none.
pub(super) async fn answer(
    question: &mut Option<JoinHandle<Reply>>,
) -> Result<Reply, tokio::task::JoinError> {
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
        let cancelled = parts.ledger.cancelled(&node).await?;
        Ok((parts.ledger.owned(&node).await?, cancelled))
    };
    match owned.await {
        Ok((owned, cancelled)) => Reply::Owned { node, known, owned, cancelled },
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

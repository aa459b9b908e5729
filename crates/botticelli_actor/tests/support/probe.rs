//! Actors that behave as they are told.

use async_trait::async_trait;
use botticelli_actor::actor::RunContext;
use botticelli_server::limits::DeliveryLimits;
use botticelli_server::outbox::NewPost;
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::post::PostContent;
use botticelli_server::server::{Actor, Run};
use chrono::{DateTime, Utc};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, watch};

/// What a probe does in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// Ends well.
    Succeed,
    /// Ends well, with a post.
    Post(&'static str),
    /// Fails; another attempt may end differently.
    Fail,
    /// Fails, and so would every other attempt.
    FailForGood,
    /// Panics.
    Panic,
    /// Ends well, when it is let go.
    Wait,
    /// The same with a post.
    WaitAndPost(&'static str),
}

/// An actor that notes when it was started, and for which occurrence.
#[derive(Debug)]
pub(crate) struct Probe {
    behaviour: Mutex<VecDeque<Does>>,
    started: watch::Sender<Vec<Started>>,
    release: Semaphore,
    released: watch::Sender<usize>,
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) at: DateTime<Utc>,
    pub(crate) scheduled_for: DateTime<Utc>,
}

impl Probe {
    /// One that behaves like this in its first runs, and well after that.
    pub(crate) fn new(behaviour: &[Does]) -> Arc<Self> {
        Arc::new(Self {
            behaviour: Mutex::new(behaviour.iter().copied().collect()),
            started: watch::Sender::default(),
            release: Semaphore::new(0),
            released: watch::Sender::new(0),
        })
    }

    /// What it does in its next runs, after what it was told before.
    pub(crate) fn will(&self, behaviour: &[Does]) {
        self.behaviour.lock().unwrap_or_else(PoisonError::into_inner).extend(behaviour);
    }

    /// Every run, in order.
    pub(crate) fn starts(&self) -> Vec<Started> {
        self.started.borrow().clone()
    }

    /// How many runs have started.
    pub(crate) fn runs(&self) -> usize {
        self.started.borrow().len()
    }

    /// Returns when so many runs have started.
    pub(crate) async fn has_started(&self, runs: usize) {
        let mut started = self.started.subscribe();
        let enough = started.wait_for(|started| started.len() >= runs);
        let in_time = tokio::time::timeout(super::HANGS, enough).await;
        in_time
            .unwrap_or_else(|_| panic!("{runs} runs, not {}", self.runs()))
            .expect("the sender is in self");
    }

    /// Lets one run go that waits, and returns when it goes on.
    pub(crate) async fn release(&self) {
        let mut released = self.released.subscribe();
        let before = *released.borrow_and_update();
        self.release.add_permits(1);
        let goes_on = released.wait_for(|released| *released > before);
        let in_time = tokio::time::timeout(super::HANGS, goes_on).await;
        in_time.expect("a run waits").expect("the sender is in self");
    }

    async fn wait(&self) {
        self.release.acquire().await.expect("it is never closed").forget();
        self.released.send_modify(|released| *released += 1);
    }
}

#[async_trait]
impl Actor<RunContext> for Probe {
    async fn run(&self, context: RunContext) -> Run {
        let started = Started { at: context.clock.now(), scheduled_for: context.scheduled_for };
        self.started.send_modify(|starts| starts.push(started));
        let does = self.behaviour.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let failed = |recoverable| {
            Run::ended(AttemptEnd::Failed { error: "it failed as it was told".into(), recoverable })
        };
        match does.unwrap_or(Does::Succeed) {
            Does::Succeed => Run::ended(AttemptEnd::Succeeded),
            Does::Post(text) => posting(&context, text),
            Does::Fail => failed(true),
            Does::FailForGood => failed(false),
            Does::Panic => panic!("it panicked as it was told"),
            Does::Wait => {
                self.wait().await;
                Run::ended(AttemptEnd::Succeeded)
            }
            Does::WaitAndPost(text) => {
                self.wait().await;
                posting(&context, text)
            }
        }
    }
}

fn posting(context: &RunContext, text: &str) -> Run {
    let post = |destination: &botticelli_server::post::Destination| NewPost {
        destination: destination.clone(),
        part: 0,
        first_part: 0,
        content: PostContent::text(text),
        not_before: None,
        limits: DeliveryLimits::default(),
        on_unknown: context.on_unknown,
    };
    Run { posts: context.destinations.iter().map(post).collect(), ..Run::ended(AttemptEnd::Succeeded) }
}

/// Counts runs that are under way and can't go on by themselves.
pub(super) struct Watched {
    pub(super) actor: Arc<dyn Actor<RunContext>>,
    pub(super) parked: Arc<watch::Sender<usize>>,
}

#[async_trait]
impl Actor<RunContext> for Watched {
    async fn run(&self, context: RunContext) -> Run {
        let mut run = self.actor.run(context);
        let mut parking = Parking { parked: self.parked.clone(), is_parked: false };
        poll_fn(|cx| {
            parking.set(false);
            let polled = run.as_mut().poll(cx);
            parking.set(polled.is_pending());
            polled
        })
        .await
    }
}

struct Parking {
    parked: Arc<watch::Sender<usize>>,
    is_parked: bool,
}

impl Parking {
    fn set(&mut self, is_parked: bool) {
        if self.is_parked != is_parked {
            self.is_parked = is_parked;
            self.parked.send_modify(|parked| if is_parked { *parked += 1 } else { *parked -= 1 });
        }
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        self.set(false);
    }
}

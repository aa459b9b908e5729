//! What wakes a server: somebody has changed something.

use botticelli_server::ids::{ExecutionId, TaskId};
use std::hash::{BuildHasher as _, RandomState};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, watch};

/// Wakes whoever waits for changes.
#[derive(Clone, Default)]
pub struct Wakeups {
    news: Arc<Mutex<News>>,
    woken: Arc<Notify>,
    followed: Arc<watch::Sender<()>>,
}

/// What has changed since somebody looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Nobody knows what: everything is to be looked at.
    pub anything: bool,
    /// Executions that wait for a node now.
    pub waiting: Vec<(ExecutionId, TaskId)>,
}

/// With more than so many, everything is looked at.
const FEW: usize = 1_000;

impl Wakeups {
    /// Wakes. Several calls before somebody looks are one.
    pub fn changed(&self) {
        self.tell(|news| news.anything = true);
    }

    /// Wakes for this execution, of which is known that it waits: nothing else need be looked at.
    pub fn waits(&self, execution: ExecutionId, task: TaskId) {
        self.tell(|news| match news.waiting.len() {
            0..FEW => news.waiting.push((execution, task)),
            _ => news.anything = true,
        });
    }

    fn tell(&self, add: impl FnOnce(&mut News)) {
        add(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.woken.notify_one();
        self.followed.send_replace(());
    }

    /// Hears of everything from now on, without taking it from the one that waits.
    pub fn follow(&self) -> watch::Receiver<()> {
        self.followed.subscribe()
    }

    /// Waits until there is something, and takes it.
    pub async fn wait(&self) -> News {
        self.woken.notified().await;
        mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Passes on what another server, or this one, has told all.
    pub(crate) fn hear(&self, told: &str, myself: u64) {
        match Told::parse(told) {
            // Whoever told it looks at it already.
            Some(Told { by, .. }) if by == myself => {}
            Some(Told { execution, task, .. }) => self.waits(execution, task),
            None => self.changed(),
        }
    }
}

/// That an execution waits, as it is told to all servers. Those of older releases understand that something has changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Who has told it; 0: somebody who does not look at it.
    pub(crate) by: u64,
    pub(crate) execution: ExecutionId,
    pub(crate) task: TaskId,
}

impl Told {
    pub(crate) fn text(&self) -> String {
        format!("waits {} {} {}", self.by, self.execution, self.task)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_prefix("waits ")?.splitn(3, ' ');
        Some(Self {
            by: words.next()?.parse().ok()?,
            execution: ExecutionId(words.next()?.parse().ok()?),
            task: TaskId::new(words.next()?).ok()?,
        })
    }
}

/// Unlike that of any other store.
pub(crate) fn new_name() -> u64 {
    RandomState::new().hash_one(0_u8).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> TaskId {
        TaskId::new("a task").expect("a name")
    }

    #[tokio::test]
    async fn an_execution_that_waits_is_told_by_its_name_and_everything_else_as_a_change() {
        let wakeups = Wakeups::default();
        let told = Told { by: 7, execution: ExecutionId(41), task: task() }.text();
        wakeups.hear(&told, 8);
        assert_eq!(wakeups.wait().await, News { anything: false, waiting: vec![(ExecutionId(41), task())] });
        wakeups.hear(&told, 7);
        for other in ["posts", "waits", "waits for you", "waits 1 x task"] {
            wakeups.hear(other, 8);
            assert_eq!(wakeups.wait().await, News { anything: true, waiting: Vec::new() }, "{other}");
        }
    }

    #[tokio::test]
    async fn a_crowd_is_a_change() {
        let wakeups = Wakeups::default();
        (0..2_000).for_each(|n| wakeups.waits(ExecutionId(n), task()));
        let news = wakeups.wait().await;
        assert_eq!((news.anything, news.waiting.len()), (true, FEW));
    }
}

//! A clock that stands still until the test moves it.

use async_trait::async_trait;
use botticelli_server::clock::{Clock, to_microseconds};
use chrono::{DateTime, TimeZone, Utc};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// So many times the other tasks get a turn before [`ManualClock::advance`] goes on. Work that only waits for other
/// tasks of a current-thread runtime has come to rest by then.
const TURNS: usize = 64;

/// Time, in the hands of a test. Nothing sleeps for real.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<State>,
    sleepers_changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    now: DateTime<Utc>,
    sleepers: BTreeMap<SleeperId, oneshot::Sender<()>>,
    next_number: u64,
}

/// Sleepers in the order in which they wake: by time, then by who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SleeperId {
    wakes_at: DateTime<Utc>,
    number: u64,
}

impl ManualClock {
    /// A clock at 2030-01-01 00:00:00 UTC.
    pub fn new() -> Arc<Self> {
        Self::at(Utc.with_ymd_and_hms(2030, 1, 1, 0, 0, 0).single().expect("a valid time"))
    }

    /// A clock at this time.
    pub fn at(now: DateTime<Utc>) -> Arc<Self> {
        let state = State { now: to_microseconds(now), sleepers: BTreeMap::new(), next_number: 0 };
        Arc::new(Self { state: Mutex::new(state), sleepers_changed: watch::Sender::new(()) })
    }

    /// Moves time on. Each sleeper wakes at its own time, in order, and other tasks get turns before the next one, so
    /// that what it does then, or sleeps for next, happens at its time too.
    ///
    /// Work that waits for a thread or a socket is not waited for: see [`ManualClock::somebody_sleeps_until`].
    pub async fn advance(&self, by: Duration) {
        let target = self.now() + by;
        settle().await;
        while let Some(sleeper) = self.wake_next(target) {
            // The sleeper may have given up in the meantime.
            let _gone = sleeper.send(());
            settle().await;
        }
        self.state().now = to_microseconds(target);
    }

    /// Sets the time, as if the machine's clock had been set, back even; who is then due wakes.
    pub fn set(&self, now: DateTime<Utc>) {
        self.state().now = to_microseconds(now);
        while let Some(sleeper) = self.take_due(now) {
            let _gone = sleeper.send(());
        }
    }

    /// Returns when somebody sleeps until exactly `at`.
    pub async fn somebody_sleeps_until(&self, at: DateTime<Utc>) {
        self.sleepers_are(|wake_times| wake_times.contains(&at)).await;
    }

    /// Returns when `enough` holds of the times for which sleepers wait, soonest first.
    pub async fn sleepers_are(&self, enough: impl Fn(&[DateTime<Utc>]) -> bool) {
        let mut changed = self.sleepers_changed.subscribe();
        while !enough(&self.wake_times()) {
            changed.changed().await.expect("the sender lives in self");
        }
    }

    /// Changes whenever somebody falls asleep or stops sleeping.
    pub fn sleepers(&self) -> watch::Receiver<()> {
        self.sleepers_changed.subscribe()
    }

    /// The times for which sleepers wait, soonest first.
    pub fn wake_times(&self) -> Vec<DateTime<Utc>> {
        self.state().sleepers.keys().map(|sleeper| sleeper.wakes_at).collect()
    }

    /// Sets the time to when the next sleeper until `target` wakes, and takes it out.
    fn wake_next(&self, target: DateTime<Utc>) -> Option<oneshot::Sender<()>> {
        let mut state = self.state();
        let (id, sleeper) = state.take_due(target)?;
        state.now = state.now.max(id.wakes_at);
        Some(sleeper)
    }

    fn take_due(&self, until: DateTime<Utc>) -> Option<oneshot::Sender<()>> {
        self.state().take_due(until).map(|(_, sleeper)| sleeper)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_due(&mut self, until: DateTime<Utc>) -> Option<(SleeperId, oneshot::Sender<()>)> {
        let next = self.sleepers.first_entry()?;
        (next.key().wakes_at <= until).then(|| next.remove_entry())
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        self.state().now
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        let Some((sleeper, woken)) = self.fall_asleep(at) else { return };
        // An error can't be: the sender is dropped only by `Sleeper`, at the end of this function.
        let _woken = woken.await;
        drop(sleeper);
    }
}

impl ManualClock {
    fn fall_asleep(&self, at: DateTime<Utc>) -> Option<(Sleeper<'_>, oneshot::Receiver<()>)> {
        let mut state = self.state();
        if at <= state.now {
            return None;
        }
        let id = SleeperId { wakes_at: at, number: state.next_number };
        state.next_number += 1;
        let (wake, woken) = oneshot::channel();
        state.sleepers.insert(id, wake);
        drop(state);
        self.sleepers_changed.send_replace(());
        Some((Sleeper { clock: self, id }, woken))
    }
}

/// Takes a sleeper out that no longer waits.
struct Sleeper<'a> {
    clock: &'a ManualClock,
    id: SleeperId,
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.clock.state().sleepers.remove(&self.id);
        self.clock.sleepers_changed.send_replace(());
    }
}

async fn settle() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn sleepers_wake_in_the_order_of_their_times_and_see_their_time() {
        let clock = ManualClock::new();
        let start = clock.now();
        let woken = Arc::new(Mutex::new(Vec::new()));
        for seconds in [3, 1, 2, 9] {
            let (clock, woken) = (clock.clone(), woken.clone());
            tokio::spawn(async move {
                clock.sleep_until(start + seconds * SECOND).await;
                woken.lock().expect("not poisoned").push(clock.now() - start);
                // What is slept for next counts too, if it is within the same advance.
                clock.sleep_until(start + (seconds + 1) * SECOND).await;
                woken.lock().expect("not poisoned").push(clock.now() - start);
            });
        }
        clock.sleepers_are(|wake_times| wake_times.len() == 4).await;
        clock.advance(3 * SECOND).await;
        let seconds: Vec<i64> = woken.lock().expect("not poisoned").iter().map(|t| t.num_seconds()).collect();
        assert_eq!(seconds, [1, 2, 2, 3, 3]);
        assert_eq!(clock.now(), start + 3 * SECOND);
        assert_eq!(clock.wake_times(), [start + 4 * SECOND, start + 9 * SECOND]);
    }

    #[tokio::test]
    async fn a_sleeper_that_gives_up_is_forgotten() {
        let clock = ManualClock::new();
        let sleep = clock.sleep_until(clock.now() + SECOND);
        assert!(futures::FutureExt::now_or_never(sleep).is_none());
        assert!(clock.wake_times().is_empty());
    }
}

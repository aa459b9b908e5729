//! The last moment before a time, waited for to a fraction of a millisecond.
//!
//! tokio's timer counts whole milliseconds and so does the poll under it, which makes a sleeper up to two late. One
//! thread, shared by all clocks, waits with the system's own precision instead.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;
use tokio::sync::oneshot;

static SLEEPERS: LazyLock<Sender<Sleeper>> = LazyLock::new(|| {
    let (sender, sleepers) = channel();
    let thread = std::thread::Builder::new().name("clock".to_owned()).spawn(move || watch(&sleepers));
    if let Err(error) = thread {
        tracing::warn!("tasks start up to 2 ms late: {error}");
    }
    sender
});

/// Who wants to be woken, and when.
struct Sleeper {
    until: Instant,
    wake: oneshot::Sender<()>,
}

/// Returns at `until`. For short waits: one that is dropped is remembered until its time.
pub(super) async fn wait(until: Instant) {
    let (wake, woken) = oneshot::channel();
    let watched = SLEEPERS.send(Sleeper { until, wake }).is_ok();
    if !watched || woken.await.is_err() {
        tokio::time::sleep_until(until.into()).await;
    }
}

fn watch(sleepers: &Receiver<Sleeper>) {
    // The number tells those apart who wake at the same time.
    let mut waiting: BTreeMap<(Instant, u64), oneshot::Sender<()>> = BTreeMap::new();
    for number in 0.. {
        let news = match waiting.first_key_value() {
            None => sleepers.recv().map_err(RecvTimeoutError::from),
            Some(((until, _), _)) => sleepers.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match news {
            Ok(sleeper) => {
                waiting.insert((sleeper.until, number), sleeper.wake);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let later = waiting.split_off(&(Instant::now(), u64::MAX));
        for (_, wake) in std::mem::replace(&mut waiting, later) {
            // Who does not wait any more need not be woken.
            wake.send(()).unwrap_or_default();
        }
    }
}

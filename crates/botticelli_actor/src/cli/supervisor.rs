//! Tells systemd how the server is (sd_notify(3)): a unit with `Type=notify` counts it as started when it runs, and with
//! `WatchdogSec=` starts it again when it hangs. Where nobody asks for it, nothing is said.

use crate::engine::Engine;
use sd_notify::{NotifyState, notify, watchdog_enabled};
use std::sync::Arc;
use tokio::time::{Instant, interval_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

/// It runs, or runs again after a reload.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It reads its files again, and is [`ready`] after that.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "systemd is not told of the reload"),
    }
}

/// It stops, as it was asked to.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = notify(what) {
        warn!(%error, "systemd can't be told how the server is");
    }
}

/// Says that all is well for as long as the engine looks at its work, where systemd asks for that. A database that is
/// away is no reason to be started again.
pub(super) fn keep_watchdog_quiet(engine: Option<Arc<Engine>>) -> Option<AbortOnDropHandle<()>> {
    let (patience, engine) = (watchdog_enabled()?, engine?);
    let watching = async move {
        let period = patience / 3;
        let mut ticks = interval_at(Instant::now() + period, period);
        loop {
            ticks.tick().await;
            let lag = engine.lag().to_std().unwrap_or_default();
            if lag < patience {
                tell(&[NotifyState::Watchdog]);
            } else {
                error!(
                    "the engine should have looked at its work {lag:?} ago: systemd is not told that all is well"
                );
            }
        }
    };
    Some(AbortOnDropHandle::new(tokio::spawn(watching)))
}

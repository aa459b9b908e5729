//! Old history is deleted, a little at a time.

use super::Parts;
use botticelli_server::clock::Clock as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

const EVERY: Duration = Duration::from_secs(3_600);
const BATCH: usize = 1_000;
/// Between batches: others want to write too.
const PAUSE: Duration = Duration::from_millis(100);

/// Prunes until `stop`.
pub(super) async fn run(parts: Arc<Parts>, keep: Duration, stop: CancellationToken) {
    loop {
        let pruned = tokio::select! {
            () = stop.cancelled() => return,
            pruned = run_once(&parts, keep) => pruned,
        };
        if pruned > 0 {
            info!(executions = pruned, "old history deleted");
        }
        let next = parts.clock.now() + EVERY;
        tokio::select! {
            () = stop.cancelled() => return,
            () = parts.clock.sleep_until(next) => {}
        }
    }
}

/// Deletes all history that is older than `keep`. Returns how many executions.
pub(super) async fn run_once(parts: &Parts, keep: Duration) -> usize {
    let Ok(keep) = chrono::TimeDelta::from_std(keep) else { return 0 };
    let Some(before) = parts.clock.now().checked_sub_signed(keep) else { return 0 };
    let mut pruned = 0;
    loop {
        match parts.ledger.prune(before, BATCH).await {
            Ok(0) => return pruned,
            Ok(count) => pruned += count,
            Err(error) => {
                warn!(error = %error, "old history could not be deleted; trying again later");
                return pruned;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

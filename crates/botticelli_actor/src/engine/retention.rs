//! What is old is deleted, a little at a time: history, and nodes that are gone.

use super::Parts;
use botticelli_server::clock::Clock as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

const EVERY: Duration = Duration::from_secs(3_600);
const BATCH: usize = 1_000;
/// Between batches: others want to write too.
const PAUSE: Duration = Duration::from_millis(100);

/// A node that has been gone so long is of interest to nobody.
const NODES: Duration = Duration::from_secs(86_400);

/// Prunes until `stop`: nodes that are gone, and history if it is to be kept for a time only.
pub(super) async fn run(parts: Arc<Parts>, keep: Option<Duration>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = run_once(&parts, keep) => {}
        }
        let next = parts.clock.now() + EVERY;
        tokio::select! {
            () = stop.cancelled() => return,
            () = parts.clock.sleep_until(next) => {}
        }
    }
}

async fn run_once(parts: &Parts, keep: Option<Duration>) {
    match parts.ledger.prune_nodes(NODES).await {
        Ok(count) => debug!(nodes = count, "nodes forgotten"),
        Err(error) => warn!(error = %error, "nodes that are gone could not be forgotten; trying again later"),
    }
    let Some(keep) = keep else { return };
    let executions = prune_history(parts, keep).await;
    if executions > 0 {
        info!(executions, "old history deleted");
    }
}

/// Deletes all history that is older than `keep`. Returns how many executions.
async fn prune_history(parts: &Parts, keep: Duration) -> usize {
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

//! What is old is deleted, a little at a time: history, and nodes that are gone.

use super::Parts;
use botticelli_database::CHANGES_ARE_KEPT_FOR;
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

/// Prunes until `stop`: nodes that are gone, changes that nobody will come back for, and history if it is to be kept for a
/// time only.
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
    let changes = prune(parts, Old::Changes, CHANGES_ARE_KEPT_FOR).await;
    debug!(changes, "changes forgotten");
    let Some(keep) = keep else { return };
    let rows = prune(parts, Old::History, keep).await;
    if rows > 0 {
        info!(rows, "old history deleted");
    }
}

/// What is kept for a time.
#[derive(Clone, Copy)]
enum Old {
    Changes,
    History,
}

/// Deletes all that is older than `keep`, a batch at a time. Returns how many rows.
async fn prune(parts: &Parts, old: Old, keep: Duration) -> usize {
    let Ok(keep) = chrono::TimeDelta::from_std(keep) else { return 0 };
    let Some(before) = parts.clock.now().checked_sub_signed(keep) else { return 0 };
    let mut pruned = 0;
    loop {
        let batch = match old {
            Old::Changes => parts.ledger.prune_changes(before, BATCH).await,
            Old::History => parts.ledger.prune(before, BATCH).await,
        };
        match batch {
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

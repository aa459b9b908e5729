//! This node among others: its heartbeat, and handing on what dead nodes leave.

use super::{Command, Parts};
use botticelli_server::clock::Clock as _;
use botticelli_server::ids::NodeId;
use botticelli_server::ledger::{Lease, LedgerError, Rescued};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// The name under which this process is known now. A node that was given up does not come back under its name.
pub struct CurrentNode {
    first: NodeId,
    now: RwLock<NodeId>,
    renamed: AtomicU32,
}

impl CurrentNode {
    /// A process by this name.
    pub fn new(name: NodeId) -> Self {
        Self { now: RwLock::new(name.clone()), first: name, renamed: AtomicU32::new(0) }
    }

    /// Its name now.
    pub fn name(&self) -> NodeId {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the old one.
    pub(crate) fn take_another(&self) -> NodeId {
        let count = self.renamed.fetch_add(1, Ordering::Relaxed) + 1;
        let name = NodeId::new(format!("{}+{count}", self.first)).unwrap_or_else(|_| self.first.clone());
        std::mem::replace(&mut self.now.write().unwrap_or_else(PoisonError::into_inner), name)
    }
}

/// Beats until `stop`. A clock that is set back does not keep the node silent: the machine's own count of time goes on.
pub(super) async fn heartbeat(
    parts: Arc<Parts>,
    commands: mpsc::UnboundedSender<Command>,
    stop: CancellationToken,
) {
    loop {
        let next = parts.clock.local_now() + parts.settings.heartbeat;
        beat_or_not(&parts, &commands).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = parts.clock.sleep_until(next + parts.clock.offset()) => {}
            () = tokio::time::sleep(parts.settings.heartbeat) => {}
        }
    }
}

/// One beat, for the loop: a database that can't be reached is the dispatcher's to complain about.
async fn beat_or_not(parts: &Parts, commands: &mpsc::UnboundedSender<Command>) {
    match beat(parts, commands).await {
        Ok(()) => {}
        Err(error @ (LedgerError::Unavailable(_) | LedgerError::NotWritable(_))) => {
            debug!(error = %error, "no heartbeat");
        }
        Err(error) => warn!(error = %error, "no heartbeat"),
    }
}

/// One beat: the node lives, its clock is right, and what dead nodes left is handed on.
pub(super) async fn beat(
    parts: &Parts,
    commands: &mpsc::UnboundedSender<Command>,
) -> Result<(), LedgerError> {
    while parts.ledger.renew(&parts.node(), parts.settings.lease).await? == Lease::Lost {
        let lost = parts.current_node.take_another();
        warn!(
            node = %lost,
            "this node was taken for dead, and its work was handed on; it goes on under another name"
        );
        drop(commands.send(Command::LeaseLost));
    }
    set_clock(parts).await?;
    hand_on(parts).await
}

async fn set_clock(parts: &Parts) -> Result<(), LedgerError> {
    let asked = parts.clock.local_now();
    let database = parts.ledger.now().await?;
    parts.clock.set(asked, database, parts.clock.local_now());
    Ok(())
}

async fn hand_on(parts: &Parts) -> Result<(), LedgerError> {
    let Rescued { nodes, handed_on, poisoned } = parts.ledger.rescue(&parts.node()).await?;
    for node in &nodes {
        info!(%node, "a node is gone; its work is handed on");
    }
    for execution in &poisoned {
        warn!(execution.id = %execution, "failed: the servers that ran it died, again and again");
    }
    let ends = parts.ledger.pass_on_ends().await?;
    if !nodes.is_empty() || !handed_on.is_empty() || ends > 0 {
        parts.wakeups.changed();
    }
    let posts = parts.outbox.rescue_posts().await?;
    if posts > 0 || !nodes.is_empty() {
        parts.posts_waiting.notify_one();
    }
    Ok(())
}

/// The name of a process: unique, and telling for a person.
pub fn node_name(host: &str, process: u32, started: chrono::DateTime<chrono::Utc>) -> NodeId {
    let name = format!("{}-{process}-{:x}", machine(host), started.timestamp_micros());
    NodeId::new(name).unwrap_or_else(|_| unreachable!("made of a host without spaces, and digits"))
}

/// Whether a process of that name runs, or ran, on that host.
pub fn is_on(node: &str, host: &str) -> bool {
    node.rsplitn(3, '-').nth(2) == Some(machine(host).as_str())
}

fn machine(host: &str) -> String {
    let host: String = host.chars().filter(|c| !c.is_control() && !c.is_whitespace()).take(100).collect();
    if host.is_empty() { "node".to_owned() } else { host }
}

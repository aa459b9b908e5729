//! Records the ends of attempts, in batches: while one batch is on its way the next one gathers.

use super::Parts;
use botticelli_server::ledger::{EndedAttempt, LedgerError, Recorded};
use botticelli_server::outcome::{AttemptEnd, Outcome};
use botticelli_server::plan::{BreakerEffect, Settlement};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

/// At most so many in one transaction.
const BATCH: usize = 1_000;
/// So many need not wait for more: while they are recorded, the next batch gathers.
const CROWD: usize = 64;
/// The first of a batch waits so long for others that end with it.
const LINGER: Duration = Duration::from_millis(2);
/// Between tries while the database can't be reached.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What was recorded of an attempt.
pub(super) struct Answer {
    pub(super) ended: EndedAttempt,
    pub(super) recorded: Recorded,
}

pub(super) struct Recorder {
    parts: Arc<Parts>,
    ended: mpsc::UnboundedReceiver<EndedAttempt>,
    answers: mpsc::UnboundedSender<Answer>,
}

impl Recorder {
    /// `ended` is bounded by what is claimed: the dispatcher claims no more than its window.
    pub(super) fn new(
        parts: Arc<Parts>,
        ended: mpsc::UnboundedReceiver<EndedAttempt>,
        answers: mpsc::UnboundedSender<Answer>,
    ) -> Self {
        Self { parts, ended, answers }
    }

    /// Records until the last sender is gone.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        while self.ended.recv_many(&mut batch, BATCH).await > 0 {
            if batch.len() < CROWD {
                tokio::time::sleep(LINGER).await;
                while batch.len() < BATCH
                    && let Ok(ended) = self.ended.try_recv()
                {
                    batch.push(ended);
                }
            }
            self.record(std::mem::take(&mut batch)).await;
        }
    }

    async fn record(&self, batch: Vec<EndedAttempt>) {
        let recorded = self.until_stored(&batch).await;
        for (ended, recorded) in batch.into_iter().zip(recorded) {
            let (ended, recorded) = match recorded {
                Recorded::Refused { reason } => self.as_failure(ended, &reason).await,
                Recorded::Stored { .. } | Recorded::Stale | Recorded::Overtaken { .. } => (ended, recorded),
            };
            // Nobody listens any more during the last moments of a shutdown.
            drop(self.answers.send(Answer { ended, recorded }));
        }
    }

    /// What was done is recorded, however long the database is away.
    async fn until_stored(&self, batch: &[EndedAttempt]) -> Vec<Recorded> {
        let mut wait = FIRST_WAIT;
        loop {
            let first = wait == FIRST_WAIT;
            match self.parts.ledger.record(&self.parts.node(), batch).await {
                Ok(recorded) => return recorded,
                // That the database is away, the dispatcher says.
                Err(error @ (LedgerError::Unavailable(_) | LedgerError::NotWritable(_))) if first => {
                    warn!(error = %error, results = batch.len(), "results are kept until they can be recorded");
                }
                Err(error @ (LedgerError::Unavailable(_) | LedgerError::NotWritable(_))) => {
                    debug!(error = %error, results = batch.len(), "results can't be recorded yet");
                }
                Err(error) => {
                    error!(error = %error, results = batch.len(), "results can't be recorded; trying again");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// The database will not have this result: that is how the attempt failed.
    async fn as_failure(&self, ended: EndedAttempt, reason: &str) -> (EndedAttempt, Recorded) {
        let text = format!("the result could not be stored: {reason}");
        let failed = EndedAttempt {
            end: AttemptEnd::Failed { error: text.clone(), recoverable: false },
            settlement: Settlement::Close {
                outcome: Outcome::Failed { error: text },
                breaker: BreakerEffect::Failure,
                advance: None,
            },
            posts: Vec::new(),
            used_items: Vec::new(),
            metadata: serde_json::Value::Null,
            ..ended
        };
        let recorded = self.until_stored(std::slice::from_ref(&failed)).await.pop();
        (failed, recorded.unwrap_or(Recorded::Stale))
    }
}

//! Notes the times of an attempt's skills, as they end.

use crate::actor::{Stage, StageResult, Trace};
use crate::draft::Draft;
use botticelli_server::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::{Arc, Mutex, PoisonError};

/// One skill that was run.
#[derive(Debug, Clone)]
pub(crate) struct TimedStage {
    /// Its place in the pipeline.
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) started_at: DateTime<Utc>,
    pub(super) ended_at: DateTime<Utc>,
    /// Why it failed.
    pub(super) error: Option<String>,
}

/// The skills of one attempt.
pub(crate) struct Stages {
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    stages: Vec<TimedStage>,
    /// How many there were, those too that were left out.
    count: usize,
}

impl Stages {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seen: Mutex::default() }
    }

    /// Those that were run.
    pub(crate) fn take(&self) -> Vec<TimedStage> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner).stages)
    }
}

impl Trace for Stages {
    fn stage(&self, stage: &Stage, _draft: &Draft) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let index = seen.count;
        seen.count += 1;
        let error = match stage.result {
            StageResult::Succeeded => None,
            StageResult::Failed => Some(stage.notes.last().cloned().unwrap_or_default()),
            StageResult::Skipped => return,
        };
        let ended_at = self.clock.now();
        let started_at = ended_at - TimeDelta::milliseconds(stage.ms.max(0));
        seen.stages.push(TimedStage { index, name: stage.name.clone(), started_at, ended_at, error });
    }
}

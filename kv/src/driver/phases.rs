//! How long the phases of a write take at the writer: appended, durable here, committed, acknowledged.
//!
//! A batch is one measurement, whatever the number of its writes: they share their syncs and their messages.

use std::collections::VecDeque;
use std::sync::Arc;

use kv_core::Offset;
use tokio::time::Instant;

use crate::metrics::{Metrics, Phase};

/// More batches are not under way: what a writer that reaches nobody piles up is not measured.
const BATCHES_MAX: usize = 4096;

/// The batches that are under way, in the order of the log.
pub(super) struct Phases {
    metrics: Arc<Metrics>,
    batches: VecDeque<Batch>,
}

struct Batch {
    last: Offset,
    appended_at: Instant,
    is_durable: bool,
    committed_at: Option<Instant>,
}

impl Phases {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            batches: VecDeque::new(),
        }
    }

    /// The writer has appended a batch that ends here.
    pub(super) fn on_appended(&mut self, last: Offset) {
        if self.batches.len() < BATCHES_MAX {
            self.batches.push_back(Batch {
                last,
                appended_at: Instant::now(),
                is_durable: false,
                committed_at: None,
            });
        }
    }

    pub(super) fn on_durable(&mut self, upto: Offset) {
        let reached = self
            .batches
            .iter_mut()
            .take_while(|batch| batch.last <= upto);
        for batch in reached.filter(|batch| !batch.is_durable) {
            batch.is_durable = true;
            self.metrics.passed(Phase::Log, batch.appended_at.elapsed());
        }
    }

    pub(super) fn on_committed(&mut self, upto: Offset) {
        let reached = self
            .batches
            .iter_mut()
            .take_while(|batch| batch.last <= upto);
        for batch in reached.filter(|batch| batch.committed_at.is_none()) {
            let took = batch.appended_at.elapsed();
            batch.committed_at = Some(batch.appended_at + took);
            self.metrics.passed(Phase::Commit, took);
        }
    }

    pub(super) fn on_acknowledged(&mut self, offset: Offset) {
        while let Some(batch) = self.batches.front()
            && batch.last <= offset
        {
            if let Some(at) = batch.committed_at {
                self.metrics.passed(Phase::Acknowledge, at.elapsed());
            }
            self.batches.pop_front();
        }
    }

    /// The writer's role has gone, or what it had appended has: there is nothing more to learn of it.
    pub(super) fn forget(&mut self) {
        self.batches.clear();
    }
}

//! Checkpoints, and what they let go of.
//!
//! Writing to the engine's disk takes its time, so it is a *job* on a thread of its own, one at a time: a checkpoint, a snapshot that is
//! written for others, one that was fetched and is loaded. The driver goes on meanwhile, unless so much was applied that the memory for
//! it would have no bound.

use std::sync::Arc;

use kv_core::{Log, Offset};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Driver;
use super::snapshots::{Loaded, OFFER_LASTS};
use crate::blocking::blocking;
use crate::data_folder::Guard;
use crate::error::NodeError;
use crate::events::Event;
use crate::fs::FileSystem;
use crate::store::{Position, StoreError, snapshot};

/// What a job came to.
pub(crate) enum Done {
    /// A checkpoint is durable.
    Checkpoint(Position),
    /// A snapshot is ready to be offered.
    Written(snapshot::Snapshot),
    /// A snapshot is loaded, beside what is served from.
    Loaded(Loaded),
    /// What was fetched is no snapshot, or a damaged one.
    Refused(StoreError),
}

/// The driver's hold on the disk, and the job that runs.
pub(super) struct Jobs {
    pub(super) file_system: Arc<dyn FileSystem>,
    /// A job that outlives its node still holds the folder.
    claim: Arc<Guard>,
    done: mpsc::UnboundedSender<Result<Done, StoreError>>,
    pub(super) is_busy: bool,
}

impl Jobs {
    pub(super) fn new(
        file_system: Arc<dyn FileSystem>,
        claim: Arc<Guard>,
        done: mpsc::UnboundedSender<Result<Done, StoreError>>,
    ) -> Self {
        Self {
            file_system,
            claim,
            done,
            is_busy: false,
        }
    }

    /// Starts a job. There must be none.
    pub(super) fn start(
        &mut self,
        job: impl FnOnce() -> Result<Done, StoreError> + Send + 'static,
    ) {
        assert!(!self.is_busy, "one job at a time");
        self.is_busy = true;
        let (done, claim) = (self.done.clone(), Arc::clone(&self.claim));
        tokio::spawn(async move {
            let result = blocking(move || {
                let result = job();
                drop(claim);
                result
            });
            // A driver that has gone needs no answer.
            let _ = done.send(result.await);
        });
    }
}

impl Driver {
    /// Starts the next job, if there is one to do and none runs.
    pub(super) fn tend_storage(&mut self) -> Result<(), NodeError> {
        if self.jobs.is_busy {
            return Ok(());
        }
        if !self.store.is_full() && (self.load_fetched() || self.write_wanted_snapshot()) {
            return Ok(());
        }
        if self.store.wants_checkpoint() {
            let names = self.applied_names();
            if let Some(flush) = self.store.begin_checkpoint(names) {
                self.jobs.start(move || flush.run().map(Done::Checkpoint));
            }
        }
        Ok(())
    }

    /// The log up to what is applied.
    fn applied_names(&self) -> Log {
        let mut names = self.replica.log().clone();
        names.truncate(self.store.applied().version.offset);
        names
    }

    pub(super) async fn on_done(
        &mut self,
        done: Result<Done, StoreError>,
    ) -> Result<(), NodeError> {
        self.jobs.is_busy = false;
        match done? {
            Done::Checkpoint(position) => {
                let version = position.names.end();
                self.store.end_checkpoint(position);
                self.events.record(Event::Checkpoint(version));
                self.trim_log();
                Ok(())
            }
            Done::Written(snapshot) => self.offer_written(snapshot),
            Done::Loaded(loaded) => self.install(loaded).await,
            Done::Refused(error) => self.forget_fetched(&error),
        }
    }

    /// Lets go of the log that the engine has durably applied, as far as nobody needs it: the other members have it, or more would have
    /// to be kept for them than the configuration allows.
    fn trim_log(&mut self) {
        let durable = self.store.durable().applied().version.offset;
        let held = self.replica.held_by_all().unwrap_or(Offset::ZERO);
        let mut upto = durable.min(held.max(self.retained_after(durable)));
        if let Some(offered) = &self.snapshots.offered
            && offered.last_asked + OFFER_LASTS > Instant::now()
        {
            // Whoever takes the snapshot over goes on from there.
            upto = upto.min(offered.snapshot.at.offset);
        }
        if upto >= self.log.first() {
            self.log.trim(upto);
        }
    }

    /// The least offset after which the log is no larger than what is kept for the other members; at most `durable`.
    fn retained_after(&self, durable: Offset) -> Offset {
        let (mut low, mut high) = (self.log.first().previous().0, durable.0);
        while low < high {
            let middle = low + (high - low) / 2;
            let bytes = self.log.bytes_from(Offset(middle).next());
            match bytes <= self.config.log_retain_bytes {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Offset(high)
    }
}

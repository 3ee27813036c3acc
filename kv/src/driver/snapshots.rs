//! Snapshots between members: one is offered to whoever lacks entries that the log no longer has, and fetched piece by piece.
//!
//! ```text
//!   writer                                             follower
//!     │ Ship: the log begins above what it lacks          │
//!     │ (a job writes the file)                           │
//!     ├──────────── Offer { at, bytes } ─────────────────►│  a file `snapshot-…​.part`, whose length is how far it has got
//!     │◄─────────── Fetch { at, position } ───────────────┤
//!     ├──────────── Chunk { at, position, bytes, crc } ──►│  ... until all is there
//!     │                                                   │  (a job loads it into an engine of its own)
//!     ├──────────── Offer, Prepare ... ──────────────────►│  switches over, and goes on with the log
//! ```
//!
//! Whatever gets lost is asked for again at the writer's next heartbeat, which offers again. A fetch goes on where it stopped, also
//! after a restart of either side, as long as the same snapshot is offered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_core::{Body, Epoch, Input, Message, NodeId, Version};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Driver;
use super::storage::Done;
use crate::error::NodeError;
use crate::events::Event;
use crate::fs::{File, FileSystem};
use crate::handle::OfferedSnapshot;
use crate::store::{Generation, Position, StoreError, discard_generation, snapshot};

/// How long the log after an offered snapshot is kept once nobody asks for it any more.
pub(super) const OFFER_LASTS: Duration = Duration::from_secs(30);
const PREFIX: &str = "snapshot-";
const UNFINISHED: &str = ".part";

/// What is offered, and what is fetched.
#[derive(Default)]
pub(super) struct Snapshots {
    pub(super) offered: Option<Offered>,
    /// Somebody needs one that covers more than what is offered.
    is_wanted: bool,
    /// Who asked for one from outside.
    asked: Vec<oneshot::Sender<OfferedSnapshot>>,
    fetching: Option<Fetching>,
}

/// A snapshot for the others.
pub(super) struct Offered {
    pub(super) snapshot: snapshot::Snapshot,
    file: Arc<dyn File>,
    pub(super) last_asked: Instant,
}

/// A snapshot on its way here.
struct Fetching {
    from: NodeId,
    epoch: Epoch,
    snapshot: snapshot::Snapshot,
    file: Arc<dyn File>,
    received: u64,
}

/// A snapshot that lies in an engine of its own.
pub(crate) struct Loaded {
    pub(crate) snapshot: snapshot::Snapshot,
    pub(crate) generation: Generation,
    pub(crate) position: Position,
}

/// Throws away what an earlier life offered; what it was fetching may go on.
///
/// # Errors
/// When the folder fails.
pub(crate) fn clean_up(file_system: &dyn FileSystem) -> std::io::Result<()> {
    for name in file_system.list("")? {
        if name.starts_with(PREFIX) && !name.ends_with(UNFINISHED) {
            file_system.remove(&name)?;
        }
    }
    Ok(())
}

fn name_of(at: Version) -> String {
    format!("{PREFIX}{}-{}", at.epoch.0, at.offset.0)
}

fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> StoreError {
    move |source| StoreError::Io { doing, source }
}

impl Snapshots {
    /// Gives a snapshot to all who asked for one from outside.
    fn hand_out(&mut self, at: Version, file: &Arc<dyn File>) {
        for asked in self.asked.drain(..) {
            let file = Arc::clone(file);
            // Whoever asked may have gone meanwhile.
            let _ = asked.send(OfferedSnapshot { at, file });
        }
    }
}

impl Driver {
    // The side that has it.

    /// A follower lacks entries that the log no longer has.
    pub(super) fn offer_snapshot(&mut self, to: NodeId, epoch: Epoch) {
        match &mut self.snapshots.offered {
            Some(offered) if offered.snapshot.at.offset.next() >= self.log.first() => {
                let (at, bytes) = (offered.snapshot.at, offered.snapshot.bytes);
                offered.last_asked = Instant::now();
                let body = Body::Offer { at, bytes };
                self.transport.send(to, Message { epoch, body });
            }
            _ => self.snapshots.is_wanted = true, // It is offered at one of the next heartbeats.
        }
    }

    /// Somebody outside wants one, of what the engine holds now.
    pub(super) fn want_snapshot(&mut self, reply: oneshot::Sender<OfferedSnapshot>) {
        self.snapshots.asked.push(reply);
        self.snapshots.is_wanted = true;
    }

    /// Begins to write a snapshot, if one is wanted.
    pub(super) fn write_wanted_snapshot(&mut self) -> bool {
        if !std::mem::take(&mut self.snapshots.is_wanted) {
            return false;
        }
        if let Some(offered) = &self.snapshots.offered
            && offered.snapshot.at == self.store.durable().names.end()
        {
            let (at, file) = (offered.snapshot.at, Arc::clone(&offered.file));
            self.snapshots.hand_out(at, &file);
            return false;
        }
        let engine = Arc::clone(self.store.engine());
        let file_system = Arc::clone(&self.jobs.file_system);
        self.jobs.start(move || {
            let written = snapshot::write(engine.as_ref(), file_system.as_ref(), name_of);
            written.map(Done::Written)
        });
        true
    }

    pub(super) fn offer_written(&mut self, snapshot: snapshot::Snapshot) -> Result<(), NodeError> {
        let file_system = &self.jobs.file_system;
        if let Some(old) = self.snapshots.offered.take()
            && old.snapshot.name != snapshot.name
        {
            let removed = file_system.remove(&old.snapshot.name);
            removed.map_err(io("remove an old snapshot"))?;
        }
        let file = file_system.open(&snapshot.name);
        let file = file.map_err(io("open a snapshot"))?;
        self.snapshots.hand_out(snapshot.at, &file);
        self.snapshots.offered = Some(Offered {
            file,
            snapshot,
            last_asked: Instant::now(),
        });
        Ok(())
    }

    pub(super) fn perform_ship_snapshot(
        &mut self,
        to: NodeId,
        epoch: Epoch,
        at: Version,
        position: u64,
    ) -> Result<(), NodeError> {
        let Some(offered) = &mut self.snapshots.offered else {
            return Ok(());
        };
        if offered.snapshot.at != at || position >= offered.snapshot.bytes {
            return Ok(()); // The next offer says what there is now.
        }
        offered.last_asked = Instant::now();
        let bytes = snapshot::chunk(offered.file.as_ref(), position);
        let bytes = bytes.map_err(io("read a snapshot"))?;
        let body = Body::Chunk {
            at,
            position,
            crc: crc32fast::hash(&bytes),
            bytes,
        };
        self.transport.send(to, Message { epoch, body });
        Ok(())
    }

    // The side that lacks it.

    /// A snapshot is offered: begins to fetch it, or goes on.
    pub(super) fn perform_fetch(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        at: Version,
        bytes: u64,
    ) -> Result<(), NodeError> {
        let known = self.snapshots.fetching.take();
        let fetching = match known.filter(|known| known.snapshot.at == at) {
            Some(known) => Fetching {
                from,
                epoch,
                ..known
            },
            None => self.begin_fetching(from, epoch, at, bytes)?,
        };
        self.ask_for_more(&fetching);
        self.snapshots.fetching = Some(fetching);
        Ok(())
    }

    fn begin_fetching(
        &self,
        from: NodeId,
        epoch: Epoch,
        at: Version,
        bytes: u64,
    ) -> Result<Fetching, StoreError> {
        let file_system = &self.jobs.file_system;
        let name = format!("{}{UNFINISHED}", name_of(at));
        let failed = || io("fetch a snapshot");
        for other in file_system.list("").map_err(failed())? {
            let is_other =
                other.starts_with(PREFIX) && other.ends_with(UNFINISHED) && other != name;
            // One that is being loaded is no longer asked for, and stays until it is.
            if is_other && !self.jobs.is_busy {
                file_system.remove(&other).map_err(failed())?;
            }
        }
        let file = file_system.open(&name).map_err(failed())?;
        let mut received = file.len().map_err(failed())?;
        if received > bytes {
            file.set_len(0).map_err(failed())?;
            received = 0;
        }
        let snapshot = snapshot::Snapshot { at, name, bytes };
        Ok(Fetching {
            from,
            epoch,
            snapshot,
            file,
            received,
        })
    }

    fn ask_for_more(&self, fetching: &Fetching) {
        if fetching.received < fetching.snapshot.bytes {
            let at = fetching.snapshot.at;
            let position = fetching.received;
            let body = Body::Fetch { at, position };
            let epoch = fetching.epoch;
            self.transport.send(fetching.from, Message { epoch, body });
        }
    }

    pub(super) fn perform_store(
        &mut self,
        at: Version,
        position: u64,
        bytes: &Bytes,
        crc: u32,
    ) -> Result<(), NodeError> {
        let Some(mut fetching) = self.snapshots.fetching.take() else {
            return Ok(());
        };
        let end = position.saturating_add(bytes.len() as u64);
        let is_next = fetching.snapshot.at == at && fetching.received == position;
        let fits = !bytes.is_empty() && end <= fetching.snapshot.bytes;
        if is_next && fits && crc32fast::hash(bytes) == crc {
            let written = fetching.file.write_at(position, bytes);
            written.map_err(io("fetch a snapshot"))?;
            fetching.received = end;
            self.ask_for_more(&fetching);
        }
        self.snapshots.fetching = Some(fetching);
        Ok(())
    }

    /// Begins to load what has been fetched, once all of it is there.
    pub(super) fn load_fetched(&mut self) -> bool {
        let is_all_there = |it: &Fetching| it.received == it.snapshot.bytes;
        let Some(fetching) = self.snapshots.fetching.take_if(|it| is_all_there(it)) else {
            return false;
        };
        let snapshot = fetching.snapshot;
        let generation = self.store.generation();
        let generation = generation.next(generation.kind);
        let (file_system, options) = (Arc::clone(&self.jobs.file_system), self.config.store.engine);
        self.jobs.start(move || {
            match snapshot::load(&file_system, &snapshot, generation, options) {
                Ok(position) => Ok(Done::Loaded(Loaded {
                    snapshot,
                    generation,
                    position,
                })),
                Err(error @ StoreError::Snapshot { .. }) => {
                    file_system
                        .remove(&snapshot.name)
                        .map_err(io("remove a snapshot"))?;
                    Ok(Done::Refused(error))
                }
                Err(error) => Err(error),
            }
        });
        true
    }

    pub(super) fn forget_fetched(&mut self, error: &StoreError) -> Result<(), NodeError> {
        self.events
            .record(Event::SnapshotRefused(error.to_string()));
        Ok(())
    }

    /// Takes over a snapshot that was loaded, unless the log has got further meanwhile.
    pub(super) async fn install(&mut self, loaded: Loaded) -> Result<(), NodeError> {
        let end = loaded.position.names.end();
        let file_system = Arc::clone(&self.jobs.file_system);
        let removed = file_system.remove(&loaded.snapshot.name);
        removed.map_err(io("remove a snapshot"))?;
        let is_follower = self.replica.role_of().is_none();
        if !is_follower || end.offset <= self.store.applied().version.offset {
            return Ok(discard_generation(&file_system, loaded.generation)?);
        }
        let chain = loaded.position.chain;
        self.store.switch(&file_system, loaded.generation).await?;
        self.step(Input::Installed(loaded.position.names))?;
        assert!(
            self.replica.log().holds(end),
            "a member holds what is committed"
        );
        if let Some(shard) = self.shard {
            let version = end;
            self.events.record(Event::Synced(shard, version));
            self.events.record(Event::Installed {
                shard,
                version,
                chain,
            });
            self.events.record(Event::Committed {
                shard,
                version,
                chain,
            });
        }
        Ok(())
    }
}

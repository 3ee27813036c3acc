//! The coordination service inside one process, so that a single machine needs no server.
//!
//! What no session owns is kept in one file, `coordination.json`, which is replaced as a whole and synced before any
//! call is answered: whoever has seen a change can rely on it. Its first eight characters are the CRC-32 of the rest.
//! The sessions and what they own end with the process, which is all that there was to hold them.
//!
//! A session lives as long as its handle. When the handle is dropped without `close`, as when a node inside `kv cluster`
//! is killed, the session ends after its timeout, as that of a dead process would. There is no task: whoever waits for an
//! event waits for the next such end, too.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kv_core::SessionId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::coordination::tree::{Persistent, Tree};
use crate::coordination::{
    Change, Changed, Coordination, CoordinationError, Session, SessionEvent, Znode,
};
use crate::fs::FileSystem;

const FILE: &str = "coordination.json";
const FILE_NEW: &str = "coordination.json.new";
/// How many characters of the file are the checksum.
const CHECKSUM_LEN: usize = 8;

/// The service. Clones are handles of the same one.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    session_timeout: Duration,
    started: Instant,
    state: tokio::sync::Mutex<State>,
    /// Sessions whose handles are gone, and when they end; here because a `drop` cannot wait for the state.
    dropped: Mutex<Vec<(SessionId, Duration)>>,
    /// Counts what may concern whoever waits for an event.
    changes: watch::Sender<u64>,
    /// Why its disk failed, once it has.
    broken: watch::Receiver<Option<String>>,
}

struct State {
    tree: Tree,
    store: Option<Arc<dyn FileSystem>>,
    /// The revision of the tree that is on the disk.
    saved: u64,
    /// After a failed write nothing is known about the disk, so nothing more is answered.
    broken: watch::Sender<Option<String>>,
}

/// Why the service could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be read.
    #[error("cannot read {FILE} in {folder}: {error}")]
    Io {
        /// Where.
        folder: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "{FILE} in {folder} is damaged (its checksum or its form is wrong); restore it from a backup"
    )]
    Damaged {
        /// Where.
        folder: String,
    },
}

/// Why the service answers no longer.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {FILE}: {why}")]
pub struct Broken {
    /// What the operating system says, and of which file.
    why: String,
}

impl Embedded {
    /// A service that forgets everything with the process.
    #[must_use]
    pub fn in_memory(session_timeout: Duration) -> Self {
        Self::new(session_timeout, Tree::default(), None)
    }

    /// A service that keeps its persistent znodes in a data folder.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is damaged.
    pub fn open(session_timeout: Duration, store: Arc<dyn FileSystem>) -> Result<Self, OpenError> {
        let folder = || store.describe();
        let bytes = read(store.as_ref()).map_err(|error| OpenError::Io {
            folder: folder(),
            error,
        })?;
        let tree = match bytes {
            None => Tree::default(),
            Some(bytes) => {
                let damaged = || OpenError::Damaged { folder: folder() };
                Tree::restore(decode(&bytes).ok_or_else(damaged)?)
            }
        };
        Ok(Self::new(session_timeout, tree, Some(store)))
    }

    fn new(session_timeout: Duration, tree: Tree, store: Option<Arc<dyn FileSystem>>) -> Self {
        let saved = tree.revision();
        let (sender, broken) = watch::channel(None);
        let state = State {
            tree,
            store,
            saved,
            broken: sender,
        };
        let shared = Shared {
            session_timeout,
            started: Instant::now(),
            state: tokio::sync::Mutex::new(state),
            dropped: Mutex::new(Vec::new()),
            changes: watch::Sender::new(0),
            broken,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Waits until the service's disk fails. Nothing is answered from then on, so the nodes that have no other service must stop.
    pub async fn broken(&self) -> Broken {
        let mut broken = self.shared.broken.clone();
        match broken.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(why)) => Broken { why: why.clone() },
            _ => std::future::pending().await, // The sender lives as long as the service.
        }
    }

    /// Ends a session that still has its handle, as an administrator may.
    pub async fn expire(&self, session: SessionId) {
        self.shared.state.lock().await.tree.end_session(session);
        self.shared.announce();
    }
}

#[async_trait]
impl Coordination for Embedded {
    async fn connect(&self) -> Result<Box<dyn Session>, CoordinationError> {
        // Its handle exists before the saving is awaited: where that is given up, the session ends like any other.
        let open = |tree: &mut Tree| {
            let (id, shared) = (tree.open_session(None), self.shared.clone());
            Ok(EmbeddedSession { id, shared })
        };
        let session = self
            .shared
            .perform(open)
            .await
            .map_err(|error| match error {
                CoordinationError::Unknown => CoordinationError::Unreachable,
                other => other,
            })?;
        Ok(Box::new(session))
    }
}

struct EmbeddedSession {
    id: SessionId,
    shared: Arc<Shared>,
}

impl Drop for EmbeddedSession {
    fn drop(&mut self) {
        let ends_at = self.shared.started.elapsed() + self.shared.session_timeout;
        let dropped = self.shared.dropped.lock();
        let mut dropped = dropped.unwrap_or_else(PoisonError::into_inner);
        dropped.push((self.id, ends_at));
        drop(dropped);
        self.shared.announce();
    }
}

#[async_trait]
impl Session for EmbeddedSession {
    fn id(&self) -> SessionId {
        self.id
    }

    fn timeout(&self) -> Duration {
        self.shared.session_timeout
    }

    async fn read(&self, path: &str) -> Result<Option<Znode>, CoordinationError> {
        let read = |tree: &mut Tree| tree.read(self.id, path);
        self.shared.perform(read).await
    }

    async fn children(&self, path: &str) -> Result<Vec<String>, CoordinationError> {
        let children = |tree: &mut Tree| tree.children(self.id, path);
        self.shared.perform(children).await
    }

    async fn multi(&self, changes: Vec<Change>) -> Result<Vec<Changed>, CoordinationError> {
        let multi = |tree: &mut Tree| tree.multi(self.id, changes);
        let changed = self.shared.perform(multi).await;
        self.shared.announce();
        changed
    }

    async fn event(&self) -> SessionEvent {
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let next_deadline = {
                let mut state = self.shared.settled().await;
                if !state.tree.lives(self.id) {
                    return SessionEvent::Expired;
                }
                if let Some((number, path)) = state.tree.events(self.id).into_iter().next() {
                    state.tree.acknowledge(self.id, number);
                    return SessionEvent::Changed { path };
                }
                state.tree.next_deadline()
            };
            let ends_at = next_deadline.map(|at| self.shared.started + at);
            tokio::select! {
                biased;
                // The sender lives as long as this session.
                _ = changes.changed() => {}
                () = sleep_until_some(ends_at) => {}
            }
        }
    }

    async fn close(&self) {
        let mut state = self.shared.state.lock().await;
        state.tree.end_session(self.id);
        drop(state);
        self.shared.announce();
    }
}

/// Sleeps until then; without a time, for ever.
async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Shared {
    fn announce(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// The state, after the sessions that are over have ended and everything is on the disk (if that works).
    ///
    /// A caller that is dropped while it waits for the disk leaves the saving to the next one.
    async fn settled(&self) -> tokio::sync::MutexGuard<'_, State> {
        let mut state = self.state.lock().await;
        let dropped = self.dropped.lock();
        let dropped = std::mem::take(&mut *dropped.unwrap_or_else(PoisonError::into_inner));
        for (session, ends_at) in dropped {
            // A session that has ended already needs no end.
            let _ = state.tree.keep_session(session, Some(ends_at));
        }
        if !state.tree.expire(self.started.elapsed()).is_empty() {
            self.announce();
        }
        state.save().await;
        state
    }

    /// Does something with the tree; the answer waits for the disk.
    async fn perform<T>(
        &self,
        operation: impl FnOnce(&mut Tree) -> Result<T, CoordinationError>,
    ) -> Result<T, CoordinationError> {
        let mut state = self.settled().await;
        if state.is_broken() {
            return Err(CoordinationError::Unreachable);
        }
        let result = operation(&mut state.tree);
        state.save().await;
        if state.is_broken() {
            return Err(CoordinationError::Unknown);
        }
        result
    }
}

impl State {
    fn is_broken(&self) -> bool {
        self.broken.borrow().is_some()
    }

    async fn save(&mut self) {
        let revision = self.tree.revision();
        if self.is_broken() || self.saved == revision {
            return;
        }
        if let Some(store) = &self.store {
            // Stays broken where this fails; a save that is dropped half-way is no failure and is done again.
            if let Err(error) = write(store.as_ref(), &encode(&self.tree.persistent())).await {
                self.broken.send_replace(Some(error.to_string()));
                return;
            }
        }
        self.saved = revision;
    }
}

fn encode(persistent: &Persistent) -> Vec<u8> {
    let json = serde_json::to_string_pretty(persistent).expect("maps of text and numbers are JSON");
    format!("{:08x}\n{json}\n", crc32fast::hash(json.as_bytes())).into_bytes()
}

fn decode(bytes: &[u8]) -> Option<Persistent> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (checksum, rest) = text.split_at_checked(CHECKSUM_LEN)?;
    let json = rest.strip_prefix('\n')?.strip_suffix('\n')?;
    let expected = u32::from_str_radix(checksum, 16).ok()?;
    (crc32fast::hash(json.as_bytes()) == expected).then_some(())?;
    serde_json::from_str(json).ok()
}

fn read(store: &dyn FileSystem) -> io::Result<Option<Vec<u8>>> {
    if !store.list("")?.iter().any(|name| name == FILE) {
        return Ok(None);
    }
    let file = store.open(FILE)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let count = file.read_at(0, &mut bytes)?;
    bytes.truncate(count);
    Ok(Some(bytes))
}

async fn write(store: &dyn FileSystem, bytes: &[u8]) -> io::Result<()> {
    let file = store.open(FILE_NEW)?;
    file.set_len(0)?;
    file.write_at(0, bytes)?;
    file.sync().await?;
    store.rename(FILE_NEW, FILE)?;
    store.sync_names().await
}

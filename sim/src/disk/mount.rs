//! The disk as one life of a node sees it: the [`FileSystem`] and its files, all dead after a crash.

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use kv::fs::memory::{is_at, names_in};
use kv::fs::{File, FileSystem};

use super::inode::meaning;
use super::power::Change;
use super::{DirtyPages, Inode, SimDisk, State};

/// How often a sync that is held looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The file system of one life.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    disk: SimDisk,
    life: u64,
}

impl Mount {
    pub(super) fn new(disk: SimDisk, life: u64) -> Self {
        Self { disk, life }
    }

    /// The disk, if this life is not over.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life != self.life {
            let why = format!("{}: the node has crashed since", state.name);
            return Err(io::Error::other(why));
        }
        state.powered()?;
        Ok(state)
    }

    /// Lets the time of a sync pass.
    async fn wait(&self) -> io::Result<()> {
        let latency = self.state()?.draw_latency();
        if latency > Duration::ZERO {
            tokio::time::sleep(latency).await;
        } else {
            give_way().await;
        }
        while self.state()?.holds_syncs {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

impl Mount {
    /// A sync of the names that began at that number of changes ends.
    fn settle_names(&self, changes: u64) -> io::Result<()> {
        let mut state = self.state()?;
        if state.syncs_lie {
            state.counters.syncs_lied += u64::from(state.names.is_dirty(changes));
            state.tell();
        } else {
            state.names.settle(changes);
        }
        state.after(Change::SyncNames);
        Ok(())
    }
}

/// Is not ready the first time.
async fn give_way() {
    let mut is_ready = false;
    poll_fn(|context| {
        if is_ready {
            return Poll::Ready(());
        }
        is_ready = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn absent(state: &State, name: &str) -> io::Error {
    let path = format!("{}/{name}: no such file", state.name);
    io::Error::new(io::ErrorKind::NotFound, path)
}

#[async_trait]
impl FileSystem for Mount {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.state()?;
        let inode = match state.names.find(name) {
            Some(inode) => inode,
            None => {
                let inode = state.inodes.len();
                state.inodes.push(Inode::default());
                state.names.create(name, inode);
                state.after(Change::Name(name));
                inode
            }
        };
        let (mount, name) = (self.clone(), name.to_owned());
        Ok(Arc::new(Handle { mount, inode, name }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let names = self.state()?.names.list();
        Ok(names_in(folder, names.iter().map(|(name, _)| name)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state()?;
        if state.names.find(from).is_none() {
            return Err(absent(&state, from));
        }
        state.names.rename(from, to);
        state.after(Change::Name(to));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state()?;
        let files = state.names.list().into_iter();
        let mut files = files.filter(|(file, _)| is_at(file, name)).peekable();
        if files.peek().is_none() {
            return Err(absent(&state, name));
        }
        files.for_each(|(file, _)| state.names.remove(&file));
        state.after(Change::Remove(name));
        Ok(())
    }

    async fn sync_names(&self) -> io::Result<()> {
        let changes = self.state()?.names.changes();
        self.wait().await?;
        self.settle_names(changes)
    }

    /// Takes no time, as [`File::sync_now`].
    fn sync_names_now(&self) -> io::Result<()> {
        let changes = self.state()?.names.changes();
        self.settle_names(changes)
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state()?;
        if state.locked_by.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locks_given += 1;
        state.locked_by = Some(state.locks_given);
        Ok(Box::new(Lock {
            disk: self.disk.clone(),
            number: state.locks_given,
        }))
    }

    fn describe(&self) -> String {
        self.disk.state().name.clone()
    }

    fn real_folder(&self, _: &str) -> io::Result<PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Lets the folder go, unless a crash has and somebody else holds it now.
struct Lock {
    disk: SimDisk,
    number: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.locked_by == Some(self.number) {
            state.locked_by = None;
        }
    }
}

/// An open file.
struct Handle {
    mount: Mount,
    inode: usize,
    name: String,
}

impl Handle {
    fn error(&self, state: &State, kind: io::ErrorKind, why: &str) -> io::Error {
        io::Error::new(kind, format!("{}/{}: {why}", state.name, self.name))
    }

    fn full(&self, state: &State) -> io::Error {
        let why = "no space left on the disk";
        self.error(state, io::ErrorKind::StorageFull, why)
    }
}

fn index(position: u64) -> io::Result<usize> {
    usize::try_from(position).map_err(io::Error::other)
}

#[async_trait]
impl File for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.mount.state()?.inodes[self.inode].len())
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.mount.state()?;
        Ok(state.inodes[self.inode].read(index(position)?, buffer))
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.mount.state()?;
        let len = state.inodes[self.inode].len();
        let mut fitting = bytes.len();
        if let Some(capacity) = state.capacity_bytes
            && position + bytes.len() as u64 > len
        {
            let end_max = len + capacity.saturating_sub(state.used_bytes());
            fitting = fitting.min(index(end_max.saturating_sub(position))?);
        }
        if fitting > 0 {
            state.inodes[self.inode].write(index(position)?, &bytes[..fitting]);
            let bytes = meaning(&bytes[..fitting]);
            state.after(Change::Write(&self.name, self.inode, bytes));
        }
        if fitting < bytes.len() {
            state.counters.writes_refused += 1;
            state.tell();
            return Err(self.full(&state));
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.mount.state()?;
        let grown = len.saturating_sub(state.inodes[self.inode].len());
        if let Some(capacity) = state.capacity_bytes
            && grown > capacity.saturating_sub(state.used_bytes())
            && grown > 0
        {
            state.counters.writes_refused += 1;
            state.tell();
            return Err(self.full(&state));
        }
        state.inodes[self.inode].set_len(index(len)?);
        state.after(Change::File(&self.name));
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        let operations = self.mount.state()?.inodes[self.inode].operations();
        self.mount.wait().await?;
        self.settle(operations)
    }

    /// Takes no time: whoever blocks stops the virtual clock.
    fn sync_now(&self) -> io::Result<()> {
        let operations = self.mount.state()?.inodes[self.inode].operations();
        self.settle(operations)
    }
}

impl Handle {
    /// A sync that began at that number of operations ends.
    fn settle(&self, operations: u64) -> io::Result<()> {
        let mut state = self.mount.state()?;
        if let Some(pages) = state.next_sync_fails.take() {
            state.counters.syncs_failed += 1;
            state.tell();
            if pages == DirtyPages::Dropped {
                state.inodes[self.inode].drop_pages(operations);
            }
            return Err(self.error(&state, io::ErrorKind::Other, "input/output error"));
        }
        state.counters.syncs += 1;
        if state.syncs_lie {
            let is_dirty = state.inodes[self.inode].promise(operations);
            state.counters.syncs_lied += u64::from(is_dirty);
            state.tell();
        } else {
            state.inodes[self.inode].settle(operations);
        }
        state.after(Change::File(&self.name));
        Ok(())
    }
}

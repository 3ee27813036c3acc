//! A folder of which somebody watches every step: to count them, to let one fail, or to crash between two of them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::{File, FileSystem};

/// What is about to be done, to the disk or to what will get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A file is opened, and made where it is missing.
    Open,
    /// A name is changed or taken away.
    Name,
    /// The names are made durable.
    SyncNames,
    /// Bytes are written, or the length is set.
    Write,
    /// A file is made durable.
    Sync,
}

/// Hears of every step before it is done, and may refuse it.
pub type Watcher = Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>;

/// A folder that is watched.
#[derive(Clone)]
pub struct WatchedFileSystem {
    inner: Arc<dyn FileSystem>,
    watcher: Watcher,
}

impl WatchedFileSystem {
    /// Watches a folder.
    #[must_use]
    pub fn new(inner: Arc<dyn FileSystem>, watcher: Watcher) -> Self {
        Self { inner, watcher }
    }
}

#[async_trait]
impl FileSystem for WatchedFileSystem {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        (self.watcher)(Step::Open)?;
        Ok(Arc::new(WatchedFile {
            inner: self.inner.open(name)?,
            watcher: Arc::clone(&self.watcher),
        }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.inner.list(folder)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (self.watcher)(Step::Name)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (self.watcher)(Step::Name)?;
        self.inner.remove(name)
    }

    async fn sync_names(&self) -> io::Result<()> {
        (self.watcher)(Step::SyncNames)?;
        self.inner.sync_names().await
    }

    fn sync_names_now(&self) -> io::Result<()> {
        (self.watcher)(Step::SyncNames)?;
        self.inner.sync_names_now()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.inner.lock()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn real_folder(&self, name: &str) -> io::Result<PathBuf> {
        self.inner.real_folder(name)
    }
}

struct WatchedFile {
    inner: Arc<dyn File>,
    watcher: Watcher,
}

#[async_trait]
impl File for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(position, buffer)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        (self.watcher)(Step::Write)?;
        self.inner.write_at(position, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        (self.watcher)(Step::Write)?;
        self.inner.set_len(len)
    }

    async fn sync(&self) -> io::Result<()> {
        (self.watcher)(Step::Sync)?;
        self.inner.sync().await
    }

    fn sync_now(&self) -> io::Result<()> {
        (self.watcher)(Step::Sync)?;
        self.inner.sync_now()
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFileSystem;
    use super::*;

    #[tokio::test]
    async fn a_watched_folder_keeps_the_contract() {
        let folder = MemoryFileSystem::default();
        let watched = || WatchedFileSystem::new(Arc::new(folder.clone()), Arc::new(|_| Ok(())));
        super::super::conformance::check(&|| Arc::new(watched())).await;
    }
}

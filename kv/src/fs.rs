//! The file system as a node sees it: one data folder that it owns alone, with folders of files in it.
//!
//! Writing is buffered (the page cache), and only [`File::sync`] makes bytes durable. After a failed write or sync a
//! file must not be used again: the kernel may have dropped the dirty pages (Rebello et al., "Can Applications Recover
//! from fsync Failures?", ATC 2020), so a retry that succeeds proves nothing.
//!
//! A file's name is `name`, or `folder/name`; folders go no deeper, and come into being with their first file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

pub mod conformance;
pub mod memory;
pub mod os;
pub mod watched;

/// The data folder of one node.
///
/// Contract, asserted for every implementation by `conformance::check`:
/// 1. `open` creates a missing file, empty, and the folder that it is in;
/// 2. `list` names what is in a folder, sorted: for the data folder itself (`""`) files and folders; nothing for a folder
///    that is not there;
/// 3. `rename` replaces an existing target, atomically;
/// 4. what `open`, `rename` and `remove` did to names survives a crash once `sync_names` or `sync_names_now` returned;
/// 5. `lock` fails with [`io::ErrorKind::WouldBlock`] while another holder of the folder lives.
#[async_trait]
pub trait FileSystem: Send + Sync {
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// What is in a folder, sorted.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Gives a file another name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file away, or a folder with all that is in it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable: the folders themselves are synced.
    async fn sync_names(&self) -> io::Result<()>;
    /// The same for a caller that may block: a thread of its own.
    fn sync_names_now(&self) -> io::Result<()>;
    /// Claims the folder until the returned guard is dropped.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;
    /// Where the folder is, for error messages.
    fn describe(&self) -> String;
    /// The path of a folder in it, for a library that does its own I/O; made if it is not there.
    /// [`io::ErrorKind::Unsupported`] where there is no such thing.
    fn real_folder(&self, name: &str) -> io::Result<PathBuf>;
}

/// One open file.
///
/// Contract, asserted for every implementation by `conformance::check`:
/// 1. `read_at` sees every `write_at` and `set_len` that returned before it, and returns fewer bytes than asked for only
///    at the end of the file;
/// 2. once `sync` or `sync_now` returns `Ok`, everything that was written before the call survives a crash;
/// 3. without it, any part of that may be lost, and the last write may be torn.
#[async_trait]
pub trait File: Send + Sync {
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads from `position` into `buffer`; returns how many bytes there were.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `position`, growing the file where needed.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or grows the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes everything written so far durable.
    async fn sync(&self) -> io::Result<()>;
    /// The same for a caller that may block: a thread of its own.
    fn sync_now(&self) -> io::Result<()>;
}

//! A folder that lives in this process only: for a first try of a whole cluster, and for tests.
//!
//! It never fails and forgets everything with its last handle. What a disk does wrong is the simulator's business.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{File, FileSystem};

/// A folder in memory. Clones are the same folder.
#[derive(Clone, Debug, Default)]
pub struct MemoryFileSystem {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Arc<MemoryFile>>,
    locked: bool,
}

/// A poisoned lock is taken all the same: every change below is made in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is in a folder, sorted, given the sorted names of all files: for `""`, the files and folders at the top.
pub fn names_in<'a>(folder: &str, files: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut names: Vec<String> = files
        .filter_map(|file| match (folder, file.split_once('/')) {
            ("", Some((top, _))) => Some(top.to_owned()),
            ("", None) => Some(file.clone()),
            (_, Some((top, name))) if top == folder => Some(name.to_owned()),
            _ => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Whether a file is the one of that name, or in the folder of that name.
#[must_use]
pub fn is_at(file: &str, name: &str) -> bool {
    file == name || file.split_once('/').is_some_and(|(top, _)| top == name)
}

fn absent(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such file"))
}

#[async_trait]
impl FileSystem for MemoryFileSystem {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = lock(&self.state);
        let file = state.files.entry(name.to_owned()).or_default();
        Ok(Arc::clone(file) as Arc<dyn File>)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        Ok(names_in(folder, lock(&self.state).files.keys()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        let file = state.files.remove(from).ok_or_else(|| absent(from))?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let files = &mut lock(&self.state).files;
        let before = files.len();
        files.retain(|file, _| !is_at(file, name));
        match files.len() < before {
            true => Ok(()),
            false => Err(absent(name)),
        }
    }

    async fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_names_now(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = lock(&self.state);
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(Guard(Arc::clone(&self.state))))
    }

    fn describe(&self) -> String {
        "a folder in memory".to_owned()
    }

    fn real_folder(&self, _: &str) -> io::Result<PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct Guard(Arc<Mutex<State>>);

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.0).locked = false;
    }
}

#[derive(Debug, Default)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
}

#[async_trait]
impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.bytes).len() as u64)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = lock(&self.bytes);
        let from = index(position)?.min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, position: u64, new: &[u8]) -> io::Result<()> {
        let mut bytes = lock(&self.bytes);
        let from = index(position)?;
        if bytes.len() < from + new.len() {
            bytes.resize(from + new.len(), 0);
        }
        bytes[from..from + new.len()].copy_from_slice(new);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.bytes).resize(index(len)?, 0);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_now(&self) -> io::Result<()> {
        Ok(())
    }
}

fn index(position: u64) -> io::Result<usize> {
    usize::try_from(position).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_in_memory_keeps_the_contract() {
        let folder = MemoryFileSystem::default();
        super::super::conformance::check(&|| Arc::new(folder.clone())).await;
    }
}

//! The operating system's file system: a folder that this process locks.
//!
//! Reads and writes go straight to the page cache, which is quick, so they block. Syncing waits for the device and
//! runs on a blocking thread. Nothing else in the crate touches `std::fs`.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::{File, FileSystem};

/// The file whose lock stands for the folder. It is not one of the folder's files.
const LOCK_NAME: &str = "lock";

/// A folder on a real disk. Every error names the path.
#[derive(Clone, Debug)]
pub struct OsFileSystem {
    folder: PathBuf,
}

impl OsFileSystem {
    /// Opens a folder, and creates it where it is missing.
    ///
    /// # Errors
    /// When the folder can neither be found nor created.
    pub fn open(folder: &Path) -> io::Result<Self> {
        if !folder.is_dir() {
            fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
            // The new name lives in the parent, so the parent is what must be synced for it to survive.
            if let Some(parent) = folder.parent().filter(|path| !path.as_os_str().is_empty()) {
                sync_folder(parent)?;
            }
        }
        Ok(Self {
            folder: folder.to_path_buf(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        assert!(name.split('/').count() <= 2, "folders go no deeper");
        assert!(name != LOCK_NAME, "the lock is not a file of the folder");
        self.folder.join(name)
    }
}

/// The same error, with the path that it is about in front.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)
        .and_then(|handle| handle.sync_all())
        .map_err(|error| at(folder, &error))
}

/// Syncs a folder and the folders in it.
fn sync_folders(top: &Path) -> io::Result<()> {
    for entry in fs::read_dir(top).map_err(|error| at(top, &error))? {
        let entry = entry.map_err(|error| at(top, &error))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sync_folder(&entry.path())?;
        }
    }
    sync_folder(top)
}

#[async_trait]
impl FileSystem for OsFileSystem {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.path(name);
        if let Some((folder, _)) = name.split_once('/') {
            self.real_folder(folder)?;
        }
        let handle = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| at(&path, &error))?;
        Ok(Arc::new(OsFile {
            inner: Arc::new(Inner { path, handle }),
        }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let path = self.folder.join(folder);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => {
                return Ok(Vec::new());
            }
            entries => entries.map_err(|error| at(&path, &error))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| at(&path, &error))?;
            // A name that is not Unicode cannot be ours.
            if let Ok(name) = entry.file_name().into_string()
                && name != LOCK_NAME
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let path = self.path(from);
        fs::rename(&path, self.path(to)).map_err(|error| at(&path, &error))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.map_err(|error| at(&path, &error))
    }

    async fn sync_names(&self) -> io::Result<()> {
        let top = self.folder.clone();
        blocking(move || sync_folders(&top)).await
    }

    fn sync_names_now(&self) -> io::Result<()> {
        sync_folders(&self.folder)
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let path = self.folder.join(LOCK_NAME);
        let handle = fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| at(&path, &error))?;
        // The kernel lets go when the handle is closed, by the guard's drop or by the death of the process.
        handle
            .try_lock()
            .map_err(|error| at(&path, &error.into()))?;
        Ok(Box::new(handle))
    }

    fn describe(&self) -> String {
        self.folder.display().to_string()
    }

    fn real_folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).map_err(|error| at(&path, &error))?;
        Ok(path)
    }
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    handle: fs::File,
}

#[derive(Debug)]
struct OsFile {
    inner: Arc<Inner>,
}

impl OsFile {
    fn named<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| at(&self.inner.path, &error))
    }
}

#[async_trait]
impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        self.named(self.inner.handle.metadata())
            .map(|metadata| metadata.len())
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = position + filled as u64;
            match self.inner.handle.read_at(&mut buffer[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.named(Err(error)),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.named(self.inner.handle.write_all_at(bytes, position))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.named(self.inner.handle.set_len(len))
    }

    async fn sync(&self) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        // `sync_data` writes the length too, and leaves out only the time stamps.
        let result = blocking(move || inner.handle.sync_data()).await;
        self.named(result)
    }

    fn sync_now(&self) -> io::Result<()> {
        self.named(self.inner.handle.sync_data())
    }
}

/// Runs what waits for the device on a blocking thread.
#[allow(
    deprecated,
    reason = "the simulator's build marks it as deprecated, and never runs it"
)]
async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_operating_system_keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        super::super::conformance::check(&|| Arc::new(OsFileSystem::open(&path).unwrap())).await;
    }

    #[test]
    fn an_error_names_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file_system = OsFileSystem::open(folder.path()).unwrap();
        let error = file_system.remove("absent").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("absent"), "{error}");
    }
}

//! A log file: its name, its header, and how it comes into being. There is one of them now; names and headers already
//! say which of several it is.
//!
//! ```text
//!  0        8         9       16         24           32            40         48      60      64
//!  | magic  | version | zeros | sequence | epoch of   | offset of   | promised | zeros | crc32 |
//!  | 8 byte | u8      |       | u64      | last entry before: u64s  | u64      |       | of 0..60
//! ```
//!
//! A file is written under another name, synced and then renamed, so under its own name the header is whole.

use std::sync::Arc;

use super::WalError;
use crate::fs::{File, FileSystem};

/// The bytes of the header; the first record stands behind it.
pub(super) const HEADER_BYTES: u64 = 64;

const MAGIC: &[u8; 8] = b"splitwal";
const VERSION: u8 = 1;
const PREFIX: &str = "wal-";
const UNFINISHED: &str = ".new";
const SEQUENCE: u64 = 1;

/// Opens the log file, or begins one. Either way its name is durable afterwards.
pub(super) async fn open_or_begin(
    file_system: &dyn FileSystem,
) -> Result<(String, Arc<dyn File>), WalError> {
    let name = format!("{PREFIX}{SEQUENCE:010}");
    let mut names = file_system.list().map_err(WalError::io("find"))?;
    names.retain(|name| name.starts_with(PREFIX));
    let mut is_there = false;
    for file in names {
        if file.ends_with(UNFINISHED) {
            file_system.remove(&file).map_err(WalError::io("begin"))?;
        } else if file == name {
            is_there = true;
        } else {
            return Err(WalError::UnknownFile { file });
        }
    }
    if !is_there {
        begin(file_system, &name)
            .await
            .map_err(WalError::io("begin"))?;
    }
    let file = file_system.open(&name).map_err(WalError::io("open"))?;
    check_header(&name, file.as_ref())?;
    // A process that was killed between the rename and the sync of the names leaves a name that is not durable yet.
    let synced = file_system.sync_names().await;
    synced.map_err(WalError::io("open"))?;
    Ok((name, file))
}

async fn begin(file_system: &dyn FileSystem, name: &str) -> std::io::Result<()> {
    let unfinished = format!("{name}{UNFINISHED}");
    let file = file_system.open(&unfinished)?;
    file.write_at(0, &header())?;
    file.sync().await?;
    file_system.rename(&unfinished, name)
}

/// The header of the first file of a log: nothing stands before it.
fn header() -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8] = VERSION;
    header[16..24].copy_from_slice(&SEQUENCE.to_le_bytes());
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn check_header(name: &str, file: &dyn File) -> Result<(), WalError> {
    let mut found = [0; HEADER_BYTES as usize];
    file.read_at(0, &mut found).map_err(WalError::io("read"))?;
    if found == header() {
        return Ok(());
    }
    let crc = crc32fast::hash(&found[..60]).to_le_bytes();
    let file = name.to_owned();
    if found[..8] == *MAGIC && found[8] > VERSION && found[60..] == crc {
        let version = found[8];
        return Err(WalError::Newer { file, version });
    }
    Err(WalError::Header { file })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::memory::MemoryFileSystem;

    #[tokio::test]
    async fn an_unfinished_file_is_begun_again() {
        let folder = MemoryFileSystem::default();
        let file = folder.open("wal-0000000001.new").unwrap();
        file.write_at(0, b"torn").unwrap();
        let (name, file) = open_or_begin(&folder).await.unwrap();
        assert_eq!(folder.list().unwrap(), [name]);
        assert_eq!(file.len().unwrap(), HEADER_BYTES);
    }

    #[tokio::test]
    async fn a_file_of_a_newer_version_is_refused_as_such() {
        let folder = MemoryFileSystem::default();
        let mut header = header();
        header[8] = 2;
        let crc = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        let file = folder.open("wal-0000000001").unwrap();
        file.write_at(0, &header).unwrap();
        let error = open_or_begin(&folder).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, WalError::Newer { version: 2, .. }));
    }

    #[tokio::test]
    async fn a_damaged_header_is_named() {
        for bit in 0..HEADER_BYTES * 8 {
            let folder = MemoryFileSystem::default();
            let mut header = header();
            header[(bit / 8) as usize] ^= 1 << (bit % 8);
            let file = folder.open("wal-0000000001").unwrap();
            file.write_at(0, &header).unwrap();
            let error = open_or_begin(&folder).await.map(|_| ()).unwrap_err();
            assert!(matches!(error, WalError::Header { .. }), "{error}");
            assert!(error.to_string().contains("wal-0000000001"));
        }
    }

    #[tokio::test]
    async fn a_log_file_that_is_not_known_is_named() {
        let folder = MemoryFileSystem::default();
        folder.open("wal-0000000002").unwrap();
        let error = open_or_begin(&folder).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("wal-0000000002"), "{error}");
    }
}

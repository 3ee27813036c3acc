//! Why the log cannot be used.

use std::io;

use kv_core::Offset;

use super::record::Refusal;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The file system failed. The node must stop; the log may be opened again.
    #[error("cannot {doing} the log: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the file system said.
        source: io::Error,
    },
    /// Bytes that had been synced are damaged.
    #[error(
        "{file} is damaged at byte {byte} ({why}), where it had been synced: entries that others count on may be lost. \
         Take them from a peer with `kv repair --from PEER DIR`"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where the first bad record begins.
        byte: u64,
        /// What is wrong there.
        why: Refusal,
    },
    /// The file does not begin as a log does.
    #[error(
        "{file} is damaged at byte 0: it does not begin as a log file does. Take the log from a peer with \
         `kv repair --from PEER DIR`"
    )]
    Header {
        /// The file.
        file: String,
    },
    /// The file was written by another version.
    #[error(
        "{file} has format {version}, which this program does not read; run the version that wrote it"
    )]
    Version {
        /// The file.
        file: String,
        /// Its format.
        version: u8,
    },
    /// A file between others is not there.
    #[error(
        "{file} is missing, and the log cannot be read without it. Bring the folder back from a copy, or take the log from a \
         peer with `kv repair --from PEER DIR`"
    )]
    Missing {
        /// The file.
        file: String,
    },
    /// The log has dropped entries that the engine does not have.
    #[error(
        "the entries {} to {} are missing: the engine ends before them, and the log begins after them. Bring the whole \
         folder back from a copy, or take them from a peer with `kv repair --from PEER DIR`", .from.0, .upto.0
    )]
    MissingEntries {
        /// The first of them.
        from: Offset,
        /// The last of them.
        upto: Offset,
    },
    /// There is nothing to look at.
    #[error("{folder} has no log (`wal/0000000001`)")]
    NoLog {
        /// The folder.
        folder: String,
    },
    /// There is a log file that this program has no use for.
    #[error(
        "{file} is no log file of this version; move it away, or run the version that wrote it"
    )]
    UnknownFile {
        /// The file.
        file: String,
    },
}

impl WalError {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

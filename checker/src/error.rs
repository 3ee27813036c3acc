//! What can be wrong with the input, with the facts to act on: which file, which line, what to do.

use std::{io, path::PathBuf};

/// Why a history or a file of node events cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read at all.
    #[error("cannot read {}: {reason}; name a readable file of JSON lines", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// One line of it makes no sense.
    #[error("{file}, line {line}: {problem}")]
    Line {
        /// The file, or another name for where the events come from.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        problem: Problem,
    },
}

/// What is wrong with one line.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Not JSON, and not because the file ends there.
    #[error("this is not JSON ({detail}); each line must be one event as a JSON object")]
    NotJson {
        /// What the parser said.
        detail: String,
    },
    /// The file ends inside this line.
    #[error(
        "the file is cut in the middle of this line; record the run again, or remove the unfinished line"
    )]
    Cut,
    /// JSON, but a field is missing or of the wrong shape.
    #[error("{detail}; correct the field")]
    Field {
        /// Which field, what was found and what is allowed.
        detail: String,
    },
    /// An operation of another model.
    #[error(
        "the operation \"{f}\" is not judged here; this checker judges read, write and delete of registers"
    )]
    Unjudged {
        /// The operation.
        f: String,
    },
    /// A completion without its invocation.
    #[error(
        "process {process} has no open operation, so its invoke is missing; add it before this line"
    )]
    MissingInvoke {
        /// The process.
        process: u64,
    },
    /// A second operation of a process that is still busy.
    #[error(
        "process {process} already has an open operation, invoked on line {since}; \
         complete that first, or give this one another process"
    )]
    StillOpen {
        /// The process.
        process: u64,
        /// The line of the open invocation.
        since: usize,
    },
    /// A completion that is about something else than its invocation.
    #[error(
        "this completes the operation that process {process} invoked on line {since}, but its {field} is another; \
         make the two lines agree"
    )]
    Mismatch {
        /// The process.
        process: u64,
        /// The field in which the two differ.
        field: &'static str,
        /// The line of the invocation.
        since: usize,
    },
    /// A process that goes on after an unknown outcome, which leaves its operation open for ever.
    #[error(
        "process {process} ended in info on line {since}, so its operation may still take effect; \
         go on as a new process (the field session says that it is the same client)"
    )]
    Reused {
        /// The process.
        process: u64,
        /// The line of the info.
        since: usize,
    },
    /// The global order runs backwards.
    #[error(
        "the index {index} does not come after {previous} of an earlier line; write the events in global order"
    )]
    IndexNotIncreasing {
        /// The index here.
        index: u64,
        /// The greatest one before.
        previous: u64,
    },
}

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
    /// Well-formed, but nothing that can have happened.
    #[error(transparent)]
    Impossible(#[from] Impossible),
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

/// What cannot have happened, whatever the store did.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Impossible {
    /// An operation that ended before it began.
    #[error(
        "this completes at {completed} ns what process {process} invoked at {invoked} ns on line {since}; \
         time does not run backwards, so correct the field time"
    )]
    NegativeInterval {
        /// The process.
        process: u64,
        /// When it was invoked.
        invoked: u64,
        /// When it was completed.
        completed: u64,
        /// The line of the invocation.
        since: usize,
    },
    /// An entry at offset 0.
    #[error("no entry has the offset 0, since a log begins with offset 1; correct the offset")]
    OffsetZero,
    /// Something that only a node does, by none.
    #[error("an event \"{kind}\" is always of a node; say which in the field node")]
    NoNode {
        /// The kind of the event.
        kind: String,
    },
    /// A life of a node that did something before it began.
    #[error(
        "node {node} starts its life {incarnation} here, but has recorded something in it on line {since} already; \
         correct the field incarnation, or the order of the lines"
    )]
    StartedLate {
        /// The node.
        node: u64,
        /// Which life.
        incarnation: u64,
        /// The line of its first event.
        since: usize,
    },
    /// A shard that could never acknowledge anything, or need not ask anybody.
    #[error(
        "a write quorum of {write_quorum} among {voter_count} voters is impossible; it is at least 1 and at most their number"
    )]
    Quorum {
        /// The quorum.
        write_quorum: u32,
        /// How many voters there are.
        voter_count: usize,
    },
    /// An acknowledgement by a node that never was a member.
    #[error(
        "node {node} acknowledges a write of shard {shard}, but is a voter in no configuration of it; \
         add the event \"shard\" of that epoch, or correct the field node"
    )]
    Stranger {
        /// The node.
        node: u64,
        /// The shard.
        shard: u32,
    },
    /// A run of entries that ends before it begins, or begins before all entries.
    #[error("the run {run:?} is none: it must be [epoch, first, last] with 1 <= first <= last")]
    Run {
        /// Epoch, first and last offset.
        run: (u64, u64, u64),
    },
    /// Runs that overlap, or whose epochs fall.
    #[error(
        "the run {run:?} does not come after {previous:?}: along a log offsets rise and epochs never fall"
    )]
    RunsFall {
        /// Epoch, first and last offset.
        run: (u64, u64, u64),
        /// Those of the run before.
        previous: (u64, u64, u64),
    },
    /// A log that is committed further than it goes.
    #[error("the log ends at offset {end}, so it cannot be committed up to {committed}")]
    CommittedBeyond {
        /// The last committed offset.
        committed: u64,
        /// The last offset.
        end: u64,
    },
    /// A node that is cut off from itself.
    #[error("the link from node {node} to itself cannot be cut; list the node in the field down")]
    LinkToItself {
        /// The node.
        node: u64,
    },
}

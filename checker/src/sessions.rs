//! Session guarantees: what one client may expect of its own answers.
//!
//! The four of Terry et al., *Session guarantees for weakly consistent replicated data* (PDIS 1994, section 3), each
//! within a session and key:
//! - [`read_your_writes`]: a read sees what the session wrote before, and the same only while a writer is stable;
//! - [`monotonic_reads`]: a read sees what the session had read before;
//! - [`write_order`]: a write comes after what the session wrote before (monotonic writes), and after what it had read
//!   before (writes follow reads).
//!
//! In scope are writes and reads at the writer (levels local, lease, quorum, or no level), and replica reads whose
//! invocation carried a token. A replica read without one promises nothing: it neither binds nor is bound. A local
//! read is promised nothing across a failover, but it is judged all the same: the verdict is about what the client
//! saw. Only `ok` operations count; an `info` write binds nothing.

pub mod monotonic_reads;
pub mod read_your_writes;
pub mod write_order;

use crate::{
    history::{History, Level, Operation, ValueId},
    verdict::Verdict,
};

/// Whether an answer is promised anything. Writes have no level, and always are.
fn in_scope(operation: &Operation) -> bool {
    match operation.level {
        None | Some(Level::Local | Level::Lease | Level::Quorum) => true,
        Some(Level::Replica) => operation.token_sent,
    }
}

/// Of each shard, the operation with the highest version: versions of different shards do not compare.
#[derive(Default)]
struct Highest<'h>(Vec<&'h Operation>);

impl<'h> Highest<'h> {
    fn add(&mut self, operation: &'h Operation) {
        if operation.version.is_none() {
            return;
        }
        let of_shard = self
            .0
            .iter_mut()
            .find(|highest| highest.shard == operation.shard);
        match of_shard {
            Some(highest) if highest.version < operation.version => *highest = operation,
            Some(_) => {}
            None => self.0.push(operation),
        }
    }

    fn of(&self, shard: Option<u32>) -> Option<&'h Operation> {
        self.0
            .iter()
            .find(|highest| highest.shard == shard)
            .copied()
    }
}

/// The writes that may have put the value there that a read returned.
fn sources<'a, 'h>(
    writers: &'a [&'h Operation],
    value: ValueId,
    read: &'a Operation,
) -> impl Iterator<Item = &'h Operation> + 'a {
    let start = writers.partition_point(|write| write.value < value);
    writers[start..]
        .iter()
        .copied()
        .take_while(move |write| write.value == value && write.invoked < read.completed)
}

/// A violation as a story: the operations in the order of their invocations.
fn tell(history: &History, why: String, mut story: Vec<&Operation>) -> Verdict {
    story.sort_by_key(|operation| operation.invoked);
    story.dedup_by_key(|operation| operation.invoked);
    let witnesses = story
        .into_iter()
        .map(|operation| history.witness(operation));
    Verdict::violated(why, witnesses.collect())
}

//! What a scenario asks for that its workload cannot give: more operations than the clients do, or a verdict on what nobody
//! does. It would fail in every run, or hold in every run and show nothing.

use std::collections::BTreeMap;

use checker::{Function, Guarantee};

use crate::scenario::{Count, Counted, Levels, Step, Workload};

/// More operations of a kind than the clients can ever see acknowledged.
///
/// Of random ones it is an estimate on the safe side: nobody is twice as fast as its mean for a whole workload.
pub(super) fn operations_max(workload: &Workload, what: Counted) -> u64 {
    let is_counted = |function: Function| match what {
        Counted::Writes => function != Function::Read,
        Counted::Reads => function == Function::Read,
        Counted::Operations => true,
    };
    if !workload.script.is_empty() {
        let script = workload.script.iter();
        return script.filter(|step| is_counted(step.function)).count() as u64;
    }
    let clients = f64::from(workload.clients);
    let each = workload.ops_per_second * workload.duration.as_secs_f64();
    let slack = 10.0;
    (clients * (2.0 * each + slack)) as u64
}

/// Why the operations never come to that count, if they cannot.
pub(super) fn never_reached(workload: &Workload, wanted: Count) -> Option<String> {
    let most = operations_max(workload, wanted.what);
    (wanted.count > most).then(|| {
        let by = match workload.script.is_empty() {
            true => "at their ops_per_second the clients do",
            false => "the script has",
        };
        format!("{wanted}: {by} at most {most}; ask for fewer, or let them do more")
    })
}

/// Why no run of the workload can say anything about a guarantee, if that is so.
///
/// The last session of a run, which writes to each shard and reads every key, shows losses and not what clients see of each
/// other. A script is what a failing run shrinks to, and there its reads count all the same where they are enough.
pub(super) fn says_nothing_about(
    workload: &Workload,
    guarantee: Guarantee,
) -> Option<&'static str> {
    let shown = match workload.script.is_empty() {
        true => by_shares(workload.levels, guarantee),
        false => by_steps(&workload.script, guarantee),
    };
    if shown {
        return None;
    }
    Some(match (guarantee, workload.script.is_empty()) {
        (Guarantee::Linearizable, true) => {
            "is about reads of the levels lease and quorum, and levels has none; give one of them a share"
        }
        (Guarantee::ReadYourWrites | Guarantee::ReadYourWritesStable, _) => {
            "is about a client that writes a key and reads it afterwards, and no client of the script does; add a step"
        }
        (Guarantee::MonotonicReads, _) => {
            "is about a client that reads a key twice, and no client of the script does; add a step"
        }
        (Guarantee::MonotonicWrites, _) => {
            "is about a client that writes a key twice, and no client of the script does; add a step"
        }
        (Guarantee::WritesFollowReads, _) => {
            "is about a client that reads a key and writes it afterwards, and no client of the script does; add a step"
        }
        _ => "is about writes, and the script has none; add a set or a delete",
    })
}

/// Random operations are of all kinds, for there is no mix without get or set.
fn by_shares(levels: Levels, guarantee: Guarantee) -> bool {
    guarantee != Guarantee::Linearizable || levels.lease + levels.quorum > 0
}

fn by_steps(script: &[Step], guarantee: Guarantee) -> bool {
    let is_write = |step: &Step| step.function != Function::Read;
    // Levels do not matter here: the checker judges reads of every level that carry a token or are at the writer.
    let is_read = |step: &Step| step.function == Function::Read;
    let twice = |first: &dyn Fn(&Step) -> bool, then: &dyn Fn(&Step) -> bool| {
        let mut begun: BTreeMap<(u32, &str), bool> = BTreeMap::new();
        script.iter().any(|step| {
            let is_begun = begun.entry((step.client, &step.key)).or_default();
            let is_there = *is_begun && then(step);
            *is_begun |= first(step);
            is_there
        })
    };
    match guarantee {
        Guarantee::ReadYourWrites | Guarantee::ReadYourWritesStable => twice(&is_write, &is_read),
        Guarantee::MonotonicReads => twice(&is_read, &is_read),
        Guarantee::MonotonicWrites => twice(&is_write, &is_write),
        Guarantee::WritesFollowReads => twice(&is_read, &is_write),
        // The last session writes to each shard after the last fault.
        Guarantee::Recovery | Guarantee::QuorumDurability | Guarantee::OneLog => true,
        Guarantee::Convergence => true,
        Guarantee::NoQuorumNoAck
        | Guarantee::NoLostWrite
        | Guarantee::NoPhantom
        | Guarantee::Linearizable => script.iter().any(is_write),
    }
}

//! The words for what happens at a node.

use checker::NodeEventKind;
use serde_json::{Map, Value};

/// A published record.
pub(super) fn record(shard: u32, epoch: u64, writer: Option<u64>) -> String {
    let writer = writer.map_or("no writer".to_owned(), |writer| {
        format!("the writer is n{writer}")
    });
    format!("record of shard {shard}: epoch {epoch}, {writer}")
}

/// The kinds that the checks lean on. What happens to every entry on every node is told only as evidence.
pub(super) fn known(kind: &NodeEventKind, is_evidence: bool) -> Option<String> {
    Some(match kind {
        NodeEventKind::Synced { epoch, offset, .. } if is_evidence => {
            format!("has its log on disk up to entry {epoch}.{offset}")
        }
        NodeEventKind::Committed {
            epoch,
            offset,
            chain,
            ..
        } if is_evidence => {
            format!("commits entry {epoch}.{offset} (chain {chain:08x})")
        }
        NodeEventKind::Acknowledged {
            epoch,
            offset,
            members,
            ..
        } => {
            format!(
                "acknowledges entry {epoch}.{offset}, which {} have",
                nodes(members)
            )
        }
        NodeEventKind::Truncated { after, .. } => {
            format!("removes all entries above offset {after} from its log")
        }
        NodeEventKind::Lost { after, .. } => format!("has kept its log only up to offset {after}"),
        NodeEventKind::FinalLog {
            runs, committed, ..
        } => {
            let run = |(epoch, first, last): &_| format!("{epoch}.{first} to {epoch}.{last}");
            let runs: Vec<String> = runs.iter().map(run).collect();
            let runs = runs.join(", ");
            format!("its log at the end: {runs}; committed up to offset {committed}")
        }
        NodeEventKind::FinalState { live: false, .. } => "is not up at the end".to_owned(),
        NodeEventKind::FinalState {
            epoch,
            committed,
            digest,
            ..
        } => {
            format!("holds entries up to {epoch}.{committed} at the end (digest {digest:08x})")
        }
        other => return is_evidence.then(|| other.to_string()),
    })
}

/// The kinds that only people read.
pub(super) fn other(whole: &NodeEventKind, kind: &str, fields: &Map<String, Value>) -> String {
    let (epoch, after) = (number(fields, "epoch"), number(fields, "after"));
    match kind {
        "fault" => fault(fields),
        "cue" => {
            let what = fields.get("what").and_then(Value::as_str);
            let what = what.unwrap_or("?").replace(['"', '='], "");
            format!(
                "#### CUE {}: {}",
                number(fields, "cue"),
                what.replace("  ", " ")
            )
        }
        "healed" => "==== the workload is over and all faults are healed".to_owned(),
        "promoted" => {
            let shard = number(fields, "shard");
            format!("BECOMES THE WRITER of shard {shard} in epoch {epoch}")
        }
        "demoted" => format!("is the writer no more (of epoch {epoch})"),
        "released" => format!("gives the role of the writer back (epoch {epoch})"),
        "promised" => format!("promises epoch {epoch}: it refuses anything older from now on"),
        "elected" => format!("has chosen n{} for epoch {epoch}", number(fields, "writer")),
        "rolled_back" => format!("gives up all above offset {after} and goes on in epoch {epoch}"),
        "forgot" => format!("FORGETS COMMITTED ENTRIES above offset {after}"),
        "refused_stale" => {
            format!(
                "refuses n{}, which is still in epoch {epoch}",
                number(fields, "from")
            )
        }
        _ => whole.to_string(),
    }
}

/// A field that is a number; 0 where it is none.
pub(super) fn number(fields: &Map<String, Value>, name: &str) -> u64 {
    fields.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn nodes(ids: &[u64]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
    ids.join(", ")
}

fn fault(fields: &Map<String, Value>) -> String {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or("?");
    let roles = fields.get("roles").and_then(Value::as_object);
    let role = |(role, ids): (&String, &Value)| {
        let ids = ids
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64);
        format!("{role} is {}", nodes(&ids.collect::<Vec<u64>>()))
    };
    let roles: Vec<String> = roles.into_iter().flatten().map(role).collect();
    let roles = match roles.as_slice() {
        [] => String::new(),
        roles => format!(" [{}]", roles.join("; ")),
    };
    let phase = match text("phase") {
        "begin" => String::new(),
        "hit" => format!(" HITS n{}", number(fields, "node")),
        "refusal" => format!(" LEAVES n{} DOWN", number(fields, "node")),
        _ => " IS OVER".to_owned(),
    };
    format!(
        "#### FAULT {}{phase}: {}{roles}",
        number(fields, "fault"),
        text("what")
    )
}

//! A counterexample as a scenario file: the same thing happens to real nodes in the simulated world (`cargo sim replay FILE`).
//!
//! Each action becomes a cue of a directed run. What a step of the model lets happen at once (`reduction.rs`) is spelled out: in
//! the simulator every message waits for a cue of its own. What the model checks without an action, a read that takes no time
//! and what the log holds in the end, becomes a read and the end of every run.

use std::fmt::Write;

use kv_core::{Body, Fencing, NodeId};

use crate::action::{Action, Event, Sync};
use crate::bounds::Bounds;
use crate::ledger::Promise;
use crate::network::Envelope;
use crate::state::State;
use crate::story::{Step, Story};

/// The scenario file that makes a story of the model happen in the simulator, and expects there what breaks in it.
#[must_use]
pub fn scenario(bounds: &Bounds, story: &Story, promise: Promise) -> String {
    let mut text = head(bounds, promise);
    for step in &story.steps {
        let _ = write!(text, "\n# {}\n", step.action);
        cue(&mut text, &step.action, bounds.bad_clocks);
        let is_broken = step.broken.iter().any(|(broken, _)| *broken == promise);
        if is_broken && promise == Promise::Linearizable {
            read(&mut text, step);
        }
        for event in &step.followed {
            let followed = Action {
                event: event.clone(),
                sync: Sync::AtOnce,
            };
            let _ = write!(text, "\n# and at once: {followed}\n");
            cue(&mut text, &followed, bounds.bad_clocks);
        }
    }
    text.push_str(&expectations(bounds, promise));
    text
}

/// What the checker of histories calls a promise of the model, where it can see that.
#[must_use]
pub fn guarantee(promise: Promise) -> Option<&'static str> {
    match promise {
        Promise::OneWriter | Promise::OneLog => Some("one_log"),
        Promise::OnQuorum => Some("quorum_durability"),
        Promise::NoLostWrite => Some("no_lost_write"),
        Promise::NoPhantom => Some("no_phantom"),
        Promise::Linearizable => Some("linearizable"),
        // The simulator judges these by `kv_core::invariants`, as the model does.
        Promise::CommittedStays
        | Promise::PromisesStay
        | Promise::ToldIsSynced
        | Promise::Assertions => None,
    }
}

fn head(bounds: &Bounds, promise: Promise) -> String {
    let fencing = bounds.fencing.name();
    format!(
        "# A counterexample of the model checker, as a directed run of real nodes.\n\
         name = \"the model breaks: {}\"\n\
         seed = 1\n\
         \n\
         [cluster]\n\
         shards = 1\n\
         replication_factor = {}\n\
         write_quorum = {}\n\
         fencing = \"{fencing}\"\n\
         \n\
         [workload]\n\
         keys = 1\n\
         deadline = \"60s\"\n\
         recovery_within = \"60s\"\n",
        promise.name(),
        bounds.replicas,
        bounds.quorum,
    )
}

fn expectations(bounds: &Bounds, promise: Promise) -> String {
    let table = match bounds.fencing {
        Fencing::Epoch => "expect",
        Fencing::None => "expect.none",
    };
    let broken =
        guarantee(promise).map_or(String::new(), |name| format!("{name} = \"violated\"\n"));
    format!("\n[{table}]\n{broken}convergence = \"any\"\nrecovery = \"any\"\n")
}

/// One `[[cue]]`, or two, where the member crashes before its disk has synced.
fn cue(text: &mut String, action: &Action, bad_clocks: bool) {
    text.push_str("[[cue]]\n");
    let name = match &action.event {
        Event::Deliver(envelope, count) => {
            deliver(text, &envelope.prefix(*count));
            None
        }
        Event::Mirrored(envelope) => {
            deliver(text, envelope);
            None
        }
        Event::LoseSession { writer, observer } => {
            let _ = write!(
                text,
                "lose_session = \"{writer}\"\nseen_by = \"{observer}\"\n"
            );
            if bad_clocks {
                text.push_str("early = true\n");
            }
            None
        }
        Event::Read(node) => {
            let _ = write!(text, "read = \"{node}\"\nlevel = \"quorum\"\n");
            None
        }
        Event::Write(node) => Some(("write", node)),
        Event::Sync(node) => Some(("sync", node)),
        Event::Expire(node) => Some(("expire", node)),
        Event::Learn(node) => Some(("learn", node)),
        Event::Crash(node) => Some(("crash", node)),
        Event::Rollback(node) => Some(("rollback", node)),
        Event::Set(node) => Some(("set", node)),
        Event::Release(node) => Some(("release", node)),
        Event::Retry(node) => Some(("retry", node)),
        Event::Hurry(node) => Some(("hurry", node)),
    };
    if let Some((name, node)) = name {
        let _ = writeln!(text, "{name} = \"{node}\"");
    }
    if action.sync != Sync::AtOnce {
        text.push_str("slow = true\n");
    }
    if action.sync == Sync::Never {
        let _ = write!(text, "\n[[cue]]\ncrash = \"{}\"\n", action.event.node());
    }
}

fn deliver(text: &mut String, envelope: &Envelope) {
    let Envelope { from, to, message } = envelope;
    let (kind, numbers): (&str, Vec<(&str, u64)>) = match &message.body {
        Body::Prepare {
            prev,
            entries,
            committed,
        } => {
            let upto = prev.offset.0 + entries.len() as u64;
            let numbers = vec![
                ("after", prev.offset.0),
                ("upto", upto),
                ("committed", committed.0),
            ];
            ("prepare", numbers)
        }
        Body::Prepared { upto, committed } => (
            "prepared",
            vec![("upto", upto.0), ("committed", committed.0)],
        ),
        Body::Refused { prev, hint } => {
            let numbers = vec![("after", prev.offset.0), ("upto", hint.offset.0)];
            ("refused", numbers)
        }
        Body::Stale { .. } => ("stale", Vec::new()),
        Body::Commit { upto } => ("commit", vec![("upto", upto.0)]),
        Body::Committed { upto } => ("committed", vec![("upto", upto.0)]),
        Body::Seal => ("seal", Vec::new()),
        Body::Sealed { end, .. } => ("sealed", vec![("upto", end.offset.0)]),
        Body::Confirm { round } => ("confirm", vec![("round", *round)]),
        Body::Confirmed { round } => ("confirmed", vec![("round", *round)]),
        Body::Rollback { after } => ("rollback", vec![("after", after.0)]),
        Body::Lost { .. }
        | Body::Extent { .. }
        | Body::Offer { .. }
        | Body::Fetch { .. }
        | Body::Chunk { .. } => return, // The model's disks lose nothing, and its logs keep everything.
    };
    let epoch = message.epoch.0;
    let _ = write!(
        text,
        "deliver = \"{kind}\"\nfrom = \"{from}\"\nto = \"{to}\"\nepoch = {epoch}\n"
    );
    for (name, number) in numbers {
        let _ = writeln!(text, "{name} = {number}");
    }
}

/// The read that shows what is missing, where it takes no action of the model, before anything else follows.
fn read(text: &mut String, step: &Step) {
    if let Some(reader) = stale_reader(&step.at_first) {
        let _ = write!(text, "\n# a client asks {reader} for a lease read\n");
        let _ = write!(text, "[[cue]]\nread = \"{reader}\"\nlevel = \"lease\"\n");
    }
}

/// A serving writer that does not show what was acknowledged.
fn stale_reader(state: &State) -> Option<NodeId> {
    state.nodes().find(|node| {
        let member = state.member(*node);
        let is_missing =
            |placed: &crate::ledger::Placed| !placed.is_in(&member.log, member.applied);
        member.replica.writer_of().is_some() && state.ledger.acknowledged.iter().any(is_missing)
    })
}

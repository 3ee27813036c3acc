//! A whole run, as the scenarios record it: every guarantee holds, and one thing that goes wrong breaks what it should.

#[path = "whole_run/run.rs"]
mod run;

use checker::{Guarantee, History, Limits, NodeEvent, NodeEventKind as Kind, Verdict, check_all};
use run::Run;

const OPERATIONS: usize = 300;

fn judge(run: &Run) -> Vec<(Guarantee, Verdict)> {
    let history = History::from_events(run.history.clone()).expect("a possible history");
    check_all(&history, &run.events, &Guarantee::ALL, &Limits::default())
}

fn violated(run: &Run) -> Vec<Guarantee> {
    let violated = judge(run).into_iter();
    violated
        .filter(|(_, verdict)| verdict.is_violated())
        .map(|(guarantee, _)| guarantee)
        .collect()
}

#[test]
fn every_guarantee_holds_in_a_run_that_keeps_them_all() {
    for seed in 1..20 {
        let run = Run::play(seed * 7919, OPERATIONS);
        for (guarantee, verdict) in judge(&run) {
            assert_eq!(verdict, Verdict::Holds, "seed {seed}, {guarantee}");
        }
    }
}

#[test]
fn what_is_written_out_reads_back_and_holds() {
    let run = Run::play(7, OPERATIONS);
    let lines = |events: &[NodeEvent]| -> String {
        let line = |event: &NodeEvent| serde_json::to_string(event).expect("JSON") + "\n";
        events.iter().map(line).collect()
    };
    let read = NodeEvent::parse_all(lines(&run.events).as_bytes(), "events.jsonl");
    assert_eq!(read.expect("possible events"), run.events);
}

/// Each spoils one event of the run, the last that it finds; and says what then must be broken.
#[test]
fn one_thing_that_goes_wrong_breaks_what_it_should() {
    type Spoil = fn(&mut Kind) -> bool;
    let cases: [(&str, Guarantee, Spoil); 6] = [
        ("another entry", Guarantee::OneLog, |kind| match kind {
            Kind::Committed { chain, .. } => {
                *chain += 1;
                true
            }
            _ => false,
        }),
        ("behind", Guarantee::Convergence, |kind| match kind {
            Kind::FinalState { committed, .. } => {
                *committed -= 1;
                true
            }
            _ => false,
        }),
        ("impatient", Guarantee::Recovery, |kind| match kind {
            Kind::Probe { within_ns, .. } => {
                *within_ns = 35_000_000; // Its question comes in time, the answer does not.
                true
            }
            _ => false,
        }),
        ("forgetful", Guarantee::NoLostWrite, |kind| match kind {
            Kind::FinalLog { committed, .. } => {
                *committed -= 1;
                true
            }
            _ => false,
        }),
        ("lonely", Guarantee::QuorumDurability, |kind| match kind {
            Kind::Acknowledged { members, .. } => {
                members.truncate(1);
                true
            }
            _ => false,
        }),
        ("cut off", Guarantee::NoQuorumNoAck, |kind| match kind {
            Kind::Links { cut, grace_ns, .. } => {
                *cut = vec![(1, 2), (1, 3), (4, 5), (6, 4)];
                *grace_ns = 0;
                true
            }
            _ => false,
        }),
    ];
    for (what, guarantee, spoil) in cases {
        let mut run = Run::play(7, OPERATIONS);
        let spoilt = run
            .events
            .iter_mut()
            .rev()
            .any(|event| spoil(&mut event.kind));
        assert!(spoilt, "vacuous: nothing to spoil for {what}");
        assert_eq!(violated(&run), [guarantee], "{what}");
    }
}

//! Faults that overlap, in the fake world, which writes down what is done to it.
//!
//! Goal: a fault lasts from its start to its end, whatever another one does to the same node meanwhile.

use checker::NodeEventKind;

use super::fake::Flaw;
use super::run;

/// What the nemesis does to the world, with the second in which it does it.
fn acts(faults: &str) -> Vec<String> {
    let (_, played) = run(Flaw::Nothing, faults);
    let acts = played.events.iter().filter_map(|event| match &event.kind {
        NodeEventKind::Other { kind, fields } if kind == "act" => {
            let second = event.time / 1_000_000_000;
            Some(format!("{second} {}", fields["act"].as_str()?))
        }
        _ => None,
    });
    acts.collect()
}

/// The story of seed 111 of `random`: a node was told to stand still while it was dead, so that it ran on when it came
/// back, and acknowledged what the record said that it could not.
#[test]
fn a_node_that_is_paused_while_it_is_dead_stands_still_when_it_is_back() {
    let faults = r#"
        [[fault]]
        at = "5s"
        kill = "node(2)"
        until = "10s"
        [[fault]]
        at = "7s"
        pause = "node(2)"
        until = "15s"
    "#;
    assert_eq!(
        acts(faults),
        [
            "5 Kill(NodeId(2))",
            "10 Start(NodeId(2))",
            "10 Pause(NodeId(2))",
            "15 Resume(NodeId(2))"
        ]
    );
}

#[test]
fn a_pause_that_is_over_before_the_node_is_back_changes_nothing() {
    let killed = "[[fault]]\nat = \"5s\"\nkill = \"node(2)\"\nuntil = \"10s\"\n";
    let alone = acts(killed);
    for start in ["4s", "6s"] {
        let pause = format!("[[fault]]\nat = \"{start}\"\npause = \"node(2)\"\nuntil = \"8s\"\n");
        let mut both = acts(&format!("{killed}{pause}"));
        // Who stands still can be killed all the same.
        both.retain(|act| act != "4 Pause(NodeId(2))");
        assert_eq!(both, alone, "from {start}");
    }
}

#[test]
fn of_two_slow_disks_and_two_wrong_clocks_the_one_that_still_lasts_counts() {
    let two = |first: &str, second: &str| {
        acts(&format!(
            "[[fault]]\nat = \"5s\"\n{first}\nuntil = \"15s\"\n[[fault]]\nat = \"7s\"\n{second}\nuntil = \"10s\"\n"
        ))
    };
    assert_eq!(
        two(
            "slow_disk = { node = \"node(2)\", delay = \"50ms\" }",
            "slow_disk = { node = \"node(2)\", delay = \"9ms\" }"
        ),
        [
            "5 SlowDisk(NodeId(2), 50ms)",
            "7 SlowDisk(NodeId(2), 9ms)",
            "10 SlowDisk(NodeId(2), 50ms)",
            "15 SlowDisk(NodeId(2), 0ns)"
        ]
    );
    let mut clocks = two(
        "clock = { node = \"node(2)\", drift_ppm = 900 }",
        "clock = { node = \"node(2)\", drift_ppm = -800 }",
    );
    clocks.retain(|act| act.contains("DriftClock"));
    assert_eq!(
        clocks,
        [
            "5 DriftClock(NodeId(2), 900)",
            "7 DriftClock(NodeId(2), -800)",
            "10 DriftClock(NodeId(2), 900)",
            "15 DriftClock(NodeId(2), 0)"
        ]
    );
}

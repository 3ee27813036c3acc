//! Faults that overlap, in the fake world, which writes down what is done to it.
//!
//! Goal: a fault lasts from its start to its end, whatever another one does to the same node meanwhile.

use checker::NodeEventKind;

use scenarios::play::Failure;

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

/// What the nemesis does about a disk that fails from the fifth second to the tenth.
fn disk_acts(faults: &[&str]) -> Vec<String> {
    let fault = |disk: &&str| {
        format!(
            "[[fault]]\nat = \"5s\"\ndisk = {{ node = \"node(2)\", {disk} }}\nuntil = \"10s\"\n"
        )
    };
    acts(&faults.iter().map(fault).collect::<String>())
}

#[test]
fn a_node_whose_disk_failed_stays_down_until_the_fault_is_over() {
    let failed = disk_acts(&["fault = \"failed-fsync\""]);
    assert_eq!(
        failed,
        [
            "5 FailSync n2",
            "10 Disarm(NodeId(2), FailSync)",
            "10 Kill(NodeId(2))",
            "10 Start(NodeId(2))"
        ]
    );
    let torn = disk_acts(&["fault = \"torn-tail\""]);
    assert_eq!(
        torn,
        [
            "5 TearLog n2",
            "6 Kill(NodeId(2))",
            "10 Disarm(NodeId(2), TearLog)",
            "10 Kill(NodeId(2))",
            "10 Start(NodeId(2))"
        ]
    );
    let lying = disk_acts(&["fault = \"lost-writes\""]);
    assert_eq!(
        lying,
        [
            "5 Lie n2",
            "10 Disarm(NodeId(2), Lie)",
            "10 StrictPowerLoss(NodeId(2))",
            "10 Start(NodeId(2))"
        ]
    );
}

/// What its disk has lost no restart brings back: it refuses, and is left alone. One that starts all the same has not looked.
#[test]
fn a_node_with_damage_in_an_old_file_has_to_refuse_and_stays_down() {
    let sizes = "[cluster]\nsegment_bytes = \"4KiB\"\ncheckpoint_bytes = \"4KiB\"\n";
    let flip = |place: &str| {
        format!(
            "{sizes}[[fault]]\nat = \"5s\"\nuntil = \"10s\"\n\
             disk = {{ node = \"node(2)\", fault = \"bit-flip\", where = \"{place}\" }}\n"
        )
    };
    let refused = |flaw, place: &str| run(flaw, &flip(place)).0.failures;
    assert_eq!(refused(Flaw::DamageIsSeen, "sealed"), []);
    assert_eq!(refused(Flaw::DamageIsSeen, "engine"), []);
    let [Failure::WentOn { node: 2, .. }] = refused(Flaw::Nothing, "sealed")[..] else {
        panic!("it starts, and nobody minds");
    };
    assert_eq!(refused(Flaw::Nothing, "engine"), []);
    // At the end of a log there is what the peers can repair.
    let [Failure::NodeStopped { node: 2, .. }] = refused(Flaw::DamageIsSeen, "tail")[..] else {
        panic!("it refuses, and nobody minds");
    };
    let later = "[[fault]]\nat = \"15s\"\nkill = \"node(2)\"\nuntil = \"18s\"\n";
    let (report, played) = run(Flaw::DamageIsSeen, &format!("{}{later}", flip("sealed")));
    assert_eq!(report.failures, []);
    let acts = played.events.iter().map(|event| event.kind.to_string());
    assert_eq!(acts.filter(|act| act.contains("Start")).count(), 1);
}

#[test]
fn nobody_starts_a_node_before_the_last_fault_that_keeps_it_down_is_over() {
    let disk = "[[fault]]\nat = \"5s\"\ndisk = { node = \"node(2)\", fault = \"full\" }\nuntil = \"10s\"\n";
    let restart = "[[fault]]\nat = \"8s\"\nrestart = \"node(2)\"\n";
    assert_eq!(
        acts(&format!("{disk}{restart}")),
        [
            "5 Full n2",
            "8 Kill(NodeId(2))",
            "10 Disarm(NodeId(2), Full)",
            "10 Kill(NodeId(2))",
            "10 Start(NodeId(2))"
        ]
    );
    let kill = "[[fault]]\nat = \"8s\"\nkill = \"node(2)\"\nuntil = \"14s\"\n";
    let acts = acts(&format!("{disk}{kill}"));
    assert_eq!(acts.last().map(String::as_str), Some("14 Start(NodeId(2))"));
    assert_eq!(acts.iter().filter(|act| act.contains("Start")).count(), 1);
}

#[test]
fn a_disk_fault_that_nothing_came_of_has_not_fired() {
    let fault = "[[fault]]\nat = \"5s\"\ndisk = { node = \"writer(0)\", fault = \"failed-fsync\" }\nfor = \"5s\"\n";
    let (report, _) = run(Flaw::DisksHold, fault);
    let is_missing = |failure: &Failure| matches!(failure, Failure::NeverFired { fault: 1, .. });
    assert!(
        report.failures.iter().any(is_missing),
        "{:?}",
        report.failures
    );
    let (report, _) = run(Flaw::DisksHold, &format!("{fault}latest = \"9s\"\n"));
    assert_eq!(report.failures, [], "it need not fire");
    let (report, _) = run(Flaw::Nothing, fault);
    assert_eq!(report.failures, []);
}

#[test]
fn a_node_that_goes_on_after_its_disk_failed_fails_the_run() {
    for fault in ["failed-fsync", "full"] {
        let fault = format!(
            "[[fault]]\nat = \"5s\"\ndisk = {{ node = \"writer(0)\", fault = \"{fault}\" }}\nfor = \"5s\"\n"
        );
        let (report, _) = run(Flaw::NodeGoesOn, &fault);
        let [Failure::WentOn { node: 1, .. }] = &report.failures[..] else {
            panic!("{:?}", report.failures);
        };
    }
}

//! What the real worlds can do and what they refuse, before anything is started.
#![cfg(not(madsim))]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use scenarios::runner::{Batch, check_supported};
use scenarios::scenario::{Kind, Scenario};
use scenarios::suite;
use scenarios::world::Stage;
use scenarios::world::docker::{DockerStage, Images};
use scenarios::world::local::LocalStage;

fn local(folder: &Path) -> LocalStage {
    LocalStage {
        kv: folder.join("kv"),
        zookeeper: None,
        sites: folder.join("sites"),
    }
}

fn docker(folder: &Path) -> DockerStage {
    DockerStage {
        images: Images {
            kv: "splitbrain/no-such-image".to_owned(),
            zookeeper: "splitbrain/no-such-image".to_owned(),
        },
        sites: folder.join("sites"),
    }
}

fn batch(scenario: Scenario) -> Batch {
    Batch {
        scenario: Arc::new(scenario),
        seeds: vec![1],
    }
}

/// What a world says of a scenario that it cannot play.
fn refusal(stage: &dyn Stage, scenario: Scenario) -> String {
    let refused = check_supported(stage, &[batch(scenario)]).unwrap_err();
    let message = refused.to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn of_suite(name: &str) -> Scenario {
    suite::find(name).unwrap()
}

#[test]
fn a_fault_that_a_world_lacks_is_refused_by_name_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (local, docker) = (local(folder.path()), docker(folder.path()));
    let cases: [(&dyn Stage, &str, &str, &str); 8] = [
        (
            &local,
            "power-loss-of-writer",
            "power_loss",
            "use `kill`, or the world sim",
        ),
        (&local, "clock-drift-within", "clock", "use the world sim"),
        (&local, "slow-replica", "slow_disk", "use the world sim"),
        (
            &local,
            "lossy-network",
            "network",
            "`duplicate` and `reorder`",
        ),
        (&local, "random", "power_loss", "use `kill`"),
        (&docker, "lossy-network", "network", "use the world local"),
        (
            &docker,
            "disk-full-writer",
            "disk",
            "use the world local for `full`",
        ),
        (&docker, "power-loss-of-shard", "power_loss", "use `kill`"),
    ];
    for (stage, name, kind, remedy) in cases {
        let message = refusal(stage, of_suite(name));
        let begin = format!(
            "the world \"{}\" cannot do the fault {kind}, which {name} asks for",
            stage.name()
        );
        assert!(message.starts_with(&begin), "{message}");
        assert!(message.contains(remedy), "{message}");
    }
    assert!(
        !folder.path().join("sites/local-1").exists(),
        "nothing was started"
    );
}

#[test]
fn a_file_of_the_log_that_is_too_small_for_a_real_node_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = "name = \"x\"\n[cluster]\nengine = \"redb\"\nsegment_bytes = \"2KiB\"\n";
    let scenario = Scenario::parse("x", "x.toml", text).unwrap();
    let message = refusal(&local(folder.path()), scenario);
    assert!(message.contains("segment_bytes below 1MiB"), "{message}");
}

#[test]
fn at_least_twelve_scenarios_of_the_suite_are_for_processes_and_eight_for_containers() {
    let folder = tempfile::tempdir().unwrap();
    let (local, docker) = (local(folder.path()), docker(folder.path()));
    let playable = |stage: &dyn Stage| {
        let all = suite::all().unwrap().into_iter();
        // What a machine lacks is no matter of the world.
        let is_lacked = |kind: Kind| stage.lacks(kind).is_some();
        all.filter(|scenario| {
            scenario.random.is_none()
                && !scenario
                    .faults
                    .iter()
                    .any(|fault| is_lacked(fault.action.kind()))
        })
        .count()
    };
    assert!(playable(&local) >= 12, "{}", playable(&local));
    assert!(playable(&docker) >= 8, "{}", playable(&docker));
}

#[test]
fn what_is_missing_is_said_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let stage = local(folder.path());
    let message = stage.prepare().unwrap_err().to_string();
    assert!(
        message.starts_with("the store is not built: there is no "),
        "{message}"
    );
    assert!(message.contains("cargo build --release -p kv"), "{message}");
    std::fs::write(folder.path().join("kv"), "").unwrap();
    let stage = LocalStage {
        zookeeper: Some(PathBuf::from("/no/such/folder")),
        ..stage
    };
    let message = stage.prepare().unwrap_err().to_string();
    assert!(
        message.starts_with("ZooKeeper is not installed ("),
        "{message}"
    );
    assert!(!folder.path().join("sites").exists(), "nothing was made");
}

/// The table of the README says of each fault and world what the world itself says.
#[test]
fn the_readme_says_which_world_can_do_what() {
    let folder = tempfile::tempdir().unwrap();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (local, docker) = (local(folder.path()), docker(folder.path()));
    for kind in Kind::ALL {
        let begin = format!("| `{kind}` |");
        let row = readme.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("{kind} has no row"));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let worlds: [(&str, Option<String>); 3] = [
            (cells[2], None),
            (cells[3], local.lacks(kind)),
            (cells[4], docker.lacks(kind)),
        ];
        for (cell, lacks) in worlds {
            assert_eq!(cell == "no", lacks.is_some(), "{row}: {lacks:?}");
        }
    }
}

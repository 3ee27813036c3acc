//! The scenarios that come with the program, by name. The files stand in `suite/`; they are built in, so that a name
//! works from any folder.

use std::path::Path;

use crate::error::Error;
use crate::scenario::Scenario;

macro_rules! suite {
    ($($id:literal),* $(,)?) => {
        &[$(($id, include_str!(concat!("../suite/", $id, ".toml")))),*]
    };
}

/// Name and text of each, in the order in which they are listed and run: the plain ones first.
pub const SUITE: &[(&str, &str)] = suite![
    "calm",
    "writer-isolated",
    "writer-cut-from-coordination",
    "power-loss-of-writer",
    "lossy-network",
    "pause-past-lease",
    "pause-replica",
    "pause-coordination",
    "coordination-down",
    "elector-crash",
    "one-way-writer-to-replicas",
    "one-way-replicas-to-writer",
    "bridge",
    "rolling-partitions",
    "no-quorum",
    "kill-each-in-turn",
    "power-loss-of-shard",
    "two-failovers",
    "slow-replica",
    "clock-drift-within",
    "clock-drift-beyond",
    "clock-drift-beyond-quorum",
    "rollback-succeeds",
    "rollback-fails",
    "disk-torn-tail-of-writer",
    "disk-torn-tail-of-replica",
    "disk-torn-tail-of-shard",
    "disk-full-writer",
    "disk-full-replicas",
    "disk-failed-fsync",
    "disk-slow-replica",
    "disk-bit-flip-sealed",
    "disk-bit-flip-tail",
    "disk-checkpoint-crash",
    "disk-snapshot",
    "single-node",
    "five-nodes",
    "random",
];

/// The names, for messages.
#[must_use]
pub fn names() -> String {
    let names: Vec<&str> = SUITE.iter().map(|(id, _)| *id).collect();
    names.join(", ")
}

/// Every scenario of the suite.
///
/// # Errors
/// Where a file of the suite is wrong, as [`Scenario::load`].
pub fn all() -> Result<Vec<Scenario>, Error> {
    SUITE.iter().map(|(id, text)| built_in(id, text)).collect()
}

/// The scenario of the suite with that name, or else the one in the file of that path.
///
/// # Errors
/// A name that looks like no path is unknown; else as [`Scenario::load`].
pub fn find(name_or_file: &str) -> Result<Scenario, Error> {
    if let Some((id, text)) = SUITE.iter().find(|(id, _)| *id == name_or_file) {
        return built_in(id, text);
    }
    let path = Path::new(name_or_file);
    let is_path = path.components().count() > 1 || path.extension().is_some() || path.is_file();
    if is_path {
        return Scenario::load(path);
    }
    Err(Error::UnknownScenario {
        name: name_or_file.to_owned(),
        known: names(),
    })
}

fn built_in(id: &str, text: &str) -> Result<Scenario, Error> {
    let mut scenario = Scenario::parse(id, &format!("scenarios/suite/{id}.toml"), text)?;
    scenario.address = id.to_owned();
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_in_the_suite_and_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("suite");
        let files = std::fs::read_dir(folder).unwrap();
        let stems: BTreeSet<String> = files
            .map(|file| {
                file.unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        let listed: BTreeSet<String> = SUITE.iter().map(|(id, _)| (*id).to_owned()).collect();
        assert_eq!(stems, listed);
        assert_eq!(all().unwrap().len(), SUITE.len());
    }

    #[test]
    fn a_name_that_nothing_has_is_answered_with_those_there_are() {
        let message = find("clam").unwrap_err().to_string();
        assert!(
            message.contains("\"clam\"") && message.contains("calm, writer-isolated"),
            "{message}"
        );
        let message = find("no/such.toml").unwrap_err().to_string();
        assert!(message.starts_with("cannot read no/such.toml"), "{message}");
    }
}

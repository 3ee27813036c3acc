//! What can be wrong with what a person hands in, with the facts to act on. Each is one line.

use std::io;
use std::path::PathBuf;

use kv::engine::EngineKind;

use crate::scenario::{Kind, Problem};
use crate::soak::NoSoak;
use crate::world::trouble::Trouble;

/// Why nothing was run, or nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A scenario file that cannot be read at all.
    #[error("cannot read {}: {source}; name a scenario file, or a scenario of the suite: {known}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
        /// The scenarios of the suite.
        known: String,
    },
    /// A scenario file with a line that makes no sense.
    #[error("{file}:{line}: {problem}")]
    Scenario {
        /// The file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        problem: Problem,
    },
    /// A name that no scenario has.
    #[error(
        "there is no scenario \"{name}\"; the suite has {known}, and a file is named by its path"
    )]
    UnknownScenario {
        /// The name as given.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A replay without a seed.
    #[error("which run? name it with --seed N: `cargo sim replay {address} --seed 1`")]
    WhichSeed {
        /// The scenario.
        address: String,
    },
    /// A run in which nothing breaks cannot be made smaller.
    #[error(
        "nothing to shrink: {address} violates {guarantee} in no way with seed {seed} under fencing {fencing}; \
         find a seed that does with `cargo sim run {address} --fencing {fencing}`"
    )]
    NothingToShrink {
        /// The scenario.
        address: String,
        /// The seed.
        seed: u64,
        /// The protocol.
        fencing: &'static str,
        /// What was to be violated.
        guarantee: String,
    },
    /// A replay around something that is not in the run.
    #[error(
        "there is nothing around \"{around}\" in this run; name `verdict` (if something is violated), a key such as k0, \
         a time such as 12.5s, or the index of an event"
    )]
    NothingThere {
        /// What was asked for.
        around: String,
    },
    /// A folder that is none of a soak, or of another version.
    #[error(transparent)]
    Soak(#[from] NoSoak),
    /// A system that does not let a program hear of Ctrl-C.
    #[error("cannot listen for Ctrl-C and SIGTERM: {0}; run it where a program may")]
    NoSignals(#[source] io::Error),
    /// A fault that the world cannot do.
    #[error(
        "the world \"{world}\" cannot do the fault {kind}, which {scenario} asks for: {reason}"
    )]
    Refused {
        /// The world.
        world: &'static str,
        /// The fault.
        kind: Kind,
        /// The scenario.
        scenario: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// Something else of a scenario that the world cannot do.
    #[error(
        "the world \"{world}\" cannot do {reason}, which {scenario} asks for; use the world sim"
    )]
    RefusedScenario {
        /// The world.
        world: &'static str,
        /// The scenario.
        scenario: String,
        /// What it asks for.
        reason: String,
    },
    /// A machine on which no run can begin.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// Somebody wanted the program to end.
    #[error("interrupted: what was started is taken down again")]
    Interrupted,
    /// An engine that cannot run in the world.
    #[error(
        "the world \"{world}\" cannot run the engine {engine}, which {scenario} asks for: {reason}"
    )]
    RefusedEngine {
        /// The world.
        world: &'static str,
        /// The engine.
        engine: EngineKind,
        /// The scenario.
        scenario: String,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// A simulator that cannot be started from here.
    #[error("cannot run `cargo sim`: {0}; run it in the repository")]
    NoCargo(#[source] io::Error),
    /// A build without the simulator.
    #[error(transparent)]
    NotSimulated(#[from] NotSimulated),
    /// A result that could not be written.
    #[error("cannot write {}: {source}; name a folder with room that you may write to with --out", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why this program has no simulator in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSimulated {
    /// Flags in the environment replace those that `cargo sim` passes.
    #[error(
        "{0} is set in the environment and replaces the flags that `cargo sim` passes, so this build has no simulator in it; \
         `unset {0}`, then run `cargo sim` again, or name `--world local`"
    )]
    Flags(&'static str),
    /// It is the simulated one, and a real world is asked for.
    #[error("the worlds local and docker are in another build; run it as `cargo scenarios`")]
    RealWorld,
    /// It was built by other means.
    #[error("this build has no simulator in it; run it as `cargo sim`")]
    OtherBuild,
}

//! An explicit script: each operation with its time and its client, in place of random ones.
//!
//! It is what a failing run is shrunk to, since single operations can be left out of it. In a file:
//! `script = [{ at = "1.2s", client = 0, set = "k0" }, { at = "2s", client = 1, get = "k0", level = "lease" }]`.
//! What a step writes is not said: every value is written once in a run, as always.

use std::fmt;
use std::time::Duration;

use checker::{Function, Level};

use super::Length;

/// One operation of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When the client asks; later, if it still waits for an answer then.
    pub at: Duration,
    /// Which client.
    pub client: u32,
    /// What it does.
    pub function: Function,
    /// With which key.
    pub key: String,
    /// How much a read promises; nothing else has a level.
    pub level: Option<Level>,
}

/// The read levels with their names in a file.
const LEVELS: [(Level, &str); 4] = [
    (Level::Lease, "lease"),
    (Level::Quorum, "quorum"),
    (Level::Local, "local"),
    (Level::Replica, "replica"),
];

/// The level of that name.
pub(super) fn level(name: &str) -> Option<Level> {
    let found = LEVELS.into_iter().find(|(_, known)| *known == name);
    found.map(|(level, _)| level)
}

/// Its name in a file.
pub(super) fn name(level: Level) -> &'static str {
    let found = LEVELS.into_iter().find(|(known, _)| *known == level);
    found.map_or("lease", |(_, name)| name)
}

impl Step {
    /// What it does with which key, without the time and the client.
    #[must_use]
    pub fn operation(&self) -> String {
        let verb = match self.function {
            Function::Read => "get",
            Function::Write => "set",
            Function::Delete => "delete",
        };
        format!("{verb} {}", self.key)
    }
}

/// As a file writes it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = self.operation();
        let (verb, key) = operation.split_once(' ').unwrap_or((&operation, ""));
        let (at, client) = (Length(self.at), self.client);
        write!(f, "{{ at = \"{at}\", client = {client}, {verb} = \"{key}\"")?;
        if let Some((_, name)) = LEVELS.iter().find(|(level, _)| Some(*level) == self.level) {
            write!(f, ", level = \"{name}\"")?;
        }
        f.write_str(" }")
    }
}

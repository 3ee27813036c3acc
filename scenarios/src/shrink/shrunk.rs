//! What shrinking comes to: a small scenario, as a file that says where it comes from.

use super::Symptom;
use crate::scenario::Scenario;

/// How large a scenario is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Faults.
    pub faults: usize,
    /// Operations of the clients; of a random workload, those of its run.
    pub operations: usize,
    /// Clients.
    pub clients: u32,
    /// Keys.
    pub keys: u32,
}

/// A small scenario that fails by itself.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// It, with its seed, and with what it shows as what it expects.
    pub scenario: Scenario,
    /// The seed with which it fails.
    pub seed: u64,
    /// What stayed.
    pub symptom: Symptom,
    /// Why it is so, in one sentence.
    pub why: String,
    /// How large the run was at first.
    pub before: Size,
    /// How large it is now.
    pub after: Size,
    /// How many runs that took.
    pub runs: u64,
    /// Whether everything was tried; not, if somebody wanted it to stop before.
    pub is_finished: bool,
    pub(super) origin: String,
}

impl Shrunk {
    /// The file: where it comes from, how to run it, and the scenario. `address` is what the commands call the file.
    #[must_use]
    pub fn file(&self, address: &str) -> String {
        let (before, after) = (self.before, self.after);
        let run = format!(
            "{address} --seed {} --fencing {}",
            self.seed,
            self.scenario.fencing().name()
        );
        format!(
            "# Shrunk from {}: from {before}\n# to {after}. It still {}:\n# {}.\n#\n# cargo sim run {run}\n\
             # cargo sim replay {run}\n{}",
            self.origin,
            self.symptom,
            self.why.replace('\n', " ").trim_end_matches('.'),
            self.scenario.to_toml()
        )
    }

    /// What happens in it, without times and seed: two failures of one form are likely one bug.
    #[must_use]
    pub fn form(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for fault in &self.scenario.faults {
            parts.push(fault.action.to_string());
        }
        for step in &self.scenario.workload.script {
            parts.push(format!("c{} {}", step.client, step.operation()));
        }
        parts.join("; ")
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            faults,
            operations,
            clients,
            keys,
        } = self;
        write!(
            f,
            "faults {faults}, operations {operations}, clients {clients}, keys {keys}"
        )
    }
}

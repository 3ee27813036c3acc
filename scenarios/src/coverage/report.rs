//! What was visited against what is known, for people and as a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use model::known::Known;
use model::projection::Projection;
use serde::Serialize;

use super::{Coverage, Visit};
use crate::error::Error;

/// So many situations of a list are shown to people; the file has them all.
const SHOWN_MAX: usize = 20;

/// What was visited, against what is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many shards' histories it is of.
    pub trails: usize,
    /// The situations.
    pub states: Tally,
    /// The steps from one to another.
    pub transitions: Tally,
    /// Of the transitions that are not known, those between situations that are.
    pub between_known: usize,
    /// The known situations that were never visited, the nearest first.
    #[serde(skip)]
    never: Vec<Never>,
    /// The known transitions that never were.
    #[serde(skip)]
    never_transitions: Vec<String>,
    /// The situations that are not known.
    #[serde(skip)]
    beyond: Vec<Beyond>,
    /// The transitions that are not known.
    #[serde(skip)]
    beyond_transitions: Vec<Beyond>,
}

/// How many of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Known and visited.
    pub seen: usize,
    /// Known: there are so many at the quick bounds.
    pub known: usize,
    /// Visited, and not known.
    pub beyond: usize,
}

/// A situation that was never visited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Never {
    situation: String,
    writers: usize,
    /// How many known steps it is from one that was visited; none, if no steps lead there.
    steps: Option<usize>,
}

/// What was visited and is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Beyond {
    what: String,
    #[serde(flatten)]
    visit: Visit,
}

impl Coverage {
    /// What was visited, against what is known; nothing, if no run had a shard to compare.
    #[must_use]
    pub fn against(&self, known: &Known) -> Option<Report> {
        if self.trails == 0 {
            return None;
        }
        let is_known = |state: &Projection| known.states.contains(state);
        let beyond = |what: String, visit: &Visit| Beyond {
            what,
            visit: visit.clone(),
        };
        let unknown_states = self.states.iter().filter(|(state, _)| !is_known(state));
        let unknown = self
            .transitions
            .iter()
            .filter(|(transition, _)| !known.transitions.contains(*transition));
        let never_transitions = known
            .transitions
            .iter()
            .filter(|transition| !self.transitions.contains_key(*transition));
        let states: Vec<Beyond> = unknown_states
            .map(|(state, visit)| beyond(state.to_string(), visit))
            .collect();
        let between_known = unknown
            .clone()
            .filter(|((from, to), _)| is_known(from) && is_known(to));
        let between_known = between_known.count();
        let transitions: Vec<Beyond> = unknown
            .map(|(transition, visit)| beyond(step(transition), visit))
            .collect();
        let tally = |visited: usize, known: usize, beyond: usize| Tally {
            seen: visited - beyond,
            known,
            beyond,
        };
        Some(Report {
            trails: self.trails,
            states: tally(self.states.len(), known.states.len(), states.len()),
            transitions: tally(
                self.transitions.len(),
                known.transitions.len(),
                transitions.len(),
            ),
            between_known,
            never: self.never(known),
            never_transitions: never_transitions.map(step).collect(),
            beyond: states,
            beyond_transitions: transitions,
        })
    }

    /// The known situations that were not visited, by how far they are from those that were.
    fn never(&self, known: &Known) -> Vec<Never> {
        let mut steps: BTreeMap<&Projection, usize> = BTreeMap::new();
        let mut edge: BTreeSet<&Projection> = self.states.keys().collect();
        steps.extend(edge.iter().map(|state| (*state, 0)));
        for distance in 1.. {
            let next = known.transitions.iter();
            let next = next.filter(|(from, to)| edge.contains(from) && !steps.contains_key(to));
            edge = next.map(|(_, to)| to).collect();
            steps.extend(edge.iter().map(|state| (*state, distance)));
            if edge.is_empty() {
                break;
            }
        }
        let unvisited = known.states.iter();
        let unvisited = unvisited.filter(|state| !self.states.contains_key(*state));
        let mut never: Vec<Never> = unvisited
            .map(|state| Never {
                situation: state.to_string(),
                writers: state.writers(),
                steps: steps.get(state).copied(),
            })
            .collect();
        never.sort_by_key(|never| never.steps.unwrap_or(usize::MAX)); // Stable: the rest by name.
        never
    }
}

fn step((from, to): &(Projection, Projection)) -> String {
    format!("{from} -> {to}")
}

impl Report {
    /// For people.
    #[must_use]
    pub fn text(&self, file: &Path) -> String {
        let mut text = String::new();
        self.write_text(&mut text, file)
            .expect("a string takes everything");
        text
    }

    fn write_text(&self, text: &mut String, file: &Path) -> std::fmt::Result {
        let Tally { beyond, .. } = self.states;
        writeln!(
            text,
            "model coverage: states {}, transitions {}, {} beyond the quick bounds",
            self.states.text(),
            self.transitions.text(),
            plural(beyond, "state"),
        )?;
        writeln!(
            text,
            "    of {} of three voters with Q = 2 under epoch; how to read it: docs/model.md, \"Coverage\"",
            plural(self.trails, "shard")
        )?;
        self.write_never(text)?;
        self.write_beyond(text)?;
        writeln!(text, "    all of it: {}", file.display())
    }

    fn write_never(&self, text: &mut String) -> std::fmt::Result {
        if self.never.is_empty() {
            return writeln!(text, "    every known state was visited");
        }
        let count =
            |is: &dyn Fn(&Never) -> bool| self.never.iter().filter(|never| is(never)).count();
        let near = count(&|never| never.steps == Some(1));
        let next = count(&|never| never.steps == Some(2));
        writeln!(
            text,
            "    never visited: {}: {} one step from a visited one, {} two, {} more",
            plural(self.never.len(), "state"),
            grouped(near),
            grouped(next),
            grouped(self.never.len() - near - next)
        )?;
        writeln!(
            text,
            "        {} without a writer, {} with one, {} with several who each believe to be it",
            grouped(count(&|never| never.writers == 0)),
            grouped(count(&|never| never.writers == 1)),
            grouped(count(&|never| never.writers > 1)),
        )?;
        for never in self.never.iter().take(SHOWN_MAX) {
            writeln!(text, "        {}", never.situation)?;
        }
        more(text, self.never.len())
    }

    fn write_beyond(&self, text: &mut String) -> std::fmt::Result {
        if self.transitions.beyond == 0 {
            return Ok(());
        }
        writeln!(
            text,
            "    visited and not known: {}, {}, {} of them between known states",
            plural(self.beyond.len(), "state"),
            plural(self.transitions.beyond, "transition"),
            grouped(self.between_known)
        )?;
        for beyond in self.beyond.iter().take(SHOWN_MAX) {
            let Visit { scenario, seed } = &beyond.visit;
            writeln!(text, "        {:<20} {scenario}, seed {seed}", beyond.what)?;
        }
        more(text, self.beyond.len())
    }

    /// Writes `coverage.json` into the folder of the runs, in place of an older one. Nobody ever finds half of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, out: &Path) -> Result<PathBuf, Error> {
        let path = out.join("coverage.json");
        let unfinished = out.join(format!(".coverage.json.{}", std::process::id()));
        let write = || -> io::Result<()> {
            let mut text = serde_json::to_string_pretty(&self.as_json())?;
            text.push('\n');
            fs::create_dir_all(out)?;
            fs::write(&unfinished, text)?;
            fs::rename(&unfinished, &path)
        };
        match write() {
            Ok(()) => Ok(path),
            Err(source) => {
                let _ = fs::remove_file(&unfinished); // The first error is the one that matters.
                Err(Error::Unwritable { path, source })
            }
        }
    }

    fn as_json(&self) -> serde_json::Value {
        serde_json::json!({
            "counts": self,
            "beyond": { "states": self.beyond, "transitions": self.beyond_transitions },
            "never": { "states": self.never, "transitions": self.never_transitions },
        })
    }
}

impl Tally {
    fn text(&self) -> String {
        let Self { seen, known, .. } = *self;
        let share = 100.0 * seen as f64 / known.max(1) as f64;
        format!("{} of {} ({share:.1} %)", grouped(seen), grouped(known))
    }
}

fn more(text: &mut String, all: usize) -> std::fmt::Result {
    match all.saturating_sub(SHOWN_MAX) {
        0 => Ok(()),
        more => writeln!(text, "        and {} more", grouped(more)),
    }
}

fn plural(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", grouped(count))
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

//! The matrix: a row for each scenario and protocol, a column for each guarantee, and what came out in the cells.
//!
//! As text it fits 160 columns; as `matrix.json` it keeps every number. Both depend on the seeds alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use checker::Guarantee;
use serde::Serialize;

use crate::error::Error;
use crate::summary::{BatchSummary, Summary, Tally};

/// All rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Matrix {
    /// In the order in which they were run.
    pub rows: Vec<Row>,
}

/// A scenario under a protocol.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The scenario.
    pub scenario: String,
    /// The protocol.
    pub fencing: &'static str,
    /// How many seeds ran.
    pub seeds: usize,
    /// How many of them failed by themselves.
    pub failed: usize,
    /// By guarantee.
    pub cells: BTreeMap<Guarantee, Cell>,
}

/// A guarantee in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// What the scenario expects.
    pub expected: &'static str,
    /// In how many seeds it holds.
    pub holds: usize,
    /// In how many it is violated.
    pub violated: usize,
    /// In how many nobody can tell.
    pub unknown: usize,
}

/// The heads of the columns: short, so that all fit side by side.
fn head(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::ReadYourWrites => "read own",
        Guarantee::ReadYourWritesStable => "..stable",
        Guarantee::MonotonicReads => "mon.read",
        Guarantee::MonotonicWrites => "mon.writ",
        Guarantee::WritesFollowReads => "w.foll.r",
        Guarantee::QuorumDurability => "durable",
        Guarantee::NoQuorumNoAck => "no Q ack",
        Guarantee::NoLostWrite => "no loss",
        Guarantee::NoPhantom => "phantom",
        Guarantee::OneLog => "one log",
        Guarantee::Convergence => "converge",
        Guarantee::Recovery => "recovery",
        Guarantee::Linearizable => "linear.",
    }
}

/// How wide the names of scenarios and the cells are: 28 + 6 + 13 × 9 is less than 160.
const NAME_WIDTH: usize = 28;
const CELL_WIDTH: usize = 8;

const _: () = assert!(NAME_WIDTH + 6 + Guarantee::ALL.len() * (CELL_WIDTH + 1) <= 160);

const LEGEND: &str = "holds: in every seed. 3/100: violated in 3 of 100 seeds. ?: nobody could tell in some of them.";

impl Matrix {
    /// The matrix of a summary.
    #[must_use]
    pub fn new(summary: &Summary) -> Self {
        let row = |batch: &BatchSummary| Row {
            scenario: batch.scenario.clone(),
            fencing: batch.fencing,
            seeds: batch.seeds,
            failed: batch.failed.len(),
            cells: batch.guarantees.iter().map(cell).collect(),
        };
        Self {
            rows: summary.batches.iter().map(row).collect(),
        }
    }

    /// The matrix as people read it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{:<NAME_WIDTH$} {:<5}", "", "");
        for guarantee in Guarantee::ALL {
            let head = head(guarantee);
            write!(text, " {head:>CELL_WIDTH$}").expect("a string takes everything");
        }
        text.push('\n');
        for row in &self.rows {
            let (name, fencing) = (&row.scenario, row.fencing);
            write!(text, "{name:<NAME_WIDTH$} {fencing:<5}").expect("a string takes everything");
            for guarantee in Guarantee::ALL {
                let cell = row.cells.get(&guarantee).map_or(String::new(), Cell::text);
                write!(text, " {cell:>CELL_WIDTH$}").expect("a string takes everything");
            }
            text.push('\n');
        }
        text.push_str(LEGEND);
        text.push('\n');
        text
    }

    /// Writes `matrix.json` into the folder of the runs, in place of an older one. Nobody ever finds half of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, out: &Path) -> Result<PathBuf, Error> {
        let path = out.join("matrix.json");
        let unfinished = out.join(format!(".matrix.json.{}", std::process::id()));
        let write = || -> io::Result<()> {
            let mut text = serde_json::to_string_pretty(self)?;
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
}

fn cell(tally: &Tally) -> (Guarantee, Cell) {
    let cell = Cell {
        expected: tally.expected,
        holds: tally.holds,
        violated: tally.violated,
        unknown: tally.unknown,
    };
    (tally.guarantee, cell)
}

impl Cell {
    /// For people; a seed that failed by itself is in none of the numbers.
    #[must_use]
    pub fn text(&self) -> String {
        let judged = self.holds + self.violated + self.unknown;
        match (self.violated, self.unknown) {
            (0, 0) if judged == 0 => "-".to_owned(),
            (0, 0) => "holds".to_owned(),
            (0, unknown) => format!("{unknown}?/{judged}"),
            (violated, 0) => format!("{violated}/{judged}"),
            (violated, _) => format!("{violated}/{judged}?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Matrix {
        let cell = |violated, unknown| Cell {
            expected: "any",
            holds: 100 - violated - unknown,
            violated,
            unknown,
        };
        let mut cells: BTreeMap<Guarantee, Cell> = Guarantee::ALL
            .map(|guarantee| (guarantee, cell(0, 0)))
            .into();
        cells.insert(Guarantee::Linearizable, cell(100, 0));
        cells.insert(Guarantee::OneLog, cell(7, 2));
        cells.insert(Guarantee::NoPhantom, cell(0, 3));
        let row = |fencing| Row {
            scenario: "writer-cut-from-coordination".to_owned(),
            fencing,
            seeds: 100,
            failed: 0,
            cells: cells.clone(),
        };
        Matrix {
            rows: vec![row("epoch"), row("none")],
        }
    }

    #[test]
    fn the_text_fits_and_its_columns_are_straight() {
        let text = matrix().text();
        let lines: Vec<&str> = text.lines().collect();
        let [head, epoch, none, _legend] = lines[..] else {
            panic!("{text}");
        };
        assert!(head.len() <= 160 && head.len() == epoch.len() && head.len() == none.len());
        for cell in [" holds", " 100/100", " 7/100?", " 3?/100"] {
            assert!(epoch.contains(cell), "{epoch}");
        }
        assert!(text.is_ascii());
    }

    #[test]
    fn the_file_has_every_number_and_replaces_an_older_one() {
        let out = std::env::temp_dir().join(format!("matrix-{}", std::process::id()));
        let path = matrix().write(&out).expect("there is room");
        matrix().write(&out).expect("there is room");
        let text = fs::read_to_string(&path).expect("it was written");
        let read: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(read["rows"][1]["cells"]["one_log"]["violated"], 7);
        assert_eq!(read["rows"][1]["fencing"], "none");
        let files = fs::read_dir(&out).expect("the folder is there").count();
        assert_eq!(files, 1, "nothing unfinished stays behind");
        fs::remove_dir_all(&out).expect("it is ours");
    }
}

//! What several machines found, as one list and, if so wished, as one folder: failures of one scenario, guarantee and form
//! are one kind.
//!
//! A run counts once, however many of the folders have it: the same scenario, protocol, seed and commit are the same run.
//! A joined folder holds every run of those that it was made of and can itself be joined again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::folder::{self, Finding, NoSoak, check_version, findings};
use crate::error::Error;

/// Failures that are likely one bug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// How many runs failed so.
    pub count: u64,
    /// One of them.
    pub example: Finding,
    /// Its folder.
    pub folder: PathBuf,
}

/// Joins the folders of several soaks, the most frequent failures first.
///
/// # Errors
/// A folder that is none of a soak or of another version, or a damaged file in it.
pub fn merge(folders: &[PathBuf]) -> Result<Vec<Kind>, NoSoak> {
    let mut kinds: BTreeMap<_, Kind> = BTreeMap::new();
    for (finding, folder) in runs(folders)? {
        let key = (
            finding.scenario.clone(),
            finding.fencing.clone(),
            finding.what.clone(),
            finding.form.clone(),
        );
        let kind = kinds.entry(key).or_insert_with(|| Kind {
            count: 0,
            example: finding,
            folder,
        });
        kind.count += 1;
    }
    let mut kinds: Vec<Kind> = kinds.into_values().collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.count)); // Stable: equal ones stay in order.
    Ok(kinds)
}

/// Every run once, in a fixed order; of two findings about one, that which was shrunk.
fn runs(folders: &[PathBuf]) -> Result<Vec<(Finding, PathBuf)>, NoSoak> {
    for folder in folders {
        check_version(folder)?;
    }
    let mut runs: BTreeMap<_, (Finding, PathBuf)> = BTreeMap::new();
    for folder in folders {
        for (finding, path) in findings(folder)? {
            let run = (
                finding.scenario.clone(),
                finding.fencing.clone(),
                finding.seed,
                finding.commit.clone(),
            );
            let is_better = match runs.get(&run) {
                None => true,
                Some((known, _)) => known.form.is_none() && finding.form.is_some(),
            };
            if is_better {
                runs.insert(run, (finding, path));
            }
        }
    }
    Ok(runs.into_values().collect())
}

/// Writes what several soaks found as one folder, which is complete when it appears.
///
/// # Errors
/// As [`merge`]; when there is such a folder already, or when it cannot be written.
pub fn write_joined(folders: &[PathBuf], out: &Path) -> Result<(), Error> {
    let runs = runs(folders)?;
    if out.exists() {
        let folder = out.to_owned();
        return Err(NoSoak::Taken { folder }.into());
    }
    let mut unfinished = out.to_owned().into_os_string();
    unfinished.push(format!(".{}.unfinished", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let written = fill(&runs, &unfinished).and_then(|()| {
        fs::rename(&unfinished, out).map_err(|source| Error::Unwritable {
            path: out.to_owned(),
            source,
        })
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&unfinished); // The first error is the one that matters.
    }
    written
}

fn fill(runs: &[(Finding, PathBuf)], out: &Path) -> Result<(), Error> {
    folder::open(out)?;
    for (finding, from) in runs {
        let to = folder::found(out).join(finding.folder_name());
        copy(from, &to).map_err(|source| Error::Unwritable { path: to, source })?;
    }
    Ok(())
}

/// Copies the files of a finding.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The kinds as a table.
#[must_use]
pub fn table(kinds: &[Kind]) -> String {
    let mut text = format!(
        "{:>6}  {:<28} {:<7} {:<26} {:<20} folder\n",
        "count", "scenario", "fencing", "what", "seed"
    );
    for kind in kinds {
        let Finding {
            scenario,
            fencing,
            what,
            seed,
            form,
            ..
        } = &kind.example;
        let (count, folder) = (kind.count, kind.folder.display());
        let line = writeln!(
            text,
            "{count:>6}  {scenario:<28} {fencing:<7} {what:<26} {seed:<20} {folder}"
        );
        line.expect("a string takes everything");
        if let Some(form) = form {
            let line = writeln!(text, "        {form}");
            line.expect("a string takes everything");
        }
    }
    text
}

//! What several machines found, as one list: failures of one scenario, guarantee and form are one kind.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Finding, NoSoak, check_version, read};

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
    for folder in folders {
        check_version(folder)?;
    }
    let mut kinds: BTreeMap<_, Kind> = BTreeMap::new();
    for (finding, folder) in folders
        .iter()
        .map(|folder| findings(folder))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
    {
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

/// The findings of a folder, by name.
fn findings(folder: &Path) -> Result<Vec<(Finding, PathBuf)>, NoSoak> {
    let Ok(entries) = fs::read_dir(folder.join("found")) else {
        return Ok(Vec::new()); // Nothing was found.
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_none_or(|end| end != "unfinished"))
        .collect();
    found.sort();
    let finding = |path: PathBuf| {
        let file = path.join("finding.json");
        let text = fs::read_to_string(&file).map_err(|error| NoSoak::Damaged {
            file: file.clone(),
            why: error.to_string(),
        })?;
        Ok((read(&file, &text)?, path))
    };
    found.into_iter().map(finding).collect()
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

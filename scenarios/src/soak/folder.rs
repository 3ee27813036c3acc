//! The folder of a soak: made, gone on with, read; and refused, if another program wrote it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The layout of a folder; it changes with every change of a file in it.
const FORMAT: u32 = 2;
/// How much of a commit names a folder.
const COMMIT_LETTERS: usize = 12;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoSoak {
    /// It is none.
    #[error("{} is no folder of a soak: it has no version.json; name a folder that `cargo sim soak --out` wrote", folder.display())]
    NoVersion {
        /// The folder.
        folder: PathBuf,
    },
    /// Another program wrote it.
    #[error("{} was written by version {found} and this is {known}; use the program that wrote it, or another folder", folder.display())]
    OtherVersion {
        /// The folder.
        folder: PathBuf,
        /// Its version.
        found: String,
        /// Ours.
        known: String,
    },
    /// A file in it is damaged.
    #[error("{}: {why}; remove what is damaged and try again", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// What is joined goes into a folder of its own.
    #[error("{} is there already, and what is joined would mix with it; name a new folder with --out", folder.display())]
    Taken {
        /// The folder.
        folder: PathBuf,
    },
}

/// `version.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Version {
    format: u32,
    program: String,
}

impl Version {
    fn ours() -> Self {
        Self {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    fn name(&self) -> String {
        format!("{} (format {})", self.program, self.format)
    }
}

/// `finding.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The scenario.
    pub scenario: String,
    /// The protocol.
    pub fencing: String,
    /// The seed.
    pub seed: u64,
    /// The commit of the program.
    pub commit: String,
    /// The guarantee, or the kind of failure.
    pub what: String,
    /// Why it broke.
    pub why: String,
    /// What happens in the shrunk scenario, without times; nothing, where it was not shrunk to its end.
    pub form: Option<String>,
}

impl Finding {
    /// The name of its folder: another run never has the same one.
    #[must_use]
    pub fn folder_name(&self) -> String {
        let Self {
            scenario,
            fencing,
            seed,
            commit,
            ..
        } = self;
        let commit: String = commit.chars().take(COMMIT_LETTERS).collect();
        // A finding may come from another machine, and its name must not lead out of the folder.
        format!("{scenario}-{fencing}-{seed}-{commit}").replace(['/', '\\'], "_")
    }
}

/// Where the findings are.
pub(super) fn found(folder: &Path) -> PathBuf {
    folder.join("found")
}

/// Makes the folder of a soak, or goes on with one of this version.
///
/// # Errors
/// When the folder is of another version, or cannot be written.
pub fn open(folder: &Path) -> Result<(), Error> {
    let file = folder.join("version.json");
    if file.exists() {
        return Ok(check_version(folder)?);
    }
    let text = format!("{:#}\n", serde_json::json!(Version::ours()));
    let made = fs::create_dir_all(folder).and_then(|()| fs::write(&file, text));
    made.map_err(|source| Error::Unwritable { path: file, source })
}

/// Refuses a folder that another program wrote.
pub(super) fn check_version(folder: &Path) -> Result<(), NoSoak> {
    let file = folder.join("version.json");
    let Ok(text) = fs::read_to_string(&file) else {
        let folder = folder.to_owned();
        return Err(NoSoak::NoVersion { folder });
    };
    let found: Version = read(&file, &text)?;
    let ours = Version::ours();
    if (found.format, &found.program) != (ours.format, &ours.program) {
        return Err(NoSoak::OtherVersion {
            folder: folder.to_owned(),
            found: found.name(),
            known: ours.name(),
        });
    }
    Ok(())
}

/// The findings of a folder with their folders, by name.
pub(super) fn findings(folder: &Path) -> Result<Vec<(Finding, PathBuf)>, NoSoak> {
    let Ok(entries) = fs::read_dir(found(folder)) else {
        return Ok(Vec::new()); // Nothing was found.
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_none_or(|end| end != "unfinished"))
        .collect();
    paths.sort();
    let finding = |path: PathBuf| {
        let file = path.join("finding.json");
        let text = fs::read_to_string(&file).map_err(|error| NoSoak::Damaged {
            file: file.clone(),
            why: error.to_string(),
        })?;
        Ok((read(&file, &text)?, path))
    };
    paths.into_iter().map(finding).collect()
}

fn read<T: for<'a> Deserialize<'a>>(file: &Path, text: &str) -> Result<T, NoSoak> {
    serde_json::from_str(text).map_err(|error| NoSoak::Damaged {
        file: file.to_owned(),
        why: error.to_string(),
    })
}

/// Writes a folder under another name and renames it when it is complete.
pub(super) fn write(folder: &Path, files: &[(&str, String)]) -> io::Result<()> {
    let mut unfinished = folder.to_owned().into_os_string();
    unfinished.push(format!(".{}.unfinished", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    fs::create_dir_all(&unfinished)?;
    for (name, text) in files {
        fs::write(unfinished.join(name), text)?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&unfinished, folder)
}

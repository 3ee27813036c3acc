//! The folder that a cluster lives in while it runs, and the list of all that has to go with it.
//!
//! `runs/.sites/local-7/` has the data of the nodes, their logs and `site.json`: who owns it, and which processes and mounts belong to
//! it. Who starts a process writes it down there first of all, so that `scenarios down` finds it even where the runner itself was
//! killed. A process is known by its number and its start, so that no stranger with the same number is ever hurt.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::world::trouble::Trouble;

/// A process, for as long as its number is not given to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its number.
    pub pid: i32,
    /// When it started, in the kernel's ticks since the machine did.
    pub start: u64,
}

impl Known {
    /// The process of that number, if it lives.
    #[must_use]
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything; the start is the 20th word after it.
        let (_, rest) = stat.rsplit_once(')')?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let is_dead = words.first().is_none_or(|state| *state == "Z");
        let start = words.get(19)?.parse().ok()?;
        (!is_dead).then_some(Self { pid, start })
    }

    /// This process.
    #[must_use]
    pub fn me() -> Self {
        let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        Self::find(pid).unwrap_or(Self { pid, start: 0 })
    }

    /// Whether it still lives.
    #[must_use]
    pub fn lives(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
    }

    /// Ends it at once.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Tells it something, if it lives.
    pub fn signal(&self, signal: Signal) {
        if self.lives()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may have ended in between.
            let _ = kill_process(pid, signal);
        }
    }
}

/// What a cluster is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A run, which takes it down at its end.
    Run,
    /// Somebody plays with it, until `down`.
    Play,
}

/// What stands in `site.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct List {
    world: String,
    purpose: Purpose,
    /// Who takes it down.
    owner: Known,
    processes: Vec<Known>,
    mounts: Vec<PathBuf>,
    /// The name of its containers and networks, if it has any.
    project: Option<String>,
}

/// A site that is ours. It goes with this.
#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
    number: u8,
    list: Mutex<List>,
}

/// The last number that a site may have.
const NUMBER_MAX: u8 = 250;
const LIST: &str = "site.json";

impl Site {
    /// Takes the first free number; `is_free` says whether the rest of the machine leaves it free.
    ///
    /// # Errors
    /// When none is, or the folder cannot be made.
    pub fn claim(
        sites: &Path,
        world: &str,
        purpose: Purpose,
        is_free: impl Fn(u8) -> Result<(), Trouble>,
    ) -> Result<Self, Trouble> {
        let unusable = |source| Trouble::Unusable {
            path: sites.to_owned(),
            source,
        };
        fs::create_dir_all(sites).map_err(unusable)?;
        let me = Known::me();
        let list = List {
            world: world.to_owned(),
            purpose,
            owner: me.clone(),
            processes: Vec::new(),
            mounts: Vec::new(),
            project: None,
        };
        let mut trouble = None;
        for number in 1..=NUMBER_MAX {
            if let Err(why) = is_free(number) {
                trouble = Some(why);
                continue;
            }
            let folder = sites.join(format!("{world}-{number}"));
            // It has its list from the first moment on: nobody takes it for one that was left.
            let unfinished = sites.join(format!(".new-{}-{world}-{number}", me.pid));
            match fs::create_dir(&unfinished) {
                // Another run of this process is about to take it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(unusable)?,
            }
            let site = Self {
                folder: unfinished.clone(),
                number,
                list: Mutex::new(list.clone()),
            };
            site.change(|_| {})?;
            if fs::rename(&unfinished, &folder).is_ok() {
                return Ok(site.at(folder));
            } // Else somebody has that number, and the unfinished one goes.
        }
        Err(trouble.unwrap_or(Trouble::Leftover {
            what: sites.display().to_string(),
        }))
    }

    fn at(mut self, folder: PathBuf) -> Self {
        self.folder = folder;
        self
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its number, which no other site of this world has.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Writes down a process that belongs to it.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn add_process(&self, pid: u32) -> Result<(), Trouble> {
        let known = i32::try_from(pid).ok().and_then(Known::find);
        self.change(|list| {
            list.processes.retain(Known::lives);
            list.processes.extend(known);
        })
    }

    /// Writes down a mount that belongs to it.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn add_mount(&self, path: &Path) -> Result<(), Trouble> {
        self.change(|list| list.mounts.push(path.to_owned()))
    }

    /// Writes down the name of its containers.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn set_project(&self, project: &str) -> Result<(), Trouble> {
        self.change(|list| list.project = Some(project.to_owned()))
    }

    fn change(&self, change: impl FnOnce(&mut List)) -> Result<(), Trouble> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut list);
        let path = self.folder.join(LIST);
        let unfinished = self.folder.join(".site.json");
        let text = serde_json::to_string_pretty(&*list).expect("a list is JSON");
        let written = fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, &path));
        written.map_err(|source| Trouble::Unusable { path, source })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be removed now, `down` says.
        let _ = remove(&self.folder, &list);
    }
}

/// A site that was found, whoever it belongs to.
#[derive(Debug)]
pub struct Found {
    folder: PathBuf,
    list: Option<List>,
}

impl Found {
    /// All sites in a folder.
    #[must_use]
    pub fn all(sites: &Path) -> Vec<Self> {
        let entries = fs::read_dir(sites).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        folders.sort();
        let found = folders.into_iter().filter(|folder| folder.is_dir());
        found.map(Self::at).collect()
    }

    fn at(folder: PathBuf) -> Self {
        let text = fs::read(folder.join(LIST)).ok();
        let list = text.and_then(|text| serde_json::from_slice(&text).ok());
        Self { folder, list }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The world that it belongs to, as its folder says.
    #[must_use]
    pub fn world(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        name.rsplit_once('-')
            .map_or(name.to_string(), |(world, _)| world.to_owned())
    }

    /// The name of its containers, if it has any.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.list.as_ref()?.project.as_deref()
    }

    /// What it is there for, if that is known.
    #[must_use]
    pub fn purpose(&self) -> Option<Purpose> {
        self.list.as_ref().map(|list| list.purpose)
    }

    /// Whether somebody lives who will take it down.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.list.as_ref().is_some_and(|list| list.owner.lives())
    }

    /// Who takes it down, if that one lives.
    #[must_use]
    pub fn owner(&self) -> Option<&Known> {
        self.list
            .as_ref()
            .map(|list| &list.owner)
            .filter(|owner| owner.lives())
    }

    /// Ends all of its processes and removes all of its files.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(&self) -> Result<(), Trouble> {
        let removed = match &self.list {
            Some(list) => remove(&self.folder, list),
            None => fs::remove_dir_all(&self.folder),
        };
        removed.map_err(|source| Trouble::Unusable {
            path: self.folder.clone(),
            source,
        })
    }
}

fn remove(folder: &Path, list: &List) -> io::Result<()> {
    list.processes.iter().for_each(Known::kill);
    for mount in &list.mounts {
        let path = mount.as_os_str();
        // It may be gone already. A lazy one lets go of what a dying process still holds.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(path)
            .output();
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The site of an earlier run that nobody will take down, if there is one.
#[must_use]
pub fn leftover(sites: &Path, world: &str) -> Option<PathBuf> {
    let mut found = Found::all(sites).into_iter();
    let left = found.find(|site| site.world() == world && !site.is_owned());
    left.map(|site| site.folder)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn free(_: u8) -> Result<(), Trouble> {
        Ok(())
    }

    #[test]
    fn sites_that_live_have_different_numbers_and_go_with_their_owner() {
        let sites = tempfile::tempdir().unwrap();
        let claim = || Site::claim(sites.path(), "local", Purpose::Run, free).unwrap();
        let (first, second) = (claim(), claim());
        assert_eq!((first.number(), second.number()), (1, 2));
        assert_eq!(leftover(sites.path(), "local"), None, "their owner lives");
        drop(first);
        assert_eq!(claim().number(), 1);
        drop(second);
        assert!(Found::all(sites.path()).is_empty());
    }

    /// Two runs of one process once met at one unfinished folder, and the later one gave up.
    #[test]
    fn runs_that_claim_at_the_same_time_all_get_one() {
        let sites = tempfile::tempdir().unwrap();
        let claim = || Site::claim(sites.path(), "local", Purpose::Run, free);
        let claimed: Vec<Site> = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
            let claims = claims.into_iter();
            claims.map(|claim| claim.join().unwrap().unwrap()).collect()
        });
        let numbers: std::collections::BTreeSet<u8> = claimed.iter().map(Site::number).collect();
        assert_eq!(numbers.len(), 8, "{numbers:?}");
    }

    #[test]
    fn what_a_dead_owner_has_left_is_found_and_its_processes_end() {
        let sites = tempfile::tempdir().unwrap();
        let site = Site::claim(sites.path(), "local", Purpose::Run, free).unwrap();
        let mut process = Command::new("sleep");
        let mut process = process.arg("600").stdin(Stdio::null()).spawn().unwrap();
        site.add_process(process.id()).unwrap();
        // A process of that number and start there never was.
        site.change(|list| list.owner.start += 1).unwrap();
        std::mem::forget(site);
        assert!(leftover(sites.path(), "local").is_some());
        assert_eq!(leftover(sites.path(), "docker"), None);
        let found = Found::all(sites.path());
        assert_eq!(found.len(), 1);
        found[0].remove().unwrap();
        assert!(!process.wait().unwrap().success(), "it was killed");
        assert!(Found::all(sites.path()).is_empty());
    }

    #[test]
    fn a_stranger_with_a_number_that_was_ours_is_not_hurt() {
        let me = Known::me();
        assert!(me.lives());
        let other = Known {
            start: me.start + 1,
            ..me
        };
        other.kill(); // Else this test would end here.
        assert!(!other.lives());
    }
}

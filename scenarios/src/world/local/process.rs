//! One process of a cluster, whose words go to a file. It is killed with its handle.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::real::site::Site;
use crate::world::trouble::Trouble;

/// So much of what it said last is looked at.
const WORDS_BYTES_MAX: u64 = 64 * 1024;

/// A process that was started and not killed yet. It may have ended by itself.
#[derive(Debug)]
pub(super) struct Process {
    child: Mutex<Child>,
    log: PathBuf,
    /// What earlier lives have said ends here.
    said_before: u64,
}

impl Process {
    /// Starts a process and writes it down in the site. Its words are added to the log.
    ///
    /// It has a process group of its own, so that Ctrl-C at the runner is none of its business.
    pub(super) fn start(
        what: &str,
        mut command: Command,
        log: &Path,
        site: &Site,
    ) -> Result<Self, Trouble> {
        let unusable = |source| Trouble::Unusable {
            path: log.to_owned(),
            source,
        };
        let mut open = OpenOptions::new();
        let words = open.append(true).create(true).open(log).map_err(unusable)?;
        let said_before = words.metadata().map_err(unusable)?.len();
        let errors = words.try_clone().map_err(unusable)?;
        command.stdin(Stdio::null()).stdout(words).stderr(errors);
        let child = command.process_group(0).spawn();
        let child = child.map_err(|source| Trouble::NotStarted {
            program: format!("{what} ({})", command.get_program().display()),
            source,
        })?;
        let process = Self {
            child: Mutex::new(child),
            log: log.to_owned(),
            said_before,
        };
        site.add_process(process.id())?;
        Ok(process)
    }

    fn id(&self) -> u32 {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.id()
    }

    /// Sends it a signal, if it lives.
    pub(super) fn signal(&self, signal: Signal) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let has_ended = child.try_wait().is_ok_and(|ended| ended.is_some());
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| !has_ended) {
            // Nobody else waits for it, so the number is still its own.
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    fn ended(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().ok().flatten()
    }

    /// Whether it has said that.
    pub(super) fn has_said(&self, words: &str) -> bool {
        self.words().is_ok_and(|said| said.contains(words))
    }

    /// How it ended, and the last that it said.
    pub(super) fn last_words(&self) -> String {
        let said = self.words().unwrap_or_default();
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        let ended = self
            .ended()
            .map(|status| match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "it ended".to_owned(),
            });
        let last = last.unwrap_or("it said nothing").trim();
        match ended {
            Some(how) => format!("{last} ({how})"),
            None => last.to_owned(),
        }
    }

    fn words(&self) -> io::Result<String> {
        let mut file = File::open(&self.log)?;
        let length = file.metadata()?.len();
        let start = self.said_before.max(length.saturating_sub(WORDS_BYTES_MAX));
        file.seek(SeekFrom::Start(start))?;
        let mut said = Vec::new();
        file.read_to_end(&mut said)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

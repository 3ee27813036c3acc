//! A disk that can be filled: a small file system of its own, in memory, and a file that takes all that is left of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::real::site::Site;
use crate::world::trouble::Trouble;

/// How large it is: much more than a run writes.
const DISK_MIB: u32 = 96;
/// The file that takes what is left.
const BALLAST: &str = "ballast";
/// From large to small, so that nothing is left in the end.
const PIECES: [usize; 3] = [1024 * 1024, 4096, 1];

/// The file system of one node.
#[derive(Debug)]
pub(super) struct SmallDisk {
    path: PathBuf,
}

/// Why this machine has no small disks, if so. It is tried.
pub(super) fn missing(sites: &Path) -> Option<String> {
    let tried = fs::create_dir_all(sites).and_then(|()| {
        let folder = sites.join(format!(".trial-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let mounted = mount(&folder);
        if mounted.is_ok() {
            let _ = Command::new("umount").arg(&folder).output();
        }
        fs::remove_dir(&folder)?;
        mounted
    });
    let why = tried.err()?;
    Some(format!(
        "`full` needs a small file system for each node, and none can be mounted here ({why}); run it as root, or in the world sim"
    ))
}

fn mount(folder: &Path) -> io::Result<()> {
    let size = format!("size={DISK_MIB}m");
    let mut command = Command::new("mount");
    command
        .args(["-t", "tmpfs", "-o", &size, "splitbrain"])
        .arg(folder);
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(said.trim().replace('\n', " ")))
        }
    }
}

impl SmallDisk {
    /// Makes one at that path.
    pub(super) fn mount(site: &Site, path: &Path) -> Result<Self, Trouble> {
        let made = fs::create_dir(path).and_then(|()| mount(path));
        made.map_err(|source| Trouble::Unusable {
            path: path.to_owned(),
            source,
        })?;
        site.add_mount(path)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the space that is left.
    pub(super) fn fill(&self) {
        let mut open = OpenOptions::new();
        let ballast = open.append(true).create(true).open(self.path.join(BALLAST));
        let Ok(mut ballast) = ballast else {
            return; // Not even a name finds space.
        };
        for piece in PIECES {
            let piece = vec![0; piece];
            while ballast.write_all(&piece).is_ok() {}
        }
    }

    /// Gives it back.
    pub(super) fn give_space_back(&self) -> Result<(), Trouble> {
        let path = self.path.join(BALLAST);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Trouble::Unusable { path, source })
            }
            _ => Ok(()),
        }
    }
}

//! Power that goes at a chosen moment: after so many changes of files, or in the middle of one.
//!
//! A crash at a random time hardly ever falls between two operations of one checkpoint. A cut that counts operations falls
//! wherever it is told to, so that a range of counts tries every point.

use std::io;

use super::{Counted, SimDisk, State};

/// When the power is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// So many operations from now on are done.
    left: u64,
    /// Which count.
    counted: Counted,
    /// Whether the last of them is a write of which only a part gets there.
    tears: bool,
}

/// What is done to a file or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// So many bytes are written to that file of that name, zeros at the end left out.
    Write(&'a str, usize, usize),
    /// A file gets another length, or is synced.
    File(&'a str),
    /// A file is created or renamed.
    Name(&'a str),
    /// A file or folder is taken away.
    Remove(&'a str),
    /// The names are synced.
    SyncNames,
}

impl Counted {
    fn counts(&self, change: Change<'_>) -> bool {
        match (self, change) {
            (Self::Everything, _) => true,
            (Self::OfFiles(begin), change) => change.name().starts_with(begin.as_str()),
            (Self::OfCheckpoints, Change::Remove(_)) => true,
            (Self::OfCheckpoints, change) => change.name().starts_with(super::part::ENGINE),
        }
    }
}

impl Change<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Write(name, ..) | Self::File(name) | Self::Name(name) | Self::Remove(name) => {
                name
            }
            Self::SyncNames => "",
        }
    }
}

impl SimDisk {
    /// The power goes after so many of those operations from now on, the last of which is still done: nothing reaches the
    /// disk any more, and every later operation of this life fails. Whoever [watches](Self::watch) learns of it, and is
    /// to call [`power_loss`](Self::power_loss). What was asked for before is forgotten.
    ///
    /// # Panics
    /// When it is to go after none.
    pub fn power_off_after(&self, operations: u64, counted: Counted) {
        assert!(operations > 0, "the power goes with an operation");
        self.state().cut = Some(Cut {
            left: operations,
            counted,
            tears: false,
        });
    }

    /// The power goes in the middle of the next write to a file whose name begins like that: the next power loss leaves a
    /// part of it. Of more than one byte, that is, zeros at the end left out: they are written ahead, and mean nothing.
    pub fn power_off_in_write(&self, name_begins: &str) {
        self.state().cut = Some(Cut {
            left: 1,
            counted: Counted::OfFiles(name_begins.to_owned()),
            tears: true,
        });
    }

    /// The power stays on, if it has not gone yet.
    pub fn power_stays(&self) {
        self.state().cut = None;
    }

    /// Whether the power has gone by itself since the last start of the machine.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }
}

impl State {
    /// An operation was done. The power may go with it.
    pub(super) fn after(&mut self, change: Change<'_>) {
        let Some(cut) = &mut self.cut else { return };
        let torn = match change {
            Change::Write(_, inode, bytes) if bytes > 1 => Some(inode),
            _ => None,
        };
        if !cut.counted.counts(change) || (cut.tears && torn.is_none()) {
            return;
        }
        cut.left -= 1;
        if cut.left > 0 {
            return;
        }
        self.torn = torn.filter(|_| cut.tears);
        self.cut = None;
        self.is_off = true;
        self.counters.power_cuts += 1;
        self.tell();
    }

    /// What every operation says while there is no power.
    pub(super) fn powered(&self) -> io::Result<()> {
        if self.is_off {
            let why = format!("{}: the power is off", self.name);
            return Err(io::Error::other(why));
        }
        Ok(())
    }
}

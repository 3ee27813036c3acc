//! A disk as plain data, with everything that a power loss may leave of it, and a file system over it that writes down each operation.
//!
//! What is not synced is kept or lost **sector by sector**, in any combination; the length of a file is kept or lost by itself. What
//! was done to names is kept or lost change by change, in any combination. The last write may be torn at any byte, too.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use async_trait::async_trait;
use kv::fs::memory::names_in;
use kv::fs::{File, FileSystem};

const SECTOR_BYTES: usize = 512;

/// One operation. Files are numbered.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Write(usize, usize, Arc<[u8]>),
    SetLen(usize, usize),
    Sync(usize),
    Create(String, usize),
    Rename(String, String, usize),
    Remove(String),
    SyncNames,
}

/// What the page cache holds, what the disk holds, and what is on its way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    cached: Vec<Vec<u8>>,
    durable: Vec<Vec<u8>>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending: Vec<Operation>,
}

/// The smallest thing that is kept or lost.
#[derive(Clone, Debug)]
enum Unit {
    /// A change of names, or of a length, or the part of a write that is in one sector.
    Part(Operation),
    /// The length that the file had.
    Length(usize, usize),
}

fn write(content: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[position..end].copy_from_slice(bytes);
}

fn change_names(names: &mut BTreeMap<String, usize>, operation: &Operation) {
    match operation {
        Operation::Create(name, file) => {
            names.insert(name.clone(), *file);
        }
        Operation::Rename(from, to, file) => {
            names.remove(from);
            names.insert(to.clone(), *file);
        }
        Operation::Remove(name) => {
            names.remove(name);
        }
        _ => {}
    }
}

fn change_file(files: &mut [Vec<u8>], operation: &Operation) {
    match operation {
        Operation::Write(file, position, bytes) => write(&mut files[*file], *position, bytes),
        Operation::SetLen(file, len) => files[*file].resize(*len, 0),
        _ => {}
    }
}

impl Operation {
    fn is_of_file(&self, wanted: usize) -> bool {
        matches!(self, Self::Write(file, ..) | Self::SetLen(file, _) if *file == wanted)
    }

    fn is_of_names(&self) -> bool {
        matches!(self, Self::Create(..) | Self::Rename(..) | Self::Remove(_))
    }
}

impl Disk {
    pub(crate) fn perform(&mut self, operation: &Operation) {
        let is_settled = |pending: &Operation| match operation {
            Operation::Sync(file) => pending.is_of_file(*file),
            Operation::SyncNames => pending.is_of_names(),
            _ => false,
        };
        let (settled, left): (Vec<_>, _) = self.pending.drain(..).partition(is_settled);
        self.pending = left;
        for settled in settled {
            change_names(&mut self.durable_names, &settled);
            change_file(&mut self.durable, &settled);
        }
        if let Operation::Create(..) = operation {
            self.cached.push(Vec::new());
            self.durable.push(Vec::new());
        }
        change_names(&mut self.names, operation);
        change_file(&mut self.cached, operation);
        if !matches!(operation, Operation::Sync(_) | Operation::SyncNames) {
            self.pending.push(operation.clone());
        }
    }

    /// A sync of that file failed, and the kernel takes its pages for written.
    pub(crate) fn drop_pages(&mut self, file: usize) {
        self.pending.retain(|pending| !pending.is_of_file(file));
    }

    fn units(&self) -> Vec<Unit> {
        let mut units = Vec::new();
        let mut lengths = BTreeMap::new();
        for pending in &self.pending {
            match pending {
                Operation::Write(file, position, bytes) => {
                    let (mut at, end) = (*position, position + bytes.len());
                    while at < end {
                        let next = (at + 1).next_multiple_of(SECTOR_BYTES).min(end);
                        let part = bytes[at - position..next - position].into();
                        units.push(Unit::Part(Operation::Write(*file, at, part)));
                        at = next;
                    }
                    lengths.insert(*file, self.cached[*file].len());
                }
                other => units.push(Unit::Part(other.clone())),
            }
        }
        let lengths = lengths.into_iter();
        units.extend(lengths.map(|(file, len)| Unit::Length(file, len)));
        units
    }

    /// After a power loss that keeps these units.
    fn keeping<'a>(&self, kept: impl Iterator<Item = &'a Unit>) -> Self {
        let (mut files, mut names) = (self.durable.clone(), self.durable_names.clone());
        for unit in kept {
            match unit {
                Unit::Part(operation) => {
                    change_names(&mut names, operation);
                    change_file(&mut files, operation);
                }
                Unit::Length(file, len) => {
                    let len = (*len).max(files[*file].len());
                    files[*file].resize(len, 0);
                }
            }
        }
        Self {
            cached: files.clone(),
            durable: files,
            names: names.clone(),
            durable_names: names,
            pending: Vec::new(),
        }
    }

    /// Everything that a power loss may leave: all combinations if there are no more than `exhaustive` units, and otherwise those in which
    /// the first units are kept, or all but the first, or all but one, or one alone, and so many others of each length.
    pub(crate) fn after_power_loss(
        &self,
        exhaustive: usize,
        tear_step: usize,
        tell: &mut dyn FnMut(Self),
    ) {
        let units = self.units();
        let mut keep = |is_kept: &dyn Fn(usize) -> bool| {
            let kept = units
                .iter()
                .enumerate()
                .filter(|(index, _)| is_kept(*index));
            tell(self.keeping(kept.map(|(_, unit)| unit)));
        };
        if units.len() <= exhaustive {
            for mask in 0..1_u64 << units.len() {
                keep(&|index| mask >> index & 1 == 1);
            }
        } else {
            for at in 0..=units.len() {
                keep(&|index| index < at);
                keep(&|index| index >= at);
                keep(&|index| index == at);
                keep(&|index| index != at);
            }
            let mut mixed = 1_u64;
            for _ in 0..1 << exhaustive {
                mixed = mixed
                    .wrapping_mul(0x5851_F42D_4C95_7F2D)
                    .wrapping_add(0x1405_7B7E_F767_814F);
                keep(&|index| mixed >> (20 + index % 40) & 1 == 1);
            }
        }
        self.torn(tear_step, tell);
    }

    #[allow(dead_code, reason = "the test of the whole storage uses it")]
    /// After a power loss that keeps of each thing that was not synced what chance wants.
    pub(crate) fn keeping_some(&self, keeps: &mut dyn FnMut() -> bool) -> Self {
        let units = self.units();
        self.keeping(units.iter().filter(|_| keeps()))
    }

    /// Everything before the last write is kept, and a part of it, up to any byte.
    fn torn(&self, step: usize, tell: &mut dyn FnMut(Self)) {
        let Some((Operation::Write(file, position, bytes), before)) = self.pending.split_last()
        else {
            return;
        };
        let before: Vec<_> = before.iter().cloned().map(Unit::Part).collect();
        for end in (1..bytes.len()).step_by(step) {
            let torn = Operation::Write(*file, *position, bytes[..end].into());
            let torn = Unit::Part(torn);
            tell(self.keeping(before.iter().chain([&torn])));
        }
    }

    /// What stands under which name.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (name, file) in &self.names {
            (name, &self.cached[*file]).hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(crate) fn file_mut(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.cached[self.names[name]]
    }

    /// What is in the page cache is on the disk, too.
    pub(crate) fn settle(&mut self) {
        self.durable = self.cached.clone();
        self.durable_names = self.names.clone();
        self.pending.clear();
    }

    /// Whether anything may get lost.
    pub(crate) fn is_dirty(&self) -> bool {
        self.cached != self.durable || self.names != self.durable_names
    }

    /// The last name that begins like that.
    pub(crate) fn last_name(&self, begins: &str) -> String {
        let mut names = self.names.keys().rev();
        let name = names.find(|name| name.starts_with(begins));
        name.expect("there is such a file").clone()
    }

    pub(crate) fn content(&self, name: &str) -> Option<&[u8]> {
        self.names.get(name).map(|file| &self.cached[*file][..])
    }
}

/// Something that the log could leave out. The file system plays it, by leaving it out itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftOut {
    /// The sync of a file.
    Sync,
    /// The sync of the names after a file was begun.
    SyncOfNewNames,
    /// The sync of the names after a file was removed, before the next one is.
    SyncOfRemovals,
    /// What recovery writes again, since it may be in the page cache only.
    Rewrite,
    /// The cut of a torn tail.
    Cut,
}

/// A file system that writes down what is done to it. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Mutex<Recording>>);

struct Recording {
    disk: Disk,
    operations: Vec<Operation>,
    left_out: Option<LeftOut>,
}

impl Recorder {
    pub(crate) fn new(disk: Disk, left_out: Option<LeftOut>) -> Self {
        Self(Arc::new(Mutex::new(Recording {
            disk,
            operations: Vec::new(),
            left_out,
        })))
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().operations.len()
    }

    pub(crate) fn disk(&self) -> Disk {
        self.lock().disk.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().expect("no operation panics")
    }
}

impl Recording {
    fn perform(&mut self, operation: Operation) {
        if !self.is_left_out(&operation) {
            self.disk.perform(&operation);
            self.operations.push(operation);
        }
    }

    fn is_left_out(&self, operation: &Operation) -> bool {
        let is_removal = matches!(self.operations.last(), Some(Operation::Remove(_)));
        match (self.left_out, operation) {
            (Some(LeftOut::Sync), Operation::Sync(_)) => true,
            (Some(LeftOut::SyncOfNewNames), Operation::SyncNames) => !is_removal,
            (Some(LeftOut::SyncOfRemovals), Operation::SyncNames) => is_removal,
            (Some(LeftOut::Rewrite), Operation::Write(file, position, bytes)) => {
                let content = &self.disk.cached[*file];
                content.get(*position..position + bytes.len()) == Some(bytes)
            }
            (Some(LeftOut::Cut), Operation::SetLen(_, len)) => *len > 0,
            _ => false,
        }
    }
}

/// Is not ready the first time, so that a crash, and a look at what was reported, may fall in between.
async fn give_way() {
    let mut is_ready = false;
    poll_fn(|context| {
        if is_ready {
            return Poll::Ready(());
        }
        is_ready = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[async_trait]
impl FileSystem for Recorder {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut recording = self.lock();
        let known = recording.disk.names.get(name).copied();
        let file = known.unwrap_or_else(|| {
            let file = recording.disk.cached.len();
            recording.perform(Operation::Create(name.to_owned(), file));
            file
        });
        Ok(Arc::new(Handle(self.clone(), file)))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        Ok(names_in(folder, self.lock().disk.names.keys()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut recording = self.lock();
        let file = recording.disk.names.get(from).copied();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        recording.perform(Operation::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut recording = self.lock();
        if !recording.disk.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        recording.perform(Operation::Remove(name.to_owned()));
        Ok(())
    }

    async fn sync_names(&self) -> io::Result<()> {
        give_way().await;
        self.sync_names_now()
    }

    fn sync_names_now(&self) -> io::Result<()> {
        self.lock().perform(Operation::SyncNames);
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn describe(&self) -> String {
        "a recorded folder".to_owned()
    }

    fn real_folder(&self, _: &str) -> io::Result<PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct Handle(Recorder, usize);

#[async_trait]
impl File for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().disk.cached[self.1].len() as u64)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let recording = self.0.lock();
        let content = &recording.disk.cached[self.1];
        let from = (position as usize).min(content.len());
        let count = buffer.len().min(content.len() - from);
        buffer[..count].copy_from_slice(&content[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() {
            let write = Operation::Write(self.1, position as usize, bytes.into());
            self.0.lock().perform(write);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0
            .lock()
            .perform(Operation::SetLen(self.1, len as usize));
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        give_way().await;
        self.sync_now()
    }

    fn sync_now(&self) -> io::Result<()> {
        self.0.lock().perform(Operation::Sync(self.1));
        Ok(())
    }
}

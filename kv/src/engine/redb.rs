//! redb: a copy-on-write B-tree in one file, over our own file system, so that it lives on the simulated disk too.
//!
//! **Crashes.** A commit writes its pages where nothing is, and syncs them; then it turns the header to them, and syncs again. With
//! `set_quick_repair` it also records which pages are free, so that opening after a crash takes no walk through the whole tree. A
//! new file gets its name only when redb has set it up: it refuses a file that it had only begun.
//!
//! **Failed syncs and writes.** The engine is poisoned, and nothing reaches the file any more, not even when it is closed. When it
//! is opened again, redb writes the whole header anew before it does anything else, so a header whose sync had failed, and that
//! the page cache takes for clean, gets to the disk.
//!
//! **Damage.** redb verifies its checksums only after an unclean end, and trusts what it reads: a flipped bit yields a wrong value,
//! or a panic. So the blocks under it are checked at each read ([`blocks`]), and should it panic all the same, that ends here as an
//! error.
//!
//! Readers share one snapshot, taken after each commit: a read begins no transaction of its own.

use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use redb::{Database, ReadOnlyTable, ReadableDatabase, StorageBackend, TableDefinition};

use self::blocks::{Blocks, DamagedBlock};
use super::poison::Poison;
use super::{Change, Engine, EngineError, Options, Page, Pair, exists, unfinished};
use crate::fs::{File, FileSystem};

mod blocks;

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("data");

type Snapshot = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The engine.
pub(super) struct RedbEngine {
    name: String,
    file: Arc<dyn File>,
    poison: Poison,
    /// What failed first in the file.
    failure: Arc<OnceLock<String>>,
    /// Taken out, to be closed where a panic ends.
    database: Option<Database>,
    snapshot: RwLock<Option<Snapshot>>,
}

impl RedbEngine {
    pub(super) fn open(
        options: Options,
        file_system: &Arc<dyn FileSystem>,
        name: &str,
    ) -> Result<Self, EngineError> {
        let failed = EngineError::io;
        let is_new =
            !exists(file_system.as_ref(), name).map_err(failed("look for the engine's file"))?;
        let begun = match is_new {
            true => &unfinished(name),
            false => name,
        };
        let file = file_system.open(begun);
        let file = file.map_err(failed("open the engine's file"))?;
        if is_new {
            let emptied = file.set_len(0);
            emptied.map_err(failed("empty an unfinished file of the engine"))?;
        }
        let blocks = attempt(name, || open_blocks(&file, is_new))?;
        let failure = blocks.failure();
        let database = attempt(name, || {
            let mut builder = Database::builder();
            builder.set_cache_size(usize::try_from(options.cache_bytes).unwrap_or(usize::MAX));
            Ok(builder.create_with_backend(blocks)?)
        })?;
        // Before the name: once there is a file of that name, it has the table in it.
        let snapshot = attempt(name, || first_snapshot(&database))?;
        if is_new {
            let renamed = file_system.rename(begun, name);
            renamed.map_err(failed("give the engine's file its name"))?;
        }
        // Also an old one may have taken its name in a process that was killed before the name was durable.
        let synced = file_system.sync_names_now();
        synced.map_err(failed("sync the name of the engine's file"))?;
        Ok(Self {
            name: name.to_owned(),
            file,
            poison: Poison::default(),
            failure,
            database: Some(database),
            snapshot: RwLock::new(Some(snapshot)),
        })
    }

    /// Works with redb, unless it failed before.
    fn attempt<T>(&self, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, EngineError> {
        self.poison
            .guard(|| match (attempt(&self.name, work), self.failure.get()) {
                // redb told somebody else of it, who may not be heard first.
                (Err(error), Some(first)) if is_after_another(&error) => {
                    let first = first.clone();
                    Err(EngineError::Poisoned { first })
                }
                (result, _) => result,
            })
    }

    /// What readers see. Held as long as a reader is at work, so that none of them is the last to let it go.
    fn held(&self) -> RwLockReadGuard<'_, Option<Snapshot>> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets readers see the next snapshot. The last one goes while nobody commits: it lets go of its transaction before its pages,
    /// and a commit in between would take one of them for free.
    fn show(&self, next: Snapshot) {
        let snapshot = self.snapshot.write();
        *snapshot.unwrap_or_else(PoisonError::into_inner) = Some(next);
    }

    fn commit(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        let mut table = transaction.open_table(TABLE)?;
        for Change { key, value } in changes {
            match value {
                Some(value) => drop(table.insert(&key[..], &value[..])?),
                None => drop(table.remove(&key[..])?),
            }
        }
        drop(table);
        transaction.commit()?;
        self.show(database.begin_read()?.open_table(TABLE)?);
        // What readers could still see until now is free only after another commit. Without it the next batch would find no room
        // among what was replaced, and the file would have to hold three of everything.
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        Ok(transaction.commit()?)
    }
}

fn open_blocks(file: &Arc<dyn File>, is_new: bool) -> Result<Blocks, redb::Error> {
    let blocks = Blocks::open(Arc::clone(file))?;
    if !is_new && blocks.len()? == 0 {
        // redb would begin anew, and what was there would be gone without a word.
        return Err(redb::Error::Corrupted(
            "it has lost all that was in it".to_owned(),
        ));
    }
    Ok(blocks)
}

/// Whether redb says only that an earlier call failed.
fn is_after_another(error: &EngineError) -> bool {
    matches!(error, EngineError::Redb { source, .. } if matches!(**source, redb::Error::PreviousIo))
}

/// What is there at first, which takes a table.
fn first_snapshot(database: &Database) -> Result<Snapshot, redb::Error> {
    match database.begin_read()?.open_table(TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        result => return Ok(result?),
    }
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    drop(transaction.open_table(TABLE)?);
    transaction.commit()?;
    Ok(database.begin_read()?.open_table(TABLE)?)
}

/// Works with redb. It may panic on what it does not expect to find in its file: that is an error like others.
fn attempt<T>(name: &str, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, EngineError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| translate(name, error)),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(broken(name, &said.unwrap_or("redb gave up on it")))
        }
    }
}

fn translate(name: &str, error: redb::Error) -> EngineError {
    match error {
        redb::Error::Io(source) => {
            let inner = source.get_ref();
            match inner.and_then(|inner| inner.downcast_ref::<DamagedBlock>()) {
                Some(block) => EngineError::Damaged {
                    file: name.to_owned(),
                    byte: block.byte,
                    why: "a block is not what was written",
                },
                None => match source.kind() {
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                        broken(name, &source)
                    }
                    _ => EngineError::io("use the engine's file")(source),
                },
            }
        }
        redb::Error::Corrupted(found) => broken(name, &found),
        error => EngineError::Redb {
            file: name.to_owned(),
            source: Box::new(error),
        },
    }
}

fn broken(name: &str, found: &dyn Display) -> EngineError {
    EngineError::Broken {
        file: name.to_owned(),
        found: found.to_string(),
    }
}

impl Engine for RedbEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.attempt(|| {
            let held = self.held();
            let snapshot = held.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let value = snapshot.get(key)?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    fn scan(&self, keys: Range<&[u8]>, bytes_max: usize) -> Result<Vec<Pair>, EngineError> {
        self.attempt(|| {
            let mut page = Page::new(bytes_max);
            if keys.start < keys.end {
                let held = self.held();
                let snapshot = held.as_ref().ok_or(redb::Error::DatabaseClosed)?;
                for pair in snapshot.range::<&[u8]>(keys)? {
                    let (key, value) = pair?;
                    if !page.take(key.value(), value.value()) {
                        break;
                    }
                }
            }
            Ok(page.pairs)
        })
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        self.attempt(|| match changes.is_empty() {
            true => Ok(()),
            false => self.commit(&changes),
        })
    }

    fn bytes_on_disk(&self) -> Result<u64, EngineError> {
        self.attempt(|| Ok(self.file.len()?))
    }
}

impl Drop for RedbEngine {
    /// Closes the database: a commit of its own, which may find damage like any other.
    fn drop(&mut self) {
        let database = self.database.take();
        let snapshot = self.snapshot.get_mut();
        *snapshot.unwrap_or_else(PoisonError::into_inner) = None;
        let closed = attempt(&self.name, || {
            drop(database);
            Ok(())
        });
        // What was acknowledged is durable, and the next one to open the file will say what is wrong with it.
        drop(closed);
    }
}

//! Which engine files count.
//!
//! The engine of a store keeps its files under a name of its own, `engine-0000000001`; the file `engine` says which one counts, and of which
//! kind it is. Whatever replaces an engine's content, a snapshot or another kind of engine, is built beside it under the next number and
//! counts once `engine` was replaced. A crash before that leaves the old one, and files that are thrown away.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rows::{self, Position};
use super::{StoreError, snapshot};
use crate::engine::{self, Engine, EngineKind};
use crate::fs::FileSystem;

const POINTER: &str = "engine";
const UNFINISHED: &str = "engine.new";
const PREFIX: &str = "engine-";
const FORMAT: u32 = 1;
/// No pointer is longer.
const POINTER_BYTES_MAX: usize = 4096;

/// One generation of engine files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The kind of engine.
    pub kind: EngineKind,
    /// Its number.
    pub number: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Pointer {
    format: u32,
    #[serde(default)]
    engine: String,
    #[serde(default)]
    generation: u64,
}

impl Generation {
    /// The name under which it keeps its files.
    #[must_use]
    pub fn name(self) -> String {
        format!("{PREFIX}{:010}", self.number)
    }

    /// The generation after it, of the same kind or another.
    #[must_use]
    pub fn next(self, kind: EngineKind) -> Self {
        let number = self.number + 1;
        Self { kind, number }
    }

    /// The engine of this generation, which was begun before.
    pub(super) fn engine(
        self,
        file_system: &Arc<dyn FileSystem>,
        options: engine::Options,
    ) -> Result<Arc<dyn Engine>, StoreError> {
        self.check(file_system.as_ref())?;
        Ok(engine::open(self.kind, options, file_system, &self.name())?)
    }

    /// Refuses a generation that was begun before, and whose engine is not there.
    pub(crate) fn check(self, file_system: &dyn FileSystem) -> Result<(), StoreError> {
        let name = self.name();
        if !engine::is_there(self.kind, file_system, &name)? {
            let [file, _] = engine::files(self.kind, &name);
            let folder = file_system.describe();
            return Err(StoreError::Missing { folder, file });
        }
        Ok(())
    }

    /// An empty engine of this generation; what was under its name is thrown away.
    pub(super) fn begin(
        self,
        file_system: &Arc<dyn FileSystem>,
        options: engine::Options,
    ) -> Result<Arc<dyn Engine>, StoreError> {
        discard(file_system, self)?;
        Ok(engine::open(self.kind, options, file_system, &self.name())?)
    }
}

/// The generation that counts, if there is one.
///
/// # Errors
/// When the folder cannot be read, or the file makes no sense.
pub fn current(file_system: &dyn FileSystem) -> Result<Option<Generation>, StoreError> {
    let names = file_system
        .list("")
        .map_err(StoreError::io("list the folder"))?;
    if !names.iter().any(|name| name == POINTER) {
        return Ok(None);
    }
    let mut bytes = vec![0; POINTER_BYTES_MAX];
    let read = file_system
        .open(POINTER)
        .and_then(|file| file.read_at(0, &mut bytes));
    bytes.truncate(read.map_err(StoreError::io("read which engine counts"))?);
    let unreadable = |why| StoreError::Pointer {
        folder: file_system.describe(),
        file: POINTER,
        why,
    };
    let pointer: Pointer = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if pointer.format > FORMAT {
        return Err(StoreError::Newer {
            folder: file_system.describe(),
            format: pointer.format,
        });
    }
    let kind = pointer.engine.parse().map_err(|unknown| {
        unreadable(serde::de::Error::custom::<crate::engine::UnknownEngine>(
            unknown,
        ))
    })?;
    Ok(Some(Generation {
        kind,
        number: pointer.generation,
    }))
}

/// How far the engine of a generation has got, and how many bytes it takes on disk. Nobody may have it open.
///
/// # Errors
/// When the engine cannot be opened.
pub fn inspect(
    file_system: &Arc<dyn FileSystem>,
    generation: Generation,
    options: engine::Options,
) -> Result<(Position, u64), StoreError> {
    let engine = generation.engine(file_system, options)?;
    Ok((rows::position(engine.as_ref())?, engine.bytes_on_disk()?))
}

/// Opens the generation that counts, or begins the first one; throws away what an unfinished change has left. Without `is_kept`
/// nothing of what is there counts. A generation counts only once its engine is there.
pub(super) async fn open_or_begin(
    file_system: &Arc<dyn FileSystem>,
    kind: EngineKind,
    options: engine::Options,
    is_kept: bool,
) -> Result<(Generation, Arc<dyn Engine>), StoreError> {
    let found = current(file_system.as_ref())?;
    let generation = match found {
        Some(held) if held.kind != kind => {
            return Err(StoreError::OtherEngine {
                folder: file_system.describe(),
                held: held.kind,
                wanted: kind,
            });
        }
        Some(held) if is_kept => held,
        Some(held) => held.next(kind),
        None => Generation { kind, number: 1 },
    };
    let engine = match found == Some(generation) {
        true => generation.engine(file_system, options)?,
        false => {
            let engine = generation.begin(file_system, options)?;
            let synced = file_system.sync_names().await;
            synced.map_err(StoreError::io("sync the new engine's names"))?;
            make_current(file_system, generation).await?;
            engine
        }
    };
    discard_others(file_system, [generation])?;
    Ok((generation, engine))
}

/// A generation whose number nothing has had: for a folder that does not say which one counts.
///
/// # Errors
/// When the folder fails.
pub fn fresh(file_system: &dyn FileSystem, kind: EngineKind) -> Result<Generation, StoreError> {
    let names = engine_files(file_system)?;
    let numbers = names.iter().filter_map(|name| {
        let digits = name.strip_prefix(PREFIX)?.split('.').next()?;
        digits.parse::<u64>().ok()
    });
    let number = numbers.max().unwrap_or(0) + 1;
    Ok(Generation { kind, number })
}

/// From now on this generation counts. Its files are durable.
///
/// # Errors
/// When the folder fails.
pub async fn make_current(
    file_system: &Arc<dyn FileSystem>,
    generation: Generation,
) -> Result<(), StoreError> {
    let failed = StoreError::io("write which engine counts");
    write_pointer(file_system, generation).await.map_err(failed)
}

async fn write_pointer(
    file_system: &Arc<dyn FileSystem>,
    generation: Generation,
) -> std::io::Result<()> {
    let pointer = Pointer {
        format: FORMAT,
        engine: generation.kind.name().to_owned(),
        generation: generation.number,
    };
    let mut line = serde_json::to_vec(&pointer)?;
    line.push(b'\n');
    let file = file_system.open(UNFINISHED)?;
    file.set_len(0)?;
    file.write_at(0, &line)?;
    file.sync().await?;
    file_system.rename(UNFINISHED, POINTER)?;
    file_system.sync_names().await
}

/// The files and folders of all generations.
///
/// # Errors
/// When the folder fails.
pub fn engine_files(file_system: &dyn FileSystem) -> Result<Vec<String>, StoreError> {
    let mut names = file_system
        .list("")
        .map_err(StoreError::io("list the folder"))?;
    names.retain(|name| name.starts_with(PREFIX));
    Ok(names)
}

/// Throws the files of a generation away, if there are any.
///
/// # Errors
/// When the folder fails.
pub fn discard(
    file_system: &Arc<dyn FileSystem>,
    generation: Generation,
) -> Result<(), StoreError> {
    discard_named(file_system, |name| name.starts_with(&generation.name()))
}

/// Throws the files of all other generations away.
fn discard_others(
    file_system: &Arc<dyn FileSystem>,
    kept: impl IntoIterator<Item = Generation>,
) -> Result<(), StoreError> {
    let kept: Vec<String> = kept.into_iter().map(Generation::name).collect();
    discard_named(file_system, |name| {
        !kept.iter().any(|kept| name.starts_with(kept))
    })
}

fn discard_named(
    file_system: &Arc<dyn FileSystem>,
    is_meant: impl Fn(&str) -> bool,
) -> Result<(), StoreError> {
    let names = engine_files(file_system.as_ref())?;
    for name in names.iter().filter(|name| is_meant(name)) {
        let removed = file_system.remove(name);
        removed.map_err(StoreError::io("remove old engine files"))?;
    }
    Ok(())
}

/// What a migration has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// What the folder held.
    pub from: Generation,
    /// What it holds now.
    pub to: Generation,
    /// How many pairs were copied.
    pub pairs: u64,
}

/// Changes the engine of a folder that no node uses. A crash leaves it with the old engine or with the new one, complete either way.
///
/// # Errors
/// When there is no store, or one of the engines fails.
pub async fn migrate(
    file_system: &Arc<dyn FileSystem>,
    kind: EngineKind,
    options: engine::Options,
) -> Result<Option<Migration>, StoreError> {
    let Some(from) = current(file_system.as_ref())? else {
        return Ok(None);
    };
    discard_others(file_system, [from])?;
    let old = from.engine(file_system, options)?;
    let to = from.next(kind);
    let new = to.begin(file_system, options)?;
    let pairs = snapshot::copy(old.as_ref(), new.as_ref())?;
    drop((old, new));
    make_current(file_system, to).await?;
    discard_others(file_system, [to])?;
    Ok(Some(Migration { from, to, pairs }))
}

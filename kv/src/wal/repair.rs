//! Starting a damaged log over: what is left of it is kept aside, and it goes on from what the engine holds.

use kv_core::Log as Shape;

use super::WalError;
use super::index::Place;
use super::segment::{self, FOLDER, Kind, name_of};
use super::standing::Standing;
use crate::fs::FileSystem;

const COPY_BYTES: usize = 1024 * 1024;

/// Restarts the log of a folder at these names, which the engine holds durably, and marks it as suspect: what it had promised and
/// synced beyond that is lost. Before that, all its files are copied into the folder `aside`; returns their names there. Until the log is
/// restarted, it is as damaged as it was, so that a crash changes nothing.
///
/// # Errors
/// When the folder fails.
pub async fn start_over(
    file_system: &dyn FileSystem,
    names: &Shape,
    aside: &str,
) -> Result<Vec<String>, WalError> {
    let files = file_system.list(FOLDER).map_err(WalError::io("find"))?;
    let mut copies = Vec::with_capacity(files.len());
    for file in &files {
        let (from, to) = (format!("{FOLDER}/{file}"), format!("{aside}/{file}"));
        copy(file_system, &from, &to)
            .await
            .map_err(WalError::io("keep a copy of"))?;
        copies.push(to);
    }
    let last = files
        .iter()
        .filter_map(|file| segment::sequence_of(file))
        .max();
    let sequence = last.unwrap_or(0) + 1;
    let standing = Standing {
        names: names.clone(),
        suspect: Some(Place {
            sequence,
            position: 0,
        }),
        ..Standing::default()
    };
    let begun = segment::begin(file_system, sequence, Kind::Restart, &standing).await;
    begun.map_err(WalError::io("restart"))?;
    let old: Vec<String> = files
        .iter()
        .map(|file| format!("{FOLDER}/{file}"))
        .collect();
    let old: Vec<String> = old
        .into_iter()
        .filter(|name| *name != name_of(sequence))
        .collect();
    let removed = segment::remove(file_system, &old).await;
    removed.map_err(WalError::io("remove the damaged files of"))?;
    Ok(copies)
}

async fn copy(file_system: &dyn FileSystem, from: &str, to: &str) -> std::io::Result<()> {
    let (source, target) = (file_system.open(from)?, file_system.open(to)?);
    target.set_len(0)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut position = 0;
    loop {
        let count = source.read_at(position, &mut buffer)?;
        if count == 0 {
            break;
        }
        target.write_at(position, &buffer[..count])?;
        position += count as u64;
    }
    target.sync().await?;
    file_system.sync_names().await
}

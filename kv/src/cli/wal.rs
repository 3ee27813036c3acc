//! `kv wal`: looking at a write-ahead log without changing it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kv::fs::os::OsFileSystem;
use kv::wal::WalError;
use kv::wal::inspection::{Inspection, Part, inspect};
use kv::wal::record::Record;
use serde_json::{Value, json};

use super::{CliError, Exit, say, show};

/// Look at a write-ahead log without changing it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv wal dump ./data
  kv wal verify ./data --json

Exit codes: 0 it is whole; 1 it is damaged, or there is none.")]
pub(super) struct Wal {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every record, with its file and byte
    Dump(Folder),
    /// Read every record, and say whether a node can start on the log
    Verify(Folder),
}

#[derive(Debug, Args)]
struct Folder {
    /// The data folder of a node, or the folder that `kv serve --data` was given.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Print JSON: a line for each record, and one for the whole.
    #[arg(long)]
    json: bool,
}

impl Wal {
    pub(super) fn run(self) -> Result<Exit, CliError> {
        let (Command::Dump(folder) | Command::Verify(folder)) = &self.command;
        let is_dump = matches!(self.command, Command::Dump(_));
        let files = open(&folder.folder)?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut records = 0_u64;
        let found = inspect(&files, &mut |file, byte, part| {
            records += u64::from(matches!(part, Part::Record(_)));
            if is_dump {
                let line = match folder.json {
                    true => as_json(file, byte, &part).to_string(),
                    false => format!("{file} {byte:>10}  {}", in_words(&part)),
                };
                // A reader that has gone away (`| head`) is no error.
                let _ = writeln!(out, "{line}");
            }
        });
        let _ = out.flush();
        drop(out);
        let found = found?;
        say(&match folder.json {
            true => summary_as_json(&found, records).to_string(),
            false => summary(&found, records),
        });
        match found.damaged {
            None => Ok(Exit::Done),
            Some(_) => Ok(Exit::Failed),
        }
    }
}

/// Opens a folder that is there; makes none.
fn open(folder: &Path) -> Result<OsFileSystem, CliError> {
    let below = folder.join("node");
    let folder = if below.is_dir() { &below } else { folder };
    match folder.is_dir() {
        true => OsFileSystem::open(folder).map_err(CliError::Data),
        false => Err(CliError::Wal(WalError::NoLog {
            folder: folder.display().to_string(),
        })),
    }
}

fn in_words(part: &Part<'_>) -> String {
    let record = match part {
        Part::Record(record) => record,
        Part::Start {
            is_restart,
            end,
            promised,
            suspect,
        } => {
            let start = match is_restart {
                true => "restarted: the log is the names",
                false => "the log before goes",
            };
            let suspect = suspect
                .as_ref()
                .map(|place| format!(", {}", suspicion(place)));
            return format!(
                "{start} up to {end}, {promised} promised{}",
                suspect.unwrap_or_default()
            );
        }
    };
    match record {
        Record::EpochStart(version) => format!("{version}  epoch start"),
        Record::Set {
            version,
            key,
            value,
        } => format!("{version}  set {} = {}", show::text(key), show::text(value)),
        Record::Delete { version, key } => format!("{version}  delete {}", show::text(key)),
        Record::Truncate(end) => format!("truncate after {end}"),
        Record::Promise(epoch) => format!("promise {epoch}"),
        Record::SyncMark(byte) => format!("synced up to byte {byte}"),
        Record::Whole => "no longer suspect".to_owned(),
    }
}

fn suspicion((file, byte): &(String, u64)) -> String {
    format!("suspect since the damage at byte {byte} of {file}")
}

fn as_json(file: &str, byte: u64, part: &Part<'_>) -> Value {
    let mut line = json!({ "file": file, "byte": byte });
    let record = match part {
        Part::Record(record) => record,
        Part::Start {
            is_restart,
            end,
            promised,
            suspect,
        } => {
            line["record"] = json!(if *is_restart { "restart" } else { "start" });
            line["end"] = show::version(*end);
            line["promised"] = json!(promised.0);
            line["suspect"] = place_as_json(suspect.as_ref());
            return line;
        }
    };
    let name = match record {
        Record::EpochStart(_) => "epoch_start",
        Record::Set { key, value, .. } => {
            line["key"] = json!(show::text(key));
            line["value"] = json!(show::text(value));
            "set"
        }
        Record::Delete { key, .. } => {
            line["key"] = json!(show::text(key));
            "delete"
        }
        Record::Truncate(end) => {
            line["after"] = show::version(*end);
            "truncate"
        }
        Record::Promise(epoch) => {
            line["epoch"] = json!(epoch.0);
            "promise"
        }
        Record::SyncMark(synced) => {
            line["synced"] = json!(synced);
            "sync_mark"
        }
        Record::Whole => "whole",
    };
    line["record"] = json!(name);
    if let Some(version) = record.entry_version() {
        line["version"] = show::version(version);
    }
    line
}

fn place_as_json(place: Option<&(String, u64)>) -> Value {
    json!(place.map(|(file, byte)| json!({ "file": file, "byte": byte })))
}

fn summary(found: &Inspection, records: u64) -> String {
    let bytes: u64 = found.files.iter().map(|(_, bytes)| bytes).sum();
    let count = found.files.len();
    let files = if count == 1 { "file" } else { "files" };
    let (first, end, promised) = (found.first.0, found.end, found.promised);
    let outcome = match found.damaged {
        None => "is whole",
        Some(_) => "has a damaged tail",
    };
    let mut line = format!(
        "the log {outcome}: {records} records in {count} {files} of {bytes} bytes, up to {end}, {promised} promised"
    );
    if first > 1 {
        line += &format!("; the entries before {first} are in the engine only");
    }
    if let Some((file, byte)) = &found.torn {
        line += &format!(
            "; a torn tail that was never synced begins at byte {byte} of {file}, and the next start cuts it off"
        );
    }
    if let Some((file, byte)) = &found.damaged {
        line += &format!(
            "; what is damaged from byte {byte} of {file} on may have been synced: the next start keeps it in `damaged/`, and \
             the node is suspect until it has caught up"
        );
    }
    if let Some(place) = &found.suspect {
        line += &format!("; {}", suspicion(place));
    }
    line
}

fn summary_as_json(found: &Inspection, records: u64) -> Value {
    let files = found.files.iter();
    let files = files.map(|(file, bytes)| json!({ "file": file, "bytes": bytes }));
    json!({
        "outcome": if found.damaged.is_none() { "whole" } else { "damaged" },
        "records": records,
        "files": files.collect::<Vec<_>>(),
        "first": found.first.0,
        "end": show::version(found.end),
        "promised": found.promised.0,
        "torn": place_as_json(found.torn.as_ref()),
        "damaged": place_as_json(found.damaged.as_ref()),
        "suspect": place_as_json(found.suspect.as_ref()),
    })
}

//! The file that gets every event of a node, one JSON object a line, for a checker.
//!
//! Each event is handed to the operating system before the node goes on, so that a process that is killed loses none of what it
//! has done. Where the file can no longer be written the node goes on without it, and a checker says that it does not know.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kv::events::clock::monotonic;
use kv::events::json::{Position, object};
use kv::events::{Event, Events};
use kv_core::NodeId;
use serde_json::Value;
use tracing::error;

/// As much as is read from the end of the file to find its last line: no event has more.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Where one life of a node writes its events.
#[derive(Debug)]
pub(super) struct EventFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Nothing once a line could not be written.
    file: Option<File>,
    next: Position,
}

impl EventFile {
    /// Opens a file, or makes it, for the next life of a node: what earlier ones have written stays.
    ///
    /// # Errors
    /// When it cannot be read and written.
    pub(super) fn open(path: &Path, node: NodeId) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LINE_BYTES_MAX)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        if tail.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n")?; // The machine stopped in the middle of a line.
        }
        let lines = tail.rsplit(|byte| *byte == b'\n');
        let mut lives = lines.filter_map(|line| {
            let event: Value = serde_json::from_slice(line).ok()?;
            event.get("incarnation")?.as_u64()
        });
        let next = Position {
            time: 0,
            node,
            incarnation: lives.next().unwrap_or(0) + 1,
            sequence: 0,
        };
        let state = State {
            file: Some(file),
            next,
        };
        Ok(Self {
            path: path.to_owned(),
            state: Mutex::new(state),
        })
    }
}

impl Events for EventFile {
    fn record(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { file, next } = &mut *state;
        next.time = monotonic().max(next.time + 1);
        let mut line = Value::Object(object(*next, &event)).to_string();
        line.push('\n');
        next.sequence += 1;
        if let Some(open) = file
            && let Err(why) = open.write_all(line.as_bytes())
        {
            let path = self.path.display();
            error!(%path, %why, "no more events are written: the file cannot be");
            *file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_default())
            .collect()
    }

    #[test]
    fn every_life_goes_on_behind_the_one_before_and_counts_from_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        for _ in 0..2 {
            let events = EventFile::open(&path, NodeId(3)).unwrap();
            events.record(Event::Stopped("one".to_owned()));
            events.record(Event::Stopped("two".to_owned()));
        }
        let place = |event: &Value| {
            let number = |name: &str| event[name].as_u64().unwrap();
            (number("incarnation"), number("sequence"))
        };
        let lines = written(&path);
        let places: Vec<_> = lines.iter().map(place).collect();
        assert_eq!(places, [(1, 0), (1, 1), (2, 0), (2, 1)]);
        let times: Vec<_> = lines.iter().map(|line| line["index"].as_u64()).collect();
        assert!(times.is_sorted(), "{times:?}");
    }

    #[test]
    fn half_a_line_does_not_spoil_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        EventFile::open(&path, NodeId(3))
            .unwrap()
            .record(Event::Stopped("one".to_owned()));
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"index\":7")
            .unwrap();
        EventFile::open(&path, NodeId(3))
            .unwrap()
            .record(Event::Stopped("two".to_owned()));
        let lines = written(&path);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[2]["incarnation"], 2);
    }
}

//! The nodes' own files of events, read as they grow.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use checker::NodeEvent;

/// The file of one node, as far as it was read.
#[derive(Debug)]
pub struct EventTail {
    path: PathBuf,
    read: u64,
    /// A line that has begun.
    rest: Vec<u8>,
}

impl EventTail {
    /// The file at that path, which need not be there yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: 0,
            rest: Vec::new(),
        }
    }

    /// What was written since the last call. A line that is no event (a machine that stopped in the middle of it) tells nothing.
    pub fn new_events(&mut self) -> Vec<NodeEvent> {
        let grown = self.read_on();
        if grown.is_none() {
            return Vec::new(); // It is not there yet.
        }
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        let lines = lines.split(|byte| *byte == b'\n');
        lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }

    fn read_on(&mut self) -> Option<()> {
        let mut file = File::open(&self.path).ok()?;
        file.seek(SeekFrom::Start(self.read)).ok()?;
        let count = file.read_to_end(&mut self.rest).ok()?;
        self.read += count as u64;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn events_are_read_once_and_only_when_their_line_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut tail = EventTail::new(path.clone());
        assert!(tail.new_events().is_empty(), "no file yet");
        let mut file = File::create(&path).unwrap();
        let event = |index: u64| format!("{{\"index\":{index},\"node\":1,\"event\":\"started\"}}");
        let half = event(3);
        write!(file, "{}\n{}\n{}", event(1), event(2), &half[..9]).unwrap();
        let indices = |events: Vec<NodeEvent>| -> Vec<u64> {
            events.iter().map(|event| event.index).collect()
        };
        assert_eq!(indices(tail.new_events()), [1, 2]);
        writeln!(file, "{}", &half[9..]).unwrap();
        assert_eq!(indices(tail.new_events()), [3]);
        assert!(tail.new_events().is_empty());
    }
}

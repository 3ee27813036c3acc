//! A history: the events of many clients, paired into operations, with keys and values interned.
//!
//! The order of the lines is real time: `a < b`, a precedes b, means that the line of a's completion comes before the
//! line of b's invocation. A process has at most one open operation, and a process that ended in `info` never comes
//! back, since its operation stays open for ever; the client goes on as a new process in the same session.

mod builder;
mod event;
pub(crate) mod parse;

use std::fmt;

use serde_json::Value;

use self::builder::Builder;
pub use self::event::{Event, EventKind, Function, Level, Version};
use crate::{error::Error, verdict::Witness};

/// A place in the order of lines, counted from 0. [`NEVER`] stands for an operation that stays open.
pub type Position = u32;

/// The completion of an operation that stays open for ever.
pub const NEVER: Position = Position::MAX;

/// A key, as the index of its name in [`History::keys`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeyId(pub u32);

/// A value, interned: equal values are equal ids.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ValueId(pub u32);

impl ValueId {
    /// No value: what a read of a missing key returns, and what a delete leaves behind.
    pub const ABSENT: Self = Self(0);
}

/// The client that an operation belongs to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Session {
    /// A session that the history names.
    Named(u64),
    /// A process that names none, and is its own session.
    Process(u64),
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(session) => write!(f, "session {session}"),
            Self::Process(process) => write!(f, "process {process}"),
        }
    }
}

/// What the client knows of an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Acknowledged.
    Ok,
    /// It never happened and never will.
    Fail,
    /// Unknown, or never answered.
    Info,
}

/// An invocation and its completion, as one.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The process that ran it.
    pub process: u64,
    /// The client that it belongs to.
    pub session: Session,
    /// Read, write or delete.
    pub function: Function,
    /// The key that it is about.
    pub key: KeyId,
    /// What it wrote (a delete writes [`ValueId::ABSENT`]), or what an `ok` read returned.
    pub value: ValueId,
    /// Where it was invoked.
    pub invoked: Position,
    /// Where it was answered `ok` or `fail`; [`NEVER`] otherwise.
    pub completed: Position,
    /// How it ended.
    pub outcome: Outcome,
    /// The node that answered.
    pub node: Option<u64>,
    /// The shard that answered.
    pub shard: Option<u32>,
    /// The level of a read.
    pub level: Option<Level>,
    /// The entry that wrote the value seen, or that this write became.
    pub version: Option<Version>,
    /// Whether the invocation carried a session token.
    pub token_sent: bool,
    completion: Option<Position>,
}

impl Operation {
    /// Whether it changes the key: a write or a delete.
    pub fn is_write(&self) -> bool {
        self.function != Function::Read
    }

    /// Whether it was acknowledged.
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// `self < other`: it was answered before the other was asked.
    pub fn precedes(&self, other: &Self) -> bool {
        self.completed < other.invoked
    }
}

/// A whole history, ready to be judged.
#[derive(Clone, Debug)]
pub struct History {
    events: Vec<Event>,
    operations: Vec<Operation>,
    keys: Vec<Option<String>>,
    by_key: Vec<Vec<u32>>,
    indexed: bool,
}

impl History {
    /// Pairs events, given in real-time order, into a history. Errors name the event, counted from 1, as the line.
    pub fn from_events(events: Vec<Event>) -> Result<Self, Error> {
        let mut builder = Builder::default();
        for (position, event) in events.into_iter().enumerate() {
            let line = position + 1;
            let in_line = |problem| Error::Line {
                file: "history".to_owned(),
                line,
                problem,
            };
            builder.push(event, line).map_err(in_line)?;
        }
        Ok(builder.finish())
    }

    /// The events, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The operations, in the order of their invocations.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The names of the keys; none for the single register of a history without keys.
    pub fn keys(&self) -> &[Option<String>] {
        &self.keys
    }

    /// The operations on one key, in the order of their invocations.
    pub fn on_key(&self, key: KeyId) -> impl DoubleEndedIterator<Item = &Operation> + Clone {
        self.by_key[key.0 as usize]
            .iter()
            .map(|&index| &self.operations[index as usize])
    }

    /// The operations on one key, each with its index in [`History::operations`].
    pub(crate) fn on_key_indexed(&self, key: KeyId) -> impl Iterator<Item = (u32, &Operation)> {
        self.by_key[key.0 as usize]
            .iter()
            .map(|&index| (index, &self.operations[index as usize]))
    }

    /// Every key.
    pub fn key_ids(&self) -> impl Iterator<Item = KeyId> + use<> {
        (0..self.keys.len() as u32).map(KeyId)
    }

    /// The name of a key, for people.
    pub fn key_name(&self, key: KeyId) -> &str {
        self.keys[key.0 as usize]
            .as_deref()
            .unwrap_or("the register")
    }

    /// Whether every event carries the global index that node events share.
    pub fn is_indexed(&self) -> bool {
        self.indexed
    }

    /// The global index of an operation's invocation.
    pub fn invoked_index(&self, operation: &Operation) -> Option<u64> {
        self.events[operation.invoked as usize].index
    }

    /// The global index of an operation's completion; none when there is no completion.
    pub fn completed_index(&self, operation: &Operation) -> Option<u64> {
        self.events[operation.completion? as usize].index
    }

    /// When an operation was invoked, in nanoseconds.
    pub fn invoked_time(&self, operation: &Operation) -> u64 {
        self.events[operation.invoked as usize].time
    }

    /// When it was completed; none when there is no completion.
    pub fn completed_time(&self, operation: &Operation) -> Option<u64> {
        Some(self.events[operation.completion? as usize].time)
    }

    /// The operation as a witness of a violation.
    pub fn witness(&self, operation: &Operation) -> Witness {
        let clone = |position: Position| Box::new(self.events[position as usize].clone());
        Witness::Operation {
            invoke: clone(operation.invoked),
            completion: operation.completion.map(clone),
        }
    }

    /// What the operation wrote or read, for people.
    pub fn value_text(&self, operation: &Operation) -> String {
        let event = match operation.function {
            Function::Delete => return "nothing (a delete)".to_owned(),
            Function::Write => &self.events[operation.invoked as usize],
            Function::Read => {
                &self.events[operation.completion.unwrap_or(operation.invoked) as usize]
            }
        };
        match &event.value {
            Value::Null => "nothing".to_owned(),
            value => value.to_string(),
        }
    }
}

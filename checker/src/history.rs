//! A history: the events of many clients, paired into operations, with keys and values interned.
//!
//! The order of the lines is real time: `a < b`, a precedes b, means that the line of a's completion comes before the
//! line of b's invocation. A process has at most one open operation, and a process that ended in `info` never comes
//! back, since its operation stays open for ever; the client goes on as a new process in the same session.

mod event;
pub(crate) mod parse;

use std::collections::BTreeMap;

use serde_json::Value;

pub use self::event::{Event, EventKind, Function, Level, Version};
use crate::{
    error::{Error, Problem},
    verdict::Witness,
};

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

#[derive(Clone, Copy, Debug)]
enum ProcessState {
    Idle,
    Open { operation: u32, line: usize },
    Retired { line: usize },
}

/// Numbers are the common case and need no allocation; everything else is interned by its canonical text.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum ValueKey {
    Number(i64),
    Text(String),
}

/// Builds a history event by event, each checked against what came before.
#[derive(Default)]
pub(crate) struct Builder {
    events: Vec<Event>,
    operations: Vec<Operation>,
    keys: Vec<Option<String>>,
    by_key: Vec<Vec<u32>>,
    key_ids: BTreeMap<Option<String>, KeyId>,
    value_ids: BTreeMap<ValueKey, ValueId>,
    processes: BTreeMap<u64, ProcessState>,
    index_max: Option<u64>,
    unindexed: bool,
}

impl Builder {
    pub(crate) fn push(&mut self, event: Event, line: usize) -> Result<(), Problem> {
        match (event.index, self.index_max) {
            (Some(index), Some(previous)) if index <= previous => {
                return Err(Problem::IndexNotIncreasing { index, previous });
            }
            (Some(index), _) => self.index_max = Some(index),
            (None, _) => self.unindexed = true,
        }
        let process = event.process;
        let state = self
            .processes
            .get(&process)
            .copied()
            .unwrap_or(ProcessState::Idle);
        let next = match (event.kind, state) {
            (EventKind::Invoke, ProcessState::Idle) => {
                let operation = self.operations.len() as u32;
                self.invoke(&event);
                ProcessState::Open { operation, line }
            }
            (EventKind::Invoke, ProcessState::Open { line: since, .. }) => {
                return Err(Problem::StillOpen { process, since });
            }
            (EventKind::Invoke, ProcessState::Retired { line: since }) => {
                return Err(Problem::Reused { process, since });
            }
            (
                _,
                ProcessState::Open {
                    operation,
                    line: since,
                },
            ) => {
                self.complete(operation, &event, since)?;
                if event.kind == EventKind::Info {
                    ProcessState::Retired { line }
                } else {
                    ProcessState::Idle
                }
            }
            (_, ProcessState::Idle | ProcessState::Retired { .. }) => {
                return Err(Problem::MissingInvoke { process });
            }
        };
        self.processes.insert(process, next);
        self.events.push(event);
        Ok(())
    }

    pub(crate) fn finish(self) -> History {
        History {
            events: self.events,
            operations: self.operations,
            keys: self.keys,
            by_key: self.by_key,
            indexed: !self.unindexed,
        }
    }

    fn invoke(&mut self, event: &Event) {
        let key = self.key_id(&event.key);
        let value = match event.f {
            Function::Write => self.value_id(&event.value),
            Function::Read | Function::Delete => ValueId::ABSENT,
        };
        self.by_key[key.0 as usize].push(self.operations.len() as u32);
        self.operations.push(Operation {
            process: event.process,
            session: event
                .session
                .map_or(Session::Process(event.process), Session::Named),
            function: event.f,
            key,
            value,
            invoked: self.events.len() as Position,
            completed: NEVER,
            outcome: Outcome::Info,
            node: event.node,
            shard: event.shard,
            level: event.level,
            version: None,
            token_sent: event.token.is_some(),
            completion: None,
        });
    }

    fn complete(&mut self, operation: u32, event: &Event, since: usize) -> Result<(), Problem> {
        let position = self.events.len() as Position;
        let value = self.value_id(&event.value);
        let operation = &mut self.operations[operation as usize];
        let invoke = &self.events[operation.invoked as usize];
        let mismatch = |field| {
            Err(Problem::Mismatch {
                process: event.process,
                field,
                since,
            })
        };
        if event.f != invoke.f {
            return mismatch("f");
        }
        if event.key != invoke.key {
            return mismatch("key");
        }
        if event.f == Function::Write && value != ValueId::ABSENT && value != operation.value {
            return mismatch("value");
        }
        match (event.session, operation.session) {
            (Some(here), Session::Named(there)) if here != there => return mismatch("session"),
            (Some(here), _) => operation.session = Session::Named(here),
            (None, _) => {}
        }
        operation.outcome = match event.kind {
            EventKind::Ok => Outcome::Ok,
            EventKind::Fail => Outcome::Fail,
            EventKind::Info | EventKind::Invoke => Outcome::Info,
        };
        if operation.outcome != Outcome::Info {
            operation.completed = position;
        }
        if event.f == Function::Read {
            operation.value = value;
        }
        operation.completion = Some(position);
        operation.node = event.node.or(operation.node);
        operation.shard = event.shard.or(operation.shard);
        operation.level = event.level.or(operation.level);
        operation.version = event.version;
        Ok(())
    }

    fn key_id(&mut self, key: &Option<String>) -> KeyId {
        if let Some(&id) = self.key_ids.get(key) {
            return id;
        }
        let id = KeyId(self.keys.len() as u32);
        self.keys.push(key.clone());
        self.by_key.push(Vec::new());
        self.key_ids.insert(key.clone(), id);
        id
    }

    fn value_id(&mut self, value: &Value) -> ValueId {
        let key = match value {
            Value::Null => return ValueId::ABSENT,
            value => value
                .as_i64()
                .map_or_else(|| ValueKey::Text(canonical(value)), ValueKey::Number),
        };
        let next = ValueId(self.value_ids.len() as u32 + 1);
        *self.value_ids.entry(key).or_insert(next)
    }
}

/// The text of a value in which the order of an object's fields makes no difference.
fn canonical(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            let fields: BTreeMap<&String, String> = fields
                .iter()
                .map(|(name, value)| (name, canonical(value)))
                .collect();
            format!("{fields:?}")
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(
        process: u64,
        kind: EventKind,
        f: Function,
        key: &str,
        value: impl Into<Value>,
    ) -> Event {
        Event::new(process, kind, f, key, value.into())
    }

    fn problem(events: Vec<Event>) -> Problem {
        match History::from_events(events) {
            Err(Error::Line { problem, .. }) => problem,
            other => panic!("expected a problem, got {other:?}"),
        }
    }

    #[test]
    fn an_invocation_and_its_completion_become_one_operation() {
        let history = History::from_events(vec![
            event(1, EventKind::Invoke, Function::Write, "a", 7),
            event(2, EventKind::Invoke, Function::Read, "a", Value::Null),
            event(1, EventKind::Ok, Function::Write, "a", 7),
            event(2, EventKind::Ok, Function::Read, "a", 7),
        ])
        .unwrap();
        let [write, read] = history.operations() else {
            panic!("two operations")
        };
        assert_eq!(
            (write.invoked, write.completed, read.invoked, read.completed),
            (0, 2, 1, 3)
        );
        assert_eq!(write.value, read.value);
        assert!(!write.precedes(read));
    }

    #[test]
    fn an_unanswered_operation_stays_open() {
        let history =
            History::from_events(vec![event(1, EventKind::Invoke, Function::Write, "a", 7)])
                .unwrap();
        assert_eq!(history.operations()[0].outcome, Outcome::Info);
        assert_eq!(history.operations()[0].completed, NEVER);
    }

    #[test]
    fn equal_values_are_one_value_whatever_the_order_of_their_fields() {
        let mut builder = Builder::default();
        let left = builder.value_id(&serde_json::json!({"a": 1, "b": [2, null]}));
        let right = builder.value_id(&serde_json::json!({"b": [2, null], "a": 1}));
        let text = builder.value_id(&Value::from("1"));
        assert_eq!(left, right);
        assert_ne!(text, builder.value_id(&Value::from(1)));
        assert_eq!(builder.value_id(&Value::Null), ValueId::ABSENT);
    }

    #[test]
    fn a_completion_without_its_invoke_is_refused() {
        let events = vec![event(1, EventKind::Ok, Function::Write, "a", 7)];
        assert_eq!(problem(events), Problem::MissingInvoke { process: 1 });
    }

    #[test]
    fn two_open_operations_of_one_process_are_refused() {
        let invoke = event(1, EventKind::Invoke, Function::Write, "a", 7);
        assert_eq!(
            problem(vec![invoke.clone(), invoke]),
            Problem::StillOpen {
                process: 1,
                since: 1
            }
        );
    }

    #[test]
    fn a_completion_of_another_key_function_value_or_session_is_refused() {
        let mut invoke = event(1, EventKind::Invoke, Function::Write, "a", 7);
        invoke.session = Some(1);
        let mut session = event(1, EventKind::Ok, Function::Write, "a", 7);
        session.session = Some(2);
        for (field, completion) in [
            ("key", event(1, EventKind::Ok, Function::Write, "b", 7)),
            ("f", event(1, EventKind::Ok, Function::Read, "a", 7)),
            ("value", event(1, EventKind::Ok, Function::Write, "a", 8)),
            ("session", session),
        ] {
            let expected = Problem::Mismatch {
                process: 1,
                field,
                since: 1,
            };
            assert_eq!(problem(vec![invoke.clone(), completion]), expected);
        }
    }

    #[test]
    fn a_process_that_ended_in_info_must_not_come_back() {
        let events = vec![
            event(1, EventKind::Invoke, Function::Write, "a", 7),
            event(1, EventKind::Info, Function::Write, "a", 7),
            event(1, EventKind::Invoke, Function::Read, "a", Value::Null),
        ];
        assert_eq!(
            problem(events),
            Problem::Reused {
                process: 1,
                since: 2
            }
        );
    }

    #[test]
    fn an_index_that_does_not_rise_is_refused() {
        let mut first = event(1, EventKind::Invoke, Function::Write, "a", 7);
        first.index = Some(4);
        let mut second = event(1, EventKind::Ok, Function::Write, "a", 7);
        second.index = Some(4);
        assert_eq!(
            problem(vec![first, second]),
            Problem::IndexNotIncreasing {
                index: 4,
                previous: 4
            }
        );
    }
}

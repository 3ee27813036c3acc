//! Pairs events into operations, one by one, each checked against what came before.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Event, EventKind, Function, History, KeyId, NEVER, Operation, Outcome, Position, Session,
    ValueId,
};
use crate::error::{Impossible, Problem};

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
        if event.time < invoke.time {
            return Err(Impossible::NegativeInterval {
                process: event.process,
                invoked: invoke.time,
                completed: event.time,
                since,
            }
            .into());
        }
        if event.version.is_some_and(|version| version.offset == 0) {
            return Err(Impossible::OffsetZero.into());
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
    use crate::error::Error;

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

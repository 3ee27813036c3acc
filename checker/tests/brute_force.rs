//! Linearizability agrees with trying every order, on small random histories of one key.
//!
//! The histories repeat values, delete, leave operations open, and carry versions that are right, wrong or missing.
//! The oracle below shares no idea with the checker: it tries all orders of all subsets of the open writes.

use checker::{
    Event, EventKind, Function, Guarantee, History, Level, Limits, Verdict, check, history::Outcome,
};
use proptest::prelude::*;
use serde_json::Value;

/// What a random operation does, where it begins and ends, and what it claims.
#[derive(Clone, Debug)]
struct Plan {
    function: Function,
    value: i64,
    outcome: Outcome,
    begin: u32,
    length: u32,
    version: Option<u64>,
    is_replica: bool,
}

fn plan(values: i64, deletes: u32, replicas: bool) -> impl Strategy<Value = Plan> {
    let function = prop_oneof![
        5 => Just(Function::Read),
        5 => Just(Function::Write),
        deletes => Just(Function::Delete),
    ];
    let outcome =
        prop_oneof![8 => Just(Outcome::Ok), 2 => Just(Outcome::Info), 1 => Just(Outcome::Fail)];
    let version = prop_oneof![1 => Just(None), 2 => (0..8u64).prop_map(Some)];
    let is_replica = if replicas {
        prop::bool::weighted(0.1).boxed()
    } else {
        Just(false).boxed()
    };
    (
        function,
        0..=values,
        outcome,
        0..40u32,
        1..14u32,
        version,
        is_replica,
    )
        .prop_map(
            |(function, value, outcome, begin, length, version, is_replica)| Plan {
                function,
                value,
                outcome,
                begin,
                length,
                version,
                is_replica,
            },
        )
}

/// Lays the planned operations out as events; each operation is a process of its own.
fn events(plans: &[Plan], versions: bool) -> Vec<Event> {
    let mut moments: Vec<(u32, usize, EventKind)> = Vec::new();
    for (process, plan) in plans.iter().enumerate() {
        moments.push((plan.begin, process, EventKind::Invoke));
        let end = match plan.outcome {
            Outcome::Ok => EventKind::Ok,
            Outcome::Fail => EventKind::Fail,
            Outcome::Info => EventKind::Info,
        };
        moments.push((plan.begin + plan.length, process, end));
    }
    moments.sort_by_key(|&(at, process, kind)| (at, kind != EventKind::Invoke, process));
    let event = |(_, process, kind): (u32, usize, EventKind)| {
        let plan = &plans[process];
        let value = match (plan.function, kind) {
            (Function::Delete, _) | (Function::Read, EventKind::Invoke) => Value::Null,
            // Value 0 is nothing: what a missing key reads as, and a write of it is as good as a delete.
            _ if plan.value == 0 => Value::Null,
            _ => Value::from(plan.value),
        };
        let mut event = Event::new(process as u64, kind, plan.function, "k", value);
        if kind == EventKind::Ok && versions {
            event.version = plan.version.map(|offset| (1, offset + 1).into());
        }
        event.level = plan.is_replica.then_some(Level::Replica);
        event
    };
    moments.into_iter().map(event).collect()
}

/// An operation as the oracle sees it: kind, value, begin, end.
#[derive(Clone, Copy)]
struct Step {
    is_write: bool,
    value: i64,
    begin: usize,
    end: usize,
}

fn oracle(events: &[Event]) -> bool {
    let mut steps: Vec<Step> = Vec::new();
    for (begin, invoke) in events
        .iter()
        .enumerate()
        .filter(|(_, event)| event.kind == EventKind::Invoke)
    {
        let is_end =
            |event: &&(usize, &Event)| event.1.process == invoke.process && event.0 > begin;
        let (end, completion) = events
            .iter()
            .enumerate()
            .find(|event| is_end(&event))
            .expect("every plan has an end");
        let is_write = invoke.f != Function::Read;
        let is_weak = !is_write && invoke.level == Some(Level::Replica);
        let end = match completion.kind {
            EventKind::Fail => continue,
            EventKind::Info if !is_write => continue,
            EventKind::Info => usize::MAX,
            _ if is_weak => continue,
            _ => end,
        };
        steps.push(Step {
            is_write,
            value: completion.value.as_i64().unwrap_or(0),
            begin,
            end,
        });
    }
    explains(&mut steps, 0)
}

fn explains(left: &mut Vec<Step>, register: i64) -> bool {
    if left.iter().all(|step| step.end == usize::MAX) {
        return true;
    }
    for at in 0..left.len() {
        let step = left[at];
        let comes_next = left.iter().all(|other| other.end > step.begin);
        if !comes_next || (!step.is_write && step.value != register) {
            continue;
        }
        left.remove(at);
        let found = explains(left, if step.is_write { step.value } else { register });
        left.insert(at, step);
        if found {
            return true;
        }
    }
    false
}

fn judged(events: Vec<Event>) -> Verdict {
    let history = History::from_events(events).expect("plans make a history");
    check(&history, &[], Guarantee::Linearizable, &Limits::default())
}

fn agree(plans: &[Plan], versions: bool) {
    let events = events(plans, versions);
    let verdict = judged(events.clone());
    let expected = oracle(&events);
    assert_eq!(
        verdict.word(),
        if expected { "holds" } else { "violated" },
        "{verdict}\n{events:#?}"
    );
    if let Verdict::Violated(evidence) = verdict {
        assert!((1..=5).contains(&evidence.events.len()), "{evidence}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_on_few_values_with_deletes(plans in prop::collection::vec(plan(2, 3, true), 1..9), versions: bool) {
        agree(&plans, versions);
    }

    #[test]
    fn agrees_without_deletes(plans in prop::collection::vec(plan(3, 0, false), 1..9), versions: bool) {
        agree(&plans, versions);
    }

    #[test]
    fn agrees_on_almost_unique_values(plans in prop::collection::vec(plan(9, 1, false), 1..9), versions: bool) {
        agree(&plans, versions);
    }

    /// Histories made by a register that really ran, mostly right, with versions in its order.
    #[test]
    fn agrees_on_runs_of_a_real_register(
        plans in prop::collection::vec(plan(4, 2, false), 1..10),
        unique: bool,
        versions: bool,
        spoilt in prop::option::weighted(0.4, (0..10usize, 0..6i64)),
    ) {
        let mut plans = run(plans, unique);
        if let Some((at, value)) = spoilt {
            let at = at % plans.len();
            plans[at].value = value;
        }
        agree(&plans, versions);
    }
}

/// Lets each operation take effect somewhere between its begin and its end, and read what is there then.
fn run(mut plans: Vec<Plan>, unique: bool) -> Vec<Plan> {
    let mut order: Vec<usize> = (0..plans.len()).collect();
    // The spare random number of each plan says where in its time it takes effect.
    order.sort_by_key(|&at| {
        (
            plans[at].begin * 8 + plans[at].length * plans[at].version.unwrap_or(3) as u32 + 1,
            at,
        )
    });
    let (mut register, mut version) = (0, None);
    for (offset, at) in order.into_iter().enumerate() {
        let plan = &mut plans[at];
        if unique && plan.function == Function::Write {
            plan.value = 10 + offset as i64;
        }
        if plan.function == Function::Read {
            (plan.value, plan.version) = (register, version);
        } else if plan.outcome != Outcome::Fail {
            register = if plan.function == Function::Delete {
                0
            } else {
                plan.value
            };
            version = Some(offset as u64);
            plan.version = version;
        }
    }
    plans
}

#[test]
fn the_oracle_itself_tells_right_from_wrong() {
    let write = Plan {
        function: Function::Write,
        value: 1,
        outcome: Outcome::Ok,
        begin: 0,
        length: 1,
        version: None,
        is_replica: false,
    };
    let read = |value| Plan {
        function: Function::Read,
        value,
        begin: 5,
        ..write.clone()
    };
    assert!(oracle(&events(&[write.clone(), read(1)], false)));
    assert!(!oracle(&events(&[write.clone(), read(0)], false)));
    assert!(!oracle(&events(&[write.clone(), read(2)], false)));
}

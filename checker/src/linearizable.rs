//! Linearizability: per key, some order of the operations respects real time and explains every answer.
//!
//! Judged are reads of level lease and quorum (and those without a level), and all writes and deletes. Those that
//! ended `info` or were never answered stay open for ever: they may take effect at any time after their invocation,
//! or never. What failed is left out, and so are reads without an answer. A missing key reads as nothing. A history
//! is linearizable exactly if it is so key by key (Horn and Kroening 2015), so each key is judged alone.
//!
//! The verdict is about values and real time only, and exact: versions are a hint for where to look, never a proof. A
//! key goes through these steps until one decides:
//! 1. *Stale reads* (`stale`): the commonest violation, found without a search.
//! 2. *Zones* (`zones`): values that were written once need no search. Decides every key whose values are unique and
//!    that has no reads of a deleted key, and finds most violations of the others, with the evidence at hand.
//! 3. *Versions* (`witness`): if the answers carry versions, their order is tried as the linearization.
//! 4. *Search* (`search`): Wing and Gong's, bounded by [`Limits`]. Beyond them the verdict is `unknown`.
//!
//! What a search refutes is shrunk to the few operations that are contradictory by themselves (`minimise`).

mod minimise;
mod register;
mod search;
mod stale;
mod story;
mod witness;
mod zones;

use self::register::{Conflict, Decision, Register};
use crate::{
    history::{History, ValueId},
    limits::Limits,
    verdict::Verdict,
};

/// Judges linearizability.
pub fn judge(history: &History, limits: &Limits) -> Verdict {
    let mut verdict = Verdict::Holds;
    for key in history.key_ids() {
        let register = Register::new(history, key);
        let on_key = match decide(&register, limits) {
            (Decision::Linearizable, _) => continue,
            (Decision::Unknown, states) => Verdict::unknown(format!(
                "the search on key {} gave up after {states} states; a shorter history, more keys or versions in the \
                 answers make it easier",
                history.key_name(key)
            )),
            (Decision::Refuted(Conflict::Search), _) => {
                let (core, conflict) = minimise::minimise(register, limits);
                story::tell(history, key, &core, &conflict)
            }
            (Decision::Refuted(conflict), _) => story::tell(history, key, &register, &conflict),
        };
        verdict = verdict.and(on_key);
        if verdict.is_violated() {
            break;
        }
    }
    verdict
}

/// Decides one register by the first step that can, and says how many states were searched for it.
fn decide(register: &Register, limits: &Limits) -> (Decision, usize) {
    if let Some(conflict) = stale::find(register) {
        return (Decision::Refuted(conflict), 0);
    }
    match zones::decide(register) {
        zones::Zones::Linearizable => return (Decision::Linearizable, 0),
        zones::Zones::Refuted(conflict) => return (Decision::Refuted(conflict), 0),
        zones::Zones::Open => {}
    }
    if witness::versions_explain(register) {
        return (Decision::Linearizable, 0);
    }
    search::decide(register, limits)
}

const _: () = assert!(ValueId::ABSENT.0 == 0, "a register begins with value 0");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{register::Action, *};
    use crate::history::NEVER;

    /// A register that really ran: each action takes effect somewhere in its time, and then some reads are spoilt.
    fn ran(plans: &[(u8, u32, u32, u32)], value_count: u32, spoilt: &[(usize, u32)]) -> Register {
        let mut moments: Vec<(u32, usize, u8)> = Vec::new();
        for (index, &(_, begin, before, after)) in plans.iter().enumerate() {
            moments.extend([
                (begin, index, 0),
                (begin + before, index, 1),
                (begin + before + after, index, 2),
            ]);
        }
        moments.sort_by_key(|&(at, index, what)| (at, what, index));
        let blank = |operation| Action {
            is_write: false,
            value: 0,
            invoked: 0,
            completed: 0,
            version: None,
            shard: None,
            operation,
        };
        let mut actions: Vec<Action> = (0..plans.len() as u32).map(blank).collect();
        let (mut value, mut version) = (0, None);
        for (position, (_, index, what)) in moments.into_iter().enumerate() {
            let (kind, ..) = plans[index];
            let action = &mut actions[index];
            match what {
                0 => action.invoked = position as u32,
                1 => {
                    action.is_write = kind > 3;
                    if action.is_write {
                        // Without a bound on the values, each is written once; value 0 is a delete.
                        let unbound = if value_count == 0 {
                            index as u32 + 1
                        } else {
                            index as u32 % value_count
                        };
                        (value, version) = (unbound, Some((1, u64::from(position as u32)).into()));
                    }
                    (action.value, action.version) = (value, version);
                }
                _ if action.is_write && kind == 9 => {
                    (action.completed, action.version) = (NEVER, None)
                }
                _ => action.completed = position as u32,
            }
        }
        for &(at, value) in spoilt {
            let action = &mut actions[at % plans.len()];
            if !action.is_write {
                action.value = value
                    % if value_count == 0 {
                        plans.len() as u32 + 1
                    } else {
                        value_count
                    };
            }
        }
        actions.sort_by_key(|action| action.invoked);
        let value_count = value_count.max(plans.len() as u32 + 1) as usize;
        let mut register = Register {
            actions,
            value_count,
        };
        register.drop_unread_open_writes();
        register
    }

    fn plans() -> impl Strategy<Value = Vec<(u8, u32, u32, u32)>> {
        prop::collection::vec((0..10u8, 0..120u32, 0..12u32, 0..12u32), 1..50)
    }

    fn spoilt() -> impl Strategy<Value = Vec<(usize, u32)>> {
        prop::collection::vec((0..50usize, 0..50u32), 0..3)
    }

    fn searched(register: &Register) -> bool {
        match search::decide(register, &Limits::default()) {
            (Decision::Linearizable, _) => true,
            (Decision::Refuted(_), _) => false,
            (Decision::Unknown, states) => panic!("gave up after {states} states"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn zones_agree_with_the_search_on_unique_values(plans in plans(), spoilt in spoilt()) {
            let register = ran(&plans, 0, &spoilt);
            let expected = searched(&register);
            match zones::decide(&register) {
                zones::Zones::Linearizable => assert!(expected),
                zones::Zones::Refuted(_) => assert!(!expected),
                zones::Zones::Open => panic!("unique values are decided"),
            }
        }

        #[test]
        fn no_shortcut_contradicts_the_search(plans in plans(), spoilt in spoilt(), value_count in 2..20u32) {
            let register = ran(&plans, value_count, &spoilt);
            let expected = searched(&register);
            assert!(spoilt.iter().any(|_| true) || expected, "what ran is linearizable");
            assert!(!(expected && stale::find(&register).is_some()), "a stale read is a violation");
            assert!(!(expected && matches!(zones::decide(&register), zones::Zones::Refuted(_))), "so is a broken zone");
            assert!(expected || !witness::versions_explain(&register), "an order by versions is an order");
            assert!(!spoilt.is_empty() || witness::versions_explain(&register), "the versions explain what ran");
        }

        #[test]
        fn what_is_shrunk_is_refuted_by_itself(plans in plans(), spoilt in spoilt(), value_count in 2..8u32) {
            let register = ran(&plans, value_count, &spoilt);
            if !searched(&register) {
                let (core, _) = minimise::minimise(register.clone(), &Limits::default());
                assert!(core.actions.len() <= register.actions.len());
                assert!(!searched(&core));
            }
        }
    }

    #[test]
    fn a_search_beyond_its_limits_is_unknown() {
        let plans: Vec<_> = (0..24u32)
            .map(|index| (if index % 2 == 0 { 5 } else { 0 }, index % 3, 30, 30))
            .collect();
        let register = ran(&plans, 6, &[(1, 3), (3, 2), (5, 5)]);
        let limits = Limits {
            states_max: 1,
            ..Limits::default()
        };
        assert!(matches!(
            search::decide(&register, &limits),
            (Decision::Unknown, _)
        ));
    }
}

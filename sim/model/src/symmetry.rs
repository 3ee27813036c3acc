//! Members that differ in their names only: of all states that are the same under other names, one is explored.
//!
//! A state is compared as its members stand sorted by what they are, name aside. Where two members look the same although their
//! neighbours tell them apart, the order may be the wrong one: then two states are explored where one would do, never too few.
//!
//! The protocol knows names apart in one place: an elector that finds several equal logs takes the lowest name (R14). Which of them it
//! is would therefore depend on which of the states is explored; so a choice is also made with the names the other way round
//! ([`Event::Mirrored`](crate::action::Event::Mirrored)). With three candidates or more the one in the middle is chosen under neither.

use std::cell::RefCell;

use arrayvec::ArrayVec;
use kv_core::{Names, NodeId, SessionId};
use nohash_hasher::IntMap;

use crate::bounds::REPLICAS_MAX;
use crate::ledger::Ledger;
use crate::network::{Envelope, Network};
use crate::service::{Service, place, renamed_session};
use crate::shared::{Kept, Shared, hash_of};
use crate::state::{Member, State};

/// New places for the members: the member at place `i` goes to place `0[i]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permutation(ArrayVec<usize, REPLICAS_MAX>);

impl Permutation {
    /// The one that turns the order round.
    #[must_use]
    pub fn reversal(length: usize) -> Self {
        Self((0..length).rev().collect())
    }

    /// The new name of a node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> NodeId {
        let place = self.0[place(node)];
        NodeId(u64::try_from(place + 1).expect("there are few members"))
    }

    /// The new name of a session.
    #[must_use]
    pub fn session(&self, session: SessionId) -> SessionId {
        renamed_session(session, |node| self.node(node))
    }

    /// A number of its own, with bits all over.
    fn code(&self) -> u64 {
        let digits = self
            .0
            .iter()
            .fold(1, |code, place| code * 8 + *place as u64);
        digits.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn is_identity(&self) -> bool {
        self.0.iter().enumerate().all(|(from, to)| from == *to)
    }

    /// Does something with the names.
    pub fn with<T>(&self, then: impl FnOnce(&Names<'_>) -> T) -> T {
        then(&Names {
            node: &|node| self.node(node),
            session: &|session| self.session(session),
        })
    }
}

/// The state that stands for all that are the same under other names.
#[must_use]
pub fn representative(state: &State) -> State {
    let mut order: ArrayVec<usize, REPLICAS_MAX> = (0..state.members.len()).collect();
    let looks: ArrayVec<u64, REPLICAS_MAX> = state.members.iter().map(look).collect();
    order.sort_by_key(|place| looks[*place]);
    let mut places = order.clone();
    for (to, from) in order.iter().enumerate() {
        places[*from] = to;
    }
    let permutation = Permutation(places);
    match permutation.is_identity() {
        true => state.clone(),
        false => renamed(state, &permutation, &order),
    }
}

fn renamed(state: &State, names: &Permutation, order: &[usize]) -> State {
    let member = |place: &usize| {
        MEMBERS
            .with_borrow_mut(|known| remember(known, &state.members[*place], names, renamed_member))
    };
    State {
        members: order.iter().map(member).collect(),
        network: NETWORKS
            .with_borrow_mut(|known| remember(known, &state.network, names, renamed_network)),
        service: SERVICES
            .with_borrow_mut(|known| remember(known, &state.service, names, renamed_service)),
        ledger: LEDGERS
            .with_borrow_mut(|known| remember(known, &state.ledger, names, renamed_ledger)),
        left: state.left,
        broken: state.broken,
    }
}

/// What a member is, its name and the names it knows aside.
fn look(member: &Shared<Member>) -> u64 {
    LOOKS.with_borrow_mut(|known| {
        if known.len() > KNOWN_MAX {
            known.clear();
        }
        *known.entry(member.hash_value()).or_insert_with(|| {
            let replica = &member.replica;
            let roles = (
                replica.role_of(),
                replica.writer_of(),
                replica.sealing(),
                replica.promised(),
            );
            let log = (
                &member.log,
                &member.disk,
                member.unsynced.len(),
                member.applied,
                replica.committed(),
            );
            let lives = (
                member.incarnation,
                member.sessions,
                member.lease,
                member.proposal.is_some(),
            );
            let seen = replica
                .observed()
                .map(|seen| (seen.revision, seen.writer_session.is_some()));
            hash_of(&(roles, log, lives, seen))
        })
    })
}

type Known<T> = IntMap<u64, Shared<T>>;

/// So many renamed parts are remembered by each thread; then it begins anew.
const KNOWN_MAX: usize = 200_000;

thread_local! {
    static LOOKS: RefCell<IntMap<u64, u64>> = RefCell::default();
    static MEMBERS: RefCell<Known<Member>> = RefCell::default();
    static NETWORKS: RefCell<Known<Network>> = RefCell::default();
    static SERVICES: RefCell<Known<Service>> = RefCell::default();
    static LEDGERS: RefCell<Known<Ledger>> = RefCell::default();
}

fn remember<T: Kept>(
    known: &mut Known<T>,
    part: &Shared<T>,
    names: &Permutation,
    rename: fn(&T, &Permutation) -> T,
) -> Shared<T> {
    if known.len() > KNOWN_MAX {
        known.clear();
    }
    let key = part.hash_value() ^ names.code();
    *known
        .entry(key)
        .or_insert_with(|| Shared::new(rename(part, names)))
}

fn renamed_member(member: &Member, names: &Permutation) -> Member {
    let mut renamed = member.clone();
    names.with(|names| {
        renamed.replica = Shared::new(member.replica.renamed(names));
        let proposal = member.proposal.as_ref();
        renamed.proposal = proposal.map(|(revision, record)| (*revision, names.record(record)));
    });
    renamed
}

fn renamed_network(network: &Network, names: &Permutation) -> Network {
    let renamed = network.envelopes().iter().map(|envelope| Envelope {
        from: names.node(envelope.from),
        to: names.node(envelope.to),
        message: names.with(|names| names.message(&envelope.message)),
    });
    Network::of(renamed.collect())
}

fn renamed_service(service: &Service, names: &Permutation) -> Service {
    let mut sessions = service.sessions.clone();
    for (place, session) in service.sessions.iter().enumerate() {
        sessions[names.0[place]] = session.map(|session| names.session(session));
    }
    Service {
        revision: service.revision,
        record: Shared::new(names.with(|names| names.record(&service.record))),
        sessions,
        lock: service.lock.map(|node| names.node(node)),
    }
}

fn renamed_ledger(ledger: &Ledger, names: &Permutation) -> Ledger {
    let mut renamed = ledger.clone();
    renamed.invariants = ledger.invariants.renamed(&|node| names.node(node));
    for (node, _, _) in &mut renamed.reads {
        *node = names.node(*node);
    }
    renamed.reads.sort_unstable();
    renamed
}

//! Steps of replicas that were taken before: the same replica meets the same input in very many states.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use kv_core::{Effect, Input, Replica};

use crate::network::{Envelope, Network};
use crate::service::Service;
use crate::shared::{Shared, hash_of};
use crate::symmetry::Permutation;

/// What a step came to.
#[derive(Debug)]
pub(crate) struct Step {
    /// The replica after it; nothing, where an assertion of the core failed.
    pub(crate) replica: Option<Shared<Replica>>,
    /// What it asks for.
    pub(crate) effects: Vec<Effect>,
}

/// So many steps are remembered by each thread; then it begins anew.
const STEPS_MAX: usize = 60_000;

type Known = ahash::HashMap<(u64, u64), Rc<Step>>;

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::new(Known::default());
}

/// Takes a step, or remembers it.
pub(crate) fn step(replica: &Shared<Replica>, input: Input) -> Rc<Step> {
    let key = (replica.hash_value(), hash_of(&input));
    remember(key, || take(replica, input))
}

/// The step of a message that arrives; of a `Prepare`, so many of the entries.
pub(crate) fn deliver(
    replica: &Shared<Replica>,
    envelope: &Shared<Envelope>,
    count: usize,
) -> Rc<Step> {
    let key = (
        replica.hash_value(),
        hash_of(&(envelope.hash_value(), count)),
    );
    remember(key, || {
        let Envelope { from, message, .. } = envelope.prefix(count);
        take(replica, Input::Message { from, message })
    })
}

/// The step of learning what the coordination service says.
pub(crate) fn learn(replica: &Shared<Replica>, service: &Shared<Service>) -> Rc<Step> {
    let key = (
        replica.hash_value(),
        hash_of(&(service.hash_value(), "learn")),
    );
    remember(key, || take(replica, Input::Record(service.observe())))
}

/// The step of a message that arrives at a replica whose shard has the names the other way round.
pub(crate) fn deliver_mirrored(
    replica: &Shared<Replica>,
    envelope: &Shared<Envelope>,
    mirror: &Permutation,
) -> Rc<Step> {
    let key = (
        replica.hash_value(),
        hash_of(&(envelope.hash_value(), mirror)),
    );
    remember(key, || {
        let (from, message) = (
            mirror.node(envelope.from),
            mirror.with(|names| names.message(&envelope.message)),
        );
        let before = Shared::new(mirror.with(|names| replica.renamed(names)));
        let Step {
            replica: after,
            mut effects,
        } = take(&before, Input::Message { from, message });
        for effect in &mut effects {
            match effect {
                Effect::SetRecord { record, .. } => {
                    *record = mirror.with(|names| names.record(record))
                }
                Effect::Send { to, message } => {
                    *to = mirror.node(*to);
                    *message = mirror.with(|names| names.message(message));
                }
                _ => {} // Nothing else of an election has names that matter here.
            }
        }
        let after = after.map(|after| Shared::new(mirror.with(|names| after.renamed(names))));
        Step {
            replica: after,
            effects,
        }
    })
}

fn remember(key: (u64, u64), take: impl FnOnce() -> Step) -> Rc<Step> {
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= STEPS_MAX {
            known.clear();
        }
        Rc::clone(known.entry(key).or_insert_with(|| Rc::new(take())))
    })
}

impl Step {
    /// Whether it changes nothing, given the messages that are on their way already.
    pub(crate) fn is_idle(&self, replica: &Shared<Replica>, network: &Network) -> bool {
        let same = |after: &Shared<Replica>| after.hash_value() == replica.hash_value();
        self.replica.as_ref().is_some_and(same)
            && self.effects.iter().all(|effect| match effect {
                Effect::SetTimer(_) | Effect::CancelTimer(_) => true,
                Effect::Send { to, message } => network.has_sent(replica.id(), *to, message),
                _ => false,
            })
    }

    /// Whether nothing comes of it but what the member notes for itself and what it sends. (A replica that applies what it learns to be
    /// committed only notes it.)
    pub(crate) fn is_quiet(&self) -> bool {
        let Some(replica) = &self.replica else {
            return false;
        };
        self.effects.iter().all(|effect| is_note(effect, replica))
    }
}

/// Whether an effect of a replica reaches nobody but by a message, and only notes what is known.
pub(crate) fn is_note(effect: &Effect, replica: &Replica) -> bool {
    match effect {
        Effect::Ship { .. }
        | Effect::Send { .. }
        | Effect::SetTimer(_)
        | Effect::CancelTimer(_) => true,
        Effect::Apply { .. } => replica.role_of().is_none(),
        _ => false,
    }
}

fn take(before: &Shared<Replica>, input: Input) -> Step {
    let mut replica = Replica::clone(before);
    let mut effects = Vec::new();
    // A planted bug may trip an assertion of the core: that is one way to catch it.
    let done = catch_unwind(AssertUnwindSafe(|| replica.step(input, &mut effects)));
    let replica = done.is_ok().then(|| match replica == **before {
        true => before.clone(),
        false => Shared::new(replica),
    });
    Step { replica, effects }
}

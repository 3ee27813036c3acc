//! Steps of replicas that were taken before: the same replica meets the same input in very many states.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use kv_core::{Effect, Input, NodeId, Notable, Replica, SessionId, Timer};
use nohash_hasher::IntMap;

use crate::network::{Envelope, Network};
use crate::service::Service;
use crate::shared::{Shared, hash_of};
use crate::symmetry::Permutation;

/// What a step came to.
#[derive(Debug)]
pub(crate) struct Step {
    /// The replica after it; nothing, where an assertion of the core failed.
    pub(crate) replica: Option<Shared<Replica>>,
    /// What it asks for. Most timers are left out: they are actions that may happen whenever it matters.
    pub(crate) asked: Box<[Asked]>,
}

/// Something that a replica asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// That a message is sent.
    Send(Shared<Envelope>),
    /// Something else.
    Other(Box<Effect>),
    /// What was asked of the disk so far is durable, and what comes next is what the replica does about that.
    Synced,
}

/// When the disk syncs what a step asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Disk {
    /// By a step of its own.
    Later,
    /// Within the step, where nothing else comes first.
    AtOnce,
}

/// So many steps are remembered by each thread; then it begins anew.
const STEPS_MAX: usize = 400_000;

thread_local! {
    static KNOWN: RefCell<IntMap<u64, Rc<Step>>> = RefCell::default();
}

/// Takes a step, or remembers it.
pub(crate) fn step(replica: &Shared<Replica>, input: Input, disk: Disk) -> Rc<Step> {
    remember(replica, hash_of(&(&input, disk)), || {
        take(replica, input, disk)
    })
}

/// The step of a message that arrives; of a `Prepare`, so many of the entries.
pub(crate) fn deliver(
    replica: &Shared<Replica>,
    envelope: &Shared<Envelope>,
    count: usize,
    disk: Disk,
) -> Rc<Step> {
    let input = hash_of(&(envelope.hash_value(), count, disk));
    remember(replica, input, || {
        let Envelope { from, message, .. } = envelope.prefix(count);
        take(replica, Input::Message { from, message }, disk)
    })
}

/// The step of learning what the coordination service says.
pub(crate) fn learn(replica: &Shared<Replica>, service: &Shared<Service>, disk: Disk) -> Rc<Step> {
    let input = hash_of(&(service.hash_value(), "learn", disk));
    remember(replica, input, || {
        take(replica, Input::Record(service.observe()), disk)
    })
}

/// The step of a message that arrives at a replica whose shard has the names the other way round.
pub(crate) fn deliver_mirrored(
    replica: &Shared<Replica>,
    envelope: &Shared<Envelope>,
    mirror: &Permutation,
) -> Rc<Step> {
    let input = hash_of(&(envelope.hash_value(), mirror));
    remember(replica, input, || {
        let (from, message) = (
            mirror.node(envelope.from),
            mirror.with(|names| names.message(&envelope.message)),
        );
        let before = mirror.with(|names| replica.renamed(names));
        let mut taken = take(&before, Input::Message { from, message }, Disk::Later);
        for effect in taken.effects.iter_mut().flatten() {
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
        let after = taken.after;
        taken.after = after.map(|after| mirror.with(|names| after.renamed(names)));
        taken
    })
}

/// A replica without what makes no difference any more.
pub(crate) fn forgetting(
    replica: &Shared<Replica>,
    sessions: &[SessionId],
    followers: &[NodeId],
) -> Shared<Replica> {
    let step = remember(replica, hash_of(&(sessions, followers)), || {
        let after = replica.forgetting(sessions).having_sent(followers);
        Taken {
            after: Some(after),
            effects: Vec::new(),
        }
    });
    step.replica.unwrap_or(*replica)
}

/// A step as a replica took it.
struct Taken {
    after: Option<Replica>,
    /// What it asked for; nothing, where its disk has synced.
    effects: Vec<Option<Effect>>,
}

fn remember(replica: &Shared<Replica>, input: u64, take: impl FnOnce() -> Taken) -> Rc<Step> {
    let key = hash_of(&(replica.hash_value(), input));
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= STEPS_MAX {
            known.clear();
        }
        let new = || Rc::new(Step::new(replica.id(), take()));
        Rc::clone(known.entry(key).or_insert_with(new))
    })
}

fn take(before: &Replica, input: Input, disk: Disk) -> Taken {
    let mut replica = before.clone();
    let mut effects = Vec::new();
    // A planted bug may trip an assertion of the core: that is one way to catch it.
    let done = catch_unwind(AssertUnwindSafe(|| {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut asked = Vec::new();
            replica.step(input, &mut asked);
            let durable = asked.iter().filter(|effect| is_durable(effect)).count();
            let syncs = disk == Disk::AtOnce && durable > 0 && asked.iter().all(is_local);
            effects.extend(asked.into_iter().map(Some));
            if syncs {
                effects.push(None);
                next = Some(Input::Synced(durable));
            }
        }
    }));
    let after = done.is_ok().then_some(replica);
    Taken { after, effects }
}

/// Whether the disk syncs it, and the replica waits to be told.
fn is_durable(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Append(_) | Effect::Truncate { .. } | Effect::Promise(_)
    )
}

/// Whether nothing of what follows from an effect comes before the sync of the disk, nor depends on the replica as it is until then.
fn is_local(effect: &Effect) -> bool {
    match effect {
        Effect::Append(_)
        | Effect::Truncate { .. }
        | Effect::Promise(_)
        | Effect::Send { .. }
        | Effect::Ship { .. }
        | Effect::Apply { .. }
        | Effect::Reply { .. }
        | Effect::SetTimer(_)
        | Effect::CancelTimer(_) => true,
        Effect::Observe(notable) => {
            !matches!(notable, Notable::Promoted(..) | Notable::RolledBack { .. })
        }
        _ => false,
    }
}

impl Step {
    fn new(from: NodeId, Taken { after, effects }: Taken) -> Self {
        let asked = |effect: Option<Effect>| match effect {
            None => Some(Asked::Synced),
            Some(effect) => asked(from, effect),
        };
        Self {
            replica: after.map(Shared::new),
            asked: effects.into_iter().filter_map(asked).collect(),
        }
    }

    /// Whether the replica is what it was.
    pub(crate) fn keeps(&self, replica: &Shared<Replica>) -> bool {
        self.replica.is_some_and(|after| after == *replica)
    }

    /// Whether it changes nothing, given the messages that are on their way already.
    pub(crate) fn is_idle(&self, replica: &Shared<Replica>, network: &Network) -> bool {
        let is_idle = |asked: &Asked| match asked {
            Asked::Send(envelope) => network.has_sent(envelope),
            Asked::Other(effect) => matches!(**effect, Effect::SetTimer(_)),
            Asked::Synced => false,
        };
        self.keeps(replica) && self.asked.iter().all(is_idle)
    }

    /// Whether it, or what follows it at once, may ask something of the disk.
    pub(crate) fn may_ask_disk(&self) -> bool {
        let asks = |effect: &Effect| {
            let leads_on = matches!(
                effect,
                Effect::Lock | Effect::ReadRecord | Effect::SetRecord { .. }
            );
            leads_on || is_durable(effect)
        };
        let mut asked = self.asked.iter();
        asked.any(|asked| matches!(asked, Asked::Other(effect) if asks(effect)))
    }

    /// Whether nothing comes of it but what the member notes for itself and what it sends. (A replica that applies what it learns to be
    /// committed only notes it.)
    pub(crate) fn is_quiet(&self) -> bool {
        let mut asked = self.asked.iter();
        let replica = self.replica.as_ref();
        replica.is_some_and(|replica| asked.all(|asked| is_note(asked, replica)))
    }
}

/// What the model does about an effect, if anything.
fn asked(from: NodeId, effect: Effect) -> Option<Asked> {
    match effect {
        Effect::SetTimer(timer) if timer != Timer::Backoff => None,
        Effect::CancelTimer(_) => None,
        Effect::Send { to, message } => {
            let envelope = Envelope { from, to, message };
            Some(Asked::Send(Shared::new(envelope)))
        }
        other => Some(Asked::Other(Box::new(other))),
    }
}

/// Whether an effect of a replica reaches nobody but by a message, and only notes what is known.
pub(crate) fn is_note(asked: &Asked, replica: &Replica) -> bool {
    match asked {
        Asked::Send(_) => true,
        Asked::Synced => false,
        Asked::Other(effect) => match **effect {
            Effect::Ship { .. } | Effect::SetTimer(_) => true,
            Effect::Apply { .. } => replica.role_of().is_none(),
            _ => false,
        },
    }
}

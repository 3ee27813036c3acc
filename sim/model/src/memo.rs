//! Steps of replicas that were taken before: the same replica meets the same input in very many states.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use kv_core::{Effect, Input, Replica};

use crate::shared::{Shared, hash_of};

/// What a step came to.
#[derive(Debug)]
pub struct Step {
    /// The replica after it; nothing, where an assertion of the core failed.
    pub replica: Option<Shared<Replica>>,
    /// What it asks for.
    pub effects: Vec<Effect>,
}

/// So many steps are remembered by each thread; then it begins anew.
const STEPS_MAX: usize = 400_000;

type Known = ahash::HashMap<(u64, u64), Rc<Step>>;

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::new(Known::default());
}

/// Takes a step, or remembers it.
pub fn step(replica: &Shared<Replica>, input: Input) -> Rc<Step> {
    let key = (replica.hash_value(), hash_of(&input));
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= STEPS_MAX {
            known.clear();
        }
        let step = known
            .entry(key)
            .or_insert_with(|| Rc::new(take(replica, input)));
        Rc::clone(step)
    })
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

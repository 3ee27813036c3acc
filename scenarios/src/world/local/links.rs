//! How it goes on each direction of each link, told to the proxies that carry it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;

use crate::scenario::Disturbance;
use crate::seed::stream;
use crate::world::Place;
use crate::world::real::reason::Reason;

/// How it goes on one direction of a link.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Weather {
    /// Nothing goes through while there is a reason.
    pub(super) cut: BTreeSet<Reason>,
    /// How much later what is sent arrives, at most.
    pub(super) delay: Duration,
    /// How probably a piece of what is sent is lost, and its connection with it.
    pub(super) lose: f64,
}

impl Weather {
    /// Whether anything goes through.
    pub(super) fn is_open(&self) -> bool {
        self.cut.is_empty()
    }
}

/// All links.
#[derive(Debug)]
pub(super) struct Links {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    weather: BTreeMap<(Place, Place), watch::Sender<Weather>>,
    rng: StdRng,
}

impl Links {
    /// Links on which all goes well. What is drawn comes from the seed.
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let state = State {
            weather: BTreeMap::new(),
            rng: stream(seed, "links", 0),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// How it goes from the one to the other, as it changes.
    pub(super) fn watch(&self, from: Place, to: Place) -> watch::Receiver<Weather> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.weather.entry((from, to)).or_default().subscribe()
    }

    /// Where a connection's own chances come from.
    pub(super) fn seed(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rng.random()
    }

    /// Nothing goes from the one to the other, for this reason too.
    pub(super) fn cut(&self, from: Place, to: Place, reason: Reason) {
        self.change(from, to, |weather| weather.cut.insert(reason));
    }

    /// This reason is one no more.
    pub(super) fn mend(&self, from: Place, to: Place, reason: Reason) {
        self.change(from, to, |weather| weather.cut.remove(&reason));
    }

    /// What is sent from the one to the other is disturbed so.
    pub(super) fn disturb(&self, from: Place, to: Place, disturbance: Option<Disturbance>) {
        let Disturbance { lose, delay, .. } = disturbance.unwrap_or_default();
        self.change(from, to, |weather| {
            let new = Weather {
                cut: weather.cut.clone(),
                delay,
                lose,
            };
            std::mem::replace(weather, new.clone()) != new
        });
    }

    fn change(&self, from: Place, to: Place, change: impl FnOnce(&mut Weather) -> bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let link = state.weather.entry((from, to)).or_default();
        link.send_if_modified(change);
    }
}

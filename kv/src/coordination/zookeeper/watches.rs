//! The watches of one session: which paths are watched, and which of them have changed.
//!
//! Each call that watches brings a watcher of its own, and one change wakes all watchers of a path. The contract wants one event,
//! so a path has at most one watcher for its data and one for its children, the newest.
//!
//! Taking an older one's place loses nothing: the crate tells watchers and answers calls in the order in which the server sent both. So if
//! the older one has not fired when the answer with the newer one is there, whatever comes will wake the newer one, too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use zookeeper_client::{EventType, OneshotWatcher, WatchedEvent};

/// What of a path is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its data, and whether it exists.
    Data,
    /// The list of its children, or whether it exists while it does not.
    Children,
}

type Firing = Pin<Box<dyn Future<Output = WatchedEvent> + Send>>;

/// All watches of a session.
#[derive(Default)]
pub(super) struct Watches {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    armed: BTreeMap<String, Armed>,
    /// Paths that have changed, and nobody was told yet.
    fired: VecDeque<String>,
    /// Paths whose watchers ended with their client.
    lost: BTreeSet<String>,
    /// Whoever waits for the next change.
    waker: Option<Waker>,
}

#[derive(Default)]
struct Armed {
    data: Option<Firing>,
    children: Option<Firing>,
}

impl Watches {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a path, in the place of an earlier watcher.
    pub(super) fn arm(&self, path: &str, kind: Kind, watcher: OneshotWatcher) {
        let mut state = self.state();
        state.lost.remove(path); // Whoever calls has read it anew.
        let armed = state.armed.entry(path.to_owned()).or_default();
        let earlier = armed.slot(kind).replace(Box::pin(watcher.changed()));
        let fired = earlier.and_then(FutureExt::now_or_never);
        if fired.is_some_and(|event| event.event_type != EventType::Session) {
            state.fired.push_back(path.to_owned());
        }
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// The session goes on with another client, which has no watches yet: whatever was watched may have changed.
    pub(super) fn doubt_all(&self) {
        let mut state = self.state();
        let armed = std::mem::take(&mut state.armed).into_keys();
        let mut doubted = std::mem::take(&mut state.lost);
        doubted.extend(armed);
        state.fired.extend(doubted);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Waits for the next path that has changed. Cancel-safe.
    pub(super) async fn next(&self) -> String {
        std::future::poll_fn(|context| self.state().poll(context)).await
    }
}

impl State {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<String> {
        let Self {
            armed, fired, lost, ..
        } = self;
        armed.retain(|path, slots| {
            for event in slots.poll(context) {
                match event {
                    EventType::Session => drop(lost.insert(path.clone())),
                    _ if fired.back() == Some(path) => {}
                    _ => fired.push_back(path.clone()),
                }
            }
            slots.data.is_some() || slots.children.is_some()
        });
        match self.fired.pop_front() {
            Some(path) => Poll::Ready(path),
            None => {
                self.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Armed {
    fn slot(&mut self, kind: Kind) -> &mut Option<Firing> {
        match kind {
            Kind::Data => &mut self.data,
            Kind::Children => &mut self.children,
        }
    }

    /// What has happened. The coming and going of a znode wakes both watchers, for which one event is enough.
    fn poll(&mut self, context: &mut Context<'_>) -> Vec<EventType> {
        let mut events = Vec::new();
        for kind in [Kind::Data, Kind::Children] {
            let Some(firing) = self.slot(kind) else {
                continue;
            };
            let Poll::Ready(event) = firing.as_mut().poll(context) else {
                continue;
            };
            *self.slot(kind) = None;
            events.push(event.event_type);
            if matches!(
                event.event_type,
                EventType::NodeCreated | EventType::NodeDeleted
            ) {
                *self = Self::default();
            }
        }
        events
    }
}

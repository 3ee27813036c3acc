//! The simulated network. What it can do wrong:
//!
//! - cut any direction between two places (a node, a client, the coordination service), for the peers' messages, the
//!   clients' RPCs and the coordination service alike;
//! - lose, double, delay and reorder single messages between nodes, at the transport seam, by chances that a script sets.
//!
//! Between nodes a message is bytes: it goes through the wire format both ways. A message that was on its way when a link
//! is cut still arrives.

mod held;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kv::environment::{Deliver, Transport};
use kv_core::{Message, NodeId};
use madsim::net::NetSim;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

pub use held::Held;

/// Something that has an address in the simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A node of the store.
    Node(NodeId),
    /// The place of a client session.
    Client(u64),
    /// The coordination service.
    Coordination,
}

/// What happens to single messages between nodes. Chances are between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// The shortest way.
    pub latency_min: Duration,
    /// The longest way.
    pub latency_max: Duration,
    /// The chance to get lost.
    pub lose: f64,
    /// The chance to arrive twice.
    pub duplicate: f64,
    /// The chance to be held back, by up to `hold_max`, so that later messages overtake.
    pub reorder: f64,
    /// How long a message is held back at most.
    pub hold_max: Duration,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            latency_min: Duration::from_micros(300),
            latency_max: Duration::from_millis(3),
            lose: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            hold_max: Duration::ZERO,
        }
    }
}

/// How often what happened to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Sent.
    pub sent: u64,
    /// Stopped by a cut link.
    pub cut: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Held back.
    pub held: u64,
}

/// The network of one run.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    news: Notify,
}

struct State {
    rng: StdRng,
    weather: Weather,
    /// The weather of single links.
    links: BTreeMap<(NodeId, NodeId), Weather>,
    cut: BTreeSet<(Place, Place)>,
    machines: BTreeMap<Place, madsim::task::NodeId>,
    listeners: BTreeMap<NodeId, Deliver>,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    next_sequence: u64,
    /// Every message between nodes that was sent since they are held; none, where they go their way.
    held: Option<Vec<Held>>,
    fates: Fates,
    deliveries: Option<AbortHandle>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    arrives: Instant,
    sequence: u64,
    from: NodeId,
    to: NodeId,
    bytes: Bytes,
}

impl Network {
    /// A network whose chances are drawn from the seed. Its deliveries run on the present machine of the simulator.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            weather: Weather::default(),
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            machines: BTreeMap::new(),
            listeners: BTreeMap::new(),
            in_flight: BinaryHeap::new(),
            next_sequence: 0,
            held: None,
            fates: Fates::default(),
            deliveries: None,
        };
        let network = Self(Arc::new(Shared {
            state: Mutex::new(state),
            news: Notify::new(),
        }));
        let task = tokio::spawn(network.clone().deliver());
        network.state().deliveries = Some(task.abort_handle());
        network
    }

    /// Tells which machine of the simulator stands at a place.
    pub fn place(&self, place: Place, machine: madsim::task::NodeId) {
        self.state().machines.insert(place, machine);
    }

    /// Cuts one direction.
    pub fn cut(&self, from: Place, to: Place) {
        let mut state = self.state();
        if from != to
            && state.cut.insert((from, to))
            && let Some((from, to)) = state.link(from, to)
        {
            NetSim::current().clog_link(from, to);
        }
    }

    /// Mends one direction.
    pub fn mend(&self, from: Place, to: Place) {
        let mut state = self.state();
        if state.cut.remove(&(from, to))
            && let Some((from, to)) = state.link(from, to)
        {
            NetSim::current().unclog_link(from, to);
        }
    }

    /// Mends every direction that is cut.
    pub fn mend_all(&self) {
        let cut: Vec<_> = self.state().cut.iter().copied().collect();
        for (from, to) in cut {
            self.mend(from, to);
        }
    }

    /// Sets what happens to single messages on all links that have no weather of their own.
    pub fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Sets what happens to single messages on one direction of a link; nothing to go with the rest again.
    pub fn set_link_weather(&self, from: NodeId, to: NodeId, weather: Option<Weather>) {
        let mut state = self.state();
        match weather {
            Some(weather) => state.links.insert((from, to), weather),
            None => state.links.remove(&(from, to)),
        };
    }

    /// What has happened to messages so far.
    #[must_use]
    pub fn fates(&self) -> Fates {
        self.state().fates
    }

    /// The transport of one life of a node.
    #[must_use]
    pub fn transport(&self, node: NodeId) -> Arc<dyn Transport> {
        Arc::new(SimTransport {
            network: self.clone(),
            node,
        })
    }

    /// A dead node hears nothing.
    pub fn unplug(&self, node: NodeId) {
        self.state().listeners.remove(&node);
    }

    /// Nothing is delivered any more.
    pub fn end(&self) {
        let mut state = self.state();
        state.listeners.clear();
        if let Some(deliveries) = state.deliveries.take() {
            deliveries.abort();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, from: NodeId, to: NodeId, bytes: Bytes) {
        let mut state = self.state();
        state.fates.sent += 1;
        if state.hold(from, to, &bytes) {
            return;
        }
        if state.cut.contains(&(Place::Node(from), Place::Node(to))) {
            state.fates.cut += 1;
            return;
        }
        let weather = state
            .links
            .get(&(from, to))
            .copied()
            .unwrap_or(state.weather);
        if weather.lose > 0.0 && state.rng.random_bool(weather.lose) {
            state.fates.lost += 1;
            return;
        }
        if weather.duplicate > 0.0 && state.rng.random_bool(weather.duplicate) {
            state.fates.duplicated += 1;
            state.launch(weather, from, to, bytes.clone());
        }
        state.launch(weather, from, to, bytes);
        drop(state);
        self.0.news.notify_one();
    }

    async fn deliver(self) {
        loop {
            let next = self
                .state()
                .in_flight
                .peek()
                .map(|Reverse(next)| next.arrives);
            match next {
                Some(at) if at <= Instant::now() => self.deliver_next(),
                Some(at) => tokio::select! {
                    biased;
                    () = self.0.news.notified() => {}
                    () = sleep_until(at) => {}
                },
                None => self.0.news.notified().await,
            }
        }
    }

    fn deliver_next(&self) {
        let mut state = self.state();
        let Some(Reverse(next)) = state.in_flight.pop() else {
            return;
        };
        let Some(deliver) = state.listeners.get(&next.to).cloned() else {
            return;
        };
        drop(state);
        if let Ok(message) = kv::wire::decode(next.bytes) {
            deliver(next.from, message);
        }
    }
}

impl State {
    fn link(&self, from: Place, to: Place) -> Option<(madsim::task::NodeId, madsim::task::NodeId)> {
        Some((*self.machines.get(&from)?, *self.machines.get(&to)?))
    }

    fn launch(&mut self, weather: Weather, from: NodeId, to: NodeId, bytes: Bytes) {
        let mut way = self.draw(weather.latency_min, weather.latency_max);
        if weather.reorder > 0.0 && self.rng.random_bool(weather.reorder) {
            self.fates.held += 1;
            way += self.draw(Duration::ZERO, weather.hold_max);
        }
        let (arrives, sequence) = (Instant::now() + way, self.next_sequence);
        self.next_sequence += 1;
        self.in_flight.push(Reverse(InFlight {
            arrives,
            sequence,
            from,
            to,
            bytes,
        }));
    }

    fn draw(&mut self, min: Duration, max: Duration) -> Duration {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.random_range(nanos(min)..=nanos(max.max(min))))
    }
}

struct SimTransport {
    network: Network,
    node: NodeId,
}

impl Transport for SimTransport {
    fn listen(&self, deliver: Deliver) {
        self.network.state().listeners.insert(self.node, deliver);
    }

    fn reach(&self, _addresses: &BTreeMap<NodeId, String>) {}

    fn send(&self, to: NodeId, message: Message) {
        self.network.send(self.node, to, kv::wire::encode(&message));
    }
}

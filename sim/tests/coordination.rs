//! Goal: the simulated coordination service keeps the contract, and fails only in the ways that its file's head states.
//! Method: the conformance suite over many seeds; then one fault a test, seen from both sides of it.
#![cfg(madsim)]
#![allow(clippy::unwrap_used, reason = "this file is a test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kv::agent::lease_duration;
use kv::coordination::registry::{self, Registered};
use kv::coordination::{Change, CoordinationError, CreateMode, Session, SessionEvent, conformance};
use kv_core::NodeId;
use madsim::net::NetSim;
use madsim::runtime::{Handle, NodeHandle, Runtime};
use sim::coordination::{CoordinationService, SimCoordination};
use tokio::sync::mpsc;
use tokio::time::Instant;

const TIMEOUT: Duration = Duration::from_secs(4);
const DRIFT_PPM: u32 = 10_000;
const SEEDS: std::ops::Range<u64> = 0..20;

/// Runs a simulation once for each seed, each in a thread of its own.
fn for_each_seed<F: Future<Output = ()> + 'static>(run: impl Fn() -> F + Send + Copy + 'static) {
    for seed in SEEDS {
        let simulate = move || {
            let mut runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
            runtime.set_time_limit(Duration::from_secs(600));
            runtime.block_on(run());
        };
        let ended = std::thread::spawn(simulate).join();
        assert!(ended.is_ok(), "failed with seed {seed}");
    }
}

struct World {
    service: CoordinationService,
    server: NodeHandle,
    address: SocketAddr,
    nodes: Vec<NodeHandle>,
}

impl World {
    async fn new(node_count: u8) -> Self {
        let address = SocketAddr::from(([10, 0, 0, 1], 2181));
        let service = CoordinationService::new(TIMEOUT);
        let serving = service.clone();
        let handle = Handle::current();
        let server = handle
            .create_node()
            .name("coordination")
            .ip(address.ip())
            .init(move || {
                let service = serving.clone();
                async move {
                    let ended = service.serve(address).await;
                    panic!("the service ended: {ended:?}");
                }
            })
            .build();
        let nodes = (1..=node_count).map(|number| {
            let ip = [10, 0, 1, number].into();
            let name = format!("node-{number}");
            handle.create_node().name(name).ip(ip).build()
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        Self {
            service,
            server,
            address,
            nodes: nodes.collect(),
        }
    }

    /// Opens a session from a node.
    async fn connect(&self, node: usize) -> Arc<dyn Session> {
        let client = SimCoordination::client(self.address);
        let connecting = async move { client.connect().await.expect("the service is there") };
        let session = self.nodes[node].spawn(connecting).await;
        Arc::from(session.expect("the node lives"))
    }

    fn cut_to_service(&self, node: usize) {
        NetSim::current().clog_link(self.nodes[node].id(), self.server.id());
    }

    fn cut_from_service(&self, node: usize) {
        NetSim::current().clog_link(self.server.id(), self.nodes[node].id());
    }

    fn heal(&self, node: usize) {
        let network = NetSim::current();
        network.unclog_link(self.nodes[node].id(), self.server.id());
        network.unclog_link(self.server.id(), self.nodes[node].id());
    }
}

fn create(path: &str) -> Vec<Change> {
    vec![Change::Create {
        path: path.to_string(),
        data: Vec::new(),
        mode: CreateMode::Ephemeral,
    }]
}

/// Waits until a znode is gone, led by watches alone.
async fn gone(session: &dyn Session, path: &str) {
    while session.read(path).await.unwrap().is_some() {
        loop {
            match session.event().await {
                SessionEvent::Changed { .. } => break,
                event => assert_ne!(event, SessionEvent::Expired),
            }
        }
    }
}

/// Writes down every event of a session with its time.
fn record_events(
    node: &NodeHandle,
    session: &Arc<dyn Session>,
) -> mpsc::UnboundedReceiver<(Instant, SessionEvent)> {
    let (events, recorded) = mpsc::unbounded_channel();
    let session = session.clone();
    node.spawn(async move {
        loop {
            let event = session.event().await;
            let is_last = event == SessionEvent::Expired;
            if events.send((Instant::now(), event)).is_err() || is_last {
                return;
            }
        }
    });
    recorded
}

#[test]
fn the_simulated_service_conforms() {
    for_each_seed(|| async {
        let world = World::new(1).await;
        let service = world.service.clone();
        let expire: conformance::Expire = Arc::new(move |session| {
            let service = service.clone();
            Box::pin(async move { service.expire_session(session) })
        });
        let client = SimCoordination::client(world.address);
        let checking = world.nodes[0].spawn(conformance::check(client, expire));
        checking.await.expect("the node lives");
    });
}

/// Touches its registration as an agent does, once a quarter of the timeout has passed since the last answer, and tells from
/// when on each answered touch but the first shows the session to be kept (R16): from when the one before was sent.
async fn keep_lease(session: Arc<dyn Session>, kept_from: mpsc::UnboundedSender<[Instant; 2]>) {
    let mut before = None;
    loop {
        let sent_at = Instant::now();
        if registry::touch(session.as_ref(), NodeId(1)).await.is_ok() {
            let proven = before.replace(sent_at);
            if proven.is_some_and(|before| kept_from.send([before, sent_at]).is_err()) {
                return;
            }
        }
        tokio::time::sleep(TIMEOUT / 4).await;
    }
}

/// A write is answered, and then nothing more gets through. The leader does not know of that one, but of the one before.
#[test]
fn a_session_is_kept_from_the_write_before_the_last_answered_one() {
    for_each_seed(|| async {
        let world = World::new(1).await;
        let session = world.connect(0).await;
        let registered = registry::register(session.as_ref(), NodeId(1), "a:1").await;
        assert_eq!(registered, Ok(Registered::Yes));
        let (sender, mut kept_from) = mpsc::unbounded_channel();
        world.nodes[0].spawn(keep_lease(session, sender));
        let mut proven = None;
        for _ in 0..5 {
            proven = kept_from.recv().await;
        }
        let [before, last] = proven.expect("the node lives");
        world.cut_to_service(0);
        world.cut_from_service(0);
        while world.service.session_of(NodeId(1)).is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let gone_at = Instant::now();
        assert!(gone_at < last + TIMEOUT, "the last write kept the session");
        assert!(gone_at >= before + TIMEOUT, "the one before did not");
    });
}

/// The node renews its lease as an agent does; cut off, it loses its session after the lease has ended. In all three
/// ways: nothing gets through, nothing gets out, nothing gets in.
#[test]
fn a_node_that_is_cut_off_loses_its_session_after_its_lease() {
    for (cut_to, cut_from) in [(true, true), (true, false), (false, true)] {
        for_each_seed(move || async move {
            let world = World::new(2).await;
            let cut_off = world.connect(0).await;
            let watcher = world.connect(1).await;
            let registered = registry::register(cut_off.as_ref(), NodeId(1), "a:1").await;
            assert_eq!(registered, Ok(Registered::Yes));
            let mut events = record_events(&world.nodes[0], &cut_off);
            let (sender, mut kept_from) = mpsc::unbounded_channel();
            world.nodes[0].spawn(keep_lease(cut_off.clone(), sender));
            tokio::time::sleep(TIMEOUT * 2).await;
            let cut_at = Instant::now();
            if cut_to {
                world.cut_to_service(0);
            }
            if cut_from {
                world.cut_from_service(0);
            }
            gone(watcher.as_ref(), "nodes/1").await;
            let gone_at = Instant::now();
            let mut lease_end = cut_at;
            while let Ok([before, _]) = kept_from.try_recv() {
                lease_end = before + lease_duration(TIMEOUT, DRIFT_PPM);
            }
            assert!(lease_end > cut_at, "vacuous: there was no lease");
            assert!(gone_at > lease_end, "the session ended within its lease");
            // In one direction, the client has to notice its silence before it stops to keep the session.
            assert!(gone_at < cut_at + TIMEOUT * 7 / 4, "{:?}", gone_at - cut_at);

            let (at, event) = events.recv().await.unwrap();
            assert_eq!(event, SessionEvent::Disconnected);
            assert!(
                at < cut_at + TIMEOUT,
                "the silence is noticed before the session ends"
            );
            tokio::time::sleep(TIMEOUT).await;
            assert!(
                events.try_recv().is_err(),
                "nobody can tell it that its session is over"
            );
            let call = cut_off.read("nodes/1").await;
            assert_eq!(call, Err(CoordinationError::Unreachable));
            world.heal(0);
            let (_, event) = events.recv().await.unwrap();
            assert_eq!(event, SessionEvent::Expired);
            let call = cut_off.read("nodes/1").await;
            assert_eq!(call, Err(CoordinationError::Expired));
        });
    }
}

#[test]
fn a_short_cut_costs_no_session() {
    for_each_seed(|| async {
        let world = World::new(1).await;
        let session = world.connect(0).await;
        session.multi(create("nodes/1")).await.unwrap();
        session.read("marker").await.unwrap();
        let mut events = record_events(&world.nodes[0], &session);
        world.cut_to_service(0);
        world.cut_from_service(0);
        tokio::time::sleep(TIMEOUT * 5 / 8).await;
        world.heal(0);
        assert_eq!(events.recv().await.unwrap().1, SessionEvent::Disconnected);
        assert_eq!(events.recv().await.unwrap().1, SessionEvent::Connected);
        session.multi(create("marker")).await.unwrap();
        let (_, event) = events.recv().await.unwrap();
        let path = "marker".to_string();
        assert_eq!(
            event,
            SessionEvent::Changed { path },
            "watches outlive a connection"
        );
        assert!(world.service.peek("nodes/1").is_some());
    });
}

#[test]
fn an_unanswered_change_may_have_happened_or_not() {
    for_each_seed(|| async {
        let world = World::new(2).await;
        let session = world.connect(0).await;
        let onlooker = world.connect(1).await;
        world.cut_from_service(0);
        let answer_lost = session.multi(create("a")).await;
        assert_eq!(answer_lost, Err(CoordinationError::Unknown));
        assert!(onlooker.read("a").await.unwrap().is_some(), "it happened");
        world.heal(0);
        let seen = session.read("a").await.unwrap().unwrap();
        assert_eq!(seen.owner, Some(session.id()), "and is found to be its own");

        world.cut_to_service(0);
        let question_lost = session.multi(create("b")).await;
        assert_eq!(question_lost, Err(CoordinationError::Unknown));
        assert!(
            onlooker.read("b").await.unwrap().is_none(),
            "it did not happen"
        );
    });
}

#[test]
fn watches_are_told_however_many_messages_are_lost() {
    for_each_seed(|| async {
        let world = World::new(2).await;
        let watcher = world.connect(0).await;
        let writer = world.connect(1).await;
        for (session, node) in [(&watcher, 0), (&writer, 1)] {
            // Polls alone are so few that two losses in a row end a session.
            let session = session.clone();
            world.nodes[node].spawn(async move {
                while session.read("kept").await != Err(CoordinationError::Expired) {
                    tokio::time::sleep(TIMEOUT / 8).await;
                }
            });
        }
        NetSim::current().update_config(|config| config.packet_loss_rate = 0.1);
        let mut told = 0;
        for round in 0..20 {
            let is_watched = watcher.children("rounds").await.is_ok();
            let is_made = writer
                .multi(create(&format!("rounds/{round}")))
                .await
                .is_ok();
            if !is_watched || !is_made {
                tokio::time::sleep(TIMEOUT / 4).await;
                continue;
            }
            loop {
                match watcher.event().await {
                    SessionEvent::Changed { .. } => break,
                    SessionEvent::Expired => {
                        panic!("so many losses in a row are not to be expected")
                    }
                    SessionEvent::Connected | SessionEvent::Disconnected => {}
                }
            }
            told += 1;
        }
        assert!(told > 2, "vacuous: {told} rounds went through");
    });
}

#[test]
fn a_restart_of_the_service_forgets_nothing() {
    for_each_seed(|| async {
        let world = World::new(1).await;
        let session = world.connect(0).await;
        session.multi(create("nodes/1")).await.unwrap();
        session.read("nodes/2").await.unwrap();
        let handle = Handle::current();
        handle.kill(world.server.id());
        tokio::time::sleep(TIMEOUT * 3).await;
        let while_down = session.read("nodes/1").await;
        assert_eq!(while_down, Err(CoordinationError::Unreachable));
        handle.restart(world.server.id());
        loop {
            match session.event().await {
                SessionEvent::Connected => break,
                event => assert_eq!(event, SessionEvent::Disconnected),
            }
        }
        let znode = session.read("nodes/1").await.unwrap().unwrap();
        assert_eq!(znode.owner, Some(session.id()));
        session.multi(create("nodes/2")).await.unwrap();
        let path = "nodes/2".to_string();
        assert_eq!(session.event().await, SessionEvent::Changed { path });
    });
}

#[test]
fn a_session_is_lost_on_purpose() {
    for_each_seed(|| async {
        let world = World::new(2).await;
        let sessions = [world.connect(0).await, world.connect(1).await];
        for (session, node) in sessions.iter().zip(1..) {
            let registered = registry::register(session.as_ref(), NodeId(node), "a:1").await;
            assert_eq!(registered, Ok(Registered::Yes));
            let found = world.service.session_of(NodeId(node));
            assert_eq!(found, Some(session.id()));
        }
        let ignored_at = Instant::now();
        world.service.ignore_session(sessions[0].id());
        gone(sessions[1].as_ref(), "nodes/1").await;
        let silence = ignored_at.elapsed();
        assert!(
            silence > TIMEOUT * 3 / 4 - TIMEOUT / 16 && silence < TIMEOUT * 5 / 4,
            "{silence:?}"
        );

        let expired_at = Instant::now();
        world.service.expire_session(sessions[1].id());
        while sessions[1].event().await != SessionEvent::Expired {}
        assert!(expired_at.elapsed() < TIMEOUT / 4);
        assert_eq!(world.service.session_of(NodeId(2)), None);
    });
}

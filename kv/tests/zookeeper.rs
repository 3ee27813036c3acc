//! Goal: a real ZooKeeper keeps the contract of `Coordination`, whatever happens between it and its clients.
//! Method: the conformance suite; then one trouble a test (a server paused, killed, cut off, one of three gone), seen from both
//! sides. Each test starts servers of its own, and a proxy where something is to be cut.
#![cfg(feature = "zookeeper")]
#![allow(clippy::unwrap_used, reason = "this file is a test")]
#![allow(clippy::disallowed_methods, reason = "real servers take real time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use kv::agent::lease_duration;
use kv::coordination::registry::{self, Registered};
use kv::coordination::zookeeper::{Identity, ZooKeeper};
use kv::coordination::{
    Change, Coordination, CoordinationError, CreateMode, Session, SessionEvent, conformance,
};
use kv_core::{NodeId, SessionId};

#[path = "zookeeper/proxy.rs"]
mod proxy;
#[path = "zookeeper/server.rs"]
mod server;

use proxy::Proxy;
use server::Server;

const TIMEOUT: Duration = Duration::from_millis(2000);
const PATIENCE: Duration = Duration::from_secs(60);

fn client(address: &str) -> ZooKeeper {
    ZooKeeper::new(address.parse().unwrap(), None, TIMEOUT)
}

fn create(path: &str, mode: CreateMode) -> Vec<Change> {
    vec![Change::Create {
        path: path.to_owned(),
        data: b"here".to_vec(),
        mode,
    }]
}

fn set(path: &str) -> Vec<Change> {
    vec![Change::Set {
        path: path.to_owned(),
        data: Vec::new(),
        version: None,
    }]
}

async fn next(session: &dyn Session) -> SessionEvent {
    let event = tokio::time::timeout(PATIENCE, session.event()).await;
    event.expect("an event comes")
}

/// Waits for a state, past what is told of paths.
async fn next_state(session: &dyn Session) -> SessionEvent {
    loop {
        match next(session).await {
            SessionEvent::Changed { .. } => {}
            state => return state,
        }
    }
}

/// Waits until a znode is gone, led by watches.
async fn gone(session: &dyn Session, path: &str) {
    while session.read(path).await.unwrap().is_some() {
        assert!(matches!(next(session).await, SessionEvent::Changed { .. }));
    }
}

fn expire_at(server: &Server) -> conformance::Expire {
    let port = server.port();
    Arc::new(move |session: SessionId| {
        Box::pin(async move {
            let ending = tokio::task::spawn_blocking(move || server::end_session(port, session.0));
            ending.await.unwrap();
        })
    })
}

#[tokio::test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
async fn a_real_zookeeper_conforms() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    for address in [server.address(), format!("{}/made/by/it", server.address())] {
        let service = Arc::new(client(&address));
        conformance::check(service, expire_at(&server)).await;
    }
}

#[tokio::test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
async fn a_server_that_pauses_for_a_moment_costs_no_session() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let session = client(&server.address()).connect().await.unwrap();
    session
        .multi(create("nodes/1", CreateMode::Ephemeral))
        .await
        .unwrap();
    session.read("marker").await.unwrap();
    server.pause();
    assert_eq!(next(session.as_ref()).await, SessionEvent::Disconnected);
    server.go_on();
    assert_eq!(next(session.as_ref()).await, SessionEvent::Connected);
    let own = session.read("nodes/1").await.unwrap().unwrap();
    assert_eq!(own.owner, Some(session.id()));
    let other = client(&server.address()).connect().await.unwrap();
    let marker = create("marker", CreateMode::Persistent);
    other.multi(marker).await.unwrap();
    let path = "marker".to_owned();
    assert_eq!(next(session.as_ref()).await, SessionEvent::Changed { path });
}

/// When the server goes on, either it notices first that time has passed, or it hears of the client first.
#[tokio::test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
async fn after_a_long_pause_the_client_learns_whether_its_session_lives() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let session = client(&server.address()).connect().await.unwrap();
    let mine = create("nodes/1", CreateMode::Ephemeral);
    session.multi(mine).await.unwrap();
    server.pause();
    let asked_at = Instant::now();
    let unanswered = session.multi(set("nodes/1")).await;
    assert_eq!(unanswered, Err(CoordinationError::Unknown));
    assert!(asked_at.elapsed() < TIMEOUT, "a call is bounded");
    assert_eq!(next(session.as_ref()).await, SessionEvent::Disconnected);
    tokio::time::sleep(TIMEOUT * 2).await;
    server.go_on();
    let other = client(&server.address()).connect().await;
    let learned = next_state(session.as_ref()).await;
    let mine = session.read("nodes/1").await;
    match learned {
        SessionEvent::Connected => assert!(mine.unwrap().is_some()),
        SessionEvent::Expired => {
            assert_eq!(mine, Err(CoordinationError::Expired));
            gone(other.unwrap().as_ref(), "nodes/1").await;
        }
        event => panic!("{event:?} follows a disconnection"),
    }
}

/// Longer away than the crate itself would wait for.
#[tokio::test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
async fn a_restart_of_the_server_forgets_nothing() {
    if !server::is_there() {
        return;
    }
    let mut server = Server::start();
    let session = client(&server.address()).connect().await.unwrap();
    session
        .multi(create("shards/0", CreateMode::Persistent))
        .await
        .unwrap();
    session
        .multi(create("nodes/1", CreateMode::Ephemeral))
        .await
        .unwrap();
    session.read("nodes/2").await.unwrap();
    server.kill();
    assert_eq!(next(session.as_ref()).await, SessionEvent::Disconnected);
    let while_down = session.read("nodes/1").await;
    assert_eq!(while_down, Err(CoordinationError::Unreachable));
    let silent = tokio::time::timeout(TIMEOUT * 2, session.event()).await;
    assert!(
        silent.is_err(),
        "nobody can tell that it is over: {silent:?}"
    );
    server.run();
    assert_eq!(next_state(session.as_ref()).await, SessionEvent::Connected);
    let own = session.read("nodes/1").await.unwrap().unwrap();
    assert_eq!(own.owner, Some(session.id()));
    let kept = session.read("shards/0").await.unwrap().unwrap();
    assert_eq!((kept.data, kept.owner), (b"here".to_vec(), None));
    // What was watched is doubted, and then read and watched again.
    while session.read("nodes/2").await.unwrap().is_none() {
        let second = create("nodes/2", CreateMode::Ephemeral);
        let _ = session.multi(second).await;
        while next(session.as_ref()).await
            != (SessionEvent::Changed {
                path: "nodes/2".to_owned(),
            })
        {}
    }
}

#[tokio::test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
async fn who_is_cut_off_loses_its_session_after_its_lease_and_learns_it_when_back() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let service = client(&proxy.address());
    let cut_off = service.connect().await.unwrap();
    let watcher = client(&server.address()).connect().await.unwrap();
    let registered = registry::register(cut_off.as_ref(), NodeId(1), "a:1").await;
    assert_eq!(registered, Ok(Registered::Yes));
    let lease_end = Instant::now() + lease_duration(cut_off.timeout(), 0);
    registry::touch(cut_off.as_ref(), NodeId(1)).await.unwrap();

    proxy.cut();
    let asked_at = Instant::now();
    let unanswered = cut_off.multi(set("nodes/1")).await;
    assert_eq!(unanswered, Err(CoordinationError::Unknown));
    assert!(asked_at.elapsed() < TIMEOUT, "a call is bounded");
    assert_eq!(next(cut_off.as_ref()).await, SessionEvent::Disconnected);
    let refused = cut_off.multi(set("nodes/1")).await;
    assert_eq!(refused, Err(CoordinationError::Unreachable));
    gone(watcher.as_ref(), "nodes/1").await;
    assert!(
        Instant::now() > lease_end,
        "the session ended within its lease"
    );
    let silent = tokio::time::timeout(TIMEOUT * 2, cut_off.event()).await;
    assert!(silent.is_err(), "nobody can tell it so far: {silent:?}");
    let nobody = tokio::time::timeout(TIMEOUT * 3, service.connect()).await;
    let nobody = nobody.expect("a connection is given up");
    assert_eq!(nobody.err(), Some(CoordinationError::Unreachable));

    proxy.heal();
    assert_eq!(next(cut_off.as_ref()).await, SessionEvent::Expired);
    let over = cut_off.read("nodes/1").await;
    assert_eq!(over, Err(CoordinationError::Expired));
    let fresh = service.connect().await.unwrap();
    assert_ne!(fresh.id(), cut_off.id());
    let again = registry::register(fresh.as_ref(), NodeId(1), "a:1").await;
    assert_eq!(again, Ok(Registered::Yes));
}

/// Each server is down once, so whichever the session was connected to was among them.
#[tokio::test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
async fn a_session_outlives_any_one_server_of_three() {
    if !server::is_there() {
        return;
    }
    let starting = tokio::task::spawn_blocking(Server::ensemble);
    let mut servers = starting.await.unwrap();
    let address = server::addresses(&servers);
    // An ensemble that loses its leader needs a while for another one.
    let timeout = Duration::from_secs(20);
    let service = ZooKeeper::new(address.parse().unwrap(), None, timeout);
    let session = service.connect().await.unwrap();
    session
        .multi(create("nodes/1", CreateMode::Ephemeral))
        .await
        .unwrap();
    let granted = session.timeout();
    assert!(granted < timeout, "what is granted counts: {granted:?}");
    let mut versions = 0;
    for server in &mut servers {
        server.kill();
        let started = Instant::now();
        while let Err(error) = session.multi(set("nodes/1")).await {
            assert_ne!(error, CoordinationError::Expired, "the session is lost");
            assert!(started.elapsed() < PATIENCE, "the others do not serve");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let own = session.read("nodes/1").await.unwrap().unwrap();
        assert!(own.version > versions, "a later answer is older");
        versions = own.version;
        assert_eq!(own.owner, Some(session.id()), "the session lives");
        server.run();
        server.wait();
    }
    servers[0].kill();
    let fresh = client(&address).connect().await;
    assert!(fresh.is_ok(), "two of three are enough");
}

#[tokio::test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
async fn clusters_in_two_chroots_do_not_see_each_other() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let at = |chroot: &str| client(&format!("{}{chroot}", server.address()));
    let blue = at("/stores/blue").connect().await.unwrap();
    let green = at("/stores/green").connect().await.unwrap();
    let mine = create("shards/0", CreateMode::Persistent);
    blue.multi(mine).await.unwrap();
    assert_eq!(green.read("shards/0").await, Ok(None));
    let root = at("").connect().await.unwrap();
    let seen = root.read("stores/blue/shards/0").await.unwrap();
    assert_eq!(seen.map(|znode| znode.data), Some(b"here".to_vec()));
    let names = root.children("stores").await.unwrap();
    assert_eq!(names, ["blue", "green"]);
}

#[tokio::test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
async fn what_one_identity_keeps_is_closed_to_every_other() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let identity = |text: &str| {
        let file = folder.path().join("identity");
        std::fs::write(&file, text).unwrap();
        Some(Identity::from_file(&file).unwrap())
    };
    let address = format!("{}/closed", server.address());
    let at = |identity| ZooKeeper::new(address.parse().unwrap(), identity, TIMEOUT);
    let owner = at(identity("kv:right\n")).connect().await.unwrap();
    let mine = create("shards/0", CreateMode::Persistent);
    owner.multi(mine).await.unwrap();
    let again = at(identity("kv:right")).connect().await.unwrap();
    assert!(again.read("shards/0").await.unwrap().is_some());
    let refused = CoordinationError::Forbidden;
    for stranger in [identity("kv:wrong"), None] {
        let stranger = at(stranger).connect().await.unwrap();
        assert_eq!(stranger.read("shards/0").await, Err(refused));
        assert_eq!(stranger.children("shards").await, Err(refused));
        assert_eq!(stranger.multi(set("shards/0")).await, Err(refused));
        let new = create("shards/1", CreateMode::Persistent);
        assert_eq!(stranger.multi(new).await, Err(refused));
    }
}

//! One suite that every implementation of [`Coordination`] passes: the contract in the trait's documentation, as assertions.
//!
//! It works below a path of its own, so it may share a service with others. Whether calls that go unanswered are
//! `Unknown` depends on what can fail between the two sides, and is asserted where that can be made to fail.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kv_core::SessionId;

use crate::coordination::{
    Change, Changed, Coordination, CoordinationError, CreateMode, Session, SessionEvent, Znode,
};

/// Ends a session on the side of the service, while its handle lives.
pub type Expire = Arc<dyn Fn(SessionId) -> BoxFuture<'static, ()> + Send + Sync>;

/// What happens within a session timeout has happened within this many of them.
const PATIENCE_TIMEOUTS: u32 = 10;
/// How many changes a reader follows.
const CHANGE_COUNT: u64 = 20;

/// Checks an implementation.
///
/// # Panics
/// When it breaks the contract.
pub async fn check(service: Arc<dyn Coordination>, expire: Expire) {
    let suite = Suite::new(service, expire).await;
    suite.znodes_are_made_set_and_deleted().await;
    suite.a_check_that_fails_is_a_conflict().await;
    suite.a_multi_happens_whole_or_not_at_all().await;
    suite.sequential_names_grow().await;
    suite.a_watch_fires_once().await;
    suite.a_watch_sees_a_znode_come_and_go().await;
    suite.a_watch_of_children_sees_them_come_and_go().await;
    suite.a_watch_reaches_below_what_does_not_exist().await;
    suite.two_watches_of_a_path_are_told_as_one().await;
    suite.a_follower_of_watches_misses_nothing().await;
    suite.later_answers_are_never_older().await;
    suite.session_ids_are_never_used_twice().await;
    suite.closing_ends_the_session_at_once().await;
    suite.a_dropped_session_ends_after_its_timeout().await;
    suite.expired_stays_expired().await;
}

struct Suite {
    service: Arc<dyn Coordination>,
    expire: Expire,
    root: String,
    patience: Duration,
}

impl Suite {
    async fn new(service: Arc<dyn Coordination>, expire: Expire) -> Self {
        let session = service.connect().await.expect("the service is there");
        let suite = Self {
            service,
            expire,
            root: format!("conformance-{}", session.id().0),
            patience: session.timeout() * PATIENCE_TIMEOUTS,
        };
        session.close().await;
        suite
    }

    async fn connect(&self) -> Box<dyn Session> {
        self.service.connect().await.expect("the service is there")
    }

    fn path(&self, rest: &str) -> String {
        format!("{}/{rest}", self.root)
    }

    fn create(&self, rest: &str, data: &str, mode: CreateMode) -> Change {
        Change::Create {
            path: self.path(rest),
            data: data.as_bytes().to_vec(),
            mode,
        }
    }

    fn set(&self, rest: &str, data: &str, version: Option<u64>) -> Change {
        Change::Set {
            path: self.path(rest),
            data: data.as_bytes().to_vec(),
            version,
        }
    }

    fn delete(&self, rest: &str, version: Option<u64>) -> Change {
        let path = self.path(rest);
        Change::Delete { path, version }
    }

    async fn read(&self, session: &dyn Session, rest: &str) -> Option<Znode> {
        let read = session.read(&self.path(rest)).await;
        read.expect("nothing fails here")
    }

    async fn children(&self, session: &dyn Session, rest: &str) -> Vec<String> {
        let children = session.children(&self.path(rest)).await;
        children.expect("nothing fails here")
    }

    async fn next_event(&self, session: &dyn Session) -> SessionEvent {
        let event = tokio::time::timeout(self.patience, session.event()).await;
        event.expect("the event comes within the bound")
    }

    /// Waits for the next watch to fire, and returns which.
    async fn next_change(&self, session: &dyn Session) -> String {
        loop {
            match self.next_event(session).await {
                SessionEvent::Changed { path } => {
                    let rest = path
                        .strip_prefix(&self.root)
                        .expect("a path that was watched");
                    return rest.trim_start_matches('/').to_string();
                }
                SessionEvent::Connected | SessionEvent::Disconnected => {}
                SessionEvent::Expired => panic!("the session of {} expired", self.root),
            }
        }
    }

    /// Waits until a znode is gone, led by watches.
    async fn gone(&self, session: &dyn Session, rest: &str) {
        while self.read(session, rest).await.is_some() {
            self.next_change(session).await;
        }
    }

    async fn znodes_are_made_set_and_deleted(&self) {
        let session = self.connect().await;
        let (path, mode) = (self.path("plain/a"), CreateMode::Persistent);
        assert_eq!(self.read(session.as_ref(), "plain/a").await, None);
        let made = multi(session.as_ref(), vec![self.create("plain/a", "1", mode)]).await;
        assert_eq!(made, [changed(&path, 0)], "a missing parent is made");
        let version_at = |data: &str, version| Znode {
            data: data.as_bytes().to_vec(),
            version,
            owner: None,
        };
        let read = self.read(session.as_ref(), "plain/a").await;
        assert_eq!(read, Some(version_at("1", 0)));
        let set = multi(session.as_ref(), vec![self.set("plain/a", "2", Some(0))]).await;
        assert_eq!(set, [changed(&path, 1)], "a set adds one to the version");
        multi(session.as_ref(), vec![self.set("plain/a", "3", None)]).await;
        let read = self.read(session.as_ref(), "plain/a").await;
        assert_eq!(read, Some(version_at("3", 2)));
        let more = vec![
            self.create("plain/c", "", mode),
            self.create("plain/b/x", "", mode),
        ];
        multi(session.as_ref(), more).await;
        let names = self.children(session.as_ref(), "plain").await;
        assert_eq!(
            names,
            ["a", "b", "c"],
            "children are sorted, and only the next level"
        );
        multi(session.as_ref(), vec![self.delete("plain/a", Some(2))]).await;
        assert_eq!(self.read(session.as_ref(), "plain/a").await, None);
        let none = self.children(session.as_ref(), "nowhere").await;
        assert!(none.is_empty(), "what is not there has no children");
        multi(session.as_ref(), vec![self.create("plain/a", "", mode)]).await;
        let again = self.read(session.as_ref(), "plain/a").await;
        assert_eq!(
            again.map(|znode| znode.version),
            Some(0),
            "a new znode counts anew"
        );
        session.close().await;
    }

    async fn a_check_that_fails_is_a_conflict(&self) {
        let session = self.connect().await;
        let mode = CreateMode::Persistent;
        multi(session.as_ref(), vec![self.create("checks/a", "1", mode)]).await;
        multi(
            session.as_ref(),
            vec![self.create("checks/e", "", CreateMode::Ephemeral)],
        )
        .await;
        for refused in [
            self.create("checks/a", "2", mode),
            self.create("checks/e/child", "2", mode),
            self.set("checks/a", "2", Some(1)),
            self.set("checks/b", "2", None),
            self.delete("checks/a", Some(1)),
            self.delete("checks/b", None),
            self.delete("checks", None),
        ] {
            let result = session.multi(vec![refused.clone()]).await;
            assert_eq!(result, Err(CoordinationError::Conflict), "{refused:?}");
        }
        let read = self.read(session.as_ref(), "checks/a").await;
        let untouched = read.map(|znode| (znode.data, znode.version));
        assert_eq!(untouched, Some((b"1".to_vec(), 0)));
        session.close().await;
    }

    async fn a_multi_happens_whole_or_not_at_all(&self) {
        let session = self.connect().await;
        let mode = CreateMode::Persistent;
        multi(session.as_ref(), vec![self.create("multi/a", "1", mode)]).await;
        let half_wrong = vec![
            self.set("multi/a", "2", Some(0)),
            self.create("multi/b", "", mode),
            self.set("multi/c", "", None),
        ];
        let refused = session.multi(half_wrong).await;
        assert_eq!(refused, Err(CoordinationError::Conflict));
        let a = self.read(session.as_ref(), "multi/a").await;
        assert_eq!(
            a.map(|znode| znode.version),
            Some(0),
            "nothing of it happened"
        );
        assert_eq!(self.read(session.as_ref(), "multi/b").await, None);
        let right = vec![
            self.set("multi/a", "2", Some(0)),
            self.create("multi/b", "", mode),
            self.set("multi/b", "3", Some(0)),
        ];
        let versions: Vec<u64> = multi(session.as_ref(), right)
            .await
            .iter()
            .map(|c| c.version)
            .collect();
        assert_eq!(versions, [1, 0, 1], "a later change sees the earlier ones");
        session.close().await;
    }

    async fn sequential_names_grow(&self) {
        let (one, two) = (self.connect().await, self.connect().await);
        let mut numbers = Vec::new();
        for session in [&one, &two, &one, &two] {
            let next = self.create("queue/x-", "", CreateMode::EphemeralSequential);
            let made = multi(session.as_ref(), vec![next]).await;
            let number = made[0].path.strip_prefix(&self.path("queue/x-"));
            let number = number.expect("the number follows the prefix");
            assert_eq!(number.len(), 10, "the number has ten digits");
            numbers.push(number.parse::<u64>().expect("the number is a number"));
        }
        assert!(
            numbers.is_sorted_by(|a, b| a < b),
            "each number is higher: {numbers:?}"
        );
        two.close().await;
        assert_eq!(self.children(one.as_ref(), "queue").await.len(), 2);
        one.close().await;
    }

    async fn a_watch_fires_once(&self) {
        let (watcher, other) = (self.connect().await, self.connect().await);
        let mode = CreateMode::Persistent;
        let two = vec![
            self.create("once/a", "", mode),
            self.create("once/b", "", mode),
        ];
        multi(other.as_ref(), two).await;
        self.read(watcher.as_ref(), "once/a").await;
        self.read(watcher.as_ref(), "once/a").await;
        self.read(watcher.as_ref(), "once/b").await;
        multi(other.as_ref(), vec![self.set("once/a", "1", None)]).await;
        assert_eq!(self.next_change(watcher.as_ref()).await, "once/a");
        multi(other.as_ref(), vec![self.set("once/a", "2", None)]).await;
        multi(other.as_ref(), vec![self.set("once/b", "1", None)]).await;
        let next = self.next_change(watcher.as_ref()).await;
        assert_eq!(next, "once/b", "a watch that has fired is used up");
        watcher.close().await;
        other.close().await;
    }

    async fn a_watch_sees_a_znode_come_and_go(&self) {
        let (watcher, other) = (self.connect().await, self.connect().await);
        assert_eq!(self.read(watcher.as_ref(), "come/a").await, None);
        let made = self.create("come/a", "", CreateMode::Ephemeral);
        multi(other.as_ref(), vec![made]).await;
        assert_eq!(self.next_change(watcher.as_ref()).await, "come/a");
        let read = self.read(watcher.as_ref(), "come/a").await;
        let owner = read.and_then(|znode| znode.owner);
        assert_eq!(
            owner,
            Some(other.id()),
            "an ephemeral znode names its session"
        );
        multi(other.as_ref(), vec![self.delete("come/a", None)]).await;
        assert_eq!(self.next_change(watcher.as_ref()).await, "come/a");
        watcher.close().await;
        other.close().await;
    }

    async fn a_watch_of_children_sees_them_come_and_go(&self) {
        let (watcher, other) = (self.connect().await, self.connect().await);
        assert!(self.children(watcher.as_ref(), "list").await.is_empty());
        let made = self.create("list/a", "", CreateMode::Persistent);
        multi(other.as_ref(), vec![made]).await;
        assert_eq!(self.next_change(watcher.as_ref()).await, "list");
        assert_eq!(self.children(watcher.as_ref(), "list").await, ["a"]);
        multi(other.as_ref(), vec![self.set("list/a", "1", None)]).await;
        multi(other.as_ref(), vec![self.delete("list/a", None)]).await;
        assert_eq!(self.next_change(watcher.as_ref()).await, "list");
        assert!(self.children(watcher.as_ref(), "list").await.is_empty());
        self.read(watcher.as_ref(), "list/marker").await;
        let marker = self.create("list/marker", "", CreateMode::Persistent);
        multi(other.as_ref(), vec![marker]).await;
        let both = [
            self.next_change(watcher.as_ref()).await,
            self.next_change(watcher.as_ref()).await,
        ];
        assert_eq!(
            BTreeSet::from(both),
            ["list", "list/marker"].map(str::to_string).into()
        );
        watcher.close().await;
        other.close().await;
    }

    /// Nothing of the path exists, neither what is watched nor what is above it. Own changes are told like any other's.
    async fn a_watch_reaches_below_what_does_not_exist(&self) {
        let watcher = self.connect().await;
        assert_eq!(self.read(watcher.as_ref(), "deep/a/b").await, None);
        assert!(self.children(watcher.as_ref(), "deep/c").await.is_empty());
        let made = self.create("deep/a/b", "", CreateMode::Persistent);
        multi(watcher.as_ref(), vec![made]).await;
        assert_eq!(self.next_change(watcher.as_ref()).await, "deep/a/b");
        let made = self.create("deep/c/d", "", CreateMode::Persistent);
        multi(watcher.as_ref(), vec![made]).await;
        assert_eq!(self.next_change(watcher.as_ref()).await, "deep/c");
        assert_eq!(self.children(watcher.as_ref(), "deep/c").await, ["d"]);
        watcher.close().await;
    }

    async fn two_watches_of_a_path_are_told_as_one(&self) {
        let (watcher, other) = (self.connect().await, self.connect().await);
        let two = vec![
            self.create("both/a", "", CreateMode::Persistent),
            self.create("both/z", "", CreateMode::Persistent),
        ];
        multi(other.as_ref(), two).await;
        self.read(watcher.as_ref(), "both/a").await;
        self.children(watcher.as_ref(), "both/a").await;
        self.read(watcher.as_ref(), "both/z").await;
        multi(other.as_ref(), vec![self.delete("both/a", None)]).await;
        assert_eq!(self.next_change(watcher.as_ref()).await, "both/a");
        multi(other.as_ref(), vec![self.set("both/z", "1", None)]).await;
        let next = self.next_change(watcher.as_ref()).await;
        assert_eq!(next, "both/z", "one end is told once");
        watcher.close().await;
        other.close().await;
    }

    /// Reading and watching are one step: a change between the two would be missed, and the follower would wait for ever.
    async fn a_follower_of_watches_misses_nothing(&self) {
        let (follower, writer) = (self.connect().await, self.connect().await);
        let made = self.create("follow/a", "", CreateMode::Persistent);
        multi(writer.as_ref(), vec![made]).await;
        let writing = async {
            for _ in 0..CHANGE_COUNT {
                multi(writer.as_ref(), vec![self.set("follow/a", "", None)]).await;
            }
        };
        let following = async {
            let mut seen = 0;
            while seen < CHANGE_COUNT {
                let read = self.read(follower.as_ref(), "follow/a").await;
                let version = read.map(|znode| znode.version);
                let version = version.expect("the znode is there");
                assert!(version >= seen, "a later answer is older");
                seen = version;
                if seen < CHANGE_COUNT {
                    self.next_change(follower.as_ref()).await;
                }
            }
        };
        futures::join!(writing, following);
        follower.close().await;
        writer.close().await;
    }

    async fn later_answers_are_never_older(&self) {
        let (one, two) = (self.connect().await, self.connect().await);
        multi(
            one.as_ref(),
            vec![self.create("order/a", "", CreateMode::Persistent)],
        )
        .await;
        let mut seen = 0;
        for turn in 0..CHANGE_COUNT {
            let session = if turn % 2 == 0 { &one } else { &two };
            let set = multi(session.as_ref(), vec![self.set("order/a", "", None)]).await;
            assert_eq!(set[0].version, seen + 1, "all sets stand in one order");
            let read = self.read(session.as_ref(), "order/a").await;
            assert_eq!(
                read.map(|znode| znode.version),
                Some(set[0].version),
                "own writes are seen"
            );
            seen = set[0].version;
        }
        one.close().await;
        two.close().await;
    }

    async fn session_ids_are_never_used_twice(&self) {
        let mut ids = BTreeSet::new();
        for _ in 0..5 {
            let session = self.connect().await;
            assert!(ids.insert(session.id()), "{} is used twice", session.id());
            session.close().await;
        }
    }

    async fn closing_ends_the_session_at_once(&self) {
        let (watcher, other) = (self.connect().await, self.connect().await);
        let made = self.create("close/a", "", CreateMode::Ephemeral);
        multi(other.as_ref(), vec![made]).await;
        assert!(self.read(watcher.as_ref(), "close/a").await.is_some());
        other.close().await;
        let at_once = tokio::time::timeout(
            watcher.timeout() / 2,
            self.gone(watcher.as_ref(), "close/a"),
        );
        at_once
            .await
            .expect("closing does not wait for the timeout");
        let after = other.read(&self.path("close/a")).await;
        assert_eq!(after, Err(CoordinationError::Expired));
        watcher.close().await;
    }

    async fn a_dropped_session_ends_after_its_timeout(&self) {
        let (watcher, other) = (self.connect().await, self.connect().await);
        let changes = vec![
            self.create("drop/a", "", CreateMode::Ephemeral),
            self.create("drop/b", "", CreateMode::Persistent),
        ];
        multi(other.as_ref(), changes).await;
        let dropped_at = tokio::time::Instant::now();
        let timeout = other.timeout();
        drop(other);
        self.gone(watcher.as_ref(), "drop/a").await;
        // The service may have heard of it last up to a part of the timeout earlier.
        assert!(
            dropped_at.elapsed() >= timeout / 2,
            "a session outlives its silence"
        );
        assert!(self.read(watcher.as_ref(), "drop/b").await.is_some());
        watcher.close().await;
    }

    async fn expired_stays_expired(&self) {
        let (watcher, other) = (self.connect().await, self.connect().await);
        let made = self.create("expire/a", "", CreateMode::Ephemeral);
        multi(other.as_ref(), vec![made]).await;
        (self.expire)(other.id()).await;
        self.gone(watcher.as_ref(), "expire/a").await;
        loop {
            match self.next_event(other.as_ref()).await {
                SessionEvent::Expired => break,
                SessionEvent::Connected | SessionEvent::Disconnected => {}
                SessionEvent::Changed { path } => panic!("{path} was not watched"),
            }
        }
        for _ in 0..2 {
            let expired = CoordinationError::Expired;
            let create = self.create("expire/b", "", CreateMode::Persistent);
            assert_eq!(other.multi(vec![create]).await, Err(expired));
            assert_eq!(other.read(&self.path("expire/a")).await, Err(expired));
            assert_eq!(other.children(&self.path("expire")).await, Err(expired));
            assert_eq!(self.next_event(other.as_ref()).await, SessionEvent::Expired);
        }
        assert_eq!(self.read(watcher.as_ref(), "expire/b").await, None);
        watcher.close().await;
    }
}

async fn multi(session: &dyn Session, changes: Vec<Change>) -> Vec<Changed> {
    let changed = session.multi(changes).await;
    changed.expect("nothing fails here")
}

fn changed(path: &str, version: u64) -> Changed {
    let path = path.to_string();
    Changed { path, version }
}

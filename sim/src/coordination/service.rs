//! The service's side: one task that takes requests in the order of their arrival, and ends what is overdue.
//!
//! It is follower and leader in one, and takes the follower to be lost right after the last message of a session: a deadline
//! says what the leader knows for certain ([`Connection::hear`]).

mod directed;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv::coordination::registry::{CLUSTER, NODES, node_of, node_path};
use kv::coordination::tree::Tree;
use kv::coordination::{Change, CoordinationError, CreateMode, Znode};
use kv_core::{NodeId, SessionId};
use madsim::net::Endpoint;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::directed::Direction;
use super::{Answer, Ask, Call, Envelope, POLLS_PER_TIMEOUT, REQUESTS, WORDS_PER_TIMEOUT, payload};

/// The service. Clones are handles of the same one, for its node and for whoever breaks it.
///
/// Its state lives outside of the node that serves it, as an ensemble's would: killing the node forgets nothing.
#[derive(Clone)]
pub struct CoordinationService {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something was done from outside that may concern the serving task.
    meddled: Notify,
}

struct State {
    session_timeout: Duration,
    started: Instant,
    tree: Tree,
    sessions: BTreeMap<SessionId, Connection>,
    ignored: BTreeSet<SessionId>,
    /// Who hears what, in a directed run.
    direction: Option<Direction>,
    message_count: u64,
    outgoing: Vec<(ReplyTo, Answer)>,
}

/// What is known of a session besides the tree.
#[derive(Default)]
struct Connection {
    /// Which one counts; messages of earlier ones are dropped.
    number: u64,
    polls_seen: u64,
    waiting: Option<Waiting>,
    /// What the follower has heard, in order, and the leader may not know yet.
    heard: VecDeque<Heard>,
}

/// A message that keeps a session, once the leader knows of it.
struct Heard {
    at: Duration,
    /// When the leader knows, if the follower has not been lost by then.
    told_by: Duration,
}

/// A poll that has not been answered yet.
struct Waiting {
    reply_to: ReplyTo,
    until: Duration,
}

#[derive(Clone, Copy)]
struct ReplyTo {
    address: SocketAddr,
    mailbox: u64,
}

impl CoordinationService {
    /// A service without any znode or session. To be made inside the simulation, whose time it takes.
    #[must_use]
    pub fn new(session_timeout: Duration) -> Self {
        let state = State {
            session_timeout,
            started: Instant::now(),
            tree: Tree::default(),
            sessions: BTreeMap::new(),
            ignored: BTreeSet::new(),
            direction: None,
            message_count: 0,
            outgoing: Vec::new(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                meddled: Notify::new(),
            }),
        }
    }

    /// Serves at an address of the current node, for as long as the node lives. After a kill, call it again.
    ///
    /// # Errors
    /// When the address is in use or belongs to another node.
    pub async fn serve(&self, address: SocketAddr) -> io::Result<Infallible> {
        let endpoint = Endpoint::bind(address).await?;
        self.state().begin();
        // A reception that is dropped half-way would lose its message, so it lives on from round to round.
        let mut reception = Box::pin(endpoint.recv_from_raw(REQUESTS));
        loop {
            let (outgoing, next_deadline) = {
                let mut state = self.state();
                state.on_time();
                let next_deadline = state.next_deadline().map(|at| state.started + at);
                (std::mem::take(&mut state.outgoing), next_deadline)
            };
            for (to, answer) in outgoing {
                endpoint
                    .send_to_raw(to.address, to.mailbox, payload(answer))
                    .await?;
            }
            tokio::select! {
                biased;
                received = &mut reception => {
                    let (message, from) = received?;
                    reception = Box::pin(endpoint.recv_from_raw(REQUESTS));
                    let envelope = message.downcast::<Envelope>();
                    let Envelope { reply_to: mailbox, ask } = *envelope.expect("clients send this");
                    let address = from;
                    self.state().on_ask(ReplyTo { address, mailbox }, ask);
                }
                () = self.shared.meddled.notified() => {}
                () = sleep_until_some(next_deadline) => {}
            }
        }
    }

    /// Ends a session on the spot, whatever its client is doing. No lease survives that honestly: see the file's head.
    pub fn expire_session(&self, session: SessionId) {
        self.state().end_session(session);
        self.shared.meddled.notify_one();
    }

    /// Hears nothing of a session any more, so that it expires after its timeout, as if it were cut off.
    pub fn ignore_session(&self, session: SessionId) {
        self.state().ignored.insert(session);
    }

    /// The session under which a node is registered.
    #[must_use]
    pub fn session_of(&self, node: NodeId) -> Option<SessionId> {
        self.peek(&node_path(node))?.owner
    }

    /// The node whose session holds a lock: the first in its queue, if that session is a registered node's.
    #[must_use]
    pub fn holder_of(&self, lock: &str) -> Option<NodeId> {
        let state = self.state();
        let owner = |path: &str| state.tree.peek(path)?.owner;
        let number = |name: &&str| Some(name.rsplit_once('-')?.1.parse::<u64>().ok());
        let first = state.tree.peek_children(lock).min_by_key(number)?;
        let holder = owner(&format!("{lock}/{first}"))?;
        let mut nodes = state.tree.peek_children(NODES);
        nodes.find_map(|name| {
            let path = format!("{NODES}/{name}");
            node_of(&path).filter(|_| owner(&path) == Some(holder))
        })
    }

    /// The cluster has a name already, so that nodes need not race for giving it one: a directed run has no cue for that.
    pub fn name_cluster(&self) {
        let tree = &mut self.state().tree;
        let session = tree.open_session(None);
        let name = Change::Create {
            path: CLUSTER.to_owned(),
            data: format!("{:016x}", 1).into_bytes(),
            mode: CreateMode::Persistent,
        };
        let named = tree.multi(session, vec![name]);
        assert!(named.is_ok(), "nobody has named it before");
        tree.end_session(session);
    }

    /// What a znode holds, seen from outside.
    #[must_use]
    pub fn peek(&self, path: &str) -> Option<Znode> {
        self.state().tree.peek(path)
    }

    /// How many messages have arrived.
    #[must_use]
    pub fn message_count(&self) -> u64 {
        self.state().message_count
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// A new connection: the leader is asked at once whether the session lives. But only what comes on it shows that the client
    /// has it, too.
    fn begin(&mut self, now: Duration) {
        let told_by = now;
        self.heard = VecDeque::from([Heard { at: now, told_by }]);
    }

    /// A message on the current connection. It shows that the follower lives, and with that from when on the leader keeps the
    /// session for its timeout, if it knows of anything new.
    fn hear(&mut self, now: Duration, words_apart: Duration) -> Option<Duration> {
        let mut known = None;
        while let Some(heard) = self.heard.pop_front_if(|heard| heard.told_by <= now) {
            known = Some(heard.at);
        }
        let told_by = now + words_apart;
        self.heard.push_back(Heard { at: now, told_by });
        known
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl State {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The process starts, perhaps again: nobody waits, and every session has its whole timeout.
    fn begin(&mut self) {
        let deadline = Some(self.now() + self.session_timeout);
        self.outgoing.clear();
        for (session, connection) in &mut self.sessions {
            connection.waiting = None;
            connection.heard.clear();
            // One that is over stays over.
            let _ = self.tree.keep_session(*session, deadline);
        }
    }

    fn on_ask(&mut self, reply_to: ReplyTo, ask: Ask) {
        self.message_count += 1;
        self.on_time();
        match ask {
            Ask::Open => {
                let timeout = self.session_timeout;
                let session = self.tree.open_session(Some(self.now() + timeout));
                let connection = Connection {
                    number: 1,
                    ..Connection::default()
                };
                self.sessions.insert(session, connection);
                if let Some(direction) = &mut self.direction {
                    direction.opened(session);
                }
                self.answer(reply_to, Answer::Opened { session, timeout });
            }
            Ask::Session {
                session,
                connection,
                call,
            } => self.on_call(reply_to, session, connection, call),
        }
    }

    fn on_call(&mut self, reply_to: ReplyTo, session: SessionId, number: u64, call: Call) {
        if self.keeps_back(session, reply_to, &call) {
            return;
        }
        let now = self.now();
        let Some(connection) = self.sessions.get_mut(&session) else {
            return self.answer(reply_to, Answer::Failed(CoordinationError::Expired));
        };
        if self.ignored.contains(&session) {
            return;
        }
        if matches!(call, Call::Reconnect) {
            if number > connection.number {
                connection.number = number;
                connection.waiting = None;
                connection.begin(now);
                self.answer(reply_to, Answer::Reconnected);
            }
            return;
        }
        if number != connection.number {
            return; // Of a connection that was given up: its client does not wait for an answer.
        }
        if let Some(known) = connection.hear(now, self.session_timeout / WORDS_PER_TIMEOUT) {
            let deadline = known + self.session_timeout;
            let kept = self.tree.keep_session(session, Some(deadline));
            assert!(kept.is_ok(), "a session that is over has no connection");
        }
        let answer = match call {
            Call::Poll {
                number,
                acknowledged,
                is_urgent,
            } => {
                self.tree.acknowledge(session, acknowledged);
                return self.on_poll(reply_to, session, number, is_urgent);
            }
            Call::Read(path) => self.tree.read(session, &path).map(Answer::Read),
            Call::Children(path) => self.tree.children(session, &path).map(Answer::Children),
            Call::Multi(changes) => self.tree.multi(session, changes).map(Answer::Multi),
            Call::Close => {
                self.end_session(session);
                Ok(Answer::Closed)
            }
            Call::Reconnect => unreachable!("handled above"),
        };
        self.answer(reply_to, answer.unwrap_or_else(Answer::Failed));
    }

    fn on_poll(&mut self, reply_to: ReplyTo, session: SessionId, number: u64, is_urgent: bool) {
        let hold = match is_urgent {
            true => Duration::ZERO,
            false => self.session_timeout / POLLS_PER_TIMEOUT,
        };
        let until = self.now() + hold;
        let connection = self.sessions.get_mut(&session);
        let connection = connection.expect("the session lives");
        if number > connection.polls_seen {
            connection.polls_seen = number;
            connection.waiting = Some(Waiting { reply_to, until });
        } // Else a later poll has overtaken this one, and its client waits for that.
    }

    /// Ends the sessions that are overdue, and answers the polls that have an event or have waited long enough.
    fn on_time(&mut self) {
        let now = self.now();
        for session in self.tree.expire(now) {
            self.forget_connection(session);
        }
        let mut answers = Vec::new();
        for (session, connection) in &mut self.sessions {
            let hears = self.direction.as_ref().is_none_or(|it| it.hears(*session));
            let events = match hears {
                true => self.tree.events(*session),
                false => Vec::new(),
            };
            if let Some(waiting) = connection
                .waiting
                .take_if(|waiting| !events.is_empty() || waiting.until <= now)
            {
                answers.push((waiting.reply_to, Answer::Events(events)));
            }
        }
        self.outgoing.extend(answers);
    }

    fn next_deadline(&self) -> Option<Duration> {
        let polls = self.sessions.values().filter_map(|c| c.waiting.as_ref());
        let polls = polls.map(|waiting| waiting.until);
        polls.chain(self.tree.next_deadline()).min()
    }

    fn end_session(&mut self, session: SessionId) {
        self.tree.end_session(session);
        self.forget_connection(session);
    }

    /// A poll that waits learns that its session is over.
    fn forget_connection(&mut self, session: SessionId) {
        let is_ignored = self.ignored.remove(&session);
        let connection = self.sessions.remove(&session);
        if let Some(waiting) = connection.and_then(|connection| connection.waiting)
            && !is_ignored
            && !self.keeps_back_the_end(session, waiting.reply_to)
        {
            self.answer(waiting.reply_to, Answer::Failed(CoordinationError::Expired));
        }
    }

    fn answer(&mut self, reply_to: ReplyTo, answer: Answer) {
        self.outgoing.push((reply_to, answer));
    }
}

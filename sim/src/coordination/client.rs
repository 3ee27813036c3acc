//! A node's side: a session is a task that polls for events and keeps the connection, and calls that wait for answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kv::coordination::{
    Change, Changed, Coordination, CoordinationError, LeaseProof, Session, SessionEvent, Znode,
};
use kv_core::SessionId;
use madsim::net::Endpoint;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Answer, Ask, Call, Envelope, POLLS_PER_TIMEOUT, REQUESTS, payload};

/// A call waits this part of the session timeout for its answer.
const CALLS_PER_TIMEOUT: u32 = 4;
/// Who has heard nothing for this part of the session timeout gives the connection up.
const SILENCES_PER_TIMEOUT: u32 = 2;
/// How long an answer that the service does not hold may take: then a poll is repeated, or a new connection tried again.
const ROUND_TRIPS_PER_TIMEOUT: u32 = 8;
/// How long opening a session may take: its timeout is not known yet.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

// A poll that goes unanswered can be repeated before the silence is too long.
const _: () = assert!(
    1.0 / POLLS_PER_TIMEOUT as f64 + 2.0 / ROUND_TRIPS_PER_TIMEOUT as f64
        <= 1.0 / SILENCES_PER_TIMEOUT as f64
);

/// The simulated service as a node of the simulated world reaches it.
#[derive(Clone, Copy, Debug)]
pub struct SimCoordination {
    server: SocketAddr,
    lease_proof: LeaseProof,
}

impl SimCoordination {
    /// The service at that address, from the node on which `connect` is called.
    #[must_use]
    pub fn client(server: SocketAddr) -> Arc<dyn Coordination> {
        let lease_proof = LeaseProof::NextWrite;
        Arc::new(Self {
            server,
            lease_proof,
        })
    }

    /// The same in a directed run: only a cue ends a session there, and the run is over before there could be two writes.
    #[must_use]
    pub fn directed(server: SocketAddr) -> Arc<dyn Coordination> {
        let lease_proof = LeaseProof::Write;
        Arc::new(Self {
            server,
            lease_proof,
        })
    }
}

#[async_trait]
impl Coordination for SimCoordination {
    async fn connect(&self) -> Result<Box<dyn Session>, CoordinationError> {
        let endpoint = Endpoint::bind("0.0.0.0:0").await;
        let endpoint = endpoint.map_err(|_| CoordinationError::Unreachable)?;
        let server = self.server;
        let opening = exchange(&endpoint, server, Ask::Open);
        let answer = tokio::time::timeout(OPEN_TIMEOUT, opening).await;
        let Ok(Some(Answer::Opened { session, timeout })) = answer else {
            return Err(CoordinationError::Unreachable); // If a session was opened, nobody will ever hear of it.
        };
        let (events, incoming) = mpsc::unbounded_channel();
        let link = Link {
            endpoint,
            server,
            session,
            timeout,
            state: watch::Sender::new(State::Connected(1)),
            heard_at: watch::Sender::new(Instant::now()),
        };
        let link = Arc::new(link);
        let task = tokio::spawn(keep(link.clone(), events));
        Ok(Box::new(SimSession {
            link,
            events: tokio::sync::Mutex::new(incoming),
            task: task.abort_handle(),
        }))
    }

    fn lease_proof(&self) -> LeaseProof {
        self.lease_proof
    }
}

/// Asks and waits for the answer; nothing when this node is going down.
async fn exchange(endpoint: &Endpoint, server: SocketAddr, ask: Ask) -> Option<Answer> {
    let reply_to = madsim::rand::random();
    let envelope = Envelope { reply_to, ask };
    let sent = endpoint
        .send_to_raw(server, REQUESTS, payload(envelope))
        .await;
    sent.ok()?;
    let (message, _) = endpoint.recv_from_raw(reply_to).await.ok()?;
    let answer = message.downcast::<Answer>();
    Some(*answer.expect("the service sends this"))
}

/// How a client sees its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// On the connection of that number.
    Connected(u64),
    /// That connection has been given up.
    Disconnected(u64),
    Expired,
}

/// What calls and the keeping task share.
struct Link {
    endpoint: Endpoint,
    server: SocketAddr,
    session: SessionId,
    timeout: Duration,
    state: watch::Sender<State>,
    heard_at: watch::Sender<Instant>,
}

impl Link {
    /// Asks on the current connection, and gives up with it.
    async fn call(&self, call: Call, bound: Duration) -> Result<Answer, CoordinationError> {
        let mut state = self.state.subscribe();
        let connection = match *state.borrow_and_update() {
            State::Connected(connection) => connection,
            State::Disconnected(_) => return Err(CoordinationError::Unreachable),
            State::Expired => return Err(CoordinationError::Expired),
        };
        let answer = tokio::select! {
            biased;
            answer = self.ask(connection, call) => answer,
            _ = state.changed() => None,
            () = tokio::time::sleep(bound) => None,
        };
        match answer {
            Some(Answer::Failed(error)) => Err(error),
            Some(answer) => Ok(answer),
            None => Err(CoordinationError::Unknown),
        }
    }

    /// Asks on a connection, and notes what an answer tells of the session.
    async fn ask(&self, connection: u64, call: Call) -> Option<Answer> {
        let session = self.session;
        let ask = Ask::Session {
            session,
            connection,
            call,
        };
        let answer = exchange(&self.endpoint, self.server, ask).await?;
        self.heard_at.send_replace(Instant::now());
        if matches!(answer, Answer::Failed(CoordinationError::Expired)) {
            self.state.send_replace(State::Expired);
        }
        Some(answer)
    }

    fn call_bound(&self) -> Duration {
        self.timeout / CALLS_PER_TIMEOUT
    }
}

/// Keeps the session: polls as long as there is a connection, and makes a new one when there is none.
async fn keep(link: Arc<Link>, events: mpsc::UnboundedSender<SessionEvent>) {
    let mut polls = Polls::default();
    let mut changes = link.state.subscribe();
    loop {
        let state = *changes.borrow_and_update();
        match state {
            State::Connected(connection) => {
                let silence = link.timeout / SILENCES_PER_TIMEOUT;
                tokio::select! {
                    biased;
                    () = polls.poll(&link, &events) => {}
                    () = silent(&link, silence) => {}
                }
                let is_silent = link.heard_at.borrow().elapsed() >= silence;
                if is_silent && *link.state.borrow() == state {
                    link.state.send_replace(State::Disconnected(connection));
                    let _ = events.send(SessionEvent::Disconnected);
                }
            }
            State::Disconnected(connection) => reconnect(&link, connection, &events).await,
            State::Expired => break,
        }
    }
    let _ = events.send(SessionEvent::Expired);
}

/// How far the polling has come.
#[derive(Default)]
struct Polls {
    number: u64,
    acknowledged: u64,
    /// The last one was not answered, so the next one is to be answered at once.
    was_missed: bool,
}

impl Polls {
    /// Polls once, and passes on what is new.
    async fn poll(&mut self, link: &Link, events: &mpsc::UnboundedSender<SessionEvent>) {
        self.number += 1;
        let is_urgent = std::mem::replace(&mut self.was_missed, true);
        let poll = Call::Poll {
            number: self.number,
            acknowledged: self.acknowledged,
            is_urgent,
        };
        let hold = match is_urgent {
            true => Duration::ZERO,
            false => link.timeout / POLLS_PER_TIMEOUT,
        };
        let bound = hold + link.timeout / ROUND_TRIPS_PER_TIMEOUT;
        if let Ok(Answer::Events(news)) = link.call(poll, bound).await {
            self.was_missed = false;
            for (number, path) in news {
                if number > self.acknowledged {
                    self.acknowledged = number;
                    // Nobody listens once the session is dropped; this task is ending, then.
                    let _ = events.send(SessionEvent::Changed { path });
                }
            }
        }
    }
}

/// Waits until nothing has been heard for so long.
async fn silent(link: &Link, silence: Duration) {
    loop {
        let until = *link.heard_at.borrow() + silence;
        if Instant::now() >= until {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

/// Tries once to make a new connection. Each attempt has a number of its own, so a delayed one is recognised.
async fn reconnect(link: &Link, connection: u64, events: &mpsc::UnboundedSender<SessionEvent>) {
    let next = connection + 1;
    let bound = link.timeout / ROUND_TRIPS_PER_TIMEOUT;
    let answer = tokio::time::timeout(bound, link.ask(next, Call::Reconnect)).await;
    match answer {
        Ok(Some(Answer::Reconnected)) => {
            link.state.send_replace(State::Connected(next));
            let _ = events.send(SessionEvent::Connected);
        }
        Ok(Some(_)) => {} // It is over, which `ask` has noted.
        Ok(None) | Err(_) => drop(link.state.send_replace(State::Disconnected(next))),
    }
}

struct SimSession {
    link: Arc<Link>,
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<SessionEvent>>,
    task: AbortHandle,
}

impl Drop for SimSession {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl Session for SimSession {
    fn id(&self) -> SessionId {
        self.link.session
    }

    fn timeout(&self) -> Duration {
        self.link.timeout
    }

    async fn read(&self, path: &str) -> Result<Option<Znode>, CoordinationError> {
        let call = Call::Read(path.to_string());
        match self.link.call(call, self.link.call_bound()).await? {
            Answer::Read(znode) => Ok(znode),
            answer => panic!("{answer:?} answers a read"),
        }
    }

    async fn children(&self, path: &str) -> Result<Vec<String>, CoordinationError> {
        let call = Call::Children(path.to_string());
        match self.link.call(call, self.link.call_bound()).await? {
            Answer::Children(names) => Ok(names),
            answer => panic!("{answer:?} answers a listing"),
        }
    }

    async fn multi(&self, changes: Vec<Change>) -> Result<Vec<Changed>, CoordinationError> {
        let call = Call::Multi(changes);
        match self.link.call(call, self.link.call_bound()).await? {
            Answer::Multi(changed) => Ok(changed),
            answer => panic!("{answer:?} answers a change"),
        }
    }

    async fn event(&self) -> SessionEvent {
        // The task says `Expired` last, and ends.
        let event = self.events.lock().await.recv().await;
        event.unwrap_or(SessionEvent::Expired)
    }

    async fn close(&self) {
        // Whether it arrived or not, the session is over here; there it ends by its timeout at the latest.
        let _ = self.link.call(Call::Close, self.link.call_bound()).await;
        self.link.state.send_replace(State::Expired);
    }
}

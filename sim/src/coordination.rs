//! The coordination service of the simulated world. It runs on a node of its own, which stands for a whole ensemble, and
//! the others reach it over the simulated network.
//!
//! What it can do wrong:
//! - A message to or from it is lost, delayed, or overtaken, as the network has it. A call without an answer is `Unknown`;
//!   it may have happened. A late answer is never taken for another's.
//! - A client that has heard nothing for half of the session timeout is `Disconnected`: its calls under way are `Unknown`,
//!   new ones `Unreachable`. The session ends at the service when that has heard nothing for the whole timeout, and the
//!   client learns of it (`Expired`) no earlier than it gets through again: perhaps never.
//! - Cut in one direction only, a session ends as well: who hears no answers gives the connection up, and what it asks
//!   after that counts only on a new connection, which takes an answer to make. So it is with TCP.
//! - The service is killed and started again: nothing that was answered is forgotten, what was under way goes unanswered,
//!   and every session gets its whole timeout anew, as in ZooKeeper. Paused, it hears nobody; when it goes on, the
//!   sessions end that it has not heard of in time.
//! - A session ends earlier than its last message and the timeout would have it. A client talks to a follower, and of whom
//!   that has heard the leader, which ends the sessions, learns within a quarter of the timeout. Follower and client may be
//!   lost before, at the worst moment: so a message keeps the session only once another one comes a quarter of the timeout
//!   after it. That a session is opened or taken up on a new connection, the leader knows at once.
//! - It loses a session on purpose: [`CoordinationService::ignore_session`] stops to hear it, so that it expires as a
//!   cut-off one would; [`CoordinationService::expire_session`] ends it on the spot, as only an administrator can, and
//!   with it every lease's promise (R16).
//!
//! What it cannot: forget what was answered, answer two sessions from different pasts, or end a session by itself that the
//! leader was told of within the timeout.
//!
//! ```text
//! client                                   service
//!    │ Open ──────────────────────────────────► │   a session, on connection 1
//!    │ Poll { acknowledged: 7 } ──────────────► │   holds it until an event comes, at most a quarter of the timeout
//!    │ ◄───────────────── Events [(8, "nodes")] │   repeated until it is acknowledged
//!    │ Read, Children, Multi, Close ──────────► │   any message of the current connection keeps the session, later
//!    │ Reconnect { connection: 2 } ───────────► │   if it lives, connection 2 is the current one, and keeps it once used
//! ```

mod client;
mod service;

use std::any::Any;
use std::time::Duration;

use kv::coordination::{Change, Changed, CoordinationError, Znode};
use kv_core::SessionId;

pub use client::SimCoordination;
pub use service::CoordinationService;

/// The mailbox of requests at the service's endpoint. Answers go to the mailbox that the request names.
const REQUESTS: u64 = 0;
/// An idle poll is answered this often within a session timeout.
const POLLS_PER_TIMEOUT: u32 = 4;
/// A follower tells the leader of whom it has heard this often within a session timeout, or more often.
const WORDS_PER_TIMEOUT: u32 = 4;

/// What a client says.
#[derive(Debug)]
struct Envelope {
    /// The mailbox for the answer: a number that is never used twice.
    reply_to: u64,
    ask: Ask,
}

/// What a client asks.
#[derive(Debug)]
enum Ask {
    /// A new session.
    Open,
    /// Something of a session's, on a connection.
    Session {
        session: SessionId,
        connection: u64,
        call: Call,
    },
}

#[derive(Debug)]
enum Call {
    Reconnect,
    /// Tells the last event that arrived, and waits for the next. Polls are numbered, since one may overtake another.
    Poll {
        number: u64,
        acknowledged: u64,
        /// To be answered at once, since the last one was not.
        is_urgent: bool,
    },
    Read(String),
    Children(String),
    Multi(Vec<Change>),
    Close,
}

/// What the service answers.
#[derive(Debug)]
enum Answer {
    Opened {
        session: SessionId,
        timeout: Duration,
    },
    Reconnected,
    Events(Vec<(u64, String)>),
    Read(Option<Znode>),
    Children(Vec<String>),
    Multi(Vec<Changed>),
    Closed,
    Failed(CoordinationError),
}

/// A message as the simulated network carries it.
fn payload<T: Any + Send + Sync>(message: T) -> Box<dyn Any + Send + Sync> {
    Box::new(message)
}

//! A session: a client of the crate's at a time, and a task that follows its state and takes the session up again with another one
//! where the crate has given it up by its own clock.
//!
//! ```text
//! Connected ◄──────────────────────────────────────┐
//!     │  nothing heard for 2/5 of the timeout      │ a server is reached, and knows the session
//!     ▼                                            │
//! Disconnected ── the crate tries, then this task ─┤
//!     ▲                                            │ a server is reached, and does not know it
//!     └── not reached: try again                   ▼
//!                                               Expired
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kv_core::SessionId;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use zookeeper_client as zk;

use super::watches::Watches;
use super::{ZooKeeper, calls};
use crate::coordination::{Change, Changed, CoordinationError, Session, SessionEvent, Znode};

/// A call waits this part of the session timeout for its answer. The crate gives a silent connection up before that.
const CALLS_PER_TIMEOUT: u32 = 2;
/// An attempt to take the session up again may take this part of its timeout: the crate's pauses grow within one.
const ATTEMPTS_PER_TIMEOUT: u32 = 2;
/// The pause after an attempt that was refused at once.
const PAUSES_PER_TIMEOUT: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connected,
    Disconnected,
    Expired,
}

/// A session, held open by its handle.
pub(super) struct ZooKeeperSession {
    link: Arc<Link>,
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<SessionEvent>>,
    task: AbortHandle,
}

/// What calls and the task share.
struct Link {
    service: ZooKeeper,
    info: zk::SessionInfo,
    /// None once it is closed.
    client: Mutex<Option<zk::Client>>,
    /// What the servers granted.
    timeout: Mutex<Duration>,
    state: watch::Sender<State>,
    watches: Watches,
}

impl ZooKeeperSession {
    pub(super) fn start(service: ZooKeeper, client: zk::Client) -> Self {
        let (events, incoming) = mpsc::unbounded_channel();
        let link = Arc::new(Link {
            service,
            info: client.session().clone(),
            timeout: Mutex::new(client.session_timeout()),
            client: Mutex::new(Some(client)),
            state: watch::Sender::new(State::Connected),
            watches: Watches::default(),
        });
        let task = tokio::spawn(keep(link.clone(), events));
        Self {
            link,
            events: tokio::sync::Mutex::new(incoming),
            task: task.abort_handle(),
        }
    }
}

/// Follows the session to its end.
async fn keep(link: Arc<Link>, events: mpsc::UnboundedSender<SessionEvent>) {
    loop {
        link.follow(&events).await;
        link.enter(State::Disconnected, &events);
        if !link.resume().await {
            break;
        }
        link.watches.doubt_all();
        link.enter(State::Connected, &events);
    }
    link.enter(State::Expired, &events);
}

impl Link {
    fn client(&self) -> MutexGuard<'_, Option<zk::Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timeout(&self) -> Duration {
        *self.timeout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of a new state. Nobody listens once the session is dropped.
    fn enter(&self, state: State, events: &mpsc::UnboundedSender<SessionEvent>) {
        if self.state.send_replace(state) != state {
            let _ = events.send(match state {
                State::Connected => SessionEvent::Connected,
                State::Disconnected => SessionEvent::Disconnected,
                State::Expired => SessionEvent::Expired,
            });
        }
    }

    /// Follows the state of the client until it has given up. Holds no client meanwhile: whoever closes it must be the last.
    async fn follow(&self, events: &mpsc::UnboundedSender<SessionEvent>) {
        let watching = self
            .client()
            .as_ref()
            .map(|client| (client.state_watcher(), client.state()));
        let Some((mut states, mut state)) = watching else {
            return;
        };
        while !state.is_terminated() {
            self.enter(
                match state {
                    zk::SessionState::SyncConnected => State::Connected,
                    _ => State::Disconnected,
                },
                events,
            );
            state = states.changed().await;
        }
    }

    /// Takes the session up again with another client, however long that takes. False if a server says that it is over.
    async fn resume(&self) -> bool {
        loop {
            let connector = self.service.connector().with_detached();
            let connector = connector.with_session(self.info.clone());
            let resuming = async {
                let client = self.service.reach(connector).await?;
                // The crate has forgotten what this session has seen; another server might be behind that.
                client.sync("/").await?;
                Ok::<zk::Client, zk::Error>(client)
            };
            let bound = self.timeout() / ATTEMPTS_PER_TIMEOUT;
            match tokio::time::timeout(bound, resuming).await {
                Ok(Ok(client)) => {
                    let granted = client.session_timeout();
                    *self.timeout.lock().unwrap_or_else(PoisonError::into_inner) = granted;
                    *self.client() = Some(client);
                    return true;
                }
                Ok(Err(zk::Error::SessionExpired)) => return false,
                Ok(Err(_)) => tokio::time::sleep(self.timeout() / PAUSES_PER_TIMEOUT).await,
                Err(_) => {}
            }
        }
    }

    /// The client to call with, where there is a connection.
    fn connected(&self) -> Result<zk::Client, CoordinationError> {
        match *self.state.borrow() {
            State::Connected => self.client().clone().ok_or(CoordinationError::Expired),
            // The crate would keep it until there is a connection again.
            State::Disconnected => Err(CoordinationError::Unreachable),
            State::Expired => Err(CoordinationError::Expired),
        }
    }

    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, CoordinationError>>,
    ) -> Result<T, CoordinationError> {
        let bound = self.timeout() / CALLS_PER_TIMEOUT;
        let ended = tokio::time::timeout(bound, call).await;
        ended.unwrap_or(Err(CoordinationError::Unknown))
    }

    /// Ends the session at the servers: a client that is not detached takes it over, and ends it by going.
    async fn close(&self) -> Result<(), zk::Error> {
        let connector = self.service.connector();
        let connector = connector.with_session(self.info.clone());
        let client = self.service.reach(connector).await?;
        let mut states = client.state_watcher();
        drop(client);
        while !states.changed().await.is_terminated() {}
        Ok(())
    }
}

impl Drop for ZooKeeperSession {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl Session for ZooKeeperSession {
    fn id(&self) -> SessionId {
        calls::session_id(self.link.info.id())
    }

    fn timeout(&self) -> Duration {
        self.link.timeout()
    }

    async fn read(&self, path: &str) -> Result<Option<Znode>, CoordinationError> {
        let client = self.link.connected()?;
        let reading = calls::read(&client, &self.link.watches, path);
        self.link.bounded(reading).await
    }

    async fn children(&self, path: &str) -> Result<Vec<String>, CoordinationError> {
        let client = self.link.connected()?;
        let listing = calls::children(&client, &self.link.watches, path);
        self.link.bounded(listing).await
    }

    async fn multi(&self, changes: Vec<Change>) -> Result<Vec<Changed>, CoordinationError> {
        let client = self.link.connected()?;
        let writing = calls::multi(&client, self.link.service.acls(), &changes);
        self.link.bounded(writing).await
    }

    async fn event(&self) -> SessionEvent {
        let mut events = self.events.lock().await;
        tokio::select! {
            biased;
            // The task says `Expired` last, and ends.
            event = events.recv() => event.unwrap_or(SessionEvent::Expired),
            path = self.link.watches.next() => SessionEvent::Changed { path },
        }
    }

    async fn close(&self) {
        self.task.abort();
        drop(self.link.client().take());
        if self.link.state.send_replace(State::Expired) != State::Expired {
            let bound = self.link.timeout() / CALLS_PER_TIMEOUT;
            // Where no server is reached, the session ends by its timeout.
            let _ = tokio::time::timeout(bound, self.link.close()).await;
        }
    }
}

//! The agent's task: a session begins, is served until it expires, and the next one begins.

use std::sync::Arc;
use std::time::Duration;

use kv_core::NodeId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::mirror::Mirror;
use super::serving::{Ended, Serving};
use super::{AgentState, Command, Notice, Request, SetResult};
use crate::config::NodeConfig;
use crate::coordination::registry::{self, Registered};
use crate::coordination::{CoordinationError, Session, SessionEvent};
use crate::data_folder;
use crate::environment::Environment;
use crate::handle::ClusterMap;

/// An earlier session of the node may take this many timeouts to end; after that somebody else is using the id.
const EARLIER_SESSION_TIMEOUTS_MAX: u32 = 3;

/// The agent's side of its channels.
pub(super) struct Desk {
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
    pub(super) notices: mpsc::UnboundedSender<Notice>,
    pub(super) cluster: watch::Sender<ClusterMap>,
    pub(super) state: watch::Sender<AgentState>,
    pub(super) joined: watch::Sender<Option<u64>>,
}

/// The handle is gone, or asked for the end: then somebody waits for it.
pub(super) type Closed = Option<oneshot::Sender<()>>;

/// Runs the agent until its handle is dropped or closes it.
pub(super) async fn run(config: NodeConfig, environment: Environment, mut desk: Desk) {
    let mut rng = StdRng::seed_from_u64(environment.seed);
    let mut mirror = Mirror::new(config.id);
    let closed = loop {
        desk.state.send_replace(AgentState::Connecting);
        let opening = open(&config, &environment, &mut rng, &desk.state, &desk.joined);
        let opened = answering(&mut desk.requests, &desk.notices, opening).await;
        let session: Arc<dyn Session> = match opened {
            Ok(session) => Arc::from(session),
            Err(closed) => break closed,
        };
        desk.state
            .send_replace(AgentState::Registered(session.id()));
        desk.notify(Notice::Session(Some(session.id())));
        mirror.forget();
        let serving = Serving::new(&config, &environment, session.clone(), &mut mirror);
        match serving.run(&mut desk).await {
            Ended::Expired => desk.notify(Notice::Session(None)),
            Ended::Closed(closed) => {
                session.close().await;
                break closed;
            }
        }
    };
    if let Some(closed) = closed {
        // Whoever asked for the end may have stopped waiting.
        let _ = closed.send(());
    }
}

impl Desk {
    /// Tells the driver. Where it has ended, this task will be, too.
    pub(super) fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }
}

/// Waits for something that happens without a session, and meanwhile answers the commands that would need one.
async fn answering<T>(
    requests: &mut mpsc::UnboundedReceiver<Request>,
    notices: &mpsc::UnboundedSender<Notice>,
    future: impl Future<Output = T>,
) -> Result<T, Closed> {
    let mut future = std::pin::pin!(future);
    loop {
        let request = tokio::select! {
            biased;
            request = requests.recv() => request,
            done = &mut future => return Ok(done),
        };
        let answer = match request {
            None => return Err(None),
            Some(Request::Close(closed)) => return Err(Some(closed)),
            Some(Request::Command(Command::Lock)) => Notice::Lock(false),
            Some(Request::Command(Command::Set { .. })) => Notice::Set(SetResult::Conflict),
            // A session begins with a reading, which answers this one.
            Some(Request::Command(Command::Read | Command::Unlock)) => continue,
        };
        let _ = notices.send(answer);
    }
}

/// Opens a session and registers the node under it, however long that takes.
async fn open(
    config: &NodeConfig,
    environment: &Environment,
    rng: &mut StdRng,
    state: &watch::Sender<AgentState>,
    joined: &watch::Sender<Option<u64>>,
) -> Box<dyn Session> {
    loop {
        let connect = environment.coordination.connect();
        let bound = config.timing.session_timeout;
        let connected = tokio::time::timeout(bound, connect).await;
        if let Ok(Err(error)) = &connected {
            refuse(*error, state);
        }
        if let Ok(Ok(session)) = connected {
            if !join(environment, session.as_ref(), rng, state, joined).await {
                session.close().await;
                let jitter = rng.random_range(0.5..1.5);
                tokio::time::sleep(config.timing.backoff.mul_f64(jitter)).await;
                continue;
            }
            state.send_replace(AgentState::Registering);
            let address = &config.advertise;
            match register(session.as_ref(), config.id, address, state).await {
                Ok(()) => return session,
                Err(error) => {
                    state.send_replace(AgentState::Connecting);
                    refuse(error, state);
                }
            }
            session.close().await;
        }
        let jitter = rng.random_range(0.5..1.5);
        tokio::time::sleep(config.timing.backoff.mul_f64(jitter)).await;
    }
}

/// Whether the data folder is of this cluster; a folder that is of none yet becomes this one's. Nobody is registered with data of another
/// cluster: its entries would have the names of others.
async fn join(
    environment: &Environment,
    session: &dyn Session,
    rng: &mut StdRng,
    state: &watch::Sender<AgentState>,
    joined: &watch::Sender<Option<u64>>,
) -> bool {
    let service = match registry::cluster(session, rng.random()).await {
        Ok(service) => service,
        Err(error) => {
            refuse(error, state);
            return false;
        }
    };
    match data_folder::join(environment.file_system.as_ref(), service).await {
        Ok(folder) if folder == service => {
            environment.transport.join(service);
            joined.send_replace(Some(service));
            true
        }
        Ok(folder) => {
            state.send_replace(AgentState::OtherCluster { folder, service });
            false
        }
        Err(_) => {
            state.send_replace(AgentState::NoFolder);
            false
        }
    }
}

/// Tells of what trying again does not mend.
fn refuse(error: CoordinationError, state: &watch::Sender<AgentState>) {
    if let CoordinationError::Forbidden | CoordinationError::Unreadable = error {
        state.send_replace(AgentState::Refused(error));
    }
}

/// Registers the node, once an earlier session of it has ended. That is awaited, never helped on: the process behind it
/// may live and hold a lease.
///
/// # Errors
/// When the session is over, or the service refuses.
async fn register(
    session: &dyn Session,
    node: NodeId,
    address: &str,
    state: &watch::Sender<AgentState>,
) -> Result<(), CoordinationError> {
    let pause = session.timeout() / 4;
    let mut taken_since: Option<(kv_core::SessionId, Instant)> = None;
    loop {
        match registry::register(session, node, address).await {
            Ok(Registered::Yes) => return Ok(()),
            Ok(Registered::TakenBy(owner)) => {
                let now = Instant::now();
                let since = match taken_since {
                    Some((earlier, since)) if earlier == owner => since,
                    _ => now,
                };
                taken_since = Some((owner, since));
                if now - since > session.timeout() * EARLIER_SESSION_TIMEOUTS_MAX {
                    state.send_replace(AgentState::IdTaken(owner));
                }
            }
            Err(error @ (CoordinationError::Expired | CoordinationError::Forbidden)) => {
                return Err(error);
            }
            // A service that does not answer ends no session, and may give each its whole time anew when it is back.
            Err(_) => taken_since = None,
        }
        wait_for_change(session, pause).await?;
    }
}

/// Waits until a watch fires, or for a while.
async fn wait_for_change(session: &dyn Session, pause: Duration) -> Result<(), CoordinationError> {
    let changed = async {
        loop {
            match session.event().await {
                SessionEvent::Changed { .. } => return Ok(()),
                SessionEvent::Expired => return Err(CoordinationError::Expired),
                SessionEvent::Connected | SessionEvent::Disconnected => {}
            }
        }
    };
    tokio::time::timeout(pause, changed).await.unwrap_or(Ok(()))
}

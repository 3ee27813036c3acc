//! Takes connections on a port, within the limits of a door.
//!
//! A new connection is greeted beside the others (`greeting.rs`). Only so many are greeted at a time, and a new one crowds the oldest out:
//! whoever floods the port with silent connections loses those, and everybody else still gets in. Having spoken, a connection
//! needs a place among those that are served; where there is none it is closed at once.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::connection::Connection;
use super::greeting::{Greeter, Speaks};
use crate::door::{Count, Door};

/// How many connections may wait for the server to take them.
const READY_MAX: usize = 16;

/// How long to wait where the operating system gives no connection: most likely the process has no file handle left.
const PAUSE: Duration = Duration::from_millis(50);

/// A port that is listened on. Dropping it gives the port back.
#[derive(Debug)]
pub struct Listener {
    ready: mpsc::Receiver<Connection>,
    address: SocketAddr,
    task: AbortHandle,
}

impl Listener {
    /// Listens on an address.
    ///
    /// # Errors
    /// What the operating system says, where nobody can listen there.
    pub async fn bind(address: SocketAddr, speaks: Speaks, door: &Door) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        let taking = Taking {
            socket,
            door: door.clone(),
            greeter: Greeter::new(speaks, door.security.clone()),
            ready: sender,
            greeting: JoinSet::new(),
            order: VecDeque::new(),
        };
        let task = tokio::spawn(taking.run()).abort_handle();
        Ok(Self {
            ready,
            address,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection that was let in. Cancel-safe. Nothing once nobody takes connections any more, which only a panic brings about.
    pub async fn accept(&mut self) -> Option<Connection> {
        self.ready.recv().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task of a port.
struct Taking {
    socket: TcpListener,
    door: Door,
    greeter: Greeter,
    ready: mpsc::Sender<Connection>,
    greeting: JoinSet<()>,
    /// Those that are greeted, the oldest first, and some that have been.
    order: VecDeque<AbortHandle>,
}

impl Taking {
    async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                Some(_) = self.greeting.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    Ok((tcp, address)) => self.on_connection(tcp, address),
                    Err(_) => tokio::time::sleep(PAUSE).await,
                },
            }
        }
    }

    fn on_connection(&mut self, tcp: TcpStream, address: SocketAddr) {
        let most = self.door.limits.handshakes.max(1);
        if self.greeting.len() >= most {
            self.crowd_one_out();
        }
        if self.order.len() > 2 * most {
            self.order.retain(|one| !one.is_finished());
        }
        let _ = tcp.set_nodelay(true); // Without it, it is only slower.
        let greeting = greet(
            self.greeter.clone(),
            self.door.clone(),
            self.ready.clone(),
            tcp,
            address,
        );
        self.order.push_back(self.greeting.spawn(greeting));
    }

    fn crowd_one_out(&mut self) {
        while let Some(oldest) = self.order.pop_front() {
            if !oldest.is_finished() {
                oldest.abort();
                self.door.counters.add(Count::CrowdedOut);
                return;
            }
        }
    }
}

/// Greets one connection, and hands it to the server if there is a place for it.
async fn greet(
    greeter: Greeter,
    door: Door,
    ready: mpsc::Sender<Connection>,
    tcp: TcpStream,
    address: SocketAddr,
) {
    let patience = door.limits.handshake_timeout;
    let counters = &door.counters;
    let greeted = match tokio::time::timeout(patience, greeter.greet(tcp, address)).await {
        Ok(Some(greeted)) => greeted,
        Ok(None) => return counters.add(Count::Senseless),
        Err(_) => return counters.add(Count::Silent),
    };
    let Ok(place) = door.places.clone().try_acquire_owned() else {
        return counters.add(Count::RefusedFull);
    };
    counters.add(Count::Accepted);
    let connection = Connection {
        stream: greeted.stream,
        first: greeted.first,
        came: greeted.came,
        _place: place,
    };
    let _ = ready.send(connection).await; // The server is gone: so is the connection.
}

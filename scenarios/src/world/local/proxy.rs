//! A TCP proxy before one place: it carries each connection as the weather on its link allows.
//!
//! ```text
//!  caller ──► read ──► queue (each piece with the moment from which on it may arrive) ──► write ──► callee
//!         ◄── write ◄── queue ◄── read ◄──
//! ```
//!
//! While a direction is cut, nothing is written in it: the queue fills, then the buffers of the kernel, and whoever sends waits. The end
//! of a connection does not get through either. A connection that is made while either direction is cut hangs until both are open,
//! since it takes an answer to make one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::links::{Links, Weather};
use crate::world::Place;
use crate::world::trouble::Trouble;

/// So many pieces wait at most in one direction of a connection.
const PIECES_MAX: usize = 64;
/// A piece has so many bytes at most.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// Says who calls, from the address that the call comes from.
pub(super) type Who = Box<dyn Fn(IpAddr) -> Place + Send + Sync>;

/// Carries what comes to `front` on to `target`, until the runtime ends. Connections to the target come from where the caller does.
/// Returns where it listens.
pub(super) async fn start(
    front: &str,
    target: &str,
    who: Who,
    to: Place,
    links: &Arc<Links>,
) -> Result<SocketAddr, Trouble> {
    let no_address = |source| Trouble::NoAddress {
        address: front.to_owned(),
        source,
    };
    let listener = TcpListener::bind(front).await.map_err(no_address)?;
    let address = listener.local_addr().map_err(no_address)?;
    let target: SocketAddr = target.parse().expect("addresses of ours are numbers");
    let links = links.clone();
    tokio::spawn(async move {
        loop {
            let Ok((caller, source)) = listener.accept().await else {
                continue; // Its caller has gone already.
            };
            let from = who(source.ip());
            let there = links.watch(from, to);
            let back = links.watch(to, from);
            let chances = (links.seed(), links.seed());
            tokio::spawn(async move {
                // How it ends is for the two at its ends to see.
                let _ = carry(caller, source.ip(), target, there, back, chances).await;
            });
        }
    });
    Ok(address)
}

async fn carry(
    caller: TcpStream,
    source: IpAddr,
    target: SocketAddr,
    mut there: watch::Receiver<Weather>,
    mut back: watch::Receiver<Weather>,
    chances: (u64, u64),
) -> io::Result<()> {
    both_open(&mut there, &mut back).await;
    let socket = TcpSocket::new_v4()?;
    if source.is_loopback() && source != IpAddr::from([127, 0, 0, 1]) {
        socket.bind((source, 0).into())?;
    }
    let callee = socket.connect(target).await?;
    caller.set_nodelay(true)?;
    callee.set_nodelay(true)?;
    let (from_caller, to_caller) = caller.into_split();
    let (from_callee, to_callee) = callee.into_split();
    let forth = pump(from_caller, to_callee, there.clone(), chances.0);
    let back_again = pump(from_callee, to_caller, back.clone(), chances.1);
    let ended = tokio::try_join!(forth, back_again).err();
    if let Some(Broken::Closed) = ended {
        // That it broke gets through no sooner than anything else.
        both_open(&mut there, &mut back).await;
    }
    Ok(())
}

/// Waits until both directions are open at the same time.
async fn both_open(there: &mut watch::Receiver<Weather>, back: &mut watch::Receiver<Weather>) {
    loop {
        wait_until_open(there).await;
        wait_until_open(back).await;
        if there.borrow().is_open() {
            return;
        }
    }
}

async fn wait_until_open(weather: &mut watch::Receiver<Weather>) {
    // The links outlive every connection.
    let _ = weather.wait_for(Weather::is_open).await;
}

/// Why one direction of a connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// One of its ends is gone.
    Closed,
    /// A piece was lost.
    Lost,
}

/// Carries one direction, to its end.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    seed: u64,
) -> Result<(), Broken> {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let mut now = weather.clone();
    let read = async move {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut due = Instant::now();
        let mut piece = vec![0; PIECE_BYTES_MAX];
        // A connection that breaks ends here like one that is closed: the other end hears of it when what was sent is through.
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let (delay, lose) = {
                let weather = now.borrow_and_update();
                (weather.delay, weather.lose)
            };
            if lose > 0.0 && rng.random_bool(lose) {
                return Err(Broken::Lost);
            }
            let late = match delay.is_zero() {
                true => Duration::ZERO,
                false => delay.mul_f64(rng.random_range(0.0..=1.0)),
            };
            due = due.max(Instant::now() + late); // Nothing overtakes in a stream.
            if queue.send((due, piece[..count].to_vec())).await.is_err() {
                return Err(Broken::Closed);
            }
        }
        Ok(())
    };
    let write = async move {
        while let Some((due, piece)) = queued.recv().await {
            sleep_until(due).await;
            wait_until_open(&mut weather).await;
            to.write_all(&piece).await.map_err(|_| Broken::Closed)?;
        }
        wait_until_open(&mut weather).await;
        to.shutdown().await.map_err(|_| Broken::Closed)
    };
    tokio::try_join!(read, write).map(|_| ())
}

#[cfg(test)]
mod tests {
    use kv_core::NodeId;
    use tokio::time::timeout;

    use super::*;
    use crate::scenario::Disturbance;
    use crate::world::real::reason::Reason;

    const CALLER: Place = Place::Node(NodeId(1));
    const CALLEE: Place = Place::Node(NodeId(2));
    /// Long enough for what arrives on loopback, and not for what does not.
    const A_WHILE: Duration = Duration::from_millis(300);

    struct Line {
        links: Arc<Links>,
        listener: TcpListener,
        front: SocketAddr,
    }

    impl Line {
        async fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = listener.local_addr().unwrap().to_string();
            let links = Links::new(7);
            let who = Box::new(|_| CALLER);
            let front = start("127.0.0.1:0", &target, who, CALLEE, &links).await;
            let front = front.unwrap();
            Self {
                links,
                listener,
                front,
            }
        }

        async fn connect(&self) -> (TcpStream, TcpStream) {
            let caller = TcpStream::connect(self.front).await.unwrap();
            let (callee, _) = self.listener.accept().await.unwrap();
            (caller, callee)
        }
    }

    async fn hears(stream: &mut TcpStream) -> Option<u8> {
        let heard = timeout(A_WHILE, stream.read_u8()).await.ok()?;
        heard.ok()
    }

    #[tokio::test]
    async fn a_cut_holds_what_is_sent_one_way_until_it_is_mended() {
        let line = Line::new().await;
        let (mut caller, mut callee) = line.connect().await;
        line.links.cut(CALLER, CALLEE, Reason::Partition);
        caller.write_u8(1).await.unwrap();
        assert_eq!(hears(&mut callee).await, None, "cut");
        callee.write_u8(2).await.unwrap();
        assert_eq!(hears(&mut caller).await, Some(2), "the other way is open");
        line.links.mend(CALLER, CALLEE, Reason::Partition);
        assert_eq!(hears(&mut callee).await, Some(1), "it was held, not lost");
    }

    #[tokio::test]
    async fn a_link_that_is_cut_for_two_reasons_needs_both_mended() {
        let line = Line::new().await;
        let (mut caller, mut callee) = line.connect().await;
        line.links.cut(CALLER, CALLEE, Reason::Partition);
        line.links.cut(CALLER, CALLEE, Reason::LostSession);
        line.links.mend(CALLER, CALLEE, Reason::Partition);
        caller.write_u8(1).await.unwrap();
        assert_eq!(hears(&mut callee).await, None);
        line.links.mend(CALLER, CALLEE, Reason::LostSession);
        assert_eq!(hears(&mut callee).await, Some(1));
    }

    #[tokio::test]
    async fn a_connection_over_a_cut_link_hangs_whichever_way_is_cut() {
        for (from, to) in [(CALLER, CALLEE), (CALLEE, CALLER)] {
            let line = Line::new().await;
            line.links.cut(from, to, Reason::Partition);
            let mut caller = TcpStream::connect(line.front).await.unwrap();
            caller.write_u8(1).await.unwrap();
            assert!(timeout(A_WHILE, line.listener.accept()).await.is_err());
            line.links.mend(from, to, Reason::Partition);
            let (mut callee, _) = line.listener.accept().await.unwrap();
            assert_eq!(hears(&mut callee).await, Some(1));
        }
    }

    #[tokio::test]
    async fn that_one_end_is_gone_does_not_get_through_a_cut() {
        let line = Line::new().await;
        let (caller, mut callee) = line.connect().await;
        line.links.cut(CALLER, CALLEE, Reason::Partition);
        drop(caller);
        assert!(timeout(A_WHILE, callee.read_u8()).await.is_err(), "silence");
        line.links.mend(CALLER, CALLEE, Reason::Partition);
        let end = timeout(A_WHILE, callee.read_u8()).await;
        assert!(end.is_ok_and(|end| end.is_err()), "the end");
    }

    #[tokio::test]
    async fn a_lost_piece_takes_its_connection_down_and_a_delayed_one_comes_later() {
        let line = Line::new().await;
        let (mut caller, mut callee) = line.connect().await;
        let late = Disturbance {
            delay: Duration::from_secs(3600),
            ..Disturbance::default()
        };
        line.links.disturb(CALLER, CALLEE, Some(late));
        caller.write_u8(1).await.unwrap();
        assert_eq!(hears(&mut callee).await, None, "it is late");
        callee.write_u8(2).await.unwrap();
        assert_eq!(hears(&mut caller).await, Some(2), "the other way is quick");
        let lossy = Disturbance {
            lose: 1.0,
            ..Disturbance::default()
        };
        line.links.disturb(CALLEE, CALLER, Some(lossy));
        callee.write_u8(3).await.unwrap();
        let end = timeout(A_WHILE, caller.read_u8()).await;
        assert!(end.is_ok_and(|end| end.is_err()), "the connection is gone");
    }
}

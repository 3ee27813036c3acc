//! A real ZooKeeper server (Debian's package `zookeeper`) on a free port of loopback, with a folder of its own; or a few of them, as
//! an ensemble. It can be paused, killed and started again, and is stopped with its handle, also after a panic.
//!
//! Any test may include this file by its path.
#![allow(dead_code, reason = "not every test does everything")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Short, so that short session timeouts are granted: a server grants from two ticks on.
pub(crate) const TICK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);
const LIBRARY: &str = "/usr/share/java/zookeeper.jar";

/// Why there is nothing to test with, if so.
pub(crate) fn missing() -> Option<&'static str> {
    let java = Command::new("java")
        .arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !java.is_ok_and(|status| status.success()) {
        return Some("java is not installed: apt-get install default-jre-headless");
    }
    if !Path::new(LIBRARY).is_file() {
        return Some("ZooKeeper is not installed: apt-get install zookeeper");
    }
    None
}

/// Whether a test can go on. Where ZooKeeper is missing it says so and is skipped; in CI that is an error.
pub(crate) fn is_there() -> bool {
    let Some(missing) = missing() else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("SKIPPED: {missing}");
    false
}

/// A server, which may be down.
pub(crate) struct Server {
    port: u16,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Server {
    /// A server that answers.
    pub(crate) fn start() -> Self {
        Self::with_tick(TICK)
    }

    pub(crate) fn with_tick(tick: Duration) -> Self {
        let mut server = Self::make(tick, free_port(), "");
        server.run();
        server.wait();
        server
    }

    /// Three servers that make up one ensemble and answer.
    pub(crate) fn ensemble() -> [Self; 3] {
        let ports = [(); 3].map(|()| [free_port(), free_port(), free_port()]);
        let line = |(number, [_, follow, elect]): (usize, [u16; 3])| {
            format!("server.{number}=127.0.0.1:{follow}:{elect}\n")
        };
        let members: String = (1..).zip(ports).map(line).collect();
        let mut number = 0;
        let mut servers = ports.map(|[port, ..]| {
            number += 1;
            // Servers that start and elect on a busy machine take their time, and a session has to outlive that.
            let mut server = Self::make(TICK * 5, port, &members);
            std::fs::write(server.folder.path().join("data/myid"), number.to_string())
                .expect("the folder can be written");
            server.run();
            server
        });
        servers.iter_mut().for_each(Self::wait);
        servers
    }

    fn make(tick: Duration, port: u16, members: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path();
        std::fs::create_dir(path.join("data")).expect("the folder can be written");
        let config = format!(
            "tickTime={tick}\ninitLimit=100\nsyncLimit=50\ndataDir={data}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
             admin.enableServer=false\n4lw.commands.whitelist=ruok,srvr\nmaxClientCnxns=0\n{members}",
            tick = tick.as_millis(),
            data = path.join("data").display(),
        );
        std::fs::write(path.join("zoo.cfg"), config).expect("the folder can be written");
        Self {
            port,
            folder,
            process: None,
        }
    }

    /// Starts the process, and does not wait for it.
    pub(crate) fn run(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let folder = self.folder.path();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("the folder can be written");
        let errors = log.try_clone().expect("a file can be shared");
        let process = Command::new("java")
            .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=info")
            .args(["-cp", "/usr/share/java/slf4j-simple.jar:/usr/share/java/*"])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(folder.join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("java starts");
        self.process = Some(process);
    }

    /// Waits until the server answers, which in an ensemble takes a majority.
    pub(crate) fn wait(&mut self) {
        let started = Instant::now();
        while !self.serves() {
            let process = self.process.as_mut().expect("it has been started");
            let ended = process.try_wait().expect("it is our process");
            let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
            assert!(ended.is_none(), "ZooKeeper ended: {}", log());
            assert!(started.elapsed() < PATIENCE, "no answer: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn serves(&self) -> bool {
        let ask = || {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
            connection.set_read_timeout(Some(Duration::from_secs(5)))?;
            connection.write_all(b"srvr")?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        ask().is_ok_and(|answer| answer.contains("Mode:"))
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGKILL: everything that was answered is on its disk.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// SIGSTOP: it keeps its connections and does nothing.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let process = self.process.as_ref().expect("it runs");
        let status = Command::new("kill")
            .args([format!("-{name}"), process.id().to_string()])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            eprintln!("what ZooKeeper on port {} said:\n{log}", self.port);
        }
    }
}

/// The addresses of servers as one connect string.
pub(crate) fn addresses(servers: &[Server]) -> String {
    let addresses: Vec<String> = servers.iter().map(Server::address).collect();
    addresses.join(",")
}

/// A port that nobody listens on, of those that no system gives to outgoing connections.
pub(crate) fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let spread = std::process::id().wrapping_mul(37).wrapping_add(count) % 2_000;
        let port = u16::try_from(30_000 + spread).expect("it is below 65536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Ends a session at its server, as an administrator may: by taking it over and closing it. The password of a session follows from its id
/// (`SessionTrackerImpl` and `ZooKeeperServer` draw it from `java.util.Random` with a fixed secret).
pub(crate) fn end_session(port: u16, session: u64) {
    let started = Instant::now();
    // The owner may take it back in between, which ends our connection: until the server does not know it any more.
    while !matches!(take_over_and_close(port, session), Ok(false)) {
        assert!(started.elapsed() < PATIENCE, "the session does not end");
    }
}

/// Whether there was such a session.
fn take_over_and_close(port: u16, session: u64) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut connect = Vec::new();
    connect.extend(0_i32.to_be_bytes()); // protocol version
    connect.extend(0_i64.to_be_bytes()); // last transaction seen
    connect.extend(4_000_i32.to_be_bytes()); // timeout
    connect.extend(session.to_be_bytes());
    connect.extend(16_i32.to_be_bytes());
    connect.extend(password(session));
    connect.push(0); // not read-only
    let mut close = 1_i32.to_be_bytes().to_vec();
    close.extend((-11_i32).to_be_bytes());
    connection.write_all(&[framed(&connect), framed(&close)].concat())?;
    let answer = receive(&mut connection)?;
    let granted = answer.get(8..16).map(<[u8]>::to_vec);
    if granted != Some(session.to_be_bytes().to_vec()) {
        return Ok(false);
    }
    let _ = receive(&mut connection); // An answer, or the end of the connection.
    Ok(true)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = i32::try_from(message.len()).expect("it is short");
    [&length.to_be_bytes(), message].concat()
}

fn receive(connection: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or_default();
    let mut message = vec![0; length];
    connection.read_exact(&mut message)?;
    Ok(message)
}

/// Sixteen bytes of `java.util.Random`.
fn password(session: u64) -> [u8; 16] {
    const SECRET: u64 = 0xB341_5C00;
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut seed = ((session ^ SECRET) ^ MULTIPLIER) & MASK;
    let mut bytes = [0; 16];
    for chunk in bytes.chunks_mut(4) {
        seed = seed.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        let word = (seed >> 16).to_le_bytes();
        chunk.copy_from_slice(&word[..4]);
    }
    bytes
}

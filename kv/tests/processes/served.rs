//! A `kv serve` in a process of its own, which may be killed at any moment and started again on the same folder and port.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Ports that no system gives to outgoing connections: a client that tries one while nobody listens there could reach itself.
const PORTS: std::ops::Range<u32> = 20_000..30_000;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn kv() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kv"))
}

/// An address that nobody listens on.
pub(crate) fn free_address() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let spread = std::process::id().wrapping_mul(31).wrapping_add(count);
        let port = PORTS.start + spread % (PORTS.end - PORTS.start);
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// Stopped at the end of the test, however that comes.
pub(crate) struct Served {
    process: Child,
    says: mpsc::Receiver<String>,
}

impl Served {
    #[allow(dead_code, reason = "not every test starts one by its flags")]
    pub(crate) fn spawn(data: &Path, address: &str, flags: &[&str]) -> Self {
        let mut command = kv();
        command.arg("serve").arg("--data").arg(data);
        Self::run(command.args(["--listen", address]).args(flags))
    }

    /// Runs a command that becomes a `kv serve`.
    pub(crate) fn run(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (tell, says) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        Self { process, says }
    }

    /// Waits until the node says that it serves.
    pub(crate) fn wait(self) -> Self {
        let line = self.says.recv_timeout(PATIENCE).unwrap();
        assert!(line.contains("serves on"), "{line}");
        self
    }

    /// The number of the process.
    #[allow(dead_code, reason = "not every test looks at it from outside")]
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL; returns once the process is gone.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGKILL; returns what the process had said to stderr.
    #[allow(dead_code, reason = "not every test reads it")]
    pub(crate) fn kill_and_read(mut self) -> String {
        self.process.kill().unwrap();
        self.stops().1
    }

    /// SIGTERM: asks the process to stop in good order.
    #[allow(dead_code, reason = "not every test is that polite")]
    pub(crate) fn terminate(&self) {
        let mut command = Command::new("kill");
        let status = command.args(["-TERM", &self.process.id().to_string()]);
        assert!(status.status().unwrap().success());
    }

    /// What the process says next on stdout.
    #[allow(dead_code, reason = "not every test listens")]
    pub(crate) fn says(&self) -> String {
        self.says.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until the process stops by itself: the exit code, and what it said to stderr.
    #[allow(dead_code, reason = "not every test waits for it")]
    pub(crate) fn stops(mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "the node goes on");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut said = String::new();
        let stderr = self.process.stderr.take();
        stderr.unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It may have stopped already.
        let _ = self.process.wait();
    }
}

/// Runs `kv data ACTION.. DIR`.
#[allow(dead_code, reason = "not every test has folders to look at")]
pub(crate) fn data(action: &[&str], folder: &Path) -> Output {
    kv().arg("data").args(action).arg(folder).output().unwrap()
}

/// What a command that was refused says: one line after `error: `, and a code that is not zero.
#[allow(dead_code, reason = "not every test has refusals")]
pub(crate) fn refusal(code: Option<i32>, stderr: &str) -> String {
    assert!(code.is_some_and(|code| code != 0), "{code:?}: {stderr}");
    let errors: Vec<_> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("error: "))
        .collect();
    let [error] = errors[..] else {
        panic!("not one line: {stderr}")
    };
    assert!(!stderr.contains("panicked"), "{stderr}");
    error.to_owned()
}

//! Clients that write, delete and read all the time, and write down what they asked and what they were told.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use checker::{Event, EventKind, Function, Guarantee};
use kv::client::{Client, ClientOptions};
use kv::error::Outcome;
use kv_core::{Level, NodeId, ShardId, Version};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// What they can be shown to have been kept, whatever was killed.
pub(crate) const GUARANTEES: [Guarantee; 7] = [
    Guarantee::NoLostWrite,
    Guarantee::Linearizable,
    Guarantee::ReadYourWrites,
    Guarantee::MonotonicReads,
    Guarantee::MonotonicWrites,
    Guarantee::WritesFollowReads,
    Guarantee::NoPhantom,
];

/// Few, so that each is written, deleted and read often.
pub(crate) const KEYS: u64 = 10;
const CLIENTS: u64 = 4;
/// Large, so that checkpoints come often.
const VALUE_BYTES: std::ops::Range<usize> = 1_000..30_000;
/// An operation that was never sent is tried again for so long, over restarts.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The history that they write together.
struct Recorder {
    events: Mutex<Vec<Event>>,
    started: Instant,
    processes: AtomicU64,
    acknowledged: AtomicUsize,
    is_over: AtomicBool,
}

/// The clients, running.
pub(crate) struct Clients {
    runtime: Runtime,
    recorder: Arc<Recorder>,
    tasks: Vec<JoinHandle<()>>,
    addresses: Vec<String>,
}

impl Clients {
    /// Clients of a cluster that has nodes at these addresses.
    pub(crate) fn start(addresses: &[String], seed: u64) -> Self {
        let recorder = Arc::new(Recorder {
            events: Mutex::default(),
            started: Instant::now(),
            processes: AtomicU64::new(0),
            acknowledged: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = |session| {
            let mut session = Session::new(session, addresses, &recorder);
            let mut rng = StdRng::seed_from_u64(seed + session.number);
            runtime.spawn(async move {
                while !session.recorder.is_over.load(Ordering::Relaxed) {
                    session.act(&mut rng).await;
                }
            })
        };
        Self {
            tasks: (1..=CLIENTS).map(client).collect(),
            runtime,
            recorder,
            addresses: addresses.to_vec(),
        }
    }

    /// How many writes have been acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.recorder.acknowledged.load(Ordering::Relaxed)
    }

    /// From now on the clients begin nothing new.
    pub(crate) fn stop(&self) {
        self.recorder.is_over.store(true, Ordering::Relaxed);
    }

    /// Lets the clients end, reads every key, and returns what all of them saw.
    pub(crate) fn finish(self) -> Vec<Event> {
        self.stop();
        self.runtime.block_on(async {
            for task in self.tasks {
                task.await.unwrap();
            }
            let mut last = Session::new(CLIENTS + 1, &self.addresses, &self.recorder);
            for key in 0..KEYS {
                last.read(key, Level::Quorum).await;
            }
        });
        std::mem::take(&mut *self.recorder.events.lock().unwrap())
    }
}

/// One client: its session goes on when an operation stays open, as another process.
struct Session {
    number: u64,
    process: u64,
    values: u64,
    client: Client,
    recorder: Arc<Recorder>,
}

/// Where an operation was answered.
struct Answered {
    value: Value,
    version: Option<Version>,
    shard: ShardId,
    node: NodeId,
}

impl Session {
    fn new(number: u64, addresses: &[String], recorder: &Arc<Recorder>) -> Self {
        let options = ClientOptions {
            timeout: TIMEOUT,
            backoff_max: Duration::from_millis(40),
            seed: number,
            ..ClientOptions::default()
        };
        Self {
            number,
            process: recorder.processes.fetch_add(1, Ordering::Relaxed),
            values: 0,
            client: Client::new(addresses.to_vec(), options),
            recorder: Arc::clone(recorder),
        }
    }

    async fn act(&mut self, rng: &mut StdRng) {
        let key = rng.random_range(0..KEYS);
        match rng.random_range(0..10) {
            0..6 => self.write(key).await,
            6 => self.delete(key).await,
            7..9 => self.read(key, Level::Lease).await,
            _ => self.read(key, Level::Quorum).await,
        }
    }

    async fn write(&mut self, key: u64) {
        self.values += 1;
        let number = self.number * 1_000_000 + self.values;
        self.record(
            EventKind::Invoke,
            Function::Write,
            key,
            number.into(),
            |_| {},
        );
        let outcome = self.client.set(name(key), value(number)).await;
        let answered = outcome.map(|written| Answered {
            value: number.into(),
            version: Some(written.version),
            shard: written.shard,
            node: written.node,
        });
        self.end(Function::Write, key, number.into(), answered);
    }

    async fn delete(&mut self, key: u64) {
        self.record(
            EventKind::Invoke,
            Function::Delete,
            key,
            Value::Null,
            |_| {},
        );
        let outcome = self.client.delete(name(key)).await;
        let answered = outcome.map(|written| Answered {
            value: Value::Null,
            version: Some(written.version),
            shard: written.shard,
            node: written.node,
        });
        self.end(Function::Delete, key, Value::Null, answered);
    }

    async fn read(&mut self, key: u64, level: Level) {
        self.record(EventKind::Invoke, Function::Read, key, Value::Null, |_| {});
        let outcome = self.client.get(name(key), level).await;
        let answered = outcome.map(|read| Answered {
            value: read.value.map_or(Value::Null, |bytes| number_of(&bytes)),
            version: read.version,
            shard: read.shard,
            node: read.node,
        });
        self.end(Function::Read, key, Value::Null, answered);
    }

    /// Writes down how an operation ended.
    fn end(&mut self, f: Function, key: u64, asked: Value, outcome: Outcome<Answered>) {
        match outcome {
            Outcome::Ok(answered) => {
                self.record(EventKind::Ok, f, key, answered.value, |event| {
                    event.version = answered.version.map(|it| (it.epoch.0, it.offset.0).into());
                    event.shard = Some(u32::try_from(answered.shard.0).unwrap());
                    event.node = Some(answered.node.0);
                });
                if f != Function::Read {
                    self.recorder.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            }
            Outcome::Fail(fail) => self.record(EventKind::Fail, f, key, asked, |event| {
                event.error = Some(fail.name().to_owned());
            }),
            Outcome::Info(unsure) => {
                self.record(EventKind::Info, f, key, asked, |event| {
                    event.error = Some(unsure.name().to_owned());
                });
                self.process = self.recorder.processes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn record(
        &self,
        kind: EventKind,
        f: Function,
        key: u64,
        value: Value,
        more: impl FnOnce(&mut Event),
    ) {
        let mut event = Event::new(self.process, kind, f, &key.to_string(), value);
        event.session = Some(self.number);
        more(&mut event);
        let mut events = self.recorder.events.lock().unwrap();
        event.index = Some(events.len() as u64);
        event.time = u64::try_from(self.recorder.started.elapsed().as_nanos()).unwrap();
        events.push(event);
    }
}

fn name(key: u64) -> Bytes {
    Bytes::from(format!("key-{key}"))
}

/// The bytes of a value: its number, and more that follows from it.
fn value(number: u64) -> Bytes {
    let mut rng = StdRng::seed_from_u64(number);
    let length = rng.random_range(VALUE_BYTES);
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes[..]);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Bytes::from(bytes)
}

/// The number of a value; of what nobody wrote, something that nobody wrote.
fn number_of(bytes: &Bytes) -> Value {
    let number = bytes.first_chunk().map(|head| u64::from_le_bytes(*head));
    match number.filter(|number| value(*number) == bytes) {
        Some(number) => number.into(),
        None => Value::from(format!("{} bytes that nobody wrote", bytes.len())),
    }
}

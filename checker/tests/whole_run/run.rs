//! A run of a store that keeps every promise: two shards of three nodes, eight clients, links that come and go.
//!
//! Operations overlap, and take effect as they are answered; what is drawn comes from a seed.

use std::collections::BTreeMap;

use checker::{Event, EventKind, Function, Level, NodeEvent, NodeEventKind as Kind, Version};
use serde_json::Value;

const CLIENTS: u64 = 8;
const KEYS: u64 = 16;
const SHARDS: u32 = 2;
const STEP_NS: u64 = 10_000_000;
const QUIET_NS: u64 = 2_000_000_000;

/// What a run leaves behind.
#[derive(Clone, Default)]
pub(crate) struct Run {
    /// What the clients asked and were told.
    pub(crate) history: Vec<Event>,
    /// What the nodes, the nemesis and the end of the run wrote down.
    pub(crate) events: Vec<NodeEvent>,
    index: u64,
    time: u64,
    random: u64,
    sequences: BTreeMap<u64, u64>,
    logs: BTreeMap<u32, u64>,
    values: BTreeMap<u64, (Value, Version)>,
    next_value: i64,
}

struct Client {
    session: u64,
    process: u64,
    open: Option<Event>,
    tokens: BTreeMap<u32, Version>,
}

impl Run {
    /// Plays a run of so many operations.
    pub(crate) fn play(seed: u64, operations: usize) -> Self {
        let mut run = Self {
            random: seed | 1,
            ..Self::default()
        };
        run.begin();
        let mut clients: Vec<Client> = (0..CLIENTS).map(client).collect();
        while run.history.len() < 2 * operations {
            if run.draw(60) == 0 {
                run.change_links();
            }
            let at = run.draw(CLIENTS) as usize;
            run.step(&mut clients[at]);
        }
        for client in &mut clients {
            if client.open.is_some() {
                run.step(client);
            }
        }
        run.end();
        run
    }

    fn begin(&mut self) {
        for shard in 0..SHARDS {
            let writer = nodes(shard)[0];
            for node in nodes(shard) {
                self.record(Some(node), Kind::Started {});
            }
            let kind = Kind::Shard {
                shard,
                epoch: 1,
                voters: nodes(shard).to_vec(),
                write_quorum: 2,
                writer: Some(writer),
            };
            self.record(Some(writer), kind);
            let fields = [("shard", shard.into()), ("epoch", 1.into())];
            self.record(Some(writer), Kind::other("promoted", fields));
        }
        self.links(vec![], vec![]);
    }

    /// One replica of each shard at most is out of reach, so that every writer keeps its quorum.
    fn change_links(&mut self) {
        let (one, other) = (nodes(0)[1 + self.draw(2) as usize], nodes(1)[0]);
        let (down, cut) = match self.draw(3) {
            0 => (vec![], vec![]),
            1 => (vec![one], vec![(nodes(1)[2], other)]),
            _ => (vec![], vec![(nodes(0)[0], one), (one, nodes(0)[0])]),
        };
        self.links(down, cut);
    }

    fn links(&mut self, down: Vec<u64>, cut: Vec<(u64, u64)>) {
        let grace_ns = checker::limits::LINK_GRACE_NS;
        self.record(
            None,
            Kind::Links {
                down,
                cut,
                grace_ns,
            },
        );
    }

    /// The client asks, or is answered.
    fn step(&mut self, client: &mut Client) {
        let Some(asked) = client.open.take() else {
            let event = self.ask(client);
            client.open = Some(event.clone());
            self.tell(event);
            return;
        };
        let mut answer = asked;
        answer.token = None;
        answer.kind = match self.draw(40) {
            0 => EventKind::Fail,
            1 => EventKind::Info,
            _ => EventKind::Ok,
        };
        if answer.kind != EventKind::Fail {
            self.take_effect(&mut answer, client);
        }
        if answer.kind == EventKind::Info {
            client.process += CLIENTS + 1;
            (answer.shard, answer.node, answer.version) = (None, None, None);
        }
        self.tell(answer);
    }

    fn ask(&mut self, client: &Client) -> Event {
        let key = self.draw(KEYS);
        let (f, value) = match self.draw(10) {
            0..5 => (Function::Read, Value::Null),
            5..9 => {
                self.next_value += 1;
                (Function::Write, self.next_value.into())
            }
            _ => (Function::Delete, Value::Null),
        };
        let name = format!("k{key}");
        let mut event = Event::new(client.process, EventKind::Invoke, f, &name, value);
        event.session = Some(client.session);
        if f == Function::Read {
            let levels = [Level::Lease, Level::Quorum, Level::Replica];
            event.level = Some(levels[self.draw(3) as usize]);
            if event.level == Some(Level::Replica) {
                event.token = client.tokens.get(&shard_of(key)).copied();
            }
        }
        event
    }

    fn take_effect(&mut self, answer: &mut Event, client: &mut Client) {
        let name = answer.key.as_deref().unwrap_or_default();
        let key: u64 = name[1..].parse().expect("a key is k and a number");
        let shard = shard_of(key);
        answer.shard = Some(shard);
        answer.node = Some(nodes(shard)[0]);
        if answer.f == Function::Read {
            let (value, version) = self.values.get(&key).cloned().unzip();
            (answer.value, answer.version) = (value.unwrap_or(Value::Null), version);
        } else {
            let version = self.append(shard, answer.kind == EventKind::Ok);
            self.values.insert(key, (answer.value.clone(), version));
            answer.version = Some(version);
        }
        if let Some(version) = answer.version.filter(|_| answer.kind == EventKind::Ok) {
            let token = client.tokens.entry(shard).or_insert(version);
            *token = version.max(*token);
        }
    }

    fn append(&mut self, shard: u32, acknowledge: bool) -> Version {
        let offset = self.logs.entry(shard).or_default();
        *offset += 1;
        let (epoch, offset) = (1, *offset);
        let members = nodes(shard);
        for node in members {
            let kind = Kind::Synced {
                shard,
                epoch,
                offset,
            };
            self.record(Some(node), kind);
        }
        for node in members {
            let kind = Kind::Committed {
                shard,
                epoch,
                offset,
                chain: 77 * offset as u32,
            };
            self.record(Some(node), kind);
        }
        if acknowledge {
            let members = members[..2].to_vec();
            let kind = Kind::Acknowledged {
                shard,
                epoch,
                offset,
                members,
            };
            self.record(Some(nodes(shard)[0]), kind);
        }
        Version { epoch, offset }
    }

    /// All is healed, every shard takes a write, every key is read, and all is written down.
    fn end(&mut self) {
        self.links(vec![], vec![]);
        self.record(None, Kind::other("healed", []));
        let mut last = client(CLIENTS);
        for shard in 0..SHARDS {
            let kind = Kind::Probe {
                shard,
                session: CLIENTS,
                key: format!("k{shard}"),
                within_ns: 1_000_000_000,
            };
            self.record(None, kind);
        }
        let probes = (0..u64::from(SHARDS)).map(|key| (Function::Write, key));
        for (f, key) in probes.chain((0..KEYS).map(|key| (Function::Read, key))) {
            let mut event = Event::new(
                last.process,
                EventKind::Invoke,
                f,
                &format!("k{key}"),
                Value::Null,
            );
            event.session = Some(last.session);
            if f == Function::Write {
                self.next_value += 1;
                event.value = self.next_value.into();
            }
            self.tell(event.clone());
            event.kind = EventKind::Ok;
            self.take_effect(&mut event, &mut last);
            self.tell(event);
        }
        self.time += QUIET_NS + STEP_NS;
        for shard in 0..SHARDS {
            let committed = self.logs.get(&shard).copied().unwrap_or_default();
            let kind = Kind::FinalLog {
                shard,
                runs: vec![(1, 1, committed)],
                committed,
            };
            self.record(Some(nodes(shard)[0]), kind);
            for node in nodes(shard) {
                let kind = Kind::FinalState {
                    shard,
                    epoch: 1,
                    committed,
                    digest: u64::from(shard),
                    live: true,
                    quiet_ns: QUIET_NS,
                };
                self.record(Some(node), kind);
            }
        }
    }

    fn record(&mut self, node: Option<u64>, kind: Kind) {
        let sequence = self.sequences.entry(node.unwrap_or_default()).or_default();
        *sequence += 1;
        self.index += 1;
        self.events.push(NodeEvent {
            index: self.index,
            time: self.time,
            node,
            incarnation: 1,
            sequence: *sequence,
            kind,
        });
    }

    fn tell(&mut self, mut event: Event) {
        self.index += 1;
        self.time += STEP_NS;
        (event.index, event.time) = (Some(self.index), self.time);
        self.history.push(event);
    }

    fn draw(&mut self, below: u64) -> u64 {
        // Xorshift: enough to mix operations, and the same everywhere.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }
}

fn client(session: u64) -> Client {
    Client {
        session,
        process: session,
        open: None,
        tokens: BTreeMap::new(),
    }
}

fn shard_of(key: u64) -> u32 {
    (key % u64::from(SHARDS)) as u32
}

/// The members of a shard; the first is the writer.
fn nodes(shard: u32) -> [u64; 3] {
    let first = u64::from(shard) * 3;
    [first + 1, first + 2, first + 3]
}

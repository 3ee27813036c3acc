//! Whatever arrives, from whomever, in whatever order: a replica never panics, never takes a promise or a commit back, and
//! asks its driver for nothing impossible.
//!
//! Trusted are the driver, which reports a durable effect when it is durable, and the shard record, which is well formed.
//! Everything else is arbitrary: messages with any numbers, timers that were never set, answers to questions never asked.

use std::collections::BTreeSet;

use bytes::Bytes;
use kv_core::{
    Body, Effect, Entry, Epoch, Fencing, Input, Level, Log, Message, NodeId, Observed, Offset,
    Operation, Recovered, Replica, RequestId, SessionId, SetResult, ShardId, ShardRecord, Timer,
    Version, WriterRecord, follows,
};
use proptest::prelude::*;

/// The replica under test; n1 to n3 are voters, n4 is a stranger.
const SELF: NodeId = NodeId(1);

/// An input, or durable effects that become durable.
#[derive(Clone, Debug)]
enum Event {
    Input(Input),
    /// So many of a hundred of the durable effects that are under way.
    Synced(usize),
    Write(usize),
    Read(Level, Option<Version>),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..8_u64, 1 => Just(u64::MAX), 1 => any::<u64>()]
}

fn version() -> impl Strategy<Value = Version> {
    (number(), number()).prop_map(|(epoch, offset)| Version::new(Epoch(epoch), Offset(offset)))
}

fn offset() -> impl Strategy<Value = Offset> {
    number().prop_map(Offset)
}

fn entry(version: Version) -> Entry {
    let operation = match version.offset.0 % 3 {
        0 => Operation::EpochStart,
        1 => Operation::Delete {
            key: Bytes::from_static(b"k"),
        },
        _ => Operation::Set {
            key: Bytes::from_static(b"k"),
            value: Bytes::new(),
        },
    };
    Entry { version, operation }
}

/// Entries that follow their `prev`, so that some of them are believed; and some that do not.
fn prepare() -> impl Strategy<Value = Body> {
    let prev = prop_oneof![
        4 => (0..4_u64, 0..6_u64).prop_map(|(epoch, offset)| Version::new(Epoch(epoch), Offset(offset))),
        1 => Just(Version::ZERO),
        1 => version(),
    ];
    let epochs = proptest::collection::vec(0..3_u64, 0..4);
    let stray = proptest::option::weighted(0.1, version());
    (prev, epochs, stray, offset()).prop_map(|(prev, rises, stray, committed)| {
        let mut last = prev;
        let mut entries = Vec::new();
        for rise in rises {
            let epoch = Epoch(last.epoch.0.saturating_add(rise).max(1));
            last = Version::new(epoch, Offset(last.offset.0.saturating_add(1)));
            entries.push(entry(last));
        }
        entries.extend(stray.map(entry));
        Body::Prepare {
            prev,
            entries,
            committed,
        }
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        6 => prepare(),
        2 => (offset(), offset()).prop_map(|(upto, committed)| Body::Prepared { upto, committed }),
        1 => (version(), version()).prop_map(|(prev, hint)| Body::Refused { prev, hint }),
        1 => number().prop_map(|promised| Body::Stale { promised: Epoch(promised) }),
        2 => offset().prop_map(|upto| Body::Commit { upto }),
        1 => offset().prop_map(|upto| Body::Committed { upto }),
        1 => Just(Body::Seal),
        2 => (version(), 0..4_u64)
            .prop_map(|(end, session)| Body::Sealed { end, session: SessionId(session) }),
        1 => number().prop_map(|round| Body::Confirm { round }),
        1 => (0..4_u64).prop_map(|round| Body::Confirmed { round }),
        1 => offset().prop_map(|after| Body::Rollback { after }),
        1 => (0..4_u64).prop_map(|session| Body::Lost { session: SessionId(session) }),
        1 => (0..4_u64, offset()).prop_map(|(session, end)| Body::Extent {
            session: SessionId(session),
            end,
        }),
        1 => (version(), number()).prop_map(|(at, bytes)| Body::Offer { at, bytes }),
        1 => (version(), number()).prop_map(|(at, position)| Body::Fetch { at, position }),
        1 => (version(), number()).prop_map(|(at, position)| Body::Chunk {
            at,
            position,
            bytes: Bytes::from_static(b"x"),
            crc: 0,
        }),
    ]
}

fn message() -> impl Strategy<Value = Input> {
    let epoch = prop_oneof![30 => 0..8_u64, 1 => any::<u64>()];
    (1..=4_u64, epoch, body()).prop_map(|(from, epoch, body)| Input::Message {
        from: NodeId(from),
        message: Message {
            epoch: Epoch(epoch),
            body,
        },
    })
}

fn record() -> impl Strategy<Value = Input> {
    let session = || (0..4_u64).prop_map(SessionId);
    let writer = proptest::option::of((1..=4_u64, session()));
    let quorum = 1..=3_usize;
    let released_by = proptest::option::of((1..=4_u64).prop_map(NodeId));
    let lives = proptest::option::of(session());
    (0..12_u64, 0..8_u64, writer, released_by, quorum, lives).prop_map(
        |(revision, epoch, writer, released_by, write_quorum, writer_session)| {
            let writer = writer.map(|(node, session)| WriterRecord {
                node: NodeId(node),
                session,
            });
            let record = ShardRecord {
                shard: ShardId(1),
                epoch: Epoch(epoch),
                writer,
                released_by,
                voters: [1, 2, 3].map(NodeId).into_iter().collect::<BTreeSet<_>>(),
                write_quorum,
                election_quorum: 4 - write_quorum,
                slots: Vec::new(),
                fencing: Fencing::Epoch,
            };
            Input::Record(Observed {
                revision,
                record,
                writer_session,
            })
        },
    )
}

fn timer() -> impl Strategy<Value = Input> {
    let all = [
        Timer::Heartbeat,
        Timer::Release,
        Timer::Rollback,
        Timer::Election,
        Timer::Seal,
        Timer::Backoff,
    ];
    proptest::sample::select(all.to_vec()).prop_map(Input::Timer)
}

fn event() -> impl Strategy<Value = Event> {
    let set = prop_oneof![
        4 => (0..12_u64).prop_map(SetResult::Done),
        1 => Just(SetResult::Conflict),
        1 => Just(SetResult::Unknown),
    ];
    let levels = vec![Level::Local, Level::Lease, Level::Quorum, Level::Replica];
    let session = proptest::option::of((0..4_u64).prop_map(SessionId));
    prop_oneof![
        12 => message().prop_map(Event::Input),
        6 => (0..=100_usize).prop_map(Event::Synced),
        3 => record().prop_map(Event::Input),
        2 => timer().prop_map(Event::Input),
        1 => set.prop_map(|result| Event::Input(Input::Set(result))),
        1 => any::<bool>().prop_map(|granted| Event::Input(Input::Lock(granted))),
        1 => any::<bool>().prop_map(|holds| Event::Input(Input::Lease(holds))),
        1 => session.prop_map(|session| Event::Input(Input::Session(session))),
        1 => (0..20_u64).prop_map(|id| Event::Input(Input::Abandon(RequestId(id)))),
        2 => (0..4_usize).prop_map(Event::Write),
        2 => (proptest::sample::select(levels), proptest::option::of(version()))
            .prop_map(|(level, token)| Event::Read(level, token)),
    ]
}

/// A replica with a driver that believes in what it asks for.
struct Driver {
    replica: Replica,
    fencing: Fencing,
    /// The log as it stands.
    entries: Vec<Entry>,
    unsynced_count: usize,
    applied: Offset,
    requests_count: u64,
    waiting: BTreeSet<RequestId>,
}

impl Driver {
    fn new(fencing: Fencing) -> Self {
        let runs = [
            (Epoch(1), Offset(1), Offset(2)),
            (Epoch(2), Offset(3), Offset(3)),
        ];
        let versions = [(1, 1), (1, 2), (2, 3)];
        let versions =
            versions.map(|(epoch, offset)| entry(Version::new(Epoch(epoch), Offset(offset))));
        Self {
            replica: Replica::new(Recovered {
                node: SELF,
                fencing,
                promised: Epoch(if fencing == Fencing::Epoch { 2 } else { 0 }),
                log: Log::from_runs(&runs),
                applied: Offset(1),
                suspect: false,
            }),
            fencing,
            entries: versions.to_vec(),
            unsynced_count: 0,
            applied: Offset(1),
            requests_count: 0,
            waiting: BTreeSet::new(),
        }
    }

    fn request(&mut self) -> RequestId {
        self.requests_count += 1;
        let request = RequestId(self.requests_count);
        self.waiting.insert(request);
        request
    }

    fn step(&mut self, event: Event) {
        let input = match event {
            Event::Input(input) => input,
            Event::Synced(percent) => {
                let count = self.unsynced_count * percent / 100;
                self.unsynced_count -= count;
                Input::Synced(count)
            }
            Event::Write(count) => {
                let delete = || Operation::Delete {
                    key: Bytes::from_static(b"k"),
                };
                Input::Write((0..count).map(|_| (self.request(), delete())).collect())
            }
            Event::Read(level, token) => Input::Read {
                request: self.request(),
                level,
                token,
            },
        };
        let (promised, committed) = (self.replica.promised(), self.replica.committed());
        let mut effects = Vec::new();
        self.replica.step(input, &mut effects);
        assert!(self.replica.promised() >= promised);
        assert!(self.fencing == Fencing::None || self.replica.committed() >= committed);
        for effect in effects {
            self.perform(effect);
        }
        assert_eq!(self.applied, self.replica.committed());
        let end = self
            .entries
            .last()
            .map_or(Version::ZERO, |entry| entry.version);
        assert_eq!(self.replica.log().end(), end);
    }

    fn perform(&mut self, effect: Effect) {
        let length = u64::try_from(self.entries.len()).expect("a length fits into 64 bits");
        match effect {
            Effect::Append(entries) => {
                assert!(!entries.is_empty());
                for entry in entries {
                    let last = self.entries.last();
                    let last = last.map_or(Version::ZERO, |entry| entry.version);
                    assert!(follows(last, entry.version));
                    self.entries.push(entry);
                }
                self.unsynced_count += 1;
            }
            Effect::Truncate { after } => {
                assert!(after.0 <= length);
                let keep = usize::try_from(after.0).expect("it lies within the log");
                self.entries.truncate(keep);
                self.unsynced_count += 1;
            }
            Effect::Promise(_) => self.unsynced_count += 1,
            Effect::Ship { prev, last, .. } => {
                assert!(prev.offset <= last && last.0 <= length);
                assert!(self.replica.log().holds(prev));
            }
            Effect::Apply { upto } => {
                assert!(upto > self.applied && upto.0 <= length);
                self.applied = upto;
            }
            Effect::Rewind { after } => {
                assert!(self.fencing == Fencing::None && after < self.applied);
                self.applied = after;
            }
            Effect::Serve { request, .. } | Effect::Reply { request, .. } => {
                assert!(self.waiting.remove(&request), "a request is answered once");
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_arrives_makes_a_fenced_replica_panic(
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut driver = Driver::new(Fencing::Epoch);
        for event in events {
            driver.step(event);
        }
    }

    #[test]
    fn nothing_that_arrives_makes_a_plain_replica_panic(
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut driver = Driver::new(Fencing::None);
        for event in events {
            driver.step(event);
        }
    }
}

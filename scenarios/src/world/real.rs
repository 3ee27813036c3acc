//! What the worlds of real processes have in common, wherever the processes run.
//!
//! ```text
//!   nodes ──► events.jsonl of each node ──┐
//!   clients, nemesis ──► stamps ──────────┼──► one order: the machine's monotonic clock
//!   ZooKeeper ──► who holds which lock ───┘
//! ```
//!
//! All of it happens on one machine, whose monotonic clock every process reads: so its nanoseconds are the one order of a run, and
//! the files of the nodes merge by them. A run of real processes cannot be repeated, so whatever was observed is kept.
//!
//! | file | what it is |
//! |---|---|
//! | `real/clock.rs` | the one order |
//! | `real/events.rs` | the nodes' files, read as they grow |
//! | `real/registry.rs` | what stands in ZooKeeper |
//! | `real/observer.rs` | the three of them, as a world asks for them |
//! | `real/cluster.rs` | a running cluster as a world, and what its kind has to know to do |
//! | `real/reason.rs` | why a direction of a link is cut |
//! | `real/settings.rs` | the `kv.toml` of a node |
//! | `real/acts.rs` | when each fault really began and ended |
//! | `real/site.rs` | the folder that a cluster lives in, and how every trace of it goes |
//! | `real/stop.rs`, `real/zookeeper.rs` | Ctrl-C; whether a ZooKeeper serves |

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use self::cluster::{Hands, RealWorld};
use self::observer::NodePlace;
use super::trouble::Trouble;
use super::{Script, World as _};
use crate::play::{Failure, Played};

pub mod acts;
pub mod clock;
pub mod cluster;
pub mod events;
pub mod observer;
pub mod reason;
pub mod registry;
pub mod settings;
pub mod site;
pub mod stop;
pub mod zookeeper;

/// How many threads the clients, the proxies and the nemesis of one run share.
const THREADS: usize = 2;

fn runtime() -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build();
    runtime.expect("the machine has room for two more threads")
}

/// Starts a world, plays a script in it, and takes everything down again: also where somebody wants the program to end.
pub(super) fn enact<H: Hands>(
    script: Script,
    start: impl AsyncFnOnce() -> Result<RealWorld<H>, Trouble>,
) -> Played {
    let runtime = runtime();
    let mut played = runtime.block_on(async {
        let play = async {
            match start().await {
                Ok(world) => script(Arc::new(world)).await,
                Err(trouble) => Played::failed(Failure::NotReady {
                    why: trouble.to_string(),
                }),
            }
        };
        tokio::select! {
            biased;
            () = stop::requested() => Played::failed(Failure::Interrupted),
            played = play => played,
        }
    });
    drop(runtime); // With the last task goes the world, and with the world all that it has started.
    number_from_one(&mut played);
    played
}

/// How long a cluster may take until its nodes answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Starts a cluster, tells where it is once every node answers, and keeps it until somebody wants the program to end.
pub(super) fn keep<H: Hands>(
    tell: &dyn Fn(&[String]),
    start: impl AsyncFnOnce() -> Result<RealWorld<H>, Trouble>,
) -> Result<(), Trouble> {
    let runtime = runtime();
    runtime.block_on(async {
        let play = async {
            let world = start().await?;
            let places = world.observer().places();
            let serve = async {
                loop {
                    let statuses = world.statuses().await;
                    let placed = statuses.values().filter(|status| status.shard.is_some());
                    if placed.count() == places.len() {
                        return;
                    }
                    sleep(LOOK_EVERY).await;
                }
            };
            if timeout(ANSWERS_WITHIN, serve).await.is_err() {
                let failures = world.failures().await;
                let failed = failures.iter().map(|(node, why)| format!("{node}: {why}"));
                let why = failed.collect::<Vec<_>>().join("; ");
                let what = "the cluster".to_owned();
                return Err(Trouble::NotUp { what, why });
            }
            let mut lines = vec![format!("a cluster lives in {}", world.folder().display())];
            lines.extend(places.iter().map(|(node, NodePlace { front, http, .. })| {
                format!("{node:<4} gRPC {front:<18} HTTP http://{http}")
            }));
            if let Some(NodePlace { front, .. }) = places.values().next() {
                lines.push(format!("try `cargo kv set greeting hello --node {front}`"));
            }
            tell(&lines);
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = stop::requested() => Ok(()),
            ended = play => ended,
        }
    })
}

/// Nanoseconds make long numbers: only their order counts.
fn number_from_one(played: &mut Played) {
    let operations = played.history.iter_mut();
    let operations = operations.filter_map(|event| Some((0, event.index.as_mut()?)));
    let events = played.events.iter_mut();
    let events = events.map(|event| (event.node.unwrap_or(0), &mut event.index));
    let mut places: Vec<(u64, &mut u64)> = operations.chain(events).collect();
    places.sort_by_key(|(node, index)| (**index, *node));
    for (place, (_, index)) in (1..).zip(places) {
        *index = place;
    }
}

//! Test support: a node without a store behind it, whose driver follows a script.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kv_core::{Epoch, Fencing, NodeId, Offset, ShardId, SlotRange, Version};
use tokio::sync::{mpsc, watch};

use super::{Server, serve};
use crate::door::Door;
use crate::handle::{Answer, Ask, ClusterMap, Gauges, NodeHandle, Request, ShardView, Status};

/// What a scripted node answers to its n-th request, counted from 1; nothing to leave it unanswered.
pub(crate) type Script = Box<dyn FnMut(usize, &Request) -> Option<Answer> + Send>;

/// A server whose node follows a script.
pub(crate) struct Scripted {
    pub(crate) server: Server,
    pub(crate) cluster: watch::Sender<ClusterMap>,
    /// The requests that reached the node.
    pub(crate) arrived: Arc<Mutex<Vec<Request>>>,
    /// How often the node was asked how it is.
    pub(crate) status_count: Arc<AtomicUsize>,
}

impl Scripted {
    pub(crate) async fn start(
        node: u64,
        address: &str,
        cluster: ClusterMap,
        script: Script,
    ) -> Self {
        Self::start_with(node, address, cluster, script, false).await
    }

    pub(crate) async fn start_with(
        node: u64,
        address: &str,
        cluster: ClusterMap,
        mut script: Script,
        allow_kill: bool,
    ) -> Self {
        let (asks, mut asked) = mpsc::channel(16);
        let (cluster, known) = watch::channel(cluster);
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let status_count = Arc::new(AtomicUsize::new(0));
        let (arrivals, statuses) = (arrived.clone(), status_count.clone());
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some(ask) = asked.recv().await {
                match ask {
                    Ask::Request(request, _, reply) => {
                        let count = {
                            let mut arrivals = arrivals.lock().unwrap();
                            arrivals.push(request.clone());
                            arrivals.len()
                        };
                        match script(count, &request) {
                            Some(answer) => drop(reply.send(answer)),
                            None => unanswered.push(reply),
                        }
                    }
                    Ask::Snapshot(_) | Ask::HandOver | Ask::Leave(_) => {}
                    Ask::Status { reply, .. } => {
                        statuses.fetch_add(1, Ordering::SeqCst);
                        drop(reply.send(status(node)));
                    }
                }
            }
        });
        let handle = NodeHandle::new(NodeId(node), asks, known);
        let server = serve(
            address,
            handle,
            Arc::new(|_, _| {}),
            allow_kill,
            &Door::default(),
        )
        .await
        .unwrap();
        Self {
            server,
            cluster,
            arrived,
            status_count,
        }
    }

    pub(crate) fn arrived_count(&self) -> usize {
        self.arrived.lock().unwrap().len()
    }
}

/// An address of this machine where nobody listens.
pub(crate) fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// One shard that owns every slot; the nodes are numbered from 1, in the order of their addresses.
pub(crate) fn one_shard(addresses: &[&str], writer: Option<u64>, epoch: u64) -> ClusterMap {
    let nodes: BTreeMap<_, _> = (1..)
        .map(NodeId)
        .zip(addresses.iter().map(|address| (*address).to_owned()))
        .collect();
    let voters: BTreeSet<_> = nodes.keys().copied().collect();
    let view = ShardView {
        epoch: Epoch(epoch),
        writer: writer.map(NodeId),
        voters,
        write_quorum: addresses.len() / 2 + 1,
        slots: SlotRange::partition(1).unwrap(),
        fencing: Fencing::Epoch,
    };
    ClusterMap {
        nodes,
        shards: BTreeMap::from([(ShardId(0), view)]),
    }
}

pub(crate) fn version(epoch: u64, offset: u64) -> Version {
    Version::new(Epoch(epoch), Offset(offset))
}

pub(crate) fn written(offset: u64) -> Answer {
    Answer::Written {
        version: version(1, offset),
        shard: ShardId(0),
    }
}

pub(crate) fn value(value: Option<&str>, offset: u64) -> Answer {
    Answer::Value {
        value: value.map(|value| value.to_owned().into()),
        version: Some(version(1, offset)),
        token: version(1, offset),
        shard: ShardId(0),
    }
}

fn status(node: u64) -> Status {
    Status {
        node: NodeId(node),
        shard: Some(ShardId(0)),
        writer_of: None,
        promised: Epoch(1),
        end: version(1, 1),
        committed: Offset(1),
        runs: vec![(Epoch(1), Offset(1), Offset(1))],
        digest: Some(7),
        gauges: Gauges::default(),
        is_suspect: false,
    }
}

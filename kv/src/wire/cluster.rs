//! The cluster map and a node's status, on the wire.

use kv_core::{Fencing, NodeId, Offset, SLOT_COUNT, ShardId, SlotRange};

use super::{WireError, epoch, in_range, offset, proto, version, version_to_proto};
use crate::handle::{ClusterMap, Follower, Gauges, ShardView, Status};

/// What a node says of the cluster and of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The cluster as the node knows it.
    pub cluster: ClusterMap,
    /// How the node itself is; nothing if it did not say in time.
    pub status: Option<Status>,
}

/// Puts an [`Info`] on the wire.
#[must_use]
pub fn info_to_proto(info: &Info) -> proto::InfoReply {
    let nodes = info.cluster.nodes.iter().map(|(id, address)| proto::Node {
        id: id.0,
        address: address.clone(),
    });
    let shards = info.cluster.shards.iter();
    proto::InfoReply {
        cluster: Some(proto::ClusterMap {
            nodes: nodes.collect(),
            shards: shards.map(|(id, view)| shard_to_proto(*id, view)).collect(),
        }),
        status: info.status.as_ref().map(status_to_proto),
    }
}

/// Takes an [`Info`] off the wire.
///
/// # Errors
/// Names the field that is missing or out of range.
pub fn info_from_proto(reply: proto::InfoReply) -> Result<Info, WireError> {
    let cluster = reply.cluster.ok_or(WireError::Missing("cluster"))?;
    let nodes = cluster.nodes.into_iter();
    let shards = cluster.shards.into_iter();
    Ok(Info {
        cluster: ClusterMap {
            nodes: nodes.map(|node| (NodeId(node.id), node.address)).collect(),
            shards: shards.map(shard_from_proto).collect::<Result<_, _>>()?,
        },
        status: reply.status.map(status_from_proto).transpose()?,
    })
}

fn shard_to_proto(id: ShardId, view: &ShardView) -> proto::Shard {
    let fencing = match view.fencing {
        Fencing::Epoch => proto::Fencing::Epoch,
        Fencing::None => proto::Fencing::None,
    };
    let slots = view.slots.iter().map(|range| proto::SlotRange {
        start: u32::from(range.start()),
        end: u32::from(range.end()),
    });
    proto::Shard {
        id: id.0,
        epoch: view.epoch.0,
        writer: view.writer.map(|writer| writer.0),
        voters: view.voters.iter().map(|voter| voter.0).collect(),
        write_quorum: u32::try_from(view.write_quorum).unwrap_or(u32::MAX),
        slots: slots.collect(),
        fencing: fencing.into(),
    }
}

fn shard_from_proto(shard: proto::Shard) -> Result<(ShardId, ShardView), WireError> {
    let fencing = match proto::Fencing::try_from(shard.fencing) {
        Ok(proto::Fencing::Epoch) => Fencing::Epoch,
        Ok(proto::Fencing::None) => Fencing::None,
        Ok(proto::Fencing::Unspecified) | Err(_) => return Err(WireError::Missing("fencing")),
    };
    let quorum = u64::from(shard.write_quorum);
    let quorum_max = u64::from(u16::MAX);
    let view = ShardView {
        epoch: epoch("epoch", shard.epoch)?,
        writer: shard.writer.map(NodeId),
        voters: shard.voters.into_iter().map(NodeId).collect(),
        write_quorum: usize::try_from(in_range("write_quorum", quorum, 0, quorum_max)?)
            .map_err(|_| WireError::Missing("write_quorum"))?,
        slots: shard
            .slots
            .iter()
            .map(slot_range)
            .collect::<Result<_, _>>()?,
        fencing,
    };
    Ok((ShardId(shard.id), view))
}

fn slot_range(range: &proto::SlotRange) -> Result<SlotRange, WireError> {
    let end = u64::from(range.end);
    in_range("slots.end", end, 1, u64::from(SLOT_COUNT))?;
    let start = u64::from(range.start);
    in_range("slots.start", start, 0, end - 1)?;
    u16::try_from(range.start)
        .ok()
        .zip(u16::try_from(range.end).ok())
        .and_then(|(start, end)| SlotRange::new(start, end))
        .ok_or(WireError::Missing("slots"))
}

fn status_to_proto(status: &Status) -> proto::Status {
    let runs = status.runs.iter().map(|(epoch, first, last)| proto::Run {
        epoch: epoch.0,
        first: first.0,
        last: last.0,
    });
    proto::Status {
        node: status.node.0,
        shard: status.shard.map(|shard| shard.0),
        writer_of: status.writer_of.map(|epoch| epoch.0),
        promised: status.promised.0,
        end: Some(version_to_proto(status.end)),
        committed: status.committed.0,
        runs: runs.collect(),
        digest: status.digest,
        suspect: status.is_suspect,
        gauges: Some(gauges_to_proto(&status.gauges)),
    }
}

fn status_from_proto(status: proto::Status) -> Result<Status, WireError> {
    let run = |run: &proto::Run| -> Result<(kv_core::Epoch, Offset, Offset), WireError> {
        Ok((
            epoch("runs.epoch", run.epoch)?,
            offset("runs.first", run.first)?,
            offset("runs.last", run.last)?,
        ))
    };
    Ok(Status {
        node: NodeId(status.node),
        shard: status.shard.map(ShardId),
        writer_of: match status.writer_of {
            Some(number) => Some(epoch("writer_of", number)?),
            None => None,
        },
        promised: epoch("promised", status.promised)?,
        end: version("end", status.end)?,
        committed: offset("committed", status.committed)?,
        runs: status.runs.iter().map(run).collect::<Result<_, _>>()?,
        digest: status.digest,
        gauges: gauges_from_proto(status.gauges.unwrap_or_default())?,
        is_suspect: status.suspect,
    })
}

fn gauges_to_proto(gauges: &Gauges) -> proto::Gauges {
    let followers = gauges.followers.iter().map(|follower| proto::Follower {
        node: follower.node.0,
        matched: follower.matched.0,
        committed: follower.committed.0,
    });
    proto::Gauges {
        applied: gauges.applied.0,
        checkpoint: gauges.checkpoint.0,
        followers: followers.collect(),
        log_bytes: gauges.log_bytes,
        engine_bytes: gauges.engine_bytes,
        requests_queued: gauges.requests_queued,
        requests_waiting: gauges.requests_waiting,
        messages_queued: gauges.messages_queued,
    }
}

fn gauges_from_proto(gauges: proto::Gauges) -> Result<Gauges, WireError> {
    let follower = |follower: &proto::Follower| -> Result<Follower, WireError> {
        Ok(Follower {
            node: NodeId(follower.node),
            matched: offset("followers.matched", follower.matched)?,
            committed: offset("followers.committed", follower.committed)?,
        })
    };
    Ok(Gauges {
        applied: offset("applied", gauges.applied)?,
        checkpoint: offset("checkpoint", gauges.checkpoint)?,
        followers: gauges
            .followers
            .iter()
            .map(follower)
            .collect::<Result<_, _>>()?,
        log_bytes: gauges.log_bytes,
        engine_bytes: gauges.engine_bytes,
        requests_queued: gauges.requests_queued,
        requests_waiting: gauges.requests_waiting,
        messages_queued: gauges.messages_queued,
    })
}

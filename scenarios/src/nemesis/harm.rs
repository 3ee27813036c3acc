//! What an action means for single links and nodes, once its roles are cast.

use std::collections::BTreeSet;
use std::time::Duration;

use kv_core::NodeId;

use super::cast::Cast;
use crate::scenario::{Action, Disturbance, Group};
use crate::world::Place;

/// What a fault does to one link or one node, for as long as it lasts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Harm {
    /// One direction of a link is cut.
    Cut(Place, Place),
    /// A node is down.
    Down {
        /// Which.
        node: NodeId,
        /// Whether its power went, too.
        power: bool,
    },
    /// A node goes down and up again.
    Restart(NodeId),
    /// A node stands still.
    Pause(NodeId),
    /// Messages on one direction of a link are disturbed.
    Disturb(NodeId, NodeId, Disturbance),
    /// A node's session ends.
    LoseSession(NodeId),
    /// A node's clock goes wrong.
    Clock {
        /// Whose.
        node: NodeId,
        /// How far it jumps at the start.
        jump: Duration,
        /// How much faster it runs until the end.
        drift_ppm: i64,
    },
    /// A node's disk is slow.
    SlowDisk(NodeId, Duration),
}

/// What the action does to whom.
pub(super) fn harms(action: &Action, cast: &Cast, node_count: u16) -> Vec<Harm> {
    let each = |group: &Group, harm: &dyn Fn(NodeId) -> Harm| {
        cast.nodes(group).into_iter().map(harm).collect()
    };
    match action {
        Action::Isolate { group, from } => {
            let inside = cast.places(group);
            let outside = others(from.as_ref(), cast, node_count, &inside);
            both_ways(&inside, &outside)
        }
        Action::Split(groups) => split(
            &groups
                .iter()
                .map(|group| cast.places(group))
                .collect::<Vec<_>>(),
        ),
        Action::OneWay { from, to } => {
            let from = cast.places(from);
            one_way(&from, &others(to.as_ref(), cast, node_count, &from))
        }
        Action::Bridge(bridge) => bridged(&cast.nodes(bridge), cast),
        Action::Network {
            disturbance,
            from,
            to,
        } => {
            let nodes = |group: &Option<Group>| match group {
                Some(group) => cast.nodes(group),
                None => (1..=u64::from(node_count)).map(NodeId).collect(),
            };
            let to = nodes(to);
            let links = nodes(from)
                .into_iter()
                .flat_map(|from| to.iter().map(move |to| (from, *to)));
            let links = links.filter(|(from, to)| from != to);
            links
                .map(|(from, to)| Harm::Disturb(from, to, *disturbance))
                .collect()
        }
        Action::PowerLoss(group) => each(group, &|node| Harm::Down { node, power: true }),
        Action::Kill(group) => each(group, &|node| Harm::Down { node, power: false }),
        Action::Restart(group) => each(group, &Harm::Restart),
        Action::Pause(group) => each(group, &Harm::Pause),
        Action::SessionLoss(group) => each(group, &Harm::LoseSession),
        Action::Clock {
            nodes,
            offset,
            drift_ppm,
        } => each(nodes, &|node| Harm::Clock {
            node,
            jump: *offset,
            drift_ppm: *drift_ppm,
        }),
        Action::SlowDisk { nodes, delay } => each(nodes, &|node| Harm::SlowDisk(node, *delay)),
    }
}

/// The named places, or all there are, without those in `but`.
fn others(
    named: Option<&Group>,
    cast: &Cast,
    node_count: u16,
    but: &BTreeSet<Place>,
) -> BTreeSet<Place> {
    let places = match named {
        Some(group) => cast.places(group),
        None => {
            let nodes = (1..=u64::from(node_count)).map(|id| Place::Node(NodeId(id)));
            nodes.chain([Place::Coordination, Place::Clients]).collect()
        }
    };
    places.difference(but).copied().collect()
}

fn one_way(from: &BTreeSet<Place>, to: &BTreeSet<Place>) -> Vec<Harm> {
    let links = from
        .iter()
        .flat_map(|from| to.iter().map(move |to| (*from, *to)));
    links
        .filter(|(from, to)| from != to)
        .map(|(from, to)| Harm::Cut(from, to))
        .collect()
}

fn both_ways(a: &BTreeSet<Place>, b: &BTreeSet<Place>) -> Vec<Harm> {
    let mut cuts = one_way(a, b);
    cuts.extend(one_way(b, a));
    cuts
}

fn split(groups: &[BTreeSet<Place>]) -> Vec<Harm> {
    let mut cuts = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        for other in &groups[index + 1..] {
            cuts.extend(both_ways(group, other));
        }
    }
    cuts
}

/// The members that are no bridge are dealt to two sides, shard by shard.
fn bridged(bridge: &BTreeSet<NodeId>, cast: &Cast) -> Vec<Harm> {
    let mut sides = [BTreeSet::new(), BTreeSet::new()];
    for members in cast.members.values() {
        let others = members.iter().filter(|member| !bridge.contains(*member));
        for (index, member) in others.enumerate() {
            sides[index % 2].insert(Place::Node(*member));
        }
    }
    split(&sides)
}

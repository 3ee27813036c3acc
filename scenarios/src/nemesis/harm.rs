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
    /// The coordination service answers nobody.
    Coordination(Outage),
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

/// Why the coordination service answers nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outage {
    /// Its process is dead.
    Down,
    /// Its process stands still.
    Paused,
}

/// What the action does to whom.
pub(super) fn harms(action: &Action, cast: &Cast, node_count: u16) -> Vec<Harm> {
    let each = |group: &Group, harm: &dyn Fn(NodeId) -> Harm| -> Vec<Harm> {
        cast.nodes(group).into_iter().map(harm).collect()
    };
    let outage = |group: &Group, outage| {
        let hit = cast.places(group).contains(&Place::Coordination);
        hit.then_some(Harm::Coordination(outage))
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
        Action::Ring(ring) => ringed(&cast.nodes(ring), cast),
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
        Action::Kill(group) => {
            let mut harms = each(group, &|node| Harm::Down { node, power: false });
            harms.extend(outage(group, Outage::Down));
            harms
        }
        Action::Restart(group) => each(group, &Harm::Restart),
        Action::Pause(group) => {
            let mut harms = each(group, &Harm::Pause);
            harms.extend(outage(group, Outage::Paused));
            harms
        }
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
        Action::Disk { .. } => Vec::new(), // What becomes of it depends on the node (`nemesis/disk.rs`).
    }
}

/// The named places without those in `but`. Where nobody is named: every node and the coordination service, but not the
/// clients. As in Jepsen, a partition is one of the store, and clients reach every node; a scenario that cuts them off
/// says `clients`.
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
            nodes.chain([Place::Coordination]).collect()
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

/// Who stands side by side, and the first and the last, still reach each other.
fn ringed(nodes: &BTreeSet<NodeId>, cast: &Cast) -> Vec<Harm> {
    let members = cast.order.iter().filter(|node| nodes.contains(*node));
    let ring: Vec<NodeId> = members.copied().collect();
    let mut cuts = Vec::new();
    for (index, node) in ring.iter().enumerate() {
        for (distance, other) in ring[index..].iter().enumerate() {
            if distance > 1 && distance + 1 < ring.len() {
                let (node, other) = (Place::Node(*node), Place::Node(*other));
                cuts.extend(both_ways(&[node].into(), &[other].into()));
            }
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::cast::tests::cast;
    use crate::scenario::{Fault, Scenario};

    /// Two shards: n1 to n3, written by n1, and n4 to n6, written by n4.
    fn cuts(partition: &str) -> Vec<String> {
        let text = format!("name = \"x\"\n[[fault]]\nat = \"1s\"\npartition = {{ {partition} }}\n");
        let scenario = Scenario::parse("x", "x.toml", &text).unwrap();
        let [Fault { action, .. }] = &scenario.faults[..] else {
            panic!("one fault");
        };
        let name = |place| match place {
            Place::Node(node) => node.to_string(),
            Place::Coordination => "coordination".to_owned(),
            Place::Clients => "clients".to_owned(),
        };
        let cut = |harm| match harm {
            Harm::Cut(from, to) => format!("{}>{}", name(from), name(to)),
            other => panic!("{other:?} is no cut"),
        };
        let mut cuts: Vec<String> = harms(action, &cast(&scenario), 6)
            .into_iter()
            .map(cut)
            .collect();
        cuts.sort_unstable();
        cuts
    }

    #[test]
    fn isolation_cuts_both_ways_from_the_whole_store_or_from_the_named() {
        assert_eq!(
            cuts("isolate = \"writer(0)\", from = \"coordination\""),
            ["coordination>n1", "n1>coordination"]
        );
        assert_eq!(
            cuts("isolate = \"writer(0)\", from = [\"shard(0)\", \"clients\"]"),
            [
                "clients>n1",
                "n1>clients",
                "n1>n2",
                "n1>n3",
                "n2>n1",
                "n3>n1"
            ]
        );
        assert_eq!(cuts("isolate = \"writer(0)\"").len(), 2 * 6);
        assert_eq!(
            cuts("isolate = [\"writer(0)\", \"writer(1)\"]").len(),
            2 * 2 * 5
        );
    }

    #[test]
    fn a_one_way_cut_leaves_the_other_way() {
        assert_eq!(
            cuts("one_way = { from = \"writer(1)\", to = [\"replica(1, 0)\", \"replica(1, 1)\"] }"),
            ["n4>n5", "n4>n6"]
        );
        assert_eq!(cuts("one_way = { from = \"clients\" }").len(), 7);
    }

    #[test]
    fn a_split_cuts_the_groups_from_each_other_only() {
        assert_eq!(
            cuts("split = [\"writer(0)\", [\"replica(0, 0)\", \"clients\"]]"),
            ["clients>n1", "n1>clients", "n1>n2", "n2>n1"]
        );
        let majority = cuts("split = [\"majority(0)\", \"minority(0)\"]");
        assert_eq!(majority.len(), 2 * 2, "two and one of three: {majority:?}");
    }

    #[test]
    fn a_bridge_is_all_that_joins_the_halves_of_its_shard() {
        let cuts = cuts("bridge = \"replica(0, 0)\"");
        assert!(cuts.iter().all(|cut| !cut.contains("n2")), "{cuts:?}");
        assert!(cuts.contains(&"n1>n3".to_owned()) && cuts.contains(&"n3>n1".to_owned()));
    }

    #[test]
    fn in_a_ring_each_reaches_two_others_and_all_are_joined() {
        let cuts = cuts("ring = \"all\"");
        assert_eq!(cuts.len(), 6 * 3);
        let mut reached = BTreeSet::from([1]);
        let mut last = 1;
        while let Some(next) = (1..=6)
            .find(|node| !reached.contains(node) && !cuts.contains(&format!("n{last}>n{node}")))
        {
            assert!(!cuts.contains(&format!("n{next}>n{last}")), "both ways");
            reached.insert(next);
            last = next;
        }
        assert_eq!(reached.len(), 6, "one ring: {cuts:?}");
        assert!(
            !cuts.contains(&format!("n{last}>n1")),
            "it is closed: {cuts:?}"
        );
    }
}

//! The cues of a directed run: one thing each, at nodes that there are.

use kv_core::NodeId;
use toml::Spanned;

use super::{Located, out_of_range};
use crate::scenario::cue::{Cue, Numbers, Parcel, ParcelKind, What};
use crate::scenario::script::level;
use crate::scenario::{Cluster, Fault, Problem, Random, Workload, file};

/// The nodes of a directed run stand in the file by name.
struct Stage {
    nodes: u16,
}

/// Checks what may not stand beside cues: they are all that happens.
pub(super) fn check_alone(
    cues: &[Spanned<file::Cue>],
    cluster: &Cluster,
    workload: &Workload,
    faults: &[Fault],
    random: Option<Random>,
) -> Located<()> {
    let Some(first) = cues.first() else {
        return Ok(());
    };
    let why = if !faults.is_empty() || random.is_some() || !workload.script.is_empty() {
        "is all that happens in a directed run; remove the faults and the script"
    } else if cluster.config.shards != 1 {
        "needs a cluster of one shard; write shards = 1"
    } else {
        return Ok(());
    };
    let (field, why) = ("cue", why.to_owned());
    Err((first.span(), Problem::Contradiction { field, why }))
}

pub(super) fn cues(cluster: &Cluster, written: Vec<Spanned<file::Cue>>) -> Located<Vec<Cue>> {
    let stage = Stage {
        nodes: cluster.nodes,
    };
    written.into_iter().map(|cue| stage.cue(cue)).collect()
}

impl Stage {
    fn node(&self, name: &Spanned<String>, field: &'static str) -> Located<NodeId> {
        let number = name.get_ref().strip_prefix('n');
        let number = number.and_then(|number| number.parse::<u64>().ok());
        match number {
            Some(number) if (1..=u64::from(self.nodes)).contains(&number) => Ok(NodeId(number)),
            _ => {
                let allowed = format!("\"n1\" to \"n{}\"", self.nodes);
                Err(out_of_range(name, field, allowed))
            }
        }
    }

    fn cue(&self, written: Spanned<file::Cue>) -> Located<Cue> {
        let span = written.span();
        let cue = written.into_inner();
        let named = [
            ("write", &cue.write),
            ("read", &cue.read),
            ("sync", &cue.sync),
            ("lose_session", &cue.lose_session),
            ("expire", &cue.expire),
            ("learn", &cue.learn),
            ("crash", &cue.crash),
            ("rollback", &cue.rollback),
            ("set", &cue.set),
            ("release", &cue.release),
            ("retry", &cue.retry),
            ("hurry", &cue.hurry),
        ];
        let given: Vec<_> = named
            .into_iter()
            .filter_map(|(name, node)| Some((name, node.as_ref()?)))
            .collect();
        let slow = cue.slow;
        let what = match (given.as_slice(), &cue.deliver) {
            ([], Some(kind)) => What::Deliver(self.parcel(&span, kind, &cue)?),
            ([(name, node)], None) => self.what(&span, name, self.node(node, name)?, &cue)?,
            _ => {
                let names = given.iter().map(|(name, _)| *name);
                let names: Vec<_> = names
                    .chain(cue.deliver.as_ref().map(|_| "deliver"))
                    .collect();
                let given = match names.is_empty() {
                    true => "none".to_owned(),
                    false => names.join(", "),
                };
                let allowed = named.map(|(name, _)| name).join(", ");
                let problem = Problem::ExactlyOne {
                    what: "a cue",
                    given,
                    allowed: format!("deliver, {allowed}"),
                };
                return Err((span, problem));
            }
        };
        Ok(Cue { what, slow })
    }

    fn what(&self, span: &super::Span, name: &str, node: NodeId, cue: &file::Cue) -> Located<What> {
        Ok(match name {
            "write" => What::Write(node),
            "read" => What::Read(node, read_level(cue)?),
            "sync" => What::Sync(node),
            "lose_session" => {
                let seen_by = required(span, &cue.seen_by, "seen_by")?;
                What::LoseSession {
                    node,
                    seen_by: self.node(seen_by, "seen_by")?,
                    early: cue.early,
                }
            }
            "expire" => What::Expire(node),
            "learn" => What::Learn(node),
            "crash" => What::Crash(node),
            "rollback" => What::Rollback(node),
            "set" => What::Set(node),
            "release" => What::Release(node),
            "retry" => What::Retry(node),
            _ => What::Hurry(node),
        })
    }

    fn parcel(
        &self,
        span: &super::Span,
        kind: &Spanned<String>,
        cue: &file::Cue,
    ) -> Located<Parcel> {
        let known = ParcelKind::ALL
            .iter()
            .find(|(_, name)| name == kind.get_ref());
        let Some((kind, _)) = known else {
            let names: Vec<_> = ParcelKind::ALL.iter().map(|(_, name)| *name).collect();
            return Err(out_of_range(kind, "deliver", names.join(", ")));
        };
        Ok(Parcel {
            kind: *kind,
            from: self.node(required(span, &cue.from, "from")?, "from")?,
            to: self.node(required(span, &cue.to, "to")?, "to")?,
            epoch: *required(span, &cue.epoch, "epoch")?.get_ref(),
            numbers: Numbers {
                after: cue.after,
                upto: cue.upto,
                committed: cue.committed,
                round: cue.round,
            },
        })
    }
}

fn required<'a, T>(
    span: &super::Span,
    given: &'a Option<T>,
    field: &'static str,
) -> Located<&'a T> {
    given.as_ref().ok_or_else(|| {
        let why = "is missing in this cue".to_owned();
        (span.clone(), Problem::Contradiction { field, why })
    })
}

fn read_level(cue: &file::Cue) -> Located<checker::Level> {
    let Some(name) = &cue.level else {
        return Ok(checker::Level::Lease);
    };
    let allowed = "lease, quorum, local, replica";
    level(name.get_ref()).ok_or_else(|| out_of_range(name, "level", allowed))
}

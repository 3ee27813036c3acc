//! The end of a run, when all faults are healed: what makes losses visible.
//!
//! 1. A write to each shard, until it is `ok`, shows that the shard works again.
//! 2. One read of each key shows what is left.
//! 3. After a silence, the log of each writer and the state of each member are written down.

use std::sync::Arc;
use std::time::Duration;

use checker::{EventKind, NodeEventKind};
use kv::handle::Status;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::{Failure, Play, writer};
use crate::record::Record;
use crate::workload::Session;
use crate::world::observed::number;

/// How long to wait before a probe or a final read is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How long nothing is written before the members are held against each other: several heartbeats of an idle writer.
const SILENCE: Duration = Duration::from_secs(3);

/// Plays the end of a run. Returns the shards that took no write in time.
pub(super) async fn play(play: &Play) -> Vec<Failure> {
    let session = u64::from(play.scenario.workload.clients);
    let within = play.scenario.workload.recovery_within;
    let probes = play.scenario.probe_keys();
    let healed_at = play.record.now();
    play.record.note(None, NodeEventKind::other("healed", []));
    for (shard, key) in play.scenario.shards().zip(&probes) {
        let (shard, key) = (number(shard), key.clone());
        let within_ns = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        play.record.note(
            None,
            NodeEventKind::Probe {
                shard,
                session,
                key,
                within_ns,
            },
        );
    }
    let last = LastSession {
        session: play.session(session),
        record: play.record.clone(),
        probes,
        keys: play.scenario.keys(),
        give_up_at: healed_at + within,
    };
    let (report, reported) = oneshot::channel();
    let work = Box::pin(async move {
        let _ = report.send(last.work().await); // Nobody waits only if the run is over.
    });
    let task = play.world.spawn(session, work).await;
    task.await.expect("the last session does not panic");
    let not_recovered = reported.await.expect("the last session reports");
    let written_at = play.record.now();
    sleep(SILENCE).await;
    write_down(play, play.record.now().saturating_sub(written_at)).await;
    let failure = |shard| Failure::NotRecovered { shard };
    not_recovered.into_iter().map(failure).collect()
}

/// Writes down the log of each writer and the state of each member.
async fn write_down(play: &Play, quiet: Duration) {
    let statuses = play.world.statuses().await;
    for shard in play.scenario.shards() {
        if let Some(status) = writer(&statuses, shard) {
            let runs = status
                .runs
                .iter()
                .map(|(epoch, first, last)| (epoch.0, first.0, last.0));
            let kind = NodeEventKind::FinalLog {
                shard: number(shard),
                runs: runs.collect(),
                committed: status.committed.0,
            };
            play.record.note(Some(status.node.0), kind);
        }
        for member in play
            .world
            .shard(shard)
            .into_iter()
            .flat_map(|roles| roles.members)
        {
            let kind = final_state(statuses.get(&member), number(shard), quiet);
            play.record.note(Some(member.0), kind);
        }
    }
}

fn final_state(status: Option<&Status>, shard: u32, quiet: Duration) -> NodeEventKind {
    let applied_in = |status: &Status| {
        let holds = |(_, first, last): &&_| (*first..=*last).contains(&status.committed);
        status
            .runs
            .iter()
            .find(holds)
            .map_or(0, |(epoch, _, _)| epoch.0)
    };
    NodeEventKind::FinalState {
        shard,
        epoch: status.map_or(0, applied_in),
        committed: status.map_or(0, |status| status.committed.0),
        digest: status.map_or(0, |status| status.digest.map_or(0, u64::from)),
        live: status.is_some(),
        quiet_ns: u64::try_from(quiet.as_nanos()).unwrap_or(u64::MAX),
    }
}

/// The session that shows what is left.
struct LastSession {
    session: Session,
    record: Arc<Record>,
    /// One key of each shard, by shard.
    probes: Vec<String>,
    keys: Vec<String>,
    give_up_at: Duration,
}

impl LastSession {
    /// Probes and reads. Returns the shards that took no write.
    async fn work(mut self) -> Vec<u64> {
        let mut not_recovered = Vec::new();
        for (shard, key) in std::mem::take(&mut self.probes).into_iter().enumerate() {
            if !self.probe(&key).await {
                not_recovered.push(shard as u64);
            }
            self.keys.push(key);
        }
        for key in &self.keys {
            while self.session.read(key).await.kind != EventKind::Ok {
                if self.record.now() >= self.give_up_at {
                    break;
                }
                sleep(RETRY_AFTER).await;
            }
        }
        not_recovered
    }

    /// Writes a key until that is `ok`. Returns whether it was, in time.
    async fn probe(&mut self, key: &str) -> bool {
        while self.session.write(key).await.kind != EventKind::Ok {
            if self.record.now() >= self.give_up_at {
                return false;
            }
            sleep(RETRY_AFTER).await;
        }
        true
    }
}

//! The simulated world: real nodes inside madsim, around which everything can be made to fail, from one seed.
//!
//! This is a thin adapter around `sim::cluster::Cluster`, which does the work. Every run has a runtime of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use checker::NodeEvent;
use kv::config::Timing;
use kv::handle::Status;
use kv_core::{NodeId, ShardId};
use sim::cluster::{Cluster, Settings};
use sim::network::{self, Weather};
use sim::recorder::{Recorded, Recorder};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::observed::translate;
use super::{Act, Client, Place, Roles, Script, Stage, Work, World};
use crate::play::Played;
use crate::scenario::{Disturbance, Kind, Scenario};

/// How long a message that is held back waits at most, so that later ones overtake it.
const HOLD_MAX: Duration = Duration::from_millis(50);

/// Starts simulated worlds.
#[derive(Clone, Copy, Debug)]
pub struct SimStage;

impl Stage for SimStage {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn lacks(&self, _kind: Kind) -> Option<&'static str> {
        None
    }

    fn enact(&self, scenario: &Scenario, seed: u64, script: Script) -> Played {
        let runtime =
            madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
        let settings = Settings {
            seed,
            nodes: u64::from(scenario.cluster.nodes),
            clients: u64::from(scenario.workload.clients) + 1,
            cluster: scenario.cluster.config.clone(),
            timing: Timing {
                session_timeout: scenario.cluster.session_timeout,
                ..Timing::default()
            },
        };
        runtime.block_on(async move {
            let recorder = Recorder::new();
            let start = Instant::now();
            let cluster = Cluster::start(settings.clone(), recorder.clone());
            let cluster = Mutex::new(cluster);
            script(Arc::new(SimWorld {
                settings,
                start,
                recorder,
                cluster,
            }))
            .await
        })
    }
}

struct SimWorld {
    settings: Settings,
    start: Instant,
    recorder: Arc<Recorder>,
    cluster: Mutex<Cluster>,
}

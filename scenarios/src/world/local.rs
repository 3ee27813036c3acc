//! The world of real processes on this machine: the store's own program, a ZooKeeper, and a TCP proxy on every link.
//!
//! Each place has a loopback address of its own, so that both ends of every link are known:
//!
//! ```text
//! 127.77.S.i:17000         node i itself, which nobody is told of but those who look on
//! 127.77.S.i:17001         what node i is known by: a proxy, which sees from the source who calls
//! 127.77.S.i:18001         node i's HTTP
//! 127.77.S.(100+i):12181   ZooKeeper, as node i knows it: a proxy, too
//! 127.77.S.254:12181       ZooKeeper itself
//! 127.77.S.200             where clients come from
//! ```
//!
//! S is the number of the site, so that several clusters live side by side. The ports are such as nothing else listens on, at any
//! address. A cut link hangs, as a real one does: what is sent waits in
//! buffers, and nobody is told.
//!
//! What this world cannot do is what an operating system does not let one do: take what was not synced from a process that goes on (a
//! killed process leaves it to the kernel), bend a clock, or double and reorder what a TCP stream keeps in order.

mod disk;
mod links;
mod process;
mod proxy;
mod subnet;
mod zookeeper;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kv::access::Access;
use kv::engine::EngineKind;
use kv_core::NodeId;
use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio::time::sleep;

use self::disk::SmallDisk;
use self::links::Links;
use self::process::Process;
use self::subnet::{BACKDOOR_PORT, CLIENT_PORT, FRONT_PORT, HTTP_PORT, Subnet};
use self::zookeeper::{Jars, ZooKeeper};
use super::real::cluster::{Hands, RealWorld};
use super::real::observer::{NodePlace, Observer};
use super::real::reason::Reason;
use super::real::settings::{Whereabouts, kv_toml};
use super::real::site::{Purpose, Site, leftover};
use super::real::{enact, keep, settings};
use super::trouble::Trouble;
use super::{Act, Place, Script, Stage, Trap};
use crate::play::Played;
use crate::scenario::{Action, DiskFault, Kind, Scenario};

/// How often is looked whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How many nodes have an address.
const NODES_MAX: u16 = 99;

/// Starts clusters of processes.
#[derive(Clone, Debug)]
pub struct LocalStage {
    /// The store's program.
    pub kv: PathBuf,
    /// A folder with ZooKeeper's jars; those that Debian installs, unless it is named.
    pub zookeeper: Option<PathBuf>,
    /// The folder that clusters live in while they run.
    pub sites: PathBuf,
}

impl Stage for LocalStage {
    fn name(&self) -> &'static str {
        "local"
    }

    fn is_real(&self) -> bool {
        true
    }

    fn lacks(&self, kind: Kind) -> Option<String> {
        let why = match kind {
            Kind::PowerLoss => {
                "a killed process leaves what it wrote to the operating system; use `kill`, or the world sim"
            }
            Kind::Clock => "all processes of a machine have one clock; use the world sim",
            Kind::SlowDisk => "all processes of a machine have one disk; use the world sim",
            Kind::Partition
            | Kind::Network
            | Kind::Kill
            | Kind::Restart
            | Kind::Pause
            | Kind::SessionLoss
            | Kind::Disk => return None,
        };
        Some(why.to_owned())
    }

    fn lacks_action(&self, action: &Action) -> Option<String> {
        match action {
            Action::Network { disturbance, .. }
                if disturbance.duplicate > 0.0 || disturbance.reorder > 0.0 =>
            {
                let why = "`duplicate` and `reorder` do nothing to a TCP stream; use `lose` and `delay`, or the world sim";
                Some(why.to_owned())
            }
            Action::Disk {
                fault: DiskFault::Full,
                ..
            } => disk::missing(&self.sites),
            Action::Disk { fault, .. } => Some(format!(
                "no real disk does `{}` on demand; use `full`, or the world sim",
                fault.name()
            )),
            _ => None,
        }
    }

    fn lacks_scenario(&self, scenario: &Scenario) -> Option<String> {
        if scenario.cluster.nodes > NODES_MAX {
            return Some(format!("more than {NODES_MAX} nodes"));
        }
        settings::refused(scenario).map(str::to_owned)
    }

    fn lacks_engine(&self, _engine: EngineKind) -> Option<&'static str> {
        None
    }

    fn prepare(&self) -> Result<(), Trouble> {
        if !self.kv.is_file() {
            let path = self.kv.clone();
            return Err(Trouble::NotBuilt { path });
        }
        Jars::find(self.zookeeper.as_deref())?;
        match leftover(&self.sites, self.name()) {
            Some(folder) => Err(Trouble::Leftover {
                what: folder.display().to_string(),
            }),
            None => Ok(()),
        }
    }

    fn enact(&self, scenario: &Scenario, seed: u64, script: Script) -> Played {
        enact(script, async || {
            LocalCluster::start(self, scenario, seed, Purpose::Run).await
        })
    }

    fn keep(&self, scenario: &Scenario, tell: &dyn Fn(&[String])) -> Result<(), Trouble> {
        keep(tell, async || {
            LocalCluster::start(self, scenario, 0, Purpose::Play).await
        })
    }
}

/// A cluster of processes.
pub struct LocalCluster {
    links: Arc<Links>,
    nodes: Mutex<BTreeMap<NodeId, LocalNode>>,
    zookeeper: Mutex<ZooKeeper>,
    kv: PathBuf,
    /// Last, so that it goes when all else has gone.
    site: Site,
}

struct LocalNode {
    folder: PathBuf,
    disk: Option<SmallDisk>,
    /// Nothing while it is down by our will.
    process: Option<Process>,
}

/// Where in ZooKeeper the cluster lives.
const CHROOT: &str = "splitbrain";

impl LocalCluster {
    /// Starts ZooKeeper, the proxies and the nodes, and waits for none of the nodes.
    ///
    /// # Errors
    /// When something of it cannot be started.
    pub async fn start(
        stage: &LocalStage,
        scenario: &Scenario,
        seed: u64,
        purpose: Purpose,
    ) -> Result<RealWorld<Self>, Trouble> {
        let site = Site::claim(&stage.sites, stage.name(), purpose, Subnet::is_free)?;
        let subnet = Subnet(site.number());
        let jars = Jars::find(stage.zookeeper.as_deref())?;
        let address = format!("{}:{CLIENT_PORT}", subnet.zookeeper());
        let zookeeper = ZooKeeper::start(jars, &site, &address).await?;
        let links = Links::new(seed);
        let clients = subnet.clients();
        let mut places = BTreeMap::new();
        let mut nodes = BTreeMap::new();
        let ground = Ground {
            stage,
            scenario,
            site: &site,
            subnet,
            links: &links,
        };
        for node in (1..=u64::from(scenario.cluster.nodes)).map(NodeId) {
            let (started, place) = ground.start_node(node, &address).await?;
            places.insert(node, place);
            nodes.insert(node, started);
        }
        let service = format!("{address}/{CHROOT}").parse();
        let service = service.expect("it is HOST:PORT and a name");
        let access = Access::default().from_source(Some(clients.into()));
        let observer = Observer::new(scenario, seed, places, service, access);
        let cluster = Self {
            links,
            nodes: Mutex::new(nodes),
            zookeeper: Mutex::new(zookeeper),
            kv: stage.kv.clone(),
            site,
        };
        Ok(RealWorld::new(scenario, observer, cluster))
    }

    async fn signal(&self, node: NodeId, signal: Signal) {
        let nodes = self.nodes.lock().await;
        if let Some(process) = nodes.get(&node).and_then(|node| node.process.as_ref()) {
            process.signal(signal);
        }
    }

    /// Fills a disk, and waits until its node has stumbled over that.
    async fn fill_disk(&self, node: NodeId) -> String {
        loop {
            let nodes = self.nodes.lock().await;
            let stumbled = nodes
                .get(&node)
                .is_none_or(|it| match (&it.disk, &it.process) {
                    (Some(disk), Some(process)) => {
                        disk.fill();
                        process.has_ended() || process.has_said("No space left")
                    }
                    _ => false, // It is down: nothing needs space.
                });
            drop(nodes);
            if stumbled {
                return format!("the disk of {node} is full, and a write found no space");
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

#[async_trait]
impl Hands for LocalCluster {
    async fn cut(&self, from: Place, to: Place, reason: Reason) -> Result<(), Trouble> {
        self.links.cut(from, to, reason);
        Ok(())
    }

    async fn mend(&self, from: Place, to: Place, reason: Reason) -> Result<(), Trouble> {
        self.links.mend(from, to, reason);
        Ok(())
    }

    async fn perform(&self, act: &Act) -> Result<(), Trouble> {
        match act {
            Act::Disturb(from, to, disturbance) => {
                self.links
                    .disturb(Place::Node(*from), Place::Node(*to), *disturbance)
            }
            Act::Kill(node) => {
                if let Some(node) = self.nodes.lock().await.get_mut(node) {
                    node.process = None; // It is killed with its handle.
                }
            }
            Act::Start(id) => {
                if let Some(node) = self.nodes.lock().await.get_mut(id)
                    && node.process.is_none()
                {
                    node.process = Some(start_node(&self.kv, &self.site, *id, &node.folder)?);
                }
            }
            Act::Pause(node) => self.signal(*node, Signal::STOP).await,
            Act::Resume(node) => self.signal(*node, Signal::CONT).await,
            Act::KillCoordination => self.zookeeper.lock().await.kill(),
            Act::StartCoordination => self.zookeeper.lock().await.restart(&self.site)?,
            Act::PauseCoordination => self.zookeeper.lock().await.signal(Signal::STOP),
            Act::ResumeCoordination => self.zookeeper.lock().await.signal(Signal::CONT),
            Act::Disarm(node, Trap::Full) => {
                if let Some(disk) = self
                    .nodes
                    .lock()
                    .await
                    .get(node)
                    .and_then(|it| it.disk.as_ref())
                {
                    disk.give_space_back()?;
                }
            }
            other => unreachable!("refused before the start, or done elsewhere: {other:?}"),
        }
        Ok(())
    }

    async fn trap(&self, node: NodeId, trap: &Trap) -> String {
        assert_eq!(*trap, Trap::Full, "the others are refused before the start");
        self.fill_disk(node).await
    }

    async fn failures(&self) -> BTreeMap<NodeId, String> {
        let nodes = self.nodes.lock().await;
        let failed = nodes.iter().filter_map(|(id, node)| {
            let process = node.process.as_ref()?;
            process.has_ended().then(|| (*id, process.last_words()))
        });
        failed.collect()
    }

    async fn logs(&self) -> Vec<(String, Vec<u8>)> {
        let nodes = self.nodes.lock().await;
        let nodes = nodes.iter();
        let nodes = nodes.map(|(id, node)| (id.to_string(), node.folder.join(LOG)));
        let zookeeper = self.site.folder().join(zookeeper::LOG);
        let all = nodes.chain([("zookeeper".to_owned(), zookeeper)]);
        all.map(|(name, path)| (name, std::fs::read(path).unwrap_or_default()))
            .collect()
    }

    fn folder(&self) -> &Path {
        self.site.folder()
    }
}

/// What the nodes of one cluster are started on.
struct Ground<'a> {
    stage: &'a LocalStage,
    scenario: &'a Scenario,
    site: &'a Site,
    subnet: Subnet,
    links: &'a Arc<Links>,
}

impl Ground<'_> {
    /// Starts a node and the proxies between it and all others. Returns it, and where it is found.
    async fn start_node(
        &self,
        node: NodeId,
        zookeeper: &str,
    ) -> Result<(LocalNode, NodePlace), Trouble> {
        let subnet = self.subnet;
        let own = subnet.node(node);
        let (backdoor, front) = (
            format!("{own}:{BACKDOOR_PORT}"),
            format!("{own}:{FRONT_PORT}"),
        );
        let who = Box::new(move |source| subnet.place(source));
        proxy::start(&front, &backdoor, who, Place::Node(node), self.links).await?;
        let service = format!("{}:{CLIENT_PORT}", subnet.zookeeper_of(node));
        let who = Box::new(move |_| Place::Node(node));
        proxy::start(&service, zookeeper, who, Place::Coordination, self.links).await?;
        let folder = self.site.folder().join(format!("n{}", node.0));
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| Trouble::Unusable { path, source }
        };
        std::fs::create_dir(&folder).map_err(unusable(&folder))?;
        let disk = match fills_disks(self.scenario) {
            true => Some(SmallDisk::mount(self.site, &folder.join("disk"))?),
            false => None,
        };
        let disk_folder = disk.as_ref().map_or(folder.as_path(), SmallDisk::path);
        let events = folder.join("events.jsonl");
        let http = format!("{own}:{HTTP_PORT}");
        let at = Whereabouts {
            data: &disk_folder.join("data"),
            events: &events,
            listen: &backdoor,
            advertise: &front,
            source: Some(&own.to_string()),
            http: &http,
            zookeeper: &format!("{service}/{CHROOT}"),
        };
        let file = folder.join("kv.toml");
        let written = std::fs::write(&file, kv_toml(self.scenario, node, &at));
        written.map_err(unusable(&file))?;
        let process = start_node(&self.stage.kv, self.site, node, &folder)?;
        let started = LocalNode {
            folder,
            disk,
            process: Some(process),
        };
        let place = NodePlace {
            backdoor,
            front,
            http,
            events,
        };
        Ok((started, place))
    }
}

/// Where a node's own words go.
const LOG: &str = "log";

fn start_node(kv: &Path, site: &Site, node: NodeId, folder: &Path) -> Result<Process, Trouble> {
    let mut command = Command::new(kv);
    command
        .arg("serve")
        .arg("--config")
        .arg(folder.join("kv.toml"));
    Process::start(&node.to_string(), command, &folder.join(LOG), site)
}

fn fills_disks(scenario: &Scenario) -> bool {
    let is_full = |action: &Action| {
        matches!(
            action,
            Action::Disk {
                fault: DiskFault::Full,
                ..
            }
        )
    };
    scenario.faults.iter().any(|fault| is_full(&fault.action))
}

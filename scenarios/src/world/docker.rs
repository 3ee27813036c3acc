//! The world of containers: the images of the compose cluster, in a network of their own, faults done through Docker.
//!
//! ```text
//! 10.77.S.1          the host: clients, and those who look on
//! 10.77.S.2          ZooKeeper
//! 10.77.S.(10+i)     node i, gRPC at 7001, HTTP at 8001
//! ```
//!
//! S is the number of the site. A cut direction of a link is a packet filter in the containers' own network namespaces: nothing leaves
//! the one, and nothing arrives at the other, so that a restart of either opens no gap. All that a node writes lies in a folder of the
//! host, by the name of the site, and so does its file of events, which carries the kernel's clock as every process of the host does.

mod compose;
mod engine;
mod firewall;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kv::access::Access;
use kv::engine::EngineKind;
use kv_core::NodeId;
use tokio::sync::Mutex;
use tokio::time::sleep;

pub use self::compose::Images;
use self::compose::Subnet;
pub use self::engine::Docker;
use self::firewall::Firewall;
use super::real::cluster::{Hands, RealWorld};
use super::real::observer::{NodePlace, Observer};
use super::real::reason::Reason;
use super::real::settings::{Whereabouts, kv_toml};
use super::real::site::{Purpose, Site, leftover};
use super::real::{enact, keep, settings, zookeeper};
use super::trouble::Trouble;
use super::{Act, Place, Script, Stage, Trap};
use crate::play::Played;
use crate::scenario::{Action, Kind, Scenario};

/// How many nodes have an address.
const NODES_MAX: u16 = 99;
/// How long ZooKeeper may take to answer.
const UP_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the nodes and ZooKeeper are called there.
const ZOOKEEPER: &str = "zookeeper";

/// Starts clusters of containers.
#[derive(Clone, Debug)]
pub struct DockerStage {
    /// What the containers are made of.
    pub images: Images,
    /// The folder that clusters live in while they run.
    pub sites: PathBuf,
}

impl Stage for DockerStage {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn is_real(&self) -> bool {
        true
    }

    fn lacks(&self, kind: Kind) -> Option<String> {
        let why = match kind {
            Kind::Partition | Kind::SessionLoss | Kind::Kill | Kind::Restart | Kind::Pause => {
                return None;
            }
            Kind::Network => {
                "single messages are disturbed by proxies, of which there are none between containers; use the world local"
            }
            Kind::PowerLoss => {
                "a killed container leaves what it wrote to the host; use `kill`, or the world sim"
            }
            Kind::Clock => "all containers of a machine have one clock; use the world sim",
            Kind::SlowDisk => "all containers of a machine have one disk; use the world sim",
            Kind::Disk => {
                "containers write to the disk of the host; use the world local for `full`, else the world sim"
            }
        };
        Some(why.to_owned())
    }

    fn lacks_action(&self, action: &Action) -> Option<String> {
        match action.kind() {
            Kind::Partition | Kind::SessionLoss => firewall::missing(),
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
        let docker = Docker::find()?;
        docker.has_image(&self.images.kv)?;
        docker.has_image(&self.images.zookeeper)?;
        if let Some(folder) = leftover(&self.sites, self.name()) {
            let what = folder.display().to_string();
            return Err(Trouble::Leftover { what });
        }
        let projects: BTreeSet<String> = compose::sites(&self.sites).collect();
        let strangers = docker.projects()?;
        match strangers.difference(&projects).next() {
            Some(project) => Err(Trouble::Leftover {
                what: format!("the containers of {project}"),
            }),
            None => Ok(()),
        }
    }

    fn enact(&self, scenario: &Scenario, seed: u64, script: Script) -> Played {
        enact(script, async || {
            DockerCluster::start(self, scenario, seed, Purpose::Run).await
        })
    }

    fn keep(&self, scenario: &Scenario, tell: &dyn Fn(&[String])) -> Result<(), Trouble> {
        keep(tell, async || {
            DockerCluster::start(self, scenario, 0, Purpose::Play).await
        })
    }
}

/// A cluster of containers.
pub struct DockerCluster {
    firewall: Firewall,
    nodes: Vec<NodeId>,
    /// The nodes that are down by our will.
    down: Mutex<BTreeSet<NodeId>>,
    cluster: Cluster,
}

/// The containers and the network, until this is dropped.
struct Cluster {
    docker: Docker,
    project: String,
    site: Site,
}

impl Cluster {
    fn container(&self, service: &str) -> String {
        compose::container(&self.project, service)
    }

    fn node(&self, node: NodeId) -> String {
        self.container(&node.to_string())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What cannot be removed now, `down` finds by its label.
        let _ = self.docker.remove(&self.project);
    }
}

impl DockerCluster {
    /// Starts the containers, and waits until ZooKeeper answers.
    ///
    /// # Errors
    /// When something of it cannot be started.
    pub async fn start(
        stage: &DockerStage,
        scenario: &Scenario,
        seed: u64,
        purpose: Purpose,
    ) -> Result<RealWorld<Self>, Trouble> {
        let docker = Docker::find()?;
        let taken = docker.projects()?;
        let site = Site::claim(&stage.sites, stage.name(), purpose, |number| {
            match taken.contains(&compose::project(number)) {
                true => Err(Trouble::Leftover {
                    what: compose::project(number),
                }),
                false => Ok(()),
            }
        })?;
        let project = compose::project(site.number());
        let subnet = Subnet(site.number());
        site.set_project(&project)?;
        let cluster = Cluster {
            docker,
            project,
            site,
        };
        let folder = cluster.site.folder();
        let nodes: Vec<NodeId> = (1..=u64::from(scenario.cluster.nodes))
            .map(NodeId)
            .collect();
        let mut places = BTreeMap::new();
        make_zookeeper_folder(&folder.join(ZOOKEEPER))?;
        for node in &nodes {
            let place = make_node_folder(scenario, *node, subnet, &folder.join(node.to_string()))?;
            places.insert(*node, place);
        }
        let file = folder.join("compose.json");
        let text = compose::file(&stage.images, &cluster.project, subnet, folder, &nodes);
        write(&file, &text)?;
        cluster.docker.up(&cluster.project, &file)?;
        let address = format!("{}:{}", subnet.zookeeper(), compose::CLIENT_PORT);
        let began = Instant::now();
        while !zookeeper::serves(&address).await {
            if began.elapsed() > UP_WITHIN {
                let why = cluster.docker.last_words(&cluster.container(ZOOKEEPER));
                let what = format!("ZooKeeper at {address}");
                return Err(Trouble::NotUp { what, why });
            }
            sleep(LOOK_EVERY).await;
        }
        let service = format!("{address}/{}", compose::CHROOT).parse();
        let service = service.expect("it is HOST:PORT and a name");
        let containers = nodes
            .iter()
            .map(|node| (Place::Node(*node), cluster.node(*node)));
        let service_itself = (Place::Coordination, cluster.container(ZOOKEEPER));
        let containers: Vec<_> = containers.chain([service_itself]).collect();
        let firewall = Firewall::new(cluster.docker, &containers, subnet);
        let observer = Observer::new(scenario, seed, places, service, Access::default());
        let cluster = Self {
            firewall,
            nodes,
            down: Mutex::default(),
            cluster,
        };
        Ok(RealWorld::new(scenario, observer, cluster))
    }

    async fn start_again(&self, place: Place) -> Result<(), Trouble> {
        let container = match place {
            Place::Node(node) => self.cluster.node(node),
            _ => self.cluster.container(ZOOKEEPER),
        };
        self.cluster.docker.start(&container).await?;
        let pid = self.cluster.docker.pid(&container);
        self.firewall.renew(place, pid).await
    }
}

#[async_trait]
impl Hands for DockerCluster {
    async fn cut(&self, from: Place, to: Place, reason: Reason) -> Result<(), Trouble> {
        self.firewall.cut(from, to, reason).await
    }

    async fn mend(&self, from: Place, to: Place, reason: Reason) -> Result<(), Trouble> {
        self.firewall.mend(from, to, reason).await
    }

    async fn perform(&self, act: &Act) -> Result<(), Trouble> {
        let docker = &self.cluster.docker;
        let zookeeper = || self.cluster.container(ZOOKEEPER);
        match act {
            Act::Kill(node) => {
                if !self.down.lock().await.insert(*node) {
                    return Ok(());
                }
                self.firewall.forget(Place::Node(*node)).await;
                docker.kill(&self.cluster.node(*node)).await
            }
            Act::Start(node) => match self.down.lock().await.remove(node) {
                true => self.start_again(Place::Node(*node)).await,
                false => Ok(()),
            },
            Act::Pause(node) => docker.pause(&self.cluster.node(*node)).await,
            Act::Resume(node) => docker.unpause(&self.cluster.node(*node)).await,
            Act::KillCoordination => {
                self.firewall.forget(Place::Coordination).await;
                docker.kill(&zookeeper()).await
            }
            Act::StartCoordination => self.start_again(Place::Coordination).await,
            Act::PauseCoordination => docker.pause(&zookeeper()).await,
            Act::ResumeCoordination => docker.unpause(&zookeeper()).await,
            other => unreachable!("refused before the start, or done elsewhere: {other:?}"),
        }
    }

    async fn trap(&self, _node: NodeId, _trap: &Trap) -> String {
        unreachable!("refused before the start")
    }

    async fn failures(&self) -> BTreeMap<NodeId, String> {
        let down = self.down.lock().await;
        let docker = &self.cluster.docker;
        let nodes = self.nodes.iter().filter(|node| !down.contains(node));
        let failed = nodes.filter_map(|node| {
            let container = self.cluster.node(*node);
            let has_ended = !docker.is_up(&container);
            has_ended.then(|| (*node, docker.last_words(&container)))
        });
        failed.collect()
    }

    async fn logs(&self) -> Vec<(String, Vec<u8>)> {
        let nodes = self.nodes.iter().map(ToString::to_string);
        let services = nodes.chain([ZOOKEEPER.to_owned()]);
        let log = |service: String| {
            let log = self.cluster.docker.log(&self.cluster.container(&service));
            (service, log)
        };
        services.map(log).collect()
    }

    fn folder(&self) -> &Path {
        self.cluster.site.folder()
    }
}

fn make_zookeeper_folder(folder: &Path) -> Result<(), Trouble> {
    make(&folder.join("data"))?;
    make(&folder.join("conf"))?;
    let text = format!(
        "tickTime=500\ndataDir=/data\nclientPort={}\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\nmaxClientCnxns=0\n",
        compose::CLIENT_PORT
    );
    write(&folder.join("conf/zoo.cfg"), &text)
}

fn make_node_folder(
    scenario: &Scenario,
    node: NodeId,
    subnet: Subnet,
    folder: &Path,
) -> Result<NodePlace, Trouble> {
    make(folder)?;
    let front = format!("{}:{}", subnet.node(node), compose::FRONT_PORT);
    let at = Whereabouts {
        data: &Path::new(compose::NODE_FOLDER).join("data"),
        events: &Path::new(compose::NODE_FOLDER).join("events.jsonl"),
        listen: &front,
        advertise: &front,
        source: None,
        http: &format!("0.0.0.0:{}", compose::HTTP_PORT),
        zookeeper: &format!(
            "{}:{}/{}",
            subnet.zookeeper(),
            compose::CLIENT_PORT,
            compose::CHROOT
        ),
    };
    write(&folder.join("kv.toml"), &kv_toml(scenario, node, &at))?;
    Ok(NodePlace {
        backdoor: front.clone(),
        front,
        http: format!("{}:{}", subnet.node(node), compose::HTTP_PORT),
        events: folder.join("events.jsonl"),
    })
}

fn make(folder: &Path) -> Result<(), Trouble> {
    fs::create_dir_all(folder).map_err(|source| Trouble::Unusable {
        path: folder.to_owned(),
        source,
    })
}

fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    fs::write(path, text).map_err(|source| Trouble::Unusable {
        path: path.to_owned(),
        source,
    })
}

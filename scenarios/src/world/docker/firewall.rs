//! Cut links between containers: rules of the packet filter in their own network namespaces, entered from the host.
//!
//! Each cut direction has two rules, one where it begins and one where it ends. A container that starts again has a namespace without
//! any, and gets its own anew; meanwhile those of its counterparts keep the link cut. The host itself is never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::process::Command;

use tokio::sync::Mutex;

use super::compose::Subnet;
use super::engine::{Docker, run};
use crate::world::Place;
use crate::world::real::reason::Reason;
use crate::world::trouble::Trouble;

/// All links of a cluster.
pub(super) struct Firewall {
    subnet: Subnet,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cut: BTreeMap<(Place, Place), BTreeSet<Reason>>,
    /// The process of each container that is up: its namespace is found by that.
    pids: BTreeMap<Place, String>,
}

/// What this machine needs for that and has not, if so.
pub(super) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        let why = "links of containers are cut from the host by root; run it as root, or in the world local";
        return Some(why.to_owned());
    }
    let is_there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let mut programs = ["iptables", "nsenter"].into_iter();
    let missing = programs.find(|program| !is_there(program))?;
    Some(format!(
        "links of containers are cut with iptables and nsenter, and there is no {missing}; run `apt-get install iptables util-linux`, or use the world local"
    ))
}

impl Firewall {
    /// The links of these containers, which are up.
    pub(super) fn new(docker: Docker, containers: &[(Place, String)], subnet: Subnet) -> Self {
        let pids = containers.iter();
        let pids = pids.filter_map(|(place, name)| Some((*place, docker.pid(name)?)));
        let state = State {
            cut: BTreeMap::new(),
            pids: pids.collect(),
        };
        Self {
            subnet,
            state: Mutex::new(state),
        }
    }

    /// Nothing goes from the one to the other, for this reason too.
    pub(super) async fn cut(&self, from: Place, to: Place, reason: Reason) -> Result<(), Trouble> {
        let mut state = self.state.lock().await;
        let reasons = state.cut.entry((from, to)).or_default();
        let is_first = reasons.is_empty();
        reasons.insert(reason);
        match is_first {
            true => self.at_both_ends(&state, "-A", from, to).await,
            false => Ok(()),
        }
    }

    /// This reason is one no more.
    pub(super) async fn mend(&self, from: Place, to: Place, reason: Reason) -> Result<(), Trouble> {
        let mut state = self.state.lock().await;
        let Some(reasons) = state.cut.get_mut(&(from, to)) else {
            return Ok(());
        };
        reasons.remove(&reason);
        if !reasons.is_empty() {
            return Ok(());
        }
        state.cut.remove(&(from, to));
        self.at_both_ends(&state, "-D", from, to).await
    }

    /// A container is down: it has no rules until it starts again.
    pub(super) async fn forget(&self, place: Place) {
        self.state.lock().await.pids.remove(&place);
    }

    /// A container has started again, as that process: it gets its rules anew.
    pub(super) async fn renew(&self, place: Place, pid: Option<String>) -> Result<(), Trouble> {
        let mut state = self.state.lock().await;
        state.pids.extend(pid.map(|pid| (place, pid)));
        for (from, to) in state.cut.keys() {
            if *from == place {
                self.rule(&state, "-A", (*from, "OUTPUT"), ("-d", *to))
                    .await?;
            }
            if *to == place {
                self.rule(&state, "-A", (*to, "INPUT"), ("-s", *from))
                    .await?;
            }
        }
        Ok(())
    }

    async fn at_both_ends(
        &self,
        state: &State,
        change: &str,
        from: Place,
        to: Place,
    ) -> Result<(), Trouble> {
        let here = self.rule(state, change, (from, "OUTPUT"), ("-d", to)).await;
        let there = self.rule(state, change, (to, "INPUT"), ("-s", from)).await;
        here.and(there)
    }

    /// Adds or takes away one rule at a place. The host has none, and a container that is down gets its own when it starts.
    async fn rule(
        &self,
        state: &State,
        change: &str,
        (at, chain): (Place, &str),
        (side, other): (&str, Place),
    ) -> Result<(), Trouble> {
        let Some(pid) = state.pids.get(&at) else {
            return Ok(());
        };
        let address = self.address(other).to_string();
        let rule = [
            "--target", pid, "--net", "iptables", "--wait", change, chain, side, &address,
        ];
        let rule: Vec<String> = rule.iter().map(|word| (*word).to_owned()).collect();
        let done = tokio::task::spawn_blocking(move || {
            let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
            run(&["nsenter"], &[&rule[..], &["--jump", "DROP"]].concat()).map(drop)
        });
        done.await.expect("a command does not panic")
    }

    fn address(&self, place: Place) -> Ipv4Addr {
        match place {
            Place::Node(node) => self.subnet.node(node),
            Place::Coordination => self.subnet.zookeeper(),
            Place::Clients => self.subnet.clients(),
        }
    }
}

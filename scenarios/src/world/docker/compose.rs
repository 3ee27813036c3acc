//! The compose file of one cluster: the services of `docker-compose.yml`, as many nodes as a scenario wants, with fixed addresses.
//!
//! It is JSON, which is YAML, too.

use std::net::Ipv4Addr;
use std::path::Path;

use kv_core::NodeId;
use serde_json::{Map, Value, json};

use crate::world::real::site::Found;

/// Where nodes serve gRPC and HTTP, and where ZooKeeper is.
pub(super) const FRONT_PORT: u16 = 7001;
pub(super) const HTTP_PORT: u16 = 8001;
pub(super) const CLIENT_PORT: u16 = 2181;
/// Where in ZooKeeper the cluster lives.
pub(super) const CHROOT: &str = "splitbrain";
/// Where a container finds the folder of its node.
pub(super) const NODE_FOLDER: &str = "/node";
/// What tells our containers and networks from all others; its value is the project.
pub(super) const LABEL: &str = "splitbrain.site";

/// What the containers are made of.
#[derive(Clone, Debug)]
pub struct Images {
    /// The store.
    pub kv: String,
    /// ZooKeeper.
    pub zookeeper: String,
}

/// The addresses of a site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subnet(pub(super) u8);

impl Subnet {
    fn host(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.0, host)
    }

    /// The machine that runs the containers: clients come from there.
    pub(super) fn clients(self) -> Ipv4Addr {
        self.host(1)
    }

    pub(super) fn zookeeper(self) -> Ipv4Addr {
        self.host(2)
    }

    pub(super) fn node(self, node: NodeId) -> Ipv4Addr {
        self.host(u8::try_from(10 + node.0).unwrap_or(u8::MAX))
    }
}

/// The name of a site's containers and network.
pub(super) fn project(number: u8) -> String {
    format!("splitbrain-{number}")
}

/// The container of a service.
pub(super) fn container(project: &str, service: &str) -> String {
    format!("{project}-{service}")
}

/// The names of the containers that sites have.
pub(super) fn sites(sites: &Path) -> impl Iterator<Item = String> {
    let found = Found::all(sites).into_iter();
    found.filter_map(|site| site.project().map(str::to_owned))
}

/// The text of the file.
pub(super) fn file(
    images: &Images,
    project: &str,
    subnet: Subnet,
    folder: &Path,
    nodes: &[NodeId],
) -> String {
    // Whoever runs this has to be able to remove what the containers write.
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    let user = format!("{}:{}", user.as_raw(), group.as_raw());
    let service = |name: &str, image: &str, address: Ipv4Addr, volumes: Vec<String>| {
        json!({
            "image": image,
            "container_name": container(project, name),
            "hostname": name,
            "user": user,
            "labels": { LABEL: project },
            "networks": { "cluster": { "ipv4_address": address.to_string() } },
            "volumes": volumes,
            "stop_grace_period": "0s",
        })
    };
    let mount = |from: &Path, to: &str| format!("{}:{to}", from.display());
    let mut services = Map::new();
    let zookeeper = folder.join(super::ZOOKEEPER);
    let volumes = vec![
        mount(&zookeeper.join("conf"), "/conf"),
        mount(&zookeeper.join("data"), "/data"),
    ];
    let service_of_zookeeper = service(
        super::ZOOKEEPER,
        &images.zookeeper,
        subnet.zookeeper(),
        volumes,
    );
    services.insert(super::ZOOKEEPER.to_owned(), service_of_zookeeper);
    for node in nodes {
        let name = node.to_string();
        let volumes = vec![mount(&folder.join(&name), NODE_FOLDER)];
        let mut service = service(&name, &images.kv, subnet.node(*node), volumes);
        service["command"] = json!(["serve", "--config", format!("{NODE_FOLDER}/kv.toml")]);
        services.insert(name, service);
    }
    let range = format!("{}/24", subnet.host(0));
    let file: Value = json!({
        "services": services,
        "networks": {
            "cluster": {
                "name": project,
                "labels": { LABEL: project },
                "ipam": { "config": [{ "subnet": range, "gateway": subnet.clients().to_string() }] },
            }
        },
    });
    format!("{file:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_has_an_address_and_a_label_of_its_site() {
        let images = Images {
            kv: "store".to_owned(),
            zookeeper: "service".to_owned(),
        };
        let nodes = [1, 2, 3].map(NodeId);
        let text = file(
            &images,
            "splitbrain-9",
            Subnet(9),
            Path::new("/site"),
            &nodes,
        );
        let file: Value = serde_json::from_str(&text).unwrap();
        let services = file["services"].as_object().unwrap();
        assert_eq!(services.len(), 4);
        for service in services.values() {
            assert_eq!(service["labels"][LABEL], "splitbrain-9");
        }
        let address = |name: &str| &services[name]["networks"]["cluster"]["ipv4_address"];
        assert_eq!(address("n3"), "10.77.9.13");
        assert_eq!(address("zookeeper"), "10.77.9.2");
        assert_eq!(services["n1"]["volumes"][0], "/site/n1:/node");
    }
}

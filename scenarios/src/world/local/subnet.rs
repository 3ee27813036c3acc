//! The addresses of a cluster: each place has one of its own, out of 127.77.S.0/24.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use kv_core::NodeId;

use crate::world::Place;
use crate::world::trouble::Trouble;

/// Where nodes listen, where they are known, where they serve HTTP, and where ZooKeeper is.
pub(super) const BACKDOOR_PORT: u16 = 17000;
pub(super) const FRONT_PORT: u16 = 17001;
pub(super) const HTTP_PORT: u16 = 18001;
pub(super) const CLIENT_PORT: u16 = 12181;

/// The addresses of a site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subnet(pub(super) u8);

impl Subnet {
    fn host(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 77, self.0, host)
    }

    pub(super) fn node(self, node: NodeId) -> Ipv4Addr {
        self.host(u8::try_from(node.0).unwrap_or(u8::MAX))
    }

    pub(super) fn zookeeper_of(self, node: NodeId) -> Ipv4Addr {
        self.host(u8::try_from(100 + node.0).unwrap_or(u8::MAX))
    }

    pub(super) fn zookeeper(self) -> Ipv4Addr {
        self.host(254)
    }

    pub(super) fn clients(self) -> Ipv4Addr {
        self.host(200)
    }

    /// Who calls from an address: whoever is no node is a client.
    pub(super) fn place(self, source: IpAddr) -> Place {
        match source {
            IpAddr::V4(address) if address.octets()[..3] == [127, 77, self.0] => {
                match address.octets()[3] {
                    host @ 1..=99 => Place::Node(NodeId(host.into())),
                    _ => Place::Clients,
                }
            }
            _ => Place::Clients,
        }
    }

    /// Whether nobody else on this machine uses it.
    pub(super) fn is_free(number: u8) -> Result<(), Trouble> {
        for port in [CLIENT_PORT, BACKDOOR_PORT, FRONT_PORT, HTTP_PORT] {
            let address = format!("{}:{port}", Self(number).zookeeper());
            if let Err(source) = TcpListener::bind(&address) {
                return Err(Trouble::NoAddress { address, source });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_known_by_its_address() {
        let subnet = Subnet(3);
        let node = NodeId(12);
        assert_eq!(subnet.place(subnet.node(node).into()), Place::Node(node));
        assert_eq!(subnet.place(subnet.clients().into()), Place::Clients);
        let elsewhere = [Subnet(4).node(node), Ipv4Addr::LOCALHOST];
        assert!(
            elsewhere
                .iter()
                .all(|it| subnet.place((*it).into()) == Place::Clients)
        );
    }

    #[test]
    fn an_address_that_somebody_listens_on_is_named() {
        // Nobody else's: sites end at 250.
        let subnet = Subnet(251);
        assert!(Subnet::is_free(251).is_ok());
        let address = format!("{}:{FRONT_PORT}", subnet.zookeeper());
        let taken = TcpListener::bind(&address).unwrap();
        let message = Subnet::is_free(251).unwrap_err().to_string();
        assert!(
            message.contains(&address) && message.contains("ss -ltnp"),
            "{message}"
        );
        drop(taken);
    }
}

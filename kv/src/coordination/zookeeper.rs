//! A real ZooKeeper as the coordination service, through the crate `zookeeper-client`.
//!
//! What the crate gives and what the contract of [`Session`] wants differ in four places, and each has its file:
//!
//! - `session.rs`: the crate gives a session up by its own clock when it has not reached a server for 7/5 of the timeout. Only a
//!   server can say that a session is over, so it is taken up again, and it is `Expired` when a server says so.
//! - `watches.rs`: the crate has a watcher for each call; the contract has one event for each path and change.
//! - `calls.rs`: the crate waits for a connection as long as it takes; here every call is bounded. A `multi` makes missing parents,
//!   and a path that does not exist is watched.
//! - `address.rs`: servers, chroot and identity, checked before anything is tried.
//!
//! Reads are answered by whichever server the session is connected to, perhaps late, but never older than what the session has
//! seen. What is decided is decided by conditional writes.

mod address;
mod calls;
mod session;
mod watches;

use std::time::Duration;

use async_trait::async_trait;
use zookeeper_client as zk;

pub use self::address::{AddressError, Identity, IdentityError, ZooKeeperAddress};
use self::session::ZooKeeperSession;
use crate::coordination::{Coordination, CoordinationError, LeaseProof, Session};

/// An ensemble, a chroot in it, and who this is.
#[derive(Clone, Debug)]
pub struct ZooKeeper {
    address: ZooKeeperAddress,
    identity: Option<Identity>,
    session_timeout: Duration,
}

impl ZooKeeper {
    /// The service at that address. With an identity, every znode is made so that only this identity can read or change it; without
    /// one, anyone can. The servers may grant another session timeout than is asked for.
    #[must_use]
    pub fn new(
        address: ZooKeeperAddress,
        identity: Option<Identity>,
        session_timeout: Duration,
    ) -> Self {
        Self {
            address,
            identity,
            session_timeout,
        }
    }

    /// A connector for a session that outlives its handle. The other kind ends with it.
    fn connector(&self) -> zk::Connector {
        let connector = zk::Client::connector().with_session_timeout(self.session_timeout);
        match &self.identity {
            Some(identity) => connector.with_auth("digest", identity.secret()),
            None => connector,
        }
    }

    async fn reach(&self, connector: zk::Connector) -> Result<zk::Client, zk::Error> {
        connector.connect(&self.address.to_string()).await
    }

    /// Who may do what with a new znode.
    fn acls(&self) -> zk::Acls<'static> {
        match self.identity {
            Some(_) => zk::Acls::creator_all(),
            None => zk::Acls::anyone_all(),
        }
    }

    /// Makes the chroot where it is missing.
    async fn make_root(&self, client: &zk::Client) -> Result<(), zk::Error> {
        let Some(chroot) = self.address.chroot() else {
            return Ok(());
        };
        if client.check_stat("/").await?.is_some() {
            return Ok(());
        }
        let from_the_top = client.clone().chroot("/");
        let from_the_top = from_the_top.expect("the root is a path");
        let directory = zk::CreateMode::Persistent.with_acls(self.acls());
        from_the_top.mkdir(chroot, &directory).await
    }
}

#[async_trait]
impl Coordination for ZooKeeper {
    async fn connect(&self) -> Result<Box<dyn Session>, CoordinationError> {
        let connector = self.connector().with_detached();
        let opening = async {
            let client = self.reach(connector).await?;
            self.make_root(&client).await?;
            Ok(client)
        };
        let client = opening.await.map_err(|error| match calls::meaning(error) {
            CoordinationError::Forbidden => CoordinationError::Forbidden,
            _ => CoordinationError::Unreachable,
        })?;
        Ok(Box::new(ZooKeeperSession::start(self.clone(), client)))
    }

    /// A follower passes a write on, and the leader performs it without noting that it has heard of the session: of that it learns
    /// with the next answer to its pings, twice a tick.
    fn lease_proof(&self) -> LeaseProof {
        LeaseProof::NextWrite
    }
}

//! The suite that both kinds of endpoint pass, and what only QUIC can be asked.

mod hostile;
mod joining;
mod refused;
mod restart;
mod suite;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::*;
use crate::identity::ClusterAuthority;
use crate::memory::Network;

/// A world to bind endpoints in.
#[derive(Clone)]
pub(super) enum World {
    Quic,
    Memory(Network),
}

impl World {
    pub(super) fn bind(&self, identity: &Identity) -> Endpoint {
        self.bind_speaking(identity, WIRE_VERSION, identity.peer().role)
    }

    pub(super) fn bind_speaking(&self, identity: &Identity, version: u16, role: Role) -> Endpoint {
        let bind: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let identity = identity.clone();
        let own = Greeting { version, role: Some(role) };
        match self {
            World::Quic => {
                let options = EndpointOptions { role, bind, mark: None };
                Endpoint::bind_speaking(identity, options, own).unwrap()
            }
            World::Memory(network) => network.bind_speaking(identity, bind, own).unwrap(),
        }
    }
}

/// One coordinator and one agent of one cluster.
pub(super) struct Cluster {
    pub(super) world: World,
    pub(super) authority: ClusterAuthority,
    pub(super) c1: Endpoint,
    pub(super) h1: Endpoint,
}

impl Cluster {
    pub(super) fn new(world: World) -> Cluster {
        let authority = ClusterAuthority::create("storm").unwrap();
        let c1 = world.bind(&authority.issue(Role::Coordinator, "c1", 1).unwrap());
        let h1 = world.bind(&authority.issue(Role::Agent, "h1", 1).unwrap());
        Cluster { world, authority, c1, h1 }
    }

    pub(super) fn issue(&self, role: Role, name: &str) -> Identity {
        self.authority.issue(role, name, 1).unwrap()
    }

    /// The agent's end and the coordinator's.
    pub(super) async fn connected(&self) -> (Connection, Connection) {
        let connect = self.h1.connect(self.c1.local_addr(), Role::Coordinator, "c1");
        let (near, far) = tokio::join!(connect, self.c1.accept());
        (near.unwrap(), far.unwrap())
    }

    /// Whom the coordinator refused, once it is `n`.
    pub(super) async fn refused(&self, reason: Reason, n: u64) {
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while self.c1.refusals().of(reason) < n {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "no refusal for {reason}: {:?}", self.c1.refusals());
        assert_eq!(self.c1.refusals().total(), n, "{:?}", self.c1.refusals());
    }

    /// Nobody is let in meanwhile.
    pub(super) async fn nobody_comes(&self) {
        let waited = tokio::time::timeout(Duration::from_millis(50), self.c1.accept());
        assert!(waited.await.is_err(), "somebody was accepted");
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Said {
    Number(u64),
    Text(String),
}

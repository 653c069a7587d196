//! The in-memory twin of the network: endpoints of the same type, without sockets or TLS.
//!
//! Certificates are judged by the same code, the hello is the same, frames are the same; only the
//! bytes go through a pipe. The same suite of tests passes on both. What differs: a dead address is
//! refused at once instead of after a time-out, and hosts cannot join here.

mod link;
pub(crate) mod pipe;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub(crate) use link::Link;

use crate::codec::WIRE_VERSION;
use crate::identity::{Identity, Peer, Role};
use crate::transport::{self, Connection, Endpoint, Greeting, Reason, Refusals};
use crate::{IdentityError, WireError};

/// Channels that may be opened before the other side has accepted them.
const STREAMS: usize = 64;

/// A set of endpoints that can reach each other. Each network is a world of its own.
#[derive(Clone, Debug, Default)]
pub struct Network {
    nodes: Arc<Mutex<BTreeMap<SocketAddr, Node>>>,
}

#[derive(Clone, Debug)]
struct Node {
    identity: Arc<Identity>,
    own: Greeting,
    refusals: Refusals,
    connections: mpsc::Sender<Connection>,
}

/// An endpoint's state in its network.
#[derive(Debug)]
pub(crate) struct MemoryEndpoint {
    network: Network,
    node: Node,
    address: SocketAddr,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
    made: Mutex<Vec<std::sync::Weak<transport::ConnectionInner>>>,
    closed: watch::Sender<bool>,
}

impl Network {
    /// A network with nobody in it.
    #[must_use]
    pub fn new() -> Network {
        Network::default()
    }

    /// The twin of [`Endpoint::bind`]. Port 0 takes a free one.
    ///
    /// # Errors
    /// The address is taken.
    pub fn bind(&self, identity: Identity, address: SocketAddr) -> Result<Endpoint, WireError> {
        let own = Greeting { version: WIRE_VERSION, role: Some(identity.peer().role) };
        self.bind_speaking(identity, address, own)
    }

    pub(crate) fn bind_speaking(
        &self,
        identity: Identity,
        mut address: SocketAddr,
        own: Greeting,
    ) -> Result<Endpoint, WireError> {
        let mut nodes = self.nodes();
        if address.port() == 0 {
            let free = (1..=u16::MAX)
                .rev()
                .find(|port| !nodes.contains_key(&SocketAddr::new(address.ip(), *port)));
            address.set_port(free.unwrap_or(0));
        }
        if address.port() == 0 || nodes.contains_key(&address) {
            let source = std::io::ErrorKind::AddrInUse.into();
            return Err(WireError::Socket { address, source });
        }
        let (connections, accepted) = mpsc::channel(transport::MAX_ACCEPTED);
        let identity = Arc::new(identity);
        let node = Node { identity, own, refusals: Refusals::default(), connections };
        nodes.insert(address, node.clone());
        Ok(Endpoint::from_memory(MemoryEndpoint {
            network: self.clone(),
            node,
            address,
            accepted: tokio::sync::Mutex::new(accepted),
            made: Mutex::default(),
            closed: watch::Sender::new(false),
        }))
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryEndpoint {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.node.refusals
    }

    pub(crate) async fn accept(&self) -> Option<Connection> {
        if self.node.identity.peer().role != Role::Coordinator {
            return None;
        }
        let mut closed = self.closed.subscribe();
        let mut accepted = self.accepted.lock().await;
        let connection = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return None,
            connection = accepted.recv() => connection?,
        };
        self.keep(&connection);
        Some(connection)
    }

    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        role: Role,
        name: &str,
    ) -> Result<Connection, WireError> {
        let there = self.network.nodes().get(&address).cloned();
        let there = there
            .filter(|node| node.identity.peer().role == Role::Coordinator)
            .ok_or(WireError::Unanswered { address, after: Duration::ZERO })?;
        let server = self.judge_server(&there, address, role, name)?;
        let client = there
            .judge_client(&self.node.identity, self.address)
            .map_err(|why| WireError::RefusedByPeer { address, why: why.to_string() })?;
        let (near, far) = link::pair(STREAMS);
        let near = Connection::from_memory(near, server, address);
        let far = Connection::from_memory(far, client, self.address);
        tokio::spawn(there.greet(far));
        match transport::greet(&near, self.node.own).await {
            Ok(()) => {
                self.keep(&near);
                Ok(near)
            }
            Err(error) => {
                transport::note(&self.node.refusals, &error);
                Err(error)
            }
        }
    }

    fn judge_server(
        &self,
        there: &Node,
        address: SocketAddr,
        role: Role,
        name: &str,
    ) -> Result<Peer, WireError> {
        let own = &self.node.identity;
        let error = match own.trust.verify(&there.identity.leaf) {
            Ok(peer) if peer.role == role && peer.name == name => return Ok(peer),
            Ok(found) => {
                let (name, found) = (Some(name.to_owned()), found.into());
                WireError::WrongPeer { address, role, name, found }
            }

            Err(e) => transport::refused(address, &e),
        };
        transport::note(&self.node.refusals, &error);
        Err(error)
    }

    fn keep(&self, connection: &Connection) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|c| c.strong_count() > 0);
        made.push(connection.downgrade());
    }

    pub(crate) fn close(&self) {
        self.network.nodes().remove(&self.address);
        self.closed.send_replace(true);
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in made.iter().filter_map(std::sync::Weak::upgrade) {
            Connection::from_inner(connection).close("endpoint closed");
        }
    }
}

impl Node {
    fn judge_client(&self, client: &Identity, remote: SocketAddr) -> Result<Peer, IdentityError> {
        self.identity.trust.verify(&client.leaf).inspect_err(|e| {
            self.refusals.note(remote, Reason::from(e), &e.to_string());
        })
    }

    /// The server's part of the hello; what passes it can be accepted.
    async fn greet(self, connection: Connection) {
        match transport::welcome(&connection, self.own.version).await {
            Ok(()) => {
                if self.connections.try_send(connection.clone()).is_err() {
                    self.refusals.note(connection.remote(), Reason::Overloaded, "nobody accepts");
                    connection.close("overloaded");
                }
            }
            Err(error) => transport::note(&self.refusals, &error),
        }
    }
}

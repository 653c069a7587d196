//! A connection to one authenticated peer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::channel::Channel;
use super::hello::MAX_HELLO;
use super::stream::{ReadHalf, WriteHalf};
use crate::WireError;
use crate::codec::MAX_FRAME;
use crate::identity::{Peer, Role};
use crate::memory::Link;

/// Bytes of one frame from an agent, at most: its reports are small, and a coordinator hears many.
pub const MAX_AGENT_FRAME: usize = 1024 * 1024;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A connection to one peer. Clones are the same connection; when the last of them and of its
/// channels is dropped, it is closed.
#[derive(Clone, Debug)]
pub struct Connection(Arc<ConnectionInner>);

#[derive(Debug)]
pub(crate) struct ConnectionInner {
    id: u64,
    peer: Peer,
    remote: SocketAddr,
    link: Kind,
}

#[derive(Debug)]
enum Kind {
    Quic(quinn::Connection),
    Memory(Link),
}

fn lost(error: quinn::ConnectionError) -> WireError {
    WireError::Lost(error.to_string())
}

impl Connection {
    pub(crate) fn from_quic(connection: quinn::Connection, peer: Peer) -> Connection {
        let remote = connection.remote_address();
        Connection::new(Kind::Quic(connection), peer, remote)
    }

    pub(crate) fn from_memory(link: Link, peer: Peer, remote: SocketAddr) -> Connection {
        Connection::new(Kind::Memory(link), peer, remote)
    }

    fn new(link: Kind, peer: Peer, remote: SocketAddr) -> Connection {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Connection(Arc::new(ConnectionInner { id, peer, remote, link }))
    }

    pub(crate) fn downgrade(&self) -> Weak<ConnectionInner> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn from_inner(inner: Arc<ConnectionInner>) -> Connection {
        Connection(inner)
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Where the other end is.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    /// A number that no other connection of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Opens a channel. Waits while as many are open as the other side allows; the other side hears
    /// of it with its first frame.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn open(&self) -> Result<Channel, WireError> {
        let (write, read) = self.open_stream().await?;
        Ok(Channel::new(write, read, self.frame_limit()))
    }

    /// The next channel that the other side opened.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn accept_channel(&self) -> Result<Channel, WireError> {
        let (write, read) = self.accept_stream().await?;
        Ok(Channel::new(write, read, self.frame_limit()))
    }

    /// Waits until the connection is over, and says why.
    pub async fn closed(&self) -> String {
        match &self.0.link {
            Kind::Quic(connection) => connection.closed().await.to_string(),
            Kind::Memory(link) => link.closed().await,
        }
    }

    /// Closes the connection. What was sent and has not arrived is lost. The other side sees `why`.
    pub fn close(&self, why: &str) {
        match &self.0.link {
            Kind::Quic(connection) => connection.close(quinn::VarInt::from_u32(0), why.as_bytes()),
            Kind::Memory(link) => link.close(&format!("closed: {why}")),
        }
    }

    pub(super) async fn open_hello(&self) -> Result<Channel, WireError> {
        let (write, read) = self.open_stream().await?;
        Ok(Channel::new(write, read, MAX_HELLO))
    }

    pub(super) async fn accept_hello(&self) -> Result<Channel, WireError> {
        let (write, read) = self.accept_stream().await?;
        Ok(Channel::new(write, read, MAX_HELLO))
    }

    fn frame_limit(&self) -> usize {
        match self.0.peer.role {
            Role::Agent => MAX_AGENT_FRAME,
            Role::Coordinator | Role::Operator => MAX_FRAME,
        }
    }

    async fn open_stream(&self) -> Result<(WriteHalf, ReadHalf), WireError> {
        match &self.0.link {
            Kind::Quic(connection) => {
                let (write, read) = connection.open_bi().await.map_err(lost)?;
                Ok((WriteHalf::Quic(write), ReadHalf::Quic(read)))
            }
            Kind::Memory(link) => link.open().await,
        }
    }

    async fn accept_stream(&self) -> Result<(WriteHalf, ReadHalf), WireError> {
        match &self.0.link {
            Kind::Quic(connection) => {
                let (write, read) = connection.accept_bi().await.map_err(lost)?;
                Ok((WriteHalf::Quic(write), ReadHalf::Quic(read)))
            }
            Kind::Memory(link) => link.accept().await,
        }
    }
}

//! Connections between authenticated peers.
//!
//! An [`Endpoint`] is one UDP socket. [`Endpoint::connect`] and [`Endpoint::accept`] give a
//! [`Connection`] only when both certificates were believed and the hello was answered; a connection
//! carries [`Channel`]s, streams of frames. A hello for another role than the certificate's is refused;
//! each message is authorised by whoever handles it, with [`Connection::peer`].

mod channel;
mod config;
mod connection;
mod guests;
mod hello;
mod join;
mod judge;
mod quic;
mod refusals;
mod seldom;
mod socket;
pub(crate) mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use channel::{Channel, MAX_QUEUED, Receiver, Sender};
pub(crate) use connection::ConnectionInner;
pub use connection::{Connection, MAX_AGENT_FRAME};
pub(crate) use hello::Greeting;
pub use join::{JoinRequest, join};
pub(crate) use refusals::Refusals;
pub use refusals::{Reason, RefusalCounts};
pub use seldom::Seldom;
pub use socket::marked_udp;

use crate::WireError;
use crate::codec::WIRE_VERSION;
use crate::identity::{Identity, IdentityError, Role};
use crate::memory::MemoryEndpoint;
use quic::QuicEndpoint;

/// How long handshake and hello may take together; the idle time-out is as long.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections that wait to be taken by [`Endpoint::accept`], at most.
pub(crate) const MAX_ACCEPTED: usize = 4096;

/// As what, where and how to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointOptions {
    /// As what it connects: the other side refuses a certificate of another role.
    pub role: Role,
    /// The address; port 0 takes a free one.
    pub bind: SocketAddr,
    /// `SO_MARK` for the socket, so that control traffic passes our own network faults. Without
    /// CAP_NET_ADMIN it is left out with a warning in the log.
    pub mark: Option<u32>,
}

/// Client and server on one socket. Clones are the same endpoint. Only an endpoint with a
/// coordinator's identity answers connections; agents and operators connect to it.
#[derive(Clone, Debug)]
pub struct Endpoint(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Quic(QuicEndpoint),
    Memory(MemoryEndpoint),
}

impl Endpoint {
    /// Binds a socket and begins to serve, where `identity` is a coordinator's. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or the identity cannot be used for TLS.
    pub fn bind(identity: Identity, options: EndpointOptions) -> Result<Endpoint, WireError> {
        let own = Greeting { version: WIRE_VERSION, role: Some(options.role) };
        Endpoint::bind_speaking(identity, options, own)
    }

    pub(crate) fn bind_speaking(
        identity: Identity,
        options: EndpointOptions,
        own: Greeting,
    ) -> Result<Endpoint, WireError> {
        let endpoint = QuicEndpoint::bind(identity, options, own)?;
        Ok(Endpoint(Arc::new(Inner::Quic(endpoint))))
    }

    pub(crate) fn from_memory(endpoint: MemoryEndpoint) -> Endpoint {
        Endpoint(Arc::new(Inner::Memory(endpoint)))
    }

    /// The address that is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        match &*self.0 {
            Inner::Quic(endpoint) => endpoint.address(),
            Inner::Memory(endpoint) => endpoint.address(),
        }
    }

    /// A connection to whoever is `role` and `name` of this cluster, at `address`. Returns once the
    /// other side has believed our certificate and answered the hello, or after five seconds.
    ///
    /// # Errors
    /// Nobody answers; either side refuses the other, with the reason; the wire versions differ.
    pub async fn connect(
        &self,
        address: SocketAddr,
        role: Role,
        name: &str,
    ) -> Result<Connection, WireError> {
        match &*self.0 {
            Inner::Quic(endpoint) => endpoint.connect(address, role, name).await,
            Inner::Memory(endpoint) => endpoint.connect(address, role, name).await,
        }
    }

    /// The next peer that was believed and greeted; `None` once the endpoint is closed, and at once
    /// where it does not serve. Refused ones are logged and counted, never returned.
    pub async fn accept(&self) -> Option<Connection> {
        match &*self.0 {
            Inner::Quic(endpoint) => endpoint.accept().await,
            Inner::Memory(endpoint) => endpoint.accept().await,
        }
    }

    /// The next host that asks to join; `None` once the endpoint is closed, and at once where it
    /// does not serve. This is all that somebody without a certificate can reach.
    pub async fn accept_join(&self) -> Option<JoinRequest> {
        match &*self.0 {
            Inner::Quic(endpoint) => endpoint.accept_join().await,
            Inner::Memory(_) => None,
        }
    }

    /// Whom this endpoint refused so far, accepting and connecting.
    #[must_use]
    pub fn refusals(&self) -> RefusalCounts {
        match &*self.0 {
            Inner::Quic(endpoint) => endpoint.refusals().counts(),
            Inner::Memory(endpoint) => endpoint.refusals().counts(),
        }
    }

    /// Ends a connection whose other side did what its role may not, or what makes no sense; logged and
    /// counted.
    pub fn refuse(&self, connection: &Connection, why: &str) {
        let refusals = match &*self.0 {
            Inner::Quic(endpoint) => endpoint.refusals(),
            Inner::Memory(endpoint) => endpoint.refusals(),
        };
        let detail = format!("{}: {why}", connection.peer());
        refusals.note(connection.remote(), Reason::Protocol, &detail);
        connection.close(why);
    }

    /// Closes every connection and answers no more. Does not wait until the peers know:
    /// [`Endpoint::drained`] does.
    pub fn close(&self) {
        match &*self.0 {
            Inner::Quic(endpoint) => endpoint.close(),
            Inner::Memory(endpoint) => endpoint.close(),
        }
    }

    /// After [`Endpoint::close`]: waits until the peers were told, a few round trips at most.
    pub async fn drained(&self) {
        match &*self.0 {
            Inner::Quic(endpoint) => endpoint.drained().await,
            Inner::Memory(_) => {}
        }
    }
}

/// The client's hello on a new connection. Closes it where that fails.
pub(crate) async fn greet(connection: &Connection, own: Greeting) -> Result<(), WireError> {
    let address = connection.remote();
    let hello = async { hello::ask(connection.open_hello().await?, own, address).await };
    let result = hello.await.map_err(|error| match error {
        WireError::Lost(why) => WireError::RefusedByPeer { address, why },
        other => other,
    });
    if let Err(error) = &result {
        connection.close(&error.to_string());
    }
    result
}

/// The server's hello on a new connection. Closes it where that fails.
pub(crate) async fn welcome(connection: &Connection, version: u16) -> Result<(), WireError> {
    let address = connection.remote();
    let hello = async {
        let channel = connection.accept_hello().await?;
        hello::answer(channel, version, Some(connection.peer()), address).await
    };
    let result = match tokio::time::timeout(HANDSHAKE, hello).await {
        Ok(result) => result,
        Err(_) => {
            let detail = "no hello".to_owned();
            Err(WireError::Refused { address, reason: Reason::TooSlow, detail })
        }
    };
    if let Err(error) = &result {
        let told = |e: &WireError| match e {
            WireError::Version { .. } => true,
            WireError::Refused { reason, .. } => *reason == Reason::WrongRole,
            _ => false,
        };
        if told(error) {
            // The answer is under way: the client closes when it has read it.
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.closed()).await;
        }
        connection.close(&error.to_string());
    }
    result
}

/// Logs and counts an error where it is a refusal by this side.
pub(crate) fn note(refusals: &Refusals, error: &WireError) {
    match error {
        WireError::Refused { address, reason, detail } => refusals.note(*address, *reason, detail),
        WireError::WrongPeer { address, role, found, .. } => {
            let reason = if found.role == *role { Reason::WrongName } else { Reason::WrongRole };
            refusals.note(*address, reason, &error.to_string());
        }
        WireError::Version { address, .. } => {
            refusals.note(*address, Reason::Version, &error.to_string());
        }
        _ => {}
    }
}

pub(crate) fn refused(address: SocketAddr, error: &IdentityError) -> WireError {
    WireError::Refused { address, reason: Reason::from(error), detail: error.to_string() }
}

#[cfg(test)]
mod tests;

//! The endpoint over QUIC: who may come in, and who is let go.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, Incoming, TokioRuntime, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use super::config::{self, ALPN, ALPN_JOIN, Allowance};
use super::guests::Guests;
use super::judge::{Expected, Finding, Judge};
use super::{
    Connection, EndpointOptions, Greeting, HANDSHAKE, JoinRequest, MAX_ACCEPTED, Reason, Refusals,
    greet, join, note, refused, socket, welcome,
};
use crate::WireError;
use crate::identity::{Identity, Peer, Role, server_name};

/// Handshakes under way at once, at most; the rest wait for their next packet.
const MAX_HANDSHAKES: usize = 1024;
/// From so many on, an address must be shown to be real before anything is computed for it.
const RETRY_ABOVE: usize = 128;
/// Questions of joining hosts that wait to be taken by [`super::Endpoint::accept_join`], at most.
const MAX_JOINS: usize = 16;
/// Connections without a certificate that have not asked yet, or whose question waits, at most. They may
/// idle for ten seconds, and must not keep out who has one.
pub(super) const MAX_JOINING: usize = 128;

#[derive(Debug)]
pub(super) struct QuicEndpoint {
    quinn: quinn::Endpoint,
    identity: Arc<Identity>,
    own: Greeting,
    address: SocketAddr,
    refusals: Refusals,
    accepted: Mutex<mpsc::Receiver<Connection>>,
    joins: Mutex<mpsc::Receiver<JoinRequest>>,
    acceptor: Option<tokio::task::AbortHandle>,
}

impl Drop for QuicEndpoint {
    fn drop(&mut self) {
        if let Some(acceptor) = &self.acceptor {
            acceptor.abort();
        }
        self.quinn.set_server_config(None);
    }
}

/// What the accept loop needs.
#[derive(Clone)]
struct Door {
    identity: Arc<Identity>,
    version: u16,
    refusals: Refusals,
    connections: mpsc::Sender<Connection>,
    joins: mpsc::Sender<JoinRequest>,
    joining: Arc<Semaphore>,
    guests: Arc<Guests>,
}

impl QuicEndpoint {
    pub(super) fn bind(
        identity: Identity,
        options: EndpointOptions,
        own: Greeting,
    ) -> Result<QuicEndpoint, WireError> {
        let address = options.bind;
        let failed = |source| WireError::Socket { address, source };
        let serves = identity.peer().role == Role::Coordinator;
        let server = serves.then(|| config::server(&identity)).transpose()?;
        let socket = socket::marked_udp(address, options.mark).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let runtime = Arc::new(TokioRuntime);
        let quinn = quinn::Endpoint::new(config::endpoint(&identity), server, socket, runtime)
            .map_err(failed)?;
        let (connections, accepted) = mpsc::channel(MAX_ACCEPTED);
        let (joins, join_requests) = mpsc::channel(MAX_JOINS);
        let identity = Arc::new(identity);
        let refusals = Refusals::default();
        let door = Door {
            identity: identity.clone(),
            version: own.version,
            refusals: refusals.clone(),
            connections,
            joins,
            joining: Arc::new(Semaphore::new(MAX_JOINING)),
            guests: Arc::default(),
        };
        let acceptor = serves.then(|| tokio::spawn(accept_all(quinn.clone(), door)).abort_handle());
        Ok(QuicEndpoint {
            quinn,
            identity,
            own,
            address,
            refusals,
            accepted: Mutex::new(accepted),
            joins: Mutex::new(join_requests),
            acceptor,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    pub(super) async fn accept(&self) -> Option<Connection> {
        self.accepted.lock().await.recv().await
    }

    pub(super) async fn accept_join(&self) -> Option<JoinRequest> {
        self.joins.lock().await.recv().await
    }

    pub(super) fn close(&self) {
        self.quinn.close(VarInt::from_u32(0), b"endpoint closed");
    }

    pub(super) async fn drained(&self) {
        self.quinn.wait_idle().await;
    }

    pub(super) async fn connect(
        &self,
        address: SocketAddr,
        role: Role,
        name: &str,
    ) -> Result<Connection, WireError> {
        let cluster = self.identity.peer().cluster.clone();
        let expected = Expected::Peer {
            roots: self.identity.trust.roots.clone(),
            cluster: cluster.clone(),
            role,
            name: name.to_owned(),
        };
        // Checked before anything is sent: the name goes into the handshake.
        server_name(&cluster, name)?;
        let dns = crate::identity::dns_name(&cluster, name);
        let dial = dial(&self.quinn, Some(&self.identity), address, &dns, expected, self.own);
        let connection = dial.await.inspect_err(|error| note(&self.refusals, error))?;
        Allowance::of(role).grant(&connection.1);
        Ok(connection.0)
    }
}

/// Connects and greets: with a certificate for everything, without one to join.
pub(super) async fn dial(
    endpoint: &quinn::Endpoint,
    identity: Option<&Identity>,
    address: SocketAddr,
    dns: &str,
    expected: Expected,
    own: Greeting,
) -> Result<(Connection, quinn::Connection), WireError> {
    let judge = Judge::new(expected.clone());
    let config = config::client(identity, judge.clone())?;
    let whole = async {
        let connecting = endpoint
            .connect_with(config, address, dns)
            .map_err(|e| WireError::Lost(e.to_string()))?;
        let connected = connecting.await;
        let peer = match (judge.take(), &expected) {
            (Some(Finding::Right(peer)), _) => peer,
            (Some(Finding::Bad(error)), _) => return Err(refused(address, &error)),
            (Some(Finding::Other(found)), expected) => {
                let (role, name) = match expected {
                    Expected::Peer { role, name, .. } => (*role, Some(name.clone())),
                    Expected::Authority(_) => (Role::Coordinator, None),
                };
                return Err(WireError::WrongPeer { address, role, name, found: found.into() });
            }
            (None, _) => return Err(no_server(address, connected.err())),
        };
        let quinn = connected.map_err(|e| no_server(address, Some(e)))?;
        let connection = Connection::from_quic(quinn.clone(), peer);
        greet(&connection, own).await?;
        Ok((connection, quinn))
    };
    let late = WireError::Unanswered { address, after: HANDSHAKE };
    tokio::time::timeout(HANDSHAKE, whole).await.unwrap_or(Err(late))
}

fn no_server(address: SocketAddr, error: Option<ConnectionError>) -> WireError {
    match error {
        Some(ConnectionError::TimedOut) | None => {
            WireError::Unanswered { address, after: config::IDLE }
        }
        Some(other) if is_going(&other) => WireError::Lost(other.to_string()),
        Some(other) => WireError::RefusedByPeer { address, why: other.to_string() },
    }
}

/// Whether a server only ends, or began anew: it has judged nobody.
fn is_going(error: &ConnectionError) -> bool {
    let refused = quinn::TransportErrorCode::CONNECTION_REFUSED;
    match error {
        ConnectionError::Reset => true,
        ConnectionError::ConnectionClosed(close) => close.error_code == refused,
        _ => false,
    }
}

async fn accept_all(endpoint: quinn::Endpoint, door: Door) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            door.refusals.note(incoming.remote_address(), Reason::Overloaded, "handshakes");
            incoming.ignore();
            continue;
        };
        let under_way = MAX_HANDSHAKES - handshakes.available_permits();
        if under_way > RETRY_ABOVE && incoming.may_retry() {
            // An error would say that the address is validated, which was asked above.
            let _ = incoming.retry();
            continue;
        }
        tokio::spawn(door.clone().admit(incoming, permit));
    }
}

impl Door {
    async fn admit(self, incoming: Incoming, permit: OwnedSemaphorePermit) {
        let address = incoming.remote_address();
        if let Err(error) = self.try_admit(incoming, address, permit).await {
            note(&self.refusals, &error);
        }
    }

    async fn try_admit(
        &self,
        incoming: Incoming,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), WireError> {
        let refuse = |reason, detail: String| WireError::Refused { address, reason, detail };
        let handshake = async { incoming.accept()?.await };
        let quinn = match tokio::time::timeout(HANDSHAKE, handshake).await {
            Ok(Ok(connection)) => connection,
            // It needs us no longer, and nobody was refused: another coordinator answered it sooner.
            Ok(Err(error)) if left(&error) => return Err(WireError::Lost(error.to_string())),
            Ok(Err(error)) => return Err(refuse(reason(&error), error.to_string())),
            Err(_) => return Err(refuse(Reason::TooSlow, "handshake".to_owned())),
        };
        match (protocol(&quinn).as_deref(), shown(&quinn)) {
            (Some(ALPN), Some(leaf)) => {
                let peer = self.identity.trust.read(&leaf).map_err(|error| {
                    quinn.close(VarInt::from_u32(1), error.to_string().as_bytes());
                    refused(address, &error)
                })?;
                self.take(quinn, peer).await
            }
            (Some(ALPN_JOIN), None) => {
                let Ok(_own) = self.joining.try_acquire() else {
                    quinn.close(VarInt::from_u32(1), b"overloaded");
                    return Err(refuse(Reason::Overloaded, "joins".to_owned()));
                };
                drop(permit);
                join::serve(quinn, self.version, &self.refusals, &self.joins).await
            }
            (_, None) => {
                quinn.close(VarInt::from_u32(1), b"no certificate");
                Err(refuse(Reason::NoCertificate, "none was shown".to_owned()))
            }
            (_, Some(_)) => {
                quinn.close(VarInt::from_u32(1), b"a certificate holder need not join");
                Err(refuse(Reason::Protocol, "joins with a certificate".to_owned()))
            }
        }
    }

    async fn take(&self, quinn: quinn::Connection, peer: Peer) -> Result<(), WireError> {
        let role = peer.role;
        let connection = Connection::from_quic(quinn.clone(), peer);
        welcome(&connection, self.version).await?;
        Allowance::of(role).grant(&quinn);
        self.guests.add(&connection);
        self.connections.try_send(connection).map_err(|_| {
            quinn.close(VarInt::from_u32(1), b"overloaded");
            let address = quinn.remote_address();
            let detail = "nobody accepts".to_owned();
            WireError::Refused { address, reason: Reason::Overloaded, detail }
        })
    }
}

fn protocol(connection: &quinn::Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// The certificate that a client showed; TLS has believed it.
fn shown(connection: &quinn::Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

/// Whether the other side has closed the connection by its own wish, before the handshake's end: QUIC
/// says no more of it then (RFC 9000, section 10.2.3).
fn left(error: &ConnectionError) -> bool {
    let application = quinn::TransportErrorCode::APPLICATION_ERROR;
    matches!(error, ConnectionError::ConnectionClosed(close) if close.error_code == application)
}

/// Our reason for a handshake that failed. TLS alerts stand in QUIC's error codes from 0x100 on
/// (RFC 9001, section 4.8).
fn reason(error: &ConnectionError) -> Reason {
    let ConnectionError::TransportError(error) = error else {
        return match error {
            ConnectionError::TimedOut => Reason::TooSlow,
            _ => Reason::Protocol,
        };
    };
    match u64::from(error.code).checked_sub(0x100) {
        // bad, unsupported and unknown certificate, access denied
        Some(42 | 46 | 49) => Reason::Malformed,
        Some(43) => Reason::WrongRole,
        Some(45) => Reason::Expired,
        // unknown authority; a signature that does not fit
        Some(48 | 51) => Reason::UnknownAuthority,
        Some(116) => Reason::NoCertificate,
        _ => Reason::Protocol,
    }
}

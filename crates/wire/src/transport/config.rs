//! Every setting of TLS and QUIC, with its reason.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, TransportConfig, VarInt,
};
use ring::hmac;
use rustls::client::Resumption;
use rustls::version::TLS13;

use super::judge::Judge;
use crate::identity::{Identity, IdentityError, Role, provider, random};

/// The protocol of everybody who has a certificate.
pub(super) const ALPN: &[u8] = b"squall/1";
/// The protocol of hosts that have none yet; see [`super::join`].
pub(super) const ALPN_JOIN: &[u8] = b"squall-join/1";

/// A lease is five seconds: a peer that is gone must be known to be gone within that. The other
/// direction bounds it too: our own CPU and memory faults make hosts slow for a second or two.
pub(super) const IDLE: Duration = Duration::from_secs(5);
/// Under a third of the idle time-out, so that two lost in a row end nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Taken for a round trip until one was measured: a first packet that got lost, or came before the other
/// side listened, is sent again after three of them. Too short costs a packet sent twice on a far link.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// Bytes that one stream may send ahead of its reader; the connection's window bounds their sum.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes that a peer may send ahead before it has said hello.
const FIRST_WINDOW: u32 = 64 * 1024;
/// Connections whose first packets wait to be looked at, and bytes kept of each and of all.
const MAX_INCOMING: usize = 1024;
const INCOMING_BYTES: u64 = 16 * 1024;
const INCOMING_BYTES_ALL: u64 = 4 * 1024 * 1024;

/// What a greeted peer may do.
pub(super) struct Allowance {
    streams: u32,
    receive_window: u32,
    send_window: u64,
}

impl Allowance {
    /// By role: agents are many and say little; coordinators send each other the log.
    pub(super) fn of(role: Role) -> Allowance {
        match role {
            // The hello's, the control stream and one to spare: room is kept for each that is allowed.
            Role::Agent => {
                Allowance { streams: 3, receive_window: 256 << 10, send_window: 256 << 10 }
            }
            Role::Operator => {
                Allowance { streams: 32, receive_window: 1 << 20, send_window: 4 << 20 }
            }
            Role::Coordinator => {
                Allowance { streams: 256, receive_window: 8 << 20, send_window: 8 << 20 }
            }
        }
    }

    pub(super) fn grant(&self, connection: &quinn::Connection) {
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(self.streams));
        connection.set_receive_window(VarInt::from_u32(self.receive_window));
        connection.set_send_window(self.send_window);
    }
}

/// Bytes of a connection's id.
const ID_BYTES: usize = 8;

/// Random ids, of which none is known to be somebody else's: the default would not answer those that
/// an earlier life of this process gave out.
struct Ids;

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&random::<ID_BYTES>())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// For a socket of `identity`. The key of resets follows from the private key, so that a process
/// that was killed and is back can tell its peers at their next packet that it knows nothing of them.
/// With the default, a random key, they find out by the idle time-out, as long as a lease.
pub(super) fn endpoint(identity: &Identity) -> EndpointConfig {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, identity.key.secret_pkcs8_der());
    let key = hmac::sign(&secret, b"squall: stateless reset");
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())));
    config.cid_generator(|| Box::new(Ids));
    config
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE).expect("seconds")))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(FIRST_RTT)
        // One for the hello; more is granted by role afterwards.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(FIRST_WINDOW))
        .datagram_receive_buffer_size(None)
        // Every path carries 1200 bytes; larger packets would be lost whole under our own faults,
        // and frames are small.
        .mtu_discovery_config(None);
    Arc::new(config)
}

fn tls(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Malformed(format!("TLS: {error}"))
}

/// For a serving endpoint. A missing client certificate is not refused by TLS: a host that joins
/// has none. The accept loop refuses it for every protocol but that one.
pub(super) fn server(identity: &Identity) -> Result<quinn::ServerConfig, IdentityError> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(tls)?
        .with_client_cert_verifier(identity.trust.clients.clone())
        .with_single_cert(identity.chain(), identity.private_key())
        .map_err(tls)?;
    config.alpn_protocols = vec![ALPN.to_vec(), ALPN_JOIN.to_vec()];
    // No resumption: a resumed session would pass on a certificate that has expired since.
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(config).map_err(tls)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(transport())
        // Nobody's address changes here; a moved connection is somebody else's packet.
        .migration(false)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_ALL);
    Ok(server)
}

/// For one connection to whom `judge` expects; with `identity`, or without for a host that joins.
pub(super) fn client(
    identity: Option<&Identity>,
    judge: Arc<Judge>,
) -> Result<quinn::ClientConfig, IdentityError> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(judge);
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(vec![identity.leaf.clone()], identity.private_key())
            .map_err(tls)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols =
        vec![if identity.is_some() { ALPN.to_vec() } else { ALPN_JOIN.to_vec() }];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    let crypto = QuicClientConfig::try_from(config).map_err(tls)?;
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(transport());
    Ok(client)
}

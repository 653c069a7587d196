//! What TLS refuses: asked of a real endpoint by clients and servers that play foul.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::*;
use crate::identity::provider;

/// Believes every server.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A bare QUIC connection, with or without a certificate.
pub(super) async fn bare(
    at: SocketAddr,
    identity: Option<&Identity>,
    alpn: &[u8],
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    bare_with(at, identity, alpn, quinn::TransportConfig::default()).await
}

pub(super) async fn bare_with(
    at: SocketAddr,
    identity: Option<&Identity>,
    alpn: &[u8],
    transport: quinn::TransportConfig,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut config = match identity {
        Some(i) => builder.with_client_auth_cert(vec![i.leaf.clone()], i.private_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicClientConfig::try_from(config).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(transport));
    let connection = endpoint.connect_with(client, at, "c1.storm").unwrap().await?;
    Ok((endpoint, connection))
}

/// What the client sees in the end, whether or not it thought itself connected before.
async fn ending(
    bare: Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError>,
) -> String {
    match bare {
        Ok((_endpoint, connection)) => connection.closed().await.to_string(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn no_certificate_is_refused_and_counted() {
    let cluster = Cluster::new(World::Quic);
    let why = ending(bare(cluster.c1.local_addr(), None, config::ALPN).await).await;
    assert!(why.contains("no certificate"), "{why}");
    cluster.refused(Reason::NoCertificate, 1).await;
    cluster.nobody_comes().await;
}

#[tokio::test]
async fn a_strangers_certificate_is_refused_by_the_server_too() {
    let cluster = Cluster::new(World::Quic);
    let stranger = ClusterAuthority::create("storm").unwrap().issue(Role::Agent, "h1", 1).unwrap();
    ending(bare(cluster.c1.local_addr(), Some(&stranger), config::ALPN).await).await;
    cluster.refused(Reason::UnknownAuthority, 1).await;
    let other = ClusterAuthority::create("other").unwrap().issue(Role::Agent, "h1", 1).unwrap();
    ending(bare(cluster.c1.local_addr(), Some(&other), config::ALPN).await).await;
    cluster.refused(Reason::UnknownAuthority, 2).await;
    cluster.nobody_comes().await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_the_server_too() {
    let cluster = Cluster::new(World::Quic);
    let late = cluster.authority.issue_expired(Role::Operator, "ann");
    let why = ending(bare(cluster.c1.local_addr(), Some(&late), config::ALPN).await).await;
    assert!(why.contains("xpired"), "{why}");
    cluster.refused(Reason::Expired, 1).await;
}

#[tokio::test]
async fn of_too_many_connections_by_one_certificate_the_oldest_is_closed() {
    let cluster = Cluster::new(World::Quic);
    let (h2, h3) = (cluster.issue(Role::Agent, "h2"), cluster.issue(Role::Agent, "h3"));
    let (h2, h3) = (cluster.world.bind(&h2), cluster.world.bind(&h3));
    let at = cluster.c1.local_addr();
    let other = h3.connect(at, Role::Coordinator, "c1").await.unwrap();
    let mut here = vec![cluster.c1.accept().await.unwrap()];
    let mut there = Vec::new();
    for _ in 0..5 {
        there.push(h2.connect(at, Role::Coordinator, "c1").await.unwrap());
        here.push(cluster.c1.accept().await.unwrap());
    }
    let why = there[0].closed().await;
    assert!(why.contains("too many connections by one certificate"), "{why}");
    for alive in there[1..].iter().chain([&other]) {
        let closed = tokio::time::timeout(Duration::from_millis(50), alive.closed()).await;
        assert!(closed.is_err(), "{closed:?}");
    }
    // Those that have gone do not count.
    drop((here.split_off(3), there.split_off(2)));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let second = there.pop().expect("it is alive");
    let _third = h2.connect(at, Role::Coordinator, "c1").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), second.closed()).await.is_err());
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let cluster = Cluster::new(World::Quic);
    let h2 = cluster.issue(Role::Agent, "h2");
    let foreign = bare(cluster.c1.local_addr(), Some(&h2), b"h3").await;
    assert!(foreign.is_err());
    cluster.refused(Reason::Protocol, 1).await;
    let joins = bare(cluster.c1.local_addr(), Some(&h2), config::ALPN_JOIN).await;
    let why = ending(joins).await;
    assert!(why.contains("need not join"), "{why}");
    cluster.refused(Reason::Protocol, 2).await;
}

#[tokio::test]
async fn an_agent_that_plays_the_coordinator_is_refused() {
    let cluster = Cluster::new(World::Quic);
    let agent = cluster.issue(Role::Agent, "c9");
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(agent.chain(), agent.private_key())
        .unwrap();
    tls.alpn_protocols = vec![config::ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).unwrap();
    let server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let foul = quinn::Endpoint::server(server, "127.0.0.1:0".parse().unwrap()).unwrap();
    let at = foul.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = foul.accept().await {
            let _ = incoming.await;
        }
    });
    for (role, name) in [(Role::Coordinator, "c9"), (Role::Coordinator, "c1"), (Role::Agent, "c9")]
    {
        let error = cluster.h1.connect(at, role, name).await.unwrap_err();
        let refused = matches!(
            error,
            WireError::WrongPeer { .. } | WireError::Refused { reason: Reason::WrongRole, .. }
        );
        assert!(refused, "{role} {name}: {error}");
    }
    assert_eq!(cluster.h1.refusals().of(Reason::WrongRole), 3, "{:?}", cluster.h1.refusals());
}

#[tokio::test]
async fn a_silent_client_is_let_go() {
    let cluster = Cluster::new(World::Quic);
    let h2 = cluster.issue(Role::Agent, "h2");
    let (_endpoint, silent) = bare(cluster.c1.local_addr(), Some(&h2), config::ALPN).await.unwrap();
    let (near, _far) = cluster.connected().await;
    silent.closed().await;
    let counts = cluster.c1.refusals();
    assert_eq!(counts.total(), 1, "{counts:?}");
    assert_eq!(near.peer().name, "c1", "others come in meanwhile");
}

#[tokio::test]
async fn a_dead_address_is_not_waited_for_longer_than_said() {
    let cluster = Cluster::new(World::Quic);
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let began = std::time::Instant::now();
    let at = nobody.local_addr().unwrap();
    let error = cluster.h1.connect(at, Role::Coordinator, "c1").await.unwrap_err();
    assert!(matches!(error, WireError::Unanswered { .. }), "{error}");
    assert!(began.elapsed() < HANDSHAKE + Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_silent_peer_is_lost_within_a_lease_and_a_keep_alive_holds_a_quiet_one() {
    let cluster = Cluster::new(World::Quic);
    let (near, far) = cluster.connected().await;
    let quiet = tokio::time::timeout(Duration::from_secs(8), near.closed()).await;
    assert!(quiet.is_err(), "an idle connection is kept: {quiet:?}");
    let identity = cluster.issue(Role::Agent, "h2");
    let bind = "127.0.0.1:0".parse().unwrap();
    let gone = std::thread::spawn({
        let at = cluster.c1.local_addr();
        move || {
            // The runtime, and with it all that would answer, ends with this thread; no close is sent.
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let endpoint = runtime.block_on(async {
                let options = EndpointOptions { role: identity.peer().role, bind, mark: None };
                let endpoint = Endpoint::bind(identity, options).unwrap();
                let connection = endpoint.connect(at, Role::Coordinator, "c1").await.unwrap();
                std::mem::forget(connection);
                endpoint
            });
            std::mem::forget(runtime);
            std::mem::forget(endpoint);
        }
    });
    let lost = cluster.c1.accept().await.unwrap();
    gone.join().unwrap();
    let began = std::time::Instant::now();
    let why = lost.closed().await;
    assert!(why.contains("timed out"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    drop(far);
}

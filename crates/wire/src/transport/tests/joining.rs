//! A host without a certificate gets one, or does not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use squall_core::ids::{Coordinator, NodeId};

use super::refused::{bare, bare_with};
use super::*;
use crate::identity::{Enrolment, Fingerprint, GossipKey, JoinToken};
use crate::seal::{Opener, Sealer};
use crate::transport::join::Ask;

fn at(id: u64, address: SocketAddr) -> Coordinator {
    Coordinator { id: NodeId(id), name: format!("c{id}").parse().unwrap(), address }
}

/// Plays the coordinator: each token is good once, for h7.
fn serve_joins(cluster: &Cluster, gossip: GossipKey) -> JoinToken {
    let coordinators = vec![at(1, cluster.c1.local_addr())];
    let token = JoinToken::create(cluster.authority.fingerprint(), coordinators);
    let good = Mutex::new(BTreeSet::from([token.hash()]));
    let authority = Arc::new(ClusterAuthority::load(&saved(&cluster.authority)).unwrap());
    let c1 = cluster.c1.clone();
    tokio::spawn(async move {
        while let Some(request) = c1.accept_join().await {
            let known = good.lock().unwrap().remove(&request.hash);
            let answer = if known && request.host.as_str() == "h7" {
                authority.sign_csr(&request.csr, Role::Agent, "h7").map_err(|e| e.to_string()).map(
                    |certificate| Enrolment {
                        certificate,
                        authority: authority.certificate_pem(),
                        gossip: gossip.clone(),
                    },
                )
            } else {
                Err("the token is unknown, used or expired".to_owned())
            };
            let _ = request.answer(answer).await;
        }
    });
    token
}

fn saved(authority: &ClusterAuthority) -> std::path::PathBuf {
    let dir = tempfile::tempdir().unwrap().keep();
    authority.save(&dir).unwrap();
    dir
}

#[tokio::test]
async fn a_host_joins_once_and_is_then_one_of_us() {
    let cluster = Cluster::new(World::Quic);
    let gossip = GossipKey::create();
    let token = serve_joins(&cluster, gossip.clone());
    let token: JoinToken = token.to_string().parse().unwrap();
    let (identity, key) = join(&token, "h7", None).await.unwrap();
    assert_eq!((identity.peer().role, identity.peer().name.as_str()), (Role::Agent, "h7"));
    let mut sealer = Sealer::new(key, "h7".parse().unwrap(), 1);
    assert!(Opener::new(gossip).open(&sealer.seal(b"beat")).is_ok(), "it holds the gossip key");

    let h7 = cluster.world.bind(&identity);
    let connect = h7.connect(cluster.c1.local_addr(), Role::Coordinator, "c1");
    let (near, far) = tokio::join!(connect, cluster.c1.accept());
    near.unwrap();
    assert_eq!(far.unwrap().peer().name, "h7");

    let again = join(&token, "h7", None).await.unwrap_err();
    let refused =
        |e: &WireError| matches!(e, WireError::RefusedByPeer { why, .. } if why.contains("used"));
    assert!(refused(&again), "{again}");
    cluster.refused(Reason::Join, 1).await;
}

#[tokio::test]
async fn a_wrong_secret_or_another_name_is_refused() {
    let cluster = Cluster::new(World::Quic);
    let token = serve_joins(&cluster, GossipKey::create());
    let wrong = JoinToken::create(token.authority, token.coordinators.clone());
    assert!(matches!(join(&wrong, "h7", None).await, Err(WireError::RefusedByPeer { .. })));
    assert!(matches!(join(&token, "h8", None).await, Err(WireError::RefusedByPeer { .. })));
    assert!(matches!(join(&token, "No Name", None).await, Err(WireError::Identity(_))));
}

#[tokio::test]
async fn a_host_that_joins_believes_its_token_only() {
    let cluster = Cluster::new(World::Quic);
    let token = serve_joins(&cluster, GossipKey::create());
    let elsewhere = JoinToken { authority: Fingerprint([7; 32]), ..token.clone() };
    let error = join(&elsewhere, "h7", None).await.unwrap_err();
    let reason = Reason::UnknownAuthority;
    assert!(matches!(&error, WireError::Refused { reason: r, .. } if *r == reason), "{error}");
    // the secret was not shown to the wrong one: it is still good
    join(&token, "h7", None).await.unwrap();
}

#[tokio::test]
async fn the_next_coordinator_is_asked_where_one_does_not_answer() {
    let cluster = Cluster::new(World::Quic);
    let mut token = serve_joins(&cluster, GossipKey::create());
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    token.coordinators.insert(0, at(2, dead.local_addr().unwrap()));
    let (identity, _) = join(&token, "h7", None).await.unwrap();
    assert_eq!(identity.peer().name, "h7");
    dead.set_nonblocking(true).unwrap();
    assert!(dead.recv(&mut [0; 64]).is_ok(), "the first one was asked first");
}

#[tokio::test]
async fn who_has_no_certificate_reaches_nothing_but_the_question() {
    let cluster = Cluster::new(World::Quic);
    let at = cluster.c1.local_addr();
    let (_endpoint, joining) = bare(at, None, config::ALPN_JOIN).await.unwrap();
    let (mut send, mut receive) = joining.open_bi().await.unwrap();
    // a good hello, as any peer would say it
    send.write_all(b"\0\0\0\x08squall\0\x01").await.unwrap();
    send.finish().unwrap();
    assert_eq!(receive.read_to_end(64).await.unwrap(), b"\0\0\0\x09squall\0\x01\0");
    let (mut send, _receive) = joining.open_bi().await.unwrap();
    send.write_all(&[0, 1, 0, 0]).await.unwrap();
    let why = joining.closed().await.to_string();
    cluster.refused(Reason::Protocol, 1).await;
    cluster.nobody_comes().await;
    assert!(!why.contains("timed out"), "{why}");
}

#[tokio::test]
async fn who_never_takes_the_answer_keeps_nobody_waiting() {
    let cluster = Cluster::new(World::Quic);
    let mut small = quinn::TransportConfig::default();
    // Room for the hello, and for none of the answer.
    small.stream_receive_window(13_u32.into()).keep_alive_interval(Some(Duration::from_secs(1)));
    let at = cluster.c1.local_addr();
    let (_endpoint, joining) = bare_with(at, None, config::ALPN_JOIN, small).await.unwrap();
    let (mut send, mut receive) = joining.open_bi().await.unwrap();
    send.write_all(b"\0\0\0\x08squall\0\x01").await.unwrap();
    send.finish().unwrap();
    receive.read_exact(&mut [0; 13]).await.unwrap();
    let (mut send, _receive) = joining.open_bi().await.unwrap();
    let ask = Ask { host: "h7".parse().unwrap(), secret: [7; 32], csr: String::new() };
    let ask = crate::codec::encode(&ask).unwrap();
    send.write_all(&u32::try_from(ask.len()).unwrap().to_be_bytes()).await.unwrap();
    send.write_all(&ask).await.unwrap();
    let request = cluster.c1.accept_join().await.unwrap();
    let refused = request.answer(Err("the token is unknown".repeat(9)));
    let answered = tokio::time::timeout(Duration::from_secs(8), refused).await.expect("in time");
    assert!(matches!(answered, Err(WireError::Lost(_))), "{answered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_idle_before_they_ask_keep_nobody_else_out() {
    let cluster = Cluster::new(World::Quic);
    let at = cluster.c1.local_addr();
    // One too many. Which of them that is, is the server's to say: a client is done with its handshake
    // before the server has looked at it.
    let mut idle = Vec::new();
    let mut ends = tokio::task::JoinSet::new();
    for _ in 0..=quic::MAX_JOINING {
        let (endpoint, connection) = bare(at, None, config::ALPN_JOIN).await.unwrap();
        let ended = connection.clone();
        ends.spawn(async move { ended.closed().await.to_string() });
        idle.push((endpoint, connection));
    }
    let why = ends.join_next().await.unwrap().unwrap();
    assert!(why.contains("overloaded"), "{why}");
    assert!(cluster.c1.refusals().of(Reason::Overloaded) >= 1);
    cluster.connected().await;
}

//! Bytes of an enemy: at the socket, and from a peer gone mad.

use std::net::UdpSocket;

use proptest::prelude::*;

use super::*;

/// A megabyte of random datagrams, some dressed as QUIC's first packets; deterministic.
fn flood(at: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut sent = 0;
    while sent < 1_000_000 {
        let mut datagram = Vec::new();
        let length = 1 + (state % 1400) as usize;
        while datagram.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            datagram.extend_from_slice(&state.to_le_bytes());
        }
        match state % 4 {
            // a long header of version 1 with the sizes of connection ids right
            0 => {
                datagram[0] |= 0xc0;
                datagram.splice(1..1, [0, 0, 0, 1, 8]);
                datagram.resize(1250, 7);
            }
            1 => datagram[0] = (datagram[0] & 0x3f) | 0x40,
            _ => {}
        }
        // A full buffer on our side is no failure of the endpoint's.
        let _ = socket.send_to(&datagram, at);
        sent += datagram.len();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_megabyte_of_noise_disturbs_nobody() {
    let cluster = Cluster::new(World::Quic);
    let (near, far) = cluster.connected().await;
    let at = cluster.c1.local_addr();
    tokio::task::spawn_blocking(move || flood(at)).await.unwrap();
    let echo = async {
        let mut channel = far.accept_channel().await.unwrap();
        let said: Said = channel.recv().await.unwrap().unwrap();
        channel.send(&said).await.unwrap();
        channel.finish();
        far.closed().await
    };
    let ask = async {
        let said = Channel::request::<_, Said>(&near, &Said::Number(5)).await.unwrap();
        near.close("done");
        said
    };
    let (_, said) = tokio::join!(echo, ask);
    assert_eq!(said, Said::Number(5));
    cluster.connected().await;
}

#[tokio::test]
async fn a_mad_peer_harms_itself_only() {
    let cluster = Cluster::new(World::Quic);
    let (mad, theirs) = cluster.connected().await;
    let (good, far) = {
        let h2 = cluster.world.bind(&cluster.issue(Role::Agent, "h2"));
        let connect = h2.connect(cluster.c1.local_addr(), Role::Coordinator, "c1");
        let (near, far) = tokio::join!(connect, cluster.c1.accept());
        (near.unwrap(), far.unwrap())
    };
    for garbage in [&[255_u8; 64][..], &[0, 0, 0, 2, 1, 250, 1, 2], &[0, 0, 0, 1, 77]] {
        let mut channel = mad.open().await.unwrap();
        channel.send_bytes(garbage).await;
        let mut heard = theirs.accept_channel().await.unwrap();
        assert!(heard.recv::<Said>().await.is_err(), "{garbage:?}");
    }
    // a claimed length that never comes holds no memory and no one else
    let mut channel = mad.open().await.unwrap();
    channel.send_bytes(&[0, 0x0f, 0xff, 0xff, 1]).await;
    let mut heard = theirs.accept_channel().await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(100), heard.recv::<Said>()).await;
    assert!(waited.is_err());
    let mut channel = good.open().await.unwrap();
    channel.send(&Said::Number(1)).await.unwrap();
    let mut heard = far.accept_channel().await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), Some(Said::Number(1)));
}

#[tokio::test]
async fn a_peer_cannot_open_more_channels_than_its_role_may() {
    let cluster = Cluster::new(World::Quic);
    let (greedy, _theirs) = cluster.connected().await;
    let mut open = Vec::new();
    let all = tokio::time::timeout(Duration::from_millis(500), async {
        loop {
            let mut channel = greedy.open().await.unwrap();
            channel.send(&Said::Number(1)).await.unwrap();
            open.push(channel);
        }
    });
    assert!(all.await.is_err());
    // The hello's channel may still count as one of them: credit is given back in steps.
    assert!((2..=3).contains(&open.len()), "{}", open.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_a_channel_carries_ends_in_a_value_or_an_error(
        pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..8)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let cluster = Cluster::new(World::Memory(Network::new()));
            let (near, far) = cluster.connected().await;
            let mut channel = near.open().await.unwrap();
            for piece in &pieces {
                channel.send_bytes(piece).await;
            }
            channel.finish();
            let mut heard = far.accept_channel().await.unwrap();
            tokio::time::timeout(Duration::from_secs(5), async {
                while let Ok(Some(_)) = heard.recv::<squall_core::message::FromAgent>().await {}
            })
            .await
        });
        prop_assert!(outcome.is_ok(), "it hangs");
    }
}

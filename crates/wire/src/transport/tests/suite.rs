//! What holds of every endpoint, over QUIC and in memory.

use std::time::Duration;

use super::*;
use crate::codec::{self, MAX_FRAME};

/// Every test here runs in both worlds.
macro_rules! both {
    ($($name:ident)*) => {
        mod quic { $(#[tokio::test] async fn $name() { super::$name(super::World::Quic).await; })* }
        mod memory {
            $(#[tokio::test] async fn $name() {
                super::$name(super::World::Memory(super::Network::new())).await;
            })*
        }
    };
}

both! {
    peers_know_each_other
    frames_arrive_whole_and_in_order
    frames_that_arrive_together_are_read_one_by_one
    a_request_is_answered
    many_channels_do_not_mix
    receiving_can_be_dropped_halfway
    sending_can_be_dropped_halfway
    queued_frames_do_not_wait_and_are_bounded
    a_finish_ends_and_a_drop_is_noticed
    half_a_frame_is_an_error
    a_frame_over_the_limit_is_refused_before_it_comes
    a_value_of_another_type_is_an_error
    closing_tells_why
    closing_an_endpoint_ends_everything
    an_agent_does_not_serve
    another_version_is_refused_naming_both
    a_stranger_is_refused
    an_expired_certificate_is_refused
    a_wrong_name_and_a_wrong_role_are_refused
    a_certificate_of_another_role_is_refused_by_the_server
}

async fn peers_know_each_other(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let c1 = near.peer();
    assert_eq!(
        (c1.role, c1.name.as_str(), c1.cluster.as_str()),
        (Role::Coordinator, "c1", "storm")
    );
    let h1 = far.peer();
    assert_eq!((h1.role, h1.name.as_str(), h1.cluster.as_str()), (Role::Agent, "h1", "storm"));
    assert_ne!(c1.fingerprint, h1.fingerprint);
    assert_eq!(near.remote(), cluster.c1.local_addr());
    assert_ne!(near.id(), far.id());
    assert_eq!(cluster.c1.refusals().total() + cluster.h1.refusals().total(), 0);
}

/// The agent's end of a channel and the coordinator's, after one frame has gone each way.
async fn channels(near: &Connection, far: &Connection) -> (Channel, Channel) {
    let mut a = near.open().await.unwrap();
    a.send(&Said::Number(0)).await.unwrap();
    let mut b = far.accept_channel().await.unwrap();
    assert_eq!(b.recv().await.unwrap(), Some(Said::Number(0)));
    b.send(&Said::Number(0)).await.unwrap();
    assert_eq!(a.recv().await.unwrap(), Some(Said::Number(0)));
    (a, b)
}

async fn frames_arrive_whole_and_in_order(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let (mut a, mut b) = channels(&near, &far).await;
    let sent: Vec<_> = (0..200)
        .map(|n| if n % 3 == 0 { Said::Text("x".repeat(n * 300)) } else { Said::Number(n as u64) })
        .collect();
    let sending = async {
        for value in &sent {
            a.send(value).await.unwrap();
        }
        a.finish();
    };
    let receiving = async {
        let mut got = Vec::new();
        while let Some(value) = b.recv::<Said>().await.unwrap() {
            got.push(value);
        }
        got
    };
    let ((), got) = tokio::join!(sending, receiving);
    assert_eq!(got, sent);
}

async fn frames_that_arrive_together_are_read_one_by_one(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let (mut a, mut b) = channels(&near, &far).await;
    let frame = |value: &Said| {
        let encoded = codec::encode(value).unwrap();
        [&u32::try_from(encoded.len()).unwrap().to_be_bytes()[..], &encoded].concat()
    };
    let third = frame(&Said::Text("x".repeat(9_000)));
    let first = [frame(&Said::Number(1)), frame(&Said::Number(2)), third[..2].to_vec()].concat();
    let reading = async {
        a.send_bytes(&first).await;
        assert_eq!(b.recv().await.unwrap(), Some(Said::Number(1)));
        assert_eq!(b.recv().await.unwrap(), Some(Said::Number(2)));
        a.send_bytes(&third[2..]).await;
        a.finish();
        assert_eq!(b.recv().await.unwrap(), Some(Said::Text("x".repeat(9_000))));
        assert_eq!(b.recv::<Said>().await.unwrap(), None);
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("nothing is lost");
}

async fn a_request_is_answered(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let server = async {
        let mut channel = far.accept_channel().await.unwrap();
        let asked: Said = channel.recv().await.unwrap().unwrap();
        assert_eq!(channel.recv::<Said>().await.unwrap(), None, "nothing follows the question");
        channel.send(&Said::Text(format!("{asked:?}"))).await.unwrap();
        channel.finish();
        let channel = far.accept_channel().await.unwrap();
        drop(channel);
    };
    let client = async {
        let answer: Said = Channel::request(&near, &Said::Number(7)).await.unwrap();
        assert_eq!(answer, Said::Text("Number(7)".to_owned()));
        let none = Channel::request::<_, Said>(&near, &Said::Number(8)).await;
        assert!(matches!(none, Err(WireError::ChannelOver)), "{none:?}");
    };
    tokio::join!(server, client);
}

async fn many_channels_do_not_mix(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let echo = tokio::spawn(async move {
        while let Ok(mut channel) = far.accept_channel().await {
            tokio::spawn(async move {
                while let Ok(Some(said)) = channel.recv::<Said>().await {
                    channel.send(&said).await.unwrap();
                }
            });
        }
    });
    let mut asking = Vec::new();
    for n in 0..40 {
        let near = near.clone();
        asking.push(tokio::spawn(async move {
            let text = Said::Text(n.to_string().repeat(1000));
            assert_eq!(Channel::request::<_, Said>(&near, &text).await.unwrap(), text);
        }));
    }
    for one in asking {
        one.await.unwrap();
    }
    echo.abort();
}

async fn receiving_can_be_dropped_halfway(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let (mut a, mut b) = channels(&near, &far).await;
    let big = Said::Text("y".repeat(300_000));
    let sending = async {
        for _ in 0..5 {
            a.send(&big).await.unwrap();
        }
    };
    let receiving = async {
        let mut got = 0;
        while got < 5 {
            tokio::select! {
                biased;
                said = b.recv::<Said>() => {
                    assert_eq!(said.unwrap().unwrap(), big);
                    got += 1;
                }
                () = tokio::time::sleep(Duration::from_micros(200)) => {}
            }
        }
    };
    tokio::join!(sending, receiving);
}

async fn sending_can_be_dropped_halfway(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let (mut a, mut b) = channels(&near, &far).await;
    let big = Said::Text("z".repeat(900_000));
    let half = tokio::time::timeout(Duration::from_millis(100), async {
        for _ in 0..3 {
            a.send(&big).await.unwrap();
        }
    });
    assert!(half.await.is_err(), "nobody reads: three frames are more than the windows hold");
    let sending = async {
        a.send(&Said::Number(1)).await.unwrap();
        a.finish();
    };
    let receiving = async {
        let mut got = Vec::new();
        while let Some(said) = b.recv::<Said>().await.unwrap() {
            got.push(said);
        }
        got
    };
    let ((), got) = tokio::join!(sending, receiving);
    let (last, rest) = got.split_last().unwrap();
    assert_eq!(*last, Said::Number(1));
    assert!(!rest.is_empty() && rest.iter().all(|said| *said == big), "every frame is whole");
}

async fn queued_frames_do_not_wait_and_are_bounded(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let (a, b) = channels(&near, &far).await;
    let ((_a_sender, mut a), (mut b, _b_receiver)) = (a.split(), b.split());
    let frame = codec::encode(&vec![7_u8; 1_000_000]).unwrap();
    let mut queued = 0;
    let error = loop {
        match b.queue(&frame) {
            Ok(()) => queued += 1,
            Err(error) => break error,
        }
        assert!(queued < 100, "no bound");
    };
    assert!(matches!(error, WireError::Backlog { .. }), "{error}");
    let receiving = async {
        for _ in 0..queued {
            assert_eq!(a.recv::<Vec<u8>>().await.unwrap().unwrap().len(), 1_000_000);
        }
    };
    let (flushed, ()) = tokio::join!(b.flush(), receiving);
    flushed.unwrap();
}

async fn a_finish_ends_and_a_drop_is_noticed(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let (mut a, mut b) = channels(&near, &far).await;
    a.finish();
    assert_eq!(b.recv::<Said>().await.unwrap(), None);
    assert!(a.send(&Said::Number(1)).await.is_err(), "a finished channel takes nothing");
    b.send(&Said::Number(2)).await.unwrap();
    assert_eq!(a.recv::<Said>().await.unwrap(), Some(Said::Number(2)), "the other way still goes");
    drop(a);
    let noticed = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Err(error) = b.send(&Said::Number(3)).await {
                break error;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(matches!(noticed.await.unwrap(), WireError::ChannelOver));
}

async fn half_a_frame_is_an_error(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let (mut a, mut b) = channels(&near, &far).await;
    a.send_bytes(&[0, 0, 0, 9, 1, 2]).await;
    a.finish();
    assert!(matches!(b.recv::<Said>().await, Err(WireError::Truncated)));
    let (mut a, mut b) = channels(&near, &far).await;
    a.send_bytes(&[0, 0]).await;
    a.finish();
    assert!(matches!(b.recv::<Said>().await, Err(WireError::Truncated)));
}

async fn a_frame_over_the_limit_is_refused_before_it_comes(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let (mut a, mut b) = channels(&near, &far).await;
    a.send_bytes(&[255, 255, 255, 255]).await;
    let error = b.recv::<Said>().await.unwrap_err();
    let limit = connection::MAX_AGENT_FRAME;
    assert!(matches!(error, WireError::FrameTooLarge { len: 0xffff_ffff, limit: l } if l == limit));
    b.send_bytes(&[0, 0x40, 0, 1]).await;
    let error = a.recv::<Said>().await.unwrap_err();
    assert!(matches!(error, WireError::FrameTooLarge { limit: MAX_FRAME, .. }), "{error}");
    let (mut a, mut b) = channels(&near, &far).await;
    a.send_bytes(&[0, 0, 0, 0]).await;
    assert!(matches!(b.recv::<Said>().await, Err(WireError::Codec(_))), "an empty frame");
}

async fn a_value_of_another_type_is_an_error(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let (mut a, mut b) = channels(&near, &far).await;
    a.send(&(9_u64, "not what is expected")).await.unwrap();
    assert!(matches!(b.recv::<Said>().await, Err(WireError::Codec(_))));
    let (_, _) = channels(&near, &far).await;
}

async fn closing_tells_why(world: World) {
    let cluster = Cluster::new(world);
    let (near, far) = cluster.connected().await;
    let (mut a, _b) = channels(&near, &far).await;
    far.close("revoked");
    assert!(near.closed().await.contains("revoked"));
    let error = a.recv::<Said>().await.unwrap_err();
    assert!(matches!(&error, WireError::Lost(why) if why.contains("revoked")), "{error}");
    assert!(matches!(near.open().await, Err(WireError::Lost(_))));
    assert!(matches!(near.accept_channel().await, Err(WireError::Lost(_))));
    let (near, far) = cluster.connected().await;
    drop(far);
    near.closed().await;
}

async fn closing_an_endpoint_ends_everything(world: World) {
    let cluster = Cluster::new(world);
    let (near, _far) = cluster.connected().await;
    let c1 = cluster.c1.clone();
    let accepting = tokio::spawn(async move { c1.accept().await.is_none() });
    tokio::task::yield_now().await;
    cluster.c1.close();
    near.closed().await;
    assert!(accepting.await.unwrap());
    assert!(cluster.c1.accept().await.is_none());
    let late = cluster.h1.connect(cluster.c1.local_addr(), Role::Coordinator, "c1").await;
    let judged = matches!(late, Ok(_) | Err(WireError::RefusedByPeer { .. }));
    assert!(!judged, "whoever ends refuses nobody: {late:?}");
    cluster.c1.drained().await;
}

async fn an_agent_does_not_serve(world: World) {
    let cluster = Cluster::new(world);
    assert!(cluster.h1.accept().await.is_none());
    assert!(cluster.h1.accept_join().await.is_none());
    let c1 = cluster.c1.connect(cluster.h1.local_addr(), Role::Agent, "h1").await;
    assert!(matches!(c1, Err(WireError::Unanswered { .. })), "{c1:?}");
}

async fn another_version_is_refused_naming_both(world: World) {
    let cluster = Cluster::new(world);
    let old = cluster.world.bind_speaking(&cluster.issue(Role::Agent, "h2"), 9, Role::Agent);
    let error = old.connect(cluster.c1.local_addr(), Role::Coordinator, "c1").await.unwrap_err();
    assert!(matches!(error, WireError::Version { ours: 9, theirs: WIRE_VERSION, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("wire version 9") && text.contains("speaks 1"), "{text}");
    cluster.refused(Reason::Version, 1).await;
    cluster.nobody_comes().await;
}

async fn a_stranger_is_refused(world: World) {
    let cluster = Cluster::new(world);
    // the same names, another authority
    let stranger = ClusterAuthority::create("storm").unwrap();
    let theirs = cluster.world.bind(&stranger.issue(Role::Agent, "h1", 1).unwrap());
    let error = theirs.connect(cluster.c1.local_addr(), Role::Coordinator, "c1").await.unwrap_err();
    let unknown =
        |e: &WireError| matches!(e, WireError::Refused { reason: Reason::UnknownAuthority, .. });
    assert!(unknown(&error), "the client looks first: {error}");
    let false_c1 = cluster.world.bind(&stranger.issue(Role::Coordinator, "c1", 1).unwrap());
    let error =
        cluster.h1.connect(false_c1.local_addr(), Role::Coordinator, "c1").await.unwrap_err();
    assert!(unknown(&error), "{error}");
    assert_eq!(cluster.h1.refusals().of(Reason::UnknownAuthority), 1);
    cluster.nobody_comes().await;
}

async fn an_expired_certificate_is_refused(world: World) {
    let cluster = Cluster::new(world);
    let late = cluster.world.bind(&cluster.authority.issue_expired(Role::Agent, "h2"));
    let error = late.connect(cluster.c1.local_addr(), Role::Coordinator, "c1").await.unwrap_err();
    assert!(
        matches!(&error, WireError::RefusedByPeer { why, .. } if why.contains("xpired")),
        "{error}"
    );
    cluster.refused(Reason::Expired, 1).await;
    let late = cluster.world.bind(&cluster.authority.issue_expired(Role::Coordinator, "c2"));
    let error = cluster.h1.connect(late.local_addr(), Role::Coordinator, "c2").await.unwrap_err();
    assert!(matches!(error, WireError::Refused { reason: Reason::Expired, .. }), "{error}");
    assert_eq!(cluster.h1.refusals().of(Reason::Expired), 1);
    cluster.nobody_comes().await;
}

async fn a_wrong_name_and_a_wrong_role_are_refused(world: World) {
    let cluster = Cluster::new(world);
    let at = cluster.c1.local_addr();
    let error = cluster.h1.connect(at, Role::Coordinator, "c2").await.unwrap_err();
    assert!(matches!(&error, WireError::WrongPeer { found, .. } if found.name == "c1"), "{error}");
    assert_eq!(cluster.h1.refusals().of(Reason::WrongName), 1);
    let error = cluster.h1.connect(at, Role::Agent, "c1").await.unwrap_err();
    assert!(matches!(&error, WireError::WrongPeer { .. }), "{error}");
    assert_eq!(cluster.h1.refusals().of(Reason::WrongRole), 1);
    cluster.nobody_comes().await;
}

async fn a_certificate_of_another_role_is_refused_by_the_server(world: World) {
    let cluster = Cluster::new(world);
    let at = cluster.c1.local_addr();
    let mut refused = 0;
    for role in Role::ALL {
        for used in Role::ALL.into_iter().filter(|used| *used != role) {
            let identity = cluster.issue(role, "x1");
            let endpoint = cluster.world.bind_speaking(&identity, WIRE_VERSION, used);
            let error = endpoint.connect(at, Role::Coordinator, "c1").await.unwrap_err();
            assert!(
                matches!(error, WireError::NotOfRole { role, .. } if role == used),
                "{role} as {used}: {error}"
            );
            refused += 1;
            cluster.refused(Reason::WrongRole, refused).await;
        }
    }
    cluster.nobody_comes().await;
}

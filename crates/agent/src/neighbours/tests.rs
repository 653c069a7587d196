//! Several hosts' neighbours in this process, over real datagrams on loopback.

mod golden;

use std::net::Ipv4Addr;
use std::time::Duration;

use squall_wire::{ClusterAuthority, Role};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::*;

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// The cluster's secrets.
struct Cluster {
    authority: ClusterAuthority,
    key: GossipKey,
}

/// One host of it, at an address of its own.
struct Place {
    name: HostName,
    address: IpAddr,
    near: Neighbours,
    heard: mpsc::Receiver<SignedStop>,
    state: TempDir,
}

impl Cluster {
    fn new() -> Cluster {
        Cluster { authority: ClusterAuthority::create("test").unwrap(), key: GossipKey::create() }
    }

    /// Host `h<n>` at 127.0.0.`n`, or another address.
    fn host(&self, n: u8) -> Place {
        self.host_at(n, Ipv4Addr::new(127, 0, 0, n).into(), tempfile::tempdir().unwrap())
    }

    fn host_at(&self, n: u8, address: IpAddr, state: TempDir) -> Place {
        let name: HostName = format!("h{n}").parse().unwrap();
        let config = Config {
            name: name.clone(),
            address,
            state_dir: state.path().to_owned(),
            run_dir: state.path().to_owned(),
            identity_dir: state.path().to_owned(),
            policy: None,
            gossip_port: 0,
            relay_port: 0,
            labels: BTreeMap::new(),
            coordinator: false,
            coordinators: Vec::new(),
        };
        let identity = self.authority.issue(Role::Agent, name.as_str(), 1).unwrap();
        let (tell, heard) = mpsc::channel(8);
        let near = Neighbours::start(&config, identity, self.key.clone(), tell).unwrap();
        Place { name, address, near, heard, state }
    }
}

impl Place {
    fn peer(&self) -> PeerHost {
        PeerHost {
            name: self.name.clone(),
            address: self.address,
            gossip_port: self.near.gossip_port(),
            relay_port: self.near.relay_port(),
            cohort: String::new(),
        }
    }

    /// This host as others reach it through `tap`.
    fn behind(&self, tap: &UdpSocket) -> PeerHost {
        let at = tap.local_addr().unwrap();
        PeerHost { address: at.ip(), gossip_port: at.port(), ..self.peer() }
    }

    /// What its row says of how long ago it heard `other`; the outer one is `None` where nothing.
    fn row_ms(&self, other: &Place) -> Option<Option<u64>> {
        let row = self.near.row(clock::now());
        row.heard.iter().find(|(name, _)| *name == other.name).map(|(_, ms)| *ms)
    }

    /// Milliseconds since this host heard `other` directly.
    fn heard_ms(&self, other: &Place) -> Option<u64> {
        let seen = self.near.shared.seen();
        seen.heard.get(&other.name).map(|at| clock::now().since(*at))
    }

    fn hears(&self, other: &Place) -> bool {
        self.heard_ms(other).is_some_and(|ms| ms <= squall_core::views::STALE_MS)
    }

    fn says_of(&self, other: &HostName) -> Option<Liveness> {
        let row = self.near.row(clock::now());
        row.members.iter().find(|(name, _)| name == other).map(|(_, l)| *l)
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn tap() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

async fn take(tap: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let (length, _) =
        tokio::time::timeout(PATIENCE, tap.recv_from(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(length);
    buffer
}

#[tokio::test]
async fn all_hear_each_other_and_the_gossip_agrees() {
    let cluster = Cluster::new();
    let hosts = [cluster.host(1), cluster.host(2), cluster.host(3)];
    let peers: Vec<PeerHost> = hosts.iter().map(Place::peer).collect();
    for host in &hosts {
        host.near.set_peers(&peers);
    }
    for (a, b) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        until("heard", || hosts[a].hears(&hosts[b])).await;
        until("alive", || hosts[a].says_of(&hosts[b].name) == Some(Liveness::Alive)).await;
    }
    until("a row", || hosts[0].near.row(clock::now()).heard.len() == 2).await;
    let row = hosts[0].near.row(clock::now());
    let fresh = |ms: &Option<u64>| ms.is_some_and(|ms| ms <= STALE_MS);
    assert!(row.heard.iter().all(|(_, ms)| fresh(ms)), "both others and not itself: {row:?}");
    let counts = hosts[0].near.counts();
    assert_eq!((counts.refused(), counts.bad_stops), (0, 0), "{counts:?}");
}

#[tokio::test]
async fn over_ipv6_it_is_the_same() {
    let cluster = Cluster::new();
    let at = || IpAddr::from(std::net::Ipv6Addr::LOCALHOST);
    let a = cluster.host_at(1, at(), tempfile::tempdir().unwrap());
    let mut b = cluster.host_at(2, at(), tempfile::tempdir().unwrap());
    a.near.set_peers(&[b.peer()]);
    b.near.set_peers(&[a.peer()]);
    until("heard", || a.hears(&b) && b.hears(&a)).await;
    until("alive", || a.says_of(&b.name) == Some(Liveness::Alive)).await;
    let stop = StopId(Uuid::from_u128(1));
    let record = cluster.authority.issue(Role::Coordinator, "c1", 1).unwrap().sign_stop(stop);
    a.near.spread(stop, record.clone());
    let got = tokio::time::timeout(PATIENCE, b.heard.recv()).await.unwrap();
    assert_eq!(got, Some((stop, record)));
}

#[tokio::test]
async fn a_cut_one_way_shows_as_one_fresh_and_one_silent_row() {
    let cluster = Cluster::new();
    let (a, b, hole) = (cluster.host(11), cluster.host(12), tap().await);
    a.near.set_peers(&[b.peer()]);
    assert_eq!(a.row_ms(&b), None, "a beat may be on its way");
    // What b sends to a goes nowhere; and no answer to the gossip's words makes up for it.
    b.near.set_peers(&[a.behind(&hole)]);
    until("heard", || b.hears(&a)).await;
    until("both in the gossip", || {
        a.says_of(&b.name) == Some(Liveness::Alive) && b.says_of(&a.name) == Some(Liveness::Alive)
    })
    .await;
    until("silence that says something", || a.row_ms(&b) == Some(None)).await;
    assert!(b.hears(&a));
}

#[tokio::test]
async fn beats_come_faster_while_an_experiment_runs() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.host(21), tap().await);
    let other = cluster.host(22);
    a.near.set_peers(&[other.behind(&b)]);
    a.near.set_fast(true);
    let began = Instant::now();
    for _ in 0..20 {
        take(&b).await;
    }
    // Twenty at one a second would take 19 s; greetings are among them, one a beat.
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}

#[tokio::test]
async fn forged_replayed_and_misdirected_datagrams_change_nothing_and_are_counted() {
    let cluster = Cluster::new();
    let (a, b, c) = (cluster.host(31), cluster.host(32), cluster.host(33));
    // a beats to b and c through a tap, which lets nothing through by itself.
    let tap = tap().await;
    a.near.set_peers(&[b.behind(&tap)]);
    b.near.set_peers(&[a.peer()]);
    c.near.set_peers(&[a.peer()]);
    let recorded = [take(&tap).await, take(&tap).await];
    assert_eq!(b.heard_ms(&a), None);

    // Altered, cut, foreign, and not sealed at all.
    let to_b = (b.address, b.near.gossip_port());
    for at in [0, 5, 20, 30, recorded[0].len() - 1] {
        let mut forged = recorded[0].clone();
        forged[at] ^= 1;
        tap.send_to(&forged, to_b).await.unwrap();
    }
    tap.send_to(&recorded[0][..30], to_b).await.unwrap();
    let stranger = GossipKey::create();
    let mut sealer = Sealer::new(stranger, a.name.clone(), u64::MAX);
    tap.send_to(&sealer.seal(b"beat"), to_b).await.unwrap();
    tap.send_to(b"hello", to_b).await.unwrap();
    until("all forgeries are counted", || b.near.counts().sealed.forged == 8).await;
    assert_eq!(b.heard_ms(&a), None, "nothing was heard");

    // To the wrong host.
    for datagram in &recorded {
        tap.send_to(datagram, (c.address, c.near.gossip_port())).await.unwrap();
    }
    until("both are counted", || c.near.counts().misdirected == 2).await;
    assert_eq!(c.heard_ms(&a), None, "what was meant for b says nothing to c");

    // Once it is a's word; again it is nobody's.
    for datagram in &recorded {
        tap.send_to(datagram, to_b).await.unwrap();
    }
    until("the original is heard", || b.hears(&a)).await;
    let before = b.heard_ms(&a).unwrap();
    sleep(Duration::from_millis(300)).await;
    for datagram in &recorded {
        tap.send_to(datagram, to_b).await.unwrap();
    }
    until("the repeats are counted", || b.near.counts().sealed.replayed == 2).await;
    assert!(b.heard_ms(&a).unwrap() >= before + 300, "a repeat is not a beat");
}

#[tokio::test]
async fn a_member_that_dies_goes_down_and_its_next_life_is_alive() {
    let cluster = Cluster::new();
    let (a, b, c) = (cluster.host(41), cluster.host(42), cluster.host(43));
    let peers = [a.peer(), b.peer(), c.peer()];
    for host in [&a, &b, &c] {
        host.near.set_peers(&peers);
    }
    let (alive, down) = (Some(Liveness::Alive), Some(Liveness::Down));
    let name = c.name.clone();
    until("alive", || a.says_of(&name) == alive && b.says_of(&name) == alive).await;
    let Place { address, near, state, .. } = c;
    drop(near);
    until("down", || a.says_of(&name) == down && b.says_of(&name) == down).await;
    // Its ports are others now, as the leader would tell.
    let again = cluster.host_at(43, address, state);
    let peers = [a.peer(), b.peer(), again.peer()];
    for host in [&a, &b, &again] {
        host.near.set_peers(&peers);
    }
    until("alive again", || a.says_of(&again.name) == alive && b.says_of(&again.name) == alive)
        .await;
    until("heard again", || a.hears(&again) && b.hears(&again)).await;
}

#[tokio::test]
async fn a_flood_silences_nobody() {
    let cluster = Cluster::new();
    let (a, b, flood) = (cluster.host(51), cluster.host(52), tap().await);
    a.near.set_peers(&[b.peer()]);
    b.near.set_peers(&[a.peer()]);
    a.near.set_fast(true);
    until("heard", || b.hears(&a)).await;
    let to_a = (a.address, a.near.gossip_port());
    let (began, mut worst) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(2) {
        for _ in 0..500 {
            let _ = flood.try_send_to(&[1; 100], to_a.into());
        }
        worst = worst.max(b.heard_ms(&a).unwrap());
        sleep(Duration::from_millis(5)).await;
    }
    assert!(worst < 1_500, "a was silent for {worst} ms");
    let looked_at = a.near.counts().sealed.forged;
    let limit = 2 * 3 * 256 * 1_000 / 20;
    assert!(0 < looked_at && looked_at < limit, "{looked_at} datagrams were looked at");
}

#[tokio::test]
async fn a_signed_stop_goes_from_hand_to_hand_and_arrives_once() {
    let cluster = Cluster::new();
    let (a, mut b, mut c) = (cluster.host(61), cluster.host(62), cluster.host(63));
    a.near.set_peers(&[b.peer()]);
    b.near.set_peers(&[c.peer()]);
    let stop = StopId(Uuid::from_u128(7));
    let record = cluster.authority.issue(Role::Coordinator, "c1", 1).unwrap().sign_stop(stop);
    a.near.spread(stop, record.clone());
    let (heard, carried) = tokio::time::timeout(PATIENCE, b.heard.recv()).await.unwrap().unwrap();
    assert_eq!((heard, &carried), (stop, &record));
    b.near.spread(heard, carried);
    let got = tokio::time::timeout(PATIENCE, c.heard.recv()).await.unwrap();
    assert_eq!(got, Some((stop, record)));
    // The repeats have all arrived by then.
    sleep(Duration::from_millis(600)).await;
    assert!(b.heard.try_recv().is_err() && c.heard.try_recv().is_err());
    // Signed by another coordinator it is the same stop; another one is not.
    let c2 = cluster.authority.issue(Role::Coordinator, "c2", 1).unwrap();
    let another = StopId(Uuid::from_u128(8));
    b.near.spread(stop, c2.sign_stop(stop));
    b.near.spread(another, c2.sign_stop(another));
    let got = tokio::time::timeout(PATIENCE, c.heard.recv()).await.unwrap().unwrap();
    assert_eq!(got.0, another);
    assert_eq!(c.near.counts().bad_stops, 0);
}

#[tokio::test]
async fn a_lost_datagram_loses_no_stop() {
    let cluster = Cluster::new();
    let (a, mut b, tap) = (cluster.host(71), cluster.host(72), tap().await);
    let at = tap.local_addr().unwrap();
    a.near.set_peers(&[PeerHost { address: at.ip(), relay_port: at.port(), ..b.peer() }]);
    let stop = StopId(Uuid::from_u128(8));
    let record = cluster.authority.issue(Role::Coordinator, "c1", 1).unwrap().sign_stop(stop);
    a.near.spread(stop, record);
    // The first two are lost.
    take(&tap).await;
    take(&tap).await;
    tap.send_to(&take(&tap).await, (b.address, b.near.relay_port())).await.unwrap();
    let got = tokio::time::timeout(PATIENCE, b.heard.recv()).await.unwrap().unwrap();
    assert_eq!(got.0, stop);
}

#[tokio::test]
async fn what_no_coordinator_signed_is_no_stop() {
    let cluster = Cluster::new();
    let (mut a, tap) = (cluster.host(81), tap().await);
    let to = (a.address, a.near.relay_port());
    let stop = StopId(Uuid::from_u128(9));
    let by = |role, name| cluster.authority.issue(role, name, 1).unwrap().sign_stop(stop);
    let stranger = ClusterAuthority::create("test").unwrap();
    let good = by(Role::Coordinator, "c1");
    let mut altered = good.clone();
    *altered.last_mut().unwrap() ^= 1;
    let forged = [
        by(Role::Agent, "h2"),
        by(Role::Operator, "o1"),
        stranger.issue(Role::Coordinator, "c1", 1).unwrap().sign_stop(stop),
        altered,
        b"stop".to_vec(),
        vec![7; 4_000],
    ];
    for record in &forged {
        tap.send_to(record, to).await.unwrap();
    }
    until("all are counted", || a.near.counts().bad_stops == forged.len() as u64).await;
    assert!(a.heard.try_recv().is_err());
    tap.send_to(&good, to).await.unwrap();
    let got = tokio::time::timeout(PATIENCE, a.heard.recv()).await.unwrap().unwrap();
    assert_eq!(got, (stop, good));
}

#[tokio::test]
async fn what_is_no_record_keeps_no_stop_out() {
    let cluster = Cluster::new();
    let (mut a, tap) = (cluster.host(101), tap().await);
    let to = (a.address, a.near.relay_port());
    let stop = StopId(Uuid::from_u128(10));
    let good = cluster.authority.issue(Role::Coordinator, "c1", 1).unwrap().sign_stop(stop);
    // Five windows' worth of what would have to be verified.
    let began = Instant::now();
    for _ in 0..250 {
        tap.send_to(b"x", to).await.unwrap();
    }
    let got = loop {
        tap.send_to(&good, to).await.unwrap();
        match tokio::time::timeout(Duration::from_millis(20), a.heard.recv()).await {
            Ok(got) => break got.unwrap(),
            Err(_) => assert!(began.elapsed() < Duration::from_millis(400), "kept out"),
        }
    };
    assert_eq!(got, (stop, good));
}

#[tokio::test]
async fn only_a_leader_that_was_heard_is_an_authority_and_it_ages() {
    let cluster = Cluster::new();
    let mut a = cluster.host(91);
    let now = clock::now();
    assert_eq!(a.near.row(now).authority, None);
    let leadership = Leadership { term: 3, node: squall_core::ids::NodeId(2) };
    a.near.heard_leader(now, leadership);
    assert_eq!(a.near.row(now.plus(250)).authority, Some((leadership, 250)));
}

#[test]
fn a_peer_is_heard_however_many_strangers_were() {
    let (mut seen, now) = (Seen::default(), Time(10_000));
    let peer = PeerHost {
        name: "h1".parse().unwrap(),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        gossip_port: 1,
        relay_port: 1,
        cohort: String::new(),
    };
    seen.know(std::slice::from_ref(&peer), Time(0));
    for n in 0..2 * MAX_PEERS {
        seen.hear(format!("stranger-{n}").parse().unwrap(), now);
    }
    assert_eq!(seen.heard.len(), MAX_PEERS);
    seen.hear(peer.name.clone(), now);
    assert_eq!((seen.heard_ms(&peer.name, now), seen.heard.len()), (Some(Some(0)), MAX_PEERS));
}

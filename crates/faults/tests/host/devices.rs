//! Devices and addresses that come and go while packets are lost.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use squall_core::fault::{Direction, Fault, Loss, Partition, Traffic};

use crate::bench::{Held, Pair, TestHost, task, until};

/// Longer than until devices are looked for again.
const LOOK: Duration = Duration::from_millis(2_500);

fn traffic(direction: Direction) -> Traffic {
    let peers = vec!["10.9.0.2/32".parse().unwrap()];
    Traffic { peers, direction, ports: vec![], protocol: None }
}

/// Datagrams from h1 to h2 that are lost, of a hundred.
fn lost_percent(pair: &Pair) -> f64 {
    const SENT: u32 = 600;
    let far = pair.h2.run(|| UdpSocket::bind("10.9.0.2:0").unwrap());
    far.set_nonblocking(true).unwrap();
    let (to, near) = (far.local_addr().unwrap(), pair.h1.run(|| UdpSocket::bind("10.9.0.1:0")));
    let near = near.unwrap();
    let (mut came, mut buffer) = (0, [0; 16]);
    let mut drain = || std::iter::from_fn(|| far.recv_from(&mut buffer).ok()).count() as u32;
    for _ in 0..SENT / 20 {
        for _ in 0..20 {
            near.send_to(b"hello", to).unwrap();
        }
        thread::sleep(Duration::from_millis(2));
        came += drain();
    }
    thread::sleep(Duration::from_millis(100));
    came += drain();
    f64::from(SENT - came) * 100.0 / f64::from(SENT)
}

#[test]
fn a_device_that_comes_again_draws_no_second_lot() {
    let pair = Pair::new();
    let loss = Fault::Loss(Loss { traffic: traffic(Direction::Out), per_million: 400_000 });
    let held = Held::start(&pair.h1, task(loss, 200, 20_000, 60_000)).held();
    // Six deviations of a fair draw. Two lots would be 64 %.
    let is_one_lot = |percent: f64| (28.0..52.0).contains(&percent);
    let before = lost_percent(&pair);
    assert!(is_one_lot(before), "{before} %");
    for round in 0..3 {
        pair.h1.sh("ip link del v1");
        if round > 0 {
            // Once looked at while it is gone, and once not.
            thread::sleep(LOOK);
        }
        pair.wire();
        thread::sleep(LOOK);
        let after = lost_percent(&pair);
        assert!(is_one_lot(after), "{after} %, round {round}");
    }
    held.lift();
    assert!(lost_percent(&pair) < 1.0);
}

#[test]
fn a_device_with_a_new_name_is_no_way_out() {
    let pair = Pair::new();
    let before = pair.h1.snapshot();
    let cut = Partition { traffic: traffic(Direction::Out), severed: vec![] };
    let held = Held::start(&pair.h1, task(Fault::Partition(cut), 201, 20_000, 60_000)).held();
    let far = "10.9.0.2".parse().unwrap();
    let rename = |old: &str, new: &str| {
        pair.h1.sh(&format!("ip link set {old} down"));
        pair.h1.sh(&format!("ip link set {old} name {new}"));
        pair.h1.sh(&format!("ip link set {new} up"));
    };
    rename("v1", "w1");
    thread::sleep(LOOK);
    assert_eq!(pair.ways(far, None), (false, true));
    rename("w1", "v1");
    thread::sleep(LOOK);
    assert_eq!(pair.ways(far, None), (false, true));
    held.lift();
    pair.h1.sh("ip addr add fd09::1/64 dev v1 nodad");
    until(1_000, || pair.h1.snapshot() == before);
}

#[test]
fn no_packet_passes_while_devices_come_and_go() {
    let pair = Pair::new();
    let cut = Partition { traffic: traffic(Direction::Out), severed: vec![] };
    let held = Held::start(&pair.h1, task(Fault::Partition(cut), 202, 20_000, 60_000)).held();
    let far = pair.h2.run(|| UdpSocket::bind("10.9.0.2:0").unwrap());
    let to = far.local_addr().unwrap();
    let near = pair.h1.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    let flood = thread::spawn(move || {
        let began = Instant::now();
        let mut sent = 0_u32;
        while began.elapsed() < Duration::from_secs(9) {
            near.send_to(b"hello", to).unwrap();
            sent += 1;
        }
        sent
    });
    let hooked = || pair.h1.sh("nft list ruleset").matches("w1").count();
    for _ in 0..2 {
        pair.h1.sh("ip link add w1 type veth peer name w2");
        until(2_500, || hooked() == 1);
        pair.h1.sh("ip link del w1");
        thread::sleep(LOOK);
    }
    let sent = flood.join().unwrap();
    far.set_nonblocking(true).unwrap();
    let passed = far.recv_from(&mut [0; 16]);
    assert!(passed.is_err() && sent > 10_000, "{passed:?}, {sent} sent");
    held.lift();
}

#[test]
fn more_devices_than_one_chain_takes_are_cut_in_silence_too() {
    let pair = Pair::new();
    for n in 0..150 {
        pair.h1.sh(&format!("ip link add a{n} type veth peer name b{n}"));
    }
    let cut = Partition { traffic: traffic(Direction::Out), severed: vec![] };
    let held = Held::start(&pair.h1, task(Fault::Partition(cut), 204, 30_000, 60_000));
    let note = held.achieved().note;
    assert!(!note.contains("EPERM"), "{note}");
    let far = "10.9.0.2".parse().unwrap();
    assert_eq!(pair.ways(far, None), (false, true));
    let hooks = || pair.h1.sh("nft list ruleset").matches("hook egress").count();
    assert_eq!(hooks(), 2);
    for n in 0..150 {
        pair.h1.sh(&format!("ip link del a{n}"));
    }
    until(5_000, || hooks() == 1);
    assert_eq!(pair.ways(far, None), (false, true));
    held.lift();
}

#[test]
fn an_address_that_moves_away_is_cut_and_one_that_comes_is_spared() {
    let pair = Pair::new();
    let moving = ["10.9.0.50", "fd09::50"];
    let put = |on: &TestHost, device: &str, how: &str| {
        on.sh(&format!("ip addr {how} 10.9.0.50/24 dev {device}"));
        on.sh(&format!("ip addr {how} fd09::50/64 dev {device} nodad"));
    };
    put(&pair.h1, "v1", "add");
    let peers = ["10.9.0.0/24", "fd09::/64"].map(|p| p.parse().unwrap()).to_vec();
    let all = Traffic { peers, ..traffic(Direction::Both) };
    let cut = Fault::Partition(Partition { traffic: all, severed: vec![] });
    let mut hold = task(cut, 203, 30_000, 60_000);
    // The policy's word stands, whose address ever it is.
    hold.protect.peers = vec!["10.9.0.51/32".parse().unwrap()];
    pair.h1.sh("ip addr add 10.9.0.51/32 dev v1");
    let held = Held::start(&pair.h1, hold).held();
    assert!(moving.iter().all(|at| pair.alone(at, None)));
    put(&pair.h1, "v1", "del");
    put(&pair.h2, "v2", "add");
    pair.h1.sh("ip addr del 10.9.0.51/32 dev v1");
    pair.h2.sh("ip addr add 10.9.0.51/32 dev v2");
    thread::sleep(LOOK);
    for at in moving {
        assert_eq!(pair.ways(at.parse().unwrap(), None), (false, false), "{at}");
    }
    assert_eq!(pair.ways("10.9.0.51".parse().unwrap(), None), (true, true));
    put(&pair.h2, "v2", "del");
    put(&pair.h1, "v1", "add");
    pair.h1.sh("ip addr add 10.9.0.52/24 dev v1");
    thread::sleep(LOOK);
    for at in moving.iter().chain(&["10.9.0.52"]) {
        assert!(pair.alone(at, None), "{at}");
    }
    assert_eq!(pair.ways("10.9.0.2".parse().unwrap(), None), (false, false));
    held.lift();
}

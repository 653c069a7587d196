//! Devices that go, come again and are renamed while packets are lost.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use squall_core::fault::{Direction, Fault, Loss, Partition, Traffic};

use crate::bench::{Held, Pair, task, until};

/// Longer than until devices are looked for again.
const LOOK: Duration = Duration::from_millis(1_500);

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
        while began.elapsed() < Duration::from_secs(6) {
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

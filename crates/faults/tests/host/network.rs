//! Packets across a partition, a partial loss, and everything that ends them.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use squall_core::fault::{Direction, Fault, Loss, Partition, Ports, Protocol, Traffic};
use squall_core::hold::HolderReport;
use squall_faults::holder::HolderEvent;

use crate::bench::{Held, Pair, mark, soon, task, traffic, until};

fn cut(peers: &[&str], direction: Direction) -> Fault {
    Fault::Partition(Partition { traffic: traffic(peers, direction), severed: vec![] })
}

fn both() -> Fault {
    cut(&["10.9.0.2/32", "fd09::2/128"], Direction::Both)
}

/// What h1 is to itself.
const SELF: [&str; 4] = ["10.9.0.1", "fd09::1", "127.0.0.1", "::1"];

fn v4() -> IpAddr {
    "10.9.0.2".parse().unwrap()
}

fn v6() -> IpAddr {
    "fd09::2".parse().unwrap()
}

#[test]
fn it_cuts_both_families_both_ways_and_spares_control() {
    let pair = Pair::new();
    let before = pair.h1.snapshot();
    let held = Held::start(&pair.h1, task(both(), 1, 5_000, 60_000)).held();
    assert_eq!(pair.ways(v4(), None), (false, false));
    assert_eq!(pair.ways(v6(), None), (false, false));
    assert_eq!(pair.ways(v4(), mark()), (true, true));
    // With forgotten neighbours, discovery must get through for marked control to do so.
    pair.h1.sh("ip -6 neigh flush all");
    pair.h2.sh("ip -6 neigh flush all");
    assert_eq!(pair.ways(v6(), mark()), (true, true));
    held.holder.lift();
    held.gone(2_000);
    assert_eq!(pair.ways(v4(), None), (true, true));
    assert_eq!(pair.h1.snapshot(), before);
}

#[test]
fn one_way_is_one_way() {
    let pair = Pair::new();
    let held = Held::start(&pair.h1, task(cut(&["10.9.0.0/24"], Direction::In), 2, 5_000, 60_000));
    let held = held.held();
    assert_eq!(pair.ways(v4(), None), (true, false));
    held.holder.kill();
    held.gone(1_000);
    let out = Held::start(&pair.h1, task(cut(&["10.9.0.2/32"], Direction::Out), 3, 5_000, 60_000));
    let _out = out.held();
    assert_eq!(pair.ways(v4(), None), (false, true));
}

#[test]
fn an_established_flow_is_cut_and_comes_back() {
    let pair = Pair::new();
    let listener = pair.h2.run(|| TcpListener::bind("10.9.0.2:0").unwrap());
    let at = listener.local_addr().unwrap();
    let mut near = pair.h1.run(move || TcpStream::connect(at).unwrap());
    let (mut far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut buffer = [0; 8];
    near.write_all(b"before").unwrap();
    assert_eq!(far.read(&mut buffer).unwrap(), 6);
    let held = Held::start(&pair.h1, task(both(), 4, 5_000, 60_000)).held();
    near.write_all(b"during").expect("the sender is told nothing");
    assert!(far.read(&mut buffer).is_err());
    held.holder.kill();
    held.gone(1_000);
    far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(far.read(&mut buffer).unwrap(), 6, "the retransmission arrives");
}

#[test]
fn ports_and_protocol_narrow_it_and_port_22_is_spared() {
    let pair = Pair::new();
    let fault = Fault::Partition(Partition {
        traffic: Traffic {
            ports: vec![Ports { from: 1, to: 30_000 }],
            protocol: Some(Protocol::Tcp),
            ..traffic(&["10.9.0.2/32"], Direction::Both)
        },
        severed: vec![],
    });
    let _held = Held::start(&pair.h1, task(fault, 5, 5_000, 60_000)).held();
    assert_eq!(pair.ways(v4(), None), (true, true), "UDP is another protocol");
    for (port, open) in [(22, true), (2_000, false), (31_000, true)] {
        let listener = pair.h2.run(move || TcpListener::bind(("10.9.0.2", port)).unwrap());
        let at = listener.local_addr().unwrap();
        let connected = pair
            .h1
            .run(move || TcpStream::connect_timeout(&at, Duration::from_millis(400)).is_ok());
        assert_eq!(connected, open, "port {port}");
    }
}

#[test]
fn severed_coordinators_are_cut_marked_or_not() {
    let pair = Pair::new();
    let fault = Fault::Partition(Partition {
        traffic: traffic(&["10.9.0.77/32"], Direction::Out),
        severed: vec!["10.9.0.2/32".parse().unwrap()],
    });
    // The listed peer is not there: what bites is the coordinator's own rule.
    let _held = Held::start(&pair.h1, task(fault, 6, 5_000, 60_000)).held();
    assert_eq!(pair.ways(v4(), mark()), (false, false));
    assert_eq!(pair.ways(v4(), None), (false, false));
    assert_eq!(pair.ways(v6(), mark()), (true, true), "nobody named that address");
}

#[test]
fn severed_coordinators_are_cut_both_ways_where_peers_are_cut_one_way() {
    for (direction, number, left) in
        [(Direction::Out, 26, (false, true)), (Direction::In, 27, (true, false))]
    {
        let pair = Pair::new();
        let fault = Fault::Partition(Partition {
            traffic: traffic(&["fd09::2/128"], direction),
            severed: vec!["10.9.0.2/32".parse().unwrap()],
        });
        let held = Held::start(&pair.h1, task(fault, number, 5_000, 60_000)).held();
        assert_eq!(pair.ways(v4(), mark()), (false, false));
        assert_eq!(pair.ways(v6(), None), left);
        assert_eq!(pair.ways(v6(), mark()), left, "control is not spared where it is severed");
        held.holder.lift();
        held.gone(2_000);
        assert_eq!(pair.ways(v6(), None), (true, true));
    }
}

#[test]
fn severed_peers_are_cut_marked_or_not_and_policy_has_the_last_word() {
    let pair = Pair::new();
    pair.h2.sh("ip addr add 10.9.0.3/24 dev v2");
    pair.h2.sh("ip addr add 10.9.0.4/24 dev v2");
    let narrow = Traffic {
        ports: vec![Ports { from: 1, to: 9 }],
        ..traffic(&["10.9.0.2/32"], Direction::Both)
    };
    let severed = vec!["10.9.0.3/32".parse().unwrap(), "10.9.0.4/32".parse().unwrap()];
    let mut hold =
        task(Fault::Partition(Partition { traffic: narrow, severed }), 17, 5_000, 60_000);
    hold.protect.peers = vec!["10.9.0.4/32".parse().unwrap()];
    let _held = Held::start(&pair.h1, hold).held();
    let at = |last| IpAddr::from([10, 9, 0, last]);
    assert_eq!(pair.ways(at(2), None), (true, true), "other ports than those of the fault");
    assert_eq!(pair.ways(at(2), mark()), (false, false), "control, on whatever port");
    assert_eq!(pair.ways(at(3), None), (false, false));
    assert_eq!(pair.ways(at(3), mark()), (false, false));
    assert_eq!(pair.ways(at(4), mark()), (true, true), "the policy protects it");
    for (host, open) in [(3, true), (2, true)] {
        let listener = pair.h2.run(move || TcpListener::bind((at(host), 22)).unwrap());
        let near = listener.local_addr().unwrap();
        let connected = pair
            .h1
            .run(move || TcpStream::connect_timeout(&near, Duration::from_millis(400)).is_ok());
        assert_eq!(connected, open, "TCP 22 of host {host}");
    }
}

#[test]
fn what_a_host_says_to_itself_passes_whatever_the_peers() {
    let pair = Pair::new();
    pair.h1.sh("ip route add default via 10.9.0.2");
    pair.h1.sh("ip route add default via fd09::2");
    let networks = ["10.9.0.0/24", "fd09::/64"];
    let everything = ["0.0.0.0/0", "::/0"];
    let severing = Fault::Partition(Partition {
        traffic: traffic(&["10.9.0.77/32"], Direction::In),
        severed: networks.iter().map(|n| n.parse().unwrap()).collect(),
    });
    let faults = [
        (cut(&networks, Direction::Both), None, "8 of 8 probes lost in, 8 of 8 probes lost out"),
        // Multicast may be counted here too, and in the last one a peer that is not there is not.
        (cut(&everything, Direction::Both), None, " lost out"),
        (severing, mark(), " lost out"),
    ];
    for (number, (fault, mark, measured)) in (22..).zip(faults) {
        let held = Held::start(&pair.h1, task(fault, number, 10_000, 60_000));
        let achieved = held.achieved();
        // Each way was measured, and nothing that goes out is to h1 itself.
        assert!(achieved.note.is_empty(), "{achieved:?}");
        assert!(achieved.measured.contains(measured), "{achieved:?}");
        for at in SELF {
            assert!(pair.alone(at, mark), "{at} {achieved:?}");
        }
        assert_eq!(pair.ways(v4(), mark), (false, false), "{achieved:?}");
        assert_eq!(pair.ways(v6(), mark), (false, false), "{achieved:?}");
        held.lift();
        assert_eq!(pair.ways(v4(), None), (true, true));
    }
}

#[test]
fn a_host_that_is_its_only_peer_has_nothing_to_cut() {
    let pair = Pair::new();
    let fault = cut(&["10.9.0.1/32", "127.0.0.0/8", "::1/128"], Direction::Both);
    let held = Held::start(&pair.h1, task(fault, 25, 10_000, 60_000));
    match held.next(5_000) {
        Some(HolderEvent::Report(HolderReport::Held(achieved))) => {
            assert!(!achieved.bit, "{achieved:?}");
            assert!(achieved.note.starts_with("nothing to cut: "), "{achieved:?}");
        }
        other => panic!("not held: {other:?}"),
    }
    assert!(SELF.iter().all(|at| pair.alone(at, None)));
    assert!(!held.lift().bit);
}

#[test]
fn as_many_peers_as_there_may_be_are_renewed() {
    let pair = Pair::new();
    let many = (0..squall_core::fault::MAX_PEERS).map(|n| format!("fd09::1:{n:x}/128"));
    let many: Vec<String> = many.chain(["fd09::2/128".into()]).skip(1).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let held = Held::start(&pair.h1, task(cut(&many, Direction::Both), 18, 1_500, 60_000));
    // Many peers take longer to put in place than the lease lasts on a busy machine.
    let said = (0..200).find_map(|_| {
        held.holder.renew(soon(1_500));
        held.next(50)
    });
    assert!(matches!(said, Some(HolderEvent::Report(HolderReport::Held(_)))), "{said:?}");
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(250));
        held.holder.renew(soon(1_500));
    }
    assert_eq!(pair.ways(v6(), None), (false, false));
    held.holder.lift();
    held.gone(2_000);
    assert_eq!(pair.ways(v6(), None), (true, true));
}

#[test]
fn the_widest_selector_that_there_may_be_is_taken() {
    let pair = Pair::new();
    let peers = (0..squall_core::fault::MAX_PEERS as u32).map(|n| match n % 4 {
        0 => format!("fd07:{n:x}::/{}", 32 + n / 4 % 96),
        1 => format!("10.{}.{}.0/24", n / 256, n % 256),
        2 => format!("172.{}.0.0/{}", 16 + n % 16, 12 + n % 20),
        _ => format!("10.9.0.2/{}", 24 + n / 4 % 9),
    });
    let peers: std::collections::BTreeSet<String> = peers.collect();
    let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
    let ports = (0..squall_core::fault::MAX_PORTS as u16)
        .map(|n| Ports { from: 1 + n * 1_000, to: (n + 1) * 1_000 });
    let wide = Traffic { ports: ports.collect(), ..traffic(&peers, Direction::Both) };
    let fault = Fault::Partition(Partition { traffic: wide, severed: vec![] });
    let mut hold = task(fault, 19, 5_000, 60_000);
    // A policy's list has no limit; this one is long.
    hold.protect.peers = (0..1_000).map(|n| format!("fd03::{n:x}/128").parse().unwrap()).collect();
    let held = Held::start(&pair.h1, hold).held();
    assert_eq!(pair.ways(v4(), None), (false, false));
    held.holder.renew(soon(10_000));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(pair.ways(v4(), None), (false, false));
    assert!(held.lift().bit);
}

#[test]
fn a_device_that_comes_later_is_no_way_out() {
    let pair = Pair::new();
    let out = cut(&["10.9.0.2/32"], Direction::Out);
    let held = Held::start(&pair.h1, task(out, 20, 60_000, 60_000)).held();
    assert_eq!(pair.ways(v4(), None), (false, true));
    let becomes_no_way_out = || {
        pair.h1.sh(&format!("ip link add w1 type veth peer name w2 netns {}", pair.h2.ns));
        pair.h1.sh("ip link set w1 up");
        pair.h2.sh("ip link set w2 up");
        pair.h1.sh("ip route add 10.9.0.2/32 dev w1");
        // A way it is, as what is exempt shows.
        until(10_000, || pair.ways(v4(), mark()) == (true, true));
        until(10_000, || pair.ways(v4(), None) == (false, true));
    };
    becomes_no_way_out();
    // And one that takes the place of another.
    pair.h1.sh("ip link del w1");
    becomes_no_way_out();
    held.lift();
    assert_eq!(pair.ways(v4(), None), (true, true), "it was a way");
}

#[test]
fn with_no_room_at_a_devices_hook_the_output_hook_stands_in() {
    let pair = Pair::new();
    // As many chains as the kernel calls at one hook of one device.
    let chains: String = (0..1_024)
        .map(|n| format!("chain c{n} {{ type filter hook egress device v1 priority {n}; }}\n"))
        .collect();
    let file = std::env::temp_dir().join(format!("squall-chains-{}", std::process::id()));
    std::fs::write(&file, format!("table netdev full {{\n{chains}}}\n")).unwrap();
    pair.h1.sh(&format!("nft -f {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    let before = pair.h1.snapshot();
    let fault = cut(&["10.9.0.0/24", "fd09::/64"], Direction::Both);
    let held = Held::start(&pair.h1, task(fault, 21, 10_000, 60_000));
    let achieved = held.achieved();
    assert!(achieved.note.starts_with("visible: EPERM (netdev egress: "), "{achieved:?}");
    let near = pair.h1.run(|| std::net::UdpSocket::bind("10.9.0.1:0").unwrap());
    let refused = near.send_to(b"hello", "10.9.0.2:9").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(pair.ways(v4(), mark()), (true, true));
    assert!(SELF.iter().all(|at| pair.alone(at, None)), "the output hook sees these too");
    held.holder.kill();
    held.gone(2_000);
    until(1_000, || pair.h1.snapshot() == before);
}

#[test]
fn a_share_is_lost() {
    let pair = Pair::new();
    let fault = Fault::Loss(Loss {
        traffic: traffic(&["10.9.0.2/32"], Direction::Both),
        per_million: 200_000,
    });
    let held = Held::start(&pair.h1, task(fault, 7, 20_000, 60_000)).held();
    let out = pair.h1.run(|| {
        std::process::Command::new("ping")
            .args(["-q", "-i", "0.002", "-c", "600", "-W", "1", "10.9.0.2"])
            .output()
            .unwrap()
    });
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let lost: f64 = text
        .split_whitespace()
        .find_map(|w| w.strip_suffix('%'))
        .and_then(|w| w.parse().ok())
        .unwrap_or_else(|| panic!("{text}"));
    // Both ways at 20 %: 36 % of echoes.
    assert!((26.0..46.0).contains(&lost), "{lost} %");
    held.holder.lift();
    held.gone(2_000);
}

#[test]
fn sigkill_of_the_holder_heals_within_a_second_and_leaves_nothing() {
    let pair = Pair::new();
    let before = pair.h1.snapshot();
    let held = Held::start(&pair.h1, task(both(), 8, 30_000, 60_000)).held();
    assert_eq!(pair.ways(v4(), None), (false, false));
    held.holder.kill();
    held.gone(1_000);
    until(1_000, || pair.h1.snapshot() == before);
    assert_eq!(pair.ways(v4(), None), (true, true));
}

#[test]
fn a_frozen_holder_heals_at_the_end_of_its_lease() {
    let pair = Pair::new();
    let before = pair.h1.snapshot();
    let held = Held::start(&pair.h1, task(both(), 9, 4_000, 60_000)).held();
    kill(Pid::from_raw(held.holder.pid() as i32), Signal::SIGSTOP).unwrap();
    assert_eq!(pair.ways(v4(), None), (false, false));
    until(4_500, || pair.udp("10.9.0.2", None));
    until(1_000, || pair.h1.snapshot() == before);
    held.gone(1_000);
}

#[test]
fn the_parents_death_the_pipes_end_and_the_deadline_end_it() {
    let pair = Pair::new();
    let before = pair.h1.snapshot();
    let held = Held::start(&pair.h1, task(both(), 10, 30_000, 60_000)).held();
    drop(held.spawner);
    until(1_000, || pair.h1.snapshot() == before);

    let held = Held::start(&pair.h1, task(both(), 11, 30_000, 60_000)).held();
    drop(held.holder);
    until(1_000, || pair.h1.snapshot() == before);

    let held = Held::start(&pair.h1, task(both(), 12, 30_000, 1_200)).held();
    let lifted = (0..100).find_map(|_| match held.next(3_000) {
        Some(HolderEvent::Report(HolderReport::Lifted(..))) => Some(true),
        Some(HolderEvent::Gone { .. }) => Some(false),
        _ => None,
    });
    // The kernel's timer and the holder's own wait for the same instant: either may win.
    assert!(lifted.is_some());
    until(1_000, || pair.h1.snapshot() == before);
}

#[test]
fn two_compose_and_one_goes_without_the_other() {
    let pair = Pair::new();
    let first = Held::start(&pair.h1, task(both(), 13, 5_000, 60_000)).held();
    let second =
        Held::start(&pair.h1, task(cut(&["10.9.0.2/32"], Direction::In), 14, 5_000, 60_000));
    second.next(5_000);
    first.holder.lift();
    first.gone(2_000);
    assert_eq!(pair.ways(v4(), None), (true, false));
    pair.h1.run(|| {
        let flush = std::process::Command::new("nft").args(["flush", "ruleset"]).output();
        drop(flush);
    });
    assert_eq!(pair.ways(v4(), None), (true, false), "a foreign flush removes nothing of ours");
    second.holder.lift();
    second.gone(2_000);
    assert_eq!(pair.ways(v4(), None), (true, true));
}

#[test]
fn loss_and_partition_of_one_peer_go_one_by_one() {
    for cut_first in [true, false] {
        let pair = Pair::new();
        let before = pair.h1.snapshot();
        let peers = traffic(&["10.9.0.2/32"], Direction::Both);
        let lossy = Fault::Loss(Loss { traffic: peers, per_million: 500_000 });
        let number = if cut_first { 23 } else { 25 };
        let lossy = Held::start(&pair.h1, task(lossy, number, 20_000, 60_000)).held();
        // What the loss takes, the cut does not see.
        let cut = Held::start(&pair.h1, task(both(), number + 1, 20_000, 60_000));
        assert!(matches!(cut.next(5_000), Some(HolderEvent::Report(HolderReport::Held(_)))));
        assert_eq!(pair.ways(v4(), None), (false, false));
        let arrive = || (0..40).filter(|_| pair.udp("10.9.0.2", None)).count();
        if cut_first {
            cut.lift();
            // Of three datagrams one arrives mostly, and not always, each way.
            let some = arrive();
            assert!((1..40).contains(&some), "{some} of 40 arrive");
            lossy.lift();
        } else {
            lossy.lift();
            assert_eq!(pair.ways(v4(), None), (false, false));
            cut.lift();
        }
        assert_eq!(arrive(), 40);
        until(1_000, || pair.h1.snapshot() == before);
    }
}

#[test]
fn what_was_half_put_in_place_is_taken_back() {
    for lossy in [true, false] {
        let pair = Pair::new();
        let peers = traffic(&["10.9.0.2/32"], Direction::Both);
        let fault = match lossy {
            true => Fault::Loss(Loss { traffic: peers, per_million: 500_000 }),
            false => both(),
        };
        let hold = task(fault, 27, 20_000, 60_000);
        let tag = hold.id.tag();
        // The table for what arrives can be made; the two ways for what leaves are taken by somebody.
        for table in [format!("netdev {tag}"), format!("inet {tag}o")] {
            pair.h1.run(move || {
                let rule = format!("add table {table}");
                let nft = std::process::Command::new("nft").arg(rule).status().unwrap();
                assert!(nft.success());
            });
        }
        let before = pair.h1.snapshot();
        let held = Held::start(&pair.h1, hold);
        let why = held.failed().to_string();
        assert!(why.contains("output hook"), "{why}");
        held.gone(2_000);
        until(1_000, || pair.h1.snapshot() == before);
        assert_eq!(pair.ways(v4(), None), (true, true));
    }
}

#[test]
fn renewals_leak_no_packet() {
    let pair = Pair::new();
    let held = Held::start(&pair.h1, task(both(), 15, 2_000, 60_000)).held();
    let flood = pair.h1.run(|| {
        std::process::Command::new("ping")
            .args(["-q", "-i", "0.002", "-w", "5", "10.9.0.2"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    });
    for _ in 0..25 {
        std::thread::sleep(Duration::from_millis(200));
        held.holder.renew(soon(2_000));
    }
    let out = flood.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains(" 0 received"), "{text}");
    held.holder.lift();
    held.gone(2_000);
}

#[test]
fn an_idle_spawners_holder_stays() {
    let pair = Pair::new();
    let held = Held::start(&pair.h1, task(both(), 16, 20_000, 60_000)).held();
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(pair.ways(v4(), None), (false, false));
    held.holder.lift();
    held.gone(2_000);
}

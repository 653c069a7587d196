//! What the rules of a network fault match, packet by packet.

use std::net::UdpSocket;
use std::time::Duration;

use squall_core::fault::{Direction, Fault, Loss, Partition, Ports, Protocol, Traffic};

use crate::bench::{Held, Pair, TestHost, task, traffic};

/// How many of 2,000 datagrams get from a port of h1 to one of h2.
fn arriving(pair: &Pair, from: u16, to: u16) -> usize {
    let a = pair.h1.run(move || UdpSocket::bind(("10.9.0.1", from)).unwrap());
    let b = pair.h2.run(move || UdpSocket::bind(("10.9.0.2", to)).unwrap());
    b.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut arrived = 0;
    for _ in 0..40 {
        for _ in 0..50 {
            a.send_to(&[1], b.local_addr().unwrap()).unwrap();
        }
        // What has not been read by then stays in the socket's buffer.
        b.set_nonblocking(true).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        while b.recv(&mut [0; 8]).is_ok() {
            arrived += 1;
        }
    }
    arrived
}

#[test]
fn a_packet_is_drawn_once_whatever_it_matches() {
    let range = |from, to| Ports { from, to };
    let all = traffic(&["10.9.0.2/32", "10.9.0.0/24", "10.9.0.0/16"], Direction::Out);
    let cases = [
        // Both its ports are among them, one of them several times, and its peer stands in three sets.
        (vec![range(7_946, 7_946)], traffic(&["10.9.0.2/32"], Direction::Out)),
        (vec![range(7_000, 8_000), range(7_900, 7_999)], traffic(&["10.9.0.2/32"], Direction::Out)),
        (vec![], all),
    ];
    for (ports, traffic) in cases {
        let pair = Pair::new();
        let words = format!("{ports:?} {traffic:?}");
        let fault =
            Fault::Loss(Loss { traffic: Traffic { ports, ..traffic }, per_million: 200_000 });
        let held = Held::start(&pair.h1, task(fault, 28, 20_000, 60_000));
        let measured = held.achieved().measured;
        let probes = measured.split(' ').find_map(|word| word.parse::<u32>().ok());
        // 500, and what else this host had to say.
        assert!(probes.is_some_and(|n| (500..550).contains(&n)), "{measured}");
        let lost = 2_000 - arriving(&pair, 7_946, 7_946);
        // Of a fair draw of 20 % the deviation is 18 of 2,000.
        assert!((300..500).contains(&lost), "{lost} of 2,000 lost: {words}");
        held.lift();
    }
}

#[test]
fn no_service_gets_a_probe() {
    let pair = Pair::new();
    let listen = |host: &TestHost, at: &'static str| {
        let socket = host.run(move || UdpSocket::bind((at, 7_946)).unwrap());
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let services =
        [listen(&pair.h1, "0.0.0.0"), listen(&pair.h2, "10.9.0.2"), listen(&pair.h2, "fd09::2")];
    let traffic = Traffic {
        ports: vec![Ports { from: 7_946, to: 7_946 }],
        ..traffic(&["10.9.0.2/32", "fd09::2/128"], Direction::Both)
    };
    let held = Held::start(
        &pair.h1,
        task(Fault::Loss(Loss { traffic, per_million: 200_000 }), 29, 20_000, 60_000),
    )
    .held();
    std::thread::sleep(Duration::from_millis(100));
    for service in services {
        let got = service.recv_from(&mut [0; 64]);
        assert!(got.is_err(), "{got:?} at {:?}", service.local_addr());
    }
    held.lift();
}

#[test]
fn a_firewall_that_drops_what_is_invalid_keeps_no_probe_from_the_rules() {
    let pair = Pair::new();
    for words in [
        "nft add table inet fw",
        "nft add chain inet fw out { type filter hook output priority 0 ; }",
        "nft add rule inet fw out ct state invalid drop",
    ] {
        pair.h1.sh(words);
    }
    for (number, protocol) in [(31, Protocol::Udp), (32, Protocol::Tcp)] {
        let traffic = Traffic {
            protocol: Some(protocol),
            ..traffic(&["10.9.0.2/32", "fd09::2/128"], Direction::Both)
        };
        let fault = Fault::Partition(Partition { traffic, severed: vec![] });
        let held = Held::start(&pair.h1, task(fault, number, 20_000, 60_000));
        let achieved = held.achieved();
        assert!(achieved.measured.contains("8 of 8 probes lost in"), "{protocol:?} {achieved:?}");
        held.lift();
    }
}

#[test]
fn a_way_on_which_nobody_could_be_cut_off_is_none() {
    let pair = Pair::new();
    let fault = Fault::Partition(Partition {
        traffic: traffic(&["10.9.0.2/32"], Direction::Out),
        // The one coordinator lives on this host.
        severed: vec!["10.9.0.1/32".parse().unwrap()],
    });
    let held = Held::start(&pair.h1, task(fault, 33, 20_000, 60_000)).held();
    held.lift();
}

#[test]
fn a_protected_port_passes_in_fragments_too() {
    let pair = Pair::new();
    let traffic = traffic(&["10.9.0.2/32", "fd09::2/128"], Direction::Both);
    let fault = Fault::Partition(Partition { traffic, severed: vec![] });
    let mut hold = task(fault, 30, 20_000, 60_000);
    hold.protect.ports = vec![(Protocol::Udp, 5_300)];
    let held = Held::start(&pair.h1, hold).held();
    for (near, far) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")] {
        for (port, passes) in [(5_300, true), (5_301, false)] {
            let a = pair.h1.run(move || UdpSocket::bind((near, port)).unwrap());
            let b = pair.h2.run(move || UdpSocket::bind((far, port)).unwrap());
            for (from, to) in [(&a, &b), (&b, &a)] {
                to.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                from.send_to(&[7; 4_000], to.local_addr().unwrap()).unwrap();
                let got = to.recv(&mut [0; 5_000]);
                assert_eq!(got.is_ok(), passes, "{far} port {port}: {got:?}");
            }
        }
    }
    held.lift();
}

//! Packets are said to be lost only where some were seen to be, each way that was asked for.

use squall_core::fault::{Direction, Fault, Loss, Partition};
use squall_core::hold::{Achieved, HolderReport};
use squall_faults::holder::HolderEvent;

use crate::bench::{Held, Pair, task, traffic, until};

fn cut(peers: &[&str], direction: Direction) -> Fault {
    Fault::Partition(Partition { traffic: traffic(peers, direction), severed: vec![] })
}

/// Puts the fault in place; what it says of its effect.
fn start(pair: &Pair, fault: Fault, number: u128) -> (Held, Achieved) {
    let held = Held::start(&pair.h1, task(fault, number, 20_000, 60_000));
    match held.next(8_000) {
        Some(HolderEvent::Report(HolderReport::Held(achieved))) => (held, achieved),
        other => panic!("not held: {other:?}"),
    }
}

/// Every fault here is another one, with nothing to disturb it.
fn alone(peers: &[&str], direction: Direction, number: u128) -> Achieved {
    let pair = Pair::new();
    let (held, achieved) = start(&pair, cut(peers, direction), number);
    let lifted = held.lift();
    assert_eq!(lifted.bit, achieved.bit, "{lifted:?}");
    achieved
}

#[test]
fn a_peer_that_is_not_there_is_not_cut_off() {
    for (number, nobody) in [(220, "10.9.0.77/32"), (221, "fd09::77/128")] {
        let said = alone(&[nobody], Direction::Both, number);
        assert!(!said.bit && said.measured.starts_with("4 of 4 probes lost in"), "{said:?}");
        assert!(said.note.contains("out: no probe reached the rules"), "{said:?}");
    }
    let loss = Loss { traffic: traffic(&["10.9.0.77/32"], Direction::Both), per_million: 500_000 };
    let pair = Pair::new();
    let (held, said) = start(&pair, Fault::Loss(loss), 222);
    assert!(!said.bit && !held.lift().bit, "{said:?}");
    // What would come from there is lost: that is all that was asked for.
    assert!(alone(&["10.9.0.77/32"], Direction::In, 223).bit);
}

#[test]
fn where_there_is_no_way_out_nothing_is_seen_to_be_lost_on_it() {
    let said = alone(&["192.0.2.1/32", "2001:db8::1/128"], Direction::Both, 224);
    assert!(!said.bit && said.note.contains("out: no route to 192.0.2.1"), "{said:?}");
}

#[test]
fn one_peer_that_is_there_is_enough() {
    let some = ["10.9.0.77/32", "192.0.2.1/32", "fd09::2/128", "fd09::77/128"];
    let said = alone(&some, Direction::Both, 225);
    assert!(said.bit, "{said:?}");
    let many: Vec<String> = (70..76).map(|n| format!("10.9.0.{n}/32")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    many.push("10.9.0.2/32");
    let said = alone(&many, Direction::Both, 226);
    assert!(said.bit, "{said:?}");
}

#[test]
fn what_is_lost_later_counts_and_probes_do_not() {
    let pair = Pair::new();
    let (held, said) = start(&pair, cut(&["10.9.0.2/32"], Direction::Both), 227);
    assert!(said.bit, "{said:?}");
    let lifted = held.lift();
    assert!(lifted.measured.ends_with("; 0 packets lost"), "{lifted:?}");

    let (held, said) = start(&pair, cut(&["10.9.0.77/32"], Direction::Both), 228);
    assert!(!said.bit, "{said:?}");
    pair.h2.sh("ip addr add 10.9.0.77/24 dev v2");
    let mut later = said;
    until(8_000, || {
        assert_eq!(pair.ways("10.9.0.77".parse().unwrap(), None), (false, false));
        if let Some(HolderEvent::Report(HolderReport::Measured(said))) = held.next(300) {
            later = said;
        }
        later.bit
    });
    assert!(held.lift().bit);
}

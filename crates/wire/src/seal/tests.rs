use proptest::prelude::*;

use super::*;

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

#[test]
fn a_sealed_payload_opens_once_and_names_its_sender() {
    let key = GossipKey::create();
    let mut sealer = Sealer::new(key.clone(), host("h1"), 5);
    let mut opener = Opener::new(key);
    let datagram = sealer.seal(b"beat");
    assert_eq!(opener.open(&datagram), Ok((host("h1"), b"beat".to_vec())));
    assert_eq!(opener.open(&datagram), Err(SealError::Replayed));
    assert_eq!(opener.counts(), SealCounts { opened: 1, replayed: 1, ..SealCounts::default() });
}

#[test]
fn order_does_not_matter_within_the_window() {
    let key = GossipKey::create();
    let mut sealer = Sealer::new(key.clone(), host("h1"), 5);
    let mut opener = Opener::new(key);
    let first = sealer.seal(b"1");
    let second = sealer.seal(b"2");
    assert!(opener.open(&second).is_ok());
    assert!(opener.open(&first).is_ok());
    assert_eq!(opener.open(&first), Err(SealError::Replayed));
    let late = sealer.seal(b"late");
    for _ in 0..4096 {
        assert!(opener.open(&sealer.seal(b"")).is_ok());
    }
    assert_eq!(opener.open(&late), Err(SealError::Replayed), "too old to say");
}

#[test]
fn a_strangers_key_and_every_changed_byte_are_refused() {
    let key = GossipKey::create();
    let mut opener = Opener::new(key.clone());
    let stranger = Sealer::new(GossipKey::create(), host("h1"), 5).seal(b"beat");
    assert_eq!(opener.open(&stranger), Err(SealError::Forged));
    let datagram = Sealer::new(key, host("h1"), 5).seal(b"beat");
    for at in 0..datagram.len() {
        let mut changed = datagram.clone();
        changed[at] ^= 1;
        assert_eq!(opener.open(&changed), Err(SealError::Forged), "byte {at}");
        assert_eq!(opener.open(&datagram[..at]), Err(SealError::Forged), "cut at {at}");
    }
    assert!(opener.open(&datagram).is_ok(), "forgeries changed nothing");
}

#[test]
fn an_earlier_life_is_refused_once_a_later_one_spoke() {
    let key = GossipKey::create();
    let mut opener = Opener::new(key.clone());
    let mut old = Sealer::new(key.clone(), host("h1"), 5);
    let mut new = Sealer::new(key.clone(), host("h1"), 6);
    assert!(opener.open(&old.seal(b"")).is_ok());
    assert!(opener.open(&new.seal(b"")).is_ok());
    assert_eq!(opener.open(&old.seal(b"")), Err(SealError::OlderRun));
    assert!(opener.open(&Sealer::new(key, host("h2"), 1).seal(b"")).is_ok(), "another sender");
}

#[test]
fn senders_are_bounded_and_who_speaks_is_remembered() {
    let key = GossipKey::create();
    let mut opener = Opener::new(key.clone());
    let from = |name: &str| Sealer::new(key.clone(), host(name), 1).seal(b"");
    let (first, silent) = (from("h0"), from("h1"));
    let mut speaks = Sealer::new(key.clone(), host("h0"), 2);
    assert!(opener.open(&first).is_ok() && opener.open(&silent).is_ok());
    for n in 2..MAX_SENDERS {
        assert!(opener.open(&from(&format!("h{n}"))).is_ok());
    }
    assert!(opener.open(&speaks.seal(b"")).is_ok());
    assert!(opener.open(&from("one-more")).is_ok());
    assert_eq!(opener.senders.len(), MAX_SENDERS);
    assert_eq!(opener.open(&first), Err(SealError::OlderRun), "it spoke since");
    assert!(opener.open(&silent).is_ok(), "it was forgotten");
}

#[test]
fn the_overhead_is_what_it_says() {
    let long = host(&"h".repeat(63));
    for payload in [0, 1, 250, 251, 1200, 60_000] {
        let mut sealer = Sealer::new(GossipKey::create(), long.clone(), u64::MAX);
        let sealed = sealer.seal(&vec![7; payload]).len();
        assert!(sealed <= payload + OVERHEAD, "{payload} became {sealed}");
    }
}

proptest! {
    #[test]
    fn hostile_datagrams_are_forgeries(mut bytes in any::<Vec<u8>>()) {
        let mut opener = Opener::new(GossipKey::create());
        prop_assert_eq!(opener.open(&bytes), Err(SealError::Forged));
        bytes.insert(0, FORMAT);
        prop_assert_eq!(opener.open(&bytes), Err(SealError::Forged));
    }
}

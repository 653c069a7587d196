//! Seeing it bite: packets of our own against the counters of our own rules.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;
use squall_core::fault::Protocol;
use squall_core::hold::Protect;

use super::{CUT, Loss, SEVER};
use crate::sys::nft::{Nft, Table};
use crate::sys::raw::{self, Packet};

/// Peers that are probed, at most.
const PEERS: usize = 4;
/// Probes a peer and direction where every packet should vanish.
const ALL: u64 = 4;
/// Probes a direction where a share should.
const SHARE: u64 = 500;
/// The discard service: where nothing is expected to listen.
const DISCARD: u16 = 9;
/// What is said where every peer is spared.
const NOTHING: &str = "nothing to cut: every peer is this host itself or protected by its policy";
/// How long a neighbour may take to be found before packets to it reach the rules.
const SETTLE_MS: u64 = 300;

/// What the probes showed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Packets were lost as they should be.
    pub bit: bool,
    /// Packets that should have been lost were not, or too many were.
    pub wrong: bool,
    pub words: String,
    pub note: String,
}

/// Sends probes each way and reads what the rules counted.
pub(super) fn run(
    nft: &mut Nft,
    sides: &[(Table, bool)],
    protect: &Protect,
    loss: &Loss<'_>,
) -> io::Result<Seen> {
    let partial = loss.per_million.filter(|n| *n < 1_000_000);
    let mut seen = Seen::default();
    let mut words = Vec::new();
    let mut notes = Vec::new();
    let mut bitten = 0;
    let far_ends = |peers: &[IpNet]| -> Vec<IpAddr> {
        peers.iter().filter_map(|p| far_end(p, &protect.peers)).take(PEERS).collect()
    };
    let far_ends = [far_ends(&loss.traffic.peers), far_ends(loss.severed)].concat();
    if far_ends.is_empty() {
        seen.note = NOTHING.into();
        return Ok(seen);
    }
    let each = partial.map_or(ALL, |_| SHARE.div_ceil(far_ends.len() as u64));
    for (table, inbound) in sides {
        let way = if *inbound { "in" } else { "out" };
        let before = totals(nft, table)?;
        let mut sent = 0;
        for far in &far_ends {
            sent += probe(*far, *inbound, loss, protect, each, &mut notes);
        }
        if sent == 0 {
            notes.push(format!("{way}: no probe could be sent"));
            continue;
        }
        let (matched, lost) = await_counts(nft, table, before, sent)?;
        let as_asked = match partial {
            None => lost == matched,
            Some(asked) => plausible(asked, matched, lost),
        };
        if matched == 0 {
            notes.push(format!("{way}: no probe reached the rules (is the peer there?)"));
        } else if !as_asked {
            seen.wrong = true;
        } else if lost == 0 {
            notes.push(format!("{way}: too few probes for a share so small: none was lost yet"));
        } else {
            bitten += 1;
        }
        words.push(match partial {
            None => format!("{lost} of {matched} probes lost {way}"),
            Some(_) => format!("{:.1} % of {matched} probes {way}", percent(lost, matched)),
        });
    }
    seen.bit = bitten > 0 && !seen.wrong;
    seen.words = words.join(", ");
    seen.note = notes.join("; ");
    Ok(seen)
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Losses to be expected from which on none at all is no chance any more: that happens to a fair draw
/// once in 20,000 times.
const MANY: f64 = 10.0;

/// Within five standard deviations of a fair draw, and one loss at least where [`MANY`] were to be
/// expected: five deviations alone would let no loss at all pass for 5 percent of 500.
fn plausible(asked_ppm: u32, matched: u64, lost: u64) -> bool {
    let share = f64::from(asked_ppm) / 1e6;
    let expected = share * matched as f64;
    let spread = (expected * (1.0 - share)).sqrt();
    (lost > 0 || expected < MANY) && (lost as f64 - expected).abs() <= 5.0 * spread + 1.0
}

/// Packets that matched so far, and packets that were lost.
pub(super) fn totals(nft: &mut Nft, table: &Table) -> io::Result<(u64, u64)> {
    let mut rules = nft.counters(table, CUT)?;
    // A chain that is not there, where nothing is severed, has no counters.
    rules.extend(nft.counters(table, SEVER)?);
    let sum = |pick: fn(&[u64]) -> Option<&u64>| rules.iter().filter_map(|r| pick(r)).sum();
    Ok((sum(|r| r.first()), sum(|r| r.last())))
}

/// Waits until all probes were counted, or for [`SETTLE_MS`]. Other packets count as well: what is
/// asked is whether what matched was lost.
fn await_counts(
    nft: &mut Nft,
    table: &Table,
    before: (u64, u64),
    sent: u64,
) -> io::Result<(u64, u64)> {
    let mut waited = 0;
    loop {
        let now = totals(nft, table)?;
        let counted = (now.0 - before.0, now.1 - before.1);
        if counted.0 >= sent || waited >= SETTLE_MS {
            return Ok(counted);
        }
        std::thread::sleep(Duration::from_millis(10));
        waited += 10;
    }
}

/// The first host of a network that is not spared. Each step leaps over one that is.
fn far_end(peer: &IpNet, spared: &[IpNet]) -> Option<IpAddr> {
    let last = peer.hosts().last()?;
    // The first address of an IPv6 network is its routers', and this host may be one.
    let routers = peer.addr().is_ipv6() && peer.prefix_len() < 127;
    let mut far = peer.hosts().nth(usize::from(routers))?;
    while let Some(over) = spared.iter().filter(|s| s.contains(&far)).map(IpNet::broadcast).max() {
        far = next(over).filter(|a| *a <= last)?;
    }
    Some(far)
}

fn next(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits().checked_add(1)?).into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits().checked_add(1)?).into(),
    })
}

/// Sends `wanted` probes of one far end and direction; returns how many went.
fn probe(
    far: IpAddr,
    inbound: bool,
    loss: &Loss<'_>,
    protect: &Protect,
    wanted: u64,
    notes: &mut Vec<String>,
) -> u64 {
    let protocol = loss.traffic.protocol.unwrap_or(Protocol::Udp);
    let port = loss.traffic.ports.first().map_or(DISCARD, |p| p.from);
    let port = free_of_protection(port, loss, protect, protocol);
    let loopback: IpAddr = match far {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let packet = if inbound {
        Packet { from: far, to: loopback, protocol, port }
    } else {
        let Some(near) = source_towards(far) else {
            notes.push(format!("out: no route to {far}"));
            return 0;
        };
        Packet { from: near, to: far, protocol, port }
    };
    let mut sent = 0;
    for number in 0..wanted {
        match raw::send(&packet) {
            Ok(()) => sent += 1,
            // The output hook tells the sender: lost all the same.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => sent += 1,
            Err(error) => {
                let way = if inbound { "in" } else { "out" };
                notes.push(format!("{way}: {far}: {error}"));
                break;
            }
        }
        // A neighbour that is not known yet keeps only a few packets for later.
        if !inbound && number == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    sent
}

fn free_of_protection(wanted: u16, loss: &Loss<'_>, protect: &Protect, protocol: Protocol) -> u16 {
    let protected = |port| protect.ports.contains(&(protocol, port));
    let within = loss.traffic.ports.iter().flat_map(|p| p.from..=p.to).find(|p| !protected(*p));
    if protected(wanted) { within.unwrap_or(wanted) } else { wanted }
}

/// Our own address on the way to `far`.
fn source_towards(far: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match far {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, DISCARD)).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_far_end_is_the_first_that_is_not_spared() {
        let spared = ["10.0.0.1/32", "10.0.0.2/32", "10.1.0.0/16", "10.1.7.0/24", "::1/128"];
        let spared = spared.map(|n| n.parse().unwrap());
        for (peer, far) in [
            ("10.0.0.0/24", Some("10.0.0.3")),
            ("10.0.0.0/30", None),
            ("10.0.0.1/32", None),
            ("10.0.0.9/32", Some("10.0.0.9")),
            ("10.1.0.0/15", Some("10.0.0.3")),
            ("10.1.7.0/24", None),
            ("0.0.0.0/0", Some("0.0.0.1")),
            ("::/0", Some("::2")),
            ("fd09::/64", Some("fd09::1")),
            ("fd09::4/127", Some("fd09::4")),
            ("fd09::4/128", Some("fd09::4")),
            ("::1/128", None),
        ] {
            let found = far_end(&peer.parse().unwrap(), &spared);
            assert_eq!(found, far.map(|a| a.parse().unwrap()), "{peer}");
        }
    }

    #[test]
    fn a_share_that_no_fair_draw_makes_is_not_plausible() {
        for (asked_ppm, matched, lost, is_so) in [
            (200_000, 500, 100, true),
            (200_000, 500, 146, false),
            (200_000, 500, 0, false),
            // Five deviations from 25 reach down to nothing.
            (50_000, 500, 0, false),
            (50_000, 500, 1, true),
            (1_000, 500, 0, true),
            (1_000, 500, 9, false),
        ] {
            assert_eq!(plausible(asked_ppm, matched, lost), is_so, "{asked_ppm} {matched} {lost}");
        }
    }
}

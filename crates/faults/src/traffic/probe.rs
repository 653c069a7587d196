//! Seeing it bite: packets of our own against the counters of our own rules.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;
use squall_core::fault::{Ports, Protocol, Traffic};
use squall_core::hold::Protect;

use super::{LOST, Loss};
use crate::sys::nft::{Nft, Table};
use crate::sys::raw::{self, Packet};

/// Peers that are probed at once, at most; as many severed ones beside them.
const PEERS: usize = 4;
/// How many times others are tried, where none of those reaches the rules on its way out.
const TRIES: usize = 3;
/// Probes a peer and direction where every packet should vanish.
const ALL: u64 = 4;
/// Probes a direction where a share should.
const SHARE: u64 = 500;
/// The port that a policy spares unless it says otherwise.
const SSH: (Protocol, u16) = (Protocol::Tcp, 22);
/// Ports that are named as spared, at most.
const SPARED: usize = 8;
/// The discard service: where nothing is expected to listen.
const DISCARD: u16 = 9;
/// What is said where every peer is spared.
const NOTHING: &str = "nothing to cut: every peer is this host itself or protected by its policy";
/// How long a neighbour may take to be found before packets to it reach the rules.
const SETTLE_MS: u64 = 300;

/// What the probes showed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// For each side, whether packets were lost as they should be.
    pub bit: Vec<bool>,
    /// Packets that should have been lost were not, or too many were.
    pub wrong: bool,
    pub words: String,
    pub note: String,
}

/// Sends probes each way and reads what the rules counted. `policy` are those of the spared peers that the
/// host's policy names. What comes in is made here and claims to be from
/// a peer; what goes out is for a peer, and one that is not there has no way to the rules.
pub(super) fn run(
    nft: &mut Nft,
    sides: &[(Table, bool)],
    protect: &Protect,
    policy: &[IpNet],
    loss: &Loss<'_>,
) -> io::Result<Seen> {
    let mut seen = Seen { bit: vec![false; sides.len()], ..Seen::default() };
    if far_ends(&[&loss.traffic.peers, loss.severed].concat(), protect).next().is_none() {
        seen.note = NOTHING.into();
        return Ok(seen);
    }
    let partial = loss.per_million.filter(|n| *n < 1_000_000);
    let mut words = Vec::new();
    let mut notes: Vec<String> = spared(loss.traffic, &protect.ports).into_iter().collect();
    notes.extend(spared_peers(&loss.traffic.peers, policy));
    for ((table, inbound), bit) in sides.iter().zip(&mut seen.bit) {
        let way = if *inbound { "in" } else { "out" };
        let mut prober = Prober { nft, table, inbound: *inbound, protect, loss, notes: Vec::new() };
        let counted = prober.probe_side()?;
        notes.extend(prober.notes.into_iter().map(|note| format!("{way}: {note}")));
        let Some((matched, lost)) = counted else { continue };
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
            *bit = true;
        }
        words.push(match partial {
            None => format!("{lost} of {matched} probes lost {way}"),
            Some(_) => format!("{:.1} % of {matched} probes {way}", percent(lost, matched)),
        });
    }
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
    let rules = nft.counters(table, LOST)?;
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

/// A host of each peer that is not spared.
pub(super) fn far_ends<'a>(
    peers: &'a [IpNet],
    protect: &'a Protect,
) -> impl Iterator<Item = IpAddr> + 'a {
    peers.iter().filter_map(|peer| far_end(peer, &protect.peers))
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

/// Probes one direction.
struct Prober<'a> {
    nft: &'a mut Nft,
    table: &'a Table,
    inbound: bool,
    protect: &'a Protect,
    loss: &'a Loss<'a>,
    notes: Vec<String>,
}

impl Prober<'_> {
    /// Packets that matched and that were lost; `None` where none could be sent.
    fn probe_side(&mut self) -> io::Result<Option<(u64, u64)>> {
        let cut = self.loss.traffic.direction.covers(self.inbound);
        let peers = if cut { self.loss.traffic.peers.as_slice() } else { &[] };
        let groups = [self.ends(peers), self.ends(self.loss.severed)];
        let tries = if self.inbound { 1 } else { TRIES };
        let mut found = None;
        for number in 0..tries {
            let group = |ends: &[(IpAddr, IpAddr)]| -> Vec<(IpAddr, IpAddr)> {
                ends.iter().skip(number * PEERS).take(PEERS).copied().collect()
            };
            let ends = groups.each_ref().map(|ends| group(ends)).concat();
            if ends.is_empty() || found.is_some_and(|(matched, _)| matched > 0) {
                break;
            }
            found = self.probe_all(&ends)?.or(found);
        }
        if found.is_none() {
            self.notes.push("no probe could be sent".to_owned());
        }
        Ok(found)
    }

    /// Whom packets of these peers are from and for, as many as may be tried. Out, only those to which
    /// there is a way.
    fn ends(&mut self, peers: &[IpNet]) -> Vec<(IpAddr, IpAddr)> {
        let mut unreached = None;
        let pair = |far: IpAddr| {
            if self.inbound {
                let loopback: IpAddr = match far {
                    IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                };
                return Some((far, loopback));
            }
            let near = source_towards(far);
            if near.is_none() {
                unreached.get_or_insert(far);
            }
            Some((near?, far))
        };
        let ends = far_ends(peers, self.protect).filter_map(pair);
        let ends: Vec<(IpAddr, IpAddr)> = ends.take(PEERS * TRIES).collect();
        if let Some(far) = unreached {
            self.notes.push(format!("no route to {far}"));
        }
        ends
    }

    fn probe_all(&mut self, ends: &[(IpAddr, IpAddr)]) -> io::Result<Option<(u64, u64)>> {
        let partial = self.loss.per_million.filter(|n| *n < 1_000_000);
        let each = partial.map_or(ALL, |_| SHARE.div_ceil(ends.len() as u64));
        let before = totals(self.nft, self.table)?;
        let sent = ends.iter().map(|(from, to)| self.send(*from, *to, each)).sum();
        if sent == 0 {
            Ok(None)
        } else {
            await_counts(self.nft, self.table, before, sent).map(Some)
        }
    }

    /// Sends `wanted` probes; returns how many went.
    fn send(&mut self, from: IpAddr, to: IpAddr, wanted: u64) -> u64 {
        let (protocol, port) = unprotected(self.loss.traffic, &self.protect.ports);
        let packet = Packet { from, to, protocol, port };
        let mut sent = 0;
        for number in 0..wanted {
            match raw::send(&packet) {
                Ok(()) => sent += 1,
                // The output hook tells the sender: lost all the same.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => sent += 1,
                Err(error) => {
                    let far = if self.inbound { from } else { to };
                    self.notes.push(format!("{far}: {error}"));
                    break;
                }
            }
            // A neighbour that is not known yet keeps only a few packets for later.
            if !self.inbound && number == 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        sent
    }
}

/// Which of the ports that were asked for nothing happens to, in words.
fn spared(traffic: &Traffic, protected: &[(Protocol, u16)]) -> Option<String> {
    // Where every port is meant, nobody means the one that is always spared.
    let every = traffic.ports.is_empty();
    let asked = |(protocol, port): &&(Protocol, u16)| {
        traffic.protocol.is_none_or(|one| one == *protocol)
            && if every {
                (*protocol, *port) != SSH
            } else {
                traffic.ports.iter().any(|ports| (ports.from..=ports.to).contains(port))
            }
    };
    let word = |(protocol, port): &(Protocol, u16)| match protocol {
        Protocol::Tcp => format!("tcp/{port}"),
        Protocol::Udp => format!("udp/{port}"),
    };
    let mut ports: Vec<String> = protected.iter().filter(asked).map(word).collect();
    let beyond = ports.len().saturating_sub(SPARED);
    ports.truncate(SPARED);
    let more = if beyond > 0 { format!(" and {beyond} more") } else { String::new() };
    (!ports.is_empty()).then(|| format!("the policy spares {}{more}", ports.join(", ")))
}

/// Which parts of the peers nothing happens to, in words. A peer that is spared as a whole is none: the
/// policy refuses it.
fn spared_peers(peers: &[IpNet], policy: &[IpNet]) -> Option<String> {
    let inside = |spared: &&IpNet| peers.iter().any(|peer| peer.contains(*spared));
    let nets: Vec<&IpNet> = policy.iter().filter(inside).collect();
    let named = nets.iter().take(SPARED).map(|net| squall_core::net::written(net));
    let named = named.collect::<Vec<_>>().join(", ");
    let more = nets.len().saturating_sub(SPARED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!nets.is_empty()).then(|| format!("the policy spares {named}{more}"))
}

/// What a probe may be that the fault matches and nothing protects; where all is protected, one that is
/// spared like the rest.
fn unprotected(traffic: &Traffic, protected: &[(Protocol, u16)]) -> (Protocol, u16) {
    let protocols = traffic.protocol.map_or(vec![Protocol::Udp, Protocol::Tcp], |one| vec![one]);
    let any = [Ports { from: DISCARD, to: u16::MAX }];
    let ports = if traffic.ports.is_empty() { &any } else { traffic.ports.as_slice() };
    let ports = || ports.iter().flat_map(|p| p.from..=p.to);
    let all = || protocols.iter().flat_map(|one| ports().map(|port| (*one, port)));
    let free = all().find(|probe| !protected.contains(probe));
    free.or_else(|| all().next()).unwrap_or((Protocol::Udp, DISCARD))
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
    fn a_probe_is_one_that_nothing_protects() {
        use Protocol::{Tcp, Udp};
        let port_53 = [Ports { from: 53, to: 53 }];
        let some = [Ports { from: 9, to: 10 }];
        let cases: [(&[Ports], _, &[_], _); 6] = [
            (&[], None, &[], (Udp, 9)),
            (&[], None, &[(Udp, 9)], (Udp, 10)),
            (&port_53, None, &[(Udp, 53)], (Tcp, 53)),
            (&port_53, Some(Udp), &[(Udp, 53)], (Udp, 53)),
            (&some, Some(Tcp), &[(Tcp, 9), (Udp, 10)], (Tcp, 10)),
            (&some, None, &[(Udp, 9), (Udp, 10), (Tcp, 9)], (Tcp, 10)),
        ];
        for (ports, protocol, protected, probe) in cases {
            let traffic = Traffic {
                peers: vec![],
                direction: squall_core::fault::Direction::Both,
                ports: ports.to_vec(),
                protocol,
            };
            assert_eq!(unprotected(&traffic, protected), probe, "{ports:?} {protected:?}");
        }
    }

    #[test]
    fn what_the_policy_spares_of_the_ports_asked_for_is_told() {
        let traffic = |from, to, protocol| Traffic {
            peers: vec![],
            direction: squall_core::fault::Direction::Both,
            ports: vec![Ports { from, to }],
            protocol,
        };
        let protected = [(Protocol::Tcp, 22), (Protocol::Udp, 53)];
        for (traffic, told) in [
            (traffic(1, 100, None), Some("the policy spares tcp/22, udp/53")),
            // Every port, and nobody asked for one by name.
            (Traffic { ports: vec![], ..traffic(1, 1, None) }, Some("the policy spares udp/53")),
            (Traffic { ports: vec![], ..traffic(1, 1, Some(Protocol::Tcp)) }, None),
            (traffic(22, 22, None), Some("the policy spares tcp/22")),
            (traffic(1, 100, Some(Protocol::Udp)), Some("the policy spares udp/53")),
            (traffic(54, 100, None), None),
        ] {
            assert_eq!(spared(&traffic, &protected).as_deref(), told, "{traffic:?}");
        }
    }

    #[test]
    fn parts_of_peers_that_the_policy_spares_are_told() {
        let nets = |texts: &[&str]| -> Vec<IpNet> {
            texts.iter().map(|text| squall_core::net::read(text).unwrap()).collect()
        };
        for (peers, policy, told) in [
            (&["10.0.0.2", "10.0.0.3"][..], &["10.0.0.9"][..], None),
            (&["10.0.0.0/24"], &["10.0.0.3", "fd00::3"], Some("the policy spares 10.0.0.3")),
            (&["10.0.0.0/24"], &["10.0.0.8/31"], Some("the policy spares 10.0.0.8/31")),
        ] {
            let seen = spared_peers(&nets(peers), &nets(policy));
            assert_eq!(seen.as_deref(), told, "{peers:?} {policy:?}");
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

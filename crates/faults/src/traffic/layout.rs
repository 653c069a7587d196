//! How a table is laid out: what is spared, then control traffic, then ports, then peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use squall_core::fault::{Direction, Ports, Protocol};
use squall_core::hold::{CONTROL_MARK, Protect};

use super::{CUT, LOST, Loss, SEVER};
use crate::sys::nft::{Base, Change, Compare, Family, Hook, Meta, Rule, Table};

/// The chain that a hook calls, with a number behind it.
const HOOK: &str = "hook";
/// Devices of one chain, at most: the kernel refuses the 256th.
const MAX_DEVICES: usize = 255;
/// The chain that every hook's chain jumps to.
const RULES: &str = "rules";
const ICMPV6: u8 = 58;
/// The fragment header of IPv6.
const FRAGMENT: u8 = 44;
/// The sets of this host's own addresses, which come and go while a table is there.
const OWN_V4: &str = "own4";
const OWN_V6: &str = "own6";
/// Addresses of one message, at most: an attribute holds less than 64 KiB of them.
const KEYS: usize = 1_024;

/// Peers of one family and prefix length.
#[derive(Clone, Debug)]
pub(crate) struct PeerSet {
    pub name: String,
    pub keys: Vec<Vec<u8>>,
    v4: bool,
    prefix: u8,
}

/// Everything that both directions' tables have alike.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    peers: Vec<PeerSet>,
    /// Which way peers are cut off.
    direction: Direction,
    /// The coordinators, where control is severed: both ways.
    severed: Vec<PeerSet>,
    ports: Vec<Ports>,
    protocols: Vec<Protocol>,
    all_ports: bool,
    protected: Vec<(Protocol, u16)>,
    spared: Vec<PeerSet>,
    per_million: Option<u32>,
}

impl Layout {
    /// `own` are this host's addresses, and `protect` is what the policy does.
    pub(crate) fn new(protect: &Protect, own: &BTreeSet<IpAddr>, loss: &Loss<'_>) -> Layout {
        let protocols = match loss.traffic.protocol {
            Some(one) => vec![one],
            None => vec![Protocol::Tcp, Protocol::Udp],
        };
        Layout {
            peers: peer_sets("", &loss.traffic.peers),
            direction: loss.traffic.direction,
            severed: peer_sets("c", loss.severed),
            ports: loss.traffic.ports.clone(),
            all_ports: loss.traffic.ports.is_empty() && loss.traffic.protocol.is_none(),
            protocols,
            protected: protect.ports.clone(),
            spared: peer_sets("s", &protect.peers).into_iter().chain(own_sets(own)).collect(),
            per_million: loss.per_million,
        }
    }

    /// Those of one way whose elements time out.
    pub(crate) fn sets(&self, inbound: bool) -> Vec<PeerSet> {
        self.peers(inbound).iter().chain(&self.severed).cloned().collect()
    }

    /// The peers that are cut off this way. None, where only the coordinators are.
    fn peers(&self, inbound: bool) -> &[PeerSet] {
        if self.direction.covers(inbound) { &self.peers } else { &[] }
    }

    /// The batch that makes one table.
    pub(crate) fn build(
        &self,
        table: &Table,
        hook: &Hook,
        priority: i32,
        lease_ms: u64,
    ) -> Vec<Change> {
        let inbound = matches!(hook, Hook::Prerouting);
        let mut changes =
            vec![table.create(), table.chain(LOST), table.chain(CUT), table.chain(RULES)];
        changes.push(table.rule(LOST, &self.lost(table)));
        let cut = self.sets(inbound);
        for (number, set) in (1..).zip(cut.iter().chain(&self.spared)) {
            changes.push(table.address_set(&set.name, if set.v4 { 4 } else { 16 }, number));
        }
        changes.extend(cut.iter().map(|set| table.add(&set.name, &set.keys, lease_ms)));
        changes.extend(self.spared.iter().flat_map(|set| keep(table, set)));
        for rule in self.spared(table, inbound) {
            changes.push(table.rule(RULES, &rule.accept()));
        }
        changes.extend(self.control(table, inbound));
        for rule in self.gates() {
            changes.push(table.rule(RULES, &rule.goto(CUT)));
        }
        for set in self.peers(inbound) {
            let peers = far_end(table, inbound, set).lookup(&set.name);
            changes.push(table.rule(CUT, &peers.goto(LOST)));
        }
        changes.extend(attach(table, hook, priority));
        changes
    }

    /// Control traffic: exempt, or cut whatever the ports are where it is severed.
    fn control(&self, table: &Table, inbound: bool) -> Vec<Change> {
        let mark = CONTROL_MARK.to_ne_bytes();
        let marked = if inbound {
            transport(Protocol::Udp).socket_mark().cmp(Compare::Equal, &mark)
        } else {
            Rule::new().meta(Meta::Mark).cmp(Compare::Equal, &mark)
        };
        if self.severed.is_empty() {
            return vec![table.rule(RULES, &marked.accept())];
        }
        let mut changes = vec![table.chain(SEVER)];
        for set in &self.severed {
            let coordinators = far_end(table, inbound, set).lookup(&set.name);
            changes.push(table.rule(SEVER, &coordinators.goto(LOST)));
        }
        changes.push(table.rule(RULES, &Rule::new().jump(SEVER)));
        changes.push(table.rule(RULES, &marked.goto(CUT)));
        changes
    }

    /// What passes whatever is asked: what is protected, and neighbour discovery.
    fn spared(&self, table: &Table, inbound: bool) -> Vec<Rule> {
        let mut rules = vec![discovery()];
        for (protocol, port) in &self.protected {
            for offset in [0, 2] {
                let port = port.to_be_bytes();
                let ports = transport(*protocol).payload(Base::Transport, offset, 2);
                rules.push(ports.cmp(Compare::Equal, &port));
            }
        }
        let of = |one: &Protocol| self.protected.iter().any(|(protocol, _)| protocol == one);
        for protocol in [Protocol::Tcp, Protocol::Udp].iter().filter(|one| of(one)) {
            rules.extend(later_fragments(table, *protocol));
        }
        rules.extend(self.spared.iter().map(|s| far_end(table, inbound, s).lookup(&s.name)));
        rules
    }

    /// Which packets go on to the peers.
    fn gates(&self) -> Vec<Rule> {
        if self.all_ports {
            return vec![Rule::new()];
        }
        let mut rules = Vec::new();
        for protocol in &self.protocols {
            if self.ports.is_empty() {
                rules.push(transport(*protocol));
            }
            for ports in &self.ports {
                for offset in [0, 2] {
                    rules.push(
                        transport(*protocol)
                            .payload(Base::Transport, offset, 2)
                            .range(&ports.from.to_be_bytes(), &ports.to.to_be_bytes()),
                    );
                }
            }
        }
        rules
    }

    /// Packets of peers: counted, drawn by lot and counted as lost, lost. Where all are lost one counter
    /// does: two would differ by what passes while they are read. A packet comes here once, however many
    /// gates and sets it matches: it is drawn once.
    fn lost(&self, table: &Table) -> Rule {
        let mut rule = Rule::new().counter();
        if let Some(per_million) = self.per_million.filter(|n| *n < 1_000_000) {
            rule = rule.by_chance(per_million).counter();
        }
        if table.is_netdev() { rule.lose() } else { rule.drop() }
    }
}

/// Elements that stay.
fn keep(table: &Table, set: &PeerSet) -> Vec<Change> {
    set.keys.chunks(KEYS).map(|keys| table.keep(&set.name, keys)).collect()
}

/// Spares addresses that this host has got, and those no more that it has lost.
pub(crate) fn spare(table: &Table, got: &BTreeSet<IpAddr>, lost: &BTreeSet<IpAddr>) -> Vec<Change> {
    let mut changes: Vec<Change> = own_sets(got).iter().flat_map(|set| keep(table, set)).collect();
    for set in own_sets(lost) {
        // An element that is not there could not be removed.
        changes.extend(keep(table, &set));
        changes.extend(set.keys.chunks(KEYS).map(|keys| table.remove(&set.name, keys)));
    }
    changes
}

/// Lets a hook call the rules of a table, from as many chains as its devices need. Returns them in the order
/// of their numbers.
pub(crate) fn attach(table: &Table, hook: &Hook, priority: i32) -> Vec<Change> {
    let hooks: Vec<Hook> = match hook {
        Hook::Egress(devices) => {
            devices.chunks(MAX_DEVICES).map(|some| Hook::Egress(some.to_vec())).collect()
        }
        Hook::Prerouting | Hook::Output => vec![hook.clone()],
    };
    let chain = |(number, hook): (usize, &Hook)| {
        let chain = format!("{HOOK}{number}");
        [table.base_chain(&chain, hook, priority), table.rule(&chain, &Rule::new().jump(RULES))]
    };
    hooks.iter().enumerate().flat_map(chain).collect()
}

/// How many chains so many devices need.
pub(crate) fn chains(devices: usize) -> usize {
    devices.div_ceil(MAX_DEVICES)
}

/// Takes the chain with this number away. Adding it first makes the removal legal where it is gone: a
/// kernel before 6.16 deletes one whose last device goes.
pub(crate) fn detach(table: &Table, number: usize) -> [Change; 2] {
    let chain = format!("{HOOK}{number}");
    [table.chain(&chain), table.delete_chain(&chain)]
}

/// Fragments behind the first have no ports to know a protected one by. Without the first, which the rules
/// see, they are of no use to anybody.
fn later_fragments(table: &Table, protocol: Protocol) -> [Rule; 2] {
    let v4 = of_family(transport(protocol), table, true).payload(Base::Network, 6, 2);
    let v6 = of_family(transport(protocol), table, false).extension(FRAGMENT, 2, 2);
    [v4.mask(&[0x1f, 0xff]), v6.mask(&[0xff, 0xf8])].map(|at| at.cmp(Compare::Other, &[0, 0]))
}

fn of_family(rule: Rule, table: &Table, v4: bool) -> Rule {
    match (table.is_netdev(), v4) {
        (true, true) => rule.meta(Meta::Protocol).cmp(Compare::Equal, &[0x08, 0x00]),
        (true, false) => rule.meta(Meta::Protocol).cmp(Compare::Equal, &[0x86, 0xdd]),
        (false, true) => rule.meta(Meta::Family).cmp(Compare::Equal, &[2]),
        (false, false) => rule.meta(Meta::Family).cmp(Compare::Equal, &[10]),
    }
}

/// Loads the far end's address, masked to the set's prefix.
fn far_end(table: &Table, inbound: bool, set: &PeerSet) -> Rule {
    let family = of_family(Rule::new(), table, set.v4);
    let (source, target, len) = if set.v4 { (12, 16, 4) } else { (8, 24, 16) };
    let rule = family.payload(Base::Network, if inbound { source } else { target }, len);
    if u32::from(set.prefix) == len * 8 { rule } else { rule.mask(&mask(set.prefix, len)) }
}

/// Neighbour and router discovery: without it IPv6 control is cut too.
fn discovery() -> Rule {
    Rule::new()
        .meta(Meta::Transport)
        .cmp(Compare::Equal, &[ICMPV6])
        .payload(Base::Transport, 0, 1)
        .range(&[133], &[136])
}

fn transport(protocol: Protocol) -> Rule {
    let number = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    Rule::new().meta(Meta::Transport).cmp(Compare::Equal, &[number])
}

fn mask(prefix: u8, len: u32) -> Vec<u8> {
    (0..len as u8)
        .map(|byte| match prefix.saturating_sub(byte * 8) {
            bits @ 0..8 => !(0xff_u8.checked_shr(u32::from(bits)).unwrap_or(0)),
            _ => 0xff,
        })
        .collect()
}

fn key(peer: &IpNet) -> Vec<u8> {
    match peer.trunc().addr() {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

impl PeerSet {
    fn of(kind: &str, peer: &IpNet) -> PeerSet {
        let v4 = peer.addr().is_ipv4();
        let name = format!("{kind}v{}p{}", if v4 { 4 } else { 6 }, peer.prefix_len());
        PeerSet { name, keys: vec![key(peer)], v4, prefix: peer.prefix_len() }
    }
}

/// One set a family, with or without an element.
fn own_sets(own: &BTreeSet<IpAddr>) -> [PeerSet; 2] {
    let of = |v4: bool| own.iter().filter(move |a| a.is_ipv4() == v4);
    let keys = |v4| of(v4).map(|address| key(&IpNet::from(*address))).collect();
    [
        PeerSet { name: OWN_V4.into(), keys: keys(true), v4: true, prefix: 32 },
        PeerSet { name: OWN_V6.into(), keys: keys(false), v4: false, prefix: 128 },
    ]
}

/// One set a family and prefix length: a lookup of the masked address. `kind` begins their names.
fn peer_sets(kind: &str, peers: &[IpNet]) -> Vec<PeerSet> {
    let mut sets: BTreeMap<String, PeerSet> = BTreeMap::new();
    for peer in peers {
        let one = PeerSet::of(kind, peer);
        match sets.get_mut(&one.name) {
            Some(set) if !set.keys.contains(&one.keys[0]) => set.keys.extend(one.keys),
            Some(_) => {}
            None => {
                sets.insert(one.name.clone(), one);
            }
        }
    }
    sets.into_values().collect()
}

impl Table {
    pub(crate) fn is_netdev(&self) -> bool {
        self.family() == Family::Netdev
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_as_many_bits_as_the_prefix() {
        assert_eq!(mask(24, 4), [255, 255, 255, 0]);
        assert_eq!(mask(0, 4), [0, 0, 0, 0]);
        assert_eq!(mask(9, 4), [255, 128, 0, 0]);
        assert_eq!(mask(32, 4), [255; 4]);
        assert_eq!(mask(65, 16)[..9], [255, 255, 255, 255, 255, 255, 255, 255, 128]);
    }

    #[test]
    fn peers_of_one_prefix_share_a_set() {
        let nets: Vec<IpNet> = ["10.0.0.1/32", "10.0.0.2/32", "10.1.0.0/16", "fd00::1/128"]
            .iter()
            .map(|n| n.parse().unwrap())
            .collect();
        let sets = peer_sets("", &nets);
        let names: Vec<_> = sets.iter().map(|s| (s.name.as_str(), s.keys.len())).collect();
        assert_eq!(names, [("v4p16", 1), ("v4p32", 2), ("v6p128", 1)]);
    }
}

//! Who the far ends are, as addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::problem::{Problems, suggest};
use super::targets::check_label;
use super::{Fleet, Many, Peer, Selector};
use crate::ids::HostName;
use crate::net;
use crate::registry::HostRecord;

/// Far ends after every name was looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FarEnds {
    /// Registered hosts, by name.
    pub hosts: BTreeSet<HostName>,
    /// Addresses and networks that were written as such.
    pub nets: Vec<IpNet>,
}

impl FarEnds {
    /// Nobody at all.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.nets.is_empty()
    }

    /// Whether what is meant for them would meet another host, which nobody named.
    pub fn check_apart(&self, path: &str, fleet: &Fleet, problems: &mut Problems) {
        for host in self.hosts.iter().filter_map(|name| fleet.hosts.get(name)) {
            let Some(other) = fleet.at_the_same_address(host, &self.hosts) else { continue };
            let (name, other, address) = (&host.name, &other.name, host.address);
            let what = format!("`{name}` and `{other}` are both registered at {address}");
            let gone = format!("`squall agent drain {other}` where it is gone");
            problems.add(path, what, format!("mend `address` in the agent.toml of one, or {gone}"));
        }
    }

    /// The addresses as seen from `target`, each once and its own left out.
    pub fn addresses(&self, target: &HostName, fleet: &Fleet) -> Vec<IpNet> {
        let own = fleet.hosts.get(target).into_iter().flat_map(HostRecord::addresses);
        let mut left_out: BTreeSet<IpNet> = own.map(IpNet::from).collect();
        let hosts = self.hosts.iter().filter_map(|h| fleet.hosts.get(h));
        let hosts = hosts.flat_map(HostRecord::addresses).map(IpNet::from);
        hosts.chain(self.nets.iter().copied()).filter(|net| left_out.insert(*net)).collect()
    }

    /// Registered hosts that are among the far ends, by name or by an address of theirs.
    pub fn touched<'a>(&'a self, fleet: &'a Fleet) -> impl Iterator<Item = &'a HostRecord> {
        let named = self.hosts.iter().filter_map(|name| fleet.hosts.get(name));
        let named: BTreeSet<IpAddr> = named.flat_map(HostRecord::addresses).collect();
        let met = move |a: IpAddr| named.contains(&a) || self.nets.iter().any(|n| n.contains(&a));
        fleet.hosts.values().filter(move |h| h.addresses().any(&met))
    }
}

/// Looks every peer up; what cannot be found is a problem.
pub(super) fn look_up(
    path: &str,
    peers: &Many<Peer>,
    fleet: &Fleet,
    problems: &mut Problems,
) -> FarEnds {
    let mut ends = FarEnds::default();
    if peers.is_empty() {
        problems.add(path, "the list is empty", "name at least one host, group or address");
    }
    for (i, peer) in peers.0.iter().enumerate() {
        let path = format!("{path}[{i}]");
        match peer {
            Peer::Where(selector) => by_labels(&path, selector, fleet, &mut ends, problems),
            Peer::Name(name) if name == "all" => ends.hosts.extend(fleet.hosts.keys().cloned()),
            Peer::Name(name) => {
                if let Some(host) = fleet.host(name) {
                    ends.hosts.insert(host.name.clone());
                } else if let Some(net) = net::read(name) {
                    add_net(&path, name, net, &mut ends, problems);
                } else if looks_like_an_address(name) {
                    not_an_address(&path, name, problems);
                } else {
                    let what = format!("no host `{name}` is registered");
                    problems.add(path, what, suggest(name, fleet.names()));
                }
            }
        }
    }
    ends.check_apart(path, fleet, problems);
    ends
}

/// The addresses among `peers`; names need a fleet and are a problem here.
pub(super) fn addresses_only(
    path: &str,
    peers: &Many<Peer>,
    problems: &mut Problems,
) -> Vec<IpNet> {
    let mut ends = FarEnds::default();
    for (i, peer) in peers.0.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let name = match peer {
            Peer::Name(name) => name.as_str(),
            Peer::Where(_) => "a group",
        };
        match net::read(name) {
            Some(net) => add_net(&path, name, net, &mut ends, problems),
            None if looks_like_an_address(name) => not_an_address(&path, name, problems),
            None => problems.add(
                path,
                format!("`{name}` is a name, and on one host alone no fleet knows names"),
                "write addresses, as 10.0.0.2 or 10.0.0.0/24",
            ),
        }
    }
    ends.nets
}

fn by_labels(
    path: &str,
    selector: &Selector,
    fleet: &Fleet,
    ends: &mut FarEnds,
    problems: &mut Problems,
) {
    let Selector { group, labels } = selector;
    if group.is_none() && labels.is_empty() {
        problems.add(path, "it says nothing", "write {group: etcd} or {labels: {zone: a}}");
        return;
    }
    let group = group.as_ref().map(|g| (format!("{path}.group"), "group", g));
    let labels = labels.iter().map(|(k, v)| (format!("{path}.labels.{k}"), k.as_str(), v));
    let wanted: Vec<_> = group.into_iter().chain(labels).collect();
    let mut known = true;
    for (path, label, value) in &wanted {
        known &= check_label(path, label, value, fleet, problems);
    }
    let matches = |h: &&HostRecord| wanted.iter().all(|(_, k, v)| h.labels.get(*k) == Some(*v));
    let found: BTreeSet<HostName> =
        fleet.hosts.values().filter(matches).map(|h| h.name.clone()).collect();
    if known && found.is_empty() {
        problems.add(path, "no host has all of these labels", "leave some of them out");
    }
    ends.hosts.extend(found);
}

fn add_net(path: &str, text: &str, net: IpNet, ends: &mut FarEnds, problems: &mut Problems) {
    if net.addr().is_loopback() || (net.addr().is_unspecified() && net.prefix_len() > 0) {
        let what = format!("`{text}` is no other host");
        problems.add(path, what, "name the address of a peer");
    } else if !ends.nets.contains(&net) {
        ends.nets.push(net);
    }
}

/// Nothing but what addresses are made of, and something that names have not.
fn looks_like_an_address(text: &str) -> bool {
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '.' | '/' | '-');
    text.contains(['/', ':']) || (text.contains('.') && text.chars().all(digits))
}

fn not_an_address(path: &str, text: &str, problems: &mut Problems) {
    let what = format!("`{text}` is not an address");
    problems.add(path, what, "write 10.0.0.2, 10.0.0.0/24, fd00::2 or fd00::/64");
}

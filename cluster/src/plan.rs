//! What a lab is to be: names and addresses, the same each time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use squall_core::ids::HostName;
use squall_faults::sys::links::Mac;

use crate::error::LabError;

/// Virtual hosts of one lab, at most: each costs a network namespace and a port of the bridge, of
/// which there are 1,024.
pub const MAX_HOSTS: u16 = 512;
/// Length of the network part of every IPv4 address here.
pub(crate) const PREFIX_V4: u8 = 16;
/// Length of the network part of every IPv6 address here.
pub(crate) const PREFIX_V6: u8 = 64;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Hosts h1, h2, …
    pub hosts: u16,
    /// Hosts c1, c2, …
    pub coordinators: u16,
    /// Labels of hosts.
    pub labels: Vec<Label>,
    /// No IPv4 but on the loopback device.
    pub ipv6_only: bool,
}

/// A label of one host, written `h1=group=etcd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The host.
    pub host: HostName,
    /// The label's name.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Label {
    type Err = LabError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || LabError::Invalid(format!("`{text}` is not HOST=KEY=VALUE"));
        let (host, label) = text.split_once('=').ok_or_else(invalid)?;
        let (key, value) = label.split_once('=').ok_or_else(invalid)?;
        if key.is_empty() || value.is_empty() {
            return Err(invalid());
        }
        if label.contains(',') {
            let what = format!("`{text}` has a comma: repeat --label for each label");
            return Err(LabError::Invalid(what));
        }
        let host = host.parse().map_err(|_| invalid())?;
        Ok(Label { host, key: key.to_owned(), value: value.to_owned() })
    }
}

/// What a virtual host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A host of the fleet: h1, h2, …
    Host,
    /// A coordinator's host, with its number from 1: c1, c2, …
    Coordinator(u16),
}

/// One virtual host, planned.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// What it is for.
    pub part: Part,
    /// Its IPv4 address, where the lab has IPv4.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Host {
    /// The address by which others reach it: IPv4 where the lab has that.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.v4.map_or(IpAddr::V6(self.v6), IpAddr::V4)
    }

    /// The hardware address of its `eth0`.
    pub(crate) fn mac(&self) -> Mac {
        mac(self.v6)
    }
}

/// A lab, planned.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: HostName,
    /// Its hosts, the coordinators' behind the others.
    pub hosts: Vec<Host>,
    /// No IPv4 but on the loopback device.
    pub ipv6_only: bool,
}

impl Plan {
    /// Lays out names and addresses.
    ///
    /// # Errors
    /// No host or too many, or a label of a host that is not there.
    pub fn new(name: HostName, shape: &Shape) -> Result<Plan, LabError> {
        let count = shape.hosts.saturating_add(shape.coordinators);
        if count == 0 {
            return Err(LabError::Invalid("a lab without a host".to_owned()));
        }
        if count > MAX_HOSTS {
            let what = format!("{count} hosts are more than a lab takes: {MAX_HOSTS}");
            return Err(LabError::Invalid(what));
        }
        let fleet = (1..=shape.hosts).map(|n| ("h", n, Part::Host));
        let coordinators = (1..=shape.coordinators).map(|n| ("c", n, Part::Coordinator(n)));
        let mut hosts = Vec::new();
        for (letter, number, part) in fleet.chain(coordinators) {
            let name = format!("{letter}{number}").parse().expect("a letter and digits");
            let v4 = (!shape.ipv6_only).then(|| v4(part, number));
            hosts.push(Host { name, part, v4, v6: v6(part, number), labels: BTreeMap::new() });
        }
        for label in &shape.labels {
            let named = hosts.iter_mut().find(|h| h.name == label.host).ok_or_else(|| {
                LabError::Invalid(format!("a label names {}, which is no host here", label.host))
            })?;
            named.labels.insert(label.key.clone(), label.value.clone());
        }
        Ok(Plan { name, hosts, ipv6_only: shape.ipv6_only })
    }

    /// The switch's own addresses, from which an operator's process on the machine speaks.
    pub(crate) fn switch_addresses(&self) -> (Option<Ipv4Addr>, Ipv6Addr) {
        let v4 = Ipv4Addr::new(10, 77, 255, 254);
        ((!self.ipv6_only).then_some(v4), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0xffff, 0xfffe))
    }

    /// The hardware address of the bridge.
    pub(crate) fn switch_mac(&self) -> Mac {
        mac(self.switch_addresses().1)
    }

    /// `/etc/hosts`, the same on every host. A name means the one address that the fleet knows the
    /// host by; the IPv6 address beside an IPv4 one is called `h1.v6`.
    #[must_use]
    pub fn hosts_file(&self) -> String {
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
        for host in &self.hosts {
            let _ = writeln!(text, "{} {}", host.address(), host.name);
            let _ = writeln!(text, "{} {}.v6", host.v6, host.name);
        }
        text
    }
}

/// 10.77.0.1 and on for the fleet, 10.77.200.1 and on for coordinators.
fn v4(part: Part, number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    match part {
        Part::Host => Ipv4Addr::new(10, 77, high, low),
        Part::Coordinator(_) => Ipv4Addr::new(10, 77, 200 + high, low),
    }
}

/// fd77::1 and on for the fleet, fd77::c:1 and on for coordinators.
fn v6(part: Part, number: u16) -> Ipv6Addr {
    let kind = match part {
        Part::Host => 0,
        Part::Coordinator(_) => 0xc,
    };
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, kind, number)
}

/// Locally administered, and the end of the IPv6 address.
fn mac(v6: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = v6.octets();
    [0x02, 0x77, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shape(hosts: u16, coordinators: u16) -> Shape {
        Shape { hosts, coordinators, labels: Vec::new(), ipv6_only: false }
    }

    fn plan(shape: &Shape) -> Result<Plan, LabError> {
        Plan::new("lab".parse().unwrap(), shape)
    }

    #[test]
    fn no_two_hosts_share_an_address() {
        let plan = plan(&shape(MAX_HOSTS - 7, 7)).expect("the largest");
        let mut seen = BTreeSet::new();
        let (v4, v6) = plan.switch_addresses();
        assert!(seen.insert(IpAddr::from(v6)) && seen.insert(v4.expect("IPv4").into()));
        let mut macs = BTreeSet::from([plan.switch_mac()]);
        for host in &plan.hosts {
            assert!(seen.insert(host.address()) && seen.insert(host.v6.into()), "{host:?}");
            assert!(macs.insert(host.mac()), "{host:?}");
        }
        assert!(plan.hosts_file().contains("\n10.77.0.1 h1\nfd77::1 h1.v6\n"));
        assert!(plan.hosts_file().contains("\n10.77.200.7 c7\nfd77::c:7 c7.v6\n"));
    }

    #[test]
    fn without_ipv4_nobody_has_it() {
        let plan = plan(&Shape { ipv6_only: true, ..shape(2, 1) }).expect("a lab");
        assert!(plan.hosts.iter().all(|h| h.address().is_ipv6()));
        assert!(!plan.hosts_file().contains("10.77."));
    }

    #[test]
    fn what_is_no_lab_is_refused() {
        for (wrong, why) in [
            (shape(0, 0), "without a host"),
            (shape(MAX_HOSTS, 1), "more than a lab takes"),
            (shape(u16::MAX, u16::MAX), "more than a lab takes"),
            (Shape { labels: vec!["h3=a=b".parse().unwrap()], ..shape(2, 1) }, "names h3"),
        ] {
            let error = plan(&wrong).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
        for wrong in ["h1", "h1=group", "h1==etcd", "h1=group=", "H 1=a=b", "=a=b"] {
            assert!(wrong.parse::<Label>().is_err(), "{wrong}");
        }
        for several in ["h1=group=etcd,zone=a", "h1=group,zone=a"] {
            let error = several.parse::<Label>().expect_err(several).to_string();
            assert!(error.contains("repeat --label"), "{error}");
        }
        let label: Label = "h1=command=a=b".parse().expect("a label");
        assert_eq!((label.key.as_str(), label.value.as_str()), ("command", "a=b"));
    }
}

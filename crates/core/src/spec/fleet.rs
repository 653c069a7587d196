//! The fleet that a file is resolved against.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::ids::HostName;
use crate::registry::HostRecord;

/// What is known of the fleet when a file is resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Every registered host, with the addresses that lead to it alone.
    pub hosts: BTreeMap<HostName, HostRecord>,
    /// The coordinators' addresses.
    pub coordinators: Vec<IpAddr>,
    /// The hosts that report now.
    pub healthy: BTreeSet<HostName>,
}

impl Fleet {
    /// From what is registered. Of further addresses those are left out that another host has too, as each
    /// may have its own bridge of containers: they lead to none of them.
    #[must_use]
    pub fn new(
        mut hosts: BTreeMap<HostName, HostRecord>,
        coordinators: Vec<IpAddr>,
        healthy: BTreeSet<HostName>,
    ) -> Fleet {
        let mut seen = BTreeSet::new();
        // One that was drained may be gone, and its address another's.
        let all = hosts.values().filter(|h| !h.drained).flat_map(HostRecord::addresses);
        let shared: BTreeSet<IpAddr> = all.filter(|address| !seen.insert(*address)).collect();
        for host in hosts.values_mut() {
            host.also.retain(|address| !shared.contains(address));
        }
        Fleet { hosts, coordinators, healthy }
    }

    /// Not drained, and reporting.
    #[must_use]
    pub fn in_service(&self, host: &HostRecord) -> bool {
        !host.drained && self.healthy.contains(&host.name)
    }

    /// The host of this name, where one is registered.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&HostRecord> {
        self.hosts.get(&name.parse::<HostName>().ok()?)
    }

    /// Another host, none of those in `but`, that was registered with the same address, unless it was
    /// drained: what is meant for one would meet the other.
    pub(super) fn at_the_same_address(
        &self,
        host: &HostRecord,
        but: &BTreeSet<HostName>,
    ) -> Option<&HostRecord> {
        let others = self.hosts.values().filter(|h| h.name != host.name && !but.contains(&h.name));
        others.filter(|h| !h.drained).find(|h| h.address == host.address)
    }

    /// The values of one label, over all hosts.
    pub(super) fn values<'a>(&'a self, label: &'a str) -> impl Iterator<Item = &'a str> {
        self.hosts.values().filter_map(move |h| h.labels.get(label).map(String::as_str))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(HostName::as_str)
    }
}

//! Faults of packets: which they are, and what becomes of them.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Peers in one traffic selector, at most.
pub const MAX_PEERS: usize = 1024;
/// Port ranges in one traffic selector, at most.
pub const MAX_PORTS: usize = 64;

/// Which way packets are hurt, as the target host sees it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Packets that arrive.
    In,
    /// Packets that leave.
    Out,
    /// Both ways.
    #[default]
    Both,
}

impl Direction {
    /// Whether packets are hurt that arrive, or, where not `inbound`, that leave.
    #[must_use]
    pub fn covers(self, inbound: bool) -> bool {
        self != if inbound { Direction::Out } else { Direction::In }
    }
}

/// A transport protocol that has ports.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is the protocol of its name")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Ports `from` to `to`, both included. A packet matches when either of its ports lies within, so
/// that a flow is hurt whichever side opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "told above")]
pub struct Ports {
    pub from: u16,
    pub to: u16,
}

/// Which packets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Traffic {
    /// The far ends. Never empty.
    pub peers: Vec<IpNet>,
    /// Which way.
    pub direction: Direction,
    /// Only these ports; empty means all packets, with ports or without.
    pub ports: Vec<Ports>,
    /// Only this protocol; with `ports` and `None`, TCP and UDP both.
    pub protocol: Option<Protocol>,
}

/// Packets that vanish, all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// What is cut.
    pub traffic: Traffic,
    /// Addresses of the coordinators where control traffic is cut too, mark or no mark; empty where
    /// control is exempt.
    pub severed: Vec<IpNet>,
}

/// Packets of which a share vanishes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Loss {
    /// What is hurt.
    pub traffic: Traffic,
    /// Packets lost of a million, 1 to 1,000,000.
    pub per_million: u32,
}

impl Traffic {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.peers.is_empty() {
            return Err("peers must name at least one host, group or address".into());
        }
        if self.peers.len() > MAX_PEERS {
            return Err(format!("peers: {} addresses, at most {MAX_PEERS}", self.peers.len()));
        }
        if self.ports.len() > MAX_PORTS {
            return Err(format!("ports: {} ranges, at most {MAX_PORTS}", self.ports.len()));
        }
        if let Some(p) = self.ports.iter().find(|p| p.from == 0 || p.from > p.to) {
            return Err(format!(
                "ports: {}-{} is not a range of ports from 1 to 65535",
                p.from, p.to
            ));
        }
        let distinct: BTreeSet<_> = self.peers.iter().map(IpNet::trunc).collect();
        if distinct.len() != self.peers.len() {
            return Err("peers: the same address stands there twice".into());
        }
        Ok(())
    }
}

//! What the nodes believe, compared: agreement, a partition, a split-brain, or not enough to say.

mod authority;
mod cohort;
mod judge;
mod ring;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{HostName, Leadership, NodeId};

pub use authority::SUCCESSION_MS;
pub use cohort::FULL_MESH;
pub use judge::{judge, spoke};
pub use ring::{MAX_PEERS, peers_of, watched};

/// A row or claim older than this says nothing.
pub const STALE_MS: u64 = 3_500;

/// A beat whose receipt lies so far back, counted until now, and that was not stale when it was
/// reported, says neither that its sender is still heard nor that it is not: both directions of a cut go
/// silent at one moment and become stale a report apart. Choose it above the time between two beats
/// plus that between two reports, and below [`STALE_MS`].
pub const FADING_MS: u64 = 2_500;

/// What gossip says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "SWIM's words")]
pub enum Liveness {
    Alive,
    Suspect,
    Down,
}

impl Liveness {
    /// Its one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Liveness::Alive => "alive",
            Liveness::Suspect => "suspect",
            Liveness::Down => "down",
        }
    }
}

/// What one host sees: its direct row, which gossip cannot blur.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Row {
    /// The cohort whose members must see each other; empty is the default one.
    pub cohort: String,
    /// What gossip says of each other member.
    pub members: Vec<(HostName, Liveness)>,
    /// Milliseconds since a beat of each other member was received; `None` where none ever was.
    pub heard: Vec<(HostName, Option<u64>)>,
    /// The leadership that it last heard, and how many milliseconds ago.
    pub authority: Option<(Leadership, u64)>,
}

/// What one coordinator claims.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// Who.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
    /// It believes that it leads.
    pub leads: bool,
    /// Milliseconds since a quorum answered it, where it leads.
    pub quorum_age_ms: Option<u64>,
}

/// Everything that a judgement stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Who must see each other.
    pub expected: BTreeSet<HostName>,
    /// Each host's row and its age in milliseconds.
    pub rows: BTreeMap<HostName, (Row, u64)>,
    /// Each coordinator's claim and its age in milliseconds.
    pub claims: Vec<(Claim, u64)>,
    /// The coordinators' names; one that is not here is called by its number.
    pub names: BTreeMap<NodeId, String>,
}

/// The kind of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionKind {
    /// Sides that hear nothing of each other.
    Complete,
    /// Two that cannot hear each other are both heard by a third.
    Partial,
    /// One way only.
    Simplex,
}

impl PartitionKind {
    /// Its one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PartitionKind::Complete => "complete",
            PartitionKind::Partial => "partial",
            PartitionKind::Simplex => "simplex",
        }
    }
}

/// Where somebody stands towards an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stance {
    /// A coordinator that claims it, with a quorum behind it.
    Leads,
    /// A host that takes its orders.
    Obeys,
}

impl std::fmt::Display for Stance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stance::Leads => "leads",
            Stance::Obeys => "obeys",
        })
    }
}

/// An authority that somebody claims or obeys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Authority {
    /// Who says so: a host or a coordinator.
    pub host: String,
    /// What that one claims.
    pub claims: Stance,
    /// Of whom: `c1 in term 4`.
    pub of: String,
}

impl Authority {
    /// Who says so; a host and a coordinator of one name are two.
    #[must_use]
    pub fn speaker(&self) -> String {
        match self.claims {
            Stance::Leads => coordinator(&self.host),
            Stance::Obeys => self.host.clone(),
        }
    }
}

fn coordinator(name: &str) -> String {
    format!("coordinator {name}")
}

/// What the evidence shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Judgement {
    /// All see each other, and one authority.
    Agree,
    /// Reports are missing, so that nobody can say.
    Unknown {
        /// Whose.
        missing: Vec<String>,
    },
    /// Some do not hear each other.
    Partition {
        /// How.
        kind: PartitionKind,
        /// The sides: hosts that hear each other both ways, largest first.
        sides: Vec<Vec<HostName>>,
        /// Who is not heard (`from`) by whom (`to`).
        edges: Vec<(HostName, HostName)>,
        /// Whose reports are missing: of what they would say nothing is known.
        missing: Vec<String>,
    },
    /// Two authorities at once.
    SplitBrain {
        /// Who claims or obeys what.
        authorities: Vec<Authority>,
        /// As in a partition; empty where all hear each other.
        sides: Vec<Vec<HostName>>,
        /// In words.
        evidence: Vec<String>,
    },
}

//! What the coordinators agree on: the replicated state and the one function that changes it.
//!
//! [`Registry::apply`] is deterministic: ordered maps, no clock (time travels inside the entry), no
//! floats, no randomness. The same entries in the same order give the same state on every node.

mod apply;
mod experiments;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::experiment::{
    EndReason, Experiment, ExperimentRecord, FaultState, Incident, Phase, ProbeOutcome, Verdict,
};
use crate::fence::Fence;
use crate::ids::{CommandId, ExperimentId, FaultId, HostName, LogIndex, StopId};
use crate::policy::AlreadyHeld;
use crate::radius::OverRadius;
use crate::time::WallTime;

/// Commands whose outcome is remembered, so that a repeated one takes effect once.
pub const MAX_REMEMBERED: usize = 10_000;
/// Settled experiments that are kept, and how long they may be in all: a coordinator has them in memory.
pub const MAX_SETTLED: usize = 1_000;
/// In [`ExperimentRecord::bytes`].
pub const MAX_SETTLED_BYTES: usize = 64 << 20;
/// Registered hosts, at most.
pub const MAX_HOSTS: usize = 20_000;
/// Join tokens outstanding, at most.
pub const MAX_TOKENS: usize = 1_000;
/// How long a join token is good, at most, in milliseconds.
pub const MAX_TOKEN_MS: u64 = 30 * 24 * 3600 * 1000;

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The same id takes effect once.
    pub id: CommandId,
    /// When it was proposed, by the proposer's wall clock.
    pub at: WallTime,
    /// Who asked: `operator/alice`, `coordinator/c1`, `agent/h1`.
    pub by: String,
    /// What.
    pub command: Command,
}

/// A change of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    /// A host is there, or has changed its address or labels.
    Register(HostRecord),
    /// A host takes no more faults, or takes them again.
    Drain {
        /// Which.
        host: HostName,
        /// True takes it out of service.
        drained: bool,
    },
    /// A token with which one host may enrol.
    CreateToken {
        /// SHA-256 of its secret.
        hash: [u8; 32],
        /// The host that it is for.
        host: HostName,
        /// When it ends, by the leader's wall clock; checked by the leader that redeems it.
        expires: WallTime,
    },
    /// A token is used up.
    UseToken {
        /// SHA-256 of its secret.
        hash: [u8; 32],
        /// Who enrols.
        host: HostName,
    },
    /// Start an experiment: check, reserve its radius and fence it, all at once.
    Submit {
        /// Its id, chosen by the client.
        id: ExperimentId,
        /// What.
        experiment: Box<Experiment>,
    },
    /// An experiment enters a phase.
    Advance {
        /// Which.
        id: ExperimentId,
        /// The phase it must be in, or the entry changes nothing.
        from: Phase,
        /// The next one.
        to: Phase,
    },
    /// An experiment is to end early. Its faults are lifted.
    End {
        /// Which.
        id: ExperimentId,
        /// Why.
        why: EndReason,
    },
    /// What a host reported of one fault.
    Observe {
        /// Which.
        fault: FaultId,
        /// Its state. An ended fault never changes again, but from stuck or lapsed to what was seen.
        state: FaultState,
        /// Milliseconds since it came into place, while it is there.
        in_place_ms: Option<u64>,
    },
    /// Something that should not have happened.
    Report {
        /// In which experiment.
        id: ExperimentId,
        /// What.
        incident: Incident,
    },
    /// The verdict.
    Settle {
        /// Of which experiment.
        id: ExperimentId,
        /// It.
        verdict: Verdict,
        /// Why.
        reasons: Vec<String>,
        /// What the probes showed.
        probes: Vec<ProbeOutcome>,
    },
    /// A stop-all was heard by some coordinator.
    Stop(StopId),
    /// A person releases stops.
    Resume {
        /// The stops that the person was shown.
        stops: BTreeSet<StopId>,
        /// Hosts that the person gave up on.
        despite: BTreeSet<HostName>,
    },
    /// Changes nothing: what stands before it in the log is settled, and what does not never will be.
    Barrier,
    /// Every experiment that runs here in the log is to end early; what starts behind it goes on.
    EndAll {
        /// Why.
        why: EndReason,
    },
    /// A host that is gone for good is registered no more.
    Forget(HostName),
}

/// Further addresses of a host that are registered, at most.
pub const MAX_ALSO: usize = 16;

/// Whether an address may lead to one host from others: not one that every host has, or that holds on
/// one wire alone.
#[must_use]
pub fn leads_somewhere(address: IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// A registered host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its name.
    pub name: HostName,
    /// The address by which its peers know it.
    pub address: IpAddr,
    /// Further addresses of its own, in order, at most [`MAX_ALSO`]: a fault between named hosts is
    /// about all of them.
    pub also: Vec<IpAddr>,
    /// Its labels; `group` names its cohort.
    pub labels: BTreeMap<String, String>,
    /// Its gossip port (UDP, not exempt from faults).
    pub gossip_port: u16,
    /// Its relay port (UDP, exempt).
    pub relay_port: u16,
    /// A coordinator lives there too: never picked by percent, count or all.
    pub coordinator: bool,
    /// Takes no faults.
    pub drained: bool,
}

impl HostRecord {
    /// Every address of it that is known.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(self.address).chain(self.also.iter().copied())
    }

    /// Those with whom it must see each other: the label `group`, empty where it has none.
    #[must_use]
    pub fn cohort(&self) -> &str {
        self.labels.get("group").map_or("", String::as_str)
    }
}

/// A stop in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StopRecord {
    /// Where it stands.
    pub index: LogIndex,
    /// Who asked.
    pub by: String,
    /// When.
    pub at: WallTime,
}

/// A join token not yet used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    /// The host that may use it.
    pub host: HostName,
    /// When it ends.
    pub expires: WallTime,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It took effect, here in the log.
    Done(LogIndex),
    /// It was legal and changed nothing.
    Unchanged,
    /// It was refused and changed nothing.
    Refused(Refusal),
}

/// Why an entry was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Stops are outstanding.
    #[error("the cluster is stopped by {}: a `squall resume` must name it first", list(.0))]
    Disarmed(Vec<StopId>),
    /// The radius.
    #[error("{0}")]
    Radius(OverRadius),
    /// Too many at once.
    #[error("{running} experiments run already, at most {limit} may")]
    TooMany {
        /// Those that run.
        running: u32,
        /// The limit.
        limit: u32,
    },
    /// A host that nobody registered.
    #[error("no host `{0}` is registered")]
    UnknownHost(HostName),
    /// A host that takes no faults.
    #[error("host `{0}` is drained")]
    Drained(HostName),
    /// A host that is to be forgotten, and why it is not gone.
    #[error("host `{0}` cannot be forgotten: {1}")]
    NotGone(HostName, String),
    /// A host whose policy refuses, with its reason.
    #[error("{0} refuses: {1}")]
    Host(HostName, String),
    /// An experiment that is not there.
    #[error("no experiment {}", .0.short())]
    UnknownExperiment(ExperimentId),
    /// A resume of a stop that nobody has heard of.
    #[error("no stop {0} is known: `squall status` shows which are outstanding")]
    UnknownStop(StopId),
    /// A token that is unknown, used, or for another host.
    #[error("the token is unknown, used already, or for another host")]
    BadToken,
    /// A table is full.
    #[error("{0}")]
    Full(String),
    /// The experiment itself is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The experiment is valid, but hosts that it needs are out of service now.
    #[error("{0}")]
    OutOfService(String),
    /// A resume while these hosts may still be under way to stopping.
    #[error("{}", crate::stopping::explain(.0))]
    NotStopped(Vec<HostName>),
    /// The log keeps as many stops, ended or not, as it takes before nothing more starts.
    #[error("{0} stops are kept in the log, ended ones too: nothing more starts here")]
    TooManyStops(u32),
}

/// Some of them by their ids: it is one line.
fn list(stops: &[StopId]) -> String {
    const NAMED: usize = 8;
    let named: Vec<String> = stops.iter().take(NAMED).map(ToString::to_string).collect();
    let more = stops.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

/// The replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Registry {
    /// The last entry applied.
    pub applied: LogIndex,
    /// Registered hosts.
    pub hosts: BTreeMap<HostName, HostRecord>,
    /// Experiments, running and settled.
    pub experiments: BTreeMap<ExperimentId, ExperimentRecord>,
    /// Stops and resumes.
    pub fence: Fence,
    /// Each stop's place and origin.
    pub stops: BTreeMap<StopId, StopRecord>,
    /// Join tokens not yet used, by the hash of their secret.
    pub tokens: BTreeMap<[u8; 32], Token>,
    /// Outcomes of commands, for repeats.
    remembered: BTreeMap<CommandId, Outcome>,
    /// The order in which to forget them.
    forget: BTreeMap<LogIndex, CommandId>,
}

impl Registry {
    /// The outcome of a command that was applied before, where it is still remembered.
    #[must_use]
    pub fn outcome_of(&self, id: CommandId) -> Option<&Outcome> {
        self.remembered.get(&id)
    }

    /// Experiments that have not settled, in the order of their ids.
    pub fn running(&self) -> impl Iterator<Item = &ExperimentRecord> {
        self.experiments.values().filter(|e| e.is_running())
    }

    /// What is held on a host: `alive` faults, of which those of experiments that have begun are known.
    #[must_use]
    pub fn beside(&self, host: &HostName, alive: usize) -> AlreadyHeld {
        let mut beside = AlreadyHeld::default();
        for record in
            self.running().filter(|e| (Phase::Injecting..=Phase::Lifting).contains(&e.phase))
        {
            for placement in record.experiment.faults.iter().filter(|p| p.host == *host) {
                let id =
                    FaultId { experiment: record.id, fault: placement.fault, host: host.clone() };
                if record.faults.get(&id).is_none_or(|state| !state.is_final()) {
                    beside.add(Some(&placement.spec));
                }
            }
        }
        for _ in beside.faults()..alive {
            beside.add(None);
        }
        beside
    }

    /// Hosts that may hold something of experiments, or to which an order of theirs may be on its way.
    #[must_use]
    pub fn may_hold(&self) -> BTreeSet<&HostName> {
        let begun = self.experiments.values().filter(|e| e.phase >= Phase::Injecting);
        begun.flat_map(|e| &e.reserved).collect()
    }

    /// Who has reserved which hosts.
    #[must_use]
    pub fn reservations(&self) -> Vec<(ExperimentId, String, Vec<HostName>)> {
        self.experiments
            .values()
            .filter(|e| !e.reserved.is_empty())
            .map(|e| (e.id, e.experiment.name.clone(), e.reserved.iter().cloned().collect()))
            .collect()
    }
}

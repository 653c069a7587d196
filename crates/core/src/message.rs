//! What is said between agents, coordinators and operators.
//!
//! No message carries its sender's clock for the receiver to compare with: a moment is the echo of
//! the receiver's own [`Time`] plus milliseconds.

mod operator;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::experiment::Ended;
use crate::fault::{Fault, Kind};
use crate::fence::Resume;
use crate::hold::{Achieved, Capability};
use crate::ids::{AgentRun, ExperimentId, FaultId, HostName, Leadership, LogIndex, StopId};
use crate::probe::{ProbeSpec, Stage, Tally};
use crate::registry::HostRecord;
use crate::time::Time;
use crate::views;

pub use operator::*;

/// From an agent, on its control stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FromAgent {
    /// The first message of a stream.
    Hello(Hello),
    /// Each second, or each fifth of the shortest lease where that is sooner, and at each change. Asks for
    /// the renewal of all that it lists.
    Report(Report),
    /// The stops that stand here: the answer to a digest that differed. They come in parts of
    /// [`crate::fence::MAX_TOLD`].
    Stops(Vec<StopId>),
    /// What a stop did here. Said once a stop and again to each coordinator that asks again.
    Receipt(Receipt),
    /// This host's further addresses, as [`HostRecord::also`], whenever they have changed.
    Addresses(Vec<IpAddr>),
}

/// Who an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hello {
    /// This life of the agent.
    pub run: AgentRun,
    /// The host, as it wants to be registered.
    pub host: HostRecord,
    /// The binary's version.
    pub version: String,
    /// What this host can hold.
    pub capabilities: Vec<Capability>,
    /// The policy that it read when it started, as JSON, `{}` for the default, so that nothing begins
    /// anywhere that it would refuse; `None` is not known, as one that is too long to be kept. The host
    /// is asked again for each fault, and has the last word.
    pub policy: Option<String>,
}

impl Report {
    /// Faults that are not over, as the host counts them for its policy.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.faults.iter().filter(|f| !f.phase.is_gone()).count()
    }
}

/// What is true of a host right now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Report {
    /// This life of the agent.
    pub run: AgentRun,
    /// The host's clock; to be echoed.
    pub t: Time,
    /// [`crate::fence::Fence::digest`] of the stops that stand here.
    pub digest: u64,
    /// The newest resume known.
    pub newest_resume: LogIndex,
    /// A leader has given it all stops and resumes since it started.
    pub synced: bool,
    /// Every stop heard is cleared.
    pub armed: bool,
    /// Every fault that is not over, and those over that no leader has acknowledged.
    pub faults: Vec<FaultReport>,
    /// What its probes have seen.
    pub probes: Vec<ProbeReport>,
    /// Whom it sees, where it takes part in gossip.
    pub row: Option<views::Row>,
}

/// Where a fault stands on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostPhase {
    /// The intent is being made durable; nothing is touched.
    Journaling,
    /// The holder is at work.
    Applying,
    /// In place.
    Held,
    /// Being undone and proven gone.
    Reverting,
    /// Over by order, deadline or stop, seen gone.
    Clean,
    /// Over by anything else, seen gone.
    Lost,
    /// Over, but something is left.
    Stuck,
    /// Never in place.
    NotHeld,
}

impl HostPhase {
    /// Its one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HostPhase::Journaling => "journaling",
            HostPhase::Applying => "applying",
            HostPhase::Held => "held",
            HostPhase::Reverting => "reverting",
            HostPhase::Clean => "clean",
            HostPhase::Lost => "lost",
            HostPhase::Stuck => "stuck",
            HostPhase::NotHeld => "not-held",
        }
    }

    /// Nothing of it is on the host, and it does not come back.
    #[must_use]
    pub const fn is_gone(self) -> bool {
        match self {
            HostPhase::Clean | HostPhase::Lost | HostPhase::NotHeld => true,
            HostPhase::Journaling
            | HostPhase::Applying
            | HostPhase::Held
            | HostPhase::Reverting
            | HostPhase::Stuck => false,
        }
    }
}

/// One fault as its host reports it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultReport {
    /// Which.
    pub id: FaultId,
    /// Its kind; `None` where an earlier life of the agent began it.
    pub kind: Option<Kind>,
    /// Where it stands.
    pub phase: HostPhase,
    /// Milliseconds of lease left.
    pub lease_ms: u64,
    /// Milliseconds to its deadline.
    pub remaining_ms: u64,
    /// Milliseconds since it came into place, while it is there.
    pub in_place_ms: Option<u64>,
    /// The last measurement.
    pub achieved: Option<Achieved>,
    /// How it ended, where it is over.
    pub ended: Option<Ended>,
}

/// One probe as its host reports it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Which experiment.
    pub experiment: ExperimentId,
    /// The probe's name.
    pub name: String,
    /// All samples so far, per stage.
    pub stages: Vec<(Stage, Tally)>,
}

/// To an agent, on its control stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ToAgent {
    /// A stop. The record is signed by the coordinator that took it, for the relay.
    Stop {
        /// Its id.
        stop: StopId,
        /// The signed record.
        record: Vec<u8>,
    },
    /// The stops that stand at this coordinator: digests differed. The agent answers likewise.
    Stops(Vec<StopId>),
    /// All stops and resumes, from a leader after a quorum round that began after the report
    /// which it echoes. Arms a host that has just started.
    Sync(Sync),
    /// Orders of a leader after such a round.
    Orders(Orders),
    /// The other hosts, for gossip and relay.
    Peers(Vec<PeerHost>),
}

/// See [`ToAgent::Sync`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sync {
    /// The life of the agent that it answers.
    pub run: AgentRun,
    /// `t` of the report that it answers.
    pub echo: Time,
    /// Who leads.
    pub leadership: Leadership,
    /// The stops that no resume has cleared.
    pub stops: Vec<StopId>,
    /// The resumes that the host lacks, oldest first; all of them where it is not known to know any.
    pub resumes: Vec<Resume>,
}

/// See [`ToAgent::Orders`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Orders {
    /// The life of the agent that it answers.
    pub run: AgentRun,
    /// `t` of the report that it answers; leases run from here.
    pub echo: Time,
    /// Who leads.
    pub leadership: Leadership,
    /// The newest resume that the leader knows.
    pub newest_resume: LogIndex,
    /// Faults whose lease is renewed. What is held and not named lapses.
    pub grant: Vec<FaultId>,
    /// Faults to begin.
    pub apply: Vec<Apply>,
    /// Faults to end now.
    pub lift: Vec<FaultId>,
    /// Faults over whose end is in the log: no need to report them again.
    pub acknowledged: Vec<FaultId>,
    /// Probes to run; those not named end.
    pub probes: Vec<ProbeOrder>,
    /// An experiment runs: beat five times as often.
    pub beat_fast: bool,
}

/// An order to begin one fault.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Apply {
    /// Which.
    pub id: FaultId,
    /// Where its experiment's start stands in the log.
    pub start: LogIndex,
    /// What.
    pub fault: Fault,
    /// The order is void later than this many milliseconds after the echo.
    pub not_after_ms: u64,
    /// How long it stays without renewal.
    pub lease_ms: u64,
    /// How long it stays at most, from when the host begins.
    pub duration_ms: u64,
}

/// An order to run one probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProbeOrder {
    /// For which experiment.
    pub experiment: ExperimentId,
    /// How.
    pub probe: ProbeSpec,
    /// To which stage its samples count now.
    pub stage: Stage,
}

/// Another host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeerHost {
    /// Its name.
    pub name: HostName,
    /// Its address.
    pub address: IpAddr,
    /// Its gossip port.
    pub gossip_port: u16,
    /// Its relay port.
    pub relay_port: u16,
    /// Its cohort: the value of its label `group`, empty where it has none.
    pub cohort: String,
}

/// Whether a host's latch survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Latched {
    /// On disk.
    Durable,
    /// In memory only: the journal could not be written.
    Memory,
}

impl Latched {
    /// Its one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Latched::Durable => "durable",
            Latched::Memory => "memory",
        }
    }
}

/// What a stop did on one host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt {
    /// Which stop.
    pub stop: StopId,
    /// Which life of the agent answers.
    pub run: AgentRun,
    /// Faults that it ended.
    pub lifted: u32,
    /// What is left, one line each.
    pub residue: Vec<String>,
    /// Whether the latch is durable.
    pub latched: Latched,
    /// Milliseconds from the stop's arrival to this answer.
    pub took_ms: u64,
}

/// From one coordinator to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FromCoordinator {
    /// A raft call, encoded by the coordinator crate; answered by [`ToCoordinator::Raft`].
    Raft(Vec<u8>),
    /// Stops.
    Stops(Vec<StopId>),
    /// What this coordinator sees of raft and of which stops it knows.
    View,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ToCoordinator {
    /// The raft call's answer.
    Raft(Vec<u8>),
    /// Taken.
    Taken,
    /// The answer to [`FromCoordinator::View`].
    View(CoordinatorStatus),
    /// It could not be answered.
    Failed(String),
}

//! What is said between agents, coordinators and operators.
//!
//! No message carries its sender's clock for the receiver to compare with: a moment is the echo of
//! the receiver's own [`Time`] plus milliseconds.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::experiment::{Ended, Experiment, ExperimentRecord};
use crate::fault::{Fault, Kind};
use crate::fence::Resume;
use crate::hold::{Achieved, Capability};
use crate::ids::{
    AgentRun, CommandId, ExperimentId, FaultId, HostName, Leadership, LogIndex, NodeId, StopId,
};
use crate::probe::{ProbeSpec, Stage, Tally};
use crate::registry::{HostRecord, Outcome, Refusal};
use crate::time::Time;
use crate::views;

/// From an agent, on its control stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FromAgent {
    /// The first message of a stream.
    Hello(Hello),
    /// Each fifth of a lease, and at each change. Asks for the renewal of all that it lists.
    Report(Report),
    /// All stops that this host has heard: the answer to a digest that differed.
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
    /// The policy that it read when it started, as JSON, `{}` for the default, so that nothing begins anywhere that it would
    /// refuse; `None` is not known, as one that is too long to be kept. The host is asked again for each fault, and has the last
    /// word.
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
    /// [`crate::fence::Fence::digest`] of the stops heard.
    pub digest: u64,
    /// The newest resume known.
    pub newest_resume: LogIndex,
    /// A leader has given it all stops and resumes since it started.
    pub synced: bool,
    /// Every stop heard is cleared.
    pub armed: bool,
    /// The highest leadership that it obeyed.
    pub obeys: Leadership,
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
    /// All stops that this coordinator has heard: digests differed. The agent answers likewise.
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
    /// All of S.
    pub stops: Vec<StopId>,
    /// All of R.
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
    /// Stops, each with its signed record.
    Stops(Vec<(StopId, Vec<u8>)>),
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

/// From an operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Request {
    /// The cluster as this coordinator sees it.
    Status,
    /// What the views say.
    Views,
    /// Resolve an experiment file (as JSON) and check it; change nothing.
    Plan(String),
    /// Resolve, check and start one.
    Submit {
        /// Makes a repeat harmless.
        command: CommandId,
        /// The experiment's id.
        id: ExperimentId,
        /// The file, as JSON.
        file: String,
    },
    /// One experiment, read linearizably where a quorum answers.
    Show(ExperimentId),
    /// All experiments.
    List,
    /// End one early.
    StopExperiment {
        /// Makes a repeat harmless.
        command: CommandId,
        /// Which.
        id: ExperimentId,
    },
    /// End every running experiment, without latching anything.
    ClearFaults {
        /// Makes a repeat harmless.
        command: CommandId,
    },
    /// Stop everything. Answered by a stream of [`Response::Stop`], ended by one that is last.
    StopAll(StopId),
    /// Release stops.
    Resume {
        /// Makes a repeat harmless.
        command: CommandId,
        /// The stops that the operator was shown.
        stops: BTreeSet<StopId>,
        /// Hosts that the operator gives up on.
        despite: BTreeSet<HostName>,
    },
    /// Take a host out of service, or back.
    Drain {
        /// Makes a repeat harmless.
        command: CommandId,
        /// Which.
        host: HostName,
        /// True takes it out.
        drained: bool,
    },
    /// A token with which one host may enrol.
    CreateToken {
        /// Makes a repeat harmless.
        command: CommandId,
        /// Which host.
        host: HostName,
        /// SHA-256 of its secret.
        hash: [u8; 32],
        /// How long it is good.
        ttl_ms: u64,
    },
}

/// To an operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Views`].
    Views(Box<ViewsAnswer>),
    /// To [`Request::Plan`].
    Plan(Box<Plan>),
    /// To a write: what became of it.
    Outcome(Outcome),
    /// To [`Request::Show`].
    Experiment(Box<Shown>),
    /// To [`Request::List`].
    Experiments {
        /// Newest start last.
        list: Vec<ExperimentRecord>,
        /// So many had no room in one answer: the oldest, or very large ones.
        left_out: u32,
        /// A quorum stood behind this answer.
        confirmed: bool,
        /// As of this entry.
        applied: LogIndex,
    },
    /// To [`Request::StopAll`].
    Stop(StopProgress),
    /// Ask the leader instead; `None` where none is known.
    NotLeader(Option<(NodeId, SocketAddr)>),
    /// The quorum did not answer: the write may or may not come to be.
    NoQuorum(String),
    /// The request was refused before it reached the log.
    Refused(Refusal),
    /// The peer's role may not ask this.
    Forbidden(String),
    /// The answer has no room in one frame.
    TooLarge,
}

/// The cluster as one coordinator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// Who answers.
    pub node: NodeId,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// A quorum stood behind this answer.
    pub confirmed: bool,
    /// As of this entry.
    pub applied: LogIndex,
    /// Stops that no resume has cleared, by the log and by this coordinator's own ears.
    pub outstanding: Vec<StopId>,
    /// Every coordinator, as far as it answered.
    pub coordinators: Vec<CoordinatorStatus>,
    /// Every registered host.
    pub hosts: Vec<HostStatus>,
    /// What hosts can hold: each answer that was given, once. Most hosts of a fleet give the same.
    pub capabilities: Vec<Vec<Capability>>,
    /// The experiments that have room in one answer, newest start last.
    pub experiments: Vec<ExperimentRecord>,
    /// So many had no room in it: the oldest, or very large ones.
    pub left_out: u32,
}

impl Status {
    /// What `host` can hold, where it said.
    #[must_use]
    pub fn capabilities_of(&self, host: &HostStatus) -> &[Capability] {
        host.capabilities.and_then(|place| self.capabilities.get(place as usize)).map_or(&[], |c| c)
    }

    /// Whether a drained `host` holds nothing of experiments, by its own word: false where nobody hears it,
    /// `None` while it may hold something by the log, or no quorum stands behind this answer.
    #[must_use]
    pub fn is_whole(&self, host: &HostName) -> Option<bool> {
        let status = self.hosts.iter().find(|h| h.host.name == *host)?;
        let mut faults = status.report.iter().flat_map(|report| &report.faults);
        let holds = faults.any(|f| !f.phase.is_gone() && !f.id.experiment.is_local());
        (self.confirmed && !holds && !status.may_hold).then_some(status.report.is_some())
    }
}

/// One coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CoordinatorStatus {
    /// Its number.
    pub id: NodeId,
    /// Its address.
    pub address: SocketAddr,
    /// `leader`, `follower`, `candidate`, `learner` (it began with an empty disk and does not vote yet),
    /// `stopped` or `unreached`.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// Whom it takes for the leader.
    pub leader: Option<NodeId>,
    /// The last entry it applied.
    pub applied: LogIndex,
    /// Milliseconds since a quorum last answered it, where it leads.
    pub quorum_age_ms: Option<u64>,
    /// Connections that it refused since it started, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// One registered host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostStatus {
    /// As registered.
    pub host: HostRecord,
    /// Its control stream to the coordinator that answers is open.
    pub connected: bool,
    /// Milliseconds since its last report, where there was one.
    pub age_ms: Option<u64>,
    /// Its last report.
    pub report: Option<Report>,
    /// The place of what it can hold in [`Status::capabilities`]; `None` where it did not say.
    pub capabilities: Option<u32>,
    /// By the log it may hold something of experiments, or an order of theirs may be on its way there.
    pub may_hold: bool,
}

/// What the views show.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ViewsAnswer {
    /// A quorum stood behind this answer.
    pub confirmed: bool,
    /// As of this entry.
    pub applied: LogIndex,
    /// The verdict on the whole.
    pub judgement: views::Judgement,
    /// And on each cohort.
    pub cohorts: BTreeMap<String, views::Judgement>,
    /// Whom a host's gossip does not take for alive: the host, the other, and for what. No verdict stands
    /// on it: gossip hides one-way cuts.
    pub gossip: Vec<(HostName, HostName, views::Liveness)>,
}

/// What an experiment would do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// With every name resolved.
    pub experiment: Experiment,
    /// Hosts in service, of which the targets are a share.
    pub fleet: u32,
    /// Why it could not start now; `None` where it could.
    pub refusal: Option<Refusal>,
    /// What a reader should think of first.
    pub risks: Vec<String>,
}

/// One experiment, and what is true of its hosts now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shown {
    /// A quorum stood behind this answer.
    pub confirmed: bool,
    /// As of this entry.
    pub applied: LogIndex,
    /// The record.
    pub record: ExperimentRecord,
    /// Live tallies of its probes.
    pub probes: Vec<ProbeReport>,
}

/// How a stop-all stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StopProgress {
    /// Which.
    pub stop: StopId,
    /// It is in the log.
    pub committed: bool,
    /// Whoever says so knows of hosts, and of none that is connected and not registered. False at a
    /// coordinator that has lost its disk: there may be others than those it names.
    pub whole: bool,
    /// A resume has released it meanwhile: hosts may hold what was started since.
    pub released: bool,
    /// Every host that is registered or connected.
    pub hosts: Vec<StopHost>,
    /// Nothing further will be said.
    pub last: bool,
}

/// A host under a stop-all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StopHost {
    /// Which.
    pub host: HostName,
    /// What is known.
    pub state: StopState,
    /// Its receipt.
    pub receipt: Option<Receipt>,
    /// Milliseconds until every lease it may hold has passed, where it has not answered.
    pub lapses_in_ms: u64,
}

/// What is known of a host under a stop-all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopState {
    /// It answered.
    Lifted,
    /// It has not, and a lease may still hold there.
    Lapsing,
    /// It has not; every lease has passed since. Not seen.
    Lapsed,
    /// It cannot be reached, and held nothing when last heard.
    Unreached,
}

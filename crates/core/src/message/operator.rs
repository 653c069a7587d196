//! What operators ask, and what they are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{ProbeReport, Receipt, Report};
use crate::experiment::{Experiment, ExperimentRecord};
use crate::hold::Capability;
use crate::ids::{CommandId, ExperimentId, FaultId, HostName, LogIndex, NodeId, StopId};
use crate::leader::FRESH_MS;
use crate::registry::{HostRecord, Outcome, Refusal};
use crate::views;

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
    /// Register a host that is gone for good no more.
    Forget {
        /// Makes a repeat harmless.
        command: CommandId,
        /// Which.
        host: HostName,
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

    /// Faults that may be in place by the log, of which their hosts said nothing in the reports that are here:
    /// a report may be older than the fault.
    pub fn untold(&self) -> impl Iterator<Item = (&ExperimentRecord, &FaultId)> {
        let reports = self.hosts.iter().filter_map(|host| host.report.as_ref());
        let told: BTreeSet<&FaultId> = reports.flat_map(|r| &r.faults).map(|f| &f.id).collect();
        let all = self.experiments.iter().flat_map(|e| e.may_be_there().map(move |id| (e, id)));
        all.filter(move |(_, id)| !told.contains(id))
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

/// What a coordinator is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RaftRole {
    /// It leads.
    Leader,
    /// It follows, and votes.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It began with an empty disk and does not vote yet.
    Learner,
    /// It is ending.
    Stopped,
    /// It did not answer.
    Unreached,
}

impl RaftRole {
    /// Its name in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RaftRole::Leader => "leader",
            RaftRole::Follower => "follower",
            RaftRole::Candidate => "candidate",
            RaftRole::Learner => "learner",
            RaftRole::Stopped => "stopped",
            RaftRole::Unreached => "unreached",
        }
    }
}

/// One coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CoordinatorStatus {
    /// Its number.
    pub id: NodeId,
    /// Its address.
    pub address: SocketAddr,
    /// What it is to the log.
    pub role: RaftRole,
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

impl HostStatus {
    /// Whether what it said last still says how it stands.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.report.is_some() && self.age_ms.is_some_and(|age| age < FRESH_MS)
    }
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

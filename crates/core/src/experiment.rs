//! An experiment after its file was resolved: which host gets which fault, for how long, and what
//! became of it.

mod placements;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::hold::Achieved;
use crate::ids::{ExperimentId, FaultId, HostName, LogIndex};
use crate::policy::{AlreadyHeld, Policy};
use crate::probe::{ProbeKind, ProbeSpec, Stage, Steadiness, Tally, Vantage};
use crate::time::WallTime;

/// The lease that holds where the file names none, in milliseconds.
pub const DEFAULT_LEASE_MS: u64 = 5_000;
/// The shortest and the longest lease, in milliseconds.
pub const LEASE_MS: std::ops::RangeInclusive<u64> = 1_000..=30_000;
/// The longest experiment: a day.
pub const MAX_DURATION_MS: u64 = 24 * 60 * 60 * 1000;
/// Incidents kept of one experiment, one that a person has to mend aside.
pub const MAX_INCIDENTS: usize = 100;
/// Timeline entries kept of one experiment.
pub const MAX_TIMELINE: usize = 500;
/// Of these, so many are kept for what is no fault's: phases, incidents, the end.
pub const MAX_STEPS: usize = 100;
/// Characters of one entry of it, at most.
pub const MAX_NOTE: usize = 300;
/// Faults of one experiment, counted on each host, at most: what becomes of them must fit one section
/// of a snapshot.
pub const MAX_PLACEMENTS: usize = 4_096;
/// How long an experiment may be, by [`Experiment::bytes`]: each host gets the addresses of its peers.
pub const MAX_EXPERIMENT_BYTES: usize = 32 << 20;
/// Reasons that stand behind a verdict, and characters of each, at most.
pub const MAX_REASONS: usize = 100;
/// See [`MAX_REASONS`].
pub const MAX_REASON: usize = 400;

/// What one address takes in memory, and one of most other things, about.
const PEER_BYTES: usize = 20;
const EACH_BYTES: usize = 256;

/// What is to be done, with every name resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Experiment {
    /// The file's `name`.
    pub name: String,
    /// The file's `objective`.
    pub objective: String,
    /// Every fault on every host.
    #[serde(with = "placements")]
    pub faults: Vec<Placement>,
    /// How long the faults are held, from when each is in place.
    pub duration_ms: u64,
    /// The steady-state hypothesis.
    pub probes: Vec<ProbeSpec>,
    /// How long the baseline is sampled before anything is injected; 0 without probes.
    pub baseline_ms: u64,
    /// How long it is sampled after everything is lifted; 0 without probes.
    pub recovery_ms: u64,
    /// Its limits.
    pub safety: Safety,
    /// Hosts that the faults reach without holding any: shown, not counted.
    pub touched: BTreeSet<HostName>,
}

/// One fault on one host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// Who holds it.
    pub host: HostName,
    /// The fault's position in the file.
    pub fault: u16,
    /// What it does there.
    pub spec: Fault,
}

/// What an experiment may not exceed, and what ends it early.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Safety {
    /// Distinct target hosts over registered hosts that are not drained, in millionths.
    pub max_radius_ppm: u32,
    /// The label `group` whose members are counted instead of the fleet.
    pub of_group: Option<String>,
    /// A deviation of the steady state, or a split-brain nobody asked for, rolls back.
    pub auto_rollback: bool,
    /// How long each fault stays without renewal.
    pub lease_ms: u64,
    /// A fault that was lost does not end the rest.
    pub continue_on_loss: bool,
    /// The experiment is meant to split authority: a split-brain is told as an incident of level P4, ends
    /// nothing, and has to be seen healed.
    pub expects_split: bool,
}

impl Experiment {
    /// The hosts that hold a fault.
    #[must_use]
    pub fn targets(&self) -> BTreeSet<HostName> {
        self.faults.iter().map(|p| p.host.clone()).collect()
    }

    /// Why it is too long to be kept, where it is.
    #[must_use]
    pub fn too_long(&self) -> Option<String> {
        (self.bytes() > MAX_EXPERIMENT_BYTES).then(|| {
            format!(
                "the addresses of all peers, listed for each host, take {} MiB: at most {} may be",
                self.bytes() >> 20,
                MAX_EXPERIMENT_BYTES >> 20
            )
        })
    }

    /// How much room it takes in memory, about: what may be long in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let peers: usize = self.faults.iter().map(|p| p.spec.peers()).sum();
        let lists = self.faults.len() + self.touched.len() + self.probes.len();
        self.objective.len() + peers * PEER_BYTES + lists * EACH_BYTES
    }

    /// How long the slowest sample of any probe may take; 0 where there is none.
    #[must_use]
    pub fn longest_timeout_ms(&self) -> u64 {
        self.probes.iter().map(|p| p.timeout_ms).max().unwrap_or(0)
    }

    /// How many samples of a probe may be due while the faults are held, at most: the first one at once.
    #[must_use]
    pub fn planned(&self, probe: &ProbeSpec) -> u64 {
        self.duration_ms / probe.every_ms.max(1) + 1
    }
}

/// Where an experiment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// In the log, radius reserved.
    Submitted,
    /// The checklist is being gone through.
    Preflight,
    /// The steady state is sampled.
    Baseline,
    /// Faults are being put in place.
    Injecting,
    /// All that can be held is held.
    Holding,
    /// Faults are being lifted and proven gone.
    Lifting,
    /// The steady state is sampled again.
    Recovering,
    /// Over; the verdict stands.
    Settled,
}

impl Phase {
    /// Its one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Submitted => "submitted",
            Phase::Preflight => "preflight",
            Phase::Baseline => "baseline",
            Phase::Injecting => "injecting",
            Phase::Holding => "holding",
            Phase::Lifting => "lifting",
            Phase::Recovering => "recovering",
            Phase::Settled => "settled",
        }
    }
}

/// What an experiment has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every fault bit, the hypothesis held, everything was seen lifted.
    Held,
    /// Nobody saw enough to say.
    Unknown,
    /// The hypothesis did not hold, or a fault could not be put in place.
    Broken,
    /// A person or a stop-all ended it.
    Stopped,
    /// Safety or a host's policy said no.
    Refused,
}

impl Verdict {
    /// Its one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Held => "held",
            Verdict::Unknown => "unknown",
            Verdict::Broken => "broken",
            Verdict::Stopped => "stopped",
            Verdict::Refused => "refused",
        }
    }
}

/// Why an experiment ends before its time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum EndReason {
    /// A person stopped this experiment.
    #[error("stopped by {0}")]
    Operator(String),
    /// A stop-all.
    #[error("stop-all")]
    StopAll,
    /// The steady state deviated: the probe and what it saw.
    #[error("deviated: probe {0}")]
    Deviated(String),
    /// The baseline was not steady, so that nothing was injected: the probe and what it saw.
    #[error("no steady baseline: probe {0}")]
    NoBaseline(String),
    /// A fault was lost.
    #[error("fault lost: {0}")]
    FaultLost(String),
    /// A fault could not be put in place.
    #[error("fault not held: {0}")]
    FaultFailed(String),
    /// A host refused by its policy.
    #[error("{0} refused: {1}")]
    HostRefused(HostName, String),
    /// The checklist said no.
    #[error("preflight: {0}")]
    Preflight(String),
    /// A split-brain that the experiment did not ask for.
    #[error("split-brain: {0}")]
    SplitBrain(String),
    /// Nobody knows whether a fault is in place: its host did not say, or was drained before it could.
    #[error("{0}")]
    Unanswered(String),
}

/// What the registry knows of one fault, by report of its host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FaultState {
    /// Not reported yet.
    Pending,
    /// In place, and seen to bite or not.
    Held(Achieved),
    /// Over by order or at its deadline; seen gone.
    Clean(Ended),
    /// Over by anything else; seen gone.
    Lost(Ended),
    /// Over, but something is still there.
    Stuck(Ended),
    /// Never in place: the host could not, or would not.
    NotHeld {
        /// Its words.
        reason: String,
        /// The host's policy said no, or the host was latched.
        refused: bool,
    },
    /// Every lease that it may have been granted has run out since the host was last heard; nobody saw it
    /// go. The last measurement, where there was one.
    Lapsed(Option<Achieved>),
}

/// What ended a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Why {
    /// The leader, or the person who injected it here.
    #[error("order")]
    Order,
    /// It stayed for all its time.
    #[error("deadline")]
    Deadline,
    /// It stayed to the end of its time, and came into place too late to be there for all of it.
    #[error("deadline, {in_place_ms} ms after it was in place at last")]
    CameLate {
        /// For how long it was in place.
        in_place_ms: u64,
    },
    /// A stop.
    #[error("stop")]
    Stop,
    /// It was never in place.
    #[error("{reason}")]
    NotHeld {
        /// In words, with the remedy.
        reason: String,
        /// The host would not (policy, latch) rather than could not.
        refused: bool,
    },
    /// Nobody renewed it.
    #[error("lease ran out")]
    Lease,
    /// Its holder died.
    #[error("holder died")]
    HolderDied,
    /// No coordinator was heard after it was put in place.
    #[error("no coordinator was heard after it was in place")]
    Unconfirmed,
    /// The agent died while it was alive.
    #[error("agent restarted")]
    AgentRestarted,
    /// It ended in an earlier life of the agent, which could not tell how.
    #[error("it ended before this agent started")]
    Forgotten,
    /// A person's `squall lift` on the host.
    #[error("lifted by hand")]
    Lifted,
    /// Its agent was told to end.
    #[error("its agent was stopped")]
    Leaving,
    /// Nobody saw it begin, and its host says that it is not there.
    #[error("never seen, and its host does not have it")]
    Absent,
    /// Its host does not say.
    #[default]
    #[error("its host does not say why")]
    Unsaid,
}

/// How a fault ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ended {
    /// What ended it.
    pub why: Why,
    /// The last measurement, where there was one.
    pub achieved: Option<Achieved>,
    /// Milliseconds from the reason to the proof.
    pub lift_ms: u64,
    /// What is left, one line each; empty is clean.
    pub residue: Vec<String>,
}

impl FaultState {
    /// Whether it was in place at some time, as far as anybody knows: what nobody saw go may have been.
    #[must_use]
    pub fn was_in_place(&self) -> bool {
        match self {
            FaultState::Held(_) | FaultState::Stuck(_) | FaultState::Lapsed(_) => true,
            FaultState::Clean(ended) | FaultState::Lost(ended) => ended.achieved.is_some(),
            FaultState::Pending | FaultState::NotHeld { .. } => false,
        }
    }

    /// It counts as over; what is stuck or lapsed may yet be told better.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, FaultState::Pending | FaultState::Held(_))
    }

    /// Over, and either seen gone or never there. Its host's reservation may go.
    #[must_use]
    pub fn is_released(&self) -> bool {
        match self {
            FaultState::Clean(_)
            | FaultState::Lost(_)
            | FaultState::NotHeld { .. }
            | FaultState::Lapsed(_) => true,
            FaultState::Pending | FaultState::Held(_) | FaultState::Stuck(_) => false,
        }
    }
}

/// How grave an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the runbook's levels")]
pub enum Severity {
    P1,
    P2,
    P3,
    P4,
}

impl Severity {
    /// Its one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Severity::P1 => "P1",
            Severity::P2 => "P2",
            Severity::P3 => "P3",
            Severity::P4 => "P4",
        }
    }
}

/// Something that should not have happened, or that a reader should know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incident {
    /// When the leader saw it.
    pub at: WallTime,
    /// How grave.
    pub severity: Severity,
    /// What kind of thing.
    pub kind: IncidentKind,
    /// What, with the evidence.
    pub what: String,
}

/// What kind of thing an incident tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentKind {
    /// A split-brain that the experiment did not ask for.
    SplitBrain,
    /// One that it asked for.
    ExpectedSplitBrain,
    /// One that stands after the heal: no rollback ends it, a person has to.
    ManualIntervention,
}

/// One step in an experiment's life.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// When it was proposed, by the leader's wall clock.
    pub at: WallTime,
    /// What happened.
    pub what: String,
}

/// What one probe showed, per stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProbeOutcome {
    /// The probe's name.
    pub name: String,
    /// Each stage that was sampled.
    pub stages: Vec<(Stage, Tally, Steadiness)>,
}

/// Everything that the cluster agreed on about one experiment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExperimentRecord {
    /// Which.
    pub id: ExperimentId,
    /// Where its start stands in the log: the number that fences its orders.
    pub start: LogIndex,
    /// Who submitted it.
    pub by: String,
    /// When, by the leader's wall clock.
    pub submitted_at: WallTime,
    /// What was asked.
    pub experiment: Experiment,
    /// Hosts in service then, of the fleet or of the group: what its blast radius is a share of.
    pub counted: u32,
    /// Where it stands.
    pub phase: Phase,
    /// Why it ends early, where it does. The first reason stays.
    pub ending: Option<EndReason>,
    /// Each fault.
    pub faults: BTreeMap<FaultId, FaultState>,
    /// What the probes showed, once settled.
    pub probes: Vec<ProbeOutcome>,
    /// What should not have happened.
    pub incidents: Vec<Incident>,
    /// Each step.
    pub timeline: Vec<TimelineEntry>,
    /// The verdict, once settled, with its reasons.
    pub verdict: Option<Verdict>,
    /// Why that verdict.
    pub reasons: Vec<String>,
    /// Hosts whose share of the radius it still holds.
    pub reserved: BTreeSet<HostName>,
    /// When the first and the last of its faults came into place, of those that were seen to.
    pub in_place: Option<(WallTime, WallTime)>,
}

impl ExperimentRecord {
    /// One of its faults for people: `h1 loss`, with its number in the file where its host has several of
    /// that kind.
    #[must_use]
    pub fn called(&self, id: &FaultId) -> String {
        let of_host = || self.experiment.faults.iter().filter(|p| p.host == id.host);
        let Some(placed) = of_host().find(|p| p.fault == id.fault) else {
            return format!("{} fault {}", id.host, id.fault);
        };
        let kind = placed.spec.kind();
        match of_host().filter(|p| p.spec.kind() == kind).count() {
            1 => format!("{} {kind}", id.host),
            _ => format!("{} {kind} (fault {})", id.host, id.fault),
        }
    }

    /// How much room it takes, about: what may be long in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let lists = self.faults.len() + self.timeline.len() + self.reasons.len();
        self.experiment.bytes() + (lists + self.incidents.len()) * EACH_BYTES
    }
}

impl Experiment {
    /// The first host whose policy would refuse a fault of this, or a probe's program, and why. `known`
    /// says the policy of a host and what is alive there; `None` leaves it to the host.
    pub fn refused_by(
        &self,
        mut known: impl FnMut(&HostName) -> Option<(Policy, AlreadyHeld)>,
    ) -> Option<(HostName, String)> {
        let mut hosts = BTreeMap::new();
        for Placement { host, spec, .. } in &self.faults {
            let asked = hosts.entry(host).or_insert_with(|| known(host));
            if let Some((policy, alive)) = asked {
                if let Err(why) = policy.check(spec, self.duration_ms, *alive) {
                    return Some((host.clone(), why.chars().take(MAX_REASON).collect()));
                }
                alive.add(Some(spec));
            }
        }
        self.probes.iter().find_map(|probe| {
            let (Vantage::Host(host), ProbeKind::Exec { argv }) = (&probe.from, &probe.kind) else {
                return None;
            };
            let (policy, _) = known(host)?;
            let why = policy.check_program(argv.first()?).err()?;
            Some((host.clone(), why.chars().take(MAX_REASON).collect()))
        })
    }
}

impl ExperimentRecord {
    /// Not settled yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.phase != Phase::Settled
    }

    /// Its faults that may be in place by what the log says, if their hosts do not say otherwise. A host's
    /// share of the radius is given back once all of them there are gone, or never were.
    pub fn may_be_there(&self) -> impl Iterator<Item = &FaultId> {
        let begun =
            |id: &FaultId| self.phase >= Phase::Injecting && self.reserved.contains(&id.host);
        let may = move |(id, state): &(&FaultId, &FaultState)| {
            !state.is_released() && (begun(id) || **state != FaultState::Pending)
        };
        self.faults.iter().filter(may).map(|(id, _)| id)
    }

    /// A person ended it, or a stop-all.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self.ending, Some(EndReason::StopAll | EndReason::Operator(_)))
    }

    /// Faults may be started and renewed in this phase.
    #[must_use]
    pub fn wants_faults(&self) -> bool {
        matches!(self.phase, Phase::Injecting | Phase::Holding) && self.ending.is_none()
    }

    /// All faults that were left behind, one line each with the host.
    #[must_use]
    pub fn residue(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (id, state) in &self.faults {
            if let FaultState::Stuck(ended) = state {
                lines.extend(ended.residue.iter().map(|r| format!("{}: {r}", id.host)));
            }
        }
        lines
    }
}

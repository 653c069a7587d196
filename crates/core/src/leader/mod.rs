//! What is left to do: the leader compares what the registry wants with what the hosts report.
//!
//! Level-triggered: nothing here is remembered that a new leader would need. Every message to a
//! host stands on a quorum round that began after the report which the message echoes arrived; one
//! round serves all hosts of a tick. Proposals that get lost are made again.

mod orders;
mod progress;
mod split;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::experiment::Phase;
use crate::hold::Capability;
use crate::ids::{AgentRun, ExperimentId, FaultId, HostName, Leadership, StopId};
use crate::message::{ProbeReport, Report, ToAgent};
use crate::policy::Policy;
use crate::registry::{Command, HostRecord, Registry};
use crate::time::{Time, WallTime};

pub use orders::own_probes;
use split::Split;

/// The longest gap between two rounds while hosts are connected.
pub const TICK_MS: u64 = 500;
/// The shortest gap between two rounds.
pub const ROUND_GAP_MS: u64 = 25;
/// How long a stop that was just heard goes before rounds, which every report of a host that has stopped
/// would begin: its receipts come in, and its operator is told of them. Keep it far below the shortest
/// lease.
pub const STOP_FIRST_MS: u64 = 250;
/// A round that takes longer has failed.
pub const ROUND_TIMEOUT_MS: u64 = 2_000;
/// How long an order to begin stays good after the report that it echoes.
pub const NOT_AFTER_MS: u64 = 3_000;
/// A report older than this does not count as fresh.
pub const FRESH_MS: u64 = 3_000;
/// How long a phase may wait for hosts or probes beyond its own length.
pub const PATIENCE_MS: u64 = 10_000;
/// How long a split-brain may stand after all faults are gone before a person is asked: there are systems
/// that keep two masters for ten seconds after the heal.
pub const HEAL_MS: u64 = 15_000;
/// Bytes of the evidence of a split-brain that the log keeps, at most.
pub const MAX_EVIDENCE: usize = 1_000;
/// The same proposal is not repeated within this time.
pub const REPROPOSE_MS: u64 = 1_000;

/// Work for the driver, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask a quorum whether this node still leads (ReadIndex), wait until the registry has applied
    /// what was committed then, and call [`Leader::handle_round`].
    Round {
        /// For the answer: the moment when the round began, of which there is one a round.
        token: u64,
    },
    /// Send to a host's control stream.
    Send {
        /// Which host.
        host: HostName,
        /// What.
        message: ToAgent,
    },
    /// Propose to the log. The answer is not awaited: the registry shows what came of it.
    Propose(Command),
}

/// A connected host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    report: Report,
    arrived: Time,
    /// `t` of the report that had arrived when the running round began.
    asked: Option<Time>,
    /// What it was told last. The same is not said twice.
    told: Vec<ToAgent>,
}

impl Session {
    /// Whether it was told to begin what this report does not list: the order was lost, or came too
    /// late for its lease, and a fresh one is asked for.
    fn awaits(&self, report: &Report) -> bool {
        let lists = |id: &FaultId| report.faults.iter().any(|f| f.id == *id);
        self.told.iter().any(|message| match message {
            ToAgent::Orders(orders) => orders.apply.iter().any(|a| !lists(&a.id)),
            ToAgent::Peers(_) | ToAgent::Stop { .. } | ToAgent::Stops(_) | ToAgent::Sync(_) => {
                false
            }
        })
    }
}

/// The machine of one leadership; dropped with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    leadership: Leadership,
    since: Time,
    sessions: BTreeMap<HostName, Session>,
    /// When a report that lists a fault last arrived in this leadership.
    listed: BTreeMap<FaultId, Time>,
    /// For a fault that is ordered no more and was never listed: the host's life and clock then.
    unlisted: BTreeMap<FaultId, (AgentRun, Time)>,
    capabilities: BTreeMap<HostName, Vec<Capability>>,
    /// Policies of hosts that said something else than the default; `None` where nobody here can read it.
    policies: BTreeMap<HostName, Option<Policy>>,
    /// What the probes of this node have seen.
    own_probes: Vec<ProbeReport>,
    /// When the running round began.
    round: Option<Time>,
    next_round: Time,
    last_round: Time,
    /// Before that no round begins: a stop-all goes first.
    gives_way_until: Time,
    /// When this leader first saw an experiment in its phase.
    phases: BTreeMap<ExperimentId, (Phase, Time)>,
    /// From when to when this leader saw faults put in place and held, of experiments with probes.
    held: BTreeMap<ExperimentId, (Time, Time)>,
    proposed: VecDeque<(Command, Time)>,
    split: Option<Split>,
    /// This leader has seen a whole picture without a split-brain, or the heal of one.
    clear: bool,
    /// When some fault was last known to be in place, whose ever it was.
    hurt: Time,
    /// Stops that somebody has heard and the log may lack.
    stops: BTreeSet<StopId>,
    /// The digest of the log's stops that stand, and when this leader first saw it.
    log_stops: Option<(u64, Time)>,
    actions: VecDeque<Action>,
}

impl Leader {
    /// A node begins to lead.
    #[must_use]
    pub fn new(leadership: Leadership, now: Time) -> Leader {
        Leader {
            leadership,
            since: now,
            sessions: BTreeMap::new(),
            listed: BTreeMap::new(),
            unlisted: BTreeMap::new(),
            capabilities: BTreeMap::new(),
            policies: BTreeMap::new(),
            own_probes: Vec::new(),
            round: None,
            next_round: now,
            last_round: Time(0),
            gives_way_until: Time(0),
            phases: BTreeMap::new(),
            held: BTreeMap::new(),
            proposed: VecDeque::new(),
            split: None,
            clear: false,
            hurt: now,
            stops: BTreeSet::new(),
            log_stops: None,
            actions: VecDeque::new(),
        }
    }

    /// Which leadership this is.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership
    }

    /// What a host said it can hold and will, where the latter is known.
    pub fn handle_hello(
        &mut self,
        host: HostName,
        capabilities: Vec<Capability>,
        policy: Option<Policy>,
    ) {
        if policy == Some(Policy::default()) {
            self.policies.remove(&host);
        } else {
            self.policies.insert(host.clone(), policy);
        }
        self.capabilities.insert(host, capabilities);
    }

    /// A report arrived from a host's control stream. One that is older than the last of the same
    /// life says nothing.
    pub fn handle_report(&mut self, now: Time, host: &HostName, report: Report) {
        let same_life = self.sessions.get_mut(host).filter(|s| s.report.run == report.run);
        if same_life.as_ref().is_some_and(|s| report.t < s.report.t) {
            return;
        }
        let own = report.faults.iter().filter(|f| f.id.host == *host);
        self.listed.extend(own.map(|f| (f.id.clone(), now)));
        if report.alive() > 0 {
            self.hurt = now;
        }
        let changed = if let Some(session) = same_life {
            let changed = session.report.faults != report.faults || session.awaits(&report);
            session.report = report;
            session.arrived = now;
            changed
        } else {
            let session = Session { report, arrived: now, asked: None, told: Vec::new() };
            self.sessions.insert(host.clone(), session);
            true
        };
        if changed {
            self.hurry(now);
        }
    }

    /// Hosts are connected that the log does not know as they are now. To be called after a round that a
    /// quorum answered: entries of a leader without one would only heap up.
    pub fn handle_unknown(&mut self, now: Time, hosts: Vec<HostRecord>) {
        self.proposed.retain(|(_, at)| now.since(*at) < REPROPOSE_MS);
        let name = |(command, _): &(Command, Time)| {
            if let Command::Register(host) = command { Some(host.name.clone()) } else { None }
        };
        // A whole fleet may come at once.
        let under_way: BTreeSet<HostName> = self.proposed.iter().filter_map(name).collect();
        for host in hosts.into_iter().filter(|host| !under_way.contains(&host.name)) {
            let command = Command::Register(host);
            self.proposed.push_back((command.clone(), now));
            self.actions.push_back(Action::Propose(command));
        }
    }

    /// What this node's own probes have seen.
    pub fn handle_own_probes(&mut self, reports: Vec<ProbeReport>) {
        self.own_probes = reports;
    }

    /// A host's control stream has ended.
    pub fn handle_disconnected(&mut self, host: &HostName) {
        self.sessions.remove(host);
    }

    /// A stop was just heard: it goes first. A round that has begun goes on, and a run of stops does not
    /// keep rounds up for ever.
    pub fn handle_stop(&mut self, now: Time, stop: StopId) {
        if now >= self.gives_way_until {
            self.gives_way_until = now.plus(STOP_FIRST_MS);
        }
        self.handle_stops(now, &[stop]);
    }

    /// Stops that were heard before. Until the log has them all nothing is started.
    pub fn handle_stops(&mut self, now: Time, stops: &[StopId]) {
        self.stops.extend(stops);
        self.hurry(now);
    }

    /// The registry has changed.
    pub fn handle_change(&mut self, now: Time) {
        self.hurry(now);
    }

    /// A quorum answered that this node still leads (`ok`), or did not in time. `registry` has
    /// applied everything that was committed when the round began.
    pub fn handle_round(
        &mut self,
        now: Time,
        wall: WallTime,
        token: u64,
        ok: bool,
        registry: &Registry,
    ) {
        let Some(began) = self.round.filter(|began| began.0 == token) else { return };
        self.round = None;
        // An answer from before this node slept is no answer.
        if !ok || now.since(began) >= ROUND_TIMEOUT_MS {
            self.next_round = now.plus(TICK_MS);
            return; // guard: quorum round
        }
        self.stops.retain(|stop| !registry.fence.knows(*stop));
        for stop in self.stops.clone() {
            self.propose(now, Command::Stop(stop));
        }
        self.observe(now, registry);
        self.progress(now, wall, registry);
        if self.send_orders(now, registry) {
            self.hurry(now);
        }
    }

    fn due(&self) -> Time {
        self.next_round.max(self.gives_way_until)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(began) = self.round {
            if now.since(began) < ROUND_TIMEOUT_MS {
                return;
            }
            self.round = None;
        }
        if now >= self.due() {
            for session in self.sessions.values_mut() {
                session.asked = Some(session.report.t);
            }
            self.round = Some(now);
            self.last_round = now;
            self.next_round = now.plus(TICK_MS);
            self.actions.push_back(Action::Round { token: now.0 });
        }
    }

    /// When to call [`Leader::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Time {
        self.round.map_or_else(|| self.due(), |began| began.plus(ROUND_TIMEOUT_MS))
    }

    /// The next piece of work.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn hurry(&mut self, now: Time) {
        let soonest = self.last_round.plus(ROUND_GAP_MS).max(now);
        self.next_round = self.next_round.min(soonest);
    }

    fn propose(&mut self, now: Time, command: Command) {
        self.proposed.retain(|(_, at)| now.since(*at) < REPROPOSE_MS);
        // Since when a fault is in place is told anew with each report.
        let same = |known: &Command| match (known, &command) {
            (
                Command::Observe { fault: a, state: x, .. },
                Command::Observe { fault: b, state: y, .. },
            ) => (a, x) == (b, y),
            (known, command) => known == command,
        };
        if self.proposed.iter().any(|(known, _)| same(known)) {
            return;
        }
        self.proposed.push_back((command.clone(), now));
        self.actions.push_back(Action::Propose(command));
    }

    fn fresh(&self, now: Time, host: &HostName) -> Option<&Session> {
        self.sessions.get(host).filter(|s| now.since(s.arrived) < FRESH_MS)
    }
}

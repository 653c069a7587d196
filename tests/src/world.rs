//! Hosts, coordinators, a log and a network, all by the machines of `core`, with every choice that
//! the world could make given from outside as an [`Event`].

use std::collections::{BTreeMap, BTreeSet};

use squall_core::experiment::{Experiment, Phase, Placement, Safety};
use squall_core::fault::{Cpu, Fault};
use squall_core::hold::{Achieved, HolderReport};
use squall_core::host::{self, Host, Record, Token};
use squall_core::ids::{
    AgentRun, CommandId, ExperimentId, FaultId, HostName, Leadership, LogIndex, NodeId, StopId,
};
use squall_core::leader::{self, Leader};
use squall_core::message::{Orders, ToAgent};
use squall_core::policy::Policy;
use squall_core::registry::{Command, Entry, HostRecord, Outcome, Registry};
use squall_core::time::{Time, WallTime};
use uuid::Uuid;

/// The lease of every experiment here, in milliseconds.
pub const LEASE_MS: u64 = 5_000;
/// Messages to one host that the network keeps; each may be delivered any number of times.
pub const BAG: usize = 3;

/// One choice of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A host's report reaches a coordinator that believes it leads, which asks for a quorum, and
    /// answers into the network.
    Tick(usize, usize),
    /// A message that the network keeps for a host arrives.
    Deliver(usize, usize),
    /// A stop reaches a host, over QUIC or by relay.
    Stop(usize, usize),
    /// A stop reaches the log.
    LogStop(usize),
    /// An operator who was shown these stops (a bit each) resumes.
    Resume(u8),
    /// An experiment on all hosts starts.
    Submit,
    /// An operator ends the oldest experiment that runs.
    End,
    /// The other coordinator is elected.
    Elect,
    /// A host's pending writes reach its disk.
    Persist(usize),
    /// An agent dies, and all its holders with it; writes that were pending are lost.
    Crash(usize),
    /// It starts again.
    Restart(usize),
    /// So many milliseconds pass everywhere.
    Wait(u64),
}

/// One host and its disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostSide {
    /// Its name.
    pub name: HostName,
    /// The machine, while the agent lives.
    pub machine: Option<Host>,
    /// How many lives it has had.
    pub life: u128,
    /// What survives a crash.
    pub disk: Vec<Record>,
    /// Writes under way.
    pub writing: Vec<(Token, Vec<Record>)>,
    /// Faults in place.
    pub holders: BTreeSet<FaultId>,
    /// Every fault that was ever in place and is no more.
    pub gone: BTreeSet<FaultId>,
    /// A fault that came back.
    pub returned: Option<FaultId>,
    /// Stops that this host has received and must not forget: those that it answered durably, or
    /// heard in this life, or that the log has.
    pub received: BTreeSet<StopId>,
    /// When it last reported, by its own clock.
    pub asked: Time,
    /// The highest leadership whose message it took.
    pub obeyed: Leadership,
    /// A fault that began by an order of a leadership below that.
    pub misled: Option<FaultId>,
    /// Messages to it that the network keeps.
    pub bag: Vec<ToAgent>,
}

/// One coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CoordinatorSide {
    /// Its machine, while it believes that it leads.
    pub leader: Leader,
    /// The log as far as it has it.
    pub registry: Registry,
}

/// The whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Everybody's clock.
    pub now: Time,
    /// All hosts.
    pub hosts: Vec<HostSide>,
    /// All coordinators.
    pub coordinators: Vec<CoordinatorSide>,
    /// Which of them a quorum follows.
    pub elected: usize,
    /// The log's state.
    pub log: Registry,
    /// Stops that were logged while something had started since.
    pub violation: Option<String>,
    submitted: u128,
    elections: u64,
    commands: u128,
}

/// The stop of number `n`.
#[must_use]
pub fn stop_id(n: usize) -> StopId {
    StopId(Uuid::from_u128(0x5700 + n as u128))
}

impl World {
    /// `hosts` hosts, synced, and one experiment that is being injected on all of them.
    #[must_use]
    pub fn new(hosts: usize) -> World {
        let now = Time(1_000_000);
        let names: Vec<HostName> =
            (1..=hosts).map(|n| format!("h{n}").parse().expect("a host name")).collect();
        let lead = |n: u64| Leadership { term: n, node: NodeId(n) };
        let mut world = World {
            now,
            hosts: names.iter().map(|n| HostSide::new(n.clone(), now)).collect(),
            coordinators: (1..=2)
                .map(|n| CoordinatorSide {
                    leader: Leader::new(lead(n), now),
                    registry: Registry::default(),
                })
                .collect(),
            elected: 0,
            log: Registry::default(),
            violation: None,
            submitted: 0,
            elections: 2,
            commands: 0,
        };
        for name in names {
            world.commit(Command::Register(HostRecord {
                name,
                address: [127, 0, 0, 1].into(),
                labels: BTreeMap::new(),
                gossip_port: 0,
                relay_port: 0,
                coordinator: false,
                drained: false,
            }));
        }
        for host in 0..hosts {
            world.step(Event::Tick(0, host));
            world.step(Event::Deliver(host, 0));
            world.hosts[host].bag.clear();
        }
        world.step(Event::Submit);
        world
    }

    /// Every choice that makes sense now.
    #[must_use]
    pub fn choices(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (h, host) in self.hosts.iter().enumerate() {
            if host.machine.is_none() {
                events.push(Event::Restart(h));
                continue;
            }
            events.push(Event::Crash(h));
            if !host.writing.is_empty() {
                events.push(Event::Persist(h));
            }
            events.extend((0..self.coordinators.len()).map(|c| Event::Tick(c, h)));
            events.extend((0..host.bag.len()).map(|m| Event::Deliver(h, m)));
            events.extend((0..2).map(|s| Event::Stop(h, s)));
        }
        events.extend((0..2).filter(|s| !self.log.stops.contains_key(&stop_id(*s))).map(Event::LogStop));
        if !self.log.fence.armed() {
            events.push(Event::Resume(1));
            events.push(Event::Resume(3));
        }
        if self.submitted < 3 {
            events.push(Event::Submit);
        }
        if self.log.running().any(|e| e.ending.is_none()) {
            events.push(Event::End);
        }
        if self.elections < 4 {
            events.push(Event::Elect);
        }
        events.push(Event::Wait(LEASE_MS));
        events.push(Event::Wait(3_600_000));
        events
    }

    /// Lets one thing happen, and everything that follows from it at once.
    pub fn step(&mut self, event: Event) {
        match event {
            Event::Tick(c, h) => self.tick(c, h),
            Event::Deliver(h, m) => self.deliver(h, m),
            Event::Stop(h, s) => {
                let now = self.now;
                self.hosts[h].receive_stop(now, stop_id(s));
            }
            Event::LogStop(s) => self.commit_stop(stop_id(s)),
            Event::Resume(shown) => self.resume(shown),
            Event::Submit => self.submit(),
            Event::End => {
                let oldest = self.log.running().filter(|e| e.ending.is_none()).min_by_key(|e| e.start);
                if let Some(id) = oldest.map(|e| e.id) {
                    let why = squall_core::experiment::EndReason::Operator("o".into());
                    self.commit(Command::End { id, why });
                }
            }
            Event::Elect => {
                self.elections += 1;
                self.elected = 1 - self.elected;
                let node = NodeId(self.elected as u64 + 1);
                let leadership = Leadership { term: self.elections, node };
                let side = &mut self.coordinators[self.elected];
                side.leader = Leader::new(leadership, self.now);
                side.registry = self.log.clone();
            }
            Event::Persist(h) => {
                let now = self.now;
                self.hosts[h].persist(now);
            }
            Event::Crash(h) => {
                let logged: BTreeSet<StopId> = self.log.stops.keys().copied().collect();
                self.hosts[h].crash(&logged);
            }
            Event::Restart(h) => {
                let now = self.now;
                self.hosts[h].start(now);
            }
            Event::Wait(ms) => self.wait(ms),
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        let now = self.now;
        for host in &mut self.hosts {
            if let Some(machine) = &mut host.machine {
                machine.handle_timeout(now);
            }
            host.settle(now, None);
        }
    }

    fn tick(&mut self, c: usize, h: usize) {
        let now = self.now;
        let Some(machine) = &self.hosts[h].machine else { return };
        let report = machine.report(now);
        let known: Vec<StopId> = machine.fence().stops().collect();
        self.hosts[h].asked = now;
        let ok = c == self.elected;
        if ok {
            self.coordinators[c].registry = self.log.clone();
        }
        let name = self.hosts[h].name.clone();
        let side = &mut self.coordinators[c];
        side.leader.handle_report(now, &name, report);
        // The exchange of ids that follows a differing digest, in the same breath.
        if known.iter().any(|s| !side.registry.fence.knows(*s)) && self.exchanges(h) {
            self.coordinators[c].leader.handle_stops(now, &known);
        }
        let side = &mut self.coordinators[c];
        let mut at = now;
        while side.leader.poll_timeout() > at {
            at = side.leader.poll_timeout();
        }
        side.leader.handle_timeout(at);
        let mut work: Vec<leader::Action> = std::iter::from_fn(|| side.leader.poll_action()).collect();
        for action in &work {
            if let leader::Action::Round { token } = action {
                let registry = side.registry.clone();
                side.leader.handle_round(at, WallTime(0), *token, ok, &registry);
            }
        }
        work.extend(std::iter::from_fn(|| side.leader.poll_action()));
        self.carry_out(c, ok, &known, work);
    }

    /// The host's digest differs from the coordinator's, which therefore asks for its ids.
    fn exchanges(&self, _host: usize) -> bool {
        true
    }

    fn carry_out(&mut self, c: usize, ok: bool, known: &[StopId], work: Vec<leader::Action>) {
        for action in work {
            match action {
                leader::Action::Round { .. } => {}
                leader::Action::Propose(command) if ok => match command {
                    Command::Stop(stop) => self.commit_stop(stop),
                    command => {
                        self.commit(command);
                    }
                },
                leader::Action::Propose(_) => {}
                leader::Action::Send { host, message } => {
                    if !ok {
                        self.violation = Some(format!(
                            "coordinator {c} told {host} something although no quorum answered"
                        ));
                    }
                    if let ToAgent::Orders(Orders { apply, .. }) = &message
                        && !apply.is_empty()
                        && known.iter().any(|s| !self.coordinators[c].registry.fence.knows(*s))
                    {
                        self.violation = Some(format!(
                            "coordinator {c} started something although a host told it of a stop that the log lacks"
                        ));
                    }
                    if let Some(side) = self.hosts.iter_mut().find(|s| s.name == host)
                        && !side.bag.contains(&message)
                    {
                        if side.bag.len() == BAG {
                            side.bag.remove(0);
                        }
                        side.bag.push(message);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, h: usize, m: usize) {
        let now = self.now;
        let side = &mut self.hosts[h];
        let (Some(machine), Some(message)) = (&mut side.machine, side.bag.get(m).cloned()) else {
            return;
        };
        let mut by = None;
        match &message {
            ToAgent::Stop { stop, .. } => machine.handle_stop(now, *stop),
            ToAgent::Stops(stops) => {
                machine.handle_stops(now, stops);
                side.received.extend(stops);
            }
            ToAgent::Sync(sync) => {
                machine.handle_sync(now, sync);
                if machine.report(now).run == sync.run && sync.leadership >= side.obeyed {
                    side.obeyed = sync.leadership;
                    side.received.extend(&sync.stops);
                }
            }
            ToAgent::Orders(orders) => {
                by = Some(orders.leadership);
                machine.handle_orders(now, orders);
                if machine.report(now).run == orders.run {
                    side.obeyed = side.obeyed.max(orders.leadership);
                }
            }
            ToAgent::Peers(_) => {}
        }
        side.settle(now, by);
    }

    fn resume(&mut self, shown: u8) {
        let stops: BTreeSet<StopId> =
            (0..2).filter(|s| shown & (1 << s) != 0).map(stop_id).collect();
        let before: BTreeSet<StopId> = self.log.fence.outstanding().collect();
        self.commit(Command::Resume { stops: stops.clone(), despite: BTreeSet::new() });
        let after: BTreeSet<StopId> = self.log.fence.outstanding().collect();
        if before.difference(&after).any(|cleared| !stops.contains(cleared)) {
            self.violation = Some("a resume cleared a stop that its operator was not shown".into());
        }
    }

    fn submit(&mut self) {
        self.submitted += 1;
        let id = ExperimentId(Uuid::from_u128(0xe000 + self.submitted));
        let faults = self.hosts.iter().map(|h| Placement {
            host: h.name.clone(),
            fault: 0,
            spec: Fault::Cpu(Cpu { workers: Some(1), load_percent: 1 }),
        });
        let experiment = Experiment {
            name: "e".into(),
            objective: String::new(),
            faults: faults.collect(),
            duration_ms: 600_000,
            probes: vec![],
            baseline_ms: 0,
            recovery_ms: 0,
            safety: Safety {
                max_radius_ppm: 1_000_000,
                of_group: None,
                auto_rollback: true,
                lease_ms: LEASE_MS,
                continue_on_loss: true,
                expects_split: false,
            },
            touched: BTreeSet::new(),
        };
        let armed = self.log.fence.armed();
        // The fleet's own limit would refuse all hosts at once; here every host must be in play.
        let outcome = self.force_submit(id, experiment);
        if matches!(outcome, Outcome::Done(_)) {
            if !armed {
                self.violation = Some("a start committed after a stop".into());
            }
            for (from, to) in [
                (Phase::Submitted, Phase::Preflight),
                (Phase::Preflight, Phase::Injecting),
            ] {
                self.commit(Command::Advance { id, from, to });
            }
        }
    }

    /// Submits with hosts enough in the fleet that the radius allows it.
    fn force_submit(&mut self, id: ExperimentId, experiment: Experiment) -> Outcome {
        let real = self.log.hosts.clone();
        for n in 0..4 * self.hosts.len() * 3 {
            let Some(first) = real.values().next() else { break };
            let name: HostName = format!("spare{n}").parse().expect("a host name");
            self.log.hosts.insert(name.clone(), HostRecord { name, ..first.clone() });
        }
        let outcome = self.commit(Command::Submit { id, experiment: Box::new(experiment) });
        self.log.hosts = real;
        outcome
    }

    fn commit_stop(&mut self, stop: StopId) {
        self.commit(Command::Stop(stop));
    }

    fn commit(&mut self, command: Command) -> Outcome {
        self.commands += 1;
        let entry = Entry {
            id: CommandId(Uuid::from_u128(self.commands)),
            at: WallTime(0),
            by: "o".into(),
            command,
        };
        let index = LogIndex(self.log.applied.0 + 1);
        self.log.apply(index, &entry)
    }
}

impl HostSide {
    fn new(name: HostName, now: Time) -> HostSide {
        let mut side = HostSide {
            name,
            machine: None,
            life: 0,
            disk: vec![],
            writing: vec![],
            holders: BTreeSet::new(),
            gone: BTreeSet::new(),
            returned: None,
            received: BTreeSet::new(),
            asked: now,
            obeyed: Leadership::default(),
            misled: None,
            bag: vec![],
        };
        side.start(now);
        side
    }

    fn start(&mut self, now: Time) {
        self.life += 1;
        let run = AgentRun(Uuid::from_u128(self.life));
        let policy = Policy::default();
        self.machine =
            Some(Host::new(self.name.clone(), run, policy, &self.disk, false, now));
        self.settle(now, None);
    }

    fn crash(&mut self, logged: &BTreeSet<StopId>) {
        self.machine = None;
        self.writing.clear();
        self.gone.append(&mut self.holders);
        let on_disk: BTreeSet<StopId> = self
            .disk
            .iter()
            .filter_map(|r| if let Record::Stop(stop) = r { Some(*stop) } else { None })
            .collect();
        self.received.retain(|s| on_disk.contains(s) || logged.contains(s));
    }

    fn receive_stop(&mut self, now: Time, stop: StopId) {
        let Some(machine) = &mut self.machine else { return };
        machine.handle_stop(now, stop);
        self.received.insert(stop);
        self.settle(now, None);
    }

    fn persist(&mut self, now: Time) {
        for (token, records) in std::mem::take(&mut self.writing) {
            self.disk.extend(records);
            if let Some(machine) = &mut self.machine {
                machine.handle_persisted(now, token, Ok(()));
            }
        }
        self.settle(now, None);
    }

    /// Carries out all work but the durable writes, which wait for their own event.
    fn settle(&mut self, now: Time, by: Option<Leadership>) {
        let Some(mut machine) = self.machine.take() else { return };
        while let Some(action) = machine.poll_action() {
            match action {
                host::Action::Persist { token, records } => self.writing.push((token, records)),
                host::Action::Start(hold) => {
                    if self.gone.contains(&hold.id) {
                        self.returned = Some(hold.id.clone());
                    }
                    self.holders.insert(hold.id.clone());
                    let held = HolderReport::Held(Achieved { bit: true, ..Achieved::default() });
                    machine.handle_holder(now, &hold.id, held);
                }
                host::Action::Lift(id) | host::Action::Kill(id) => {
                    if self.holders.remove(&id) {
                        self.gone.insert(id.clone());
                        machine.handle_gone(now, &id);
                    }
                }
                host::Action::Prove(id) => machine.handle_proof(now, &id, vec![]),
                host::Action::Renew(..)
                | host::Action::Report
                | host::Action::Receipt(_)
                | host::Action::Relay(_) => {}
            }
            let _ = by;
        }
        self.machine = Some(machine);
    }
}

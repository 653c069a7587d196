//! The small world, all of whose histories are looked at: everything that follows from an event
//! happens at once, but for what an event of its own stands for. Those are the messages, which the
//! network keeps, repeats and forgets; the disks; the clocks; and what people and chance do.
//!
//! How the model says what it is asked about: a *relayed stop* reaches one host and nobody else
//! ([`Event::Stop`]); *old* starts and grants are messages that the network still has when something
//! newer has overtaken them; a *partition* is a coordinator that still believes it leads, while a
//! quorum follows the other ([`Event::Ask`] to it), a host that nobody asks, and a message that is
//! never delivered; a *crash before the fsync* loses the writes under way, one *after* keeps them,
//! all or the first few.
//!
//! A coordinator keeps what its hosts said last and which stops it was told of; its leader's machine
//! is made anew from that at each round. What the machine remembers beyond that decides how long it
//! waits and what it need not say twice, and nothing that is said: the simulation keeps it.

mod event;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use squall_core::experiment::{EndReason, Phase};
use squall_core::host::Action;
use squall_core::ids::{ExperimentId, FaultId, HostName, Leadership, LogIndex, NodeId, StopId};
use squall_core::leader;
use squall_core::message::{Report, ToAgent};
use squall_core::registry::{Command, Outcome, Registry};
use squall_core::time::Time;

use crate::world::{
    Fact, Fingerprint, HostSide, Leading, Log, MAX_CLOCKS, Shared, World, epoch, experiment,
    experiment_id, host_name, host_record, stop_id,
};

pub use event::Event;

/// The lease of everything here.
pub const LEASE_MS: u64 = 5_000;
/// How long a wait is: a lease survives one and not two, and so does an order to begin none. No sum
/// of waits lies within a grain of what a leader waits for.
pub const WAIT_MS: u64 = 3_500;
/// How far a clock jumps.
pub const JUMP_MS: u64 = 3_600_000;
/// Messages to one host that the network keeps; each may be delivered any number of times.
pub const BAG: usize = 3;
/// Stops that there are.
pub const STOPS: u8 = 2;
/// Experiments that there are, the one that runs at the beginning included.
pub const EXPERIMENTS: u32 = 2;
/// Elections that there are.
pub const ELECTIONS: u64 = 2;
/// The moment, by a coordinator's clock, of every round.
const LED: Time = Time(1);
/// Coordinators that there are.
const COORDINATORS: usize = 2;

/// One coordinator.
#[derive(Clone, Debug, Hash)]
struct Coordinator {
    /// The last leadership that it had, and believes to have still.
    leadership: Leadership,
    /// What each host said last, and the stops that it knew then.
    reports: BTreeMap<HostName, (Report, BTreeSet<StopId>)>,
    /// Stops that hosts told it of.
    heard: BTreeSet<StopId>,
}

/// The small world.
#[derive(Clone, Debug)]
pub struct Small {
    /// Hosts and log.
    pub world: World,
    coordinators: Vec<Shared<Coordinator>>,
    elected: u8,
    elections: u64,
    submitted: u32,
    injected: bool,
    /// The hosts are alike: nothing has happened yet to one alone.
    alike: bool,
}

impl Small {
    /// `hosts` hosts, synced and idle, and an experiment on all of them that is being injected.
    #[must_use]
    pub fn new(hosts: usize) -> Small {
        let mut log = Log::default();
        // As many again that run no agent, so that the radius allows an experiment on all others.
        for h in 0..2 * hosts {
            let register = Command::Register(host_record(host_name(h)));
            log.commit_and_forget(register, &mut Vec::new());
        }
        let coordinators = (0..COORDINATORS).map(|c| Shared::new(Coordinator::new(1, c))).collect();
        let mut small = Small {
            world: World::new(hosts, log),
            coordinators,
            elected: 0,
            elections: 0,
            submitted: 0,
            injected: false,
            alike: true,
        };
        for h in 0..hosts as u8 {
            small.step(Event::Restart(h));
            small.step(Event::Ask(0, h));
            small.step(Event::Deliver(h, 0));
            small.host(h).bag.clear();
        }
        small.step(Event::Submit);
        for host in &mut small.world.hosts {
            host.bag.clear();
        }
        small.alike = true;
        small
    }

    /// A fingerprint of everything that can make a difference.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        use std::hash::Hasher;
        let mut now = [0; MAX_CLOCKS];
        for (h, host) in self.world.hosts.iter().enumerate() {
            now[h] = host.clock.since(epoch(h));
        }
        let mut all = Fingerprint::new(now);
        let hosts = self.world.hosts.iter().map(|part| part.fingerprint(now));
        let coordinators = self.coordinators.iter().map(|part| part.fingerprint(now));
        let log = std::iter::once(self.world.log.fingerprint(now));
        for part in hosts.chain(coordinators).chain(log) {
            all.write_u128(part);
        }
        let numbers = [self.elections, u64::from(self.submitted), u64::from(self.injected)];
        for number in numbers {
            all.write_u64(number);
        }
        all.write_u8(self.elected);
        all.finish128()
    }

    /// Every choice that makes sense now.
    #[must_use]
    pub fn choices(&self) -> Vec<Event> {
        let mut events = Vec::new();
        // Where all are alike, the first stands for all.
        let hosts = if self.alike { 1 } else { self.world.hosts.len() };
        for (h, host) in (0_u8..).zip(&self.world.hosts[..hosts]) {
            if host.machine.is_none() {
                events.push(Event::Restart(h));
                continue;
            }
            events.extend((0..=host.writing.len() as u8).map(|kept| Event::Crash(h, kept)));
            if !host.writing.is_empty() {
                events.push(Event::Persist(h));
            }
            if !host.holders.is_empty() {
                events.push(Event::HolderDies(h));
            }
            if !self.injected {
                events.push(Event::Inject(h));
            }
            events.extend((0..self.coordinators.len() as u8).map(|c| Event::Ask(c, h)));
            events.extend((0..host.bag.len() as u8).map(|m| Event::Deliver(h, m)));
            events.extend((0..self.stops()).map(|s| Event::Stop(h, s)));
            events.push(Event::Jump(h));
        }
        let logged = |s: &u8| self.world.log.stopped.contains(&stop_id(usize::from(*s)));
        events.extend((0..self.stops()).filter(|s| !logged(s)).map(Event::LogStop));
        if !self.world.log.registry.fence.armed() {
            events.extend([1, 2, 3].map(Event::Resume));
        }
        if self.submitted < EXPERIMENTS {
            events.push(Event::Submit);
        }
        if self.oldest().is_some() {
            events.push(Event::End);
        }
        if self.elections < ELECTIONS {
            events.push(Event::Elect);
        }
        events.push(Event::Wait);
        events
    }

    /// Stops that may happen now: the second only after the first, since all else is the same with
    /// the names exchanged.
    fn stops(&self) -> u8 {
        let first = stop_id(0);
        let heard = self.world.hosts.iter().any(|h| h.truth.received.contains(&first));
        if heard || self.world.log.stopped.contains(&first) { STOPS } else { 1 }
    }

    /// Lets one thing happen, and everything that follows from it at once.
    pub fn step(&mut self, event: Event) {
        self.world.facts.clear();
        self.alike &= !event.is_of_one_host();
        match event {
            Event::Ask(c, h) if c == self.elected => self.ask(usize::from(c), usize::from(h)),
            Event::Ask(c, h) => self.ask_in_vain(usize::from(c), usize::from(h)),
            Event::Deliver(h, m) => {
                let message = self.world.hosts[usize::from(h)].bag.get(usize::from(m)).cloned();
                if let Some(message) = message {
                    let by = self.host(h).deliver(&message);
                    self.settle(h, by);
                }
            }
            Event::Stop(h, s) => self.at_host(h, |host| host.hear(stop_id(usize::from(s)))),
            Event::LogStop(s) => {
                self.commit(Command::Stop(stop_id(usize::from(s))));
            }
            Event::Resume(shown) => {
                let shown = (0..STOPS).filter(|s| shown & (1 << s) != 0);
                let stops = shown.map(|s| stop_id(usize::from(s))).collect();
                self.commit(Command::Resume { stops, despite: BTreeSet::new() });
            }
            Event::Submit => self.submit(),
            Event::End => {
                if let Some(id) = self.oldest() {
                    self.commit(Command::End { id, why: EndReason::Operator("o".into()) });
                }
            }
            Event::Elect => self.elect(),
            Event::Persist(h) => {
                for _ in 0..self.world.hosts[usize::from(h)].writing.len() {
                    self.at_host(h, |host| host.persist(true));
                }
            }
            Event::Crash(h, kept) => self.host(h).crash(usize::from(kept)),
            Event::Restart(h) => {
                let logged = self.world.log.stopped.clone();
                self.at_host(h, |host| host.start(&logged));
            }
            Event::HolderDies(h) => self.at_host(h, |host| {
                if let Some(id) = host.holders.keys().next().cloned() {
                    host.gone(&id);
                }
            }),
            Event::Inject(h) => self.inject(h),
            Event::Wait => self.wait(),
            Event::Jump(h) => {
                let host = self.host(h);
                let idle = host.holders.is_empty();
                host.pass(JUMP_MS);
                host.truth.asleep = true;
                if idle {
                    // Whether the timer or something else comes first makes no difference.
                    self.at_host(h, HostSide::timeout);
                }
            }
        }
    }

    /// What an event means here, in words.
    #[must_use]
    pub fn describe(&self, event: Event) -> String {
        let Event::Deliver(h, m) = event else { return event.to_string() };
        let message = self.world.hosts[usize::from(h)].bag.get(usize::from(m));
        format!("{event}: {}", message.map_or("none".into(), |message| event::brief(message)))
    }

    fn host(&mut self, h: u8) -> &mut HostSide {
        &mut self.world.hosts[usize::from(h)]
    }

    fn at_host(&mut self, h: u8, event: impl FnOnce(&mut HostSide)) {
        event(self.host(h));
        self.settle(h, None);
    }

    /// Carries out all that an agent wants, but for the writes. Holders obey, proofs are clean, and
    /// an agent notices at once that a holder is gone.
    fn settle(&mut self, h: u8, by: Option<Leadership>) {
        let host: &mut HostSide = &mut self.world.hosts[usize::from(h)];
        loop {
            let Some(action) = host.next_action(by, &mut self.world.facts) else {
                let Some(id) = unnoticed(host) else { return };
                host.notice_gone(&id);
                continue;
            };
            match action {
                Action::Start(hold) => host.held(&hold.id),
                Action::Lift(id) => {
                    host.lets_go(&id);
                    host.notice_gone(&id);
                }
                Action::Kill(id) => {
                    host.gone(&id);
                    host.notice_gone(&id);
                }
                Action::Prove(id) => host.proven(&id, Vec::new()),
                Action::Persist { .. }
                | Action::Renew(..)
                | Action::Report
                | Action::Receipt(_)
                | Action::Relay(_) => {}
            }
        }
    }

    fn commit(&mut self, command: Command) -> Outcome {
        self.world.log.commit_and_forget(command, &mut self.world.facts)
    }

    fn ask(&mut self, c: usize, h: usize) {
        let Some(report) = self.world.hosts[h].report() else { return };
        let (name, stops) = (self.world.hosts[h].name.clone(), known_stops(&self.world.hosts[h]));
        let side: &mut Coordinator = &mut self.coordinators[c];
        side.reports.insert(name.clone(), (report, stops.clone()));
        let actions = side.round(true, &self.world.log.registry, &mut self.world.facts);
        for action in actions {
            match action {
                leader::Action::Round { .. } => {}
                leader::Action::Propose(command) => {
                    self.commit(command);
                }
                // The host that is there answers at once with its own; what it is told by this is
                // an event of its own, or comes with the next message.
                leader::Action::Send { message: ToAgent::Stops(_), host } => {
                    if host == name {
                        let side: &mut Coordinator = &mut self.coordinators[c];
                        side.heard.extend(&stops);
                    }
                }
                leader::Action::Send { host, message } => self.keep(&host, message),
            }
        }
        let log = &self.world.log;
        let side: &mut Coordinator = &mut self.coordinators[c];
        side.heard.retain(|stop| !log.stopped.contains(stop));
    }

    /// No quorum answers, so that nothing may come of it: what the coordinator remembers of the
    /// report is dropped too, since its leadership is over.
    fn ask_in_vain(&mut self, c: usize, h: usize) {
        let host = &self.world.hosts[h];
        let Some(machine) = &host.machine else { return };
        let mut side = self.coordinators[c].clone_value();
        let report = machine.report(host.clock);
        side.reports.insert(host.name.clone(), (report, known_stops(host)));
        side.round(false, &self.world.log.registry, &mut self.world.facts);
    }

    fn keep(&mut self, host: &HostName, message: ToAgent) {
        let Some(h) = self.world.host_of(host) else { return };
        if self.world.hosts[h].bag.iter().any(|kept| **kept == message) {
            return;
        }
        let bag = &mut self.world.hosts[h].bag;
        if bag.len() == BAG {
            bag.pop_front();
        }
        bag.push_back(Rc::new(message));
    }

    fn submit(&mut self) {
        self.submitted += 1;
        let id = experiment_id(self.submitted);
        let names = self.world.hosts.iter().map(|h| h.name.clone());
        let experiment = Box::new(experiment(names, LEASE_MS, 600_000));
        let outcome = self.commit(Command::Submit { id, experiment });
        if matches!(outcome, Outcome::Done(_)) {
            let steps = [Phase::Submitted, Phase::Preflight, Phase::Injecting];
            for pair in steps.windows(2) {
                self.commit(Command::Advance { id, from: pair[0], to: pair[1] });
            }
        }
    }

    fn oldest(&self) -> Option<ExperimentId> {
        let running = self.world.log.registry.running().filter(|e| e.ending.is_none());
        running.min_by_key(|e| e.start).map(|e| e.id)
    }

    /// The one that led before has no quorum any more, and what it remembers is of no use to it.
    fn elect(&mut self) {
        let old: &mut Coordinator = &mut self.coordinators[usize::from(self.elected)];
        old.reports.clear();
        old.heard.clear();
        self.elections += 1;
        self.elected = 1 - self.elected;
        let (term, c) = (1 + self.elections, usize::from(self.elected));
        self.coordinators[c] = Shared::new(Coordinator::new(term, c));
    }

    fn inject(&mut self, h: u8) {
        self.injected = true;
        let (experiment, host) = (experiment_id(100), host_name(usize::from(h)));
        let id = FaultId { experiment, fault: 0, host };
        // Refused or not, the checks see what came of it.
        self.at_host(h, |host| {
            let _ = host.inject(id, LEASE_MS, 600_000);
        });
    }

    fn wait(&mut self) {
        for h in 0..self.world.hosts.len() as u8 {
            self.at_host(h, |host| {
                host.pass(WAIT_MS);
                host.timeout();
            });
        }
    }
}

impl Coordinator {
    fn new(term: u64, c: usize) -> Coordinator {
        let leadership = Leadership { term, node: NodeId(c as u64 + 1) };
        Coordinator { leadership, reports: BTreeMap::new(), heard: BTreeSet::new() }
    }

    /// A whole round of its leader, all at once.
    fn round(&self, ok: bool, registry: &Registry, facts: &mut Vec<Fact>) -> Vec<leader::Action> {
        let mut leading = Leading::new(self.leadership, LED);
        for (host, (report, stops)) in &self.reports {
            leading.report(host, report.clone(), stops.clone());
        }
        let heard: Vec<StopId> = self.heard.iter().copied().collect();
        leading.machine.handle_stops(LED, &heard);
        leading.machine.handle_timeout(LED);
        leading.round_begins(LED.0);
        leading.round_ends(LED.0, ok, registry, facts)
    }
}

fn known_stops(host: &HostSide) -> BTreeSet<StopId> {
    host.machine.iter().flat_map(|machine| machine.fence().stops()).collect()
}

/// A fault that the agent takes for applying or held while its holder is gone.
fn unnoticed(host: &HostSide) -> Option<FaultId> {
    let machine = host.machine.as_ref()?;
    let lost = machine.holding().find(|(id, _)| !host.holders.contains_key(*id));
    lost.map(|(id, _): (&FaultId, LogIndex)| id.clone())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What brings the first experiment's fault in place on a host of a new world.
    pub(crate) fn to_hold(h: u8) -> [Event; 3] {
        [Event::Ask(0, h), Event::Deliver(h, 0), Event::Persist(h)]
    }
}

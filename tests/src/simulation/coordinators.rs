//! What a coordinator's driver does around its machines: sessions, stops heard and passed on, the
//! leader's rounds and proposals, stop-alls.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use squall_core::experiment::LEASE_MS;
use squall_core::heard::Heard;
use squall_core::ids::{HostName, StopId};
use squall_core::leader::Action;
use squall_core::message::{Receipt, Report, ToAgent};
use squall_core::registry::{Command, Registry};
use squall_core::stopping::{self, Broadcast};
use squall_core::time::Time;

use super::weather::{Link, What};
use super::{NODES, Simulation};
use crate::invariants::nothing_after_receipt::admitted;
use crate::world::{Leading, epoch, host_record};

/// How often what is level-triggered is looked at.
const TICK_MS: u64 = 500;

/// A report, and all stops that its host knew then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub report: Report,
    pub stops: BTreeSet<StopId>,
}

/// What an agent says, or that its stream has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Words {
    Hello,
    Report(Box<Said>),
    Stops(Vec<StopId>),
    Receipt(Receipt),
    Gone,
}

/// A host whose stream is open here.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub link: Link,
    pub report: Option<Said>,
    arrived: Time,
}

/// What a host said last, and when it arrived.
fn last_of<'a>(
    sessions: &'a BTreeMap<HostName, Session>,
    host: &HostName,
) -> Option<(&'a Report, Time)> {
    let session = sessions.get(host)?;
    session.report.as_ref().map(|said| (&said.report, session.arrived))
}

/// One coordinator.
#[derive(Debug)]
pub(super) struct Node {
    pub clock: Time,
    pub alive: bool,
    pub leading: Option<Leading>,
    /// The log as far as it was applied here, and how many entries that is.
    pub registry: Registry,
    pub applied: usize,
    pub sessions: BTreeMap<HostName, Session>,
    /// Stops are on its disk, resumes come with the log.
    pub heard: Heard,
    broadcasts: Vec<Broadcast>,
    receipts: BTreeMap<(StopId, HostName), Receipt>,
    next_tick: Time,
}

impl Node {
    pub(super) fn new(clock: usize) -> Node {
        Node {
            clock: epoch(clock),
            alive: true,
            leading: None,
            registry: Registry::default(),
            applied: 0,
            sessions: BTreeMap::new(),
            heard: Heard::default(),
            broadcasts: Vec::new(),
            receipts: BTreeMap::new(),
            next_tick: epoch(clock),
        }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        let leader = self.leading.as_ref().map_or(Time::FAR, |l| l.machine.poll_timeout());
        let broadcasts = self.broadcasts.iter().map(Broadcast::poll_timeout).min();
        leader.min(broadcasts.unwrap_or(Time::FAR)).min(self.next_tick)
    }

    /// Hosts because of which a resume is refused.
    pub(super) fn blockers(&self, despite: &BTreeSet<HostName>) -> Vec<HostName> {
        let hosts = self.registry.hosts.keys().map(|host| {
            let session = self.sessions.get(host);
            let last = session.and_then(|s| s.report.as_ref().map(|r| (&r.report, s.arrived)));
            (host, last)
        });
        stopping::blockers(self.clock, hosts, self.heard.fence(), despite)
    }
}

/// Tells a stop-all how the registry is now.
fn tell<'a>(
    now: Time,
    broadcast: &mut Broadcast,
    registry: &'a Registry,
    sessions: &'a BTreeMap<HostName, Session>,
    receipts: &'a BTreeMap<(StopId, HostName), Receipt>,
) {
    let receipts = receipts.iter().map(|((_, host), receipt)| (host, receipt));
    broadcast.handle_registry(now, registry, |host| last_of(sessions, host), receipts);
}

impl Simulation {
    pub(super) fn crash_node(&mut self, c: usize) {
        let node = &mut self.nodes[c];
        if !node.alive {
            return;
        }
        node.alive = false;
        self.raft.unseat_node(c);
        node.leading = None;
        node.sessions.clear();
        node.broadcasts.clear();
        node.receipts.clear();
        let heard = std::mem::take(&mut node.heard);
        if self.weather.odds(10) {
            // Its disk is lost, and it begins anew.
            node.registry = Registry::default();
            node.applied = 0;
        } else {
            for stop in heard.fence().stops() {
                node.heard.handle_stop(stop);
            }
        }
        for h in 0..self.agents.len() {
            self.agents[h].streams[c] = 0;
        }
        let ms = self.weather.between(10, 8_000);
        self.after(ms, What::StartNode { node: c });
    }

    pub(super) fn start_node(&mut self, c: usize) {
        if std::mem::replace(&mut self.nodes[c].alive, true) {
            return;
        }
        let ms = self.weather.between(0, 3_000);
        self.after(ms, What::Learns { node: c });
        for host in 0..self.agents.len() {
            let ms = self.weather.between(1, 500);
            self.after(ms, What::LinkUp { host, node: c });
        }
        self.registry_changed(c);
    }

    pub(super) fn reach_node(&mut self, h: usize, link: Link, words: Words) {
        let c = link.node;
        let name = self.world.hosts[h].name.clone();
        let node = &mut self.nodes[c];
        if !node.alive {
            return;
        }
        if words == Words::Hello {
            // A newer stream replaces an older one.
            let session = Session { link, report: None, arrived: node.clock };
            if !node.registry.hosts.contains_key(&name) {
                for broadcast in &mut node.broadcasts {
                    broadcast.handle_stranger(node.clock, &name);
                }
            }
            node.sessions.insert(name, session);
            return;
        }
        let now = node.clock;
        let Some(session) = node.sessions.get_mut(&name).filter(|s| s.link == link) else { return };
        match words {
            Words::Hello => {}
            Words::Report(said) => {
                session.report = Some((*said).clone());
                session.arrived = now;
                self.reported(c, &name, *said);
            }
            Words::Stops(stops) => self.node_stops(c, &stops),
            Words::Receipt(receipt) => {
                for broadcast in &mut node.broadcasts {
                    broadcast.handle_receipt(now, &name, receipt.clone());
                }
                node.receipts.insert((receipt.stop, name), receipt);
            }
            Words::Gone => {
                node.sessions.remove(&name);
                if let Some(leading) = &mut node.leading {
                    leading.disconnected(&name);
                }
            }
        }
        self.drain_node(c);
    }

    fn reported(&mut self, c: usize, name: &HostName, said: Said) {
        let fence = self.nodes[c].heard.fence();
        if said.report.digest != fence.digest_at(said.report.newest_resume) {
            let standing = fence.outstanding().collect();
            self.send(c, name, ToAgent::Stops(standing));
        }
        let node = &self.nodes[c];
        let asks = |b: &&Broadcast| b.asks_again(node.clock, name);
        let again: Vec<StopId> = node.broadcasts.iter().filter(asks).map(Broadcast::stop).collect();
        for stop in again {
            self.send(c, name, ToAgent::Stop { stop, record: Vec::new() });
        }
        let node = &mut self.nodes[c];
        if let Some(leading) = &mut node.leading {
            leading.clock = node.clock;
            leading.report(name, said.report, said.stops);
        }
    }

    /// Sends to a host whose stream is open here.
    fn send(&mut self, c: usize, name: &HostName, message: ToAgent) {
        let Some(host) = self.world.host_of(name) else { return };
        if let Some(link) = self.nodes[c].sessions.get(name).map(|s| s.link) {
            self.travel(What::ToHost { host, link, message: Rc::new(message) });
        }
    }

    /// Stops were learnt, from an agent, another coordinator or a person.
    pub(super) fn node_stops(&mut self, c: usize, stops: &[StopId]) {
        if !self.nodes[c].alive {
            return;
        }
        let heard = &mut self.nodes[c].heard;
        let new: Vec<StopId> = stops.iter().copied().filter(|s| heard.handle_stop(*s)).collect();
        for stop in &new {
            self.push(c, *stop);
            let node = &mut self.nodes[c];
            if let Some(leading) = &mut node.leading {
                leading.machine.handle_stop(node.clock, *stop);
            }
        }
        if !new.is_empty() {
            self.forward(c, &new);
            self.propose_stops(c, &new);
        }
        self.drain_node(c);
    }

    /// Tells every host whose stream is open here.
    fn push(&mut self, c: usize, stop: StopId) {
        let connected: Vec<HostName> = self.nodes[c].sessions.keys().cloned().collect();
        for name in connected {
            self.send(c, &name, ToAgent::Stop { stop, record: Vec::new() });
        }
    }

    /// Tells the other coordinators.
    fn forward(&mut self, c: usize, stops: &[StopId]) {
        for node in (0..NODES).filter(|d| *d != c && self.raft.hear(c, *d)).collect::<Vec<_>>() {
            self.travel(What::NodeStops { node, stops: stops.to_vec() });
        }
    }

    fn propose_stops(&mut self, c: usize, stops: &[StopId]) {
        for stop in stops {
            self.propose(c, Command::Stop(*stop));
        }
    }

    /// Hosts that are connected to a leader and that the registry lacks.
    fn propose_registrations(&mut self, c: usize) {
        let node = &self.nodes[c];
        let new = node.sessions.keys().filter(|host| !node.registry.hosts.contains_key(*host));
        for host in new.cloned().collect::<Vec<_>>() {
            self.propose(c, Command::Register(host_record(host)));
        }
    }

    fn propose(&mut self, c: usize, command: Command) {
        let Some(leading) = &self.nodes[c].leading else { return };
        let term = leading.machine.leadership().term;
        let entry = Box::new(crate::world::entry(self.command(), command));
        let led = self.leader() == Some((c, term));
        self.travel(What::Commit { node: c, term, led, entry });
    }

    pub(super) fn registry_changed(&mut self, c: usize) {
        let node = &mut self.nodes[c];
        for stop in node.heard.handle_registry(&node.registry) {
            self.push(c, stop);
        }
        let node = &mut self.nodes[c];
        for broadcast in &mut node.broadcasts {
            tell(node.clock, broadcast, &node.registry, &node.sessions, &node.receipts);
        }
        if let Some(leading) = &mut node.leading {
            leading.machine.handle_change(node.clock);
        }
        self.drain_node(c);
    }

    pub(super) fn node_timer(&mut self, c: usize) {
        let node = &mut self.nodes[c];
        if node.clock >= node.next_tick {
            node.next_tick = node.clock.plus(TICK_MS);
            let lacking: Vec<StopId> = node.heard.lacking().collect();
            match node.leading {
                Some(_) => self.propose_stops(c, &lacking),
                None if lacking.is_empty() => {}
                None => self.forward(c, &lacking),
            }
            self.propose_registrations(c);
        }
        self.drain_node(c);
    }

    pub(super) fn drain_node(&mut self, c: usize) {
        let node = &mut self.nodes[c];
        let now = node.clock;
        if let Some(leading) = &mut node.leading {
            leading.clock = now;
            leading.machine.handle_timeout(now);
            let actions = std::iter::from_fn(|| leading.machine.poll_action()).collect();
            self.carry_out(c, actions);
        }
    }

    pub(super) fn carry_out(&mut self, c: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Round { token } => {
                    let Some(leading) = &mut self.nodes[c].leading else { continue };
                    leading.round_begins(token);
                    let term = leading.machine.leadership().term;
                    let ms = self.weather.travel();
                    self.after(ms, What::Acks { node: c, term, token });
                }
                Action::Send { host, message } => self.send(c, &host, message),
                Action::Propose(command) => self.propose(c, command),
            }
        }
    }

    /// A person's stop-all reaches a coordinator.
    pub(super) fn stop_all(&mut self, c: usize, stop: StopId) {
        if !self.nodes[c].alive {
            return;
        }
        self.node_stops(c, &[stop]);
        let node = &mut self.nodes[c];
        if node.broadcasts.iter().any(|b| b.stop() == stop) {
            return;
        }
        // A node that lags may be connected to hosts of which its log does not know yet.
        let names: BTreeSet<&HostName> =
            node.registry.hosts.keys().chain(node.sessions.keys()).collect();
        let hosts = names.into_iter().map(|host| (host, last_of(&node.sessions, host)));
        let mut broadcast = Broadcast::new(node.clock, stop, hosts, *LEASE_MS.end());
        broadcast.handle_ordered(&node.registry.may_hold());
        for host in node.sessions.keys().filter(|h| !node.registry.hosts.contains_key(*h)) {
            broadcast.handle_stranger(node.clock, host);
        }
        for ((_, host), receipt) in &node.receipts {
            broadcast.handle_receipt(node.clock, host, receipt.clone());
        }
        tell(node.clock, &mut broadcast, &node.registry, &node.sessions, &node.receipts);
        node.broadcasts.push(broadcast);
    }

    /// Whoever calls a stop-all done must be right: every host that it names, and every one that there is
    /// where the log has the stop, has latched on disk, and holds nothing that the stop forbids.
    pub(super) fn check_broadcasts(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            let now = node.clock;
            for broadcast in &node.broadcasts {
                let progress = broadcast.progress(now);
                if !stopping::is_done(&progress) {
                    continue;
                }
                let stop = broadcast.stop();
                let named = |name: &HostName| progress.hosts.iter().any(|h| h.host == *name);
                // The log has every host that was there before a stop that it has: all must be named.
                let counts = |name: &HostName| {
                    named(name) || progress.committed && self.raft.registered_before(name, stop)
                };
                for host in self.world.hosts.iter().filter(|host| counts(&host.name)) {
                    let holds = |id| admitted(&self.world.log, id, &[stop].into()).is_err();
                    if !host.has_latched(stop) || host.holders.keys().any(holds) {
                        return Err(format!("{stop} is called done, and {} is not", host.name));
                    }
                }
                self.summary.done += u64::from(broadcast.is_over(now));
            }
            node.broadcasts.retain(|broadcast| !broadcast.is_over(now));
        }
        Ok(())
    }

    pub(super) fn waits_for_receipts(&self) -> bool {
        self.nodes.iter().any(|node| !node.broadcasts.is_empty())
    }
}

//! What an agent's driver does around its machine: disk, holders, streams to every coordinator, relay.

use std::rc::Rc;

use squall_core::fault::Kind;
use squall_core::host::Action;
use squall_core::ids::{FaultId, Leadership};
use squall_core::message::ToAgent;
use squall_core::time::Time;

use super::coordinators::{Said, Words};
use super::weather::{Link, Mend, Says, What};
use super::{Lived, NODES, Simulation};
use crate::world::HostSide;

/// What surrounds one agent.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    /// The stream to each coordinator, by number; 0 where there is none.
    pub streams: Vec<u32>,
    streams_made: u32,
    /// Cut off from each coordinator.
    pub cut: Vec<bool>,
    /// Nothing can be written.
    pub disk_full: bool,
    /// What is left of faults does not go.
    pub dirty: bool,
}

impl Agent {
    pub(super) fn new(nodes: usize) -> Agent {
        Agent {
            streams: vec![0; nodes],
            streams_made: 0,
            cut: vec![false; nodes],
            disk_full: false,
            dirty: false,
        }
    }
}

impl Simulation {
    pub(super) fn start_agent(&mut self, h: usize) {
        if self.world.hosts[h].machine.is_some() {
            return;
        }
        let logged = self.world.log.stopped.clone();
        self.at_agent(h, |side| side.start(&logged));
        for node in 0..NODES {
            let ms = self.weather.between(1, 200);
            self.after(ms, What::LinkUp { host: h, node });
        }
    }

    /// An agent dies, with all its holders, and some of what it was writing is written.
    pub(super) fn crash_agent(&mut self, h: usize) {
        if self.world.hosts[h].machine.is_none() {
            return;
        }
        self.summary.crashes += 1;
        let held: Vec<FaultId> = self.world.hosts[h].holders.keys().cloned().collect();
        let kept = self.weather.index(self.world.hosts[h].writing.len() + 1);
        self.world.hosts[h].crash(if self.agents[h].disk_full { 0 } else { kept });
        let now = self.world.hosts[h].clock;
        for id in held {
            self.note_gone(&id, now);
        }
        for c in 0..NODES {
            self.drop_link(h, c);
        }
        let ms = if self.weather.odds(50) { 1 } else { self.weather.between(1, 4_000) };
        self.after(ms, What::Start { host: h });
    }

    pub(super) fn cut_link(&mut self, h: usize, c: usize) {
        self.agents[h].cut[c] = true;
        self.drop_link(h, c);
        let ms = self.weather.between(50, 15_000);
        self.after(ms, What::Mend { mend: Mend::Link(h, c) });
    }

    /// A stream ends: at once for the agent, a little later for the coordinator.
    pub(super) fn drop_link(&mut self, h: usize, c: usize) {
        let number = std::mem::take(&mut self.agents[h].streams[c]);
        if number > 0 {
            let ms = self.weather.between(1, 2_000);
            let words = Box::new(Words::Gone);
            self.after(ms, What::ToNode { host: h, link: Link { node: c, number }, words });
        }
    }

    /// The agent connects, and says who it is and what is true of it.
    pub(super) fn link_up(&mut self, h: usize, c: usize) {
        let whole = !self.agents[h].cut[c] && self.nodes[c].alive;
        if self.agents[h].streams[c] > 0 || self.world.hosts[h].machine.is_none() {
            return;
        }
        if !whole {
            let ms = self.weather.between(100, 1_000);
            return self.after(ms, What::LinkUp { host: h, node: c });
        }
        self.agents[h].streams_made += 1;
        self.agents[h].streams[c] = self.agents[h].streams_made;
        self.say_to(h, c, Words::Hello);
        self.report_to(h, c);
    }

    fn say_to(&mut self, h: usize, c: usize, words: Words) {
        let number = self.agents[h].streams[c];
        if number > 0 {
            let link = Link { node: c, number };
            let what = What::ToNode { host: h, link, words: Box::new(words) };
            if matches!(what, What::ToNode { ref words, .. } if **words == Words::Hello) {
                // The stream stands once this has arrived.
                self.after(0, what);
            } else {
                self.travel(what);
            }
        }
    }

    fn report_to(&mut self, h: usize, c: usize) {
        let stops = known_stops(&self.world.hosts[h]);
        if let Some(report) = self.world.hosts[h].report() {
            self.say_to(h, c, Words::Report(Box::new(Said { report, stops })));
        }
    }

    /// Tells the machine something and carries out what it wants then.
    pub(super) fn at_agent(&mut self, h: usize, event: impl FnOnce(&mut HostSide)) {
        event(&mut self.world.hosts[h]);
        self.drain_agent(h, None);
    }

    pub(super) fn reach_host(&mut self, h: usize, link: Link, message: &Rc<ToAgent>) {
        if self.agents[h].streams[link.node] != link.number {
            return;
        }
        let by = self.world.hosts[h].deliver(message);
        if matches!(**message, ToAgent::Stops(_)) {
            let machine = self.world.hosts[h].machine.as_ref();
            let standing = machine.map(|m| m.fence().outstanding().collect()).unwrap_or_default();
            self.say_to(h, link.node, Words::Stops(standing));
        }
        self.drain_agent(h, by);
    }

    fn drain_agent(&mut self, h: usize, by: Option<Leadership>) {
        while let Some(action) = self.world.hosts[h].next_action(by, &mut self.world.facts) {
            let life = self.world.hosts[h].life;
            match action {
                Action::Persist { .. } => {
                    let ms = self.weather.between(1, if self.weather.calm { 10 } else { 60 });
                    self.after(ms, What::Disk { host: h, life });
                }
                Action::Start(hold) => {
                    self.summary.faults += 1;
                    let lived = Lived { deadline: hold.deadline, bit: false, gone: None };
                    self.faults.insert(hold.id.clone(), lived);
                    let says = if self.weather.bad_luck(4) { Says::Failed } else { Says::Held };
                    let slow = if self.weather.bad_luck(5) { 8_000 } else { 150 };
                    let ms = self.weather.between(1, slow);
                    self.after(ms, What::Holder { host: h, life, id: hold.id, says });
                }
                Action::Lift(id) => {
                    // Some holders do not listen, and must be killed.
                    if !self.weather.bad_luck(5) {
                        let ms = self.weather.between(1, 200);
                        self.after(ms, What::Holder { host: h, life, id, says: Says::Lifted });
                    }
                }
                Action::Kill(id) => {
                    let ms = self.weather.between(0, 20);
                    self.after(ms, What::Holder { host: h, life, id, says: Says::Gone });
                }
                Action::Prove(id) => {
                    let ms = self.weather.between(1, 20);
                    self.after(ms, What::Proof { host: h, life, id });
                }
                Action::Report => (0..NODES).for_each(|c| self.report_to(h, c)),
                Action::Receipt(receipt) => {
                    (0..NODES).for_each(|c| self.say_to(h, c, Words::Receipt(receipt.clone())));
                }
                Action::Relay(stop) => {
                    for host in (0..self.agents.len()).filter(|other| *other != h) {
                        if self.weather.odds(50) {
                            self.travel(What::Relayed { host, stop });
                        }
                    }
                }
                Action::Renew(..) => {}
            }
        }
    }

    fn is_life(&self, h: usize, life: u128) -> bool {
        self.world.hosts[h].machine.is_some() && self.world.hosts[h].life == life
    }

    pub(super) fn disk(&mut self, h: usize, life: u128) {
        if self.is_life(h, life) {
            let works = !self.agents[h].disk_full;
            self.at_agent(h, |side| side.persist(works));
        }
    }

    pub(super) fn holder(&mut self, h: usize, life: u128, id: &FaultId, says: Says) {
        if !self.is_life(h, life) {
            return;
        }
        match says {
            Says::Held if self.world.hosts[h].holders.contains_key(id) => {
                if let Some(lived) = self.faults.get_mut(id) {
                    lived.bit = true;
                }
                self.at_agent(h, |side| side.held(id));
            }
            Says::Held => {}
            Says::Failed => {
                self.at_agent(h, |side| side.failed(id));
                self.holder(h, life, id, Says::Gone);
            }
            Says::Lifted => {
                self.world.hosts[h].lets_go(id);
                self.holder(h, life, id, Says::Gone);
            }
            // A holder that was dead already, or that could not be told, is noticed all the same.
            Says::Gone => {
                self.world.hosts[h].gone(id);
                self.note_gone(id, self.world.hosts[h].clock);
                self.holder(h, life, id, Says::Noticed);
            }
            Says::Noticed => self.at_agent(h, |side| side.notice_gone(id)),
        }
    }

    /// The kernel has killed holders; their agent notices a little later.
    pub(super) fn holders_died(&mut self, h: usize, dead: Vec<(FaultId, Time)>) {
        let life = self.world.hosts[h].life;
        for (id, at) in dead {
            self.note_gone(&id, at);
            let ms = self.weather.between(0, 30);
            self.after(ms, What::Holder { host: h, life, id, says: Says::Noticed });
        }
    }

    pub(super) fn kill_holder(&mut self, h: usize) {
        let life = self.world.hosts[h].life;
        if let Some(id) = self.world.hosts[h].holders.keys().next().cloned() {
            self.after(0, What::Holder { host: h, life, id, says: Says::Gone });
        }
    }

    fn note_gone(&mut self, id: &FaultId, at: Time) {
        if let Some(lived) = self.faults.get_mut(id) {
            lived.gone.get_or_insert(at);
        }
    }

    pub(super) fn proof(&mut self, h: usize, life: u128, id: &FaultId) {
        if self.is_life(h, life) {
            if self.weather.bad_luck(2) {
                self.agents[h].dirty = !self.agents[h].dirty;
            }
            let left = self.agents[h].dirty || self.weather.bad_luck(20);
            let residue = if left { vec![format!("{:?} of {id}", Kind::Cpu)] } else { vec![] };
            self.at_agent(h, |side| side.proven(id, residue));
        }
    }
}

pub(super) fn known_stops(host: &HostSide) -> std::collections::BTreeSet<squall_core::ids::StopId> {
    host.machine.iter().flat_map(|machine| machine.fence().stops()).collect()
}

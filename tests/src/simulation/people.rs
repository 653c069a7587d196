//! What people do: start, end, stop, resume, drain, and inject on one host alone.

use std::collections::BTreeSet;

use squall_core::experiment::{EndReason, Experiment, Placement};
use squall_core::fault::{Direction, Fault, Partition, Traffic};
use squall_core::ids::{CommandId, ExperimentId, FaultId, HostName, LogIndex, StopId};
use squall_core::registry::{Command, Outcome};

use super::weather::What;
use super::{NODES, Simulation};
use crate::world::{HostSide, entry, experiment};

impl Simulation {
    pub(super) fn person(&mut self) {
        if self.weather.calm {
            return;
        }
        let next = self.weather.between(50, 2_000);
        self.after(next, What::Person);
        let h = self.weather.index(self.agents.len());
        match self.weather.between(0, 19) {
            0..=7 => self.submit(),
            8 => self.ask_for_a_stop(h),
            9..=14 => self.resume(),
            15 => self.end_one(),
            16 => {
                let host = self.world.hosts[h].name.clone();
                let drained = self.weather.odds(30);
                self.by_operator(Command::Drain { host, drained });
            }
            17 | 18 => self.inject(h),
            _ => self.at_agent(h, HostSide::lift_all),
        }
    }

    /// What a coordinator does for an operator: it writes where it leads, and stops come first.
    fn by_operator(&mut self, command: Command) -> Option<Outcome> {
        let id = self.command();
        self.by_operator_as(id, command)
    }

    fn by_operator_as(&mut self, id: CommandId, command: Command) -> Option<Outcome> {
        let leader = self.confirmed_leader()?;
        self.commit_lacking(leader);
        Some(self.commit(entry(id, command)))
    }

    fn commit_lacking(&mut self, leader: usize) {
        let lacking: Vec<_> = self.nodes[leader].heard.lacking().collect();
        for stop in lacking {
            self.commit_new(Command::Stop(stop));
        }
    }

    fn submit(&mut self) {
        let id = ExperimentId(self.name());
        let experiment = Box::new(self.draw());
        let command = self.command();
        let submit = Command::Submit { id, experiment };
        let outcome = self.by_operator_as(command, submit.clone());
        self.summary.experiments += u64::from(matches!(outcome, Some(Outcome::Done(_))));
        if self.weather.odds(20) {
            // The answer was lost, and the client asks again.
            let _ = self.by_operator_as(command, submit);
        }
    }

    fn draw(&mut self) -> Experiment {
        let count = self.weather.between(1, 2) as usize;
        let mut hosts: BTreeSet<usize> = BTreeSet::new();
        while hosts.len() < count {
            hosts.insert(self.weather.index(self.agents.len()));
        }
        let names = hosts.iter().map(|h| self.world.hosts[*h].name.clone());
        let lease_ms = self.weather.between(1_000, 6_000);
        let mut drawn = experiment(names, lease_ms, 1);
        drawn.duration_ms = self.weather.between(200, 12_000);
        drawn.safety.continue_on_loss = self.weather.odds(30);
        let placed = drawn.faults.clone();
        for placement in placed.iter().filter(|_| self.weather.odds(40)) {
            let spec = Fault::Partition(cut());
            drawn.faults.push(Placement { fault: 1, spec, ..placement.clone() });
        }
        drawn
    }

    /// A person asks all coordinators at once to stop everything, or some stop comes by relay alone.
    fn ask_for_a_stop(&mut self, h: usize) {
        let stop = StopId(self.name());
        self.summary.stops += 1;
        self.asked.insert(stop);
        if self.weather.odds(20) {
            return self.after(0, What::Relayed { host: h, stop });
        }
        for node in 0..NODES {
            self.travel(What::StopAll { node, stop });
        }
    }

    fn resume(&mut self) {
        let Some(leader) = self.confirmed_leader() else { return };
        self.commit_lacking(leader);
        let mut stops = self.world.log.outstanding();
        if stops.len() > 1 && self.weather.odds(30) {
            stops.pop_first();
        }
        let despite: BTreeSet<HostName> = if self.weather.odds(30) {
            self.world.hosts.iter().map(|h| h.name.clone()).collect()
        } else {
            BTreeSet::new()
        };
        if stops.is_empty() || !self.nodes[leader].blockers(&despite).is_empty() {
            return;
        }
        let outcome = self.commit_new(Command::Resume { stops, despite });
        self.summary.resumes += u64::from(matches!(outcome, Outcome::Done(_)));
    }

    fn end_one(&mut self) {
        let running: Vec<ExperimentId> = self.world.log.registry.running().map(|e| e.id).collect();
        if !running.is_empty() {
            let id = running[self.weather.index(running.len())];
            self.by_operator(Command::End { id, why: EndReason::Operator("o".into()) });
        }
    }

    fn inject(&mut self, h: usize) {
        let experiment = ExperimentId(self.name());
        let id = FaultId { experiment, fault: 0, host: self.world.hosts[h].name.clone() };
        let (lease_ms, ms) = (self.weather.between(500, 5_000), self.weather.between(100, 9_000));
        // Refused or not, the checks see what came of it.
        self.at_agent(h, |side| {
            let _ = side.inject(id, lease_ms, ms);
        });
    }

    /// A resume was committed: nothing on a host that nobody gave up on may be in place now from
    /// before it, since that host was seen stopped.
    pub(super) fn note_committed(&mut self, command: &Command, outcome: &Outcome) {
        let (Command::Resume { despite, .. }, Outcome::Done(LogIndex(_))) = (command, outcome)
        else {
            return;
        };
        let hurt = self.world.hosts.iter().find(|host| {
            let ordered = |id: &&FaultId| self.world.log.starts.contains_key(&id.experiment);
            !despite.contains(&host.name) && host.holders.keys().any(|id| ordered(&id))
        });
        if let Some(host) = hurt {
            self.broken.get_or_insert(format!("resumed while {} holds something", host.name));
        }
    }
}

fn cut() -> Partition {
    let peers = vec!["10.0.0.0/24".parse().expect("a network")];
    let traffic = Traffic { peers, direction: Direction::Both, ports: vec![], protocol: None };
    Partition { traffic, severed: vec![] }
}

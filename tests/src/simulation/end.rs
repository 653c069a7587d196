//! How it must end: all at rest, nothing left, all of one mind, and no verdict better than the truth.

use std::collections::BTreeSet;

use squall_core::experiment::{ExperimentRecord, Verdict};
use squall_core::fence::Fence;
use squall_core::ids::StopId;

use super::Simulation;
use super::agents::known_stops;

impl Simulation {
    /// Whether nothing is left to be done.
    ///
    /// # Errors
    /// What is.
    pub(super) fn at_rest(&self) -> Result<(), String> {
        if let Some(record) = self.world.log.registry.running().next() {
            return Err(format!("{:?} is {:?}", record.id, record.phase));
        }
        for host in &self.world.hosts {
            let Some(machine) = &host.machine else { return Err(format!("{} is down", host.name)) };
            if let Some(id) = host.holders.keys().next() {
                return Err(format!("{} holds {id}", host.name));
            }
            if !machine.is_idle() {
                return Err(format!("{} is not idle", host.name));
            }
            if !self.world.log.registry.hosts.contains_key(&host.name) {
                return Err(format!("{} is not registered", host.name));
            }
            let log = &self.world.log.registry.fence;
            let standing = |fence: &Fence| fence.outstanding().collect::<BTreeSet<StopId>>();
            let known = known_stops(host);
            let lacking: Vec<&StopId> = known.difference(&self.world.log.stopped).collect();
            if !lacking.is_empty() || standing(machine.fence()) != standing(log) {
                return Err(format!("{} and the log differ; it lacks {lacking:?}", host.name));
            }
            // One that was learnt from its resume needs no latch; what receipts say of it is looked at.
            if let Some(stop) = machine.fence().outstanding().find(|stop| !host.has_latched(*stop))
            {
                return Err(format!("{} has not latched {stop}", host.name));
            }
            if !machine.report(host.clock).synced || machine.fence().armed() != log.armed() {
                return Err(format!("{} is not synced", host.name));
            }
        }
        if let Some(stop) = self.nodes.iter().find_map(|node| node.heard.lacking().next()) {
            return Err(format!("the log lacks {stop}"));
        }
        if self.waits_for_receipts() {
            return Err("a stop-all goes on".into());
        }
        let experiments = &self.world.log.registry.experiments;
        if let Some(record) = experiments.values().find(|record| !record.reserved.is_empty()) {
            return Err(format!("{} has hosts reserved: {:?}", record.id, record.faults));
        }
        Ok(())
    }

    /// Asks the truth of every verdict, once all is at rest.
    pub(super) fn check_end(&mut self) -> Result<(), String> {
        for record in self.world.log.registry.experiments.values() {
            if record.verdict == Some(Verdict::Held) {
                self.summary.held += 1;
                self.check_held(record)?;
            }
        }
        let heard: BTreeSet<StopId> = self.world.log.stopped.clone();
        match heard.difference(&self.asked).next() {
            Some(stop) => Err(format!("nobody asked for {stop}")),
            None => Ok(()),
        }
    }

    /// `held` says that every fault bit, stayed for all its time, and went.
    fn check_held(&self, record: &ExperimentRecord) -> Result<(), String> {
        for id in record.faults.keys() {
            let lived = self.faults.get(id);
            let whole =
                lived.is_some_and(|l| l.bit && l.gone.is_some_and(|gone| gone >= l.deadline));
            if !whole {
                return Err(format!("{} is called held, and {id} was {lived:?}", record.id));
            }
        }
        Ok(())
    }
}

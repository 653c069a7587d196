//! Asking after the steady state, as a leader orders: on an agent's host, and on coordinators.
//!
//! Probes carry no mark: they feel the faults that the workload feels.

mod http;
mod run;
mod sample;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_core::ids::ExperimentId;
use squall_core::message::{ProbeOrder, ProbeReport};
use squall_core::policy::Policy;
use squall_core::probe::{ProbeSpec, Prober};
use squall_core::time::Time;
use tokio::task::AbortHandle;

use run::{Means, Shared, run};

/// Probes on one host, at most.
const MAX_PROBES: usize = 32;
/// A probe that no order has named for so long ends: a host that no leader reaches must not go on
/// for ever.
const LEASE_MS: u64 = 30_000;
/// How long tallies are reported after the last order that named their experiment, so that a leader
/// that settles it can read them.
const KEEP_MS: u64 = 60_000;

struct Probe {
    spec: ProbeSpec,
    shared: Arc<Shared>,
    task: Option<AbortHandle>,
    /// When an order named it last.
    named: Time,
}

impl Probe {
    fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            self.shared.tallies().forget_outstanding();
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.end();
    }
}

/// The probes of this process. Dropping it ends them.
pub struct Probes {
    probes: BTreeMap<(ExperimentId, String), Probe>,
    means: Means,
}

impl Probes {
    /// None yet. Programs are run as far as `policy` allows.
    #[must_use]
    pub fn new(policy: Policy) -> Probes {
        Probes { probes: BTreeMap::new(), means: Means::new(policy) }
    }

    /// Forgets the oldest probe that has ended, where there are too many; false where all run.
    fn make_room(&mut self) -> bool {
        if self.probes.len() < MAX_PROBES {
            return true;
        }
        let ended = self.probes.iter().filter(|(_, p)| p.task.is_none());
        let oldest = ended.min_by_key(|(_, p)| p.named).map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.probes.remove(&key).is_some())
    }
}

impl Prober for Probes {
    /// Must be called within a tokio runtime.
    fn set(&mut self, as_of: Time, orders: &[ProbeOrder]) {
        for ((experiment, name), probe) in &mut self.probes {
            let named = |o: &&ProbeOrder| o.experiment == *experiment && o.probe.name == *name;
            if !orders.iter().any(|o| named(&o)) {
                probe.end();
            }
        }
        for order in orders {
            let key = (order.experiment, order.probe.name.clone());
            if !self.probes.contains_key(&key) && !self.make_room() {
                tracing::warn!(probe = key.1, "over {MAX_PROBES} probes: this one is not run");
                continue;
            }
            let probe = self.probes.entry(key).or_insert_with(|| Probe {
                spec: order.probe.clone(),
                shared: Arc::new(Shared::new(as_of, order.stage)),
                task: None,
                named: as_of,
            });
            probe.named = as_of;
            probe.shared.set_stage(as_of, order.stage);
            if probe.task.is_none() || probe.spec != order.probe {
                probe.end();
                probe.spec = order.probe.clone();
                let task = run(order.probe.clone(), probe.shared.clone(), self.means.clone());
                probe.task = Some(tokio::spawn(task).abort_handle());
            }
        }
    }

    fn reports(&mut self, now: Time) -> Vec<ProbeReport> {
        self.probes.retain(|_, probe| {
            let unnamed_ms = now.since(probe.named);
            if unnamed_ms > LEASE_MS {
                probe.end();
            }
            unnamed_ms <= KEEP_MS
        });
        let report = |((experiment, name), probe): (&(ExperimentId, String), &Probe)| ProbeReport {
            experiment: *experiment,
            name: name.clone(),
            stages: probe.shared.tallies().report(now),
        };
        self.probes.iter().map(report).collect()
    }
}

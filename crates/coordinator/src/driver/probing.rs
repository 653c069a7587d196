//! Probes that this coordinator runs, by its own copy of the log.

use squall_core::leader::{self, FRESH_MS};
use squall_core::probe::Vantage;
use squall_core::time::Time;
use tokio::task::JoinHandle;

use super::{ATTEMPT, Driver, Event, TICK_MS, beside};
use crate::clock;

/// How new this coordinator's copy of the log is.
#[derive(Default)]
pub(super) struct Probing {
    /// When the last read began that a quorum confirmed.
    as_of: Option<Time>,
    /// The next one.
    confirming: Option<JoinHandle<()>>,
}

impl Driver {
    /// Tells this node's own prober what the log wants of the coordinators; after a stop, nothing. What was
    /// applied may be long over, where no quorum says otherwise: a node that is cut off is not asked to
    /// count any more, and neither is one that has only just started.
    pub(super) fn order_probes(&mut self) {
        let now = clock::now();
        let mut orders = self.node.applied.read(|r| leader::probes(&Vantage::Coordinators, r));
        if !orders.is_empty() && !self.node.outstanding().is_empty() {
            orders.clear();
        }
        let as_of = self.probing.as_of.filter(|at| now.since(*at) < FRESH_MS);
        let mut prober = self.node.prober();
        match as_of {
            // To end is never too late.
            _ if orders.is_empty() => prober.set(now, &[]),
            Some(at) => prober.set(at, &orders),
            None => {}
        }
        let reports = prober.reports(now);
        drop(prober);
        if let Some(leading) = &mut self.leading {
            leading.machine.handle_own_probes(reports);
        }
        if !orders.is_empty() && as_of.is_none_or(|at| now.since(at) >= TICK_MS) {
            self.confirm_beside();
        }
    }

    fn confirm_beside(&mut self) {
        if self.probing.confirming.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (node, own, began) = (self.node.clone(), self.own.clone(), clock::now());
        self.probing.confirming = Some(beside(ATTEMPT, async move {
            if node.confirm().await.confirmed {
                let _ = own.send(Event::Confirmed { began }).await;
            }
        }));
    }

    /// What is applied now is all that was committed at `began`, and perhaps more.
    pub(super) fn confirmed(&mut self, began: Time) {
        self.probing.as_of = self.probing.as_of.max(Some(began));
        self.order_probes();
    }
}

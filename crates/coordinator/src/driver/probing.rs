//! Probes that this coordinator runs, by its own copy of the log.

use squall_core::leader;
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
    /// Tells this node's own prober what the log wants of the coordinators, and sees to it that the next
    /// orders stand on a new read.
    pub(super) fn order_probes(&mut self) {
        let now = clock::now();
        let as_of = self.probing.as_of;
        let orders = self.node.applied.read(|registry| {
            let lacks_stops = || !self.node.stops().lacking_in(registry).is_empty();
            leader::own_probes(now, as_of, lacks_stops, registry)
        });
        let mut prober = self.node.prober();
        if let Some((at, orders)) = &orders {
            prober.set(*at, orders);
        }
        let reports = prober.reports(now);
        drop(prober);
        if let Some(leading) = &mut self.leading {
            leading.machine.handle_own_probes(reports);
        }
        let wants = orders.is_none_or(|(_, orders)| !orders.is_empty());
        if wants && as_of.is_none_or(|at| now.since(at) >= TICK_MS) {
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

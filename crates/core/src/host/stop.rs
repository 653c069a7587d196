//! A stop on one host: latch in memory, lift, prove, make the latch durable, answer once.

use std::collections::BTreeSet;

use super::{Action, Host, RETRY_MS, Record, Token};
use crate::experiment::Why;
use crate::ids::{FaultId, StopId};
use crate::message::{Latched, Receipt};
use crate::time::Time;

/// A stop whose receipt is not out yet, or whose latch is not durable yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    arrived: Time,
    /// Faults that must be over first.
    faults: BTreeSet<FaultId>,
    lifted: u32,
    residue: Vec<String>,
    latch: Latch,
    answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Latch {
    Writing,
    Durable,
    /// In memory only; to be tried again then.
    Failed(Time),
}

impl Pending {
    pub(super) fn next_timeout(&self) -> Time {
        match self.latch {
            Latch::Failed(retry) => retry,
            Latch::Writing | Latch::Durable => Time::FAR,
        }
    }
}

impl Host {
    /// A stop arrived, over QUIC, by relay or by an exchange of ids: all the same.
    pub fn handle_stop(&mut self, now: Time, stop: StopId) {
        self.expire(now);
        if !self.fence.hear(stop) {
            return self.answer_again(now, stop);
        }
        self.latch(now, stop);
        self.settle_stops(now);
        self.actions.push_back(Action::Relay(stop));
        self.report_soon(now);
    }

    /// A stop that is known arrived once more: somebody waits for its receipt. Where an earlier life
    /// latched it, this one answers anew, once what that life left is proven gone. One that is known from
    /// its resume alone may be on no disk yet.
    fn answer_again(&mut self, now: Time, stop: StopId) {
        if let Some(receipt) = self.receipts.get(&stop) {
            self.actions.push_back(Action::Receipt(receipt.clone()));
        } else if !self.pending.contains_key(&stop) {
            if self.fence.is_outstanding(stop) {
                self.wait_for_lifts(now, stop, 0, Latch::Durable);
            } else {
                self.wait_for_lifts(now, stop, 0, Latch::Writing);
                self.persist(Token::Latch(stop), vec![Record::Stop(stop)]);
            }
            self.settle_stops(now);
        }
    }

    /// All stops that a coordinator has heard.
    pub fn handle_stops(&mut self, now: Time, stops: &[StopId]) {
        for stop in stops {
            if !self.fence.knows(*stop) {
                self.handle_stop(now, *stop);
            }
        }
    }

    /// Lifts everything that the fence does not admit (any more).
    pub(super) fn enforce(&mut self, now: Time) {
        let refused: Vec<FaultId> =
            self.live
                .iter()
                .filter(|(_, live)| {
                    if live.local { !self.fence.armed() } else { !self.fence.admits(live.start) }
                })
                .map(|(id, _)| id.clone())
                .collect();
        for id in refused {
            self.revert(now, &id, Why::Stop);
        }
    }

    /// Lifts what a stop that was just heard forbids, notes what its receipt must wait for, and asks
    /// for the durable latch.
    pub(super) fn latch(&mut self, now: Time, stop: StopId) {
        let staying = |host: &Host| host.live.values().filter(|l| !l.is_reverting()).count();
        let before = staying(self);
        self.enforce(now);
        let lifted = u32::try_from(before - staying(self)).unwrap_or(u32::MAX);
        self.wait_for_lifts(now, stop, lifted, Latch::Writing);
        self.persist(Token::Latch(stop), vec![Record::Stop(stop)]);
    }

    /// A receipt waits for all that is being lifted; what will not go it names.
    fn wait_for_lifts(&mut self, now: Time, stop: StopId, lifted: u32, latch: Latch) {
        let (mut faults, mut residue) = (BTreeSet::new(), Vec::new());
        for (id, live) in self.live.iter().filter(|(_, live)| live.is_reverting()) {
            if live.left().is_empty() {
                faults.insert(id.clone());
            } else {
                residue.extend_from_slice(live.left());
            }
        }
        let pending = Pending { arrived: now, faults, lifted, residue, latch, answered: false };
        self.pending.insert(stop, pending);
    }

    pub(super) fn latch_written(&mut self, now: Time, stop: StopId, durable: bool) {
        if let Some(pending) = self.pending.get_mut(&stop) {
            pending.latch =
                if durable { Latch::Durable } else { Latch::Failed(now.plus(RETRY_MS)) };
        }
        self.settle_stops(now);
    }

    pub(super) fn retry_latches(&mut self, now: Time) {
        let due: Vec<StopId> = self
            .pending
            .iter()
            .filter(|(_, p)| p.next_timeout() <= now)
            .map(|(stop, _)| *stop)
            .collect();
        for stop in due {
            if let Some(pending) = self.pending.get_mut(&stop) {
                pending.latch = Latch::Writing;
            }
            self.persist(Token::Latch(stop), vec![Record::Stop(stop)]);
        }
    }

    pub(super) fn fault_is_over(&mut self, now: Time, id: &FaultId) {
        for pending in self.pending.values_mut() {
            pending.faults.remove(id);
        }
        self.settle_stops(now);
    }

    /// A fault will not go: stops need wait no longer, but say so.
    pub(super) fn note_stuck(&mut self, now: Time, id: &FaultId, residue: Vec<String>) {
        for pending in self.pending.values_mut() {
            if pending.faults.remove(id) {
                pending.residue.extend(residue.iter().cloned());
            }
        }
        self.settle_stops(now);
    }

    /// Answers each stop whose work is done, once, and once more when a latch that was in memory
    /// only has become durable.
    pub(super) fn settle_stops(&mut self, now: Time) {
        let mut receipts = Vec::new();
        for (stop, pending) in &mut self.pending {
            let latched = match pending.latch {
                Latch::Writing => continue,
                Latch::Durable => Latched::Durable,
                Latch::Failed(_) => Latched::Memory,
            };
            if !pending.faults.is_empty() || (pending.answered && latched == Latched::Memory) {
                continue;
            }
            pending.answered = true;
            receipts.push(Receipt {
                stop: *stop,
                run: self.run,
                lifted: pending.lifted,
                residue: pending.residue.clone(),
                latched,
                took_ms: now.since(pending.arrived),
            });
        }
        for receipt in receipts {
            if receipt.latched == Latched::Durable {
                self.pending.remove(&receipt.stop);
            }
            self.receipts.insert(receipt.stop, receipt.clone());
            self.actions.push_back(Action::Receipt(receipt));
        }
    }
}

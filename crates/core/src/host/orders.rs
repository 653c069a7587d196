//! What a leader says, and which of it this host believes.

use std::collections::BTreeMap;

use super::fault::Live;
use super::{Host, LocalRefusal, MAX_LIVE, Record, Token};
use crate::experiment::{LEASE_MS, Why};
use crate::fault::Fault;
use crate::ids::{ExperimentId, FaultId, Leadership, LogIndex, StopId};
use crate::message::{Apply, Orders, Sync};
use crate::policy::AlreadyHeld;
use crate::time::Time;

impl Host {
    /// All stops and resumes, from a leader after a quorum round. Arms a host that just started.
    pub fn handle_sync(&mut self, now: Time, sync: &Sync) {
        self.expire(now);
        if sync.run != self.run || sync.echo > now || !self.obey(sync.leadership) {
            return;
        }
        let mut records = Vec::new();
        for resume in &sync.resumes {
            if self.fence.learn(resume.clone()) {
                records.push(Record::Resume(resume.clone()));
            }
        }
        let mut heard = Vec::new();
        for stop in &sync.stops {
            if self.fence.hear(*stop) {
                heard.push(*stop);
            }
        }
        let changed = !records.is_empty() || !heard.is_empty() || !self.synced;
        if !records.is_empty() {
            self.persist(Token::Note, records);
        }
        for stop in heard {
            self.latch(now, stop);
        }
        self.synced = true;
        self.enforce(now);
        self.settle_stops(now);
        if changed {
            self.report_soon(now);
        }
    }

    /// Orders, from a leader after a quorum round that began after the report that they echo.
    pub fn handle_orders(&mut self, now: Time, orders: &Orders) {
        self.expire(now);
        // No report of this life has a time that is still to come: it would prepay leases.
        if orders.run != self.run || orders.echo > now || !self.obey(orders.leadership) {
            return;
        }
        for id in &orders.grant {
            self.renew(id, orders.echo);
        }
        for id in &orders.lift {
            self.revert(now, id, Why::Order);
        }
        self.forget(&orders.acknowledged);
        let refused = self.refusals(&orders.apply);
        for apply in &orders.apply {
            self.consider(now, orders, apply, &refused);
        }
    }

    /// Why this host will not do all that is ordered, by experiment: then it does nothing of it, so that
    /// nobody is hurt for an experiment that ends at once.
    fn refusals(&self, applies: &[Apply]) -> BTreeMap<ExperimentId, String> {
        let new = |a: &&Apply| {
            let known = self.live.contains_key(&a.id) || self.is_over(&a.id, a.start);
            a.id.host == self.me && !known
        };
        let mut wanted: BTreeMap<ExperimentId, Vec<&Apply>> = BTreeMap::new();
        for apply in applies.iter().filter(new) {
            wanted.entry(apply.id.experiment).or_default().push(apply);
        }
        let mut beside = self.beside();
        let mut refused = BTreeMap::new();
        for (experiment, applies) in wanted {
            let mut with = beside;
            let why_not = |a: &&Apply| {
                let of_lease = (!LEASE_MS.contains(&a.lease_ms))
                    .then(|| format!("a lease of {} ms is none that may be", a.lease_ms));
                let reason = of_lease.or_else(|| self.why_not(&a.fault, a.duration_ms, with));
                with.add(Some(&a.fault));
                reason
            };
            match applies.iter().find_map(why_not) {
                Some(reason) => drop(refused.insert(experiment, reason)),
                None => beside = with,
            }
        }
        refused
    }

    /// What is alive here.
    pub(super) fn beside(&self) -> AlreadyHeld {
        let mut beside = AlreadyHeld::default();
        self.live.values().for_each(|live| beside.add(live.spec.as_ref()));
        beside
    }

    /// Whether the sender's leadership is at least the highest seen, which it then is.
    fn obey(&mut self, leadership: Leadership) -> bool {
        if leadership < self.obeys {
            return false; // guard: term
        }
        self.obeys = leadership;
        true
    }

    /// A lease ends one lease after the report that asked for it, by this host's clock; never past
    /// the deadline, never earlier than it did.
    fn renew(&mut self, id: &FaultId, echo: Time) {
        let Some(live) = self.live.get_mut(id) else { return };
        let until = echo.plus(live.lease_ms).min(live.deadline);
        if live.is_reverting() || live.local || until <= live.lease_until {
            return;
        }
        live.lease_until = until;
        if live.may_be_in_place() {
            self.actions.push_back(super::Action::Renew(id.clone(), until));
        }
    }

    /// Decides on one order to begin. What may become right with a fresh order is passed over in
    /// silence (the leader asks again); what never will is refused with the reason.
    fn consider(
        &mut self,
        now: Time,
        orders: &Orders,
        apply: &Apply,
        refused: &BTreeMap<ExperimentId, String>,
    ) {
        let late = now > orders.echo.plus(apply.not_after_ms);
        let lease_until = orders.echo.plus(apply.lease_ms);
        if late || lease_until <= now || apply.id.host != self.me {
            return;
        }
        if self.live.contains_key(&apply.id) || self.is_over(&apply.id, apply.start) {
            return;
        }
        if self.disarmed().is_some() || orders.newest_resume != self.fence.newest_resume() {
            return;
        }
        if lease_until < now.plus(apply.lease_ms / 2) {
            // The report that it echoes is old, since a host that holds nothing reports seldom. What is
            // left of the lease would end while the fault is put in place: a fresh order has all of it.
            return self.report_soon(now);
        }
        let refusal = if self.fence.admits(apply.start) {
            refused.get(&apply.id.experiment).cloned()
        } else {
            Some("it was ordered before a stop".to_owned())
        };
        let (id, start, fault) = (apply.id.clone(), apply.start, apply.fault.clone());
        match refusal {
            Some(reason) => self.refuse(now, id, start, fault, reason),
            None => {
                let (lease_ms, duration_ms) = (apply.lease_ms, apply.duration_ms);
                self.begin(id, Live::new(start, fault, lease_ms, lease_until, now, duration_ms));
            }
        }
    }

    pub(super) fn is_over(&self, id: &FaultId, start: LogIndex) -> bool {
        self.ended.contains_key(id) || start <= self.floor // guard: ended ids
    }

    /// Why nothing at all may begin here now, where nothing may.
    pub(super) fn disarmed(&self) -> Option<LocalRefusal> {
        if self.leaving {
            return Some(LocalRefusal::Leaving);
        }
        let outstanding: Vec<StopId> = self.fence.outstanding().collect();
        if !outstanding.is_empty() {
            return Some(LocalRefusal::Latched(outstanding));
        }
        if !self.synced {
            return Some(LocalRefusal::NotSynced); // guard: disarmed start
        }
        None
    }

    /// Why this host will not do such a thing beside what is alive, where it will not.
    pub(super) fn why_not(
        &self,
        fault: &Fault,
        duration_ms: u64,
        beside: AlreadyHeld,
    ) -> Option<String> {
        if beside.faults() >= MAX_LIVE {
            let all = beside.faults() + 1;
            return Some(format!("{all} faults would be alive here: {MAX_LIVE} may be"));
        }
        self.policy.check(fault, duration_ms, beside).err()
    }
}

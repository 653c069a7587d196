//! What one host must do now: its faults, their leases, the latch and the ids that are over.
//!
//! The machine owns no holder, no disk and no connection. The driver feeds it what happened and
//! carries out [`Action`]s. Each entry point first lifts what has run out by `now`, so that after a
//! clock jump a host lifts first and asks later.

mod fault;
mod local;
mod orders;
mod record;
mod stop;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::fence::Fence;
use crate::hold::Hold;
use crate::ids::{AgentRun, ClusterId, FaultId, HostName, Leadership, LogIndex, StopId};
use crate::message::{FaultReport, Receipt, Report};
use crate::policy::Policy;
use crate::time::Time;

use fault::Live;
pub use local::LocalRefusal;
pub use record::Record;
use stop::Pending;

/// How often an idle agent reports, and the longest gap between two reports of one that holds.
pub const REPORT_MS: u64 = 1_000;
/// How long a holder has to lift on order before it is killed.
pub const LIFT_GRACE_MS: u64 = 1_000;
/// How long after a network fault is in place a coordinator must have been heard again.
pub const CONFIRM_MS: u64 = 2_000;
/// How long what is left may take to go before it counts as residue. The kernel takes some objects
/// back a moment after their holder's death (18 ms was seen for a veth).
pub const PROOF_MS: u64 = 2_000;
/// How often a proof is tried again within that time.
pub const PROOF_RETRY_MS: u64 = 50;
/// How often what is stuck, and a latch that is not durable, is tried again.
pub const RETRY_MS: u64 = 5_000;
/// Ended fault ids that are kept one by one; older ones are covered by a floor on start indexes.
pub const MAX_ENDED: usize = 4_096;
/// Faults that may be alive on one host.
pub const MAX_LIVE: usize = 256;

/// Ties the answer of a durable write to what waits for it. An id is begun once, and a latch is tried
/// again only after its last try was answered, so that no token means two writes at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// The intent to put a fault in place.
    Intent(FaultId),
    /// The latch of a stop.
    Latch(StopId),
    /// A fact for the next life; nothing waits for it.
    Note,
}

/// Work for the driver, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make the records durable, then call [`Host::handle_persisted`].
    Persist {
        /// For the answer.
        token: Token,
        /// What to write.
        records: Vec<Record>,
    },
    /// Start a holder; its words come back through [`Host::handle_holder`], its end through
    /// [`Host::handle_gone`].
    Start(Box<Hold>),
    /// Tell the holder that its lease now ends at this moment.
    Renew(FaultId, Time),
    /// Tell the holder to lift.
    Lift(FaultId),
    /// SIGKILL the holder.
    Kill(FaultId),
    /// Look for what is left of the fault, then call [`Host::handle_proof`].
    Prove(FaultId),
    /// Send [`Host::report`] to every coordinator.
    Report,
    /// Send the receipt to every coordinator.
    Receipt(Receipt),
    /// Pass the stop on to the other hosts.
    Relay(StopId),
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    me: HostName,
    run: AgentRun,
    policy: Policy,
    /// To which its journal belongs, where it was ever in one.
    cluster: Option<ClusterId>,
    fence: Fence,
    /// A leader has given this life all stops and resumes.
    synced: bool,
    /// The agent is being stopped.
    leaving: bool,
    obeys: Leadership,
    live: BTreeMap<FaultId, Live>,
    /// Over, and not yet acknowledged by a leader.
    over: BTreeMap<FaultId, FaultReport>,
    /// Over for ever: never applied again.
    ended: BTreeMap<FaultId, LogIndex>,
    /// Whatever started at or before this is over for ever.
    floor: LogIndex,
    pending: BTreeMap<StopId, Pending>,
    receipts: BTreeMap<StopId, Receipt>,
    next_report: Time,
    actions: VecDeque<Action>,
}

impl Host {
    /// A host that starts with what its journal holds. It is disarmed until a leader has answered,
    /// unless `standalone` (no cluster at all). Faults that were alive when the last life ended are
    /// over; what is left of them is looked for at once.
    #[must_use]
    pub fn new(
        me: HostName,
        run: AgentRun,
        policy: Policy,
        records: &[Record],
        standalone: bool,
        now: Time,
    ) -> Host {
        let mut host = Host {
            me,
            run,
            policy,
            cluster: None,
            fence: Fence::default(),
            synced: standalone,
            leaving: false,
            obeys: Leadership::default(),
            live: BTreeMap::new(),
            over: BTreeMap::new(),
            ended: BTreeMap::new(),
            floor: LogIndex(0),
            pending: BTreeMap::new(),
            receipts: BTreeMap::new(),
            next_report: now,
            actions: VecDeque::new(),
        };
        host.replay(records, now);
        host
    }

    /// The next piece of work.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Host::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Time {
        let faults = self.live.values().map(Live::next_timeout).min().unwrap_or(Time::FAR);
        let latches = self.pending.values().map(Pending::next_timeout).min().unwrap_or(Time::FAR);
        faults.min(latches).min(self.next_report)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.expire(now);
        self.retry_latches(now);
        if now >= self.next_report {
            self.report_soon(now);
        }
    }

    /// A coordinator's words arrived at that moment, which may be some time ago: network faults that wait
    /// for that, and were in place by then, are confirmed.
    pub fn handle_heard(&mut self, at: Time) {
        self.expire(at);
        for live in self.live.values_mut() {
            live.confirm(at);
        }
    }

    /// A durable write is done (`Ok`) or has failed (the reason).
    pub fn handle_persisted(&mut self, now: Time, token: Token, result: Result<(), String>) {
        self.expire(now);
        match token {
            Token::Intent(id) => self.intent_written(now, &id, result),
            Token::Latch(stop) => self.latch_written(now, stop, result.is_ok()),
            Token::Note => {}
        }
    }

    /// What is true of this host. The driver adds probes and the row.
    #[must_use]
    pub fn report(&self, now: Time) -> Report {
        let live = self.live.iter().map(|(id, live)| live.report(now, id));
        Report {
            run: self.run,
            t: now,
            digest: self.fence.digest(),
            newest_resume: self.fence.newest_resume(),
            synced: self.synced,
            armed: self.fence.armed(),
            faults: live.chain(self.over.values().cloned()).collect(),
            probes: Vec::new(),
            row: None,
        }
    }

    /// What is true of one fault; of one that a leader has acknowledged nothing is known any more.
    #[must_use]
    pub fn report_of(&self, now: Time, id: &FaultId) -> Option<FaultReport> {
        let live = self.live.get(id).map(|live| live.report(now, id));
        live.or_else(|| self.over.get(id).cloned())
    }

    /// Stops heard and resumes learnt.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The highest leadership that it obeyed.
    #[must_use]
    pub fn obeys(&self) -> Leadership {
        self.obeys
    }

    /// Nothing is being put in place, held or lifted here.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.live.is_empty()
    }

    /// Ids that something may be held for right now.
    pub fn holding(&self) -> impl Iterator<Item = (&FaultId, LogIndex)> {
        self.live.iter().filter(|(_, live)| live.may_be_in_place()).map(|(id, l)| (id, l.start))
    }

    /// When the lease of a live fault ends.
    #[must_use]
    pub fn lease_until(&self, id: &FaultId) -> Option<Time> {
        self.live.get(id).map(|l| l.lease_until)
    }

    /// Whether an id is over for ever.
    #[must_use]
    pub fn has_ended(&self, id: &FaultId) -> bool {
        self.ended.contains_key(id)
    }

    /// The receipt of a stop, once all of it is done.
    #[must_use]
    pub fn receipt(&self, stop: StopId) -> Option<&Receipt> {
        self.receipts.get(&stop)
    }

    fn persist(&mut self, token: Token, records: Vec<Record>) {
        self.actions.push_back(Action::Persist { token, records });
    }

    /// Sends a report now; the next regular one comes a fifth of the shortest lease later.
    fn report_soon(&mut self, now: Time) {
        let shortest = self.live.values().map(|l| l.lease_ms).min().unwrap_or(u64::MAX);
        self.next_report = now.plus((shortest / 5).clamp(100, REPORT_MS));
        if self.actions.back() != Some(&Action::Report) {
            self.actions.push_back(Action::Report);
        }
    }

    /// Marks ids as over for ever, forgetting the oldest behind the floor. What a person injected has no
    /// place in the log, and is forgotten only once he has heard how it ended.
    fn end_for_ever(&mut self, id: &FaultId, start: LogIndex) {
        self.ended.insert(id.clone(), start);
        while self.ended.len() > MAX_ENDED {
            let untold = |id: &FaultId| id.experiment.is_local() && self.over.contains_key(id);
            let oldest = self.ended.iter().min_by_key(|(id, start)| (untold(id), **start));
            let Some((id, start)) = oldest.map(|(id, start)| (id.clone(), *start)) else { return };
            self.floor = self.floor.max(start);
            self.ended.remove(&id);
            self.over.remove(&id);
        }
    }

    /// Everything that a journal must hold for the next life; for compaction.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let stops = self.fence.outstanding().map(Record::Stop);
        let resumes = self.fence.resumes_after(LogIndex(0)).map(Record::Resume);
        let ended = self.ended.iter().map(|(id, start)| Record::Ended(id.clone(), *start));
        let known = self.ended.keys().filter(|id| !self.over.contains_key(*id));
        let acknowledged = known.map(|id| Record::Acknowledged(id.clone()));
        let live: BTreeSet<_> = self.live.iter().map(|(id, l)| (id.clone(), l.start)).collect();
        let intents = live.into_iter().map(|(id, start)| Record::Intent(id, start));
        self.cluster
            .map(Record::Cluster)
            .into_iter()
            .chain([Record::Floor(self.floor)])
            .chain(stops)
            .chain(resumes)
            .chain(ended)
            .chain(acknowledged)
            .chain(intents)
            .collect()
    }
}

//! Stop-all: pushed, written, forwarded and proposed, all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use squall_core::experiment::LEASE_MS;
use squall_core::ids::{CommandId, HostName, StopId};
use squall_core::message::{FromCoordinator, Receipt, StopProgress, ToAgent};
use squall_core::registry::{Command, Registry};
use squall_core::stopping::Broadcast;
use squall_core::time::Time;
use squall_wire::codec;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{ATTEMPT, Driver, beside};
use crate::clock;
use crate::node::Node;
use crate::raft::{self, NotWritten};
use crate::server::OPERATORS;
use crate::sessions::Sessions;

/// The shortest gap between two answers to an operator who waits; a host that completes the
/// picture is told of at once.
const PUBLISH_GAP_MS: u64 = 50;
/// Stops whose receipts are kept for operators who ask a moment later.
const MAX_KEPT: usize = 4;
/// Stops in one message to another coordinator.
const MAX_FORWARDED: usize = 16_384;

struct Running {
    machine: Broadcast,
    to: Vec<mpsc::Sender<StopProgress>>,
    /// Something changed since the last answer.
    dirty: bool,
    /// The last answer said that every host has answered.
    told_all: bool,
    next: Time,
}

impl Running {
    /// Whether the operators are to be told of a change now.
    fn is_due(&self, now: Time) -> bool {
        let completes = self.machine.is_answered() && !self.told_all;
        self.dirty && (completes || now >= self.next)
    }
}

/// Stop-alls that somebody waits for, and the receipts of the last ones.
#[derive(Default)]
pub(super) struct Broadcasts {
    running: Vec<Running>,
    receipts: BTreeMap<StopId, BTreeMap<HostName, Receipt>>,
    /// The order in which receipts are forgotten.
    kept: Vec<StopId>,
}

impl Broadcasts {
    /// Receipts of stops that do not stand (any more) are nobody's question.
    pub(super) fn handle_receipt(
        &mut self,
        now: Time,
        host: &HostName,
        receipt: Receipt,
        stands: bool,
    ) {
        for running in self.running.iter_mut().filter(|r| r.machine.stop() == receipt.stop) {
            running.machine.handle_receipt(now, host, receipt.clone());
            running.dirty = true;
        }
        if stands {
            self.keep(receipt.stop).insert(host.clone(), receipt);
        }
    }

    /// A host has connected that the registry lacks.
    pub(super) fn handle_stranger(&mut self, now: Time, host: &HostName) {
        for running in &mut self.running {
            running.machine.handle_stranger(now, host);
            running.dirty = true;
        }
    }

    /// Nobody knows whose receipts these were.
    pub(super) fn disbelieve(&mut self, host: &HostName) {
        for running in &mut self.running {
            running.dirty |= running.machine.disbelieve(host);
        }
        for receipts in self.receipts.values_mut() {
            receipts.remove(host);
        }
    }

    fn keep(&mut self, stop: StopId) -> &mut BTreeMap<HostName, Receipt> {
        if !self.receipts.contains_key(&stop) {
            self.kept.push(stop);
            if self.kept.len() > MAX_KEPT {
                self.receipts.remove(&self.kept.remove(0));
            }
        }
        self.receipts.entry(stop).or_default()
    }

    fn has_receipt(&self, stop: StopId, host: &HostName) -> bool {
        self.receipts.get(&stop).is_some_and(|of_stop| of_stop.contains_key(host))
    }

    /// Stops of which a host that has just reported must be told again, since its receipt is missing.
    pub(super) fn asks_again(&self, now: Time, host: &HostName) -> Vec<StopId> {
        let machines = self.running.iter().map(|running| &running.machine);
        machines.filter(|m| m.asks_again(now, host)).map(Broadcast::stop).collect()
    }

    /// The registry has changed.
    pub(super) fn handle_registry(&mut self, now: Time, registry: &Registry, sessions: &Sessions) {
        let none = BTreeMap::new();
        for running in &mut self.running {
            let receipts = self.receipts.get(&running.machine.stop()).unwrap_or(&none).iter();
            let last = |host: &HostName| sessions.last_report(host);
            running.dirty |= running.machine.handle_registry(now, registry, last, receipts);
        }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        let next = |r: &Running| if r.dirty { r.next } else { r.machine.poll_timeout() };
        self.running.iter().map(next).min().unwrap_or(Time::FAR)
    }

    /// Says how each stands, where that has changed, and forgets those that are over or that
    /// nobody waits for any more.
    pub(super) fn publish(&mut self, now: Time) {
        self.running.retain_mut(|running| {
            let over = running.machine.is_over(now);
            if !over && !running.is_due(now) {
                return true;
            }
            let progress = running.machine.progress(now);
            running.dirty = false;
            running.told_all = running.machine.is_answered();
            running.next = now.plus(PUBLISH_GAP_MS);
            // An operator who does not read gets the next one; the last one must get through.
            running.to.retain(|to| match to.try_send(progress.clone()) {
                Err(mpsc::error::TrySendError::Full(missed)) => {
                    if over {
                        let to = to.clone();
                        beside(ATTEMPT, async move { drop(to.send(missed).await) });
                    }
                    true
                }
                result => result.is_ok(),
            });
            !over && !running.to.is_empty()
        });
    }
}

impl Driver {
    /// An operator's stop.
    fn hear(&mut self, stop: StopId, by: String) {
        if self.note(stop, Some(by)) {
            self.pass_on(vec![stop]);
        }
    }

    /// Stops were learnt from others.
    pub(super) fn hear_all(&mut self, mut stops: Vec<StopId>) {
        stops.retain(|stop| self.note(*stop, None));
        if !stops.is_empty() {
            self.pass_on(stops);
        }
    }

    /// The same from an agent, whose word is not signed: only so many.
    pub(super) fn brought(&mut self, connection: u64, mut stops: Vec<StopId>) {
        let mut sessions = self.node.sessions();
        let Some(host) = sessions.of_connection(connection).map(|(host, _)| host.clone()) else {
            return;
        };
        stops.sort_unstable();
        stops.dedup();
        {
            let heard = self.node.stops();
            stops.retain(|stop| !heard.fence().knows(*stop));
        }
        let new = stops.len();
        let stops = self.node.applied.read(|registry| {
            let by_an_operator = |by: &str| by.starts_with(OPERATORS);
            let vouched = |stop| registry.stops.get(&stop).is_some_and(|s| by_an_operator(&s.by));
            sessions.brings(&host, stops, vouched)
        });
        drop(sessions);
        if stops.len() < new {
            tracing::warn!(%host, over = new - stops.len(), "more stops than a host can know");
        }
        self.hear_all(stops);
    }

    /// True where it was not known.
    fn note(&mut self, stop: StopId, by: Option<String>) -> bool {
        let new = self.node.stops().hear(stop, by);
        if new {
            tracing::warn!(%stop, "stop");
            self.push(stop);
            if let Some(leading) = &mut self.leading {
                leading.machine.handle_stop(clock::now(), stop);
            }
        }
        new
    }

    /// Tells the other coordinators of new stops, this one's prober and, where this one leads, the log.
    fn pass_on(&mut self, stops: Vec<StopId>) {
        self.forward(&stops);
        self.order_probes();
        if self.leading.is_some() {
            let node = self.node.clone();
            beside(ATTEMPT, async move { drop(propose(&node, stops).await) });
        }
    }

    /// Pushes a stop to every agent: encoded once, sent in one loop that does not wait.
    pub(super) fn push(&mut self, stop: StopId) {
        self.push_to(stop, |_| true);
    }

    pub(super) fn push_to(&mut self, stop: StopId, wanted: impl Fn(&HostName) -> bool) {
        let record = self.node.stops().record(stop);
        let encoded = codec::encode(&ToAgent::Stop { stop, record }).expect("a stop is small");
        let connections: Vec<u64> = {
            let sessions = self.node.sessions();
            sessions.iter().filter(|(h, _)| wanted(h)).map(|(_, s)| s.connection).collect()
        };
        for connection in connections {
            if !self.outboxes.send(connection, &encoded) {
                self.disconnected(connection);
            }
        }
    }

    fn forward(&self, stops: &[StopId]) {
        let parts = stops.chunks(MAX_FORWARDED);
        for (part, link) in parts.flat_map(|p| self.node.links.all().iter().map(move |l| (p, l))) {
            let (link, message) = (link.clone(), FromCoordinator::Stops(part.to_vec()));
            beside(ATTEMPT, async move {
                if let Err(error) = link.call(&message).await {
                    tracing::debug!(%error, "a stop did not reach another coordinator yet");
                }
            });
        }
    }

    /// Gets the stops that the log lacks into it: by proposing where this node leads, else by
    /// telling the others again. Tried again at every tick until the log has them.
    pub(super) fn push_lacking(&mut self) {
        let lacking = self.node.stops().lacking();
        if lacking.is_empty() {
            return;
        }
        let Some(leading) = &self.leading else { return self.forward(&lacking) };
        if !leading.backed {
            // What was proposed once waits in its log for a quorum.
            return;
        }
        let under_way = |task: &JoinHandle<()>| !task.is_finished();
        if !self.catching_up.as_ref().is_some_and(under_way) {
            let node = self.node.clone();
            let all = async move { drop(propose(&node, lacking).await) };
            self.catching_up = Some(beside(ATTEMPT, all));
        }
    }

    /// An operator stops everything, here and now.
    pub(super) fn stop_all(
        &mut self,
        stop: StopId,
        by: String,
        progress: mpsc::Sender<StopProgress>,
    ) {
        let known = self.node.stops().fence().knows(stop);
        self.hear(stop, by);
        if known {
            let answered: Vec<HostName> = {
                let sessions = self.node.sessions();
                let has = |h: &&HostName| self.broadcasts.has_receipt(stop, h);
                sessions.iter().map(|(h, _)| h).filter(has).cloned().collect()
            };
            self.push_to(stop, |host| !answered.contains(host));
        }
        let now = clock::now();
        if let Some(running) = self.broadcasts.running.iter_mut().find(|r| r.machine.stop() == stop)
        {
            running.to.push(progress);
            running.dirty = true;
            return;
        }
        let mut machine = self.broadcast(now, stop);
        let receipts = self.broadcasts.keep(stop).clone();
        for (host, receipt) in &receipts {
            machine.handle_receipt(now, host, receipt.clone());
        }
        let sessions = self.node.sessions();
        self.node.applied.read(|registry| {
            let last = |host: &HostName| sessions.last_report(host);
            machine.handle_registry(now, registry, last, receipts.iter());
        });
        drop(sessions);
        // The first answer comes after a gap too: while the stop is being pushed there is no news.
        self.broadcasts.running.push(Running {
            machine,
            to: vec![progress],
            dirty: true,
            told_all: false,
            next: now.plus(PUBLISH_GAP_MS),
        });
    }

    fn broadcast(&self, now: Time, stop: StopId) -> Broadcast {
        let sessions = self.node.sessions();
        self.node.applied.read(|registry| {
            // Also those that are connected here and of which this registry has not heard yet.
            let connected = sessions.iter().map(|(host, _)| host);
            let names: BTreeSet<&HostName> = registry.hosts.keys().chain(connected).collect();
            let hosts = names.into_iter().map(|host| (host, sessions.last_report(host)));
            // There may be experiments that this registry has not heard of.
            let mut machine = Broadcast::new(now, stop, hosts, *LEASE_MS.end());
            machine.handle_ordered(&registry.may_hold());
            for (host, _) in sessions.iter().filter(|(h, _)| !registry.hosts.contains_key(*h)) {
                machine.handle_stranger(now, host);
            }
            if !self.node.newcomer.is_member() {
                machine.may_lack_hosts();
            }
            machine
        })
    }
}

/// Proposes every stop that the log lacks; all of them are in the log when this returns `Ok`.
pub(crate) async fn propose_lacking(node: &Arc<Node>) -> Result<(), NotWritten> {
    let lacking = node.stops().lacking();
    propose(node, lacking).await
}

async fn propose(node: &Arc<Node>, stops: Vec<StopId>) -> Result<(), NotWritten> {
    for stop in stops {
        let by = node.stops().asked_by(stop).unwrap_or_else(|| node.me());
        // The stop's own id: however often and by whomever it is proposed, it takes effect once.
        let entry = raft::entry(CommandId(stop.0), &by, Command::Stop(stop));
        raft::propose(&node.raft, node.config.id, entry).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use squall_core::ids::AgentRun;
    use squall_core::message::Latched;

    use super::*;

    #[test]
    fn receipts_of_stops_that_nobody_knows_push_out_none() {
        let receipt = |n| Receipt {
            stop: StopId(uuid::Uuid::from_u128(n)),
            run: AgentRun(uuid::Uuid::nil()),
            lifted: 0,
            residue: Vec::new(),
            latched: Latched::Durable,
            took_ms: 0,
        };
        let (host, mut broadcasts) = ("h1".parse().unwrap(), Broadcasts::default());
        broadcasts.handle_receipt(Time(0), &host, receipt(0), true);
        for n in 1..=MAX_KEPT as u128 {
            broadcasts.handle_receipt(Time(0), &host, receipt(n), false);
        }
        assert!(broadcasts.has_receipt(receipt(0).stop, &host));
        assert!(!broadcasts.has_receipt(receipt(1).stop, &host));
    }
}

//! The agent's one select loop: after each event the machine's actions are carried out in order,
//! then the timer is re-armed.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use squall_core::host::{Action, Host, Token};
use squall_core::ids::{AgentRun, Leadership, NodeId, StopId};
use squall_core::message::{FromAgent, Hello, PeerHost, Receipt, Report, ToAgent};
use squall_core::time::Time;
use squall_faults::clock;
use tokio::sync::mpsc;

use crate::fit::fit;
use crate::holders::{HolderNews, Holders};
use crate::links::{Link, LinkEvent};
use crate::local::{Listening, Local, Locals};
use crate::neighbours::{Neighbours, SignedStop};
use crate::probes::Probes;
use crate::writer::{Writer, Written};

/// How long a stopping agent waits for its faults to be lifted and proven gone. What is slower is
/// taken back by the kernel when the agent's process ends.
const STOPPING_MS: u64 = 4_000;
/// How long a stopping agent waits for its last words to arrive.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long an agent without a cluster waits for the person who started it.
const LONE_MS: u64 = 10_000;
/// Signed records of stops, and receipts, that are kept to be passed on and said again.
const MAX_KEPT: usize = 64;

/// Everything that the machine acts on.
pub(crate) struct Driver {
    pub run: AgentRun,
    pub host: Host,
    pub hello: Option<Hello>,
    pub holders: Holders,
    pub writer: Writer,
    pub links: Vec<Link>,
    pub locals: Locals,
    /// Kept for its end.
    pub _listening: Listening,
    pub neighbours: Option<Neighbours>,
    pub probes: Probes,
    pub kept: Kept,
    pub inbox: Inbox,
    /// No coordinator: ends when nothing is alive and nobody is connected any more.
    pub ends_when_idle: bool,
}

/// What is kept to be said again.
#[derive(Default)]
pub(crate) struct Kept {
    /// Stops with their signed records, oldest first, for the relay.
    records: VecDeque<SignedStop>,
    /// The last receipt of each stop, oldest first: a coordinator to which no stream was open when
    /// it was made gets it when there is one.
    receipts: VecDeque<Receipt>,
    /// The other hosts, as each coordinator tells of them.
    peers: BTreeMap<NodeId, Vec<PeerHost>>,
}

impl Kept {
    fn record(&self, stop: StopId) -> Option<&Vec<u8>> {
        self.records.iter().find(|(known, _)| *known == stop).map(|(_, record)| record)
    }

    /// True where the stop had no record so far.
    fn keep_record(&mut self, stop: StopId, record: Vec<u8>) -> bool {
        if self.record(stop).is_some() {
            return false;
        }
        self.records.push_back((stop, record));
        if self.records.len() > MAX_KEPT {
            self.records.pop_front();
        }
        true
    }

    fn keep_receipt(&mut self, receipt: &Receipt) {
        self.receipts.retain(|known| known.stop != receipt.stop);
        self.receipts.push_back(receipt.clone());
        if self.receipts.len() > MAX_KEPT {
            self.receipts.pop_front();
        }
    }
}

/// Everything that happens to an agent.
pub(crate) struct Inbox {
    pub links: mpsc::Receiver<LinkEvent>,
    pub holders: mpsc::UnboundedReceiver<HolderNews>,
    pub written: mpsc::UnboundedReceiver<Written>,
    pub locals: mpsc::Receiver<Local>,
    pub relayed: mpsc::Receiver<SignedStop>,
}

impl Driver {
    /// Runs until `shutdown`; then lifts everything, proves it gone and returns.
    pub(crate) async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let began = clock::now();
        let mut stopping: Option<Time> = None;
        loop {
            self.drain();
            // Not left to the select below: a timer that is made anew each time never gets its turn
            // while other branches are always ready.
            if clock::now() >= self.host.poll_timeout() {
                self.host.handle_timeout(clock::now());
                self.drain();
            }
            let now = clock::now();
            if stopping.is_some_and(|until| self.host.is_idle() || now >= until) {
                break;
            }
            if self.ends_when_idle && self.is_deserted(now.since(began)) {
                break;
            }
            let wake = self.host.poll_timeout().min(stopping.unwrap_or(Time::FAR));
            let wait_ms = now.until(wake).clamp(1, 1_000);
            tokio::select! {
                Some(event) = self.inbox.links.recv() => self.handle_link(event),
                Some(news) = self.inbox.holders.recv() => self.handle_holder(news),
                Some((token, result)) = self.inbox.written.recv() => self.written(token, result),
                Some(event) = self.inbox.locals.recv() => {
                    self.locals.handle(clock::now(), event, &mut self.host);
                }
                Some((stop, record)) = self.inbox.relayed.recv() => self.heard(stop, record),
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
                () = &mut shutdown, if stopping.is_none() => {
                    tracing::info!("stopping: lifting everything first");
                    let now = clock::now();
                    self.host.handle_lift_all(now);
                    stopping = Some(now.plus(STOPPING_MS));
                }
            }
        }
        self.end().await;
    }

    /// Says the last words, and waits for the last write.
    async fn end(mut self) {
        self.report();
        let closing: Vec<_> = self.links.drain(..).map(|l| tokio::spawn(l.close())).collect();
        let told = async {
            for link in closing {
                let _ = link.await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, told).await;
        self.writer.close().await;
    }

    /// Whether an agent without a cluster is of no more use. It waits a while for its first guest.
    fn is_deserted(&self, age_ms: u64) -> bool {
        let expects_somebody = !self.locals.had_somebody() && age_ms < LONE_MS;
        self.host.is_idle() && self.locals.is_empty() && !expects_somebody
    }

    fn drain(&mut self) {
        while let Some(action) = self.host.poll_action() {
            match action {
                Action::Persist { token, records } => {
                    if let Err(token) = self.writer.append(token, records) {
                        self.written(token, Err("the journal's thread has died".to_owned()));
                    }
                }
                Action::Start(hold) => self.holders.start_holder(*hold),
                Action::Renew(id, until) => self.holders.renew(&id, until),
                Action::Lift(id) => self.holders.lift(&id),
                Action::Kill(id) => self.holders.kill(&id),
                Action::Prove(id) => self.holders.prove(&id),
                Action::Report => self.report(),
                Action::Receipt(receipt) => self.receipt(receipt),
                Action::Relay(stop) => self.relay(stop),
            }
        }
        self.locals.tell(clock::now(), &mut self.host);
    }

    fn written(&mut self, token: Token, result: Result<(), String>) {
        if let Err(error) = &result {
            tracing::error!(error, "the journal cannot be written");
        }
        self.host.handle_persisted(clock::now(), token, result);
    }

    /// What is true of this host, as coordinators are told.
    fn full_report(&mut self) -> Report {
        let now = clock::now();
        let mut report = self.host.report(now);
        report.probes = self.probes.reports(now);
        report.row = self.neighbours.as_ref().map(|n| n.row(now));
        fit(report)
    }

    fn report(&mut self) {
        if self.links.is_empty() {
            return;
        }
        let report = Arc::new(FromAgent::Report(self.full_report()));
        for link in &self.links {
            link.report(report.clone());
        }
    }

    fn receipt(&mut self, receipt: Receipt) {
        tracing::warn!(
            stop = %receipt.stop,
            lifted = receipt.lifted,
            took_ms = receipt.took_ms,
            latched = ?receipt.latched,
            residue = receipt.residue.len(),
            "stopped"
        );
        self.kept.keep_receipt(&receipt);
        for link in &self.links {
            link.send(FromAgent::Receipt(receipt.clone()));
        }
    }

    fn relay(&self, stop: StopId) {
        if let (Some(near), Some(record)) = (&self.neighbours, self.kept.record(stop)) {
            near.spread(stop, record.clone());
        }
    }

    fn handle_link(&mut self, event: LinkEvent) {
        let now = clock::now();
        let (node, said) = match event {
            LinkEvent::Up(node) => return self.greet(node),
            LinkEvent::Said(node, said) => (node, said),
        };
        self.host.handle_heard(now);
        match *said {
            ToAgent::Stop { stop, record } => self.heard(stop, record),
            ToAgent::Stops(stops) => {
                self.host.handle_stops(now, &stops);
                let known = self.host.fence().stops().collect();
                if let Some(link) = self.links.iter().find(|l| l.node == node) {
                    link.send(FromAgent::Stops(known));
                }
            }
            ToAgent::Sync(sync) => {
                self.host.handle_sync(now, &sync);
                self.heard_leader(now, sync.run, sync.leadership);
            }
            ToAgent::Orders(orders) => {
                self.host.handle_orders(now, &orders);
                if self.heard_leader(now, orders.run, orders.leadership) {
                    if let Some(near) = &self.neighbours {
                        near.set_fast(orders.beat_fast);
                    }
                    self.probes.set(now, &orders.probes);
                }
            }
            ToAgent::Peers(peers) => {
                self.kept.peers.insert(node, peers);
                self.choose_peers(node);
            }
        }
    }

    /// Says to a coordinator who this is, and what it may have missed.
    fn greet(&mut self, node: NodeId) {
        let report = Arc::new(FromAgent::Report(self.full_report()));
        let link = self.links.iter().find(|l| l.node == node);
        let (Some(link), Some(hello)) = (link, &self.hello) else { return };
        link.send(FromAgent::Hello(hello.clone()));
        for receipt in &self.kept.receipts {
            link.send(FromAgent::Receipt(receipt.clone()));
        }
        link.report(report);
    }

    /// Notes that a leader spoke. False where this host does not obey it: then nothing that it says
    /// counts.
    fn heard_leader(&mut self, now: Time, run: AgentRun, leadership: Leadership) -> bool {
        if run != self.run || leadership != self.host.obeys() {
            return false;
        }
        if let Some(near) = &mut self.neighbours {
            near.heard_leader(now, leadership);
        }
        self.choose_peers(leadership.node);
        true
    }

    /// The leader's word on who the other hosts are goes first: a coordinator that has just come
    /// back may know of fewer. Without one, the last word counts.
    fn choose_peers(&self, last: NodeId) {
        let of_leader = self.kept.peers.get(&self.host.obeys().node);
        let peers = of_leader.or_else(|| self.kept.peers.get(&last));
        if let (Some(near), Some(peers)) = (&self.neighbours, peers) {
            near.set_peers(peers);
        }
    }

    /// A stop came with its record. Where the stop was known without one, it can be relayed now.
    fn heard(&mut self, stop: StopId, record: Vec<u8>) {
        let known = self.host.fence().knows(stop);
        if self.kept.keep_record(stop, record) && known {
            self.relay(stop);
        }
        self.host.handle_stop(clock::now(), stop);
    }

    fn handle_holder(&mut self, news: HolderNews) {
        let now = clock::now();
        match news {
            HolderNews::Started(id, holder) => self.holders.started(id, holder),
            HolderNews::Said(id, report) => {
                tracing::info!(fault = %id, ?report, "holder");
                self.host.handle_holder(now, &id, report);
            }
            HolderNews::Gone(id) => {
                self.holders.forget(&id);
                self.host.handle_gone(now, &id);
            }
            HolderNews::NotStarted(id, reason) => {
                self.holders.forget(&id);
                self.host.handle_not_started(now, &id, reason);
            }
            HolderNews::Proof(id, residue) => {
                if residue.is_empty() {
                    self.holders.over(&id);
                }
                self.host.handle_proof(now, &id, residue);
            }
        }
    }
}

//! The agent's one select loop: after each event the machine's actions are carried out in order,
//! then the timer is re-armed.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use squall_core::host::{Action, Host};
use squall_core::ids::StopId;
use squall_core::message::{FromAgent, Hello, Receipt, ToAgent};
use squall_core::time::Time;
use squall_faults::clock;
use tokio::sync::mpsc;

use crate::holders::{HolderNews, Holders};
use crate::links::{Link, LinkEvent};
use crate::local::{Local, Locals};
use crate::neighbours::Neighbours;
use crate::probes::Probes;
use crate::writer::{Writer, Written};

/// How long a stopping agent waits for its faults to be lifted and proven gone. What is slower is
/// taken back by the kernel when the agent's process ends.
const STOPPING_MS: u64 = 4_000;
/// Signed records of stops that are kept for the relay.
const MAX_RECORDS: usize = 64;

/// Everything that the machine acts on.
pub(crate) struct Driver {
    pub host: Host,
    pub hello: Option<Hello>,
    pub holders: Holders,
    pub writer: Writer,
    pub links: Vec<Link>,
    pub locals: Locals,
    pub neighbours: Option<Neighbours>,
    pub probes: Probes,
    pub records: BTreeMap<StopId, Vec<u8>>,
    pub inbox: Inbox,
    /// No coordinator: ends when nothing is alive and nobody is connected.
    pub ends_when_idle: bool,
}

/// Everything that happens to an agent.
pub(crate) struct Inbox {
    pub links: mpsc::Receiver<LinkEvent>,
    pub holders: mpsc::UnboundedReceiver<HolderNews>,
    pub written: mpsc::UnboundedReceiver<Written>,
    pub locals: mpsc::Receiver<Local>,
    pub relayed: mpsc::Receiver<(StopId, Vec<u8>)>,
}

impl Driver {
    /// Runs until `shutdown`; then lifts everything, proves it gone and returns.
    pub(crate) async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let mut stopping: Option<Time> = None;
        loop {
            self.drain();
            let now = clock::now();
            if stopping.is_some_and(|until| self.host.is_idle() || now >= until) {
                break;
            }
            if self.ends_when_idle && self.host.is_idle() && self.locals.is_empty() {
                break;
            }
            let wake = self.host.poll_timeout().min(stopping.unwrap_or(Time::FAR));
            let timer = tokio::time::sleep(Duration::from_millis(now.until(wake).min(1_000)));
            tokio::select! {
                Some(event) = self.inbox.links.recv() => self.handle_link(event),
                Some(news) = self.inbox.holders.recv() => self.handle_holder(news),
                Some((token, result)) = self.inbox.written.recv() => {
                    if let Err(error) = &result {
                        tracing::error!(error, "the journal cannot be written");
                    }
                    self.host.handle_persisted(clock::now(), token, result);
                }
                Some(event) = self.inbox.locals.recv() => {
                    self.locals.handle(clock::now(), event, &mut self.host);
                }
                Some((stop, record)) = self.inbox.relayed.recv() => self.heard(stop, Some(record)),
                () = timer => self.host.handle_timeout(clock::now()),
                () = &mut shutdown, if stopping.is_none() => {
                    tracing::info!("stopping: lifting everything first");
                    let now = clock::now();
                    self.host.handle_lift_all(now);
                    stopping = Some(now.plus(STOPPING_MS));
                }
            }
        }
        self.writer.close();
    }

    fn drain(&mut self) {
        while let Some(action) = self.host.poll_action() {
            match action {
                Action::Persist { token, records } => self.writer.append(token, records),
                Action::Start(hold) => self.holders.start_holder(*hold),
                Action::Renew(id, until) => self.holders.renew(&id, until),
                Action::Lift(id) => self.holders.lift(&id),
                Action::Kill(id) => self.holders.kill(&id),
                Action::Prove(id) => self.holders.prove(&id),
                Action::Report => self.report(),
                Action::Receipt(receipt) => self.receipt(&receipt),
                Action::Relay(stop) => {
                    if let (Some(near), Some(record)) = (&self.neighbours, self.records.get(&stop)) {
                        near.spread(stop, record.clone());
                    }
                }
            }
        }
        self.locals.tell(clock::now(), &mut self.host);
    }

    fn report(&self) {
        let mut report = self.host.report(clock::now());
        report.probes = self.probes.reports();
        report.row = self.neighbours.as_ref().map(|n| n.row(report.obeys));
        for link in &self.links {
            link.send(FromAgent::Report(report.clone()));
        }
    }

    fn receipt(&self, receipt: &Receipt) {
        tracing::warn!(
            stop = %receipt.stop,
            lifted = receipt.lifted,
            took_ms = receipt.took_ms,
            latched = ?receipt.latched,
            residue = receipt.residue.len(),
            "stopped"
        );
        for link in &self.links {
            link.send(FromAgent::Receipt(receipt.clone()));
        }
    }

    fn handle_link(&mut self, event: LinkEvent) {
        let now = clock::now();
        let (node, said) = match event {
            LinkEvent::Up(node) => {
                let link = self.links.iter().find(|l| l.node == node);
                if let (Some(link), Some(hello)) = (link, &self.hello) {
                    link.send(FromAgent::Hello(hello.clone()));
                    link.send(FromAgent::Report(self.host.report(now)));
                }
                return;
            }
            LinkEvent::Said(node, said) => (node, said),
        };
        self.host.handle_heard(now);
        match *said {
            ToAgent::Stop { stop, record } => self.heard(stop, Some(record)),
            ToAgent::Stops(stops) => {
                self.host.handle_stops(now, &stops);
                let known = self.host.fence().stops().collect();
                if let Some(link) = self.links.iter().find(|l| l.node == node) {
                    link.send(FromAgent::Stops(known));
                }
            }
            ToAgent::Sync(sync) => self.host.handle_sync(now, &sync),
            ToAgent::Orders(orders) => {
                self.host.handle_orders(now, &orders);
                if let Some(near) = &mut self.neighbours {
                    near.heard_leader(now, orders.leadership);
                    near.set_fast(orders.beat_fast);
                }
                self.probes.set(&orders.probes);
            }
            ToAgent::Peers(peers) => {
                if let Some(near) = &mut self.neighbours {
                    near.set_peers(&peers);
                }
            }
        }
    }

    fn heard(&mut self, stop: StopId, record: Option<Vec<u8>>) {
        if let Some(record) = record
            && self.records.len() < MAX_RECORDS
        {
            self.records.entry(stop).or_insert(record);
        }
        self.host.handle_stop(clock::now(), stop);
    }

    fn handle_holder(&mut self, news: HolderNews) {
        let now = clock::now();
        match news {
            HolderNews::Said(id, report) => {
                tracing::info!(fault = %id, ?report, "holder");
                self.host.handle_holder(now, &id, report);
            }
            HolderNews::Gone(id) => {
                self.holders.forget(&id);
                self.host.handle_gone(now, &id);
            }
            HolderNews::NotStarted(id, reason) => {
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

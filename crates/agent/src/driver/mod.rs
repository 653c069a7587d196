//! The agent's one select loop: after each event the machine's actions are carried out in order,
//! then the timer is re-armed.

mod hearing;
mod kept;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use squall_core::hold::{Failure, HolderReport};
use squall_core::host::{Action, Host, Token};
use squall_core::ids::{AgentRun, StopId};
use squall_core::message::{FromAgent, Hello, Receipt, Report};
use squall_core::probe::Prober;
use squall_core::time::Time;
use squall_faults::clock;
use tokio::sync::mpsc;

use crate::addresses::{self, Looks};
use crate::fit::fit;
use crate::holders::{HolderNews, Holders};
use crate::links::{Link, LinkEvent};
use crate::local::{Listening, Local, Locals};
use crate::neighbours::{Neighbours, SignedStop};
use crate::probes::Probes;
use crate::writer::{Writer, Written};
pub(crate) use kept::Kept;

/// How long a stopping agent waits for its faults to be lifted and proven gone. What is slower is
/// taken back by the kernel when the agent's process ends.
const STOPPING_MS: u64 = 4_000;
/// How long it then waits for a leader to acknowledge how they ended, and how often it says so.
const ACKNOWLEDGED_MS: u64 = 1_500;
const SAY_AGAIN_MS: u64 = 100;
/// How long a stopping agent waits for its last words to arrive.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long an agent without a cluster waits for the person who started it.
const LONE_MS: u64 = 10_000;

/// Everything that the machine acts on.
pub(crate) struct Driver {
    pub run: AgentRun,
    pub host: Host,
    pub hello: Option<Hello>,
    pub holders: Holders,
    pub writer: Writer,
    pub links: Vec<Link>,
    pub locals: Locals,
    /// Takes people's connections until it is dropped.
    pub listening: Option<Listening>,
    pub neighbours: Option<Neighbours>,
    pub probes: Probes,
    pub kept: Kept,
    pub inbox: Inbox,
    pub looks: Looks,
    /// No coordinator: ends when nothing is alive and nobody is connected any more.
    pub ends_when_idle: bool,
}

/// Everything that happens to an agent.
pub(crate) struct Inbox {
    pub links: mpsc::Receiver<LinkEvent>,
    pub holders: mpsc::UnboundedReceiver<HolderNews>,
    pub written: mpsc::UnboundedReceiver<Written>,
    pub locals: mpsc::Receiver<Local>,
    pub relayed: mpsc::Receiver<SignedStop>,
    pub addresses: mpsc::UnboundedReceiver<addresses::Found>,
}

impl Driver {
    /// Runs until `shutdown`; then lifts everything, proves it gone and returns.
    pub(crate) async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let began = clock::now();
        let mut stopping = false;
        loop {
            let now = self.settle();
            if stopping || (self.ends_when_idle && self.is_deserted(now.since(began))) {
                break;
            }
            let wait_ms = now.until(self.host.poll_timeout()).clamp(1, 1_000);
            tokio::select! {
                () = self.next_event(wait_ms) => {}
                () = &mut shutdown => stopping = true,
            }
        }
        if stopping {
            self.lift_all().await;
        }
        self.end().await;
    }

    /// Carries out all work, also that of a timer which is due. That is not left to the select: a
    /// timer that is made anew each time never gets its turn while other branches are always ready.
    fn settle(&mut self) -> Time {
        self.drain();
        let now = clock::now();
        if let Some(hello) = &self.hello {
            self.looks.begin_if_due(now, hello.host.address);
        }
        if now >= self.host.poll_timeout() {
            self.host.handle_timeout(now);
            self.drain();
        }
        now
    }

    /// Says so where this host's addresses have changed.
    fn looked(&mut self, found: addresses::Found) {
        self.looks.ended(clock::now());
        let Some(hello) = &mut self.hello else { return };
        match found {
            Ok(also) if also == hello.host.also => {}
            Ok(also) => {
                for link in &self.links {
                    link.send(FromAgent::Addresses(also.clone()));
                }
                hello.host.also = also;
            }
            Err(error) => tracing::warn!(%error, "this host's addresses cannot be read"),
        }
    }

    /// Handles one event, or comes back after `wait_ms`. May be dropped before it has begun to.
    async fn next_event(&mut self, wait_ms: u64) {
        tokio::select! {
            Some(event) = self.inbox.links.recv() => self.handle_link(event),
            Some(news) = self.inbox.holders.recv() => self.handle_holder(news),
            Some((token, result)) = self.inbox.written.recv() => self.written(token, result),
            Some(event) = self.inbox.locals.recv() => {
                self.locals.handle(clock::now(), event, &mut self.host);
            }
            Some((stop, record)) = self.inbox.relayed.recv() => self.heard_by_relay(stop, record),
            Some(found) = self.inbox.addresses.recv() => self.looked(found),
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
        }
    }

    /// Lifts everything, proves it gone, and sees to it that a leader knows how it ended.
    async fn lift_all(&mut self) {
        tracing::info!("stopping: lifting everything first");
        self.host.handle_leaving(clock::now());
        self.carry_on(STOPPING_MS, |host, _| host.is_idle()).await;
        if !self.links.is_empty() {
            self.carry_on(ACKNOWLEDGED_MS, |host, now| host.report(now).faults.is_empty()).await;
        }
    }

    /// Goes on, reporting often, until `is_done`, for `limit_ms` at most.
    async fn carry_on(&mut self, limit_ms: u64, is_done: impl Fn(&Host, Time) -> bool) {
        let until = clock::now().plus(limit_ms);
        let mut say = clock::now();
        loop {
            let now = self.settle();
            if now >= until || is_done(&self.host, now) {
                return;
            }
            if now >= say {
                self.report();
                say = now.plus(SAY_AGAIN_MS);
            }
            let wake = self.host.poll_timeout().min(until).min(say);
            self.next_event(now.until(wake).clamp(1, 1_000)).await;
        }
    }

    /// Says the last words, and waits for the last write.
    async fn end(mut self) {
        // Nobody shall come to an agent that listens no more.
        drop(self.listening.take());
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
                Action::Relay(stop) => {
                    // It is new: nothing that an experiment wants is run any more.
                    self.probes.set(clock::now(), &[]);
                    self.relay(stop);
                }
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
        if self.kept.keep_receipt(&receipt) {
            tracing::warn!(
                stop = %receipt.stop,
                lifted = receipt.lifted,
                took_ms = receipt.took_ms,
                latched = ?receipt.latched,
                residue = receipt.residue.len(),
                "stopped"
            );
        }
        for link in &self.links {
            link.send(FromAgent::Receipt(receipt.clone()));
        }
    }

    fn relay(&self, stop: StopId) {
        if let (Some(near), Some(record)) = (&self.neighbours, self.kept.record(stop)) {
            near.spread(stop, record.clone());
        }
    }

    fn handle_holder(&mut self, news: HolderNews) {
        let now = clock::now();
        match news {
            HolderNews::Started(id, holder) => {
                if let Err(error) = self.holders.started(&id, holder) {
                    tracing::error!(fault = %id, %error, "the holder does not take its task");
                    let why = format!("the holder does not take its task: {error}");
                    let failed = HolderReport::Failed(Failure::System(why));
                    self.host.handle_holder(now, &id, failed);
                }
            }
            HolderNews::Said(id, report) => {
                match &report {
                    HolderReport::Measured(_) => tracing::debug!(fault = %id, ?report, "holder"),
                    HolderReport::Held(_) | HolderReport::Failed(_) | HolderReport::Lifted(..) => {
                        tracing::info!(fault = %id, ?report, "holder");
                    }
                }
                self.host.handle_holder(now, &id, report);
            }
            HolderNews::Gone(id, how) => {
                tracing::info!(fault = %id, how, "the holder is gone");
                self.holders.forget(&id);
                self.host.handle_gone(now, &id);
            }
            HolderNews::NotStarted(id, reason) => {
                self.holders.forget(&id);
                self.host.handle_not_started(now, &id, reason);
            }
            HolderNews::Proof(id, residue) => {
                self.host.handle_proof(now, &id, residue);
                if self.host.has_ended(&id) {
                    self.holders.over(&id);
                }
                if let Some(over) = self.host.report_of(now, &id)
                    && let Some(ended) = over.ended
                {
                    let (why, lift_ms) = (ended.why, ended.lift_ms);
                    tracing::info!(fault = %id, phase = ?over.phase, %why, lift_ms, "over");
                }
            }
        }
    }
}

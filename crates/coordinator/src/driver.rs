//! The one loop in which everything meets: agents' words, stops, the leader's machine, the log.
//!
//! After each event the actions are drained and the timer is re-armed. What takes time (a quorum
//! round, a call to another coordinator) runs beside it and comes back as an event.

mod leading;
mod probing;
mod stopping;

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use serde::Serialize;
use squall_core::ids::{HostName, StopId};
use squall_core::message::{FromAgent, Hello, Report, StopProgress, ToAgent};
use squall_core::time::Time;
use squall_wire::{Connection, Sender, codec};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock;
use crate::node::Node;
use crate::outbox::Outboxes;
use crate::sessions::{hash_of, policy_of};
use leading::Leading;
pub(crate) use leading::{leadership, new_command};
use probing::Probing;
use stopping::Broadcasts;
pub(crate) use stopping::propose_lacking;

/// Events that wait for the loop, at most; more block their connection's task.
pub(crate) const QUEUE: usize = 4096;
/// Events taken before actions are drained, at most.
const BURST: usize = 256;
/// How often what is level-triggered is looked at: stops that the log lacks, registrations, peers.
const TICK_MS: u64 = 500;
/// How long a proposal or a call beside the loop may take before a tick tries again.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What happened.
pub(crate) enum Event {
    /// An agent said hello on a new control stream.
    Connected { connection: Connection, hello: Box<Hello>, sender: Sender },
    /// An agent said something else.
    Said { connection: u64, words: Box<FromAgent> },
    /// An agent's control stream has ended.
    Gone { connection: u64 },
    /// Another coordinator has heard these.
    PeerStops(Vec<StopId>),
    /// An operator stops everything.
    StopAll { stop: StopId, by: String, progress: mpsc::Sender<StopProgress> },
    /// A quorum round came back.
    Round { token: u64, ok: bool },
    /// A quorum has confirmed what is applied, as of this moment.
    Confirmed { began: Time },
}

pub(crate) struct Driver {
    node: Arc<Node>,
    events: mpsc::Receiver<Event>,
    /// For the tasks that run beside the loop.
    own: mpsc::Sender<Event>,
    outboxes: Outboxes,
    leading: Option<Leading>,
    broadcasts: Broadcasts,
    probing: Probing,
    /// It proposes the stops that the log lacks.
    catching_up: Option<JoinHandle<()>>,
    next_tick: Time,
    /// A hash of the hosts of which all agents were told last.
    told: u64,
}

impl Driver {
    pub(crate) fn new(
        node: Arc<Node>,
        own: mpsc::Sender<Event>,
        events: mpsc::Receiver<Event>,
    ) -> Driver {
        Driver {
            node,
            events,
            own,
            outboxes: Outboxes::default(),
            leading: None,
            broadcasts: Broadcasts::default(),
            probing: Probing::default(),
            catching_up: None,
            next_tick: clock::now(),
            told: 0,
        }
    }

    /// Runs until raft ends, and returns why; everything else ends it by abort.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        let mut applied = self.node.applied.watch();
        let mut metrics = self.node.raft.metrics();
        self.registry_changed();
        loop {
            self.drain();
            let wake = clock::until(self.next_wake());
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return Ok(()),
                },
                gone = self.outboxes.flushed() => if let Some(connection) = gone {
                    self.disconnected(connection);
                },
                _ = applied.changed() => self.registry_changed(),
                changed = metrics.changed() => {
                    let seen = metrics.borrow_and_update().clone();
                    if let Err(fatal) = &seen.running_state {
                        return Err(fatal.to_string());
                    }
                    if changed.is_err() {
                        return Err("raft has ended".into());
                    }
                    self.leadership_changed(&seen);
                }
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    fn next_wake(&self) -> Time {
        let leading = self.leading.as_ref().map_or(Time::FAR, |l| l.machine.poll_timeout());
        leading.min(self.broadcasts.poll_timeout()).min(self.next_tick)
    }

    fn take(&mut self, first: Event) {
        self.handle(first);
        for _ in 1..BURST {
            match self.events.try_recv() {
                Ok(event) => self.handle(event),
                Err(_) => return,
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected { connection, hello, sender } => {
                self.connected(&connection, *hello, sender);
            }
            Event::Said { connection, words } => self.said(connection, *words),
            Event::Gone { connection } => self.disconnected(connection),
            Event::PeerStops(stops) => self.hear_all(stops),
            Event::StopAll { stop, by, progress } => self.stop_all(stop, by, progress),
            Event::Round { token, ok } => self.round_ended(token, ok),
            Event::Confirmed { began } => self.confirmed(began),
        }
    }

    /// Carries out what the machines want now.
    fn drain(&mut self) {
        let now = clock::now();
        if now >= self.next_tick {
            self.next_tick = now.plus(TICK_MS);
            self.tick();
        }
        self.drain_leader(now);
        self.broadcasts.publish(now);
    }

    fn tick(&mut self) {
        self.tell_peers();
        self.push_lacking();
        self.order_probes();
        self.tick_leader();
    }

    fn connected(&mut self, connection: &Connection, hello: Hello, sender: Sender) {
        let host = hello.host.name.clone();
        let admitted = self.node.sessions().admits(clock::now(), &hello);
        if !admitted {
            return self.twins(&host, connection);
        }
        let (connection, remote) = (connection.id(), connection.remote());
        tracing::info!(%host, connection, %remote, "agent connected");
        let (capabilities, policy) = (hello.capabilities.clone(), policy_of(&hello));
        let replaced = self.node.sessions().add(connection, remote.ip(), hello);
        if let Some(old) = replaced {
            self.outboxes.remove(old);
        }
        self.outboxes.add(connection, sender);
        if let Some(leading) = &mut self.leading {
            leading.machine.handle_hello(host.clone(), capabilities, policy);
        }
        if !self.node.applied.read(|registry| registry.hosts.contains_key(&host)) {
            self.broadcasts.handle_stranger(clock::now(), &host);
        }
        let news = self.node.sessions().of_connection(connection).and_then(|(host, session)| {
            self.node.applied.read(|registry| session.news_of_peers(host, registry))
        });
        if let Some((connection, peers)) = news {
            self.send(connection, &ToAgent::Peers(peers));
        }
    }

    /// Two agents speak for one host: neither is heard, and what either said counts for nothing.
    fn twins(&mut self, host: &HostName, connection: &Connection) {
        let other = self.node.sessions().get(host).map(|session| session.connection);
        if let Some(other) = other {
            self.disconnected(other);
        }
        self.node.sessions().disbelieve(host);
        self.broadcasts.disbelieve(host);
        // Last: whoever hears it finds it done.
        let why = format!("two agents run with {host}'s certificate: stop one of them");
        self.node.refuse(connection, &why);
    }

    fn disconnected(&mut self, connection: u64) {
        self.outboxes.remove(connection);
        let Some(host) = self.node.sessions().remove(connection) else { return };
        tracing::info!(%host, connection, "agent gone");
        if let Some(leading) = &mut self.leading {
            leading.machine.handle_disconnected(&host);
        }
    }

    fn said(&mut self, connection: u64, words: FromAgent) {
        match words {
            // The task that reads the stream lets only one through, as `Connected`.
            FromAgent::Hello(_) => {}
            FromAgent::Report(report) => self.reported(connection, report),
            FromAgent::Addresses(also) => {
                if let Some((_, session)) = self.node.sessions().of_connection(connection) {
                    session.hello.host.also = also;
                }
            }
            FromAgent::Stops(stops) => self.brought(connection, stops),
            FromAgent::Receipt(receipt) => {
                let host = self.node.sessions().of_connection(connection).map(|(h, _)| h.clone());
                let stands = self.node.stops().fence().is_outstanding(receipt.stop);
                if let Some(host) = host {
                    self.broadcasts.handle_receipt(clock::now(), &host, receipt, stands);
                }
            }
        }
    }

    fn reported(&mut self, connection: u64, report: Report) {
        let now = clock::now();
        let host = {
            let mut sessions = self.node.sessions();
            let Some((host, session)) = sessions.of_connection(connection) else { return };
            let host = host.clone();
            session.report = Some((report.clone(), now));
            host
        };
        // Before anything else that could follow from this report.
        let all = {
            let stops = self.node.stops();
            let differs = stops.fence().digest_at(report.newest_resume) != report.digest;
            differs.then(|| stops.fence().outstanding().collect::<Vec<_>>())
        };
        if let Some(all) = all {
            self.send(connection, &ToAgent::Stops(all));
        }
        for stop in self.broadcasts.asks_again(now, &host) {
            self.push_to(stop, |name| *name == host);
        }
        if let Some(leading) = &mut self.leading {
            leading.machine.handle_report(now, &host, report);
        }
    }

    fn registry_changed(&mut self) {
        let now = clock::now();
        let new = self.node.applied.read(|registry| self.node.stops().learn(registry));
        for stop in new {
            self.push(stop);
        }
        let sessions = self.node.sessions();
        let note = |registry: &_| self.broadcasts.handle_registry(now, registry, &sessions);
        self.node.applied.read(note);
        drop(sessions);
        if let Some(leading) = &mut self.leading {
            leading.machine.handle_change(now);
        }
        // Before any order that follows from the change: stages change with it.
        self.order_probes();
    }

    /// Tells agents of the other hosts, where those have changed.
    fn tell_peers(&mut self) {
        let hash = self.node.applied.read(|registry| hash_of(&registry.hosts));
        if std::mem::replace(&mut self.told, hash) == hash {
            return;
        }
        let mut sessions = self.node.sessions();
        let news: Vec<_> = self.node.applied.read(|registry| {
            sessions.forget_all_but(&registry.hosts);
            sessions.iter_mut().filter_map(|(host, s)| s.news_of_peers(host, registry)).collect()
        });
        drop(sessions);
        for (connection, peers) in news {
            self.send(connection, &ToAgent::Peers(peers));
        }
    }

    fn send<T: Serialize>(&mut self, connection: u64, message: &T) {
        match codec::encode(message) {
            Ok(encoded) => {
                if !self.outboxes.send(connection, &encoded) {
                    self.disconnected(connection);
                }
            }
            Err(error) => tracing::error!(%error, connection, "a message to an agent is too large"),
        }
    }
}

/// Runs `work` beside the loop, at most so long.
fn beside(limit: Duration, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(limit, work).await;
    })
}

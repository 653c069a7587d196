//! One host: the machine of `core`, a disk, holders, and the truth that checks are made against.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use squall_core::fault::{Cpu, Fault, Kind};
use squall_core::hold::{Achieved, Failure, HolderReport};
use squall_core::host::{Action, Host, LocalRefusal, Record, Token};
use squall_core::ids::{AgentRun, FaultId, HostName, Leadership, StopId};
use squall_core::message::{Latched, Orders, Report, Sync, ToAgent};
use squall_core::policy::Policy;
use squall_core::time::Time;
use uuid::Uuid;

use super::Fact;

/// One host.
#[derive(Clone, Debug, Hash)]
pub struct HostSide {
    /// Its name.
    pub name: HostName,
    /// Its clock.
    pub clock: Time,
    /// The machine, while the agent lives.
    pub machine: Option<Host>,
    /// How many lives the agent has had.
    pub life: u128,
    /// What survives a crash.
    pub disk: Vec<Record>,
    /// Writes under way, in order.
    pub writing: VecDeque<(Token, Vec<Record>)>,
    /// Faults in place or being put in place, by what the kernel knows of them.
    pub holders: BTreeMap<FaultId, Holder>,
    /// Messages to it that the network keeps; the simulation has a network of its own.
    pub bag: VecDeque<Rc<ToAgent>>,
    /// What the world knows of it, whatever the machine believes.
    pub truth: Truth,
}

/// One holder as the kernel sees it: killed at the earlier of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The end of its lease.
    pub until: Time,
    /// Its deadline.
    pub deadline: Time,
    /// Its fault is in place; before, it has no last words.
    pub held: bool,
}

/// What is true of a host, noted from outside.
#[derive(Clone, Debug, Default, Hash)]
pub struct Truth {
    /// Stops that bind this life: heard in it, or durable before it began, or in the log by then.
    pub received: BTreeSet<StopId>,
    /// Stops of which it said that everything is lifted and clean, and that bind it still.
    pub answered: BTreeSet<StopId>,
    /// Faults that were in place once and are no more.
    pub gone: BTreeSet<FaultId>,
    /// Its newest report that orders which it obeys have answered, by its own clock.
    pub answered_ask: Time,
    /// The highest leadership whose message it was given.
    pub obeyed: Leadership,
    /// A leader has answered this life with all stops and resumes.
    pub synced: bool,
    /// Until when a fault was in place, by the last words of a holder whose end nobody has noticed yet.
    pub let_go: BTreeMap<FaultId, Time>,
    /// Its clock has jumped, and nothing has happened to the agent since.
    pub asleep: bool,
}

/// The life of number `life`.
#[must_use]
pub fn run(life: u128) -> AgentRun {
    AgentRun(Uuid::from_u128(life))
}

/// What every host allows: no more than is asked here.
fn policy() -> Policy {
    Policy {
        allow: [Kind::Cpu, Kind::Partition].into(),
        protect_processes: Vec::new(),
        protect_ports: Vec::new(),
        ..Policy::default()
    }
}

impl HostSide {
    /// A host whose agent does not run yet.
    #[must_use]
    pub fn new(name: HostName, clock: Time) -> HostSide {
        HostSide {
            name,
            clock,
            machine: None,
            life: 0,
            disk: Vec::new(),
            writing: VecDeque::new(),
            holders: BTreeMap::new(),
            bag: VecDeque::new(),
            truth: Truth { answered_ask: clock, ..Truth::default() },
        }
    }

    /// The agent starts. `logged` are the stops in the log by now: no leader may arm this life
    /// without them.
    pub fn start(&mut self, logged: &BTreeSet<StopId>) {
        self.life += 1;
        let policy = policy();
        let (name, run) = (self.name.clone(), run(self.life));
        self.machine = Some(Host::new(name, run, policy, &self.disk, false, self.clock));
        self.truth.received = self.durable_stops();
        self.truth.received.extend(logged);
        self.truth.synced = false;
        self.truth.asleep = false;
    }

    /// The agent dies, and all holders with it; the first `kept` of the writes that were under way
    /// have reached the disk.
    pub fn crash(&mut self, kept: usize) {
        self.machine = None;
        for (_, records) in self.writing.drain(..).take(kept) {
            self.disk.extend(records);
        }
        self.truth.gone.extend(std::mem::take(&mut self.holders).into_keys());
        self.truth.let_go.clear();
        let durable = self.durable_stops();
        self.truth.received.retain(|stop| durable.contains(stop));
        self.truth.answered.retain(|stop| durable.contains(stop));
    }

    fn durable_stops(&self) -> BTreeSet<StopId> {
        let stops = |record: &Record| match record {
            Record::Stop(stop) => BTreeSet::from([*stop]),
            Record::Resume(resume) => resume.cleared.clone(),
            Record::Intent(..)
            | Record::Ended(..)
            | Record::Acknowledged(_)
            | Record::Floor(_)
            | Record::Cluster(_) => BTreeSet::new(),
        };
        self.disk.iter().flat_map(stops).collect()
    }

    /// The machine, which is told of something now.
    fn act(&mut self) -> Option<(&mut Host, Time)> {
        self.truth.asleep = false;
        self.machine.as_mut().map(|machine| (machine, self.clock))
    }

    /// What the agent tells a leader now.
    pub fn report(&mut self) -> Option<Report> {
        Some(self.machine.as_ref()?.report(self.clock))
    }

    /// A stop arrives, from a coordinator or another host.
    pub fn hear(&mut self, stop: StopId) {
        let Some((machine, now)) = self.act() else { return };
        machine.handle_stop(now, stop);
        self.truth.received.insert(stop);
    }

    /// A coordinator's message arrives; returns the leadership by which faults may now begin.
    pub fn deliver(&mut self, message: &ToAgent) -> Option<Leadership> {
        let life = run(self.life);
        let (machine, now) = self.act()?;
        machine.handle_heard(now);
        match message {
            ToAgent::Stop { stop, .. } => self.hear(*stop),
            ToAgent::Stops(stops) => {
                machine.handle_stops(now, stops);
                self.truth.received.extend(stops);
            }
            ToAgent::Sync(sync) => {
                machine.handle_sync(now, sync);
                self.note_sync(sync, life);
            }
            ToAgent::Orders(orders) => {
                machine.handle_orders(now, orders);
                self.note_orders(orders, life);
                return Some(orders.leadership);
            }
            ToAgent::Peers(_) => {}
        }
        None
    }

    fn note_sync(&mut self, sync: &Sync, life: AgentRun) {
        if sync.run == life && sync.leadership >= self.truth.obeyed {
            self.truth.obeyed = sync.leadership;
            self.truth.synced = true;
            self.truth.received.extend(&sync.stops);
            self.truth.received.extend(sync.resumes.iter().flat_map(|resume| &resume.cleared));
        }
    }

    fn note_orders(&mut self, orders: &Orders, life: AgentRun) {
        if orders.run == life && orders.leadership >= self.truth.obeyed {
            self.truth.obeyed = orders.leadership;
            self.truth.answered_ask = self.truth.answered_ask.max(orders.echo.min(self.clock));
        }
    }

    /// A person asks for a fault on this host alone.
    ///
    /// # Errors
    /// The host's refusal.
    pub fn inject(&mut self, id: FaultId, lease_ms: u64, ms: u64) -> Result<(), LocalRefusal> {
        let fault = Fault::Cpu(Cpu::new(Some(1), 1));
        let Some((machine, now)) = self.act() else { return Ok(()) };
        machine.handle_local(now, id, fault, lease_ms, ms, None)
    }

    /// The oldest write under way is done, or has failed.
    pub fn persist(&mut self, works: bool) {
        let Some((token, records)) = self.writing.pop_front() else { return };
        let result = if works {
            self.disk.extend(records);
            Ok(())
        } else {
            Err("disk full".to_owned())
        };
        if let Some((machine, now)) = self.act() {
            machine.handle_persisted(now, token, result);
        }
    }

    /// The machine's timer.
    pub fn timeout(&mut self) {
        if let Some((machine, now)) = self.act() {
            machine.handle_timeout(now);
        }
    }

    /// Time passes on this host. Holders let go at their deadline, and the kernel kills those whose lease
    /// is over; returns which, and when.
    pub fn pass(&mut self, ms: u64) -> Vec<(FaultId, Time)> {
        self.clock = self.clock.plus(ms);
        let ends = self.holders.iter().map(|(id, h)| (id.clone(), h.until.min(h.deadline)));
        let dead: Vec<(FaultId, Time)> = ends.filter(|(_, end)| *end <= self.clock).collect();
        for (id, end) in &dead {
            if self.holders.get(id).is_some_and(|h| h.held && h.deadline == *end) {
                self.truth.let_go.insert(id.clone(), *end);
            }
            self.gone(id);
        }
        dead
    }

    /// A holder lets go by order, says so, and is no more. The agent has not noticed yet.
    pub fn lets_go(&mut self, id: &FaultId) {
        let held = self.holders.get(id).is_some_and(|holder| holder.held);
        if self.gone(id) && held {
            self.truth.let_go.insert(id.clone(), self.clock);
        }
    }

    /// A holder is no more. The agent has not noticed yet.
    pub fn gone(&mut self, id: &FaultId) -> bool {
        let was = self.holders.remove(id).is_some();
        if was {
            self.truth.gone.insert(id.clone());
        }
        was
    }

    /// The agent notices that a holder is no more, after what it said last.
    pub fn notice_gone(&mut self, id: &FaultId) {
        let let_go = self.truth.let_go.remove(id);
        if let Some((machine, now)) = self.act() {
            if let Some(until) = let_go {
                let achieved = Achieved { bit: true, ..Achieved::default() };
                machine.handle_holder(now, id, HolderReport::Lifted(achieved, until));
            }
            machine.handle_gone(now, id);
        }
    }

    /// A holder says that its fault is in place and bites.
    pub fn held(&mut self, id: &FaultId) {
        if let Some(holder) = self.holders.get_mut(id) {
            holder.held = true;
        }
        let held = HolderReport::Held(Achieved { bit: true, ..Achieved::default() });
        if let Some((machine, now)) = self.act() {
            machine.handle_holder(now, id, held);
        }
    }

    /// A holder says that it could not.
    pub fn failed(&mut self, id: &FaultId) {
        let failed = HolderReport::Failed(Failure::NoBite("nothing was seen".into()));
        if let Some((machine, now)) = self.act() {
            machine.handle_holder(now, id, failed);
        }
    }

    /// A person lifts everything here.
    pub fn lift_all(&mut self) {
        if let Some((machine, now)) = self.act() {
            machine.handle_lift_all(now);
        }
    }

    /// What is left of a fault was looked for.
    pub fn proven(&mut self, id: &FaultId, residue: Vec<String>) {
        if let Some((machine, now)) = self.act() {
            machine.handle_proof(now, id, residue);
        }
    }

    /// The next thing that the agent wants done. Writes are queued and holders noted here, and what
    /// that means is said as facts; a fault begins by order `by`, or by a person's.
    pub fn next_action(&mut self, by: Option<Leadership>, facts: &mut Vec<Fact>) -> Option<Action> {
        let action = self.machine.as_mut()?.poll_action()?;
        match &action {
            Action::Persist { token, records } => {
                self.writing.push_back((token.clone(), records.clone()));
                if let Token::Intent(id) = token {
                    facts.push(Fact::Began {
                        host: self.name.clone(),
                        id: id.clone(),
                        by,
                        obeyed: self.truth.obeyed,
                        synced: self.truth.synced,
                    });
                }
            }
            Action::Start(hold) => {
                let returned = self.truth.gone.contains(&hold.id);
                let (host, id) = (self.name.clone(), hold.id.clone());
                facts.push(Fact::Placed { host, id, returned });
                let holder =
                    Holder { until: hold.lease_until, deadline: hold.deadline, held: false };
                self.holders.insert(hold.id.clone(), holder);
            }
            Action::Renew(id, until) => {
                if let Some(holder) = self.holders.get_mut(id) {
                    holder.until = *until;
                }
            }
            Action::Receipt(receipt) => {
                if receipt.residue.is_empty() {
                    self.truth.answered.insert(receipt.stop);
                }
                facts.push(Fact::Answered {
                    host: self.name.clone(),
                    stop: receipt.stop,
                    durable: receipt.latched == Latched::Durable,
                    on_disk: self.has_latched(receipt.stop),
                });
            }
            Action::Lift(_)
            | Action::Kill(_)
            | Action::Prove(_)
            | Action::Report
            | Action::Relay(_) => {}
        }
        Some(action)
    }

    /// Whether the latch of `stop` would survive a crash now.
    #[must_use]
    pub fn has_latched(&self, stop: StopId) -> bool {
        self.durable_stops().contains(&stop)
    }
}

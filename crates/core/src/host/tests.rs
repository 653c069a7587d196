//! Small histories of one host.

use std::collections::BTreeSet;

use super::*;
use crate::experiment::Why;
use crate::fault::{Cpu, Direction, Fault, Kind, Partition, Traffic};
use crate::fence::Resume;
use crate::hold::{Achieved, HolderReport};
use crate::ids::{ClusterId, ExperimentId, NodeId};
use crate::message::{Apply, HostPhase, Latched, Orders, Sync};

const LEASE: u64 = 5_000;

fn me() -> HostName {
    "h1".parse().expect("a host name")
}

fn run(n: u128) -> AgentRun {
    AgentRun(uuid::Uuid::from_u128(n))
}

fn stop(n: u128) -> StopId {
    StopId(uuid::Uuid::from_u128(n))
}

fn id(experiment: u128) -> FaultId {
    let experiment = ExperimentId(uuid::Uuid::from_u128(experiment));
    FaultId { experiment, fault: 0, host: me() }
}

fn burn() -> Fault {
    Fault::Cpu(Cpu::new(Some(1), 50))
}

fn cut() -> Fault {
    let peers = vec!["10.0.0.2/32".parse().expect("an address")];
    let traffic = Traffic { peers, direction: Direction::Both, ports: vec![], protocol: None };
    Fault::Partition(Partition { traffic, severed: vec![] })
}

fn lead(term: u64) -> Leadership {
    Leadership { term, node: NodeId(term) }
}

/// A host with a disk that works and holders that obey, unless a test says otherwise.
struct Bench {
    host: Host,
    now: Time,
    disk: Vec<Record>,
    disk_works: bool,
    /// Not even SIGKILL ends a holder, as where the kernel waits for a disk.
    undying: bool,
    /// Writes that the disk has not answered: it hangs where this is there.
    waiting: Option<Vec<Token>>,
    holders: BTreeSet<FaultId>,
    receipts: Vec<Receipt>,
    residue: Vec<String>,
    proofs: u32,
}

impl Bench {
    fn fresh() -> Bench {
        Bench::with(&[], 1)
    }

    fn with(records: &[Record], life: u128) -> Bench {
        let now = Time(1_000_000);
        let mut bench = Bench {
            host: Host::new(me(), run(life), Policy::default(), records, false, now),
            now,
            disk: records.to_vec(),
            disk_works: true,
            undying: false,
            waiting: None,
            holders: BTreeSet::new(),
            receipts: Vec::new(),
            residue: Vec::new(),
            proofs: 0,
        };
        bench.settle();
        bench
    }

    fn synced() -> Bench {
        let mut bench = Bench::fresh();
        bench.sync(1, &[], &[]);
        bench
    }

    /// Carries out all work at once.
    fn settle(&mut self) {
        while let Some(action) = self.host.poll_action() {
            match action {
                Action::Persist { token, .. } if self.waiting.is_some() => {
                    self.waiting.iter_mut().for_each(|w| w.push(token.clone()));
                }
                Action::Persist { token, records } => {
                    let result = if self.disk_works {
                        self.disk.extend(records);
                        Ok(())
                    } else {
                        Err("disk full".to_owned())
                    };
                    self.host.handle_persisted(self.now, token, result);
                }
                Action::Start(hold) => {
                    assert!(hold.lease_until <= hold.deadline && hold.lease_until > self.now);
                    self.holders.insert(hold.id.clone());
                    let held = HolderReport::Held(Achieved { bit: true, ..Achieved::default() });
                    self.host.handle_holder(self.now, &hold.id, held);
                }
                Action::Lift(_) | Action::Kill(_) if self.undying => {}
                Action::Lift(id) if self.holders.contains(&id) => {
                    self.ends(&id, Some(self.now));
                }
                Action::Kill(id) if self.holders.contains(&id) => self.ends(&id, None),
                Action::Lift(_) | Action::Kill(_) => {}
                Action::Prove(id) => {
                    self.proofs += 1;
                    self.host.handle_proof(self.now, &id, self.residue.clone());
                }
                Action::Receipt(receipt) => self.receipts.push(receipt),
                Action::Renew(..) | Action::Report | Action::Relay(_) => {}
            }
        }
    }

    /// A holder is no more; if it let go, it says until when its fault was in place.
    fn ends(&mut self, id: &FaultId, let_go: Option<Time>) {
        self.holders.remove(id);
        if let Some(until) = let_go {
            let achieved = Achieved { bit: true, ..Achieved::default() };
            self.host.handle_holder(self.now, id, HolderReport::Lifted(achieved, until));
        }
        self.host.handle_gone(self.now, id);
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now.plus(ms);
        while self.host.poll_timeout() <= end {
            self.now = self.host.poll_timeout().max(self.now);
            self.host.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    /// Nothing is looked at meanwhile: the process was stopped, or the machine was.
    fn sleep(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        self.host.handle_timeout(self.now);
        self.settle();
    }

    fn sync(&mut self, term: u64, stops: &[StopId], resumes: &[Resume]) {
        let sync = Sync {
            run: self.host.run,
            echo: self.now,
            leadership: lead(term),
            stops: stops.to_vec(),
            resumes: resumes.to_vec(),
        };
        self.host.handle_sync(self.now, &sync);
        self.settle();
    }

    fn orders(&self, term: u64) -> Orders {
        Orders {
            run: self.host.run,
            echo: self.now,
            leadership: lead(term),
            newest_resume: self.host.fence.newest_resume(),
            grant: vec![],
            apply: vec![],
            lift: vec![],
            acknowledged: vec![],
            probes: vec![],
            beat_fast: false,
        }
    }

    fn apply(&self, experiment: u128, start: u64, fault: Fault) -> Orders {
        let apply = Apply {
            id: id(experiment),
            start: LogIndex(start),
            fault,
            not_after_ms: 3_000,
            lease_ms: LEASE,
            duration_ms: 60_000,
        };
        Orders { apply: vec![apply], ..self.orders(1) }
    }

    fn obey(&mut self, orders: &Orders) {
        self.host.handle_orders(self.now, orders);
        self.settle();
    }

    fn phase(&self, experiment: u128) -> Option<HostPhase> {
        let report = self.host.report(self.now);
        report.faults.iter().find(|f| f.id == id(experiment)).map(|f| f.phase)
    }
}

#[test]
fn a_fault_is_journaled_held_renewed_and_lifted_on_order() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    assert_eq!(b.phase(7), Some(HostPhase::Held));
    assert!(b.disk.contains(&Record::Intent(id(7), LogIndex(3))));
    for _ in 0..10 {
        b.wait(1_000);
        b.obey(&Orders { grant: vec![id(7)], ..b.orders(1) });
    }
    assert_eq!(b.phase(7), Some(HostPhase::Held), "ten seconds of a five-second lease");
    b.obey(&Orders { lift: vec![id(7)], ..b.orders(1) });
    assert_eq!(b.phase(7), Some(HostPhase::Clean));
    assert!(b.holders.is_empty() && b.proofs == 1);
    b.obey(&Orders { acknowledged: vec![id(7)], ..b.orders(1) });
    assert_eq!(b.phase(7), None);
}

#[test]
fn without_renewal_it_is_lost_at_the_end_of_the_lease_counted_from_the_echo() {
    let mut b = Bench::synced();
    let orders = b.apply(7, 3, burn());
    b.wait(2_000);
    b.obey(&orders);
    assert_eq!(b.host.lease_until(&id(7)), Some(orders.echo.plus(LEASE)));
    b.wait(2_999);
    assert_eq!(b.phase(7), Some(HostPhase::Held));
    b.wait(1);
    assert_eq!(b.phase(7), Some(HostPhase::Lost));
}

#[test]
fn an_order_that_leaves_too_little_of_the_lease_is_asked_for_anew() {
    let mut b = Bench::synced();
    let orders = b.apply(7, 3, burn());
    b.wait(LEASE / 2 + 1);
    b.host.handle_orders(b.now, &orders);
    assert_eq!(b.host.poll_action(), Some(Action::Report), "the leader hears how late it was");
    assert_eq!((b.host.poll_action(), b.phase(7)), (None, None), "nothing has begun");
    b.obey(&b.apply(7, 3, burn()));
    assert_eq!(b.host.lease_until(&id(7)), Some(b.now.plus(LEASE)));
}

#[test]
fn in_another_cluster_only_the_stops_that_stand_count() {
    let (one, two) = (ClusterId([1; 32]), ClusterId([2; 32]));
    let mut b = Bench::fresh();
    assert!(!b.host.handle_cluster(one), "its first");
    b.settle();
    let resume = Resume { index: LogIndex(500), cleared: [stop(1)].into() };
    b.sync(57, &[], &[resume]);
    b.obey(&Orders { leadership: lead(57), ..b.apply(7, 501, burn()) });
    assert_eq!(b.phase(7), Some(HostPhase::Held));
    b.host.handle_stop(b.now, stop(2));
    b.settle();

    let mut next = Bench::with(&b.disk, 2);
    assert!(!next.host.handle_cluster(one));
    assert_eq!(next.host.fence.newest_resume(), LogIndex(500));
    assert!(next.host.handle_cluster(two));
    next.settle();
    for mut host in [
        next.host.clone(),
        Bench::with(&next.disk, 3).host,
        Bench::with(&next.host.records(), 3).host,
    ] {
        assert!(!host.handle_cluster(two));
        assert_eq!(host.fence.newest_resume(), LogIndex(0));
        assert_eq!(host.fence.stops().collect::<Vec<_>>(), [stop(2)]);
        assert!(host.is_over(&id(7), LogIndex(501)), "it never comes back");
    }
    next.sync(1, &[], &[Resume { index: LogIndex(3), cleared: [stop(2)].into() }]);
    next.obey(&next.apply(8, 4, burn()));
    assert_eq!(next.phase(8), Some(HostPhase::Held), "the new log begins anew");
}

#[test]
fn nothing_can_be_prepaid() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    let later = b.now.plus(10_000);
    b.obey(&Orders { grant: vec![id(7)], echo: later, ..b.orders(1) });
    assert_eq!(b.host.lease_until(&id(7)), Some(b.now.plus(LEASE)), "an echo of what was not said");
    for lease_ms in [0, 999, 30_001, u64::MAX] {
        let mut orders = b.apply(8, 3, burn());
        orders.apply[0].lease_ms = lease_ms;
        b.obey(&orders);
        assert!(!b.holders.contains(&id(8)), "a lease of {lease_ms} ms");
    }
}

#[test]
fn an_old_grant_is_worth_nothing() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    let old = Orders { grant: vec![id(7)], ..b.orders(1) };
    b.wait(4_000);
    b.obey(&old);
    b.obey(&old);
    b.wait(1_000);
    assert_eq!(b.phase(7), Some(HostPhase::Lost));
}

#[test]
fn the_deadline_ends_it_whatever_is_granted() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    for _ in 0..60 {
        b.obey(&Orders { grant: vec![id(7)], ..b.orders(1) });
        b.wait(1_000);
    }
    assert_eq!(b.phase(7), Some(HostPhase::Clean));
}

#[test]
fn whoever_sleeps_past_lease_and_deadline_lost_it_at_the_lease() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.sleep(60_000);
    assert_eq!(b.phase(7), Some(HostPhase::Lost));
    // Renewed to its deadline, it was held for as long as its holder says.
    for (n, missing, phase) in
        [(8, Some(0), HostPhase::Clean), (9, Some(1), HostPhase::Lost), (10, None, HostPhase::Lost)]
    {
        let short = Apply { duration_ms: LEASE, ..b.apply(n, 4, burn()).apply[0].clone() };
        b.obey(&Orders { apply: vec![short], ..b.orders(1) });
        let until = missing.map(|missing| b.now.plus(LEASE - missing));
        b.now = b.now.plus(60_000);
        b.ends(&id(n), until);
        b.settle();
        assert_eq!(b.phase(n), Some(phase), "{missing:?}");
    }
}

#[test]
fn a_late_order_is_void() {
    let mut b = Bench::synced();
    let orders = b.apply(7, 3, burn());
    b.wait(3_001);
    b.obey(&orders);
    assert_eq!(b.phase(7), None);
}

#[test]
fn a_starting_host_is_disarmed_until_a_leader_answers_this_life() {
    let mut b = Bench::fresh();
    b.obey(&b.apply(7, 3, burn()));
    assert_eq!(b.phase(7), None);
    let other = Sync { run: run(99), ..sync_of(&b) };
    b.host.handle_sync(b.now, &other);
    assert!(!b.host.report(b.now).synced);
    b.sync(1, &[], &[]);
    b.obey(&b.apply(7, 3, burn()));
    assert_eq!(b.phase(7), Some(HostPhase::Held));
}

fn sync_of(b: &Bench) -> Sync {
    Sync { run: b.host.run, echo: b.now, leadership: lead(1), stops: vec![], resumes: vec![] }
}

#[test]
fn an_older_leadership_is_not_obeyed() {
    let mut b = Bench::synced();
    b.sync(2, &[], &[]);
    b.obey(&b.apply(7, 3, burn()));
    assert_eq!(b.phase(7), None);
    b.obey(&Orders { leadership: lead(2), ..b.apply(7, 3, burn()) });
    assert_eq!(b.phase(7), Some(HostPhase::Held));
    b.obey(&Orders { lift: vec![id(7)], ..b.orders(1) });
    assert_eq!(b.phase(7), Some(HostPhase::Held));
}

#[test]
fn an_ended_id_never_returns_not_even_in_the_next_life() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.obey(&Orders { lift: vec![id(7)], ..b.orders(1) });
    b.obey(&Orders { acknowledged: vec![id(7)], ..b.orders(1) });
    b.obey(&b.apply(7, 3, burn()));
    assert!(b.holders.is_empty() && b.phase(7) != Some(HostPhase::Held));
    let mut next = Bench::with(&b.disk, 2);
    next.sync(1, &[], &[]);
    next.obey(&next.apply(7, 3, burn()));
    assert!(next.holders.is_empty() && next.phase(7) != Some(HostPhase::Held));
}

#[test]
fn what_was_alive_when_the_agent_died_is_lost_and_looked_for() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    let mut next = Bench::with(&b.disk, 2);
    assert_eq!(next.phase(7), Some(HostPhase::Lost));
    assert_eq!(next.proofs, 1);
    next.sync(1, &[], &[]);
    next.obey(&next.apply(7, 3, burn()));
    assert_eq!(next.phase(7), Some(HostPhase::Lost));
}

#[test]
fn a_stop_lifts_latches_and_answers_once() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.obey(&b.apply(8, 4, cut()));
    b.host.handle_stop(b.now, stop(1));
    b.settle();
    assert!(b.holders.is_empty());
    assert_eq!(b.receipts.len(), 1);
    assert_eq!((b.receipts[0].lifted, b.receipts[0].latched), (2, Latched::Durable));
    assert!(b.disk.contains(&Record::Stop(stop(1))));
    b.obey(&b.apply(9, 5, burn()));
    assert_eq!(b.phase(9), None, "latched");
    b.host.handle_stop(b.now, stop(1));
    b.settle();
    assert_eq!(b.receipts.len(), 2, "asked again, answered again");
}

#[test]
fn a_later_life_answers_a_stop_that_an_earlier_one_latched() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.host.handle_stop(b.now, stop(1));
    b.settle();
    let mut next = Bench::with(&b.disk, 2);
    assert!(next.receipts.is_empty(), "nobody has asked");
    next.host.handle_stop(next.now, stop(1));
    next.settle();
    assert_eq!(next.receipts.len(), 1);
    assert_eq!((next.receipts[0].run, next.receipts[0].latched), (run(2), Latched::Durable));
}

#[test]
fn a_later_life_answers_once_what_the_earlier_one_left_is_gone() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.disk.push(Record::Stop(stop(1)));
    let host = Host::new(me(), run(2), Policy::default(), &b.disk, false, b.now);
    let mut next = Bench { host, residue: vec!["a table".into()], ..Bench::fresh() };
    next.settle();
    next.host.handle_stop(next.now, stop(1));
    next.settle();
    assert!(next.receipts.is_empty());
    next.residue.clear();
    next.wait(PROOF_RETRY_MS);
    assert_eq!(next.receipts.len(), 1);
    assert!(next.receipts[0].residue.is_empty());
}

#[test]
fn an_end_is_reported_until_it_is_acknowledged_by_whatever_life() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.obey(&Orders { lift: vec![id(7)], ..b.orders(1) });
    for records in [b.disk.clone(), Bench::with(&b.disk, 2).host.records()] {
        let mut next = Bench::with(&records, 3);
        assert_eq!(next.phase(7), Some(HostPhase::Lost), "how it ended is forgotten, not that");
        next.sync(1, &[], &[]);
        next.obey(&Orders { acknowledged: vec![id(7)], ..next.apply(7, 3, burn()) });
        assert_eq!(next.phase(7), None);
        for records in [next.disk.clone(), next.host.records()] {
            let mut last = Bench::with(&records, 4);
            assert_eq!(last.phase(7), None);
            last.sync(1, &[], &[]);
            last.obey(&last.apply(7, 3, burn()));
            assert_eq!(last.phase(7), None, "over is over");
        }
    }
}

#[test]
fn a_person_waits_for_a_leader_like_everybody() {
    let mut b = Bench::fresh();
    let refusal = b.host.handle_local(b.now, id(7), burn(), LEASE, 60_000, None);
    assert_eq!(refusal, Err(LocalRefusal::NotSynced));
    assert_eq!(b.phase(7), None);
}

#[test]
fn only_a_resume_that_names_the_stop_releases_and_old_starts_stay_refused() {
    let mut b = Bench::synced();
    b.host.handle_stop(b.now, stop(1));
    b.settle();
    b.sync(1, &[stop(1)], &[]);
    b.obey(&b.apply(7, 3, burn()));
    assert_eq!(b.phase(7), None);
    let resume = Resume { index: LogIndex(10), cleared: [stop(1)].into() };
    b.sync(1, &[stop(1)], &[resume]);
    b.obey(&b.apply(7, 3, burn()));
    assert_eq!(b.phase(7), Some(HostPhase::NotHeld), "ordered before the stop");
    b.obey(&b.apply(8, 11, burn()));
    assert_eq!(b.phase(8), Some(HostPhase::Held));
}

#[test]
fn a_full_disk_latches_in_memory_says_so_and_tries_again() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.disk_works = false;
    b.host.handle_stop(b.now, stop(1));
    b.settle();
    assert_eq!(b.receipts.last().map(|r| r.latched), Some(Latched::Memory));
    assert!(b.holders.is_empty(), "the lift waits for no disk");
    b.disk_works = true;
    b.wait(RETRY_MS);
    assert_eq!(b.receipts.last().map(|r| r.latched), Some(Latched::Durable));
}

#[test]
fn nothing_is_touched_when_the_intent_cannot_be_written() {
    let mut b = Bench::synced();
    b.disk_works = false;
    b.obey(&b.apply(7, 3, burn()));
    assert_eq!(b.phase(7), Some(HostPhase::NotHeld));
    assert!(b.holders.is_empty());
}

#[test]
fn of_an_experiment_that_the_policy_refuses_in_part_nothing_is_begun() {
    let mut b = Bench::fresh();
    let policy = Policy { allow: [Kind::Cpu].into(), max_faults: 2, ..Policy::default() };
    b.host = Host::new(me(), run(1), policy, &[], false, b.now);
    b.sync(1, &[], &[]);
    let part = |experiment, fault: u16, what| {
        let apply = b.apply(experiment, 3, what).apply.remove(0);
        Apply { id: FaultId { fault, ..id(experiment) }, ..apply }
    };
    // Of 7 a part is not allowed, and takes nobody's place; 8 is whole; 9 would be one too many, 10 not.
    let apply = vec![
        part(7, 0, burn()),
        part(7, 1, cut()),
        part(8, 0, burn()),
        part(9, 0, burn()),
        part(9, 1, burn()),
        part(10, 0, burn()),
    ];
    b.obey(&Orders { apply, ..b.orders(1) });
    assert_eq!(b.holders, BTreeSet::from([8, 10].map(id)));
    let report = b.host.report(b.now);
    let reason = |experiment, fault| {
        let id = FaultId { fault, ..id(experiment) };
        let found = report.faults.iter().find(|f| f.id == id).and_then(|f| f.ended.as_ref());
        match &found?.why {
            Why::NotHeld { reason, refused } => Some((*refused, reason.clone())),
            _ => None,
        }
    };
    let not_allowed = "policy: partition is not allowed on this host (allowed: cpu)".to_owned();
    for fault in [0, 1] {
        assert_eq!(reason(7, fault), Some((true, not_allowed.clone())));
        assert!(
            reason(9, fault).is_some_and(|(_, why)| why.contains("3 faults would be held here"))
        );
    }
}

#[test]
fn what_burns_here_is_counted_together_whoever_asked_for_it() {
    let mut b = Bench::fresh();
    let policy = Policy { max_cpu_percent: Some(50), ..Policy::default() };
    b.host = Host::new(me(), run(1), policy, &[], false, b.now);
    b.sync(1, &[], &[]);
    let load = |percent| Fault::Cpu(Cpu::new(None, percent));
    let own = FaultId { experiment: ExperimentId::local(7), ..id(7) };
    b.host.handle_local(b.now, own, load(30), LEASE, 60_000, None).expect("it is begun");
    b.settle();
    for (experiment, percent, begins) in [(8, 30, false), (9, 20, true), (10, 1, false)] {
        b.obey(&b.apply(experiment, 3, load(percent)));
        assert_eq!(b.holders.contains(&id(experiment)), begins, "{percent}");
    }
}

#[test]
fn what_a_person_injected_is_told_however_much_has_ended_here() {
    let mut b = Bench::synced();
    for n in 1..=MAX_ENDED as u128 {
        b.host.end_for_ever(&id(n), LogIndex(3));
    }
    let own = FaultId { experiment: ExperimentId::local(7), ..id(7) };
    b.host.handle_local(b.now, own.clone(), burn(), LEASE, 1_000, None).expect("it is begun");
    b.settle();
    b.wait(1_000);
    let told = b.host.take_ended(&own).and_then(|report| report.ended);
    assert_eq!(told.map(|ended| ended.why), Some(Why::Deadline));
}

#[test]
fn what_waits_for_the_disk_ends_in_its_time_and_never_begins() {
    for ends in ["by its lease", "by order", "by a stop"] {
        let mut b = Bench::synced();
        b.waiting = Some(Vec::new());
        b.obey(&b.apply(7, 3, burn()));
        assert_eq!(b.phase(7), Some(HostPhase::Journaling), "{ends}");
        match ends {
            "by its lease" => b.wait(LEASE),
            "by order" => b.obey(&Orders { lift: vec![id(7)], ..b.orders(1) }),
            _ => {
                b.host.handle_stop(b.now, stop(1));
                b.settle();
            }
        }
        let over = matches!(b.phase(7), Some(HostPhase::Clean | HostPhase::Lost));
        assert!(over && b.host.has_ended(&id(7)), "{ends}: {:?}", b.phase(7));
        assert!(b.receipts.is_empty(), "its latch is not written either");
        for token in b.waiting.take().unwrap_or_default() {
            b.host.handle_persisted(b.now, token, Ok(()));
        }
        b.settle();
        assert!(b.holders.is_empty() && b.host.has_ended(&id(7)), "{ends}");
        assert_eq!(b.receipts.len(), usize::from(ends == "by a stop"), "{ends}");
    }
}

#[test]
fn what_comes_into_place_late_was_not_there_for_all_its_time() {
    for (late_s, fault, whole) in [(0, burn(), true), (8, burn(), true), (20, burn(), false)] {
        let mut b = Bench::synced();
        b.waiting = Some(Vec::new());
        b.obey(&b.apply(7, 3, fault));
        for second in 0..61 {
            if second == late_s {
                for token in b.waiting.take().unwrap_or_default() {
                    b.host.handle_persisted(b.now, token, Ok(()));
                }
                b.settle();
            }
            b.obey(&Orders { grant: vec![id(7)], ..b.orders(1) });
            b.wait(1_000);
        }
        let report = b.host.report(b.now);
        let ended = report.faults.iter().find(|f| f.id == id(7)).and_then(|f| f.ended.clone());
        let why = ended.expect("it is over").why;
        let expected = if whole { Why::Deadline } else { Why::CameLate { in_place_ms: 40_000 } };
        assert_eq!(why, expected, "{late_s} s");
    }
}

#[test]
fn a_network_fault_must_be_confirmed_and_any_other_need_not() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, cut()));
    b.obey(&b.apply(8, 3, burn()));
    b.wait(CONFIRM_MS);
    assert_eq!(b.phase(7), Some(HostPhase::Lost));
    assert_eq!(b.phase(8), Some(HostPhase::Held));
    b.obey(&b.apply(9, 3, cut()));
    b.host.handle_heard(b.now);
    b.wait(CONFIRM_MS);
    assert_eq!(b.phase(9), Some(HostPhase::Held));
    // Words that had arrived before it was in place, and are taken up only now, are none.
    let arrived = b.now;
    b.wait(1);
    b.obey(&b.apply(11, 3, cut()));
    b.host.handle_heard(arrived);
    b.wait(CONFIRM_MS);
    assert_eq!(b.phase(11), Some(HostPhase::Lost));
    // One that cuts the coordinators off is not to hear of them: its lease ends it.
    let Fault::Partition(partition) = cut() else { unreachable!() };
    let severed = vec!["10.0.1.1/32".parse().expect("an address")];
    b.obey(&b.apply(10, 3, Fault::Partition(Partition { severed, ..partition })));
    b.wait(LEASE - 1);
    assert_eq!(b.phase(10), Some(HostPhase::Held));
    b.wait(1);
    assert_eq!(b.phase(10), Some(HostPhase::Lost));
}

#[test]
fn the_holders_death_is_a_loss() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.holders.clear();
    b.host.handle_gone(b.now, &id(7));
    b.settle();
    assert_eq!(b.phase(7), Some(HostPhase::Lost));
}

#[test]
fn a_holder_that_nothing_ends_is_reported_as_left_behind() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    (b.undying, b.residue) = (true, vec!["process 9 (squall hold)".into()]);
    b.host.handle_stop(b.now, stop(1));
    b.settle();
    b.wait(2 * LIFT_GRACE_MS + PROOF_MS + RETRY_MS);
    assert_eq!(b.phase(7), Some(HostPhase::Stuck));
    assert_eq!(b.receipts[0].residue, b.residue);
    // Nothing of it is seen; but that is no word of its end.
    b.residue.clear();
    b.wait(2 * RETRY_MS);
    assert_eq!(b.phase(7), Some(HostPhase::Reverting));
    // The kernel lets it go at last.
    b.ends(&id(7), None);
    b.settle();
    assert_eq!(b.phase(7), Some(HostPhase::Clean));
}

#[test]
fn residue_that_stays_is_reported_and_mends_when_it_goes() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.residue = vec!["a table".into()];
    b.host.handle_stop(b.now, stop(1));
    b.settle();
    b.wait(PROOF_MS + PROOF_RETRY_MS);
    assert_eq!(b.phase(7), Some(HostPhase::Stuck));
    assert_eq!(b.receipts[0].residue, vec!["a table".to_owned()]);
    b.residue.clear();
    b.wait(RETRY_MS);
    assert_eq!(b.phase(7), Some(HostPhase::Clean));
}

#[test]
fn a_stop_names_what_was_stuck_before_it_came() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.residue = vec!["a table".into()];
    b.obey(&Orders { lift: vec![id(7)], ..b.orders(1) });
    b.wait(PROOF_MS + PROOF_RETRY_MS);
    assert_eq!(b.phase(7), Some(HostPhase::Stuck));
    b.host.handle_stop(b.now, stop(1));
    b.settle();
    assert_eq!(b.receipts[0].residue, vec!["a table".to_owned()]);
    assert_eq!(b.receipts[0].lifted, 0, "it was not this stop that ended it");
}

#[test]
fn a_person_holds_a_fault_by_being_there() {
    let mut b = Bench::synced();
    assert_eq!(b.host.handle_local(b.now, id(7), burn(), LEASE, 60_000, None), Ok(()));
    b.settle();
    b.wait(4_000);
    b.host.handle_local_renew(b.now, &id(7));
    b.settle();
    b.wait(4_000);
    assert_eq!(b.phase(7), Some(HostPhase::Held));
    b.wait(1_000);
    assert_eq!(b.phase(7), Some(HostPhase::Lost));
    b.host.handle_stop(b.now, stop(1));
    b.settle();
    let refusal = b.host.handle_local(b.now, id(8), burn(), LEASE, 60_000, None);
    assert_eq!(refusal, Err(LocalRefusal::Latched(vec![stop(1)])));
}

#[test]
fn an_agent_that_is_leaving_lifts_everything_and_begins_nothing_more() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    assert_eq!(b.host.handle_local(b.now, id(8), burn(), LEASE, 60_000, None), Ok(()));
    b.settle();
    b.host.handle_leaving(b.now);
    b.settle();
    assert_eq!((b.phase(7), b.phase(8)), (Some(HostPhase::Lost), Some(HostPhase::Clean)));
    b.obey(&b.apply(9, 4, burn()));
    assert_eq!(b.phase(9), None, "the next life may do it");
    let refusal = b.host.handle_local(b.now, id(10), burn(), LEASE, 60_000, None);
    assert_eq!(refusal, Err(LocalRefusal::Leaving));
    assert!(b.holders.is_empty() && b.host.is_idle());
    b.host.handle_stop(b.now, stop(1));
    b.settle();
    assert_eq!(b.receipts.len(), 1, "a stop is answered still");
}

#[test]
fn a_jump_of_the_clock_lifts_before_anything_is_obeyed() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    let grant = Orders { grant: vec![id(7)], ..b.orders(1) };
    b.now = b.now.plus(3_600_000);
    b.obey(&grant);
    assert_ne!(b.phase(7), Some(HostPhase::Held));
    assert!(b.holders.is_empty());
}

#[test]
fn what_was_forgotten_is_covered_by_the_floor() {
    let most = super::MAX_ENDED as u128;
    let records: Vec<Record> =
        (0..=most).map(|n| Record::Ended(id(100 + n), LogIndex(3 + n as u64))).collect();
    let mut b = Bench::with(&records, 2);
    b.sync(1, &[], &[]);
    b.obey(&b.apply(100, 3, burn()));
    assert!(b.holders.is_empty(), "an ended id returned");
}

#[test]
fn no_receipt_while_a_holder_lives_of_which_nothing_is_seen() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.undying = true;
    b.host.handle_stop(b.now, stop(1));
    b.settle();
    b.wait(2 * LIFT_GRACE_MS + PROOF_MS + 2 * RETRY_MS);
    assert!(b.receipts.is_empty(), "{:?}", b.receipts);
}

#[test]
fn a_look_from_before_its_end_proves_nothing() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.host.handle_stop(b.now, stop(1));
    for _ in 0..2 {
        b.now = b.now.plus(LIFT_GRACE_MS);
        b.host.handle_timeout(b.now);
    }
    let mut looks = 0;
    while let Some(action) = b.host.poll_action() {
        looks += usize::from(matches!(action, Action::Prove(_)));
    }
    assert_eq!(looks, 1);
    b.host.handle_gone(b.now, &id(7));
    b.host.handle_proof(b.now, &id(7), Vec::new());
    assert_eq!(b.phase(7), Some(HostPhase::Reverting));
    let again = std::iter::from_fn(|| b.host.poll_action()).any(|a| matches!(a, Action::Prove(_)));
    assert!(again);
    b.host.handle_proof(b.now, &id(7), Vec::new());
    assert_eq!(b.phase(7), Some(HostPhase::Clean));
}

#[test]
fn an_order_is_void_after_its_own_time_whatever_the_lease() {
    let mut b = Bench::synced();
    let mut orders = b.apply(7, 3, burn());
    orders.apply[0].lease_ms = 30_000;
    b.wait(3_001);
    b.obey(&orders);
    assert_eq!(b.phase(7), None);
}

#[test]
fn who_does_not_lift_in_time_is_killed() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.host.handle_stop(b.now, stop(1));
    let mut did = Vec::new();
    for _ in 0..2 {
        while let Some(action) = b.host.poll_action() {
            did.push(action);
        }
        b.now = b.now.plus(LIFT_GRACE_MS);
        b.host.handle_timeout(b.now);
    }
    while let Some(action) = b.host.poll_action() {
        did.push(action);
    }
    assert!(did.contains(&Action::Lift(id(7))) && did.contains(&Action::Kill(id(7))), "{did:?}");
}

#[test]
fn whoever_holds_something_or_has_heard_other_stops_blocks_a_resume() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    let report = b.host.report(b.now);
    let me: HostName = "h1".parse().unwrap();
    let at = |arrived: Time, report: &Report, fence: &Fence| {
        let last = Some((report, arrived));
        crate::stopping::blockers(b.now, [(&me, last)].into_iter(), fence, &Default::default())
    };
    let mut fence = b.host.fence().clone();
    assert_eq!(at(b.now, &report, &fence), std::slice::from_ref(&me));
    let idle = Report { faults: Vec::new(), ..report };
    assert_eq!(at(b.now, &idle, &fence), []);
    fence.hear(stop(9));
    assert_eq!(at(b.now, &idle, &fence), std::slice::from_ref(&me));
}

#[test]
fn a_grant_renews_the_holder_too() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.now = b.now.plus(1_000);
    let grant = Orders { grant: vec![id(7)], ..b.orders(1) };
    b.host.handle_orders(b.now, &grant);
    let until = b.host.lease_until(&id(7)).unwrap();
    let did: Vec<_> = std::iter::from_fn(|| b.host.poll_action()).collect();
    assert!(did.contains(&Action::Renew(id(7), until)), "{did:?}");
}

#[test]
fn since_when_it_is_in_place_is_told() {
    let mut b = Bench::synced();
    b.obey(&b.apply(7, 3, burn()));
    b.now = b.now.plus(700);
    assert_eq!(b.host.report(b.now).faults[0].in_place_ms, Some(700));
}

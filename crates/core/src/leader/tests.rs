//! Small histories of one leader, its registry and hosts that are nothing but their reports.

use std::collections::BTreeMap;

use super::*;
use crate::experiment::{
    EndReason, Ended, Experiment, ExperimentRecord, FaultState, IncidentKind, Placement, Safety,
    Severity, Verdict, Why,
};
use crate::fault::{Cpu, Fault, Kind};
use crate::fence::Resume;
use crate::hold::Achieved;
use crate::ids::{AgentRun, CommandId, FaultId, LogIndex, NodeId};
use crate::message::tests::report_of_an_armed_host;
use crate::message::{FaultReport, HostPhase, Orders};
use crate::probe::{Expect, ProbeKind, ProbeSpec, Stage, Tally, Vantage};
use crate::registry::{Entry, HostRecord, Outcome};
use crate::views::{Authority, Judgement, PartitionKind, Stance};

const LEASE: u64 = 5_000;
/// How an incident is told that no rollback ends.
const BY_HAND: &str = "manual intervention required";

fn name(host: usize) -> HostName {
    format!("h{host}").parse().expect("a host name")
}

fn stop(n: u128) -> StopId {
    StopId(uuid::Uuid::from_u128(n))
}

fn experiment_id(n: u128) -> ExperimentId {
    ExperimentId(uuid::Uuid::from_u128(n))
}

fn fault_id(experiment: u128, host: usize) -> FaultId {
    FaultId { experiment: experiment_id(experiment), fault: 0, host: name(host) }
}

fn achieved(bit: bool) -> Option<Achieved> {
    Some(Achieved { bit, ..Achieved::default() })
}

fn ended(why: Why) -> Option<Ended> {
    Some(Ended { why, achieved: achieved(true), ..Ended::default() })
}

/// A fault as its host would report it.
fn fault(id: FaultId, phase: HostPhase) -> FaultReport {
    let over = match phase {
        HostPhase::Clean => ended(Why::Deadline),
        HostPhase::Lost => ended(Why::HolderDied),
        HostPhase::Stuck => {
            let ended = ended(Why::Order).expect("it is");
            Some(Ended { residue: vec!["a table".into()], ..ended })
        }
        HostPhase::Journaling | HostPhase::Applying | HostPhase::Held | HostPhase::Reverting => {
            None
        }
        HostPhase::NotHeld => ended(Why::NotHeld { reason: "policy".into(), refused: true }),
    };
    FaultReport {
        id,
        kind: None,
        phase,
        lease_ms: LEASE,
        remaining_ms: 60_000,
        in_place_ms: None,
        achieved: achieved(true),
        ended: over,
    }
}

/// A leader, the log, and a quorum that answers when it is told to.
struct Bench {
    leader: Leader,
    registry: Registry,
    now: Time,
    commands: u128,
    reports: BTreeMap<usize, Report>,
    rounds: Vec<u64>,
    sent: Vec<(HostName, ToAgent)>,
    /// What is proposed gets lost.
    deaf: bool,
    proposed: Vec<Command>,
}

impl Bench {
    /// Five hosts, all of which have reported.
    fn new() -> Bench {
        let now = Time(1_000_000);
        let mut bench = Bench {
            leader: Leader::new(Leadership { term: 1, node: NodeId(1) }, now),
            registry: Registry::default(),
            now,
            commands: 0,
            reports: BTreeMap::new(),
            rounds: Vec::new(),
            sent: Vec::new(),
            deaf: false,
            proposed: Vec::new(),
        };
        for host in 1..=5 {
            let report = Report { t: Time(7_000), ..report_of_an_armed_host() };
            bench.reports.insert(host, report);
            bench.commit(Command::Register(HostRecord {
                name: name(host),
                address: [10, 0, 0, 1].into(),
                also: Vec::new(),
                labels: BTreeMap::new(),
                gossip_port: 0,
                relay_port: 0,
                coordinator: false,
                drained: false,
            }));
        }
        bench.report_all();
        bench
    }

    /// Five hosts and an experiment on some of them that is being injected.
    fn injecting(hosts: &[usize]) -> Bench {
        let mut bench = Bench::new();
        bench.submit(1, hosts, |_| {});
        for _ in 0..3 {
            bench.tick();
        }
        assert_eq!(bench.phase(1), Phase::Injecting);
        bench
    }

    fn submit(&mut self, id: u128, hosts: &[usize], change: impl Fn(&mut Experiment)) {
        let spec = Fault::Cpu(Cpu::new(Some(1), 50));
        let place = |h: &usize| Placement { host: name(*h), fault: 0, spec: spec.clone() };
        let mut experiment = Experiment {
            name: "e".into(),
            objective: String::new(),
            faults: hosts.iter().map(place).collect(),
            duration_ms: 60_000,
            probes: vec![],
            baseline_ms: 0,
            recovery_ms: 0,
            safety: Safety {
                max_radius_ppm: 1_000_000,
                of_group: None,
                auto_rollback: true,
                lease_ms: LEASE,
                continue_on_loss: false,
                expects_split: false,
            },
            touched: BTreeSet::new(),
        };
        change(&mut experiment);
        let id = experiment_id(id);
        let outcome = self.commit(Command::Submit { id, experiment: Box::new(experiment) });
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    }

    /// A policy that allows nothing.
    fn strict() -> Option<Policy> {
        Some(Policy { allow: BTreeSet::new(), ..Policy::default() })
    }

    fn commit(&mut self, command: Command) -> Outcome {
        self.commands += 1;
        let id = CommandId(uuid::Uuid::from_u128(self.commands));
        let entry = Entry { id, at: WallTime(self.now.0), by: "test".into(), command };
        let index = LogIndex(self.registry.applied.0 + 1);
        let outcome = self.registry.apply(index, &entry);
        self.leader.handle_change(self.now);
        outcome
    }

    fn report(&mut self, host: usize) {
        let report = self.reports.get_mut(&host).expect("a host");
        report.t = report.t.plus(1);
        let report = report.clone();
        self.leader.handle_report(self.now, &name(host), report);
    }

    fn report_all(&mut self) {
        for host in self.reports.keys().copied().collect::<Vec<_>>() {
            self.report(host);
        }
    }

    /// A host's report from now on lists this and nothing else.
    fn lists(&mut self, host: usize, faults: Vec<FaultReport>) {
        self.reports.get_mut(&host).expect("a host").faults = faults;
        self.report(host);
    }

    fn drain(&mut self) {
        while let Some(action) = self.leader.poll_action() {
            match action {
                Action::Round { token } => self.rounds.push(token),
                Action::Send { host, message } => self.sent.push((host, message)),
                Action::Propose(command) => {
                    self.proposed.push(command.clone());
                    if !self.deaf {
                        self.commit(command);
                    }
                }
            }
        }
    }

    /// Goes on until the next round begins.
    fn begin(&mut self) {
        while self.rounds.is_empty() {
            self.now = self.now.max(self.leader.poll_timeout());
            self.leader.handle_timeout(self.now);
            self.drain();
        }
    }

    fn end(&mut self, ok: bool) {
        for token in std::mem::take(&mut self.rounds) {
            self.leader.handle_round(self.now, WallTime(self.now.0), token, ok, &self.registry);
        }
        self.drain();
    }

    /// One whole round.
    fn tick(&mut self) {
        self.begin();
        self.end(true);
    }

    /// Rounds and reports for so long.
    fn wait(&mut self, ms: u64) {
        let until = self.now.plus(ms);
        while self.now < until {
            self.now = self.now.plus(500);
            self.report_all();
            self.tick();
        }
    }

    fn record(&self, id: u128) -> &ExperimentRecord {
        &self.registry.experiments[&experiment_id(id)]
    }

    fn phase(&self, id: u128) -> Phase {
        self.record(id).phase
    }

    fn verdict(&mut self, id: u128) -> (Verdict, String) {
        for _ in 0..5 {
            self.report_all();
            self.tick();
        }
        let record = self.record(id);
        (record.verdict.unwrap_or_else(|| panic!("{record:?}")), record.reasons.join("; "))
    }

    /// Orders that were sent since this was asked last.
    fn orders(&mut self) -> Vec<(HostName, Orders)> {
        let orders = |(host, message)| match message {
            ToAgent::Orders(orders) => Some((host, orders)),
            ToAgent::Stop { .. } | ToAgent::Stops(_) | ToAgent::Sync(_) | ToAgent::Peers(_) => None,
        };
        std::mem::take(&mut self.sent).into_iter().filter_map(orders).collect()
    }

    fn started(&mut self) -> Vec<FaultId> {
        self.orders().into_iter().flat_map(|(_, o)| o.apply).map(|a| a.id).collect()
    }

    fn orders_for(&mut self, host: usize) -> Vec<Orders> {
        self.orders().into_iter().filter(|(h, _)| *h == name(host)).map(|(_, o)| o).collect()
    }
}

#[test]
fn nothing_is_said_before_a_round_and_nothing_after_one_that_failed() {
    let mut b = Bench::new();
    b.begin();
    assert!(b.sent.is_empty());
    b.end(false);
    assert!(b.sent.is_empty());
    b.tick();
    assert_eq!(b.orders().len(), 5);
}

#[test]
fn an_answer_echoes_a_report_that_was_there_when_the_round_began() {
    let mut b = Bench::new();
    b.tick();
    b.sent.clear();
    b.report_all();
    b.begin();
    let asked = b.reports[&1].t;
    b.report(1);
    b.end(true);
    assert_eq!(b.orders_for(1)[0].echo, asked, "the newer report came too late for this round");
    b.tick();
    assert_eq!(b.orders_for(1)[0].echo, b.reports[&1].t);
}

#[test]
fn a_host_that_reports_faster_than_rounds_end_is_answered() {
    let mut b = Bench::injecting(&[1]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    for _ in 0..5 {
        b.begin();
        b.sent.clear();
        b.now = b.now.plus(1_500);
        b.report(1);
        b.end(true);
        assert_eq!(b.orders_for(1)[0].grant, [fault_id(1, 1)]);
    }
}

#[test]
fn a_host_that_appears_while_a_round_runs_waits_for_the_next() {
    let mut b = Bench::new();
    b.begin();
    b.reports.get_mut(&1).expect("a host").run = AgentRun(uuid::Uuid::from_u128(2));
    b.report(1);
    b.end(true);
    assert!(b.orders_for(1).is_empty(), "the round began before this life was heard");
    b.tick();
    assert_eq!(b.orders_for(1)[0].run, b.reports[&1].run);
}

#[test]
fn no_round_begins_while_a_stop_goes_first() {
    let mut b = Bench::new();
    let heard = b.leader.poll_timeout().max(b.now);
    b.leader.handle_stop(heard, stop(1));
    // Another one meanwhile.
    b.leader.handle_stop(heard.plus(STOP_FIRST_MS - 1), stop(2));
    b.begin();
    assert_eq!(b.now, heard.plus(STOP_FIRST_MS));
    // A round that has begun goes on.
    b.leader.handle_stop(b.now, stop(3));
    b.end(true);
    assert_eq!(b.orders().len(), 5);
}

#[test]
fn a_late_answer_to_a_round_that_was_given_up_counts_for_nothing() {
    let mut b = Bench::new();
    b.begin();
    let old = b.rounds.clone();
    b.rounds.clear();
    b.now = b.now.plus(ROUND_TIMEOUT_MS);
    b.begin();
    let new = std::mem::replace(&mut b.rounds, old);
    b.end(true);
    assert!(b.sent.is_empty());
    b.rounds = new;
    b.end(true);
    assert_eq!(b.orders().len(), 5);
}

#[test]
fn an_answer_from_before_this_node_slept_counts_for_nothing() {
    let mut b = Bench::new();
    b.begin();
    b.now = b.now.plus(ROUND_TIMEOUT_MS);
    b.end(true);
    assert!(b.sent.is_empty());
    b.tick();
    assert_eq!(b.orders().len(), 5);
}

#[test]
fn the_same_is_not_said_twice_but_every_new_report_is_answered() {
    let mut b = Bench::new();
    b.tick();
    assert_eq!(b.orders().len(), 5);
    b.tick();
    assert!(b.orders().is_empty());
    b.report(2);
    b.tick();
    assert_eq!(b.orders().len(), 1);
    b.submit(1, &[3], |_| {});
    for _ in 0..4 {
        b.tick();
    }
    assert_eq!(b.started(), [fault_id(1, 3)], "news reach a host without a new report");
}

#[test]
fn an_older_report_of_the_same_life_says_nothing() {
    let mut b = Bench::injecting(&[1]);
    let old = b.reports[&1].clone();
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.leader.handle_report(b.now, &name(1), old);
    b.tick();
    assert_eq!(b.orders_for(1).pop().expect("orders").grant, [fault_id(1, 1)]);
}

#[test]
fn nothing_starts_anywhere_while_one_host_has_heard_another_set_of_stops() {
    let mut b = Bench::injecting(&[1]);
    b.started();
    b.reports.get_mut(&5).expect("a host").digest ^= 1;
    b.report_all();
    b.tick();
    let said = std::mem::take(&mut b.sent);
    let to_5: Vec<_> = said.iter().filter(|(h, _)| *h == name(5)).map(|(_, m)| m).collect();
    assert!(matches!(to_5[..], [ToAgent::Stops(_), ToAgent::Sync(_), ToAgent::Orders(_)]));
    b.sent = said;
    assert!(b.started().is_empty());
    b.reports.get_mut(&5).expect("a host").digest ^= 1;
    b.report_all();
    b.tick();
    assert_eq!(b.started(), [fault_id(1, 1)]);
}

#[test]
fn a_stop_that_the_log_lacks_is_proposed_before_anything_starts() {
    let mut b = Bench::injecting(&[1]);
    b.started();
    b.leader.handle_stops(b.now, &[stop(1)]);
    b.report_all();
    b.tick();
    assert!(b.started().is_empty());
    assert!(b.registry.stops.contains_key(&stop(1)));
    assert_eq!(b.record(1).ending, Some(EndReason::StopAll));
}

#[test]
fn a_host_that_is_not_synced_or_not_armed_is_given_all_and_ordered_nothing() {
    let mut b = Bench::injecting(&[1]);
    b.started();
    for change in [
        (|r: &mut Report| r.synced = false) as fn(&mut Report),
        |r| r.armed = false,
        |r| r.newest_resume = LogIndex(9),
    ] {
        let good = b.reports[&1].clone();
        change(b.reports.get_mut(&1).expect("a host"));
        b.report(1);
        b.tick();
        assert!(b.started().is_empty());
        b.reports.insert(1, Report { t: b.reports[&1].t, ..good });
    }
    b.report(1);
    b.tick();
    assert_eq!(b.started(), [fault_id(1, 1)]);
}

#[test]
fn a_host_is_told_the_resumes_that_it_lacks_and_all_of_them_where_that_does_not_help() {
    let mut b = Bench::new();
    for n in [1, 2] {
        b.commit(Command::Stop(stop(n)));
        b.commit(Command::Resume { stops: [stop(n)].into(), despite: BTreeSet::new() });
    }
    let digest = b.registry.fence.digest();
    let all: Vec<Resume> = b.registry.fence.resumes_after(LogIndex(0)).collect();
    let foreign = all[1].index.0 + 1;
    for (digest, newest, told) in [
        (digest, all[0].index, &all[1..]),
        (digest, LogIndex(0), &all[..]),
        (digest ^ 1, all[0].index, &all[1..]),
        (digest ^ 1, all[1].index, &all[..]),
        (digest, LogIndex(foreign), &all[..]),
    ] {
        let report = b.reports.get_mut(&1).expect("h1");
        (report.digest, report.newest_resume) = (digest, newest);
        b.report(1);
        b.sent.clear();
        b.tick();
        let to_1 = b.sent.iter().filter(|(host, _)| *host == name(1));
        let syncs: Vec<&[Resume]> = to_1
            .filter_map(|(_, m)| if let ToAgent::Sync(s) = m { Some(&s.resumes[..]) } else { None })
            .collect();
        assert_eq!(syncs, [told], "of one that knows {newest:?}");
    }
}

#[test]
fn a_host_that_heard_what_the_leader_heard_is_told_nothing_of_it() {
    let mut b = Bench::new();
    b.tick();
    b.deaf = true;
    b.leader.handle_stops(b.now, &[stop(1)]);
    let mut heard = b.registry.fence.clone();
    for (stop, told) in [(stop(1), false), (stop(2), true)] {
        heard.hear(stop);
        b.reports.get_mut(&1).expect("h1").digest = heard.digest();
        b.report(1);
        b.sent.clear();
        b.tick();
        let to_1 = |(host, m): &(HostName, ToAgent)| {
            *host == name(1) && matches!(m, ToAgent::Stops(_) | ToAgent::Sync(_))
        };
        assert_eq!(b.sent.iter().any(to_1), told, "{stop}");
    }
}

#[test]
fn what_is_held_is_renewed_and_what_is_not_wanted_is_lifted() {
    let mut b = Bench::injecting(&[1, 2]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.lists(2, vec![fault(fault_id(9, 2), HostPhase::Held)]);
    b.tick();
    let orders = b.orders();
    let of = |h| &orders.iter().rfind(|(host, _)| *host == name(h)).expect("orders").1;
    assert_eq!((&of(1).grant[..], &of(1).lift[..]), (&[fault_id(1, 1)][..], &[][..]));
    assert_eq!((&of(2).grant[..], &of(2).lift[..]), (&[][..], &[][..]), "of no experiment here");
    let why = EndReason::Operator("o".into());
    b.commit(Command::End { id: experiment_id(1), why });
    b.report_all();
    b.tick();
    assert_eq!(b.orders_for(1)[0].lift, [fault_id(1, 1)]);
}

#[test]
fn a_drained_hosts_fault_is_lifted_and_the_verdict_does_not_hide_it() {
    let mut b = Bench::injecting(&[1, 2]);
    for host in [1, 2] {
        b.lists(host, vec![fault(fault_id(1, host), HostPhase::Held)]);
    }
    b.wait(1_000);
    b.commit(Command::Drain { host: name(1), drained: true });
    b.sent.clear();
    b.report_all();
    b.tick();
    assert_eq!(b.orders_for(1)[0].lift, [fault_id(1, 1)]);
    let by_order =
        FaultReport { ended: ended(Why::Order), ..fault(fault_id(1, 1), HostPhase::Clean) };
    b.lists(1, vec![by_order]);
    b.lists(2, vec![fault(fault_id(1, 2), HostPhase::Clean)]);
    let (verdict, reasons) = b.verdict(1);
    assert_eq!(verdict, Verdict::Unknown);
    assert_eq!(reasons, "h1 cpu was lifted before its time: order, as its host was drained");
}

#[test]
fn nothing_is_begun_and_nothing_waited_for_where_a_target_is_drained() {
    let mut b = Bench::new();
    b.submit(1, &[1, 2], |_| {});
    b.tick();
    assert_eq!(b.phase(1), Phase::Preflight);
    b.commit(Command::Drain { host: name(1), drained: true });
    let drained = "preflight: h1 is drained".to_owned();
    assert_eq!(b.verdict(1), (Verdict::Refused, drained));
    assert!(b.started().is_empty());

    let mut b = Bench::injecting(&[1, 2]);
    b.lists(2, vec![fault(fault_id(1, 2), HostPhase::Held)]);
    b.commit(Command::Drain { host: name(1), drained: true });
    b.wait(1_000);
    let why = "h1 was drained before its fault was in place".to_owned();
    assert_eq!(b.record(1).ending, Some(EndReason::Unanswered(why)));
    b.lists(2, vec![fault(fault_id(1, 2), HostPhase::Clean)]);
    b.wait(LEASE + NOT_AFTER_MS + 1_000);
    assert_eq!(b.verdict(1).0, Verdict::Unknown);
}

#[test]
fn what_is_lost_on_the_way_to_the_log_is_proposed_again_after_a_while() {
    let mut b = Bench::new();
    b.deaf = true;
    b.submit(1, &[1], |_| {});
    b.wait(REPROPOSE_MS - 500);
    assert_eq!(b.proposed.len(), 1);
    b.wait(3 * REPROPOSE_MS);
    assert!((3..=4).contains(&b.proposed.len()), "{:?}", b.proposed);
    b.deaf = false;
    b.wait(2 * REPROPOSE_MS);
    assert_eq!(b.phase(1), Phase::Injecting);
}

#[test]
fn a_new_leader_finishes_what_the_old_one_began() {
    let mut b = Bench::injecting(&[1]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.wait(1_000);
    assert_eq!(b.phase(1), Phase::Holding);
    b.leader = Leader::new(Leadership { term: 2, node: NodeId(2) }, b.now);
    b.rounds.clear();
    b.sent.clear();
    b.report_all();
    b.tick();
    assert_eq!(b.orders_for(1)[0].grant, [fault_id(1, 1)]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
    assert_eq!(b.verdict(1).0, Verdict::Held);
    b.sent.clear();
    b.report_all();
    b.tick();
    assert_eq!(b.orders_for(1)[0].acknowledged, [fault_id(1, 1)]);
}

#[test]
fn each_end_has_its_verdict() {
    let cases = [
        (HostPhase::Clean, Verdict::Held, "every fault bit"),
        (HostPhase::Lost, Verdict::Unknown, "was lost: holder died"),
        (HostPhase::Stuck, Verdict::Unknown, "NOT CLEAN: a table"),
        (HostPhase::NotHeld, Verdict::Refused, "h1 refused: policy"),
    ];
    for (phase, verdict, reason) in cases {
        let mut b = Bench::injecting(&[1]);
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
        b.tick();
        let mut b = if phase == HostPhase::NotHeld { Bench::injecting(&[1]) } else { b };
        b.lists(1, vec![fault(fault_id(1, 1), phase)]);
        let (got, reasons) = b.verdict(1);
        assert_eq!(got, verdict, "{phase:?}");
        assert!(reasons.contains(reason), "{phase:?}: {reasons}");
    }
}

#[test]
fn a_fault_that_was_not_seen_to_bite_makes_no_held() {
    let mut b = Bench::injecting(&[1]);
    let blunt = Ended { achieved: achieved(false), ..ended(Why::Deadline).expect("it is") };
    let clean = fault(fault_id(1, 1), HostPhase::Clean);
    b.lists(1, vec![FaultReport { ended: Some(blunt), ..clean }]);
    assert_eq!(b.verdict(1).0, Verdict::Unknown);
}

#[test]
fn faults_that_were_hardly_there_together_make_no_held() {
    for (apart_ms, expected) in [(8_000, Verdict::Held), (12_000, Verdict::Unknown)] {
        let mut b = Bench::injecting(&[1, 2]);
        // Told late, as by the report that the next leader gets.
        let holds = |host, ms| FaultReport {
            in_place_ms: Some(ms),
            ..fault(fault_id(1, host), HostPhase::Held)
        };
        b.lists(1, vec![holds(1, 2_000)]);
        b.tick();
        b.wait(apart_ms - 2_000 + 500);
        b.lists(1, vec![holds(1, apart_ms + 500)]);
        b.lists(2, vec![holds(2, 500)]);
        b.tick();
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
        b.lists(2, vec![fault(fault_id(1, 2), HostPhase::Clean)]);
        let (verdict, why) = b.verdict(1);
        assert_eq!(verdict, expected, "{apart_ms}: {why}");
        assert_eq!(why.contains("not all of them were there"), expected != Verdict::Held);
    }
}

#[test]
fn a_stop_is_the_verdict_whatever_else_was_seen() {
    let mut b = Bench::injecting(&[1]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.tick();
    b.commit(Command::Stop(stop(1)));
    let by_stop =
        FaultReport { ended: ended(Why::Stop), ..fault(fault_id(1, 1), HostPhase::Clean) };
    b.lists(1, vec![by_stop]);
    assert_eq!(b.verdict(1).0, Verdict::Stopped);
}

#[test]
fn after_a_stop_all_nobody_waits_for_probes() {
    let mut b = Bench::new();
    b.submit(1, &[1], with_probe);
    b.wait(1_000);
    samples(&mut b, Stage::Before, 10);
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.wait(1_000);
    assert_eq!(b.phase(1), Phase::Holding);
    b.commit(Command::Stop(stop(1)));
    b.lists(
        1,
        vec![FaultReport { ended: ended(Why::Stop), ..fault(fault_id(1, 1), HostPhase::Clean) }],
    );
    b.wait(1_500);
    assert_eq!(b.phase(1), Phase::Settled);
    assert_eq!(b.record(1).verdict, Some(Verdict::Stopped));
}

#[test]
fn a_host_speaks_for_itself_alone() {
    let mut b = Bench::injecting(&[1]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.tick();
    // h2 says that h1 is clean, and later keeps saying that h1 holds it.
    for phase in [HostPhase::Clean, HostPhase::Lost, HostPhase::Held] {
        b.lists(2, vec![fault(fault_id(1, 1), phase)]);
        b.tick();
        assert!(matches!(b.record(1).faults[&fault_id(1, 1)], FaultState::Held(_)), "{phase:?}");
    }
}

#[test]
fn a_stop_that_only_a_host_has_heard_makes_no_held() {
    let mut b = Bench::injecting(&[1]);
    let by_stop =
        FaultReport { ended: ended(Why::Stop), ..fault(fault_id(1, 1), HostPhase::Clean) };
    b.lists(1, vec![by_stop]);
    assert_eq!(b.verdict(1).0, Verdict::Unknown);
}

#[test]
fn what_a_host_listed_once_is_not_ordered_from_its_next_life() {
    let mut b = Bench::injecting(&[1]);
    b.started();
    b.deaf = true;
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::NotHeld)]);
    b.tick();
    b.reports.get_mut(&1).expect("a host").run = AgentRun(uuid::Uuid::from_u128(2));
    b.lists(1, vec![]);
    b.wait(1_000);
    assert!(b.started().is_empty());
    b.deaf = false;
    b.wait(2 * (LEASE + PATIENCE_MS));
    assert_eq!(b.verdict(1).0, Verdict::Unknown, "it settles all the same");
    assert!(b.started().is_empty());
}

#[test]
fn a_loss_ends_the_rest_unless_the_file_says_to_go_on() {
    for go_on in [false, true] {
        let mut b = Bench::new();
        b.submit(1, &[1, 2], |e| e.safety.continue_on_loss = go_on);
        for _ in 0..3 {
            b.tick();
        }
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Lost)]);
        b.lists(2, vec![fault(fault_id(1, 2), HostPhase::Held)]);
        b.wait(1_000);
        assert_eq!(b.record(1).ending.is_none(), go_on);
        b.sent.clear();
        b.report_all();
        b.tick();
        assert_eq!(b.orders_for(2)[0].lift.is_empty(), go_on);
    }
}

#[test]
fn a_silent_host_lapses_once_every_lease_is_over_and_not_before() {
    let mut b = Bench::injecting(&[1, 2]);
    for host in [1, 2] {
        b.lists(host, vec![fault(fault_id(1, host), HostPhase::Held)]);
    }
    b.tick();
    b.reports.remove(&1);
    b.wait(LEASE + NOT_AFTER_MS - 1_000);
    assert!(matches!(b.record(1).faults[&fault_id(1, 1)], FaultState::Held(_)));
    b.wait(2_000);
    assert!(matches!(b.record(1).faults[&fault_id(1, 1)], FaultState::Lapsed(_)));
    assert!(matches!(b.record(1).ending, Some(EndReason::FaultLost(_))));
    b.lists(2, vec![fault(fault_id(1, 2), HostPhase::Clean)]);
    assert_eq!(b.verdict(1).0, Verdict::Unknown);
    assert!(b.record(1).reserved.is_empty());
}

#[test]
fn a_fault_that_its_host_has_forgotten_lapses_too() {
    let mut b = Bench::injecting(&[1]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.wait(1_000);
    b.lists(1, vec![]);
    b.wait(LEASE + NOT_AFTER_MS - 1_000);
    assert_eq!(b.phase(1), Phase::Holding);
    b.wait(2_000);
    assert_eq!(b.verdict(1).0, Verdict::Unknown);
}

#[test]
fn a_new_leader_waits_out_the_leases_of_the_one_before() {
    let mut b = Bench::injecting(&[1]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.wait(1_000);
    b.reports.remove(&1);
    b.wait(LEASE);
    b.leader = Leader::new(Leadership { term: 2, node: NodeId(2) }, b.now);
    b.rounds.clear();
    b.wait(LEASE + NOT_AFTER_MS - 500);
    assert!(matches!(b.record(1).faults[&fault_id(1, 1)], FaultState::Held(_)));
    b.wait(1_000);
    assert!(matches!(b.record(1).faults[&fault_id(1, 1)], FaultState::Lapsed(_)));
}

#[test]
fn a_host_that_never_answers_has_shown_nothing_and_the_experiment_still_settles() {
    let mut b = Bench::injecting(&[1]);
    b.reports.remove(&1);
    b.wait(LEASE + PATIENCE_MS + 1_000);
    let Some(EndReason::Unanswered(why)) = b.record(1).ending.clone() else {
        panic!("{:?}", b.record(1).ending)
    };
    assert_eq!(why, format!("no answer within {} ms from h1", LEASE + PATIENCE_MS));
    b.wait(LEASE + NOT_AFTER_MS + 1_000);
    assert_eq!(b.verdict(1).0, Verdict::Unknown);
    assert!(b.record(1).reserved.is_empty());
}

#[test]
fn a_stop_that_was_faster_than_the_order_leaves_nothing_to_wait_for() {
    let mut b = Bench::injecting(&[1]);
    b.commit(Command::Stop(stop(1)));
    b.wait(2_000);
    assert_eq!(
        b.record(1).faults[&fault_id(1, 1)],
        FaultState::Pending,
        "h1 has not heard the stop"
    );
    let digest = b.registry.fence.digest();
    let report = b.reports.get_mut(&1).expect("h1");
    (report.digest, report.armed) = (digest, false);
    assert_eq!(b.verdict(1).0, Verdict::Stopped);
    let FaultState::Clean(ended) = &b.record(1).faults[&fault_id(1, 1)] else { panic!() };
    assert_eq!((&ended.why, &ended.achieved), (&Why::Absent, &None));
    assert!(b.record(1).reserved.is_empty());
}

#[test]
fn a_host_that_is_heard_is_asked_before_its_fault_lapses_however_short_the_lease() {
    for lease_ms in [1_000, 2_000, 5_000] {
        let mut b = Bench::new();
        b.submit(1, &[1], |e| e.safety.lease_ms = lease_ms);
        for _ in 0..3 {
            b.tick();
        }
        b.commit(Command::End { id: experiment_id(1), why: EndReason::Operator("test".into()) });
        while b.record(1).faults[&fault_id(1, 1)] == FaultState::Pending {
            let report = b.reports.get_mut(&1).expect("h1");
            report.t = report.t.plus(500);
            b.wait(500);
        }
        let state = &b.record(1).faults[&fault_id(1, 1)];
        assert!(matches!(state, FaultState::Clean(e) if e.why == Why::Absent), "{state:?}");
    }
}

#[test]
fn an_order_that_may_still_be_on_its_way_is_waited_for_by_the_hosts_own_clock() {
    for listed in [false, true] {
        let mut b = Bench::new();
        b.submit(1, &[1], |e| e.safety.lease_ms = 30_000);
        for _ in 0..3 {
            b.tick();
        }
        b.commit(Command::End { id: experiment_id(1), why: EndReason::Operator("test".into()) });
        b.wait(2 * (NOT_AFTER_MS + FRESH_MS));
        assert_eq!(b.phase(1), Phase::Lifting, "the host's clock stands still");
        b.reports.get_mut(&1).expect("h1").t = Time(7_000 + 2 * (NOT_AFTER_MS + FRESH_MS));
        if listed {
            b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Applying)]);
            b.wait(2_000);
            assert_eq!(b.phase(1), Phase::Lifting, "it did begin");
        } else {
            assert_eq!(b.verdict(1).0, Verdict::Stopped);
        }
    }
}

#[test]
fn a_host_that_cannot_do_it_is_found_before_anything_is_touched() {
    let mut b = Bench::new();
    let row = Capability {
        fault: Kind::Cpu,
        backend: None,
        fallbacks: vec![],
        held: crate::hold::Holding::Held,
        reason: "no cgroup".into(),
    };
    b.leader.handle_hello(name(1), vec![row], None);
    b.submit(1, &[1], |_| {});
    b.wait(PATIENCE_MS + 2_000);
    let (verdict, reasons) = b.verdict(1);
    assert_eq!(verdict, Verdict::Refused);
    assert_eq!(reasons, "preflight: h1 cannot do cpu: no cgroup");
    assert!(b.started().is_empty());
}

#[test]
fn a_host_whose_policy_is_known_to_refuse_is_found_before_anything_begins() {
    let policy = |allow: &[Kind], max_faults| {
        let allow = allow.iter().copied().collect();
        Some(Policy { allow, max_faults, ..Policy::default() })
    };
    // A probe's program, too; and what is stricter by the time the baseline was sampled.
    let mut b = Bench::new();
    b.submit(1, &[1], |e| {
        with_probe(e);
        e.probes[0].kind = ProbeKind::Exec { argv: vec!["/bin/check".into()] };
    });
    b.wait(1_000);
    assert!(b.verdict(1).1.starts_with("h2 refused: policy: no probe may run `/bin/check`"));
    let mut b = Bench::new();
    b.submit(1, &[1], with_probe);
    b.wait(1_000);
    b.leader.handle_hello(name(1), vec![], Bench::strict());
    samples(&mut b, Stage::Before, 10);
    b.wait(1_000);
    assert!(b.verdict(1).1.starts_with("h1 refused: policy: cpu is not allowed"));
    assert!(b.started().is_empty());
    for (policy, faults, says) in [
        (policy(&[Kind::Loss], 9), 1, "h2 refused: policy: cpu is not allowed on this host"),
        // What is held there may go by itself; what this asks for stays.
        (policy(&[Kind::Cpu], 1), 1, "preflight: h2 refuses: policy: 2 faults would be held"),
        (policy(&[Kind::Cpu], 1), 2, "h2 refused: policy: 2 faults would be held here at once"),
        (policy(&[Kind::Cpu], 2), 1, ""),
        (policy(&[Kind::Cpu], 2), 2, "preflight: h2 refuses: policy: 3 faults would be held"),
        // Not known, or what it was before the host said something else: the host has the last word.
        (None, 1, ""),
        (Some(Policy::default()), 1, ""),
    ] {
        let mut b = Bench::new();
        b.leader.handle_hello(name(2), vec![], Bench::strict());
        b.leader.handle_hello(name(2), vec![], policy);
        let seven = [HostPhase::Held, HostPhase::Clean].map(|p| fault(fault_id(7, 2), p));
        b.lists(2, seven.into());
        b.submit(1, &[1, 2], |e| {
            let more = e.faults[1].clone();
            e.faults.extend((1..faults).map(|fault| Placement { fault, ..more.clone() }));
        });
        b.wait(2_000);
        if says.is_empty() {
            assert_eq!(b.phase(1), Phase::Injecting);
            continue;
        }
        assert_eq!(b.record(1).verdict.is_none(), says.starts_with("preflight"), "{says}");
        b.wait(PATIENCE_MS + 1_000);
        let (verdict, reasons) = b.verdict(1);
        assert_eq!(verdict, Verdict::Refused);
        assert!(reasons.starts_with(says), "{reasons}");
        assert!(b.started().is_empty());
    }
}

#[test]
fn what_experiments_burn_on_a_host_is_counted_before_another_begins_there() {
    let policy = Policy { max_cpu_percent: Some(60), ..Policy::default() };
    let burn = |load| {
        move |e: &mut Experiment| {
            for placement in &mut e.faults {
                placement.spec = Fault::Cpu(Cpu::new(None, load));
            }
        }
    };
    let mut b = Bench::new();
    b.leader.handle_hello(name(2), vec![], Some(policy));
    b.submit(1, &[2], burn(40));
    b.wait(1_000);
    b.lists(2, vec![fault(fault_id(1, 2), HostPhase::Held)]);
    b.wait(1_000);
    b.started();
    b.submit(2, &[1, 2], burn(40));
    b.wait(PATIENCE_MS + 3_000);
    let (verdict, why) = b.verdict(2);
    assert_eq!(verdict, Verdict::Refused);
    assert!(why.contains("h2 refuses: policy: a load of 80 percent, 40 of them by"), "{why}");
    // Once it is gone there is room.
    b.lists(2, vec![fault(fault_id(1, 2), HostPhase::Clean)]);
    b.wait(1_000);
    b.submit(3, &[1, 2], burn(40));
    b.wait(2_000);
    assert_eq!(b.phase(3), Phase::Injecting);
}

fn with_probe(experiment: &mut Experiment) {
    let probe = ProbeSpec {
        name: "p".into(),
        from: Vantage::Host(name(2)),
        kind: ProbeKind::Tcp { address: "10.0.0.1:1".into() },
        every_ms: 100,
        timeout_ms: 100,
        expect: Expect::default(),
    };
    experiment.probes = vec![probe];
    (experiment.baseline_ms, experiment.recovery_ms) = (1_000, 1_000);
}

fn samples(b: &mut Bench, stage: Stage, ok: u64) {
    samples_of(b, stage, 10, ok);
}

fn samples_of(b: &mut Bench, stage: Stage, sent: u64, ok: u64) {
    let tally = Tally { sent, ok, failed: sent - ok, elapsed_ms: 1_000, ..Tally::default() };
    tells(b, stage, tally);
}

fn tells(b: &mut Bench, stage: Stage, tally: Tally) {
    let report = b.reports.get_mut(&2).expect("a host");
    let probe = crate::message::ProbeReport {
        experiment: experiment_id(1),
        name: "p".into(),
        stages: Vec::new(),
    };
    if report.probes.is_empty() {
        report.probes.push(probe);
    }
    report.probes[0].stages.retain(|(s, _)| *s != stage);
    report.probes[0].stages.push((stage, tally));
}

#[test]
fn with_a_hypothesis_each_stage_is_sampled_and_judged() {
    let mut b = Bench::new();
    b.submit(1, &[1], with_probe);
    b.wait(1_000);
    assert_eq!(b.phase(1), Phase::Baseline);
    samples(&mut b, Stage::Before, 10);
    b.wait(1_000);
    assert_eq!(b.phase(1), Phase::Injecting);
    through_the_hold(&mut b, 600);
    samples(&mut b, Stage::After, 10);
    assert_eq!(b.verdict(1).0, Verdict::Held);
}

#[test]
fn a_coordinators_own_probes_stand_on_a_fresh_read_and_on_no_stop() {
    let mut b = Bench::new();
    b.submit(1, &[1], |experiment| {
        with_probe(experiment);
        experiment.probes[0].from = Vantage::Coordinators;
    });
    let now = Time(1_000_000);
    let ago = |ms| Some(Time(now.0 - ms));
    let none = Some((now, 0));
    let told = |b: &Bench, as_of, stopped| {
        own_probes(now, as_of, || stopped, &b.registry).map(|(at, orders)| (at, orders.len()))
    };
    assert_eq!(told(&b, None, false), none, "nothing is wanted before the baseline");
    b.wait(1_000);
    assert_eq!(b.phase(1), Phase::Baseline);
    assert_eq!(told(&b, ago(FRESH_MS - 1), false), Some((Time(now.0 - FRESH_MS + 1), 1)));
    for stale in [None, ago(FRESH_MS)] {
        assert_eq!(told(&b, stale, false), None);
        assert_eq!(told(&b, stale, true), none, "to end is never too late");
    }
    assert_eq!(told(&b, ago(0), true), none);
    b.registry.fence.hear(crate::ids::StopId(uuid::Uuid::from_u128(9)));
    assert_eq!(told(&b, ago(0), false), none);
}

#[test]
fn what_the_coordinators_see_is_what_the_one_that_leads_has_seen_itself() {
    let good =
        |stage, sent| (stage, Tally { sent, ok: sent, elapsed_ms: 1_000, ..Tally::default() });
    let all = [good(Stage::Before, 10), good(Stage::During, 600), good(Stage::After, 10)];
    // One that began to run in the middle has not seen it all.
    for (seen, verdict) in [(&all[..], Verdict::Held), (&all[1..], Verdict::Unknown)] {
        let mut b = Bench::new();
        let own = |b: &mut Bench, stages: &[(Stage, Tally)]| {
            let (experiment, name) = (experiment_id(1), "p".to_owned());
            let report = crate::message::ProbeReport { experiment, name, stages: stages.to_vec() };
            b.leader.handle_own_probes(vec![report]);
        };
        b.submit(1, &[1], |experiment| {
            with_probe(experiment);
            experiment.probes[0].from = Vantage::Coordinators;
        });
        b.wait(1_000);
        samples(&mut b, Stage::Before, 10);
        b.wait(1_000);
        assert_eq!(b.phase(1), Phase::Baseline, "a host's word is about another probe");
        own(&mut b, &all[..1]);
        b.wait(1_000);
        assert_eq!(b.phase(1), Phase::Injecting);
        through_the_hold(&mut b, 600);
        own(&mut b, seen);
        assert_eq!(b.verdict(1).0, verdict);
    }
}

/// Held and lifted, with so many good samples meanwhile, of 600 that were due in its minute.
fn through_the_hold(b: &mut Bench, during: u64) {
    samples_of(b, Stage::During, during, during);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
    b.wait(1_500);
    assert_eq!(b.phase(1), Phase::Recovering);
}

/// At most half may fail.
fn with_strict_probe(experiment: &mut Experiment) {
    with_probe(experiment);
    experiment.probes[0].expect.max_errors_per_million = 500_000;
}

fn sampled_before() -> Bench {
    let mut b = Bench::new();
    b.submit(1, &[1], with_strict_probe);
    b.wait(1_000);
    samples(&mut b, Stage::Before, 10);
    b.wait(1_000);
    b
}

#[test]
fn a_stage_that_was_seen_in_part_only_is_not_called_steady() {
    for (during, verdict) in [(510, Verdict::Held), (509, Verdict::Unknown)] {
        let mut b = sampled_before();
        through_the_hold(&mut b, during);
        samples(&mut b, Stage::After, 10);
        assert_eq!(b.verdict(1).0, verdict, "{during} of 600");
    }
}

#[test]
fn a_slow_beginning_does_not_pay_for_what_was_not_watched_later() {
    // Ten seconds until it is in place, and then its minute.
    for (during, verdict) in [(640, Verdict::Held), (600, Verdict::Unknown)] {
        let mut b = sampled_before();
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Applying)]);
        b.wait(10_000);
        assert_eq!(b.phase(1), Phase::Injecting);
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
        b.wait(60_000);
        assert_eq!(b.phase(1), Phase::Holding);
        through_the_hold(&mut b, during);
        samples(&mut b, Stage::After, 10);
        assert_eq!(b.verdict(1).0, verdict, "{during} of some 720");
    }
}

#[test]
fn samples_that_hang_are_waited_for() {
    let hangs =
        |hanging| Tally { sent: 10, ok: 10, hanging, elapsed_ms: 1_000, ..Tally::default() };
    let mut b = Bench::new();
    b.submit(1, &[1], with_strict_probe);
    b.wait(1_000);
    tells(&mut b, Stage::Before, hangs(11));
    b.wait(1_500);
    assert_eq!(b.phase(1), Phase::Baseline, "more than half may be bad");
    samples(&mut b, Stage::Before, 10);
    b.wait(1_000);
    through_the_hold(&mut b, 600);
    tells(&mut b, Stage::After, hangs(11));
    b.wait(1_500);
    assert_eq!(b.phase(1), Phase::Recovering);
    samples_of(&mut b, Stage::After, 21, 10);
    assert_eq!(b.verdict(1).0, Verdict::Broken);

    let mut b = sampled_before();
    through_the_hold(&mut b, 600);
    tells(&mut b, Stage::After, hangs(11));
    b.wait(PATIENCE_MS + 3_000);
    assert_eq!(b.verdict(1).0, Verdict::Unknown, "nobody ever said");
}

#[test]
fn a_deviation_rolls_back_and_breaks() {
    let mut b = Bench::new();
    b.submit(1, &[1], |experiment| {
        with_probe(experiment);
        experiment.probes[0].expect.max_errors_per_million = 500_000;
    });
    b.wait(1_000);
    samples(&mut b, Stage::Before, 10);
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.wait(1_000);
    // Of 600 that are due in a minute, more than half must fail before no rest could mend it.
    samples_of(&mut b, Stage::During, 300, 0);
    b.report_all();
    b.tick();
    assert_eq!(b.record(1).ending, None);
    samples_of(&mut b, Stage::During, 301, 0);
    b.report_all();
    b.tick();
    assert!(matches!(b.record(1).ending, Some(EndReason::Deviated(_))));
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
    b.wait(PATIENCE_MS + 3_000);
    assert_eq!(b.verdict(1).0, Verdict::Broken);
}

#[test]
fn the_first_sample_is_due_at_once_and_counts_to_what_may_make_up_for_the_rest() {
    let mut b = Bench::new();
    b.submit(1, &[1], |experiment| {
        with_probe(experiment);
        experiment.duration_ms = 9_500;
        experiment.probes[0].every_ms = 1_000;
        experiment.probes[0].expect.max_errors_per_million = 100_000;
    });
    b.wait(1_000);
    samples(&mut b, Stage::Before, 10);
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.wait(1_000);
    // Due at 0 to 9 s, ten in all, of which one may fail.
    samples_of(&mut b, Stage::During, 6, 5);
    b.report_all();
    b.tick();
    assert_eq!(b.record(1).ending, None);
}

#[test]
fn what_was_cut_short_is_judged_by_what_its_whole_time_allows() {
    // Of 600 that were due in its minute, half might have failed.
    for (sent, ok, verdict) in [(60, 20, Verdict::Unknown), (310, 9, Verdict::Broken)] {
        // Whether its loss ends it, or it is the last fault of all.
        for goes_on in [false, true] {
            let mut b = Bench::new();
            b.submit(1, &[1], |experiment| {
                with_strict_probe(experiment);
                experiment.safety.auto_rollback = false;
                experiment.safety.continue_on_loss = goes_on;
            });
            b.wait(1_000);
            samples(&mut b, Stage::Before, 10);
            b.wait(1_000);
            b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
            b.wait(1_000);
            samples_of(&mut b, Stage::During, sent, ok);
            b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Lost)]);
            b.wait(1_000);
            samples(&mut b, Stage::After, 10);
            let (found, reasons) = b.verdict(1);
            assert_eq!(found, verdict, "{goes_on}: {reasons}");
            assert!(reasons.contains("was lost: holder died"), "{reasons}");
        }
    }
}

#[test]
fn hosts_that_the_log_lacks_are_registered_once_and_again_after_a_while() {
    let mut b = Bench::new();
    b.tick();
    b.deaf = true;
    let new: Vec<HostRecord> = ["n1", "n2"]
        .map(|new| HostRecord { name: new.parse().unwrap(), ..b.registry.hosts[&name(1)].clone() })
        .to_vec();
    let told = |b: &mut Bench| {
        b.proposed.clear();
        b.leader.handle_unknown(b.now, new.clone());
        b.drain();
        b.proposed.len()
    };
    assert_eq!([told(&mut b), told(&mut b)], [2, 0]);
    b.now = b.now.plus(REPROPOSE_MS);
    assert_eq!(told(&mut b), 2);
}

#[test]
fn a_fault_is_called_by_its_kind_and_numbered_among_others_of_it() {
    let mut b = Bench::new();
    b.submit(1, &[1, 2], |experiment| {
        let second = Placement { fault: 1, ..experiment.faults[0].clone() };
        experiment.faults.push(second);
    });
    let called = |host, fault| b.record(1).called(&FaultId { fault, ..fault_id(1, host) });
    assert_eq!(called(2, 0), "h2 cpu");
    assert_eq!([called(1, 0), called(1, 1)], ["h1 cpu (fault 0)", "h1 cpu (fault 1)"]);
    assert_eq!(called(3, 0), "h3 fault 0", "it has none");
}

#[test]
fn the_fleet_must_be_fit_when_the_baseline_is_done_too() {
    for comes_back in [true, false] {
        let mut b = Bench::new();
        b.submit(1, &[1], with_probe);
        b.wait(1_000);
        assert_eq!(b.phase(1), Phase::Baseline);
        let silent = [4, 5].map(|host| (host, b.reports.remove(&host).expect("a host")));
        b.wait(FRESH_MS);
        samples(&mut b, Stage::Before, 10);
        b.wait(2_000);
        assert_eq!(b.phase(1), Phase::Baseline, "three of five are healthy");
        if comes_back {
            b.reports.extend(silent);
            b.wait(1_000);
            assert_eq!(b.phase(1), Phase::Injecting);
            continue;
        }
        b.wait(3 * PATIENCE_MS);
        let (verdict, reasons) = b.verdict(1);
        assert_eq!(verdict, Verdict::Refused, "{reasons}");
        assert!(reasons.contains("3 of 5 hosts are healthy"), "{reasons}");
        assert!(b.started().is_empty());
    }
}

#[test]
fn a_hosts_no_after_others_were_hurt_is_no_refusal() {
    let no = |host| FaultReport {
        ended: Some(Ended {
            why: Why::NotHeld { reason: "protected".into(), refused: true },
            ..Ended::default()
        }),
        ..fault(fault_id(1, host), HostPhase::NotHeld)
    };
    for (other, verdict) in
        [(HostPhase::Clean, Verdict::Broken), (HostPhase::NotHeld, Verdict::Refused)]
    {
        let mut b = Bench::injecting(&[1, 2]);
        b.lists(2, vec![no(2)]);
        b.tick();
        let other = match other {
            HostPhase::NotHeld => no(1),
            phase => FaultReport {
                ended: Some(Ended { achieved: achieved(true), ..Ended::default() }),
                ..fault(fault_id(1, 1), phase)
            },
        };
        b.lists(1, vec![other]);
        let (found, reasons) = b.verdict(1);
        assert_eq!(found, verdict, "{reasons}");
        assert!(reasons.contains("h2 refused: protected"), "{reasons}");
    }
}

#[test]
fn without_a_steady_baseline_nothing_is_injected() {
    for ok in [Some(0), None] {
        let mut b = Bench::new();
        b.submit(1, &[1], with_probe);
        b.wait(1_000);
        if let Some(ok) = ok {
            samples(&mut b, Stage::Before, ok);
        }
        b.wait(PATIENCE_MS + 2_000);
        assert_eq!(b.verdict(1).0, Verdict::Refused);
        assert!(b.started().is_empty());
        assert!(b.record(1).reserved.is_empty());
    }
}

impl Bench {
    /// What the views say; where nothing is missing, the one witness has spoken just now.
    fn judge(&mut self, judgement: &Judgement) {
        let whole = match judgement {
            Judgement::Agree | Judgement::SplitBrain { .. } => true,
            Judgement::Partition { missing, .. } | Judgement::Unknown { missing } => {
                missing.is_empty()
            }
        };
        let spoke = BTreeMap::from_iter(whole.then(|| ("coordinator c1".to_owned(), 0)));
        self.leader.handle_judgement(self.now, judgement, &spoke);
    }
}

fn split() -> Judgement {
    let authority = Authority { host: "c1".into(), claims: Stance::Leads, of: "c1".into() };
    Judgement::SplitBrain {
        authorities: vec![authority],
        sides: vec![],
        evidence: vec!["two leaders of term 4".into()],
    }
}

#[test]
fn a_split_brain_rolls_back_where_nobody_asked_for_it() {
    for (expected, rollback) in [(false, true), (false, false), (true, true)] {
        let mut b = Bench::new();
        b.submit(1, &[1], |e| {
            e.safety.expects_split = expected;
            e.safety.auto_rollback = rollback;
        });
        for _ in 0..3 {
            b.tick();
        }
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
        b.judge(&split());
        b.wait(3_000);
        let record = b.record(1);
        let told: Vec<_> = record
            .incidents
            .iter()
            .map(|i| (i.severity, i.kind == IncidentKind::ExpectedSplitBrain))
            .collect();
        let severity = if expected { Severity::P4 } else { Severity::P1 };
        assert_eq!(told, [(severity, expected)]);
        let ends = matches!(record.ending, Some(EndReason::SplitBrain(_)));
        assert_eq!(ends, rollback && !expected);
        let reports = |c: &&Command| matches!(c, Command::Report { .. });
        assert!(b.proposed.iter().filter(reports).count() <= 1, "an incident is one entry");
        b.judge(&Judgement::Agree);
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
        let (verdict, why) = b.verdict(1);
        assert_eq!(verdict == Verdict::Broken, !expected, "{why}");
        assert_eq!(why.matches("two leaders").count(), usize::from(!expected), "{why}");
    }
}

#[test]
fn no_verdict_comes_before_a_split_that_is_seen_is_in_the_log() {
    let mut b = Bench::injecting(&[1]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.tick();
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
    while b.record(1).phase < Phase::Lifting {
        b.tick();
    }
    b.judge(&split());
    b.wait(1_000);
    b.judge(&Judgement::Agree);
    let (verdict, why) = b.verdict(1);
    assert_eq!(verdict, Verdict::Broken, "{why}");
}

#[test]
fn a_split_brain_that_stands_after_the_heal_asks_for_a_person() {
    for (expected, goes) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut b = held_split(expected);
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
        b.wait(HEAL_MS - 2_000);
        assert_eq!((b.phase(1), &b.record(1).verdict), (Phase::Recovering, &None));
        if goes {
            b.judge(&Judgement::Agree);
        } else {
            b.wait(3_000);
        }
        let (verdict, why) = b.verdict(1);
        assert_eq!(why.matches(BY_HAND).count(), usize::from(!goes), "{why}");
        let broken = !goes || !expected;
        assert_eq!(verdict, if broken { Verdict::Broken } else { Verdict::Held }, "{why}");
        let by_hand = |c: &&Command| matches!(c, Command::Report { incident, .. } if incident.kind == IncidentKind::ManualIntervention);
        assert_eq!(b.proposed.iter().filter(by_hand).count(), usize::from(!goes));
    }
}

/// A bench whose one experiment holds, without probes, while a split-brain is seen.
fn held_split(expected: bool) -> Bench {
    let mut b = Bench::new();
    b.submit(1, &[1], |e| e.safety.expects_split = expected);
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.judge(&split());
    b.wait(1_000);
    b
}

/// A bench whose one experiment holds, and has a minute of probes before it.
fn held_long() -> Bench {
    let mut b = Bench::new();
    b.submit(1, &[1], |e| {
        with_probe(e);
        e.recovery_ms = 4 * HEAL_MS;
        e.safety.expects_split = true;
    });
    b.wait(1_000);
    samples(&mut b, Stage::Before, 10);
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b
}

/// As [`held_split`], recovering.
fn recovering_split() -> Bench {
    let mut b = held_split(true);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
    b.wait(2_000);
    assert_eq!(b.phase(1), Phase::Recovering);
    b
}

#[test]
fn a_split_brain_counts_as_standing_only_for_as_long_as_it_was_seen() {
    let missing = Judgement::Unknown { missing: vec!["h3".into()] };
    // Seen again, after judgements that lacked reports.
    let mut b = recovering_split();
    b.judge(&missing);
    b.wait(HEAL_MS - 5_000);
    b.judge(&split());
    b.wait(5_000);
    assert!(b.verdict(1).1.contains(BY_HAND));
    // Not seen again: nobody knows, and nothing else is said of it.
    let mut b = recovering_split();
    b.judge(&missing);
    b.wait(HEAL_MS - 3_000);
    assert_eq!(b.record(1).verdict, None);
    b.judge(&missing);
    b.wait(3_000);
    let (verdict, why) = b.verdict(1);
    assert!(
        verdict == Verdict::Unknown && why.contains("not all who saw it have reported since"),
        "{why}"
    );
    // Nor where a cut is proven without the report of a host; with all of them it went.
    for (missing, verdict) in [(vec!["h3".into()], Verdict::Unknown), (vec![], Verdict::Held)] {
        let mut b = recovering_split();
        let (kind, sides, edges) = (PartitionKind::Partial, vec![], vec![]);
        b.judge(&Judgement::Partition { kind, sides, edges, missing });
        b.wait(HEAL_MS);
        assert_eq!(b.verdict(1).0, verdict);
    }
    // Whatever comes later knows nothing of it.
    b.wait(1_000);
    b.submit(2, &[1], |_| {});
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(2, 1), HostPhase::Held)]);
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(2, 1), HostPhase::Clean)]);
    b.wait(2_000);
    assert_eq!(b.verdict(2).0, Verdict::Held);
    // Where the first is not seen for so long, the next may be another one.
    let mut b = held_long();
    b.judge(&split());
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
    b.judge(&missing);
    b.wait(2 * HEAL_MS);
    b.judge(&split());
    b.wait(HEAL_MS - 2_000);
    assert!(!by_hand(&b));
    b.wait(4_000);
    assert!(by_hand(&b));
    // Gone, and back: the time begins anew, whatever the phase took.
    let mut b = held_long();
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
    b.wait(2 * HEAL_MS);
    assert_eq!(b.phase(1), Phase::Recovering);
    b.judge(&split());
    b.wait(HEAL_MS - 2_000);
    assert!(!by_hand(&b));
}

/// Whether a person was asked for.
fn by_hand(b: &Bench) -> bool {
    b.record(1).incidents.iter().any(|i| i.kind == IncidentKind::ManualIntervention)
}

#[test]
fn a_split_brain_is_healed_once_its_witnesses_have_spoken_since() {
    let missing = Judgement::Unknown { missing: vec!["h9".into()] };
    let spoke = |who: &str, age_ms| BTreeMap::from([(who.to_owned(), age_ms)]);
    for (judgement, spoke, verdict) in [
        // All hosts agree, but the coordinator that led has said nothing since, or not for itself.
        (&Judgement::Agree, spoke("h1", 0), Verdict::Unknown),
        (&Judgement::Agree, spoke("coordinator c1", 5_000), Verdict::Unknown),
        (&Judgement::Agree, spoke("c1", 100), Verdict::Unknown),
        (&Judgement::Agree, spoke("coordinator c1", 100), Verdict::Held),
        // Somebody is silent who had nothing to do with it.
        (&missing, spoke("coordinator c1", 100), Verdict::Held),
        (&missing, spoke("h1", 100), Verdict::Unknown),
    ] {
        let mut b = recovering_split();
        b.leader.handle_judgement(b.now, judgement, &spoke);
        b.wait(HEAL_MS);
        let (found, why) = b.verdict(1);
        assert_eq!(found, verdict, "{judgement:?} {spoke:?}: {why}");
    }
}

#[test]
fn who_saw_a_split_brain_is_waited_for_also_where_others_see_another_one() {
    let of = |host: &str, claims: Stance| Judgement::SplitBrain {
        authorities: vec![Authority { host: host.into(), claims, of: "c1".into() }],
        sides: vec![],
        evidence: vec![format!("{host} {claims}")],
    };
    let spoke = |who: &[&str]| who.iter().map(|who| ((*who).to_owned(), 0)).collect();
    for (who, verdict) in
        [(&["h2"][..], Verdict::Unknown), (&["h2", "coordinator c1"], Verdict::Held)]
    {
        let mut b = Bench::new();
        b.submit(1, &[1], |e| e.safety.expects_split = true);
        b.wait(1_000);
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
        b.leader.handle_judgement(b.now, &of("c1", Stance::Leads), &BTreeMap::new());
        b.wait(HEAL_MS + 1_000);
        b.leader.handle_judgement(b.now, &of("h2", Stance::Obeys), &BTreeMap::new());
        b.wait(1_000);
        b.leader.handle_judgement(b.now, &Judgement::Agree, &spoke(who));
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
        b.wait(HEAL_MS + 2_000);
        let (found, why) = b.verdict(1);
        assert_eq!(found, verdict, "{who:?}: {why}");
    }
}

#[test]
fn a_split_brain_that_was_asked_for_and_shows_after_the_faults_is_told_too() {
    let mut b = held_long();
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
    b.wait(2_000);
    assert_eq!(b.phase(1), Phase::Recovering);
    b.judge(&split());
    b.wait(1_000);
    assert!(b.record(1).incidents.iter().any(|i| i.kind == IncidentKind::ExpectedSplitBrain));
}

#[test]
fn a_new_leader_calls_no_split_brain_healed_before_it_has_seen_the_whole() {
    let missing = || vec!["h3".into()];
    let cut = Judgement::Partition {
        kind: PartitionKind::Partial,
        sides: vec![],
        edges: vec![],
        missing: missing(),
    };
    for (seen, verdict) in [
        (None, Verdict::Unknown),
        (Some(Judgement::Unknown { missing: missing() }), Verdict::Unknown),
        (Some(cut), Verdict::Unknown),
        (Some(Judgement::Agree), Verdict::Held),
        (Some(split()), Verdict::Broken),
    ] {
        let mut b = held_split(true);
        b.leader = Leader::new(Leadership { term: 2, node: NodeId(2) }, b.now);
        b.rounds.clear();
        b.report_all();
        b.tick();
        if let Some(judgement) = &seen {
            b.judge(judgement);
        }
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
        b.wait(HEAL_MS + 4_000);
        let (found, why) = b.verdict(1);
        assert_eq!(found, verdict, "{seen:?}: {why}");
    }
}

#[test]
fn a_split_brain_is_left_to_nobody_while_a_fault_may_cause_it() {
    // Another experiment's, a person's on a host, one that nobody saw go, and one that something is left of.
    for cause in 0..4 {
        let mut b = held_split(true);
        match cause {
            0 => {
                b.submit(2, &[2], |e| e.safety.expects_split = true);
                b.wait(1_000);
                assert_eq!(b.phase(2), Phase::Injecting);
            }
            1 => b.lists(2, vec![fault(fault_id(9, 2), HostPhase::Held)]),
            _ => {}
        }
        let over = if cause == 3 { HostPhase::Stuck } else { HostPhase::Clean };
        if cause == 2 {
            b.lists(1, vec![]);
            b.wait(LEASE + 2 * NOT_AFTER_MS);
        } else {
            b.lists(1, vec![fault(fault_id(1, 1), over)]);
        }
        b.wait(HEAL_MS - 3_000);
        assert_eq!(b.record(1).verdict, None, "{cause}");
        b.wait(4_000);
        let (verdict, why) = b.verdict(1);
        assert_eq!(verdict, Verdict::Unknown, "{cause}: {why}");
        assert!(why.contains("a fault that is in place may cause it"), "{cause}: {why}");
        assert!(!why.contains(BY_HAND), "{cause}: {why}");
    }
    // From when the last of them is gone it has as long as ever.
    let mut b = recovering_split();
    b.wait(HEAL_MS - 5_000);
    b.lists(2, vec![fault(fault_id(9, 2), HostPhase::Held)]);
    b.wait(1_000);
    b.lists(2, vec![]);
    b.wait(HEAL_MS - 2_000);
    assert_eq!(b.record(1).verdict, None);
    b.wait(4_000);
    assert!(b.verdict(1).1.contains(BY_HAND));
}

#[test]
fn whoever_stops_an_experiment_waits_for_no_heal() {
    for stopped_in in [Phase::Injecting, Phase::Recovering] {
        let mut b = Bench::new();
        b.submit(1, &[1], |e| {
            with_probe(e);
            e.safety.expects_split = true;
        });
        b.wait(1_000);
        samples(&mut b, Stage::Before, 10);
        b.wait(1_000);
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
        b.judge(&split());
        let stop = Command::End { id: experiment_id(1), why: EndReason::Operator("ann".into()) };
        if stopped_in == Phase::Injecting {
            b.commit(stop.clone());
        }
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
        if stopped_in == Phase::Recovering {
            b.wait(2_000);
            assert_eq!(b.phase(1), stopped_in);
            b.commit(stop);
        }
        assert_eq!(b.verdict(1).0, Verdict::Stopped, "{stopped_in:?}");
    }
}

#[test]
fn what_mends_is_noted_and_only_then_acknowledged() {
    for seen in [HostPhase::Clean, HostPhase::Lost, HostPhase::NotHeld] {
        let mut b = Bench::injecting(&[1]);
        b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Stuck)]);
        b.verdict(1);
        assert!(!b.record(1).reserved.is_empty());
        b.sent.clear();
        b.deaf = true;
        b.lists(1, vec![fault(fault_id(1, 1), seen)]);
        b.tick();
        assert!(b.orders_for(1)[0].acknowledged.is_empty(), "{seen:?} is not in the log");
        b.deaf = false;
        b.wait(2 * REPROPOSE_MS);
        assert_eq!(b.orders_for(1).pop().expect("orders").acknowledged, [fault_id(1, 1)]);
        assert!(b.record(1).reserved.is_empty(), "{seen:?}");
    }
}

#[test]
fn the_evidence_of_a_large_fleet_is_cut_to_what_an_entry_holds() {
    let mut b = Bench::injecting(&[1]);
    let Judgement::SplitBrain { authorities, sides, .. } = split() else { unreachable!() };
    let evidence = (0..20_000).map(|n| format!("host-{n} obeys c1")).collect();
    b.judge(&Judgement::SplitBrain { authorities, sides, evidence });
    b.wait(3_000);
    let incidents = &b.record(1).incidents;
    assert_eq!(incidents.len(), 1);
    assert!(incidents[0].what.len() < 2 * MAX_EVIDENCE, "{} bytes", incidents[0].what.len());
}

#[test]
fn an_end_is_acknowledged_only_once_the_log_has_it() {
    let mut b = Bench::injecting(&[1]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.tick();
    b.sent.clear();
    b.deaf = true;
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Lost)]);
    b.tick();
    assert!(b.orders_for(1)[0].acknowledged.is_empty());
}

#[test]
fn what_has_lapsed_in_the_log_is_lifted_not_renewed() {
    let mut b = Bench::new();
    b.submit(2, &[3], |e| e.safety.continue_on_loss = true);
    b.wait(1_500);
    b.lists(3, vec![fault(fault_id(2, 3), HostPhase::Held)]);
    b.wait(1_000);
    assert_eq!(b.phase(2), Phase::Holding);
    let state = FaultState::Lapsed(None);
    b.commit(Command::Observe { fault: fault_id(2, 3), state, in_place_ms: None });
    // It still wants faults: nothing has ended it yet in this round.
    b.sent.clear();
    b.report(3);
    b.deaf = true;
    b.tick();
    let orders = b.orders_for(3);
    assert!(orders.iter().all(|o| o.grant.is_empty()), "{orders:?}");
    assert!(orders.iter().any(|o| o.lift == [fault_id(2, 3)]), "{orders:?}");
}

#[test]
fn it_holds_until_the_last_of_its_faults_is_over() {
    let mut b = Bench::injecting(&[1, 2]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.lists(2, vec![fault(fault_id(1, 2), HostPhase::Held)]);
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Clean)]);
    b.wait(1_000);
    assert_eq!(b.phase(1), Phase::Holding);
}

#[test]
fn without_auto_rollback_a_deviation_ends_nothing() {
    let mut b = Bench::new();
    b.submit(1, &[1], |experiment| {
        with_probe(experiment);
        experiment.safety.auto_rollback = false;
    });
    b.wait(1_000);
    samples(&mut b, Stage::Before, 10);
    b.wait(1_000);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.wait(1_000);
    samples_of(&mut b, Stage::During, 600, 0);
    b.wait(1_000);
    assert_eq!(b.phase(1), Phase::Holding);
    assert_eq!(b.record(1).ending, None);
}

#[test]
fn who_stopped_it_is_told_of_what_is_left() {
    let mut b = Bench::injecting(&[1]);
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Held)]);
    b.tick();
    b.commit(Command::Stop(stop(1)));
    b.lists(1, vec![fault(fault_id(1, 1), HostPhase::Stuck)]);
    let (verdict, reasons) = b.verdict(1);
    assert_eq!(verdict, Verdict::Stopped);
    assert!(reasons.contains("NOT CLEAN: a table"), "{reasons}");
}

#[test]
fn each_host_is_ordered_its_own() {
    let mut b = Bench::new();
    b.submit(1, &[1, 2], |e| e.faults[1].spec = Fault::Cpu(Cpu::new(Some(2), 70)));
    b.wait(1_000);
    b.wait(2_000);
    assert_eq!(b.phase(1), Phase::Injecting);
    let wanted = b.record(1).experiment.faults.clone();
    let mut seen = 0;
    for (host, orders) in b.orders() {
        for apply in orders.apply {
            seen += 1;
            let own = wanted.iter().find(|p| p.host == host).unwrap();
            assert_eq!(apply.fault, own.spec);
        }
    }
    assert!(seen >= 2);
}

#[test]
fn nothing_begins_before_its_target_is_heard_and_armed() {
    for silent in [true, false] {
        let mut b = Bench::new();
        if silent {
            b.reports.remove(&1);
            b.now = b.now.plus(FRESH_MS);
        } else {
            b.reports.get_mut(&1).unwrap().armed = false;
        }
        b.report_all();
        b.submit(1, &[1], |_| {});
        b.wait(2_000);
        assert_eq!(b.phase(1), Phase::Preflight, "silent: {silent}");
    }
}

#[test]
fn what_was_measured_outlives_an_agent_that_forgot_it() {
    let mut b = Bench::injecting(&[1]);
    let held = FaultReport { achieved: achieved(true), ..fault(fault_id(1, 1), HostPhase::Held) };
    b.lists(1, vec![held]);
    b.tick();
    let lost = fault(fault_id(1, 1), HostPhase::Lost);
    b.lists(1, vec![FaultReport { achieved: None, ended: Some(Ended::default()), ..lost }]);
    b.tick();
    let FaultState::Lost(ended) = &b.record(1).faults[&fault_id(1, 1)] else { panic!() };
    assert_eq!(ended.achieved, achieved(true));
}

#[test]
fn too_few_healthy_hosts_begin_nothing() {
    let mut b = Bench::new();
    for h in [4, 5] {
        b.reports.get_mut(&h).unwrap().armed = false;
    }
    b.report_all();
    b.submit(1, &[1], |_| {});
    b.wait(2_000);
    assert_eq!(b.phase(1), Phase::Preflight);
}

#[test]
fn what_coordinators_say_is_joined_to_the_best_that_is_known_and_no_better() {
    use crate::message::{Latched, Receipt, StopHost, StopProgress, StopState};
    let part = |state, latched: Option<Latched>, committed, whole, last| StopProgress {
        stop: stop(1),
        committed,
        whole,
        released: false,
        last,
        hosts: vec![StopHost {
            host: name(1),
            state,
            lapses_in_ms: 5,
            receipt: latched.map(|latched| Receipt {
                stop: stop(1),
                run: AgentRun(uuid::Uuid::from_u128(1)),
                lifted: 0,
                residue: Vec::new(),
                latched,
                took_ms: 1,
            }),
        }],
    };
    use crate::stopping::merge;
    let memory = part(StopState::Lifted, Some(Latched::Memory), false, false, true);
    let durable = part(StopState::Lifted, Some(Latched::Durable), false, false, true);
    let none = part(StopState::Lapsing, None, false, false, false);
    let un = part(StopState::Unreached, None, false, false, true);
    let of = |a: &StopProgress, b: &StopProgress| merge(&[a.clone(), b.clone()]).unwrap();
    for m in [of(&memory, &durable), of(&durable, &memory)] {
        assert_eq!(m.hosts[0].receipt.as_ref().unwrap().latched, Latched::Durable);
        assert!(!m.committed && !m.whole && m.last);
        assert!(!crate::stopping::is_done(&m));
    }
    assert!(of(&none, &memory).hosts[0].receipt.is_some());
    for m in [of(&none, &un), of(&un, &none)] {
        assert_eq!(m.hosts[0].state, StopState::Lapsing);
        assert!(!m.last);
    }
}

#[test]
fn the_longest_lease_is_waited_out() {
    use crate::stopping::Broadcast;
    let mut b = Bench::new();
    b.submit(1, &[1], |e| e.safety.lease_ms = 20_000);
    b.submit(2, &[2], |e| e.safety.lease_ms = 1_000);
    b.commit(Command::Stop(stop(1)));
    let h1 = name(1);
    let began = b.now;
    let mut cast = Broadcast::new(began, stop(1), [(&h1, None)].into_iter(), 30_000);
    let _ = cast.handle_registry(began, &b.registry, |_| None, std::iter::empty());
    assert!(!cast.is_over(began.plus(20_000)));
    assert!(cast.is_over(began.plus(21_000)));
    let mut b = Bench::new();
    b.submit(2, &[2], |e| e.safety.lease_ms = 1_000);
    b.commit(Command::Stop(stop(1)));
    let mut cast = Broadcast::new(began, stop(1), [(&h1, None)].into_iter(), 30_000);
    let _ = cast.handle_registry(began, &b.registry, |_| None, std::iter::empty());
    assert!(!cast.is_over(began.plus(5_000)), "a person's fault has five seconds");
    assert!(cast.is_over(began.plus(6_000)));
}

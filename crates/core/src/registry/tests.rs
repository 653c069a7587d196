//! Small histories of the registry.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::experiment::{Ended, IncidentKind, MAX_TIMELINE, Placement, Safety, Severity};
use crate::fault::{Cpu, Fault};
use crate::hold::Achieved;
use crate::message::Report;
use crate::message::tests::report_of_an_armed_host;
use crate::radius::{FLEET_PPM, MAX_RUNNING, Scope};

/// A registry that numbers its entries.
#[derive(Clone, Default)]
struct Log {
    registry: Registry,
    index: u64,
}

impl Log {
    fn with_hosts(n: usize) -> Log {
        let mut log = Log::default();
        for i in 1..=n {
            log.done(Command::Register(record(&format!("h{i}"))));
        }
        log
    }

    fn say(&mut self, command: Command) -> Outcome {
        self.say_as(CommandId(Uuid::from_u128(u128::from(self.index) + 1_000_000)), command)
    }

    fn say_as(&mut self, id: CommandId, command: Command) -> Outcome {
        self.index += 1;
        let entry = Entry { id, at: WallTime(self.index), by: "operator/ann".into(), command };
        self.registry.apply(LogIndex(self.index), &entry)
    }

    fn done(&mut self, command: Command) {
        let outcome = self.say(command.clone());
        assert_eq!(outcome, Outcome::Done(LogIndex(self.index)), "{command:?}");
    }

    fn refused(&mut self, command: Command) -> Refusal {
        match self.say(command.clone()) {
            Outcome::Refused(why) => why,
            other => panic!("{command:?} was {other:?}"),
        }
    }

    fn experiment(&self, n: u128) -> &ExperimentRecord {
        &self.registry.experiments[&id(n)]
    }
}

fn id(n: u128) -> ExperimentId {
    ExperimentId(Uuid::from_u128(n))
}

fn stop(n: u128) -> StopId {
    StopId(Uuid::from_u128(n))
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn record(name: &str) -> HostRecord {
    HostRecord {
        name: host(name),
        address: "10.0.0.1".parse().unwrap(),
        also: Vec::new(),
        labels: BTreeMap::new(),
        gossip_port: 1,
        relay_port: 2,
        coordinator: false,
        drained: false,
    }
}

fn experiment(targets: &[&str]) -> Experiment {
    let spec = Fault::Cpu(Cpu::new(None, 50));
    let on = |t: &&str| Placement { host: host(t), fault: 0, spec: spec.clone() };
    Experiment {
        name: "test".into(),
        objective: String::new(),
        faults: targets.iter().map(on).collect(),
        duration_ms: 30_000,
        probes: Vec::new(),
        baseline_ms: 0,
        recovery_ms: 0,
        safety: Safety {
            max_radius_ppm: 1_000_000,
            of_group: None,
            auto_rollback: true,
            lease_ms: 5_000,
            continue_on_loss: false,
            expects_split: false,
        },
        touched: BTreeSet::new(),
    }
}

fn submit(n: u128, targets: &[&str]) -> Command {
    Command::Submit { id: id(n), experiment: Box::new(experiment(targets)) }
}

/// What a log says of an experiment on `h1` that is being injected.
pub(crate) fn begun_on_h1(id: ExperimentId) -> Vec<Command> {
    let all = ["h1", "h2", "h3"].map(|name| Command::Register(record(name)));
    let submit = Command::Submit { id, experiment: Box::new(experiment(&["h1"])) };
    let advance = Command::Advance { id, from: Phase::Submitted, to: Phase::Injecting };
    all.into_iter().chain([submit, advance]).collect()
}

fn advance(n: u128, from: Phase, to: Phase) -> Command {
    Command::Advance { id: id(n), from, to }
}

fn end(n: u128) -> Command {
    Command::End { id: id(n), why: EndReason::Operator("ann".into()) }
}

fn settle(n: u128, verdict: Verdict) -> Command {
    Command::Settle { id: id(n), verdict, reasons: Vec::new(), probes: Vec::new() }
}

fn observe(n: u128, name: &str, state: FaultState) -> Command {
    let fault = FaultId { experiment: id(n), fault: 0, host: host(name) };
    Command::Observe { fault, state, in_place_ms: None }
}

fn report(n: u128, what: &str) -> Command {
    let incident = Incident {
        at: WallTime(1),
        severity: Severity::P2,
        kind: IncidentKind::SplitBrain,
        what: what.into(),
    };
    Command::Report { id: id(n), incident }
}

fn held() -> FaultState {
    FaultState::Held(Achieved { bit: true, ..Achieved::default() })
}

fn clean() -> FaultState {
    FaultState::Clean(Ended::default())
}

fn lost() -> FaultState {
    FaultState::Lost(Ended::default())
}

fn stuck() -> FaultState {
    FaultState::Stuck(Ended { residue: vec!["a table".into()], ..Ended::default() })
}

fn not_held() -> FaultState {
    FaultState::NotHeld { reason: "no".into(), refused: false }
}

fn resume(stops: &[u128]) -> Command {
    Command::Resume { stops: stops.iter().map(|n| stop(*n)).collect(), despite: BTreeSet::new() }
}

const PHASES: [Phase; 8] = [
    Phase::Submitted,
    Phase::Preflight,
    Phase::Baseline,
    Phase::Injecting,
    Phase::Holding,
    Phase::Lifting,
    Phase::Recovering,
    Phase::Settled,
];

/// An experiment on h1 of three hosts that has come to `phase`.
fn at_phase(phase: Phase) -> Log {
    let mut log = Log::with_hosts(3);
    log.done(submit(1, &["h1"]));
    for to in PHASES.into_iter().filter(|to| *to > Phase::Submitted && *to <= phase) {
        let from = log.experiment(1).phase;
        log.done(if to == Phase::Settled {
            settle(1, Verdict::Held)
        } else {
            advance(1, from, to)
        });
    }
    assert_eq!(log.experiment(1).phase, phase);
    log
}

#[test]
fn every_command_in_every_phase() {
    for phase in PHASES {
        let running = phase != Phase::Settled;
        let check = |command: Command, legal: bool| {
            let mut log = at_phase(phase);
            let before = log.experiment(1).clone();
            let outcome = log.say(command.clone());
            let expected =
                if legal { Outcome::Done(LogIndex(log.index)) } else { Outcome::Unchanged };
            assert_eq!(outcome, expected, "{command:?} in {phase:?}");
            assert_eq!(*log.experiment(1) != before, legal, "{command:?} in {phase:?}");
        };
        for from in PHASES {
            for to in PHASES {
                let legal = running && from == phase && to > from && to < Phase::Settled;
                check(advance(1, from, to), legal);
            }
        }
        check(end(1), running);
        check(settle(1, Verdict::Broken), running);
        check(report(1, "a thing"), running);
        check(submit(1, &["h2"]), false);
        for state in [held(), clean(), lost(), stuck(), not_held(), FaultState::Lapsed(None)] {
            // Also after the verdict: what a host says late is still true of it.
            check(observe(1, "h1", state), true);
        }
        check(observe(1, "h2", held()), false);
    }
}

#[test]
fn what_names_no_experiment_is_refused() {
    let mut log = Log::with_hosts(3);
    for command in [
        advance(9, Phase::Submitted, Phase::Preflight),
        end(9),
        settle(9, Verdict::Held),
        report(9, "a thing"),
        observe(9, "h1", clean()),
    ] {
        assert_eq!(log.refused(command), Refusal::UnknownExperiment(id(9)));
    }
}

#[test]
fn only_the_first_reason_to_end_stands_and_an_ending_wants_no_faults() {
    let mut log = at_phase(Phase::Holding);
    assert!(log.experiment(1).wants_faults());
    log.done(end(1));
    assert!(!log.experiment(1).wants_faults());
    let second = Command::End { id: id(1), why: EndReason::Deviated("p".into()) };
    assert_eq!(log.say(second), Outcome::Unchanged);
    log.done(Command::Stop(stop(1)));
    assert_eq!(log.experiment(1).ending, Some(EndReason::Operator("ann".into())));
}

#[test]
fn a_repeated_command_takes_effect_once_and_answers_the_same() {
    let mut log = Log::with_hosts(3);
    let (first, second) = (CommandId(Uuid::from_u128(1)), CommandId(Uuid::from_u128(2)));
    let done = log.say_as(first, submit(1, &["h1"]));
    assert_eq!(done, Outcome::Done(LogIndex(4)));
    log.done(advance(1, Phase::Submitted, Phase::Preflight));
    let before = log.experiment(1).clone();
    assert_eq!(log.say_as(first, submit(1, &["h1"])), done);
    assert_eq!(log.say_as(first, submit(2, &["h2"])), done, "the id decides, not the content");
    assert_eq!((log.experiment(1), log.registry.experiments.len()), (&before, 1));
    assert_eq!(log.registry.outcome_of(first), Some(&done));

    // What was refused stays refused under its id, though it would be legal by now.
    let refused = log.say_as(second, submit(3, &["h9"]));
    assert_eq!(refused, Outcome::Refused(Refusal::UnknownHost(host("h9"))));
    log.done(Command::Register(record("h9")));
    assert_eq!(log.say_as(second, submit(3, &["h9"])), refused);
    assert!(!log.registry.experiments.contains_key(&id(3)));
}

#[test]
fn an_index_is_applied_once() {
    let mut log = Log::with_hosts(3);
    let entry = Entry {
        id: CommandId(Uuid::from_u128(1)),
        at: WallTime(1),
        by: "operator/ann".into(),
        command: submit(1, &["h1"]),
    };
    let outcome = log.registry.apply(LogIndex(4), &entry);
    let state = log.registry.clone();
    assert_eq!(log.registry.apply(LogIndex(4), &entry), outcome);
    let late = Entry { id: CommandId(Uuid::from_u128(2)), command: end(1), ..entry };
    assert_eq!(log.registry.apply(LogIndex(3), &late), Outcome::Unchanged);
    assert_eq!(log.registry, state);
    log.registry.skip_to(LogIndex(9));
    assert_eq!(log.registry.applied, LogIndex(9));
}

#[test]
fn outcomes_are_remembered_up_to_a_limit() {
    let mut log = Log::with_hosts(1);
    let first = CommandId(Uuid::from_u128(1));
    log.say_as(first, Command::Drain { host: host("h1"), drained: true });
    for i in 1..MAX_REMEMBERED {
        log.say(Command::Drain { host: host("h1"), drained: i % 2 == 0 });
    }
    assert!(log.registry.outcome_of(first).is_some());
    log.say(Command::Drain { host: host("h1"), drained: false });
    assert_eq!(log.registry.outcome_of(first), None);
}

#[test]
fn the_sum_of_radii_is_refused_with_the_numbers_and_the_holders() {
    let mut log = Log::with_hosts(5);
    log.done(submit(1, &["h1", "h2"]));
    let Refusal::Radius(over) = log.refused(submit(2, &["h3"])) else { panic!() };
    assert_eq!((over.scope, over.targeted, over.of, over.limit_ppm), (Scope::Fleet, 3, 5, 500_000));
    assert_eq!(over.holders, [(id(1), "test".to_owned(), vec![host("h1"), host("h2")])]);
    log.done(submit(3, &["h2"])); // a host that is counted already

    let mut own = experiment(&["h3", "h4"]);
    own.safety.max_radius_ppm = 300_000;
    let mut log = Log::with_hosts(5);
    let command = Command::Submit { id: id(1), experiment: Box::new(own) };
    let Refusal::Radius(over) = log.refused(command.clone()) else { panic!() };
    assert_eq!((over.scope, over.targeted, over.of), (Scope::Experiment, 2, 5));
    for i in 6..=7 {
        log.done(Command::Register(record(&format!("h{i}"))));
    }
    log.done(command);
    // A drained host is no part of the fleet that is shared.
    log.done(Command::Drain { host: host("h7"), drained: true });
    let Refusal::Radius(over) = log.refused(submit(2, &["h1", "h2"])) else { panic!() };
    assert_eq!((over.targeted, over.of), (4, 6));
}

#[test]
fn a_group_counts_within_itself() {
    let mut log = Log::default();
    for i in 1..=10 {
        let mut host = record(&format!("h{i}"));
        if i <= 4 {
            host.labels.insert("group".into(), "etcd".into());
        }
        log.done(Command::Register(host));
    }
    let mut own = experiment(&["h1", "h2"]);
    own.safety.max_radius_ppm = 340_000;
    own.safety.of_group = Some("etcd".into());
    let refusal = log.refused(Command::Submit { id: id(1), experiment: Box::new(own.clone()) });
    assert_eq!(
        refusal.to_string(),
        "blast radius of the group etcd: 2 of 4 hosts = 0.5, more than 0.34: at most 1 host"
    );
    own.safety.max_radius_ppm = 500_000;
    log.done(Command::Submit { id: id(1), experiment: Box::new(own) });
}

#[test]
fn experiments_add_up_within_the_group_that_one_of_them_counts_within() {
    let mut log = Log::default();
    for i in 1..=10 {
        let mut host = record(&format!("h{i}"));
        if i <= 3 {
            host.labels.insert("group".into(), "etcd".into());
        }
        log.done(Command::Register(host));
    }
    let in_group = |name: &str, most: u32| {
        let mut own = experiment(&[name]);
        own.safety.max_radius_ppm = most;
        own.safety.of_group = Some("etcd".into());
        Box::new(own)
    };
    log.done(submit(1, &["h9"]));
    log.done(Command::Submit { id: id(2), experiment: in_group("h1", 340_000) });
    // Of its kind, and one that counts within the fleet, of which it is little.
    for next in [in_group("h2", 340_000), Box::new(experiment(&["h2"]))] {
        let refusal = log.refused(Command::Submit { id: id(3), experiment: next });
        let Refusal::Radius(over) = refusal else { panic!("{refusal}") };
        assert_eq!((over.scope, over.targeted, over.of), (Scope::Group("etcd".into()), 2, 3));
        assert_eq!(over.limit_ppm, FLEET_PPM);
        assert_eq!(over.holders, [(id(2), "test".to_owned(), vec![host("h1")])]);
    }
    // Other hosts are another matter, and so is a file that allows more.
    log.done(submit(4, &["h8"]));
    log.done(Command::Submit { id: id(5), experiment: in_group("h2", 670_000) });
    let refusal = log.refused(Command::Submit { id: id(6), experiment: in_group("h3", 670_000) });
    let Refusal::Radius(over) = refusal else { panic!("{refusal}") };
    assert_eq!((over.targeted, over.of, over.limit_ppm), (3, 3, 670_000));
    log.done(settle(2, Verdict::Refused));
    log.done(Command::Submit { id: id(6), experiment: in_group("h3", 670_000) });
}

#[test]
fn only_so_many_run_at_once() {
    let mut log = Log::with_hosts(20);
    let limit = u32::try_from(MAX_RUNNING).unwrap();
    for n in 1..=u128::from(limit) {
        log.done(submit(n, &[&format!("h{n}")]));
    }
    assert_eq!(log.refused(submit(99, &["h9"])), Refusal::TooMany { running: limit, limit });
    log.done(settle(1, Verdict::Refused));
    log.done(submit(99, &["h9"]));
}

#[test]
fn what_is_not_whole_is_refused() {
    let mut log = Log::with_hosts(3);
    let mut twice = experiment(&["h1", "h1"]);
    type Spoil<'a> = &'a dyn Fn(&mut Experiment);
    let rises = |ramp_ms| Fault::Cpu(Cpu { ramp_ms, ..Cpu::new(None, 50) });
    let cases: [(Spoil<'_>, &str); 7] = [
        (&|e| e.faults.clear(), "no fault"),
        (&|e| e.faults[0].spec = rises(u32::MAX), "ramp: 4294967295ms is longer"),
        (&|e| e.duration_ms = 0, "duration must be"),
        (&|e| e.safety.lease_ms = 999, "lease must be"),
        (&|e| e.safety.lease_ms = 30_001, "lease must be"),
        (&|e| e.faults[0].spec = Fault::Cpu(Cpu::new(None, 0)), "load must be"),
        (&|e| e.faults[0].host = host("h9"), "no host `h9`"),
    ];
    for (spoil, says) in cases {
        let mut experiment = experiment(&["h1"]);
        spoil(&mut experiment);
        let command = Command::Submit { id: id(1), experiment: Box::new(experiment) };
        let why = log.refused(command).to_string();
        assert!(why.contains(says), "{says}: {why}");
    }
    let command = Command::Submit { id: id(1), experiment: Box::new(twice.clone()) };
    assert!(log.refused(command).to_string().contains("stands twice on h1"));
    twice.faults[1].fault = 1;
    log.done(Command::Submit { id: id(1), experiment: Box::new(twice) });
}

#[test]
fn a_drained_host_takes_nothing_and_cannot_undo_it_by_coming_back() {
    let mut log = Log::with_hosts(3);
    let drain = |drained| Command::Drain { host: host("h1"), drained };
    log.done(drain(true));
    assert_eq!(log.say(drain(true)), Outcome::Unchanged);
    assert_eq!(log.refused(submit(1, &["h1"])), Refusal::Drained(host("h1")));
    assert_eq!(log.say(Command::Register(record("h1"))), Outcome::Unchanged);
    let moved = HostRecord { address: "10.0.0.9".parse().unwrap(), ..record("h1") };
    log.done(Command::Register(moved));
    assert!(log.registry.hosts[&host("h1")].drained);
    log.done(drain(false));
    log.done(submit(1, &["h1"]));
    let unknown = Command::Drain { host: host("h9"), drained: true };
    assert_eq!(log.refused(unknown), Refusal::UnknownHost(host("h9")));
}

#[test]
fn a_token_enrols_one_host_once() {
    let mut log = Log::default();
    let (hash, expires) = ([7; 32], WallTime(9));
    let using = |name| Command::UseToken { hash, host: host(name) };
    assert_eq!(log.refused(using("h1")), Refusal::BadToken);
    log.done(Command::CreateToken { hash, host: host("h1"), expires });
    assert_eq!(log.refused(using("h2")), Refusal::BadToken);
    log.done(using("h1"));
    assert_eq!(log.refused(using("h1")), Refusal::BadToken);
}

#[test]
fn tokens_that_nobody_can_use_any_more_take_no_room() {
    let end = MAX_TOKENS as u64 + 1;
    for (expires, room) in [(WallTime(end), true), (WallTime(end + 1), false)] {
        let mut log = Log::default();
        let token = |n: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            Command::CreateToken { hash, host: host("h1"), expires }
        };
        for n in 0..MAX_TOKENS {
            log.done(token(n));
        }
        let outcome = log.say(token(MAX_TOKENS));
        assert_eq!(matches!(outcome, Outcome::Done(_)), room, "{outcome:?}");
    }
}

#[test]
fn a_stop_ends_all_and_nothing_starts_before_a_resume_that_names_it() {
    let mut log = Log::with_hosts(9);
    log.done(submit(1, &["h1"]));
    log.done(submit(2, &["h2"]));
    log.done(settle(2, Verdict::Held));
    log.done(Command::Stop(stop(1)));
    assert_eq!(log.experiment(1).ending, Some(EndReason::StopAll));
    assert_eq!(log.experiment(2).ending, None, "it was over");
    assert_eq!(log.say(Command::Stop(stop(1))), Outcome::Unchanged);
    assert_eq!(log.refused(submit(3, &["h3"])), Refusal::Disarmed(vec![stop(1)]));

    log.done(Command::Stop(stop(2)));
    assert_eq!(log.refused(resume(&[3])), Refusal::UnknownStop(stop(3)));
    assert_eq!(log.refused(resume(&[1, 3])), Refusal::UnknownStop(stop(3)));
    assert_eq!(log.say(resume(&[])), Outcome::Unchanged);
    log.done(resume(&[1]));
    assert_eq!(log.refused(submit(3, &["h3"])), Refusal::Disarmed(vec![stop(2)]));
    assert_eq!(log.say(resume(&[1])), Outcome::Unchanged, "it is cleared already");
    log.done(resume(&[1, 2]));
    let resumed = log.index;
    assert_eq!(
        log.registry.fence.resumes_after(LogIndex(0)).last().unwrap().cleared,
        [stop(2)].into(),
        "only what was outstanding is cleared"
    );
    log.done(submit(3, &["h3"]));
    assert!(log.experiment(3).start > LogIndex(resumed));
    assert!(log.registry.fence.admits(log.experiment(3).start));
    assert!(!log.registry.fence.admits(log.experiment(1).start), "what began before stays refused");
    assert_eq!(log.registry.stops[&stop(1)].by, "operator/ann");
}

#[test]
fn ending_all_again_under_its_id_spares_what_started_since() {
    let mut log = Log::with_hosts(9);
    let clear = || Command::EndAll { why: EndReason::Operator("ann".into()) };
    let number = |n| CommandId(Uuid::from_u128(n));
    assert_eq!(log.say(clear()), Outcome::Unchanged, "nothing runs");
    log.done(submit(1, &["h1"]));
    log.done(submit(2, &["h2"]));
    log.done(settle(2, Verdict::Held));
    let first = log.say_as(number(7_000), clear());
    assert!(matches!(first, Outcome::Done(_)), "{first:?}");
    assert_eq!(log.experiment(1).ending, Some(EndReason::Operator("ann".into())));
    assert_eq!(log.experiment(2).ending, None, "it was over");
    log.done(submit(3, &["h3"]));
    assert_eq!(log.say_as(number(7_000), clear()), first);
    assert_eq!(log.experiment(3).ending, None, "it started behind it");
    log.done(clear());
    assert!(log.experiment(3).ending.is_some());
    assert!(log.registry.fence.armed(), "nothing is latched");
}

#[test]
fn a_verdict_on_its_way_does_not_outlive_a_stop() {
    let mut log = at_phase(Phase::Recovering);
    log.done(end(1));
    assert_eq!(log.say(settle(1, Verdict::Held)), Outcome::Unchanged);
    assert_eq!(log.experiment(1).verdict, None);
    log.done(settle(1, Verdict::Stopped));
    assert_eq!(log.experiment(1).verdict, Some(Verdict::Stopped));
}

#[test]
fn of_however_many_faults_the_steps_have_room_in_the_timeline() {
    let mut log = at_phase(Phase::Injecting);
    for n in 0..2 * MAX_TIMELINE {
        let state = if n % 2 == 0 { FaultState::Lapsed(None) } else { stuck() };
        log.say(observe(1, "h1", state));
        log.registry.experiments.get_mut(&id(1)).unwrap().faults.values_mut().for_each(|state| {
            *state = FaultState::Pending;
        });
    }
    log.done(end(1));
    let timeline = &log.experiment(1).timeline;
    assert!(timeline.len() < MAX_TIMELINE && timeline.len() > MAX_TIMELINE - 110);
    assert!(timeline.last().is_some_and(|entry| entry.what.starts_with("ending")), "{timeline:?}");
}

#[test]
fn a_share_is_given_back_only_when_the_host_is_clean() {
    for (state, released) in [
        (clean(), true),
        (lost(), true),
        (not_held(), true),
        (FaultState::Lapsed(None), true),
        (held(), false),
        (stuck(), false),
    ] {
        let mut log = at_phase(Phase::Injecting);
        log.done(observe(1, "h1", state.clone()));
        assert_eq!(log.experiment(1).reserved.is_empty(), released, "{state:?}");
        assert_eq!(log.registry.may_hold().is_empty(), released, "{state:?}");
        log.done(settle(1, Verdict::Unknown));
        assert_eq!(log.registry.reservations().is_empty(), released, "{state:?}, settled");
        assert_eq!(log.experiment(1).residue().is_empty(), state != stuck());
    }
    let reserved = at_phase(Phase::Baseline);
    assert!(!reserved.experiment(1).reserved.is_empty() && reserved.registry.may_hold().is_empty());
    // Nobody reported: after injection it may be there, before it cannot.
    for (phase, released) in [(Phase::Baseline, true), (Phase::Injecting, false)] {
        let mut log = at_phase(phase);
        log.done(settle(1, Verdict::Stopped));
        assert_eq!(log.experiment(1).reserved.is_empty(), released, "{phase:?}");
    }
}

#[test]
fn a_host_is_forgotten_where_it_is_drained_and_nothing_runs_there() {
    let mut log = at_phase(Phase::Injecting);
    let forget = || Command::Forget(host("h1"));
    let Refusal::NotGone(_, why) = log.refused(forget()) else { panic!() };
    assert_eq!(why, "it is not drained");
    log.done(Command::Drain { host: host("h1"), drained: true });
    let Refusal::NotGone(_, why) = log.refused(forget()) else { panic!() };
    assert_eq!(why, "an experiment that runs may hold something there");
    // What it left behind nobody can see any more.
    log.done(observe(1, "h1", stuck()));
    log.done(settle(1, Verdict::Unknown));
    log.done(forget());
    assert!(!log.registry.hosts.contains_key(&host("h1")));
    assert!(log.registry.reservations().is_empty() && log.registry.may_hold().is_empty());
    assert_eq!(log.refused(forget()), Refusal::UnknownHost(host("h1")));
    assert_eq!(log.refused(submit(2, &["h1"])), Refusal::UnknownHost(host("h1")));
    // It comes back as a new one.
    log.done(Command::Register(record("h1")));
    assert!(!log.registry.hosts[&host("h1")].drained);
}

#[test]
fn a_share_that_is_not_given_back_still_counts() {
    let mut log = at_phase(Phase::Injecting);
    log.done(observe(1, "h1", stuck()));
    log.done(settle(1, Verdict::Unknown));
    let Refusal::Radius(over) = log.refused(submit(2, &["h2"])) else { panic!() };
    assert_eq!((over.targeted, over.of, over.holders.len()), (2, 3, 1));
    log.done(observe(1, "h1", clean()));
    log.done(submit(2, &["h2"]));
    // Lapsed, its share given back; then its host is back, and something is left there.
    let mut log = at_phase(Phase::Injecting);
    log.done(observe(1, "h1", FaultState::Lapsed(None)));
    log.done(observe(1, "h1", stuck()));
    log.done(settle(1, Verdict::Unknown));
    assert!(matches!(log.refused(submit(2, &["h2"])), Refusal::Radius(_)));
}

#[test]
fn each_host_gives_back_its_own_share_once_all_its_faults_are_gone() {
    let mut log = Log::with_hosts(9);
    let mut two = experiment(&["h1", "h2", "h1"]);
    two.faults[2].fault = 1;
    log.done(Command::Submit { id: id(1), experiment: Box::new(two) });
    log.done(advance(1, Phase::Submitted, Phase::Injecting));
    log.done(observe(1, "h1", clean()));
    assert!(log.experiment(1).reserved.contains(&host("h1")), "its other fault may be there");
    log.done(observe(1, "h2", clean()));
    assert_eq!(log.experiment(1).reserved, [host("h1")].into());
    let other = FaultId { experiment: id(1), fault: 1, host: host("h1") };
    log.done(Command::Observe { fault: other, state: lost(), in_place_ms: None });
    assert!(log.experiment(1).reserved.is_empty());
}

#[test]
fn what_is_to_end_is_not_injected_by_an_entry_that_was_on_its_way() {
    let mut log = at_phase(Phase::Preflight);
    log.done(Command::Stop(stop(1)));
    let late = log.say(advance(1, Phase::Preflight, Phase::Injecting));
    assert_eq!((late, log.experiment(1).phase), (Outcome::Unchanged, Phase::Preflight));
    log.done(settle(1, Verdict::Stopped));
    assert!(log.experiment(1).reserved.is_empty());
    let mut log = at_phase(Phase::Injecting);
    log.done(Command::Stop(stop(1)));
    log.done(advance(1, Phase::Injecting, Phase::Lifting));
}

#[test]
fn an_ended_fault_changes_only_for_the_better_known() {
    let states = [clean(), lost(), stuck(), not_held(), FaultState::Lapsed(None)];
    for before in &states {
        for after in states.iter().chain([&held(), &FaultState::Pending]) {
            let mut log = at_phase(Phase::Lifting);
            log.done(observe(1, "h1", before.clone()));
            let outcome = log.say(observe(1, "h1", after.clone()));
            let mends = match before {
                FaultState::Stuck(_) => [clean(), lost(), not_held()].contains(after),
                FaultState::Lapsed(None) => [clean(), lost(), not_held(), stuck()].contains(after),
                _ => false,
            };
            assert_eq!(outcome != Outcome::Unchanged, mends, "{before:?} then {after:?}");
        }
    }
}

#[test]
fn an_incident_is_noted_once() {
    let mut log = at_phase(Phase::Holding);
    log.done(report(1, "a thing"));
    assert_eq!(log.say(report(1, "a thing")), Outcome::Unchanged);
    log.done(report(1, "another"));
    assert_eq!(log.experiment(1).incidents.len(), 2);
}

#[test]
fn a_target_must_be_heard_and_armed_and_know_no_other_log() {
    let mut log = Log::with_hosts(5);
    let one = experiment(&["h1"]);
    let fit = |log: &Log, h1: Option<Report>| {
        let well = report_of_an_armed_host();
        let report = |h: &HostName| if h.as_str() == "h1" { h1.as_ref() } else { Some(&well) };
        log.registry.fit_for(None, &one, report, |_| &[]).err().unwrap_or_default()
    };
    assert_eq!(fit(&log, Some(report_of_an_armed_host())), "");
    assert_eq!(fit(&log, None), "h1 is not connected");
    assert_eq!(
        fit(&log, Some(Report { armed: false, ..report_of_an_armed_host() })),
        "h1 is not armed"
    );
    assert_eq!(
        fit(&log, Some(Report { synced: false, ..report_of_an_armed_host() })),
        "h1 is not armed"
    );
    let ahead = Report { newest_resume: LogIndex(131), ..report_of_an_armed_host() };
    let said = fit(&log, Some(ahead.clone()));
    assert!(said.starts_with("h1 knows a resume, 131, that this cluster's log has not"), "{said}");
    // A resume of this log that it has yet to hear of is none of that.
    log.done(Command::Stop(stop(1)));
    log.done(Command::Resume { stops: [stop(1)].into(), despite: BTreeSet::new() });
    let behind =
        Report { digest: log.registry.fence.digest_at(LogIndex(0)), ..report_of_an_armed_host() };
    let fit = |log: &Log, h5: &Report| {
        let report = |h: &HostName| Some(if h.as_str() == "h5" { h5 } else { &behind });
        log.registry.fit_for(None, &one, report, |_| &[]).err().unwrap_or_default()
    };
    assert_eq!(fit(&log, &behind), "");
    log.done(Command::Drain { host: "h5".parse().unwrap(), drained: true });
    let said = fit(&log, &Report { digest: behind.digest ^ 1, ..behind.clone() });
    assert!(said.starts_with("h5 has heard other stops than this cluster's log"), "{said}");
}

#[test]
fn a_radius_is_a_share_of_the_hosts_that_are_healthy() {
    let mut log = Log::with_hosts(10);
    let mut four = experiment(&["h1", "h2", "h3", "h4"]);
    four.safety.max_radius_ppm = 400_000;
    log.done(Command::Submit { id: id(1), experiment: Box::new(four.clone()) });
    let well = report_of_an_armed_host();
    let fit = |log: &Log, id, experiment: &Experiment, sick: &[&str]| {
        let report = |h: &HostName| Some(&well).filter(|_| !sick.contains(&h.as_str()));
        log.registry.fit_for(id, experiment, report, |_| &[]).err()
    };
    assert_eq!(fit(&log, Some(id(1)), &four, &[]), None, "it does not count beside itself");
    let why = fit(&log, Some(id(1)), &four, &["h10"]).expect("4 of 9 is more than 0.4");
    let said = "counting hosts that are healthy or hurt already: blast radius of the experiment: 4 of 9 hosts = 0.444, more than 0.4: at most 3 hosts";
    assert_eq!(why, said);
    // And all that runs together.
    let one = experiment(&["h5"]);
    assert_eq!(fit(&log, None, &one, &[]), None);
    let why = fit(&log, None, &one, &["h10"]).expect("5 of 9 is more than half");
    assert!(
        why.contains("of the fleet: 5 of 9 hosts = 0.556, more than 0.5: at most 4 hosts; "),
        "{why}"
    );
    // Who is hurt by what runs may be sick of that.
    assert_eq!(fit(&log, None, &one, &["h1", "h2"]), None, "5 of 10");
}

#[test]
fn old_settled_experiments_go_and_those_that_hold_a_share_stay() {
    let mut log = Log::with_hosts(9);
    log.done(submit(1, &["h1"]));
    log.done(advance(1, Phase::Submitted, Phase::Injecting));
    log.done(settle(1, Verdict::Unknown));
    for n in 2..u128::try_from(MAX_SETTLED).unwrap() + 10 {
        log.done(submit(n, &["h2"]));
        log.done(settle(n, Verdict::Refused));
    }
    log.done(submit(999_999, &["h2"]));
    let settled = |log: &Log| log.registry.experiments.values().filter(|e| !e.is_running()).count();
    assert_eq!(settled(&log), MAX_SETTLED + 1);
    assert!(log.registry.experiments.contains_key(&id(1)), "its fault may still be there");
    assert!(!log.registry.experiments.contains_key(&id(2)), "the oldest");
    // Long ones take the room of many.
    for n in 1..=70 {
        let mut long = experiment(&["h3"]);
        long.objective = "o".repeat(1 << 20);
        log.done(settle(999_998 + n, Verdict::Refused));
        log.done(Command::Submit { id: id(999_999 + n), experiment: Box::new(long) });
    }
    assert!(settled(&log) < 70, "{}", settled(&log));
    assert!(settled(&log) > 60, "{}", settled(&log));
}

fn any_state() -> impl Strategy<Value = FaultState> {
    prop::sample::select(vec![
        held(),
        clean(),
        lost(),
        stuck(),
        not_held(),
        FaultState::Lapsed(None),
    ])
}

fn any_command() -> impl Strategy<Value = Command> {
    let name = || (1..8_usize).prop_map(|i| format!("h{i}"));
    let phase = || prop::sample::select(PHASES.to_vec());
    let number = || 1..6_u128;
    let stops = prop::collection::btree_set((1..4_u128).prop_map(stop), 0..3);
    prop_oneof![
        2 => name().prop_map(|n| Command::Register(record(&n))),
        1 => (name(), any::<bool>()).prop_map(|(n, drained)| Command::Drain { host: host(&n), drained }),
        1 => name().prop_map(|n| Command::Forget(host(&n))),
        4 => (number(), prop::collection::btree_set(name(), 1..4)).prop_map(|(n, names)| {
            submit(n, &names.iter().map(String::as_str).collect::<Vec<_>>())
        }),
        6 => (number(), phase(), phase()).prop_map(|(n, from, to)| advance(n, from, to)),
        6 => (number(), name(), any_state()).prop_map(|(n, h, state)| observe(n, &h, state)),
        1 => number().prop_map(end),
        1 => Just(Command::EndAll { why: EndReason::Operator("ann".into()) }),
        1 => (number(), "[ab]").prop_map(|(n, what)| report(n, &what)),
        1 => number().prop_map(|n| settle(n, Verdict::Unknown)),
        1 => (1..4_u128).prop_map(|n| Command::Stop(stop(n))),
        2 => stops.prop_map(|stops| Command::Resume { stops, despite: BTreeSet::new() }),
    ]
}

/// What holds between the states before and after any entry.
fn check_step(before: &Registry, after: &Registry, command: &Command, outcome: &Outcome) {
    let started = matches!((command, outcome), (Command::Submit { .. }, Outcome::Done(_)));
    if started {
        assert!(before.fence.armed(), "a start while stopped");
        let hosts: BTreeSet<_> = after.reservations().into_iter().flat_map(|r| r.2).collect();
        let fleet = after.hosts.values().filter(|h| !h.drained).count();
        assert!(crate::radius::within(hosts.len(), fleet, crate::radius::FLEET_PPM));
        assert!(after.running().count() <= MAX_RUNNING);
    }
    for (id, old) in &before.experiments {
        let new = &after.experiments[id];
        assert!(new.phase >= old.phase, "{old:?} went back");
        let found_stuck = |host: &&HostName| {
            new.faults.iter().any(|(f, s)| f.host == **host && matches!(s, FaultState::Stuck(_)))
        };
        assert!(new.reserved.difference(&old.reserved).all(|h| found_stuck(&h)), "a share grew");
        assert!(old.ending.is_none() || new.ending == old.ending, "the reason changed");
        assert!(old.verdict.is_none() || new.verdict == old.verdict, "the verdict changed");
        for (fault, state) in &old.faults {
            assert!(!state.is_final() || new.faults[fault].is_final(), "{fault} came back");
        }
    }
    for stop in before.fence.stops() {
        assert!(after.fence.knows(stop));
    }
    match (command, outcome) {
        (_, Outcome::Refused(_) | Outcome::Unchanged) => {
            assert_eq!(before.experiments, after.experiments);
            assert_eq!((&before.hosts, &before.fence), (&after.hosts, &after.fence));
        }
        (Command::Resume { stops, .. }, Outcome::Done(_)) => {
            let cleared: BTreeSet<_> = before.fence.outstanding().collect();
            let left: BTreeSet<_> = after.fence.outstanding().collect();
            assert_eq!(left, cleared.difference(stops).copied().collect(), "more was cleared");
        }
        (_, Outcome::Done(_)) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x59a1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_applied_twice_gives_one_state(
        history in prop::collection::vec((any_command(), 1..400_u128), 1..120),
    ) {
        let (mut one, mut two) = (Log::with_hosts(5), Log::with_hosts(5));
        for (command, command_id) in &history {
            let command_id = CommandId(Uuid::from_u128(*command_id));
            let repeated = one.registry.outcome_of(command_id).cloned();
            let before = one.registry.clone();
            let outcome = one.say_as(command_id, command.clone());
            if let Some(known) = repeated {
                prop_assert_eq!(&outcome, &known);
                let after = Registry { applied: before.applied, ..one.registry.clone() };
                prop_assert_eq!(after, before);
            } else {
                check_step(&before, &one.registry, command, &outcome);
            }
            prop_assert_eq!(two.say_as(command_id, command.clone()), outcome);
        }
        prop_assert_eq!(&one.registry, &two.registry);
    }
}

#[test]
fn what_every_host_has_leads_nowhere() {
    for (address, leads) in [
        ("10.0.0.1", true),
        ("fd00::1", true),
        ("2001:db8::1", true),
        ("127.0.0.1", false),
        ("::1", false),
        ("169.254.1.1", false),
        ("fe80::1", false),
    ] {
        assert_eq!(leads_somewhere(address.parse().unwrap()), leads, "{address}");
    }
}

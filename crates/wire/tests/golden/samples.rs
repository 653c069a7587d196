//! One of each message, command and record, with every field filled and every nested choice taken somewhere.
#![allow(clippy::unwrap_used, reason = "texts that stand here")]

use std::collections::{BTreeMap, BTreeSet};

use squall_core::experiment::{
    EndReason, Ended, Experiment, ExperimentRecord, FaultState, Incident, IncidentKind, Phase,
    Placement, ProbeOutcome, Safety, Severity, TimelineEntry, Verdict, Why,
};
use squall_core::fault::{
    Amount, Cpu, Direction, Fault, Kill, Kind, Loss, Memory, Partition, Pause, Ports, Processes,
    Protocol, Traffic,
};
use squall_core::fence::Resume;
use squall_core::hold::{Achieved, Capability, Holding};
use squall_core::host::Record;
use squall_core::ids::{
    AgentRun, ClusterId, CommandId, ExperimentId, FaultId, HostName, Leadership, LogIndex, NodeId,
    StopId,
};
use squall_core::message::*;
use squall_core::probe::{Expect, ProbeKind, ProbeSpec, Stage, Steadiness, Tally, Vantage};
use squall_core::radius::{OverRadius, Scope};
use squall_core::registry::{Command, HostRecord, Outcome, Refusal};
use squall_core::time::{Time, WallTime};
use squall_core::views::{Authority, Judgement, Liveness, PartitionKind, Row, Stance};
use uuid::Uuid;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n << 64 | n)
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn run() -> AgentRun {
    AgentRun(id(1))
}

fn stop(n: u128) -> StopId {
    StopId(id(n))
}

fn experiment_id() -> ExperimentId {
    ExperimentId(id(4))
}

fn command() -> CommandId {
    CommandId(id(5))
}

fn fault_id(fault: u16) -> FaultId {
    FaultId { experiment: experiment_id(), fault, host: host("h1") }
}

fn leadership() -> Leadership {
    Leadership { term: 7, node: NodeId(2) }
}

fn resume() -> Resume {
    Resume { index: LogIndex(8), cleared: BTreeSet::from([stop(2)]) }
}

fn achieved() -> Achieved {
    Achieved {
        bit: true,
        requested: "20 %".into(),
        measured: "20.4 % of 500 probes".into(),
        note: "visible: EPERM".into(),
    }
}

fn ended() -> Ended {
    Ended {
        why: Why::Order,
        achieved: Some(achieved()),
        lift_ms: 16,
        residue: vec!["nft table sq1".into()],
    }
}

fn host_record() -> HostRecord {
    HostRecord {
        name: host("h1"),
        address: [10, 0, 0, 1].into(),
        also: vec![[10, 1, 0, 2].into()],
        labels: BTreeMap::from([("group".into(), "etcd".into())]),
        gossip_port: 7446,
        relay_port: 7447,
        coordinator: true,
        drained: true,
    }
}

fn capability() -> Capability {
    Capability {
        fault: Kind::Partition,
        backend: Some("nft owner table".into()),
        fallbacks: vec!["output hook".into()],
        held: Holding::Held,
        reason: "because".into(),
    }
}

fn tally() -> Tally {
    Tally {
        sent: 10,
        ok: 8,
        failed: 2,
        overrun: 1,
        missed: 3,
        hanging: 2,
        p50_us: 1_000,
        p99_us: 2_000,
        max_us: 3_000,
        last_error: "refused".into(),
        elapsed_ms: 5_000,
    }
}

fn probe_report() -> ProbeReport {
    let stages = vec![(Stage::Before, tally()), (Stage::During, tally()), (Stage::After, tally())];
    ProbeReport { experiment: experiment_id(), name: "health".into(), stages }
}

fn report() -> Report {
    let fault = |phase, fault| FaultReport {
        id: fault_id(fault),
        kind: Some(Kind::Loss),
        phase,
        lease_ms: 4_000,
        remaining_ms: 30_000,
        achieved: Some(achieved()),
        ended: Some(ended()),
        in_place_ms: Some(9_000),
    };
    let phases = [
        HostPhase::Journaling,
        HostPhase::Applying,
        HostPhase::Held,
        HostPhase::Reverting,
        HostPhase::Clean,
        HostPhase::Lost,
        HostPhase::Stuck,
        HostPhase::NotHeld,
    ];
    Report {
        run: run(),
        t: Time(1_000_000),
        digest: u64::MAX - 1,
        newest_resume: LogIndex(3),
        synced: true,
        armed: true,
        faults: phases.into_iter().zip(0..).map(|(p, n)| fault(p, n)).collect(),
        probes: vec![probe_report()],
        row: Some(row()),
    }
}

fn row() -> Row {
    Row {
        cohort: "etcd".into(),
        members: vec![
            (host("h2"), Liveness::Alive),
            (host("h3"), Liveness::Suspect),
            (host("h4"), Liveness::Down),
        ],
        heard: vec![(host("h2"), Some(250)), (host("h3"), None)],
        authority: Some((leadership(), 500)),
    }
}

fn receipt() -> Receipt {
    Receipt {
        stop: stop(2),
        run: run(),
        lifted: 3,
        residue: vec!["a process".into()],
        latched: Latched::Durable,
        took_ms: 16,
    }
}

fn traffic() -> Traffic {
    Traffic {
        peers: vec!["10.0.0.0/24".parse().unwrap(), "fd00::1/128".parse().unwrap()],
        direction: Direction::In,
        ports: vec![Ports { from: 80, to: 90 }],
        protocol: Some(Protocol::Tcp),
    }
}

fn processes() -> Processes {
    Processes {
        name: Some("nginx".into()),
        cmdline: Some("worker".into()),
        pid: Some(4_711),
        port: Some(80),
        cgroup: Some("nginx.service".into()),
        exclude: vec!["master".into()],
    }
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::Partition(Partition {
            traffic: traffic(),
            severed: vec!["10.0.1.1/32".parse().unwrap()],
        }),
        Fault::Loss(Loss { traffic: traffic(), per_million: 200_000 }),
        Fault::Kill(Kill {
            processes: processes(),
            amount: Amount::Percent(50),
            signal: 9,
            interval_ms: Some(100),
        }),
        Fault::Pause(Pause { processes: processes() }),
        Fault::Cpu(Cpu::new(Some(2), 80)),
        Fault::Cpu(Cpu { cores: vec![0, 2], ramp_ms: 9_000, ..Cpu::new(None, 100) }),
        Fault::Memory(Memory {
            ramp_ms: 5_000,
            touch_rate: Some(1 << 20),
            ..Memory::bytes(1 << 30)
        }),
        Fault::Memory(Memory::percent(40)),
    ]
}

fn probe_spec() -> ProbeSpec {
    ProbeSpec {
        name: "health".into(),
        from: Vantage::Host(host("h2")),
        kind: ProbeKind::Http { url: "http://10.0.0.2:80/".into(), status: 200 },
        every_ms: 200,
        timeout_ms: 2_000,
        expect: Expect {
            max_errors_per_million: 10_000,
            max_p99_us: Some(249_999),
            max_p50_us: Some(50_000),
        },
    }
}

fn experiment() -> Experiment {
    let placed = faults().into_iter().zip(0..).map(|(spec, fault)| Placement {
        host: host("h1"),
        fault,
        spec,
    });
    let exec = ProbeKind::Exec { argv: vec!["/bin/true".into()] };
    let tcp = ProbeKind::Tcp { address: "10.0.0.2:80".into() };
    Experiment {
        name: "cut".into(),
        objective: "goes on".into(),
        faults: placed.collect(),
        duration_ms: 30_000,
        probes: vec![
            probe_spec(),
            ProbeSpec { kind: exec, ..probe_spec() },
            ProbeSpec { kind: tcp, from: Vantage::Coordinators, ..probe_spec() },
        ],
        baseline_ms: 5_000,
        recovery_ms: 10_000,
        safety: Safety {
            max_radius_ppm: 340_000,
            of_group: Some("etcd".into()),
            auto_rollback: true,
            lease_ms: 5_000,
            continue_on_loss: true,
            expects_split: true,
        },
        touched: BTreeSet::from([host("h2")]),
    }
}

fn probe_outcome() -> ProbeOutcome {
    let stages = vec![(Stage::During, tally(), Steadiness::Deviated)];
    ProbeOutcome { name: "health".into(), stages }
}

fn incident() -> Incident {
    let at = WallTime(1_790_000_000_001);
    Incident {
        at,
        severity: Severity::P1,
        kind: IncidentKind::SplitBrain,
        what: "split-brain".into(),
    }
}

fn record() -> ExperimentRecord {
    let states = [
        FaultState::Pending,
        FaultState::Held(achieved()),
        FaultState::Clean(ended()),
        FaultState::Lost(ended()),
        FaultState::Stuck(ended()),
        FaultState::NotHeld { reason: "policy".into(), refused: true },
        FaultState::Lapsed(Some(achieved())),
    ];
    let whys = [
        Why::Order,
        Why::Deadline,
        Why::CameLate { in_place_ms: 40_000 },
        Why::Stop,
        Why::NotHeld { reason: "policy".into(), refused: true },
        Why::Lease,
        Why::HolderDied,
        Why::Unconfirmed,
        Why::AgentRestarted,
        Why::Forgotten,
        Why::Lifted,
        Why::Leaving,
        Why::Absent,
        Why::Unsaid,
    ];
    let whys = whys.map(|why| FaultState::Lost(Ended { why, ..ended() }));
    ExperimentRecord {
        id: experiment_id(),
        start: LogIndex(9),
        by: "operator/alice".into(),
        submitted_at: WallTime(1_790_000_000_000),
        experiment: experiment(),
        counted: 5,
        phase: Phase::Settled,
        ending: Some(EndReason::Deviated("health".into())),
        faults: states.into_iter().chain(whys).zip(0..).map(|(s, n)| (fault_id(n), s)).collect(),
        probes: vec![probe_outcome()],
        incidents: vec![
            incident(),
            Incident { kind: IncidentKind::ExpectedSplitBrain, ..incident() },
            Incident { kind: IncidentKind::ManualIntervention, ..incident() },
        ],
        timeline: vec![TimelineEntry { at: WallTime(1_790_000_000_002), what: "held".into() }],
        verdict: Some(Verdict::Broken),
        reasons: vec!["it deviated".into()],
        reserved: BTreeSet::from([host("h1")]),
        in_place: Some((WallTime(1_790_000_000_000), WallTime(1_790_000_000_001))),
    }
}

fn coordinator_status() -> CoordinatorStatus {
    CoordinatorStatus {
        id: NodeId(2),
        address: "10.0.0.2:7443".parse().unwrap(),
        role: RaftRole::Leader,
        term: 7,
        leader: Some(NodeId(2)),
        applied: LogIndex(11),
        quorum_age_ms: Some(30),
        refused: BTreeMap::from([("expired".into(), 2)]),
    }
}

fn progress() -> StopProgress {
    let one = |name: &str, state, receipt| StopHost {
        host: host(name),
        state,
        receipt,
        lapses_in_ms: 4_000,
    };
    StopProgress {
        stop: stop(2),
        committed: true,
        whole: true,
        released: false,
        hosts: vec![
            one("h1", StopState::Lifted, Some(receipt())),
            one("h2", StopState::Lapsing, None),
            one("h3", StopState::Lapsed, None),
            one("h4", StopState::Unreached, None),
        ],
        last: true,
    }
}

fn judgement() -> Judgement {
    Judgement::Partition {
        kind: PartitionKind::Partial,
        sides: vec![vec![host("h1")], vec![host("h2")]],
        edges: vec![(host("h1"), host("h2"))],
        missing: vec!["h3".into()],
    }
}

pub fn from_agent() -> Vec<FromAgent> {
    let hello = Hello {
        run: run(),
        host: host_record(),
        version: "0.1.0".into(),
        capabilities: vec![capability()],
        policy: Some("{}".into()),
    };
    vec![
        FromAgent::Hello(hello),
        FromAgent::Report(report()),
        FromAgent::Stops(vec![stop(2), stop(3)]),
        FromAgent::Receipt(receipt()),
        FromAgent::Addresses(vec![[10, 1, 0, 3].into()]),
    ]
}

pub fn to_agent() -> Vec<ToAgent> {
    let apply = |(fault, n): (Fault, u16)| Apply {
        id: fault_id(n),
        start: LogIndex(9),
        fault,
        not_after_ms: 3_000,
        lease_ms: 5_000,
        duration_ms: 30_000,
    };
    vec![
        ToAgent::Stop { stop: stop(2), record: vec![1, 2, 3] },
        ToAgent::Stops(vec![stop(2)]),
        ToAgent::Sync(Sync {
            run: run(),
            echo: Time(1_000_000),
            leadership: leadership(),
            stops: vec![stop(2)],
            resumes: vec![resume()],
        }),
        ToAgent::Orders(Orders {
            run: run(),
            echo: Time(1_000_000),
            leadership: leadership(),
            newest_resume: LogIndex(8),
            grant: vec![fault_id(0)],
            apply: faults().into_iter().zip(0..).map(apply).collect(),
            lift: vec![fault_id(1)],
            acknowledged: vec![fault_id(2)],
            probes: vec![ProbeOrder {
                experiment: experiment_id(),
                probe: probe_spec(),
                stage: Stage::After,
            }],
            beat_fast: true,
        }),
        ToAgent::Peers(vec![PeerHost {
            name: host("h2"),
            address: [10, 0, 0, 2].into(),
            gossip_port: 7446,
            relay_port: 7447,
            cohort: "etcd".into(),
        }]),
    ]
}

pub fn from_coordinator() -> Vec<FromCoordinator> {
    vec![
        FromCoordinator::Raft(vec![1, 2, 3]),
        FromCoordinator::Stops(vec![stop(2)]),
        FromCoordinator::View,
    ]
}

pub fn to_coordinator() -> Vec<ToCoordinator> {
    vec![
        ToCoordinator::Raft(vec![1, 2, 3]),
        ToCoordinator::Taken,
        ToCoordinator::View(coordinator_status()),
        ToCoordinator::Failed("why".into()),
    ]
}

pub fn requests() -> Vec<Request> {
    let command = command();
    vec![
        Request::Status,
        Request::Views,
        Request::Plan("{}".into()),
        Request::Submit { command, id: experiment_id(), file: "{}".into() },
        Request::Show(experiment_id()),
        Request::List,
        Request::StopExperiment { command, id: experiment_id() },
        Request::ClearFaults { command },
        Request::StopAll(stop(2)),
        Request::Resume {
            command,
            stops: BTreeSet::from([stop(2)]),
            despite: BTreeSet::from([host("h3")]),
        },
        Request::Drain { command, host: host("h1"), drained: true },
        Request::Forget { command, host: host("h1") },
        Request::CreateToken { command, host: host("h1"), hash: [7; 32], ttl_ms: 3_600_000 },
    ]
}

pub fn responses() -> Vec<Response> {
    let split = Judgement::SplitBrain {
        authorities: vec![Authority {
            host: "c1".into(),
            claims: Stance::Leads,
            of: "c1 in term 7".into(),
        }],
        sides: vec![vec![host("h1")]],
        evidence: vec!["two leaders".into()],
    };
    let unknown = Judgement::Unknown { missing: vec!["h2".into()] };
    let over = OverRadius {
        scope: Scope::Fleet,
        targeted: 3,
        of: 5,
        limit_ppm: 500_000,
        holders: vec![(experiment_id(), "cut".into(), vec![host("h1")])],
    };
    let status = Status {
        cluster: "storm".into(),
        node: NodeId(1),
        leader: Some(NodeId(2)),
        term: 7,
        confirmed: true,
        applied: LogIndex(11),
        outstanding: vec![stop(2)],
        coordinators: vec![coordinator_status()],
        hosts: vec![HostStatus {
            host: host_record(),
            connected: true,
            age_ms: Some(500),
            report: Some(report()),
            capabilities: Some(0),
            may_hold: true,
        }],
        capabilities: vec![vec![capability()]],
        experiments: vec![record()],
        left_out: 2,
    };
    vec![
        Response::Status(Box::new(status)),
        Response::Views(Box::new(ViewsAnswer {
            confirmed: true,
            applied: LogIndex(11),
            judgement: judgement(),
            cohorts: BTreeMap::from([
                ("a".into(), Judgement::Agree),
                ("b".into(), split),
                ("c".into(), unknown),
            ]),
            gossip: vec![(host("h1"), host("h2"), Liveness::Down)],
        })),
        Response::Plan(Box::new(Plan {
            experiment: experiment(),
            fleet: 5,
            refusal: Some(Refusal::Radius(over)),
            risks: vec!["control is severed".into()],
        })),
        Response::Outcome(Outcome::Done(LogIndex(11))),
        Response::Experiment(Box::new(Shown {
            confirmed: true,
            applied: LogIndex(11),
            record: record(),
            probes: vec![probe_report()],
        })),
        Response::Experiments {
            list: vec![record()],
            left_out: 12,
            confirmed: true,
            applied: LogIndex(11),
        },
        Response::Stop(progress()),
        Response::NotLeader(Some((NodeId(2), "10.0.0.2:7443".parse().unwrap()))),
        Response::NoQuorum("1 of 3".into()),
        Response::Refused(Refusal::UnknownStop(stop(3))),
        Response::TooLarge,
    ]
}

pub fn commands() -> Vec<Command> {
    let (id, hash) = (experiment_id(), [7; 32]);
    vec![
        Command::Register(host_record()),
        Command::Drain { host: host("h1"), drained: true },
        Command::CreateToken { hash, host: host("h1"), expires: WallTime(1_790_000_000_000) },
        Command::UseToken { hash, host: host("h1") },
        Command::Submit { id, experiment: Box::new(experiment()) },
        Command::Advance { id, from: Phase::Baseline, to: Phase::Injecting },
        Command::End { id, why: EndReason::Operator("operator/alice".into()) },
        Command::Observe {
            fault: fault_id(0),
            state: FaultState::Held(achieved()),
            in_place_ms: Some(50),
        },
        Command::Report { id, incident: incident() },
        Command::Settle {
            id,
            verdict: Verdict::Held,
            reasons: vec!["it held".into()],
            probes: vec![probe_outcome()],
        },
        Command::Stop(stop(2)),
        Command::Resume { stops: BTreeSet::from([stop(2)]), despite: BTreeSet::from([host("h3")]) },
        Command::Barrier,
        Command::EndAll { why: EndReason::Operator("operator/alice".into()) },
        Command::Forget(host("h1")),
    ]
}

pub fn records() -> Vec<Record> {
    vec![
        Record::Stop(stop(2)),
        Record::Resume(resume()),
        Record::Intent(fault_id(0), LogIndex(9)),
        Record::Ended(fault_id(0), LogIndex(9)),
        Record::Acknowledged(fault_id(0)),
        Record::Floor(LogIndex(9)),
        Record::Cluster(ClusterId([8; 32])),
    ]
}

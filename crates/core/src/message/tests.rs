//! What of the messages is more than their shape.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::ids::NodeId;

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn fault(experiment: ExperimentId, phase: HostPhase) -> FaultReport {
    FaultReport {
        id: FaultId { experiment, fault: 0, host: host("h1") },
        kind: None,
        phase,
        lease_ms: 1,
        remaining_ms: 1,
        achieved: None,
        ended: None,
        in_place_ms: None,
    }
}

/// What a host says on which something may start: one that holds nothing, knows of no stop and no resume.
pub(crate) fn report_of_an_armed_host() -> Report {
    Report {
        run: AgentRun(Uuid::from_u128(1)),
        t: Time(1),
        digest: crate::fence::Fence::default().digest(),
        newest_resume: LogIndex(0),
        synced: true,
        armed: true,
        faults: Vec::new(),
        probes: Vec::new(),
        row: None,
    }
}

/// As a confirmed answer has it: one host that reports these faults and has no experiment in the log.
fn status(faults: Vec<FaultReport>) -> Status {
    let report = Report { faults, ..report_of_an_armed_host() };
    let record = HostRecord {
        name: host("h1"),
        address: [10, 0, 0, 1].into(),
        also: Vec::new(),
        labels: BTreeMap::new(),
        gossip_port: 1,
        relay_port: 1,
        coordinator: false,
        drained: true,
    };
    Status {
        cluster: "test".into(),
        node: NodeId(1),
        leader: Some(NodeId(1)),
        term: 1,
        confirmed: true,
        applied: LogIndex(1),
        outstanding: Vec::new(),
        coordinators: Vec::new(),
        hosts: vec![HostStatus {
            host: record,
            connected: true,
            age_ms: Some(1),
            report: Some(report),
            capabilities: None,
            may_hold: false,
        }],
        capabilities: Vec::new(),
        experiments: Vec::new(),
        left_out: 0,
    }
}

#[test]
fn what_the_log_ordered_and_no_report_speaks_of_may_be_there() {
    use crate::experiment::Phase;
    let mut registry = crate::registry::Registry::default();
    for command in crate::registry::tests::begun_on_h1(ExperimentId(Uuid::from_u128(7))) {
        let index = LogIndex(registry.applied.0 + 1);
        let id = crate::ids::CommandId(Uuid::from_u128(index.0.into()));
        let entry =
            crate::registry::Entry { id, at: crate::time::WallTime(0), by: "test".into(), command };
        registry.apply(index, &entry);
    }
    let record = registry.experiments.values().next().expect("it was submitted").clone();
    assert_eq!(record.phase, Phase::Injecting);
    let untold = |faults: Vec<FaultReport>| {
        let status = Status { experiments: vec![record.clone()], ..status(faults) };
        status.untold().map(|(_, id)| id.clone()).collect::<Vec<_>>()
    };
    let said = |phase| vec![fault(record.id, phase)];
    assert_eq!(untold(Vec::new()), [fault(record.id, HostPhase::Held).id]);
    assert_eq!(untold(said(HostPhase::Held)), []);
    assert_eq!(untold(said(HostPhase::Clean)), [], "its word is newer than the log's");
}

#[test]
fn only_who_spoke_lately_is_heard() {
    let mut host = status(Vec::new()).hosts.remove(0);
    assert!(host.is_heard());
    host.age_ms = Some(crate::leader::FRESH_MS);
    assert!(!host.is_heard());
    (host.age_ms, host.report) = (Some(1), None);
    assert!(!host.is_heard());
}

#[test]
fn a_drained_host_is_whole_by_its_own_word_and_by_the_log_of_a_quorum() {
    let ordered = ExperimentId(Uuid::from_u128(7));
    let whole = |status: &Status| status.is_whole(&host("h1"));
    assert_eq!(whole(&status(Vec::new())), Some(true));
    assert_eq!(whole(&status(vec![fault(ordered, HostPhase::Clean)])), Some(true));
    let by_hand = fault(ExperimentId::local(8), HostPhase::Held);
    assert_eq!(whole(&status(vec![by_hand])), Some(true), "a person's fault is not a drain's");
    for phase in [HostPhase::Held, HostPhase::Reverting, HostPhase::Stuck] {
        assert_eq!(whole(&status(vec![fault(ordered, phase)])), None, "{phase:?}");
    }
    assert_eq!(whole(&Status { confirmed: false, ..status(Vec::new()) }), None);
    // However many experiments have room in the answer.
    let mut ordered_by_the_log = status(Vec::new());
    ordered_by_the_log.hosts[0].may_hold = true;
    assert_eq!(whole(&ordered_by_the_log), None);
    let mut silent = status(Vec::new());
    silent.hosts[0].report = None;
    assert_eq!(whole(&silent), Some(false), "nothing by the log, and nobody hears it");
    assert_eq!(status(Vec::new()).is_whole(&host("h2")), None, "not registered");
}

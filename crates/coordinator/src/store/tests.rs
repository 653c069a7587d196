use std::sync::Arc;

use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader, StorageError};
use squall_core::experiment::{Ended, Experiment, Placement, Safety, Why};
use squall_core::fault::{Cpu, Direction, Fault, Partition, Traffic};
use squall_core::fence::MAX_STOPS;
use squall_core::hold::Achieved;
use squall_core::ids::{AgentRun, CommandId, ExperimentId, FaultId, Leadership, LogIndex, StopId};
use squall_core::leader::{Action, Leader};
use squall_core::message::{FaultReport, FromAgent, Hello, HostPhase, Report, Sync, ToAgent};
use squall_core::radius::Scope;
use squall_core::registry::{self, HostRecord, Outcome, Refusal, Registry};
use squall_core::time::{Time, WallTime};
use squall_wire::transport::MAX_AGENT_FRAME;
use tempfile::TempDir;

use super::types::{LogEntry, LogId, Proposal, SnapshotMeta, TypeConfig, Vote};
use super::{FILE, LogStore, StateMachine, Store, StoreError, snapshot};
use crate::tests::fleet::record;

struct Fresh;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Fresh {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(dir.path()).expect("an empty store opens");
        Ok((dir, store.log, store.machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite_passes() {
    Suite::test_all(Fresh).await.expect("the suite");
}

fn entry(index: u64, command: squall_core::registry::Command) -> LogEntry {
    LogEntry {
        log_id: LogId { leader_id: 1.into(), index },
        payload: EntryPayload::Normal(Proposal(registry::Entry {
            id: CommandId(uuid::Uuid::from_u128(u128::from(index))),
            at: WallTime(0),
            by: "operator/test".into(),
            command,
        })),
    }
}

fn stop(index: u64) -> LogEntry {
    entry(index, registry::Command::Stop(StopId(uuid::Uuid::from_u128(1000 + u128::from(index)))))
}

pub(crate) async fn append(log: &mut LogStore, entries: Vec<LogEntry>) -> std::io::Result<()> {
    let (sender, receiver) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await?;
    receiver.await.expect("the callback is always called")
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (mut log, mut machine) = (store.log, store.machine);
    let vote = Vote::new(3, 2);
    log.save_vote(&vote).await.unwrap();
    append(&mut log, (1..=5).map(stop).collect()).await.unwrap();
    let committed = Some(stop(4).log_id);
    log.save_committed(committed).await.unwrap();
    machine
        .install_snapshot(&SnapshotMeta::default(), Arc::new(snapshot_of_two_hosts()))
        .await
        .unwrap();
    log.truncate_after(Some(stop(4).log_id)).await.unwrap();
    log.purge(stop(1).log_id).await.unwrap();
    drop((log, machine, store.applied, store.mark));
    store.closed.wait().await;

    let store = Store::open(dir.path()).unwrap();
    let (mut log, mut machine) = (store.log, store.machine);
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.read_committed().await.unwrap(), committed);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(stop(1).log_id));
    assert_eq!(state.last_log_id, Some(stop(4).log_id));
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), (2..=4).map(stop).collect::<Vec<_>>());
    let snapshot = machine.get_current_snapshot().await.unwrap().expect("the snapshot was kept");
    assert_eq!(*snapshot.snapshot, snapshot_of_two_hosts());
}

fn snapshot_of_two_hosts() -> Vec<u8> {
    let mut registry = Registry::default();
    for (index, name) in [(1, "h1"), (2, "h2")] {
        let EntryPayload::Normal(p) =
            entry(index, registry::Command::Register(record(name))).payload
        else {
            unreachable!()
        };
        registry.apply(LogIndex(index), &p.0);
    }
    snapshot::encode(registry).unwrap()
}

/// A script that goes on asking while half of a large group is taken.
#[test]
fn refusals_that_are_remembered_leave_room_for_a_snapshot() {
    let group = "g".repeat(1_900);
    let mut hosts: Vec<_> = (0..1_000).map(|n| record(&format!("host-{n:04}"))).collect();
    for host in &mut hosts {
        host.labels = [("group".to_owned(), group.clone())].into();
    }
    let on = |targets: &[HostRecord]| {
        let mut experiment = experiment(targets);
        experiment.safety.of_group = Some(group.clone());
        experiment.safety.max_radius_ppm = 500_000;
        registry::Command::Submit {
            id: ExperimentId(uuid::Uuid::from_u128(targets.len() as u128)),
            experiment: Box::new(experiment),
        }
    };
    let mut registry = Registry::default();
    let mut index = 0;
    let mut say = |registry: &mut Registry, command| {
        index += 1;
        let EntryPayload::Normal(p) = entry(index, command).payload else { unreachable!() };
        registry.apply(LogIndex(index), &p.0)
    };
    for n in 0..1_000 {
        say(&mut registry, registry::Command::Register(record(&format!("other-{n:04}"))));
    }
    for host in &hosts {
        say(&mut registry, registry::Command::Register(host.clone()));
    }
    assert!(matches!(say(&mut registry, on(&hosts[..500])), Outcome::Done(_)));
    for _ in 0..registry::MAX_REMEMBERED {
        let Outcome::Refused(Refusal::Radius(over)) = say(&mut registry, on(&hosts[500..501]))
        else {
            panic!("more than half of the group");
        };
        assert_eq!(over.holders[0].2.len(), 500, "the answer names who holds the rest");
        assert_eq!(over.scope, Scope::Group(group.clone()), "and of what");
    }
    let bytes = snapshot::encode(registry.clone()).expect("it fits");
    assert_eq!(snapshot::decode(&bytes).unwrap(), registry);
}

fn experiment(targets: &[HostRecord]) -> Experiment {
    let spec = Fault::Cpu(Cpu::new(None, 50));
    let placement =
        |h: &HostRecord| Placement { host: h.name.clone(), fault: 0, spec: spec.clone() };
    Experiment {
        name: "test".into(),
        objective: String::new(),
        faults: targets.iter().map(placement).collect(),
        duration_ms: 1_000,
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
        touched: Default::default(),
    }
}

#[test]
fn a_snapshot_larger_than_one_frame_comes_back_whole() {
    let mut registry = Registry::default();
    for n in 0..20_000 {
        let mut record = record(&format!("host-{n}"));
        record.labels.insert("group".into(), "g".repeat(200));
        registry.hosts.insert(record.name.clone(), record);
    }
    let bytes = snapshot::encode(registry.clone()).unwrap();
    assert!(bytes.len() > squall_wire::codec::MAX_FRAME);
    assert_eq!(snapshot::decode(&bytes).unwrap(), registry);
    assert!(snapshot::decode(&bytes[..bytes.len() - 1]).is_err());
}

#[tokio::test]
async fn one_message_reads_no_more_than_its_budget_and_at_least_one_entry() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Store::open(dir.path()).unwrap().log;
    let big = |index| {
        let mut record = record("h1");
        record.labels.insert("x".into(), "x".repeat(100 << 10));
        entry(index, registry::Command::Register(record))
    };
    append(&mut log, (1..=10).map(big).collect()).await.unwrap();
    assert_eq!(log.limited_get_log_entries(1, 11).await.unwrap().len(), 2);
    assert_eq!(log.limited_get_log_entries(10, 11).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_second_coordinator_on_the_same_directory_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).err().expect("refused");
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
}

#[tokio::test]
async fn nobody_else_can_open_the_file_and_lock_it() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("state");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    drop(Store::open(&dir).unwrap());
    assert_eq!((mode(&dir) & 0o777, mode(&dir.join(FILE)) & 0o777), (0o700, 0o600));
}

#[test]
fn a_file_that_is_no_store_is_called_damaged_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    std::fs::write(&path, vec![7; 8192]).unwrap();
    let error = Store::open(dir.path()).err().expect("refused");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![7; 8192]);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = Store::open(&file.join("state")).err().expect("refused");
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
}

#[tokio::test]
async fn one_that_begins_with_an_empty_disk_is_marked_until_it_has_joined() {
    let dir = tempfile::tempdir().unwrap();
    for (marked, joins) in [(true, false), (true, true), (false, false)] {
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.mark.is_set(), marked);
        let mut log = store.log;
        append(&mut log, vec![stop(1)]).await.unwrap();
        if joins {
            store.mark.clear().await.unwrap();
        }
        drop((log, store.machine, store.applied, store.mark));
        store.closed.wait().await;
    }
}

/// Hosts that say as much as they can.
const LOUD: usize = 512;

/// What an agent may say in one frame, with text as long as fits.
fn loudest(host: &str, fault: FaultId) -> FromAgent {
    let text = |kib: usize| "ä".repeat(kib << 9);
    let report = Report {
        run: AgentRun(uuid::Uuid::nil()),
        t: Time(1),
        digest: 0,
        newest_resume: LogIndex(0),
        synced: true,
        armed: true,
        faults: vec![FaultReport {
            id: FaultId { host: host.parse().unwrap(), ..fault },
            kind: None,
            phase: HostPhase::Stuck,
            lease_ms: 0,
            remaining_ms: 0,
            in_place_ms: None,
            achieved: None,
            ended: Some(Ended {
                why: Why::NotHeld { reason: text(40), refused: false },
                achieved: Some(Achieved {
                    bit: true,
                    requested: text(40),
                    measured: text(40),
                    note: text(40),
                }),
                lift_ms: u64::MAX,
                residue: (0..80).map(|_| text(10)).collect(),
            }),
        }],
        probes: Vec::new(),
        row: None,
    };
    FromAgent::Report(report)
}

/// Every host of a large experiment says as much as it can.
#[test]
fn what_agents_say_at_their_loudest_leaves_room_for_a_snapshot() {
    let fleet: Vec<_> = (0..2 * LOUD).map(|n| record(&format!("{n:063}"))).collect();
    let mut registry = Registry::default();
    let id = ExperimentId(uuid::Uuid::from_u128(1));
    let mut index = 0;
    let mut say = |registry: &mut Registry, command| {
        index += 1;
        let EntryPayload::Normal(p) = entry(index, command).payload else { unreachable!() };
        assert!(super::encode(&p).unwrap().len() <= crate::raft::MAX_ENTRY_BYTES);
        registry.apply(LogIndex(index), &p.0)
    };
    for host in &fleet {
        say(&mut registry, registry::Command::Register(host.clone()));
    }
    let hosts = &fleet[..LOUD];
    let mut experiment = experiment(hosts);
    experiment.objective = "o".repeat(crate::raft::MAX_ENTRY_BYTES - (512 << 10));
    let submit = registry::Command::Submit { id, experiment: Box::new(experiment) };
    assert!(matches!(say(&mut registry, submit), Outcome::Done(_)));

    let mut leader = Leader::new(Leadership::default(), Time(1));
    for host in hosts {
        let fault = FaultId { experiment: id, fault: 0, host: host.name.clone() };
        let mut words = loudest(host.name.as_str(), fault);
        let len = super::encode(&words).unwrap().len();
        assert!(len > MAX_AGENT_FRAME * 9 / 10 && len <= MAX_AGENT_FRAME, "{len}");
        words.clip();
        assert!(super::encode(&words).unwrap().len() < 20 << 10);
        let FromAgent::Report(report) = words else { unreachable!() };
        leader.handle_report(Time(1), &host.name, report);
    }
    leader.handle_timeout(Time(1));
    let round = |a| if let Action::Round { token } = a { Some(token) } else { None };
    let token = leader.poll_action().and_then(round).expect("a round");
    leader.handle_round(Time(1), WallTime(0), token, true, &registry);
    let mut seen = 0;
    while let Some(action) = leader.poll_action() {
        let Action::Propose(command @ registry::Command::Observe { .. }) = action else { continue };
        assert!(matches!(say(&mut registry, command), Outcome::Done(_)));
        seen += 1;
    }
    assert_eq!(seen, LOUD);
    let bytes = snapshot::encode(registry.clone()).expect("it fits");
    assert_eq!(snapshot::decode(&bytes).unwrap(), registry);
}

#[test]
fn labels_leave_room_for_a_section_of_hosts() {
    let mut registry = Registry::default();
    for n in 0..1_000 {
        let mut record = record(&format!("host-{n}"));
        record.labels = (0..100).map(|k| (format!("label-{k}"), "ä".repeat(1 << 10))).collect();
        record
            .labels
            .extend([("group".to_owned(), "etcd".to_owned()), ("zone".into(), "a".into())]);
        let run = AgentRun(uuid::Uuid::nil());
        let mut hello = Hello {
            run,
            host: record,
            version: String::new(),
            capabilities: Vec::new(),
            policy: None,
        };
        hello.clip();
        assert_eq!(hello.host.cohort(), "etcd");
        assert_eq!(hello.host.labels["zone"], "a");
        registry.hosts.insert(hello.host.name.clone(), hello.host);
    }
    assert!(snapshot::encode(registry).is_ok());
}

#[test]
fn half_of_a_thousand_hosts_can_be_cut_from_the_other_half() {
    let other: Vec<std::net::IpAddr> = (0..500_u32)
        .flat_map(|n| -> [std::net::IpAddr; 2] {
            let six = std::net::Ipv6Addr::from(u128::from(n) << 64);
            [std::net::Ipv4Addr::from(n).into(), six.into()]
        })
        .collect();
    let all: Vec<HostRecord> = (0..500).map(|n| record(&format!("host-{n}.example"))).collect();
    let mut experiment = experiment(&all);
    for placement in &mut experiment.faults {
        placement.spec = Fault::Partition(Partition {
            traffic: Traffic {
                peers: other.iter().map(|address| (*address).into()).collect(),
                direction: Direction::Both,
                ports: Vec::new(),
                protocol: None,
            },
            severed: Vec::new(),
        });
    }
    let id = ExperimentId(uuid::Uuid::nil());
    let command = registry::Command::Submit { id, experiment: Box::new(experiment.clone()) };
    let entry = registry::Entry {
        id: CommandId(uuid::Uuid::nil()),
        at: WallTime(0),
        by: "operator/test".into(),
        command,
    };
    crate::raft::check_size(&entry).expect("it fits one entry");
    let bytes = super::encode(&experiment).unwrap();
    assert_eq!(super::decode::<Experiment>(&bytes).unwrap(), experiment);
}

#[test]
fn as_many_stops_as_there_may_be_fit_a_snapshot_and_a_message_to_a_host_that_knows_none() {
    let mut registry = Registry::default();
    let by = format!("operator/{}", "o".repeat(64));
    let mut index = 0;
    let mut say = |registry: &mut Registry, command| {
        index += 1;
        let id = CommandId(uuid::Uuid::from_u128(index.into()));
        let entry = registry::Entry { id, at: WallTime(index), by: by.clone(), command };
        assert!(matches!(registry.apply(LogIndex(index), &entry), Outcome::Done(_)));
    };
    for n in 0..MAX_STOPS {
        let stop = StopId(uuid::Uuid::from_u128(u128::MAX - n as u128));
        say(&mut registry, registry::Command::Stop(stop));
        if n % 2 == 0 {
            let resume = registry::Command::Resume { stops: [stop].into(), despite: [].into() };
            say(&mut registry, resume);
        }
    }
    let bytes = snapshot::encode(registry.clone()).expect("it fits");
    assert!(snapshot::decode(&bytes).unwrap() == registry);
    let fence = &registry.fence;
    let sync = Sync {
        run: AgentRun(uuid::Uuid::nil()),
        echo: Time(u64::MAX),
        leadership: Leadership::default(),
        stops: fence.outstanding().collect(),
        resumes: fence.resumes_after(LogIndex(0)).collect(),
    };
    super::encode(&ToAgent::Sync(sync)).expect("it fits");
}

//! What operators read. With a quorum behind it where one answers; else as far as this coordinator
//! knows, and marked so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use squall_core::experiment::{Experiment, ExperimentRecord, Placement};
use squall_core::fault::{Kind, Traffic};
use squall_core::hold::Capability;
use squall_core::ids::{ExperimentId, HostName, NodeId};
use squall_core::leader::FRESH_MS;
use squall_core::message::{
    HostStatus, Plan, RaftRole, Report, Response, Shown, Status, ViewsAnswer,
};
use squall_core::probe::{ProbeKind, Vantage};
use squall_core::registry::{HostRecord, Refusal, Registry};
use squall_core::spec::{FaultForm, File, Fleet, Shape, Targets};
use squall_core::views::{self, Evidence, Judgement, Liveness, Row};
use squall_wire::codec::{self, MAX_FRAME};

use super::writes::{resolve, too_large};
use crate::clock;
use crate::node::Node;
use crate::sessions::policy_of;

/// Bytes of an answer that hosts and experiments may take: a frame less what stands around them.
const ROOM: usize = MAX_FRAME - 64 * 1024;

pub(super) async fn status(node: &Arc<Node>) -> Response {
    let (standing, coordinators) = tokio::join!(node.confirm(), node.statuses());
    let own = node.status();
    // What raft knew last may be long dead.
    let leads =
        |id: &NodeId| coordinators.iter().any(|c| c.id == *id && c.role == RaftRole::Leader);
    let leader = own.leader.filter(|id| standing.confirmed || leads(id));
    let (hosts, capabilities) = hosts(node);
    let outstanding = node.outstanding();
    let room = ROOM.saturating_sub(len_of(&hosts).saturating_add(len_of(&capabilities)));
    let (experiments, left_out) = node.applied.read(|r| newest(r, room));
    Response::Status(Box::new(Status {
        cluster: node.identity.peer().cluster.clone(),
        node: node.config.id,
        leader,
        term: own.term,
        confirmed: standing.confirmed,
        applied: standing.applied,
        outstanding,
        coordinators,
        hosts,
        capabilities,
        experiments,
        left_out,
    }))
}

/// Every registered host, with what this coordinator last heard of it, and what they can hold.
fn hosts(node: &Node) -> (Vec<HostStatus>, Vec<Vec<Capability>>) {
    let now = clock::now();
    let sessions = node.sessions();
    let mut capabilities = Capabilities::default();
    let hosts = node.applied.read(|registry| {
        let may_hold = registry.may_hold();
        let status = |host: &HostName| {
            let session = sessions.get(host);
            let last = session.and_then(|s| s.report.as_ref());
            HostStatus {
                host: registry.hosts[host].clone(),
                connected: session.is_some(),
                age_ms: last.map(|(_, at)| now.since(*at)),
                // Views and samples have answers of their own.
                report: last.map(|(report, _)| Report {
                    faults: report.faults.clone(),
                    probes: Vec::new(),
                    row: None,
                    ..*report
                }),
                capabilities: session.map(|s| capabilities.place_of(&s.hello.capabilities)),
                may_hold: may_hold.contains(host),
            }
        };
        registry.hosts.keys().map(status).collect()
    });
    (hosts, capabilities.all)
}

/// What hosts can hold, each answer once: a fleet of thousands has room in one frame.
#[derive(Default)]
struct Capabilities {
    all: Vec<Vec<Capability>>,
    places: HashMap<Vec<Capability>, u32>,
}

impl Capabilities {
    fn place_of(&mut self, capabilities: &[Capability]) -> u32 {
        if let Some(place) = self.places.get(capabilities) {
            return *place;
        }
        let place = u32::try_from(self.all.len()).expect("no more than there are hosts");
        self.places.insert(capabilities.to_vec(), place);
        self.all.push(capabilities.to_vec());
        place
    }
}

pub(super) async fn views(node: &Arc<Node>) -> Response {
    // Asks the others too, so that their claims are of now.
    let (standing, _) = tokio::join!(node.confirm(), node.statuses());
    let evidence = node.evidence(clock::now());
    let cohorts = node.applied.read(|registry| by_cohort(registry, &evidence));
    Response::Views(Box::new(ViewsAnswer {
        confirmed: standing.confirmed,
        applied: standing.applied,
        judgement: views::judge(&evidence),
        cohorts,
        gossip: not_alive(&evidence),
    }))
}

fn not_alive(all: &Evidence) -> Vec<(HostName, HostName, Liveness)> {
    let of = |(host, (row, _)): (&HostName, &(Row, u64))| {
        let doubted = row.members.iter().filter(|(_, liveness)| *liveness != Liveness::Alive);
        doubted.map(|(other, l)| (host.clone(), other.clone(), *l)).collect::<Vec<_>>()
    };
    all.rows.iter().flat_map(of).collect()
}

fn by_cohort(registry: &Registry, all: &Evidence) -> BTreeMap<String, Judgement> {
    let mut members = BTreeMap::<String, BTreeSet<HostName>>::new();
    for host in registry.hosts.values() {
        members.entry(host.cohort().to_owned()).or_default().insert(host.name.clone());
    }
    let judge = |expected: BTreeSet<HostName>| {
        let rows = all.rows.iter().filter(|(host, _)| expected.contains(*host));
        let rows = rows.map(|(host, row)| (host.clone(), row.clone())).collect();
        views::judge(&Evidence {
            expected,
            rows,
            claims: all.claims.clone(),
            names: all.names.clone(),
        })
    };
    members.into_iter().map(|(cohort, expected)| (cohort, judge(expected))).collect()
}

pub(super) async fn show(node: &Arc<Node>, id: ExperimentId) -> Response {
    let standing = node.confirm().await;
    let record = node.applied.read(|r| r.experiments.get(&id).cloned());
    let Some(record) = record else {
        return match standing.confirmed {
            true => Response::Refused(Refusal::UnknownExperiment(id)),
            // Others may know it: its faults may be held this moment.
            false => Response::NoQuorum("this coordinator alone does not know it".into()),
        };
    };
    // Of the coordinators' samples this one's, whoever leads: any of them is asked.
    let mut probes = node.prober().reports(clock::now());
    probes.retain(|p| p.experiment == id);
    {
        let sessions = node.sessions();
        let reports = sessions.iter().filter_map(|(_, s)| s.report.as_ref());
        let all = reports.flat_map(|(report, _)| report.probes.iter());
        probes.extend(all.filter(|p| p.experiment == id).cloned());
    }
    Response::Experiment(Box::new(Shown {
        confirmed: standing.confirmed,
        applied: standing.applied,
        record,
        probes,
    }))
}

pub(super) async fn list(node: &Arc<Node>) -> Response {
    let standing = node.confirm().await;
    let (list, left_out) = node.applied.read(|registry| newest(registry, ROOM));
    let (confirmed, applied) = (standing.confirmed, standing.applied);
    Response::Experiments { list, left_out, confirmed, applied }
}

/// Experiments for a list, newest start last, without what only [`show`] tells: those that run, then the
/// newest, as far as so many bytes have room for them, and how many that leaves out. A thousand are kept,
/// and an answer is one frame.
fn newest(registry: &Registry, room: usize) -> (Vec<ExperimentRecord>, u32) {
    let mut all: Vec<&ExperimentRecord> = registry.experiments.values().collect();
    all.sort_by_key(|record| (!record.is_running(), std::cmp::Reverse(record.start)));
    let mut left = room;
    let mut list = Vec::new();
    for record in all {
        let brief = brief(record);
        match left.checked_sub(len_of(&brief)) {
            Some(rest) => {
                left = rest;
                list.push(brief);
            }
            None if record.is_running() => {}
            // Nothing is applied meanwhile: older ones are not looked at.
            None => break,
        }
    }
    list.sort_by_key(|record| record.start);
    let left_out = registry.experiments.len() - list.len();
    (list, u32::try_from(left_out).unwrap_or(u32::MAX))
}

/// A record without what only `show` tells; of one that is over and holds nothing any more a list says what
/// it was and where.
fn brief(record: &ExperimentRecord) -> ExperimentRecord {
    let mut experiment = record.experiment.clone();
    let mut faults = record.faults.clone();
    if !record.is_running() && record.reserved.is_empty() {
        for placement in &mut experiment.faults {
            placement.spec = placement.spec.without_peers();
        }
        experiment.probes.clear();
        experiment.touched.clear();
        faults.clear();
    }
    ExperimentRecord {
        id: record.id,
        start: record.start,
        by: record.by.clone(),
        submitted_at: record.submitted_at,
        experiment,
        counted: record.counted,
        phase: record.phase,
        ending: record.ending.clone(),
        faults,
        probes: Vec::new(),
        incidents: Vec::new(),
        timeline: Vec::new(),
        verdict: record.verdict,
        reasons: Vec::new(),
        reserved: record.reserved.clone(),
        in_place: None,
    }
}

fn len_of(value: &impl Serialize) -> usize {
    codec::encode(value).map_or(usize::MAX, |bytes| bytes.len())
}

/// What a submit would do. Changes nothing. Like a submit it needs a quorum: what this coordinator
/// alone knows may lack a host, an experiment or a stop.
pub(super) async fn plan(node: &Arc<Node>, file: &str) -> Response {
    if !node.confirm().await.confirmed {
        return Response::NoQuorum("what nobody confirms may be old".into());
    }
    let experiment = match resolve(node, file, rand::random()) {
        Ok(experiment) => experiment,
        Err(refusal) => return Response::Refused(refusal),
    };
    let now = clock::now();
    let (unfit, refused, elsewhere) = {
        let sessions = node.sessions();
        let elsewhere: Vec<String> = experiment
            .targets()
            .union(&experiment.touched)
            .filter_map(|host| {
                let from = sessions.get(host)?.speaks_from_elsewhere()?;
                Some(format!(
                    "{host} speaks from {from}, which is none of the addresses that it is registered with: \
                     what is cut off by its name may be another host; see `address` in its agent.toml"
                ))
            })
            .collect();
        let fresh = |host: &HostName| {
            let (report, at) = sessions.get(host)?.report.as_ref()?;
            (now.since(*at) < FRESH_MS).then_some(report)
        };
        let can = |host: &HostName| {
            let session = sessions.get(host);
            session.map(|s| s.hello.capabilities.as_slice()).unwrap_or_default()
        };
        let fit = |registry: &Registry| registry.fit_for(None, &experiment, fresh, can);
        let unfit = node.applied.read(fit).err();
        let refused = experiment.refused_by(|host| {
            let session = sessions.get(host)?;
            let alive = session.report.as_ref().map_or(0, |(report, _)| report.alive());
            let beside = node.applied.read(|registry| registry.beside(host, alive));
            Some((policy_of(&session.hello)?, beside))
        });
        (unfit, refused, elsewhere)
    };
    let (fleet, refusal, hosts) = node.applied.read(|registry| {
        let lacking = node.stops().lacking_in(registry);
        let fleet = registry.in_service(experiment.safety.of_group.as_deref());
        let heard = || Refusal::Disarmed(lacking.clone());
        let refusal = match registry.admit(&experiment) {
            Err(refusal) => Some(refusal),
            Ok(()) if !lacking.is_empty() => Some(heard()),
            Ok(()) => refused
                .map(|(host, why)| Refusal::Host(host, why))
                .or(unfit.map(Refusal::OutOfService)),
        };
        (fleet, refusal, registry.hosts.clone())
    });
    // Nothing is applied while the registry is read: what takes long is done without it.
    let refusal = refusal.or_else(|| too_large(&experiment));
    let mut risks = risks(&experiment, draws(file), &hosts);
    risks.extend(elsewhere);
    let fleet = u32::try_from(fleet).unwrap_or(u32::MAX);
    Response::Plan(Box::new(Plan { fleet, refusal, risks, experiment }))
}

/// Whether the file leaves it to chance which hosts are hit.
fn draws(file: &str) -> bool {
    let Ok(file) = serde_json::from_str::<File>(file) else { return false };
    let random = |fault: &FaultForm| match fault {
        FaultForm::Partition(partition) => matches!(partition.shape, Some(Shape::Random)),
        _ => false,
    };
    let Targets { count, percent, .. } = &file.targets;
    count.is_some() || percent.is_some() || file.faults.iter().any(random)
}

/// The other addresses of hosts of which a fault of that kind names one as a far end.
fn missed(
    experiment: &Experiment,
    hosts: &BTreeMap<HostName, HostRecord>,
) -> BTreeSet<(Kind, HostName, IpAddr)> {
    // As a file is resolved: of addresses that several have none is one host's.
    let hosts = Fleet::new(hosts.clone(), Vec::new(), BTreeSet::new()).hosts;
    let mut ends = BTreeMap::<_, Vec<&Traffic>>::new();
    for Placement { host, spec, .. } in &experiment.faults {
        ends.entry((spec.kind(), host)).or_default().extend(spec.traffic());
    }
    // What many hosts get alike is looked at once.
    let mut alike = HashMap::<(Kind, Vec<&Traffic>), Vec<&HostName>>::new();
    for ((kind, holder), traffic) in ends {
        alike.entry((kind, traffic)).or_default().push(holder);
    }
    let mut missed = BTreeSet::new();
    for ((kind, traffic), holders) in alike {
        // A fleet has thousands, nearly all of them single addresses.
        let nets = || traffic.iter().flat_map(|t| &t.peers);
        let single = nets().filter(|net| net.prefix_len() == net.max_prefix_len());
        let single: HashSet<IpAddr> = single.map(|net| net.addr()).collect();
        let wide: Vec<_> = nets().filter(|net| net.prefix_len() < net.max_prefix_len()).collect();
        let met = |address: &IpAddr| {
            single.contains(address) || wide.iter().any(|net| net.contains(address))
        };
        let others = hosts.values().filter(|h| !h.drained && holders != [&h.name]);
        for host in others {
            let (met, others): (Vec<_>, Vec<_>) = host.addresses().partition(met);
            if !met.is_empty() {
                missed.extend(others.into_iter().map(|other| (kind, host.name.clone(), other)));
            }
        }
    }
    missed
}

/// What a reader should think of before starting.
fn risks(
    experiment: &Experiment,
    drawn: bool,
    hosts: &BTreeMap<HostName, HostRecord>,
) -> Vec<String> {
    let mut risks = Vec::new();
    if drawn {
        risks.push("targets are drawn by chance: a run draws anew, these are an example".into());
    }
    if !experiment.touched.is_empty() {
        let names: Vec<&str> = experiment.touched.iter().map(HostName::as_str).collect();
        risks.push(format!("also touched, though not counted: {}", names.join(", ")));
    }
    let missed = missed(experiment, hosts);
    if !missed.is_empty() {
        let place = |(kind, host, at): &_| format!("{host} at {at} ({kind})");
        let missed: Vec<_> = missed.iter().map(place).collect();
        risks.push(format!(
            "a peer is also reached where that fault does not meet it: {}; name the host to mean all its \
             addresses",
            missed.join(", ")
        ));
    }
    if experiment.faults.iter().any(|p| p.spec.severs_control()) {
        risks.push(
            "control is severed: those faults end by their lease, if not by their time, and where it is \
             the lease the verdict is unknown at best"
                .into(),
        );
    }
    for probe in &experiment.probes {
        if let (Vantage::Coordinators, ProbeKind::Exec { argv }) = (&probe.from, &probe.kind) {
            let program = argv.first().map_or("", String::as_str);
            risks.push(format!(
                "probe `{}` runs {program} on the coordinators: each of their policies must list it",
                probe.name
            ));
        }
    }
    let pauses = experiment.faults.iter().any(|p| p.spec.kind() == Kind::Pause);
    for probe in
        experiment.probes.iter().filter(|p| pauses && matches!(p.kind, ProbeKind::Tcp { .. }))
    {
        risks.push(format!(
            "probe `{}` only connects: the kernel takes connections for a paused process; ask by http or exec",
            probe.name
        ));
    }
    if experiment.probes.is_empty() {
        risks.push("no steady-state hypothesis: the verdict is about the faults alone".into());
    }
    if !experiment.safety.auto_rollback {
        risks.push("auto-rollback is off: a deviation ends nothing".into());
    }
    risks
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use squall_core::experiment::{Phase, Safety, TimelineEntry};
    use squall_core::fault::{Direction, Fault, Partition};
    use squall_core::ids::LogIndex;
    use squall_core::time::WallTime;

    use super::*;

    /// An experiment of some 40 KB; only those with odd numbers run.
    fn record(n: u16) -> ExperimentRecord {
        let id = ExperimentId(uuid::Uuid::from_u128(n.into()));
        let placement = |fault: u16| {
            let peers = (0..1_000_u16).map(|p| {
                let [high, low] = p.to_be_bytes();
                // Alike they would be written once.
                IpAddr::from(Ipv4Addr::new(10, fault as u8, high, low)).into()
            });
            let traffic = Traffic {
                peers: peers.collect(),
                direction: Direction::Both,
                ports: Vec::new(),
                protocol: None,
            };
            let spec = Fault::Partition(Partition { traffic, severed: Vec::new() });
            Placement { host: "h1".parse().unwrap(), fault, spec }
        };
        ExperimentRecord {
            id,
            start: LogIndex(n.into()),
            by: "operator/ann".into(),
            submitted_at: WallTime(0),
            experiment: Experiment {
                name: "test".into(),
                objective: String::new(),
                faults: (0..6).map(placement).collect(),
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
                touched: BTreeSet::new(),
            },
            counted: 3,
            phase: if n % 100 == 1 { Phase::Holding } else { Phase::Settled },
            ending: None,
            faults: BTreeMap::new(),
            probes: Vec::new(),
            incidents: Vec::new(),
            timeline: Vec::new(),
            verdict: None,
            reasons: Vec::new(),
            reserved: BTreeSet::new(),
            in_place: None,
        }
    }

    #[test]
    fn a_list_of_all_that_is_kept_fits_one_answer() {
        let mut registry = Registry::default();
        registry.experiments = (0..300).map(record).map(|r| (r.id, r)).collect();
        let (list, left_out) = newest(&registry, ROOM);
        assert_eq!((list.len(), left_out), (300, 0), "over, and nothing is held any more");
        for record in registry.experiments.values_mut() {
            record.reserved = record.experiment.targets();
        }
        let (list, left_out) = newest(&registry, ROOM);
        let starts: Vec<u64> = list.iter().map(|r| r.start.0).collect();
        assert!(starts.is_sorted(), "{starts:?}");
        assert!([1, 101, 201, 299].iter().all(|n| starts.contains(n)), "{starts:?}");
        assert_eq!(starts[2..].len() as u64, 300 - starts[2], "what runs, then the newest");
        assert!(starts.len() > 50 && starts.len() < 300, "{}", starts.len());
        assert_eq!(starts.len() + left_out as usize, 300);
        let applied = LogIndex(300);
        let answer = Response::Experiments { list, left_out, confirmed: true, applied };
        assert!(codec::encode(&answer).is_ok());
        assert_eq!(newest(&registry, 0), (Vec::new(), 300));
    }

    #[test]
    fn a_peer_that_is_reached_elsewhere_too_is_a_risk() {
        let host = |n: u8| HostRecord {
            name: format!("h{n}").parse().unwrap(),
            address: Ipv4Addr::new(10, 0, 0, n).into(),
            // The second is every host's bridge.
            also: vec![format!("fd77::{n}").parse().unwrap(), Ipv4Addr::new(172, 17, 0, 1).into()],
            labels: BTreeMap::new(),
            gossip_port: 1,
            relay_port: 2,
            coordinator: false,
            drained: false,
        };
        let hosts: BTreeMap<_, _> = (1..=3).map(host).map(|h| (h.name.clone(), h)).collect();
        let mut experiment = record(1).experiment;
        experiment.faults.truncate(1);
        let told = |peers: &[&str]| {
            let mut experiment = experiment.clone();
            let Fault::Partition(partition) = &mut experiment.faults[0].spec else { panic!() };
            partition.traffic.peers = peers.iter().map(|p| p.parse().unwrap()).collect();
            let risks = risks(&experiment, false, &hosts);
            risks.into_iter().find(|risk| risk.starts_with("a peer is also"))
        };
        let words = "a peer is also reached where that fault does not meet it: h2 at fd77::2 (partition); \
                     name the host to mean all its addresses";
        assert_eq!(told(&["10.0.0.2/32"]).as_deref(), Some(words));
        assert!(
            told(&["10.0.0.0/24"])
                .is_some_and(|risk| risk.contains("h2 at fd77::2 (partition), h3 at"))
        );
        assert_eq!(told(&["10.0.0.2/32", "fd77::2/128", "10.9.9.9/32"]), None);
    }

    #[test]
    fn the_largest_fleet_has_room_in_one_answer() {
        let capability = Capability {
            fault: squall_core::fault::Kind::Partition,
            backend: Some("nftables".into()),
            fallbacks: Vec::new(),
            held: squall_core::hold::Holding::Held,
            reason: "what limits it, in as many words as that takes".into(),
        };
        let all = vec![capability; 6];
        let mut capabilities = Capabilities::default();
        assert_eq!(capabilities.place_of(&[]), 0);
        let report = Report {
            run: squall_core::ids::AgentRun(uuid::Uuid::from_u128(1)),
            t: squall_core::time::Time(u64::MAX / 2),
            digest: u64::MAX,
            newest_resume: LogIndex(u64::MAX),
            synced: true,
            armed: true,
            faults: Vec::new(),
            probes: Vec::new(),
            row: None,
        };
        let host = |n: usize| HostStatus {
            host: squall_core::registry::HostRecord {
                name: format!("database-{n}.example").parse().unwrap(),
                address: Ipv4Addr::LOCALHOST.into(),
                also: vec![std::net::Ipv6Addr::LOCALHOST.into()],
                labels: BTreeMap::from([("group".to_owned(), "database".to_owned())]),
                gossip_port: 40_000,
                relay_port: 40_001,
                coordinator: false,
                drained: false,
            },
            connected: true,
            age_ms: Some(500),
            report: Some(report.clone()),
            capabilities: Some(capabilities.place_of(&all)),
            may_hold: false,
        };
        let hosts: Vec<HostStatus> = (0..squall_core::registry::MAX_HOSTS).map(host).collect();
        assert_eq!((capabilities.all.len(), hosts[9].capabilities), (2, Some(1)));
        assert!(len_of(&hosts) + len_of(&capabilities.all) < ROOM, "{}", len_of(&hosts));
    }

    #[test]
    fn what_a_list_leaves_out_is_older_than_what_it_has() {
        let mut registry = Registry::default();
        for n in 2..=5 {
            let mut record = record(n);
            record.timeline.push(TimelineEntry { at: WallTime(0), what: "begun".into() });
            record.reasons = vec!["why".into(); 9];
            if n == 3 {
                // It may hold something yet, and is listed whole.
                record.reserved = record.experiment.targets();
            }
            registry.experiments.insert(record.id, record);
        }
        let all: Vec<usize> = registry.experiments.values().map(|r| len_of(&brief(r))).collect();
        assert!(all[0] < 1_000 && all[1] > 20_000, "{all:?}");
        let (whole, listed) = (record(2), brief(registry.experiments.values().next().unwrap()));
        assert_eq!(listed.experiment.targets(), whole.experiment.targets());
        assert_eq!(listed.experiment.faults.len(), whole.experiment.faults.len());
        // The two newest have room, the next has not; the oldest would have.
        let starts = |room| newest(&registry, room).0.iter().map(|r| r.start.0).collect::<Vec<_>>();
        assert_eq!(starts(4 * all[0]), [4, 5]);
        assert_eq!(newest(&registry, 4 * all[0]).1, 2);
        // One that runs is no reason to leave out what has settled.
        registry.experiments.values_mut().find(|r| r.start.0 == 3).unwrap().phase = Phase::Holding;
        assert_eq!(newest(&registry, 4 * all[0]).0.len(), 3);
    }
}

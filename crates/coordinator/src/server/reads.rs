//! What operators read. With a quorum behind it where one answers; else as far as this coordinator
//! knows, and marked so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use squall_core::experiment::Experiment;
use squall_core::ids::{ExperimentId, HostName};
use squall_core::message::{HostStatus, Plan, Response, Shown, Status, ViewsAnswer};
use squall_core::registry::{Refusal, Registry};
use squall_core::spec::File;
use squall_core::views::{self, Evidence, Judgement};

use super::writes::resolve;
use crate::clock;
use crate::node::Node;

pub(super) async fn status(node: &Arc<Node>) -> Response {
    let (standing, coordinators) = tokio::join!(node.confirm(), node.statuses());
    let own = node.status();
    let hosts = hosts(node);
    let outstanding = node.stops().fence().outstanding().collect();
    let experiments = node.applied.read(|r| r.experiments.values().cloned().collect());
    Response::Status(Box::new(Status {
        cluster: node.identity.peer().cluster.clone(),
        node: node.config.id,
        leader: own.leader,
        term: own.term,
        confirmed: standing.confirmed,
        applied: standing.applied,
        outstanding,
        coordinators,
        hosts,
        experiments,
    }))
}

/// Every registered host, with what this coordinator last heard of it.
fn hosts(node: &Node) -> Vec<HostStatus> {
    let now = clock::now();
    let sessions = node.sessions();
    node.applied.read(|registry| {
        let status = |host: &HostName| {
            let session = sessions.get(host);
            let last = session.and_then(|s| s.report.as_ref());
            HostStatus {
                host: registry.hosts[host].clone(),
                connected: session.is_some(),
                age_ms: last.map(|(_, at)| now.since(*at)),
                report: last.map(|(report, _)| report.clone()),
                capabilities: session.map(|s| s.hello.capabilities.clone()).unwrap_or_default(),
            }
        };
        registry.hosts.keys().map(status).collect()
    })
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
    }))
}

fn by_cohort(registry: &Registry, all: &Evidence) -> BTreeMap<String, Judgement> {
    let mut members = BTreeMap::<String, BTreeSet<HostName>>::new();
    for host in registry.hosts.values() {
        let cohort = host.labels.get("group").cloned().unwrap_or_default();
        members.entry(cohort).or_default().insert(host.name.clone());
    }
    let judge = |expected: BTreeSet<HostName>| {
        let rows = all.rows.iter().filter(|(host, _)| expected.contains(*host));
        let rows = rows.map(|(host, row)| (host.clone(), row.clone())).collect();
        views::judge(&Evidence { expected, rows, claims: all.claims.clone() })
    };
    members.into_iter().map(|(cohort, expected)| (cohort, judge(expected))).collect()
}

pub(super) async fn show(node: &Arc<Node>, id: ExperimentId) -> Response {
    let standing = node.confirm().await;
    let record = node.applied.read(|r| r.experiments.get(&id).cloned());
    let Some(record) = record else { return Response::Refused(Refusal::UnknownExperiment(id)) };
    let probes = {
        let sessions = node.sessions();
        let reports = sessions.iter().filter_map(|(_, s)| s.report.as_ref());
        let all = reports.flat_map(|(report, _)| report.probes.iter());
        all.filter(|p| p.experiment == id).cloned().collect()
    };
    Response::Experiment(Box::new(Shown {
        confirmed: standing.confirmed,
        applied: standing.applied,
        record,
        probes,
    }))
}

pub(super) async fn list(node: &Arc<Node>) -> Response {
    let standing = node.confirm().await;
    let mut list: Vec<_> = node.applied.read(|r| r.experiments.values().cloned().collect());
    list.sort_by_key(|record| record.start);
    Response::Experiments { list, confirmed: standing.confirmed, applied: standing.applied }
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
    let lacking = node.stops().lacking();
    node.applied.read(|registry| {
        let fleet = registry.hosts.values().filter(|h| !h.drained).count();
        let heard = || Refusal::Disarmed(lacking.iter().map(|(stop, _)| *stop).collect());
        let refusal = match registry.admit(&experiment) {
            Err(refusal) => Some(refusal),
            Ok(()) if !lacking.is_empty() => Some(heard()),
            Ok(()) => None,
        };
        Response::Plan(Box::new(Plan {
            fleet: u32::try_from(fleet).unwrap_or(u32::MAX),
            refusal,
            risks: risks(&experiment, draws(file)),
            experiment,
        }))
    })
}

/// Whether the file leaves it to chance which hosts are hit.
fn draws(file: &str) -> bool {
    let file = serde_json::from_str::<File>(file);
    file.is_ok_and(|f| f.targets.count.is_some() || f.targets.percent.is_some())
}

/// What a reader should think of before starting.
fn risks(experiment: &Experiment, drawn: bool) -> Vec<String> {
    let mut risks = Vec::new();
    if drawn {
        risks.push("targets are drawn by chance: a run draws anew, these are an example".into());
    }
    if !experiment.touched.is_empty() {
        let names: Vec<&str> = experiment.touched.iter().map(HostName::as_str).collect();
        risks.push(format!("also touched, though not counted: {}", names.join(", ")));
    }
    if experiment.faults.iter().any(|p| p.spec.severs_control()) {
        risks.push("control is severed: those faults end by their lease alone".into());
    }
    if experiment.probes.is_empty() {
        risks.push("no steady-state hypothesis: the verdict is about the faults alone".into());
    }
    if !experiment.safety.auto_rollback {
        risks.push("auto-rollback is off: a deviation ends nothing".into());
    }
    risks
}

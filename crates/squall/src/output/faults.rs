//! `squall faults`: what is on the hosts now.

use serde::Serialize;
use serde_json::Value;
use squall_core::experiment::{ExperimentRecord, Placement};
use squall_core::hold::Achieved;
use squall_core::ids::FaultId;
use squall_core::message::{FaultReport, HostStatus, Status};

use super::table::{NONE, or_none, table};
use super::words;

/// One fault on one host.
#[derive(Debug, Serialize)]
pub struct FaultView {
    /// The host.
    pub host: String,
    /// The fault's id.
    pub id: String,
    /// Its kind; `null` where an earlier life of the agent began it.
    pub kind: Option<String>,
    /// Its parameters; `null` where only the host knows them.
    pub params: Value,
    /// What it does, for people.
    #[serde(skip)]
    what: Option<String>,
    /// Its experiment's id; `null` where a person on the host injected it.
    pub experiment: Option<String>,
    /// Its experiment's name, where that is known here.
    pub name: Option<String>,
    /// Where it stands; `unheard` where its host says nothing of it and the log does not have it gone.
    pub phase: String,
    /// Milliseconds of lease left; at most so many where the host is unheard.
    pub lease_ms: u64,
    /// Milliseconds to its end, whoever renews its lease; `null` where the host is unheard.
    pub remaining_ms: Option<u64>,
    /// The last measurement.
    pub achieved: Option<Achieved>,
}

/// How a fault stands of which nobody hears.
const UNHEARD: &str = "unheard";

/// Every fault that may be on a host: by its report, and where that does not speak of one, by the log.
#[must_use]
pub fn views(status: &Status) -> Vec<FaultView> {
    let of = |host| move |fault| (host, fault);
    let reports =
        status.hosts.iter().flat_map(|h| h.report.iter().flat_map(|r| &r.faults).map(of(h)));
    let told = reports.filter(|(_, f)| !f.phase.is_gone()).map(|(h, f)| view(f, h, status));
    told.chain(status.untold().map(|(record, id)| unheard(id, record))).collect()
}

/// Whether a host that is in service, or a fault, is not heard of: then more or less may be there.
#[must_use]
pub fn is_partial(status: &Status) -> bool {
    let silent = status.hosts.iter().any(|h| !h.is_heard() && !h.host.drained);
    silent || views(status).iter().any(|f| f.phase == UNHEARD)
}

/// Hosts that nobody here hears: what a person holds there is not listed either.
#[must_use]
pub fn unheard_hosts(status: &Status) -> Vec<&str> {
    status.hosts.iter().filter(|h| !h.is_heard()).map(|h| h.host.name.as_str()).collect()
}

fn unheard(id: &FaultId, record: &ExperimentRecord) -> FaultView {
    let placed = placed(id, record);
    FaultView {
        host: id.host.to_string(),
        id: id.to_string(),
        kind: placed.map(|p| p.spec.kind().name().to_owned()),
        params: placed.map_or(Value::Null, |p| params(&p.spec)),
        what: placed.map(|p| words::fault_shortly(&p.spec)),
        experiment: Some(record.id.to_string()),
        name: Some(record.experiment.name.clone()),
        phase: UNHEARD.to_owned(),
        lease_ms: record.experiment.safety.lease_ms,
        remaining_ms: None,
        achieved: None,
    }
}

fn placed<'a>(id: &FaultId, record: &'a ExperimentRecord) -> Option<&'a Placement> {
    record.experiment.faults.iter().find(|p| p.fault == id.fault && p.host == id.host)
}

/// As it stands now, which is some time after its host said so.
fn view(fault: &FaultReport, host: &HostStatus, status: &Status) -> FaultView {
    let (heard, age_ms) = (host.is_heard(), host.age_ms.unwrap_or(0));
    let record = status.experiments.iter().find(|e| e.id == fault.id.experiment);
    let placed = record.and_then(|record| placed(&fault.id, record));
    FaultView {
        host: fault.id.host.to_string(),
        id: fault.id.to_string(),
        kind: fault.kind.map(|k| k.name().to_owned()),
        params: placed.map_or(Value::Null, |p| params(&p.spec)),
        what: placed.map(|p| words::fault_shortly(&p.spec)),
        experiment: (!fault.id.experiment.is_local()).then(|| fault.id.experiment.to_string()),
        name: record.map(|record| record.experiment.name.clone()),
        phase: if heard { fault.phase.name() } else { UNHEARD }.to_owned(),
        // Another coordinator may hear and renew it.
        lease_ms: match record.filter(|_| !heard) {
            Some(record) => record.experiment.safety.lease_ms,
            None => fault.lease_ms.saturating_sub(age_ms),
        },
        remaining_ms: heard.then(|| fault.remaining_ms.saturating_sub(age_ms)),
        achieved: fault.achieved.clone(),
    }
}

/// A fault's parameters without its name.
#[must_use]
pub fn params(fault: &squall_core::fault::Fault) -> Value {
    match serde_json::to_value(fault) {
        Ok(Value::Object(map)) => map.into_iter().next().map_or(Value::Null, |(_, inner)| inner),
        Ok(other) => other,
        Err(_) => Value::Null,
    }
}

/// For people.
#[must_use]
pub fn faults_table<'a>(
    faults: impl IntoIterator<Item = &'a FaultView>,
    status: &Status,
) -> String {
    let mut faults = faults.into_iter().peekable();
    if faults.peek().is_none() {
        let all = unheard_hosts(status).is_empty();
        let whole = if all { "nothing is held\n" } else { "nothing is known to be held\n" };
        return whole.into();
    }
    let rows = faults.map(|f| {
        let achieved = f.achieved.as_ref().map(|a| {
            let bit = if a.bit { "" } else { "NOT SEEN: " };
            format!("{bit}{}", a.measured)
        });
        let what: Vec<&str> =
            [&f.kind, &f.what].into_iter().flatten().map(String::as_str).collect();
        [
            f.host.clone(),
            f.id.clone(),
            or_none(f.name.as_deref().unwrap_or_default()),
            or_none(&what.join(" ")),
            f.phase.clone(),
            words::length(f.lease_ms),
            f.remaining_ms.map_or(NONE.into(), words::length),
            or_none(achieved.as_deref().unwrap_or_default()),
        ]
    });
    table(
        ["HOST", "FAULT", "EXPERIMENT", "WHAT", "PHASE", "LEASE", "LEFT", "ACHIEVED"],
        rows.collect(),
    )
}

//! `squall status` and `squall nodes`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use squall_core::ids::NodeId;
use squall_core::message::{CoordinatorStatus, FaultReport, HostStatus, RaftRole, Status};

use super::table::{NONE, blocks, or_none, table};
use super::words;

/// `status`.
#[derive(Debug, Serialize)]
pub struct StatusView {
    /// The whole.
    pub cluster: ClusterView,
    /// Each coordinator.
    pub coordinators: Vec<CoordinatorView>,
    /// Each registered host.
    pub hosts: Vec<HostView>,
    /// Each experiment, newest last.
    pub experiments: Vec<ExperimentRow>,
    /// So many more had no room in the answer: the oldest, or very large ones.
    pub left_out: u32,
}

/// The whole cluster.
#[derive(Debug, Serialize)]
pub struct ClusterView {
    /// Its name.
    pub id: String,
    /// Who leads; `null` where nobody is known to.
    pub leader: Option<String>,
    /// The leader's term.
    pub term: u64,
    /// Every stop is released.
    pub armed: bool,
    /// A quorum stood behind this answer.
    pub confirmed: bool,
    /// The log entry as of which this is true.
    pub as_of: u64,
    /// Stops that nobody has released.
    pub stops: Vec<String>,
}

/// One coordinator.
#[derive(Debug, Serialize)]
pub struct CoordinatorView {
    /// Its name.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// `leader`, `follower`, `candidate`, `learner` (it began with an empty disk and does not vote yet),
    /// `stopped` or `unreached`.
    pub role: &'static str,
    /// Its term.
    pub term: Option<u64>,
    /// The last entry it applied; like its term `null` where it does not answer.
    pub applied: Option<u64>,
    /// Connections that it refused since it started, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// One host.
#[derive(Debug, Serialize)]
pub struct HostView {
    /// Its name.
    pub name: String,
    /// Its id: the name, which is unique in the cluster.
    pub id: String,
    /// The address by which others reach it.
    pub address: String,
    /// Further addresses of its own: a fault between named hosts is about all of them.
    pub also: Vec<IpAddr>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// A coordinator lives there too: it is never drawn.
    pub coordinator: bool,
    /// `armed`, `latched`, `starting`, `drained` or `unconnected`.
    pub state: String,
    /// It has spoken in the last three seconds.
    pub heard: bool,
    /// What it holds, as it said last.
    pub faults: Vec<HeldView>,
    /// Milliseconds since it was last heard.
    pub age_ms: Option<u64>,
}

/// A fault that a host has.
#[derive(Debug, Serialize)]
pub struct HeldView {
    /// Which.
    pub id: String,
    /// Its kind.
    pub kind: Option<String>,
    /// Where it stands.
    pub phase: String,
}

/// One experiment in a list.
#[derive(Debug, Serialize)]
pub struct ExperimentRow {
    /// Its id.
    pub id: String,
    /// Its file's name.
    pub name: String,
    /// The kinds of its faults.
    pub r#type: String,
    /// Its phase.
    pub state: String,
    /// Its verdict, once settled.
    pub verdict: Option<String>,
    /// The hosts it targets.
    pub targets: Vec<String>,
    /// When it was submitted, by the leader's wall clock.
    pub submitted: String,
    /// By whom.
    pub by: String,
}

/// Whether the host can take orders, in one word.
#[must_use]
pub fn host_state(host: &HostStatus) -> &'static str {
    match &host.report {
        _ if host.host.drained => "drained",
        _ if !host.connected => "unconnected",
        None => "starting",
        Some(report) if !report.armed => "latched",
        Some(report) if !report.synced => "starting",
        Some(_) => "armed",
    }
}

/// What stands in a list of experiments.
#[must_use]
pub fn row(record: &squall_core::experiment::ExperimentRecord) -> ExperimentRow {
    ExperimentRow {
        id: record.id.to_string(),
        name: record.experiment.name.clone(),
        r#type: words::kinds(record),
        state: record.phase.name().to_owned(),
        verdict: record.verdict.map(|v| v.name().to_owned()),
        targets: record.experiment.targets().iter().map(ToString::to_string).collect(),
        submitted: words::moment(record.submitted_at),
        by: record.by.clone(),
    }
}

/// The view of one host.
#[must_use]
pub fn host_view(host: &HostStatus) -> HostView {
    let held = |f: &FaultReport| HeldView {
        id: f.id.to_string(),
        kind: f.kind.map(|k| k.name().to_owned()),
        phase: f.phase.name().to_owned(),
    };
    let said = host.report.iter().flat_map(|report| &report.faults);
    let faults = said.filter(|f| !f.phase.is_gone()).map(held).collect();
    HostView {
        name: host.host.name.to_string(),
        id: host.host.name.to_string(),
        address: host.host.address.to_string(),
        also: host.host.also.clone(),
        labels: host.host.labels.clone(),
        coordinator: host.host.coordinator,
        state: host_state(host).to_owned(),
        heard: host.is_heard(),
        faults,
        age_ms: host.age_ms,
    }
}

impl StatusView {
    /// The view of a coordinator's answer; `name` knows the coordinators' names.
    #[must_use]
    pub fn new(status: &Status, name: impl Fn(NodeId) -> String) -> StatusView {
        let mut coordinators: Vec<_> = status.coordinators.iter().collect();
        coordinators.sort_by_key(|c| c.id);
        StatusView {
            cluster: ClusterView {
                id: status.cluster.clone(),
                leader: status.leader.map(&name),
                term: status.term,
                armed: status.outstanding.is_empty(),
                confirmed: status.confirmed,
                as_of: status.applied.0,
                stops: status.outstanding.iter().map(ToString::to_string).collect(),
            },
            coordinators: coordinators
                .into_iter()
                .map(|c| CoordinatorView {
                    id: name(c.id),
                    address: c.address.to_string(),
                    role: c.role.name(),
                    term: answers(c).then_some(c.term),
                    applied: answers(c).then_some(c.applied.0),
                    refused: c.refused.clone(),
                })
                .collect(),
            hosts: status.hosts.iter().map(host_view).collect(),
            experiments: status.experiments.iter().map(row).collect(),
            left_out: status.left_out,
        }
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        blocks([
            self.heading(),
            self.coordinators(),
            self.refusals(),
            hosts(&self.hosts.iter().collect::<Vec<_>>()),
            self.recent(),
        ])
    }

    /// What runs, and of those that have settled the ones that were submitted last.
    fn recent(&self) -> String {
        const SETTLED: usize = 5;
        let is_settled = |e: &&ExperimentRow| e.verdict.is_some();
        let hidden = self.experiments.iter().filter(is_settled).count().saturating_sub(SETTLED);
        let mut older = hidden;
        let shown = self.experiments.iter().filter(|e| {
            let hide = is_settled(e) && older > 0;
            older -= usize::from(hide);
            !hide
        });
        let more =
            if hidden == 0 { String::new() } else { format!("and {hidden} more: squall ls") };
        rows(shown) + &more
    }

    fn heading(&self) -> String {
        let c = &self.cluster;
        let leader = c.leader.as_deref().unwrap_or("nobody");
        let mut text = format!("cluster {}: {leader} leads, term {}", c.id, c.term);
        if !c.confirmed {
            text.push_str(&format!("\n{}", words::unconfirmed(c.as_of)));
        }
        if !c.armed {
            text.push_str(&format!(
                "\nSTOPPED: nothing starts before squall resume {}",
                words::stops(&c.stops)
            ));
        }
        text
    }

    fn coordinators(&self) -> String {
        let number = |n: Option<u64>| n.map_or(NONE.to_owned(), |n| n.to_string());
        let rows = self.coordinators.iter().map(|c| {
            [c.id.clone(), c.address.clone(), c.role.to_owned(), number(c.term), number(c.applied)]
        });
        table(["COORDINATOR", "ADDRESS", "ROLE", "TERM", "APPLIED"], rows.collect())
    }

    /// A line for each coordinator that has refused somebody.
    fn refusals(&self) -> String {
        let line = |c: &CoordinatorView| {
            let reasons = c.refused.iter().map(|(reason, n)| format!("{n} {reason}"));
            let reasons = reasons.collect::<Vec<_>>().join(", ");
            (!reasons.is_empty()).then(|| format!("{} refused connections: {reasons}", c.id))
        };
        self.coordinators.iter().filter_map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The hosts for people.
#[must_use]
pub fn hosts(hosts: &[&HostView]) -> String {
    let rows = hosts.iter().map(|h| {
        let labels: Vec<_> = h.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let held = |f: &HeldView| format!("{} {}", f.kind.as_deref().unwrap_or("fault"), f.phase);
        let faults = match h.heard {
            true => or_none(&h.faults.iter().map(held).collect::<Vec<_>>().join(", ")),
            false => "not heard".to_owned(),
        };
        let beside = if h.coordinator { ", coordinator" } else { "" };
        let heard = h.age_ms.map_or(NONE.to_owned(), |ms| format!("{} ago", words::length(ms)));
        [
            h.name.clone(),
            h.address.clone(),
            format!("{}{beside}", h.state),
            or_none(&labels.join(",")),
            heard,
            faults,
        ]
    });
    table(["HOST", "ADDRESS", "STATE", "LABELS", "HEARD", "FAULTS"], rows.collect())
}

/// Whether it spoke for itself.
fn answers(coordinator: &CoordinatorStatus) -> bool {
    coordinator.role != RaftRole::Unreached
}

/// The experiments for people.
#[must_use]
pub fn rows<'a>(experiments: impl IntoIterator<Item = &'a ExperimentRow>) -> String {
    let rows = experiments.into_iter().map(|e| {
        [
            e.id.chars().take(8).collect(),
            e.name.clone(),
            e.r#type.clone(),
            e.targets.join(","),
            e.state.clone(),
            e.verdict.clone().unwrap_or(NONE.to_owned()),
            e.submitted.clone(),
        ]
    });
    table(["ID", "NAME", "FAULTS", "TARGETS", "STATE", "VERDICT", "SUBMITTED"], rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_shows_what_runs_and_what_has_settled_last() {
        let row = |n: usize, runs: bool| ExperimentRow {
            id: format!("{n:08}"),
            name: format!("e{n}"),
            r#type: "cpu".into(),
            state: if runs { "holding" } else { "settled" }.into(),
            verdict: (!runs).then(|| "held".into()),
            targets: vec!["h1".into()],
            submitted: "-".into(),
            by: "operator".into(),
        };
        let status = |experiments| StatusView {
            cluster: ClusterView {
                id: "x".into(),
                leader: None,
                term: 1,
                armed: true,
                confirmed: true,
                as_of: 1,
                stops: Vec::new(),
            },
            coordinators: Vec::new(),
            hosts: Vec::new(),
            experiments,
            left_out: 0,
        };
        // The oldest runs still.
        let table = status((0..9).map(|n| row(n, n == 0)).collect()).table();
        let names: Vec<&str> = table.lines().filter(|l| l.starts_with('0')).collect();
        assert_eq!(names.len(), 6, "{table}");
        assert!(names[0].contains("e0") && names[1].contains("e4"), "{table}");
        assert!(table.ends_with("\nand 3 more: squall ls\n"), "{table}");
        let few = status((0..5).map(|n| row(n, false)).collect()).table();
        assert!(few.contains("e0") && !few.contains("more"), "{few}");
    }

    #[test]
    fn a_host_where_a_coordinator_lives_too_is_marked() {
        let host = |name: &str, coordinator| HostView {
            name: name.into(),
            id: name.into(),
            address: "10.0.0.1".into(),
            also: Vec::new(),
            labels: BTreeMap::new(),
            coordinator,
            state: "armed".into(),
            heard: true,
            faults: Vec::new(),
            age_ms: None,
        };
        let table = hosts(&[&host("h1", true), &host("h4", false)]);
        let lines: Vec<&str> = table.lines().skip(1).collect();
        let wanted = [
            "h1    10.0.0.1  armed, coordinator  -       -      -",
            "h4    10.0.0.1  armed               -       -      -",
        ];
        assert_eq!(lines, wanted);
    }
}

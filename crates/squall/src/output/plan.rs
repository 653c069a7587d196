//! `squall plan`: what would be done.

use serde::Serialize;
use serde_json::Value;
use squall_core::message::Plan;
use squall_core::radius;

use super::table::{blocks, table};
use super::{faults, words};

/// `plan`.
#[derive(Debug, Serialize)]
pub struct PlanView {
    /// The file's name.
    pub name: String,
    /// The file's objective.
    pub objective: String,
    /// The hosts that would hold a fault.
    pub targets: Vec<String>,
    /// Hosts that would be reached without holding any.
    pub touched: Vec<String>,
    /// Hosts in service, of which the targets are a share.
    pub fleet: u32,
    /// That share.
    pub blast_radius: f64,
    /// The share that the file allows.
    pub max_blast_radius: f64,
    /// How long its probes would sample first.
    pub baseline_ms: u64,
    /// How long the faults would be held.
    pub duration_ms: u64,
    /// How long its probes would sample afterwards.
    pub recovery_ms: u64,
    /// How long each stays without renewal.
    pub lease_ms: u64,
    /// Every fault on every host.
    pub faults: Vec<PlannedFault>,
    /// The steady-state hypothesis, one line a probe.
    pub probes: Vec<String>,
    /// What a reader should think of first.
    pub risks: Vec<String>,
    /// Why it could not start now; `null` where it could.
    pub refusal: Option<String>,
}

/// One fault on one host.
#[derive(Debug, Serialize)]
pub struct PlannedFault {
    /// The host.
    pub host: String,
    /// Its position in the file.
    pub fault: u16,
    /// Its kind.
    pub kind: String,
    /// In one line.
    pub what: String,
    /// The same for a table.
    #[serde(skip)]
    short: String,
    /// Its parameters.
    pub params: Value,
}

impl PlanView {
    /// The view of a coordinator's answer.
    #[must_use]
    pub fn new(plan: &Plan) -> PlanView {
        let e = &plan.experiment;
        let targets = e.targets();
        let share = targets.len() as f64 / f64::from(plan.fleet.max(1));
        PlanView {
            name: e.name.clone(),
            objective: e.objective.clone(),
            targets: targets.iter().map(ToString::to_string).collect(),
            touched: e.touched.iter().map(ToString::to_string).collect(),
            fleet: plan.fleet,
            blast_radius: (share * 1_000.0).round() / 1_000.0,
            max_blast_radius: f64::from(e.safety.max_radius_ppm) / 1_000_000.0,
            baseline_ms: e.baseline_ms,
            duration_ms: e.duration_ms,
            recovery_ms: e.recovery_ms,
            lease_ms: e.safety.lease_ms,
            faults: e.faults.iter().map(fault).collect(),
            probes: e
                .probes
                .iter()
                .map(|p| {
                    format!(
                        "{} from {}, every {}: {}",
                        p.name,
                        p.from,
                        words::length(p.every_ms),
                        p.expected()
                    )
                })
                .collect(),
            risks: plan.risks.clone(),
            refusal: plan.refusal.as_ref().map(ToString::to_string),
        }
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let rows = self.faults.iter().map(|f| [f.host.clone(), f.kind.clone(), f.short.clone()]);
        let list = |name: &str, lines: &[String]| {
            let lines: String = lines.iter().map(|l| format!("\n  {l}")).collect();
            if lines.is_empty() { lines } else { format!("{name}:{lines}") }
        };
        let last = match &self.refusal {
            Some(why) => format!("would be REFUSED: {why}"),
            None => "could start now; nothing was changed".to_owned(),
        };
        blocks([
            self.heading(),
            table(["HOST", "FAULT", "WHAT"], rows.collect()),
            list("steady state", &self.probes),
            list("risks", &self.risks),
            last,
        ])
    }

    fn heading(&self) -> String {
        let mut lines = vec![self.name.clone()];
        if !self.objective.is_empty() {
            lines.push(format!("objective:    {}", words::indented(&self.objective, 14)));
        }
        let [before, held, after] = [self.baseline_ms, self.duration_ms, self.recovery_ms];
        let mut duration = format!(
            "duration:     {}, lease {}",
            words::length(held),
            words::length(self.lease_ms)
        );
        if before + after > 0 {
            duration.push_str(&format!(
                "; about {} in all: {} before, {} held, {} after",
                words::length(before + held + after),
                words::length(before),
                words::length(held),
                words::length(after)
            ));
        }
        lines.push(duration);
        lines.push(format!(
            "blast radius: {}, at most {}",
            radius::part(self.targets.len(), self.fleet as usize),
            radius::limit(
                self.targets.len(),
                self.fleet as usize,
                (self.max_blast_radius * 1_000_000.0).round() as u32
            )
        ));
        if !self.touched.is_empty() {
            lines.push(format!("touched:      {}", self.touched.join(", ")));
        }
        lines.join("\n")
    }
}

fn fault(placement: &squall_core::experiment::Placement) -> PlannedFault {
    PlannedFault {
        host: placement.host.to_string(),
        fault: placement.fault,
        kind: placement.spec.kind().name().to_owned(),
        what: words::fault(&placement.spec),
        short: words::fault_shortly(&placement.spec),
        params: faults::params(&placement.spec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(fleet: u32, max_blast_radius: f64) -> PlanView {
        PlanView {
            name: "cut".into(),
            objective: String::new(),
            targets: vec!["h1".into()],
            touched: Vec::new(),
            fleet,
            blast_radius: 0.0,
            max_blast_radius,
            baseline_ms: 0,
            duration_ms: 6_000,
            recovery_ms: 0,
            lease_ms: 5_000,
            faults: Vec::new(),
            probes: Vec::new(),
            risks: Vec::new(),
            refusal: None,
        }
    }

    #[test]
    fn how_long_it_takes_in_all_is_said_where_probes_sample_before_and_after() {
        let mut plan = plan(3, 0.34);
        assert!(plan.table().contains("duration:     6 s, lease 5 s\n"), "{}", plan.table());
        (plan.baseline_ms, plan.recovery_ms) = (6_000, 11_000);
        let all = "6 s, lease 5 s; about 23 s in all: 6 s before, 6 s held, 11 s after\n";
        assert!(plan.table().contains(all), "{}", plan.table());
    }

    #[test]
    fn one_host_of_three_is_said_to_be_allowed_though_it_is_more_than_the_limit() {
        for (fleet, line) in [
            (3, "1 of 3 hosts = 0.333, at most 0.3: one host of three or more is always allowed"),
            (5, "1 of 5 hosts = 0.2, at most 0.3"),
            (2, "1 of 2 hosts = 0.5, at most 0.3"),
        ] {
            let table = plan(fleet, 0.3).table();
            assert!(table.contains(&format!("blast radius: {line}\n")), "{table}");
        }
    }
}

//! `squall show`, and what `squall run` ends with.

use std::collections::BTreeMap;

use serde::Serialize;
use squall_core::experiment::{EndReason, ExperimentRecord, FaultState, ProbeOutcome};
use squall_core::hold::Achieved;
use squall_core::message::{ProbeReport, Shown};
use squall_core::probe::{Stage, Steadiness, Tally};

use super::words;

/// `run` and `show`.
#[derive(Debug, Serialize)]
pub struct ExperimentView {
    /// Its id.
    pub id: String,
    /// Its file's name.
    pub name: String,
    /// Its file's objective.
    pub objective: String,
    /// The kinds of its faults.
    pub r#type: String,
    /// Its phase.
    pub state: String,
    /// `held`, `broken`, `unknown`, `stopped` or `refused`, once settled.
    pub verdict: Option<String>,
    /// Why that verdict.
    pub reasons: Vec<String>,
    /// Why it ended before its time, where it did.
    pub ended_early: Option<String>,
    /// Hosts on which a fault was seen to be in place, or may have been when it lapsed.
    pub targets_affected: usize,
    /// Hosts that it targets.
    pub total_targets: usize,
    /// Hosts targeted over the hosts that counted when it was submitted.
    pub blast_radius: f64,
    /// The share that its file allows.
    pub max_blast_radius: f64,
    /// How long its file has the faults held.
    pub duration_ms: u64,
    /// How long each stays without renewal.
    pub lease_ms: u64,
    /// Hosts that its faults reach without holding any.
    pub touched: Vec<String>,
    /// What should not have happened.
    pub incidents: Vec<IncidentView>,
    /// Stages of probes that were not steady.
    pub deviations: Vec<DeviationView>,
    /// Each step.
    pub timeline: Vec<StepView>,
    /// What each probe measured, by stage.
    pub metrics: Vec<MetricView>,
    /// Each fault on each host.
    pub faults: Vec<FaultOutcomeView>,
    /// What is left, one line each with its host; empty is clean.
    pub residue: Vec<String>,
    /// A quorum stood behind this answer.
    pub confirmed: bool,
    /// The log entry as of which this is true.
    pub as_of: u64,
}

/// An incident.
#[derive(Debug, Serialize)]
pub struct IncidentView {
    /// When.
    pub at: String,
    /// P1 to P4.
    pub severity: String,
    /// What.
    pub what: String,
}

/// A stage that was not steady.
#[derive(Debug, Serialize)]
pub struct DeviationView {
    /// The probe.
    pub probe: String,
    /// `before`, `during` or `after`.
    pub stage: String,
    /// `deviated`, or `unknown` for want of samples.
    pub finding: String,
    /// Numbers in words.
    pub what: String,
}

/// A step.
#[derive(Debug, Serialize)]
pub struct StepView {
    /// When, by the leader's wall clock.
    pub at: String,
    /// What.
    pub what: String,
}

/// One probe.
#[derive(Debug, Serialize)]
pub struct MetricView {
    /// Its name.
    pub probe: String,
    /// The host that ran it.
    pub from: String,
    /// What was asked, and what was expected.
    pub expect: String,
    /// What was measured, by stage.
    pub stages: BTreeMap<String, StageView>,
}

/// One stage of one probe.
#[derive(Debug, Serialize)]
pub struct StageView {
    /// Whether it was steady.
    pub finding: String,
    /// Samples that are decided.
    pub sent: u64,
    /// Good ones.
    pub ok: u64,
    /// Bad ones.
    pub failed: u64,
    /// Samples that were due and not taken; they are in none of the others.
    pub missed: u64,
    /// Those of them for which there was no room.
    pub overrun: u64,
    /// Samples without an answer yet, for longer than any good one took.
    pub hanging: u64,
    /// Median latency of the good ones in microseconds; `null` where none was good.
    pub p50_us: Option<u64>,
    /// Their 99th percentile.
    pub p99_us: Option<u64>,
    /// The longest.
    pub max_us: Option<u64>,
    /// What the last bad one said.
    pub last_error: String,
    /// How long this stage was sampled.
    pub elapsed_ms: u64,
}

impl StageView {
    fn new(tally: &Tally, finding: Steadiness) -> StageView {
        let of_good = |us: u64| (tally.ok > 0).then_some(us);
        StageView {
            finding: finding.name().to_owned(),
            sent: tally.sent,
            ok: tally.ok,
            failed: tally.failed,
            missed: tally.missed,
            overrun: tally.overrun,
            hanging: tally.hanging,
            p50_us: of_good(tally.p50_us),
            p99_us: of_good(tally.p99_us),
            max_us: of_good(tally.max_us),
            last_error: tally.last_error.clone(),
            elapsed_ms: tally.elapsed_ms,
        }
    }
}

/// One fault on one host.
#[derive(Debug, Serialize)]
pub struct FaultOutcomeView {
    /// The host.
    pub host: String,
    /// Its position in the file.
    pub fault: u16,
    /// Its kind.
    pub kind: String,
    /// What it does, in one line.
    pub what: String,
    /// The same for a table.
    #[serde(skip)]
    pub short: String,
    /// `pending`, `held`, `clean`, `lost`, `stuck`, `not-held` or `lapsed`.
    pub state: String,
    /// How it ended, or why it was never there.
    pub why: String,
    /// What was asked for against what was measured.
    pub achieved: Option<Achieved>,
    /// Milliseconds from the reason to the proof that it is gone.
    pub lift_ms: Option<u64>,
}

impl ExperimentView {
    /// The view of one experiment.
    #[must_use]
    pub fn new(shown: &Shown) -> ExperimentView {
        let record = &shown.record;
        let spec = &record.experiment;
        let targets = spec.targets();
        let affected = targets.iter().filter(|host| {
            record.faults.iter().any(|(id, state)| id.host == **host && state.was_in_place())
        });
        let share = targets.len() as f64 / f64::from(record.counted.max(1));
        ExperimentView {
            id: record.id.to_string(),
            name: spec.name.clone(),
            objective: spec.objective.clone(),
            r#type: words::kinds(record),
            state: record.phase.name().to_owned(),
            verdict: record.verdict.map(|v| v.name().to_owned()),
            reasons: record.reasons.clone(),
            ended_early: record.ending.as_ref().map(EndReason::to_string),
            targets_affected: affected.count(),
            total_targets: targets.len(),
            blast_radius: rounded(share),
            max_blast_radius: f64::from(spec.safety.max_radius_ppm) / 1_000_000.0,
            duration_ms: spec.duration_ms,
            lease_ms: spec.safety.lease_ms,
            touched: spec.touched.iter().map(ToString::to_string).collect(),
            incidents: record.incidents.iter().map(incident).collect(),
            deviations: record.probes.iter().flat_map(deviations).collect(),
            timeline: record.timeline.iter().map(step).collect(),
            metrics: metrics(record, &shown.probes),
            faults: faults(record),
            residue: record.residue(),
            confirmed: shown.confirmed,
            as_of: shown.applied.0,
        }
    }
}

/// Three digits are all that a share of hosts means.
fn rounded(share: f64) -> f64 {
    (share * 1_000.0).round() / 1_000.0
}

fn incident(incident: &squall_core::experiment::Incident) -> IncidentView {
    IncidentView {
        at: words::moment(incident.at),
        severity: incident.severity.name().to_owned(),
        what: incident.what.clone(),
    }
}

fn step(entry: &squall_core::experiment::TimelineEntry) -> StepView {
    StepView { at: words::moment(entry.at), what: entry.what.clone() }
}

fn deviations(probe: &ProbeOutcome) -> impl Iterator<Item = DeviationView> + '_ {
    let odd = probe.stages.iter().filter(|(_, _, s)| *s != Steadiness::Steady);
    odd.map(|(stage, tally, steadiness)| DeviationView {
        probe: probe.name.clone(),
        stage: stage.name().to_owned(),
        finding: steadiness.name().to_owned(),
        what: tally.to_string(),
    })
}

/// The settled outcome where there is one, else the live tallies.
fn metrics(record: &ExperimentRecord, live: &[ProbeReport]) -> Vec<MetricView> {
    let view = |spec: &squall_core::probe::ProbeSpec| {
        let stage = |s: Stage, tally: &Tally, finding: Steadiness| {
            (s.name().to_owned(), StageView::new(tally, finding))
        };
        let stages = match record.probes.iter().find(|p| p.name == spec.name) {
            Some(outcome) => outcome.stages.iter().map(|(s, t, f)| stage(*s, t, *f)).collect(),
            None => live
                .iter()
                .filter(|p| p.name == spec.name)
                .flat_map(|p| p.stages.iter().map(|(s, t)| stage(*s, t, spec.expect.judge(t))))
                .collect(),
        };
        MetricView {
            probe: spec.name.clone(),
            from: spec.from.to_string(),
            expect: spec.expected(),
            stages,
        }
    };
    record.experiment.probes.iter().map(view).collect()
}

fn faults(record: &ExperimentRecord) -> Vec<FaultOutcomeView> {
    let view = |placement: &squall_core::experiment::Placement| {
        let known = record
            .faults
            .iter()
            .find(|(id, _)| id.fault == placement.fault && id.host == placement.host)
            .map(|(_, state)| state);
        let (state, why, achieved, lift_ms) = outcome(known.unwrap_or(&FaultState::Pending));
        FaultOutcomeView {
            host: placement.host.to_string(),
            fault: placement.fault,
            kind: placement.spec.kind().name().to_owned(),
            what: words::fault(&placement.spec),
            short: words::fault_shortly(&placement.spec),
            state: state.to_owned(),
            why,
            achieved,
            lift_ms,
        }
    };
    record.experiment.faults.iter().map(view).collect()
}

type Told = (&'static str, String, Option<Achieved>, Option<u64>);

fn outcome(state: &FaultState) -> Told {
    let ended = |name, e: &squall_core::experiment::Ended| {
        (name, e.why.to_string(), e.achieved.clone(), Some(e.lift_ms))
    };
    match state {
        FaultState::Pending => ("pending", String::new(), None, None),
        FaultState::Held(achieved) => ("held", String::new(), Some(achieved.clone()), None),
        FaultState::Clean(e) => ended("clean", e),
        FaultState::Lost(e) => ended("lost", e),
        FaultState::Stuck(e) => ended("stuck", e),
        FaultState::NotHeld { reason, .. } => ("not-held", reason.clone(), None, None),
        FaultState::Lapsed(achieved) => {
            ("lapsed", "by time, nobody saw it go".into(), achieved.clone(), None)
        }
    }
}

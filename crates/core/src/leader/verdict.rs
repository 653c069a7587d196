//! What an experiment has shown.

use super::Leader;
use super::progress::describe;
use crate::experiment::{
    EndReason, Ended, ExperimentRecord, FaultState, Incident, MAX_REASON, MAX_REASONS,
    ProbeOutcome, Severity, Verdict,
};
use crate::probe::{Expect, Stage, Steadiness};
use crate::registry::Command;

impl Leader {
    /// The last word on an experiment whose faults are all over.
    pub(super) fn settlement(&self, record: &ExperimentRecord) -> Command {
        let held_ms = self.held.get(&record.id).map_or(0, |(from, to)| to.since(*from));
        let probes: Vec<ProbeOutcome> = record
            .experiment
            .probes
            .iter()
            .map(|probe| ProbeOutcome {
                name: probe.name.clone(),
                stages: [Stage::Before, Stage::During, Stage::After]
                    .into_iter()
                    .filter(|stage| *stage != Stage::After || !record.is_stopped())
                    .map(|stage| {
                        let tally = self.tally(record, probe, stage);
                        let wanted_ms = match stage {
                            Stage::Before => record.experiment.baseline_ms,
                            // Where a host was long in beginning, the others were watched meanwhile, and
                            // must have been for all their time too.
                            Stage::During => record.experiment.duration_ms.max(held_ms),
                            Stage::After => record.experiment.recovery_ms,
                        };
                        let whole = Expect::covers(&tally, probe.every_ms, wanted_ms)
                            || record.ending.is_some();
                        let steadiness = match probe.expect.judge(&tally) {
                            Steadiness::Steady if !whole => Steadiness::Unknown,
                            judged => judged,
                        };
                        (stage, tally, steadiness)
                    })
                    .collect(),
            })
            .collect();
        let (verdict, mut reasons) = judge(record, &probes, self.unhealed(record));
        // What is beyond stands with each fault; an entry of the log has its limit.
        let beyond = reasons.len().saturating_sub(MAX_REASONS);
        reasons.truncate(MAX_REASONS);
        for reason in &mut reasons {
            *reason = reason.chars().take(MAX_REASON).collect();
        }
        if beyond > 0 {
            reasons.push(format!("and {beyond} more"));
        }
        Command::Settle { id: record.id, verdict, reasons, probes }
    }
}

/// The worst finding wins: refused and stopped say why nothing was to be found; else broken,
/// unknown, held. `held` needs every fault seen to bite for all its time, every stage steady,
/// everything seen gone.
pub(super) fn judge(
    record: &ExperimentRecord,
    probes: &[ProbeOutcome],
    unhealed: Option<String>,
) -> (Verdict, Vec<String>) {
    let mut findings: Vec<(Verdict, String)> = Vec::new();
    findings.extend(unhealed.map(|why| (Verdict::Unknown, why)));
    let mut stopped = None;
    match &record.ending {
        None => {}
        Some(why @ (EndReason::Operator(_) | EndReason::StopAll)) => {
            stopped = Some((Verdict::Stopped, why.to_string()));
        }
        Some(
            why @ (EndReason::Preflight(_) | EndReason::HostRefused(..) | EndReason::NoBaseline(_)),
        ) => stopped = Some((Verdict::Refused, why.to_string())),
        Some(
            why @ (EndReason::Deviated(_) | EndReason::FaultFailed(_) | EndReason::SplitBrain(_)),
        ) => {
            findings.push((Verdict::Broken, why.to_string()));
        }
        Some(why @ (EndReason::FaultLost(_) | EndReason::Unanswered(_))) => {
            findings.push((Verdict::Unknown, why.to_string()));
        }
    }
    let rolled_back = matches!(record.ending, Some(EndReason::SplitBrain(_)));
    let untold = |i: &&Incident| i.severity == Severity::P1 && (!rolled_back || i.is_by_hand());
    for incident in record.incidents.iter().filter(untold) {
        findings.push((Verdict::Broken, incident.what.clone()));
    }
    for (id, state) in &record.faults {
        let place = format!("{} fault {}", id.host, id.fault);
        let finding = match state {
            FaultState::Clean(ended) if record.ending.is_none() && ended.came_late() => {
                (Verdict::Unknown, format!("{place} came into place late: {}", ended.why))
            }
            // By a stop that the log has not heard of yet, say, or because its host was drained.
            FaultState::Clean(ended) if record.ending.is_none() && ended.why != Ended::DEADLINE => {
                let drained =
                    if ended.why == Ended::ORDER { ", as its host was drained" } else { "" };
                let why = &ended.why;
                (Verdict::Unknown, format!("{place} was lifted before its time: {why}{drained}"))
            }
            FaultState::Clean(ended) => match &ended.achieved {
                Some(achieved) if achieved.bit => continue,
                Some(_) | None => (Verdict::Unknown, format!("{place} was not seen to bite")),
            },
            FaultState::Lost(ended) => {
                (Verdict::Unknown, format!("{place} was lost: {}", ended.why))
            }
            FaultState::Stuck(ended) => {
                (Verdict::Unknown, format!("{place} is NOT CLEAN: {}", ended.residue.join("; ")))
            }
            FaultState::NotHeld { reason, .. } => {
                (Verdict::Broken, format!("{place} was not held: {reason}"))
            }
            FaultState::Lapsed => {
                (Verdict::Unknown, format!("{place} lapsed by time, nobody saw it go"))
            }
            FaultState::Pending | FaultState::Held(_) => {
                (Verdict::Unknown, format!("{place} was not seen"))
            }
        };
        findings.push(finding);
    }
    for probe in probes {
        for (stage, tally, steadiness) in &probe.stages {
            let words =
                format!("probe `{}` {stage:?}: {}", probe.name, describe(tally)).to_lowercase();
            match steadiness {
                Steadiness::Steady => {}
                Steadiness::Unknown => findings.push((Verdict::Unknown, words)),
                Steadiness::Deviated => findings.push((Verdict::Broken, words)),
            }
        }
    }
    if let Some((verdict, why)) = stopped {
        let counts = |text: &str| text.contains("NOT CLEAN") || text.starts_with(Incident::BY_HAND);
        let rest = findings.into_iter().filter(|(_, text)| counts(text));
        return (verdict, std::iter::once(why).chain(rest.map(|(_, text)| text)).collect());
    }
    let verdict = findings.iter().map(|(v, _)| *v).max().unwrap_or(Verdict::Held);
    let reasons = if findings.is_empty() {
        let held = if probes.is_empty() { "" } else { "; the hypothesis held" };
        vec![format!("every fault bit and was seen lifted clean{held}")]
    } else {
        findings.into_iter().map(|(_, text)| text).collect()
    };
    (verdict, reasons)
}

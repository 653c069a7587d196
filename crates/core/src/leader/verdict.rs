//! What an experiment has shown.

use super::{FRESH_MS, Leader};
use crate::experiment::{
    EndReason, ExperimentRecord, FaultState, IncidentKind, MAX_REASON, MAX_REASONS, ProbeOutcome,
    Verdict, Why,
};
use crate::ids::FaultId;
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
                        let planned = record.experiment.planned(probe);
                        let cut_short = stage == Stage::During
                            && !Expect::covers(
                                &tally,
                                probe.every_ms,
                                record.experiment.duration_ms,
                            );
                        let steadiness = match probe.expect.judge(&tally) {
                            Steadiness::Steady if !whole => Steadiness::Unknown,
                            // The rest of its time could have made up for it.
                            Steadiness::Deviated
                                if cut_short && !probe.expect.is_lost(&tally, planned) =>
                            {
                                Steadiness::Unknown
                            }
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

/// One thing that was found, and what it makes of the verdict.
struct Finding {
    verdict: Verdict,
    words: String,
    /// Whoever stopped the experiment is told all the same.
    matters_after_a_stop: bool,
}

impl Finding {
    fn new(verdict: Verdict, words: impl Into<String>) -> Finding {
        Finding { verdict, words: words.into(), matters_after_a_stop: false }
    }

    /// Somebody has to do something about it.
    fn left(verdict: Verdict, words: impl Into<String>) -> Finding {
        Finding { matters_after_a_stop: true, ..Finding::new(verdict, words) }
    }
}

/// The worst finding wins: refused and stopped say why nothing was to be found; else broken,
/// unknown, held. `held` needs every fault seen to bite for all its time, all of them together, every
/// stage steady, everything seen gone.
pub(super) fn judge(
    record: &ExperimentRecord,
    probes: &[ProbeOutcome],
    unhealed: Option<String>,
) -> (Verdict, Vec<String>) {
    let mut findings: Vec<Finding> =
        unhealed.map(|why| Finding::new(Verdict::Unknown, why)).into_iter().collect();
    let mut stopped = None;
    if let Some(why) = &record.ending {
        match why {
            EndReason::Operator(_) | EndReason::StopAll => stopped = Some(Verdict::Stopped),
            // Who refuses after others were hurt does not make that undone.
            EndReason::HostRefused(..) if record.faults.values().any(FaultState::was_in_place) => {
                findings.push(Finding::new(Verdict::Broken, why.to_string()));
            }
            EndReason::Preflight(_) | EndReason::HostRefused(..) | EndReason::NoBaseline(_) => {
                stopped = Some(Verdict::Refused);
            }
            EndReason::Deviated(_) | EndReason::FaultFailed(_) | EndReason::SplitBrain(_) => {
                findings.push(Finding::new(Verdict::Broken, why.to_string()));
            }
            EndReason::FaultLost(_) | EndReason::Unanswered(_) => {
                findings.push(Finding::new(Verdict::Unknown, why.to_string()));
            }
        }
    }
    findings.extend(of_incidents(record));
    let whole = record.ending.is_none();
    findings
        .extend(record.faults.iter().filter_map(|(id, state)| of_fault(record, id, state, whole)));
    findings.extend(apart(record).filter(|_| whole));
    findings.extend(probes.iter().flat_map(of_probe));
    if let (Some(verdict), Some(why)) = (stopped, &record.ending) {
        let rest = findings.into_iter().filter(|finding| finding.matters_after_a_stop);
        return (verdict, std::iter::once(why.to_string()).chain(rest.map(|f| f.words)).collect());
    }
    let verdict = findings.iter().map(|f| f.verdict).max().unwrap_or(Verdict::Held);
    let reasons = if findings.is_empty() {
        let held = if probes.is_empty() { "" } else { "; the hypothesis held" };
        vec![format!("every fault bit and was seen lifted clean{held}")]
    } else {
        findings.into_iter().map(|f| f.words).collect()
    };
    (verdict, reasons)
}

fn of_incidents(record: &ExperimentRecord) -> impl Iterator<Item = Finding> {
    let rolled_back = matches!(record.ending, Some(EndReason::SplitBrain(_)));
    record.incidents.iter().filter_map(move |incident| match incident.kind {
        IncidentKind::ManualIntervention => {
            Some(Finding::left(Verdict::Broken, incident.what.clone()))
        }
        // The ending says it.
        IncidentKind::SplitBrain if rolled_back => None,
        IncidentKind::SplitBrain => Some(Finding::new(Verdict::Broken, incident.what.clone())),
        IncidentKind::ExpectedSplitBrain => None,
    })
}

/// What speaks against `held` in the end of one fault; `whole` where nothing ended the experiment early.
fn of_fault(
    record: &ExperimentRecord,
    id: &FaultId,
    state: &FaultState,
    whole: bool,
) -> Option<Finding> {
    let unknown = |words: String| {
        Some(Finding::new(Verdict::Unknown, format!("{} {words}", record.called(id))))
    };
    match state {
        FaultState::Clean(ended) => match &ended.why {
            why @ Why::CameLate { .. } if whole => unknown(format!("came into place late: {why}")),
            Why::Order if whole => {
                unknown("was lifted before its time: order, as its host was drained".into())
            }
            // By a stop that the log has not heard of yet, say.
            why if whole && *why != Why::Deadline => {
                unknown(format!("was lifted before its time: {why}"))
            }
            _ if ended.achieved.as_ref().is_some_and(|achieved| achieved.bit) => None,
            _ => unknown("was not seen to bite".into()),
        },
        FaultState::Lost(ended) => unknown(format!("was lost: {}", ended.why)),
        FaultState::Stuck(ended) => {
            let words = format!("{} is NOT CLEAN: {}", record.called(id), ended.residue.join("; "));
            Some(Finding::left(Verdict::Unknown, words))
        }
        FaultState::NotHeld { reason, .. } => Some(Finding::new(
            Verdict::Broken,
            format!("{} was not held: {reason}", record.called(id)),
        )),
        FaultState::Lapsed(_) => unknown("lapsed by time, nobody saw it go".into()),
        FaultState::Pending | FaultState::Held(_) => unknown("was not seen".into()),
    }
}

/// Faults of one experiment are there at the same time, but for what is forgiven a slow start.
fn apart(record: &ExperimentRecord) -> Option<Finding> {
    let (first, last) = record.in_place?;
    let apart_ms = last.0.saturating_sub(first.0);
    let duration_ms = record.experiment.duration_ms;
    let forgiven_ms = (duration_ms / 10 + FRESH_MS).min(duration_ms / 2);
    (apart_ms > forgiven_ms).then(|| {
        let words = "faults came into place one after the other: for";
        let words = format!("{words} {apart_ms} of {duration_ms} ms not all of them were there");
        Finding::new(Verdict::Unknown, words)
    })
}

fn of_probe(probe: &ProbeOutcome) -> impl Iterator<Item = Finding> {
    probe.stages.iter().filter_map(|(stage, tally, steadiness)| {
        let verdict = match steadiness {
            Steadiness::Steady => return None,
            Steadiness::Unknown => Verdict::Unknown,
            Steadiness::Deviated => Verdict::Broken,
        };
        let stage = stage.name();
        let words = format!("probe `{}` {stage}: {tally}", probe.name);
        Some(Finding::new(verdict, words))
    })
}

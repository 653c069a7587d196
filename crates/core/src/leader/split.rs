//! Two authorities at once: what becomes of the experiments that run.

use std::collections::{BTreeMap, BTreeSet};

use super::{HEAL_MS, Leader, MAX_EVIDENCE};
use crate::clip::cut;
use crate::experiment::{
    EndReason, ExperimentRecord, FaultState, Incident, IncidentKind, Phase, Severity,
};
use crate::registry::{Command, Registry};
use crate::time::{Time, WallTime};
use crate::views::{Authority, Judgement};

/// A split-brain that the views have shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Split {
    evidence: String,
    since: Time,
    /// When it was seen last.
    seen: Time,
    /// By the last judgement; else nobody knows: not all witnesses have spoken since.
    stands: bool,
    /// Hosts and coordinators that led or obeyed while it was seen.
    witnesses: BTreeSet<String>,
}

fn has(record: &ExperimentRecord, kind: IncidentKind) -> bool {
    record.incidents.iter().any(|incident| incident.kind == kind)
}

impl Leader {
    /// What the views say now, and who has spoken for them how many milliseconds ago. A split-brain is healed
    /// once every witness of it has spoken since it was seen last, and none is seen; who else is silent does
    /// not matter.
    pub fn handle_judgement(
        &mut self,
        now: Time,
        judgement: &Judgement,
        spoke: &BTreeMap<String, u64>,
    ) {
        let split = match judgement {
            Judgement::SplitBrain { evidence, authorities, .. } => {
                let mut evidence = evidence.join("; ");
                // Of a large fleet it names every host.
                cut(&mut evidence, MAX_EVIDENCE);
                // One that was not seen for so long may be another one.
                let same = self.split.as_ref().filter(|split| now.since(split.seen) < HEAL_MS);
                let since = same.map_or(now, |split| split.since);
                // Also of one that nobody saw heal.
                let mut witnesses =
                    self.split.as_ref().map(|split| split.witnesses.clone()).unwrap_or_default();
                witnesses.extend(authorities.iter().map(Authority::speaker));
                Some(Split { evidence, since, seen: now, stands: true, witnesses })
            }
            Judgement::Unknown { .. } | Judgement::Partition { .. } | Judgement::Agree => {
                let unhealed = self.split.clone().filter(|split| {
                    let after = |w| spoke.get(w).is_some_and(|age| *age < now.since(split.seen));
                    !split.witnesses.iter().all(after)
                });
                unhealed.map(|split| Split { stands: false, ..split })
            }
        };
        let told = |split: &Option<Split>| split.as_ref().map(|s| (s.evidence.clone(), s.stands));
        let news = told(&split) != told(&self.split);
        let whole = match judgement {
            Judgement::Agree => true,
            Judgement::Partition { missing, .. } => missing.is_empty(),
            Judgement::Unknown { .. } | Judgement::SplitBrain { .. } => false,
        };
        self.clear |= whole || (split.is_none() && self.split.is_some());
        self.split = split;
        if news {
            self.hurry(now);
        }
    }

    /// A split-brain while an experiment has faults in place, or recovers: an incident, and the end of the
    /// experiment, unless its file says otherwise. One that it asked for is told, also to whoever leads next:
    /// its heal has to be seen.
    /// True where the log has nothing of that yet: no verdict may come before it has.
    pub(super) fn report_split(
        &mut self,
        now: Time,
        wall: WallTime,
        record: &ExperimentRecord,
    ) -> bool {
        let Some(split) = self.split.as_ref().filter(|split| split.stands) else { return false };
        let evidence = split.evidence.clone();
        let safety = &record.experiment.safety;
        if record.phase < Phase::Injecting {
            return false;
        }
        if safety.expects_split {
            let kind = IncidentKind::ExpectedSplitBrain;
            let told = has(record, kind);
            if told || record.phase > Phase::Recovering {
                return false;
            }
            let what = format!("split-brain, as the experiment expects: {evidence}");
            let incident = Incident { at: wall, severity: Severity::P4, kind, what };
            self.propose(now, Command::Report { id: record.id, incident });
            return true;
        }
        let unknown = record.incidents.iter().all(|known| known.severity != Severity::P1);
        let (id, what) = (record.id, format!("split-brain: {evidence}"));
        if !record.incidents.iter().any(|known| known.what == what) {
            let kind = IncidentKind::SplitBrain;
            let incident = Incident { at: wall, severity: Severity::P1, kind, what };
            self.propose(now, Command::Report { id, incident });
        }
        if safety.auto_rollback && record.ending.is_none() {
            self.propose(now, Command::End { id, why: EndReason::SplitBrain(evidence) });
        }
        unknown
    }

    /// After all faults are gone: whether a split-brain may yet go by itself, or is to be reported first
    /// as one that a person has to mend. Also one that was asked for was asked for only while its faults
    /// were there. Where anything of Squall's is in place, here or of others, or was until just now, that
    /// may be the cause.
    pub(super) fn awaits_heal(
        &mut self,
        now: Time,
        wall: WallTime,
        record: &ExperimentRecord,
        in_phase_ms: u64,
        registry: &Registry,
    ) -> bool {
        let kind = IncidentKind::ManualIntervention;
        let reported = has(record, kind);
        if record.phase != Phase::Recovering || record.is_stopped() || reported {
            return false;
        }
        let Some(split) = &self.split else {
            return self.inherits_split(record) && in_phase_ms < HEAL_MS;
        };
        let ours = self.may_be_ours(record, registry);
        let known_ms = in_phase_ms.min(now.since(split.since));
        // Where nobody can say whether it still stands, it is waited for as long, and left to the verdict.
        if (ours && in_phase_ms >= HEAL_MS) || (!split.stands && known_ms >= HEAL_MS) {
            return false;
        }
        let healed_ms = known_ms.min(now.since(self.hurt));
        if split.stands && healed_ms >= HEAL_MS {
            let what = format!(
                "manual intervention required: the split-brain still stands {} s after the heal: {}",
                HEAL_MS / 1_000,
                split.evidence
            );
            let incident = Incident { at: wall, severity: Severity::P1, kind, what };
            self.propose(now, Command::Report { id: record.id, incident });
        }
        true
    }

    /// Whether some fault of anybody's may be in place. `hurt` says when that was seen last, of others.
    fn may_be_ours(&self, record: &ExperimentRecord, registry: &Registry) -> bool {
        let left =
            |state: &FaultState| matches!(state, FaultState::Stuck(_) | FaultState::Lapsed(_));
        self.anybody_hurts(registry) || record.faults.values().any(left)
    }

    fn anybody_hurts(&self, registry: &Registry) -> bool {
        let hurts = |e: &ExperimentRecord| (Phase::Injecting..=Phase::Lifting).contains(&e.phase);
        registry.running().any(hurts)
            || self.sessions.values().any(|session| session.report.alive() > 0)
    }

    /// Remembers when something of Squall's last hurt somebody, and forgets a split-brain that nobody sees
    /// any more once nothing runs that may have seen it.
    pub(super) fn note_hurt(&mut self, now: Time, registry: &Registry) {
        let Some(split) = &self.split else { return };
        if !split.stands && registry.running().all(|e| e.phase < Phase::Injecting) {
            self.split = None;
        } else if self.anybody_hurts(registry) {
            self.hurt = now;
        }
    }

    /// Whether an earlier leader saw one that was asked for, and this one has not seen the whole since.
    pub(super) fn inherits_split(&self, record: &ExperimentRecord) -> bool {
        let seen = has(record, IncidentKind::ExpectedSplitBrain);
        seen && self.split.is_none() && !self.clear
    }

    /// What keeps a verdict from being `held`: a split-brain of which no heal was seen, and that nobody can
    /// lay at a person's door.
    pub(super) fn unhealed(&self, record: &ExperimentRecord) -> Option<String> {
        let told = has(record, IncidentKind::ManualIntervention) || record.is_stopped();
        if told || record.phase != Phase::Recovering {
            return None;
        }
        if self.inherits_split(record) {
            let why = "an earlier leader saw a split-brain, and reports are missing since";
            return Some(why.to_owned());
        }
        let split = self.split.as_ref()?;
        let why = if split.stands {
            "a fault that is in place may cause it"
        } else {
            "not all who saw it have reported since"
        };
        Some(format!("a split-brain was seen, and no heal of it ({why}): {}", split.evidence))
    }
}

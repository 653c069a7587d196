//! One fault on one host, from the intent to the proof that it is gone.
//!
//! ```text
//! Journaling → Applying → Held → Reverting → over: Clean | Lost | NotHeld
//! ```
//! Reverting is legal from every phase, and is called Stuck while it goes on because something is left. What
//! ends a fault is kept from the first reason on.

use super::{
    Action, CONFIRM_MS, Host, LIFT_GRACE_MS, PROOF_MS, PROOF_RETRY_MS, RETRY_MS, Record, Token,
};
use crate::experiment::{Ended, Why};
use crate::fault::Fault;
use crate::hold::{Achieved, Failure, Hold, HolderReport, Protect};
use crate::ids::{FaultId, LogIndex};
use crate::leader::FRESH_MS;
use crate::message::{FaultReport, HostPhase};
use crate::time::Time;

impl Why {
    /// Ended as it was meant to.
    fn is_orderly(&self) -> bool {
        matches!(self, Why::Order | Why::Deadline | Why::CameLate { .. } | Why::Stop)
    }
}

/// A fault that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Live {
    pub(super) start: LogIndex,
    pub(super) spec: Option<Fault>,
    pub(super) lease_ms: u64,
    pub(super) lease_until: Time,
    pub(super) deadline: Time,
    pub(super) local: bool,
    /// The process by which a person asked, where it is known.
    pub(super) asker: Option<i32>,
    phase: Phase,
    achieved: Option<Achieved>,
    /// When it came into place.
    in_place: Option<Time>,
    /// Until when it was in place, by its holder's last words.
    let_go: Option<Time>,
    /// The shortest time in place that still counts as the whole duration: a slow start is forgiven, a
    /// hung disk is not.
    least_ms: u64,
    /// What was left of its time when it came into place, where that was less.
    short_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Journaling,
    Applying,
    Held { confirm_by: Option<Time> },
    Reverting { why: Why, since: Time, step: Step },
}

/// How far a revert has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// The holder was told, or `killed`; once the grace is over it is killed, and when one that was killed
    /// does not end, what is left is looked for all the same.
    AwaitHolder { kill_at: Time, killed: bool },
    /// The holder is `gone`, or does not end; looking for what is `left`, which counts once [`PROOF_MS`] have
    /// passed. That nothing is left counts only by a look from after its end: it may not have begun yet.
    Proving { since: Time, retry_at: Time, asked: bool, left: Vec<String>, gone: bool, stale: bool },
}

impl Step {
    fn proving(now: Time, gone: bool) -> Step {
        let left = Vec::new();
        Step::Proving { since: now, retry_at: now, asked: true, left, gone, stale: false }
    }
}

impl Live {
    pub(super) fn new(
        start: LogIndex,
        spec: Fault,
        lease_ms: u64,
        lease_until: Time,
        now: Time,
        duration_ms: u64,
    ) -> Live {
        let deadline = now.plus(duration_ms);
        let least_ms = match spec {
            // It happens at once, whenever that is.
            Fault::Kill(_) => 0,
            _ => duration_ms.saturating_sub(duration_ms / 10 + FRESH_MS),
        };
        Live {
            start,
            spec: Some(spec),
            lease_ms,
            lease_until: lease_until.min(deadline),
            deadline,
            local: false,
            asker: None,
            phase: Phase::Journaling,
            achieved: None,
            in_place: None,
            let_go: None,
            least_ms,
            short_ms: None,
        }
    }

    pub(super) fn next_timeout(&self) -> Time {
        match &self.phase {
            Phase::Journaling | Phase::Applying => self.lease_until.min(self.deadline),
            Phase::Held { confirm_by } => {
                self.lease_until.min(self.deadline).min(confirm_by.unwrap_or(Time::FAR))
            }
            Phase::Reverting { step, .. } => match step {
                Step::AwaitHolder { kill_at, .. } => *kill_at,
                Step::Proving { asked: true, .. } => Time::FAR,
                Step::Proving { retry_at, .. } => *retry_at,
            },
        }
    }

    /// Something of it may stand on the host.
    pub(super) fn may_be_in_place(&self) -> bool {
        matches!(self.phase, Phase::Applying | Phase::Held { .. })
    }

    pub(super) fn is_reverting(&self) -> bool {
        matches!(self.phase, Phase::Reverting { .. })
    }

    /// Words that arrived before it was in place say nothing of what it lets pass.
    pub(super) fn confirm(&mut self, at: Time) {
        if let Phase::Held { confirm_by } = &mut self.phase
            && self.in_place.is_some_and(|since| since <= at)
        {
            *confirm_by = None;
        }
    }

    /// What stays although it should be gone.
    pub(super) fn left(&self) -> &[String] {
        match &self.phase {
            Phase::Reverting { step: Step::Proving { left, .. }, .. } => left,
            Phase::Journaling | Phase::Applying | Phase::Held { .. } | Phase::Reverting { .. } => {
                &[]
            }
        }
    }

    fn is_stuck(&self) -> bool {
        !self.left().is_empty()
    }

    fn host_phase(&self) -> HostPhase {
        match &self.phase {
            Phase::Journaling => HostPhase::Journaling,
            Phase::Applying => HostPhase::Applying,
            Phase::Held { .. } => HostPhase::Held,
            Phase::Reverting { .. } if self.is_stuck() => HostPhase::Stuck,
            Phase::Reverting { .. } => HostPhase::Reverting,
        }
    }

    pub(super) fn report(&self, now: Time, id: &FaultId) -> FaultReport {
        let ended = match &self.phase {
            Phase::Reverting { why, .. } if self.is_stuck() => Some(Ended {
                why: why.clone(),
                achieved: self.achieved.clone(),
                lift_ms: 0,
                residue: self.left().to_vec(),
            }),
            Phase::Journaling | Phase::Applying | Phase::Held { .. } | Phase::Reverting { .. } => {
                None
            }
        };
        FaultReport {
            id: id.clone(),
            kind: self.spec.as_ref().map(Fault::kind),
            phase: self.host_phase(),
            lease_ms: now.until(self.lease_until),
            remaining_ms: now.until(self.deadline),
            in_place_ms: self.in_place.map(|since| now.since(since)),
            achieved: self.achieved.clone(),
            ended,
        }
    }
}

impl Host {
    /// Begins a fault that was found admissible: its intent is made durable first.
    pub(super) fn begin(&mut self, id: FaultId, live: Live) {
        let start = live.start;
        self.live.insert(id.clone(), live);
        self.persist(Token::Intent(id.clone()), vec![Record::Intent(id, start)]);
    }

    /// A fault of an earlier life: over, but what is left of it must be looked for.
    pub(super) fn revive_as_lost(&mut self, now: Time, id: FaultId, start: LogIndex) {
        let step = Step::proving(now, true);
        let live = Live {
            start,
            spec: None,
            lease_ms: u64::MAX,
            lease_until: now,
            deadline: now,
            local: false,
            asker: None,
            phase: Phase::Reverting { why: Why::AgentRestarted, since: now, step },
            achieved: None,
            in_place: None,
            let_go: None,
            least_ms: 0,
            short_ms: None,
        };
        self.live.insert(id.clone(), live);
        self.actions.push_back(Action::Prove(id));
    }

    pub(super) fn intent_written(&mut self, now: Time, id: &FaultId, result: Result<(), String>) {
        let Some(live) = self.live.get_mut(id) else { return };
        match (&mut live.phase, result) {
            (Phase::Journaling, Ok(())) => {
                let Some(spec) = live.spec.clone() else { return };
                live.phase = Phase::Applying;
                let hold = Hold {
                    id: id.clone(),
                    fault: spec,
                    lease_until: live.lease_until,
                    deadline: live.deadline,
                    protect: Protect { asker: live.asker, ..self.policy.protect() },
                };
                self.actions.push_back(Action::Start(Box::new(hold)));
            }
            (Phase::Journaling, Err(reason)) => {
                let why = Why::NotHeld {
                    reason: format!("the journal cannot be written: {reason}"),
                    refused: false,
                };
                self.close(now, id, why, now, Vec::new());
            }
            (Phase::Applying | Phase::Held { .. } | Phase::Reverting { .. }, _) => {}
        }
    }

    /// A holder's words.
    pub fn handle_holder(&mut self, now: Time, id: &FaultId, report: HolderReport) {
        self.expire(now);
        let Some(live) = self.live.get_mut(id) else { return };
        match report {
            HolderReport::Held(achieved) => {
                live.achieved = Some(achieved);
                if live.phase == Phase::Applying {
                    live.in_place = Some(now);
                    live.short_ms =
                        Some(now.until(live.deadline)).filter(|left| *left < live.least_ms);
                    let network = live.spec.as_ref().is_some_and(|s| s.traffic().is_some());
                    let severed = live.spec.as_ref().is_some_and(Fault::severs_control);
                    let confirm = network && !severed && !live.local;
                    live.phase = Phase::Held { confirm_by: confirm.then(|| now.plus(CONFIRM_MS)) };
                    self.report_soon(now);
                }
            }
            HolderReport::Measured(achieved) => live.achieved = Some(achieved),
            HolderReport::Lifted(achieved, until) => {
                live.achieved = Some(achieved);
                live.let_go = Some(until);
                let why = if until >= live.deadline { Why::Deadline } else { Why::HolderDied };
                self.revert(now, id, why);
            }
            HolderReport::Failed(failure) => {
                let refused = matches!(failure, Failure::Protected(_));
                self.revert(now, id, Why::NotHeld { reason: failure.to_string(), refused });
            }
        }
    }

    /// A holder is gone, and the kernel has taken back what it stood on.
    pub fn handle_gone(&mut self, now: Time, id: &FaultId) {
        // First the reason, then what has run out: a holder that the kernel killed at the lease's
        // end is a lease that ran out.
        self.expire(now);
        self.revert(now, id, Why::HolderDied);
        let Some(live) = self.live.get_mut(id) else { return };
        if let Phase::Reverting { why, step, .. } = &mut live.phase
            && matches!(step, Step::AwaitHolder { .. } | Step::Proving { gone: false, .. })
        {
            let looking = matches!(step, Step::Proving { asked: true, .. });
            // Whoever looks after the deadline only, as one who was frozen, does not know until when it
            // was in place: that only the holder can say.
            let stayed = live.let_go.is_some_and(|until| until >= live.deadline);
            if *why == Why::Deadline && live.achieved.is_some() && !stayed {
                *why = Why::HolderDied;
            }
            *step = Step::proving(now, true);
            match step {
                Step::Proving { stale, .. } if looking => *stale = true,
                _ => self.actions.push_back(Action::Prove(id.clone())),
            }
        }
    }

    /// A holder could not be started at all; nothing was touched.
    pub fn handle_not_started(&mut self, now: Time, id: &FaultId, reason: String) {
        self.expire(now);
        self.revert(now, id, Why::NotHeld { reason, refused: false });
        self.handle_gone(now, id);
    }

    /// What is left of a fault, one line each; empty is clean.
    pub fn handle_proof(&mut self, now: Time, id: &FaultId, residue: Vec<String>) {
        self.expire(now);
        let Some(live) = self.live.get_mut(id) else { return };
        let Phase::Reverting { why, since, step } = &mut live.phase else { return };
        let Step::Proving { since: began, retry_at, asked, left, gone, stale } = step else {
            return;
        };
        if std::mem::take(stale) {
            self.actions.push_back(Action::Prove(id.clone()));
            return;
        }
        if residue.is_empty() && *gone {
            let (why, since) = (why.clone(), *since);
            self.close(now, id, why, since, residue);
            return;
        }
        *asked = false;
        if now.since(*began) < PROOF_MS {
            *retry_at = now.plus(PROOF_RETRY_MS);
            return;
        }
        *retry_at = now.plus(RETRY_MS);
        let first = left.is_empty() && !residue.is_empty();
        left.clone_from(&residue);
        if first {
            self.note_stuck(now, id, residue);
            self.report_soon(now);
        }
    }

    /// Ends a fault for `why`; the first reason stays.
    pub(super) fn revert(&mut self, now: Time, id: &FaultId, why: Why) {
        let Some(live) = self.live.get_mut(id) else { return };
        let step = match live.phase {
            Phase::Reverting { .. } => return,
            // Nothing was touched, and the write may hang for ever: it is not waited for. An intent that
            // is written late has its end behind it in the journal.
            Phase::Journaling => {
                self.close(now, id, why, now, Vec::new());
                return;
            }
            Phase::Applying | Phase::Held { .. } => {
                let patient = why.is_orderly()
                    || matches!(why, Why::NotHeld { .. } | Why::Lifted | Why::Leaving);
                let action = if patient { Action::Lift } else { Action::Kill };
                self.actions.push_back(action(id.clone()));
                Step::AwaitHolder { kill_at: now.plus(LIFT_GRACE_MS), killed: !patient }
            }
        };
        live.phase = Phase::Reverting { why, since: now, step };
        self.report_soon(now);
    }

    /// Lifts what has run out by `now`, kills what does not lift, tries proofs again.
    pub(super) fn expire(&mut self, now: Time) {
        let due: Vec<FaultId> = self
            .live
            .iter()
            .filter(|(_, live)| live.next_timeout() <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.expire_one(now, &id);
        }
    }

    fn expire_one(&mut self, now: Time, id: &FaultId) {
        let Some(live) = self.live.get_mut(id) else { return };
        match &mut live.phase {
            Phase::Journaling | Phase::Applying | Phase::Held { .. } => {
                // Whoever slept past both: the lease ran out first, and the holder did not outlive it.
                let why = if live.lease_until < live.deadline && now >= live.lease_until {
                    Why::Lease
                } else if now >= live.deadline {
                    Why::Deadline
                } else {
                    Why::Unconfirmed
                };
                self.revert(now, id, why);
            }
            Phase::Reverting { step, .. } => match step {
                Step::AwaitHolder { kill_at, killed } => {
                    self.actions.push_back(Action::Kill(id.clone()));
                    *kill_at = now.plus(LIFT_GRACE_MS);
                    if std::mem::replace(killed, true) {
                        *step = Step::proving(now, false);
                        self.actions.push_back(Action::Prove(id.clone()));
                    }
                }
                Step::Proving { asked, .. } => {
                    *asked = true;
                    self.actions.push_back(Action::Prove(id.clone()));
                }
            },
        }
    }

    /// The fault is over: reported until acknowledged, its id never applied again.
    fn close(&mut self, now: Time, id: &FaultId, why: Why, since: Time, residue: Vec<String>) {
        let Some(live) = self.live.remove(id) else { return };
        let mut report = live.report(now, id);
        report.lease_ms = 0;
        report.remaining_ms = 0;
        report.in_place_ms = None;
        report.phase = match &why {
            Why::NotHeld { .. } => HostPhase::NotHeld,
            why if why.is_orderly() => HostPhase::Clean,
            _ => HostPhase::Lost,
        };
        let lift_ms = now.since(since);
        let why = match (why, live.short_ms) {
            (Why::Deadline, Some(in_place_ms)) => Why::CameLate { in_place_ms },
            (why, _) => why,
        };
        report.ended = Some(Ended { why, achieved: live.achieved, lift_ms, residue });
        self.over.insert(id.clone(), report);
        self.end_for_ever(id, live.start);
        self.persist(Token::Note, vec![Record::Ended(id.clone(), live.start)]);
        self.fault_is_over(now, id);
        self.report_soon(now);
    }

    /// An order that is refused for good: reported as never in place.
    pub(super) fn refuse(
        &mut self,
        now: Time,
        id: FaultId,
        start: LogIndex,
        spec: Fault,
        reason: String,
    ) {
        self.live.insert(id.clone(), Live::new(start, spec, u64::MAX, Time::FAR, Time::FAR, 0));
        self.close(now, &id, Why::NotHeld { reason, refused: true }, now, Vec::new());
    }
}

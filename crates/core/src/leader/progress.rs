//! How an experiment goes on: from what hosts report to what the log should say next.

use std::collections::BTreeSet;

use super::{FRESH_MS, Leader, NOT_AFTER_MS, PATIENCE_MS};
use crate::experiment::{EndReason, Ended, ExperimentRecord, FaultState, Phase, Why};
use crate::host::REPORT_MS;
use crate::ids::{ExperimentId, HostName};
use crate::message::{FaultReport, HostPhase};
use crate::policy::{AlreadyHeld, Policy};
use crate::probe::{Expect, ProbeSpec, Stage, Steadiness, Tally, Vantage};
use crate::registry::{Command, Registry};
use crate::time::{Time, WallTime};

impl Leader {
    /// Proposes what the reports say of faults and the log does not yet.
    pub(super) fn observe(&mut self, now: Time, registry: &Registry) {
        let mut commands = Vec::new();
        // A host speaks for itself alone: what its certificate may say of others is nothing.
        let reports = self.sessions.iter().flat_map(|(host, session)| {
            let own = session.report.faults.iter().filter(move |f| f.id.host == *host);
            own.map(move |fault| (fault, now.since(session.arrived)))
        });
        for (fault, age_ms) in reports {
            let Some(record) = registry.experiments.get(&fault.id.experiment) else { continue };
            let (Some(known), Some(mut seen)) = (record.faults.get(&fault.id), state_of(fault))
            else {
                continue;
            };
            seen.clip(record.faults.len());
            if news(known, &seen) {
                let in_place_ms = fault.in_place_ms.map(|ms| ms.saturating_add(age_ms));
                commands.push(Command::Observe {
                    fault: fault.id.clone(),
                    state: seen,
                    in_place_ms,
                });
            }
        }
        for command in commands {
            self.propose(now, command);
        }
    }

    /// Moves every running experiment on by at most one step.
    pub(super) fn progress(&mut self, now: Time, wall: WallTime, registry: &Registry) {
        let runs = |id: &ExperimentId| registry.experiments.get(id).is_some_and(|r| r.is_running());
        self.phases.retain(|id, _| runs(id));
        self.held.retain(|id, _| runs(id));
        self.listed.retain(|id, _| runs(&id.experiment));
        self.unlisted.retain(|id, _| runs(&id.experiment));
        self.note_hurt(now, registry);
        for record in registry.running() {
            let entry = self.phases.entry(record.id).or_insert((record.phase, now));
            if entry.0 != record.phase {
                *entry = (record.phase, now);
            }
            let entered = entry.1;
            let holds = matches!(record.phase, Phase::Injecting | Phase::Holding);
            if holds && !record.experiment.probes.is_empty() {
                self.held.entry(record.id).or_insert((now, now)).1 = now;
            }
            let in_phase_ms = now.since(entered);
            let news = self.report_split(now, wall, record)
                || self.awaits_heal(now, wall, record, in_phase_ms, registry);
            let step = self.next_step(now, record, in_phase_ms, registry).filter(|_| !news);
            if let Some(command) = step {
                self.propose(now, command);
            }
            self.note_absent(now, record, registry);
            self.lapse(now, record, entered);
        }
    }

    fn next_step(
        &self,
        now: Time,
        record: &ExperimentRecord,
        in_phase_ms: u64,
        registry: &Registry,
    ) -> Option<Command> {
        let to = |to| Some(Command::Advance { id: record.id, from: record.phase, to });
        let end = |why| Some(Command::End { id: record.id, why });
        if record.ending.is_some() {
            return match record.phase {
                Phase::Submitted | Phase::Preflight | Phase::Baseline => {
                    Some(self.settlement(record))
                }
                Phase::Injecting | Phase::Holding => to(Phase::Lifting),
                Phase::Lifting | Phase::Recovering => self.wind_down(record, in_phase_ms),
                Phase::Settled => None,
            };
        }
        let drained = |host: &HostName| registry.hosts.get(host).is_none_or(|h| h.drained);
        if record.phase < Phase::Injecting
            && let Some(host) = record.experiment.targets().into_iter().find(drained)
        {
            return end(EndReason::Preflight(format!("{host} is drained")));
        }
        match record.phase {
            Phase::Submitted => to(Phase::Preflight),
            Phase::Preflight => {
                let bare = record.experiment.probes.is_empty();
                let next = if bare { Phase::Injecting } else { Phase::Baseline };
                self.checked(now, record, registry, in_phase_ms <= PATIENCE_MS, next)
            }
            Phase::Baseline => match self.refused_by_host(now, record) {
                // It has a new one since.
                Some((host, why)) => end(EndReason::HostRefused(host, why)),
                None => match self.baseline(record, in_phase_ms) {
                    // The fleet may be another one by now.
                    Some(Command::Advance { to, .. }) => {
                        // As long again as the baseline itself may take.
                        let experiment = &record.experiment;
                        let sampled_ms = experiment.baseline_ms + experiment.longest_timeout_ms();
                        let patient = in_phase_ms <= sampled_ms + 2 * PATIENCE_MS;
                        self.checked(now, record, registry, patient, to)
                    }
                    other => other,
                },
            },
            Phase::Injecting => self.early_end(record).or_else(|| {
                let pending = record.faults.iter().filter(|(_, s)| **s == FaultState::Pending);
                let hosts: BTreeSet<&str> = pending.map(|(id, _)| id.host.as_str()).collect();
                let patience = record.experiment.safety.lease_ms + PATIENCE_MS;
                let drained = record
                    .faults
                    .iter()
                    .find(|(id, state)| **state == FaultState::Pending && drained(&id.host));
                if hosts.is_empty() {
                    to(Phase::Holding)
                } else if let Some((id, _)) = drained {
                    let why = format!("{} was drained before its fault was in place", id.host);
                    end(EndReason::Unanswered(why))
                } else if in_phase_ms > patience {
                    let hosts = hosts.into_iter().collect::<Vec<_>>().join(", ");
                    let why = format!("no answer within {patience} ms from {hosts}");
                    end(EndReason::Unanswered(why))
                } else {
                    None
                }
            }),
            Phase::Holding => {
                self.early_end(record).or_else(|| self.deviation(record)).or_else(|| {
                    record.faults.values().all(FaultState::is_final).then(|| to(Phase::Lifting))?
                })
            }
            Phase::Lifting | Phase::Recovering => self.wind_down(record, in_phase_ms),
            Phase::Settled => None,
        }
    }

    /// What follows from the checklist: on to the phase `to`, the end, or more patience.
    fn checked(
        &self,
        now: Time,
        record: &ExperimentRecord,
        registry: &Registry,
        patient: bool,
        to: Phase,
    ) -> Option<Command> {
        let end = |why| Some(Command::End { id: record.id, why });
        match self.preflight(now, record, registry) {
            Ok(Some((host, why))) => end(EndReason::HostRefused(host, why)),
            Ok(None) => Some(Command::Advance { id: record.id, from: record.phase, to }),
            Err(why) if !patient => end(EndReason::Preflight(why)),
            Err(_) => None,
        }
    }

    /// The checklist before anything is touched. What may yet become right is an error; a host whose
    /// policy refuses is named with its reason.
    fn preflight(
        &self,
        now: Time,
        record: &ExperimentRecord,
        registry: &Registry,
    ) -> Result<Option<(HostName, String)>, String> {
        let report = |host: &HostName| self.fresh(now, host).map(|s| &s.report);
        registry.fit_for(Some(record.id), &record.experiment, report, |host| {
            self.capabilities.get(host).map(Vec::as_slice).unwrap_or_default()
        })?;
        if let Some(refused) = self.refused_by_host(now, record) {
            return Ok(Some(refused));
        }
        // What others hold there may go by itself.
        match record.experiment.refused_by(|host| {
            let alive = self.fresh(now, host)?.report.alive();
            Some((self.policy(host)?, registry.beside(host, alive)))
        }) {
            Some((host, why)) => Err(format!("{host} refuses: {why}")),
            None => Ok(None),
        }
    }

    /// A host that would refuse whatever else is held there.
    fn refused_by_host(&self, now: Time, record: &ExperimentRecord) -> Option<(HostName, String)> {
        record.experiment.refused_by(|host| {
            self.fresh(now, host).and(Some((self.policy(host)?, AlreadyHeld::default())))
        })
    }

    fn policy(&self, host: &HostName) -> Option<Policy> {
        self.policies.get(host).cloned().unwrap_or_else(|| Some(Policy::default()))
    }

    fn baseline(&self, record: &ExperimentRecord, in_phase_ms: u64) -> Option<Command> {
        let end = |why| Some(Command::End { id: record.id, why });
        let wanted_ms = record.experiment.baseline_ms;
        let mut enough = true;
        for probe in &record.experiment.probes {
            let tally = self.tally(record, probe, Stage::Before);
            let patient = in_phase_ms <= wanted_ms + PATIENCE_MS + probe.timeout_ms;
            if tally.elapsed_ms < wanted_ms {
                enough = false;
                if !patient {
                    return end(EndReason::NoBaseline(format!("`{}`: no data", probe.name)));
                }
            } else if patient && probe.expect.waits_for_more(&tally) {
                enough = false;
            } else if !Expect::covers(&tally, probe.every_ms, wanted_ms) {
                enough = false;
                if !patient {
                    let what = format!("`{}`: {tally}, too few", probe.name);
                    return end(EndReason::NoBaseline(what));
                }
            } else if probe.expect.judge(&tally) != Steadiness::Steady {
                let what = format!("`{}`: {tally}", probe.name);
                return end(EndReason::NoBaseline(what));
            }
        }
        enough.then_some(Command::Advance {
            id: record.id,
            from: Phase::Baseline,
            to: Phase::Injecting,
        })
    }

    /// A fault that was lost, refused or failed ends the rest.
    fn early_end(&self, record: &ExperimentRecord) -> Option<Command> {
        let safety = &record.experiment.safety;
        for (id, state) in &record.faults {
            let why = match state {
                FaultState::NotHeld { reason, refused: true } => {
                    EndReason::HostRefused(id.host.clone(), reason.clone())
                }
                FaultState::NotHeld { reason, refused: false } => {
                    EndReason::FaultFailed(format!("{}: {reason}", id.host))
                }
                FaultState::Lost(ended) if !safety.continue_on_loss => {
                    EndReason::FaultLost(format!("{}: {}", record.called(id), ended.why))
                }
                FaultState::Stuck(ended) => EndReason::FaultLost(format!(
                    "{}: {}, and something is left",
                    record.called(id),
                    ended.why
                )),
                FaultState::Lapsed(_) if !safety.continue_on_loss => {
                    EndReason::FaultLost(format!("{}: not heard of", record.called(id)))
                }
                FaultState::Pending
                | FaultState::Held(_)
                | FaultState::Clean(_)
                | FaultState::Lost(_)
                | FaultState::Lapsed(_) => continue,
            };
            return Some(Command::End { id: record.id, why });
        }
        None
    }

    fn deviation(&self, record: &ExperimentRecord) -> Option<Command> {
        if !record.experiment.safety.auto_rollback {
            return None;
        }
        let bad = record.experiment.probes.iter().find_map(|probe| {
            let tally = self.tally(record, probe, Stage::During);
            let planned = record.experiment.planned(probe);
            probe.expect.is_lost(&tally, planned).then(|| format!("`{}`: {tally}", probe.name))
        })?;
        Some(Command::End { id: record.id, why: EndReason::Deviated(bad) })
    }

    /// After the faults: until all are seen gone, then until the steady state was sampled and no
    /// split-brain may still go by itself.
    fn wind_down(&self, record: &ExperimentRecord, in_phase_ms: u64) -> Option<Command> {
        if record.phase == Phase::Lifting {
            if !record.faults.values().all(FaultState::is_final) {
                return None;
            }
            // After a stop-all no host runs a probe, and whoever stopped the experiment asks for no
            // more than clean hosts.
            let split = self.split.is_some() || self.inherits_split(record);
            let recovers = split || !record.experiment.probes.is_empty();
            if recovers && !record.is_stopped() {
                let to = Phase::Recovering;
                return Some(Command::Advance { id: record.id, from: record.phase, to });
            }
            return Some(self.settlement(record));
        }
        let wanted_ms = record.experiment.recovery_ms;
        let probes = &record.experiment.probes;
        let decided = |p: &ProbeSpec, s| !p.expect.waits_for_more(&self.tally(record, p, s));
        let sampled = probes.iter().all(|p| {
            let after = self.tally(record, p, Stage::After);
            after.elapsed_ms >= wanted_ms
                && Expect::covers(&after, p.every_ms, wanted_ms)
                && [Stage::During, Stage::After].into_iter().all(|stage| decided(p, stage))
        });
        let patience_ms = wanted_ms + PATIENCE_MS + record.experiment.longest_timeout_ms();
        let enough = sampled || record.is_stopped() || in_phase_ms > patience_ms;
        enough.then(|| self.settlement(record))
    }

    /// Faults that were to begin, are ordered no more, and of which their host says that they are not
    /// there and never will be: it has heard the stop that ended the experiment, whose resume can only
    /// stand behind its start, or by its own clock every order that was ever sent is void. Without this
    /// they would lapse, and a host that has answered would be called unseen.
    fn note_absent(&mut self, now: Time, record: &ExperimentRecord, registry: &Registry) {
        if record.phase < Phase::Lifting {
            return;
        }
        let mut absent = Vec::new();
        for (id, _) in record.faults.iter().filter(|(_, s)| **s == FaultState::Pending) {
            let session = self.fresh(now, &id.host).filter(|_| !self.listed.contains_key(id));
            let Some(report) = session.map(|s| &s.report) else { continue };
            let (run, t) = (report.run, report.t);
            let heard = report.digest == registry.fence.digest_at(report.newest_resume);
            let (life, since) = *self.unlisted.entry(id.clone()).or_insert((run, t));
            // An earlier leader may have been asked by a report that did not arrive here.
            let ordered_ms = NOT_AFTER_MS.min(record.experiment.safety.lease_ms);
            let void = life == run && t.since(since) > ordered_ms + FRESH_MS;
            let fenced = record.ending == Some(EndReason::StopAll) && heard;
            if void || (fenced && t > since) {
                absent.push(id.clone());
            }
        }
        for fault in absent {
            let state = FaultState::Clean(Ended { why: Why::Absent, ..Ended::default() });
            self.propose(now, Command::Observe { fault, state, in_place_ms: None });
        }
    }

    /// Faults that no host lists are over once every lease that was ever granted has ended, whether
    /// their host is silent or has forgotten them: a grant answers a report that lists the fault,
    /// and the last such report arrived here, or at an earlier leader, whose last quorum round lies
    /// before this leadership. One that was never listed may have been ordered until the phase was
    /// `entered` in which nothing is; a host that is heard says first by its own clock that it is not there.
    fn lapse(&mut self, now: Time, record: &ExperimentRecord, entered: Time) {
        let lease_ms = record.experiment.safety.lease_ms;
        let wait_ms = lease_ms + NOT_AFTER_MS;
        // See `note_absent`; and its next report.
        let asked_ms = NOT_AFTER_MS.min(lease_ms) + FRESH_MS + 2 * REPORT_MS;
        let mut lapsed = Vec::new();
        for (id, state) in &record.faults {
            let ordered_last = match state {
                FaultState::Held(_) => self.since,
                FaultState::Pending if record.phase >= Phase::Lifting => entered.max(self.since),
                FaultState::Pending
                | FaultState::Clean(_)
                | FaultState::Lost(_)
                | FaultState::Stuck(_)
                | FaultState::NotHeld { .. }
                | FaultState::Lapsed(_) => continue,
            };
            let listed = self.listed.get(id).copied().unwrap_or(self.since);
            let is_asked = *state == FaultState::Pending && self.fresh(now, &id.host).is_some();
            let wait_ms = if is_asked { wait_ms.max(asked_ms) } else { wait_ms };
            if now.since(ordered_last.max(listed)) > wait_ms {
                lapsed.push(id.clone());
            }
        }
        for fault in lapsed {
            let state = FaultState::Lapsed(None);
            self.propose(now, Command::Observe { fault, state, in_place_ms: None });
        }
    }

    /// All that a probe has seen in one stage, as last reported.
    pub(super) fn tally(
        &self,
        record: &ExperimentRecord,
        probe: &ProbeSpec,
        stage: Stage,
    ) -> Tally {
        let reports = match &probe.from {
            Vantage::Host(host) => self.sessions.get(host).map(|s| s.report.probes.as_slice()),
            Vantage::Coordinators => Some(self.own_probes.as_slice()),
        };
        reports
            .unwrap_or_default()
            .iter()
            .find(|p| p.experiment == record.id && p.name == probe.name)
            .and_then(|p| p.stages.iter().find(|(s, _)| *s == stage))
            .map(|(_, tally)| tally.clone())
            .unwrap_or_default()
    }
}

/// What a host's report of a fault means for the log, where it means anything yet.
fn state_of(fault: &FaultReport) -> Option<FaultState> {
    let ended = || fault.ended.clone().unwrap_or_default();
    match fault.phase {
        HostPhase::Journaling | HostPhase::Applying | HostPhase::Reverting => None,
        HostPhase::Held => Some(FaultState::Held(fault.achieved.clone().unwrap_or_default())),
        HostPhase::Clean => Some(FaultState::Clean(ended())),
        HostPhase::Lost => Some(FaultState::Lost(ended())),
        HostPhase::Stuck => Some(FaultState::Stuck(ended())),
        HostPhase::NotHeld => {
            let (reason, refused) = match ended().why {
                Why::NotHeld { reason, refused } => (reason, refused),
                other => (other.to_string(), false),
            };
            Some(FaultState::NotHeld { reason, refused })
        }
    }
}

/// Whether a state is worth an entry: a later measurement of a held fault is not.
fn news(known: &FaultState, seen: &FaultState) -> bool {
    match (known, seen) {
        (FaultState::Held(_), FaultState::Held(_)) => false,
        (FaultState::Stuck(_), FaultState::Stuck(_)) => false,
        (FaultState::Stuck(_) | FaultState::Lapsed(_), _) => known != seen && seen.is_final(),
        (known, _) if known.is_final() => false,
        (known, seen) => known != seen,
    }
}

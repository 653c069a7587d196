//! What each host is told after a quorum round.

use std::collections::BTreeMap;

use super::{Action, FRESH_MS, Leader, NOT_AFTER_MS, Session};
use crate::experiment::{ExperimentRecord, FaultState, Phase};
use crate::ids::{FaultId, HostName, Leadership, LogIndex};
use crate::message::{Apply, HostPhase, Orders, ProbeOrder, Report, Sync, ToAgent};
use crate::probe::{Stage, Vantage};
use crate::registry::Registry;
use crate::time::Time;

impl Leader {
    /// Answers every report that had arrived when the round began, by what the host has said since
    /// (so that hosts which report faster than rounds end are answered too); true where newer ones
    /// wait. While any host has heard other stops than the log has, nothing is started anywhere.
    ///
    /// A report that is older than the log's newest stop does not say who has heard of that stop: it
    /// was pushed to every host when it was learnt. Who has not is told after its next report; a fleet
    /// that is being stopped is not told everything twice, and a host that has heard what this leader has
    /// heard is told nothing while the log does not have it yet.
    pub(super) fn send_orders(&mut self, now: Time, registry: &Registry) -> bool {
        let digest = registry.fence.digest();
        let since = match self.log_stops {
            Some((known, at)) if known == digest => at,
            Some(_) => now,
            None => Time(0),
        };
        self.log_stops = Some((digest, since));
        // Most hosts know the same resumes.
        let mut known: BTreeMap<LogIndex, u64> = BTreeMap::new();
        for session in self.sessions.values() {
            let newest = session.report.newest_resume;
            known.entry(newest).or_insert_with(|| registry.fence.digest_at(newest));
        }
        let heard = |s: &Session| known.get(&s.report.newest_resume) == Some(&s.report.digest);
        let agreed = self.stops.is_empty() && self.sessions.values().all(heard); // guard: digest of S
        // Once for all hosts: a log keeps many experiments that are over.
        let running: Vec<&ExperimentRecord> = registry.running().collect();
        let coming = registry.fence.digest_of_unknown(&self.stops);
        let (armed, mut newer) = (registry.fence.armed(), false);
        for (host, session) in &mut self.sessions {
            let echo = session.asked.take();
            newer |= echo != Some(session.report.t);
            let Some(echo) = echo else { continue };
            let applies = match agreed {
                true => applies(host, &running, registry, &self.listed),
                false => Vec::new(),
            };
            let expected = known.get(&session.report.newest_resume).copied().unwrap_or_default();
            let same = [expected, expected.wrapping_add(coming)].contains(&session.report.digest);
            let differs = !same && session.arrived >= since;
            let running = &running[..];
            let stand = Stand { leadership: self.leadership, registry, running, armed, differs };
            let messages = answer(stand, host, session, echo, applies);
            if messages == session.told {
                continue;
            }
            session.told.clone_from(&messages);
            let send = |message| Action::Send { host: host.clone(), message };
            self.actions.extend(messages.into_iter().map(send));
        }
        newer
    }
}

/// How one host stands to the log.
#[derive(Clone, Copy)]
struct Stand<'a> {
    leadership: Leadership,
    registry: &'a Registry,
    running: &'a [&'a ExperimentRecord],
    /// The log's fence is.
    armed: bool,
    /// It has heard other stops than the log has, as far as it could.
    differs: bool,
}

fn answer(
    stand: Stand<'_>,
    host: &HostName,
    session: &Session,
    echo: Time,
    applies: Vec<Apply>,
) -> Vec<ToAgent> {
    let Stand { registry, armed, differs, leadership, .. } = stand;
    let report = &session.report;
    let mut messages = Vec::new();
    if differs {
        // The host answers with its own, and what the log lacks is proposed.
        messages.push(ToAgent::Stops(registry.fence.outstanding().collect()));
    }
    let fence = &registry.fence;
    let synced = report.synced && report.newest_resume == fence.newest_resume();
    if differs || !synced {
        // It lacks what came after its newest resume. If it lacks more (its disk was full when it learnt of an
        // older one, say), or knows of one that this log does not have, it is told everything.
        let behind = report.newest_resume < fence.newest_resume();
        let known = if behind { report.newest_resume } else { LogIndex(0) };
        messages.push(ToAgent::Sync(Sync {
            run: report.run,
            echo,
            leadership,
            stops: fence.outstanding().collect(),
            resumes: fence.resumes_after(known).collect(),
        }));
    }
    let mut orders = orders(stand, host, report, echo);
    if synced && report.armed && armed {
        orders.apply = applies;
    }
    messages.push(ToAgent::Orders(orders));
    messages
}

/// Everything but what is to begin.
fn orders(stand: Stand<'_>, host: &HostName, report: &Report, echo: Time) -> Orders {
    let Stand { leadership, registry, running, .. } = stand;
    let mut orders = Orders {
        run: report.run,
        echo,
        leadership,
        newest_resume: registry.fence.newest_resume(),
        grant: Vec::new(),
        apply: Vec::new(),
        lift: Vec::new(),
        acknowledged: Vec::new(),
        probes: probes(&Vantage::Host(host.clone()), running),
        beat_fast: !running.is_empty(),
    };
    for fault in &report.faults {
        let record = registry.experiments.get(&fault.id.experiment);
        match fault.phase {
            HostPhase::Journaling | HostPhase::Applying | HostPhase::Held => {
                if record.is_some_and(|r| wants(r, &fault.id, registry)) {
                    orders.grant.push(fault.id.clone());
                } else if record.is_some() {
                    orders.lift.push(fault.id.clone());
                }
                // A fault of no experiment was injected on the host by a person, or by a log that
                // is not ours: it is not named, so an ordered one lapses by its lease.
            }
            HostPhase::Clean | HostPhase::Lost | HostPhase::NotHeld => {
                let in_log = |r: &ExperimentRecord| match r.faults.get(&fault.id) {
                    Some(FaultState::Pending | FaultState::Held(_)) => false,
                    // What was seen since is still to be noted.
                    Some(FaultState::Stuck(_) | FaultState::Lapsed(_)) => false,
                    Some(
                        FaultState::Clean(_) | FaultState::Lost(_) | FaultState::NotHeld { .. },
                    )
                    | None => true,
                };
                if record.is_none_or(in_log) {
                    orders.acknowledged.push(fault.id.clone());
                }
            }
            HostPhase::Reverting | HostPhase::Stuck => {}
        }
    }
    orders
}

/// The registry wants this fault to be held right now.
fn wants(record: &ExperimentRecord, id: &FaultId, registry: &Registry) -> bool {
    record.wants_faults()
        && registry.fence.admits(record.start)
        && record.faults.get(id).is_some_and(|state| !state.is_final())
        && registry.hosts.get(&id.host).is_some_and(|h| !h.drained)
}

/// Faults that this host should begin: wanted, not yet over, and never listed. What was listed once
/// and is no more was the affair of an earlier life of the agent, whose word is on its way to the log.
fn applies(
    host: &HostName,
    running: &[&ExperimentRecord],
    registry: &Registry,
    listed: &BTreeMap<FaultId, Time>,
) -> Vec<Apply> {
    let mut applies = Vec::new();
    for record in running.iter().filter(|r| r.phase == Phase::Injecting) {
        for placement in record.experiment.faults.iter().filter(|p| p.host == *host) {
            let id = FaultId { experiment: record.id, fault: placement.fault, host: host.clone() };
            let pending = record.faults.get(&id) == Some(&FaultState::Pending);
            if pending && !listed.contains_key(&id) && wants(record, &id, registry) {
                applies.push(Apply {
                    id,
                    start: record.start,
                    fault: placement.spec.clone(),
                    not_after_ms: NOT_AFTER_MS.min(record.experiment.safety.lease_ms),
                    lease_ms: record.experiment.safety.lease_ms,
                    duration_ms: record.experiment.duration_ms,
                });
            }
        }
    }
    applies
}

/// What a coordinator tells its own prober, and as of when that is known; nothing where its copy of the log
/// may be long over, since the last read that a quorum confirmed began too long ago, at `as_of`, or never.
/// After a stop, of which the log may lack some (`lacks_stops`), no probe is wanted; to end probes is never
/// too late.
#[must_use]
pub fn own_probes(
    now: Time,
    as_of: Option<Time>,
    lacks_stops: impl FnOnce() -> bool,
    registry: &Registry,
) -> Option<(Time, Vec<ProbeOrder>)> {
    let running: Vec<&ExperimentRecord> = registry.running().collect();
    let wanted = probes(&Vantage::Coordinators, &running);
    if wanted.is_empty() || !registry.fence.armed() || lacks_stops() {
        return Some((now, Vec::new()));
    }
    as_of.filter(|at| now.since(*at) < FRESH_MS).map(|at| (at, wanted))
}

/// Probes that are to be run there, and to which stage their samples count.
fn probes(from: &Vantage, running: &[&ExperimentRecord]) -> Vec<ProbeOrder> {
    let mut orders = Vec::new();
    for record in running {
        let stage = match record.phase {
            Phase::Submitted | Phase::Preflight | Phase::Settled => continue,
            Phase::Baseline => Stage::Before,
            Phase::Injecting | Phase::Holding | Phase::Lifting => Stage::During,
            Phase::Recovering => Stage::After,
        };
        for probe in record.experiment.probes.iter().filter(|p| p.from == *from) {
            orders.push(ProbeOrder { experiment: record.id, probe: probe.clone(), stage });
        }
    }
    orders
}

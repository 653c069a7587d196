//! How commands change an experiment.

use std::collections::{BTreeMap, BTreeSet};

use super::apply::Applied;
use super::{Entry, MAX_SETTLED, MAX_SETTLED_BYTES, Outcome, Refusal, Registry};
use crate::experiment::{
    EndReason, Ended, Experiment, ExperimentRecord, FaultState, Incident, IncidentKind, LEASE_MS,
    MAX_DURATION_MS, MAX_INCIDENTS, MAX_NOTE, MAX_PLACEMENTS, MAX_STEPS, MAX_TIMELINE, Phase,
    Placement, ProbeOutcome, TimelineEntry, Verdict,
};
use crate::hold::Capability;
use crate::ids::{ExperimentId, FaultId, HostName, LogIndex};
use crate::message::Report;
use crate::probe::Vantage;
use crate::radius::{self, Group, HEALTHY_PPM, MAX_RUNNING, OverRadius, Scope};
use crate::time::WallTime;

impl Registry {
    pub(super) fn submit(
        &mut self,
        index: LogIndex,
        entry: &Entry,
        id: ExperimentId,
        experiment: &Experiment,
    ) -> Applied {
        if self.experiments.contains_key(&id) {
            return Ok(Outcome::Unchanged);
        }
        if id.is_local() {
            return Err(Refusal::Invalid(
                "such an id is for what a person injects on a host".into(),
            ));
        }
        self.admit(experiment)?;
        let faults = experiment
            .faults
            .iter()
            .map(|p| {
                let fault = FaultId { experiment: id, fault: p.fault, host: p.host.clone() };
                (fault, FaultState::Pending)
            })
            .collect();
        let mut record = ExperimentRecord {
            id,
            start: index,
            by: entry.by.clone(),
            submitted_at: entry.at,
            reserved: experiment.targets(),
            experiment: experiment.clone(),
            counted: u32::try_from(self.in_service(experiment.safety.of_group.as_deref()))
                .unwrap_or(u32::MAX),
            phase: Phase::Submitted,
            ending: None,
            faults,
            probes: Vec::new(),
            incidents: Vec::new(),
            timeline: Vec::new(),
            verdict: None,
            reasons: Vec::new(),
            in_place: None,
        };
        record.note(entry.at, format!("submitted by {}", entry.by));
        self.experiments.insert(id, record);
        self.drop_oldest_settled();
        Ok(Outcome::Done(index))
    }

    /// Whether `experiment` could start right now: what `submit` checks, and what `plan` shows.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn admit(&self, experiment: &Experiment) -> Result<(), Refusal> {
        if !self.fence.armed() {
            return Err(Refusal::Disarmed(self.fence.outstanding().collect()));
        }
        if !self.has_room_for_stops() {
            let kept = u32::try_from(self.stops.len()).unwrap_or(u32::MAX);
            return Err(Refusal::TooManyStops(kept));
        }
        let running = self.running().count();
        if running >= MAX_RUNNING {
            return Err(Refusal::TooMany { running: running as u32, limit: MAX_RUNNING as u32 });
        }
        self.check_experiment(experiment)?;
        self.within_radius(experiment, self.reservations(), |_| true).map_err(Refusal::Radius)
    }

    /// Whether `experiment`, beside those that have `taken` hosts, hurts no more than it may of the hosts
    /// in service that `count`.
    fn within_radius(
        &self,
        experiment: &Experiment,
        taken: Vec<(ExperimentId, String, Vec<HostName>)>,
        count: impl Fn(&HostName) -> bool,
    ) -> Result<(), OverRadius> {
        let group = experiment.safety.of_group.as_deref();
        let scope = group.map_or(Scope::Experiment, |g| Scope::Group(g.to_owned()));
        radius::check(
            &experiment.targets(),
            (scope, self.counted(group, &count)),
            experiment.safety.max_radius_ppm,
            &taken,
            &self.counted_groups(experiment, &count),
            self.counted(None, &count),
        )
    }

    /// Whether the fleet is fit for `experiment`, submitted as `id`, now: by each host's fresh `report` enough
    /// of it is healthy, whoever is needed is and `can` do it, and what would be hurt is no more than it may
    /// be of what is healthy.
    ///
    /// # Errors
    /// The first reason against it; it may pass.
    pub fn fit_for<'a>(
        &self,
        id: Option<ExperimentId>,
        experiment: &Experiment,
        report: impl Fn(&HostName) -> Option<&'a Report>,
        can: impl Fn(&HostName) -> &'a [Capability],
    ) -> Result<(), String> {
        let newest = self.fence.newest_resume();
        let unfit = |host: &HostName| match report(host) {
            None => Some("is not connected".to_owned()),
            Some(r) if !(r.synced && r.armed) => Some("is not armed".to_owned()),
            Some(r) if r.newest_resume > newest => Some(format!(
                "knows a resume, {}, that this cluster's log has not: its journal is of another one; stop \
                 its agent, move the journal away, and start it again",
                r.newest_resume.0
            )),
            Some(_) => None,
        };
        let healthy = |host: &HostName| unfit(host).is_none();
        let fleet = || self.hosts.values().filter(|h| !h.drained).map(|h| &h.name);
        let (all, well) = (fleet().count(), fleet().filter(|h| healthy(h)).count());
        if (well as u128) * 1_000_000 < u128::from(HEALTHY_PPM) * all as u128 {
            let least = radius::share(HEALTHY_PPM);
            return Err(format!("{well} of {all} hosts are healthy, fewer than {least}"));
        }
        // A drained one too: what it has heard counts as what all others have.
        let differs = |r: &&Report| r.digest != self.fence.digest_at(r.newest_resume);
        let other = self.hosts.keys().find_map(|h| Some((h, report(h).filter(differs)?)));
        if let Some((host, report)) = other {
            let stays = if report.newest_resume >= newest {
                "; if that stays, its journal is of another log: stop its agent, squall lift there, move the \
                 journal away, and start it again"
            } else {
                ""
            };
            return Err(format!(
                "{host} has heard other stops than this cluster's log: nothing starts anywhere until they \
                 agree{stays}"
            ));
        }
        let from = experiment.probes.iter().filter_map(|p| match &p.from {
            Vantage::Host(host) => Some(host),
            Vantage::Coordinators => None,
        });
        let needed = experiment.targets();
        let mut needed = needed.iter().chain(from);
        if let Some((host, why)) = needed.find_map(|host| Some((host, unfit(host)?))) {
            return Err(format!("{host} {why}"));
        }
        for Placement { host, spec, .. } in &experiment.faults {
            let row = can(host).iter().find(|row| row.fault == spec.kind());
            if let Some(row) = row.filter(|row| row.backend.is_none()) {
                return Err(format!("{host} cannot do {}: {}", spec.kind(), row.reason));
            }
        }
        let mut taken = self.reservations();
        taken.retain(|(by, ..)| Some(*by) != id);
        // Who is hurt already may be sick of that.
        let hurt: BTreeSet<HostName> = taken.iter().flat_map(|(.., hosts)| hosts.clone()).collect();
        self.within_radius(experiment, taken, |host| healthy(host) || hurt.contains(host))
            .map_err(|over| format!("counting hosts that are healthy or hurt already: {over}"))
    }

    /// The groups that `experiment`, or one that has reserved hosts, counts within.
    fn counted_groups(
        &self,
        experiment: &Experiment,
        count: impl Fn(&HostName) -> bool,
    ) -> Vec<Group> {
        let reserving = self.experiments.values().filter(|e| !e.reserved.is_empty());
        let mut most: BTreeMap<&str, u32> = BTreeMap::new();
        for one in reserving.map(|e| &e.experiment).chain([experiment]) {
            if let Some(group) = one.safety.of_group.as_deref() {
                let most = most.entry(group).or_default();
                *most = one.safety.max_radius_ppm.max(*most);
            }
        }
        let group = |(name, most_ppm): (&str, u32)| {
            let hosts = self.hosts.values().filter(|h| h.cohort() == name);
            let members = hosts.map(|h| h.name.clone()).collect();
            Group {
                name: name.to_owned(),
                members,
                counted: self.counted(Some(name), &count),
                most_ppm,
            }
        };
        most.into_iter().map(group).collect()
    }

    /// Hosts in service, of one group or of all: what a blast radius is a share of.
    #[must_use]
    pub fn in_service(&self, group: Option<&str>) -> usize {
        self.counted(group, |_| true)
    }

    /// Those of them that `count`.
    fn counted(&self, group: Option<&str>, count: impl Fn(&HostName) -> bool) -> usize {
        let hosts = self.hosts.values().filter(|h| !h.drained && count(&h.name));
        hosts.filter(|h| group.is_none_or(|g| h.cohort() == g)).count()
    }

    fn check_experiment(&self, experiment: &Experiment) -> Result<(), Refusal> {
        let invalid = |what: String| Err(Refusal::Invalid(what));
        if experiment.faults.is_empty() {
            return invalid("the experiment has no fault".into());
        }
        if experiment.faults.len() > MAX_PLACEMENTS {
            return invalid(format!(
                "{} faults, counted on each host, are too many: at most {MAX_PLACEMENTS}",
                experiment.faults.len()
            ));
        }
        if let Some(too_long) = experiment.too_long() {
            return Err(Refusal::Full(too_long));
        }
        if !(1..=MAX_DURATION_MS).contains(&experiment.duration_ms) {
            return invalid(format!(
                "duration must be 1 ms to 24 h, not {} ms",
                experiment.duration_ms
            ));
        }
        if !LEASE_MS.contains(&experiment.safety.lease_ms) {
            return invalid(format!(
                "lease must be 1 s to 30 s, not {} ms",
                experiment.safety.lease_ms
            ));
        }
        let mut seen = BTreeSet::new();
        for placement in &experiment.faults {
            let host = self
                .hosts
                .get(&placement.host)
                .ok_or_else(|| Refusal::UnknownHost(placement.host.clone()))?;
            if host.drained {
                return Err(Refusal::Drained(placement.host.clone()));
            }
            if !seen.insert((&placement.host, placement.fault)) {
                return invalid(format!(
                    "fault {} stands twice on {}",
                    placement.fault, placement.host
                ));
            }
            let spec = &placement.spec;
            let checked = spec.validate().and_then(|()| spec.check_length(experiment.duration_ms));
            checked.map_err(|e| Refusal::Invalid(e.to_string()))?;
        }
        Ok(())
    }

    fn running_mut(&mut self, id: ExperimentId) -> Result<Option<&mut ExperimentRecord>, Refusal> {
        match self.experiments.get_mut(&id) {
            None => Err(Refusal::UnknownExperiment(id)),
            Some(record) if record.is_running() => Ok(Some(record)),
            Some(_) => Ok(None),
        }
    }

    pub(super) fn advance(
        &mut self,
        index: LogIndex,
        at: WallTime,
        id: ExperimentId,
        from: Phase,
        to: Phase,
    ) -> Applied {
        match self.running_mut(id)? {
            // What is to end goes on to lifting only: an entry that was on its way when a stop was
            // applied starts nothing.
            Some(record) if record.ending.is_some() && to < Phase::Lifting => {
                Ok(Outcome::Unchanged)
            }
            Some(record) if record.phase == from && from < to && to < Phase::Settled => {
                record.phase = to;
                record.note(at, to.name().to_owned());
                Ok(Outcome::Done(index))
            }
            Some(_) | None => Ok(Outcome::Unchanged),
        }
    }

    pub(super) fn end(
        &mut self,
        index: LogIndex,
        at: WallTime,
        id: ExperimentId,
        why: &EndReason,
    ) -> Applied {
        match self.running_mut(id)? {
            Some(record) if record.ending.is_none() => {
                record.end(at, why.clone());
                Ok(Outcome::Done(index))
            }
            Some(_) | None => Ok(Outcome::Unchanged),
        }
    }

    /// Whether there were any whose end had not been asked for.
    pub(super) fn end_all(&mut self, at: WallTime, why: &EndReason) -> bool {
        let mut any = false;
        for record in self.experiments.values_mut().filter(|e| e.is_running()) {
            if record.ending.is_none() {
                record.end(at, why.clone());
                any = true;
            }
        }
        any
    }

    pub(super) fn observe(
        &mut self,
        index: LogIndex,
        at: WallTime,
        fault: &FaultId,
        state: &FaultState,
        in_place_ms: Option<u64>,
    ) -> Applied {
        let record = self
            .experiments
            .get_mut(&fault.experiment)
            .ok_or(Refusal::UnknownExperiment(fault.experiment))?;
        let Some(known) = record.faults.get_mut(fault) else {
            return Ok(Outcome::Unchanged);
        };
        let mends = matches!(
            (&*known, state),
            (
                FaultState::Stuck(_) | FaultState::Lapsed(_),
                FaultState::Clean(_) | FaultState::Lost(_) | FaultState::NotHeld { .. }
            ) | (FaultState::Lapsed(_), FaultState::Stuck(_))
        );
        if (known.is_final() && !mends) || known == state {
            return Ok(Outcome::Unchanged);
        }
        let measured = match &*known {
            FaultState::Held(achieved) => Some(achieved.clone()),
            FaultState::Lapsed(achieved) => achieved.clone(),
            FaultState::Stuck(ended) => ended.achieved.clone(),
            _ => None,
        };
        *known = state.clone();
        if let Some(ms) = in_place_ms {
            let at = WallTime(at.0.saturating_sub(ms));
            let (first, last) = record.in_place.unwrap_or((at, at));
            record.in_place = Some((first.min(at), last.max(at)));
        }
        // An agent that was restarted has forgotten what was measured before.
        match known {
            FaultState::Clean(Ended { achieved, .. })
            | FaultState::Lost(Ended { achieved, .. })
            | FaultState::Stuck(Ended { achieved, .. })
            | FaultState::Lapsed(achieved) => *achieved = achieved.take().or(measured),
            FaultState::Pending | FaultState::Held(_) | FaultState::NotHeld { .. } => {}
        }
        if matches!(state, FaultState::Stuck(_)) {
            // It had lapsed, and its share was given back.
            record.reserved.insert(fault.host.clone());
        }
        // Of so many faults the record itself says how they stand; the steps must have room.
        if record.timeline.len() < MAX_TIMELINE - MAX_STEPS {
            let step = format!("{}: {}", record.called(fault), brief(state));
            record.note(at, step);
        }
        record.release(record.phase >= Phase::Injecting);
        Ok(Outcome::Done(index))
    }

    pub(super) fn report(
        &mut self,
        index: LogIndex,
        id: ExperimentId,
        incident: &Incident,
    ) -> Applied {
        let Some(record) = self.running_mut(id)? else { return Ok(Outcome::Unchanged) };
        let by_hand = incident.kind == IncidentKind::ManualIntervention;
        let known = |i: &Incident| i.what == incident.what || (by_hand && i.kind == incident.kind);
        let full = record.incidents.len() >= MAX_INCIDENTS && !by_hand;
        if full || record.incidents.iter().any(known) {
            return Ok(Outcome::Unchanged);
        }
        record.note(incident.at, format!("{} {}", incident.severity.name(), incident.what));
        record.incidents.push(incident.clone());
        Ok(Outcome::Done(index))
    }

    pub(super) fn settle(
        &mut self,
        index: LogIndex,
        at: WallTime,
        id: ExperimentId,
        verdict: Verdict,
        reasons: &[String],
        probes: &[ProbeOutcome],
    ) -> Applied {
        let Some(record) = self.running_mut(id)? else { return Ok(Outcome::Unchanged) };
        if record.is_stopped() && verdict != Verdict::Stopped {
            // It was judged before its leader heard of the stop that stands before this in the log.
            return Ok(Outcome::Unchanged);
        }
        let injected = record.phase >= Phase::Injecting;
        record.phase = Phase::Settled;
        record.verdict = Some(verdict);
        record.reasons = reasons.to_vec();
        record.probes = probes.to_vec();
        record.note(at, format!("settled: {}", verdict.name()));
        record.release(injected);
        Ok(Outcome::Done(index))
    }

    fn drop_oldest_settled(&mut self) {
        let settled = |e: &&ExperimentRecord| !e.is_running() && e.reserved.is_empty();
        let mut settled: Vec<_> = self.experiments.values().filter(settled).collect();
        settled.sort_unstable_by_key(|e| std::cmp::Reverse(e.start));
        let (mut kept, mut bytes) = (0, 0_usize);
        let stays = |record: &&&ExperimentRecord| {
            bytes = bytes.saturating_add(record.bytes());
            kept += 1;
            kept == 1 || (kept <= MAX_SETTLED && bytes <= MAX_SETTLED_BYTES)
        };
        let staying = settled.iter().take_while(stays).count();
        let old: Vec<ExperimentId> = settled[staying..].iter().map(|e| e.id).collect();
        for id in old {
            self.experiments.remove(&id);
        }
    }
}

impl ExperimentRecord {
    fn note(&mut self, at: WallTime, what: String) {
        let what = what.chars().take(MAX_NOTE).collect();
        if self.timeline.len() < MAX_TIMELINE {
            self.timeline.push(TimelineEntry { at, what });
        }
    }

    fn end(&mut self, at: WallTime, why: EndReason) {
        self.note(at, format!("ending: {why}"));
        self.ending = Some(why);
    }

    /// Gives back the share of every host on which all of this experiment's faults are gone.
    /// Where nothing was `injected`, a fault that nobody reported was never there.
    fn release(&mut self, injected: bool) {
        let faults = &self.faults;
        self.reserved.retain(|host| {
            faults.iter().filter(|(id, _)| id.host == *host).any(|(_, state)| {
                !state.is_released() && (injected || *state != FaultState::Pending)
            })
        });
    }
}

fn brief(state: &FaultState) -> String {
    match state {
        FaultState::Pending => "pending".into(),
        FaultState::Held(a) if a.bit => format!("held, {}", a.measured),
        FaultState::Held(a) => format!("held but not seen to bite: {}", a.measured),
        FaultState::Clean(e) => format!("clean in {} ms ({})", e.lift_ms, e.why),
        FaultState::Lost(e) => format!("lost ({}), clean", e.why),
        FaultState::Stuck(e) => format!("NOT CLEAN: {}", e.residue.join("; ")),
        FaultState::NotHeld { reason, .. } => format!("not held: {reason}"),
        FaultState::Lapsed(_) => "lapsed by time, not seen".into(),
    }
}

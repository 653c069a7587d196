//! A stop-all as one coordinator sees it: who has answered, who may still hold something, and when
//! there is no more to learn.

use std::collections::{BTreeMap, BTreeSet};

use crate::experiment::DEFAULT_LEASE_MS;
use crate::fence::Fence;
use crate::ids::{HostName, StopId};
use crate::message::{HostPhase, Latched, Receipt, Report, StopHost, StopProgress, StopState};
use crate::registry::Registry;
use crate::time::Time;

/// How much longer than the longest lease is waited, for clocks and queues.
pub const SLACK_MS: u64 = 1_000;
/// How long a host that is heard may take to answer before it is told of the stop again.
pub const ASK_AGAIN_MS: u64 = 1_000;
/// How long is waited for the log once every host has answered.
pub const COMMIT_GRACE_MS: u64 = 1_000;

/// One stop-all in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broadcast {
    stop: StopId,
    began: Time,
    lapses_at: Time,
    committed: bool,
    /// The registry may not know all hosts.
    lacking: bool,
    /// A resume has named the stop: what hosts hold since is not its affair.
    released: bool,
    /// Hosts without a receipt, counted: a receipt must not cost a look at the whole fleet.
    missing: usize,
    /// When the last host answered.
    answered_at: Option<Time>,
    hosts: BTreeMap<HostName, Target>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    /// It may hold something: it said so last, or nobody here has heard of it lately.
    may_hold: bool,
    /// The last deadline of what a person on the host holds, whom no lease of the cluster's binds.
    by_person: Time,
    receipt: Option<Receipt>,
}

impl Target {
    /// A host as its last report has it, which arrived then.
    fn new(now: Time, last: Option<(&Report, Time)>) -> Target {
        let held = last.iter().flat_map(|(report, arrived)| {
            report.faults.iter().filter(|f| f.lease_ms > 0).map(|f| (f, *arrived))
        });
        let deadlines = held
            .filter(|(fault, _)| fault.id.experiment.is_local())
            .map(|(fault, arrived)| arrived.plus(fault.remaining_ms.saturating_add(SLACK_MS)));
        Target {
            may_hold: last.is_none_or(|(report, arrived)| {
                let old = now.since(arrived) >= crate::leader::FRESH_MS;
                old || report.faults.iter().any(|f| !f.phase.is_gone())
            }),
            by_person: deadlines.max().unwrap_or(now),
            receipt: None,
        }
    }
}

impl Broadcast {
    /// A stop-all begins. `hosts` are all hosts that are known here with their last report and when
    /// it arrived; `longest_lease_ms` is the longest lease that anything may have: any lease there is,
    /// where not all experiments may be known.
    #[must_use]
    pub fn new<'a>(
        now: Time,
        stop: StopId,
        hosts: impl Iterator<Item = (&'a HostName, Option<(&'a Report, Time)>)>,
        longest_lease_ms: u64,
    ) -> Broadcast {
        let hosts: BTreeMap<_, _> =
            hosts.map(|(name, last)| (name.clone(), Target::new(now, last))).collect();
        Broadcast {
            stop,
            began: now,
            lapses_at: now.plus(longest_lease_ms + SLACK_MS),
            committed: false,
            lacking: false,
            released: false,
            missing: hosts.len(),
            answered_at: hosts.is_empty().then_some(now),
            hosts,
        }
    }

    /// The log ordered these hosts to hold something, whatever they said last.
    pub fn handle_ordered(&mut self, hosts: &BTreeSet<&HostName>) {
        for (_, target) in self.hosts.iter_mut().filter(|(host, _)| hosts.contains(host)) {
            target.may_hold = true;
        }
    }

    /// Which stop.
    #[must_use]
    pub fn stop(&self) -> StopId {
        self.stop
    }

    /// Whether a host that is heard has not answered durably, although it has had time to: it is told
    /// of the stop once more, and answers again. Its receipt may have been lost with a stream.
    #[must_use]
    pub fn asks_again(&self, now: Time, host: &HostName) -> bool {
        let durable = |r: &Receipt| r.latched == Latched::Durable;
        let lacks = self.hosts.get(host).is_some_and(|t| !t.receipt.as_ref().is_some_and(durable));
        lacks && now.since(self.began) >= ASK_AGAIN_MS
    }

    /// A host answered. A durable latch replaces one in memory.
    pub fn handle_receipt(&mut self, now: Time, host: &HostName, receipt: Receipt) {
        if receipt.stop != self.stop {
            return;
        }
        let Some(target) = self.hosts.get_mut(host) else { return };
        self.missing -= usize::from(target.receipt.is_none());
        if target.receipt.as_ref().is_none_or(|known| known.latched != Latched::Durable) {
            target.receipt = Some(receipt);
        }
        if self.answered_at.is_none() && self.missing == 0 {
            self.answered_at = Some(now);
        }
    }

    /// What was said in this host's name counts for nothing: it has not answered, and may hold
    /// something. False where that changes nothing.
    pub fn disbelieve(&mut self, host: &HostName) -> bool {
        let Some(target) = self.hosts.get_mut(host) else { return false };
        let doubted = target.receipt.take().is_some();
        target.may_hold = true;
        if doubted {
            self.missing += 1;
            self.answered_at = None;
        }
        doubted
    }

    /// Whether every host has answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    /// The registry is this now. One that has the stop has every host and every experiment that was
    /// before it; `last` is a host's last report and when it arrived, `receipts` are all that were
    /// heard. False where that changes nothing.
    pub fn handle_registry<'a>(
        &mut self,
        now: Time,
        registry: &'a Registry,
        last: impl Fn(&HostName) -> Option<(&'a Report, Time)>,
        receipts: impl Iterator<Item = (&'a HostName, &'a Receipt)>,
    ) -> bool {
        let fence = &registry.fence;
        let released = fence.knows(self.stop) && !fence.is_outstanding(self.stop);
        let mut changed = released && self.handle_released();
        if !self.committed && registry.stops.contains_key(&self.stop) {
            self.handle_committed(now, registry.hosts.keys().map(|host| (host, last(host))));
            self.handle_ordered(&registry.may_hold());
            for (host, receipt) in receipts {
                self.handle_receipt(now, host, receipt.clone());
            }
            let leases = registry.running().map(|e| e.experiment.safety.lease_ms);
            // A person's fault has the usual one.
            self.handle_longest_lease(now, leases.max().unwrap_or(0).max(DEFAULT_LEASE_MS));
            changed = true;
        }
        changed
    }

    /// The stop is in the log, and with it every host that was registered before: `hosts` are all of
    /// them, with their last reports. Whoever was not named yet is, and must answer too. Call it once.
    fn handle_committed<'a>(
        &mut self,
        now: Time,
        hosts: impl Iterator<Item = (&'a HostName, Option<(&'a Report, Time)>)>,
    ) {
        self.committed = true;
        for (name, last) in hosts {
            if !self.hosts.contains_key(name) {
                self.hosts.insert(name.clone(), Target::new(now, last));
                self.missing += 1;
                self.answered_at = None;
            }
        }
    }

    /// The registry here may lack hosts, as that of a coordinator that has yet to be filled.
    pub fn may_lack_hosts(&mut self) {
        self.lacking = true;
    }

    /// A host is connected that the registry here does not know, so that there may be others. Until
    /// the stop is in the log it may have been there before it, and must answer too.
    pub fn handle_stranger(&mut self, now: Time, host: &HostName) {
        self.lacking = true;
        if !self.committed && !self.hosts.contains_key(host) {
            self.hosts.insert(host.clone(), Target::new(now, None));
            self.missing += 1;
            self.answered_at = None;
        }
    }

    /// A resume that names the stop is in the log: nothing more is to be said of this one. False
    /// where that was known.
    fn handle_released(&mut self) -> bool {
        !std::mem::replace(&mut self.released, true)
    }

    /// All experiments that were there before the stop are known now, and no lease of theirs is
    /// longer than this. Until the stop was in the log they may have been renewed.
    fn handle_longest_lease(&mut self, now: Time, longest_lease_ms: u64) {
        self.lapses_at = self.lapses_at.min(now.plus(longest_lease_ms + SLACK_MS));
    }

    /// Nothing more is to be learnt in time: all have answered and the log has had its time, or the
    /// longest lease has passed. What a person holds on a silent host may last for hours.
    #[must_use]
    pub fn is_over(&self, now: Time) -> bool {
        let answered =
            self.answered_at.is_some_and(|at| self.committed || now.since(at) >= COMMIT_GRACE_MS);
        self.released || answered || now >= self.lapses_at
    }

    /// When to look again.
    #[must_use]
    pub fn poll_timeout(&self) -> Time {
        self.answered_at.map_or(self.lapses_at, |at| at.plus(COMMIT_GRACE_MS).min(self.lapses_at))
    }

    /// How it stands.
    #[must_use]
    pub fn progress(&self, now: Time) -> StopProgress {
        let hosts = self.hosts.iter().map(|(host, target)| StopHost {
            host: host.clone(),
            state: self.state(now, target),
            receipt: target.receipt.clone(),
            lapses_in_ms: match target.receipt {
                Some(_) => 0,
                None => now.until(self.lapses_at.max(target.by_person)),
            },
        });
        StopProgress {
            stop: self.stop,
            committed: self.committed,
            whole: !self.lacking && !self.hosts.is_empty(),
            released: self.released,
            hosts: hosts.collect(),
            last: self.is_over(now),
        }
    }

    fn state(&self, now: Time, target: &Target) -> StopState {
        match (&target.receipt, target.may_hold) {
            (Some(_), _) => StopState::Lifted,
            (None, false) => StopState::Unreached,
            (None, true) if now < self.lapses_at.max(target.by_person) => StopState::Lapsing,
            (None, true) => StopState::Lapsed,
        }
    }
}

/// Joins what several coordinators say of one stop: a receipt that any of them has counts, and the
/// worst guess wins where none has.
#[must_use]
pub fn merge(parts: &[StopProgress]) -> Option<StopProgress> {
    let first = parts.first()?;
    let names: BTreeSet<&HostName> =
        parts.iter().flat_map(|p| p.hosts.iter().map(|h| &h.host)).collect();
    let hosts = names.into_iter().filter_map(|name| {
        let of_name = || parts.iter().flat_map(|p| p.hosts.iter()).filter(|h| h.host == *name);
        let durable =
            |h: &&StopHost| h.receipt.as_ref().is_some_and(|r| r.latched == Latched::Durable);
        of_name()
            .find(durable)
            .or_else(|| of_name().find(|h| h.receipt.is_some()))
            .or_else(|| of_name().max_by_key(|h| (gravity(h.state), h.lapses_in_ms)))
            .cloned()
    });
    Some(StopProgress {
        stop: first.stop,
        committed: parts.iter().any(|p| p.committed),
        whole: parts.iter().any(|p| p.whole),
        released: parts.iter().any(|p| p.released),
        hosts: hosts.collect(),
        last: parts.iter().all(|p| p.last),
    })
}

fn gravity(state: StopState) -> u8 {
    match state {
        StopState::Lifted => 0,
        StopState::Unreached => 1,
        StopState::Lapsed => 2,
        StopState::Lapsing => 3,
    }
}

/// Whether a stop-all may be called done: every host that is registered answered, clean and durable. A
/// stop needs no quorum; but where the log does not have it, somebody who answered must know which
/// hosts are registered.
#[must_use]
pub fn is_done(progress: &StopProgress) -> bool {
    !progress.released && (progress.committed || progress.whole) && all_answered(progress)
}

/// Whether every host that is named answered, clean and durable.
#[must_use]
pub fn all_answered(progress: &StopProgress) -> bool {
    progress.hosts.iter().all(|h| {
        h.receipt.as_ref().is_some_and(|r| r.residue.is_empty() && r.latched == Latched::Durable)
    })
}

/// Hosts because of which a resume is refused: registered, not given up on by name in `despite`,
/// and not seen lately to have heard every stop of `fence` and to hold nothing. Each host comes with its last
/// report and when that arrived.
#[must_use]
pub fn blockers<'a>(
    now: Time,
    hosts: impl Iterator<Item = (&'a HostName, Option<(&'a Report, Time)>)>,
    fence: &Fence,
    despite: &BTreeSet<HostName>,
) -> Vec<HostName> {
    let stopped = |(report, arrived): (&Report, Time)| {
        let idle = report.faults.iter().all(|f| match f.phase {
            HostPhase::Journaling
            | HostPhase::Applying
            | HostPhase::Held
            | HostPhase::Reverting => false,
            HostPhase::Clean | HostPhase::Lost | HostPhase::Stuck | HostPhase::NotHeld => true,
        });
        let heard = report.digest == fence.digest_at(report.newest_resume);
        now.since(arrived) < crate::leader::FRESH_MS && heard && idle
    };
    hosts
        .filter(|(host, last)| !despite.contains(*host) && !last.is_some_and(stopped))
        .map(|(host, _)| host.clone())
        .collect()
}

/// The refusal of a resume in words.
#[must_use]
pub fn explain(blockers: &[HostName]) -> String {
    let names: Vec<&str> = blockers.iter().map(HostName::as_str).collect();
    format!(
        "not seen stopped: {}. Wait until they are, or give up on each with `--despite NAME`",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AgentRun, CommandId, ExperimentId, FaultId, LogIndex};
    use crate::message::FaultReport;
    use crate::registry::{Command, Entry};
    use crate::time::WallTime;
    use uuid::Uuid;

    const BEGAN: Time = Time(1_000);

    fn host(n: usize) -> HostName {
        format!("h{n}").parse().expect("a host name")
    }

    fn stop() -> StopId {
        StopId(Uuid::from_u128(1))
    }

    fn receipt(latched: Latched, residue: &[&str]) -> Receipt {
        Receipt {
            stop: stop(),
            run: AgentRun(Uuid::from_u128(1)),
            lifted: 1,
            residue: residue.iter().map(|r| (*r).to_owned()).collect(),
            latched,
            took_ms: 1,
        }
    }

    /// A stop-all of two hosts that nobody has heard of before.
    fn broadcast() -> Broadcast {
        let hosts = [host(1), host(2)];
        Broadcast::new(BEGAN, stop(), hosts.iter().map(|h| (h, None)), 5_000)
    }

    #[test]
    fn done_is_what_every_host_has_answered_clean_and_durably() {
        for (last, done) in [
            (receipt(Latched::Durable, &[]), true),
            (receipt(Latched::Memory, &[]), false),
            (receipt(Latched::Durable, &["a table"]), false),
        ] {
            let mut b = broadcast();
            b.handle_receipt(BEGAN, &host(1), receipt(Latched::Durable, &[]));
            assert!(!is_done(&b.progress(BEGAN)));
            b.handle_receipt(BEGAN, &host(2), last);
            assert_eq!(is_done(&b.progress(BEGAN)), done);
        }
    }

    #[test]
    fn a_coordinator_that_has_lost_its_disk_calls_nothing_done() {
        let none = Broadcast::new(BEGAN, stop(), std::iter::empty(), 5_000);
        let mut strange = broadcast();
        strange.handle_stranger(BEGAN, &host(1));
        let mut unfilled = broadcast();
        unfilled.may_lack_hosts();
        for b in [&mut strange, &mut unfilled] {
            b.handle_receipt(BEGAN, &host(1), receipt(Latched::Durable, &[]));
            b.handle_receipt(BEGAN, &host(2), receipt(Latched::Durable, &[]));
        }
        for mut b in [none, strange, unfilled] {
            let at = BEGAN.plus(COMMIT_GRACE_MS);
            let alone = b.progress(at);
            assert!(b.is_over(at) && all_answered(&alone) && !is_done(&alone));
            let knows = StopProgress { whole: true, hosts: Vec::new(), ..alone.clone() };
            assert!(merge(&[alone, knows]).is_some_and(|m| is_done(&m)), "another one knows");
            let registered = [host(1), host(2), host(9)];
            b.handle_committed(at, registered.iter().map(|h| (h, None)));
            assert!(!is_done(&b.progress(at)) && !b.is_answered(), "h9 was not heard of before");
            assert!(!b.is_over(at.plus(COMMIT_GRACE_MS)), "it is waited for");
            for name in &registered {
                b.handle_receipt(at, name, receipt(Latched::Durable, &[]));
            }
            assert!(is_done(&b.progress(at)) && b.is_over(at));
        }
    }

    #[test]
    fn a_stranger_who_comes_before_the_log_has_the_stop_must_answer() {
        let mut b = broadcast();
        for h in [1, 2] {
            b.handle_receipt(BEGAN, &host(h), receipt(Latched::Durable, &[]));
        }
        b.handle_stranger(BEGAN, &host(9));
        assert!(!b.is_answered() && !b.progress(BEGAN).whole);
        b.handle_receipt(BEGAN, &host(9), receipt(Latched::Durable, &[]));
        assert!(b.is_answered());
        b.handle_committed(BEGAN, std::iter::empty());
        b.handle_stranger(BEGAN, &host(8));
        assert!(b.is_answered(), "whoever joins later has heard of it before it holds anything");
    }

    #[test]
    fn a_stop_that_was_released_is_not_done_whoever_answers() {
        let mut b = broadcast();
        b.handle_committed(BEGAN, std::iter::empty());
        assert!(b.handle_released() && !b.handle_released());
        for h in [1, 2] {
            b.handle_receipt(BEGAN, &host(h), receipt(Latched::Durable, &[]));
        }
        let progress = b.progress(BEGAN);
        assert!(progress.last && progress.released && !is_done(&progress));
        let unaware = StopProgress { released: false, ..progress.clone() };
        assert!(merge(&[unaware, progress]).is_some_and(|m| !is_done(&m)));
    }

    #[test]
    fn the_registry_says_what_the_log_has() {
        let stop_entry = |index| Entry {
            id: CommandId(Uuid::from_u128(index)),
            at: WallTime(0),
            by: "o".into(),
            command: Command::Stop(stop()),
        };
        let mut registry = Registry::default();
        let (h1, answer) = (host(1), receipt(Latched::Durable, &[]));
        let mut b = broadcast();
        let mut tell = |registry: &Registry| {
            let changed =
                b.handle_registry(BEGAN, registry, |_| None, [(&h1, &answer)].into_iter());
            (changed, b.progress(BEGAN))
        };
        assert!(!tell(&registry).0);
        let _ = registry.apply(LogIndex(1), &stop_entry(1));
        let (changed, progress) = tell(&registry);
        assert!(changed && progress.committed && !progress.released);
        assert!(progress.hosts[0].receipt.is_some() && progress.hosts[1].receipt.is_none());
        assert!(!tell(&registry).0, "it was told");
        let resume = Command::Resume { stops: [stop()].into(), despite: BTreeSet::new() };
        let _ = registry.apply(LogIndex(2), &Entry { command: resume, ..stop_entry(2) });
        let (changed, progress) = tell(&registry);
        assert!(changed && progress.released);
    }

    #[test]
    fn any_lease_is_waited_out_until_all_experiments_are_known() {
        let hosts = [host(1)];
        let mut b = Broadcast::new(BEGAN, stop(), hosts.iter().map(|h| (h, None)), 30_000);
        let known = BEGAN.plus(10_000);
        b.handle_longest_lease(known, 5_000);
        assert!(!b.is_over(BEGAN.plus(5_000 + SLACK_MS)), "it may have been renewed since");
        assert!(b.is_over(known.plus(5_000 + SLACK_MS)));
    }

    #[test]
    fn a_durable_latch_replaces_one_in_memory_and_not_the_other_way() {
        let mut b = broadcast();
        b.handle_receipt(BEGAN, &host(1), receipt(Latched::Memory, &[]));
        b.handle_receipt(BEGAN, &host(1), receipt(Latched::Durable, &[]));
        b.handle_receipt(BEGAN, &host(1), receipt(Latched::Memory, &[]));
        let first = b.progress(BEGAN).hosts[0].receipt.clone().expect("it answered");
        assert_eq!(first.latched, Latched::Durable);
    }

    #[test]
    fn all_have_answered_once_each_of_them_has() {
        let mut b = broadcast();
        for _ in 0..2 {
            b.handle_receipt(BEGAN, &host(1), receipt(Latched::Memory, &[]));
        }
        b.handle_receipt(BEGAN, &host(3), receipt(Latched::Durable, &[]));
        assert!(!b.is_answered(), "one twice, and a stranger");
        b.handle_receipt(BEGAN, &host(2), receipt(Latched::Durable, &[]));
        assert!(b.is_answered());
        assert!(Broadcast::new(BEGAN, stop(), std::iter::empty(), 5_000).is_answered());
    }

    #[test]
    fn a_host_that_is_disbelieved_has_not_answered_until_it_answers_anew() {
        let mut b = broadcast();
        for h in [1, 2] {
            b.handle_receipt(BEGAN, &host(h), receipt(Latched::Durable, &[]));
        }
        assert!(b.disbelieve(&host(1)) && !b.disbelieve(&host(1)) && !b.disbelieve(&host(9)));
        assert!(!b.is_answered() && !b.is_over(BEGAN.plus(COMMIT_GRACE_MS)));
        assert_eq!(b.progress(BEGAN).hosts[0].state, StopState::Lapsing);
        b.handle_receipt(BEGAN, &host(1), receipt(Latched::Durable, &[]));
        assert!(b.is_answered());
    }

    #[test]
    fn who_does_not_answer_lapses_and_is_never_done() {
        let b = broadcast();
        let state = |at: Time| b.progress(at).hosts[0].state;
        assert_eq!(state(BEGAN), StopState::Lapsing);
        let over = BEGAN.plus(5_000 + SLACK_MS);
        assert!(!b.is_over(Time(over.0 - 1)) && b.is_over(over));
        assert_eq!(state(over), StopState::Lapsed);
        assert!(!is_done(&b.progress(over)));
    }

    #[test]
    fn what_a_person_holds_on_a_silent_host_lasts_to_its_own_deadline() {
        let id = |experiment| FaultId { experiment, fault: 0, host: host(1) };
        let fault = FaultReport {
            id: id(ExperimentId::local(7)),
            kind: None,
            phase: HostPhase::Held,
            lease_ms: 1_000,
            remaining_ms: 60_000,
            achieved: None,
            ended: None,
            in_place_ms: None,
        };
        let report = Report {
            run: AgentRun(Uuid::from_u128(1)),
            t: BEGAN,
            digest: 0,
            newest_resume: crate::ids::LogIndex(0),
            synced: true,
            armed: true,
            faults: vec![fault],
            probes: Vec::new(),
            row: None,
        };
        let at = |ordered: bool, after_ms: u64| {
            let mut report = report.clone();
            if ordered {
                report.faults[0].id = id(ExperimentId(Uuid::from_u128(7)));
            }
            let (name, last) = (host(1), (&report, Time(BEGAN.0 - 500)));
            let hosts = std::iter::once((&name, Some(last)));
            let b = Broadcast::new(BEGAN, stop(), hosts, 5_000);
            let now = BEGAN.plus(after_ms);
            let host = b.progress(now).hosts[0].clone();
            (b.is_over(now), host.state, host.lapses_in_ms)
        };
        let lease = 5_000 + SLACK_MS;
        assert_eq!(at(true, lease), (true, StopState::Lapsed, 0));
        assert_eq!(at(false, lease), (true, StopState::Lapsing, 60_000 - 500 - 5_000));
        assert_eq!(at(false, 60_000 - 500 + SLACK_MS).1, StopState::Lapsed);
    }

    #[test]
    fn a_host_that_the_log_ordered_to_hold_something_may_hold_it_whatever_it_said_last() {
        let report = crate::message::tests::report_of_an_armed_host();
        let name = host(1);
        let hosts = std::iter::once((&name, Some((&report, BEGAN))));
        let mut b = Broadcast::new(BEGAN, stop(), hosts, 5_000);
        let state = |b: &Broadcast, after| b.progress(BEGAN.plus(after)).hosts[0].state;
        assert_eq!(state(&b, 1_000), StopState::Unreached);
        b.handle_ordered(&BTreeSet::from([&host(2)]));
        assert_eq!(state(&b, 1_000), StopState::Unreached);
        b.handle_ordered(&BTreeSet::from([&name]));
        assert_eq!(state(&b, 1_000), StopState::Lapsing);
        assert_eq!(state(&b, 5_000 + SLACK_MS), StopState::Lapsed);
    }

    #[test]
    fn who_is_heard_and_has_not_answered_durably_is_asked_again() {
        let mut b = broadcast();
        let late = BEGAN.plus(ASK_AGAIN_MS);
        assert!(!b.asks_again(BEGAN, &host(1)) && b.asks_again(late, &host(1)));
        b.handle_receipt(BEGAN, &host(1), receipt(Latched::Memory, &[]));
        assert!(b.asks_again(late, &host(1)));
        b.handle_receipt(BEGAN, &host(1), receipt(Latched::Durable, &[]));
        assert!(!b.asks_again(late, &host(1)));
        assert!(!b.asks_again(late, &host(3)), "not one of them");
    }

    #[test]
    fn of_several_coordinators_the_best_receipt_and_the_worst_guess_count() {
        let (mut a, b) = (broadcast(), broadcast());
        a.handle_receipt(BEGAN, &host(1), receipt(Latched::Durable, &[]));
        let merged = merge(&[b.progress(BEGAN), a.progress(BEGAN)]).expect("two parts");
        assert_eq!(merged.hosts[0].state, StopState::Lifted);
        assert_eq!(merged.hosts[1].state, StopState::Lapsing);
        assert_eq!(merge(&[]), None);
    }
}

//! One trial: a lab, faults, an event, and what was seen.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use squall_core::fault::Kind;

use super::probe::{self, Probe, SPAN};
use super::{Cell, Event, Plan, Snapshot};
use crate::fleet::Fleet;

/// How long an effect may take to show after Squall has said that it does.
const SHOWS: Duration = Duration::from_secs(3);
/// How much longer than allowed the end of an effect is waited for, so that it can be told.
const LATE: Duration = Duration::from_secs(10);
/// How long the kernel may take to clear up behind an effect that is gone.
const CLEARS: Duration = Duration::from_secs(2);
/// How long a cluster may take to come to its verdict: leases, an election, a busy machine.
const SETTLES: Duration = Duration::from_secs(40);
/// How long the rest of an experiment may take to be rolled back, in milliseconds.
const ROLLBACK_MS: u64 = 10_000;
/// Between two questions.
const AGAIN: Duration = Duration::from_millis(50);

/// One trial under way.
pub(super) struct Trial<'a> {
    plan: &'a Plan,
    fleet: &'a Fleet,
    /// On each host, in the order of the faults.
    probes: Vec<(&'static str, Vec<Probe>)>,
    before: Snapshot,
    /// What is wrong with all of it.
    wrong: Vec<String>,
    note: String,
}

impl<'a> Trial<'a> {
    /// Starts the watch on a fleet that has come up.
    pub(super) fn new(plan: &'a Plan, fleet: &'a Fleet) -> Trial<'a> {
        let on = |host| {
            let start = |(index, kind): (usize, &Kind)| Probe::start(fleet, host, *kind, index);
            (host, plan.faults.iter().enumerate().map(start).collect())
        };
        let probes = plan.event.hosts().iter().map(|host| on(*host)).collect();
        // The victims are up.
        std::thread::sleep(Duration::from_millis(500));
        let before = Snapshot::first(fleet, "h1");
        Trial { plan, fleet, probes, before, wrong: Vec::new(), note: String::new() }
    }

    /// Carries it out.
    pub(super) fn cells(mut self) -> Vec<Cell> {
        let (event, fleet) = (self.plan.event, self.fleet);
        let peer = Snapshot::first(fleet, "h3");
        let id = fleet.start(&self.file());
        let held = Instant::now();
        let mut bit = self.await_effects(held);
        if event != Event::Deadline {
            for change in peer.difference(&Snapshot::take(fleet, "h3")) {
                self.wrong.push(format!("on h3, which is no target: {change}"));
            }
            self.stand(&mut bit);
        }
        let at = event.strike(fleet, &id, held);
        let limit = Duration::from_millis(event.limit_ms(self.plan.lease_ms) + self.plan.slack_ms);
        let lifted = self.await_lifts(at, limit);
        // A frozen holder does nothing, and yet it is there until its lease ends.
        let mut residue = self.residue(true, (at + limit).max(Instant::now() + CLEARS));
        event.mend(fleet);
        self.await_verdict(&id);
        self.watch(at, &lifted);
        residue.extend(self.residue(false, Instant::now() + CLEARS));
        let lift_ms = |t: &Option<Instant>| {
            t.map(|t| u64::try_from(t.duration_since(at).as_millis()).unwrap_or(u64::MAX))
        };
        let cell = |((kind, bit), lifted): ((&Kind, bool), &Option<Instant>)| Cell {
            bit,
            residue: residue.clone(),
            lift_ms: lift_ms(lifted),
            wrong: self.wrong.clone(),
            note: self.note.clone(),
            ..Cell::blank(self.plan, *kind)
        };
        self.plan.faults.iter().zip(bit).zip(&lifted).map(cell).collect()
    }

    fn file(&self) -> String {
        let event = self.plan.event;
        let mut text = format!(
            "name: torture-{}\ntargets: {{ hosts: [{}] }}\nduration: {}s\n\
             safety: {{ max-blast-radius: 0.5, lease: {}ms }}\nfaults:\n",
            event.name(),
            event.hosts().join(", "),
            event.duration_s(),
            self.plan.lease_ms
        );
        for kind in &self.plan.faults {
            let _ = writeln!(text, "  - {}", probe::form(*kind));
        }
        text
    }

    fn of(&self, host: &str) -> &[Probe] {
        let found = self.probes.iter().find(|(h, _)| *h == host);
        found.map_or(&[], |(_, probes)| probes.as_slice())
    }

    /// Waits until every effect on `h1` shows; which did.
    fn await_effects(&self, held: Instant) -> Vec<bool> {
        let mut bit = vec![false; self.plan.faults.len()];
        while held.elapsed() < SHOWS && !bit.iter().all(|b| *b) {
            std::thread::sleep(AGAIN);
            let now = Instant::now();
            for (bit, probe) in bit.iter_mut().zip(self.of("h1")) {
                *bit |= now - held > SPAN && probe.hurts(now - SPAN, now);
            }
        }
        bit
    }

    /// Sees the effects stay, up to a moment that chance picks.
    fn stand(&mut self, bit: &mut [bool]) {
        let mut dice = StdRng::seed_from_u64(u64::from(self.plan.round));
        let ms = self.plan.event.stand_ms() + dice.random_range(0..=self.plan.lease_ms / 2);
        let until = Instant::now() + SPAN + Duration::from_millis(ms);
        while Instant::now() < until {
            std::thread::sleep(SPAN.min(until - Instant::now()));
            let now = Instant::now();
            let ceased: Vec<Kind> = bit
                .iter_mut()
                .zip(self.of("h1"))
                .filter(|(bit, probe)| **bit && !probe.hurts(now - SPAN, now))
                .map(|(bit, probe)| {
                    *bit = false;
                    probe.kind
                })
                .collect();
            let words = ceased.iter().map(|kind| format!("{kind} ceased to bite too early"));
            self.wrong.extend(words);
        }
    }

    /// Waits until every effect is gone, somewhat beyond the limit; since when each is.
    fn await_lifts(&mut self, at: Instant, limit: Duration) -> Vec<Option<Instant>> {
        let gone = |host: &str| -> Vec<Option<Instant>> {
            self.of(host).iter().map(|probe| probe.gone_since(at)).collect()
        };
        let wait = |host: &str, until: Instant| {
            loop {
                let lifted = gone(host);
                if lifted.iter().all(Option::is_some) || Instant::now() > until {
                    return lifted;
                }
                std::thread::sleep(AGAIN);
            }
        };
        let lifted = wait("h1", at + limit + LATE);
        let rest = wait("h2", at + Duration::from_millis(ROLLBACK_MS) + LATE);
        let rest: Vec<_> = self.of("h2").iter().map(|p| p.kind).zip(rest).collect();
        for (kind, lifted) in rest {
            let ms = lifted.map(|t| (t - at).as_millis());
            let text = match ms {
                Some(ms) => format!("{kind} on h2 gone after {ms} ms"),
                None => format!("{kind} on h2 is still there"),
            };
            if ms.is_none_or(|ms| ms > u128::from(ROLLBACK_MS + self.plan.slack_ms)) {
                self.wrong.push(text);
            } else {
                let gap = if self.note.is_empty() { "" } else { ", " };
                let _ = write!(self.note, "{gap}{text}");
            }
        }
        lifted
    }

    /// What differs on `h1`, once the kernel has had time to clear up, until then. `broken` where the event may
    /// have taken the agent: then it, its socket, and what only it can reap do not count.
    fn residue(&self, broken: bool, until: Instant) -> Vec<String> {
        loop {
            let mut found = self.before.difference(&Snapshot::take(self.fleet, "h1"));
            if broken {
                let counts = |line: &String| {
                    ["process: squall agent ", " still=Z ", "/run/squall/agent.sock"]
                        .iter()
                        .all(|part| !line.contains(part))
                };
                found.retain(counts);
            }
            if found.is_empty() || Instant::now() > until {
                return found;
            }
        }
    }

    fn await_verdict(&mut self, id: &str) {
        let began = Instant::now();
        let wanted = self.plan.event.verdict();
        loop {
            let said = self.fleet.squall(&["show", id, "-o", "json"]);
            let row = if said.code == 0 { said.json() } else { serde_json::Value::Null };
            if row["state"] == "settled" {
                if row["verdict"] != wanted {
                    self.wrong.push(format!(
                        "the verdict is {}, not {wanted}: {}",
                        row["verdict"], row["reasons"]
                    ));
                }
                return;
            }
            if began.elapsed() > SETTLES {
                return self.wrong.push(format!("no verdict: {}{}", said.out, said.err));
            }
            std::thread::sleep(AGAIN * 4);
        }
    }

    /// Two leases more: what was seen to go does not come back.
    fn watch(&mut self, at: Instant, lifted: &[Option<Instant>]) {
        let until = Instant::now() + Duration::from_millis(2 * self.plan.lease_ms);
        while Instant::now() < until {
            std::thread::sleep(SPAN.min(until - Instant::now()));
            let back = self
                .of("h1")
                .iter()
                .zip(lifted)
                .filter(|(probe, lifted)| lifted.is_some() && probe.gone_since(at) != **lifted);
            let back: Vec<String> = back.map(|(p, _)| format!("{} came back", p.kind)).collect();
            if !back.is_empty() {
                return self.wrong.extend(back);
            }
        }
    }
}

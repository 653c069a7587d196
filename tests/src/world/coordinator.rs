//! One coordinator: the leader's machine, the log as far as it has it, the stops it has heard.

use std::collections::{BTreeMap, BTreeSet};

use squall_core::ids::{HostName, Leadership, StopId};
use squall_core::leader::{Action, Leader};
use squall_core::message::{Orders, Report, ToAgent};
use squall_core::registry::Registry;
use squall_core::time::{Time, WallTime};

use super::Fact;

/// One coordinator that believes that it leads.
#[derive(Clone, Debug, Hash)]
pub struct Leading {
    /// Its clock.
    pub clock: Time,
    /// Its machine.
    pub machine: Leader,
    /// What each connected host's last report stood for, noted from outside: its `t`, and all stops
    /// that the host knew, of which the report has the digest only.
    told: BTreeMap<HostName, (Time, BTreeSet<StopId>)>,
    /// The `t` that had arrived from each host when a round began, for each that has not ended.
    rounds: BTreeMap<u64, BTreeMap<HostName, Time>>,
    /// The newest of those whose round a quorum answered.
    backed: BTreeMap<HostName, Time>,
}

impl Leading {
    /// It begins to lead.
    #[must_use]
    pub fn new(leadership: Leadership, clock: Time) -> Leading {
        Leading {
            clock,
            machine: Leader::new(leadership, clock),
            told: BTreeMap::new(),
            rounds: BTreeMap::new(),
            backed: BTreeMap::new(),
        }
    }

    /// A report arrives, of a host that knew `stops`.
    pub fn report(&mut self, host: &HostName, report: Report, stops: BTreeSet<StopId>) {
        if self.told.get(host).is_none_or(|(t, _)| *t <= report.t) {
            self.told.insert(host.clone(), (report.t, stops));
        }
        self.machine.handle_report(self.clock, host, report);
    }

    /// A host's stream has ended: what it said is forgotten.
    pub fn disconnected(&mut self, host: &HostName) {
        self.told.remove(host);
        self.machine.handle_disconnected(host);
    }

    /// A round begins now.
    pub fn round_begins(&mut self, token: u64) {
        let asked = self.told.iter().map(|(host, (t, _))| (host.clone(), *t));
        self.rounds.insert(token, asked.collect());
    }

    /// It ends; returns what the leader wants then, and says what it sends as facts.
    pub fn round_ends(
        &mut self,
        token: u64,
        ok: bool,
        registry: &Registry,
        facts: &mut Vec<Fact>,
    ) -> Vec<Action> {
        let asked = self.rounds.remove(&token).filter(|_| ok);
        for (host, t) in asked.into_iter().flatten() {
            let newest = self.backed.entry(host).or_insert(t);
            *newest = t.max(*newest);
        }
        self.machine.handle_round(self.clock, WallTime(0), token, ok, registry);
        let actions: Vec<Action> = std::iter::from_fn(|| self.machine.poll_action()).collect();
        for action in &actions {
            if let Action::Send { host, message } = action {
                facts.push(self.sent(host, message, ok, registry));
            }
        }
        actions
    }

    fn sent(&self, host: &HostName, message: &ToAgent, ok: bool, registry: &Registry) -> Fact {
        let echo = match message {
            ToAgent::Orders(orders) => Some(orders.echo),
            ToAgent::Sync(sync) => Some(sync.echo),
            ToAgent::Stop { .. } | ToAgent::Stops(_) | ToAgent::Peers(_) => None,
        };
        let newest = self.backed.get(host);
        let backed = ok && echo.is_none_or(|echo| newest.is_some_and(|newest| echo <= *newest));
        let starts = matches!(message, ToAgent::Orders(Orders { apply, .. }) if !apply.is_empty());
        let heard = self.told.values().flat_map(|(_, stops)| stops);
        let lacking: BTreeSet<StopId> =
            heard.filter(|stop| !registry.fence.knows(**stop)).copied().collect();
        Fact::Sent { host: host.clone(), backed, starts, lacking }
    }
}

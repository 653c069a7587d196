//! How each command changes the registry.

use super::{
    Command, Entry, HostRecord, MAX_HOSTS, MAX_REMEMBERED, MAX_TOKENS, Outcome, Refusal, Registry,
    StopRecord, Token,
};
use crate::clip::cut;
use crate::experiment::EndReason;
use crate::fence::{MAX_STOPS, Resume};
use crate::ids::{CommandId, HostName, LogIndex, StopId};
use crate::radius::{OverRadius, Scope};

/// Stops and hosts that a remembered refusal names, and bytes of its text, at most.
const MAX_NAMED: usize = 8;
const MAX_TEXT: usize = 200;

pub(super) type Applied = Result<Outcome, Refusal>;

impl Registry {
    /// Applies one committed entry. Entries of one log come in order; an index that was applied
    /// already changes nothing.
    pub fn apply(&mut self, index: LogIndex, entry: &Entry) -> Outcome {
        if index <= self.applied {
            return self.remembered.get(&entry.id).cloned().unwrap_or(Outcome::Unchanged);
        }
        self.applied = index;
        if let Some(outcome) = self.remembered.get(&entry.id) {
            return outcome.clone();
        }
        let outcome = self.dispatch(index, entry).unwrap_or_else(Outcome::Refused);
        self.remember(index, entry.id, outcome.clone());
        outcome
    }

    /// Notes that the log reached `index` with an entry that is not ours (a blank, a membership).
    pub fn skip_to(&mut self, index: LogIndex) {
        self.applied = self.applied.max(index);
    }

    fn dispatch(&mut self, index: LogIndex, entry: &Entry) -> Applied {
        match &entry.command {
            Command::Register(host) => self.register(index, host),
            Command::Drain { host, drained } => {
                let record =
                    self.hosts.get_mut(host).ok_or_else(|| Refusal::UnknownHost(host.clone()))?;
                let changed = record.drained != *drained;
                record.drained = *drained;
                Ok(if changed { Outcome::Done(index) } else { Outcome::Unchanged })
            }
            Command::CreateToken { hash, host, expires } => {
                // Nobody can use them any more.
                self.tokens.retain(|_, token| token.expires > entry.at);
                if self.tokens.len() >= MAX_TOKENS {
                    return Err(Refusal::Full(format!("{MAX_TOKENS} join tokens are outstanding")));
                }
                self.tokens.insert(*hash, Token { host: host.clone(), expires: *expires });
                Ok(Outcome::Done(index))
            }
            Command::UseToken { hash, host } => match self.tokens.get(hash) {
                Some(token) if token.host == *host => {
                    self.tokens.remove(hash);
                    Ok(Outcome::Done(index))
                }
                Some(_) | None => Err(Refusal::BadToken),
            },
            Command::Submit { id, experiment } => self.submit(index, entry, *id, experiment),
            Command::Advance { id, from, to } => self.advance(index, entry.at, *id, *from, *to),
            Command::End { id, why } => self.end(index, entry.at, *id, why),
            Command::Observe { fault, state, in_place_ms } => {
                self.observe(index, entry.at, fault, state, *in_place_ms)
            }
            Command::Report { id, incident } => self.report(index, *id, incident),
            Command::Settle { id, verdict, reasons, probes } => {
                self.settle(index, entry.at, *id, *verdict, reasons, probes)
            }
            Command::Stop(stop) => self.stop(index, entry, *stop),
            Command::Resume { stops, despite: _ } => self.resume(index, stops),
            Command::Barrier => Ok(Outcome::Unchanged),
            Command::EndAll { why } => {
                let any = self.end_all(entry.at, why);
                Ok(if any { Outcome::Done(index) } else { Outcome::Unchanged })
            }
            Command::Forget(host) => self.forget(index, host),
        }
    }

    /// What it left behind, if anything, nobody can see any more: its shares of the radius are free.
    fn forget(&mut self, index: LogIndex, host: &HostName) -> Applied {
        let record = self.hosts.get(host).ok_or_else(|| Refusal::UnknownHost(host.clone()))?;
        let not_gone = |why: &str| Err(Refusal::NotGone(host.clone(), why.to_owned()));
        if !record.drained {
            return not_gone("it is not drained");
        }
        if self.running().any(|e| e.reserved.contains(host)) {
            return not_gone("an experiment that runs may hold something there");
        }
        self.hosts.remove(host);
        for record in self.experiments.values_mut() {
            record.reserved.remove(host);
        }
        Ok(Outcome::Done(index))
    }

    fn register(&mut self, index: LogIndex, host: &HostRecord) -> Applied {
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(&host.name) {
            return Err(Refusal::Full(format!("{MAX_HOSTS} hosts are registered, the limit")));
        }
        // A host cannot undo its own drain by coming back.
        let drained = self.hosts.get(&host.name).map_or(host.drained, |known| known.drained);
        let record = HostRecord { drained, ..host.clone() };
        if self.hosts.get(&host.name) == Some(&record) {
            return Ok(Outcome::Unchanged);
        }
        self.hosts.insert(host.name.clone(), record);
        Ok(Outcome::Done(index))
    }

    fn stop(&mut self, index: LogIndex, entry: &Entry, stop: StopId) -> Applied {
        if self.stops.contains_key(&stop) {
            return Ok(Outcome::Unchanged);
        }
        // Never refused for room: a stop must always arrive. The limit refuses new experiments instead.
        self.fence.hear(stop);
        self.stops.insert(stop, StopRecord { index, by: entry.by.clone(), at: entry.at });
        self.end_all(entry.at, &EndReason::StopAll);
        Ok(Outcome::Done(index))
    }

    fn resume(&mut self, index: LogIndex, stops: &std::collections::BTreeSet<StopId>) -> Applied {
        if let Some(unknown) = stops.iter().find(|s| !self.fence.knows(**s)) {
            return Err(Refusal::UnknownStop(*unknown));
        }
        let cleared: std::collections::BTreeSet<StopId> =
            stops.iter().copied().filter(|stop| self.fence.is_outstanding(*stop)).collect();
        if cleared.is_empty() {
            return Ok(Outcome::Unchanged);
        }
        self.fence.learn(Resume { index, cleared });
        Ok(Outcome::Done(index))
    }

    /// Room is left for a stop, so that starts end before stops could.
    pub(super) fn has_room_for_stops(&self) -> bool {
        self.stops.len() + 64 < MAX_STOPS
    }

    fn remember(&mut self, index: LogIndex, id: CommandId, outcome: Outcome) {
        self.remembered.insert(id, brief(outcome));
        self.forget.insert(index, id);
        while self.forget.len() > MAX_REMEMBERED {
            if let Some((_, oldest)) = self.forget.pop_first() {
                self.remembered.remove(&oldest);
            }
        }
    }
}

fn short(mut text: String) -> String {
    cut(&mut text, MAX_TEXT);
    text
}

/// An outcome as it is remembered: ten thousand of them go into one section of a snapshot, so that a
/// refusal keeps its kind and its numbers, and loses the lists that it names.
fn brief(outcome: Outcome) -> Outcome {
    let Outcome::Refused(refusal) = outcome else { return outcome };
    Outcome::Refused(match refusal {
        Refusal::Radius(over) => {
            let scope = match over.scope {
                Scope::Group(name) => Scope::Group(short(name)),
                scope @ (Scope::Experiment | Scope::Fleet) => scope,
            };
            Refusal::Radius(OverRadius { holders: Vec::new(), scope, ..over })
        }
        Refusal::Disarmed(mut stops) => {
            stops.truncate(MAX_NAMED);
            Refusal::Disarmed(stops)
        }
        Refusal::NotStopped(mut hosts) => {
            hosts.truncate(MAX_NAMED);
            Refusal::NotStopped(hosts)
        }
        Refusal::Full(text) => Refusal::Full(short(text)),
        Refusal::Invalid(text) => Refusal::Invalid(short(text)),
        Refusal::OutOfService(text) => Refusal::OutOfService(short(text)),
        Refusal::Host(host, why) => Refusal::Host(host, short(why)),
        Refusal::NotGone(host, why) => Refusal::NotGone(host, short(why)),
        refusal @ (Refusal::TooMany { .. }
        | Refusal::TooManyStops(_)
        | Refusal::UnknownHost(_)
        | Refusal::Drained(_)
        | Refusal::UnknownExperiment(_)
        | Refusal::UnknownStop(_)
        | Refusal::BadToken) => refusal,
    })
}

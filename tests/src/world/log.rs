//! The replicated log, as far as it is committed: one for all.

use std::collections::{BTreeMap, BTreeSet};

use squall_core::ids::{CommandId, ExperimentId, LogIndex, StopId};
use squall_core::registry::{Command, Entry, Outcome, Registry, StopRecord};
use squall_core::time::WallTime;
use uuid::Uuid;

use super::Fact;

/// The log's state, and what was committed, noted from outside.
#[derive(Clone, Debug, Default, Hash)]
pub struct Log {
    /// What the machine of `core` made of it.
    pub registry: Registry,
    /// Stops that were committed.
    pub stopped: BTreeSet<StopId>,
    /// Those of them that a committed resume named, and where it stands.
    pub cleared: BTreeMap<StopId, LogIndex>,
    /// Where each experiment's start stands.
    pub starts: BTreeMap<ExperimentId, LogIndex>,
}

/// An entry that somebody proposes.
#[must_use]
pub fn entry(id: CommandId, command: Command) -> Entry {
    Entry { id, at: WallTime(0), by: "o".into(), command }
}

impl Log {
    /// Stops that were committed and that no resume named.
    #[must_use]
    pub fn outstanding(&self) -> BTreeSet<StopId> {
        self.stopped.iter().filter(|s| !self.cleared.contains_key(s)).copied().collect()
    }

    /// Commits one entry. One that was committed before changes nothing.
    pub fn commit(&mut self, entry: &Entry, facts: &mut Vec<Fact>) -> Outcome {
        if let Some(known) = self.registry.outcome_of(entry.id).cloned() {
            self.registry.skip_to(LogIndex(self.registry.applied.0 + 1));
            return known;
        }
        let index = LogIndex(self.registry.applied.0 + 1);
        let stopped = !self.outstanding().is_empty();
        let before: BTreeSet<StopId> = self.registry.fence.outstanding().collect();
        let outcome = self.registry.apply(index, entry);
        self.note(index, &entry.command, &outcome);
        let after: BTreeSet<StopId> = self.registry.fence.outstanding().collect();
        facts.push(Fact::Committed {
            command: entry.command.clone(),
            outcome: outcome.clone(),
            stopped,
            released: before.difference(&after).copied().collect(),
        });
        outcome
    }

    fn note(&mut self, index: LogIndex, command: &Command, outcome: &Outcome) {
        match (command, outcome) {
            (Command::Stop(stop), _) => {
                self.stopped.insert(*stop);
            }
            (Command::Resume { stops, .. }, Outcome::Done(_)) => {
                for stop in stops {
                    self.cleared.entry(*stop).or_insert(index);
                }
            }
            (Command::Submit { id, .. }, Outcome::Done(_)) => {
                self.starts.insert(*id, index);
            }
            _ => {}
        }
    }

    /// Commits an entry under the one id that nobody repeats, and forgets what no rule reads: the
    /// outcomes of commands, the experiments' timelines, and the place of every entry that nothing
    /// refers to. For the model, to which histories that differ in these alone are one.
    pub fn commit_and_forget(&mut self, command: Command, facts: &mut Vec<Fact>) -> Outcome {
        let before = self.registry.applied;
        let entry = entry(CommandId(Uuid::nil()), command);
        let outcome = self.commit(&entry, facts);
        let known = std::mem::take(&mut self.registry);
        self.registry.hosts = known.hosts;
        self.registry.experiments = known.experiments;
        self.registry.fence = known.fence;
        self.registry.stops = known.stops;
        let numbered = match entry.command {
            Command::Submit { .. } | Command::Resume { .. } => known.applied,
            Command::Register(_)
            | Command::Drain { .. }
            | Command::CreateToken { .. }
            | Command::UseToken { .. }
            | Command::Advance { .. }
            | Command::End { .. }
            | Command::Observe { .. }
            | Command::Report { .. }
            | Command::Settle { .. }
            | Command::Stop(_)
            | Command::Forget(_)
            | Command::Barrier
            | Command::EndAll { .. } => before,
        };
        self.registry.applied = if matches!(outcome, Outcome::Done(_)) { numbered } else { before };
        for record in self.registry.experiments.values_mut() {
            record.timeline.clear();
        }
        for stop in self.registry.stops.values_mut() {
            *stop = StopRecord { index: LogIndex(0), by: String::new(), at: WallTime(0) };
        }
        outcome
    }
}

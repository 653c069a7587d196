//! What a coordinator has heard of stops and resumes, and which of the stops its log lacks.
//!
//! A stop needs no quorum: it is heard from operators, agents and other coordinators, in any order, and
//! each leader proposes what the log does not have. Resumes come from the log only.

use std::collections::BTreeSet;

use crate::fence::Fence;
use crate::ids::{LogIndex, StopId};
use crate::registry::Registry;

/// S and R of one coordinator, beside its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    fence: Fence,
    lacking: BTreeSet<StopId>,
    /// How much of the registry was taken over: its stops and its newest resume.
    learnt: (usize, LogIndex),
}

impl Heard {
    /// Takes a stop in, however it was learnt; true where it was not known.
    pub fn handle_stop(&mut self, stop: StopId) -> bool {
        let new = self.fence.hear(stop);
        if new {
            self.lacking.insert(stop);
        }
        new
    }

    /// Takes over what the log says; returns the stops that were not known, of those that stand. What a
    /// resume has cleared since stops nobody; hosts hear of it when their digests differ.
    pub fn handle_registry(&mut self, registry: &Registry) -> Vec<StopId> {
        let version = (registry.stops.len(), registry.fence.newest_resume());
        if version == self.learnt {
            return Vec::new();
        }
        self.learnt = version;
        let new = registry.fence.outstanding().filter(|stop| self.handle_stop(*stop)).collect();
        for resume in registry.fence.resumes_after(self.fence.newest_resume()) {
            self.fence.learn(resume);
        }
        self.lacking.retain(|stop| !registry.fence.knows(*stop));
        new
    }

    /// S and R.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Heard and not in the log, in order.
    pub fn lacking(&self) -> impl Iterator<Item = StopId> {
        self.lacking.iter().copied()
    }

    /// Heard, and not in this log. [`Heard::handle_registry`] may be behind it.
    pub fn lacking_in(&self, registry: &Registry) -> impl Iterator<Item = StopId> {
        self.lacking().filter(move |stop| !registry.fence.knows(*stop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CommandId;
    use crate::registry::{Command, Entry};
    use crate::time::WallTime;

    fn stop(n: u128) -> StopId {
        StopId(uuid::Uuid::from_u128(n))
    }

    fn resume(n: u128) -> Command {
        Command::Resume { stops: [stop(n)].into(), despite: BTreeSet::new() }
    }

    fn apply(registry: &mut Registry, command: Command) {
        let index = LogIndex(registry.applied.0 + 1);
        let id = CommandId(uuid::Uuid::from_u128(index.0.into()));
        let entry = Entry { id, at: WallTime(0), by: "operator/alice".into(), command };
        registry.apply(index, &entry);
    }

    fn all(stops: impl Iterator<Item = StopId>) -> Vec<StopId> {
        stops.collect()
    }

    #[test]
    fn what_is_heard_first_is_lacking_until_the_log_has_it() {
        let (mut heard, mut registry) = (Heard::default(), Registry::default());
        assert!(heard.handle_stop(stop(2)) && heard.handle_stop(stop(1)));
        assert!(!heard.handle_stop(stop(1)), "it is known");
        assert_eq!(all(heard.lacking()), [stop(1), stop(2)]);
        apply(&mut registry, Command::Stop(stop(1)));
        assert_eq!(all(heard.lacking_in(&registry)), [stop(2)], "before it is taken over");
        assert_eq!(heard.handle_registry(&registry), []);
        assert_eq!(all(heard.lacking()), [stop(2)]);
        assert!(!heard.handle_stop(stop(1)), "what the log has was heard");
    }

    #[test]
    fn what_the_log_says_first_is_new_once_and_cleared_by_its_resumes() {
        let (mut heard, mut registry) = (Heard::default(), Registry::default());
        apply(&mut registry, Command::Stop(stop(1)));
        assert_eq!(heard.handle_registry(&registry), [stop(1)]);
        assert_eq!(heard.handle_registry(&registry), []);
        assert!(!heard.fence().armed() && heard.lacking().next().is_none());
        apply(&mut registry, resume(1));
        assert_eq!(heard.handle_registry(&registry), []);
        assert!(heard.fence().armed());
        assert_eq!(heard.fence(), &registry.fence);
        // Of one that was cleared before it was heard of, nobody is told.
        apply(&mut registry, Command::Stop(stop(2)));
        apply(&mut registry, resume(2));
        assert_eq!(heard.handle_registry(&registry), []);
        assert!(heard.fence().armed() && heard.fence().knows(stop(2)));
    }
}

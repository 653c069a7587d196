//! Stops heard, resumes committed, and what follows from the two: whether anything may start.
//!
//! S is the set of stop ids heard; it only grows. R is the list of committed resumes, each with its
//! place in the log and the stop ids that it clears. A node is *armed* iff every id of S is cleared
//! by some resume of R. The same type serves hosts, coordinators and the replicated registry.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{LogIndex, StopId};

/// Stop ids with which new experiments are still taken; stops themselves always are. At one stop a day
/// this is eleven years.
pub const MAX_STOPS: usize = 4096;

/// A committed resume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resume {
    /// Where it stands in the log.
    pub index: LogIndex,
    /// The stops that its operator was shown and cleared.
    pub cleared: BTreeSet<StopId>,
}

/// S and R of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fence {
    stops: BTreeSet<StopId>,
    resumes: BTreeMap<LogIndex, BTreeSet<StopId>>,
}

impl Fence {
    /// Adds a stop to S; true where it was not known.
    pub fn hear(&mut self, stop: StopId) -> bool {
        self.stops.insert(stop)
    }

    /// Adds a committed resume to R; true where it was not known.
    pub fn learn(&mut self, resume: Resume) -> bool {
        self.resumes.insert(resume.index, resume.cleared).is_none()
    }

    /// Whether `stop` was heard.
    #[must_use]
    pub fn knows(&self, stop: StopId) -> bool {
        self.stops.contains(&stop)
    }

    /// Stops that no resume has cleared, in order.
    pub fn outstanding(&self) -> impl Iterator<Item = StopId> + '_ {
        let cleared: BTreeSet<StopId> = self.resumes.values().flatten().copied().collect();
        self.stops.iter().copied().filter(move |stop| !cleared.contains(stop))
    }

    /// Whether this one was heard and no resume has cleared it.
    #[must_use]
    pub fn is_outstanding(&self, stop: StopId) -> bool {
        self.knows(stop) && !self.resumes.values().any(|cleared| cleared.contains(&stop))
    }

    /// Whether every stop heard is cleared.
    #[must_use]
    pub fn armed(&self) -> bool {
        self.outstanding().next().is_none()
    }

    /// Whether something that started at `start` in the log may be held here: this node is armed,
    /// and the start is later than every resume that cleared a stop heard here. What was ordered
    /// before a stop is thus refused for ever, also after the resume.
    #[must_use]
    pub fn admits(&self, start: LogIndex) -> bool {
        self.armed()
            && self
                .resumes
                .iter()
                .filter(|(_, cleared)| cleared.iter().any(|s| self.stops.contains(s)))
                .all(|(index, _)| start > *index) // guard: fence
    }

    /// The index of the newest resume known, 0 where there is none.
    #[must_use]
    pub fn newest_resume(&self) -> LogIndex {
        self.resumes.keys().next_back().copied().unwrap_or_default()
    }

    /// All of S.
    pub fn stops(&self) -> impl Iterator<Item = StopId> + '_ {
        self.stops.iter().copied()
    }

    /// All of R, oldest first.
    pub fn resumes(&self) -> impl Iterator<Item = Resume> + '_ {
        self.resumes
            .iter()
            .map(|(index, cleared)| Resume { index: *index, cleared: cleared.clone() })
    }

    /// A fingerprint of S: equal where the sets are equal. FNV-1a over the sorted ids; it guards
    /// against forgetting, not against an enemy, whom mTLS keeps out.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.stops.iter().flat_map(|s| *s.0.as_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(n: u128) -> StopId {
        StopId(uuid::Uuid::from_u128(n))
    }

    fn resume(index: u64, cleared: &[u128]) -> Resume {
        Resume { index: LogIndex(index), cleared: cleared.iter().map(|n| stop(*n)).collect() }
    }

    #[test]
    fn a_stop_disarms_until_a_resume_names_it() {
        let mut fence = Fence::default();
        assert!(fence.armed() && fence.admits(LogIndex(0)));
        assert!(fence.hear(stop(1)));
        assert!(!fence.hear(stop(1)));
        fence.learn(resume(5, &[2]));
        assert!(!fence.armed(), "a resume of another stop clears nothing");
        fence.learn(resume(9, &[1]));
        assert!(fence.armed());
        assert!(!fence.admits(LogIndex(8)), "what started before the resume stays refused");
        assert!(fence.admits(LogIndex(10)));
    }

    #[test]
    fn a_resume_of_stops_never_heard_does_not_fence() {
        let mut fence = Fence::default();
        fence.learn(resume(9, &[1]));
        assert!(fence.admits(LogIndex(3)));
        fence.hear(stop(1));
        assert!(fence.armed(), "a stop heard late was cleared already");
        assert!(!fence.admits(LogIndex(3)));
    }

    #[test]
    fn a_resume_clears_what_it_names_and_fences_whoever_heard_any_of_it() {
        let mut fence = Fence::default();
        fence.hear(stop(1));
        fence.learn(resume(9, &[1, 2]));
        assert!(!fence.admits(LogIndex(3)), "one of the two was heard");
        fence.hear(stop(3));
        assert!(fence.is_outstanding(stop(3)) && !fence.is_outstanding(stop(1)));
    }

    #[test]
    fn the_digest_tells_sets_apart() {
        let (mut a, mut b) = (Fence::default(), Fence::default());
        a.hear(stop(1));
        a.hear(stop(2));
        b.hear(stop(2));
        assert_ne!(a.digest(), b.digest());
        b.hear(stop(1));
        assert_eq!(a.digest(), b.digest());
    }
}

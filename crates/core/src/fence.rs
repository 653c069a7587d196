//! Stops heard, resumes committed, and what follows from the two: whether anything may start.
//!
//! S is the set of stop ids heard; it only grows. R is the list of committed resumes, each with its
//! place in the log and the stop ids that it clears. A node is *armed* iff every id of S is cleared
//! by some resume of R. The same type serves hosts, coordinators and the replicated registry.
//!
//! A log resumes no stop that it does not have, and a stop ends whatever runs. So whoever learns of a
//! resume has heard of the stops that it clears, and what began before a resume is over.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{LogIndex, StopId};

/// Stop ids with which new experiments are still taken; stops themselves always are. All of S and R must
/// fit one message to a host that has never heard of any. At fifty stops a day this is three and a half
/// years.
pub const MAX_STOPS: usize = 65_536;
/// Stop ids in one message of a host, at most: it tells those that stand in so many.
pub const MAX_TOLD: usize = 16_384;

/// A committed resume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resume {
    /// Where it stands in the log.
    pub index: LogIndex,
    /// The stops that its operator was shown and cleared.
    pub cleared: BTreeSet<StopId>,
}

/// S and R of one node. Old stops cost room: a look costs what stands, a comparison what was resumed since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Fence {
    outstanding: BTreeSet<StopId>,
    resumes: BTreeMap<LogIndex, BTreeSet<StopId>>,
    /// What R clears.
    #[serde(skip)]
    cleared: BTreeSet<StopId>,
}

/// A [`Fence`] as it is written down: the rest follows.
#[derive(Deserialize)]
struct Written {
    outstanding: BTreeSet<StopId>,
    resumes: BTreeMap<LogIndex, BTreeSet<StopId>>,
}

impl From<Written> for Fence {
    fn from(written: Written) -> Fence {
        let mut fence = Fence::default();
        for (index, cleared) in written.resumes {
            fence.learn(Resume { index, cleared });
        }
        for stop in written.outstanding {
            fence.hear(stop);
        }
        fence
    }
}

impl Fence {
    /// Adds a stop to S; true where it was not known.
    pub fn hear(&mut self, stop: StopId) -> bool {
        !self.cleared.contains(&stop) && self.outstanding.insert(stop)
    }

    /// Adds a committed resume to R, and the stops that it clears to S; true where it was not known.
    pub fn learn(&mut self, resume: Resume) -> bool {
        let known = self.resumes.contains_key(&resume.index);
        // A log that was lost and begun anew has other resumes at the same places.
        let new: Vec<StopId> = resume.cleared.difference(&self.cleared).copied().collect();
        if known && new.is_empty() {
            return false;
        }
        for stop in &new {
            self.outstanding.remove(stop);
        }
        self.cleared.extend(&new);
        self.resumes.entry(resume.index).or_default().extend(new);
        true
    }

    /// The stops that stand, and nothing of any log.
    #[must_use]
    pub fn without_log(&self) -> Fence {
        let mut fence = Fence::default();
        for stop in self.outstanding() {
            fence.hear(stop);
        }
        fence
    }

    /// Whether `stop` was heard.
    #[must_use]
    pub fn knows(&self, stop: StopId) -> bool {
        self.cleared.contains(&stop) || self.outstanding.contains(&stop)
    }

    /// Stops that no resume has cleared, in order.
    pub fn outstanding(&self) -> impl Iterator<Item = StopId> + '_ {
        self.outstanding.iter().copied()
    }

    /// Whether this one was heard and no resume has cleared it.
    #[must_use]
    pub fn is_outstanding(&self, stop: StopId) -> bool {
        self.outstanding.contains(&stop)
    }

    /// Whether every stop heard is cleared.
    #[must_use]
    pub fn armed(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Whether something that started at `start` in the log may be held here: this node is armed, and
    /// the start is later than every resume. What was ordered before a stop is thus refused for ever,
    /// also after the resume.
    #[must_use]
    pub fn admits(&self, start: LogIndex) -> bool {
        let later = start > self.newest_resume(); // guard: fence
        self.armed() && later
    }

    /// The index of the newest resume known, 0 where there is none.
    #[must_use]
    pub fn newest_resume(&self) -> LogIndex {
        self.resumes.keys().next_back().copied().unwrap_or_default()
    }

    /// All of S.
    pub fn stops(&self) -> impl Iterator<Item = StopId> + '_ {
        self.cleared.iter().chain(&self.outstanding).copied()
    }

    /// The resumes of R that are newer than `known`, oldest first.
    pub fn resumes_after(&self, known: LogIndex) -> impl Iterator<Item = Resume> + '_ {
        use std::ops::Bound::{Excluded, Unbounded};
        self.resumes
            .range((Excluded(known), Unbounded))
            .map(|(index, cleared)| Resume { index: *index, cleared: cleared.clone() })
    }

    /// A fingerprint of the stops that stand: equal where the sets are equal. It guards against forgetting,
    /// not against an enemy, whom mTLS keeps out. Stops that were cleared are in the log and in R.
    #[must_use]
    pub fn digest(&self) -> u64 {
        sum(&self.outstanding)
    }

    /// What the digest is of a node that has heard of all stops that this one has, and of no resume newer
    /// than `known`.
    #[must_use]
    pub fn digest_at(&self, known: LogIndex) -> u64 {
        use std::ops::Bound::{Excluded, Unbounded};
        let later = self.resumes.range((Excluded(known), Unbounded));
        later.fold(self.digest(), |digest, (_, cleared)| digest.wrapping_add(sum(cleared)))
    }

    /// What `more` add to a digest, as far as they are not known.
    #[must_use]
    pub fn digest_of_unknown(&self, more: &BTreeSet<StopId>) -> u64 {
        sum(more.iter().filter(|stop| !self.knows(**stop)))
    }
}

fn sum<'a>(stops: impl IntoIterator<Item = &'a StopId>) -> u64 {
    stops.into_iter().fold(0, |sum, stop| sum.wrapping_add(mark(*stop)))
}

/// FNV-1a over an id, its bits spread: the marks of a set are added up, in any order.
fn mark(stop: StopId) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = stop.0.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
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
        assert!(fence.armed() && fence.admits(LogIndex(1)));
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
    fn whoever_learns_of_a_resume_has_heard_what_it_clears() {
        let mut fence = Fence::default();
        fence.learn(resume(9, &[1, 2]));
        assert!(
            fence.knows(stop(1)) && !fence.hear(stop(1)),
            "a stop that comes late was cleared already"
        );
        assert!(fence.armed());
        assert!(!fence.admits(LogIndex(3)) && fence.admits(LogIndex(10)));
        fence.hear(stop(3));
        assert!(fence.is_outstanding(stop(3)) && !fence.is_outstanding(stop(1)));
        assert_eq!(fence.stops().collect::<Vec<_>>(), [1, 2, 3].map(stop));
    }

    #[test]
    fn resumes_are_learnt_in_any_order_and_told_from_a_place_on() {
        let mut fence = Fence::default();
        assert!(fence.learn(resume(9, &[2])) && fence.learn(resume(5, &[1])));
        assert!(!fence.learn(resume(9, &[2])));
        assert!(fence.clone().learn(resume(9, &[3])), "of a log that was begun anew");
        assert_eq!(fence.newest_resume(), LogIndex(9));
        let after = |index| fence.resumes_after(LogIndex(index)).collect::<Vec<_>>();
        assert_eq!(after(0), [resume(5, &[1]), resume(9, &[2])]);
        assert_eq!(after(5), [resume(9, &[2])]);
        assert_eq!(after(9), []);
    }

    #[test]
    fn what_is_written_down_says_all() {
        let mut fence = Fence::default();
        fence.learn(resume(9, &[1, 2]));
        fence.hear(stop(3));
        let written = serde_json::to_string(&fence).expect("json");
        assert_eq!(serde_json::from_str::<Fence>(&written).expect("the same"), fence);
    }

    #[test]
    fn the_digest_tells_sets_apart() {
        let (mut a, mut b) = (Fence::default(), Fence::default());
        a.hear(stop(1));
        a.hear(stop(2));
        b.hear(stop(2));
        assert_ne!(a.digest(), b.digest());
        let more = b.digest_of_unknown(&[stop(1), stop(2)].into());
        assert_eq!(b.digest().wrapping_add(more), a.digest());
        b.hear(stop(1));
        assert_eq!(a.digest(), b.digest(), "in whatever order they were heard");
    }

    #[test]
    fn a_digest_is_of_what_stands_and_known_for_each_resume() {
        let (mut log, mut host) = (Fence::default(), Fence::default());
        for fence in [&mut log, &mut host] {
            fence.hear(stop(1));
        }
        log.learn(resume(9, &[1, 2]));
        assert_eq!(log.digest(), Fence::default().digest());
        assert_ne!(log.digest_at(LogIndex(0)), host.digest(), "it has not heard of 2");
        host.hear(stop(2));
        assert_eq!(log.digest_at(LogIndex(0)), host.digest());
        host.learn(resume(9, &[1, 2]));
        assert_eq!(log.digest_at(LogIndex(9)), host.digest());
        host.hear(stop(3));
        assert_ne!(log.digest_at(LogIndex(9)), host.digest());
    }
}

//! What a host's journal holds, and what follows from it at the start of a life.

use serde::{Deserialize, Serialize};

use super::{Host, Token};
use crate::experiment::{Ended, Why};
use crate::fence::Resume;
use crate::ids::{ClusterId, FaultId, LogIndex, StopId};
use crate::message::{FaultReport, HostPhase};
use crate::time::Time;

/// One durable fact. An order to begin a fault is durable before anything is touched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// A stop was heard.
    Stop(StopId),
    /// A resume was learnt.
    Resume(Resume),
    /// A fault is about to be put in place; its experiment's start index.
    Intent(FaultId, LogIndex),
    /// A fault is over for ever.
    Ended(FaultId, LogIndex),
    /// Whoever wanted that fault knows that it is over.
    Acknowledged(FaultId),
    /// Whatever started at or before this is over for ever.
    Floor(LogIndex),
    /// From here on this host belongs to that cluster.
    Cluster(ClusterId),
}

/// How a fault ended of which an earlier life of the agent saw the end, and could not tell it: it is
/// gone, which was proven, and nobody knows more.
fn forgotten(id: &FaultId) -> FaultReport {
    FaultReport {
        id: id.clone(),
        kind: None,
        phase: HostPhase::Lost,
        lease_ms: 0,
        remaining_ms: 0,
        in_place_ms: None,
        achieved: None,
        ended: Some(Ended { why: Why::Forgotten, ..Ended::default() }),
    }
}

impl Host {
    /// Whoever wanted these faults knows how they ended: they are reported no more, in no life.
    pub(super) fn forget(&mut self, known: &[FaultId]) {
        let known = known.iter().filter(|id| self.over.remove(*id).is_some());
        let records: Vec<Record> = known.cloned().map(Record::Acknowledged).collect();
        if !records.is_empty() {
            self.persist(Token::Note, records);
        }
    }

    /// This life belongs to `cluster`; true where earlier ones belonged to another. Then places in that
    /// one's log mean nothing any more, and its resumes are forgotten. Stops that stand are not: whoever was
    /// told that this host is stopped was told the truth.
    pub fn handle_cluster(&mut self, cluster: ClusterId) -> bool {
        if self.cluster == Some(cluster) {
            return false;
        }
        self.persist(Token::Note, vec![Record::Cluster(cluster)]);
        self.enter(cluster)
    }

    fn enter(&mut self, cluster: ClusterId) -> bool {
        let left = self.cluster.replace(cluster).is_some_and(|before| before != cluster);
        if left {
            self.fence = self.fence.without_log();
            self.floor = LogIndex(0);
            let live = self.live.values_mut().map(|live| &mut live.start);
            live.chain(self.ended.values_mut()).for_each(|start| *start = LogIndex(0));
        }
        left
    }

    pub(super) fn replay(&mut self, records: &[Record], now: Time) {
        let mut open = std::collections::BTreeMap::new();
        for record in records {
            match record {
                Record::Stop(stop) => {
                    self.fence.hear(*stop);
                }
                Record::Resume(resume) => {
                    self.fence.learn(resume.clone());
                }
                Record::Intent(id, start) => {
                    open.insert(id.clone(), *start);
                }
                Record::Ended(id, start) => {
                    open.remove(id);
                    self.end_for_ever(id, *start); // guard: ended ids
                    // A person's fault has no place in the log, and nobody there waits for it.
                    if *start > LogIndex(0) {
                        self.over.insert(id.clone(), forgotten(id));
                    }
                }
                Record::Acknowledged(id) => {
                    self.over.remove(id);
                }
                Record::Floor(floor) => self.floor = self.floor.max(*floor),
                Record::Cluster(cluster) => {
                    if self.enter(*cluster) {
                        open.values_mut().for_each(|start| *start = LogIndex(0));
                    }
                }
            }
        }
        for (id, start) in open {
            self.revive_as_lost(now, id, start);
        }
    }
}

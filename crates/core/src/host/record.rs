//! What a host's journal holds, and what follows from it at the start of a life.

use serde::{Deserialize, Serialize};

use super::{Host, Why};
use crate::fence::Resume;
use crate::ids::{FaultId, LogIndex, StopId};
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
    /// Whatever started at or before this is over for ever.
    Floor(LogIndex),
}

impl Host {
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
                }
                Record::Floor(floor) => self.floor = self.floor.max(*floor),
            }
        }
        for (id, start) in open {
            self.revive_as_lost(now, id, start, Why::AgentRestarted);
        }
    }
}

//! What is kept to be said again.

use std::collections::{BTreeMap, VecDeque};

use squall_core::ids::{NodeId, StopId};
use squall_core::message::{PeerHost, Receipt};

use crate::neighbours::SignedStop;

/// Signed records of stops, and receipts, that are kept.
const MAX_KEPT: usize = 64;

/// What is kept to be said again.
#[derive(Default)]
pub(crate) struct Kept {
    /// Stops with their signed records, oldest first, for the relay.
    records: VecDeque<SignedStop>,
    /// The last receipt of each stop, oldest first: a coordinator to which no stream was open when
    /// it was made gets it when there is one.
    pub(super) receipts: VecDeque<Receipt>,
    /// The other hosts, as each coordinator tells of them.
    pub(super) peers: BTreeMap<NodeId, Vec<PeerHost>>,
}

impl Kept {
    pub(super) fn record(&self, stop: StopId) -> Option<&Vec<u8>> {
        self.records.iter().find(|(known, _)| *known == stop).map(|(_, record)| record)
    }

    /// True where the stop had no record so far.
    pub(super) fn keep_record(&mut self, stop: StopId, record: Vec<u8>) -> bool {
        if self.record(stop).is_some() {
            return false;
        }
        self.records.push_back((stop, record));
        if self.records.len() > MAX_KEPT {
            self.records.pop_front();
        }
        true
    }

    /// True where it says something new.
    pub(super) fn keep_receipt(&mut self, receipt: &Receipt) -> bool {
        let new = !self.receipts.contains(receipt);
        self.receipts.retain(|known| known.stop != receipt.stop);
        self.receipts.push_back(receipt.clone());
        if self.receipts.len() > MAX_KEPT {
            self.receipts.pop_front();
        }
        new
    }
}

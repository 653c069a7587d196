//! The stops that this coordinator has heard: S and R, and its own durable file, which needs no
//! quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use squall_core::fence::Fence;
use squall_core::ids::{LogIndex, StopId};
use squall_core::registry::Registry;
use squall_journal::Journal;
use squall_wire::{Identity, codec};

/// The directory of the file within the state directory.
pub(crate) const DIR: &str = "stops";

/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Stops {
    identity: Identity,
    fence: Fence,
    /// Who asked, where this coordinator was asked first-hand.
    asked_by: BTreeMap<StopId, String>,
    /// Heard and not in the log.
    lacking: BTreeSet<StopId>,
    /// How much of the registry was taken over: its stops and its newest resume.
    learnt: (usize, LogIndex),
    disk: mpsc::Sender<StopId>,
}

impl Stops {
    /// Reads what an earlier life heard, and starts the thread that writes.
    ///
    /// # Errors
    /// The file's.
    pub(crate) fn open(state_dir: &Path, identity: &Identity) -> io::Result<Stops> {
        let dir = state_dir.join(DIR);
        squall_journal::make_private_dir(&dir)?;
        let (journal, recovered) = Journal::open(&dir).map_err(io::Error::other)?;
        let (disk, queue) = mpsc::channel();
        let mut stops = Stops {
            identity: identity.clone(),
            fence: Fence::default(),
            asked_by: BTreeMap::new(),
            lacking: BTreeSet::new(),
            learnt: (0, LogIndex(0)),
            disk,
        };
        for record in &recovered.records {
            let stop = codec::decode(record).map_err(io::Error::other)?;
            stops.fence.hear(stop);
            stops.lacking.insert(stop);
        }
        std::thread::Builder::new()
            .name("stops".into())
            .spawn(move || write_all(journal, recovered.records, &queue))?;
        Ok(stops)
    }

    /// Takes a stop in, however it was learnt; true where it was not known.
    pub(crate) fn hear(&mut self, stop: StopId, asked_by: Option<String>) -> bool {
        if !self.fence.hear(stop) {
            return false;
        }
        self.lacking.insert(stop);
        if let Some(by) = asked_by {
            self.asked_by.insert(stop, by);
        }
        // The thread ends with this sender only, or it has said why on its way out.
        let _ = self.disk.send(stop);
        true
    }

    /// Takes over what the log says; returns the stops that were not known, of those that stand.
    pub(crate) fn learn(&mut self, registry: &Registry) -> Vec<StopId> {
        let version = (registry.stops.len(), registry.fence.newest_resume());
        if version == self.learnt {
            return Vec::new();
        }
        self.learnt = version;
        let new: Vec<StopId> =
            registry.fence.outstanding().filter(|stop| self.hear(*stop, None)).collect();
        for resume in registry.fence.resumes_after(self.fence.newest_resume()) {
            self.fence.learn(resume);
        }
        self.lacking.retain(|stop| !registry.fence.knows(*stop));
        self.asked_by.retain(|stop, _| self.lacking.contains(stop));
        new
    }

    /// S and R.
    pub(crate) fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Heard and not in the log.
    pub(crate) fn lacking(&self) -> Vec<StopId> {
        self.lacking.iter().copied().collect()
    }

    /// Heard, and not in this log. [`Stops::learn`] may be behind it.
    pub(crate) fn lacking_in(&self, registry: &Registry) -> Vec<StopId> {
        self.lacking.iter().copied().filter(|stop| !registry.fence.knows(*stop)).collect()
    }

    /// Who asked for a stop, where this coordinator was asked first-hand.
    pub(crate) fn asked_by(&self, stop: StopId) -> Option<String> {
        self.asked_by.get(&stop).cloned()
    }

    /// The signed record of a stop that was heard.
    pub(crate) fn record(&self, stop: StopId) -> Vec<u8> {
        self.identity.sign_stop(stop)
    }
}

/// Writes stops until the sender is gone. What could not be written is tried again, as a whole new
/// file: until then those stops live in memory here, and durably on the hosts, where it counts.
fn write_all(mut journal: Journal, mut all: Vec<Vec<u8>>, queue: &mpsc::Receiver<StopId>) {
    let mut failed = false;
    loop {
        let first = match queue.recv_timeout(if failed { RETRY } else { Duration::MAX }) {
            Ok(stop) => Some(stop),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        };
        let encode = |stop| codec::encode(&stop).expect("a stop id is sixteen bytes");
        let new: Vec<Vec<u8>> = first.into_iter().chain(queue.try_iter()).map(encode).collect();
        all.extend(new.iter().cloned());
        let written = if failed { journal.rewrite(&all) } else { journal.append(&new) };
        if let Err(error) = &written {
            tracing::error!(%error, "a stop is not durable on this coordinator");
        }
        failed = written.is_err();
    }
}

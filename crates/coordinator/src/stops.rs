//! The stops that this coordinator has heard: S and R, and its own durable file, which needs no
//! quorum.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use squall_core::fence::Fence;
use squall_core::heard::Heard;
use squall_core::ids::StopId;
use squall_core::registry::Registry;
use squall_journal::{Journal, JournalError};
use squall_wire::{Identity, codec};

/// The directory of the file within the state directory.
pub(crate) const DIR: &str = "stops";

/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Stops {
    identity: Identity,
    heard: Heard,
    /// Who asked, where this coordinator was asked first-hand and the log does not say it yet.
    asked_by: BTreeMap<StopId, String>,
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
        let (mut journal, recovered) = Journal::open(&dir).map_err(io::Error::other)?;
        let (disk, queue) = mpsc::channel();
        let mut stops = Stops {
            identity: identity.clone(),
            heard: Heard::default(),
            asked_by: BTreeMap::new(),
            disk,
        };
        for record in &recovered.records {
            stops.heard.handle_stop(codec::decode(record).map_err(io::Error::other)?);
        }
        std::thread::Builder::new()
            .name("stops".into())
            .spawn(move || write_all(|stops| journal.append(stops), &queue))?;
        Ok(stops)
    }

    /// Takes a stop in, however it was learnt; true where it was not known.
    pub(crate) fn hear(&mut self, stop: StopId, asked_by: Option<String>) -> bool {
        let new = self.heard.handle_stop(stop);
        if new {
            if let Some(by) = asked_by {
                self.asked_by.insert(stop, by);
            }
            self.write(stop);
        }
        new
    }

    /// Takes over what the log says; returns the stops that were not known, of those that stand.
    pub(crate) fn learn(&mut self, registry: &Registry) -> Vec<StopId> {
        let new = self.heard.handle_registry(registry);
        for stop in &new {
            self.write(*stop);
        }
        self.asked_by.retain(|stop, _| !registry.fence.knows(*stop));
        new
    }

    fn write(&self, stop: StopId) {
        // The thread ends with this sender only, or it has said why on its way out.
        let _ = self.disk.send(stop);
    }

    /// S and R.
    pub(crate) fn fence(&self) -> &Fence {
        self.heard.fence()
    }

    /// Heard and not in the log.
    pub(crate) fn lacking(&self) -> Vec<StopId> {
        self.heard.lacking().collect()
    }

    /// Heard, and not in this log. [`Stops::learn`] may be behind it.
    pub(crate) fn lacking_in(&self, registry: &Registry) -> Vec<StopId> {
        self.heard.lacking_in(registry).collect()
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

/// Writes stops until the sender is gone. What could not be written is tried again: until then those
/// stops live in memory here, and durably on the hosts, where it counts.
fn write_all(
    mut append: impl FnMut(&[Vec<u8>]) -> Result<(), JournalError>,
    queue: &mpsc::Receiver<StopId>,
) {
    let mut waiting: Vec<Vec<u8>> = Vec::new();
    loop {
        let patience = if waiting.is_empty() { Duration::MAX } else { RETRY };
        let first = match queue.recv_timeout(patience) {
            Ok(stop) => Some(stop),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        };
        let encode = |stop| codec::encode(&stop).expect("a stop id is sixteen bytes");
        waiting.extend(first.into_iter().chain(queue.try_iter()).map(encode));
        match append(&waiting) {
            Ok(()) => waiting.clear(),
            Err(error) => tracing::error!(%error, "a stop is not durable on this coordinator"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_could_not_be_written_is_written_with_the_next() {
        let stop = |n| StopId(uuid::Uuid::from_u128(n));
        let (disk, queue) = mpsc::channel();
        disk.send(stop(1)).unwrap();
        let (mut disk, mut tried) = (Some(disk), Vec::new());
        let append = |stops: &[Vec<u8>]| {
            tried.push(stops.iter().map(|s| codec::decode(s).unwrap()).collect());
            let Some(disk) = disk.take() else { return Ok(()) };
            disk.send(stop(2)).unwrap();
            Err(JournalError::Full { path: DIR.into() })
        };
        write_all(append, &queue);
        let tried: Vec<Vec<StopId>> = tried;
        assert_eq!(tried, [vec![stop(1)], vec![stop(1), stop(2)]]);
    }
}

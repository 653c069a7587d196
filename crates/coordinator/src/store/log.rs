//! Raft's log and vote. Read from memory, written to disk behind it: entries are readable when
//! `append` returns and durable when raft is told so.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};

use super::tables::{Change, Contents, Disk, Done};
use super::types::{LogEntry, LogId, TypeConfig, Vote};
use super::{decode, encode};

/// Encoded bytes of log that are read for one message to a follower. With one entry of the largest
/// size it is well within what the codec takes.
const MAX_READ_BYTES: usize = 256 << 10;

#[derive(Default)]
struct Log {
    /// Each entry with its encoded length.
    entries: BTreeMap<u64, (LogEntry, usize)>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

/// The log of one coordinator; all clones are one.
#[derive(Clone)]
pub struct LogStore {
    log: Arc<Mutex<Log>>,
    disk: Disk,
}

impl LogStore {
    /// Takes over what the file held.
    pub(super) fn new(disk: Disk, contents: &mut Contents) -> io::Result<Self> {
        let mut log = Log {
            purged: contents.purged.as_deref().map(decode).transpose()?,
            vote: contents.vote.as_deref().map(decode).transpose()?,
            committed: contents
                .committed
                .as_deref()
                .map(decode::<Option<LogId>>)
                .transpose()?
                .flatten(),
            ..Log::default()
        };
        for (index, bytes) in std::mem::take(&mut contents.log) {
            log.entries.insert(index, (decode(&bytes)?, bytes.len()));
        }
        Ok(LogStore { log: Arc::new(Mutex::new(log)), disk })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<LogEntry>> {
        Ok(self.log().entries.range(range).map(|(_, (entry, _))| entry.clone()).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        let log = self.log();
        let mut bytes = 0;
        let fits = |(_, (_, len)): &(&u64, &(LogEntry, usize))| {
            let first = bytes == 0;
            bytes += len;
            first || bytes <= MAX_READ_BYTES
        };
        let read = log.entries.range(start..end).take_while(fits);
        Ok(read.map(|(_, (entry, _))| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let log = self.log();
        let last = log.entries.last_key_value().map(|(_, (entry, _))| entry.log_id);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last.or(log.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.disk.write(Change::Vote(encode(vote)?)).await?;
        self.log().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Not waited for: an older one only means that a restarted node applies the last entries
        // when the leader tells it to, instead of at once.
        self.disk.queue(Change::Committed(encode(&committed)?), Done::Nobody).await?;
        self.log().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.log().committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut encoded = Vec::new();
        let mut kept = Vec::new();
        for entry in entries {
            let bytes = encode(&entry)?;
            kept.push((entry.log_id.index, (entry, bytes.len())));
            encoded.push((kept[kept.len() - 1].0, bytes));
        }
        self.log().entries.extend(kept);
        self.disk.queue(Change::Append(encoded), Done::Raft(flushed)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index + 1);
        self.log().entries.split_off(&from);
        self.disk.write(Change::Truncate(from)).await
    }

    async fn purge(&mut self, through: LogId) -> io::Result<()> {
        {
            let mut log = self.log();
            log.entries = log.entries.split_off(&(through.index + 1));
            log.purged = Some(through);
        }
        self.disk.queue(Change::Purge(through.index, encode(&through)?), Done::Nobody).await
    }
}

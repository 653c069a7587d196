//! The journal behind a thread of its own: durable writes in order, without stopping the driver.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use squall_core::host::{Record, Token};
use squall_journal::{Journal, JournalError};
use squall_wire::codec;
use tokio::sync::{mpsc, oneshot};

/// Journals longer than this are rewritten at start.
const COMPACT_BYTES: u64 = 1024 * 1024;
/// Requests that are made durable together, at most.
const MAX_BATCH: usize = 256;
/// How long an agent that was just killed may keep the journal: until its last thread has ended.
pub(crate) const DYING: Duration = Duration::from_secs(1);
/// How long the end waits for the last write.
const CLOSING: Duration = Duration::from_secs(2);

/// A write that is done, or failed for the reason.
pub(crate) type Written = (Token, Result<(), String>);

/// The journal of this host, opened and replayed.
pub(crate) struct Opened {
    journal: Journal,
    dir: PathBuf,
    /// What earlier lives left, in order.
    pub records: Vec<Record>,
}

/// Opens `dir`'s journal and reads it; waits so long for another process that has it.
///
/// # Errors
/// The journal's: locked by another process, corrupt, or unreadable. A record that this version
/// does not know is refused as one that is corrupt.
pub(crate) fn open(dir: &Path, patience: Duration) -> Result<Opened, JournalError> {
    let began = Instant::now();
    let (journal, recovered) = loop {
        match Journal::open(dir) {
            Err(JournalError::Locked { .. }) if began.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => break opened?,
        }
    };
    if recovered.torn_bytes > 0 {
        tracing::warn!(bytes = recovered.torn_bytes, "the journal's torn tail was cut off");
    }
    let mut records = Vec::with_capacity(recovered.records.len());
    for (position, bytes) in recovered.records.iter().enumerate() {
        match codec::decode(bytes) {
            Ok(record) => records.push(record),
            // Passing over a record could forget a stop: the host would rather not start.
            Err(error) => {
                let (path, why) = (dir.join(squall_journal::FILE), error.to_string());
                return Err(JournalError::Unknown { path, position, why });
            }
        }
    }
    Ok(Opened { journal, dir: dir.to_owned(), records })
}

impl Opened {
    /// Replaces the content by `records`, which say the same, where it is long enough to be worth that. A
    /// full disk has no room for it: the long one is as good, and is shortened another time.
    ///
    /// # Errors
    /// The journal's, but for a full disk.
    pub(crate) fn shorten(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if self.journal.len_bytes() <= COMPACT_BYTES {
            return Ok(());
        }
        let unusable = |why| {
            let path = self.dir.join(squall_journal::FILE);
            JournalError::Io { path, error: std::io::Error::other(why) }
        };
        match self.journal.rewrite(&encode(records.iter()).map_err(unusable)?) {
            Err(full @ JournalError::Full { .. }) => {
                tracing::warn!(%full, "the journal stays as long as it is");
                Ok(())
            }
            rewritten => rewritten,
        }
    }

    /// Hands the journal to its thread. Each request is answered, in order.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(crate) fn spawn(self, answers: mpsc::UnboundedSender<Written>) -> std::io::Result<Writer> {
        let (requests, inbox) = mpsc::unbounded_channel();
        let (alive, done) = oneshot::channel();
        let journal = self.journal;
        std::thread::Builder::new().name("journal".into()).spawn(move || {
            write(journal, inbox, &answers);
            drop(alive);
        })?;
        Ok(Writer { requests, done })
    }
}

type Request = (Token, Vec<Record>);

/// Writes what waits in one batch: on a slow disk a stop's latch stands behind one write at most,
/// not behind each of those that were asked for before it.
fn write(
    mut journal: Journal,
    mut inbox: mpsc::UnboundedReceiver<Request>,
    answers: &mpsc::UnboundedSender<Written>,
) {
    while let Some(first) = inbox.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Ok(next) = inbox.try_recv()
        {
            batch.push(next);
        }
        let records = batch.iter().flat_map(|(_, records)| records);
        let result =
            encode(records).and_then(|bytes| journal.append(&bytes).map_err(|e| e.to_string()));
        for (token, _) in batch {
            if answers.send((token, result.clone())).is_err() {
                return;
            }
        }
    }
}

/// Sends records to the journal's thread.
pub(crate) struct Writer {
    requests: mpsc::UnboundedSender<Request>,
    done: oneshot::Receiver<()>,
}

impl Writer {
    /// Asks for a write. Gives the token back where the thread has died: nothing is written any
    /// more.
    pub(crate) fn append(&self, token: Token, records: Vec<Record>) -> Result<(), Token> {
        self.requests.send((token, records)).map_err(|unsent| unsent.0.0)
    }

    /// Waits until everything that was asked for is written and the journal is unlocked; at most
    /// [`CLOSING`], as a disk that hangs must not keep the process.
    pub(crate) async fn close(self) {
        drop(self.requests);
        if tokio::time::timeout(CLOSING, self.done).await.is_err() {
            tracing::error!("the journal did not finish its last write in time");
        }
    }
}

fn encode<'a>(records: impl Iterator<Item = &'a Record>) -> Result<Vec<Vec<u8>>, String> {
    records.map(|r| codec::encode(r).map_err(|e| e.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_dying_is_waited_for_and_whoever_lives_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        let said = open(dir.path(), DYING / 9).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains("is in use by process"), "{said}");
        let dying = std::thread::spawn(move || {
            std::thread::sleep(DYING / 4);
            drop(journal);
        });
        assert!(open(dir.path(), DYING).is_ok());
        dying.join().unwrap();
    }

    #[test]
    fn a_long_journal_on_a_full_disk_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let lines = |n: u64| -> Vec<Record> {
            (0..n).map(|n| Record::Floor(squall_core::ids::LogIndex(n))).collect()
        };
        let long = encode(lines(1_000).iter()).unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        while journal.len_bytes() <= COMPACT_BYTES {
            journal.append(&long).unwrap();
        }
        let long = journal.len_bytes();
        drop(journal);
        let (answers, mut written) = mpsc::unbounded_channel();
        let short = lines(1);
        // What the new file would be written to has no room.
        std::os::unix::fs::symlink("/dev/full", dir.path().join("journal.new")).unwrap();
        let mut opened = open(dir.path(), DYING).unwrap();
        opened.shorten(&short).unwrap();
        let count = opened.records.len();
        let writer = opened.spawn(answers).unwrap();
        writer.append(Token::Note, lines(3)).unwrap();
        assert_eq!(written.blocking_recv().unwrap(), (Token::Note, Ok(())));
        drop(writer);
        let mut opened = open(dir.path(), DYING).unwrap();
        assert_eq!(opened.records.len(), count + 3);
        assert!(opened.journal.len_bytes() > long);
        opened.shorten(&short).unwrap();
        assert!(opened.journal.len_bytes() < 1_000);
        drop(opened);
        assert_eq!(open(dir.path(), DYING).unwrap().records, short);
        // Whatever else fails keeps the agent from starting.
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(&vec![vec![0; 1 << 10]; 1_100]).unwrap();
        std::fs::create_dir(dir.path().join("journal.new")).unwrap();
        let mut opened = Opened { journal, dir: dir.path().to_owned(), records: Vec::new() };
        assert!(opened.shorten(&short).is_err());
    }

    #[test]
    fn a_record_of_another_version_is_told_with_its_file_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        let known = codec::encode(&Record::Floor(squall_core::ids::LogIndex(1))).unwrap();
        journal.append(&[known, vec![0xff; 9]]).unwrap();
        drop(journal);
        let said = open(dir.path(), DYING).err().map(|e| e.to_string()).unwrap_or_default();
        let file = dir.path().join(squall_journal::FILE).display().to_string();
        assert!(said.starts_with(&format!("{file}: record 1 cannot be understood")), "{said}");
        assert!(said.contains("move it away, then start the agent"), "{said}");
    }
}

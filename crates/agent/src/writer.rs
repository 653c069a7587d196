//! The journal behind a thread of its own: durable writes in order, without stopping the driver.

use std::path::Path;

use squall_core::host::{Record, Token};
use squall_journal::{Journal, JournalError};
use squall_wire::codec;
use tokio::sync::mpsc;

/// Journals longer than this are rewritten at start.
const COMPACT_BYTES: u64 = 1024 * 1024;

/// A write that is done, or failed for the reason.
pub(crate) type Written = (Token, Result<(), String>);

/// The journal of this host, opened and replayed.
pub(crate) struct Opened {
    journal: Journal,
    /// What earlier lives left, in order.
    pub records: Vec<Record>,
}

/// Opens `dir`'s journal and reads it.
///
/// # Errors
/// The journal's: locked by another process, corrupt, or unreadable. A record that this version
/// does not know counts as corrupt.
pub(crate) fn open(dir: &Path) -> Result<Opened, JournalError> {
    let (journal, recovered) = Journal::open(dir)?;
    if recovered.torn_bytes > 0 {
        tracing::warn!(bytes = recovered.torn_bytes, "the journal's torn tail was cut off");
    }
    let mut records = Vec::with_capacity(recovered.records.len());
    for (position, bytes) in recovered.records.iter().enumerate() {
        match codec::decode(bytes) {
            Ok(record) => records.push(record),
            // Passing over a record could forget a stop: the host would rather not start.
            Err(error) => {
                let what = format!("record {position} of the journal cannot be read: {error}");
                return Err(JournalError::Io {
                    path: dir.to_owned(),
                    error: std::io::Error::other(what),
                });
            }
        }
    }
    Ok(Opened { journal, records })
}

impl Opened {
    /// Whether the journal is long enough to be worth rewriting.
    pub(crate) fn is_long(&self) -> bool {
        self.journal.len_bytes() > COMPACT_BYTES
    }

    /// Replaces the journal's content.
    ///
    /// # Errors
    /// The journal's; the old content stays.
    pub(crate) fn rewrite(&mut self, records: &[Record]) -> Result<(), JournalError> {
        self.journal.rewrite(&encode(records))
    }

    /// Hands the journal to its thread. Each request is answered in order.
    pub(crate) fn spawn(mut self, answers: mpsc::UnboundedSender<Written>) -> Writer {
        let (requests, mut inbox) = mpsc::unbounded_channel::<(Token, Vec<Record>)>();
        let work = move || {
            while let Some((token, records)) = inbox.blocking_recv() {
                let result = self.journal.append(&encode(&records)).map_err(|e| e.to_string());
                if answers.send((token, result)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(work);
        Writer { requests, thread: thread.ok() }
    }
}

/// Sends records to the journal's thread.
pub(crate) struct Writer {
    requests: mpsc::UnboundedSender<(Token, Vec<Record>)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn append(&self, token: Token, records: Vec<Record>) {
        if self.requests.send((token, records)).is_err() {
            tracing::error!("the journal's thread is gone");
        }
    }

    /// Waits until everything that was asked for is written, and unlocks the journal.
    pub(crate) fn close(self) {
        drop(self.requests);
        if let Some(thread) = self.thread
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }
}

fn encode(records: &[Record]) -> Vec<Vec<u8>> {
    records.iter().filter_map(|r| codec::encode(r).ok()).collect()
}

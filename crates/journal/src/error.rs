//! What can go wrong with a journal.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// What a person does about a file that cannot be read.
const REMEDY: &str = "keep a copy and move it away, then start the agent, or run `squall lift`; the host starts disarmed";

fn whom(holder: &str) -> String {
    if holder.is_empty() {
        return "another process".to_owned();
    }
    let pid = holder.parse().ok().and_then(Pid::from_raw);
    // Whoever took the lock before may have left its number, and whoever has it now need not write one.
    if pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
        return format!("another process (not {holder}, which had it last and is gone)");
    }
    format!("process {holder}")
}

/// A journal that cannot be used, with the remedy. Nothing that was durable is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("{dir} is in use by {}: only one agent or `squall inject` at a time may use it", whom(holder), dir = dir.display())]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
        /// The number of the process that has it; empty where it has not said it yet.
        holder: String,
    },
    /// A record before the end is damaged. What stands behind it may be a stop.
    #[error("{path} is damaged at byte {offset}: {REMEDY}", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the bad record begins.
        offset: u64,
    },
    /// A record is whole, and means nothing to whoever reads it: another version wrote it, perhaps.
    #[error("{path}: record {position} cannot be understood ({why}): {REMEDY}", path = path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Which record, from 0.
        position: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The disk is full.
    #[error("{path}: no space left: free some; nothing was written", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// An earlier write left the file in a state that cannot be trusted.
    #[error("{path} takes no more records: {why}: mend what is wrong with the disk; each new record tries again", path = path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
        /// What failed.
        why: String,
    },
    /// A record over [`crate::MAX_RECORD`].
    #[error("a record of {bytes} bytes is over the limit of {}", crate::MAX_RECORD)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The system's error.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
}

impl JournalError {
    pub(crate) fn io(path: &Path, error: io::Error) -> JournalError {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return JournalError::Full { path: path.to_owned() };
        }
        JournalError::Io { path: path.to_owned(), error }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64) -> JournalError {
        JournalError::Corrupt { path: path.to_owned(), offset }
    }
}

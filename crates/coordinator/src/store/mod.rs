//! The durable store under raft: vote, committed, log and snapshots in one redb file.

mod log;
mod machine;
mod snapshot;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod types;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use log::LogStore;
pub(crate) use machine::{Applied, StateMachine};
pub(crate) use tables::{Closed, Health};
pub(crate) use types::SnapshotData;

/// The file's name in the state directory.
pub const FILE: &str = "raft.redb";
/// How long a coordinator that was just killed may keep the file: until its last thread has ended.
const DYING: Duration = Duration::from_secs(1);

/// Why the store did not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{} is in use: another coordinator runs on this state directory", .0.display())]
    Locked(PathBuf),
    /// The disk said no.
    #[error("cannot open {}: {source}", path.display())]
    Io {
        /// The file or its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not ours, or damaged.
    #[error(
        "{} is damaged ({reason}): remove the state directory and let this coordinator take everything from the others; an older copy of it would not know what was acknowledged since",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// An open store.
pub(crate) struct Store {
    pub log: LogStore,
    pub machine: StateMachine,
    pub applied: Applied,
    pub mark: Mark,
    pub closed: Closed,
    pub health: Health,
}

/// The mark on disk of a coordinator that began with an empty one.
pub(crate) struct Mark {
    set: bool,
    disk: tables::Disk,
}

impl Mark {
    /// Whether it was there when the store was opened.
    pub fn is_set(&self) -> bool {
        self.set
    }

    /// Takes it away for good, after all that was queued before.
    pub async fn clear(&self) -> io::Result<()> {
        self.disk.write(tables::Change::Joined).await
    }
}

impl Store {
    /// Opens or creates the store in `dir`. Reads the whole log; blocks meanwhile.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        squall_journal::make_private_dir(dir)
            .map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        let path = dir.join(FILE);
        let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
        let deadline = Instant::now() + DYING;
        let opened = loop {
            match tables::open(&path) {
                Err(redb::Error::DatabaseAlreadyOpen) if Instant::now() < deadline => {
                    std::thread::sleep(DYING / 20);
                }
                opened => break opened,
            }
        };
        let (disk, mut contents, closed, health) = opened.map_err(|error| match error {
            redb::Error::DatabaseAlreadyOpen => StoreError::Locked(path.clone()),
            // What is no redb file at all comes as bad data.
            redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
                StoreError::Io { path: path.clone(), source }
            }
            other => damaged(other.to_string()),
        })?;
        let log = LogStore::new(disk.clone(), &mut contents).map_err(|e| damaged(e.to_string()))?;
        let mark = Mark { set: contents.newcomer, disk: disk.clone() };
        let (machine, applied) =
            StateMachine::new(disk, &mut contents).map_err(|e| damaged(e.to_string()))?;
        Ok(Store { log, machine, applied, mark, closed, health })
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    squall_wire::codec::encode(value).map_err(io::Error::other)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    squall_wire::codec::decode(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

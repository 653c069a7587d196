//! The file: redb tables, and the one thread that writes them.
//!
//! Writes come in one order and are committed in it. What waits in the queue is committed together
//! with one fsync. After a failed write every later one fails too: memory would be ahead of the
//! disk, and a gap in the log is worse than a coordinator that stops.

use std::io;
use std::path::Path;

use openraft::storage::IOFlushed;
use redb::backends::FileBackend;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::types::TypeConfig;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");

const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const SNAPSHOT_META: &str = "snapshot-meta";
const SNAPSHOT: &str = "snapshot";
/// Whether this coordinator began with an empty file and does not count yet.
const NEWCOMER: &str = "newcomer";
const YES: &[u8] = &[1];
const NO: &[u8] = &[0];

/// Changes that wait for the disk, at most; more block the sender.
const QUEUE: usize = 1024;
/// Changes that share one fsync, at most.
const BATCH: usize = 256;
/// redb's page cache. All that is read often is in memory anyway.
const CACHE_BYTES: usize = 1 << 20;

/// One change of the file.
pub(super) enum Change {
    Vote(Vec<u8>),
    Committed(Vec<u8>),
    Append(Vec<(u64, Vec<u8>)>),
    /// Removes the entries from this index on.
    Truncate(u64),
    /// Removes the entries up to this index and notes the last one's id.
    Purge(u64, Vec<u8>),
    Snapshot {
        meta: Vec<u8>,
        data: super::SnapshotData,
    },
    /// It is no newcomer any more.
    Joined,
}

/// Who is told when a change is on disk.
pub(super) enum Done {
    Nobody,
    Raft(IOFlushed<TypeConfig>),
    Caller(oneshot::Sender<io::Result<()>>),
}

/// The queue of the thread that writes.
#[derive(Clone)]
pub(super) struct Disk {
    jobs: mpsc::Sender<(Change, Done)>,
}

/// Resolves when the thread has ended and the file is unlocked, that is, after every handle of the
/// store is gone.
pub struct Closed(oneshot::Receiver<()>);

impl Closed {
    /// Waits for it.
    pub async fn wait(self) {
        let _ = self.0.await;
    }
}

/// Whether the file can still be written.
pub struct Health(watch::Receiver<Option<String>>);

impl Health {
    /// Waits until a write has failed, whoever waits for that one, and says why. Nothing more is written
    /// then.
    pub async fn failed(&mut self) -> String {
        let why = self.0.wait_for(Option::is_some).await.map(|why| why.clone());
        match why {
            Ok(why) => why.unwrap_or_default(),
            // The thread has ended in order.
            Err(_) => std::future::pending().await,
        }
    }
}

/// What the file held when it was opened.
#[derive(Default)]
pub(super) struct Contents {
    pub vote: Option<Vec<u8>>,
    pub committed: Option<Vec<u8>>,
    pub purged: Option<Vec<u8>>,
    pub log: Vec<(u64, Vec<u8>)>,
    pub snapshot: Option<(Vec<u8>, Vec<u8>)>,
    /// Nothing was ever promised on this file, or the promise is older than the file.
    pub newcomer: bool,
}

/// Opens or creates the file, reads all of it and starts the thread. Blocks.
pub(super) fn open(path: &Path) -> Result<(Disk, Contents, Closed, Health), redb::Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let file = squall_journal::open_private(path).map_err(redb::Error::Io)?;
    let db = builder.create_with_backend(FileBackend::new(file)?)?;
    let contents = read(&db)?;
    let (jobs, queue) = mpsc::channel(QUEUE);
    let (alive, closed) = oneshot::channel();
    let (ill, health) = watch::channel(None);
    std::thread::Builder::new()
        .name("store".into())
        .spawn(move || {
            write_all(&db, queue, &ill);
            drop(db);
            drop(alive);
        })
        .map_err(redb::Error::Io)?;
    Ok((Disk { jobs }, contents, Closed(closed), Health(health)))
}

fn read(db: &Database) -> Result<Contents, redb::Error> {
    // Opening for writing makes the tables where they are missing.
    let make = db.begin_write()?;
    let log_is_empty = make.open_table(LOG)?.is_empty()?;
    if log_is_empty && make.open_table(META)?.is_empty()? {
        put(&make, NEWCOMER, YES)?;
    }
    make.commit()?;

    let txn = db.begin_read()?;
    let meta = txn.open_table(META)?;
    let get = |key: &str| -> Result<Option<Vec<u8>>, redb::Error> {
        Ok(meta.get(key)?.map(|v| v.value().to_vec()))
    };
    let mut log = Vec::new();
    for item in txn.open_table(LOG)?.iter()? {
        let (index, bytes) = item?;
        log.push((index.value(), bytes.value().to_vec()));
    }
    let snapshot = match (get(SNAPSHOT_META)?, get(SNAPSHOT)?) {
        (Some(meta), Some(data)) => Some((meta, data)),
        _ => None,
    };
    Ok(Contents {
        vote: get(VOTE)?,
        committed: get(COMMITTED)?,
        purged: get(PURGED)?,
        log,
        snapshot,
        newcomer: get(NEWCOMER)?.as_deref() == Some(YES),
    })
}

impl Disk {
    /// Queues a change and returns.
    pub(super) async fn queue(&self, change: Change, done: Done) -> io::Result<()> {
        self.jobs.send((change, done)).await.map_err(|_| gone())
    }

    /// Queues a change and waits until it is on disk.
    pub(super) async fn write(&self, change: Change) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        self.queue(change, Done::Caller(reply)).await?;
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> io::Error {
    io::Error::other("the store is closed")
}

fn write_all(
    db: &Database,
    mut queue: mpsc::Receiver<(Change, Done)>,
    ill: &watch::Sender<Option<String>>,
) {
    let mut broken: Option<(io::ErrorKind, String)> = None;
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        let (changes, done): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        if broken.is_none()
            && let Err(error) = commit(db, &changes)
        {
            tracing::error!(%error, "the coordinator's store cannot be written");
            let why = format!("store: {error}");
            broken = Some((kind(&error), why.clone()));
            ill.send_replace(Some(why));
        }
        let result = || match &broken {
            None => Ok(()),
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
        };
        for done in done {
            match done {
                Done::Nobody => {}
                Done::Raft(flushed) => flushed.io_completed(result()),
                Done::Caller(reply) => drop(reply.send(result())),
            }
        }
    }
}

fn kind(error: &redb::Error) -> io::ErrorKind {
    match error {
        redb::Error::Io(e) => e.kind(),
        _ => io::ErrorKind::Other,
    }
}

fn commit(db: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    for change in changes {
        apply(&txn, change)?;
    }
    txn.commit()?;
    Ok(())
}

fn apply(txn: &WriteTransaction, change: &Change) -> Result<(), redb::Error> {
    match change {
        Change::Vote(bytes) => put(txn, VOTE, bytes),
        Change::Committed(bytes) => put(txn, COMMITTED, bytes),
        Change::Append(entries) => {
            let mut log = txn.open_table(LOG)?;
            for (index, bytes) in entries {
                log.insert(index, bytes.as_slice())?;
            }
            Ok(())
        }
        Change::Truncate(from) => {
            txn.open_table(LOG)?.retain_in(*from.., |_, _| false)?;
            Ok(())
        }
        Change::Purge(through, last) => {
            txn.open_table(LOG)?.retain_in(..=*through, |_, _| false)?;
            put(txn, PURGED, last)
        }
        Change::Snapshot { meta, data } => {
            put(txn, SNAPSHOT_META, meta)?;
            put(txn, SNAPSHOT, data)
        }
        Change::Joined => put(txn, NEWCOMER, NO),
    }
}

fn put(txn: &WriteTransaction, key: &str, bytes: &[u8]) -> Result<(), redb::Error> {
    txn.open_table(META)?.insert(key, bytes)?;
    Ok(())
}

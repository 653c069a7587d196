//! Raft as this crate uses it: configuration, proposals, confirmed reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{ClientWriteError, InitializeError, LinearizableReadError, RaftError};
use openraft::{ReadPolicy, SnapshotPolicy};
use squall_core::ids::{CommandId, Coordinator, LogIndex, NodeId};
use squall_core::registry::{Command, Entry, Outcome, Refusal};
use tokio::time::{Instant, sleep, timeout_at};

use crate::clock;
use crate::config::Config;
use crate::store::types::{Member, Proposal, Raft, TypeConfig};

/// How long a request waits for a quorum before it is answered with "unknown".
pub(crate) const QUORUM_WAIT: Duration = Duration::from_secs(2);
/// Bytes of one encoded log entry, at most: several must fit into one message.
pub(crate) const MAX_ENTRY_BYTES: usize = 1 << 20;
/// How often a proposal looks for a leader while there is none.
const RETRY: Duration = Duration::from_millis(50);

/// Snapshot after this many entries.
const SNAPSHOT_EVERY: u64 = 2_000;
/// Entries kept behind a snapshot, for followers that lag a little.
const KEEP_LOGS: u64 = 500;

/// Raft's configuration.
///
/// Heartbeats every 150 ms and elections after 600-1200 ms: four heartbeats may be lost, or one
/// fsync or one starved scheduler may take half a second (our own disk and CPU faults do that), and
/// nobody is deposed. Fail-over then takes 1.2 s plus a random 0.6-1.2 s, which is less than half of
/// the default lease, so that held faults outlive the loss of a leader.
pub(crate) fn config(cluster: &str) -> openraft::Config {
    let election_max = 1_200;
    openraft::Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: 150,
        election_timeout_min: 600,
        election_timeout_max: election_max,
        // Off by default, both. Without the first a healed node takes the leader down; without the
        // second a bridge partition of five voters never recovers.
        enable_pre_vote: Some(true),
        quorum_loss_probe_interval: Some(2 * election_max),
        // On by default: a restarted leader would go on leading without an election.
        enable_leader_restore: Some(false),
        install_snapshot_timeout: 15_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: KEEP_LOGS,
        purge_batch_size: 64,
        backoff: "50ms 100ms 200ms ...1s".to_owned(),
        ..openraft::Config::default()
    }
}

/// Writes the first membership where the log is empty. All coordinators of the configuration are
/// members.
pub(crate) async fn initialise(raft: &Raft, config: &Config) -> Result<(), String> {
    let member = |m: &Coordinator| {
        (m.id.0, Member { name: m.name.to_string(), address: m.address.to_string() })
    };
    let members: BTreeMap<u64, Member> = config.coordinators.iter().map(member).collect();
    match raft.initialize(members).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// What a proposal came to where it did not come to an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotWritten {
    /// Another coordinator leads; what was proposed here may take effect there all the same. A
    /// repeat is harmless: commands carry their id.
    NotLeader(NodeId),
    /// Nobody knows: it may be in the log, now or later.
    Unknown(String),
    /// It was never proposed.
    Refused(Refusal),
}

/// An entry of this moment.
pub(crate) fn entry(id: CommandId, by: &str, command: Command) -> Entry {
    Entry { id, at: clock::wall(), by: by.to_owned(), command }
}

/// Whether an entry is small enough to be replicated; else in words.
pub(crate) fn check_size(entry: &Entry) -> Result<(), String> {
    let len = crate::store::encode(entry).map_err(|e| e.to_string())?.len();
    if len <= MAX_ENTRY_BYTES {
        return Ok(());
    }
    Err(format!("{len} bytes are too much for one entry: write at most {MAX_ENTRY_BYTES}"))
}

/// Proposes an entry and waits for what becomes of it, at most [`QUORUM_WAIT`].
pub(crate) async fn propose(raft: &Raft, me: NodeId, entry: Entry) -> Result<Outcome, NotWritten> {
    check_size(&entry).map_err(|words| NotWritten::Refused(Refusal::Full(words)))?;
    let deadline = Instant::now() + QUORUM_WAIT;
    loop {
        let write = raft.client_write(Proposal(entry.clone()));
        let error = match timeout_at(deadline, write).await {
            Err(_) => {
                return Err(NotWritten::Unknown(
                    "no quorum answered: the command may still take effect later".into(),
                ));
            }
            Ok(Ok(written)) => return Ok(written.data),
            Ok(Err(RaftError::Fatal(fatal))) => return Err(NotWritten::Unknown(fatal.to_string())),
            Ok(Err(RaftError::APIError(error))) => error,
        };
        let (leader, proposed) = match &error {
            ClientWriteError::ForwardToLeader(to) => (to.leader_id, false),
            ClientWriteError::LogEntryDiscarded(to) => (to.leader_id, true),
            other => return Err(NotWritten::Unknown(other.to_string())),
        };
        match leader {
            Some(id) if id != me.0 => return Err(NotWritten::NotLeader(NodeId(id))),
            _ if proposed => return Err(NotWritten::Unknown(error.to_string())),
            _ if Instant::now() + RETRY >= deadline => {
                return Err(NotWritten::Unknown(
                    "no coordinator leads with a quorum: nothing was proposed from here".into(),
                ));
            }
            _ => sleep(RETRY).await,
        }
    }
}

/// Why a read is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotConfirmed {
    /// Another one leads, or nobody does.
    NotLeader(Option<NodeId>),
    /// No quorum answered in time.
    NoQuorum,
}

/// Asks a quorum whether this node still leads, and waits until everything is applied that was
/// committed when the question began. By ReadIndex, never by lease: a clock that runs wrong is one
/// of our faults.
pub(crate) async fn confirm(raft: &Raft) -> Result<LogIndex, NotConfirmed> {
    let deadline = Instant::now() + QUORUM_WAIT;
    match timeout_at(deadline, raft.ensure_linearizable(ReadPolicy::ReadIndex)).await {
        Ok(Ok(read)) => Ok(LogIndex(read.index())),
        Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to)))) => {
            Err(NotConfirmed::NotLeader(to.leader_id.map(NodeId)))
        }
        Ok(Err(_)) | Err(_) => Err(NotConfirmed::NoQuorum),
    }
}

/// A raft configuration that openraft accepts.
pub(crate) fn validated(cluster: &str) -> Arc<openraft::Config> {
    Arc::new(config(cluster).validate().expect("the configuration is constant but for a name"))
}

/// Raft's answer type for its metrics watch.
pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;

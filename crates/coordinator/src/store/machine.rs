//! The state machine: the registry in memory, snapshots of it on disk. After a restart openraft
//! installs the last snapshot and applies the log from there to the last committed entry.

use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use squall_core::ids::LogIndex;
use squall_core::registry::{Outcome, Registry};
use tokio::sync::{Mutex, watch};

use super::tables::{Change, Contents, Disk};
use super::types::{
    LogEntry, LogId, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, TypeConfig,
};
use super::{decode, encode, snapshot};

/// The newest snapshot. Locked while one is being written, so that an older one never replaces it.
type Current = Arc<Mutex<Option<(SnapshotMeta, SnapshotData)>>>;

#[derive(Clone, Default)]
struct State {
    applied: Option<LogId>,
    membership: StoredMembership,
    registry: Registry,
}

/// The registry as this coordinator has applied it, for everybody who reads it.
#[derive(Clone)]
pub struct Applied {
    state: Arc<RwLock<State>>,
    index: watch::Receiver<LogIndex>,
}

impl Applied {
    /// Looks at the registry. `look` must be short: nothing is applied meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        look(&lock(&self.state).registry)
    }

    /// Changes whenever something was applied.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LogIndex> {
        self.index.clone()
    }
}

fn lock(state: &RwLock<State>) -> RwLockReadGuard<'_, State> {
    state.read().unwrap_or_else(PoisonError::into_inner)
}

/// What raft drives.
pub struct StateMachine {
    state: Arc<RwLock<State>>,
    snapshot: Current,
    index: Arc<watch::Sender<LogIndex>>,
    disk: Disk,
}

impl StateMachine {
    pub(super) fn new(disk: Disk, contents: &mut Contents) -> io::Result<(Self, Applied)> {
        let snapshot = match contents.snapshot.take() {
            None => None,
            Some((meta, data)) => Some((decode(&meta)?, Arc::new(data))),
        };
        let (sender, index) = watch::channel(LogIndex(0));
        let state = Arc::new(RwLock::new(State::default()));
        let applied = Applied { state: state.clone(), index };
        let snapshot = Arc::new(Mutex::new(snapshot));
        Ok((StateMachine { state, snapshot, index: Arc::new(sender), disk }, applied))
    }

    fn apply_one(&self, entry: LogEntry) -> Outcome {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let index = LogIndex(entry.log_id.index);
        state.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Normal(proposal) => state.registry.apply(index, &proposal.0),
            EntryPayload::Blank => {
                state.registry.skip_to(index);
                Outcome::Unchanged
            }
            EntryPayload::Membership(membership) => {
                state.membership = StoredMembership::new(Some(entry.log_id), membership);
                state.registry.skip_to(index);
                Outcome::Unchanged
            }
        }
    }

    fn announce(&self) {
        self.index.send_replace(lock(&self.state).registry.applied);
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let state = lock(&self.state);
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let outcome = self.apply_one(entry);
            // Announced first: whoever has the answer must find it in the registry.
            self.announce();
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let state = lock(&self.state).clone();
        Builder { state, snapshot: self.snapshot.clone(), disk: self.disk.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> io::Result<()> {
        let registry = snapshot::decode(&data)?;
        keep(&self.disk, &self.snapshot, meta, data).await?;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.applied = meta.last_log_id;
            state.membership = meta.last_membership.clone();
            state.registry = registry;
        }
        self.announce();
        let index = meta.last_log_id.map_or(0, |id| id.index);
        tracing::info!(index, "a snapshot of the leader's is in place");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let kept = self.snapshot.lock().await;
        Ok(kept.clone().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Makes a snapshot of the state at one moment while the machine goes on.
pub struct Builder {
    state: State,
    snapshot: Current,
    disk: Disk,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let meta = SnapshotMeta {
            last_log_id: self.state.applied,
            last_membership: self.state.membership.clone(),
        };
        let registry = std::mem::take(&mut self.state.registry);
        let data = tokio::task::spawn_blocking(move || snapshot::encode(registry))
            .await
            .map_err(io::Error::other)??;
        let data = Arc::new(data);
        keep(&self.disk, &self.snapshot, &meta, data.clone()).await?;
        Ok(Snapshot { meta, snapshot: data })
    }
}

/// Puts a snapshot on disk, then makes it the current one, unless it, or a newer one, is there already: raft
/// hands over what it has just read at each start, and a full disk must not end a coordinator for that.
async fn keep(
    disk: &Disk,
    current: &Current,
    meta: &SnapshotMeta,
    data: SnapshotData,
) -> io::Result<()> {
    let mut current = current.lock().await;
    if current.as_ref().is_some_and(|(newest, _)| newest.last_log_id >= meta.last_log_id) {
        return Ok(());
    }
    disk.write(Change::Snapshot { meta: encode(meta)?, data: data.clone() }).await?;
    *current = Some((meta.clone(), data));
    Ok(())
}

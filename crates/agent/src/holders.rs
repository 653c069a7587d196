//! The holders of this host, and the proof that nothing of a fault is left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use squall_core::hold::{Hold, HolderReport};
use squall_core::ids::FaultId;
use squall_core::time::Time;
use squall_faults::holder::{Holder, HolderEvent, Spawner};
use squall_faults::residue::{self, Snapshot};
use tokio::sync::mpsc;

/// Lines of residue that are reported of one fault, and characters of each, at most.
const MAX_LINES: usize = 32;
const MAX_LINE: usize = 300;

/// What holders and proofs have to say.
#[derive(Debug)]
pub(crate) enum HolderNews {
    /// The holder runs; hand it to [`Holders::started`].
    Started(FaultId, Box<Holder>),
    Said(FaultId, HolderReport),
    Gone(FaultId),
    NotStarted(FaultId, String),
    Proof(FaultId, Vec<String>),
}

/// A holder that is being started, or runs.
enum Slot {
    /// Orders that came meanwhile.
    Starting {
        renew: Option<Time>,
        lift: bool,
        kill: bool,
    },
    Up(Box<Holder>),
}

/// All holders that are alive. Nothing here waits: snapshots, starts and proofs are made beside the
/// driver, so that a stop never stands behind them.
pub(crate) struct Holders {
    spawner: Arc<Spawner>,
    slots: BTreeMap<FaultId, Slot>,
    /// The host before each fault, for the proof.
    before: Arc<Mutex<BTreeMap<FaultId, Arc<Snapshot>>>>,
    news: mpsc::UnboundedSender<HolderNews>,
}

impl Holders {
    /// Starts the thread from which all holders are forked.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(crate) fn start(
        program: PathBuf,
        news: mpsc::UnboundedSender<HolderNews>,
    ) -> std::io::Result<Holders> {
        let spawner = Spawner::start(program, vec!["hold".into()])?;
        Ok(Holders {
            spawner: Arc::new(spawner),
            slots: BTreeMap::new(),
            before: Arc::default(),
            news,
        })
    }

    /// Takes the snapshot that the proof will be held against, and starts the holder.
    pub(crate) fn start_holder(&mut self, hold: Hold) {
        let id = hold.id.clone();
        let slot = Slot::Starting { renew: None, lift: false, kill: false };
        self.slots.insert(id.clone(), slot);
        let (spawner, before, news) =
            (self.spawner.clone(), self.before.clone(), self.news.clone());
        tokio::task::spawn_blocking(move || {
            let said = match begin(&spawner, &before, hold, news.clone()) {
                Ok(holder) => HolderNews::Started(id, Box::new(holder)),
                Err(why) => HolderNews::NotStarted(id, why),
            };
            let _ = news.send(said);
        });
    }

    /// A holder runs: it gets the orders that came while it was being started.
    pub(crate) fn started(&mut self, id: FaultId, holder: Box<Holder>) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return; // dead already, and told so; dropping it ends its pipe
        };
        if let Slot::Starting { renew, lift, kill } = *slot {
            if let Some(until) = renew {
                holder.renew(until);
            }
            if lift {
                holder.lift();
            }
            if kill {
                holder.kill();
            }
        }
        *slot = Slot::Up(holder);
    }

    pub(crate) fn renew(&mut self, id: &FaultId, until: Time) {
        match self.slots.get_mut(id) {
            Some(Slot::Up(holder)) => holder.renew(until),
            Some(Slot::Starting { renew, .. }) => *renew = Some(until),
            None => {}
        }
    }

    pub(crate) fn lift(&mut self, id: &FaultId) {
        match self.slots.get_mut(id) {
            Some(Slot::Up(holder)) => holder.lift(),
            Some(Slot::Starting { lift, .. }) => *lift = true,
            None => {}
        }
    }

    pub(crate) fn kill(&mut self, id: &FaultId) {
        match self.slots.get_mut(id) {
            Some(Slot::Up(holder)) => holder.kill(),
            Some(Slot::Starting { kill, .. }) => *kill = true,
            None => {}
        }
    }

    /// The holder is dead, or was never there.
    pub(crate) fn forget(&mut self, id: &FaultId) {
        self.slots.remove(id);
    }

    /// Looks for what is left of the fault.
    pub(crate) fn prove(&mut self, id: &FaultId) {
        let (id, before, news) = (id.clone(), self.before.clone(), self.news.clone());
        tokio::task::spawn_blocking(move || {
            let before = lock(&before).get(&id).cloned();
            let left = left_of(&id, before.as_deref());
            let left = left.unwrap_or_else(|e| vec![format!("the proof failed: {e}")]);
            let _ = news.send(HolderNews::Proof(id, within_bounds(left)));
        });
    }

    /// The fault is over: its snapshot is of no more use.
    pub(crate) fn over(&mut self, id: &FaultId) {
        lock(&self.before).remove(id);
    }
}

type Snapshots = Mutex<BTreeMap<FaultId, Arc<Snapshot>>>;

fn lock(snapshots: &Snapshots) -> MutexGuard<'_, BTreeMap<FaultId, Arc<Snapshot>>> {
    // A map of whole values: nobody leaves it half changed.
    snapshots.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The snapshot, then the holder.
fn begin(
    spawner: &Spawner,
    before: &Snapshots,
    hold: Hold,
    news: mpsc::UnboundedSender<HolderNews>,
) -> Result<Holder, String> {
    let id = hold.id.clone();
    let snapshot = Snapshot::take()
        .map_err(|error| format!("no snapshot to prove the lift against: {error}"))?;
    lock(before).insert(id.clone(), Arc::new(snapshot));
    let of = id.clone();
    let events = move |event| {
        let said = match event {
            HolderEvent::Report(report) => HolderNews::Said(of.clone(), report),
            HolderEvent::Gone { .. } => HolderNews::Gone(of.clone()),
        };
        let _ = news.send(said);
    };
    spawner.spawn(hold, events).map_err(|error| {
        lock(before).remove(&id);
        error.to_string()
    })
}

/// Residue as it is reported: what is beyond the bounds is counted.
fn within_bounds(lines: Vec<String>) -> Vec<String> {
    let total = lines.len();
    let mut kept: Vec<String> = lines
        .into_iter()
        .take(MAX_LINES)
        .map(|line| line.chars().take(MAX_LINE).collect())
        .collect();
    if total > MAX_LINES {
        kept.push(format!("and {} more", total - MAX_LINES));
    }
    kept
}

fn left_of(id: &FaultId, before: Option<&Snapshot>) -> std::io::Result<Vec<String>> {
    let mut left = residue::held_by_nobody(id)?;
    if let Some(before) = before {
        let found = before.residue(&Snapshot::take()?, id);
        for line in found.foreign {
            tracing::info!(fault = %id, change = line, "changed on this host by others meanwhile");
        }
        for line in found.ours {
            if !left.contains(&line) {
                left.push(line);
            }
        }
    }
    Ok(left)
}

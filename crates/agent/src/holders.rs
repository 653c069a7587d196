//! The holders of this host, and the proof that nothing of a fault is left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use squall_core::hold::{Hold, HolderReport};
use squall_core::ids::FaultId;
use squall_core::time::Time;
use squall_faults::holder::{Holder, HolderEvent, Spawner};
use squall_faults::residue::{self, Snapshot};
use tokio::sync::mpsc;

/// What holders and proofs have to say.
#[derive(Debug)]
pub(crate) enum HolderNews {
    Said(FaultId, HolderReport),
    Gone(FaultId),
    NotStarted(FaultId, String),
    Proof(FaultId, Vec<String>),
}

/// All holders that are alive.
pub(crate) struct Holders {
    spawner: Arc<Spawner>,
    alive: BTreeMap<FaultId, Holder>,
    before: BTreeMap<FaultId, Arc<Snapshot>>,
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
        Ok(Holders { spawner: Arc::new(spawner), alive: BTreeMap::new(), before: BTreeMap::new(), news })
    }

    /// Takes the snapshot that the proof will be held against, and starts the holder.
    pub(crate) fn start_holder(&mut self, hold: Hold) {
        let id = hold.id.clone();
        match Snapshot::take() {
            Ok(snapshot) => {
                self.before.insert(id.clone(), Arc::new(snapshot));
            }
            Err(error) => {
                let why = format!("no snapshot to prove the lift against: {error}");
                let _ = self.news.send(HolderNews::NotStarted(id, why));
                return;
            }
        }
        let (news, of) = (self.news.clone(), id.clone());
        let events = move |event| {
            let said = match event {
                HolderEvent::Report(report) => HolderNews::Said(of.clone(), report),
                HolderEvent::Gone { .. } => HolderNews::Gone(of.clone()),
            };
            let _ = news.send(said);
        };
        match self.spawner.spawn(hold, events) {
            Ok(holder) => {
                self.alive.insert(id, holder);
            }
            Err(error) => {
                let _ = self.news.send(HolderNews::NotStarted(id, error.to_string()));
            }
        }
    }

    pub(crate) fn renew(&self, id: &FaultId, until: Time) {
        if let Some(holder) = self.alive.get(id) {
            holder.renew(until);
        }
    }

    pub(crate) fn lift(&self, id: &FaultId) {
        if let Some(holder) = self.alive.get(id) {
            holder.lift();
        }
    }

    pub(crate) fn kill(&self, id: &FaultId) {
        if let Some(holder) = self.alive.get(id) {
            holder.kill();
        }
    }

    pub(crate) fn forget(&mut self, id: &FaultId) {
        self.alive.remove(id);
    }

    /// Looks for what is left of the fault, off the driver's thread.
    pub(crate) fn prove(&mut self, id: &FaultId) {
        let (id, before, news) = (id.clone(), self.before.get(id).cloned(), self.news.clone());
        tokio::task::spawn_blocking(move || {
            let left = left_of(&id, before.as_deref());
            let left = left.unwrap_or_else(|e| vec![format!("the proof failed: {e}")]);
            let _ = news.send(HolderNews::Proof(id, left));
        });
    }

    /// The fault is over: its snapshot is of no more use.
    pub(crate) fn over(&mut self, id: &FaultId) {
        self.before.remove(id);
    }
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

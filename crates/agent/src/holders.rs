//! The holders of this host, and the proof that nothing of a fault is left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use squall_core::hold::{Hold, HolderReport};
use squall_core::ids::FaultId;
use squall_core::time::Time;
use squall_faults::holder::{Holder, HolderEvent, Spawner};
use squall_faults::residue::Snapshot;
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
    /// It is dead: how.
    Gone(FaultId, String),
    NotStarted(FaultId, String),
    Proof(FaultId, Vec<String>),
}

/// A holder that is being started, or runs.
enum Slot {
    /// Its task, and whether it was lifted meanwhile.
    Starting {
        task: Box<Hold>,
        over: bool,
    },
    Up(Box<Holder>),
}

/// All holders that are alive. Nothing here waits: snapshots, starts and proofs are made beside the
/// driver, so that a stop never stands behind them.
pub(crate) struct Holders {
    spawner: Arc<Spawner>,
    slots: BTreeMap<FaultId, Slot>,
    /// The host before each fault: what has changed since is told beside the proof.
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

    /// Takes the snapshot that the host will be compared with, and starts the holder.
    pub(crate) fn start_holder(&mut self, hold: Hold) {
        let id = hold.id.clone();
        let slot = Slot::Starting { task: Box::new(hold), over: false };
        self.slots.insert(id.clone(), slot);
        let (spawner, before, news) =
            (self.spawner.clone(), self.before.clone(), self.news.clone());
        tokio::task::spawn_blocking(move || {
            let said = match begin(&spawner, &before, &id, news.clone()) {
                Ok(holder) => HolderNews::Started(id, Box::new(holder)),
                Err(why) => HolderNews::NotStarted(id, why),
            };
            let _ = news.send(said);
        });
    }

    /// A holder runs, without a task. It gets it here, in line with all that was heard: what was lifted
    /// meanwhile never begins.
    ///
    /// # Errors
    /// It does not take its task, and is killed.
    pub(crate) fn started(&mut self, id: &FaultId, holder: Box<Holder>) -> std::io::Result<()> {
        let Some(slot) = self.slots.get_mut(id) else {
            return Ok(()); // dead already, and told so; dropping it ends its pipe
        };
        let begun = match slot {
            Slot::Starting { task, over: false } => holder.begin(task),
            Slot::Starting { over: true, .. } | Slot::Up(_) => {
                holder.kill();
                Ok(())
            }
        };
        if begun.is_err() {
            holder.kill();
        }
        *slot = Slot::Up(holder);
        begun
    }

    pub(crate) fn renew(&mut self, id: &FaultId, until: Time) {
        match self.slots.get_mut(id) {
            Some(Slot::Up(holder)) => holder.renew(until),
            Some(Slot::Starting { task, .. }) => task.lease_until = until,
            None => {}
        }
    }

    pub(crate) fn lift(&mut self, id: &FaultId) {
        match self.slots.get_mut(id) {
            Some(Slot::Up(holder)) => holder.lift(),
            Some(Slot::Starting { over, .. }) => *over = true,
            None => {}
        }
    }

    pub(crate) fn kill(&mut self, id: &FaultId) {
        match self.slots.get_mut(id) {
            Some(Slot::Up(holder)) => holder.kill(),
            Some(Slot::Starting { over, .. }) => *over = true,
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
    id: &FaultId,
    news: mpsc::UnboundedSender<HolderNews>,
) -> Result<Holder, String> {
    let snapshot = Snapshot::take().map_err(|error| {
        format!("the host could not be looked at, and its lift would not be proven: {error}")
    })?;
    lock(before).insert(id.clone(), Arc::new(snapshot));
    let of = id.clone();
    let events = move |event| {
        let said = match event {
            HolderEvent::Report(report) => HolderNews::Said(of.clone(), report),
            HolderEvent::Gone { code, signal } => HolderNews::Gone(of.clone(), how(code, signal)),
        };
        let _ = news.send(said);
    };
    spawner.spawn(id, events).map_err(|error| {
        lock(before).remove(id);
        error.to_string()
    })
}

/// How a holder died, in words.
fn how(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "nobody knows how".to_owned(),
    }
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

/// What is left carries the fault's name. Anything else that has changed may be anybody's, and is told in the
/// log.
fn left_of(id: &FaultId, before: Option<&Snapshot>) -> std::io::Result<Vec<String>> {
    let now = Snapshot::take()?;
    for line in before.map(|before| before.changes(&now, id)).unwrap_or_default() {
        tracing::info!(fault = %id, change = line, "changed on this host meanwhile");
    }
    Ok(now.carrying(id))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use squall_core::fault::{Amount, Fault, Kill, Processes, Protocol};
    use squall_core::hold::Protect;
    use squall_core::ids::ExperimentId;
    use squall_faults::clock;

    use super::*;
    use crate::tests::write_program;

    /// A program that takes no more of its orders than its first line, and writes that down.
    fn scribe(dir: &Path, first: &str) -> PathBuf {
        let program = dir.join("scribe");
        let text = format!(
            "#!/bin/sh\n{first}\nread -r task && echo \"$task\" > {}/task\nread -r more\n",
            dir.display()
        );
        write_program(&program, &text);
        program
    }

    /// A task with so many protected ports.
    fn hold(ports: u16) -> Hold {
        let now = clock::now();
        let port = |n: u16| (Protocol::Udp, n);
        Hold {
            id: FaultId {
                experiment: ExperimentId(uuid::Uuid::from_u128(1)),
                fault: 0,
                host: "h1".parse().unwrap(),
            },
            fault: Fault::Kill(Kill {
                processes: Processes { pid: Some(1), ..Processes::default() },
                amount: Amount::All,
                signal: 9,
                interval_ms: None,
            }),
            lease_until: now.plus(5_000),
            deadline: now.plus(9_000),
            protect: Protect { ports: (0..ports).map(port).collect(), ..Protect::default() },
        }
    }

    async fn next(news: &mut mpsc::UnboundedReceiver<HolderNews>) -> HolderNews {
        let next = tokio::time::timeout(Duration::from_secs(20), news.recv()).await;
        next.expect("news within 20 s").expect("a sender is left")
    }

    #[tokio::test]
    async fn what_was_lifted_before_its_holder_ran_is_never_begun() {
        for lifted in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (tell, mut news) = mpsc::unbounded_channel();
            let mut holders = Holders::start(scribe(dir.path(), ""), tell).unwrap();
            let hold = hold(20_000);
            let id = hold.id.clone();
            holders.start_holder(hold);
            let HolderNews::Started(_, holder) = next(&mut news).await else {
                panic!("not started")
            };
            if lifted {
                holders.lift(&id);
            }
            holders.started(&id, holder).unwrap();
            if !lifted {
                let taken = async {
                    while !dir.path().join("task").exists() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::time::timeout(Duration::from_secs(20), taken).await.expect("it is taken");
                holders.kill(&id);
            }
            assert!(matches!(next(&mut news).await, HolderNews::Gone(..)));
            assert_eq!(dir.path().join("task").exists(), !lifted);
        }
    }

    #[tokio::test]
    async fn a_holder_that_is_frozen_before_it_reads_a_long_task_is_killed_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (tell, mut news) = mpsc::unbounded_channel();
        let mut holders = Holders::start(scribe(dir.path(), "kill -STOP $$"), tell).unwrap();
        let hold = hold(20_000);
        let id = hold.id.clone();
        assert!(serde_json::to_vec(&hold).unwrap().len() > 256 * 1024);
        holders.start_holder(hold);
        let HolderNews::Started(_, holder) = next(&mut news).await else { panic!("not started") };
        holders.started(&id, holder).unwrap();
        holders.kill(&id);
        let HolderNews::Gone(_, how) = next(&mut news).await else { panic!("not gone") };
        assert_eq!(how, "killed by signal 9");
        assert!(!dir.path().join("task").exists());
    }
}

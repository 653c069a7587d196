//! The clients: a process of their own inside the lab's network, as operators' commands are.
//!
//! Four kinds at once. *Patient* writers do as the binary does: every coordinator is asked, again and
//! again, under one id. *Hasty* ones ask one coordinator once; where no answer comes, it is unknown
//! until it is asked again in the end. *Readers* ask each coordinator at a fixed rate whatever it does, so that
//! questions wait at a frozen one for its awakening. *Probes* measure when reads are confirmed again.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use squall_core::ids::HostName;
use squall_wire::Identity;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::history::{Answer, Call, Op, now_us};
use super::ways::{Member, Ways};

mod proof;
mod readers;
mod writers;

/// Writers of each kind.
const WRITERS: usize = 2;
/// Writers of a burst.
const BURST_WRITERS: usize = 24;

/// What the process is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    /// The lab's directory.
    pub lab: PathBuf,
    /// The operator's identity.
    pub identity: PathBuf,
    /// All coordinators.
    pub members: Vec<Member>,
    /// The hosts that serve as registers: drained is 1.
    pub hosts: Vec<HostName>,
    /// Only writes, as fast as they go, until so many were answered.
    pub burst: Option<usize>,
}

/// A read that a quorum confirmed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// When it was asked.
    pub invoked: u64,
    /// When it was answered.
    pub returned: u64,
}

/// What the process says in the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    /// The registers when it began.
    pub initial: u32,
    /// Every call.
    pub ops: Vec<Op>,
    /// Writes that nobody answered in time; asked again in the end, as most are, they have the answer
    /// that they got then.
    pub unknown: usize,
    /// Every probe that was confirmed.
    pub probes: Vec<Probe>,
    /// Answers to one command that were compared with its first one.
    pub compared: u64,
    /// Those that differed from it.
    pub differing: Vec<String>,
    /// Acknowledged writes that some coordinator does not know, or knows otherwise.
    pub lost: Vec<String>,
}

/// What the process says when it is at work, or has made its burst.
pub const READY: &str = "ready";

/// The process. Reads nothing but the end of its input, which ends it; prints [`READY`], then its
/// [`Account`] in one line.
///
/// # Errors
/// It cannot begin, or the cluster never came back.
pub fn main(orders: &str) -> Result<(), String> {
    let orders: Orders = serde_json::from_str(orders).map_err(|e| e.to_string())?;
    // Before the runtime: only a process with one thread may.
    squall_cluster::enter::enter_network(&orders.lab).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let account = runtime.block_on(run(orders))?;
    let line = serde_json::to_string(&account).map_err(|e| e.to_string())?;
    println!("{line}");
    Ok(())
}

async fn run(orders: Orders) -> Result<Account, String> {
    let (stop, stopped) = watch::channel(false);
    let burst = orders.burst;
    let crowd = Arc::new(Crowd::new(orders, stopped)?);
    let initial = crowd.settled_bits().await?;
    let mut tasks = JoinSet::new();
    if let Some(burst) = burst {
        for n in 0..BURST_WRITERS {
            tasks.spawn(crowd.clone().burst(n, burst as u64));
        }
        while tasks.join_next().await.is_some() {}
    } else {
        for n in 0..WRITERS {
            tasks.spawn(crowd.clone().patient(n));
            tasks.spawn(crowd.clone().hasty(n));
        }
        for at in 0..crowd.writes.count() {
            tasks.spawn(crowd.clone().reader(at));
        }
        tasks.spawn(crowd.clone().prober());
    }
    println!("{READY}");
    std::io::stdout().flush().map_err(|e| e.to_string())?;
    let end = || std::io::stdin().lock().lines().for_each(drop);
    tokio::task::spawn_blocking(end).await.map_err(|e| e.to_string())?;
    stop.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|e| e.to_string())?;
    }
    let unknown = crowd.ask_again().await;
    // Before anything is cleared: what a coordinator holds wrongly must be seen.
    crowd.read_all().await?;
    crowd.clear().await?;
    let lost = crowd.prove().await;
    let mut found = crowd.found();
    Ok(Account { initial, unknown, lost, ..std::mem::take(&mut *found) })
}

struct Crowd {
    orders: Orders,
    /// Each kind has connections of its own: streams are few, and reads wait long on theirs.
    writes: Ways,
    reads: Ways,
    probes: Ways,
    /// Who led by the last answer that said so.
    believed: AtomicUsize,
    answered: AtomicU64,
    found: Mutex<Account>,
    stop: watch::Receiver<bool>,
}

impl Crowd {
    fn new(orders: Orders, stop: watch::Receiver<bool>) -> Result<Crowd, String> {
        let identity = Identity::load(&orders.identity).map_err(|e| e.to_string())?;
        let ways = || Ways::new(&identity, &orders.members);
        Ok(Crowd {
            writes: ways()?,
            reads: ways()?,
            probes: ways()?,
            orders,
            believed: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            found: Mutex::default(),
            stop,
        })
    }

    fn found(&self) -> MutexGuard<'_, Account> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        *self.stop.borrow()
    }

    fn note(&self, who: String, call: Call, invoked: u64, answer: Answer) {
        let op = Op { who, call, invoked, returned: now_us(), answer };
        self.found().ops.push(op);
    }
}

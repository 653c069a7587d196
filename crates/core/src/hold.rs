//! What an agent tells a holder, and what the holder answers.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Kind, Protocol};
use crate::ids::FaultId;
use crate::time::Time;

/// The socket mark of Squall's own control traffic, exempt from every network fault that does not
/// sever control. Needs CAP_NET_ADMIN to set, so that a workload cannot wear it by accident.
pub const CONTROL_MARK: u32 = 0x5155_414c;

/// The first thing that a holder reads: the whole task. All moments are of this host's boot clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hold {
    /// Which fault; every kernel object carries [`FaultId::tag`].
    pub id: FaultId,
    /// What to do.
    pub fault: Fault,
    /// When the kernel is to kill the holder if nothing renews it.
    pub lease_until: Time,
    /// When the fault ends whatever happens; renewals never go past it.
    pub deadline: Time,
    /// What must not be hurt.
    pub protect: Protect,
}

/// What a holder must spare, from the host's policy and for whoever asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Protect {
    /// Command names (`ps -o comm`) that no fault may pick. `squall*` and pid 1 need no mention.
    pub processes: Vec<String>,
    /// Ports whose packets, to or from this host, no fault may touch.
    pub ports: Vec<(Protocol, u16)>,
    /// Free memory that a memory fault must leave, in bytes.
    pub memory_floor: u64,
    /// Addresses that no fault may cut off.
    pub peers: Vec<IpNet>,
    /// Files and directories, absolute: no fault may pick a process whose program is or lies below one.
    pub paths: Vec<String>,
    /// The process by which a person on this host asked for the fault, as the agent sees it. No fault may
    /// pick it, nor what it descends from: a shell whose command line holds what is to be hurt.
    #[serde(default)]
    pub asker: Option<i32>,
}

/// An order to a holder at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HolderOrder {
    /// The lease now ends at this moment (or at the deadline, whichever is earlier).
    Renew(Time),
    /// Undo, say [`HolderReport::Lifted`] and exit.
    Lift,
}

/// What a holder says. It says `Held` or `Failed` once, `Measured` any number of times while held,
/// and `Lifted` last. The end of its pipe without `Lifted` means that it died.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HolderReport {
    /// The fault is in place and was seen to bite.
    Held(Achieved),
    /// It is not in place; what was half done is undone, and the kernel has taken back the rest.
    Failed(Failure),
    /// A later measurement.
    Measured(Achieved),
    /// Undone, by order or at the deadline: what was measured last, and until when it was in place.
    Lifted(Achieved, Time),
}

/// What was asked for against what was measured, each in words with units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Achieved {
    /// The effect was seen; of packets, each way that was asked for. False says that the fault is in place
    /// but nothing showed its effect.
    pub bit: bool,
    /// As `20 %` or `4 processes`.
    pub requested: String,
    /// As `20.4 % of 500 probes`.
    pub measured: String,
    /// What a reader should know, as `visible: EPERM`; empty mostly.
    pub note: String,
}

/// Why a holder did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// The kernel or the privileges here cannot do it.
    #[error("unsupported here: {0}")]
    Unsupported(String),
    /// Nothing on this host matches.
    #[error("nothing to hurt: {0}")]
    NoTarget(String),
    /// The fault is in place but its effect was not seen; it was undone.
    #[error("did not bite: {0}")]
    NoBite(String),
    /// A system call failed.
    #[error("{0}")]
    System(String),
    /// The host's policy protects all that matches.
    #[error("nothing to hurt: {0}")]
    Protected(String),
}

/// How a fault is held on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holding {
    /// The kernel takes it back by itself when the holder dies.
    Held,
    /// An undo process and the journal take it back.
    NeedsUndo,
    /// It happens and is over; nothing is left to take back.
    OneShot,
}

/// One row of `squall doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Capability {
    /// The fault.
    pub fault: Kind,
    /// The backend that would be used; `None` where the fault is unsupported.
    pub backend: Option<String>,
    /// Other backends that this host could use.
    pub fallbacks: Vec<String>,
    /// How it is held.
    pub held: Holding,
    /// Why it is unsupported, or what limits it; empty where nothing does.
    pub reason: String,
}

//! Hosts, coordinators and a log, all by the machines of `core`, and what is true of them noted from
//! outside. Which thing happens next is the driver's choice: the model's ([`crate::model`]) or the
//! simulation's ([`crate::simulation`]).

mod coordinator;
mod host;
mod log;
mod shared;

use std::collections::{BTreeMap, BTreeSet};

use squall_core::experiment::{Experiment, Placement, Safety};
use squall_core::fault::{Cpu, Fault};
use squall_core::ids::{ExperimentId, FaultId, HostName, Leadership, StopId};
use squall_core::registry::{Command, HostRecord, Outcome};
use uuid::Uuid;

pub use coordinator::Leading;
pub use host::{Holder, HostSide, Truth, run};
pub use log::{Log, entry};
pub use shared::{Clocks, Fingerprint, LONG_AGO_MS, MAX_CLOCKS, Shared, epoch};

/// Something that happened in the last step, as seen from outside.
#[derive(Clone, Debug)]
pub enum Fact {
    /// An entry was committed.
    Committed {
        /// What.
        command: Command,
        /// What the registry made of it.
        outcome: Outcome,
        /// A stop was in the log, and no resume that named it.
        stopped: bool,
        /// Stops that the registry held outstanding before it, and not after.
        released: BTreeSet<StopId>,
    },
    /// A leader sent a message.
    Sent {
        /// To which host.
        host: HostName,
        /// It stands on a quorum round that began after the report it echoes arrived.
        backed: bool,
        /// It orders something to begin.
        starts: bool,
        /// Stops that hosts connected to this leader had heard when they last reported, and that
        /// the log lacked when the round was answered.
        lacking: BTreeSet<StopId>,
    },
    /// A host takes up a fault.
    Began {
        /// Which host.
        host: HostName,
        /// Which fault.
        id: FaultId,
        /// By whose order; `None` where a person injected it there.
        by: Option<Leadership>,
        /// The highest leadership of which the host had taken a message.
        obeyed: Leadership,
        /// A leader had answered this life of the agent with all stops and resumes.
        synced: bool,
    },
    /// A host answers a stop.
    Answered {
        /// Which host.
        host: HostName,
        /// Which stop.
        stop: StopId,
        /// It says that its latch is durable.
        durable: bool,
        /// The latch is on its disk.
        on_disk: bool,
    },
    /// A host starts a fault's holder.
    Placed {
        /// Which host.
        host: HostName,
        /// Which fault.
        id: FaultId,
        /// It had been in place before, and gone.
        returned: bool,
    },
}

/// What the checks see.
#[derive(Clone, Debug)]
pub struct World {
    /// All hosts.
    pub hosts: Vec<Shared<HostSide>>,
    /// The log.
    pub log: Shared<Log>,
    /// What happened in the last step.
    pub facts: Vec<Fact>,
}

impl World {
    /// So many hosts, all registered, none running.
    #[must_use]
    pub fn new(hosts: usize, log: Log) -> World {
        let hosts = (0..hosts).map(|h| Shared::new(HostSide::new(host_name(h), epoch(h))));
        World { hosts: hosts.collect(), log: Shared::new(log), facts: Vec::new() }
    }

    /// The host of that name, where it is one of them.
    #[must_use]
    pub fn host_of(&self, name: &HostName) -> Option<usize> {
        self.hosts.iter().position(|h| h.name == *name)
    }
}

/// The name of the host of number `h`, from 0.
#[must_use]
pub fn host_name(h: usize) -> HostName {
    format!("h{}", h + 1).parse().expect("a letter and a number")
}

/// The stop of number `n`.
#[must_use]
pub fn stop_id(n: usize) -> StopId {
    StopId(Uuid::from_u128(0x5700 + n as u128))
}

/// The experiment of number `n`.
#[must_use]
pub fn experiment_id(n: u32) -> ExperimentId {
    ExperimentId(Uuid::from_u128(0xe000 + u128::from(n)))
}

/// A host as it registers.
#[must_use]
pub fn host_record(name: HostName) -> HostRecord {
    HostRecord {
        name,
        address: [127, 0, 0, 1].into(),
        also: Vec::new(),
        labels: BTreeMap::new(),
        gossip_port: 0,
        relay_port: 0,
        coordinator: false,
        drained: false,
    }
}

/// One small fault on each of these hosts.
#[must_use]
pub fn experiment(
    hosts: impl Iterator<Item = HostName>,
    lease_ms: u64,
    duration_ms: u64,
) -> Experiment {
    let spec = Fault::Cpu(Cpu::new(Some(1), 1));
    Experiment {
        name: "e".into(),
        objective: String::new(),
        faults: hosts.map(|host| Placement { host, fault: 0, spec: spec.clone() }).collect(),
        duration_ms,
        probes: vec![],
        baseline_ms: 0,
        recovery_ms: 0,
        safety: Safety {
            max_radius_ppm: 1_000_000,
            of_group: None,
            auto_rollback: true,
            lease_ms,
            continue_on_loss: false,
            expects_split: false,
        },
        touched: BTreeSet::new(),
    }
}

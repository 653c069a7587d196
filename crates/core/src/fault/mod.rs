//! The faults: one perturbation on one host, resolved to what the host itself can carry out.
//!
//! Names of hosts and groups are gone here; only addresses, processes and amounts are left. The
//! forms that a person writes live in [`crate::spec`].

mod load;
mod network;
mod process;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use load::{Cpu, LEAST_TOUCH_RATE, MAX_CORES, MAX_WORKERS, MOST_TOUCHED, Memory, MemoryAmount};
pub use network::{Direction, Loss, MAX_PEERS, MAX_PORTS, Partition, Ports, Protocol, Traffic};
pub use process::{Amount, Kill, Pause, Processes};

use crate::spec::Millis;

/// One fault, ready for a holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// Packets between this host and its peers vanish.
    Partition(Partition),
    /// A share of those packets vanishes.
    Loss(Loss),
    /// Processes get a signal.
    Kill(Kill),
    /// Processes stand still.
    Pause(Pause),
    /// Processor time is burnt.
    Cpu(Cpu),
    /// Memory is taken and kept in use.
    Memory(Memory),
}

/// The kind of a fault, by its one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is the fault of its name")]
pub enum Kind {
    Partition,
    Loss,
    Kill,
    Pause,
    Cpu,
    Memory,
}

impl Kind {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [Kind; 6] =
        [Kind::Partition, Kind::Loss, Kind::Kill, Kind::Pause, Kind::Cpu, Kind::Memory];

    /// The name used in files, commands and output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Partition => "partition",
            Kind::Loss => "loss",
            Kind::Kill => "kill",
            Kind::Pause => "pause",
            Kind::Cpu => "cpu",
            Kind::Memory => "memory",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A parameter that no holder could carry out, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}: {what}")]
pub struct InvalidFault {
    /// The fault's kind.
    pub fault: Kind,
    /// What is wrong and what would be right.
    pub what: String,
}

impl Fault {
    /// The kind of this fault.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Fault::Partition(_) => Kind::Partition,
            Fault::Loss(_) => Kind::Loss,
            Fault::Kill(_) => Kind::Kill,
            Fault::Pause(_) => Kind::Pause,
            Fault::Cpu(_) => Kind::Cpu,
            Fault::Memory(_) => Kind::Memory,
        }
    }

    /// The packets that this fault hurts, for the faults that hurt packets.
    #[must_use]
    pub fn traffic(&self) -> Option<&Traffic> {
        match self {
            Fault::Partition(p) => Some(&p.traffic),
            Fault::Loss(l) => Some(&l.traffic),
            Fault::Kill(_) | Fault::Pause(_) | Fault::Cpu(_) | Fault::Memory(_) => None,
        }
    }

    /// The same without its far ends, which are nearly all that is long in a fault.
    #[must_use]
    pub fn without_peers(&self) -> Fault {
        let mut fault = self.clone();
        match &mut fault {
            Fault::Partition(p) => p.traffic.peers.clear(),
            Fault::Loss(l) => l.traffic.peers.clear(),
            Fault::Kill(_) | Fault::Pause(_) | Fault::Cpu(_) | Fault::Memory(_) => {}
        }
        fault
    }

    /// How many far ends it names.
    #[must_use]
    pub fn peers(&self) -> usize {
        match self {
            Fault::Partition(p) => p.traffic.peers.len(),
            Fault::Loss(l) => l.traffic.peers.len(),
            Fault::Kill(_) | Fault::Pause(_) | Fault::Cpu(_) | Fault::Memory(_) => 0,
        }
    }

    /// The processes that this fault picks, for the faults that pick processes.
    #[must_use]
    pub fn processes(&self) -> Option<&Processes> {
        match self {
            Fault::Kill(k) => Some(&k.processes),
            Fault::Pause(p) => Some(&p.processes),
            Fault::Partition(_) | Fault::Loss(_) | Fault::Cpu(_) | Fault::Memory(_) => None,
        }
    }

    /// Whether control traffic is cut too, so that nobody can confirm or lift it from outside.
    #[must_use]
    pub fn severs_control(&self) -> bool {
        matches!(self, Fault::Partition(p) if !p.severed.is_empty())
    }

    /// Checks every parameter against its range.
    ///
    /// # Errors
    /// The first parameter that is out of range, with the range.
    pub fn validate(&self) -> Result<(), InvalidFault> {
        let bad = |what: String| Err(InvalidFault { fault: self.kind(), what });
        if let Some(traffic) = self.traffic()
            && let Err(what) = traffic.check()
        {
            return bad(what);
        }
        if let Some(processes) = self.processes()
            && let Err(what) = processes.check()
        {
            return bad(what);
        }
        let own = match self {
            Fault::Partition(p) if p.severed.len() > MAX_PEERS => {
                Err(format!("{} coordinators' addresses are too many", p.severed.len()))
            }
            Fault::Partition(_) | Fault::Pause(_) => Ok(()),
            Fault::Loss(l) if !(1..=1_000_000).contains(&l.per_million) => Err(format!(
                "percent must be over 0 and at most 100, not {}",
                f64::from(l.per_million) / 10_000.0
            )),
            Fault::Loss(_) => Ok(()),
            Fault::Kill(k) => k.check(),
            Fault::Cpu(c) => c.check(),
            Fault::Memory(m) => m.check(),
        };
        own.or_else(bad)
    }

    /// Over how many milliseconds what is asked for comes up; 0 for what is there at once.
    #[must_use]
    pub fn ramp_ms(&self) -> u32 {
        match self {
            Fault::Cpu(c) => c.ramp_ms,
            Fault::Memory(m) => m.ramp_ms,
            Fault::Partition(_) | Fault::Loss(_) | Fault::Kill(_) | Fault::Pause(_) => 0,
        }
    }

    /// Checks that all that is asked for is there before the fault ends, which it does after
    /// `duration_ms`.
    ///
    /// # Errors
    /// Its ramp is longer.
    pub fn check_length(&self, duration_ms: u64) -> Result<(), InvalidFault> {
        let ramp_ms = self.ramp_ms();
        if u64::from(ramp_ms) <= duration_ms {
            return Ok(());
        }
        let (ramp, held) = (Millis(ramp_ms.into()), Millis(duration_ms));
        let what = format!("ramp: {ramp} is longer than the fault is held, which is {held}");
        Err(InvalidFault { fault: self.kind(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_over_the_wire_is_checked_too() {
        let cores = |cores| Fault::Cpu(Cpu { cores, ..Cpu::new(Some(1), 1) });
        let memory = Memory { touch_rate: Some(0), ..Memory::bytes(1) };
        let large = Memory { touch_rate: Some(1 << 30), ..Memory::bytes(MOST_TOUCHED + 1) };
        for (fault, says) in [
            (cores(vec![1, 0]), "ascending"),
            (cores(vec![1, 1]), "ascending"),
            (cores(vec![0, 1_024]), "1024 is no processor"),
            (Fault::Memory(large), "for 8GiB at most: leave it out"),
            (Fault::Memory(memory), "touch-rate must be at least 1MiB/s, not 0"),
        ] {
            let why = fault.validate().expect_err("it must be refused").to_string();
            assert!(why.contains(says), "{why}");
        }
    }
}

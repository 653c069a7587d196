//! The faults: one perturbation on one host, resolved to what the host itself can carry out.
//!
//! Names of hosts and groups are gone here; only addresses, processes and amounts are left. The
//! forms that a person writes live in [`crate::spec`].

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::spec::{Millis, Rate, Size};

/// Peers in one traffic selector, at most.
pub const MAX_PEERS: usize = 1024;
/// Port ranges in one traffic selector, at most.
pub const MAX_PORTS: usize = 64;
/// Burner processes of one cpu fault, at most.
pub const MAX_WORKERS: u16 = 256;
/// Numbers of processors, below this.
pub const MAX_CORES: u16 = 1024;
/// Bytes of memory that are touched a second, where a rate is named, at least: less is not told from
/// nothing.
pub const LEAST_TOUCH_RATE: u64 = 1 << 20;
/// Memory that may be touched at a rate, at most: the kernel walks over all its pages to tell how much was,
/// about 15 ms for each GiB, and the lease is not to wait.
pub const MOST_TOUCHED: u64 = 8 << 30;
/// Signals that leave a process stopped for ever where it does not handle them: SIGSTOP, SIGTSTP,
/// SIGTTIN, SIGTTOU.
const STOPPING: std::ops::RangeInclusive<u8> = 19..=22;

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

/// Which way packets are hurt, as the target host sees it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Packets that arrive.
    In,
    /// Packets that leave.
    Out,
    /// Both ways.
    #[default]
    Both,
}

impl Direction {
    /// Whether packets are hurt that arrive, or, where not `inbound`, that leave.
    #[must_use]
    pub fn covers(self, inbound: bool) -> bool {
        self != if inbound { Direction::Out } else { Direction::In }
    }
}

/// A transport protocol that has ports.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is the protocol of its name")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Ports `from` to `to`, both included. A packet matches when either of its ports lies within, so
/// that a flow is hurt whichever side opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "told above")]
pub struct Ports {
    pub from: u16,
    pub to: u16,
}

/// Which packets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Traffic {
    /// The far ends. Never empty.
    pub peers: Vec<IpNet>,
    /// Which way.
    pub direction: Direction,
    /// Only these ports; empty means all packets, with ports or without.
    pub ports: Vec<Ports>,
    /// Only this protocol; with `ports` and `None`, TCP and UDP both.
    pub protocol: Option<Protocol>,
}

/// See [`Fault::Partition`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// What is cut.
    pub traffic: Traffic,
    /// Addresses of the coordinators where control traffic is cut too, mark or no mark; empty where
    /// control is exempt.
    pub severed: Vec<IpNet>,
}

/// See [`Fault::Loss`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Loss {
    /// What is hurt.
    pub traffic: Traffic,
    /// Packets lost of a million, 1 to 1,000,000.
    pub per_million: u32,
}

/// Which processes. Every condition that is given must hold; at least one is given. Squall itself,
/// pid 1 and what the host's policy protects never match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Processes {
    /// The command's name, as `ps -o comm` shows it.
    #[serde(default)]
    pub name: Option<String>,
    /// A text that the command line contains.
    #[serde(default)]
    pub cmdline: Option<String>,
    /// The process id.
    #[serde(default)]
    pub pid: Option<u32>,
    /// A TCP port that it listens on, or a UDP port that it is bound to.
    #[serde(default)]
    pub port: Option<u16>,
    /// A cgroup path, or a systemd unit (`nginx.service`), that it lives in or below.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// Names that never match.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// How many of what matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Amount {
    /// All of them.
    #[default]
    All,
    /// At most so many.
    Count(u32),
    /// So many percent, 1 to 100, rounded up to at least one.
    Percent(u8),
}

impl Amount {
    /// The number that this amounts to out of `total`.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        match self {
            Amount::All => total,
            Amount::Count(n) => total.min(n as usize),
            Amount::Percent(p) => (total * usize::from(p)).div_ceil(100).min(total),
        }
    }
}

/// See [`Fault::Kill`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kill {
    /// Whom.
    pub processes: Processes,
    /// How many of them a round.
    pub amount: Amount,
    /// The signal's number, 1 to 64; those that stop a process are refused (that is `pause`, which
    /// can be lifted).
    pub signal: u8,
    /// Again each so many milliseconds until the fault's end; `None` is one round.
    pub interval_ms: Option<u32>,
}

/// See [`Fault::Pause`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pause {
    /// Whom; all that match.
    pub processes: Processes,
}

/// See [`Fault::Cpu`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cpu {
    /// Burner processes; `None` is one for each processor that is online.
    pub workers: Option<u16>,
    /// How busy each burner is, 1 to 100 percent of one processor.
    pub load_percent: u8,
    /// The processors, by number, that the burners are bound to, one after the other; ascending. Empty
    /// leaves it to the kernel where they run. `workers: None` is one for each of these then.
    pub cores: Vec<u16>,
    /// Over so many milliseconds the load rises evenly from 1 percent; 0 is at once.
    pub ramp_ms: u32,
}

/// See [`Fault::Memory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Memory {
    /// How much is taken.
    pub amount: MemoryAmount,
    /// Over so many milliseconds it is taken, evenly; 0 is as fast as the host gives it.
    pub ramp_ms: u32,
    /// So many bytes of it, at least [`LEAST_TOUCH_RATE`], are written to each second once it is taken,
    /// all in turn; `None` is as many as write to all of it in five seconds.
    pub touch_rate: Option<u64>,
}

/// How much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MemoryAmount {
    /// So many bytes.
    Bytes(u64),
    /// So many percent of the memory available when the fault begins, 1 to 95.
    PercentOfAvailable(u8),
}

impl Cpu {
    /// On any processors, and at once.
    #[must_use]
    pub fn new(workers: Option<u16>, load_percent: u8) -> Cpu {
        Cpu { workers, load_percent, cores: Vec::new(), ramp_ms: 0 }
    }

    /// The processors that it is bound to, in words, as `core 3` or `cores 0-1, 4`; `None` for any.
    #[must_use]
    pub fn on(&self) -> Option<String> {
        let runs = self.cores.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            one => one.iter().map(u16::to_string).collect(),
        });
        let runs: Vec<String> = runs.collect();
        let word = if self.cores.len() == 1 { "core" } else { "cores" };
        (!runs.is_empty()).then(|| format!("{word} {}", runs.join(", ")))
    }

    fn check(&self) -> Result<(), String> {
        if !(1..=100).contains(&self.load_percent) {
            let load = self.load_percent;
            return Err(format!("load must be 1 to 100 percent of a processor, not {load}"));
        }
        if let Some(n) = self.workers.filter(|n| !(1..=MAX_WORKERS).contains(n)) {
            return Err(format!("workers must be 1 to {MAX_WORKERS}, not {n}"));
        }
        if self.workers.is_none() && self.cores.len() > usize::from(MAX_WORKERS) {
            let n = self.cores.len();
            return Err(format!(
                "a burner for each of {n} cores: {MAX_WORKERS} are started at most"
            ));
        }
        if let Some(core) = self.cores.iter().find(|core| **core >= MAX_CORES) {
            return Err(format!("cores: {core} is no processor: they are 0 to {}", MAX_CORES - 1));
        }
        if !self.cores.is_sorted_by(|a, b| a < b) {
            return Err("cores must be ascending, each of them once".into());
        }
        Ok(())
    }
}

impl Memory {
    /// So many bytes, as fast as the host gives them.
    #[must_use]
    pub fn bytes(bytes: u64) -> Memory {
        Memory { amount: MemoryAmount::Bytes(bytes), ramp_ms: 0, touch_rate: None }
    }

    /// So many percent of what is available, as fast as the host gives it.
    #[must_use]
    pub fn percent(percent: u8) -> Memory {
        let amount = MemoryAmount::PercentOfAvailable(percent);
        Memory { amount, ..Memory::bytes(0) }
    }

    fn check(&self) -> Result<(), String> {
        match self.amount {
            MemoryAmount::Bytes(0) => return Err("bytes must be more than 0".into()),
            MemoryAmount::PercentOfAvailable(p) if !(1..=95).contains(&p) => {
                return Err(format!("percent must be 1 to 95 of the memory available, not {p}"));
            }
            MemoryAmount::Bytes(_) | MemoryAmount::PercentOfAvailable(_) => {}
        }
        match self.touch_rate {
            Some(_) if matches!(self.amount, MemoryAmount::Bytes(n) if n > MOST_TOUCHED) => {
                let most = Size(MOST_TOUCHED);
                Err(format!(
                    "touch-rate is told apart for {most} at most: leave it out, or take less"
                ))
            }
            Some(rate) if rate < LEAST_TOUCH_RATE => {
                let least = Rate(LEAST_TOUCH_RATE);
                Err(format!("touch-rate must be at least {least}, not {}", Rate(rate)))
            }
            Some(_) | None => Ok(()),
        }
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

impl Traffic {
    fn check(&self) -> Result<(), String> {
        if self.peers.is_empty() {
            return Err("peers must name at least one host, group or address".into());
        }
        if self.peers.len() > MAX_PEERS {
            return Err(format!("peers: {} addresses, at most {MAX_PEERS}", self.peers.len()));
        }
        if self.ports.len() > MAX_PORTS {
            return Err(format!("ports: {} ranges, at most {MAX_PORTS}", self.ports.len()));
        }
        if let Some(p) = self.ports.iter().find(|p| p.from == 0 || p.from > p.to) {
            return Err(format!(
                "ports: {}-{} is not a range of ports from 1 to 65535",
                p.from, p.to
            ));
        }
        let distinct: BTreeSet<_> = self.peers.iter().map(IpNet::trunc).collect();
        if distinct.len() != self.peers.len() {
            return Err("peers: the same address stands there twice".into());
        }
        Ok(())
    }
}

/// Bytes of a command's name, at most: `TASK_COMM_LEN` less its zero.
const MAX_COMM: usize = 15;

impl Processes {
    /// Whether no condition is given at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.cmdline.is_none()
            && self.pid.is_none()
            && self.port.is_none()
            && self.cgroup.is_none()
    }

    fn check(&self) -> Result<(), String> {
        if self.is_empty() {
            return Err("say which processes: name, cmdline, pid, port or cgroup".into());
        }
        if self.pid == Some(1) || self.pid == Some(0) {
            return Err("pid 0 and pid 1 are protected: choose another process".into());
        }
        if self.port == Some(0) {
            return Err("port 0 is nobody's: write 1 to 65535".into());
        }
        if let Some(name) = &self.name {
            if name.len() > MAX_COMM {
                return Err(format!(
                    "name: the kernel keeps {MAX_COMM} bytes of a command's name, so `{name}` matches nothing: shorten it, or use cmdline"
                ));
            }
            if self.exclude.contains(name) {
                return Err(format!("`{name}` is named and excluded: leave one out"));
            }
        }
        if self.cgroup.as_ref().is_some_and(|c| c.trim_matches('/').is_empty()) {
            return Err("cgroup / holds every process: name one below it".into());
        }
        for text in [&self.name, &self.cmdline, &self.cgroup].into_iter().flatten() {
            if text.is_empty() {
                return Err("an empty text would match every process: leave it out".into());
            }
        }
        Ok(())
    }
}

impl Kill {
    fn check(&self) -> Result<(), String> {
        if !(1..=64).contains(&self.signal) {
            return Err(format!("signal must be 1 to 64, not {}", self.signal));
        }
        if STOPPING.contains(&self.signal) {
            let what =
                "SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU cannot be lifted: use the fault `pause`";
            return Err(what.into());
        }
        match self.amount {
            Amount::Count(0) => return Err("count must be at least 1".into()),
            Amount::Percent(p) if !(1..=100).contains(&p) => {
                return Err(format!("percent must be 1 to 100, not {p}"));
            }
            Amount::All | Amount::Count(_) | Amount::Percent(_) => {}
        }
        if self.interval_ms.is_some_and(|ms| ms < 10) {
            return Err("interval must be at least 10ms".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_told_in_runs() {
        for (cores, text) in [
            (&[][..], None),
            (&[3], Some("core 3")),
            (&[0, 1], Some("cores 0-1")),
            (&[0, 2, 3, 4, 9], Some("cores 0, 2-4, 9")),
        ] {
            let cpu = Cpu { cores: cores.to_vec(), ..Cpu::new(None, 1) };
            assert_eq!(cpu.on().as_deref(), text);
        }
    }

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

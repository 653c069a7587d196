//! Faults that take a host's processors and memory.

use serde::{Deserialize, Serialize};

use crate::spec::{Rate, Size};

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

/// Processor time that is burnt.
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

/// Memory that is taken and kept in use.
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

    pub(super) fn check(&self) -> Result<(), String> {
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

    pub(super) fn check(&self) -> Result<(), String> {
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
}

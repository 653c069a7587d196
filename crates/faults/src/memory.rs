//! The fault `memory`: a child of the holder takes memory and keeps it in use.

use std::time::{Duration, Instant};

use squall_core::fault::Memory;
use squall_core::hold::{Achieved, Failure, Hold};
use squall_core::time::Time;

use crate::burner::{Body, Burners};
use crate::clock;
use crate::held::HeldFault;
use crate::holder::Lease;
use crate::proc;

/// How long the taking is watched before the fault is said to be held; it may go on after that.
const WATCH_MS: u64 = 500;
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(10);
/// It bites where at least one part in so many of what was asked for is taken. How much is told in
/// any case.
const ENOUGH: u64 = 4;
/// More than what the burner's own program has before it takes anything; less is not told apart.
const OWN: u64 = 512 << 10;
/// Said while the burner takes more from look to look.
const TAKING: &str = "taking more";

pub(crate) fn apply(
    hold: &Hold,
    lease: &Lease,
    memory: &Memory,
) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    let system = |e: std::io::Error| Failure::System(format!("the memory available: {e}"));
    let available = proc::memory_available().map_err(system)?;
    let (bytes, requested) = match *memory {
        Memory::Bytes(bytes) => (bytes, mib(bytes)),
        Memory::PercentOfAvailable(percent) => {
            let bytes = available / 100 * u64::from(percent);
            (bytes, format!("{} ({percent} % of {})", mib(bytes), mib(available)))
        }
    };
    let floor = hold.protect.memory_floor;
    if available <= floor {
        return Err(Failure::System(format!(
            "{} of memory are available, and the policy leaves {} free",
            mib(available),
            mib(floor)
        )));
    }
    let burners = Burners::start(hold, lease, Body::Memory { bytes, floor }, 1)?;
    let last = Achieved { requested, ..Achieved::default() };
    let mut taking = Taking { burners, bytes, floor, taken: 0, told: false, last };
    let left = clock::now().until(lease.until());
    let (began, limit) = (Instant::now(), Duration::from_millis(WATCH_MS.min(left / 2)));
    while taking.look()? && began.elapsed() < limit {
        std::thread::sleep(LOOK);
        taking.burners.renew(lease.until())?;
    }
    if taking.taken == 0 {
        return Err(Failure::NoBite(taking.last.measured.clone()));
    }
    let achieved = taking.last.clone();
    Ok((Box::new(taking), achieved))
}

fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

struct Taking {
    burners: Burners,
    bytes: u64,
    floor: u64,
    /// Bytes, at the last look.
    taken: u64,
    /// The last look was told, and nothing has changed since.
    told: bool,
    last: Achieved,
}

impl Taking {
    fn is_enough(&self) -> bool {
        self.taken > 0 && self.taken + OWN >= self.bytes / ENOUGH
    }

    /// Measures what is taken now; `false` once it is all.
    fn look(&mut self) -> Result<bool, Failure> {
        let taken = self.burners.memory()?.saturating_sub(OWN);
        let available = proc::memory_available().unwrap_or(0);
        let grows = taken > self.taken + OWN;
        let short = taken + OWN < self.bytes;
        let note = match (short, grows) {
            (false, _) => String::new(),
            (true, true) if available > self.floor => TAKING.into(),
            (true, _) => format!("the policy leaves {} free", mib(self.floor)),
        };
        self.told &= taken.abs_diff(self.taken) <= OWN && note == self.last.note;
        self.taken = taken;
        self.last = Achieved {
            bit: self.is_enough(),
            requested: self.last.requested.clone(),
            measured: format!("{} taken, {} still available", mib(taken), mib(available)),
            note,
        };
        Ok(short)
    }
}

impl HeldFault for Taking {
    fn renew(&mut self, until: Time) -> Result<(), Failure> {
        self.burners.renew(until)
    }

    fn measure(&mut self) -> Option<Achieved> {
        // A burner that has died is found out by the next renewal.
        self.look().ok()?;
        (!std::mem::replace(&mut self.told, true)).then(|| self.last.clone())
    }

    fn lift(&mut self) -> Achieved {
        // What could not be measured last is told as it was before.
        let looked = self.look();
        if looked.is_ok() && self.last.note == TAKING {
            // It grew since the look before, which may be a second old. Does it still?
            std::thread::sleep(LOOK);
            let _ = self.look();
        }
        if self.last.note == TAKING {
            self.last.note = "lifted before all was taken".into();
        }
        self.burners.kill();
        self.last.clone()
    }
}

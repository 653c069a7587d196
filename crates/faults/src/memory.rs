//! The fault `memory`: a child of the holder takes memory and keeps it in use.

use std::time::{Duration, Instant};

use squall_core::fault::{MOST_TOUCHED, Memory, MemoryAmount};
use squall_core::hold::{Achieved, Failure, Hold};
use squall_core::spec::{Millis, Rate};
use squall_core::time::Time;

use crate::burner::{Body, Burners, FIRST, LEAST};
use crate::clock;
use crate::held::HeldFault;
use crate::holder::Lease;
use crate::proc;

/// How long the taking is watched before the fault is said to be held; it may go on after that.
const WATCH_MS: u64 = 500;
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(10);
/// It bites where at least so many percent of what is due are taken. How much is told in any case.
const ENOUGH_PERCENT: u64 = 75;
/// And where at least one part in so many of the rate that was asked for is seen to be touched: what is
/// counted depends on when the kernel writes a page's mark.
const ENOUGH_TOUCHED: f64 = 4.0;
/// More than what the burner's own program has before it takes anything; less is not told apart.
const OWN: u64 = 512 << 10;
/// A burner may be so late with what is due.
const LATE: Duration = Duration::from_millis(200);
/// What the burner's own program touches beside it, at most; less is not told apart.
const OWN_PAGES: u64 = 128 << 10;
/// Of so much it is counted once more at the end how much was touched; more would hold the end up.
const SOON_COUNTED: u64 = 1 << 30;
/// How long is counted at least before it is said how much was touched.
const TOUCHES: Duration = Duration::from_millis(500);

pub(crate) fn apply(
    hold: &Hold,
    lease: &Lease,
    memory: &Memory,
) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    let system = |e: std::io::Error| Failure::System(format!("the memory available: {e}"));
    let available = proc::memory_available().map_err(system)?;
    let (bytes, mut requested) = match memory.amount {
        MemoryAmount::Bytes(bytes) => (bytes, mib(bytes)),
        MemoryAmount::PercentOfAvailable(percent) => {
            let bytes = available / 100 * u64::from(percent);
            (bytes, format!("{} ({percent} % of {})", mib(bytes), mib(available)))
        }
    };
    let Memory { ramp_ms, touch_rate, .. } = *memory;
    if ramp_ms > 0 {
        requested.push_str(&format!(", rising over {}", Millis(ramp_ms.into())));
    }
    if touch_rate.is_some() && bytes > MOST_TOUCHED {
        let (most, asked) = (mib(MOST_TOUCHED), mib(bytes));
        let what = format!("touch-rate is told apart for {most} at most, not for {asked}");
        return Err(Failure::System(what));
    }
    if let Some(rate) = touch_rate {
        requested.push_str(&format!(", {} of it touched", Rate(rate)));
    }
    let floor = hold.protect.memory_floor;
    if available <= floor {
        return Err(Failure::System(format!(
            "{} of memory are available, and the policy leaves {} free",
            mib(available),
            mib(floor)
        )));
    }
    let body = Body::Memory { bytes, floor, ramp_ms, touch_rate };
    let burners = Burners::start(hold, lease, body, 1, &[])?;
    let last = Achieved { requested, ..Achieved::default() };
    let touching = touch_rate.map(Touching::at);
    let mut taking =
        Taking { burners, bytes, floor, taken: 0, grows: false, touching, told: false, last };
    let left = clock::now().until(lease.until());
    let (began, limit) = (Instant::now(), Duration::from_millis(WATCH_MS.min(left / 2)));
    while taking.look()? && !taking.keeps_up() && began.elapsed() < limit {
        std::thread::sleep(LOOK);
        taking.burners.renew(lease.until())?;
    }
    if taking.taken == 0 {
        return Err(Failure::NoBite(taking.last.measured.clone()));
    }
    taking.count_touches();
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
    /// It was more than at the look before, and more is to come.
    grows: bool,
    /// Where a rate was asked for.
    touching: Option<Touching>,
    /// The last look was told, and nothing has changed since.
    told: bool,
    last: Achieved,
}

impl Taking {
    /// Bytes that are to be taken by now.
    fn due(&self) -> u64 {
        let share = self.burners.rise().share(self.burners.age().saturating_sub(LATE));
        let due = (self.bytes as f64 * share) as u64;
        // It is taken in steps.
        let due = if share < 1.0 { due.saturating_sub(LEAST) } else { due };
        due.max(FIRST).min(self.bytes)
    }

    fn is_enough(&self) -> bool {
        self.taken > 0 && self.taken + OWN >= self.due() / 100 * ENOUGH_PERCENT
    }

    /// Whether all that is due by now is taken, and more will be.
    fn keeps_up(&self) -> bool {
        !self.has_risen() && self.taken + OWN >= self.due()
    }

    fn has_risen(&self) -> bool {
        self.burners.rise().is_over(self.burners.age().saturating_sub(LATE))
    }

    /// Measures what is taken now; `false` once it is all.
    fn look(&mut self) -> Result<bool, Failure> {
        let taken = self.burners.memory()?.saturating_sub(OWN);
        let available = proc::memory_available().unwrap_or(0);
        let before = std::mem::replace(&mut self.taken, taken);
        let short = taken + OWN < self.bytes;
        let grows = taken > before + OWN || self.keeps_up();
        self.grows = short && grows && available > self.floor;
        let note = match (short, self.grows) {
            (false, _) => String::new(),
            (true, true) => "taking more".into(),
            (true, false) => {
                format!("the policy leaves {} free, or the kernel gives no more", mib(self.floor))
            }
        };
        let mut measured = format!("{} taken, {} still available", mib(taken), mib(available));
        let mut bit = self.is_enough();
        if let Some(touching) = &self.touching {
            measured.push_str(&touching.words(taken));
            bit &= touching.is_enough(taken);
        }
        self.told &=
            taken.abs_diff(before) <= OWN && note == self.last.note && bit == self.last.bit;
        self.last = Achieved { bit, requested: self.last.requested.clone(), measured, note };
        Ok(short)
    }

    /// Counts what was touched since it was counted last.
    fn count_touches(&mut self) {
        let Some(touching) = &mut self.touching else { return };
        let span = touching.since.elapsed();
        if span < TOUCHES {
            return;
        }
        touching.since = Instant::now();
        let Ok(taken) = self.burners.memory() else { return };
        let bytes = self.burners.touched();
        // What was taken meanwhile was written to as well.
        let before = touching.of.replace(taken);
        if before.is_some_and(|before| before.abs_diff(taken) <= OWN)
            && let Ok(bytes) = bytes
        {
            self.told = false;
            touching.seen = Some((bytes.saturating_sub(OWN_PAGES), span));
        }
    }
}

/// How much of the memory is written to.
struct Touching {
    /// Bytes a second.
    rate: u64,
    since: Instant,
    /// How much was taken when counting began.
    of: Option<u64>,
    /// Bytes, and in how long, at the last count of what stood; `None` before, or where the kernel does not
    /// tell.
    seen: Option<(u64, Duration)>,
}

impl Touching {
    fn at(rate: u64) -> Touching {
        Touching { rate, since: Instant::now(), of: None, seen: None }
    }

    /// Whether enough of what is `taken` is touched, as far as that is seen: however often a page is, it
    /// counts once.
    fn is_enough(&self, taken: u64) -> bool {
        let Some((bytes, span)) = self.seen else { return true };
        let asked = (self.rate as f64 * span.as_secs_f64()).min(taken as f64);
        bytes as f64 >= asked / ENOUGH_TOUCHED
    }

    fn words(&self, taken: u64) -> String {
        match self.seen {
            None => String::new(),
            Some((bytes, span)) if taken > 0 && bytes + OWN_PAGES >= taken => {
                format!(", all of it touched within {} ms", span.as_millis())
            }
            Some((bytes, span)) => {
                let rate = (bytes as f64 / span.as_secs_f64()) as u64;
                format!(", {}/s touched", mib(rate))
            }
        }
    }
}

impl HeldFault for Taking {
    fn renew(&mut self, until: Time) -> Result<(), Failure> {
        self.burners.renew(until)
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.burners.check()
    }

    fn measure(&mut self) -> Option<Achieved> {
        self.count_touches();
        self.look().ok()?;
        (!std::mem::replace(&mut self.told, true)).then(|| self.last.clone())
    }

    fn lift(&mut self) -> Achieved {
        let unseen = self.touching.as_ref().is_some_and(|touching| touching.seen.is_none());
        if unseen || self.taken <= SOON_COUNTED {
            self.count_touches();
        }
        let looked = self.look();
        if self.grows {
            // It grew since the look before, which may be a second old. Does it still?
            std::thread::sleep(LOOK);
            let _ = self.look();
        }
        if self.grows {
            self.last.note = "lifted before all was taken".into();
        }
        if let Err(died) = looked.and(self.burners.check()) {
            (self.last.bit, self.last.note) = (false, died.to_string());
        }
        self.burners.kill();
        if self.touching.as_ref().is_some_and(|touching| touching.seen.is_none()) {
            // There was time to see it.
            let age = self.burners.age().saturating_sub(LATE + 4 * TOUCHES);
            self.last.bit &= !self.burners.rise().is_over(age) || age.is_zero();
            if self.last.note.is_empty() {
                self.last.note = "how much was touched was not seen".into();
            }
        }
        self.last.clone()
    }
}

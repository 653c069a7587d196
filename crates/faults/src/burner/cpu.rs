//! A burner of processor time.

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::Rise;
use super::child::Leash;

/// Of each such span it burns its share and sleeps the rest.
const PERIOD: Duration = Duration::from_millis(100);
/// Multiplications between two looks at the clock: some microseconds.
const STRIDE: u32 = 5_000;

pub(super) fn burn(mut leash: Leash, load_percent: u8, rise: Rise) -> io::Result<()> {
    let started = Instant::now();
    while leash.holds()? {
        let percent = (f64::from(load_percent) * rise.share(started.elapsed())).max(1.0);
        let share = PERIOD.mul_f64(percent / 100.0);
        let (began, used) = (Instant::now(), own_time());
        // By its own time, not by the clock: where others compete it burns longer for its share.
        while own_time().saturating_sub(used) < share && began.elapsed() < PERIOD {
            spin();
        }
        std::thread::sleep(PERIOD.saturating_sub(began.elapsed()));
    }
    Ok(())
}

fn own_time() -> Duration {
    let spec = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(spec.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(spec.tv_nsec).unwrap_or(0))
}

fn spin() {
    let mut value = 1_u64;
    for step in 0..STRIDE {
        value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step.into()));
    }
}

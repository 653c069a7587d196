//! This host's boot clock.

use rustix::time::{ClockId, clock_gettime};
use squall_core::time::Time;

/// Milliseconds of `CLOCK_BOOTTIME`: monotonic, and going on while the host sleeps.
#[must_use]
pub fn now() -> Time {
    let spec = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(spec.tv_sec).unwrap_or(0);
    Time(seconds * 1000 + u64::try_from(spec.tv_nsec).unwrap_or(0) / 1_000_000)
}

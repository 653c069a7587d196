//! This host's boot clock.

use rustix::time::{ClockId, Timespec, clock_gettime};
use squall_core::time::Time;

/// A length of time as the kernel takes it.
pub(crate) fn timespec(ms: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: (ms % 1000 * 1_000_000) as _,
    }
}

/// Milliseconds of `CLOCK_BOOTTIME`: monotonic, and going on while the host sleeps.
#[must_use]
pub fn now() -> Time {
    let spec = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(spec.tv_sec).unwrap_or(0);
    Time(seconds * 1000 + u64::try_from(spec.tv_nsec).unwrap_or(0) / 1_000_000)
}

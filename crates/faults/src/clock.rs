//! This host's boot clock and boot id.

use rustix::time::{ClockId, clock_gettime};
use squall_core::time::Time;

/// Milliseconds of `CLOCK_BOOTTIME`: monotonic, and going on while the host sleeps.
#[must_use]
pub fn now() -> Time {
    let spec = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(spec.tv_sec).unwrap_or(0);
    Time(seconds * 1000 + u64::try_from(spec.tv_nsec).unwrap_or(0) / 1_000_000)
}

/// The kernel's random id of this boot; empty where it cannot be read.
#[must_use]
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

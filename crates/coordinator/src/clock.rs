//! The clocks of this node, read in one place.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use squall_core::time::{Time, WallTime};

/// Monotonic milliseconds, which go on while the host sleeps.
pub(crate) fn now() -> Time {
    let t = clock_gettime(ClockId::Boottime);
    let ms = t.tv_sec.unsigned_abs() * 1000 + t.tv_nsec.unsigned_abs() / 1_000_000;
    Time(ms)
}

/// The wall clock, for people.
pub(crate) fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How long until `later`, at most an hour: what a timer takes.
pub(crate) fn until(later: Time) -> Duration {
    Duration::from_millis(now().until(later).min(3_600_000))
}

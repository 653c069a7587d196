//! Two clocks that never meet.
//!
//! [`Time`] is monotonic and belongs to one host: milliseconds of `CLOCK_BOOTTIME`, which goes on
//! while the host sleeps. [`WallTime`] is for people: it dates an entry and is compared with nothing.

use serde::{Deserialize, Serialize};

/// Monotonic milliseconds of one host's boot clock. Values of different hosts are not comparable;
/// what crosses a wire is an echo of the receiver's own value plus a number of milliseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// A moment later than any that a driver can reach.
    pub const FAR: Time = Time(u64::MAX);

    /// This moment plus `ms` milliseconds, saturating.
    #[must_use]
    pub fn plus(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment, 0 where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Milliseconds from this moment until `later`, 0 where it has passed.
    #[must_use]
    pub fn until(self, later: Time) -> u64 {
        later.0.saturating_sub(self.0)
    }
}

/// Milliseconds since 1970-01-01 UTC by somebody's wall clock. Dates an event for a reader; no rule
/// reads it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct WallTime(pub u64);

//! How what is asked of a burner comes up: evenly, or at once.

use std::time::Duration;

/// From nothing to all over so many milliseconds, from the burner's start; 0 is at once. The burner goes by
/// it, and so does the holder that measures what the burner got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rise {
    pub ramp_ms: u32,
}

impl Rise {
    fn ramp(self) -> f64 {
        f64::from(self.ramp_ms) / 1_000.0
    }

    /// The share that is due `after` the start, 0 to 1.
    pub(crate) fn share(self, after: Duration) -> f64 {
        if self.is_over(after) { 1.0 } else { after.as_secs_f64() / self.ramp() }
    }

    /// Whether all is due.
    pub(crate) fn is_over(self, after: Duration) -> bool {
        after.as_secs_f64() >= self.ramp()
    }

    /// The mean of the share between two moments after the start.
    pub(crate) fn mean(self, from: Duration, to: Duration) -> f64 {
        let span = to.saturating_sub(from).as_secs_f64();
        if span == 0.0 {
            return self.share(to);
        }
        (self.sum(to) - self.sum(from)) / span
    }

    /// The share, summed up from the start: seconds.
    fn sum(self, until: Duration) -> f64 {
        let (ramp, until) = (self.ramp(), until.as_secs_f64());
        if until < ramp { until * until / (2.0 * ramp) } else { until - ramp / 2.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_evenly_and_then_stays() {
        let second = Duration::from_secs;
        for (ramp_ms, after, share) in
            [(10_000, 0, 0.0), (10_000, 5, 0.5), (10_000, 10, 1.0), (10_000, 99, 1.0), (0, 0, 1.0)]
        {
            assert_eq!(Rise { ramp_ms }.share(second(after)), share, "{ramp_ms} {after}");
        }
        for (ramp_ms, from, to, mean) in [
            (10_000, 0, 10, 0.5),
            (10_000, 4, 6, 0.5),
            (10_000, 0, 20, 0.75),
            (10_000, 10, 20, 1.0),
            (10_000, 5, 5, 0.5),
            (0, 0, 3, 1.0),
            (0, 2, 2, 1.0),
        ] {
            let got = Rise { ramp_ms }.mean(second(from), second(to));
            assert!((got - mean).abs() < 1e-9, "{ramp_ms} {from} {to}: {got}");
        }
    }
}

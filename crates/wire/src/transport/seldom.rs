//! What others can bring about as often as they like, told no more often than a person reads.

use std::time::{Duration, Instant};

/// The same thing is told this often at most.
const PAUSE: Duration = Duration::from_secs(10);

/// How often one thing has happened since it was last told.
#[derive(Clone, Debug, Default)]
pub struct Seldom {
    next: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// It has happened so many times more. Returns the number to tell, where it is time to.
    pub fn count(&mut self, times: u64) -> Option<u64> {
        self.count_at(Instant::now(), times)
    }

    fn count_at(&mut self, now: Instant, times: u64) -> Option<u64> {
        self.untold += times;
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + PAUSE);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_next_together() {
        let (mut seldom, began) = (Seldom::default(), Instant::now());
        let mut told =
            |after_ms, times| seldom.count_at(began + Duration::from_millis(after_ms), times);
        assert_eq!(told(0, 1), Some(1));
        assert_eq!((told(1, 1), told(9_999, 40)), (None, None));
        assert_eq!((told(10_000, 1), told(10_001, 1)), (Some(42), None));
        assert_eq!(told(60_000, 1), Some(2));
    }
}

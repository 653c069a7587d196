//! Whether one host has one agent.

use std::collections::BTreeMap;

use crate::ids::AgentRun;
use crate::time::Time;

/// An agent that is told to go away is back sooner: it pauses for five seconds at most.
pub const AWAY_MS: u64 = 15_000;

/// The lives of one host's agent. One that was replaced does not come back: where it does, two agents
/// run with one certificate, on a copied disk perhaps, and nobody can tell whose word is the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    newest: Option<AgentRun>,
    /// Those before it, and until when each was.
    earlier: BTreeMap<AgentRun, Time>,
    twins: bool,
}

impl Lives {
    /// A life says hello. False where it has a twin that was heard lately: neither may speak for the
    /// host, and what either said is in doubt.
    pub fn handle_hello(&mut self, now: Time, run: AgentRun) -> bool {
        self.earlier.retain(|_, until| now.since(*until) < AWAY_MS);
        if self.newest != Some(run) {
            self.twins |= self.earlier.remove(&run).is_some();
            self.earlier.extend(self.newest.replace(run).map(|replaced| (replaced, now)));
        }
        self.twins &= !self.earlier.is_empty();
        !self.twins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_comes_back_has_a_twin_and_neither_is_heard_until_one_is_silent() {
        let run = |n| AgentRun(uuid::Uuid::from_u128(n));
        let mut lives = Lives::default();
        let mut admits = |t, n| lives.handle_hello(Time(t), run(n));
        assert!(admits(0, 1) && admits(1_000, 2), "started anew");
        assert!(admits(1_500, 2) && admits(2_000, 3) && admits(2_500, 3), "connected anew");
        assert!(!admits(3_000, 2), "the one before the last");
        assert!(
            !admits(3_100, 3) && !admits(8_000, 2) && !admits(13_000, 3),
            "as long as both try"
        );
        assert!(!admits(18_000, 3) && !admits(27_999, 3));
        assert!(admits(28_000, 3), "the other one was silent for a while");
        assert!(admits(29_000, 2) && !admits(29_100, 3), "it is back");
    }
}

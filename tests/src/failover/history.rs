//! What clients did, when, and what came of it.

use std::fmt;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Registers that the clients share, at most: one bit of a state each.
pub const MAX_REGISTERS: usize = 32;

/// Microseconds of the machine's monotonic clock, the same in every process.
#[must_use]
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is negative on a clock that begins at boot.
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Take a host out of service or back: writes one register, and says whether that changed it.
    Set {
        /// Which register.
        register: usize,
        /// To what.
        value: bool,
        /// The command's id.
        command: uuid::Uuid,
    },
    /// All registers at once, with a quorum behind the answer.
    Read,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The write changed its register, at this place in the log.
    Changed(u64),
    /// The write found its register as it wanted it.
    Unchanged,
    /// What the read saw, one bit a register, and the last entry that it knew of.
    Saw {
        /// The registers.
        bits: u32,
        /// The entry.
        applied: u64,
    },
    /// Nobody answered a write that was sent: it may take effect at any later time, or never.
    Unknown,
    /// It came to nothing: a write that was never sent, a read that no quorum confirmed.
    Failed,
}

/// One call of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// Who asked, and of whom.
    pub who: String,
    /// What.
    pub call: Call,
    /// When the client began, by [`now_us`].
    pub invoked: u64,
    /// When it had its answer; when it gave up, where there was none.
    pub returned: u64,
    /// What came of it.
    pub answer: Answer,
}

impl Op {
    /// It has an answer that must fit into one order of all.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        match self.answer {
            Answer::Changed(_) | Answer::Unchanged | Answer::Saw { .. } => true,
            Answer::Unknown | Answer::Failed => false,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.invoked as f64 / 1e6;
        let took = self.returned.saturating_sub(self.invoked) / 1_000;
        match self.call {
            Call::Set { register, value, .. } => {
                write!(f, "{}: register {register} := {}", self.who, u8::from(value))?;
            }
            Call::Read => write!(f, "{}: read", self.who)?,
        }
        match self.answer {
            Answer::Saw { bits, applied } => write!(f, " saw {bits:b} as of entry {applied}")?,
            other => write!(f, " {other:?}")?,
        }
        write!(f, " (from {from:.3} s, {took} ms)")
    }
}

//! What must be true of every state that the world can reach: one claim a file, its source on top,
//! and a test that the check can fail.

mod digest;
mod disarmed_start;
mod ended_ids;
mod lease;
mod no_start_after_stop;
pub(crate) mod nothing_after_receipt;
mod over_is_over;
mod quorum_round;
mod receipt;
mod resume_as_shown;
mod term;
#[cfg(test)]
mod wrong;

use crate::world::World;

/// One claim.
#[derive(Clone, Copy, Debug)]
pub struct Invariant {
    /// Its name: the file's.
    pub name: &'static str,
    /// What is wrong with a world, where something is.
    pub check: fn(&World) -> Result<(), String>,
}

/// A claim that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub name: &'static str,
    /// Where and how.
    pub what: String,
}

/// All of them.
pub const ALL: [Invariant; 11] = [
    Invariant { name: "nothing-after-receipt", check: nothing_after_receipt::check },
    Invariant { name: "no-start-after-stop", check: no_start_after_stop::check },
    Invariant { name: "resume-as-shown", check: resume_as_shown::check },
    Invariant { name: "lease", check: lease::check },
    Invariant { name: "ended-ids", check: ended_ids::check },
    Invariant { name: "term", check: term::check },
    Invariant { name: "disarmed-start", check: disarmed_start::check },
    Invariant { name: "digest", check: digest::check },
    Invariant { name: "quorum-round", check: quorum_round::check },
    Invariant { name: "over-is-over", check: over_is_over::check },
    Invariant { name: "receipt", check: receipt::check },
];

/// Asks all of them of the world as it stands after a step.
///
/// # Errors
/// The first that does not hold.
pub fn check(world: &World) -> Result<(), Violation> {
    for invariant in ALL {
        (invariant.check)(world).map_err(|what| Violation { name: invariant.name, what })?;
    }
    Ok(())
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.what)
    }
}

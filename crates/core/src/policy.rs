//! The host's own last word.
use crate::fault::Fault;
use crate::hold::Protect;

/// What this host allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {}

impl Policy {
    /// Why not.
    ///
    /// # Errors
    /// The reason.
    pub fn check(&self, _: &Fault, _: u64, _: usize) -> Result<(), String> {
        Ok(())
    }
    /// What to spare.
    #[must_use]
    pub fn protect(&self) -> Protect {
        Protect::default()
    }
}

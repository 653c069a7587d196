//! Whatever a leader says to a host stands on a quorum round that began after the report which it
//! echoes had arrived.
//!
//! Source: the design, section 1 "Leased" and section 5, "only after a quorum round that *began after
//! the ask arrived*".

use crate::world::{Fact, World};

pub(super) fn check(world: &World) -> Result<(), String> {
    for fact in &world.facts {
        if let Fact::Sent { host, backed: false, .. } = fact {
            return Err(format!("{host} was told something on which no quorum stands"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::wrong;

    #[test]
    fn words_without_a_quorum_are_found() {
        assert_eq!(check(&wrong::sent(true, false, &[])), Ok(()));
        assert!(check(&wrong::sent(false, false, &[])).is_err());
    }
}

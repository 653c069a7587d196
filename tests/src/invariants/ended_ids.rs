//! (e) An ended fault id never returns: what was in place once and is gone is not put in place again,
//! by whatever order, in whatever life of the agent.
//!
//! Source: the design, section 4, "an id is applied at most once", and section 5, invariant (e).

use crate::world::{Fact, World};

pub(super) fn check(world: &World) -> Result<(), String> {
    for fact in &world.facts {
        if let Fact::Placed { host, id, returned: true } = fact {
            return Err(format!("{id} returned on {host}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::wrong;
    use crate::world::host_name;

    #[test]
    fn a_fault_that_returns_is_found() {
        let mut world = wrong::holding();
        let (host, id) = (host_name(0), wrong::fault());
        world.facts = vec![Fact::Placed { host: host.clone(), id: id.clone(), returned: false }];
        assert_eq!(check(&world), Ok(()));
        world.facts = vec![Fact::Placed { host, id, returned: true }];
        assert!(check(&world).is_err());
    }
}

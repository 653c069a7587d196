//! A leader starts nothing while a host that it hears has heard a stop which the log lacks.
//!
//! Source: the design, section 5, "the leader proposes every id that the log lacks before any further
//! start".

use crate::world::{Fact, World};

pub(super) fn check(world: &World) -> Result<(), String> {
    for fact in &world.facts {
        if let Fact::Sent { host, starts: true, lacking, .. } = fact
            && let Some(stop) = lacking.first()
        {
            return Err(format!("something starts on {host} although a host has heard {stop}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::wrong;
    use crate::world::stop_id;

    #[test]
    fn a_start_in_spite_of_a_stop_heard_elsewhere_is_found() {
        assert_eq!(check(&wrong::sent(true, true, &[])), Ok(()));
        assert_eq!(check(&wrong::sent(true, false, &[stop_id(0)])), Ok(()));
        assert!(check(&wrong::sent(true, true, &[stop_id(0)])).is_err());
    }
}

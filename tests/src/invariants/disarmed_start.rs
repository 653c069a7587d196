//! A starting agent is disarmed: it begins nothing, by order or for a person, until a leader has
//! answered this life with all stops and resumes.
//!
//! Source: the design, section 5, "A starting agent is disarmed until a leader, after a quorum round,
//! has given it all of S and R".

use crate::world::{Fact, World};

pub(super) fn check(world: &World) -> Result<(), String> {
    for fact in &world.facts {
        if let Fact::Began { host, id, synced: false, .. } = fact {
            return Err(format!("{host} begins {id} before a leader has answered this life"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use squall_core::ids::Leadership;

    use super::*;
    use crate::invariants::wrong;

    #[test]
    fn a_start_before_the_first_answer_is_found() {
        assert_eq!(check(&wrong::began(None, Leadership::default(), true)), Ok(()));
        assert!(check(&wrong::began(None, Leadership::default(), false)).is_err());
    }
}

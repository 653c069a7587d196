//! (c) A resume clears only what its operator was shown, and nothing else clears a stop.
//!
//! Source: the design, section 5, "`resume` clears only the ids that its operator was shown",
//! invariant (c).

use squall_core::registry::Command;

use crate::world::{Fact, World};

pub(super) fn check(world: &World) -> Result<(), String> {
    for fact in &world.facts {
        let Fact::Committed { command, released, .. } = fact else { continue };
        let hidden = match command {
            Command::Resume { stops, .. } => released.difference(stops).next(),
            _ => released.first(),
        };
        if let Some(stop) = hidden {
            return Err(format!("{command:?} released {stop}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::invariants::wrong;
    use crate::world::stop_id;

    #[test]
    fn a_stop_released_unseen_is_found() {
        let release = |command, stop| {
            let mut world = wrong::committed(command, true);
            if let Some(Fact::Committed { released, .. }) = world.facts.first_mut() {
                released.insert(stop);
            }
            check(&world)
        };
        let shown = [stop_id(0)].into();
        let resume = Command::Resume { stops: shown, despite: BTreeSet::new() };
        assert_eq!(release(resume.clone(), stop_id(0)), Ok(()));
        assert!(release(resume, stop_id(1)).is_err());
        assert!(release(Command::Stop(stop_id(1)), stop_id(0)).is_err());
    }
}

//! A host begins nothing by order of a leadership lower, as (term, node), than the highest of which
//! it has taken a message.
//!
//! Source: the design, section 5, "(term, node) is at least the highest seen".

use crate::world::{Fact, World};

pub(super) fn check(world: &World) -> Result<(), String> {
    for fact in &world.facts {
        if let Fact::Began { host, id, by: Some(by), obeyed, .. } = fact
            && by < obeyed
        {
            return Err(format!("{host} begins {id} by order of {by:?} after {obeyed:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use squall_core::ids::{Leadership, NodeId};

    use super::*;
    use crate::invariants::wrong;

    #[test]
    fn a_start_by_an_old_leader_is_found() {
        let lead = |term, node| Leadership { term, node: NodeId(node) };
        assert_eq!(check(&wrong::began(Some(lead(2, 1)), lead(2, 1), true)), Ok(()));
        assert!(check(&wrong::began(Some(lead(1, 2)), lead(2, 1), true)).is_err());
        assert!(check(&wrong::began(Some(lead(2, 1)), lead(2, 2), true)).is_err());
    }
}

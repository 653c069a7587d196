//! What is in place is not over in the log, and its host's share of the blast radius is reserved:
//! a fault is noted as over, and its share given back, only once it was seen gone or every lease it
//! ever had has ended.
//!
//! Source: the design, section 1 "Bounded" and section 6, "A reservation is released only when the
//! host is seen clean, or lease and deadline have passed".

use squall_core::experiment::FaultState;

use crate::world::World;

pub(super) fn check(world: &World) -> Result<(), String> {
    for host in &world.hosts {
        for id in host.holders.keys() {
            let Some(record) = world.log.registry.experiments.get(&id.experiment) else { continue };
            match record.faults.get(id) {
                Some(FaultState::Pending | FaultState::Held(_) | FaultState::Stuck(_)) => {}
                state => return Err(format!("{id} is in place, and {state:?} in the log")),
            }
            if !record.reserved.contains(&host.name) {
                return Err(format!("{id} is in place, and its host's share is given back"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::wrong;

    #[test]
    fn a_fault_that_is_over_in_the_log_only_is_found() {
        let mut world = wrong::holding();
        assert_eq!(check(&world), Ok(()));
        let id = wrong::fault();
        let known = world.log.registry.experiments.get_mut(&id.experiment).expect("it runs");
        let before = known.faults.insert(id.clone(), FaultState::Lapsed(None));
        assert!(check(&world).is_err());
        let known = world.log.registry.experiments.get_mut(&id.experiment).expect("it runs");
        known.faults.insert(id.clone(), before.expect("it is one of them"));
        known.reserved.remove(&id.host);
        assert!(check(&world).is_err());
    }
}

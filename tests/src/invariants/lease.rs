//! (d) No lease passes the ask plus the lease, by the asking host's own clock; and once it is over
//! the fault is gone, from the kernel at once, and from the agent before it does anything else.
//!
//! The bound here is the newest report that orders have answered which the host obeys. That no grant
//! stands on an older quorum is [`super::quorum_round`]'s claim.
//!
//! Source: the design, section 1 "Leased" and section 5, "The lease ends at t + lease on the agent's
//! clock", "After a clock jump of more than a lease an agent lifts first", invariant (d).

use crate::world::World;

pub(super) fn check(world: &World) -> Result<(), String> {
    for host in &world.hosts {
        for (id, holder) in &host.holders {
            let record = world.log.registry.experiments.get(&id.experiment);
            let bound = record.map(|r| host.truth.answered_ask.plus(r.experiment.safety.lease_ms));
            if bound.is_some_and(|bound| holder.until > bound) {
                return Err(format!("{id} may stay longer than one lease after the last ask"));
            }
            if holder.until.min(holder.deadline) < host.clock {
                return Err(format!("{id} is in place after its lease"));
            }
        }
        let Some(machine) = host.machine.as_ref().filter(|_| !host.truth.asleep) else { continue };
        for (id, _) in machine.holding() {
            if machine.lease_until(id).is_some_and(|until| until < host.clock) {
                return Err(format!("{} acts while the lease of {id} is over", host.name));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::wrong;
    use crate::world::Shared;

    #[test]
    fn a_lease_that_is_too_long_is_found() {
        let mut world = wrong::holding();
        assert_eq!(check(&world), Ok(()));
        for holder in world.hosts[0].holders.values_mut() {
            holder.until = holder.until.plus(1);
        }
        assert!(check(&world).is_err());
    }

    #[test]
    fn a_fault_that_outstays_its_lease_is_found() {
        let mut world = wrong::holding();
        let clock = world.hosts[0].clock.plus(5_001);
        let host: &mut Shared<_> = &mut world.hosts[0];
        host.clock = clock;
        host.truth.answered_ask = clock;
        assert!(check(&world).is_err(), "in the kernel");
        world.hosts[0].holders.clear();
        assert!(check(&world).is_err(), "in the machine");
        world.hosts[0].truth.asleep = true;
        assert_eq!(check(&world), Ok(()));
    }
}

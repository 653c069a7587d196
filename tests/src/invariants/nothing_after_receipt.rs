//! (a) From a host's receipt of a stop on, nothing is applying or held there that did not start
//! after a resume which names that stop: not in the machine once it has heard the stop, nor in the
//! kernel once it has answered that all is lifted.
//!
//! What a life has heard and not made durable may be forgotten with it; what is durable, or was in
//! the log when the life began, may not.
//!
//! Source: the design, section 1 "Fenced" and section 5, invariant (a).

use std::collections::BTreeSet;

use squall_core::ids::{FaultId, StopId};

use crate::world::{Log, World};

pub(super) fn check(world: &World) -> Result<(), String> {
    for host in &world.hosts {
        if let Some(machine) = &host.machine {
            for (id, _) in machine.holding() {
                admitted(&world.log, id, &host.truth.received)
                    .map_err(|stop| format!("{id} is applying or held after {stop} was heard"))?;
            }
        }
        for id in host.holders.keys() {
            admitted(&world.log, id, &host.truth.answered)
                .map_err(|stop| format!("{id} is in place after {stop} was answered"))?;
        }
    }
    Ok(())
}

/// Whether `id` started after resumes that named all of `stops`; a person's fault has no start in
/// the log, and needs the resumes only. Else the first stop that stands against it.
pub(crate) fn admitted(log: &Log, id: &FaultId, stops: &BTreeSet<StopId>) -> Result<(), StopId> {
    let start = log.starts.get(&id.experiment);
    let against = |stop: &&StopId| {
        log.cleared.get(stop).is_none_or(|resume| start.is_some_and(|start| start <= resume))
    };
    stops.iter().find(against).map_or(Ok(()), |stop| Err(*stop))
}

#[cfg(test)]
mod tests {
    use squall_core::ids::LogIndex;

    use super::*;
    use crate::invariants::wrong;
    use crate::world::stop_id;

    #[test]
    fn a_fault_that_stays_after_a_stop_is_found() {
        let mut world = wrong::holding();
        assert_eq!(check(&world), Ok(()));
        world.hosts[0].truth.received.insert(stop_id(0));
        assert!(check(&world).is_err());
        world.log.cleared.insert(stop_id(0), LogIndex(99));
        assert!(check(&world).is_err(), "it started before the resume");
        world.log.cleared.insert(stop_id(0), LogIndex(0));
        assert_eq!(check(&world), Ok(()));
    }

    #[test]
    fn a_fault_that_stays_in_the_kernel_after_the_answer_is_found() {
        let mut world = wrong::holding();
        world.hosts[0].machine = None;
        world.hosts[0].truth.answered.insert(stop_id(0));
        assert!(check(&world).is_err());
    }
}

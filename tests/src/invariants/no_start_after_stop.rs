//! (b) After a stop is applied in the log, and until a resume names it, no start commits: no
//! experiment is taken in, and none that was goes on towards being injected.
//!
//! Source: the design, section 5, "The state machine refuses a start while disarmed", invariant (b).

use squall_core::experiment::Phase;
use squall_core::registry::{Command, Outcome};

use crate::world::{Fact, World};

pub(super) fn check(world: &World) -> Result<(), String> {
    for fact in &world.facts {
        let Fact::Committed { command, outcome: Outcome::Done(at), stopped: true, .. } = fact
        else {
            continue;
        };
        let starts = match command {
            Command::Submit { .. } => true,
            Command::Advance { to, .. } => *to < Phase::Lifting,
            Command::Register(_)
            | Command::Drain { .. }
            | Command::CreateToken { .. }
            | Command::UseToken { .. }
            | Command::End { .. }
            | Command::Observe { .. }
            | Command::Report { .. }
            | Command::Settle { .. }
            | Command::Stop(_)
            | Command::Resume { .. }
            | Command::Forget(_)
            | Command::Barrier
            | Command::EndAll { .. } => false,
        };
        if starts {
            return Err(format!("{command:?} committed at {} while stopped", at.0));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::wrong;
    use crate::world::{experiment_id, host_name};

    #[test]
    fn a_start_while_stopped_is_found() {
        let experiment = Box::new(crate::world::experiment([host_name(0)].into_iter(), 5_000, 1));
        let id = experiment_id(1);
        let submit = Command::Submit { id, experiment };
        let go_on = Command::Advance { id, from: Phase::Preflight, to: Phase::Injecting };
        let wind_down = Command::Advance { id, from: Phase::Injecting, to: Phase::Lifting };
        assert!(check(&wrong::committed(submit.clone(), true)).is_err());
        assert!(check(&wrong::committed(go_on, true)).is_err());
        assert_eq!(check(&wrong::committed(wind_down, true)), Ok(()));
        assert_eq!(check(&wrong::committed(submit, false)), Ok(()));
    }
}

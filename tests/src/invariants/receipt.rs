//! A receipt that says durable is true: the latch is on that host's disk.
//!
//! Source: the design, section 1 "Proven" and section 5, "Only `durable` counts as done".

use crate::world::{Fact, World};

pub(super) fn check(world: &World) -> Result<(), String> {
    for fact in &world.facts {
        if let Fact::Answered { host, stop, durable: true, on_disk: false } = fact {
            return Err(format!("{host} calls its latch of {stop} durable, and it is not"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::wrong;
    use crate::world::{host_name, stop_id};

    #[test]
    fn a_receipt_that_is_not_true_is_found() {
        let mut world = wrong::holding();
        for (durable, on_disk, right) in
            [(true, true, true), (false, false, true), (true, false, false)]
        {
            let (host, stop) = (host_name(0), stop_id(0));
            world.facts = vec![Fact::Answered { host, stop, durable, on_disk }];
            assert_eq!(check(&world).is_ok(), right);
        }
    }
}

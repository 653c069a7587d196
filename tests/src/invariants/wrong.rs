//! Worlds with which to show that a check can fail.

use squall_core::ids::{FaultId, Leadership, LogIndex, StopId};
use squall_core::registry::{Command, Outcome};

use crate::model::Small;
use crate::world::{Fact, World, experiment_id, host_name};

/// The fault of the first experiment on the first host.
pub(super) fn fault() -> FaultId {
    FaultId { experiment: experiment_id(1), fault: 0, host: host_name(0) }
}

/// A world in which [`fault`] is held, and all is well.
pub(super) fn holding() -> World {
    let mut small = Small::new(2);
    for event in crate::model::tests::to_hold(0) {
        small.step(event);
    }
    assert!(small.world.hosts[0].holders.contains_key(&fault()));
    small.world.facts.clear();
    small.world
}

fn with(fact: Fact) -> World {
    let mut world = holding();
    world.facts = vec![fact];
    world
}

/// A world in which this has just taken effect.
pub(super) fn committed(command: Command, stopped: bool) -> World {
    let outcome = Outcome::Done(LogIndex(9));
    with(Fact::Committed { command, outcome, stopped, released: [].into() })
}

/// A world in which a host has just taken up [`fault`].
pub(super) fn began(by: Option<Leadership>, obeyed: Leadership, synced: bool) -> World {
    with(Fact::Began { host: host_name(0), id: fault(), by, obeyed, synced })
}

/// A world in which a leader has just said something.
pub(super) fn sent(backed: bool, starts: bool, lacking: &[StopId]) -> World {
    let lacking = lacking.iter().copied().collect();
    with(Fact::Sent { host: host_name(0), backed, starts, lacking })
}

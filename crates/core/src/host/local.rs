//! Faults that a person injects on this host alone: no leader, the person's presence is the lease.

use super::Host;
use super::fault::Live;
use crate::experiment::Why;
use crate::fault::Fault;
use crate::ids::{FaultId, LogIndex, StopId};
use crate::time::Time;

/// Why a person's fault is not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalRefusal {
    /// The host is latched.
    #[error("this host is stopped by {}: `squall resume` must name it first", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Latched(Vec<StopId>),
    /// The agent has just started, or stands in for one that does not run, and no leader has told it of
    /// stops.
    #[error(
        "no leader has told this host of stops since its agent started, or its agent does not run"
    )]
    NotSynced,
    /// The agent is being stopped.
    #[error(
        "the agent of this host is being stopped and begins nothing more: ask again once one runs"
    )]
    Leaving,
    /// The host's policy, or the parameters.
    #[error("{0}")]
    Refused(String),
}

impl LocalRefusal {
    /// Whether safety or the host's policy said no; else it may be asked again.
    #[must_use]
    pub fn by_safety(&self) -> bool {
        match self {
            LocalRefusal::Latched(_) | LocalRefusal::Refused(_) => true,
            LocalRefusal::NotSynced | LocalRefusal::Leaving => false,
        }
    }
}

impl Host {
    /// Begins a person's fault. It stays while [`Host::handle_local_renew`] comes within `lease_ms`.
    /// `asker` is the process by which the person asks; the fault spares it.
    ///
    /// # Errors
    /// Why nothing was begun.
    pub fn handle_local(
        &mut self,
        now: Time,
        id: FaultId,
        fault: Fault,
        lease_ms: u64,
        duration_ms: u64,
        asker: Option<i32>,
    ) -> Result<(), LocalRefusal> {
        self.expire(now);
        let refused = self.why_not(&fault, duration_ms, self.beside()).map(LocalRefusal::Refused);
        let refusal = match (self.disarmed(), refused) {
            // What may change by itself in a moment is told last.
            (Some(LocalRefusal::NotSynced), Some(refused)) => Some(refused),
            (disarmed, refused) => disarmed.or(refused),
        };
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let lease_until = now.plus(lease_ms);
        let mut live = Live::new(LogIndex(0), fault, lease_ms, lease_until, now, duration_ms);
        live.local = true;
        live.asker = asker;
        self.begin(id, live);
        Ok(())
    }

    /// The person is still there.
    pub fn handle_local_renew(&mut self, now: Time, id: &FaultId) {
        self.expire(now);
        let Some(live) = self.live.get_mut(id) else { return };
        if !live.local || live.is_reverting() {
            return;
        }
        live.lease_until = now.plus(live.lease_ms).min(live.deadline);
        if live.may_be_in_place() {
            let until = live.lease_until;
            self.actions.push_back(super::Action::Renew(id.clone(), until));
        }
    }

    /// The person wants it gone.
    pub fn handle_local_lift(&mut self, now: Time, id: &FaultId) {
        self.expire(now);
        self.revert(now, id, Why::Order);
    }

    /// Lifts everything on this host at a person's word. What a leader had ordered is lost to it.
    pub fn handle_lift_all(&mut self, now: Time) {
        self.lift_all(now, &Why::Lifted);
    }

    /// The agent is to stop: lifts everything as at a person's word, and begins nothing more.
    pub fn handle_leaving(&mut self, now: Time) {
        self.leaving = true;
        self.lift_all(now, &Why::Leaving);
    }

    fn lift_all(&mut self, now: Time, why: &Why) {
        self.expire(now);
        let all: Vec<_> = self.live.iter().map(|(id, live)| (id.clone(), live.local)).collect();
        for (id, local) in all {
            self.revert(now, &id, if local { Why::Order } else { why.clone() });
        }
    }

    /// How a local fault ended, once it has; asking forgets it.
    pub fn take_ended(&mut self, id: &FaultId) -> Option<crate::message::FaultReport> {
        let over = self.over.get(id).cloned();
        self.forget(std::slice::from_ref(id));
        over
    }
}

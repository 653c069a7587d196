//! The end: what nobody knows is asked again, registers are cleared, and every acknowledged write is
//! shown to be on every coordinator.

use std::sync::Arc;
use std::time::Duration;

use squall_core::ids::LogIndex;
use squall_core::message::Response;
use squall_core::registry::Outcome;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use super::Crowd;
use super::writers::ROUND;
use crate::failover::history::{Answer, Call, Op, now_us};

/// How long coordinators have to come back and catch up.
const COME_BACK_US: u64 = 20_000_000;
const AGAIN: Duration = Duration::from_millis(50);
/// Questions under way at one coordinator, at most: it takes 32 streams of an operator.
const AT_ONCE: usize = 16;

impl Crowd {
    /// The registers, once a quorum confirms them.
    pub(super) async fn settled_bits(&self) -> Result<u32, String> {
        let began = now_us();
        while now_us() - began < COME_BACK_US {
            for at in 0..self.reads.count() {
                if let Some(bits) = self.read(at).await {
                    // Not part of the history: it begins here.
                    self.found().ops.clear();
                    return Ok(bits);
                }
            }
            sleep(AGAIN).await;
        }
        Err("no read was confirmed".into())
    }

    /// Asks again for every write of which nobody knows, under its id: where it had taken effect the
    /// answer is from then, else it takes effect now. Returns how many there were.
    pub(super) async fn ask_again(self: &Arc<Self>) -> usize {
        let unknown: Vec<(usize, Call)> = {
            let found = self.found();
            let all = found.ops.iter().enumerate();
            all.filter(|(_, op)| op.answer == Answer::Unknown).map(|(n, op)| (n, op.call)).collect()
        };
        for (n, call) in &unknown {
            let answer = self.demand(*call).await;
            let op = &mut self.found().ops[*n];
            (op.answer, op.returned) = (answer, now_us());
        }
        unknown.len()
    }

    /// Sets every register to 0, then reads them from every coordinator.
    pub(super) async fn clear(self: &Arc<Self>) -> Result<(), String> {
        for register in 0..self.orders.hosts.len() {
            let command = Uuid::from_u128(rand::random());
            let call = Call::Set { register, value: false, command };
            if !self.insist("last", call).await {
                return Err("no quorum came back".into());
            }
        }
        self.read_all().await
    }

    /// Reads the registers from every coordinator, on record.
    pub(super) async fn read_all(self: &Arc<Self>) -> Result<(), String> {
        for at in 0..self.reads.count() {
            let began = now_us();
            while self.read(at).await.is_none() {
                if now_us() - began > COME_BACK_US {
                    return Err(format!("{} confirms no read any more", self.reads.name(at)));
                }
                sleep(AGAIN).await;
            }
        }
        Ok(())
    }

    /// Asks every coordinator for the outcome of every acknowledged write, by its id. One that has
    /// applied it answers from what it remembers; a follower that has not names its leader, and a
    /// leader that has not proposes it anew, at another place.
    pub(super) async fn prove(self: &Arc<Self>) -> Vec<String> {
        let acknowledged: Vec<(Op, Outcome)> = {
            let found = self.found();
            let outcome = |op: &Op| match op.answer {
                Answer::Changed(index) => Some((op.clone(), Outcome::Done(LogIndex(index)))),
                Answer::Unchanged => Some((op.clone(), Outcome::Unchanged)),
                Answer::Saw { .. } | Answer::Unknown | Answer::Failed => None,
            };
            found.ops.iter().filter_map(outcome).collect()
        };
        let mut asking = JoinSet::new();
        for at in 0..self.writes.count() {
            let slots = Arc::new(Semaphore::new(AT_ONCE));
            for one in &acknowledged {
                let ((op, outcome), crowd, slots) = (one.clone(), self.clone(), slots.clone());
                asking.spawn(async move {
                    let _slot = slots.acquire().await.expect("it is never closed");
                    crowd.knows(at, &op, &outcome).await
                });
            }
        }
        let lost = asking.join_all().await;
        lost.into_iter().filter_map(Result::err).collect()
    }

    async fn knows(&self, at: usize, op: &Op, outcome: &Outcome) -> Result<(), String> {
        let Some(request) = self.drain(op.call) else { return Ok(()) };
        let began = now_us();
        loop {
            let said = match self.writes.ask(at, &request, ROUND).await {
                Ok(Response::Outcome(found)) if found == *outcome => return Ok(()),
                Ok(Response::Outcome(found)) => {
                    return Err(format!("{op}: {} says {found:?}", self.writes.name(at)));
                }
                Ok(Response::NotLeader(_)) => "does not know it",
                Ok(_) | Err(_) => "does not answer",
            };
            if now_us() - began > COME_BACK_US {
                return Err(format!("{op}: {} {said}", self.writes.name(at)));
            }
            sleep(AGAIN).await;
        }
    }
}

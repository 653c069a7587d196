//! Those who read.

use std::sync::Arc;
use std::time::Duration;

use squall_core::ids::HostName;
use squall_core::message::{Request, Response, Status};
use tokio::task::JoinSet;
use tokio::time::interval;

use super::{Crowd, Probe};
use crate::failover::history::{Answer, Call, now_us};
use crate::failover::ways::Silence;

/// Between two reads of one coordinator, how many may wait there, and how long one waits. Questions
/// must outlive a freeze.
const READ_EVERY: Duration = Duration::from_millis(125);
const MAX_READS: usize = 24;
const READ: Duration = Duration::from_secs(7);
/// Between two probes, and how long one waits.
const PROBE_EVERY: Duration = Duration::from_millis(40);
const PROBE: Duration = Duration::from_millis(700);

impl Crowd {
    pub(super) async fn reader(self: Arc<Self>, at: usize) {
        let mut tick = interval(READ_EVERY);
        let mut waiting = JoinSet::new();
        while !self.is_over() {
            tick.tick().await;
            while waiting.try_join_next().is_some() {}
            if waiting.len() < MAX_READS {
                let crowd = self.clone();
                waiting.spawn(async move { crowd.read(at).await });
            }
        }
        while waiting.join_next().await.is_some() {}
    }

    /// One confirmed read of one coordinator, put on record.
    pub(super) async fn read(&self, at: usize) -> Option<u32> {
        let invoked = now_us();
        let answer = match self.reads.ask(at, &Request::Status, READ).await {
            Ok(Response::Status(status)) if status.confirmed => {
                Answer::Saw { bits: bits(&status, &self.orders.hosts), applied: status.applied.0 }
            }
            Ok(_) | Err(Silence { .. }) => Answer::Failed,
        };
        self.note(format!("reader of {}", self.reads.name(at)), Call::Read, invoked, answer);
        match answer {
            Answer::Saw { bits, .. } => Some(bits),
            Answer::Changed(_) | Answer::Unchanged | Answer::Unknown | Answer::Failed => None,
        }
    }

    /// Asks all at once, whatever became of the probes before.
    pub(super) async fn prober(self: Arc<Self>) {
        let mut tick = interval(PROBE_EVERY);
        let mut waiting = JoinSet::new();
        while !self.is_over() {
            tick.tick().await;
            while waiting.try_join_next().is_some() {}
            for at in 0..self.probes.count() {
                let crowd = self.clone();
                waiting.spawn(async move {
                    let invoked = now_us();
                    let answer = crowd.probes.ask(at, &Request::List, PROBE).await;
                    if let Ok(Response::Experiments { confirmed: true, .. }) = answer {
                        crowd.found().probes.push(Probe { invoked, returned: now_us() });
                    }
                });
            }
        }
    }
}

/// The registers as a status shows them.
fn bits(status: &Status, hosts: &[HostName]) -> u32 {
    let drained =
        |name: &HostName| status.hosts.iter().any(|h| h.host.name == *name && h.host.drained);
    hosts.iter().enumerate().map(|(n, name)| u32::from(drained(name)) << n).sum()
}

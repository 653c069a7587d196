//! The person who stops everything, and the watch in his hand.

use std::time::{Duration, Instant};

use squall_core::ids::StopId;
use squall_core::message::{Latched, Request, Response, Status, StopProgress};
use squall_wire::{Channel, Connection, Endpoint};
use uuid::Uuid;

use crate::{Failure, Outcome};

/// A stop-all takes the longest lease and a little at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to one coordinator.
pub struct Operator {
    pub _endpoint: Endpoint,
    pub connection: Connection,
    /// The place of that coordinator in the list of all.
    pub leader: usize,
}

/// One stop-all, as it was seen.
pub struct Stopped {
    /// Until every host's durable receipt was seen; `None` where one was missing to the end.
    pub took: Option<Duration>,
    /// Durable, clean receipts in the last answer.
    pub receipts: usize,
    /// It was in the log when the last answer was given.
    pub committed: bool,
}

impl Operator {
    /// The cluster as this coordinator sees it.
    pub async fn status(&self) -> Outcome<Status> {
        match Channel::request(&self.connection, &Request::Status).await? {
            Response::Status(status) => Ok(*status),
            other => Err(format!("no status: {other:?}").into()),
        }
    }

    /// Stops all `n` hosts with a new stop, and waits for the last word.
    pub async fn stop_all(&self, n: usize) -> Outcome<Stopped> {
        let mut channel = self.connection.open().await?;
        let stop = StopId(Uuid::from_u128(rand::random()));
        let began = Instant::now();
        channel.send(&Request::StopAll(stop)).await?;
        let mut took = None;
        loop {
            let next = tokio::time::timeout(PATIENCE, channel.recv::<Response>()).await??;
            let progress = match next {
                Some(Response::Stop(progress)) => progress,
                other => return Err(format!("no word on the stop: {other:?}").into()),
            };
            if progress.stop != stop || progress.hosts.len() != n {
                return Err(Failure::from("the answer is about something else"));
            }
            let receipts = durable(&progress);
            if receipts == n && took.is_none() {
                took = Some(began.elapsed());
            }
            if progress.last {
                return Ok(Stopped { took, receipts, committed: progress.committed });
            }
        }
    }
}

fn durable(progress: &StopProgress) -> usize {
    let receipts = progress.hosts.iter().filter_map(|h| h.receipt.as_ref());
    receipts.filter(|r| r.latched == Latched::Durable && r.residue.is_empty()).count()
}

//! Sending to many agents without waiting for any.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use squall_wire::{Sender, WireError};

/// Bytes kept for an agent that does not take them, at most. Then its connection is dropped: it
/// comes back and is told everything anew.
const MAX_BACKLOG: usize = 4 << 20;

type Flush = Pin<Box<dyn Future<Output = (u64, Sender, Result<(), WireError>)> + Send>>;

#[derive(Default)]
struct Outbox {
    /// Away while it is being flushed.
    sender: Option<Sender>,
    backlog: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// The sending halves of all control streams, by the number of their connection.
#[derive(Default)]
pub(crate) struct Outboxes {
    all: BTreeMap<u64, Outbox>,
    flushing: FuturesUnordered<Flush>,
}

impl Outboxes {
    pub(crate) fn add(&mut self, connection: u64, sender: Sender) {
        self.all.insert(connection, Outbox { sender: Some(sender), ..Outbox::default() });
    }

    /// Forgets a connection; its stream ends.
    pub(crate) fn remove(&mut self, connection: u64) {
        self.all.remove(&connection);
    }

    /// Sends what is encoded already, or keeps it until the agent takes more. Never waits. False
    /// where the connection is of no further use; it is forgotten then.
    pub(crate) fn send(&mut self, connection: u64, encoded: &[u8]) -> bool {
        let Some(outbox) = self.all.get_mut(&connection) else { return false };
        let Some(mut sender) = outbox.sender.take() else {
            outbox.bytes += encoded.len();
            outbox.backlog.push_back(encoded.to_vec());
            if outbox.bytes > MAX_BACKLOG {
                self.all.remove(&connection);
                return false;
            }
            return true;
        };
        match sender.queue(encoded) {
            Ok(()) => self.put_back(connection, sender),
            Err(error) => {
                tracing::debug!(connection, %error, "an agent's stream is over");
                self.all.remove(&connection);
                return false;
            }
        }
        true
    }

    /// Drives what could not be sent at once. Returns the connection whose stream turned out to be
    /// over. Pending for ever where nothing waits; safe to drop.
    pub(crate) async fn flushed(&mut self) -> Option<u64> {
        let Some((connection, sender, result)) = self.flushing.next().await else {
            return std::future::pending().await;
        };
        let outbox = self.all.get_mut(&connection)?;
        if result.is_err() {
            self.all.remove(&connection);
            return Some(connection);
        }
        let mut sender = sender;
        outbox.bytes = 0;
        for encoded in std::mem::take(&mut outbox.backlog) {
            if sender.queue(&encoded).is_err() {
                self.all.remove(&connection);
                return Some(connection);
            }
        }
        self.put_back(connection, sender);
        None
    }

    fn put_back(&mut self, connection: u64, mut sender: Sender) {
        if sender.flush().now_or_never().is_some() {
            if let Some(outbox) = self.all.get_mut(&connection) {
                outbox.sender = Some(sender);
            }
            return;
        }
        self.flushing.push(Box::pin(async move {
            let result = sender.flush().await;
            (connection, sender, result)
        }));
    }
}

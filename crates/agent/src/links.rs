//! One long-lived control stream to every coordinator, kept up by a task each.

use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use squall_core::ids::NodeId;
use squall_core::message::{FromAgent, ToAgent};
use squall_wire::{Endpoint, Role, WireError};
use tokio::sync::mpsc;

use crate::config::CoordinatorAddress;

/// The first pause after a lost connection, and the longest; each pause is drawn at random between
/// half of it and all of it, so that a fleet does not come back in step.
const BACKOFF_MS: std::ops::RangeInclusive<u64> = 100..=5_000;
/// Messages that may wait for a connected coordinator that does not read.
const QUEUE: usize = 256;

/// What a link has to say.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The stream to this coordinator is open and its hello was answered: say who we are.
    Up(NodeId),
    /// A message of this coordinator.
    Said(NodeId, Box<ToAgent>),
}

/// One coordinator.
pub(crate) struct Link {
    pub node: NodeId,
    queue: mpsc::Sender<FromAgent>,
    task: tokio::task::JoinHandle<()>,
}

impl Link {
    /// Keeps a stream to `coordinator` for as long as the value lives.
    pub(crate) fn spawn(
        endpoint: Endpoint,
        coordinator: CoordinatorAddress,
        events: mpsc::Sender<LinkEvent>,
    ) -> Link {
        let (queue, inbox) = mpsc::channel(QUEUE);
        let node = coordinator.node();
        let task = tokio::spawn(keep(endpoint, coordinator, inbox, events));
        Link { node, queue, task }
    }

    /// Sends where there is room. A coordinator that does not read misses reports, which repeat.
    pub(crate) fn send(&self, message: FromAgent) {
        if self.queue.try_send(message).is_err() {
            tracing::debug!(node = %self.node, "no room towards this coordinator");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(
    endpoint: Endpoint,
    coordinator: CoordinatorAddress,
    mut inbox: mpsc::Receiver<FromAgent>,
    events: mpsc::Sender<LinkEvent>,
) {
    let mut pause_ms = *BACKOFF_MS.start();
    loop {
        let mut was_up = false;
        let ended = session(&endpoint, &coordinator, &mut inbox, &events, &mut was_up).await;
        if events.is_closed() {
            return;
        }
        if was_up {
            pause_ms = *BACKOFF_MS.start();
        }
        let drawn = rand::rng().random_range(pause_ms / 2..=pause_ms);
        tracing::info!(name = coordinator.name, why = %ended, retry_ms = drawn, "no coordinator");
        pause_ms = (pause_ms * 2).min(*BACKOFF_MS.end());
        tokio::time::sleep(Duration::from_millis(drawn)).await;
        // What waited for the old stream is stale.
        while inbox.try_recv().is_ok() {}
    }
}

async fn session(
    endpoint: &Endpoint,
    coordinator: &CoordinatorAddress,
    inbox: &mut mpsc::Receiver<FromAgent>,
    events: &mpsc::Sender<LinkEvent>,
    was_up: &mut bool,
) -> WireError {
    match converse(endpoint, coordinator, inbox, events, was_up).await {
        Ok(()) => WireError::Closed("the agent is stopping".into()),
        Err(error) => error,
    }
}

async fn converse(
    endpoint: &Endpoint,
    coordinator: &CoordinatorAddress,
    inbox: &mut mpsc::Receiver<FromAgent>,
    events: &mpsc::Sender<LinkEvent>,
    was_up: &mut bool,
) -> Result<(), WireError> {
    let address: SocketAddr = coordinator.address;
    let connection = endpoint.connect(address, Role::Coordinator, &coordinator.name).await?;
    let (mut sender, mut receiver) = connection.open().await?.split();
    *was_up = true;
    tracing::info!(name = coordinator.name, %address, "coordinator connected");
    let node = coordinator.node();
    if events.send(LinkEvent::Up(node)).await.is_err() {
        return Ok(());
    }
    loop {
        tokio::select! {
            queued = inbox.recv() => match queued {
                Some(message) => sender.send(&message).await?,
                None => return Ok(()),
            },
            said = receiver.recv::<ToAgent>() => match said? {
                Some(message) => {
                    if events.send(LinkEvent::Said(node, Box::new(message))).await.is_err() {
                        return Ok(());
                    }
                }
                None => return Err(WireError::Closed("the coordinator closed the stream".into())),
            },
        }
    }
}

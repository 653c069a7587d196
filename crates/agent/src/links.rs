//! One long-lived control stream to every coordinator, kept up by a task each.

use std::sync::Arc;
use std::time::Duration;

use squall_core::ids::NodeId;
use squall_core::message::{FromAgent, ToAgent};
use squall_core::time::Time;
use squall_faults::clock;
use squall_wire::{Endpoint, Receiver, Role, Sender, WireError};
use tokio::sync::{mpsc, watch};

use squall_core::ids::Coordinator;

/// The first pause after a lost connection, and the longest; each pause is drawn at random between
/// half of it and all of it, so that a fleet does not come back in step.
const BACKOFF_MS: std::ops::RangeInclusive<u64> = 100..=5_000;
/// Words that must not be left out (hellos, stops, receipts) that may wait for a coordinator.
const QUEUE: usize = 256;
/// A coordinator that takes nothing for so long is connected anew.
const STUCK: Duration = Duration::from_secs(10);

/// What a link has to say.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The stream to this coordinator is open and its hello was answered: say who we are.
    Up(NodeId),
    /// A message of this coordinator, and when it arrived: it may wait for the driver.
    Said(NodeId, Time, Box<ToAgent>),
}

/// The newest report; one that a coordinator has not taken gives way to the next.
type Newest = Option<Arc<FromAgent>>;

/// One coordinator.
pub(crate) struct Link {
    pub node: NodeId,
    words: mpsc::Sender<FromAgent>,
    report: watch::Sender<Newest>,
    task: tokio::task::JoinHandle<()>,
}

impl Link {
    /// Keeps a stream to `coordinator` for as long as the value lives.
    pub(crate) fn spawn(
        endpoint: Endpoint,
        coordinator: Coordinator,
        events: mpsc::Sender<LinkEvent>,
    ) -> Link {
        let (words, inbox) = mpsc::channel(QUEUE);
        let (report, newest) = watch::channel(None);
        let node = coordinator.id;
        let keeper = Keeper { endpoint, coordinator, inbox, newest, events };
        Link { node, words, report, task: tokio::spawn(keeper.run()) }
    }

    /// Sends behind everything else that was given to this function. While there is no connection,
    /// and where a coordinator has left [`QUEUE`] others unread, the words are lost: the driver says
    /// what still matters again at [`LinkEvent::Up`].
    pub(crate) fn send(&self, words: FromAgent) {
        if self.words.try_send(words).is_err() {
            tracing::warn!(node = %self.node, "this coordinator does not take what is said");
        }
    }

    /// Sends the report as soon as there is room, unless a newer one comes first.
    pub(crate) fn report(&self, report: Arc<FromAgent>) {
        self.report.send_replace(Some(report));
    }

    /// Sends what waits and ends the stream in order.
    pub(crate) fn close(self) -> impl Future<Output = ()> {
        let Link { words, report, task, .. } = self;
        drop((words, report));
        async move {
            let _ = task.await;
        }
    }
}

struct Keeper {
    endpoint: Endpoint,
    coordinator: Coordinator,
    inbox: mpsc::Receiver<FromAgent>,
    newest: watch::Receiver<Newest>,
    events: mpsc::Sender<LinkEvent>,
}

impl Keeper {
    /// Runs until the link or the driver is dropped.
    async fn run(mut self) {
        let mut pause_ms = *BACKOFF_MS.start();
        loop {
            let mut was_up = false;
            let ended = self.session(&mut was_up).await;
            if self.is_over() {
                return;
            }
            if was_up {
                pause_ms = *BACKOFF_MS.start();
            }
            let retry_ms = rand::random_range(pause_ms / 2..=pause_ms);
            let name = &self.coordinator.name;
            match ended {
                Err(why) => tracing::info!(%name, %why, retry_ms, "no coordinator"),
                Ok(()) => tracing::info!(%name, retry_ms, "the coordinator ended the stream"),
            }
            pause_ms = (pause_ms * 2).min(*BACKOFF_MS.end());
            let pause = tokio::time::sleep(Duration::from_millis(retry_ms));
            tokio::pin!(pause);
            loop {
                // What is said meanwhile is stale once somebody listens.
                tokio::select! {
                    () = &mut pause => break,
                    words = self.inbox.recv() => if words.is_none() { return },
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.events.is_closed() || self.inbox.is_closed()
    }

    /// One connection, from its opening to its end.
    async fn session(&mut self, was_up: &mut bool) -> Result<(), WireError> {
        let Coordinator { id: node, ref name, address } = self.coordinator;
        let connection = self.endpoint.connect(address, Role::Coordinator, name.as_str()).await?;
        let (sender, receiver) = connection.open().await?.split();
        while self.inbox.try_recv().is_ok() {}
        self.newest.mark_unchanged();
        *was_up = true;
        tracing::info!(%name, %address, "coordinator connected");
        if self.events.send(LinkEvent::Up(node)).await.is_err() {
            return Ok(());
        }
        // Side by side, so that neither direction waits for the other.
        let (inbox, newest) = (&mut self.inbox, &mut self.newest);
        tokio::select! {
            ended = hear(receiver, node, &self.events) => ended,
            ended = speak(sender, inbox, newest) => ended,
        }
    }
}

async fn hear(
    mut receiver: Receiver,
    node: NodeId,
    events: &mpsc::Sender<LinkEvent>,
) -> Result<(), WireError> {
    while let Some(said) = receiver.recv::<ToAgent>().await? {
        if events.send(LinkEvent::Said(node, clock::now(), Box::new(said))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends what is given to it, from the driver's hello on: what was said before that was meant for an
/// earlier stream. When nothing more will come it says so, and waits for the coordinator to end the
/// connection: only then has everything arrived.
async fn speak(
    mut sender: Sender,
    inbox: &mut mpsc::Receiver<FromAgent>,
    newest: &mut watch::Receiver<Newest>,
) -> Result<(), WireError> {
    let mut greeted = false;
    loop {
        tokio::select! {
            biased;
            words = inbox.recv() => match words {
                Some(words) => {
                    greeted |= matches!(words, FromAgent::Hello(_));
                    if greeted {
                        send(&mut sender, &words).await?;
                    }
                }
                None => break,
            },
            Ok(()) = newest.changed(), if greeted => send_newest(&mut sender, newest).await?,
        }
    }
    if newest.changed().await.is_ok() && greeted {
        send_newest(&mut sender, newest).await?;
    }
    sender.finish();
    std::future::pending().await
}

async fn send_newest(
    sender: &mut Sender,
    newest: &mut watch::Receiver<Newest>,
) -> Result<(), WireError> {
    let report = newest.borrow_and_update().clone();
    match report {
        Some(report) => send(sender, &report).await,
        None => Ok(()),
    }
}

async fn send(sender: &mut Sender, words: &FromAgent) -> Result<(), WireError> {
    match tokio::time::timeout(STUCK, sender.send(words)).await {
        Ok(sent) => sent,
        Err(_) => {
            let why = format!("nothing was taken within {} s", STUCK.as_secs());
            Err(WireError::Lost(why))
        }
    }
}

//! The connections to the other coordinators: one to each, kept up in the background.

use std::sync::Arc;
use std::time::Duration;

use squall_core::ids::{Coordinator, NodeId};
use squall_core::message::{FromCoordinator, ToCoordinator};
use squall_wire::{Channel, Connection, Endpoint, Role, WireError};
use tokio::sync::watch;

use crate::config::Config;

/// How long one attempt to connect may take; a new one begins with fresh timers, so that a healed
/// path is used soon.
const CONNECT: Duration = Duration::from_millis(1_500);
/// The pause after the first failed attempt; it doubles to the longest one, each time with a random
/// factor of 0.5 to 1.5, so that many nodes do not knock at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(1_000);

/// Why another coordinator did not answer. What was asked may have taken effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no connection; nothing was sent.
    #[error("coordinator {0} is not connected")]
    NotConnected(String),
    /// The connection or the channel broke.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It said that it cannot.
    #[error("coordinator {0}: {1}")]
    Failed(String, String),
}

/// The connection to one other coordinator.
pub(crate) struct Link {
    pub member: Coordinator,
    current: watch::Receiver<Option<Connection>>,
}

impl Link {
    /// Asks on a channel of its own and waits for the answer. There is no time limit.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn call(&self, message: &FromCoordinator) -> Result<ToCoordinator, CallError> {
        let connection = self.current.borrow().clone();
        let Some(connection) = connection else {
            return Err(CallError::NotConnected(self.member.name.to_string()));
        };
        match Channel::request(&connection, message).await? {
            ToCoordinator::Failed(why) => Err(CallError::Failed(self.member.name.to_string(), why)),
            answer => Ok(answer),
        }
    }
}

/// All of them.
#[derive(Clone)]
pub(crate) struct Links(Arc<Vec<Arc<Link>>>);

impl Links {
    /// Begins to connect to every other coordinator, and again whenever one is lost, until `stop`
    /// changes.
    pub(crate) fn start(
        config: &Config,
        endpoint: &Endpoint,
        stop: &watch::Receiver<bool>,
    ) -> Links {
        let start = |member: &Coordinator| {
            let (sender, current) = watch::channel(None);
            let mut stop = stop.clone();
            let (endpoint, to) = (endpoint.clone(), member.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = keep_up(&endpoint, &to, &sender) => {}
                    _ = stop.changed() => {}
                }
            });
            Arc::new(Link { member: member.clone(), current })
        };
        Links(Arc::new(config.others().map(start).collect()))
    }

    pub(crate) fn all(&self) -> &[Arc<Link>] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&Arc<Link>> {
        self.0.iter().find(|link| link.member.id == id)
    }
}

async fn keep_up(
    endpoint: &Endpoint,
    to: &Coordinator,
    current: &watch::Sender<Option<Connection>>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let connect = endpoint.connect(to.address, Role::Coordinator, to.name.as_str());
        match tokio::time::timeout(CONNECT, connect).await {
            Ok(Ok(connection)) => {
                tracing::info!(name = %to.name, "connected to a coordinator");
                pause = FIRST_PAUSE;
                current.send_replace(Some(connection.clone()));
                let why = connection.closed().await;
                current.send_replace(None);
                tracing::info!(name = %to.name, why, "lost a coordinator");
            }
            Ok(Err(error)) => {
                tracing::debug!(name = %to.name, %error, "cannot connect to a coordinator");
            }
            Err(_) => tracing::debug!(name = %to.name, "no answer from a coordinator"),
        }
        let jittered = pause.mul_f64(rand::random_range(0.5..1.5));
        tokio::time::sleep(jittered).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

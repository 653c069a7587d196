//! One operator's way to each coordinator: a connection that is kept, one channel a question.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_core::message::{Request, Response};
use squall_wire::{Channel, Connection, Endpoint, EndpointOptions, Identity, Role};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a connection may take: a coordinator that runs answers far sooner.
const CONNECT: Duration = Duration::from_millis(700);

/// A coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// No answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The question had been sent, or begun to be: it may have taken effect.
    pub sent: bool,
}

/// Connections to all coordinators.
pub struct Ways {
    endpoint: Endpoint,
    members: Vec<Member>,
    current: Vec<Mutex<Option<Connection>>>,
}

impl Ways {
    /// Binds a socket.
    ///
    /// # Errors
    /// It cannot be bound.
    pub fn new(identity: &Identity, members: &[Member]) -> Result<Ways, String> {
        let any: SocketAddr = match members.first().map(|m| m.address) {
            Some(SocketAddr::V6(_)) => ([0_u16; 8], 0).into(),
            Some(SocketAddr::V4(_)) | None => ([0_u8; 4], 0).into(),
        };
        let options = EndpointOptions { role: Role::Operator, bind: any, mark: None };
        let endpoint = Endpoint::bind(identity.clone(), options).map_err(|e| e.to_string())?;
        let current = members.iter().map(|_| Mutex::default()).collect();
        Ok(Ways { endpoint, members: members.to_vec(), current })
    }

    /// How many coordinators there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self, at: usize) -> &str {
        &self.members[at].name
    }

    /// Asks one coordinator, for at most so long, connecting included.
    ///
    /// # Errors
    /// No answer came.
    pub async fn ask(
        &self,
        at: usize,
        question: &Request,
        within: Duration,
    ) -> Result<Response, Silence> {
        let sent = AtomicBool::new(false);
        let exchange = async {
            let connection = self.connection(at).await?;
            sent.store(true, Ordering::Relaxed);
            match Channel::request(&connection, question).await {
                Ok(answer) => Some(answer),
                Err(_) => {
                    let mut current = self.current[at].lock().await;
                    if current.as_ref().is_some_and(|c| c.id() == connection.id()) {
                        *current = None;
                    }
                    None
                }
            }
        };
        let answer = timeout(within, exchange).await.ok().flatten();
        answer.ok_or_else(|| Silence { sent: sent.load(Ordering::Relaxed) })
    }

    async fn connection(&self, at: usize) -> Option<Connection> {
        let mut current = self.current[at].lock().await;
        if current.is_none() {
            let Member { name, address } = &self.members[at];
            let connect = self.endpoint.connect(*address, Role::Coordinator, name);
            *current = timeout(CONNECT, connect).await.ok().and_then(Result::ok);
        }
        current.clone()
    }
}

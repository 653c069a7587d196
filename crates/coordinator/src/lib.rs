//! What does the cluster agree on, and what is left to do?
//!
//! A coordinator is one member of a raft group of three or five. It keeps a control stream of every
//! agent, answers operators, and, while it leads, drives experiments. All rules are in
//! `squall_core`; here are the drivers.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod clock;
mod config;
mod driver;
mod links;
mod network;
mod newcomer;
mod node;
mod outbox;
mod raft;
mod server;
mod sessions;
mod stops;
mod store;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use squall_core::probe::Prober;
use squall_wire::transport::EndpointOptions;
use squall_wire::{Endpoint, Identity, IdentityError, Role, WireError};
use tokio::sync::{mpsc, watch};

pub use config::{Config, DEFAULT_PORT, InvalidConfig, MAX_COORDINATORS};
pub use store::StoreError;

use driver::Driver;
use links::Links;
use network::Network;
use newcomer::Newcomer;
use node::{Node, Parts};
use stops::Stops;
use store::Store;

/// How long the end waits for peers to be told and the store to be closed.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why a coordinator did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The configuration cannot be run.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The certificate cannot be used.
    #[error("identity: {0}")]
    Identity(#[from] IdentityError),
    /// The certificate is somebody else's.
    #[error("the certificate in {} is for {found}, not for coordinator {name}", dir.display())]
    WrongIdentity {
        /// Where it is.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Who this is to be.
        name: String,
    },
    /// The address cannot be bound.
    #[error("cannot listen: {0}")]
    Listen(#[source] WireError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file of stops cannot be opened.
    #[error("stops in {}: {source}", dir.display())]
    Stops {
        /// The state directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Raft could not begin, or ended: most often the disk is full or failing. What was
    /// acknowledged is safe with the other coordinators.
    #[error("consensus, whose store is in {dir}, has ended: {why}", dir = dir.display())]
    Consensus {
        /// The state directory.
        dir: PathBuf,
        /// Why.
        why: String,
    },
}

/// Runs a coordinator until `shutdown` resolves; `prober` runs the probes that experiments want of the
/// coordinators.
///
/// # Errors
/// Why it did not start, or why it could not go on. Nothing that was acknowledged is lost.
pub async fn run(
    config: Config,
    prober: Box<dyn Prober>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), CoordinatorError> {
    config.validate()?;
    let identity = Identity::load(&config.identity_dir)?;
    let peer = identity.peer();
    if peer.role != Role::Coordinator || peer.name != config.name.as_str() {
        return Err(CoordinatorError::WrongIdentity {
            dir: config.identity_dir,
            found: peer.to_string(),
            name: config.name.to_string(),
        });
    }
    // The store first: a second process on the same directory must be told that, not that the port
    // is taken, and must not answer anybody.
    let state_dir = config.state_dir.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(&state_dir))
        .await
        .map_err(|e| consensus(&config)(e.to_string()))??;
    let mark = config.mark.then_some(squall_core::hold::CONTROL_MARK);
    let options = EndpointOptions { role: Role::Coordinator, bind: config.listen, mark };
    let endpoint = Endpoint::bind(identity.clone(), options).map_err(CoordinatorError::Listen)?;
    serve(config, identity, store, endpoint, prober, shutdown).await
}

fn consensus(config: &Config) -> impl FnOnce(String) -> CoordinatorError + use<> {
    let dir = config.state_dir.clone();
    |why| CoordinatorError::Consensus { dir, why }
}

/// Serves on an endpoint that is bound already.
async fn serve(
    config: Config,
    identity: Identity,
    store: Store,
    endpoint: Endpoint,
    prober: Box<dyn Prober>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), CoordinatorError> {
    let stops = Stops::open(&config.state_dir, &identity)
        .map_err(|source| CoordinatorError::Stops { dir: config.state_dir.clone(), source })?;
    let Store { log, machine, applied, mark, closed, mut health } = store;
    let (stop, stopped) = watch::channel(false);
    let links = Links::start(&config, &endpoint, &stopped);
    let newcomer = Arc::new(Newcomer::new(mark));
    let network = Network { links: links.clone(), newcomer: newcomer.clone() };
    let settings = raft::validated(&identity.peer().cluster);
    let raft = store::types::Raft::new(config.id.0, settings, network, log, machine)
        .await
        .map_err(|e| consensus(&config)(e.to_string()))?;
    let ended = consensus(&config);
    let (events, queue) = mpsc::channel(driver::QUEUE);
    let parts = Parts {
        config,
        identity,
        raft: raft.clone(),
        applied,
        links,
        endpoint: endpoint.clone(),
        newcomer,
        stops,
        prober,
        events: events.clone(),
    };
    let node = Arc::new(Node::new(parts));
    let server = tokio::spawn(server::serve(node.clone(), endpoint.clone()));
    let joining = tokio::spawn(newcomer::run(node.clone()));
    let driver = Driver::new(node.clone(), events, queue);
    tracing::info!(name = %node.config.name, address = %endpoint.local_addr(), "coordinator is up");

    let result = async {
        drop(node);
        // On one of the runtime's own threads, not on the one that waits here: what agents say wakes it
        // there without a call into the kernel.
        let mut driving = tokio::spawn(driver.run());
        let result = tokio::select! {
            ended = &mut driving => return ended.unwrap_or_else(|e| Err(e.to_string())),
            // A write that raft does not wait for may fail too: it would learn of that from the next one.
            why = health.failed() => Err(why),
            () = shutdown => Ok(()),
        };
        driving.abort();
        // Until it is gone it holds the store and the socket.
        let _ = driving.await;
        result
    }
    .await
    .map_err(ended);

    stop.send_replace(true);
    endpoint.close();
    for task in [server, joining] {
        task.abort();
        let _ = task.await;
    }
    let _ = raft.shutdown().await;
    drop(raft);
    let farewell = async { tokio::join!(endpoint.drained(), closed.wait()) };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    result
}
